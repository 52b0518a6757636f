//! Whether this machine can shield containers, what keeps it from that, and the command that mends it.

mod proof;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use schemars::JsonSchema;
use serde::Serialize;

use crate::Error;
use crate::config::Paths;
use crate::podman::{ConfPaths, HookSet, serving, shell_quote};
use crate::shield::Shield;

pub use proof::{Packet, Standing, Unproved, prove};

/// Everything that was looked at.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Whether every check is good.
    pub ready: bool,
    /// One thing that was looked at each.
    pub checks: Vec<Check>,
    /// What was sent to prove the protection, and what became of it; nothing if it could not be proved.
    pub packets: Vec<Packet>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// `podman`, `hooks`, `protection`, ...
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

fn good(name: &'static str, detail: impl Into<String>) -> Check {
    Check {
        name,
        ok: true,
        detail: detail.into(),
        mend: None,
    }
}

fn bad(name: &'static str, detail: impl Into<String>, mend: impl Into<String>) -> Check {
    Check {
        name,
        ok: false,
        detail: detail.into(),
        mend: Some(mend.into()),
    }
}

/// Looks at everything. `sets` are the hooks that podman may run for this user, `conf` the files that it reads, `program` what
/// the hooks should start.
#[must_use]
pub fn examine(sets: &[HookSet], conf: &ConfPaths, program: &Path) -> Report {
    let mut checks = vec![podman(), runtime(), networks(conf), subordinate_ids(), tables()];
    checks.extend(hooks(sets, program));
    checks.push(state());
    let (protection, packets) = protection();
    checks.push(protection);
    Report {
        ready: checks.iter().all(|check| check.ok),
        checks,
        packets,
    }
}

/// Standard output of a program, if it ran and succeeded.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stderr(Stdio::null())
        .stdin(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Oldest podman with a `precreate` stage that the seal was tested with.
const PODMAN_MINIMUM: (u32, u32) = (4, 3);

fn podman() -> Check {
    let Some(version) = output_of("podman", &["version", "--format", "{{.Client.Version}}"]) else {
        return bad("podman", "podman does not run", "apt install podman");
    };
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < PODMAN_MINIMUM {
        return bad(
            "podman",
            format!("podman {version} is older than 4.3"),
            "apt install --upgrade podman",
        );
    }
    good("podman", format!("podman {version}"))
}

fn runtime() -> Check {
    match output_of("podman", &["info", "--format", "{{.Host.OCIRuntime.Name}}"]) {
        Some(name) if name == "crun" || name == "runc" => good("runtime", name),
        Some(name) => bad(
            "runtime",
            format!("{name} is neither crun nor runc"),
            "apt install crun, and set runtime = \"crun\" in containers.conf",
        ),
        None => bad("runtime", "podman info does not answer", "podman info"),
    }
}

/// Whether podman gives every network options that would open the host.
fn networks(conf: &ConfPaths) -> Check {
    match conf.screen_network() {
        Ok(()) => good("networks", "no option of containers.conf opens the host"),
        Err(error) => {
            let file = error
                .path()
                .unwrap_or(conf.user_target())
                .to_string_lossy()
                .into_owned();
            bad(
                "networks",
                error.to_string(),
                format!("${{EDITOR:-vi}} {}", shell_quote(&[file])),
            )
        }
    }
}

fn subordinate_ids() -> Check {
    if nix::unistd::geteuid().is_root() {
        return good("user namespace", "root: not needed");
    }
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let Some(user) = user else {
        return bad("user namespace", "this uid has no user name", "useradd");
    };
    let uid = user.uid.to_string();
    let listed = |file: &str| {
        fs::read_to_string(file).is_ok_and(|text| {
            text.lines().any(|line| {
                line.split(':')
                    .next()
                    .is_some_and(|owner| owner == user.name || owner == uid)
            })
        })
    };
    if listed("/etc/subuid") && listed("/etc/subgid") {
        good("user namespace", format!("{} has subordinate uids and gids", user.name))
    } else {
        bad(
            "user namespace",
            format!("{} has no subordinate uids and gids", user.name),
            format!(
                "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}",
                user.name
            ),
        )
    }
}

/// Whether the kernel knows nftables: loaded, built in, or loadable.
fn tables() -> Check {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let loaded = Path::new("/proc/sys/net/netfilter").exists();
    let modules = fs::read_to_string(format!("/lib/modules/{release}/modules.builtin")).unwrap_or_default()
        + &fs::read_to_string(format!("/lib/modules/{release}/modules.dep")).unwrap_or_default();
    if loaded || modules.contains("nf_tables") {
        good("nftables", format!("kernel {release}"))
    } else {
        bad(
            "nftables",
            format!("kernel {release} has no nf_tables"),
            "modprobe nf_tables",
        )
    }
}

/// One check that is good, or one for each command that has to be run.
fn hooks(sets: &[HookSet], program: &Path) -> Vec<Check> {
    let findings = match serving(sets, program) {
        Ok(set) => return vec![good("hooks", format!("installed in {}", set.dirs()[0].display()))],
        Err(findings) => findings,
    };
    let mut checks: Vec<Check> = Vec::new();
    for finding in findings {
        let mend = finding.mend.unwrap_or_else(|| "terok-shield setup --user".to_owned());
        if checks.iter().all(|check| check.mend.as_ref() != Some(&mend)) {
            checks.push(bad("hooks", finding.message, mend));
        }
    }
    if checks.is_empty() {
        checks.push(bad("hooks", "not installed", "terok-shield setup --user"));
    }
    checks
}

fn state() -> Check {
    let error = match Shield::open().and_then(|shield| Ok((shield.bundles()?.len(), shield))) {
        Ok((count, shield)) => {
            return good(
                "state",
                format!("{count} containers in {}", shield.paths.state.display()),
            );
        }
        Err(error) => error,
    };
    let mut detail = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        detail = format!("{detail}: {error}");
        cause = error.source();
    }
    let quoted = |path: PathBuf| shell_quote(&[path.to_string_lossy().into_owned()]);
    let mend = match (&error, Paths::for_user()) {
        (Error::Config(_), Ok(paths)) => format!("${{EDITOR:-vi}} {}", quoted(paths.config_file())),
        (_, Ok(paths)) => {
            let state = quoted(paths.state);
            format!("sudo chown -R \"$(id -u)\" {state} && chmod -R go-rwx {state}")
        }
        (_, Err(_)) => "export HOME=\"$(getent passwd \"$(id -u)\" | cut -d: -f6)\"".to_owned(),
    };
    bad("state", detail, mend)
}

/// What makes libnftables and the kernel's part of it what the distribution ships.
const REINSTALL: &str = "sudo apt install --reinstall libnftables1";

fn protection() -> (Check, Vec<Packet>) {
    let unproved = match prove() {
        Ok(packets) => return judged(packets),
        Err(unproved) => unproved,
    };
    let mend = match &unproved {
        Unproved::Namespaces(_) => "sudo sysctl -w user.max_user_namespaces=28633 user.max_net_namespaces=28633",
        Unproved::Device(_) => "sudo sh -c 'modprobe tun && chmod 0666 /dev/net/tun'",
        Unproved::Silent(_) | Unproved::Unsent { .. } => {
            "sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0"
        }
        Unproved::Table(_) => "sudo modprobe -a nf_tables nft_fib_inet nft_reject_inet nft_ct nft_log",
        Unproved::Drifted(_) | Unproved::Crashed(_) => REINSTALL,
    };
    (bad("protection", format!("not proved: {unproved}"), mend), Vec::new())
}

fn judged(packets: Vec<Packet>) -> (Check, Vec<Packet>) {
    let listed = packets
        .iter()
        .filter(|packet| packet.standing == Standing::Listed)
        .count();
    let check = match packets.iter().find(|packet| !packet.is_right()) {
        Some(wrong) => bad("protection", format!("it does not hold: {wrong}"), REINSTALL),
        None => good(
            "protection",
            format!(
                "proved with packets: {listed} to what is listed passed, {} to anything else did not",
                packets.len() - listed
            ),
        ),
    };
    (check, packets)
}
