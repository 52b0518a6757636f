//! Podman's hook file, schema 1.0.0 (`man 5 oci-hooks`): what ours say, and how they are known again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the hooks' environment is, whatever podman's was.
const HOOK_ENV: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
/// Seconds after which the runtime kills a hook, which refuses the start.
const HOOK_TIMEOUT_SECONDS: u32 = 30;
/// Matched unanchored by podman, hence the anchors.
const HOOK_ANNOTATION: &str = r"^terok\.shield\.profiles$";

/// Podman's hook file, schema 1.0.0.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HookFile {
    pub(super) version: String,
    pub(super) hook: HookCommand,
    pub(super) when: HookWhen,
    pub(super) stages: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HookCommand {
    pub(super) path: String,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) timeout: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HookWhen {
    pub(super) annotations: BTreeMap<String, String>,
}

impl HookFile {
    pub(super) fn new(program: &str, stage: &str) -> Self {
        Self {
            version: "1.0.0".to_owned(),
            hook: HookCommand {
                path: program.to_owned(),
                args: ["terok-shield", "hook", stage].map(str::to_owned).to_vec(),
                env: vec![HOOK_ENV.to_owned()],
                timeout: HOOK_TIMEOUT_SECONDS,
            },
            when: HookWhen {
                annotations: BTreeMap::from([(HOOK_ANNOTATION.to_owned(), ".*".to_owned())]),
            },
            stages: vec![stage.to_owned()],
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("strings and numbers always serialize");
        bytes.push(b'\n');
        bytes
    }

    /// Any version's file of ours: it runs `terok-shield hook` for containers with our annotation.
    pub(super) fn recognise(bytes: &[u8]) -> Option<Self> {
        let file: Self = serde_json::from_slice(bytes).ok()?;
        let ours = file
            .hook
            .args
            .starts_with(&["terok-shield".to_owned(), "hook".to_owned()])
            && file.when.annotations.keys().eq([HOOK_ANNOTATION]);
        ours.then_some(file)
    }
}
