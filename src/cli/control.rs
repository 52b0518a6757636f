//! `allow`, `deny`, `resolve`: changing a running container.

use std::net::IpAddr;

use anyhow::Result;
use terok_shield::Exit;

use super::launch::target;
use super::{Meter, args, print, shield, warn};

fn list(addresses: &[IpAddr], separator: &str) -> String {
    addresses
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(separator)
}

pub(super) fn allow(args: &args::Grant) -> Result<u8> {
    let target = target(&args.target)?;
    let shield = shield()?;
    let bundle = shield.find(&args.container)?;
    let outcome = shield.allow(&bundle, &target)?;
    let name = bundle.name();
    let told = target.to_string();
    let addresses = list(&outcome.addresses, ", ");
    let line = if addresses.is_empty() || addresses == told {
        format!("Allowed {told} for {name}\n")
    } else {
        format!("Allowed {told} -> {addresses} for {name}\n")
    };
    print(&line)?;
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
