//! Attempts to start what cannot be protected, and everything that has to be true after the refusal.

use std::fs;

use crate::command::{Output, wait_until};
use crate::lab::{Container, IMAGE, Scratch, bystander, command_line, files_of, host_ruleset, processes};
use crate::user::User;

/// An attempt: a container whose program leaves a trace when it runs.
pub struct Attempt {
    pub container: Container,
    pub scratch: Scratch,
    flags: Vec<String>,
    image: Vec<String>,
    starter: Vec<String>,
}

/// How an attempt is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By `podman run` alone: not an attack, but the proof that the attack would work.
    Unshielded,
    /// By `podman run` with the flags that `prepare` printed.
    Prepared,
    /// The same without the seal and the dropped capabilities, which would let podman refuse before the hook can.
    PreparedWithoutSeal,
    /// By `podman run` with nothing of ours but the annotation.
    Annotated,
    /// By `terok-shield run`.
    Run,
}

impl Attempt {
    /// Podman flags beside those that every attempt has.
    pub fn new(user: &User, name: &str, flags: &[&str]) -> Self {
        Self {
            container: Container::named(user, name),
            scratch: Scratch::new(user, name),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            image: vec![IMAGE.to_owned()],
            starter: Vec::new(),
        }
    }

    /// The same by a program that starts podman.
    pub fn started_by(mut self, starter: &[&str]) -> Self {
        self.starter = starter.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// The same with something else in the image's place.
    pub fn image(mut self, image: &[&str]) -> Self {
        self.image = image.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Tries.
    pub fn launch(&self, way: Way) -> Output {
        let user = &self.container.user;
        let name = self.container.name.as_str();
        let mount = format!("{}:/scratch", self.scratch.path());
        let annotation = format!("terok.shield.profiles={name}");
        let prepared: Vec<String> = match way {
            Way::Unshielded | Way::Annotated | Way::Run => Vec::new(),
            Way::Prepared => user.prepare(name, ""),
            Way::PreparedWithoutSeal => {
                let flags = user.prepare(name, "");
                let pairs = flags.chunks(2);
                pairs
                    .filter(|pair| !["--sysctl", "--cap-drop"].contains(&pair[0].as_str()))
                    .flatten()
                    .cloned()
                    .collect()
            }
        };
        let mut words: Vec<&str> = match way {
            Way::Run => {
                user.profile(name, "");
                vec![&user.program, "run", name, "--profiles", name, "--"]
            }
            Way::Unshielded => vec!["podman", "run", "--name", name],
            Way::Annotated => {
                user.profile(name, "");
                vec!["podman", "run", "--name", name, "--annotation", &annotation]
            }
            _ => vec!["podman", "run"],
        };
        words.extend(prepared.iter().map(String::as_str));
        words.extend(["-v", &mount]);
        if way != Way::Unshielded {
            words.extend(["-d", "--stop-signal", "KILL"]);
        }
        words.extend(self.flags.iter().map(String::as_str));
        words.extend(self.image.iter().map(String::as_str));
        // Podman 4.3 cannot kill what has the host's pid namespace: where it may run, it ends by itself.
        words.extend(match way {
            Way::Unshielded => ["sh", "-c", "touch /scratch/ran"],
            _ => ["sh", "-c", "touch /scratch/ran; exec sleep 100000"],
        });
        words.splice(0..0, self.starter.iter().map(String::as_str));
        user.run(&words)
    }

    /// That it works without a shield.
    #[track_caller]
    pub fn works_unshielded(&self) {
        self.launch(Way::Unshielded).ok();
        assert!(self.scratch.has("ran"), "the program's trace");
        self.container.remove();
        fs::remove_file(self.scratch.0.join("ran")).unwrap();
    }

    /// That it is refused for this reason, which stands in one line where the operator finds it, and that nothing of it is left.
    #[track_caller]
    pub fn is_refused(&self, way: Way, reason: &str) {
        let spectator = Spectator::new();
        let output = self.launch(way);
        let name = &self.container.name;
        assert!((125..=127).contains(&output.code), "{name} by {way:?}: {output:#?}");
        if way == Way::Run {
            let said: Vec<&str> = output
                .err
                .lines()
                .filter(|line| line.contains("was not started"))
                .collect();
            assert_eq!(said.len(), 1, "{output:#?}");
            assert!(said[0].contains(reason), "{reason:?} in {output:#?}");
        }
        self.noted(reason);
        self.nothing_runs();
        spectator.saw_nothing();
        self.container.remove();
    }

    /// That the reason is in `hook-error.log`, in one line: in the bundle, or above it where the bundle is not to be trusted.
    #[track_caller]
    pub fn noted(&self, reason: &str) {
        let user = &self.container.user;
        let places = [user.bundle(&self.container.name), user.state()].map(|place| place.join("hook-error.log"));
        let text = places.iter().find_map(|place| fs::read_to_string(place).ok());
        let text = text.unwrap_or_else(|| panic!("a hook-error.log in {places:?}, of: {reason}"));
        assert!(text.contains(reason), "{reason:?} in {text:?}");
        assert_eq!(text.lines().count(), 1, "{text:?}");
    }

    /// That its program has not run, and that no process of it is left.
    #[track_caller]
    pub fn nothing_runs(&self) {
        let container = &self.container;
        assert!(!self.scratch.has("ran"), "the program of {} has run", container.name);
        let exists = container.user.podman(&["container", "exists", &container.name]).code == 0;
        let id = exists.then(|| {
            // "stopped" until podman has cleaned up behind it.
            let state = container.inspect("{{.State.Status}} {{.State.Pid}}");
            assert!(
                ["created 0", "stopped 0", "exited 0"].contains(&state.as_str()),
                "{}: {state}",
                container.name
            );
            container.id()
        });
        // Whatever lives in a mount namespace of the container sees this directory.
        let root = self.scratch.path().strip_prefix("/run").unwrap();
        wait_until("the end of every process of the container", || {
            let mut left = processes().filter(|pid| {
                let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
                let watches = id.as_ref().is_some_and(|id| command_line(pid).contains(id.as_str()));
                watches || mounts.lines().any(|line| line.split(' ').nth(3) == Some(root))
            });
            left.next().is_none().then_some(())
        });
    }
}

/// What an attempt may not change: another container, and the namespaces outside.
struct Spectator {
    files: Vec<(std::path::PathBuf, String)>,
    rules: serde_json::Value,
}

impl Spectator {
    fn new() -> Self {
        let bystander = bystander();
        Self {
            files: files_of(&bystander.user.bundle(&bystander.name)),
            rules: bystander.rules_and_sets(),
        }
    }

    #[track_caller]
    fn saw_nothing(&self) {
        let now = Self::new();
        assert_eq!(now.files, self.files, "another container's state directory");
        assert_eq!(now.rules, self.rules, "another container's table");
        assert_eq!(host_ruleset(), "", "the ruleset of the host");
    }
}
