//! What the operator waits for: a launch, and verbs on a running container; and how long a refusal takes inside.

use std::time::Duration;

use crate::{as_user, line, median, ms, run_quietly, time};

const LAUNCHES: usize = 15;
const TURNS: usize = 30;

pub fn measure(binaries: &str) {
    let shield = format!("{binaries}/terok-shield");
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    let image = "localhost/lab:latest";
    for _ in 0..LAUNCHES {
        ours.push(time(&mut as_user(&[
            &shield,
            "run",
            "bench-run",
            "--profiles",
            "bench",
            "--",
            "-d",
            image,
            "sleep",
            "600",
        ])));
        run_quietly(&mut as_user(&["podman", "rm", "-f", "-t", "0", "bench-run"]));
        plain.push(time(&mut as_user(&[
            "podman",
            "run",
            "-d",
            "--name",
            "bench-plain",
            image,
            "sleep",
            "600",
        ])));
        run_quietly(&mut as_user(&["podman", "rm", "-f", "-t", "0", "bench-plain"]));
    }
    line(
        "run -d",
        median(ours),
        "podman run -d",
        median(plain),
        "aim at most 1.15",
    );

    run_quietly(&mut as_user(&[
        &shield,
        "run",
        "bench-run",
        "--profiles",
        "bench",
        "--",
        "-d",
        image,
        "sleep",
        "600",
    ]));
    each_verb(&shield);
    refusals();
    run_quietly(&mut as_user(&["podman", "rm", "-f", "-t", "0", "bench-run"]));
    large_lists(&shield);
}

/// Every verb beside the start of a process that does nothing.
fn each_verb(shield: &str) {
    let mut floor = Vec::new();
    let verbs: [(&str, &[&str]); 10] = [
        ("allow", &["203.0.113.70"]),
        ("deny", &["203.0.113.70"]),
        ("allow", &["203.0.113.70", "--for", "1h"]),
        ("down", &[]),
        ("down", &["--all", "--for", "1h"]),
        ("block", &[]),
        ("up", &[]),
        ("explain", &["203.0.113.70"]),
        ("status", &[]),
        ("rules", &[]),
    ];
    let mut samples = vec![Vec::new(); verbs.len()];
    for _ in 0..TURNS {
        floor.push(time(&mut as_user(&[shield, "--version"])));
        for ((verb, more), samples) in verbs.iter().zip(&mut samples) {
            let words = [&[shield, verb, "bench-run"], *more].concat();
            samples.push(time(&mut as_user(&words)));
        }
    }
    let floor = median(floor);
    for ((verb, more), samples) in verbs.iter().zip(samples) {
        let what = format!("{verb} {}", more.join(" "));
        let took = median(samples);
        line(what.trim(), took, "process start (--version)", floor, "");
        println!(
            "{:<34} {:>9.2} ms beyond process start (aim at most 15)",
            "",
            ms(took.saturating_sub(floor))
        );
    }
}

/// One grant beside ten static addresses and beside 100,000.
fn large_lists(shield: &str) {
    for (name, count) in [("bench-ten", 10), ("bench-many", 100_000u32)] {
        let script = format!(
            "for i in $(seq 0 {}); do echo \"198.$((18 + i / 65536)).$((i / 256 % 256)).$((i % 256))\"; done \
             > .config/terok/shield/profiles/{name}.txt",
            count - 1
        );
        run_quietly(&mut as_user(&["sh", "-c", &script]));
        let run = [
            shield,
            "run",
            name,
            "--profiles",
            name,
            "--",
            "-d",
            "localhost/lab:latest",
            "sleep",
            "600",
        ];
        run_quietly(&mut as_user(&run));
    }
    let (mut ten, mut many) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let target = format!("203.0.113.{turn}");
        ten.push(time(&mut as_user(&[shield, "allow", "bench-ten", &target])));
        many.push(time(&mut as_user(&[shield, "allow", "bench-many", &target])));
    }
    line(
        "allow beside 100,000 addresses",
        median(many),
        "allow beside 10",
        median(ten),
        "aim at most 1.5",
    );
    for name in ["bench-ten", "bench-many"] {
        run_quietly(&mut as_user(&["podman", "rm", "-f", "-t", "0", name]));
    }
}

/// How long a blocking connect to a refused address takes, inside the container.
fn refusals() {
    const PROGRAM: &str = "import socket,time
for family,address in ((socket.AF_INET,'203.0.113.66'),(socket.AF_INET6,'2001:db8::66')):
    best=[]
    for _ in range(20):
        s=socket.socket(family,socket.SOCK_STREAM); s.settimeout(None); t=time.monotonic()
        try: s.connect((address,80))
        except OSError: pass
        best.append(time.monotonic()-t); s.close()
    best.sort(); print(address,best[len(best)//2]*1e6)
";
    let output = as_user(&["podman", "exec", "bench-run", "python3", "-c", PROGRAM])
        .output()
        .unwrap();
    for result in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((address, took)) = result.split_once(' ') {
            let took = Duration::from_secs_f64(took.parse::<f64>().unwrap_or(0.0) / 1e6);
            println!("refused TCP connect to {address:<16} {:>6.3} ms", ms(took));
        }
    }
}
