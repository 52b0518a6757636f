//! Measures, each figure against something else in the same run. Not a test: nothing here asserts.
//!
//! Started by `tests/bench/run` inside the laboratory, as root; starts itself again as the rootless user where needed.

#![allow(clippy::unwrap_used)]

mod hook;
mod traffic;
mod verbs;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the helper scripts of the laboratory are.
pub fn as_user(words: &[&str]) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/as-user");
    let mut command = Command::new(script);
    command.args(words).stdin(Stdio::null());
    command
}

pub fn run_quietly(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn time(command: &mut Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().unwrap();
    let took = start.elapsed();
    assert!(status.success(), "{command:?}");
    took
}

pub fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// One line of the result: what was measured, beside what, and the aim.
pub fn line(what: &str, ours: Duration, beside: &str, theirs: Duration, aim: &str) {
    println!(
        "{what:<34} {:>9.2} ms   {beside:<34} {:>9.2} ms   ratio {:>6.2}   {aim}",
        ms(ours),
        ms(theirs),
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("--floor") => hook::floor(&arguments.next().unwrap()),
        Some("--hook") => hook::inside(&arguments.collect::<Vec<_>>()),
        Some("--traffic-server") => traffic::serve(),
        Some("--traffic-client") => traffic::ask(&arguments.next().unwrap()),
        Some(binaries) => {
            hook::measure(binaries);
            verbs::measure(binaries);
            traffic::measure(binaries);
        }
        None => eprintln!("bench: started by tests/bench/run"),
    }
}
