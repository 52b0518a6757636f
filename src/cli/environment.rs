//! `check-environment`: whether this machine can shield containers, and what to do if not.

use anyhow::Result;
use terok_shield::Exit;
use terok_shield::environment::examine;

use super::setup::{conf_paths, hook_sets, program};
use super::{args, print};

pub(super) fn check(args: &args::Json) -> Result<u8> {
    let report = examine(&hook_sets(), &conf_paths(), &program()?);
    if args.json {
        print(&format!("{:#}\n", serde_json::to_value(&report)?))?;
    } else {
        let mut text = String::new();
        for check in &report.checks {
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
    Ok(if report.ready { Exit::Done } else { Exit::Environment } as u8)
}
