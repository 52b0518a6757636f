//! What cannot be protected, and is refused: pure decisions on what the runtime says it will do.

use super::Refusal;
use super::oci::{Namespace, Spec};
use crate::podman::{FORBIDDEN_CAPABILITIES, RUNTIME_ANNOTATIONS};

/// Refuses what takes the protection away whatever the table says.
pub fn check(spec: &Spec) -> Result<(), Refusal> {
    namespaces(&spec.linux.namespaces)?;
    capabilities(spec)?;
    annotations(spec)?;
    // Descriptors that were opened elsewhere reach the network of elsewhere.
    if spec.process.env.iter().any(|entry| entry.starts_with("LISTEN_FDS=")) {
        return Err(Refusal::new(
            "the container inherits sockets (LISTEN_FDS): they were opened outside its network namespace",
        ));
    }
    Ok(())
}

/// Podman's own, of `--group-add keep-groups`.
const HARMLESS_ANNOTATION: &str = "run.oci.keep_original_groups";

fn annotations(spec: &Spec) -> Result<(), Refusal> {
    let steers = |key: &&String| {
        key.as_str() != HARMLESS_ANNOTATION && RUNTIME_ANNOTATIONS.iter().any(|prefix| key.starts_with(prefix))
    };
    match spec.annotations.keys().find(steers) {
        Some(key) => Err(Refusal::new(format!(
            "the annotation {key} changes what the runtime does"
        ))),
        None => Ok(()),
    }
}

fn namespaces(namespaces: &[Namespace]) -> Result<(), Refusal> {
    let find = |kind: &str| namespaces.iter().find(|namespace| namespace.kind == kind);
    if find("network").is_none() {
        return Err(Refusal::new(
            "the container has no network namespace of its own (--network host)",
        ));
    }
    match find("pid") {
        None => Err(Refusal::new(
            "the container has no pid namespace of its own (--pid host)",
        )),
        Some(Namespace { path: Some(_), .. }) => Err(Refusal::new(
            "the container shares a pid namespace (--pid container: or ns:)",
        )),
        Some(_) => Ok(()),
    }
}

fn capabilities(spec: &Spec) -> Result<(), Refusal> {
    // Without the field a runtime gives what it has itself.
    let Some(sets) = &spec.process.capabilities else {
        return Err(Refusal::new(
            "the container's configuration does not limit its capabilities",
        ));
    };
    for (set, names) in sets {
        for name in names.iter().flatten() {
            let name = name.to_ascii_uppercase();
            let bare = name.strip_prefix("CAP_").unwrap_or(&name);
            if FORBIDDEN_CAPABILITIES.contains(&bare) {
                return Err(Refusal::new(format!(
                    "the container has {name} ({set}), with which it could get round the firewall (--privileged or --cap-add)"
                )));
            }
        }
    }
    Ok(())
}

/// Runtimes whose hooks were shown to run before the program.
const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// Refuses a runtime that is not known to run hooks as the specification says.
pub fn runtime(program: Option<&str>) -> Result<(), Refusal> {
    match program {
        Some(name) if RUNTIMES.contains(&name) => Ok(()),
        Some(name) => Err(Refusal::new(format!("the runtime {name:?} is neither crun nor runc"))),
        None => Err(Refusal::new("cannot tell which runtime called")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn good() -> Value {
        json!({
            "process": {"capabilities": {"bounding": ["CAP_CHOWN"], "effective": null}, "env": ["A=b"]},
            "linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/run/netns/x"}]}
        })
    }

    fn reason(edit: impl FnOnce(&mut Value)) -> String {
        let mut value = good();
        edit(&mut value);
        let spec: Spec = serde_json::from_value(value).unwrap();
        check(&spec).unwrap_err().to_string()
    }

    #[test]
    fn an_ordinary_container_is_accepted() {
        check(&serde_json::from_value(good()).unwrap()).unwrap();
    }

    #[test]
    fn shared_namespaces_are_refused() {
        assert!(reason(|v| v["linux"]["namespaces"] = json!([{"type": "pid"}])).contains("--network host"));
        assert!(reason(|v| v["linux"]["namespaces"] = json!([{"type": "network"}])).contains("--pid host"));
        assert!(
            reason(|v| v["linux"]["namespaces"][0]["path"] = json!("/proc/1/ns/pid"))
                .contains("shares a pid namespace")
        );
    }

    #[test]
    fn every_forbidden_capability_is_refused_in_every_set_and_case() {
        for name in FORBIDDEN_CAPABILITIES.map(|name| format!("CAP_{name}")) {
            for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
                for name in [name.clone(), name.to_lowercase()] {
                    let reason = reason(|v| v["process"]["capabilities"][set] = json!([name]));
                    assert!(reason.contains(set), "{reason}");
                }
            }
        }
        assert!(reason(|v| v["process"]["capabilities"] = Value::Null).contains("does not limit"));
    }

    #[test]
    fn inherited_sockets_are_refused() {
        assert!(reason(|v| v["process"]["env"] = json!(["LISTEN_FDS=1"])).contains("LISTEN_FDS"));
    }

    #[test]
    fn annotations_that_steer_the_runtime_are_refused() {
        for key in [
            "run.oci.hooks.stderr",
            "run.oci.handler",
            "krun.cpus",
            "module.wasm.image/variant",
        ] {
            assert!(reason(|v| v["annotations"] = json!({key: "x"})).contains(key));
        }
        let mut harmless = good();
        harmless["annotations"] = json!({HARMLESS_ANNOTATION: "1", "other": "x"});
        check(&serde_json::from_value(harmless).unwrap()).unwrap();
    }

    #[test]
    fn other_runtimes_are_refused() {
        runtime(Some("crun")).unwrap();
        runtime(Some("runc")).unwrap();
        assert!(runtime(Some("runsc")).is_err());
        assert!(runtime(None).is_err());
    }
}
