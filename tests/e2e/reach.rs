//! What a profile opens, and that it opens nothing else.

use crate::lab::{Container, bystander};
use crate::probe::{PROVED, SERVICES, at, everything, web};
use crate::user::User;

tests![
    every_address_that_tests_call_closed_answers_a_program_without_a_shield,
    a_name_an_address_and_a_network_answer_in_both_families_and_nothing_else_does,
    private_and_metadata_addresses_are_refused_whatever_network_surrounds_them,
    private_and_metadata_addresses_that_are_listed_themselves_answer,
    a_port_opens_for_both_protocols_and_no_other_port_does,
    a_port_of_one_protocol_is_closed_for_the_other,
    ranges_and_lists_of_ports_end_where_they_end,
    ports_of_a_network_and_of_a_name_open_there_and_no_other_port_does,
    an_empty_profile_refuses_everything,
    loopback_and_own_addresses_work_inside,
    two_profiles_open_what_either_lists,
    targets_of_the_command_line_open_beside_the_profile,
];

/// One of each kind, in both families.
pub const ONE_OF_EACH: &str = "
    =allowed.test            # 203.0.113.10, 2001:db8::10
    203.0.113.20
    2001:db8::20
    198.51.100.64/26
    2001:db8:1::/64
";
/// What that opens.
pub const OPEN: [&str; 9] = [
    "203.0.113.10",
    "2001:db8::10",
    "203.0.113.20",
    "2001:db8::20",
    "198.51.100.64",
    "198.51.100.77",
    "198.51.100.127",
    "2001:db8:1::10",
    "2001:db8:1::77",
];
/// What that does not open: neighbours, other names' addresses, private and metadata addresses.
pub const CLOSED: [&str; 23] = [
    "203.0.113.11",
    "203.0.113.12",
    "203.0.113.21",
    "203.0.113.53",
    "198.51.100.63",
    "198.51.100.128",
    "198.51.100.10",
    "2001:db8::11",
    "2001:db8::12",
    "2001:db8::21",
    "2001:db8::53",
    "2001:db8:2::1",
    "2001:db8:2:ffff::1",
    "10.9.8.7",
    "172.16.5.5",
    "192.168.77.7",
    "100.64.1.1",
    "169.254.169.254",
    "168.63.129.16",
    "fd00:9::7",
    "fd00:ec2::254",
    "fec0::7",
    "64:ff9b::a9fe:a9fe",
];
/// Private ranges and metadata addresses, embedded ones too.
const PRIVATE: [&str; 14] = [
    "10.9.8.7",
    "172.16.5.5",
    "192.168.77.7",
    "100.64.1.1",
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:9::7",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fec0::7",
    "64:ff9b::a9fe:a9fe",
    "2002:a09:807::1",
];

fn every_address_that_tests_call_closed_answers_a_program_without_a_shield() {
    let user = User::shared();
    let container = Container::unshielded(&user, "proof-reach", &[]);
    container.reaches(&everything(&PROVED));
}

fn a_name_an_address_and_a_network_answer_in_both_families_and_nothing_else_does() {
    let container = Container::start(&User::shared(), "reach-each", ONE_OF_EACH, &[]);
    container.reaches(&everything(&OPEN));
    container.is_refused(&everything(&CLOSED));
    for (family, address) in [("-4", "203.0.113.10"), ("-6", "2001:db8::10")] {
        let page = container.exec(&["curl", "-s", family, "http://allowed.test"]).ok();
        assert_eq!(page.text(), address, "curl {family} by name");
        // 7 is "failed to connect"; a time-out would be 28.
        let refused = container.exec(&["curl", "-s", family, "--max-time", "60", "http://second.test"]);
        refused.code(7);
    }
    container.is("up");
    bystander().is("up");
}

fn private_and_metadata_addresses_are_refused_whatever_network_surrounds_them() {
    let profile = "0.0.0.0/0\n::/0\n172.0.0.0/8\nfc00::/6\n";
    let container = Container::start(&User::shared(), "reach-wide", profile, &[]);
    container.reaches(&everything(&["203.0.113.10", "2001:db8::10"]));
    container.is_refused(&everything(&PRIVATE));
}

fn private_and_metadata_addresses_that_are_listed_themselves_answer() {
    let profile = "
        10.9.8.7
        172.16.5.0/24
        192.168.77.7:80
        100.64.1.1
        169.254.169.254
        168.63.129.16
        fd00:9::7
        fd00:ec2::254
        fd20:ce::254
        [fec0::7]:80
        64:ff9b::a9fe:a9fe
    ";
    let container = Container::start(&User::shared(), "reach-listed", profile, &[]);
    container.reaches(&everything(&[
        "10.9.8.7",
        "172.16.5.5",
        "100.64.1.1",
        "169.254.169.254",
        "168.63.129.16",
        "fd00:9::7",
        "fd00:ec2::254",
        "fd20:ce::254",
        "64:ff9b::a9fe:a9fe",
    ]));
    container.reaches(&web(&["192.168.77.7", "fec0::7"]));
    container.is_refused(&everything(&[
        "10.9.8.8",
        "fd00:9::8",
        "100.100.100.200",
        "192.0.0.192",
    ]));
    container.is_refused(&at(&["192.168.77.7", "fec0::7"], &SERVICES[1..]));
}

fn a_port_opens_for_both_protocols_and_no_other_port_does() {
    let profile = "203.0.113.10:7777\n[2001:db8::10]:7777\n203.0.113.11:80\n[2001:db8::11]:80\n";
    let container = Container::start(&User::shared(), "port-one", profile, &[]);
    let both = [("tcp", 7777), ("udp", 7777)];
    let (first, second) = (["203.0.113.10", "2001:db8::10"], ["203.0.113.11", "2001:db8::11"]);
    container.reaches(&at(&first, &both));
    container.is_refused(&at(&first, &SERVICES[..4]));
    container.is_refused(&at(&first, &[("ping", 0)]));
    container.reaches(&web(&second));
    container.is_refused(&at(&second, &SERVICES[1..]));
    container.is_refused(&everything(&["203.0.113.12", "2001:db8::12"]));
}

fn a_port_of_one_protocol_is_closed_for_the_other() {
    let profile = "
        203.0.113.10:7777/tcp
        [2001:db8::10]:7777/tcp
        203.0.113.11:7777/udp
        [2001:db8::11]:7777/udp
    ";
    let container = Container::start(&User::shared(), "port-protocol", profile, &[]);
    let (tcp, udp) = (["203.0.113.10", "2001:db8::10"], ["203.0.113.11", "2001:db8::11"]);
    container.reaches(&at(&tcp, &[("tcp", 7777)]));
    container.is_refused(&at(&tcp, &[("udp", 7777), ("http", 80), ("ping", 0)]));
    container.reaches(&at(&udp, &[("udp", 7777)]));
    container.is_refused(&at(&udp, &[("tcp", 7777), ("http", 80), ("ping", 0)]));
}

fn ranges_and_lists_of_ports_end_where_they_end() {
    let profile = "
        203.0.113.10:7778-8079
        [2001:db8::10]:7778-8079
        203.0.113.11:80,8443
        [2001:db8::11]:80,8443
        203.0.113.12:8000-8080/tcp
        [2001:db8::12]:8000-8080/tcp
    ";
    let container = Container::start(&User::shared(), "port-range", profile, &[]);
    let range = ["203.0.113.10", "2001:db8::10"];
    container.reaches(&at(&range, &[("http", 8000)]));
    container.is_refused(&at(
        &range,
        &[("tcp", 7777), ("udp", 7777), ("http", 8080), ("http", 80)],
    ));
    let list = ["203.0.113.11", "2001:db8::11"];
    container.reaches(&at(&list, &[("http", 80), ("http", 8443)]));
    container.is_refused(&at(&list, &[("http", 8000), ("http", 8080), ("udp", 7777)]));
    let ends = ["203.0.113.12", "2001:db8::12"];
    container.reaches(&at(&ends, &[("http", 8000), ("http", 8080)]));
    container.is_refused(&at(&ends, &[("http", 80), ("http", 8443), ("tcp", 7777)]));
}

fn ports_of_a_network_and_of_a_name_open_there_and_no_other_port_does() {
    let profile = "
        198.51.100.64/26:8000,7777
        [2001:db8:1::/64]:8000,7777
        allowed.test:8080/tcp
    ";
    let container = Container::start(&User::shared(), "port-network", profile, &[]);
    let inside = ["198.51.100.64", "198.51.100.127", "2001:db8:1::10"];
    let opened = [("http", 8000), ("tcp", 7777), ("udp", 7777)];
    container.reaches(&at(&inside, &opened));
    container.is_refused(&at(&inside, &[("http", 80), ("http", 8080), ("ping", 0)]));
    let outside = ["198.51.100.63", "198.51.100.128", "2001:db8:2::1"];
    container.is_refused(&at(&outside, &opened));
    let named = ["203.0.113.10", "2001:db8::10"];
    container.reaches(&at(&named, &[("http", 8080)]));
    container.is_refused(&at(&named, &[("http", 80), ("http", 8000), ("udp", 7777)]));
}

fn an_empty_profile_refuses_everything() {
    let container = Container::start(&User::shared(), "reach-nothing", "# nothing\n", &[]);
    container.is_refused(&web(&PROVED));
    container.is_refused(&everything(&["203.0.113.10", "2001:db8::10"]));
}

fn loopback_and_own_addresses_work_inside() {
    let container = Container::start(&User::shared(), "reach-self", "", &[]);
    let mut addresses = vec!["127.0.0.1".to_owned(), "::1".to_owned()];
    addresses.extend(container.own_addresses());
    let (v4, v6): (Vec<&String>, Vec<&String>) = addresses.iter().partition(|address| address.contains('.'));
    assert!(v4.len() > 1 && v6.len() > 1, "{addresses:?}");
    let serve = "for a in $ADDRESSES; do python3 -I -c \"$SERVE\" $a & done; wait";
    let program = "import socket, sys\n\
        v6 = ':' in sys.argv[1]\n\
        s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET)\n\
        s.bind((sys.argv[1], 7777)); s.listen()\n\
        print('ready', flush=True)\n\
        c, _ = s.accept(); c.sendall(c.recv(99)); c.close()\n";
    let user = User::shared();
    let mut server = user.start(&[
        "podman",
        "exec",
        "-e",
        &format!("SERVE={program}"),
        "-e",
        &format!("ADDRESSES={}", addresses.join(" ")),
        &container.name,
        "sh",
        "-c",
        serve,
    ]);
    for _ in &addresses {
        server.wait_for_line("ready");
    }
    let own: Vec<&str> = addresses.iter().map(String::as_str).collect();
    container.reaches(&at(&own, &[("tcp", 7777)]));
}

fn two_profiles_open_what_either_lists() {
    let user = User::shared();
    user.profile("both-a", "203.0.113.10\n2001:db8::10\n");
    user.profile("both-b", "203.0.113.11\n2001:db8::11\n@both-a\n");
    for (name, profiles) in [
        ("both-spaces", &["both-a", "both-b"][..]),
        ("both-comma", &["both-a,both-b"]),
    ] {
        let container = Container::named(&user, name);
        let words = [
            &["run", name, "--profiles"],
            profiles,
            &["--", "-d", crate::lab::IMAGE, "sleep", "100000"],
        ];
        user.shield(&words.concat()).ok();
        container.reaches(&web(&["203.0.113.10", "203.0.113.11", "2001:db8::10", "2001:db8::11"]));
        container.is_refused(&web(&["203.0.113.12", "2001:db8::12"]));
    }
}

fn targets_of_the_command_line_open_beside_the_profile() {
    let user = User::shared();
    user.profile("beside", "203.0.113.10\n2001:db8::10\n");
    let container = Container::named(&user, "reach-beside");
    let allow = [
        "--allow",
        "203.0.113.11:80",
        "--allow",
        "[2001:db8::11]:80",
        "--allow",
        "example.com",
    ];
    let words = [
        &["run", "reach-beside", "--profiles", "beside"],
        &allow[..],
        &["--", "-d", crate::lab::IMAGE, "sleep", "100000"],
    ];
    user.shield(&words.concat()).ok();
    container.reaches(&web(&["203.0.113.10", "203.0.113.11", "203.0.113.12"]));
    container.reaches(&web(&["2001:db8::10", "2001:db8::11", "2001:db8::12"]));
    container.is_refused(&at(&["203.0.113.11", "2001:db8::11"], &SERVICES[1..]));
    container.is_refused(&web(&["203.0.113.21", "2001:db8::21"]));
}
