//! Profiles: named texts of targets, one a line, that may include each other.
//!
//! This file reads text; where the text comes from is the [`Source`]'s affair.
//! A profile is read whole or not at all: the first bad line stops everything.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::target::Target;

/// The largest profile, in bytes: lists of 100,000 addresses fit several times.
pub const MAX_PROFILE_BYTES: usize = 16 << 20;
/// The longest line, in bytes, comment included.
pub const MAX_LINE_BYTES: usize = 1024;

/// How deeply profiles may include each other.
const MAX_DEPTH: usize = 32;
/// The longest profile name, in bytes.
const MAX_NAME: usize = 64;
/// How many similar names an error offers.
const MAX_SUGGESTIONS: usize = 3;

/// A profile's name, `[a-z0-9][a-z0-9_-]*`, at most 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(Arc<str>);

/// Why a text is no profile name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "profile name {name:?}: use lower-case letters, digits and, after the first character, `_` \
     and `-`, at most {MAX_NAME} in all"
)]
pub struct ProfileNameError {
    /// What was given, cut to a readable length.
    pub name: String,
}

impl ProfileName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProfileName {
    type Err = ProfileNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = text.bytes().enumerate().all(|(index, byte)| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || (index > 0 && matches!(byte, b'_' | b'-'))
        });
        if text.is_empty() || text.len() > MAX_NAME || !plain {
            let name = text.chars().take(2 * MAX_NAME).collect();
            return Err(ProfileNameError { name });
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ProfileName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

text_value!(
    ProfileName,
    "ProfileName",
    "The name of a profile: lower-case letters, digits, `_` and `-`, at most 64.",
    ["dev-standard"]
);

/// One line of a profile that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: u32,
    /// Where it begins, counted in characters from 1.
    pub column: usize,
    /// What it says.
    pub statement: Statement,
}

/// What a line of a profile says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// One destination.
    Target(Target),
    /// `@name`: everything in another profile.
    Include(ProfileName),
}

/// The text of one profile, from wherever it was read.
#[derive(Clone, Debug)]
pub struct ProfileText {
    /// What messages call it: a path, or `bundled profile NAME`.
    pub file: String,
    /// Its content.
    pub text: Cow<'static, str>,
}

/// Where profiles come from.
pub trait Source {
    /// The text of a profile, or nothing where there is none of that name.
    ///
    /// # Errors
    ///
    /// What there is can't be read or isn't fit to be read.
    fn read(&self, name: &ProfileName) -> Result<Option<ProfileText>, ProfileError>;

    /// The names of all profiles, for messages about one that doesn't exist.
    fn names(&self) -> BTreeSet<ProfileName>;
}

/// One target of a policy and the line it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What is allowed.
    pub target: Target,
    /// Where that is written.
    pub origin: Origin,
}

/// The line of a profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The profile in which the line stands.
    pub profile: ProfileName,
    /// Its number, from 1.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.profile, self.line)
    }
}

/// Why a profile can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A line that doesn't follow the grammar.
    #[error("{file}:{line}:{column}: expected {expected}")]
    Line {
        /// A path, or `bundled profile NAME`.
        file: String,
        /// From 1.
        line: u32,
        /// Counted in characters from 1.
        column: usize,
        /// What should have stood there.
        expected: String,
    },
    /// More than [`MAX_PROFILE_BYTES`].
    #[error(
        "{file}: the profile is larger than {} MiB; split it into several",
        MAX_PROFILE_BYTES >> 20
    )]
    TooLarge {
        /// A path, or `bundled profile NAME`.
        file: String,
    },
    /// Something else than a regular file.
    #[error("{file}: a profile must be a regular file; replace it")]
    NotRegular {
        /// Its path.
        file: String,
    },
    /// Somebody else could change the file.
    #[error("{file}: {reason}")]
    Untrusted {
        /// Its path.
        file: String,
        /// Why, and what to do about it.
        reason: String,
    },
    /// The file can't be read.
    #[error("{file}: the profile can't be read; check the file and its permissions")]
    Read {
        /// Its path.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Profiles that include each other in a circle.
    #[error("{file}:{line}: profiles include each other: {}; remove one `@` line", path(cycle))]
    Cycle {
        /// The file whose line closes the circle.
        file: String,
        /// That line, from 1.
        line: u32,
        /// The way round; the first name is also the last.
        cycle: Vec<ProfileName>,
    },
    /// Profiles nested too deeply.
    #[error("{file}:{line}: profiles are nested more than {MAX_DEPTH} deep; include them directly")]
    TooDeep {
        /// The file whose line goes too deep.
        file: String,
        /// That line, from 1.
        line: u32,
    },
    /// There is no such profile.
    #[error("{}no profile {name}; {}", place(included), offer(near, available))]
    Unknown {
        /// What was asked for.
        name: ProfileName,
        /// File and line of the `@` that asked, if a line did.
        included: Option<(String, u32)>,
        /// The most similar names, best first, at most three.
        near: Vec<ProfileName>,
        /// All names.
        available: Vec<ProfileName>,
    },
}

fn path(cycle: &[ProfileName]) -> String {
    let names: Vec<&str> = cycle.iter().map(ProfileName::as_str).collect();
    names.join(" -> ")
}

fn place(included: &Option<(String, u32)>) -> String {
    included
        .as_ref()
        .map_or_else(String::new, |(file, line)| format!("{file}:{line}: "))
}

fn offer(near: &[ProfileName], available: &[ProfileName]) -> String {
    let list = |names: &[ProfileName]| {
        let names: Vec<&str> = names.iter().map(ProfileName::as_str).collect();
        names.join(", ")
    };
    match (near, available) {
        ([], []) => "there are no profiles at all".to_owned(),
        ([], all) => format!("there are: {}", list(all)),
        (near, _) => format!("did you mean {}?", list(near)),
    }
}

/// Reads the text of one profile; `file` is what errors call it.
///
/// # Errors
///
/// The first line that doesn't follow the grammar, or a text that is too large.
pub fn parse(file: &str, text: &str) -> Result<Vec<Line>, ProfileError> {
    if text.len() > MAX_PROFILE_BYTES {
        return Err(ProfileError::TooLarge { file: file.to_owned() });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    // MAX_PROFILE_BYTES keeps the count of lines far below u32::MAX.
    for (number, raw) in (1..).zip(text.split('\n')) {
        let raw = raw.strip_suffix('\r').unwrap_or(raw);
        let read = parse_line(raw).map_err(|(column, expected)| ProfileError::Line {
            file: file.to_owned(),
            line: number,
            column,
            expected,
        })?;
        lines.extend(read.map(|(column, statement)| Line {
            number,
            column,
            statement,
        }));
    }
    Ok(lines)
}

/// Column and statement of a line, nothing for an empty one; or column and expectation.
fn parse_line(raw: &str) -> Result<Option<(usize, Statement)>, (usize, String)> {
    if raw.len() > MAX_LINE_BYTES {
        let column = raw
            .char_indices()
            .take_while(|(index, _)| *index < MAX_LINE_BYTES)
            .count();
        let expected = format!("the line to end here: a line has at most {MAX_LINE_BYTES} bytes");
        return Err((column + 1, expected));
    }
    let is_space = |c: char| c == ' ' || c == '\t';
    let content = raw.split_once('#').map_or(raw, |(content, _)| content);
    let body = content.trim_start_matches(is_space);
    let column = content.chars().count() - body.chars().count() + 1;
    let body = body.trim_end_matches(is_space);
    if body.is_empty() {
        return Ok(None);
    }
    if let Some(name) = body.strip_prefix('@') {
        let name = name.parse().map_err(|_| {
            let expected = "the name of a profile after `@`: lower-case letters, digits, `_` and `-`";
            (column + 1, expected.to_owned())
        })?;
        return Ok(Some((column, Statement::Include(name))));
    }
    if let Some(gap) = body.chars().position(is_space) {
        let expected = "the end of the line: one target a line, comments begin with `#`";
        return Err((column + gap, expected.to_owned()));
    }
    match body.parse() {
        Ok(target) => Ok(Some((column, Statement::Target(target)))),
        Err(error) => {
            let error: super::TargetError = error;
            Err((column + error.column - 1, error.expected))
        }
    }
}

/// The first comment of a profile's text: what it is for, in one line.
#[must_use]
pub fn description(text: &str) -> Option<&str> {
    text.lines()
        .filter_map(|line| line.trim_start_matches('\u{feff}').trim().strip_prefix('#'))
        .map(|comment| comment.trim_start_matches('#').trim())
        .find(|comment| !comment.is_empty())
}

/// Reads profiles with everything they include, depth first. Each profile is
/// read once, each target kept once: where it was met first.
///
/// # Errors
///
/// Any profile that is missing or bad; nothing is half read.
pub fn load(names: &[ProfileName], source: &dyn Source) -> Result<Vec<Entry>, ProfileError> {
    let mut loader = Loader {
        source,
        done: HashSet::new(),
        open: Vec::new(),
        seen: HashSet::new(),
        entries: Vec::new(),
    };
    for name in names {
        loader.profile(name, None)?;
    }
    Ok(loader.entries)
}

struct Loader<'a> {
    source: &'a dyn Source,
    done: HashSet<ProfileName>,
    /// The way from the profile that was asked for to the one that is read now.
    open: Vec<ProfileName>,
    seen: HashSet<Target>,
    entries: Vec<Entry>,
}

impl Loader<'_> {
    fn profile(&mut self, name: &ProfileName, included: Option<(&str, u32)>) -> Result<(), ProfileError> {
        if let (Some(start), Some((file, line))) = (self.open.iter().position(|open| open == name), included) {
            let mut cycle = self.open[start..].to_vec();
            cycle.push(name.clone());
            let file = file.to_owned();
            return Err(ProfileError::Cycle { file, line, cycle });
        }
        if self.done.contains(name) {
            return Ok(());
        }
        if let (true, Some((file, line))) = (self.open.len() >= MAX_DEPTH, included) {
            let file = file.to_owned();
            return Err(ProfileError::TooDeep { file, line });
        }
        let Some(ProfileText { file, text }) = self.source.read(name)? else {
            return Err(unknown(name, included, self.source.names()));
        };
        self.open.push(name.clone());
        for line in parse(&file, &text)? {
            match line.statement {
                Statement::Include(other) => self.profile(&other, Some((&file, line.number)))?,
                Statement::Target(target) => {
                    if self.seen.insert(target.clone()) {
                        let origin = Origin {
                            profile: name.clone(),
                            line: line.number,
                        };
                        self.entries.push(Entry { target, origin });
                    }
                }
            }
        }
        self.open.pop();
        self.done.insert(name.clone());
        Ok(())
    }
}

fn unknown(name: &ProfileName, included: Option<(&str, u32)>, available: BTreeSet<ProfileName>) -> ProfileError {
    let limit = (name.as_str().len() / 3).max(1);
    let mut near: Vec<(usize, &ProfileName)> = available
        .iter()
        .map(|other| (distance(name.as_str(), other.as_str()), other))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    near.sort();
    ProfileError::Unknown {
        name: name.clone(),
        included: included.map(|(file, line)| (file.to_owned(), line)),
        near: near
            .into_iter()
            .take(MAX_SUGGESTIONS)
            .map(|(_, other)| other.clone())
            .collect(),
        available: available.into_iter().collect(),
    }
}

/// How many characters must be inserted, removed or replaced (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
