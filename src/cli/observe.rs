//! `logs`: what happened.

use anyhow::Result;
use terok_shield::audit::read_all;
use terok_shield::{Error, Exit};

use super::{args, print, shield};

pub(super) fn logs(args: &args::Logs) -> Result<u8> {
    let shield = shield()?;
    let logs = match &args.container {
        Some(given) => vec![shield.find(given)?.log()],
        None => shield
            .bundles()?
            .iter()
            .map(terok_shield::bundle::Bundle::log)
            .collect(),
    };
    let mut text = String::new();
    for event in read_all(logs, args.count).map_err(Error::from)? {
        text.push_str(&serde_json::to_string(&event)?);
        text.push('\n');
    }
    print(&text)?;
    Ok(Exit::Done as u8)
}
