//! What the runtime says on standard input and in the bundle's `config.json`, read strictly: a missing id, pid or bundle is
//! an error, never a default.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Refusal;
use super::seccomp::Profile;

/// The state of a container (OCI runtime-spec 1.0, `runtime.md`).
#[derive(Debug, Clone, Deserialize)]
pub struct State {
    /// The container's id.
    pub id: String,
    /// Its first process in our pid namespace. `poststop` has none.
    pub pid: Option<i32>,
    /// Where `config.json` is.
    pub bundle: PathBuf,
    /// Annotations of the container.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl State {
    /// Reads a state. What it names is checked for form: it becomes part of paths and messages.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let state: Self = serde_json::from_slice(text)
            .map_err(|error| Refusal::new(format!("the runtime's container state is malformed: {error}")))?;
        let well_formed = (1..=256).contains(&state.id.len())
            && state
                .id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'+'))
            && !state.id.starts_with('.');
        if !well_formed {
            return Err(Refusal::new("the runtime's container state has no valid id"));
        }
        if !state.bundle.is_absolute() {
            return Err(Refusal::new(
                "the runtime's container state has no absolute bundle path",
            ));
        }
        Ok(state)
    }

    /// The first process, which every stage but `poststop` must name.
    pub fn pid(&self) -> Result<i32, Refusal> {
        self.pid
            .filter(|pid| *pid > 1)
            .ok_or_else(|| Refusal::new("the runtime's container state has no pid"))
    }
}

/// The parts of a configuration that decide whether a container can be protected.
#[derive(Debug, Clone, Deserialize)]
pub struct Spec {
    /// Its program.
    pub process: Program,
    /// Its root directory.
    pub root: Option<Root>,
    /// What is mounted.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Linux' own.
    pub linux: Linux,
    /// Annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// `process`.
#[derive(Debug, Clone, Deserialize)]
pub struct Program {
    /// Five sets of capabilities by name. Absent means that the program keeps the runtime's.
    pub capabilities: Option<BTreeMap<String, Option<Vec<String>>>>,
    /// Environment.
    #[serde(default)]
    pub env: Vec<String>,
    /// Program and arguments.
    #[serde(default)]
    pub args: Vec<String>,
}

/// `root`.
#[derive(Debug, Clone, Deserialize)]
pub struct Root {
    /// The directory.
    pub path: PathBuf,
}

/// One of `mounts`.
#[derive(Debug, Clone, Deserialize)]
pub struct Mount {
    /// Where in the container.
    pub destination: PathBuf,
    /// File system, or `bind`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// What is mounted.
    #[serde(default)]
    pub source: PathBuf,
    /// Options.
    #[serde(default)]
    pub options: Vec<String>,
}

impl Mount {
    /// The host's paths that it shows to the container.
    #[must_use]
    pub fn host_paths(&self) -> Vec<PathBuf> {
        if self.is_bind() {
            return vec![self.source.clone()];
        }
        if self.kind == "overlay" {
            // `-v DIR:/x:O` shows DIR as a lower directory.
            return self
                .options
                .iter()
                .filter_map(|option| {
                    option
                        .strip_prefix("lowerdir=")
                        .or_else(|| option.strip_prefix("upperdir="))
                })
                .flat_map(|directories| directories.split(':'))
                .map(PathBuf::from)
                .collect();
        }
        // Kernel file systems have a word and no path for a source; anything else that has a path shows it.
        if self.source.is_absolute() {
            vec![self.source.clone()]
        } else {
            Vec::new()
        }
    }

    /// Whether its source is a path that is shown as it is.
    fn is_bind(&self) -> bool {
        self.kind == "bind" || self.options.iter().any(|option| option == "bind" || option == "rbind")
    }

    /// Whether the container may write to it.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        !self.options.iter().any(|option| option == "ro" || option == "rro")
    }
}

/// `linux`.
#[derive(Debug, Clone, Deserialize)]
pub struct Linux {
    /// Namespaces: one without a path is made for this container.
    #[serde(default)]
    pub namespaces: Vec<Namespace>,
    /// System calls that the program may make.
    pub seccomp: Option<Profile>,
}

/// One of `linux.namespaces`.
#[derive(Debug, Clone, Deserialize)]
pub struct Namespace {
    /// `network`, `pid`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// An existing one to join.
    #[serde(default)]
    pub path: Option<PathBuf>,
}

/// Largest `config.json`, in bytes.
const CONFIG_LIMIT: u64 = 16 * 1024 * 1024;

/// Reads the `config.json` of the runtime's bundle, which must belong to us or root and be writable by nobody else.
pub fn config<T: DeserializeOwned>(bundle: &Path) -> Result<T, Refusal> {
    let path = bundle.join("config.json");
    let text = super::read_file(&path, super::Owner::Trusted, CONFIG_LIMIT)?;
    serde_json::from_slice(&text).map_err(|error| Refusal::new(format!("{} is malformed: {error}", path.display())))
}

impl Spec {
    /// What decides of a `config.json`.
    pub fn read(bundle: &Path) -> Result<Self, Refusal> {
        let mut spec: Self = config(bundle)?;
        // Podman's paths are absolute; others may be relative to the bundle.
        if let Some(root) = &mut spec.root {
            root.path = bundle.join(&root.path);
        }
        for mount in spec.mounts.iter_mut().filter(|mount| mount.is_bind()) {
            mount.source = bundle.join(&mount.source);
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        r#"{"ociVersion":"1.0","id":"60d3","pid":20161,"root":"/r","bundle":"/b","status":"created","annotations":{}}"#;

    #[test]
    fn a_state_of_either_runtime_is_read() {
        assert_eq!(State::parse(GOOD.as_bytes()).unwrap().pid().unwrap(), 20161);
        let creating = GOOD.replace("created", "creating");
        assert!(State::parse(creating.as_bytes()).is_ok());
    }

    #[test]
    fn a_state_that_lacks_anything_is_refused() {
        for bad in [
            "",
            "{}",
            "[]",
            "null",
            &GOOD[..GOOD.len() - 1],
            &GOOD.replace(r#""id":"60d3","#, ""),
            &GOOD.replace("60d3", ""),
            &GOOD.replace("60d3", "../x"),
            &GOOD.replace("60d3", "a/b"),
            &GOOD.replace(r#""bundle":"/b","#, ""),
            &GOOD.replace(r#""/b""#, r#""b""#),
            &GOOD.replace("20161", r#""20161""#),
        ] {
            assert!(State::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        for pid in ["0", "-1", "1", "null"] {
            let state = State::parse(GOOD.replace("20161", pid).as_bytes()).unwrap();
            assert!(state.pid().is_err(), "pid {pid}");
        }
    }

    #[test]
    fn the_lower_directories_of_an_overlay_are_what_it_shows() {
        let mount: Mount = serde_json::from_str(
            r#"{"destination":"/x","type":"overlay","source":"overlay","options":["lowerdir=/home/a:/srv","upperdir=/u","workdir=/w"]}"#,
        )
        .unwrap();
        assert_eq!(mount.host_paths(), ["/home/a", "/srv", "/u"].map(PathBuf::from));
    }
}
