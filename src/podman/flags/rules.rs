//! What each flag's value may be. One rule a flag, every reading of a value that some podman has.

use super::publish::PublishedPort;
use super::{FlagError, network, shown};
use crate::podman::{ANNOTATION_PREFIX, SEAL_SYSCTL_PREFIX};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nothing in it touches the shield, or the hook looks at what comes of it.
    Pass,
    /// Never.
    Refuse(&'static str),
    /// Only as `=false`.
    RefuseTrue(&'static str),
    /// Only as the number 0.
    Zero(&'static str),
    Annotation,
    CapAdd,
    Device,
    Environment,
    LogDriver,
    Network,
    Pid,
    Publish,
    Sysctl,
    Userns,
}

/// Judges one value; for `--publish` returns its ports.
pub(super) fn judge(rule: Rule, value: &str, typed: &str) -> Result<Vec<PublishedPort>, FlagError> {
    let refuse = |reason: &str| {
        Err(FlagError::Refused {
            flag: shown(typed),
            reason: reason.to_owned(),
        })
    };
    // Go's CSV reader looks at the first line alone; nothing that is judged has any business with a second.
    if !matches!(rule, Rule::Pass | Rule::Environment) && value.contains(char::is_control) {
        return refuse("control characters in the value; leave them out");
    }
    let verdict = match rule {
        Rule::Pass => Ok(()),
        Rule::Refuse(reason) => Err(reason.to_owned()),
        Rule::RefuseTrue(reason) if value != "false" => Err(reason.to_owned()),
        Rule::Zero(reason) if value != "0" => Err(reason.to_owned()),
        Rule::RefuseTrue(_) | Rule::Zero(_) => Ok(()),
        Rule::Annotation => each_reading(value, annotation),
        Rule::CapAdd => each_reading(value, capability),
        Rule::Device => each_reading(value, device),
        Rule::Sysctl => each_reading(value, sysctl),
        Rule::Environment => environment(value),
        Rule::LogDriver => log_driver(value),
        Rule::Network => network::network(value),
        Rule::Pid => pid(value),
        Rule::Userns => userns(value),
        Rule::Publish => return publish(value, typed),
    };
    match verdict {
        Ok(()) => Ok(Vec::new()),
        Err(reason) => refuse(&reason),
    }
}

/// pflag's string slices split a value as CSV, its string arrays don't, and podman has moved flags from one to the other
/// (`--annotation` and `--device` in 5.0): both readings must be harmless.
fn each_reading(value: &str, judge: fn(&str) -> Result<(), String>) -> Result<(), String> {
    judge(value)?;
    split_csv(value)
        .unwrap_or_default()
        .iter()
        .try_for_each(|item| judge(item))
}

/// One line as Go's `encoding/csv` splits it; `None` where that reader refuses (and podman with it).
pub(super) fn split_csv(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if !rest.starts_with('"') && field.contains('"') {
            return None;
        }
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(fields),
            None => return None,
        }
    }
}

/// The field after an opening quote, and what follows its closing quote.
fn quoted_field(mut rest: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    loop {
        let quote = rest.find('"')?;
        field.push_str(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Some((field, rest)),
        }
    }
}

fn annotation(item: &str) -> Result<(), String> {
    let key = item.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
    if key.starts_with(ANNOTATION_PREFIX) {
        return Err("terok-shield sets its own annotations; use --profiles and --allow".to_owned());
    }
    if crate::podman::RUNTIME_ANNOTATIONS
        .iter()
        .any(|prefix| key.starts_with(prefix))
    {
        return Err("it changes what the runtime runs and which hooks; leave it out".to_owned());
    }
    Ok(())
}

fn capability(item: &str) -> Result<(), String> {
    let upper = item.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" || crate::podman::FORBIDDEN_CAPABILITIES.contains(&name) {
        return Err(format!(
            "with {name} the container could undo its firewall; leave it out"
        ));
    }
    Ok(())
}

fn device(item: &str) -> Result<(), String> {
    let source = item.split(':').next().unwrap_or_default();
    let mut path: Vec<&str> = Vec::new();
    for component in source.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            name => path.push(name),
        }
    }
    let vsock = matches!(path.last(), Some(&"vsock" | &"vhost-vsock"));
    // a directory stands for every device below it
    let everything = source.starts_with('/') && (path.is_empty() || path == ["dev"]);
    if vsock || everything {
        return Err(
            "AF_VSOCK reaches the hypervisor past every firewall rule; name other devices one by one".to_owned(),
        );
    }
    Ok(())
}

fn sysctl(item: &str) -> Result<(), String> {
    let key = item
        .split('=')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
        .replace('/', ".");
    let below = key.strip_prefix(SEAL_SYSCTL_PREFIX);
    if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
        return Err("this is the seal, which terok-shield sets itself; leave it out".to_owned());
    }
    Ok(())
}

fn environment(item: &str) -> Result<(), String> {
    let (name, bare) = match item.split_once('=') {
        Some((name, _)) => (name, false),
        None => (item, true),
    };
    // without a value, a trailing * takes every variable of the host with that prefix
    let glob = bare && name.ends_with('*') && name.starts_with("LISTEN_");
    if glob || matches!(name, "LISTEN_FDS" | "LISTEN_PID" | "LISTEN_FDNAMES") {
        return Err("it announces inherited sockets, and a shielded container gets none; leave it out".to_owned());
    }
    Ok(())
}

fn pid(value: &str) -> Result<(), String> {
    match value {
        "" | "private" => Ok(()),
        _ => Err("the container would share a pid namespace and see processes outside it; leave it out".to_owned()),
    }
}

fn log_driver(value: &str) -> Result<(), String> {
    if value.starts_with("passthrough") {
        return Err(
            "it hands terok-shield's own descriptors to the container, sockets too; use another driver".to_owned(),
        );
    }
    Ok(())
}

fn userns(value: &str) -> Result<(), String> {
    let mode = value.split(':').next().unwrap_or_default();
    match mode {
        "" | "host" | "private" | "auto" | "keep-id" | "nomap" => Ok(()),
        _ => Err("the user namespace would be another container's, which could own this one's firewall; use host, auto, keep-id or nomap".to_owned()),
    }
}

fn publish(value: &str, typed: &str) -> Result<Vec<PublishedPort>, FlagError> {
    let bad = |reason| FlagError::Publish {
        flag: shown(typed),
        reason,
    };
    let Some(items) = split_csv(value) else {
        return Err(bad(super::BadPort::Quotes));
    };
    let mut ports = Vec::new();
    for item in &items {
        ports.extend(PublishedPort::parse_flag(item).map_err(bad)?);
    }
    Ok(ports)
}
