//! A shielded container without podman: the configuration that podman wrote, started by crun, which takes a tenth of the
//! time. Its hook runs under strace, which makes one of its system calls fail or kills it there.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::bait::{Bait, Fate, PROFILE};
use crate::command::{Output, Running, root, wait_until};
use crate::lab::Container;
use crate::user::FreshUser;

static MADE: AtomicU32 = AtomicU32::new(0);

/// A container, stopped, whose configuration and root directory are at hand, and a network namespace that reaches the
/// internet.
pub struct Bare {
    /// The program in it, and the receiver.
    pub bait: Bait,
    /// Its configuration, as podman wrote it but for the network namespace.
    pub config: Value,
    /// How crun is started.
    pub starter: Vec<String>,
    /// More flags of crun's `run`.
    pub flags: Vec<String>,
    id: String,
    directory: PathBuf,
    link: String,
    holder: Option<Running>,
    _container: Container,
    // The last to be dropped.
    pub user: FreshUser,
}

/// What strace does to a hook: this happens to its `number`th call of that name.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The system call.
    pub call: String,
    /// From 1.
    pub number: usize,
    /// `signal=KILL`, `error=EIO`, ...
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "inject={}:{}:when={}", self.call, self.what, self.number)
    }
}

/// What came of a start with a fault.
#[derive(Debug)]
pub struct Faulted {
    /// crun's own end.
    pub output: Output,
    /// Whether the hook met the fault: it does not if it makes fewer calls of that name.
    pub met: bool,
}

impl Bare {
    /// A container of its own user. It has run once, shielded.
    pub fn new() -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let user = FreshUser::with_hooks();
        let bait = Bait::new(&user, "bare");
        let container = Container::named(&user, "bare");
        user.profile("bare", PROFILE);
        let words = bait.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        user.shield(&[&["run", "bare", "--profiles", "bare", "--"], &words[..]].concat())
            .ok();
        assert_eq!(bait.fate("an ordinary start"), Fate::Shielded);
        let config = fs::read(container.inspect("{{.OCIConfigPath}}")).unwrap();
        let directory = PathBuf::from(format!("/run/user/{}/bare", user.uid));
        user.make_directory(&directory);
        let mut bare = Self {
            bait,
            config: serde_json::from_slice(&config).unwrap(),
            starter: Vec::new(),
            flags: Vec::new(),
            id: container.id(),
            directory,
            link: format!("bare{number}"),
            holder: None,
            _container: container,
            user,
        };
        bare.adapt();
        bare.connect(number);
        bare.holder = None;
        bare
    }

    fn adapt(&mut self) {
        let mount = self.user.podman(&["unshare", "podman", "mount", "bare"]).ok();
        let network = self.network();
        let config = &mut self.config;
        config["root"]["path"] = json!(mount.text());
        config["process"]["terminal"] = json!(false);
        let linux = config["linux"].as_object_mut().unwrap();
        linux.remove("cgroupsPath");
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        // There are no cgroups without podman's manager, and /dev/shm was podman's.
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
        for namespace in namespaces {
            if namespace["type"] == "network" {
                namespace["path"] = json!(network);
            }
        }
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["type"] != "cgroup" && mount["destination"] != "/dev/shm");
    }

    /// The file of its network namespace.
    fn network(&self) -> String {
        self.directory.join("network").to_str().unwrap().to_owned()
    }

    /// Words before a command that is to run as root of podman's user namespace.
    fn inside(&self) -> Vec<String> {
        let file = format!("/run/user/{}/libpod/tmp/pause.pid", self.user.uid);
        let pid = fs::read_to_string(file).unwrap();
        ["nsenter", "-U", "-m", "-S0", "-G0", "-t", pid.trim(), "--"]
            .map(str::to_owned)
            .to_vec()
    }

    fn run_inside(&self, words: &[&str]) -> Output {
        let inside = self.inside();
        let inside: Vec<&str> = inside.iter().map(String::as_str).collect();
        root(&[&inside, words].concat())
    }

    fn connect(&mut self, number: u32) {
        let network = self.network();
        self.run_inside(&["touch", &network]).ok();
        self.live_there(Some(&network));
        let pid = self.holder.as_ref().unwrap().pid().to_string();
        let link = self.link.clone();
        let (v4, v6) = (format!("10.88.{number}"), format!("fd88:{number:x}"));
        let lines = format!(
            "ip link add {link} type veth peer name eth0 netns {pid}
            ip address add {v4}.1/24 dev {link}
            ip address add {v6}::1/64 dev {link} nodad
            ip link set {link} up
            alias within='nsenter --net --target {pid}'
            within ip link set lo up
            within ip address add {v4}.2/24 dev eth0
            within ip address add {v6}::2/64 dev eth0 nodad
            within ip link set eth0 up
            within ip route add default via {v4}.1
            within ip route add default via {v6}::1"
        );
        root(&["sh", "-ec", &lines]).ok();
    }

    /// Starts a process that lives in its network namespace as long as this is not called again: with the file of a new
    /// one, or in the one that is there.
    fn live_there(&mut self, new: Option<&str>) {
        let mut words = self.inside();
        match new {
            Some(file) => words.extend(["unshare".to_owned(), format!("--net={file}")]),
            None => words.extend(["nsenter".to_owned(), format!("--net={}", self.network())]),
        }
        words.extend(["sh", "-c", "echo ready; exec sleep 100000"].map(str::to_owned));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut holder = Running::start(&words, b"");
        holder.wait_for_line("ready");
        self.holder = Some(holder);
    }

    /// Gives the container a stranger in its network namespace.
    pub fn add_stranger(&mut self) {
        self.live_there(None);
    }

    /// Takes the table away that an earlier start left in the network namespace.
    pub fn forget_table(&self) {
        let nft = ["nft", "flush", "ruleset"];
        self.run_inside(&[&["nsenter", &format!("--net={}", self.network())], &nft[..]].concat())
            .ok();
    }

    /// Starts it without any hook.
    pub fn start_without_hooks(&self) -> Output {
        let mut config = self.config.clone();
        config.as_object_mut().unwrap().remove("hooks").unwrap();
        self.crun(&config)
    }

    /// Starts it with its hook as it is.
    pub fn start(&self) -> Output {
        self.crun(&self.config)
    }

    /// The names of the system calls that the hook makes in a start without a fault.
    #[track_caller]
    pub fn calls(&self) -> Vec<String> {
        let (output, trace) = self.trace("all", "");
        output.ok();
        assert_eq!(self.bait.fate("a traced start"), Fate::Shielded);
        let name = |line: &str| Some(line.split_once('(')?.0.split_whitespace().last()?.to_owned());
        let names = trace.lines().filter_map(name);
        // It does not return, and is not told apart from what strace itself starts.
        let mut names: Vec<String> = names.filter(|name| name != "exit_group").collect();
        names.sort();
        names.dedup();
        names
    }

    /// Starts it with a fault in its hook.
    #[track_caller]
    pub fn start_with(&self, fault: &Fault) -> Faulted {
        let (output, trace) = self.trace(&format!("{},sendmsg", fault.call), &fault.to_string());
        if trace.contains("sendmsg(") {
            self.forget_table();
        }
        Faulted {
            output,
            met: trace.contains("(INJECTED)") || trace.contains("+++ killed by SIGKILL"),
        }
    }

    #[track_caller]
    fn trace(&self, calls: &str, fault: &str) -> (Output, String) {
        let trace = self.directory.join("trace");
        let _ = fs::remove_file(&trace);
        let mut config = self.config.clone();
        let hooks = config["hooks"]["createRuntime"].as_array_mut().unwrap();
        assert_eq!(hooks.len(), 1);
        let hook = &mut hooks[0];
        // -D: the hook stays the runtime's own child, and its end is what the runtime sees.
        let mut words = ["strace", "-D", "-f", "-o", trace.to_str().unwrap(), "-e"]
            .map(str::to_owned)
            .to_vec();
        words.push(format!("trace={calls}"));
        // Calls that do not count are not stopped at. From such a stop no signal can be sent.
        if !fault.contains("signal=") {
            words.push("--seccomp-bpf".to_owned());
        }
        if !fault.is_empty() {
            words.extend(["-e".to_owned(), fault.to_owned()]);
        }
        words.push(hook["path"].as_str().unwrap().to_owned());
        let own = hook["args"].as_array().unwrap().iter().skip(1);
        words.extend(own.map(|word| word.as_str().unwrap().to_owned()));
        hook["path"] = json!("/usr/bin/strace");
        hook["args"] = json!(words);
        let output = self.crun(&config);
        assert!(trace.exists(), "strace {fault}: {output:#?}");
        let text = wait_until("the end of the trace", || {
            let text = String::from_utf8_lossy(&fs::read(&trace).unwrap_or_default()).into_owned();
            text.lines().last()?.contains(" +++ ").then_some(text)
        });
        (output, text)
    }

    fn crun(&self, config: &Value) -> Output {
        let bundle = self.directory.to_str().unwrap();
        self.user.write(&self.directory.join("config.json"), config.to_string());
        let runtime_dir = format!("XDG_RUNTIME_DIR=/run/user/{}", self.user.uid);
        let runtime_root = self.directory.join("runtime");
        let mut words = self.inside();
        words.extend(["env", "-i", &runtime_dir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"].map(str::to_owned));
        words.extend(self.starter.iter().cloned());
        let crun = ["--cgroup-manager", "disabled", "run", "--bundle", bundle];
        words.extend(["crun", "--root", runtime_root.to_str().unwrap()].map(str::to_owned));
        words.extend(crun.map(str::to_owned));
        words.extend(self.flags.iter().cloned());
        words.push(self.id.clone());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        root(&words)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.holder = None;
        let network = self.network();
        self.run_inside(&["umount", "--lazy", &network]);
        self.user.podman(&["unshare", "podman", "umount", "bare"]);
        root(&["ip", "link", "delete", &self.link]);
    }
}
