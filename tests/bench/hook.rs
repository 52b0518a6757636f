//! The hook as the runtime starts it, in a user namespace like Podman's, for network namespaces made for it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use terok_shield::kernel::{Detail, Nft};

use crate::{as_user, line, median, run_quietly, time};

const PROFILE: &str = "allowed.test\n=second.test:443/tcp\n203.0.113.11\n2001:db8::11\n198.51.100.0/24\n2001:db8:1::/64\n203.0.113.12:8000/tcp\n";
const ADDRESSES: u32 = 100_000;
const TURNS: usize = 40;
const BIG_TURNS: usize = 3;
/// Stands between the lines that are printed and the times of the big list, in nanoseconds.
const BIG: &str = "--big--";

/// A network of its own around a process that waits.
struct Namespace(Child);

impl Namespace {
    /// With a root directory on which something is mounted, as the runtime has done by the time of the hook.
    fn new(root: &Path) -> Self {
        std::fs::create_dir_all(root).unwrap();
        let child = Command::new("unshare")
            .args(["-n", "-m", "sh", "-c", "mount -t tmpfs none \"$0\" && echo && exec cat"])
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut this = Self(child);
        let mut byte = [0];
        std::io::Read::read_exact(this.0.stdout.as_mut().unwrap(), &mut byte).unwrap();
        this
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the older tool did: two programs, started one through the other.
fn enter_and_load(namespace: &Namespace, file: &str) -> Duration {
    let pid = namespace.pid().to_string();
    time(Command::new("nsenter").args(["-t", &pid, "-n", "nft", "-f", file]))
}

/// Prepares two bundles as the user, and measures inside a user namespace like Podman's.
pub fn measure(binaries: &str) {
    let shield = format!("{binaries}/terok-shield");
    let own = std::env::current_exe().unwrap();
    let write = |name: &str, text: &str| {
        let path = format!(".config/terok/shield/profiles/{name}.txt");
        let mut child = as_user(&[
            "sh",
            "-c",
            &format!("umask 022; mkdir -p $(dirname {path}); cat > {path}"),
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    };
    let addresses: Vec<String> = (0..ADDRESSES)
        .map(|n| std::net::Ipv4Addr::from_bits(0x0600_0000 + n * 3).to_string())
        .collect();
    write("bench", PROFILE);
    write("bench-big", &addresses.join("\n"));
    run_quietly(&mut as_user(&[&shield, "prepare", "bench", "--profiles", "bench"]));
    run_quietly(&mut as_user(&[
        &shield,
        "prepare",
        "bench-big",
        "--profiles",
        "bench-big",
    ]));
    let nft = format!(
        "table inet t {{ set s {{ type ipv4_addr; flags interval; elements = {{ {} }}\n}}\n}}\n",
        addresses.join(", ")
    );
    let path = std::env::temp_dir().join("bench-big.nft");
    std::fs::write(&path, nft).unwrap();
    // As real root: past the socket's send buffer nft fails without it.
    let theirs = (0..BIG_TURNS)
        .map(|_| {
            let namespace = Namespace::new(&std::env::temp_dir().join("bench-root"));
            enter_and_load(&namespace, path.to_str().unwrap())
        })
        .collect();
    let output = as_user(&["unshare", "-r", own.to_str().unwrap(), "--hook", binaries])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (lines, ours) = text.split_once(BIG).unwrap();
    print!("{lines}");
    let ours = ours
        .lines()
        .filter_map(|line| line.parse().ok())
        .map(Duration::from_nanos)
        .collect();
    line(
        "hook with 100,000 addresses",
        median(ours),
        "nft -f, one interval set",
        median(theirs),
        "aim at most 0.7",
    );
    std::fs::remove_file(path).unwrap();
}

/// Inside the user namespace: the hook against its comparisons, turn by turn.
pub fn inside(arguments: &[String]) {
    let binaries = &arguments[0];
    let mut empty = Vec::new();
    let mut hook = Vec::new();
    let mut nsenter = Vec::new();
    let rules = ruleset(binaries);
    let mut least = Vec::new();
    let document = document(binaries);
    let own = std::env::current_exe().unwrap();
    for turn in 0..TURNS {
        empty.push(time(&mut Command::new(format!("{binaries}/linked-empty"))));
        hook.push(start(binaries, "bench", turn).0);
        let namespace = Namespace::new(&std::env::temp_dir().join("bench-root"));
        nsenter.push(enter_and_load(&namespace, &rules));
        let namespace = Namespace::new(&std::env::temp_dir().join("bench-root"));
        let pid = namespace.pid().to_string();
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-n"]).arg(&own).args(["--floor", &document]);
        least.push(time(&mut command));
    }
    let hook = median(hook);
    line(
        "hook, first start",
        hook,
        "empty program, same library",
        median(empty),
        "aim at most 3",
    );
    line("", hook, "nsenter + nft -f, same rules", median(nsenter), "");
    line(
        "",
        hook,
        "nsenter + apply and list, no more",
        median(least),
        "the floor of reading back",
    );

    println!("{BIG}");
    for turn in 0..BIG_TURNS {
        println!("{}", start(binaries, "bench-big", turn).0.as_nanos());
    }
}

/// Applies a document and lists the ruleset, as the hook does, and does nothing else.
pub fn floor(document: &str) {
    let text = std::fs::read_to_string(document).unwrap();
    let mut nft = Nft::new().unwrap();
    nft.apply(&text).unwrap();
    nft.list_ruleset(Detail::Full).unwrap();
    std::mem::forget(nft);
}

/// The document for the same profile, without the addresses of its names.
fn document(binaries: &str) -> String {
    let output = Command::new(format!("{binaries}/terok-shield"))
        .args(["preview", "--json", "--profiles", "bench"])
        .env("TEROK_SHIELD_CONFIG_DIR", "/home/shield/.config/terok/shield")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = std::env::temp_dir().join("bench-document.json");
    std::fs::write(&path, output.stdout).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The rules that the hook makes, in nft's own grammar.
fn ruleset(binaries: &str) -> String {
    let (_, namespace) = start(binaries, "bench", 1000);
    let listing = Command::new("nsenter")
        .args(["-t", &namespace.pid().to_string(), "-n", "nft", "list", "ruleset"])
        .output()
        .unwrap();
    let path = std::env::temp_dir().join("bench-rules.nft");
    std::fs::write(&path, listing.stdout).unwrap();
    path.to_str().unwrap().to_owned()
}

/// One start of a container: the hook's time, and the namespace it shielded.
fn start(binaries: &str, name: &str, turn: usize) -> (Duration, Namespace) {
    let id = format!("{:064x}", turn + 1);
    // Podman's places; gone after each turn, as when the container is removed.
    let container = std::env::temp_dir().join(format!("bench-containers/{id}"));
    let bundle = container.join("userdata");
    std::fs::create_dir_all(&bundle).unwrap();
    let root = std::env::temp_dir().join("bench-root");
    let namespace = Namespace::new(&root);
    let resolv = bundle.join("resolv.conf");
    std::fs::write(&resolv, "nameserver 10.0.2.3\n").unwrap();
    let annotations = json!({"terok.shield.profiles": name, "terok.shield.name": name});
    let config = json!({
        "process": {"capabilities": {"bounding": ["CAP_CHOWN"]}, "env": []},
        "root": {"path": root},
        "mounts": [{"destination": "/etc/resolv.conf", "type": "bind", "source": resolv, "options": ["bind"]}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}]},
        "annotations": annotations,
    });
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let state = json!({
        "ociVersion": "1.0", "id": id, "pid": namespace.pid(), "bundle": bundle, "status": "created",
        "annotations": annotations,
    });
    std::fs::write(bundle.join("state.json"), state.to_string()).unwrap();
    // The hook asks who calls it: a shell by the name of crun, which it does not replace.
    let took = {
        let start = Instant::now();
        let status = Command::new("sh")
            .arg0("crun")
            .args(["-c", "\"$0\" hook createRuntime < \"$1\"; exit $?"])
            .args([Path::new(binaries).join("terok-shield"), bundle.join("state.json")])
            .status()
            .unwrap();
        assert!(status.success(), "the hook refused");
        start.elapsed()
    };
    let shell = {
        let start = Instant::now();
        let status = Command::new("sh")
            .arg0("crun")
            .args(["-c", "exit $?"])
            .status()
            .unwrap();
        assert!(status.success());
        start.elapsed()
    };
    std::fs::remove_dir_all(container).unwrap();
    // What the shell around it costs is not the hook's.
    (took.saturating_sub(shell), namespace)
}
