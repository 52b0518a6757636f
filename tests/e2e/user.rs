//! Users of the laboratory: the one whom most tests share, and fresh ones for tests that change his configuration.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::command::{Output, Running, root, wait_until};
use crate::lab::{self, IMAGE};

/// Somebody who runs rootless podman.
#[derive(Debug, Clone)]
pub struct User {
    /// His name.
    pub name: String,
    /// His uid and gid.
    pub uid: u32,
    /// His home.
    pub home: PathBuf,
    /// How he calls the program under test.
    pub program: String,
    variables: Vec<String>,
    /// What starts his commands, if he is root on a host of his own.
    door: Vec<String>,
}

impl User {
    fn named(name: String, uid: u32) -> Self {
        Self {
            home: Path::new("/home").join(&name),
            name,
            uid,
            program: lab::PROGRAM.to_owned(),
            variables: Vec::new(),
            door: Vec::new(),
        }
    }

    /// Real root, on a host that is entered by this command.
    pub fn root_behind(door: Vec<String>) -> Self {
        Self {
            home: "/root".into(),
            door,
            ..Self::named("root".to_owned(), 0)
        }
    }

    /// The same with one more variable in his environment.
    pub fn with_variable(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.variables.push(format!("{name}={value}"));
        other
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let mut values = self.variables.iter().filter_map(|line| line.split_once('='));
        values.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The laboratory's own. Hooks are installed for him, and no test changes that.
    pub fn shared() -> Self {
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("the laboratory sets {name}"));
        Self::named(variable("LAB_USER"), variable("LAB_UID").parse().unwrap())
    }

    fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["as-user", "--user", self.name.as_str()];
        if !self.door.is_empty() {
            all = self.door.iter().map(String::as_str).collect();
            all.extend([
                "env",
                "-i",
                "HOME=/root",
                "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            ]);
        }
        if !self.variables.is_empty() {
            all.push("env");
            all.extend(self.variables.iter().map(String::as_str));
        }
        all.extend(words);
        all
    }

    /// Starts a command as this user.
    pub fn start(&self, words: &[&str]) -> Running {
        Running::start(&self.words(words), b"")
    }

    /// Runs a command as this user.
    pub fn run(&self, words: &[&str]) -> Output {
        self.run_with(b"", words)
    }

    /// Runs a command as this user with some standard input.
    pub fn run_with(&self, input: &[u8], words: &[&str]) -> Output {
        Running::start(&self.words(words), input).end()
    }

    /// Runs a line of shell as this user.
    pub fn sh(&self, line: &str) -> Output {
        self.run(&["sh", "-c", line])
    }

    /// Runs the program under test as this user.
    pub fn shield(&self, words: &[&str]) -> Output {
        self.run(&[&[self.program.as_str()], words].concat())
    }

    /// Runs podman as this user.
    pub fn podman(&self, words: &[&str]) -> Output {
        self.run(&[&["podman"], words].concat())
    }

    /// The flags that `prepare` gives for a container behind a profile of that text.
    #[track_caller]
    pub fn prepare(&self, name: &str, profile: &str) -> Vec<String> {
        self.profile(name, profile);
        let output = self.shield(&["prepare", name, "--profiles", name, "--json"]).ok();
        let flags = output.json();
        let words = flags
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap().to_owned());
        words.collect()
    }

    /// His configuration directory of the program under test.
    pub fn config(&self) -> PathBuf {
        if self.uid == 0 {
            return "/etc/terok-shield".into();
        }
        self.home.join(".config/terok/shield")
    }

    /// His containers.conf.
    pub fn containers_conf(&self) -> PathBuf {
        self.home.join(".config/containers/containers.conf")
    }

    /// Where the hook files are.
    pub fn hooks(&self) -> PathBuf {
        self.home.join(".local/share/terok/shield")
    }

    /// His state directory of the program under test.
    pub fn state(&self) -> PathBuf {
        if self.uid == 0 {
            return "/var/lib/terok-shield".into();
        }
        self.variable("TEROK_SHIELD_STATE_DIR")
            .map_or_else(|| self.home.join(".local/state/terok/shield"), PathBuf::from)
    }

    /// The state directory of one container.
    pub fn bundle(&self, container: &str) -> PathBuf {
        self.state().join("containers").join(container)
    }

    /// One file of a container's state directory.
    pub fn bundle_json(&self, container: &str, file: &str) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.bundle(container).join(file)).unwrap()).unwrap()
    }

    /// Makes a directory of his, and those above it.
    pub fn make_directory(&self, path: &Path) {
        if path.is_dir() {
            return;
        }
        self.make_directory(path.parent().unwrap());
        match fs::create_dir(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return,
            made => made.unwrap(),
        }
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        chown(path, Some(self.uid), Some(self.uid)).unwrap();
    }

    /// Writes a file of his.
    pub fn write(&self, path: &Path, text: impl AsRef<[u8]>) {
        self.make_directory(path.parent().unwrap());
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        chown(path, Some(self.uid), Some(self.uid)).unwrap();
    }

    /// Writes a profile of his.
    pub fn profile(&self, name: &str, text: impl AsRef<[u8]>) {
        self.write(&self.config().join(format!("profiles/{name}.txt")), text);
    }
}

static MADE: AtomicU32 = AtomicU32::new(0);
static FILES: Mutex<()> = Mutex::new(());

/// A user who did not exist before, with nothing configured. All that is his goes when this is dropped.
#[derive(Debug)]
pub struct FreshUser(User);

impl FreshUser {
    /// One with an image and without hooks.
    pub fn new() -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let user = User::named(format!("fresh{number}"), 3000 + number);
        let (name, uid) = (&user.name, user.uid);
        let owner = uid.to_string();
        let home = user.home.to_str().unwrap();
        {
            let _turn = FILES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let subordinate = format!("{name}:{}:65536\n", 1_000_000 + number * 65536);
            for (file, line) in [
                ("/etc/passwd", format!("{name}:x:{uid}:{uid}:{name}:{home}:/bin/bash\n")),
                ("/etc/group", format!("{name}:x:{uid}:\n")),
                ("/etc/subuid", subordinate.clone()),
                ("/etc/subgid", subordinate),
            ] {
                let mut file = OpenOptions::new().append(true).open(file).unwrap();
                file.write_all(line.as_bytes()).unwrap();
            }
        }
        let storage = format!("{home}/.local/share/containers");
        let runtime = format!("/run/user/{uid}");
        let install = ["install", "-d", "-o", &owner, "-g", &owner, "-m"];
        root(&[&install[..], &["0700", &runtime]].concat()).ok();
        root(&[&install[..], &["0755", home]].concat()).ok();
        user.make_directory(Path::new(&storage));
        let options = format!("uid={uid},gid={uid},mode=0700");
        root(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", &storage]).ok();
        let fresh = Self(user);
        let import = format!(
            "podman import --quiet --change 'CMD [\"sh\"]' {} {IMAGE}",
            lab::image_tar()
        );
        fresh.sh(&import).ok();
        fresh
    }

    /// One with hooks that start a copy of the program which is his own.
    pub fn with_own_program() -> Self {
        let mut fresh = Self::new();
        let program = fresh.home.join("bin/terok-shield");
        fresh.write(&program, fs::read(lab::PROGRAM).unwrap());
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        fresh.0.program = program.to_str().unwrap().to_owned();
        fresh.shield(&["setup", "--user"]).ok();
        fresh
    }

    /// One with hooks.
    pub fn with_hooks() -> Self {
        let fresh = Self::new();
        fresh.shield(&["setup", "--user"]).ok();
        fresh
    }

    /// His processes, those in his user namespaces too.
    fn processes(&self) -> Vec<(String, String)> {
        let number = self.uid - 3000;
        let first = 1_000_000 + number * 65536;
        lab::processes()
            .filter(|pid| {
                fs::metadata(format!("/proc/{pid}"))
                    .is_ok_and(|meta| meta.uid() == self.uid || (first..first + 65536).contains(&meta.uid()))
            })
            .map(|pid| (pid.clone(), lab::program_of(&pid)))
            .collect()
    }
}

impl Deref for FreshUser {
    type Target = User;

    fn deref(&self) -> &User {
        &self.0
    }
}

impl Drop for FreshUser {
    fn drop(&mut self) {
        let removed = self.podman(&["rm", "--force", "--all", "--time", "0"]);
        let failed = std::thread::panicking();
        if !failed {
            wait_until("the end of what belongs to his containers", || {
                let alive = self.processes();
                let lasting = |(_, program): &(String, String)| !lab::WITH_A_CONTAINER.contains(&program.as_str());
                alive.iter().all(lasting).then_some(())
            });
        }
        // Podman's own process that holds his namespaces.
        for (pid, _) in self.processes() {
            root(&["kill", "-KILL", &pid]);
        }
        let home = self.home.to_str().unwrap();
        root(&["umount", "--lazy", &format!("{home}/.local/share/containers")]);
        root(&["rm", "-rf", home, &format!("/run/user/{}", self.uid)]);
        if !failed {
            removed.ok();
        }
    }
}
