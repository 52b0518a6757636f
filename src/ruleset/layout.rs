//! The table itself: its chains, and the rules for a mode.
//!
//! The rules depend on three things alone: the mode, the way of refusing, and which sets exist. So what a live table
//! should hold can be told from the live table, without the policy. A set that nobody needs is not declared and costs
//! neither a lookup per packet nor time at the start.
//!
//! What is decided, in which order, first match wins (the same for both families):
//!
//! | where | decision |
//! | --- | --- |
//! | `output` | own addresses pass; neighbour discovery passes; routing headers are dropped |
//! | `out_*` | IP options dropped; recorded resolvers on port 53; denied; replies of published ports; listed; floor and private; the rest |
//! | `input` | the same by source, and only in conntrack's reply direction; new only to published ports |
//! | `postrouting` | loopback destinations leave by `lo` alone, whatever a socket is bound to |

use std::collections::BTreeSet;

use nftables::schema::{Chain, Rule};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use super::contents::Contents;
use super::sets::{Class, Family, Kind, Reserved, SetId};
use super::words::{
    Expr, Stmt, accept, admin_prohibited, any_of, concat, count, ct_direction, ct_mark, ct_state, drop,
    from_local_address, from_loopback, goto, in_set, is, is_not, l4proto, log, meta, neighbour_discovery, nfproto,
    out_of_other_than_loopback, payload, prefix, reset, routing_header, set_ct_mark, tcp_or_udp, text,
    to_local_address,
};
use super::{FORMAT, TABLE};
use crate::policy::{Mode, Policy, Refuse};

/// Mark of connections to published ports. Only the table sets it: a container cannot mark connections without
/// NET_ADMIN.
const PUBLISHED_MARK: u32 = 0x7e50;

/// Named counters, one a verdict. Objects of their own, so that they survive changes of mode.
pub const COUNTERS: [&str; 5] = ["allowed", "blocked", "denied", "private", "bypassed"];

/// What a table's rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The mode.
    pub mode: Mode,
    /// Whether it lasts only as long as [`SetId::Window`] holds the packet's family; then it is as [`Mode::Up`].
    pub timed: bool,
    /// How TCP is refused.
    pub refuse: Refuse,
    /// The sets that exist.
    pub sets: BTreeSet<SetId>,
}

impl Layout {
    /// The layout that a policy asks for: sets exist where they are needed.
    #[must_use]
    pub fn of(policy: &Policy, contents: &Contents) -> Self {
        Self {
            mode: policy.mode,
            timed: policy.mode_life.is_some(),
            refuse: policy.refuse,
            sets: contents.sets.keys().copied().collect(),
        }
    }
}

/// A rule before it has a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSpec {
    /// Its chain.
    pub chain: &'static str,
    /// Its comment; at most 128 bytes (libnftables ends the process from 254 on).
    pub comment: Option<String>,
    /// What it says.
    pub statements: Vec<Stmt>,
}

impl RuleSpec {
    /// As libnftables takes it.
    #[must_use]
    pub fn into_rule(self) -> Rule<'static> {
        Rule {
            family: NfFamily::INet,
            table: TABLE.into(),
            chain: self.chain.into(),
            expr: self.statements.into(),
            comment: self.comment.map(Into::into),
            ..Rule::default()
        }
    }
}

/// The first rule's comment: what the table is, and the mode, for whoever reads it back. (libnftables 1.0.6 drops
/// the comments of tables and chains.)
#[must_use]
pub fn marker(layout: &Layout) -> String {
    let timed = if layout.timed { TIMED } else { "" };
    format!(
        "terok-shield:{FORMAT} mode={}{timed} refuse={}",
        layout.mode, layout.refuse
    )
}

/// What a marker says behind the mode if that ends by itself.
const TIMED: &str = ",timed";

/// The layout that a marker names, without its sets.
#[must_use]
pub fn read_marker(comment: &str) -> Option<Layout> {
    let rest = comment.strip_prefix(&format!("terok-shield:{FORMAT} mode="))?;
    let (mode, refuse) = rest.split_once(" refuse=")?;
    let (mode, timed) = match mode.strip_suffix(TIMED) {
        Some(mode) => (mode, true),
        None => (mode, false),
    };
    Some(Layout {
        mode: mode.parse().ok()?,
        timed,
        refuse: refuse.parse().ok()?,
        sets: BTreeSet::new(),
    })
}

/// All chains, base chains first. They stay for the life of the table.
#[must_use]
pub fn chains() -> Vec<Chain<'static>> {
    let base = |name: &'static str, hook, policy| Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        _type: Some(NfChainType::Filter),
        hook: Some(hook),
        prio: Some(0),
        policy: Some(policy),
        ..Chain::default()
    };
    let mut chains = vec![
        base("output", NfHook::Output, NfChainPolicy::Drop),
        base("input", NfHook::Input, NfChainPolicy::Drop),
        base("forward", NfHook::Forward, NfChainPolicy::Drop),
        base("postrouting", NfHook::Postrouting, NfChainPolicy::Accept),
    ];
    chains.extend(
        [
            "out_v4",
            "out_v6",
            "in_v4",
            "in_v6",
            "replies_v4",
            "replies_v6",
            "pass",
            "bypass",
            "refuse_denied",
            "refuse_private",
            "refuse_blocked",
            "refuse",
        ]
        .map(|name| Chain {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: name.into(),
            ..Chain::default()
        }),
    );
    chains
}

struct Rules {
    rules: Vec<RuleSpec>,
}

impl Rules {
    fn add(&mut self, chain: &'static str, statements: impl Into<Vec<Stmt>>) {
        self.rules.push(RuleSpec {
            chain,
            comment: None,
            statements: statements.into(),
        });
    }
}

/// Every rule of the table, chain by chain.
#[must_use]
pub fn rules(layout: &Layout) -> Vec<RuleSpec> {
    let mut rules = Rules { rules: Vec::new() };
    output(layout, &mut rules);
    input(layout, &mut rules);
    rules.add("forward", [drop()]);
    postrouting(&mut rules);
    for family in Family::ALL {
        outbound(layout, family, &mut rules);
        inbound(layout, family, &mut rules);
    }
    verdicts(layout, &mut rules);
    rules.rules
}

fn output(layout: &Layout, rules: &mut Rules) {
    rules.rules.push(RuleSpec {
        chain: "output",
        comment: Some(marker(layout)),
        statements: vec![to_local_address(), accept()],
    });
    if layout.mode == Mode::Block {
        rules.add("output", [goto("refuse_blocked")]);
        return;
    }
    let mut discovery = neighbour_discovery(&["nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert"]);
    discovery.push(accept());
    rules.add("output", discovery);
    // The kernel's own multicast listener reports (RFC 3810). Nobody needs them here, and they are no attempt of the
    // container's: dropped without an entry.
    rules.add(
        "output",
        [
            is(
                payload("icmpv6", "type"),
                any_of(vec![
                    text("mld-listener-report"),
                    text("mld-listener-done"),
                    text("mld2-listener-report"),
                ]),
            ),
            drop(),
        ],
    );
    rules.add("output", [routing_header(), drop()]);
    rules.add("output", [nfproto("ipv4"), goto("out_v4")]);
    rules.add("output", [nfproto("ipv6"), goto("out_v6")]);
    rules.add("output", [drop()]);
}

fn input(layout: &Layout, rules: &mut Rules) {
    if layout.mode == Mode::Block && layout.sets.contains(&SetId::Published) {
        // rootlessport brings what comes from outside over the loopback interface, from and to an own address. (A reset by
        // which we refuse comes that way, too, and not from an own one.)
        for (family, loopback) in [(Family::V4, prefix("127.0.0.0".into(), 8)), (Family::V6, text("::1"))] {
            for port in ["dport", "sport"] {
                let service = concat(vec![meta(nftables::expr::MetaKey::L4proto), payload("th", port)]);
                rules.add(
                    "input",
                    [
                        is_not(payload(ip(family), "daddr"), loopback.clone()),
                        from_local_address(),
                        in_set(service, SetId::Published),
                        drop(),
                    ],
                );
            }
        }
    }
    rules.add("input", [from_loopback(), accept()]);
    if layout.mode != Mode::Block {
        let mut discovery = neighbour_discovery(&["nd-router-advert", "nd-neighbor-solicit", "nd-neighbor-advert"]);
        discovery.push(accept());
        rules.add("input", discovery);
        rules.add("input", [routing_header(), drop()]);
        rules.add("input", [nfproto("ipv4"), goto("in_v4")]);
        rules.add("input", [nfproto("ipv6"), goto("in_v6")]);
    }
    rules.add("input", [drop()]);
}

fn postrouting(rules: &mut Rules) {
    // What `output` lets pass because it is for this namespace, loopback and own addresses, leaves by no other interface.
    rules.add(
        "postrouting",
        [out_of_other_than_loopback(), to_local_address(), drop()],
    );
    rules.add("postrouting", [accept()]);
}

/// What makes the two directions mirror images: address and port of the far end.
struct FarEnd {
    address: &'static str,
    port: &'static str,
}

const DESTINATION: FarEnd = FarEnd {
    address: "daddr",
    port: "dport",
};
const SOURCE: FarEnd = FarEnd {
    address: "saddr",
    port: "sport",
};

const fn ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

const fn pick(family: Family, v4: &'static str, v6: &'static str) -> &'static str {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

fn key(kind: Kind, family: Family, far: &FarEnd) -> Expr {
    let address = payload(ip(family), far.address);
    if kind.has_ports() {
        concat(vec![
            address,
            meta(nftables::expr::MetaKey::L4proto),
            payload("th", far.port),
        ])
    } else {
        address
    }
}

fn judge(
    layout: &Layout,
    class: Class,
    family: Family,
    far: &FarEnd,
    chain: &'static str,
    verdict: &Stmt,
    rules: &mut Rules,
) {
    for kind in Kind::ALL {
        let set = SetId::Destinations(class, kind, family);
        if layout.sets.contains(&set) {
            rules.add(chain, [in_set(key(kind, family, far), set), verdict.clone()]);
        }
    }
}

fn upstream(family: Family, far: &FarEnd) -> Vec<Stmt> {
    vec![
        in_set(payload(ip(family), far.address), SetId::Upstream(family)),
        tcp_or_udp(),
        is(payload("th", far.port), Expr::Number(53)),
    ]
}

fn outbound(layout: &Layout, family: Family, rules: &mut Rules) {
    let chain = pick(family, "out_v4", "out_v6");
    if layout.mode == Mode::Block {
        rules.add(chain, [drop()]);
        return;
    }
    if family == Family::V4 {
        // Options of IPv4 hold source routes (RFC 791, 3.1), which hide the final destination. Nothing here needs one.
        rules.add(chain, [is_not(payload("ip", "hdrlength"), Expr::Number(5)), drop()]);
    }
    if layout.sets.contains(&SetId::Upstream(family)) {
        let mut rule = upstream(family, &DESTINATION);
        rule.push(accept());
        rules.add(chain, rule);
    }
    judge(
        layout,
        Class::Deny,
        family,
        &DESTINATION,
        chain,
        &goto("refuse_denied"),
        rules,
    );
    if layout.sets.contains(&SetId::Published) {
        rules.add(chain, [ct_direction("reply"), ct_mark(PUBLISHED_MARK), accept()]);
    }
    for class in Class::ALLOWING {
        judge(layout, class, family, &DESTINATION, chain, &goto("pass"), rules);
    }
    closed(layout.mode, family, &DESTINATION, chain, &goto("refuse_private"), rules);
    if layout.timed {
        rules.add(chain, [window(), goto("bypass")]);
        if layout.mode == Mode::DownAll {
            closed(Mode::Up, family, &DESTINATION, chain, &goto("refuse_private"), rules);
        }
    }
    let rest = match layout.mode {
        Mode::Down | Mode::DownAll if !layout.timed => "bypass",
        _ => "refuse_blocked",
    };
    rules.add(chain, [goto(rest)]);
}

/// The time of a mode that ends by itself is not over.
fn window() -> Stmt {
    in_set(meta(nftables::expr::MetaKey::Nfproto), SetId::Window)
}

fn inbound(layout: &Layout, family: Family, rules: &mut Rules) {
    let chain = pick(family, "in_v4", "in_v6");
    let replies = pick(family, "replies_v4", "replies_v6");
    if layout.mode == Mode::Block {
        rules.add(chain, [drop()]);
        rules.add(replies, [drop()]);
        return;
    }
    if layout.sets.contains(&SetId::Upstream(family)) {
        let mut rule = upstream(family, &SOURCE);
        rule.extend([ct_direction("reply"), accept()]);
        rules.add(chain, rule);
    }
    judge(layout, Class::Deny, family, &SOURCE, chain, &drop(), rules);
    if layout.sets.contains(&SetId::Published) {
        rules.add(
            chain,
            [
                ct_state("new"),
                in_set(
                    concat(vec![meta(nftables::expr::MetaKey::L4proto), payload("th", "dport")]),
                    SetId::Published,
                ),
                set_ct_mark(PUBLISHED_MARK),
                accept(),
            ],
        );
        rules.add(chain, [ct_direction("original"), ct_mark(PUBLISHED_MARK), accept()]);
    }
    let (protocol, errors): (_, &[&'static str]) = match family {
        Family::V4 => (
            "icmp",
            &["destination-unreachable", "time-exceeded", "parameter-problem"],
        ),
        Family::V6 => (
            "icmpv6",
            &[
                "destination-unreachable",
                "packet-too-big",
                "time-exceeded",
                "parameter-problem",
            ],
        ),
    };
    rules.add(
        chain,
        [
            ct_state("related"),
            is(
                payload(protocol, "type"),
                any_of(errors.iter().map(|name| text(*name)).collect()),
            ),
            accept(),
        ],
    );
    rules.add(chain, [ct_direction("reply"), goto(replies)]);
    rules.add(chain, [drop()]);

    for class in Class::ALLOWING {
        judge(layout, class, family, &SOURCE, replies, &accept(), rules);
    }
    if matches!(layout.mode, Mode::Down | Mode::DownAll) {
        closed(layout.mode, family, &SOURCE, replies, &drop(), rules);
        if layout.timed {
            rules.add(replies, [window(), accept()]);
        } else {
            rules.add(replies, [accept()]);
            return;
        }
    }
    rules.add(replies, [drop()]);
}

/// What stays closed in this mode unless it is listed: the floor always, private ranges but in `down_all`.
fn closed(mode: Mode, family: Family, far: &FarEnd, chain: &'static str, verdict: &Stmt, rules: &mut Rules) {
    for kind in Reserved::ALL {
        if kind == Reserved::Private && mode == Mode::DownAll {
            continue;
        }
        let address = payload(ip(family), far.address);
        rules.add(chain, [in_set(address, SetId::Reserved(kind, family)), verdict.clone()]);
    }
}

fn verdicts(layout: &Layout, rules: &mut Rules) {
    // New connections alone are counted and logged: so the log of a verdict and its counter speak of the same packets.
    let opening: &[_] = match layout.mode {
        Mode::Up => &[("pass", "allowed", "TEROK_SHIELD_ALLOWED: ")],
        Mode::Down | Mode::DownAll => &[
            ("pass", "allowed", "TEROK_SHIELD_ALLOWED: "),
            ("bypass", "bypassed", "TEROK_SHIELD_BYPASS: "),
        ],
        Mode::Block => &[],
    };
    for (chain, counter, label) in opening.iter().copied() {
        rules.add(chain, [ct_state("new"), count(counter), log(label)]);
        rules.add(chain, [accept()]);
    }
    // A chain that a mode does not use is closed in it.
    for chain in ["pass", "bypass"] {
        if !opening.iter().any(|(used, _, _)| *used == chain) {
            rules.add(chain, [drop()]);
        }
    }
    for (chain, counter, label) in [
        ("refuse_denied", "denied", "TEROK_SHIELD_DENIED: "),
        ("refuse_private", "private", "TEROK_SHIELD_PRIVATE: "),
        ("refuse_blocked", "blocked", "TEROK_SHIELD_BLOCKED: "),
    ] {
        rules.add(chain, [count(counter), log(label), goto("refuse")]);
    }
    if layout.refuse == Refuse::Reset {
        rules.add("refuse", [l4proto("tcp"), reset()]);
    }
    rules.add("refuse", [admin_prohibited()]);
}
