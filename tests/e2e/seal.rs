//! A container that was shielded once does not start without its hooks: not one instruction of its program runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::command::wait_until;
use crate::lab::{Container, IMAGE, Scratch};
use crate::user::{FreshUser, User};

tests![
    without_hooks_dir_in_containers_conf_nothing_starts,
    without_the_hook_program_nothing_starts,
    without_a_hook_file_nothing_starts,
    behind_a_hook_file_that_masks_ours_nothing_starts,
    with_another_hook_program_nothing_starts,
];

/// A stopped container that notes each run of its program, and prepared flags for another one.
struct Sealed {
    container: Container,
    scratch: Scratch,
    flags: Vec<String>,
    runs: usize,
    // The last to be dropped.
    user: FreshUser,
}

impl Sealed {
    fn new() -> Self {
        let user = FreshUser::with_own_program();
        let scratch = Scratch::new(&user, "seal");
        user.profile("sealed", "203.0.113.10\n2001:db8::10\n");
        let container = Container::named(&user, "sealed");
        let mount = format!("{}:/scratch", scratch.path());
        let program = "echo run >>/scratch/runs; exec sleep 100000";
        let flags = ["-d", "--stop-signal", "KILL", "-v", &mount, IMAGE, "sh", "-c", program];
        user.shield(&[&["run", "sealed", "--profiles", "sealed", "--"], &flags[..]].concat())
            .ok();
        let mut prepared = user.prepare("sealed-new", "203.0.113.10\n2001:db8::10\n");
        prepared.extend(flags.map(str::to_owned));
        let sealed = Self {
            container,
            scratch,
            flags: prepared,
            runs: 1,
            user,
        };
        sealed.has_run();
        sealed.user.podman(&["stop", "sealed"]).ok();
        sealed
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.scratch.0.join("runs")).map_or(0, |text| text.lines().count())
    }

    #[track_caller]
    fn has_run(&self) {
        wait_until("the program's trace", || (self.runs() == self.runs).then_some(()));
    }

    /// Nothing starts while things are as `damage` makes them, and all is well after `mend`.
    #[track_caller]
    fn is_sealed(&mut self, what: &str, damage: impl FnOnce(&User), mend: impl FnOnce(&User)) {
        damage(&self.user);
        self.nothing_starts(what);
        mend(&self.user);
        self.container.is("inactive");
        self.starts();
    }

    /// In whatever way it is tried.
    #[track_caller]
    fn nothing_starts(&self, what: &str) {
        let prepared: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        for words in [
            &["start", "sealed"][..],
            &["start", "--attach", "sealed"],
            &["restart", "sealed"],
            &[&["run"], &prepared[..]].concat(),
        ] {
            let output = self.user.podman(words);
            assert_ne!(output.code, 0, "{what}: {output:#?}");
            assert_eq!(self.runs(), self.runs, "{what}: the program has run after {output:#?}");
            for name in ["sealed", "sealed-new"] {
                let state = self.user.podman(&["inspect", "--format", "{{.State.Pid}}", name]);
                assert!(state.code != 0 || state.text() == "0", "{what}: {state:#?}");
            }
        }
        self.user
            .podman(&["rm", "--force", "--ignore", "--time", "0", "sealed-new"])
            .ok();
    }

    /// As ever.
    #[track_caller]
    fn starts(&mut self) {
        self.user.podman(&["start", "sealed"]).ok();
        self.runs += 1;
        self.has_run();
        self.container.is("up");
        self.user.podman(&["stop", "sealed"]).ok();
    }
}

fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

/// `path` out of the way, and back.
fn moved(sealed: &mut Sealed, path: &Path) {
    let away = path.with_file_name("moved-away");
    let what = format!("{} was moved", path.display());
    sealed.is_sealed(&what, |_| rename(path, &away), |_| rename(&away, path));
}

fn without_hooks_dir_in_containers_conf_nothing_starts() {
    let mut sealed = Sealed::new();
    let conf = sealed.user.containers_conf();
    let good = fs::read_to_string(&conf).unwrap();
    let hooks = sealed.user.hooks();
    let (hooks, precreate) = (hooks.join("hooks.d"), hooks.join("precreate.d"));
    let without: Vec<&str> = good.lines().filter(|line| !line.starts_with("hooks_dir")).collect();
    assert_ne!(without.len(), good.lines().count(), "{good}");
    for (what, text) in [
        ("no hooks_dir", without.join("\n")),
        ("an empty hooks_dir", "[engine]\nhooks_dir = []\n".to_owned()),
        (
            "precreate alone",
            format!("[engine]\nhooks_dir = [\"{}\"]\n", precreate.display()),
        ),
        (
            "createRuntime alone",
            format!("[engine]\nhooks_dir = [\"{}\"]\n", hooks.display()),
        ),
        (
            "another directory",
            "[engine]\nhooks_dir = [\"/usr/share/containers/oci/hooks.d\"]\n".to_owned(),
        ),
    ] {
        sealed.is_sealed(what, |user| user.write(&conf, &text), |user| user.write(&conf, &good));
    }
    moved(&mut sealed, &conf);
}

fn without_the_hook_program_nothing_starts() {
    let mut sealed = Sealed::new();
    let program = sealed.user.program.clone();
    moved(&mut sealed, Path::new(&program));
    let mode = |mode| fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
    sealed.is_sealed("it is not executable", |_| mode(0o644), |_| mode(0o755));
}

fn without_a_hook_file_nothing_starts() {
    let mut sealed = Sealed::new();
    let hooks = sealed.user.hooks();
    let (create, precreate) = (hooks.join("hooks.d"), hooks.join("precreate.d"));
    moved(&mut sealed, &create.join("terok-shield-createRuntime.json"));
    moved(&mut sealed, &precreate.join("terok-shield-precreate.json"));
    moved(&mut sealed, &create);
    moved(&mut sealed, &precreate);
    moved(&mut sealed, &hooks);
}

fn behind_a_hook_file_that_masks_ours_nothing_starts() {
    let mut sealed = Sealed::new();
    let conf = sealed.user.containers_conf();
    let good = fs::read_to_string(&conf).unwrap();
    let later = sealed.user.home.join("later.d");
    let end = good.rfind(']').unwrap();
    let listed = format!("{}, \"{}\"]\n", &good[..end], later.display());
    let harmless = r#"{"version":"1.0.0","hook":{"path":"/bin/true"},"when":{"annotations":{"^none$":"^none$"}},"stages":["createRuntime"]}"#;
    let always = r#"{"version":"1.0.0","hook":{"path":"/bin/true"},"when":{"always":true},"stages":["createRuntime","poststop"]}"#;
    for name in ["terok-shield-createRuntime.json", "terok-shield-precreate.json"] {
        for text in [harmless, always] {
            let mask = later.join(name);
            sealed.is_sealed(
                &format!("{name} is masked by {text}"),
                |user| {
                    user.write(&mask, text);
                    user.write(&conf, &listed);
                },
                |user| {
                    fs::remove_file(&mask).unwrap();
                    user.write(&conf, &good);
                },
            );
        }
    }
}

fn with_another_hook_program_nothing_starts() {
    let mut sealed = Sealed::new();
    let create = sealed.user.hooks().join("hooks.d/terok-shield-createRuntime.json");
    let good = fs::read_to_string(&create).unwrap();
    let other = sealed.user.home.join("bin/other");
    let copy = fs::read(&sealed.user.program).unwrap();
    sealed.user.write(&other, copy);
    fs::set_permissions(&other, Permissions::from_mode(0o755)).unwrap();
    for (what, text) in [
        ("/bin/true", good.replace(&sealed.user.program, "/bin/true")),
        ("nothing", good.replace(&sealed.user.program, "/nonexistent")),
        ("a copy", good.replace(&sealed.user.program, other.to_str().unwrap())),
        ("another stage", good.replace("\"createRuntime\"", "\"poststop\"")),
        ("another annotation", good.replace("terok", "torek")),
        ("no JSON", good[..good.len() / 2].to_owned()),
        ("an empty file", String::new()),
    ] {
        assert_ne!(text, good);
        sealed.is_sealed(
            what,
            |user| user.write(&create, &text),
            |user| user.write(&create, &good),
        );
    }
}
