//! Files that others read, held to what the code says: the JSON Schemas of the bundle and of events, and the ruleset of a
//! policy as `preview` prints it. `UPDATE_GOLDEN=1 cargo test --test golden` writes them anew.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use schemars::schema_for;
use serde_json::Value;
use terok_shield::audit::Event;
use terok_shield::bundle::{PolicyFile, ResolvedFile, RunningFile};
use terok_shield::environment::Report;
use terok_shield::policy::{Action, Addresses, Entry, Grant, Mode, Origin, Policy};
use terok_shield::ruleset::{Layout, compile, preview};
use terok_shield::shield::{Explanation, Summary};

fn golden(file: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = format!("{value:#}\n");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{file} is not what the code says; UPDATE_GOLDEN=1 cargo test --test golden writes it anew"
    );
}

#[test]
fn the_schemas_are_those_of_the_types() {
    golden("schemas/policy.schema.json", schema_for!(PolicyFile).as_value());
    golden("schemas/resolved.schema.json", schema_for!(ResolvedFile).as_value());
    golden("schemas/running.schema.json", schema_for!(RunningFile).as_value());
    golden("schemas/event.schema.json", schema_for!(Event).as_value());
    golden("schemas/status.schema.json", schema_for!(Summary).as_value());
    golden("schemas/explanation.schema.json", schema_for!(Explanation).as_value());
    golden("schemas/environment.schema.json", schema_for!(Report).as_value());
}

#[test]
fn the_ruleset_of_a_policy_is_the_one_that_was_reviewed() {
    for mode in Mode::ALL {
        let targets = [
            "example.com:443/tcp",
            "203.0.113.10",
            "2001:db8::10",
            "198.51.100.0/24:22,8000-8100",
        ];
        let policy = Policy {
            mode,
            entries: targets
                .iter()
                .map(|target| Entry {
                    target: target.parse().unwrap(),
                    origin: Origin {
                        profile: "test".parse().unwrap(),
                        line: 1,
                    },
                })
                .collect(),
            grants: vec![Grant {
                action: Action::Deny,
                target: "198.51.100.7".parse().unwrap(),
                life: None,
            }],
            upstreams: vec!["10.0.2.3".parse().unwrap()],
            ..Policy::default()
        };
        let names = Addresses::from([(
            "example.com".to_owned(),
            vec!["203.0.113.20".parse().unwrap(), "2001:db8::20".parse().unwrap()],
        )]);
        let contents = compile(&policy, &names);
        let layout = Layout::of(&policy, &contents);
        golden(
            &format!("tests/golden/ruleset-{mode}.json"),
            &preview(&layout, &contents),
        );
    }
}
