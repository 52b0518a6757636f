//! Profiles and what is made of them, judged by an evaluator of its own: rules as libseccomp compiles them, one
//! architecture after the other, asked about single calls.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const OTHER_FAMILIES: [u64; 6] = [1, 2, 10, 16, 17, 44];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Arch {
    X86_64,
    X86,
}

fn permits(action: &str) -> bool {
    !["SCMP_ACT_ERRNO", "SCMP_ACT_TRAP"].contains(&action) && !action.starts_with("SCMP_ACT_KILL")
}

fn holds(arg: &Value, call: &[u64; 6], arch: Arch) -> bool {
    let cut = |number: u64| {
        if arch == Arch::X86 {
            number & 0xffff_ffff
        } else {
            number
        }
    };
    let field = |name: &str| cut(arg[name].as_u64().unwrap_or(0));
    let given = cut(call[usize::try_from(arg["index"].as_u64().unwrap()).unwrap()]);
    match arg["op"].as_str().unwrap() {
        "SCMP_CMP_EQ" => given == field("value"),
        "SCMP_CMP_NE" => given != field("value"),
        "SCMP_CMP_LT" => given < field("value"),
        "SCMP_CMP_LE" => given <= field("value"),
        "SCMP_CMP_GT" => given > field("value"),
        "SCMP_CMP_GE" => given >= field("value"),
        "SCMP_CMP_MASKED_EQ" => given & field("value") == field("valueTwo") & field("value"),
        other => panic!("{other}"),
    }
}

/// Whether the call may pass in any order of the rules: `Some` of each outcome that is possible.
fn may_pass(profile: &Value, arch: Arch, name: &str, call: [u64; 6]) -> bool {
    let default = profile["defaultAction"].as_str().unwrap();
    let errno =
        |action: &Value, ret: &Value| (action.as_str() == Some("SCMP_ACT_ERRNO")).then(|| ret.as_u64().unwrap_or(1));
    let default_errno = errno(&profile["defaultAction"], &profile["defaultErrnoRet"]);
    let mut matching = Vec::new();
    for rule in profile["syscalls"].as_array().into_iter().flatten() {
        let action = rule["action"].as_str().unwrap();
        if action == default && errno(&rule["action"], &rule["errnoRet"]) == default_errno {
            continue;
        }
        let named = |wanted: &str| rule["names"].as_array().unwrap().iter().any(|name| name == wanted);
        // A rule for `socket` is one for `socketcall(1, ...)`, with the first condition replaced.
        let muxed = arch == Arch::X86 && name == "socketcall" && call[0] == 1 && named("socket");
        if !named(name) && !muxed {
            continue;
        }
        let args = rule["args"].as_array().cloned().unwrap_or_default();
        let indexes: Vec<u64> = args.iter().map(|arg| arg["index"].as_u64().unwrap()).collect();
        let repeated = (0..indexes.len()).any(|at| indexes[..at].contains(&indexes[at]));
        let holds = |arg: &Value| (!named(name) && arg["index"] == 0) || holds(arg, &call, arch);
        let unconditional = args.is_empty() && named(name);
        if unconditional {
            return permits(action);
        }
        if if repeated {
            args.iter().any(holds)
        } else {
            args.iter().all(holds)
        } {
            matching.push(permits(action));
        }
    }
    // Which of two matching rules wins is libseccomp's secret.
    if matching.is_empty() {
        permits(default)
    } else {
        matching.contains(&true)
    }
}

/// Ways to an AF_VSOCK socket that a profile leaves.
fn ways_out(profile: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for arch in [Arch::X86_64, Arch::X86] {
        for upper in [0, 1, 7, 0xffff_ffff_u64] {
            for (kind, protocol) in [(1, 0), (2, 9), (5, 1 << 32)] {
                let call = [upper << 32 | AF_VSOCK, kind, protocol, 0, 0, 0];
                if may_pass(profile, arch, "socket", call) {
                    found.push(format!("{arch:?} socket{call:?}"));
                }
            }
        }
        for name in WAYS_ROUND {
            for first in [1, 32] {
                if may_pass(profile, arch, name, [first, 0, 9, 0, 0, 0]) {
                    found.push(format!("{arch:?} {name}({first})"));
                }
            }
        }
    }
    found
}

fn denied(profile: &Value) -> bool {
    serde_json::from_value::<Profile>(profile.clone())
        .unwrap()
        .denies_vsock()
}

fn rewritten(profile: &Value) -> Result<Value, Refusal> {
    let mut config = json!({"linux": {"seccomp": profile}});
    deny(&mut config).map(|()| config["linux"]["seccomp"].clone())
}

/// Podman's default for containers without CAP_AUDIT_WRITE.
fn podmans() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["bdflush"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["read", "socketcall", "io_uring_setup", "io_uring_enter"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": [
                {"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 9, "op": "SCMP_CMP_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 2, "value": 9, "op": "SCMP_CMP_NE"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_NE"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 2, "value": 9, "op": "SCMP_CMP_NE"}]}
        ]
    })
}

#[test]
fn the_default_profile_loses_vsock_and_nothing_else() {
    let before = podmans();
    assert!(!ways_out(&before).is_empty() && !denied(&before));
    let after = rewritten(&before).unwrap();
    assert_eq!(ways_out(&after), [""; 0]);
    assert!(denied(&after));
    for family in OTHER_FAMILIES {
        assert!(
            may_pass(&after, Arch::X86_64, "socket", [family, 1, 0, 0, 0, 0]),
            "{family}"
        );
        assert!(
            may_pass(&after, Arch::X86, "socket", [family, 1, 0, 0, 0, 0]),
            "{family}"
        );
    }
    assert!(may_pass(&after, Arch::X86_64, "socket", [2, 1, 9, 0, 0, 0]));
    assert!(
        !may_pass(&after, Arch::X86_64, "socket", [16, 1, 9, 0, 0, 0]),
        "the audit socket"
    );
    assert!(may_pass(&after, Arch::X86_64, "read", [0; 6]));
    assert_eq!(rewritten(&after).unwrap(), after, "once is enough");
    assert_eq!(after["architectures"], before["architectures"]);
}

#[test]
fn no_profile_and_open_ones_get_denials() {
    for open in [
        json!(null),
        json!({"defaultAction": "SCMP_ACT_ALLOW"}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": null}),
        json!({"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"names": ["socket", "read"], "action": "SCMP_ACT_ALLOW"}]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_KILL"}]}),
    ] {
        let after = rewritten(&open).unwrap();
        assert_eq!(ways_out(&after), [""; 0], "{after}");
        assert!(may_pass(&after, Arch::X86_64, "socket", [2, 1, 0, 0, 0, 0]), "{after}");
    }
}

#[test]
fn what_denies_already_is_left_as_it_is() {
    for closed in [
        json!({"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}], "flags": ["X"]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["socket", "socketcall", "io_uring_setup", "io_uring_enter"], "action": "SCMP_ACT_ERRNO"}]}),
    ] {
        assert_eq!(ways_out(&closed), [""; 0]);
        assert_eq!(rewritten(&closed).unwrap(), closed);
    }
}

#[test]
fn what_only_looks_like_a_denial_is_none() {
    let ways_round = json!({"names": WAYS_ROUND, "action": "SCMP_ACT_ERRNO"});
    let socket = |action: &str, op: &str, value: u64, two: u64| json!({"names": ["socket"], "action": action, "args": [{"index": 0, "value": value, "valueTwo": two, "op": op}]});
    let with = |default: &str, rules: &[Value]| json!({"defaultAction": default, "syscalls": rules});
    let (allow, errno) = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO");
    for open in [
        // 64 bits are compared, 32 count.
        with(
            "SCMP_ACT_KILL",
            &[ways_round.clone(), socket(allow, "SCMP_CMP_NE", 40, 0)],
        ),
        with(allow, &[ways_round.clone(), socket(errno, "SCMP_CMP_EQ", 40, 0)]),
        with(
            allow,
            &[ways_round.clone(), socket(errno, "SCMP_CMP_MASKED_EQ", u64::MAX, 40)],
        ),
        // The runtimes leave the denial of `socketcall` out.
        with(errno, &[ways_round.clone(), socket(allow, "SCMP_CMP_EQ", 2, 0)]),
        // An unconditional rule wins.
        with(
            allow,
            &[
                ways_round.clone(),
                socket(errno, "SCMP_CMP_MASKED_EQ", 0xffff_ffff, 40),
                json!({"names": ["socket"], "action": "SCMP_ACT_LOG"}),
            ],
        ),
        // Two conditions on one argument are two rules.
        with(
            "SCMP_ACT_KILL",
            &[
                ways_round,
                json!({"names": ["socket"], "action": allow, "args": [
            {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_GT"}]}),
            ],
        ),
    ] {
        assert!(!ways_out(&open).is_empty() && !denied(&open), "{open}");
        assert_eq!(ways_out(&rewritten(&open).unwrap()), [""; 0], "{open}");
    }
}

#[test]
fn what_a_profile_denies_of_other_families_stays_denied() {
    let arg = |index: u64, op: &str, value: u64| json!({"index": index, "op": op, "value": value});
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": [arg(0, "SCMP_CMP_EQ", 17)]},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [arg(1, "SCMP_CMP_NE", 5)]},
        {"names": ["socket"], "action": "SCMP_ACT_KILL", "args": [arg(0, "SCMP_CMP_EQ", 16), arg(2, "SCMP_CMP_EQ", 9)]}
    ]});
    let after = rewritten(&profile).unwrap();
    assert_eq!(ways_out(&after), [""; 0]);
    for (passes, call) in [
        (true, [2, 1, 0, 0, 0, 0]),
        (false, [2, 5, 0, 0, 0, 0]),
        (false, [17, 1, 0, 0, 0, 0]),
        (false, [16, 1, 9, 0, 0, 0]),
    ] {
        assert_eq!(may_pass(&after, Arch::X86_64, "socket", call), passes, "{call:?}");
    }
}

#[test]
fn what_somebody_else_decides_or_nobody_understands_is_refused() {
    let why = |profile: Value| rewritten(&profile).unwrap_err().to_string();
    for action in ["SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_NEW"] {
        assert!(why(json!({"defaultAction": action})).contains("another process"));
        let rules = json!([{"names": ["socket"], "action": action}]);
        assert!(why(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})).contains("another process"));
    }
    for malformed in [
        json!(1),
        json!({}),
        json!({"defaultAction": 1}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ALLOW"}]}),
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": "socket", "action": "SCMP_ACT_ALLOW"}]}),
    ] {
        assert!(why(malformed).contains("malformed"));
    }
    assert!(deny(&mut json!({})).is_err());
}

#[test]
fn what_libseccomp_merges_wrongly_is_refused() {
    let arg = |index: u64, op: &str, value: u64| json!({"index": index, "op": op, "value": value});
    let rule = |action: &str, args: &[Value]| json!({"names": ["socket"], "action": action, "args": args});
    let (allow, errno) = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO");
    for (default, rule) in [
        (
            allow,
            rule(errno, &[arg(0, "SCMP_CMP_NE", u64::MAX), arg(2, "SCMP_CMP_LT", 40)]),
        ),
        (errno, rule(allow, &[arg(1, "SCMP_CMP_LE", 1)])),
    ] {
        let refused = rewritten(&json!({"defaultAction": default, "syscalls": [rule]})).unwrap_err();
        assert!(refused.to_string().contains("other than equality"), "{refused}");
    }
    // Families are counted out.
    let families = json!({"defaultAction": errno, "syscalls": [rule(allow, &[arg(0, "SCMP_CMP_LE", 40)])]});
    let after = rewritten(&families).unwrap();
    assert_eq!(ways_out(&after), [""; 0]);
    assert!(may_pass(&after, Arch::X86_64, "socket", [39, 1, 0, 0, 0, 0]));
    assert!(!may_pass(&after, Arch::X86_64, "socket", [41, 1, 0, 0, 0, 0]));
}

#[test]
fn blocks_hold_their_families_and_no_other() {
    for families in [
        0,
        1,
        u64::MAX,
        !(1 << 40),
        !(1 << 40 | 1 << 16),
        1 << 63,
        0x5555_5555_5555_5555,
    ] {
        let blocks = blocks(families);
        for number in 0..FAMILIES {
            let hits = |number: u64| blocks.iter().filter(|(mask, value)| number & mask == *value).count();
            assert_eq!(
                hits(number),
                usize::from(families >> number & 1 == 1),
                "{number} in {blocks:?}"
            );
            assert_eq!(hits(number + FAMILIES), 0);
        }
    }
}

fn an_action() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        3 => Just("SCMP_ACT_ALLOW"),
        3 => Just("SCMP_ACT_ERRNO"),
        1 => Just("SCMP_ACT_LOG"),
        1 => Just("SCMP_ACT_KILL"),
        1 => Just("SCMP_ACT_TRAP"),
    ]
}

fn a_rule() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec![
        "socket",
        "socket",
        "socketcall",
        "io_uring_setup",
        "io_uring_enter",
        "read",
    ]);
    let op = prop::sample::select(vec!["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"]);
    let number = prop::sample::select(vec![
        0,
        1,
        2,
        9,
        16,
        39,
        40,
        41,
        LOW_32,
        1 << 32,
        1 << 32 | 40,
        u64::MAX,
    ]);
    let arg = (0..3_u64, op, number.clone(), number).prop_map(|(index, op, value, two)| {
        json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": two})
    });
    let names = prop::collection::vec(name, 1..3);
    let errno = prop::sample::select(vec![1, 22, 38]);
    (names, an_action(), prop::collection::vec(arg, 0..3), errno).prop_map(|(names, action, args, errno)| {
        let mut rule = json!({"names": names, "action": action, "args": args});
        if action == "SCMP_ACT_ERRNO" {
            rule["errnoRet"] = json!(errno);
        }
        rule
    })
}

fn a_profile() -> impl Strategy<Value = Value> {
    let errno = prop::sample::select(vec![1, 38]);
    (an_action(), errno, prop::collection::vec(a_rule(), 0..6)).prop_map(|(action, errno, rules)| {
        let mut profile = json!({"defaultAction": action, "syscalls": rules});
        if action == "SCMP_ACT_ERRNO" {
            profile["defaultErrnoRet"] = json!(errno);
        }
        profile
    })
}

/// Whether a rule for `socket` has a condition that is none of equality.
fn has_inequality(profile: &Value) -> bool {
    let rules = profile["syscalls"].as_array().into_iter().flatten();
    let mut args = rules
        .filter(|rule| rule["names"].as_array().unwrap().contains(&json!("socket")))
        .flat_map(|rule| rule["args"].as_array().unwrap());
    args.any(|arg| !["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ"].contains(&arg["op"].as_str().unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_leaves_no_way_out_and_opens_no_family(profile in a_profile()) {
        if denied(&profile) {
            prop_assert_eq!(ways_out(&profile), [""; 0]);
        }
        let Ok(after) = rewritten(&profile) else {
            prop_assert!(has_inequality(&profile), "{}", profile);
            return Ok(());
        };
        prop_assert_eq!(ways_out(&after), [""; 0]);
        prop_assert_eq!(&rewritten(&after).unwrap(), &after);
        for family in OTHER_FAMILIES {
            let call = [family, 1, 9, 0, 0, 0];
            let opened = may_pass(&after, Arch::X86_64, "socket", call) && !may_pass(&profile, Arch::X86_64, "socket", call);
            prop_assert!(!opened, "{} by {}", family, after);
        }
    }
}
