//! What is written is what is read back, and every difference is named.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};
use terok_shield::kernel::{Detail, Nft};
use terok_shield::policy::{
    Action, Addresses, Entry, Grant, Mode, Origin, Policy, PortRange, Protocol, PublishedPort, Refuse,
};
use terok_shield::ruleset::{Contents, Drift, Layout, Snapshot, change, compile, create};

pub const TESTS: &[super::Test] = &[
    ("every_mode_reads_back_as_it_was_written", every_mode),
    ("every_kind_of_set_reads_back_as_it_was_written", every_kind),
    ("wide_networks_lose_the_floor_and_private_ranges", wide_networks),
    ("overlapping_targets_are_accepted", overlapping_targets),
    ("a_change_is_made_in_place_and_reads_back", changes_in_place),
    ("changing_nothing_takes_no_transaction", nothing_to_change),
    ("a_denial_that_never_arrived_comes_with_the_next_change", lost_denial),
    ("a_deleted_rule_is_named", deleted_rule),
    ("an_added_rule_is_named", added_rule),
    ("a_changed_policy_of_a_chain_is_named", changed_chain),
    ("a_deleted_and_an_added_element_are_named", changed_elements),
    ("a_missing_table_is_named", missing_table),
    ("a_table_that_is_there_is_not_replaced", existing_table),
    ("a_refused_document_leaves_nothing_behind", refused_document),
    ("a_hundred_thousand_addresses_load_in_closed_pieces", hundred_thousand),
    ("a_listing_equals_nfts_own", listing_equals_nft),
];

pub fn entry(target: &str) -> Entry {
    Entry {
        target: target.parse().unwrap(),
        origin: Origin {
            profile: "test".parse().unwrap(),
            line: 1,
        },
    }
}

pub fn policy(targets: &[&str]) -> Policy {
    Policy {
        entries: targets.iter().map(|target| entry(target)).collect(),
        ..Policy::default()
    }
}

pub fn deny(policy: &mut Policy, target: &str) {
    grant(policy, Action::Deny, target, None);
}

pub fn allow(policy: &mut Policy, target: &str) {
    grant(policy, Action::Allow, target, None);
}

/// Allows for some seconds.
pub fn allow_for(policy: &mut Policy, target: &str, seconds: u32) {
    grant(policy, Action::Allow, target, Some(seconds));
}

fn grant(policy: &mut Policy, action: Action, target: &str, life: Option<u32>) {
    policy.grants.push(Grant {
        action,
        target: target.parse().unwrap(),
        life,
    });
}

pub fn addresses(list: &[(&str, &[&str])]) -> Addresses {
    list.iter()
        .map(|(name, addresses)| {
            (
                (*name).to_owned(),
                addresses.iter().map(|a| a.parse().unwrap()).collect(),
            )
        })
        .collect()
}

pub fn layout(policy: &Policy, contents: &Contents) -> Layout {
    Layout::of(policy, contents)
}

/// Applies a policy in this namespace, and returns what was meant.
pub fn apply(nft: &mut Nft, policy: &Policy, addresses: &Addresses) -> (Layout, Contents) {
    let contents = compile(policy, addresses);
    let layout = layout(policy, &contents);
    for document in create(&layout, &contents) {
        nft.apply(&document)
            .unwrap_or_else(|error| panic!("{error}\n{document}"));
    }
    (layout, contents)
}

pub fn live(nft: &mut Nft) -> Snapshot {
    Snapshot::read(&nft.list_ruleset(Detail::Full).unwrap()).unwrap()
}

pub fn agrees(nft: &mut Nft, layout: &Layout, contents: &Contents) {
    assert_eq!(live(nft).drift(layout, contents, 0), []);
    let mut terse = Snapshot::read_terse(&nft.list_ruleset(Detail::Terse).unwrap()).unwrap();
    if layout.timed {
        terse
            .add_elements(&nft.list_set("inet", "terok_shield", "window").unwrap())
            .unwrap();
    }
    assert_eq!(terse.drift(layout, contents, 0), []);
}

pub fn rich() -> (Policy, Addresses) {
    let mut policy = policy(&[
        "203.0.113.10",
        "2001:db8::10",
        "198.51.100.0/24",
        "2001:db8:1::/48",
        "203.0.113.11:443/tcp",
        "[2001:db8::11]:443/tcp",
        "203.0.113.11:8000-8063",
        "[2001:db8::11]:8000-8063",
        "198.51.100.0/25:53,443",
        "10.9.8.7",
        "fd00:9::7",
        "example.com",
        "=example.org:80,443/tcp",
        "=example.net:9000-9100",
    ]);
    for target in [
        "192.0.2.1",
        "192.0.2.128/26",
        "2001:db8:3::/48",
        "[2001:db8:2::1]:53",
        "192.0.2.64/26:80",
        "2001:db8:2::1",
        "203.0.113.77:53/udp",
        "[2001:db8:2::/64]:53",
    ] {
        allow(&mut policy, target);
    }
    for target in [
        "203.0.113.66",
        "203.0.113.128/25",
        "2001:db8:6::/48",
        "203.0.113.67:80",
        "198.51.100.64/27:22-25",
    ] {
        deny(&mut policy, target);
    }
    policy.upstreams = ["10.0.2.3", "fd00::3"].map(|a| a.parse::<IpAddr>().unwrap()).to_vec();
    policy.published = vec![
        PublishedPort {
            ports: PortRange { first: 80, last: 80 },
            protocol: Protocol::Tcp,
        },
        PublishedPort {
            ports: PortRange {
                first: 5000,
                last: 5010,
            },
            protocol: Protocol::Udp,
        },
    ];
    let addresses = addresses(&[
        ("example.com", &["203.0.113.20", "2001:db8::20"]),
        ("example.org", &["203.0.113.21", "2001:db8::21"]),
        ("example.net", &["203.0.113.22", "2001:db8::22"]),
    ]);
    (policy, addresses)
}

fn every_mode() {
    for mode in Mode::ALL {
        for life in [None, Some(600)] {
            if life.is_some() && !matches!(mode, Mode::Down | Mode::DownAll) {
                continue;
            }
            for refuse in Refuse::ALL {
                let mut nft = Nft::new().unwrap();
                let (mut policy, addresses) = rich();
                policy.mode = mode;
                policy.mode_life = life;
                policy.refuse = refuse;
                let (layout, contents) = apply(&mut nft, &policy, &addresses);
                agrees(&mut nft, &layout, &contents);
                let (live_mode, left) = live(&mut nft).mode().unwrap();
                assert_eq!((live_mode, left.is_some()), (mode, life.is_some()));
                assert_eq!(live(&mut nft).layout().unwrap().refuse, refuse);
                nft.apply(r#"{"nftables":[{"delete":{"table":{"family":"inet","name":"terok_shield"}}}]}"#)
                    .unwrap();
            }
        }
    }
}

fn every_kind() {
    let mut nft = Nft::new().unwrap();
    let (policy, addresses) = rich();
    let (layout, contents) = apply(&mut nft, &policy, &addresses);
    // Two sets of resolvers, the published ports; for each family floor and private ranges, four kinds of three classes, and
    // three kinds of learned addresses (a name is never a network).
    assert_eq!(layout.sets.len(), 2 + 1 + 2 * (2 + 3 * 4 + 3), "{:?}", layout.sets);
    agrees(&mut nft, &layout, &contents);
}

fn wide_networks() {
    let mut nft = Nft::new().unwrap();
    let (layout, contents) = apply(
        &mut nft,
        &policy(&["0.0.0.0/0", "::/0", "100.64.0.0/10"]),
        &Addresses::new(),
    );
    agrees(&mut nft, &layout, &contents);
    let listing = nft.list_ruleset(Detail::Full).unwrap().to_string();
    assert!(listing.contains("1.0.0.0"), "{listing}");
}

fn overlapping_targets() {
    let mut nft = Nft::new().unwrap();
    let targets = [
        "198.51.100.0/24:443",
        "198.51.100.0/25:80-500",
        "198.51.100.7:1-65535/tcp",
        "198.51.100.7:443",
        "198.51.100.0/24",
        "198.51.100.128/25",
        "198.51.100.7",
        "[2001:db8::/32]:443",
        "[2001:db8:1::/48]:80-500/tcp",
        "2001:db8::/33",
        "2001:db8:8000::/33",
    ];
    let (layout, contents) = apply(&mut nft, &policy(&targets), &Addresses::new());
    agrees(&mut nft, &layout, &contents);
}

fn changes_in_place() {
    let mut nft = Nft::new().unwrap();
    let mut policy = policy(&["203.0.113.10", "198.51.100.0/25"]);
    let (mut layout, mut contents) = apply(&mut nft, &policy, &Addresses::new());
    let steps: &[fn(&mut Policy)] = &[
        |policy| allow(policy, "203.0.113.11"),
        |policy| allow(policy, "2001:db8::11"),
        |policy| allow(policy, "198.51.100.128/25"),
        |policy| allow(policy, "198.51.101.0/26"),
        |policy| deny(policy, "203.0.113.11"),
        |policy| deny(policy, "198.51.100.192/26"),
        |policy| deny(policy, "198.51.100.0/24"),
        |policy| allow(policy, "203.0.113.11"),
        |policy| allow(policy, "203.0.113.12:80-90"),
        |policy| allow(policy, "203.0.113.12:85-100"),
        |policy| policy.mode = Mode::Down,
        |policy| policy.mode = Mode::DownAll,
        |policy| deny(policy, "203.0.113.10:443"),
        |policy| policy.mode = Mode::Block,
        |policy| policy.mode = Mode::Up,
        |policy| policy.entries.clear(),
        |policy| policy.grants.clear(),
    ];
    for (index, step) in steps.iter().enumerate() {
        step(&mut policy);
        let after = compile(&policy, &Addresses::new());
        let mut to = self::layout(&policy, &after);
        // Sets that exist stay.
        to.sets.extend(layout.sets.iter().copied());
        let documents = change(&layout, &contents, &to, &after);
        assert_eq!(documents.len(), 1, "step {index}");
        for document in documents {
            nft.apply(&document)
                .unwrap_or_else(|error| panic!("step {index}: {error}\n{document}"));
        }
        agrees(&mut nft, &to, &after);
        (layout, contents) = (to, after);
    }
}

fn nothing_to_change() {
    let (mut policy, addresses) = rich();
    policy.grants.retain(|grant| grant.action == Action::Allow);
    let contents = compile(&policy, &addresses);
    let layout = layout(&policy, &contents);
    assert!(change(&layout, &contents, &layout, &contents).is_empty());
}

/// A command that was killed between desired state and kernel leaves a denial that is no difference any more.
fn lost_denial() {
    let mut nft = Nft::new().unwrap();
    let mut policy = policy(&["203.0.113.0/24", "2001:db8::/48"]);
    let (from, _) = apply(&mut nft, &policy, &Addresses::new());
    for target in [
        "203.0.113.10",
        "2001:db8::10",
        "203.0.113.128/25",
        "2001:db8:0:7::/64",
        "203.0.113.11:80",
    ] {
        deny(&mut policy, target);
    }
    let contents = compile(&policy, &Addresses::new());
    let mut to = layout(&policy, &contents);
    to.sets.extend(from.sets.iter().copied());
    for document in change(&from, &contents, &to, &contents) {
        nft.apply(&document).unwrap();
    }
    agrees(&mut nft, &to, &contents);
}

fn nft_command(words: &str) {
    let status = std::process::Command::new("nft")
        .args(words.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "nft {words}");
}

fn handle_of(nft: &mut Nft, chain: &str, nth: usize) -> u64 {
    let listing: Value = serde_json::from_str(&nft.list_table("inet", "terok_shield").unwrap()).unwrap();
    let rules = listing["nftables"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|o| o.get("rule"));
    rules.filter(|rule| rule["chain"] == chain).nth(nth).unwrap()["handle"]
        .as_u64()
        .unwrap()
}

fn deleted_rule() {
    let mut nft = Nft::new().unwrap();
    let (policy, addresses) = rich();
    let (layout, contents) = apply(&mut nft, &policy, &addresses);
    let handle = handle_of(&mut nft, "out_v6", 2);
    nft_command(&format!("delete rule inet terok_shield out_v6 handle {handle}"));
    let drift = live(&mut nft).drift(&layout, &contents, 0);
    assert!(
        matches!(drift.as_slice(), [Drift::RuleMissing(chain, _)] if chain == "out_v6"),
        "{drift:?}"
    );
}

fn added_rule() {
    let mut nft = Nft::new().unwrap();
    let (policy, addresses) = rich();
    let (layout, contents) = apply(&mut nft, &policy, &addresses);
    nft_command("insert rule inet terok_shield out_v4 ip daddr 203.0.113.99 accept");
    let drift = live(&mut nft).drift(&layout, &contents, 0);
    assert!(
        matches!(drift.as_slice(), [Drift::RuleForeign(chain, rule)] if chain == "out_v4" && rule == "ip daddr 203.0.113.99 accept"),
        "{drift:?}"
    );
}

fn changed_chain() {
    let mut nft = Nft::new().unwrap();
    let (layout, contents) = apply(&mut nft, &policy(&[]), &Addresses::new());
    nft_command("add chain inet terok_shield input { policy accept ; }");
    let drift = live(&mut nft).drift(&layout, &contents, 0);
    assert_eq!(drift, [Drift::Declared("chain input".into())]);
}

fn changed_elements() {
    let mut nft = Nft::new().unwrap();
    let (layout, contents) = apply(&mut nft, &policy(&["203.0.113.10", "2001:db8::/48"]), &Addresses::new());
    nft_command("delete element inet terok_shield static_hosts_v4 { 203.0.113.10 }");
    nft_command("add element inet terok_shield static_nets_v6 { 2001:db8:9::/48 }");
    let drift = live(&mut nft).drift(&layout, &contents, 0);
    assert_eq!(
        drift,
        [
            Drift::ElementsMissing("static_hosts_v4".into(), 1, "203.0.113.10".into()),
            Drift::ElementsForeign("static_nets_v6".into(), 1, "2001:db8:9::/48".into()),
        ]
    );
}

fn missing_table() {
    let mut nft = Nft::new().unwrap();
    let contents = Contents::default();
    let drift = live(&mut nft).drift(&layout(&Policy::default(), &contents), &contents, 0);
    assert_eq!(drift, [Drift::NoTable]);
}

fn existing_table() {
    let mut nft = Nft::new().unwrap();
    let (layout, contents) = apply(&mut nft, &policy(&["203.0.113.10"]), &Addresses::new());
    let other = compile(&policy(&["203.0.113.11"]), &Addresses::new());
    assert!(nft.apply(&create(&layout, &other)[0]).is_err());
    agrees(&mut nft, &layout, &contents);
}

fn refused_document() {
    let mut nft = Nft::new().unwrap();
    let (layout, contents) = apply(&mut nft, &policy(&["203.0.113.10"]), &Addresses::new());
    let bad = json!({"nftables": [
        {"flush": {"chain": {"family": "inet", "table": "terok_shield", "name": "output"}}},
        {"delete": {"chain": {"family": "inet", "table": "terok_shield", "name": "nothing"}}}
    ]});
    assert!(nft.apply(&bad.to_string()).is_err());
    agrees(&mut nft, &layout, &contents);
}

fn hundred_thousand() {
    let mut nft = Nft::new().unwrap();
    let targets: Vec<String> = (0..50_000u32)
        .flat_map(|n| {
            [
                format!("198.{}.{}.{}", 18 + n / 65536, (n / 256) % 256, n % 256),
                format!("2001:db8:{:x}::{:x}", n / 1000, n % 1000 + 1),
            ]
        })
        .collect();
    let mut policy = Policy {
        entries: targets.iter().map(|target| entry(target)).collect(),
        ..Policy::default()
    };
    deny(&mut policy, "198.18.0.1");
    let contents = compile(&policy, &Addresses::new());
    let layout = layout(&policy, &contents);
    let documents = create(&layout, &contents);
    assert!(documents.len() > 1);
    // What closes is in from the first.
    assert!(documents[0].contains("deny_hosts_v4\",\"type\":\"ipv4_addr\",\"elem\""));
    for document in &documents {
        nft.apply(document).unwrap();
        let snapshot = Snapshot::read_terse(&nft.list_ruleset(Detail::Terse).unwrap()).unwrap();
        assert_eq!(snapshot.drift(&layout, &contents, 0), []);
    }
    let counted: BTreeSet<_> = contents.sets.values().map(Vec::len).collect();
    assert!(counted.contains(&50_000));
    agrees(&mut nft, &layout, &contents);
}

fn listing_equals_nft() {
    let mut nft = Nft::new().unwrap();
    let (policy, addresses) = rich();
    apply(&mut nft, &policy, &addresses);
    let ours: Value = serde_json::from_str(&nft.list_table("inet", "terok_shield").unwrap()).unwrap();
    let output = std::process::Command::new("nft")
        .args(["-j", "list", "table", "inet", "terok_shield"])
        .output()
        .unwrap();
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ours, theirs);
}
