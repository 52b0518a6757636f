//! `deny`: what is closed for good, whatever lists it.

use crate::grants::NOTHING;
use crate::lab::Container;
use crate::probe::{at, everything, web};
use crate::reach::ONE_OF_EACH;
use crate::user::User;

tests![
    a_name_that_is_denied_is_refused_although_a_profile_lists_it,
    an_address_that_is_denied_is_refused_although_its_name_and_its_network_are_listed,
    denied_ports_are_refused_and_other_ports_go_on,
    a_denial_beats_what_is_allowed_and_allowing_the_same_lifts_it,
    a_denied_name_leaves_an_address_that_another_listed_name_holds,
    a_denial_stops_a_connection_that_is_open,
    a_denied_ipv4_address_is_denied_in_its_embedded_forms,
];

/// Reads a stream that never ends, and says when it flows and when no more of it comes.
const READER: &str = "
import socket, sys
s = socket.create_connection((sys.argv[1], 7778))
count = 0
while count < 1 << 20:
    count += len(s.recv(65536))
print('flowing', flush=True)
s.settimeout(3)
try:
    while s.recv(65536):
        pass
    print('ended', flush=True)
except TimeoutError:
    print('quiet', flush=True)
except OSError as error:
    print('ended', flush=True)
";

fn a_name_that_is_denied_is_refused_although_a_profile_lists_it() {
    let container = Container::start(&User::shared(), "deny-name", ONE_OF_EACH, &[]);
    container.reaches(&everything(&["203.0.113.10", "2001:db8::10"]));
    let output = container.verb("deny", &["allowed.test"]).ok();
    assert_eq!(
        output.out,
        "Denied allowed.test (203.0.113.10, 2001:db8::10) for deny-name\n"
    );
    container.is_refused(&everything(&["203.0.113.10", "2001:db8::10"]));
    container.reaches(&everything(&["203.0.113.20", "2001:db8::20"]));
    container.is("up");
}

fn an_address_that_is_denied_is_refused_although_its_name_and_its_network_are_listed() {
    let container = Container::start(&User::shared(), "deny-address", ONE_OF_EACH, &[]);
    for address in ["203.0.113.10", "2001:db8::10", "198.51.100.77", "2001:db8:1::77"] {
        let output = container.verb("deny", &[address]).ok();
        assert_eq!(output.out, format!("Denied {address} for deny-address\n"));
        container.is_refused(&everything(&[address]));
    }
    container.reaches(&web(&[
        "203.0.113.20",
        "198.51.100.64",
        "2001:db8::20",
        "2001:db8:1::10",
    ]));
    for network in ["198.51.100.64/26", "2001:db8:1::/64"] {
        let output = container.verb("deny", &[network]).ok();
        assert_eq!(output.out, format!("Denied {network} for deny-address\n"));
    }
    container.is_refused(&web(&["198.51.100.64", "198.51.100.127", "2001:db8:1::10"]));
    container.is("up");
}

fn denied_ports_are_refused_and_other_ports_go_on() {
    let container = Container::start(&User::shared(), "deny-port", ONE_OF_EACH, &[]);
    for target in [
        "203.0.113.20:7777/udp",
        "[2001:db8::20]:7777/udp",
        "198.51.100.64/26:80,8000",
        "[2001:db8:1::/64]:80,8000",
    ] {
        container.verb("deny", &[target]).ok();
    }
    let hosts = ["203.0.113.20", "2001:db8::20"];
    container.is_refused(&at(&hosts, &[("udp", 7777)]));
    container.reaches(&at(&hosts, &[("tcp", 7777), ("http", 80)]));
    let network = ["198.51.100.64", "198.51.100.127", "2001:db8:1::10"];
    container.is_refused(&at(&network, &[("http", 80), ("http", 8000)]));
    container.reaches(&at(&network, &[("http", 8080), ("udp", 7777)]));
    container.is("up");
}

fn a_denial_beats_what_is_allowed_and_allowing_the_same_lifts_it() {
    let container = Container::start(&User::shared(), "deny-lift", NOTHING, &[]);
    let pair = ["203.0.113.11", "2001:db8::11"];
    for network in ["203.0.113.0/28", "2001:db8::/120"] {
        container.verb("deny", &[network]).ok();
    }
    for address in pair {
        let output = container.verb("allow", &[address]).ok();
        assert_eq!(output.out, format!("Allowed {address} for deny-lift\n"));
        assert!(output.one_line().contains("stays closed"), "{output:#?}");
    }
    container.is_refused(&everything(&pair));
    for network in ["203.0.113.0/28", "2001:db8::/120"] {
        container.verb("allow", &[network]).ok();
    }
    container.reaches(&everything(&pair));
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
    for address in pair {
        container.verb("deny", &[address]).ok();
    }
    container.is_refused(&everything(&pair));
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
    for address in pair {
        container.verb("allow", &[address]).ok();
    }
    container.reaches(&everything(&pair));
    // The same for a name.
    container.verb("deny", &["example.com"]).ok();
    container.is_refused(&web(&["203.0.113.12", "2001:db8::12"]));
    container.verb("allow", &["example.com"]).ok();
    container.reaches(&web(&["203.0.113.12", "2001:db8::12"]));
    container.is("up");
}

fn a_denied_name_leaves_an_address_that_another_listed_name_holds() {
    // example.com and sub.allowed.test have the same addresses.
    let profile = "=example.com\n=sub.allowed.test\n=second.test\n";
    let container = Container::start(&User::shared(), "deny-shared", profile, &[]);
    container.verb("deny", &["=example.com"]).ok();
    container.reaches(&web(&["203.0.113.12", "2001:db8::12"]));
    container.verb("deny", &["=sub.allowed.test"]).ok();
    container.is_refused(&web(&["203.0.113.12", "2001:db8::12"]));
    container.verb("allow", &["=example.com"]).ok();
    container.reaches(&web(&["203.0.113.12", "2001:db8::12"]));
    container.is("up");
}

fn a_denial_stops_a_connection_that_is_open() {
    let user = User::shared();
    let container = Container::start(&user, "deny-open", ONE_OF_EACH, &[]);
    for (address, denied) in [
        ("203.0.113.10", "203.0.113.10"),
        ("2001:db8::10", "2001:db8::10"),
        ("203.0.113.20", "203.0.113.20:7778/tcp"),
        ("2001:db8:1::10", "2001:db8:1::/64"),
    ] {
        let mut reader = user.start(&["podman", "exec", "deny-open", "python3", "-I", "-c", READER, address]);
        reader.wait_for_line("flowing");
        container.verb("deny", &[denied]).ok();
        // An endless stream comes to an end only if something ends it.
        let output = reader.end().ok();
        assert!(
            ["flowing\nquiet", "flowing\nended"].contains(&output.text()),
            "{output:#?}"
        );
    }
    container.is("up");
}

fn a_denied_ipv4_address_is_denied_in_its_embedded_forms() {
    let container = Container::start(&User::shared(), "deny-embedded", "64:ff9b::/96\n0.0.0.0/0\n::/0\n", &[]);
    // 64:ff9b:: and 2002:: forms of 203.0.113.11.
    let forms = ["64:ff9b::cb00:710b", "2002:cb00:710b::1"];
    container.reaches(&web(&["203.0.113.11"]));
    container.reaches(&web(&forms));
    container.verb("deny", &["203.0.113.11"]).ok();
    container.is_refused(&web(&["203.0.113.11"]));
    container.is_refused(&web(&forms));
    container.is("up");
}
