//! `status`, `rules`, `profiles`, `preview`: asking, without changing anything.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use anyhow::Result;
use serde_json::{Value, json};
use terok_shield::bundle::{Bundle, PolicyFile};
use terok_shield::kernel::Process;
use terok_shield::policy::{self, Addresses, Mode, Policy, Source};
use terok_shield::ruleset::{Layout, compile, preview as preview_document, table_text};
use terok_shield::shield::{Shield, State};
use terok_shield::{Error, Exit, bundle};

use super::launch::profile_names;
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

fn state_of(shield: &Shield, bundle: &Bundle, podman: &Podman) -> State {
    shield
        .state(bundle, |desired| podman.runs(desired))
        .unwrap_or_else(|error| {
            let error = anyhow::Error::new(error);
            State::Error(vec![format!("{error:#}")])
        })
}

pub(super) fn status(args: &args::Status) -> Result<u8> {
    let shield = shield()?;
    let podman = Podman::new();
    let Some(given) = &args.container else {
        return status_of_all(&shield, &podman, args.json);
    };
    let bundle = shield.find(given)?;
    let state = state_of(&shield, &bundle, &podman);
    if args.json {
        print(&format!("{}\n", status_json(&shield, &bundle, &state)))?;
    } else {
        print(&format!("{state}\n"))?;
    }
    if let State::Error(reasons) = &state {
        for reason in reasons {
            warn(&format!("{}: {reason}", bundle.name()));
        }
        return Ok(Exit::Failed as u8);
    }
    if let State::Mode(_) = &state
        && let Some(why) = dns_closed(&bundle)
    {
        warn(&format!("{}: DNS is closed: {why}", bundle.name()));
    }
    if state == State::Inactive
        && let Some(refusal) = bundle::refusal(&shield.paths.state, bundle.name())
    {
        warn(&format!("{}: its last start was refused: {refusal}", bundle.name()));
    }
    Ok(Exit::Done as u8)
}

/// Why a running container's resolvers are not known, where Podman was to name them after the hook.
fn dns_closed(bundle: &Bundle) -> Option<String> {
    bundle.running().ok().flatten()?.dns_closed
}

fn status_json(shield: &Shield, bundle: &Bundle, state: &State) -> Value {
    let reasons = match state {
        State::Error(reasons) => reasons.clone(),
        _ => Vec::new(),
    };
    json!({
        "container": bundle.name().to_string(),
        "state": state.to_string(),
        "reasons": reasons,
        "dns_closed": matches!(state, State::Mode(_)).then(|| dns_closed(bundle)).flatten(),
        "last_refusal": bundle::refusal(&shield.paths.state, bundle.name()),
    })
}

fn status_of_all(shield: &Shield, podman: &Podman, as_json: bool) -> Result<u8> {
    let bundles = shield.bundles()?;
    let states: Vec<(&Bundle, State)> = bundles
        .iter()
        .map(|bundle| (bundle, state_of(shield, bundle, podman)))
        .collect();
    let failed = states.iter().any(|(_, state)| matches!(state, State::Error(_)));
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
    if as_json {
        let list: Vec<Value> = states
            .iter()
            .map(|(bundle, state)| status_json(shield, bundle, state))
            .collect();
        print(&format!("{}\n", json!({ "hooks": hooks, "containers": list })))?;
    } else {
        let mut text = format!(
            "terok-shield {}\nhooks: {hooks}\nstate: {}\nnames: looked up ahead of time (dns = \"static\")\n",
            env!("CARGO_PKG_VERSION"),
            shield.paths.state.display()
        );
        for (bundle, state) in &states {
            text.push_str(&format!("{}\t{state}\n", bundle.name()));
        }
        print(&text)?;
    }
    for (bundle, state) in &states {
        if let State::Error(reasons) = state {
            for reason in reasons {
                warn(&format!("{}: {reason}", bundle.name()));
            }
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Done } as u8)
}

pub(super) fn rules(args: &args::Rules) -> Result<u8> {
    let shield = shield()?;
    let bundle = shield.find(&args.container)?;
    let listing = shield.rules(&bundle)?;
    if args.json {
        print(&format!("{}\n", listing.trim_end()))?;
    } else {
        let state = state_of(&shield, &bundle, &Podman::new());
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
    let layout = Layout {
        mode: policy.mode,
        refuse: policy.refuse,
        sets: contents.sets.keys().copied().collect(),
    };
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
