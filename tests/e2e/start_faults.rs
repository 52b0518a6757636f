//! A hook that is killed, or whose system calls fail, at each of its calls in turn: the container does not run, or it runs
//! shielded. What is refused stays refused.

use crate::bait::Fate;
use crate::bare::{Bare, Fault};

tests![
    a_hook_that_is_killed_at_any_of_its_system_calls_starts_nothing,
    a_hook_of_which_any_system_call_fails_starts_nothing_or_a_shielded_container,
    what_is_refused_is_refused_when_any_system_call_fails,
];

/// What a full disk, a broken one, and a process without descriptors, memory or permission meet.
const ERRORS: [&str; 5] = ["ENOSPC", "EIO", "EMFILE", "ENOMEM", "EPERM"];
/// A hook makes more calls than this; if the loops below ended before, they would prove nothing.
const AT_LEAST: usize = 400;

/// The program gets out where no hook runs, and doesn't where it does.
#[track_caller]
fn proved(bare: &Bare) {
    bare.start_without_hooks().ok();
    bare.bait.got_out();
    bare.start().ok();
    assert_eq!(bare.bait.fate("a start without a fault"), Fate::Shielded);
    bare.forget_table();
}

/// Starts the container once for each system call of its hook, with a fault in that one, and tells what became of it. Returns
/// the number of starts.
#[track_caller]
fn at_each_call(bare: &Bare, names: &[String], faults: &[&str], mut told: impl FnMut(&Fault, i32)) -> usize {
    let mut starts = 0;
    for call in names {
        for number in 1.. {
            let fault = Fault {
                call: call.clone(),
                number,
                what: faults[starts % faults.len()].to_owned(),
            };
            let faulted = bare.start_with(&fault);
            // One more than there are: an ordinary start.
            if !faulted.met {
                let fate = bare.bait.fate(&fault.to_string());
                assert_eq!((faulted.output.code, fate), (0, Fate::Shielded), "{faulted:#?}");
                break;
            }
            starts += 1;
            told(&fault, faulted.output.code);
        }
    }
    starts
}

fn a_hook_that_is_killed_at_any_of_its_system_calls_starts_nothing() {
    let bare = Bare::new();
    proved(&bare);
    let names = bare.calls();
    let starts = at_each_call(&bare, &names, &["signal=KILL"], |fault, code| {
        assert_ne!(code, 0, "{fault}");
        assert!(!bare.bait.has_run(), "{fault}");
    });
    assert!(starts > AT_LEAST, "{starts}");
    proved(&bare);
}

fn a_hook_of_which_any_system_call_fails_starts_nothing_or_a_shielded_container() {
    let bare = Bare::new();
    proved(&bare);
    let names = bare.calls();
    let errors = ERRORS.map(|error| format!("error={error}"));
    let errors: Vec<&str> = errors.iter().map(String::as_str).collect();
    let (mut refused, mut shielded) = (0, 0);
    let starts = at_each_call(&bare, &names, &errors, |fault, code| {
        let fate = bare.bait.fate(&fault.to_string());
        assert_eq!(code == 0, fate == Fate::Shielded, "{fault}: {fate:?}");
        *(if code == 0 { &mut shielded } else { &mut refused }) += 1;
    });
    assert!(
        starts > AT_LEAST && refused > 0 && shielded > 0,
        "{starts} {refused} {shielded}"
    );
    proved(&bare);
}

/// Something that the hook refuses, made so that it is found by looking around and not by reading what it was told.
struct Attack {
    reason: &'static str,
    make: fn(&mut Bare),
}

const STRANGER: &str = "shared with process";
/// About as many as the call that is made most often in a start without a fault.
const MOST: usize = 150;

const ATTACKS: [Attack; 4] = [
    Attack {
        reason: STRANGER,
        make: Bare::add_stranger,
    },
    Attack {
        reason: "inherits descriptors",
        make: |bare| {
            let words = ["sh", "-c", "exec 3</dev/null; exec \"$0\" \"$@\""];
            bare.starter = words.map(str::to_owned).to_vec();
            bare.flags = ["--preserve-fds".to_owned(), "1".to_owned()].to_vec();
        },
    },
    Attack {
        reason: "is a socket",
        make: |bare| {
            let line = "import os, socket, sys; pair = socket.socketpair(); os.dup2(pair[0].fileno(), 0); os.execvp(sys.argv[1], sys.argv[1:])";
            bare.starter = ["python3", "-I", "-c", line].map(str::to_owned).to_vec();
        },
    },
    Attack {
        reason: "the firewall's state directory",
        make: |bare| {
            let state = bare.user.state();
            let mount = serde_json::json!({
                "destination": "/state", "type": "bind", "source": state, "options": ["rbind", "ro"]
            });
            bare.config["mounts"].as_array_mut().unwrap().push(mount);
        },
    },
];

/// A look around that fails has seen nothing, and what was not seen is not known to be harmless.
fn what_is_refused_is_refused_when_any_system_call_fails() {
    let looks = ["statx", "getdents64", "openat", "readlink", "newfstatat", "read"].map(str::to_owned);
    for attack in ATTACKS {
        let looks = if attack.reason == STRANGER {
            &looks[..2]
        } else {
            &looks[..]
        };
        let mut bare = Bare::new();
        proved(&bare);
        (attack.make)(&mut bare);
        bare.start_without_hooks().ok();
        bare.bait.got_out();
        let starts = before_each_refusal(&bare, looks, attack.reason);
        assert!(starts > 40, "{}: {starts}", attack.reason);
    }
}

/// Starts it once for each such call, which fails, and then without a fault. Returns the number of starts.
#[track_caller]
fn before_each_refusal(bare: &Bare, calls: &[String], reason: &str) -> usize {
    let errors = ["error=EMFILE", "error=ENOMEM", "error=EIO"];
    let mut starts = 0;
    for call in calls {
        // The search for strangers is repeated for a second: its first turns are enough.
        for number in 1..=MOST {
            let fault = Fault {
                call: call.clone(),
                number,
                what: errors[starts % errors.len()].to_owned(),
            };
            let faulted = bare.start_with(&fault);
            let fate = bare.bait.has_run();
            assert!(faulted.output.code != 0 && !fate, "{reason}: {fault}: {faulted:#?}");
            if !faulted.met {
                let log = bare.user.bundle("bare").join("hook-error.log");
                let text = std::fs::read_to_string(log).unwrap();
                assert!(text.contains(reason), "{reason:?} in {text:?}");
                break;
            }
            starts += 1;
        }
    }
    starts
}
