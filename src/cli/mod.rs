//! The command line: from arguments to a call on [`Shield`], and from its result to output and exit status.
//!
//! Results go to standard output, everything else to standard error. No clap type leaves this room.

mod args;
mod control;
mod environment;
mod inspect;
mod launch;
mod observe;
mod setup;

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Result;
use clap::Parser;
use terok_shield::shield::Shield;
use terok_shield::{Error, Exit};

use args::{Args, Command};

/// Runs the command line and returns the process's exit status.
pub fn run() -> u8 {
    let args = match Args::try_parse() {
        Ok(args) => args,
        // Help and version are no errors.
        Err(error) if !error.use_stderr() => {
            return match error.print() {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => Exit::Failed as u8,
                _ => Exit::Done as u8,
            };
        }
        Err(error) => {
            warn(&usage_error(&error));
            return Exit::Usage as u8;
        }
    };
    log(args.verbose);
    let launching = matches!(args.command, Command::Run(_));
    match dispatch(args.command) {
        Ok(code) => code,
        // A reader that has seen enough is no failure.
        Err(error) if is_broken_pipe(&error) => Exit::Done as u8,
        Err(error) => {
            report(&error, args.verbose);
            match exit_of(&error) {
                Exit::Usage => Exit::Usage as u8,
                _ if launching => Exit::NotLaunched as u8,
                other => other as u8,
            }
        }
    }
}

/// clap's report as one line: what is wrong, what it lists below that, and where to read on.
fn usage_error(error: &clap::Error) -> String {
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return "a command is missing; see `terok-shield --help`".to_owned();
    }
    let text = error.render().to_string();
    let told: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"))
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    let told = told.join(" ");
    let told = told.strip_prefix("error: ").unwrap_or(&told);
    format!("{told}; see `terok-shield --help`")
}

fn dispatch(command: Command) -> Result<u8> {
    match command {
        Command::Run(args) => launch::run(args),
        Command::Prepare(args) => launch::prepare(args),
        Command::Setup(args) => setup::setup(&args),
        Command::Allow(args) => control::allow(&args),
        Command::Deny(args) => control::deny(&args),
        Command::Up(args) => control::up(&args),
        Command::Down(args) => control::down(&args),
        Command::Block(args) => control::block(&args),
        Command::Explain(args) => inspect::explain(&args),
        Command::Resolve(args) => control::resolve(&args),
        Command::Status(args) => inspect::status(&args),
        Command::Rules(args) => inspect::rules(&args),
        Command::Profiles(args) => inspect::profiles(&args),
        Command::Preview(args) => inspect::preview(&args),
        Command::Logs(args) => observe::logs(&args),
        Command::CheckEnvironment(args) => environment::check(&args),
    }
}

fn log(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::ERROR,
        1 => tracing::Level::WARN,
        2 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .without_time()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// One line: what failed, on what, and the causes behind it. With `-v` each cause has a line of its own.
fn report(error: &anyhow::Error, verbose: u8) {
    if verbose == 0 {
        let mut parts: Vec<String> = Vec::new();
        for cause in error.chain() {
            let text = cause.to_string().replace('\n', " ");
            // Transparent errors repeat their cause.
            if parts.last() != Some(&text) {
                parts.push(text);
            }
        }
        eprintln!("terok-shield: {}", parts.join(": "));
    } else {
        eprintln!("terok-shield: {error}");
        for cause in error.chain().skip(1) {
            eprintln!("  because: {cause}");
        }
    }
}

fn exit_of(error: &anyhow::Error) -> Exit {
    error.downcast_ref::<Error>().map_or(Exit::Failed, Error::exit)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    })
}

/// Writes a result to standard output, all of it.
fn print(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()?;
    Ok(())
}

/// A line for the operator, on standard error.
fn warn(text: &str) {
    eprintln!("terok-shield: {text}");
}

/// Shows how far a look-up is on a terminal, and nothing elsewhere.
struct Meter {
    shown: bool,
    terminal: bool,
}

impl Meter {
    fn new() -> Self {
        Self {
            shown: false,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, done: usize, total: usize) {
        if self.terminal {
            self.shown = true;
            eprint!("\r\x1b[Kresolving names: {done} of {total}");
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

fn shield() -> Result<Shield> {
    Ok(Shield::open()?)
}
