//! AF_VSOCK is no IP and meets no table: seccomp denies it. `precreate` narrows the profile that the container would get;
//! where that did not run, `createRuntime` refuses what could get through to a vsock of the host.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Refusal;
use super::seccomp::{AF_VSOCK, Condition, Effect, Profile, Rule, WAYS_ROUND};

/// Families below this are known (`AF_MAX` is 46 in Linux 6.18). What is above is left to the profile's default.
const FAMILIES: u64 = 64;
const LOW_32: u64 = 0xffff_ffff;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;
/// More conditions than a call has arguments: the runtimes do not agree on what that is.
const CONDITIONS: usize = 6;

/// Makes `linux.seccomp` of a configuration deny AF_VSOCK. One that does is left alone.
pub(super) fn deny(config: &mut Value) -> Result<(), Refusal> {
    let linux = config
        .get_mut("linux")
        .and_then(Value::as_object_mut)
        .ok_or_else(|| Refusal::new("the configuration has no linux section"))?;
    let profile = match linux.get("seccomp") {
        None | Some(Value::Null) => Profile::permitting(architectures()),
        Some(value) => Profile::deserialize(value)
            .map_err(|error| Refusal::new(format!("the configuration's linux.seccomp is malformed: {error}")))?,
    };
    if profile.denies_vsock() {
        return Ok(());
    }
    let narrowed = narrowed(profile)?;
    if !narrowed.denies_vsock() {
        return Err(Refusal::new(
            "the seccomp profile cannot be made to deny AF_VSOCK: libseccomp does not merge its rules for socket well, which \
             have conditions other than equality (SCMP_CMP_NE, LT, LE, GT, GE)",
        ));
    }
    let value = serde_json::to_value(narrowed)
        .map_err(|error| Refusal::new(format!("the seccomp profile cannot be written: {error}")))?;
    linux.insert("seccomp".to_owned(), value);
    Ok(())
}

/// Refuses a profile that permits AF_VSOCK where the host has it.
pub(super) fn check(profile: Option<&Profile>) -> Result<(), Refusal> {
    if profile.is_some_and(Profile::denies_vsock) || !host_has_vsock() {
        return Ok(());
    }
    Err(Refusal::new(
        "the container could use AF_VSOCK, which no firewall sees: our precreate hook did not run; start it by podman \
         with the hooks of `terok-shield setup`, or with a seccomp profile that denies AF_VSOCK, socketcall and io_uring",
    ))
}

/// A socket tells most: the kernel loads what it needs for one, as it would for the container's.
fn host_has_vsock() -> bool {
    let misc = std::fs::read_to_string("/proc/misc").unwrap_or_default();
    let socket = || socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    misc.lines().any(|line| line.split_whitespace().last() == Some("vsock"))
        || Path::new("/dev/vsock").exists()
        || socket().err() != Some(Errno::EAFNOSUPPORT)
}

/// A profile that names no architecture kills what is of another one than the machine's.
fn architectures() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &[],
    }
}

/// The profile without AF_VSOCK. A denial beside a rule that permits `socket` would lose, so that rule is made to permit
/// the other families alone.
fn narrowed(mut profile: Profile) -> Result<Profile, Refusal> {
    let delegated = |what: &str| {
        Refusal::new(format!(
            "the seccomp profile leaves {what} to another process (SCMP_ACT_TRACE, SCMP_ACT_NOTIFY), which might permit AF_VSOCK"
        ))
    };
    let default = profile.default_effect();
    if default == Effect::Open {
        return Err(delegated("its default action"));
    }
    // What the default does, the runtimes leave out; and then `socketcall` would be as open as `socket` is for one family.
    let errno = [ENOSYS, EPERM]
        .into_iter()
        .find(|errno| !profile.is_default("SCMP_ACT_ERRNO", Some(*errno)));
    // In front, so that it stands before libseccomp makes rules for `socketcall` of those for `socket`.
    let mut rules = vec![denial(&WAYS_ROUND, errno, None)];
    let mut permits = Permits::default();
    let mut denials = Vec::new();
    for mut rule in profile.syscalls.take().unwrap_or_default() {
        let socket = rule.is_for("socket");
        let concerned = socket || WAYS_ROUND.iter().any(|name| rule.is_for(name));
        if concerned && rule.effect() == Effect::Open {
            return Err(delegated("socket"));
        }
        if socket && rule.effect() == Effect::Denies {
            denials.extend(conditions(&rule)?);
        }
        if concerned && rule.effect() == Effect::Permits {
            // What the default permits needs no rule.
            if socket && default == Effect::Denies {
                permits.add(&rule)?;
            }
            rule.names
                .retain(|name| name != "socket" && !WAYS_ROUND.contains(&name.as_str()));
        }
        if !rule.names.is_empty() {
            rules.push(rule);
        }
    }
    if default == Effect::Permits {
        rules.push(denial(
            &["socket"],
            Some(EAFNOSUPPORT),
            Some(vec![family(LOW_32, AF_VSOCK)]),
        ));
    }
    permits.respect(&denials);
    rules.extend(permits.rules());
    profile.syscalls = Some(rules);
    Ok(profile)
}

fn denial(names: &[&str], errno: Option<u32>, args: Option<Vec<Condition>>) -> Rule {
    Rule {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        action: "SCMP_ACT_ERRNO".to_owned(),
        errno_ret: errno,
        args,
        rest: Map::new(),
    }
}

fn family(mask: u64, value: u64) -> Condition {
    Condition {
        index: 0,
        value: mask,
        value_two: value,
        op: "SCMP_CMP_MASKED_EQ".to_owned(),
    }
}

/// A rule for `socket`: families, a bit for each, with conditions on the other arguments.
fn conditions(rule: &Rule) -> Result<Vec<(u64, Vec<Condition>)>, Refusal> {
    if rule.args.as_ref().is_some_and(|args| args.len() > CONDITIONS) {
        return Err(Refusal::new(
            "a rule of the seccomp profile has more conditions than a call has arguments",
        ));
    }
    let split = |all: Vec<Condition>| {
        let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.index == 0);
        let families = (0..FAMILIES)
            .filter(|&number| own.iter().all(|one| one.holds(number)))
            .fold(0, |bits, number| bits | 1 << number);
        (families, others)
    };
    Ok(rule.alternatives().into_iter().map(split).collect())
}

/// Whether it is plain that both cannot hold.
fn contradict(one: &[Condition], other: &[Condition]) -> bool {
    one.iter().any(|a| {
        other.iter().any(|b| {
            let opposite = |ops: (&str, &str)| ops == ("SCMP_CMP_EQ", "SCMP_CMP_NE");
            let ops = opposite((&a.op, &b.op)) || opposite((&b.op, &a.op));
            a.index == b.index && a.value == b.value && ops
        })
    })
}

/// What a profile permits of `socket`, by the conditions on its other arguments.
#[derive(Debug, Default)]
struct Permits(Vec<Permit>);

#[derive(Debug)]
struct Permit {
    action: String,
    others: Vec<Condition>,
    /// A bit for each family.
    families: u64,
}

impl Permits {
    fn add(&mut self, rule: &Rule) -> Result<(), Refusal> {
        for (families, others) in conditions(rule)? {
            let families = families & !(1 << AF_VSOCK);
            let same = |permit: &&mut Permit| permit.action == rule.action && permit.others == others;
            match self.0.iter_mut().find(same) {
                Some(permit) => permit.families |= families,
                None => self.0.push(Permit {
                    action: rule.action.clone(),
                    others,
                    families,
                }),
            }
        }
        Ok(())
    }

    /// Where a denial and a permit may meet, libseccomp goes by an order of its own, which narrowing would change.
    fn respect(&mut self, denials: &[(u64, Vec<Condition>)]) {
        for permit in &mut self.0 {
            for (families, others) in denials {
                if !contradict(&permit.others, others) {
                    permit.families &= !families;
                }
            }
        }
    }

    /// No family stands in two rules of which one is without other conditions: libseccomp calls some such pairs conflicts.
    fn rules(mut self) -> Vec<Rule> {
        self.0.sort_by_key(|permit| !permit.others.is_empty());
        let mut covered = 0;
        let mut rules = Vec::new();
        for permit in self.0 {
            let families = permit.families & !covered;
            if permit.others.is_empty() {
                covered |= families;
            }
            for (mask, value) in blocks(families) {
                let mut args = vec![family(mask, value)];
                args.extend(permit.others.iter().cloned());
                rules.push(Rule {
                    names: vec!["socket".to_owned()],
                    action: permit.action.clone(),
                    errno_ret: None,
                    args: Some(args),
                    rest: Map::new(),
                });
            }
        }
        rules
    }
}

/// These families as few aligned blocks (mask, value) of the low 32 bits, which is what the kernel looks at.
fn blocks(families: u64) -> Vec<(u64, u64)> {
    let has = |number: u64| families >> number & 1 == 1;
    let mut found = Vec::new();
    let mut first = 0;
    while first < FAMILIES {
        let mut size = 1;
        if has(first) {
            while first % (2 * size) == 0 && first + 2 * size <= FAMILIES && (first..first + 2 * size).all(has) {
                size *= 2;
            }
            found.push((LOW_32 & !(size - 1), first));
        }
        first += size;
    }
    found
}

#[cfg(test)]
mod tests;
