//! The host's own services: what podman's networks show of them stays closed, and options that would open them past the
//! table are refused wherever they are given.

use std::io::Write;
use std::net::TcpListener;
use std::thread;

use crate::command::wait_until;
use crate::lab::{Container, IMAGE, by_pasta};
use crate::refusal::{Attempt, Way};
use crate::user::{FreshUser, User};

tests![
    the_hosts_own_services_are_closed_by_whatever_address_a_network_shows_them,
    options_of_every_network_that_open_the_host_are_refused_before_anything_is_started,
    options_of_one_network_that_open_the_host_are_refused_by_run,
    the_hook_refuses_a_pasta_that_opens_the_host,
    a_network_that_opens_the_host_after_the_hook_never_meets_the_program,
];

const SAID: &str = "the host";

/// A service of the laboratory's host, as long as the tests run. Its port.
fn service(address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(SAID.as_bytes());
        }
    });
    port
}

/// Whether the service answers a program in the container.
fn answers(container: &Container, address: &str, port: u16) -> bool {
    container
        .sh(&format!("nc -w 5 {address} {port} </dev/null"))
        .text()
        .contains(SAID)
}

fn the_hosts_own_services_are_closed_by_whatever_address_a_network_shows_them() {
    // What is listed is everything that can be listed without naming the addresses themselves.
    let profile = "0.0.0.0/0\n::/0\n";
    let user = FreshUser::with_hooks();
    let conf = std::fs::read_to_string(user.containers_conf()).unwrap();
    let loopback4 = service("127.0.0.1");
    let loopback6 = service("::1");
    // slirp4netns shows the host's loopback where podman tells it to; its gateway is a private address.
    let slirp = [("10.0.2.2", loopback4), ("fd00::2", loopback6)];
    let mut ways = vec![("slirp", "slirp4netns", &slirp[..])];
    // pasta shows the host's address by default, and its loopback where it is told to, by a link-local address.
    let global = [("169.254.1.2", service("192.0.2.1"))];
    let loopback = [("169.254.1.2", loopback4)];
    if by_pasta() {
        ways.push(("pasta", "pasta", &global));
        ways.push(("pasta-loopback", "pasta:--map-host-loopback,169.254.1.2", &loopback));
    }
    for (name, network, services) in ways {
        let proof = format!("{name}-proof");
        let opening = if name == "slirp" {
            "slirp4netns:allow_host_loopback=true"
        } else {
            network
        };
        let open = Container::unshielded(&user, &proof, &["--network", opening]);
        for (address, port) in services {
            wait_until("the host answers without a shield", || {
                answers(&open, address, *port).then_some(())
            });
        }
        // The shielded one with the same options, which only `prepare` lets through for slirp4netns.
        let container = Container::named(&user, name);
        let flags = user.prepare(name, profile);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let words = [
            &["run", "-d", "--stop-signal", "KILL", "--network", opening],
            &flags[..],
            &[IMAGE, "sleep", "100000"],
        ];
        user.podman(&words.concat()).ok();
        container.is("up");
        for (address, port) in services {
            assert!(!answers(&container, address, *port), "{name}: {address}");
        }
        assert_eq!(container.sh("curl -s http://203.0.113.11").ok().text(), "203.0.113.11");
    }
    assert_eq!(std::fs::read_to_string(user.containers_conf()).unwrap(), conf);
}

fn options_of_every_network_that_open_the_host_are_refused_before_anything_is_started() {
    let user = FreshUser::with_hooks();
    let conf = std::fs::read_to_string(user.containers_conf()).unwrap();
    user.profile("conf", "");
    for (table, line, named) in [
        ("[network]", "pasta_options = [\"-T\", \"5432\"]", "-T"),
        ("[network]", "pasta_options = [\"--quiet\", \"--map-gw\"]", "--map-gw"),
        (
            "[network]",
            "pasta_options = [\"--map-host-loopback=10.0.2.2\"]",
            "--map-host-loopback",
        ),
        (
            "[engine]",
            "network_cmd_options = [\"allow_host_loopback=true\"]",
            "allow_host_loopback",
        ),
    ] {
        let text = if table == "[engine]" {
            conf.replace("[engine]\n", &format!("[engine]\n{line}\n"))
        } else {
            format!("{conf}\n{table}\n{line}\n")
        };
        user.write(&user.containers_conf(), text);
        for (code, words) in [
            (
                125,
                &["run", "conf", "--profiles", "conf", "--", "-d", IMAGE, "true"][..],
            ),
            (4, &["prepare", "conf", "--profiles", "conf"]),
        ] {
            let output = user.shield(words).code(code);
            assert!(output.one_line().contains(named), "{output:#?}");
            assert!(output.one_line().contains("containers.conf"), "{output:#?}");
            assert_eq!(output.out, "");
            assert_eq!(user.podman(&["container", "exists", "conf"]).code, 1);
        }
    }
    let output = user.shield(&["check-environment"]).code(4);
    assert!(output.out.contains("FAIL  networks"), "{output:#?}");
    user.write(&user.containers_conf(), &conf);
    user.shield(&["run", "conf", "--profiles", "conf", "--", "--rm", IMAGE, "true"])
        .ok();
}

fn options_of_one_network_that_open_the_host_are_refused_by_run() {
    let user = User::shared();
    user.profile("one-network", "");
    for network in [
        "pasta:-T,5432",
        "pasta:-T5432",
        "pasta:--tcp-ns,auto",
        "pasta:-U,53",
        "pasta:-4,--map-gw",
        "pasta:--map-host-loopback,10.0.2.2",
        "slirp4netns:allow_host_loopback=true",
    ] {
        let words = [
            "run",
            "one-network",
            "--profiles",
            "one-network",
            "--",
            "--network",
            network,
            IMAGE,
            "true",
        ];
        let output = user.shield(&words).code(2);
        assert!(output.one_line().contains("--network"), "{output:#?}");
        assert_eq!(user.podman(&["container", "exists", "one-network"]).code, 1);
    }
}

/// pasta's options for it, by which a program reaches the host's loopback by its own.
fn forwarding(port: u16) -> String {
    format!("pasta:-T,{port}")
}

fn the_hook_refuses_a_pasta_that_opens_the_host() {
    let user = User::shared();
    if !by_pasta() {
        // There is none; podman refuses the network itself, with or without a shield.
        let attempt = Attempt::new(&user, "pasta-forward", &["--network", &forwarding(5432)]);
        assert_ne!(attempt.launch(Way::Unshielded).code, 0);
        attempt.nothing_runs();
        return;
    }
    let port = service("127.0.0.1");
    let open = Container::unshielded(&user, "pasta-proof", &["--network", &forwarding(port)]);
    wait_until("the host's loopback by the container's own", || {
        answers(&open, "127.0.0.1", port).then_some(())
    });
    let other = format!("pasta:-T,none,-U,{port}");
    for (name, network, reason) in [
        ("pasta-forward", forwarding(port).as_str(), "pasta's -T"),
        ("pasta-udp", &other, "pasta's -U"),
        ("pasta-gateway", "pasta:--map-gw", "--map-gw"),
        (
            "pasta-map",
            "pasta:--map-host-loopback,203.0.113.10",
            "--map-host-loopback",
        ),
    ] {
        let attempt = Attempt::new(&user, name, &["--network", network]);
        attempt.works_unshielded();
        attempt.is_refused(Way::Prepared, reason);
        attempt.is_refused(Way::PreparedWithoutSeal, reason);
    }
}

fn a_network_that_opens_the_host_after_the_hook_never_meets_the_program() {
    let crun = FreshUser::with_hooks();
    let runc = FreshUser::with_hooks();
    let conf = std::fs::read_to_string(runc.containers_conf()).unwrap();
    runc.write(
        &runc.containers_conf(),
        conf.replace("[engine]\n", "[engine]\nruntime = \"runc\"\n"),
    );
    let port = service("127.0.0.1");
    for user in [&*crun, &*runc] {
        if !by_pasta() {
            // slirp4netns comes after the hook, too. What it shows of the host is judged by the table, and closed.
            let network = [
                "--userns",
                "keep-id",
                "--network",
                "slirp4netns:allow_host_loopback=true",
            ];
            let open = Container::unshielded(user, "late-proof", &network);
            wait_until("the host answers without a shield", || {
                answers(&open, "10.0.2.2", port).then_some(())
            });
            let container = Container::named(user, "late-slirp");
            let flags = user.prepare("late-slirp", "0.0.0.0/0\n::/0\n");
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            let words = [
                &["run", "-d", "--stop-signal", "KILL"],
                &network[..],
                &flags,
                &[IMAGE, "sleep", "100000"],
            ];
            user.podman(&words.concat()).ok();
            assert!(!answers(&container, "10.0.2.2", port));
            container.is("up");
            continue;
        }
        let forwarding = forwarding(port);
        let network = ["--userns", "keep-id", "--user", "0", "--network", &forwarding];
        let open = Container::unshielded(user, "late-proof", &network);
        wait_until("the host's loopback by the container's own", || {
            answers(&open, "127.0.0.1", port).then_some(())
        });
        let attempt = Attempt::new(user, "late-pasta", &network);
        attempt.works_unshielded();
        for way in [Way::Prepared, Way::PreparedWithoutSeal] {
            for _ in 0..3 {
                attempt.launch(way);
                attempt.nothing_runs();
                attempt.noted("pasta's -T");
                attempt.container.is("inactive");
                // And not when it is started again either.
                user.podman(&["start", "late-pasta"]);
                attempt.nothing_runs();
                attempt.container.remove();
            }
        }
    }
}
