//! containers.conf: what podman will read, in which order, and the one key of it that we add to.
//!
//! The order is that of containers/common `pkg/config` from podman 4.3 to 5.8. Files are edited as text at the places where the
//! parser found things, so that whatever we don't touch keeps its bytes. This module decides nothing about hooks.

mod edit;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use toml_edit::{Document, TableLike, Value};

use super::files::{self, FileError};
use super::flags::{screen_pasta_options, screen_slirp_options};

/// Podman's own list where nothing is configured.
pub const DEFAULT_HOOKS_DIR: &str = "/usr/share/containers/oci/hooks.d";
/// What the distribution ships.
pub const VENDOR_CONF: &str = "/usr/share/containers/containers.conf";
/// The administrator's.
pub const ADMIN_CONF: &str = "/etc/containers/containers.conf";

/// Drop-ins of one directory that are read at most; podman has no bound, people have a handful.
const MAX_DROP_INS: usize = 1024;

/// Why containers.conf cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not TOML, or not what podman expects of the key. Podman refuses the file too.
    #[error("{}:{line}:{column}: {what}; mend the file, nothing was changed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// In the parser's words.
        what: String,
    },
    /// A form that is TOML, but which we don't edit.
    #[error("{}: {what}; add {wanted} to hooks_dir of [engine] by hand", path.display())]
    ByHand {
        /// The file.
        path: PathBuf,
        /// What stands in the way.
        what: &'static str,
        /// The directories, as TOML strings.
        wanted: String,
    },
    /// An option of every rootless network that would open the host.
    #[error("{}: {key}: {reason}", path.display())]
    OpensHost {
        /// The last file that set the list.
        path: PathBuf,
        /// The list.
        key: &'static str,
        /// What the option does.
        reason: String,
    },
    /// The file is a symbolic link to nothing, or no file.
    #[error("{}: {what}; mend or remove it", path.display())]
    Target {
        /// As podman knows it.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
}

impl ConfError {
    /// The file that somebody has to edit.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Malformed { path, .. }
            | Self::ByHand { path, .. }
            | Self::Target { path, .. }
            | Self::OpensHost { path, .. } => Some(path),
            Self::File(_) => None,
        }
    }
}

/// Where this user's podman looks for containers.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfPaths {
    /// [`VENDOR_CONF`].
    pub vendor: PathBuf,
    /// [`ADMIN_CONF`]; its drop-ins are in a directory of that name with `.d` added.
    pub admin: PathBuf,
    /// `$XDG_CONFIG_HOME/containers/containers.conf` or that below `~/.config`. Podman 5 reads root's too.
    pub user: PathBuf,
    /// `$CONTAINERS_CONF`: then nothing of the above is read.
    pub only: Option<PathBuf>,
    /// `$CONTAINERS_CONF_OVERRIDE` (podman 4.4 and later): read last.
    pub last: Option<PathBuf>,
    /// The user; above 0, podman 5.8 reads `containers.rootless.conf` and its drop-ins beside the administrator's.
    pub uid: u32,
}

/// The list that podman will use, in order; in a later directory a file of the same name wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HooksDirs {
    /// As written: podman expands neither `~` nor `$HOME`.
    pub dirs: Vec<String>,
    /// The last file that had a say; `None` where it is podman's default.
    pub set_by: Option<PathBuf>,
}

impl ConfPaths {
    /// From the environment, which is passed in. An empty variable counts as unset, as in podman.
    #[must_use]
    pub fn from_env(home: &Path, uid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = path("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        Self {
            vendor: PathBuf::from(VENDOR_CONF),
            admin: PathBuf::from(ADMIN_CONF),
            user: config.join("containers/containers.conf"),
            only: path("CONTAINERS_CONF"),
            last: path("CONTAINERS_CONF_OVERRIDE"),
            uid,
        }
    }

    /// The file in which a user's own setting belongs.
    #[must_use]
    pub fn user_target(&self) -> &Path {
        self.only.as_deref().unwrap_or(&self.user)
    }

    /// The hooks directories that podman will read, from all files.
    ///
    /// # Errors
    /// A file that podman could not read either.
    pub fn hooks_dirs(&self) -> Result<HooksDirs, ConfError> {
        self.merged("engine", "hooks_dir", &[DEFAULT_HOOKS_DIR], None)
    }

    /// Judges the options that every rootless network gets: pasta's and slirp4netns'.
    ///
    /// # Errors
    /// One that opens the host, or a file that podman could not read either.
    pub fn screen_network(&self) -> Result<(), ConfError> {
        type Screen = fn(&[&str]) -> Result<(), String>;
        let lists: [(&str, &'static str, Screen); 2] = [
            ("network", "pasta_options", screen_pasta_options),
            ("engine", "network_cmd_options", screen_slirp_options),
        ];
        for (table, key, screen) in lists {
            let list = self.merged(table, key, &[], None)?;
            let options: Vec<&str> = list.dirs.iter().map(String::as_str).collect();
            screen(&options).map_err(|reason| ConfError::OpensHost {
                path: list.set_by.unwrap_or_default(),
                key,
                reason,
            })?;
        }
        Ok(())
    }

    /// What has to be done to `target` so that it lists `dirs` after everything that was effective before it; `None` if it does.
    ///
    /// # Errors
    /// A file that is malformed, or of a form that is not edited.
    pub fn plan_add(&self, target: &Path, dirs: &[&str]) -> Result<Option<Edit>, ConfError> {
        let before = self.merged("engine", "hooks_dir", &[DEFAULT_HOOKS_DIR], Some(target))?;
        let (path, mode, text) = open_target(target)?;
        let new = edit::add(&path, text.as_deref(), dirs, &before.dirs)?;
        Ok(new.map(|text| Edit {
            path,
            mode,
            content: Some(text),
        }))
    }

    /// What has to be done to `target` to take `own` out again, and what [`Self::plan_add`] made around it; `None` if nothing.
    ///
    /// # Errors
    /// A file that is malformed.
    pub fn plan_remove(&self, target: &Path, own: &[&str]) -> Result<Option<Edit>, ConfError> {
        let before = self.merged("engine", "hooks_dir", &[DEFAULT_HOOKS_DIR], Some(target))?;
        let (path, mode, text) = open_target(target)?;
        let Some(text) = text else { return Ok(None) };
        let new = edit::remove(&path, &text, own, &before.dirs)?;
        Ok(new.map(|content| Edit { path, mode, content }))
    }

    /// All files in podman's order, up to and without `until`.
    fn merged(&self, table: &str, key: &str, default: &[&str], until: Option<&Path>) -> Result<HooksDirs, ConfError> {
        let mut list = HooksDirs {
            dirs: default.iter().map(|&dir| dir.to_owned()).collect(),
            set_by: None,
        };
        // Podman 5's {append=true} holds for every file read after it, until one says otherwise.
        let mut append = false;
        for path in self.reading_order()? {
            if until == Some(path.as_path()) {
                break;
            }
            let Some(text) = read_text(&path)? else {
                continue;
            };
            let document = parse(&path, &text)?;
            let Some(array) = find_array(&path, &text, &document, table, key)? else {
                continue;
            };
            if let Some(attribute) = array.append {
                append = attribute;
            }
            if !append {
                list.dirs.clear();
            }
            list.dirs.extend(array.items.into_iter().filter_map(|item| item.string));
            list.set_by = Some(path);
        }
        Ok(list)
    }

    fn reading_order(&self) -> Result<Vec<PathBuf>, ConfError> {
        let mut order = Vec::new();
        if let Some(only) = &self.only {
            order.push(only.clone());
        } else {
            order.push(self.vendor.clone());
            order.push(self.admin.clone());
            drop_ins(&with_d(&self.admin), &mut order)?;
            if self.uid > 0 {
                let rootless = self.admin.with_file_name("containers.rootless.conf");
                let rootless_d = with_d(&rootless);
                order.push(rootless);
                drop_ins(&rootless_d, &mut order)?;
                drop_ins(&rootless_d.join(self.uid.to_string()), &mut order)?;
            }
            order.push(self.user.clone());
            drop_ins(&with_d(&self.user), &mut order)?;
        }
        order.extend(self.last.clone());
        Ok(order)
    }
}

/// A planned change of one file, complete and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    path: PathBuf,
    mode: u32,
    content: Option<String>,
}

impl Edit {
    /// The file itself, symbolic links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes (or removes) the file.
    ///
    /// # Errors
    /// The file is then as it was.
    pub fn apply(&self) -> Result<(), ConfError> {
        match &self.content {
            Some(text) => files::write(&self.path, text.as_bytes(), self.mode)?,
            None => files::remove(&self.path)?,
        }
        Ok(())
    }
}

fn with_d(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".d");
    PathBuf::from(name)
}

/// `*.conf` of one directory by name, as podman takes them.
fn drop_ins(directory: &Path, order: &mut Vec<PathBuf>) -> Result<(), ConfError> {
    let failed = |source| FileError::new("list", directory, source);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if files::is_absent(&error) => return Ok(()),
        Err(error) => return Err(failed(error).into()),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        // podman looks at the name's last characters, so ".conf" alone counts
        let is_conf = entry.file_name().as_encoded_bytes().ends_with(b".conf");
        if is_conf && entry.file_type().map_err(failed)?.is_dir() {
            continue;
        }
        if is_conf {
            found.push(entry.path());
        }
        if found.len() > MAX_DROP_INS {
            return Err(failed(std::io::Error::other("more than 1024 drop-ins")).into());
        }
    }
    found.sort();
    order.append(&mut found);
    Ok(())
}

fn read_text(path: &Path) -> Result<Option<String>, ConfError> {
    let Some(bytes) = files::read(path)? else {
        return Ok(None);
    };
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        malformed(path, &text, valid, "not UTF-8")
    })
}

/// The file behind `path`, its mode and its text. A file that doesn't exist yet is to have mode 0644.
fn open_target(path: &Path) -> Result<(PathBuf, u32, Option<String>), ConfError> {
    let wrong = |what| ConfError::Target {
        path: path.to_owned(),
        what,
    };
    match fs::canonicalize(path) {
        Ok(resolved) => {
            let metadata = fs::metadata(&resolved).map_err(|source| FileError::new("read", &resolved, source))?;
            if !metadata.is_file() {
                return Err(wrong("not a regular file"));
            }
            let text = read_text(&resolved)?;
            Ok((resolved, metadata.permissions().mode() & 0o7777, text))
        }
        Err(error) if files::is_absent(&error) => match fs::symlink_metadata(path) {
            Ok(_) => Err(wrong("a symbolic link to nothing")),
            Err(_) => Ok((path.to_owned(), 0o644, None)),
        },
        Err(error) => Err(FileError::new("resolve", path, error).into()),
    }
}

fn parse<'a>(path: &Path, text: &'a str) -> Result<Document<&'a str>, ConfError> {
    Document::parse(text)
        .map_err(|error| malformed(path, text, error.span().map_or(0, |span| span.start), error.message()))
}

fn malformed(path: &Path, text: &str, offset: usize, what: &str) -> ConfError {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    ConfError::Malformed {
        path: path.to_owned(),
        line,
        column,
        what: what.replace('\n', " "),
    }
}

/// An array of strings, with podman 5's attribute, and where things stand in the text.
#[derive(Debug)]
struct Array {
    span: std::ops::Range<usize>,
    items: Vec<Entry>,
    append: Option<bool>,
}

/// One element: a string, or `{append=...}`.
#[derive(Debug)]
struct Entry {
    span: std::ops::Range<usize>,
    string: Option<String>,
}

fn find_array(
    path: &Path,
    text: &str,
    document: &Document<&str>,
    table: &str,
    key: &str,
) -> Result<Option<Array>, ConfError> {
    let Some(table_item) = document.get(table) else {
        return Ok(None);
    };
    let start = |span: Option<std::ops::Range<usize>>| span.map_or(0, |span| span.start);
    let Some(table_like) = table_item.as_table_like() else {
        return Err(malformed(
            path,
            text,
            start(table_item.span()),
            &format!("'{table}' is not a table"),
        ));
    };
    let Some(item) = table_like.get(key) else {
        return Ok(None);
    };
    let wrong = |span| {
        malformed(
            path,
            text,
            start(span),
            &format!("'{key}' of [{table}] is not a list of strings"),
        )
    };
    let (Some(array), Some(span)) = (item.as_array(), item.span()) else {
        return Err(wrong(item.span()));
    };
    let mut found = Array {
        span,
        items: Vec::new(),
        append: None,
    };
    for value in array {
        let Some(span) = value.span() else {
            return Err(wrong(item.span()));
        };
        let string = match value {
            Value::String(string) => Some(string.value().clone()),
            Value::InlineTable(attributes) if attributes.len() == 1 => {
                found.append = Some(
                    attributes
                        .get("append")
                        .and_then(Value::as_bool)
                        .ok_or_else(|| wrong(value.span()))?,
                );
                None
            }
            _ => return Err(wrong(value.span())),
        };
        found.items.push(Entry { span, string });
    }
    Ok(Some(found))
}

fn table_like<'a>(document: &'a Document<&str>, table: &str) -> Option<&'a dyn TableLike> {
    document.get(table)?.as_table_like()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
