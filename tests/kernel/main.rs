//! Documents against a real kernel, each test in a user and network namespace of its own (`unshare -rn`), without root.
//!
//! The test binary starts itself again inside the namespaces, one process a test: joining namespaces needs a process
//! with a single thread, and a crash of libnftables is one failed test.

#![allow(clippy::unwrap_used)]

mod table;
mod time;
mod traffic;
mod verdict;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

/// Set in the process that runs one test inside the namespaces.
const INSIDE: &str = "TEROK_SHIELD_KERNEL_TEST";

type Test = (&'static str, fn());

fn tests() -> Vec<Test> {
    [table::TESTS, time::TESTS, traffic::TESTS, verdict::TESTS].concat()
}

/// Namespaces may be forbidden where tests run. That is a skip, listed as one; in CI it is a failure.
fn namespaces_work() -> bool {
    Command::new("unshare")
        .args(["-rn", "true"])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(INSIDE) {
        let (_, test) = tests()
            .into_iter()
            .find(|(test, _)| *test == name)
            .expect("the parent names a test of ours");
        test();
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let skip = !namespaces_work() && std::env::var_os("CI").is_none();
    let trials = tests()
        .into_iter()
        .map(|(name, _)| Trial::test(name, move || outside(name)).with_ignored_flag(skip))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn outside(name: &'static str) -> Result<(), Failed> {
    let program = std::env::current_exe()?;
    let output = Command::new("unshare")
        .args(["-rn", "--kill-child", "--fork"])
        .arg(program)
        .env(INSIDE, name)
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}
