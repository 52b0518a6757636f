//! `precreate`: breaks the seal, if everything is in place, and has seccomp deny what no table sees.
//!
//! The seal is a sysctl that no kernel has. Podman silently ignores a missing hooks directory, file or binary; the
//! runtime does not ignore the seal, and fails. This hook takes it out only if the very configuration that the runtime
//! will get names our `createRuntime` hook, and that hook is this binary.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use super::{Refusal, Subject, Surroundings, name, surroundings, vsock};
use crate::podman::SEAL_SYSCTL;

pub(super) fn run(input: &[u8], about: &mut Subject) -> Result<(), Refusal> {
    let mut config: Value = serde_json::from_slice(input)
        .map_err(|error| Refusal::new(format!("the configuration on standard input is malformed: {error}")))?;
    let annotations = serde_json::from_value(config.get("annotations").cloned().unwrap_or_default())
        .map_err(|error| Refusal::new(format!("the configuration's annotations are malformed: {error}")))?;
    about.surroundings = Some(Surroundings::discover(&annotations)?);
    if surroundings::is_shielded(&annotations) {
        // Podman does not say here what it calls the container.
        about.name = name::annotated(&annotations)?;
        names_our_hook(&config)?;
        vsock::deny(&mut config)?;
        // An unshielded container with a seal stays sealed.
        if let Some(sysctl) = config.pointer_mut("/linux/sysctl").and_then(Value::as_object_mut) {
            sysctl.remove(SEAL_SYSCTL);
        }
    }
    let mut output = std::io::stdout().lock();
    serde_json::to_writer(&mut output, &config)
        .map_err(std::io::Error::from)
        .and_then(|()| output.flush())
        .map_err(|error| Refusal::new(format!("cannot write the configuration: {error}")))
}

/// The configuration must run this binary, as `hook createRuntime`, at the stage `createRuntime`.
pub(super) fn names_our_hook(config: &Value) -> Result<(), Refusal> {
    let own = identity("/proc/self/exe").ok_or_else(|| Refusal::new("cannot examine our own binary"))?;
    let found = config
        .pointer("/hooks/createRuntime")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|hook| {
            let arguments: Vec<&str> = hook
                .get("args")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let path = hook.get("path").and_then(Value::as_str);
            arguments.get(1..) == Some(&["hook", "createRuntime"]) && path.and_then(identity) == Some(own)
        });
    if found {
        Ok(())
    } else {
        Err(Refusal::new(
            "the hook that applies the firewall is not installed or not this binary; run `terok-shield setup --user`",
        ))
    }
}

fn identity(path: &str) -> Option<(u64, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(path: &str, args: &[&str]) -> Value {
        json!({"hooks": {"createRuntime": [{"path": path, "args": args}]}})
    }

    #[test]
    fn the_seal_is_broken_only_for_this_very_binary_at_the_right_stage() {
        let own = std::fs::read_link("/proc/self/exe").unwrap();
        let own = own.to_str().unwrap();
        names_our_hook(&config(own, &["terok-shield", "hook", "createRuntime"])).unwrap();
        for bad in [
            config(own, &["terok-shield", "hook", "poststop"]),
            config(own, &["terok-shield", "hook"]),
            config("/bin/true", &["terok-shield", "hook", "createRuntime"]),
            config("/nonexistent", &["terok-shield", "hook", "createRuntime"]),
            json!({"hooks": {"poststop": [{"path": own, "args": ["x", "hook", "createRuntime"]}]}}),
            json!({"hooks": {}}),
            json!({}),
        ] {
            assert!(names_our_hook(&bad).is_err(), "{bad}");
        }
    }
}
