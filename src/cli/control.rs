//! `allow`, `deny`, `up`, `down`, `block`, `resolve`: changing a running container.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use terok_shield::policy::Mode;
use terok_shield::{Error, Exit};

use super::launch::target;
use super::{Meter, args, print, shield, warn};

fn list(addresses: &[IpAddr], separator: &str) -> String {
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(separator)
}

/// Longest time that a mode or a grant may be given for.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// What `--for` asks for, in whole seconds: the kernel counts those.
fn time(given: Option<&str>) -> Result<Option<Duration>, Error> {
    let Some(given) = given else { return Ok(None) };
    let wrong = |why: &str| Error::Time {
        given: given.to_owned(),
        why: why.to_owned(),
    };
    let time = humantime::parse_duration(given).map_err(|_| wrong("expected a time such as 90s, 10m or 1h30m"))?;
    if time < Duration::from_secs(1) || time.subsec_nanos() != 0 {
        return Err(wrong("expected whole seconds, at least 1s"));
    }
    if time > LONGEST {
        return Err(wrong("expected at most 7d"));
    }
    Ok(Some(time))
}

fn in_words(time: Option<Duration>) -> String {
    time.map_or_else(String::new, |time| format!(" for {}", humantime::format_duration(time)))
}

pub(super) fn up(args: &args::Container) -> Result<u8> {
    let name = mode(&args.container, Mode::Up, None)?;
    print(&format!("Shield up for {name}\n"))?;
    Ok(Exit::Done as u8)
}

pub(super) fn down(args: &args::Down) -> Result<u8> {
    let time = time(args.time.as_deref())?;
    let (wanted, all) = if args.all {
        (Mode::DownAll, " (all traffic)")
    } else {
        (Mode::Down, "")
    };
    let name = mode(&args.container, wanted, time)?;
    let time = time.map_or_else(String::new, |time| {
        format!(", up again in {}", humantime::format_duration(time))
    });
    print(&format!("Shield down for {name}{all}{time}\n"))?;
    Ok(Exit::Done as u8)
}

pub(super) fn block(args: &args::Container) -> Result<u8> {
    let name = mode(&args.container, Mode::Block, None)?;
    print(&format!("All traffic blocked for {name}\n"))?;
    Ok(Exit::Done as u8)
}

fn mode(container: &str, mode: Mode, time: Option<Duration>) -> Result<String> {
    let shield = shield()?;
    let bundle = shield.find(container)?;
    shield.set_mode(&bundle, mode, time)?;
    Ok(bundle.name().to_string())
}

pub(super) fn allow(args: &args::Allow) -> Result<u8> {
    let target = target(&args.grant.target)?;
    let time = time(args.time.as_deref())?;
    let shield = shield()?;
    let bundle = shield.find(&args.grant.container)?;
    let outcome = shield.allow(&bundle, &target, time)?;
    let name = bundle.name();
    let told = target.to_string();
    let addresses = list(&outcome.addresses, ", ");
    let time = if outcome.for_good_already {
        String::new()
    } else {
        in_words(time)
    };
    let line = if addresses.is_empty() || addresses == told {
        format!("Allowed {told} for {name}{time}\n")
    } else {
        format!("Allowed {told} -> {addresses} for {name}{time}\n")
    };
    print(&line)?;
    if outcome.for_good_already {
        warn(&format!("{told} is allowed for good already; nothing was changed"));
    }
    for note in &outcome.notes {
        warn(&note.to_string());
    }
    if let Some(denial) = outcome.still_denied_by {
        warn(&format!(
            "{told} stays closed: {denial} is denied; `terok-shield allow {name} {denial}` lifts that"
        ));
    }
    Ok(Exit::Done as u8)
}

pub(super) fn deny(args: &args::Grant) -> Result<u8> {
    let target = target(&args.target)?;
    let shield = shield()?;
    let bundle = shield.find(&args.container)?;
    let outcome = shield.deny(&bundle, &target)?;
    let told = target.to_string();
    let addresses = list(&outcome.addresses, ", ");
    let name = bundle.name();
    let line = if addresses.is_empty() || addresses == told {
        format!("Denied {told} for {name}\n")
    } else {
        format!("Denied {told} ({addresses}) for {name}\n")
    };
    print(&line)?;
    Ok(Exit::Done as u8)
}

pub(super) fn resolve(args: &args::Resolve) -> Result<u8> {
    let shield = shield()?;
    let bundle = shield.find(&args.container)?;
    let (count, shortfall) = {
        let mut meter = Meter::new();
        shield.resolve(&bundle, args.force, &mut |done, total| meter.show(done, total))?
    };
    for line in shortfall.lines() {
        warn(&line);
    }
    let missing = if shortfall.unreachable.is_some() {
        count
    } else {
        shortfall.unresolved.len()
    };
    print(&format!(
        "Resolved {} of {count} names for {}\n",
        count - missing,
        bundle.name()
    ))?;
    Ok(if shortfall.unreachable.is_some() {
        Exit::Failed
    } else {
        Exit::Done
    } as u8)
}
