//! Seccomp profiles of OCI configurations, as crun and runc hand them to libseccomp, and whether one denies AF_VSOCK.
//!
//! What a profile does is not what it says at first sight. Of libseccomp 2.5 and both runtimes:
//!
//! - A rule whose action is the default's, errno included, is left out.
//! - A rule without conditions wins over every rule with conditions for the same call; of several the first wins.
//! - A rule that has two conditions on one argument becomes one rule for each of its conditions.
//! - Where `socketcall` exists (32-bit x86), a rule for `socket` becomes one for `socketcall`, too, and there its condition
//!   on the family is lost: permitting any family permits all.
//! - What applies where a comparison is *not* so (`!=`, and less and greater) hides rules that come later in libseccomp's
//!   order, and it merges less and greater wrongly now and then.
//! - Arguments are compared in 64 bits, but the kernel takes a family for an `int`: `!= 40` lets 2^32 + 40 through.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The family that no table sees.
pub(super) const AF_VSOCK: u64 = 40;
/// What makes a socket without `socket`, or hides its arguments behind a pointer. `io_uring_enter` is for a ring that somebody handed in.
pub(super) const WAYS_ROUND: [&str; 3] = ["socketcall", "io_uring_setup", "io_uring_enter"];

/// `linux.seccomp`. What is not looked at is kept as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<u32>,
    /// In the runtimes' order.
    #[serde(default)]
    pub(super) syscalls: Option<Vec<Rule>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// One of `syscalls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    pub(super) names: Vec<String>,
    pub(super) action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) errno_ret: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) args: Option<Vec<Condition>>,
    #[serde(flatten)]
    pub(super) rest: Map<String, Value>,
}

/// One of `args`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    pub(super) index: u32,
    pub(super) value: u64,
    #[serde(default)]
    pub(super) value_two: u64,
    pub(super) op: String,
}

/// What an action comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Permits,
    Denies,
    /// Somebody else decides (a tracer, an agent), or nobody knows.
    Open,
}

fn effect(action: &str) -> Effect {
    match action {
        "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" => Effect::Permits,
        "SCMP_ACT_ERRNO" | "SCMP_ACT_TRAP" => Effect::Denies,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_KILL_PROCESS" => Effect::Denies,
        _ => Effect::Open,
    }
}

const EPERM: u32 = 1;

/// An action as the runtimes compare it with the default.
fn normal(action: &str, errno: Option<u32>) -> (&str, u32) {
    match action {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ("SCMP_ACT_KILL", 0),
        "SCMP_ACT_ERRNO" => (action, errno.unwrap_or(EPERM)),
        _ => (action, 0),
    }
}

impl Condition {
    /// Whether it holds for a first argument of exactly this value.
    pub(super) fn holds(&self, number: u64) -> bool {
        match self.op.as_str() {
            "SCMP_CMP_EQ" => number == self.value,
            "SCMP_CMP_NE" => number != self.value,
            "SCMP_CMP_LT" => number < self.value,
            "SCMP_CMP_LE" => number <= self.value,
            "SCMP_CMP_GT" => number > self.value,
            "SCMP_CMP_GE" => number >= self.value,
            "SCMP_CMP_MASKED_EQ" => number & self.value == self.value_two & self.value,
            // Not understood: holds for none, which closes where it is asked for what to permit.
            _ => false,
        }
    }

    /// Whether it can hold for a call whose first argument the kernel takes for AF_VSOCK, whatever its upper half is.
    fn may_hold_for_vsock(&self) -> bool {
        let low = |number: u64| number & 0xffff_ffff;
        match (self.index, self.op.as_str()) {
            (0, "SCMP_CMP_EQ") => low(self.value) == AF_VSOCK,
            (0, "SCMP_CMP_MASKED_EQ") => (AF_VSOCK ^ self.value_two) & low(self.value) == 0,
            _ => true,
        }
    }

    /// Whether it holds for every such call.
    fn always_holds_for_vsock(&self) -> bool {
        self.index == 0
            && self.op == "SCMP_CMP_MASKED_EQ"
            && self.value <= 0xffff_ffff
            && (AF_VSOCK ^ self.value_two) & self.value == 0
    }
}

impl Rule {
    pub(super) fn effect(&self) -> Effect {
        effect(&self.action)
    }

    pub(super) fn is_for(&self, name: &str) -> bool {
        self.names.iter().any(|own| own == name)
    }

    /// Its conditions as the runtimes read them: it applies if all of any one of these hold.
    pub(super) fn alternatives(&self) -> Vec<Vec<Condition>> {
        let args = self.args.as_deref().unwrap_or_default();
        let repeated = (0..args.len()).any(|at| args[..at].iter().any(|other| other.index == args[at].index));
        if repeated {
            args.iter().map(|arg| vec![arg.clone()]).collect()
        } else {
            vec![args.to_vec()]
        }
    }

    /// Whether it does what it says beside other rules. A rule that is hidden may not be one that denies.
    fn is_merged_well(&self, default: Effect) -> bool {
        let well = |arg: &Condition| match arg.op.as_str() {
            "SCMP_CMP_EQ" | "SCMP_CMP_MASKED_EQ" => true,
            "SCMP_CMP_NE" => default == Effect::Denies && arg.index > 0,
            _ => false,
        };
        self.args.iter().flatten().all(well)
    }

    fn is_unconditional(&self) -> bool {
        self.args.as_deref().unwrap_or_default().is_empty()
    }

    fn may_apply_to_vsock(&self) -> bool {
        let may = |all: &Vec<Condition>| all.iter().all(Condition::may_hold_for_vsock);
        self.alternatives().iter().any(may)
    }

    fn always_applies_to_vsock(&self) -> bool {
        // Of several conditions the runtimes may leave some out.
        match self.args.as_deref().unwrap_or_default() {
            [] => true,
            [only] => only.always_holds_for_vsock(),
            _ => false,
        }
    }
}

impl Profile {
    /// One that permits everything.
    pub(super) fn permitting(architectures: &[&str]) -> Self {
        let mut rest = Map::new();
        if !architectures.is_empty() {
            rest.insert("architectures".to_owned(), architectures.into());
        }
        Self {
            default_action: "SCMP_ACT_ALLOW".to_owned(),
            default_errno_ret: None,
            syscalls: None,
            rest,
        }
    }

    pub(super) fn default_effect(&self) -> Effect {
        effect(&self.default_action)
    }

    /// Whether a rule for this action would be left out, since the default does the same.
    pub(super) fn is_default(&self, action: &str, errno: Option<u32>) -> bool {
        normal(action, errno) == normal(&self.default_action, self.default_errno_ret)
    }

    fn rules_for<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rule> {
        self.syscalls.iter().flatten().filter(move |rule| rule.is_for(name))
    }

    /// Whether it is certain that no program under it makes an AF_VSOCK socket.
    pub fn denies_vsock(&self) -> bool {
        let default = self.default_effect();
        if default == Effect::Open {
            return false;
        }
        let permitting = |rule: &&Rule| rule.effect() != Effect::Denies;
        let barred = |name| {
            self.rules_for(name).any(|rule| {
                rule.effect() == Effect::Denies
                    && rule.is_unconditional()
                    && !self.is_default(&rule.action, rule.errno_ret)
            })
        };
        let round = WAYS_ROUND.iter().any(|name| {
            self.rules_for(name).any(|rule| permitting(&rule)) || (default == Effect::Permits && !barred(name))
        });
        let mut permits = self.rules_for("socket").filter(permitting);
        let mut denials = self
            .rules_for("socket")
            .filter(|rule| rule.effect() == Effect::Denies && rule.always_applies_to_vsock());
        let merged_well = self.rules_for("socket").all(|rule| rule.is_merged_well(default));
        if round || !merged_well || permits.any(Rule::may_apply_to_vsock) {
            return false;
        }
        match default {
            Effect::Permits => denials.next().is_some(),
            // Whatever family is permitted: `socketcall` is, for all, unless it is barred by name.
            _ => self.rules_for("socket").all(|rule| !permitting(&rule)) || barred("socketcall"),
        }
    }
}
