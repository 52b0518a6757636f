//! What the operator typed after `--`: which of it are podman flags, where IMAGE begins, and whether a flag would undo the shield.
//!
//! Podman parses with pflag, `SetInterspersed(false)`. Arguments are read here the same way (long and short spellings, clusters,
//! optional values, aliases), every flag is looked up in a table, and what the table doesn't know is an error: whether an unknown
//! flag takes a value decides where IMAGE begins. What passes is written out again in the one form that has a single meaning in
//! every version, `--flag=value`, so podman cannot read it otherwise than it was judged here.
//!
//! It is not the guard: the hook looks at what podman made of it all, mounts and capabilities included.

mod network;
mod publish;
mod rules;
mod table;

use std::fmt::Write as _;

pub use network::{screen_pasta_options, screen_slirp_options};
pub use publish::{BadPort, PortProtocol, PublishedPort};

use table::{Arity, Spec};

/// The container's ports of some values of `--publish`, judged as `run` judges them.
///
/// # Errors
/// The first value that podman would not take.
pub fn publish_flags(values: &[String]) -> Result<Vec<PublishedPort>, FlagError> {
    let mut ports = Vec::new();
    for value in values {
        ports.extend(rules::judge(
            rules::Rule::Publish,
            value,
            &format!("--publish {value}"),
        )?);
    }
    Ok(ports)
}

/// Why the arguments are not passed to podman. The message is one line and names the flag as it was typed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// Not in the table of podman 4.3 to 5.x: its place in the command line cannot be told.
    #[error(
        "unknown podman flag {flag}: whether it takes a value is not known, so where the image begins isn't either; leave it out"
    )]
    Unknown {
        /// As typed.
        flag: String,
    },
    /// Something that pflag refuses as well, such as `--=x`.
    #[error("podman flag {flag}: not the form of a flag")]
    Syntax {
        /// As typed.
        flag: String,
    },
    /// The last argument is a flag that takes a value.
    #[error("podman flag {flag} needs a value")]
    MissingValue {
        /// As typed.
        flag: String,
    },
    /// A boolean flag with a value that Go's `ParseBool` does not take.
    #[error("podman flag {flag}: the value is neither true nor false")]
    NotBoolean {
        /// As typed.
        flag: String,
    },
    /// Flags, but nothing to run.
    #[error("no image after the podman flags: terok-shield run NAME -- [podman run flags] IMAGE [CMD...]")]
    MissingImage,
    /// An image that podman could take for a flag.
    #[error("image {image}: begins with '-'; podman has no such image")]
    ImageLikeFlag {
        /// As typed.
        image: String,
    },
    /// The flag would undo the shield, or can't be judged.
    #[error("podman flag {flag}: {reason}")]
    Refused {
        /// As typed, with its value.
        flag: String,
        /// What it would do and what to do instead.
        reason: String,
    },
    /// A `--publish` that podman would not understand either.
    #[error("podman flag {flag}: {reason}")]
    Publish {
        /// As typed, with its value.
        flag: String,
        /// What is wrong with it.
        reason: BadPort,
    },
}

/// Arguments that were judged harmless to the shield.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Screened {
    /// The flags in podman's unambiguous form, in the order given, each one argument: `--volume=/a:/b`, `--interactive=true`.
    pub flags: Vec<String>,
    /// IMAGE and what follows it, as typed. Never empty; the first does not begin with `-`.
    pub image_and_command: Vec<String>,
    /// `--interactive` in the end.
    pub interactive: bool,
    /// `--tty` in the end.
    pub tty: bool,
    /// `--detach` in the end.
    pub detach: bool,
    /// `--rm` in the end, or `--rmi`, which implies it.
    pub rm: bool,
    /// `--replace` in the end: a container of that name is removed first.
    pub replace: bool,
    /// The first positional argument is a directory, not an image.
    pub rootfs: bool,
    /// The operator said something about the terminal: `-i`, `-t`, `-d` or `-a`, with whatever value.
    pub terminal_decided: bool,
    /// Values of `--network`, as given.
    pub networks: Vec<String>,
    /// The last value of `--userns`.
    pub userns: Option<String>,
    /// Ports of the container that are to be reachable from outside.
    pub publish: Vec<PublishedPort>,
}

impl Screened {
    /// Podman's arguments: `run`, the operator's flags, `shield` (last, so that it wins where a flag has one value), `--`, the image
    /// and its command. `terminal` adds `--interactive --tty`.
    #[must_use]
    pub fn podman_args(&self, shield: &[String], terminal: bool) -> Vec<String> {
        let mut args = vec!["run".to_owned()];
        args.extend(self.flags.iter().cloned());
        if terminal {
            args.extend(["--interactive=true".to_owned(), "--tty=true".to_owned()]);
        }
        args.extend(shield.iter().cloned());
        args.push("--".to_owned());
        args.extend(self.image_and_command.iter().cloned());
        args
    }
}

/// True where `run` should add `-it`: both ends are a terminal and the operator said nothing about it.
#[must_use]
pub fn is_interactive_needed(screened: &Screened, stdin_tty: bool, stdout_tty: bool) -> bool {
    stdin_tty && stdout_tty && !screened.terminal_decided
}

/// Judges everything after `--` of `terok-shield run NAME --`.
///
/// # Errors
/// The first argument, from the left, that is unknown, malformed or would undo the shield.
pub fn screen(args: &[String]) -> Result<Screened, FlagError> {
    let (given, positional) = parse(args)?;
    let Some(image) = positional.first().filter(|image| !image.is_empty()) else {
        return Err(FlagError::MissingImage);
    };
    if image.starts_with('-') {
        return Err(FlagError::ImageLikeFlag { image: shown(image) });
    }
    let mut screened = Screened {
        flags: Vec::with_capacity(given.len()),
        image_and_command: positional.to_vec(),
        interactive: false,
        tty: false,
        detach: false,
        rm: false,
        replace: false,
        rootfs: false,
        terminal_decided: false,
        networks: Vec::new(),
        userns: None,
        publish: Vec::new(),
    };
    let mut rmi = false;
    for flag in &given {
        flag.note(&mut screened, &mut rmi);
        screened.flags.push(format!("--{}={}", flag.name, flag.value));
    }
    screened.rm |= rmi;
    Ok(screened)
}

/// One flag as it stands in the arguments, judged.
#[derive(Debug)]
struct Given<'a> {
    spec: &'static Spec,
    /// The long name as typed (an alias stays one), or the long name of the short flag.
    name: &'a str,
    /// `true` or `false` for a boolean.
    value: String,
    ports: Vec<PublishedPort>,
}

impl<'a> Given<'a> {
    fn new(spec: &'static Spec, name: &'a str, value: &str, typed: &str) -> Result<Self, FlagError> {
        let value = match spec.arity {
            Arity::Value => value.to_owned(),
            Arity::Bool => match value {
                // Go's strconv.ParseBool
                "1" | "t" | "T" | "true" | "TRUE" | "True" => "true".to_owned(),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => "false".to_owned(),
                _ => return Err(FlagError::NotBoolean { flag: shown(typed) }),
            },
        };
        let ports = rules::judge(spec.rule, &value, typed)?;
        Ok(Self {
            spec,
            name,
            value,
            ports,
        })
    }

    fn note(&self, screened: &mut Screened, rmi: &mut bool) {
        let on = self.value == "true";
        match self.spec.long {
            "interactive" => screened.interactive = on,
            "tty" => screened.tty = on,
            "detach" => screened.detach = on,
            "rm" => screened.rm = on,
            "rmi" => *rmi = on,
            "replace" => screened.replace = on,
            "rootfs" => screened.rootfs = on,
            "network" => screened.networks.push(self.value.clone()),
            "userns" => screened.userns = Some(self.value.clone()),
            _ => {}
        }
        screened.terminal_decided |= matches!(self.spec.long, "interactive" | "tty" | "detach" | "attach");
        screened.publish.extend_from_slice(&self.ports);
    }
}

/// Flags up to the first positional argument or `--`, as pflag does without interspersed arguments.
fn parse(args: &[String]) -> Result<(Vec<Given<'_>>, &[String]), FlagError> {
    let mut given = Vec::new();
    let mut rest = args;
    loop {
        let Some((first, tail)) = rest.split_first() else {
            return Ok((given, &[]));
        };
        if first == "--" {
            return Ok((given, tail));
        }
        // A single "-" is positional, as in pflag.
        if first.len() < 2 || !first.starts_with('-') {
            return Ok((given, rest));
        }
        rest = match first.strip_prefix("--") {
            Some(long) => parse_long(first, long, tail, &mut given)?,
            None => parse_cluster(first, tail, &mut given)?,
        };
    }
}

fn parse_long<'a>(
    typed: &'a str,
    long: &'a str,
    tail: &'a [String],
    given: &mut Vec<Given<'a>>,
) -> Result<&'a [String], FlagError> {
    if long.starts_with(['-', '=']) {
        return Err(FlagError::Syntax { flag: shown(typed) });
    }
    let (name, value) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    let Some(spec) = table::long(name) else {
        return Err(FlagError::Unknown {
            flag: shown(&format!("--{name}")),
        });
    };
    let (value, typed, tail) = match (value, spec.arity) {
        (Some(value), _) => (value, typed.to_owned(), tail),
        (None, Arity::Bool) => ("true", typed.to_owned(), tail),
        (None, Arity::Value) => {
            let (next, tail) = next_value(typed, tail)?;
            (next, format!("{typed} {next}"), tail)
        }
    };
    given.push(Given::new(spec, name, value, &typed)?);
    Ok(tail)
}

/// `-i`, `-it`, `-p8080`, `-p=8080`, `-dp 8080`: booleans may be clustered, the first flag with a value takes the rest.
fn parse_cluster<'a>(
    typed: &'a str,
    tail: &'a [String],
    given: &mut Vec<Given<'a>>,
) -> Result<&'a [String], FlagError> {
    let mut letters = &typed[1..];
    while let Some(letter) = letters.chars().next() {
        // pflag drops everything from "test." on without a word, for Go's test binaries
        let spec = if letters.starts_with("test.") {
            None
        } else {
            table::short(letter)
        };
        let Some(spec) = spec else {
            return Err(FlagError::Unknown { flag: shown(typed) });
        };
        let after = &letters[letter.len_utf8()..];
        if let Some(value) = after.strip_prefix('=').filter(|value| !value.is_empty()) {
            given.push(Given::new(spec, spec.long, value, typed)?);
            return Ok(tail);
        }
        match spec.arity {
            Arity::Bool => {
                given.push(Given::new(spec, spec.long, "true", typed)?);
                letters = after;
            }
            Arity::Value if after.is_empty() => {
                let (next, tail) = next_value(typed, tail)?;
                given.push(Given::new(spec, spec.long, next, &format!("{typed} {next}"))?);
                return Ok(tail);
            }
            Arity::Value => {
                given.push(Given::new(spec, spec.long, after, typed)?);
                return Ok(tail);
            }
        }
    }
    Ok(tail)
}

fn next_value<'a>(typed: &str, tail: &'a [String]) -> Result<(&'a str, &'a [String]), FlagError> {
    match tail.split_first() {
        Some((value, tail)) => Ok((value, tail)),
        None => Err(FlagError::MissingValue { flag: shown(typed) }),
    }
}

/// What was typed, fit for one line of an error: control characters escaped, at most 256 characters.
pub(crate) fn shown(typed: &str) -> String {
    let mut line = String::new();
    for (count, character) in typed.chars().enumerate() {
        if count == 256 {
            line.push_str("...");
            break;
        }
        if character.is_control() {
            // writing to a String cannot fail
            let _ = write!(line, "{}", character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
