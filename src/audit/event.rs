//! One line of the audit log.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Longest string in an event, in characters. Strings may come from a container.
const STRING_LIMIT: usize = 256;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A container was shielded at its start.
    Setup,
    /// The operator allowed a target.
    Allowed,
    /// The operator denied a target.
    Denied,
    /// Enforcing again.
    ShieldUp,
    /// Public destinations pass.
    ShieldDown,
    /// Nothing passes.
    ShieldBlock,
    /// Something that the operator should know.
    Note,
    /// Something failed.
    Error,
    /// A connection to a listed destination began.
    ConnectionAllowed,
    /// A packet to a destination that nothing lists was refused.
    Blocked,
    /// A packet to a private or reserved destination was refused.
    Private,
    /// A packet to a destination that the operator denied was refused.
    RefusedByDeny,
    /// A connection passed because the shield is down.
    Bypassed,
    /// A question for a name that is not listed was refused.
    NameBlocked,
    /// The kernel could not deliver entries of the packet log.
    LogLost,
}

/// One event. Fields that do not apply are absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Event {
    /// RFC 3339 with milliseconds, UTC.
    pub ts: String,
    /// The container's name.
    pub container: String,
    /// What happened.
    pub action: Action,
    /// Address of the far end, or the target as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest: Option<String>,
    /// Port of the far end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `tcp`, `udp`, `icmp`, `icmpv6`, or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<String>,
    /// The name that led to the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How many packets this line stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// The sender's uid inside the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The sender's program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
}

impl Event {
    /// An event of now, with nothing but what every event has.
    #[must_use]
    pub fn new(container: &str, action: Action) -> Self {
        Self {
            ts: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            container: bounded(container),
            action,
            dest: None,
            port: None,
            proto: None,
            domain: None,
            detail: None,
            packets: None,
            uid: None,
            program: None,
        }
    }

    /// With a destination in words.
    #[must_use]
    pub fn dest(mut self, dest: impl AsRef<str>) -> Self {
        self.dest = Some(bounded(dest.as_ref()));
        self
    }

    /// With the name that stands behind the destination.
    #[must_use]
    pub fn domain(mut self, domain: impl AsRef<str>) -> Self {
        self.domain = Some(bounded(domain.as_ref()));
        self
    }

    /// With a remark for people.
    #[must_use]
    pub fn detail(mut self, detail: impl AsRef<str>) -> Self {
        self.detail = Some(bounded(detail.as_ref()));
        self
    }

    /// With addresses as the remark.
    #[must_use]
    pub fn addresses(self, addresses: &[IpAddr]) -> Self {
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        self.detail(list.join(" "))
    }
}

fn bounded(text: &str) -> String {
    printable(text, STRING_LIMIT)
}

/// Cut to `limit` characters; control characters, which could forge lines on a terminal, become `?`.
#[must_use]
pub fn printable(text: &str, limit: usize) -> String {
    text.chars()
        .map(|c| if c.is_control() || is_bidi(c) { '?' } else { c })
        .take(limit)
        .collect()
}

/// Characters that reorder what a terminal shows (Unicode 15, 5.21).
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_cut_and_cannot_forge_a_terminal() {
        let event = Event::new("web", Action::Note).detail(format!("\u{1b}[2J\n\u{202e}{}", "x".repeat(400)));
        let detail = event.detail.unwrap();
        assert!(detail.starts_with("?[2J??x"));
        assert_eq!(detail.chars().count(), 256);
    }

    #[test]
    fn absent_fields_are_absent_in_the_line() {
        let line = serde_json::to_string(&Event::new("web", Action::Setup)).unwrap();
        assert!(line.ends_with(r#""container":"web","action":"setup"}"#), "{line}");
    }
}
