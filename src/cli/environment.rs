//! `check-environment`: whether this machine can shield containers, and what to do if not.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use serde::Serialize;
use terok_shield::Exit;
use terok_shield::podman::serving;

use super::setup::{conf_paths, hook_sets, program};
use super::{args, print};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
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

pub(super) fn check(args: &args::Json) -> Result<u8> {
    let checks = vec![
        podman(),
        runtime(),
        networks(),
        subordinate_ids(),
        tables(),
        hooks()?,
        state(),
    ];
    let ready = checks.iter().all(|check| check.ok);
    if args.json {
        print(&format!(
            "{:#}\n",
            serde_json::json!({ "ready": ready, "checks": checks })
        ))?;
    } else {
        let mut text = String::new();
        for check in &checks {
            text.push_str(&format!(
                "{:<5} {:<16} {}\n",
                if check.ok { "ok" } else { "FAIL" },
                check.name,
                check.detail
            ));
            if let Some(mend) = &check.mend {
                text.push_str(&format!("{:22} mend: {mend}\n", ""));
            }
        }
        print(&text)?;
    }
    Ok(if ready { Exit::Done } else { Exit::Environment } as u8)
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
fn networks() -> Check {
    match conf_paths().screen_network() {
        Ok(()) => good("networks", "no option of containers.conf opens the host"),
        Err(error) => bad("networks", error.to_string(), "correct the file that is named"),
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

fn hooks() -> Result<Check> {
    let sets = hook_sets();
    Ok(match serving(&sets, &program()?) {
        Ok(set) => good("hooks", format!("installed in {}", set.dirs()[0].display())),
        Err(findings) => findings.first().map_or_else(
            || bad("hooks", "not installed", "terok-shield setup --user"),
            |finding| {
                bad(
                    "hooks",
                    finding.message.clone(),
                    finding.mend.unwrap_or("terok-shield setup --user"),
                )
            },
        ),
    })
}

fn state() -> Check {
    match super::shield().and_then(|shield| Ok((shield.bundles()?.len(), shield))) {
        Ok((count, shield)) => good(
            "state",
            format!("{count} containers in {}", shield.paths.state.display()),
        ),
        Err(error) => bad("state", format!("{error:#}"), "correct the file that is named"),
    }
}
