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
    let (mut floor, mut allow, mut status) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        floor.push(time(&mut as_user(&[&shield, "--version"])));
        allow.push(time(&mut as_user(&[
            &shield,
            "allow",
            "bench-run",
            &format!("192.0.2.{turn}"),
        ])));
        status.push(time(&mut as_user(&[&shield, "status", "bench-run"])));
    }
    let floor = median(floor);
    for (what, samples) in [("allow", allow), ("status", status)] {
        let took = median(samples);
        line(what, took, "process start (--version)", floor, "");
        println!(
            "{:<34} {:>9.2} ms beyond process start (aim at most 15)",
            "",
            ms(took.saturating_sub(floor))
        );
    }
    refusals();
    run_quietly(&mut as_user(&["podman", "rm", "-f", "-t", "0", "bench-run"]));
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
