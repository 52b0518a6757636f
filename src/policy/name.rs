//! Names of containers and of hosts, in the one form in which they are compared.
//!
//! A host name here is text that was checked and put into A-label form. Whether
//! it exists is a question for `dns`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// The longest container name, in bytes: it becomes a directory and part of a
/// socket's path, which the kernel limits to 108 with everything before it.
pub const MAX_CONTAINER_NAME: usize = 128;

/// The longest host name, in bytes, without a trailing dot (RFC 1035, 2.3.4).
const MAX_NAME: usize = 253;
/// The longest label, in bytes (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;
/// What is worth converting at all; Unicode text may shrink in conversion.
const MAX_INPUT: usize = 1024;

/// A container's name by Podman's rule, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
///
/// It is used as a directory name, so `..` is refused wherever it stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerName(Arc<str>);

/// Why a text is no container name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContainerNameError {
    /// Nothing was given.
    #[error("the container name is empty; give the container's name or id")]
    Empty,
    /// More than [`MAX_CONTAINER_NAME`] bytes.
    #[error("the container name has {length} bytes; the limit is {MAX_CONTAINER_NAME}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character that Podman does not allow at this place.
    #[error(
        "container name, column {column}: {found:?} is not allowed; use letters, digits and, \
         after the first character, `_`, `.` and `-`"
    )]
    Character {
        /// Where, counted in characters from 1.
        column: usize,
        /// What stands there.
        found: char,
    },
    /// Two dots in a row.
    #[error("container name, column {column}: `..` is not allowed; use single dots")]
    DoubleDot {
        /// Where the first dot stands, counted in characters from 1.
        column: usize,
    },
}

impl ContainerName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = ContainerNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ContainerNameError::Empty);
        }
        if text.len() > MAX_CONTAINER_NAME {
            return Err(ContainerNameError::TooLong { length: text.len() });
        }
        for (index, found) in text.chars().enumerate() {
            let inner = index > 0 && matches!(found, '_' | '.' | '-');
            if !found.is_ascii_alphanumeric() && !inner {
                let column = index + 1;
                return Err(ContainerNameError::Character { column, found });
            }
        }
        if let Some(index) = text.find("..") {
            return Err(ContainerNameError::DoubleDot { column: index + 1 });
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ContainerName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

text_value!(
    ContainerName,
    "ContainerName",
    "A container's name by podman's rule, at most 128 bytes.",
    ["my-container"]
);

/// A host name in the form in which all names are compared: A-labels, lower
/// case, no trailing dot, at most 253 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Arc<str>);

/// Why a text is no host name or name pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: expected {expected}")]
pub struct NameError {
    /// Where it goes wrong, counted in characters from 1.
    pub column: usize,
    /// What should have stood there.
    pub expected: String,
}

impl NameError {
    pub(super) fn new(column: usize, expected: impl Into<String>) -> Self {
        Self {
            column,
            expected: expected.into(),
        }
    }
}

impl DnsName {
    /// The name as text, without a trailing dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(NameError::new(1, "a host name"));
        }
        if text.len() > MAX_INPUT {
            return Err(NameError::new(1, too_long()));
        }
        if let Some(column) = bad_ascii(text) {
            return Err(NameError::new(
                column,
                "letters, digits, `-`, `_` or `.` in a host name",
            ));
        }
        let mut name = a_labels(text)?;
        if name.ends_with('.') {
            name.pop();
        }
        check_labels(&name, text)?;
        Ok(Self(name.into()))
    }
}

/// The first ASCII character that no host name holds. What lies beyond ASCII is
/// for the conversion to judge.
fn bad_ascii(text: &str) -> Option<usize> {
    text.chars()
        .position(|c| c.is_ascii() && !is_name_char(c))
        .map(|index| index + 1)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn too_long() -> String {
    format!("a host name of at most {MAX_NAME} bytes")
}

/// Lower case and A-labels. Text without anything to convert does not go
/// through the Unicode tables: lists may hold a hundred thousand names.
fn a_labels(text: &str) -> Result<String, NameError> {
    let lower = text.to_ascii_lowercase();
    if lower.is_ascii() && !lower.split('.').any(|label| label.starts_with("xn--")) {
        return Ok(lower);
    }
    // Hyphens in the third and fourth place are in use, so only the ends are
    // checked; the alphabet and the lengths are checked afterwards, on the result.
    let converted = Uts46::new().to_ascii(
        text.as_bytes(),
        AsciiDenyList::EMPTY,
        Hyphens::CheckFirstLast,
        DnsLength::Ignore,
    );
    match converted {
        Ok(name) if name.chars().all(is_name_char) => Ok(name.into_owned()),
        _ => {
            let column = text.chars().position(|c| !c.is_ascii()).unwrap_or(0) + 1;
            Err(NameError::new(
                column,
                "a name that international domain names (UTS #46) allow",
            ))
        }
    }
}

/// `original` is what the operator wrote: columns are counted there, label by
/// label, since conversion changes their length.
fn check_labels(name: &str, original: &str) -> Result<(), NameError> {
    let mut column = 1;
    let mut written = original.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']);
    for label in name.split('.') {
        let width = written.next().map_or(0, |l| l.chars().count());
        if label.is_empty() {
            return Err(NameError::new(column, "a label between the dots"));
        }
        if label.len() > MAX_LABEL {
            let expected = format!("a label of at most {MAX_LABEL} bytes");
            return Err(NameError::new(column, expected));
        }
        if label.starts_with('-') {
            let expected = "a label that does not begin with `-`";
            return Err(NameError::new(column, expected));
        }
        if label.ends_with('-') {
            let expected = "a label that does not end with `-`";
            return Err(NameError::new(column + width.saturating_sub(1), expected));
        }
        column += width + 1;
    }
    if name.len() > MAX_NAME {
        return Err(NameError::new(1, too_long()));
    }
    // Programs hand such text to inet_aton, which reads 1.2.3 and 0x7f000001 as
    // addresses; as names they could only ever be a mistake.
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|b| b.is_ascii_digit()) || is_hex_number(last) {
        let expected = "a name or an address: this looks like a broken address";
        return Err(NameError::new(1, expected));
    }
    Ok(())
}

fn is_hex_number(label: &str) -> bool {
    label
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for DnsName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

text_value!(
    DnsName,
    "DnsName",
    "A host name in A-label form, lower case, without a trailing dot.",
    ["example.com"]
);

/// How much around its name a pattern covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `=example.com`: this name and no other.
    Exact,
    /// `example.com`: the name and every name below it.
    Subtree,
    /// `*.example.com`: the names below it, not the name itself.
    Below,
}

/// One name of a policy with its scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamePattern {
    /// The name at which the scope begins.
    pub name: DnsName,
    /// What of the tree below it belongs to the pattern.
    pub scope: Scope,
}

impl NamePattern {
    /// Whether a name from a question falls under the pattern.
    ///
    /// Case and one trailing dot are ignored. Text that is no plain host name
    /// matches nothing: `x\.example.com` (one label with a dot in it, as DNS
    /// libraries print it) is a name below `com`, not below `example.com`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.len() > MAX_NAME || !is_plain(name) {
            return false;
        }
        let own = self.name.as_str();
        if name.len() == own.len() {
            return self.scope != Scope::Below && name.eq_ignore_ascii_case(own);
        }
        if self.scope == Scope::Exact || name.len() < own.len() + 2 {
            return false;
        }
        // Plain text is ASCII, so every index is a character boundary.
        let (head, tail) = name.split_at(name.len() - own.len());
        head.ends_with('.') && tail.eq_ignore_ascii_case(own)
    }
}

fn is_plain(name: &str) -> bool {
    name.chars().all(is_name_char) && !name.split('.').any(str::is_empty)
}

impl FromStr for NamePattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scope, skipped, rest) = if let Some(rest) = text.strip_prefix('=') {
            (Scope::Exact, 1, rest)
        } else if let Some(rest) = text.strip_prefix("*.") {
            (Scope::Below, 2, rest)
        } else {
            (Scope::Subtree, 0, text)
        };
        let name = rest.parse().map_err(|mut error: NameError| {
            error.column += skipped;
            error
        })?;
        Ok(Self { name, scope })
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.scope {
            Scope::Exact => "=",
            Scope::Subtree => "",
            Scope::Below => "*.",
        };
        write!(f, "{mark}{}", self.name)
    }
}

text_value!(
    NamePattern,
    "NamePattern",
    "A name with its scope: `example.com` and all below it, `=example.com` alone, `*.example.com` only below it.",
    ["example.com", "=example.com", "*.example.com"]
);

#[cfg(test)]
mod tests;
