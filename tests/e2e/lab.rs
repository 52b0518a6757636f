//! The laboratory: what stands ready for all tests, containers in it, and a look at its processes and namespaces.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::{DEADLINE, Output, root, wait_until};
use crate::user::User;

/// The program under test. `/usr` is the laboratory's own: what is written there is forgotten.
pub const PROGRAM: &str = "/usr/local/bin/terok-shield";
/// The image of all containers.
pub const IMAGE: &str = "localhost/lab";
/// Programs that live as long as a container, or shorter.
pub const WITH_A_CONTAINER: [&str; 9] = [
    "terok-shield",
    "conmon",
    "crun",
    "runc",
    "slirp4netns",
    "rootlessport",
    "pasta",
    "pasta.avx2",
    "aardvark-dns",
];

/// The tar that the image was made from.
pub fn image_tar() -> String {
    std::env::var("LAB_IMAGE_TAR").unwrap()
}

/// Whether podman is one of those that make rootless networks by pasta (5 and later).
pub fn by_pasta() -> bool {
    static MAJOR: OnceLock<u32> = OnceLock::new();
    *MAJOR.get_or_init(|| {
        let version = root(&["podman", "version", "--format", "{{.Client.Version}}"]).ok();
        version.text().split('.').next().unwrap().parse().unwrap()
    }) >= 5
}

static BYSTANDER: OnceLock<Container> = OnceLock::new();

/// Installs the program, the shared user's hooks, and a container that no test touches.
pub fn open() {
    let built = std::env::var(crate::PROGRAM).unwrap_or_else(|_| env!("CARGO_BIN_EXE_terok-shield").to_owned());
    assert_eq!(
        root(&["stat", "-f", "-c", "%T", "/usr/local/bin"]).ok().text(),
        "overlayfs",
        "what is written to /usr/local/bin here would stay"
    );
    fs::copy(built, PROGRAM).unwrap();
    fs::set_permissions(PROGRAM, Permissions::from_mode(0o755)).unwrap();
    User::shared().shield(&["setup", "--user"]).ok();
    let bystander = Container::start(&User::shared(), "bystander", "203.0.113.10\n2001:db8::10\n", &[]);
    BYSTANDER.set(bystander).ok().unwrap();
}

/// A shielded container that is nobody's subject: nothing that happens to others may change it.
pub fn bystander() -> &'static Container {
    BYSTANDER.get().unwrap()
}

/// Removes what [`open`] started.
pub fn close() {
    bystander().remove();
}

/// A container, removed when this is dropped.
#[derive(Debug)]
pub struct Container {
    /// Whose.
    pub user: User,
    /// Its name, which is its profile's too.
    pub name: String,
}

impl Container {
    /// Only the guard: whatever container of that name there will be is removed when this is dropped.
    pub fn named(user: &User, name: &str) -> Self {
        Self {
            user: user.clone(),
            name: name.to_owned(),
        }
    }

    /// A running container behind a profile of that text.
    #[track_caller]
    pub fn start(user: &User, name: &str, profile: &str, flags: &[&str]) -> Self {
        let (container, output) = Self::try_start(user, name, profile, flags);
        output.ok();
        container
    }

    /// The same, where it may fail.
    pub fn try_start(user: &User, name: &str, profile: &str, flags: &[&str]) -> (Self, Output) {
        let container = Self::named(user, name);
        user.profile(name, profile);
        let words = [
            &["run", name, "--profiles", name, "--", "-d", "--stop-signal", "KILL"],
            flags,
            &[IMAGE, "sleep", "100000"],
        ];
        let output = user.shield(&words.concat());
        (container, output)
    }

    /// A running container without a shield.
    #[track_caller]
    pub fn unshielded(user: &User, name: &str, flags: &[&str]) -> Self {
        let container = Self::named(user, name);
        let words = [&["run", "-d", "--name", name], flags, &[IMAGE, "sleep", "100000"]];
        user.podman(&words.concat()).ok();
        container
    }

    /// Runs a command inside.
    pub fn exec(&self, words: &[&str]) -> Output {
        self.user.podman(&[&["exec", &self.name], words].concat())
    }

    /// Runs a line of shell inside.
    pub fn sh(&self, line: &str) -> Output {
        self.exec(&["sh", "-c", line])
    }

    /// Runs a verb of the program under test on it, with more arguments.
    pub fn verb(&self, verb: &str, more: &[&str]) -> Output {
        self.user.shield(&[&[verb, &self.name], more].concat())
    }

    /// One value of `podman inspect`.
    #[track_caller]
    pub fn inspect(&self, format: &str) -> String {
        let output = self
            .user
            .podman(&["container", "inspect", "--format", format, &self.name]);
        output.ok().text().to_owned()
    }

    /// Its id.
    #[track_caller]
    pub fn id(&self) -> String {
        self.inspect("{{.Id}}")
    }

    /// Its first process.
    #[track_caller]
    pub fn pid(&self) -> String {
        self.inspect("{{.State.Pid}}")
    }

    /// The global addresses of its interface.
    #[track_caller]
    pub fn own_addresses(&self) -> Vec<String> {
        let listing = self.sh("ip -o address show scope global").ok();
        listing
            .out
            .lines()
            .map(|line| {
                line.split_whitespace()
                    .nth(3)
                    .unwrap()
                    .split('/')
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    /// Stops it and starts it again.
    #[track_caller]
    pub fn restart(&self) {
        // Podman 5 does not wait for the end of pasta, which holds the published ports; without a shield it's the same.
        wait_until("a restart with free ports", || {
            let output = self.user.podman(&["restart", "--time", "0", &self.name]);
            if output.err.contains("Address already in use") {
                return None;
            }
            output.ok();
            Some(())
        });
    }

    /// Runs a command as root of the laboratory in its network namespace.
    pub fn in_its_network(&self, words: &[&str]) -> Output {
        root(&[&["nsenter", "--net", "--target", &self.pid()], words].concat())
    }

    /// Its table as `nft` has it.
    #[track_caller]
    pub fn table(&self) -> Value {
        self.in_its_network(&["nft", "-j", "list", "table", "inet", "terok_shield"])
            .ok()
            .json()
    }

    /// The same, with its counters at zero.
    #[track_caller]
    pub fn rules_and_sets(&self) -> Value {
        let mut table = self.table();
        for object in table["nftables"].as_array_mut().unwrap() {
            if let Some(counter) = object.get_mut("counter") {
                counter["packets"] = 0.into();
                counter["bytes"] = 0.into();
            }
        }
        table
    }

    /// The file in its state directory.
    pub fn policy(&self) -> Value {
        self.user.bundle_json(&self.name, "policy.json")
    }

    /// Fails the test unless `status` is this word.
    #[track_caller]
    pub fn is(&self, word: &str) {
        let output = self.verb("status", &[]);
        assert_eq!(output.text(), word, "{output:#?}");
    }

    /// Removes it now.
    #[track_caller]
    pub fn remove(&self) {
        // While another test has a container that sees the whole home, podman's own mounts there are busy.
        let until = Instant::now() + DEADLINE;
        loop {
            let output = self.try_remove();
            if output.code == 0 || Instant::now() > until {
                output.ok();
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn try_remove(&self) -> Output {
        self.user
            .podman(&["rm", "--force", "--ignore", "--time", "0", "--volumes", &self.name])
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A second panic would end the whole run.
        if std::thread::panicking() {
            self.try_remove();
        } else {
            self.remove();
        }
    }
}

/// A directory that containers may write to, outside of every home. Removed when this is dropped.
#[derive(Debug)]
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Of this user, under this name.
    pub fn new(user: &User, name: &str) -> Self {
        let path = Path::new("/run/lab/scratch").join(&user.name).join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::chown(&path, Some(user.uid), Some(user.uid)).unwrap();
        Self(path)
    }

    /// Its path as text.
    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Something in it.
    pub fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Whether something is in it.
    pub fn has(&self, name: &str) -> bool {
        self.0.join(name).symlink_metadata().is_ok()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        root(&["rm", "-rf", self.path()]);
    }
}

/// Ids of all processes of the laboratory, those in containers too.
pub fn processes() -> impl Iterator<Item = String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The name of a process's program, or nothing if it is gone.
pub fn program_of(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm"))
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

/// The command line of a process, or nothing if it is gone.
pub fn command_line(pid: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}

/// The ruleset of the laboratory's own network namespace.
pub fn host_ruleset() -> String {
    root(&["nft", "list", "ruleset"]).ok().out
}

/// Everything that a state directory of a container holds.
pub fn files_of(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut files: Vec<(PathBuf, String)> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(&path).unwrap_or_default()))
        .map(|(path, text)| (path, String::from_utf8_lossy(&text).into_owned()))
        .collect();
    files.sort();
    files
}

/// Waits until podman says that the container is in this state.
pub fn wait_for_state(container: &Container, state: &str) {
    wait_until(&format!("{} is {state}", container.name), || {
        (container.inspect("{{.State.Status}}") == state).then_some(())
    });
}
