//! Networks and runtimes other than the default: published ports, runc, user namespaces, pods.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use crate::command::{Output, root, wait_until};
use crate::lab::{Container, IMAGE, by_pasta};
use crate::probe::{SERVICES, at, everything, web};
use crate::reach::{CLOSED, ONE_OF_EACH, OPEN};
use crate::refusal::{Attempt, Way};
use crate::user::{FreshUser, User};

tests![
    a_published_port_answers_from_outside_and_another_one_does_not,
    a_port_that_prepare_was_told_of_is_open,
    a_published_port_leads_nowhere_else,
    a_connection_that_comes_in_to_a_port_that_was_not_published_is_dropped,
    runc_shields_refuses_and_restarts_like_crun,
    a_container_with_keep_id_is_shielded,
    a_program_that_is_not_root_is_shielded,
    every_kind_of_network_that_run_accepts_is_shielded,
    a_container_without_a_network_starts,
];

const SERVER: &str =
    "for port in 80 81; do busybox httpd -p $port -h /tmp; done; echo page >/tmp/index.html; exec sleep 100000";

/// Asks the host's own port.
fn page(port: u16) -> Output {
    root(&[
        "curl",
        "-s",
        "--max-time",
        "10",
        &format!("http://127.0.0.1:{port}/index.html"),
    ])
}

fn a_published_port_answers_from_outside_and_another_one_does_not() {
    let user = User::shared();
    user.profile("published", "203.0.113.10\n2001:db8::10\n");
    let mut networks = vec!["slirp4netns", "slirp4netns:port_handler=slirp4netns"];
    if by_pasta() {
        networks.push("pasta");
    }
    for (index, network) in networks.iter().enumerate() {
        let name = format!("published-{index}");
        let container = Container::named(&user, &name);
        let port = 18080 + u16::try_from(index).unwrap();
        let publish = format!("127.0.0.1:{port}:80");
        let flags = [
            "-d",
            "--stop-signal",
            "KILL",
            "--network",
            network,
            "-p",
            &publish,
            IMAGE,
            "sh",
            "-c",
            SERVER,
        ];
        user.shield(&[&["run", &name, "--profiles", "published", "--"], &flags[..]].concat())
            .ok();
        wait_until("the published port answers", || {
            (page(port).text() == "page").then_some(())
        });
        container.is("up");
        // The same server on a port that is not published, asked from outside and by way of the interface.
        container.sh("curl -s http://127.0.0.1:81/index.html").ok();
        assert_ne!(page(port + 1000).code, 0);
        container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
        container.is_refused(&web(&["203.0.113.11", "2001:db8::11"]));
        // Still so after a restart, and closed while the container is stopped.
        user.podman(&["stop", &name]).ok();
        wait_until("the port is free", || (page(port).code != 0).then_some(()));
        container.restart();
        wait_until("the published port answers again", || {
            (page(port).text() == "page").then_some(())
        });
        container.is("up");
    }
}

/// slirp4netns' own port handler comes in by the interface, where an untold port is closed.
fn a_port_that_prepare_was_told_of_is_open() {
    let user = User::shared();
    user.profile("prepared-port", "");
    let container = Container::named(&user, "prepared-port");
    let publish = "127.0.0.1:18088:80";
    for told in [true, false] {
        let mut words = vec!["prepare", "prepared-port", "--profiles", "prepared-port", "--json"];
        if told {
            words.extend(["--publish", publish]);
        }
        let flags = user.shield(&words).ok().json();
        let mut words = vec!["run", "-d", "--stop-signal", "KILL", "-p", publish];
        words.extend(["--network", "slirp4netns:port_handler=slirp4netns"]);
        words.extend(flags.as_array().unwrap().iter().map(|flag| flag.as_str().unwrap()));
        words.extend([IMAGE, "sh", "-c", SERVER]);
        user.podman(&words).ok();
        wait_until("the server answers inside", || {
            (container.sh("curl -s http://127.0.0.1:80/index.html").text() == "page").then_some(())
        });
        if told {
            wait_until("the published port answers", || {
                (page(18088).text() == "page").then_some(())
            });
        } else {
            assert_ne!(page(18088).text(), "page");
        }
        container.is("up");
        container.remove();
    }
    let wrong = user
        .shield(&["prepare", "prepared-port", "--publish", "80/sctp"])
        .code(2);
    assert!(wrong.one_line().contains("80/sctp"), "{wrong:#?}");
}

/// Answers on a published port with what a connection of its own to a closed address came to.
const RELAY: &str = "
import socket
server = socket.socket()
server.bind(('0.0.0.0', 80))
server.listen()
while True:
    client, _ = server.accept()
    result = []
    for source in (80, 0):
        for family, address in ((socket.AF_INET, '203.0.113.11'), (socket.AF_INET6, '2001:db8::11')):
            s = socket.socket(family)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                if source:
                    way = socket.socket(family, socket.SOCK_DGRAM)
                    way.connect((address, 9))
                    s.bind((way.getsockname()[0], source))
                s.settimeout(20)
                s.connect((address, 80))
                result.append('open')
            except OSError as error:
                result.append(str(error.errno))
            s.close()
    client.sendall((' '.join(result) + '\\n').encode())
    client.close()
";

fn a_published_port_leads_nowhere_else() {
    let user = User::shared();
    user.profile("published-relay", "203.0.113.10\n2001:db8::10\n");
    let container = Container::named(&user, "published-relay");
    let flags = [
        "-d",
        "--stop-signal",
        "KILL",
        "-p",
        "127.0.0.1:18090:80",
        IMAGE,
        "python3",
        "-I",
        "-c",
        RELAY,
    ];
    user.shield(
        &[
            &["run", "published-relay", "--profiles", "published-relay", "--"],
            &flags[..],
        ]
        .concat(),
    )
    .ok();
    let answer = wait_until("the relay answers", || {
        let output = root(&["curl", "-s", "--http0.9", "--max-time", "30", "http://127.0.0.1:18090/"]);
        (output.code == 0 && !output.out.is_empty()).then_some(output.out)
    });
    // ECONNREFUSED, from the published port's own number too (EADDRINUSE where it is taken).
    for found in answer.split_whitespace() {
        assert!(["111", "98"].contains(&found), "{answer}");
    }
    assert!(answer.trim_end().ends_with("111 111"), "{answer}");
    container.is("up");
}

/// Has slirp4netns forward a port of the host, as `podman` has it do for published ones.
fn forward(container: &Container, from: u16, to: u16) {
    let runtime = std::env::var("LAB_RUNTIME_DIR").unwrap();
    let mut api = UnixStream::connect(format!("{runtime}/libpod/tmp/{}.net", container.id())).unwrap();
    let request = format!(
        r#"{{"execute":"add_hostfwd","arguments":{{"proto":"tcp","host_addr":"127.0.0.1","host_port":{from},"guest_port":{to}}}}}"#
    );
    api.write_all(request.as_bytes()).unwrap();
    api.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    api.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"id\""), "{answer}");
}

fn a_connection_that_comes_in_to_a_port_that_was_not_published_is_dropped() {
    let user = User::shared();
    user.profile("incoming", "203.0.113.10\n2001:db8::10\n10.0.2.0/24\n");
    let network = "slirp4netns:port_handler=slirp4netns";
    let serve = [
        "-d",
        "--stop-signal",
        "KILL",
        "--network",
        network,
        "-p",
        "127.0.0.1:18120:80",
    ];
    let program = [IMAGE, "sh", "-c", SERVER];
    let open = Container::named(&user, "incoming-proof");
    let plain = ["podman", "run", "--name", "incoming-proof"];
    user.run(&[&plain, &serve[..], &program].concat()).ok();
    forward(&open, 18121, 81);
    wait_until("without a shield it comes in", || {
        (page(18121).text() == "page").then_some(())
    });
    open.remove();

    let container = Container::named(&user, "incoming");
    user.shield(
        &[
            &["run", "incoming", "--profiles", "incoming", "--"],
            &serve[..],
            &program,
        ]
        .concat(),
    )
    .ok();
    forward(&container, 18121, 81);
    wait_until("the published port answers", || {
        (page(18120).text() == "page").then_some(())
    });
    let refused = root(&["curl", "-s", "--max-time", "3", "http://127.0.0.1:18121/index.html"]);
    assert_ne!(refused.code, 0, "{refused:#?}");
    assert_eq!(refused.out, "");
    container.is("up");
}

fn runc_shields_refuses_and_restarts_like_crun() {
    let user = FreshUser::with_hooks();
    let conf = fs::read_to_string(user.containers_conf()).unwrap();
    user.write(
        &user.containers_conf(),
        conf.replace("[engine]\n", "[engine]\nruntime = \"runc\"\n"),
    );
    let info = user.podman(&["info", "--format", "{{.Host.OCIRuntime.Name}}"]).ok();
    assert_eq!(info.text(), "runc");
    let container = Container::start(&user, "runc", ONE_OF_EACH, &["-p", "127.0.0.1:18095:80"]);
    assert_eq!(container.inspect("{{.OCIRuntime}}"), "runc");
    for _ in 0..2 {
        container.is("up");
        container.reaches(&everything(&OPEN));
        container.is_refused(&everything(&CLOSED));
        container.verb("allow", &["203.0.113.11"]).ok();
        container.reaches(&web(&["203.0.113.11"]));
        container.verb("deny", &["203.0.113.11"]).ok();
        container.restart();
    }
    let spread = |name: &str, flags: &[&str], reason: &str| {
        let attempt = Attempt::new(&user, name, flags);
        attempt.works_unshielded();
        attempt.is_refused(Way::PreparedWithoutSeal, reason);
    };
    spread("runc-cap", &["--cap-add", "NET_ADMIN"], "CAP_NET_ADMIN");
    spread("runc-pid", &["--pid", "host"], "no pid namespace of its own");
    spread(
        "runc-network",
        &["--network", "host"],
        "no network namespace of its own",
    );
    spread(
        "runc-home",
        &["-v", &format!("{}:/x:ro", user.home.display())],
        "shows the container",
    );
    // Nothing of the hook holds runc up: it waits for whoever has its standard streams.
    user.profile("runc-true", "203.0.113.10\n");
    for code in ["0", "7"] {
        let words = [
            "run",
            "runc-true",
            "--profiles",
            "runc-true",
            "--",
            "--rm",
            IMAGE,
            "sh",
            "-c",
        ];
        user.shield(&[&words[..], &[&format!("exit {code}")]].concat())
            .code(code.parse().unwrap());
    }
    // And without hooks, the seal.
    fs::rename(user.hooks(), user.home.join("away")).unwrap();
    user.podman(&["stop", "--time", "0", "runc"]).ok();
    assert_ne!(user.podman(&["start", "runc"]).code, 0);
    fs::rename(user.home.join("away"), user.hooks()).unwrap();
    user.podman(&["start", "runc"]).ok();
    container.is("up");
}

fn a_container_with_keep_id_is_shielded() {
    let user = User::shared();
    let container = Container::start(&user, "keep-id", ONE_OF_EACH, &["--userns", "keep-id"]);
    assert_eq!(container.exec(&["id", "-u"]).ok().text(), user.uid.to_string());
    // Without `ping`: the group that may has another number here.
    let services = &SERVICES[..6];
    for _ in 0..2 {
        container.is("up");
        container.reaches(&at(&OPEN, services));
        container.is_refused(&at(&CLOSED, services));
        // The network namespace belongs to the container's own user namespace: verbs have to enter that one.
        container.verb("allow", &["203.0.113.11"]).ok();
        container.reaches(&web(&["203.0.113.11"]));
        container.verb("deny", &["203.0.113.11"]).ok();
        container.is_refused(&web(&["203.0.113.11"]));
        assert_eq!(container.verb("rules", &["--json"]).ok().json(), container.table());
        user.podman(&["restart", "keep-id"]).ok();
    }
    let attempt = Attempt::new(&user, "keep-id-cap", &["--userns", "keep-id", "--cap-add", "NET_ADMIN"]);
    attempt.works_unshielded();
    attempt.is_refused(Way::PreparedWithoutSeal, "CAP_NET_ADMIN");
    let state = format!("{}:/x", user.state().display());
    let attempt = Attempt::new(&user, "keep-id-state", &["--userns", "keep-id", "-v", &state]);
    attempt.works_unshielded();
    attempt.is_refused(Way::Run, "shows the container");
}

fn a_program_that_is_not_root_is_shielded() {
    // Nobody else's containers take the ids that `auto` gives out.
    let user = FreshUser::with_hooks();
    for (name, flags) in [
        ("nobody", &["--user", "65534"][..]),
        ("auto", &["--userns", "auto"]),
        ("nomap", &["--userns", "nomap"]),
    ] {
        let container = Container::start(&user, name, ONE_OF_EACH, flags);
        container.is("up");
        container.reaches(&web(&OPEN));
        container.is_refused(&web(&CLOSED));
    }
}

fn every_kind_of_network_that_run_accepts_is_shielded() {
    let user = User::shared();
    let mut networks = vec![
        ("net-default", &[][..]),
        ("net-private", &["--network", "private"]),
        ("net-slirp", &["--network", "slirp4netns"]),
        ("net-v4", &["--network", "slirp4netns:enable_ipv6=false"]),
        ("net-cidr", &["--network", "slirp4netns:cidr=10.41.0.0/24"]),
    ];
    if by_pasta() {
        networks.extend([
            ("net-pasta", &["--network", "pasta"][..]),
            ("net-pasta-v4", &["--network", "pasta:--ipv4-only"]),
            ("net-pasta-address", &["--network", "pasta:-a,192.0.2.77,-n,24"]),
            (
                "net-pasta-host",
                &["--network", "pasta:--map-host-loopback,169.254.1.2"],
            ),
        ]);
    }
    for (name, flags) in networks {
        let container = Container::start(&user, name, ONE_OF_EACH, flags);
        container.is("up");
        container.reaches(&web(&["203.0.113.10", "203.0.113.20", "198.51.100.64"]));
        container.is_refused(&web(&["203.0.113.11", "198.51.100.63", "10.9.8.7", "169.254.169.254"]));
    }
}

fn a_container_without_a_network_starts() {
    let container = Container::start(&User::shared(), "net-none", ONE_OF_EACH, &["--network", "none"]);
    container.is("up");
    for (probe, found) in container.probe(&web(&["203.0.113.10", "203.0.113.11"])) {
        assert!(
            ["ENETUNREACH", "ECONNREFUSED"].contains(&found.as_str()),
            "{probe} {found}"
        );
    }
}
