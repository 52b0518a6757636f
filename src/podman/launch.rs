//! The flags that put a container under the shield: the same for `run`, which passes them on, and `prepare`, which prints them.

use std::path::PathBuf;

use super::flags::shown;
use super::{
    ANNOTATION_LAUNCH, ANNOTATION_NAME, ANNOTATION_PROFILES, ANNOTATION_STATE_DIR, ANNOTATION_VERSION, SEAL_SYSCTL,
};

/// What podman is told about a shielded container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The container's name.
    pub name: String,
    /// Names of its profiles; none is a policy that denies everything.
    pub profiles: Vec<String>,
    /// Absolute path of the state directory (not of the bundle).
    pub state_dir: PathBuf,
    /// Proof that the container is the one that the policy was made for.
    pub proof: String,
    /// Version of this tool.
    pub version: String,
}

/// What cannot be told to podman in an annotation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// Not a name that podman takes.
    #[error(
        "container name {name}: letters, digits, '_', '.' and '-', the first a letter or digit, at most 128 characters"
    )]
    Name {
        /// As given.
        name: String,
    },
    /// Not a state directory that survives podman's parsing.
    #[error("state directory {path}: {reason}; set TEROK_SHIELD_STATE_DIR to another")]
    StateDir {
        /// As given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A profile's name, the proof or the version with a character that separates.
    #[error("{what} {value}: not empty, no colons, commas, quotes or control characters")]
    Value {
        /// `profile`, `proof` or `version`.
        what: &'static str,
        /// As given.
        value: String,
    },
}

/// Podman flags that shield the container, each word one argument.
///
/// # Errors
/// A value that podman or the hook would read as something else.
pub fn flags(launch: &Launch) -> Result<Vec<String>, LaunchError> {
    if !is_container_name(&launch.name) {
        return Err(LaunchError::Name {
            name: shown(&launch.name),
        });
    }
    for profile in &launch.profiles {
        check("profile", profile)?;
    }
    check("proof", &launch.proof)?;
    check("version", &launch.version)?;
    let state_dir = state_dir(launch)?;
    let annotations = [
        (ANNOTATION_PROFILES, launch.profiles.join(":")),
        (ANNOTATION_NAME, launch.name.clone()),
        (ANNOTATION_STATE_DIR, state_dir.to_owned()),
        (ANNOTATION_LAUNCH, launch.proof.clone()),
        (ANNOTATION_VERSION, launch.version.clone()),
    ];
    let mut flags = vec!["--name".to_owned(), launch.name.clone()];
    for (key, value) in annotations {
        flags.extend(["--annotation".to_owned(), format!("{key}={value}")]);
    }
    flags.extend(["--sysctl".to_owned(), format!("{SEAL_SYSCTL}=1")]);
    for capability in ["NET_ADMIN", "NET_RAW"] {
        flags.extend(["--cap-drop".to_owned(), capability.to_owned()]);
    }
    Ok(flags)
}

/// The words as one line that a POSIX shell splits into the same words.
#[must_use]
pub fn shell_quote(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote_word(word)).collect();
    quoted.join(" ")
}

fn quote_word(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&byte);
    // `~` and a leading `=` mean something to some shells
    if !word.is_empty() && !word.starts_with('=') && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Podman's own pattern, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, with a bound.
fn is_container_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn state_dir(launch: &Launch) -> Result<&str, LaunchError> {
    let refuse = |reason| LaunchError::StateDir {
        path: shown(&launch.state_dir.to_string_lossy()),
        reason,
    };
    let Some(path) = launch.state_dir.to_str() else {
        return Err(refuse("not valid UTF-8"));
    };
    if !launch.state_dir.is_absolute() {
        return Err(refuse("not an absolute path"));
    }
    // podman before 5 reads an annotation as CSV, podman 5 doesn't: no quoting serves both
    if path.contains([':', ',', '"']) || path.contains(char::is_control) {
        return Err(refuse(
            "podman's annotations cannot carry colons, commas, double quotes or control characters",
        ));
    }
    Ok(path)
}

fn check(what: &'static str, value: &str) -> Result<(), LaunchError> {
    if value.is_empty() || value.contains([':', ',', '"']) || value.contains(char::is_control) {
        return Err(LaunchError::Value {
            what,
            value: shown(value),
        });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    fn launch() -> Launch {
        Launch {
            name: "my-container".to_owned(),
            profiles: vec!["base".to_owned(), "dev-python".to_owned()],
            state_dir: PathBuf::from("/home/user/.local/state/terok/shield"),
            proof: "0f3a".to_owned(),
            version: "0.1.0".to_owned(),
        }
    }

    #[test]
    fn a_launch_carries_name_annotations_seal_and_dropped_capabilities() {
        assert_eq!(
            flags(&launch()).unwrap().join(" "),
            "--name my-container --annotation terok.shield.profiles=base:dev-python --annotation terok.shield.name=my-container \
             --annotation terok.shield.state_dir=/home/user/.local/state/terok/shield --annotation terok.shield.launch=0f3a \
             --annotation terok.shield.version=0.1.0 \
             --sysctl net.terok_shield.sealed=1 --cap-drop NET_ADMIN --cap-drop NET_RAW"
        );
    }

    #[test]
    fn no_profiles_are_an_empty_annotation_that_the_hooks_still_match() {
        let flags = flags(&Launch {
            profiles: vec![],
            ..launch()
        })
        .unwrap();
        assert!(flags.contains(&"terok.shield.profiles=".to_owned()));
    }

    #[test]
    fn a_state_directory_that_an_annotation_cannot_carry_is_an_error() {
        for bad in ["/a:b", "/a,b", "/a\"b", "/a\nb", "relative"] {
            let error = flags(&Launch {
                state_dir: PathBuf::from(bad),
                ..launch()
            })
            .unwrap_err();
            assert!(matches!(error, LaunchError::StateDir { .. }), "{bad}: {error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        let bytes = PathBuf::from(OsStr::from_bytes(b"/a\xff"));
        assert!(
            flags(&Launch {
                state_dir: bytes,
                ..launch()
            })
            .is_err()
        );
    }

    #[test]
    fn names_and_profiles_that_would_become_something_else_are_errors() {
        for bad in ["", "-x", "a b", "a/b", "a\n", ".x", &"a".repeat(129)] {
            assert!(
                flags(&Launch {
                    name: bad.to_owned(),
                    ..launch()
                })
                .is_err(),
                "{bad:?}"
            );
        }
        for bad in ["", "a:b", "a,b", "a\"b", "a\tb"] {
            assert!(
                flags(&Launch {
                    profiles: vec![bad.to_owned()],
                    ..launch()
                })
                .is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn quoting_is_undone_by_a_shell() {
        let words = [
            "", "a", "a b", "it's", "$HOME", "~", "a\nb", "*", "=x", "--x=y", "\u{e4}", "`id`", "\\",
        ]
        .map(str::to_owned);
        let line = format!("printf '%s\\0' {}", shell_quote(&words));
        let output = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        let back: Vec<&str> = std::str::from_utf8(&output.stdout)
            .unwrap()
            .split_terminator('\0')
            .collect();
        assert_eq!(back, words);
    }
}
