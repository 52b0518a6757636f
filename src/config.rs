//! Where state and configuration lie, and what the configuration file says.
//!
//! The paths come from the environment once, here; no other room asks for a
//! variable. A file that somebody else could have written is refused: it says
//! what a container may reach.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::{Deserialize, Deserializer};

use crate::policy::{ContainerName, ProfileName, Refuse};

/// The largest `config.toml`, in bytes.
const MAX_CONFIG_BYTES: usize = 64 << 10;
/// Write permission for the group or for everybody.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The directories of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The state directory, which holds `containers/NAME/`.
    pub state: PathBuf,
    /// The configuration directory, which holds `config.toml` and `profiles/`.
    pub config: PathBuf,
}

/// Why paths or the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable that must hold an absolute path holds another one.
    #[error("{variable}={value:?} is not an absolute path; set it to one or unset it")]
    Relative {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: PathBuf,
    },
    /// Nothing says where the operator's files are.
    #[error("HOME is not set; set it, or {variable}")]
    NoHome {
        /// The variable that would do instead.
        variable: &'static str,
    },
    /// The file doesn't say what it should.
    #[error("{path}:{line}:{column}: {message}")]
    Syntax {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// Counted in characters from 1.
        column: usize,
        /// What is wrong, on one line.
        message: String,
    },
    /// The file or its directory is not to be used as it is.
    #[error("{path}: {reason}")]
    Refused {
        /// The file or directory.
        path: String,
        /// Why it is not used, and what to do about it.
        reason: String,
    },
    /// The file can't be read.
    #[error("{path}: the configuration can't be read; check the file and its permissions")]
    Read {
        /// The file or directory.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Paths {
    /// The paths of the user who runs this process, from its environment.
    ///
    /// # Errors
    ///
    /// A variable holds a relative path, or there is no home directory.
    pub fn for_user() -> Result<Self, ConfigError> {
        Self::from(|name| std::env::var_os(name), is_host_root())
    }

    /// The paths that these variables mean. An empty variable counts as unset.
    ///
    /// # Errors
    ///
    /// As for [`Paths::for_user`].
    pub fn from(env: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Result<Self, ConfigError> {
        let state = Place {
            own: "TEROK_SHIELD_STATE_DIR",
            xdg: "XDG_STATE_HOME",
            below_home: ".local/state",
            root: "/var/lib/terok-shield",
        };
        let config = Place {
            own: "TEROK_SHIELD_CONFIG_DIR",
            xdg: "XDG_CONFIG_HOME",
            below_home: ".config",
            root: "/etc/terok-shield",
        };
        Ok(Self {
            state: state.find(&env, is_root)?,
            config: config.find(&env, is_root)?,
        })
    }

    /// `config.toml`.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    /// The directory of the user's own profiles.
    #[must_use]
    pub fn profiles(&self) -> PathBuf {
        self.config.join("profiles")
    }

    /// The directory of all bundles.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.state.join("containers")
    }

    /// The bundle of one container.
    #[must_use]
    pub fn bundle(&self, container: &ContainerName) -> PathBuf {
        self.containers().join(container.as_str())
    }
}

/// The ways to say where a directory is, best first.
struct Place {
    own: &'static str,
    xdg: &'static str,
    below_home: &'static str,
    root: &'static str,
}

impl Place {
    fn find(&self, env: &impl Fn(&str) -> Option<OsString>, is_root: bool) -> Result<PathBuf, ConfigError> {
        if let Some(path) = absolute(env, self.own)? {
            return Ok(path);
        }
        if is_root {
            return Ok(PathBuf::from(self.root));
        }
        let base = match absolute(env, self.xdg)? {
            Some(path) => path,
            None => absolute(env, "HOME")?
                .ok_or(ConfigError::NoHome { variable: self.own })?
                .join(self.below_home),
        };
        Ok(base.join("terok/shield"))
    }
}

fn absolute(env: &impl Fn(&str) -> Option<OsString>, variable: &'static str) -> Result<Option<PathBuf>, ConfigError> {
    let Some(value) = env(variable).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let value = PathBuf::from(value);
    if value.is_absolute() {
        Ok(Some(value))
    } else {
        Err(ConfigError::Relative { variable, value })
    }
}

/// Whether this is uid 0 of the first user namespace: only there does the map
/// hold every uid unchanged.
fn is_host_root() -> bool {
    let whole = fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let numbers: Vec<&str> = map.split_ascii_whitespace().collect();
        numbers == ["0", "0", "4294967295"]
    });
    whole && nix::unistd::geteuid().is_root()
}

/// How a container's names are resolved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dns {
    /// Ahead of time, through the resolvers that the container uses itself.
    #[default]
    Static,
}

impl<'de> Deserialize<'de> for Dns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "static" => Ok(Self::Static),
            "agent" => Err(serde::de::Error::custom(
                "`agent` is not available: this version resolves names ahead of time only; set \
                 dns = \"static\"",
            )),
            other => Err(serde::de::Error::unknown_variant(other, &["static"])),
        }
    }
}

/// Which annotations count of a container that was not prepared: they may be a tenant's word, or an image's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Annotations {
    /// Profiles and name.
    Few,
    /// Published ports and the state directory too.
    All,
}

/// What `config.toml` says; every key may be left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How names are resolved.
    pub dns: Dns,
    /// How TCP connections are refused.
    pub refuse: Refuse,
    /// The profiles of `run` and `prepare` where none are named.
    pub profiles: Vec<ProfileName>,
    /// Which annotations count: if nothing is said, all of a user's and few where the hook runs as real root.
    pub annotations: Option<Annotations>,
}

impl Default for Config {
    fn default() -> Self {
        let standard = "dev-standard".parse().expect("a valid profile name");
        Self {
            dns: Dns::default(),
            refuse: Refuse::default(),
            profiles: vec![standard],
            annotations: None,
        }
    }
}

impl Config {
    /// Reads the configuration file of these paths; without one everything has
    /// its default.
    ///
    /// # Errors
    ///
    /// The file, or its directory, is not to be trusted or can't be read, or
    /// it doesn't say what it should.
    pub fn load(paths: &Paths) -> Result<Self, ConfigError> {
        let file = paths.config_file();
        let path = file.display().to_string();
        let refused = |refusal| match refusal {
            Refusal::Io(source) => ConfigError::Read {
                path: path.clone(),
                source,
            },
            Refusal::Directory { path, reason } => ConfigError::Refused { path, reason },
            Refusal::NotRegular => ConfigError::Refused {
                path: path.clone(),
                reason: "the configuration must be a regular file; replace it".to_owned(),
            },
            Refusal::TooLarge => ConfigError::Refused {
                path: path.clone(),
                reason: format!("the configuration is larger than {MAX_CONFIG_BYTES} bytes"),
            },
            Refusal::Untrusted(reason) => ConfigError::Refused {
                path: path.clone(),
                reason,
            },
        };
        let Some(bytes) = read_trusted(&file, MAX_CONFIG_BYTES).map_err(refused)? else {
            return Ok(Self::default());
        };
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(&path, &text),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let (line, column) = position(&String::from_utf8_lossy(error.as_bytes()), valid);
                let message = "the file is not UTF-8 from here on".to_owned();
                Err(ConfigError::Syntax {
                    path,
                    line,
                    column,
                    message,
                })
            }
        }
    }

    /// Reads the text of a configuration file; `path` is what errors call it.
    ///
    /// # Errors
    ///
    /// The text is no TOML, or says something unknown.
    pub fn parse(path: &str, text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let (line, column) = position(text, start);
            ConfigError::Syntax {
                path: path.to_owned(),
                line,
                column,
                message: error.message().replace('\n', ", "),
            }
        })
    }
}

/// Line and column, from 1, of a byte's place in a text.
pub(crate) fn position(text: &str, byte: usize) -> (usize, usize) {
    let before: String = text
        .char_indices()
        .take_while(|(index, _)| *index < byte)
        .map(|(_, c)| c)
        .collect();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// Why a file is not read.
#[derive(Debug)]
pub(crate) enum Refusal {
    NotRegular,
    TooLarge,
    Untrusted(String),
    Directory { path: String, reason: String },
    Io(io::Error),
}

/// Reads a file that decides about containers: regular, not larger than
/// `limit` bytes, and neither it nor its directory writable by anybody else.
/// Nothing where it doesn't exist.
pub(crate) fn read_trusted(path: &Path, limit: usize) -> Result<Option<Vec<u8>>, Refusal> {
    // Without O_NONBLOCK a pipe in the file's place would hold us up for good.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Refusal::Io(error)),
    };
    let user = nix::unistd::geteuid().as_raw();
    if let Some(directory) = path.parent() {
        let metadata = fs::metadata(directory).map_err(Refusal::Io)?;
        if let Some(reason) = distrust(&metadata, user) {
            let path = directory.display().to_string();
            return Err(Refusal::Directory { path, reason });
        }
    }
    // Asked of the open file: what the path names may change at any time.
    let metadata = file.metadata().map_err(Refusal::Io)?;
    if !metadata.is_file() {
        return Err(Refusal::NotRegular);
    }
    if let Some(reason) = distrust(&metadata, user) {
        return Err(Refusal::Untrusted(reason));
    }
    read_limited(file, limit).map(Some)
}

fn read_limited(file: File, limit: usize) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large from one that just fits.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(Refusal::Io)?;
    if bytes.len() > limit {
        return Err(Refusal::TooLarge);
    }
    Ok(bytes)
}

/// Why something on disk could be somebody else's work, if it could.
fn distrust(metadata: &Metadata, user: u32) -> Option<String> {
    let owner = metadata.uid();
    if owner != user && owner != 0 {
        return Some(format!(
            "owned by uid {owner}, not by you (uid {user}) or root; use chown to make it yours"
        ));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Some(format!("writable by others (mode {mode:04o}); use chmod go-w"));
    }
    None
}

#[cfg(test)]
mod tests;
