//! What the rules cost traffic: throughput and new connections between two network namespaces, with and without a table in the
//! sender's.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{as_user, run_quietly};

const PORT: u16 = 7000;
const TURNS: usize = 7;
const TIME: Duration = Duration::from_millis(700);
/// Listed as networks by the profile of the benchmark.
const SERVERS: [&str; 2] = ["198.51.100.2", "2001:db8:1::2"];

fn ip(words: &str) {
    run_quietly(Command::new("ip").args(words.split(' ')).stdin(Stdio::null()));
}

fn in_client(words: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", "bench-client"])
        .args(words)
        .stdin(Stdio::null());
    command
}

pub fn measure(binaries: &str) {
    for name in ["bench-client", "bench-server"] {
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
    }
    ip("link add bench0 netns bench-client type veth peer name bench1 netns bench-server");
    for (name, link, host) in [("bench-client", "bench0", 1), ("bench-server", "bench1", 2)] {
        ip(&format!("-n {name} address add 198.51.100.{host}/24 dev {link}"));
        ip(&format!(
            "-n {name} -6 address add 2001:db8:1::{host}/64 dev {link} nodad"
        ));
        ip(&format!("-n {name} link set {link} up"));
    }
    let own = std::env::current_exe().unwrap();
    let own = own.to_str().unwrap();
    let mut server = Command::new("ip")
        .args(["netns", "exec", "bench-server", own, "--traffic-server"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    server.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let shield = format!("{binaries}/terok-shield");
    let preview = as_user(&[&shield, "preview", "--profiles", "bench", "--json"])
        .output()
        .unwrap();
    assert!(preview.status.success());
    for address in SERVERS {
        let (mut bytes, mut connections) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..TURNS {
            for shielded in [0, 1] {
                if shielded == 1 {
                    let mut nft = in_client(&["nft", "-j", "-f", "-"])
                        .stdin(Stdio::piped())
                        .spawn()
                        .unwrap();
                    nft.stdin.take().unwrap().write_all(&preview.stdout).unwrap();
                    assert!(nft.wait().unwrap().success());
                }
                let output = in_client(&[own, "--traffic-client", address]).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let text = String::from_utf8_lossy(&output.stdout);
                let (rate, count) = text.trim().split_once(' ').unwrap();
                bytes[shielded].push(rate.parse::<f64>().unwrap());
                connections[shielded].push(count.parse::<f64>().unwrap());
                if shielded == 1 {
                    run_quietly(&mut in_client(&["nft", "delete", "table", "inet", "terok_shield"]));
                }
            }
        }
        for (what, [without, with], aim) in [
            ("MB/s", bytes, "aim at least 0.97"),
            ("connections/s", connections, "aim at least 0.90"),
        ] {
            let (without, with) = (middle(without), middle(with));
            println!(
                "{:<34} {with:>9.0}      without the table {without:>26.0}      ratio {:>6.2}   {aim}",
                format!("{what} to {address}"),
                with / without
            );
        }
    }
    let _ = server.kill();
    let _ = server.wait();
    for name in ["bench-client", "bench-server"] {
        ip(&format!("netns delete {name}"));
    }
}

fn middle(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Takes what is sent; a connection on which nothing comes is closed by the other side.
pub fn serve() {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap();
    println!("ready");
    let mut buffer = vec![0; 1 << 20];
    loop {
        let Ok((mut peer, _)) = listener.accept() else { continue };
        while peer.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }
}

/// Megabytes and new connections in a second.
pub fn ask(address: &str) {
    let to = SocketAddr::new(address.parse::<IpAddr>().unwrap(), PORT);
    let piece = vec![0; 1 << 18];
    let mut stream = TcpStream::connect(to).unwrap();
    let start = Instant::now();
    let mut sent = 0.0;
    while start.elapsed() < TIME {
        stream.write_all(&piece).unwrap();
        sent += piece.len() as f64;
    }
    drop(stream);
    let rate = sent / 1e6 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut count = 0u32;
    while start.elapsed() < TIME {
        match TcpStream::connect(to) {
            // No port is free until the kernel has forgotten the first ones.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => break,
            other => drop(other.unwrap()),
        }
        count += 1;
    }
    println!("{rate} {}", f64::from(count) / start.elapsed().as_secs_f64());
}
