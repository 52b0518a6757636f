//! `terok-shield`: the command line, and the hook that OCI runtimes start.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The hook runs at every start of a container: it goes round everything that the command line sets up.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|word| word == "hook") {
        let stage = arguments.next();
        return ExitCode::from(terok_shield::hook::run(
            stage.as_deref().and_then(|stage| stage.to_str()),
        ));
    }
    ExitCode::from(cli::run())
}
