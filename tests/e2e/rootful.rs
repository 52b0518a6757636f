//! Root's podman on bridge networks: netavark and its resolver with podman 5, CNI with podman 4. What other containers are
//! there is private, and governed by the policy like any private address.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::command::{Output, Running, root, wait_until};
use crate::lab::{Container, IMAGE, by_pasta, image_tar};
use crate::probe::web;
use crate::reach::ONE_OF_EACH;
use crate::user::User;

tests![on_a_bridge_other_containers_are_private_addresses_and_the_internet_is_what_is_listed];

/// A host of root's own behind the laboratory's: hooks, networks and rules there are nobody else's.
pub struct Rootful {
    user: User,
    _holder: Running,
    _turn: MutexGuard<'static, ()>,
}

/// There is one wire to it.
static TURN: Mutex<()> = Mutex::new(());

impl Deref for Rootful {
    type Target = User;

    fn deref(&self) -> &User {
        &self.user
    }
}

impl Rootful {
    /// With podman and an image, and without hooks.
    pub fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut holder = Running::start_open(&[
            "unshare",
            "--mount",
            "--net",
            "--propagation",
            "private",
            "sh",
            "-c",
            "echo ready; exec sleep 100000",
        ]);
        holder.wait_for_line("ready");
        let pid = holder.pid().to_string();
        let host = Self {
            user: User::root_behind(
                ["nsenter", "--mount", "--net", "--target", &pid]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            _holder: holder,
            _turn: turn,
        };
        // Packets go through the laboratory's host, which forwards them.
        for words in [
            "link add rootful type veth peer name wan netns PID",
            "address add 10.200.0.1/24 dev rootful",
            "address add fd00:200::1/64 dev rootful nodad",
            "link set rootful up",
        ] {
            let words = words.replace("PID", &pid);
            root(&[&["ip"], &words.split(' ').collect::<Vec<_>>()[..]].concat()).ok();
        }
        host.sh(&format!(
            "set -e
            ip link set lo up
            ip address add 10.200.0.2/24 dev wan
            ip address add fd00:200::2/64 dev wan nodad
            ip link set wan up
            ip route add default via 10.200.0.1
            ip route add default via fd00:200::1
            echo 1 >/proc/sys/net/ipv4/ip_forward
            echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
            for place in /etc/containers /usr/share/containers; do
                mkdir -p $place /run/lab/rootful
                cp -a $place/. /run/lab/rootful/
                mount -t tmpfs -o mode=0755 tmpfs $place
                cp -a /run/lab/rootful/. $place/
                rm -rf /run/lab/rootful
            done
            mkdir -p /etc/cni /var/lib/cni /usr/share/terok-shield
            mount -t tmpfs -o mode=0755 tmpfs /usr/share/terok-shield
            mount -t tmpfs -o mode=0755 tmpfs /etc/cni
            mount -t tmpfs -o mode=0755 tmpfs /var/lib/containers
            podman import --quiet --change 'CMD [\"sh\"]' {} {IMAGE}",
            image_tar()
        ))
        .ok();
        host
    }

    /// A container without a shield.
    fn unshielded(&self, name: &str, network: &str, program: &str) -> Container {
        let container = Container::named(&self.user, name);
        let words = [
            "run",
            "-d",
            "--name",
            name,
            "--cgroups",
            "disabled",
            "--stop-signal",
            "KILL",
            "--network",
            network,
        ];
        self.podman(&[&words[..], &[IMAGE, "sh", "-c", program]].concat()).ok();
        container
    }
}

impl Drop for Rootful {
    fn drop(&mut self) {
        let removed = self.user.podman(&["rm", "--force", "--all", "--time", "0"]);
        root(&["ip", "link", "delete", "rootful"]);
        if !std::thread::panicking() {
            removed.ok();
        }
    }
}

const SERVER: &str = "echo page >/tmp/index.html; exec busybox httpd -f -p 80 -h /tmp";

/// Asks a server, by address or name, from inside of a container.
fn ask(container: &Container, server: &str) -> Output {
    let server = if server.contains(':') {
        format!("[{server}]")
    } else {
        server.to_owned()
    };
    container.sh(&format!("curl -g -s --max-time 20 http://{server}/index.html"))
}

/// The page of a server.
fn page(container: &Container, server: &str) -> String {
    ask(container, server).out
}

/// Fails the test unless the connection is refused: 28 would be a time-out, 6 a name that is not known.
#[track_caller]
fn is_closed(container: &Container, server: &str) {
    ask(container, server).code(7);
}

fn on_a_bridge_other_containers_are_private_addresses_and_the_internet_is_what_is_listed() {
    let host = Rootful::new();
    host.podman(&[
        "network",
        "create",
        "--ipv6",
        "--subnet",
        "10.89.5.0/24",
        "--subnet",
        "fd00:89::/64",
        "yard",
    ])
    .ok();
    let neighbour = host.unshielded("neighbour", "yard", SERVER);
    let open = host.unshielded("open", "yard", "exec sleep 100000");
    // Its addresses of either family, and its name where the network has a resolver.
    let mut places = neighbour.own_addresses();
    assert!(places.len() >= 2, "{places:?}");
    if by_pasta() {
        places.push("neighbour".to_owned());
    }
    for place in &places {
        wait_until("the neighbour answers without a shield", || {
            (page(&open, place) == "page\n").then_some(())
        });
    }
    open.reaches(&web(&["203.0.113.10", "2001:db8::10", "203.0.113.11", "2001:db8::11"]));

    host.profile("fenced", format!("{ONE_OF_EACH}\nallowed.test\n"));
    let fenced = Container::named(&host, "fenced");
    let words = [
        "run",
        "fenced",
        "--profiles",
        "fenced",
        "--",
        "-d",
        "--cgroups",
        "disabled",
        "--stop-signal",
        "KILL",
        "--network",
        "yard",
        "-p",
        "18300:80",
        IMAGE,
        "sh",
        "-c",
        "echo fenced >/tmp/index.html; busybox httpd -p 81 -h /tmp; exec busybox httpd -f -p 80 -h /tmp",
    ];
    host.shield(&words).ok();
    for _ in 0..2 {
        fenced.is("up");
        fenced.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
        fenced.is_refused(&web(&[
            "203.0.113.11",
            "2001:db8::11",
            "10.9.8.7",
            "fd00:9::7",
            "169.254.169.254",
        ]));
        // The network's resolver is a private address, and asked like any that podman chose.
        for (kind, address) in [("A", "203.0.113.10"), ("AAAA", "2001:db8::10")] {
            let answer = fenced
                .sh(&format!("dig +short +tries=1 +timeout=5 allowed.test {kind}"))
                .ok();
            assert_eq!(answer.text(), address);
        }
        if by_pasta() {
            let answer = fenced.sh("dig +short +tries=1 +timeout=5 neighbour.dns.podman A").ok();
            assert_eq!(answer.text(), places.iter().find(|place| place.contains('.')).unwrap());
        }
        for place in &places {
            is_closed(&fenced, place);
        }
        // What comes in: the published port, from the neighbourhood and from outside, and nothing else.
        let own = fenced.own_addresses();
        assert!(own.len() >= 2, "{own:?}");
        for address in &own {
            wait_until("the published port answers", || {
                (page(&open, address) == "fenced\n").then_some(())
            });
            let url = if address.contains(':') {
                format!("[{address}]")
            } else {
                address.clone()
            };
            let other = open.sh(&format!("curl -g -s --max-time 2 http://{url}:81/index.html"));
            assert_eq!(other.out, "", "{address}: a port that is not published");
            assert_eq!(
                fenced.sh(&format!("curl -g -s http://{url}:81/index.html")).out,
                "fenced\n"
            );
        }
        let outside = root(&["curl", "-s", "--max-time", "20", "http://10.200.0.2:18300/index.html"]);
        assert_eq!(outside.out, "fenced\n", "{outside:#?}");
        host.podman(&["restart", "--time", "0", "fenced"]).ok();
    }
    // The policy opens one neighbour, and closes it again.
    for address in places.iter().filter(|place| place.parse::<std::net::IpAddr>().is_ok()) {
        fenced.verb("allow", &[address]).ok();
        assert_eq!(page(&fenced, address), "page\n", "{address}");
    }
    fenced.is("up");
    for address in places.iter().filter(|place| place.parse::<std::net::IpAddr>().is_ok()) {
        fenced.verb("deny", &[address]).ok();
        is_closed(&fenced, address);
    }
    // Root's default network.
    let plain = Container::named(&host, "plain");
    let words = [
        "run",
        "plain",
        "--profiles",
        "fenced",
        "--",
        "-d",
        "--cgroups",
        "disabled",
        "--stop-signal",
        "KILL",
    ];
    host.shield(&[&words[..], &[IMAGE, "sleep", "100000"]].concat()).ok();
    plain.is("up");
    plain.reaches(&web(&["203.0.113.10"]));
    plain.is_refused(&web(&["203.0.113.11", "10.9.8.7"]));
    assert_eq!(
        plain.sh("dig +short +tries=1 +timeout=5 allowed.test A").ok().text(),
        "203.0.113.10"
    );
}
