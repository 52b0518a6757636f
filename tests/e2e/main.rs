//! The whole product against real containers, in the laboratory (`tests/lab`): rootless podman, an internet of its own,
//! and a file system whose changes are forgotten.
//!
//! Started by `cargo test`, the test binary enters the laboratory once, for the whole run, and starts itself there. Without
//! root there is no laboratory: then every test is listed as ignored, which is a failure in CI.

#![allow(clippy::unwrap_used)]

/// The tests of a module, by name.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub const TESTS: &[crate::Test] = &[$((concat!(module_path!(), "::", stringify!($name)), $name)),*];
    };
}

mod adversary;
mod annotations;
mod bait;
mod bare;
mod bare_runtimes;
mod bundle;
mod command;
mod confinement;
mod crash;
mod cut;
mod denials;
mod environment;
mod explain;
mod forged_input;
mod grants;
mod host;
mod inspect;
mod lab;
mod leak;
mod leftovers;
mod like_podman;
mod modes;
mod names;
mod networks;
mod panics;
mod pods;
mod probe;
mod reach;
mod refusal;
mod refused_flags;
mod refused_mounts;
mod reports;
mod resolvers;
mod restart;
mod rootful;
mod scale;
mod seal;
mod setup;
mod start_faults;
mod usage;
mod user;
mod vsock;

use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Trial};

/// A test and what it proves.
type Test = (&'static str, fn());

/// The path of the program under test, for the process inside the laboratory.
const PROGRAM: &str = "E2E_PROGRAM";
/// What `tests/lab/enter` says where there can be no laboratory.
const SKIPPED: i32 = 77;
/// Containers are started by several processes each; more tests at once than this only wait for each other.
const THREADS: usize = 2;

fn tests() -> Vec<Test> {
    [
        // Those that take longest first.
        start_faults::TESTS,
        scale::TESTS,
        leak::TESTS,
        crash::TESTS,
        names::TESTS,
        pods::TESTS,
        seal::TESTS,
        setup::TESTS,
        adversary::TESTS,
        annotations::TESTS,
        bare_runtimes::TESTS,
        bundle::TESTS,
        confinement::TESTS,
        cut::TESTS,
        explain::TESTS,
        denials::TESTS,
        environment::TESTS,
        forged_input::TESTS,
        grants::TESTS,
        host::TESTS,
        inspect::TESTS,
        like_podman::TESTS,
        modes::TESTS,
        networks::TESTS,
        reach::TESTS,
        refused_flags::TESTS,
        refused_mounts::TESTS,
        reports::TESTS,
        resolvers::TESTS,
        restart::TESTS,
        rootful::TESTS,
        usage::TESTS,
        vsock::TESTS,
    ]
    .concat()
}

/// `ignored` is for machines without a laboratory.
fn trials(ignored: bool) -> Vec<Trial> {
    tests()
        .into_iter()
        .map(|(name, test)| {
            let name = name.strip_prefix("e2e::").unwrap_or(name);
            Trial::test(name, move || panics::told(test)).with_ignored_flag(ignored)
        })
        .collect()
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if std::env::var_os("LAB").is_some() {
        return inside(arguments);
    }
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(false)).exit_code();
    }
    match enter() {
        Some(status) => ExitCode::from(status),
        None if std::env::var_os("CI").is_some() => {
            eprintln!("the end-to-end tests need the laboratory, and that needs root: in CI this is a failure");
            ExitCode::FAILURE
        }
        None => {
            let mut arguments = arguments;
            arguments.ignored = false;
            arguments.include_ignored = false;
            libtest_mimic::run(&arguments, trials(true)).exit_code()
        }
    }
}

/// Runs this program again inside of the laboratory. Its exit status, or nothing where there is no laboratory.
fn enter() -> Option<u8> {
    let door = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/enter");
    let program = std::env::current_exe().expect("a process knows its program");
    let status = Command::new(door)
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(PROGRAM, env!("CARGO_BIN_EXE_terok-shield"))
        .status()
        .expect("tests/lab/enter can be started");
    match status.code() {
        Some(SKIPPED) => None,
        code => Some(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
    }
}

fn inside(mut arguments: Arguments) -> ExitCode {
    arguments.test_threads.get_or_insert(THREADS);
    panics::keep_quiet();
    lab::open();
    let conclusion = libtest_mimic::run(&arguments, trials(false));
    lab::close();
    // Not one of the tests above: it is about what all of them together left behind.
    arguments.filter = None;
    arguments.skip = Vec::new();
    let last = libtest_mimic::run(
        &arguments,
        vec![Trial::test("nothing_is_left_over", || panics::told(leftovers::check))],
    );
    if conclusion.has_failed() || last.has_failed() {
        ExitCode::from(101)
    } else {
        ExitCode::SUCCESS
    }
}
