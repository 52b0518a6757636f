//! `status`, `rules`, `explain`, `profiles`, `preview`: asking, without changing anything.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use terok_shield::bundle::{Bundle, PolicyFile};
use terok_shield::kernel::Process;
use terok_shield::policy::{self, Addresses, Mode, Policy, Source};
use terok_shield::ruleset::{Layout, compile, preview as preview_document, table_text};
use terok_shield::shield::{Explanation, Shield, Status, Summary};
use terok_shield::{Error, Exit};

use super::launch::{profile_names, target};
use super::setup::{hook_sets, program};
use super::{args, print, shield, warn};

/// Containers that run as far as Podman knows, by id and by name; asked once, and only if somebody wants to know.
struct Podman {
    running: OnceCell<BTreeSet<String>>,
}

impl Podman {
    fn new() -> Self {
        Self {
            running: OnceCell::new(),
        }
    }

    fn runs(&self, desired: &PolicyFile) -> bool {
        let running = self.running.get_or_init(|| {
            let output = Command::new("podman")
                .args(["ps", "--no-trunc", "--format", "{{.ID}} {{.Pid}} {{.Names}}"])
                .stderr(Stdio::null())
                .output();
            let text = output.map(|output| output.stdout).unwrap_or_default();
            String::from_utf8_lossy(&text)
                .lines()
                .filter_map(|line| {
                    let mut words = line.split_whitespace();
                    let (id, pid, name) = (words.next()?, words.next()?, words.next()?);
                    // Podman learns of an end a little late.
                    let alive = Process::open(pid.parse().ok()?).is_ok_and(|process| process.is_alive());
                    alive.then(|| [id.to_owned(), name.to_owned()])
                })
                .flatten()
                .collect()
        });
        desired.container_id.as_ref().is_some_and(|id| running.contains(id)) || running.contains(&desired.name)
    }
}

fn status_of(shield: &Shield, bundle: &Bundle, podman: &Podman) -> Status {
    shield.status(bundle, |desired| podman.runs(desired))
}

/// What is wrong, and what is worth knowing, on standard error. Whether anything is wrong.
fn remark(status: &Status) -> bool {
    let name = &status.container;
    for reason in &status.reasons {
        warn(&format!("{name}: {reason}"));
    }
    if let Some(why) = &status.dns_closed {
        warn(&format!("{name}: DNS is closed: {why}"));
    }
    if status.state == "error" {
        return true;
    }
    if let Some(left) = status.left {
        warn(&format!(
            "{name}: up again in {}",
            humantime::format_duration(Duration::from_secs(left.into()))
        ));
    }
    false
}

pub(super) fn status(args: &args::Status) -> Result<u8> {
    let shield = shield()?;
    let podman = Podman::new();
    let Some(given) = &args.container else {
        return status_of_all(&shield, &podman, args.json);
    };
    let bundle = shield.find(given)?;
    let status = status_of(&shield, &bundle, &podman);
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&status)?))?;
    } else {
        print(&format!("{}\n", status.state))?;
    }
    if remark(&status) {
        return Ok(Exit::Failed as u8);
    }
    if status.state == "inactive"
        && let Some(refusal) = &status.last_refusal
    {
        warn(&format!("{}: its last start was refused: {refusal}", status.container));
    }
    Ok(Exit::Done as u8)
}

fn status_of_all(shield: &Shield, podman: &Podman, as_json: bool) -> Result<u8> {
    let bundles = shield.bundles()?;
    let containers: Vec<Status> = bundles.iter().map(|bundle| status_of(shield, bundle, podman)).collect();
    let program = program()?;
    let sets = hook_sets();
    let hooks = match terok_shield::podman::serving(&sets, &program) {
        Ok(set) => format!("installed in {}", set.dirs()[0].display()),
        Err(findings) => findings.first().map_or_else(
            || "not installed; run `terok-shield setup --user`".to_owned(),
            |finding| {
                format!(
                    "not ready: {}; run `{}`",
                    finding.message,
                    finding.mend.as_deref().unwrap_or("terok-shield check-environment")
                )
            },
        ),
    };
    let summary = Summary { hooks, containers };
    if as_json {
        print(&format!("{}\n", serde_json::to_string(&summary)?))?;
    } else {
        let mut text = format!(
            "terok-shield {}\nhooks: {}\nstate: {}\nnames: looked up ahead of time (dns = \"static\")\n",
            env!("CARGO_PKG_VERSION"),
            summary.hooks,
            shield.paths.state.display()
        );
        for status in &summary.containers {
            text.push_str(&format!("{}\t{}\n", status.container, status.state));
        }
        print(&text)?;
    }
    let failed = summary.containers.iter().filter(|status| remark(status)).count();
    Ok(if failed > 0 { Exit::Failed } else { Exit::Done } as u8)
}

pub(super) fn explain(args: &args::Explain) -> Result<u8> {
    let target = target(&args.grant.target)?;
    let shield = shield()?;
    let bundle = shield.find(&args.grant.container)?;
    let explanation = shield.explain(&bundle, &target)?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&explanation)?))?;
    } else {
        print(&in_words(&explanation))?;
    }
    for difference in &explanation.differs {
        warn(&format!("{}: {difference}", explanation.container));
    }
    Ok(if explanation.differs.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    } as u8)
}

/// Parts that are shown to people, before the rest is a number.
const PARTS_SHOWN: usize = 50;

fn in_words(explanation: &Explanation) -> String {
    let mut text = String::new();
    if let Some(name) = &explanation.name {
        text.push_str(&format!("{}: {}\n", explanation.target, name.verdict));
        for line in &name.because {
            text.push_str(&format!("  because  {line}\n"));
        }
        if name.addresses.is_empty() {
            text.push_str("  no addresses of it are known: nothing is open by this name\n");
        }
    }
    for part in explanation.parts.iter().take(PARTS_SHOWN) {
        let ports = if part.ports == "all" {
            String::new()
        } else {
            format!(" ({})", part.ports)
        };
        text.push_str(&format!("{}{ports}: {}\n", part.addresses, part.verdict));
        text.push_str(&format!("  rule     {}\n", part.rule));
        for line in &part.because {
            text.push_str(&format!("  because  {line}\n"));
        }
        text.push_str(&format!("  change   {}\n", part.change));
    }
    if explanation.parts.len() > PARTS_SHOWN {
        text.push_str(&format!(
            "... and {} more parts (see --json)\n",
            explanation.parts.len() - PARTS_SHOWN
        ));
    }
    if !explanation.checked {
        text.push_str("The container is not running: this is what its policy says.\n");
    }
    text
}

pub(super) fn rules(args: &args::Rules) -> Result<u8> {
    let shield = shield()?;
    let bundle = shield.find(&args.container)?;
    let listing = shield.rules(&bundle)?;
    if args.json {
        print(&format!("{}\n", listing.trim_end()))?;
    } else {
        let state = status_of(&shield, &bundle, &Podman::new()).state;
        let value: Value = serde_json::from_str(&listing)?;
        print(&format!("state: {state}\n{}", table_text(&value)))?;
    }
    Ok(Exit::Done as u8)
}

pub(super) fn profiles(args: &args::Profiles) -> Result<u8> {
    let shield = shield()?;
    let profiles = shield.profiles();
    if let Some(given) = &args.profile {
        let names = profile_names(std::slice::from_ref(given))?;
        // Loading finds out whether it can be used, and says which are near if there is none.
        policy::load(&names, &profiles).map_err(Error::from)?;
        for name in &names {
            if let Some(text) = profiles.read(name).map_err(Error::from)? {
                print(&text.text)?;
            }
        }
        return Ok(Exit::Done as u8);
    }
    let mut text = String::new();
    let mut broken = false;
    for listing in profiles.list() {
        let size = match &listing.targets {
            Ok(count) => format!("{count} targets"),
            Err(error) => {
                broken = true;
                warn(&error.to_string());
                "broken".to_owned()
            }
        };
        let origin = match (&listing.path, listing.overrides) {
            (Some(path), true) => format!("{} (in place of the bundled one)", path.display()),
            (Some(path), false) => path.display().to_string(),
            (None, _) => "bundled".to_owned(),
        };
        text.push_str(&format!(
            "{:<16} {:<12} {origin}\n{:16} {}\n",
            listing.name.to_string(),
            size,
            "",
            listing.description.unwrap_or_default()
        ));
    }
    print(&text)?;
    Ok(if broken { Exit::Failed } else { Exit::Done } as u8)
}

pub(super) fn preview(args: &args::Preview) -> Result<u8> {
    let shield = shield()?;
    let (_, entries) = shield.targets(&profile_names(&args.profiles)?)?;
    let policy = Policy {
        mode: match (args.down, args.all) {
            (true, true) => Mode::DownAll,
            (true, false) => Mode::Down,
            _ => Mode::Up,
        },
        refuse: shield.config.refuse,
        entries,
        ..Policy::default()
    };
    // Names have no addresses here: they are looked up when a container is launched.
    let contents = compile(&policy, &Addresses::new());
    let layout = Layout::of(&policy, &contents);
    let document = preview_document(&layout, &contents);
    if args.json {
        print(&format!("{document:#}\n"))?;
        return Ok(Exit::Done as u8);
    }
    let mut text = format!("{policy}\n\n");
    for note in &contents.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str(&table_text(&flat(&document)));
    print(&text)?;
    Ok(Exit::Done as u8)
}

/// The objects of a document without their commands, as a listing has them.
fn flat(document: &Value) -> Value {
    let objects: Vec<Value> = document["nftables"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|command| command.as_object()?.values().next().cloned())
        .collect();
    json!({ "nftables": objects })
}
