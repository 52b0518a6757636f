//! The hook called directly, with what no runtime would say on standard input: it refuses in one line and changes nothing.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::command::Output;
use crate::lab::{Container, Scratch, bystander, files_of, host_ruleset};
use crate::user::User;

tests![
    a_state_that_lacks_or_forges_anything_is_refused_and_changes_nothing,
    a_process_that_is_gone_or_that_is_no_container_is_refused,
    a_configuration_that_is_missing_damaged_or_somebody_elses_is_refused,
    a_caller_that_is_no_runtime_is_refused,
    a_stage_that_is_none_is_refused,
    precreate_breaks_no_seal_unless_our_hook_follows,
];

/// A running container, whose first process and configuration make a state that is good but for what a test changes.
struct Forgery {
    container: Container,
    scratch: Scratch,
    state: Value,
    config: Value,
}

impl Forgery {
    fn new(name: &str) -> Self {
        let user = User::shared();
        let container = Container::start(&user, name, "203.0.113.10\n2001:db8::10\n", &[]);
        let bundle = container.inspect("{{.OCIConfigPath}}");
        let config: Value = serde_json::from_slice(&fs::read(bundle).unwrap()).unwrap();
        let scratch = Scratch::new(&user, name);
        user.write(&scratch.0.join("bundle/config.json"), config.to_string());
        let state = json!({
            "ociVersion": "1.0",
            "id": container.id(),
            "pid": container.pid().parse::<i32>().unwrap(),
            "root": config["root"]["path"],
            "bundle": scratch.at("bundle"),
            "status": "created",
            "annotations": config["annotations"],
        });
        Self {
            container,
            scratch,
            state,
            config,
        }
    }

    /// Runs a stage as a runtime would: in podman's user namespace, by a program of that name.
    fn hook(&self, runtime: &str, stage: &str, input: &[u8]) -> Output {
        let user = &self.container.user;
        // Two commands, so that the shell stays and is the caller.
        let line = format!(
            "exec -a {runtime} sh -c '\"$0\" hook {stage}; exit $?' {}",
            user.program
        );
        user.run_with(input, &["podman", "unshare", "bash", "-c", &line])
    }

    /// The hook refuses this input for this reason, and nothing has changed.
    #[track_caller]
    fn is_refused(&self, input: impl AsRef<[u8]>, reason: &str) {
        self.is_refused_to("crun", "createRuntime", input.as_ref(), reason);
    }

    #[track_caller]
    fn is_refused_to(&self, runtime: &str, stage: &str, input: &[u8], reason: &str) {
        let container = &self.container;
        let before = (files_but_logs(container), container.rules_and_sets());
        let bystander_before = (
            files_of(&bystander().user.bundle("bystander")),
            bystander().rules_and_sets(),
        );
        let output = self.hook(runtime, stage, input).code(1);
        let line = output.one_line();
        assert!(line.contains(reason), "{reason:?} in {output:#?}");
        assert_eq!(output.out, "");
        assert_eq!(files_but_logs(container), before.0, "{reason}");
        assert_eq!(container.rules_and_sets(), before.1, "{reason}");
        assert_eq!(
            files_of(&bystander().user.bundle("bystander")),
            bystander_before.0,
            "{reason}"
        );
        assert_eq!(bystander().rules_and_sets(), bystander_before.1, "{reason}");
        assert_eq!(host_ruleset(), "");
        container.is("up");
    }

    fn state(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut state = self.state.clone();
        change(&mut state);
        state.to_string()
    }

    /// With another configuration beside the state.
    fn with_config(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut config = self.config.clone();
        change(&mut config);
        let user = &self.container.user;
        user.write(&self.scratch.0.join("bundle/config.json"), config.to_string());
        self.state(|_| ())
    }
}

/// The state directory of a container but for what says that something was refused.
fn files_but_logs(container: &Container) -> Vec<(PathBuf, String)> {
    let mut files = files_of(&container.user.bundle(&container.name));
    files.retain(|(path, _)| !path.ends_with("hook-error.log") && !path.ends_with("audit.jsonl"));
    files
}

fn a_state_that_lacks_or_forges_anything_is_refused_and_changes_nothing() {
    let forgery = Forgery::new("forged-state");
    let good = forgery.state(|_| ());
    for input in [
        "",
        "{}",
        "[]",
        "null",
        "true",
        "\"\"",
        "\u{0}",
        &good[..good.len() - 1],
        &format!("{good}x"),
    ] {
        forgery.is_refused(input, "malformed");
    }
    for key in ["id", "bundle"] {
        forgery.is_refused(
            forgery.state(|state| drop(state.as_object_mut().unwrap().remove(key))),
            "malformed",
        );
        forgery.is_refused(forgery.state(|state| state[key] = json!(7)), "malformed");
        forgery.is_refused(forgery.state(|state| state[key] = Value::Null), "malformed");
    }
    for id in ["", "..", ".", "../x", "a/b", "a\nb", "a b"] {
        forgery.is_refused(forgery.state(|state| state["id"] = json!(id)), "no valid id");
    }
    forgery.is_refused(
        forgery.state(|state| state["id"] = json!("a".repeat(300))),
        "no valid id",
    );
    forgery.is_refused(
        forgery.state(|state| state["bundle"] = json!("bundle")),
        "no absolute bundle path",
    );
    forgery.is_refused(
        forgery.state(|state| state["annotations"] = json!({})),
        "disagree about our annotations",
    );
    for name in ["", "..", "../bystander", "a/b", "-x"] {
        let named = forgery.state(|state| state["annotations"]["terok.shield.name"] = json!(name));
        forgery.is_refused(named, "terok.shield.name");
    }
    // Another container's name in the state alone, and then in both.
    let victim = Container::start(&forgery.container.user, "forged-victim", "", &[]);
    let before = (files_but_logs(&victim), victim.rules_and_sets());
    let other = |state: &mut Value| state["annotations"]["terok.shield.name"] = json!("forged-victim");
    forgery.is_refused(forgery.state(other), "disagree");
    forgery.with_config(other);
    forgery.is_refused(forgery.state(other), "belongs to another container");
    assert_eq!((files_but_logs(&victim), victim.rules_and_sets()), before);
}

fn a_process_that_is_gone_or_that_is_no_container_is_refused() {
    let forgery = Forgery::new("forged-pid");
    for pid in [json!(0), json!(1), json!(-1), Value::Null] {
        forgery.is_refused(forgery.state(|state| state["pid"] = pid), "no pid");
    }
    forgery.is_refused(forgery.state(|state| state["pid"] = json!("7")), "malformed");
    forgery.is_refused(
        forgery.state(|state| drop(state.as_object_mut().unwrap().remove("pid"))),
        "no pid",
    );
    // Beyond `pid_max` (at most 2^22), so gone for certain.
    forgery.is_refused(forgery.state(|state| state["pid"] = json!(4_194_305)), "4194305");
    // A process outside: its network is the host's.
    let own = std::process::id();
    forgery.is_refused(forgery.state(|state| state["pid"] = json!(own)), "");
    // Another container's.
    let other: u32 = bystander().pid().parse().unwrap();
    forgery.is_refused(forgery.state(|state| state["pid"] = json!(other)), "");
}

fn a_configuration_that_is_missing_damaged_or_somebody_elses_is_refused() {
    let forgery = Forgery::new("forged-config");
    let file = forgery.scratch.at("bundle/config.json");
    for text in ["", "{}", "[]", "{\"process\":"] {
        fs::write(&file, text).unwrap();
        forgery.is_refused(forgery.state(|_| ()), "config.json");
    }
    for key in ["process", "linux"] {
        let without = forgery.with_config(|config| drop(config.as_object_mut().unwrap().remove(key)));
        forgery.is_refused(without, "config.json");
    }
    let namespaces = forgery.with_config(|config| config["linux"]["namespaces"] = json!([]));
    forgery.is_refused(namespaces, "no network namespace of its own");
    let limits = forgery.with_config(|config| drop(config["process"].as_object_mut().unwrap().remove("capabilities")));
    forgery.is_refused(limits, "capabilities");
    let good = forgery.with_config(|_| ());
    std::os::unix::fs::chown(&file, Some(2001), None).unwrap();
    forgery.is_refused(&good, "belongs to another user");
    fs::remove_file(&file).unwrap();
    forgery.is_refused(&good, "cannot be read");
    std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
    forgery.is_refused(&good, "cannot be read");
    fs::remove_file(&file).unwrap();
    forgery.is_refused(
        forgery.state(|state| state["bundle"] = json!("/nonexistent")),
        "cannot be read",
    );
}

fn a_caller_that_is_no_runtime_is_refused() {
    let forgery = Forgery::new("forged-caller");
    let good = forgery.state(|_| ());
    for caller in ["sh", "runsc", "crun-x", "kata"] {
        forgery.is_refused_to(caller, "createRuntime", good.as_bytes(), "neither crun nor runc");
    }
}

fn a_stage_that_is_none_is_refused() {
    let forgery = Forgery::new("forged-stage");
    let good = forgery.state(|_| ());
    for stage in ["", "prestart", "createruntime", "run"] {
        forgery.is_refused_to("crun", stage, good.as_bytes(), "usage");
    }
}

fn precreate_breaks_no_seal_unless_our_hook_follows() {
    let forgery = Forgery::new("forged-precreate");
    let user = &forgery.container.user;
    let call = |config: &Value| {
        user.run_with(
            config.to_string().as_bytes(),
            &["podman", "unshare", &user.program, "hook", "precreate"],
        )
    };
    let seal = "net.terok_shield.sealed";
    let sealed = |change: &dyn Fn(&mut Value)| {
        let mut config = forgery.config.clone();
        config["linux"]["sysctl"][seal] = json!("1");
        change(&mut config);
        config
    };
    let good = call(&sealed(&|_| ())).ok().json();
    assert!(good["linux"]["sysctl"].get(seal).is_none());
    let mut rest = sealed(&|_| ());
    rest["linux"]["sysctl"].as_object_mut().unwrap().remove(seal);
    assert_eq!(good, rest, "nothing else is changed");

    let damages: [&dyn Fn(&mut Value); 5] = [
        &|config| config["hooks"] = json!({}),
        &|config| drop(config.as_object_mut().unwrap().remove("hooks")),
        &|config| config["hooks"]["createRuntime"] = json!([]),
        &|config| config["hooks"]["createRuntime"][0]["path"] = json!("/bin/true"),
        &|config| config["hooks"]["createRuntime"][0]["args"] = json!(["terok-shield"]),
    ];
    for damage in damages {
        let output = call(&sealed(damage)).code(1);
        assert_eq!(output.out, "", "{output:#?}");
        assert!(output.one_line().contains("not installed"), "{output:#?}");
    }
    // Without our annotation nothing is broken, and nothing else is touched.
    let foreign = sealed(&|config| config["annotations"] = json!({}));
    assert_eq!(call(&foreign).ok().json(), foreign);
    let malformed = user.run_with(b"{", &["podman", "unshare", &user.program, "hook", "precreate"]);
    assert!(malformed.code(1).one_line().contains("malformed"));
}
