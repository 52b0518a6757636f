//! Grants and modes that the kernel's own clock ends.

use std::time::{Duration, Instant};

use terok_shield::kernel::{Detail, Nft};
use terok_shield::policy::{Addresses, Mode, Policy};
use terok_shield::ruleset::{Drift, Layout, Snapshot, change, compile};

use super::table::{addresses, agrees, allow, allow_for, apply, deny, layout, live, policy};
use super::traffic::{FLOOR, PRIVATE, PUBLIC, network, passes, refused, udp};

pub const TESTS: &[super::Test] = &[
    ("grants_of_every_kind_end_by_themselves", every_kind),
    ("what_lasts_longer_stays_where_entries_meet", overlaps),
    ("a_mode_ends_by_itself_in_both_families", mode),
    ("private_destinations_close_again_when_down_all_ends", mode_all),
    ("a_change_after_an_end_is_a_change_like_any_other", after_the_end),
    (
        "a_mode_after_one_that_ended_never_fills_the_window_of_its_rules",
        window_of_ended_rules,
    ),
    (
        "a_grant_that_ends_outweighs_no_denial_of_a_shared_address",
        shared_address,
    ),
    ("a_grant_is_prolonged_shortened_and_made_lasting", prolonged),
    ("a_life_that_is_not_the_one_that_was_meant_is_named", drifted),
];

/// Waits until a datagram to `to` is refused, however slow the machine is.
fn until_refused(to: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while udp(to) {
        assert!(Instant::now() < until, "{to} is still open");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Leads a table from one policy to another, in one document.
fn lead(nft: &mut Nft, from: &Policy, to: &Policy) -> Layout {
    let names = Addresses::new();
    let (before, after) = (compile(from, &names), compile(to, &names));
    let live = live(nft).layout().unwrap();
    let mut wanted = layout(to, &after);
    wanted.sets.extend(live.sets.iter().copied());
    let documents = change(&live, &before, &wanted, &after);
    assert!(documents.len() <= 1, "{documents:#?}");
    for document in documents {
        nft.apply(&document).unwrap();
    }
    agrees(nft, &wanted, &after);
    wanted
}

fn every_kind() {
    let mut nft = network();
    let mut policy = policy(&["198.51.100.7", "2001:db8:1::7"]);
    for target in [
        "203.0.113.10",
        "2001:db8::10",
        "203.0.113.64/26",
        "2001:db8:2::/48",
        "203.0.113.11:443",
        "[2001:db8::11]:443",
        "203.0.113.12:8000-8100",
        "[2001:db8::12]:8000-8100",
        "example.com",
    ] {
        allow_for(&mut policy, target, 3);
    }
    let names = addresses(&[("example.com", &["203.0.113.20", "2001:db8::20"])]);
    let (layout, contents) = apply(&mut nft, &policy, &names);
    agrees(&mut nft, &layout, &contents);
    let open = [
        "203.0.113.10:80",
        "[2001:db8::10]:80",
        "203.0.113.77:80",
        "[2001:db8:2::7]:80",
        "203.0.113.11:443",
        "[2001:db8::11]:443",
        "203.0.113.12:8050",
        "[2001:db8::12]:8050",
        "203.0.113.20:80",
        "[2001:db8::20]:80",
    ];
    for to in open {
        assert!(udp(to), "{to}");
    }
    open.iter().for_each(|to| until_refused(to));
    refused(&open);
    passes(&["198.51.100.7:80", "[2001:db8:1::7]:80"]);
    policy.grants.clear();
    agrees(&mut nft, &layout, &compile(&policy, &Addresses::new()));
}

fn overlaps() {
    let mut nft = network();
    let mut policy = Policy::default();
    for target in [
        "203.0.113.0/25",
        "2001:db8:1::/64",
        "203.0.113.200",
        "203.0.113.201:8000-8010",
        "[2001:db8::201]:8000-8010",
        "198.51.100.7:443",
    ] {
        allow(&mut policy, target);
    }
    for target in [
        "203.0.113.0/24",
        "2001:db8:1::/48",
        "203.0.113.200/30",
        "203.0.113.201:7990-8005",
        "[2001:db8::201]:7990-8005",
        "198.51.100.7:443-450",
    ] {
        allow_for(&mut policy, target, 3);
    }
    let (layout, contents) = apply(&mut nft, &policy, &Addresses::new());
    agrees(&mut nft, &layout, &contents);
    assert!(udp("203.0.113.200:80") && udp("203.0.113.150:80") && udp("[2001:db8:1:1::7]:80"));
    until_refused("203.0.113.150:80");
    until_refused("[2001:db8:1:1::7]:80");
    until_refused("203.0.113.201:7995");
    until_refused("[2001:db8::201]:7995");
    until_refused("198.51.100.7:444");
    for to in [
        "203.0.113.7:80",
        "203.0.113.200:80",
        "[2001:db8:1::7]:80",
        "203.0.113.201:8003",
        "203.0.113.201:8010",
        "[2001:db8::201]:8003",
        "198.51.100.7:443",
    ] {
        assert!(udp(to), "{to}");
    }
    policy.grants.retain(|grant| grant.life.is_none());
    agrees(&mut nft, &layout, &compile(&policy, &Addresses::new()));
}

fn down_for(mode: Mode, seconds: u32) -> Policy {
    let mut policy = policy(&["203.0.113.10", "2001:db8::10", "10.9.8.8"]);
    deny(&mut policy, "198.51.100.7");
    deny(&mut policy, "2001:db8:1::7");
    policy.mode = mode;
    policy.mode_life = Some(seconds);
    policy
}

fn mode() {
    let mut nft = network();
    let up = Policy {
        mode: Mode::Up,
        mode_life: None,
        ..down_for(Mode::Down, 1)
    };
    apply(&mut nft, &up, &Addresses::new());
    refused(&["203.0.113.99:80", "[2001:db8::99]:80"]);
    lead(&mut nft, &up, &down_for(Mode::Down, 3));
    assert!(udp("203.0.113.99:80") && udp("[2001:db8::99]:80"));
    refused(&["198.51.100.7:80", "[2001:db8:1::7]:80"]);
    refused(PRIVATE);
    refused(FLOOR);
    until_refused("203.0.113.99:80");
    until_refused("[2001:db8::99]:80");
    refused(&["203.0.113.99:80", "[2001:db8::99]:80"]);
    passes(&["203.0.113.10:80", "[2001:db8::10]:80"]);
    assert_eq!(live(&mut nft).mode(), Some((Mode::Up, None)));
    // What has ended is as good as `up`, before the rules are written anew.
    let contents = compile(&up, &Addresses::new());
    agrees(&mut nft, &layout(&up, &contents), &contents);
}

fn mode_all() {
    let mut nft = network();
    apply(&mut nft, &down_for(Mode::DownAll, 3), &Addresses::new());
    assert!(
        PRIVATE
            .iter()
            .chain(PUBLIC)
            .filter(|to| !to.contains("198.51.100.7") && !to.contains("db8:1::7"))
            .all(|to| udp(to))
    );
    refused(FLOOR);
    until_refused("203.0.113.99:80");
    until_refused("[2001:db8::99]:80");
    refused(PRIVATE);
    passes(&["10.9.8.8:80", "203.0.113.10:80"]);
}

fn after_the_end() {
    let mut nft = network();
    let mut first = down_for(Mode::Down, 2);
    allow_for(&mut first, "203.0.113.20", 2);
    allow_for(&mut first, "203.0.113.32/27", 2);
    apply(&mut nft, &first, &Addresses::new());
    for to in ["203.0.113.20:80", "203.0.113.40:80", "203.0.113.99:80"] {
        until_refused(to);
    }
    // By then the desired state has forgotten them.
    let over = Policy {
        mode: Mode::Up,
        mode_life: None,
        ..down_for(Mode::Down, 1)
    };
    let mut again = over.clone();
    allow(&mut again, "203.0.113.20");
    allow_for(&mut again, "203.0.113.32/28", 600);
    lead(&mut nft, &over, &again);
    assert!(udp("203.0.113.20:80") && udp("203.0.113.40:80"));
    refused(&["203.0.113.50:80", "203.0.113.99:80"]);
    // A verb that knows of one that ended while it was at work.
    let mut known = again.clone();
    known.mode = Mode::Down;
    known.mode_life = Some(1);
    lead(&mut nft, &again, &known);
    until_refused("203.0.113.99:80");
    let mut down = known.clone();
    down.mode_life = Some(600);
    lead(&mut nft, &known, &down);
    assert!(udp("203.0.113.99:80"));
}

fn window_of_ended_rules() {
    let mut nft = network();
    apply(&mut nft, &down_for(Mode::DownAll, 1), &Addresses::new());
    until_refused("203.0.113.99:80");
    until_refused("[2001:db8::99]:80");
    let names = Addresses::new();
    let over = compile(
        &Policy {
            mode: Mode::Up,
            mode_life: None,
            ..down_for(Mode::Down, 1)
        },
        &names,
    );
    let next = down_for(Mode::Down, 600);
    let contents = compile(&next, &names);
    let live = live(&mut nft).layout().unwrap();
    let mut wanted = layout(&next, &contents);
    wanted.sets.extend(live.sets.iter().copied());
    let documents = change(&live, &over, &wanted, &contents);
    // The rules of `down_all` let private destinations pass as long as the window holds something: they go first.
    assert_eq!(documents.len(), 2);
    assert!(!documents[0].contains("\"window\""), "{}", documents[0]);
    nft.apply(&documents[0]).unwrap();
    refused(PRIVATE);
    refused(&["203.0.113.99:80", "[2001:db8::99]:80"]);
    nft.apply(&documents[1]).unwrap();
    refused(PRIVATE);
    assert!(udp("203.0.113.99:80") && udp("[2001:db8::99]:80"));
    agrees(&mut nft, &wanted, &contents);
}

fn shared_address() {
    let mut nft = network();
    let mut policy = policy(&["203.0.113.0/24", "2001:db8::/64"]);
    deny(&mut policy, "example.org");
    allow_for(&mut policy, "example.com", 2);
    let shared: &[&str] = &["203.0.113.7", "2001:db8::7"];
    let names = addresses(&[("example.com", shared), ("example.org", shared)]);
    apply(&mut nft, &policy, &names);
    refused(&["203.0.113.7:80", "[2001:db8::7]:80"]);
    passes(&["203.0.113.8:80", "[2001:db8::8]:80"]);
}

fn prolonged() {
    let mut nft = network();
    let with = |life: Option<u32>| {
        let mut policy = Policy::default();
        for target in ["203.0.113.10", "2001:db8:2::/48", "[2001:db8::11]:443"] {
            match life {
                Some(seconds) => allow_for(&mut policy, target, seconds),
                None => allow(&mut policy, target),
            }
        }
        policy
    };
    let steps = [Some(600), Some(3600), Some(60), None, Some(60), None, Some(2)];
    apply(&mut nft, &with(steps[0]), &Addresses::new());
    for pair in steps.windows(2) {
        lead(&mut nft, &with(pair[0]), &with(pair[1]));
    }
    for to in ["203.0.113.10:80", "[2001:db8:2::7]:80", "[2001:db8::11]:443"] {
        until_refused(to);
    }
}

fn drifted() {
    let mut nft = network();
    let mut meant = Policy::default();
    allow_for(&mut meant, "203.0.113.10", 100);
    let mut other = Policy::default();
    allow_for(&mut other, "203.0.113.10", 200);
    let mut lasting = Policy::default();
    allow(&mut lasting, "203.0.113.10");
    let contents = compile(&meant, &Addresses::new());
    let named = [Drift::Life("grant_hosts_v4".into(), "203.0.113.10".into())];
    for wrong in [&other, &lasting] {
        apply(&mut nft, wrong, &Addresses::new());
        assert_eq!(live(&mut nft).drift(&layout(&meant, &contents), &contents, 0), named);
        nft.apply(r#"{"nftables":[{"delete":{"table":{"family":"inet","name":"terok_shield"}}}]}"#)
            .unwrap();
    }
    apply(&mut nft, &meant, &Addresses::new());
    let contents = compile(&lasting, &Addresses::new());
    assert_eq!(live(&mut nft).drift(&layout(&lasting, &contents), &contents, 0), named);
    // A mode, too.
    let down = Policy {
        mode: Mode::Down,
        mode_life: Some(500),
        ..meant.clone()
    };
    let contents = compile(&down, &Addresses::new());
    let snapshot = Snapshot::read(&nft.list_ruleset(Detail::Full).unwrap()).unwrap();
    assert!(matches!(
        snapshot.drift(&layout(&down, &contents), &contents, 0).as_slice(),
        [Drift::Mode(..), Drift::Missing(_)]
    ));
}
