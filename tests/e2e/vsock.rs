//! AF_VSOCK, which no table sees, is denied by seccomp: whatever profile a container was to have, by every way to a socket.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::command::Output;
use crate::lab::{Container, IMAGE, Scratch};
use crate::refusal::{Attempt, Way};
use crate::user::{FreshUser, User};

tests![
    no_profile_leaves_a_way_to_vsock_under_crun,
    no_profile_leaves_a_way_to_vsock_under_runc,
    annotations_alone_deny_vsock_too,
    a_profile_that_leaves_the_socket_to_another_process_is_refused,
    without_precreate_a_profile_that_permits_vsock_is_refused,
];

/// How a call enters the kernel.
#[derive(Debug, Clone, Copy)]
enum Entry {
    /// `syscall`, 64-bit numbers.
    Syscall,
    /// `int 0x80`, 32-bit numbers: a filter sees another architecture.
    Int80,
    /// The same, with the arguments in memory.
    Socketcall,
}

const SOCKET: u64 = 41;
const SOCKET_32: u64 = 359;
const SOCKETCALL_32: u64 = 102;
const IO_URING_SETUP: u64 = 425;
const VSOCK: u64 = 40;
const STREAM: u64 = 1;
const RAW: u64 = 3;
/// Stands for the address of what follows the code.
const MEMORY: u64 = u64::MAX;

/// An x86-64 program of one system call, which ends with the call's errno, or with [`OPENED`] or more.
///
/// Python cannot say 2^32 + 40, and there is no compiler on every laboratory's machine.
fn program(entry: Entry, number: u64, arguments: [u64; 3]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let narrow = |number: u64| u32::try_from(number).unwrap().to_le_bytes();
    let code = |memory: u64| {
        let mut code = Vec::new();
        let place = |argument: u64| if argument == MEMORY { memory } else { argument };
        match entry {
            Entry::Syscall => {
                // mov rax, rdi, rsi, rdx; syscall
                for (register, value) in [0xb8, 0xbf, 0xbe, 0xba]
                    .into_iter()
                    .zip([number].iter().chain(&arguments))
                {
                    code.extend([0x48, register]);
                    code.extend(place(*value).to_le_bytes());
                }
                code.extend([0x0f, 0x05]);
            }
            Entry::Int80 | Entry::Socketcall => {
                let registers = match entry {
                    // socketcall(SYS_SOCKET, memory)
                    Entry::Socketcall => [1, MEMORY, 0],
                    _ => arguments,
                };
                // mov eax, ebx, ecx, edx; int 0x80
                for (register, value) in [0xb8, 0xbb, 0xb9, 0xba]
                    .into_iter()
                    .zip([number].iter().chain(&registers))
                {
                    code.push(register);
                    code.extend(narrow(place(*value)));
                }
                code.extend([0xcd, 0x80]);
            }
        }
        // mov edi, eax; neg edi; mov eax, 60 (exit); syscall
        code.extend([0x89, 0xc7, 0xf7, 0xdf, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
        code
    };
    let mut text = code(BASE + HEADERS + code(0).len() as u64);
    match entry {
        Entry::Socketcall => text.extend(arguments.into_iter().flat_map(narrow)),
        // Parameters of a ring, all zero.
        _ => text.extend([0; 120]),
    }

    let size = HEADERS + text.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for field in [BASE + HEADERS, 64, 0] {
        elf.extend(field.to_le_bytes());
    }
    // Flags; sizes of the headers; one program header; no sections.
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // PT_LOAD, readable, writable, executable.
    elf.extend([1, 0, 0, 0, 7, 0, 0, 0]);
    for field in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(field.to_le_bytes());
    }
    elf.extend(text);
    elf
}

/// Ways to an AF_VSOCK socket, or to calls that no filter sees.
fn ways() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("socket", program(Entry::Syscall, SOCKET, [VSOCK, STREAM, 0])),
        (
            "socket-upper-1",
            program(Entry::Syscall, SOCKET, [1 << 32 | VSOCK, STREAM, 0]),
        ),
        (
            "socket-upper-all",
            program(Entry::Syscall, SOCKET, [0xffff_ffff << 32 | VSOCK, STREAM, 0]),
        ),
        ("socket-32", program(Entry::Int80, SOCKET_32, [VSOCK, STREAM, 0])),
        (
            "socketcall-32",
            program(Entry::Socketcall, SOCKETCALL_32, [VSOCK, STREAM, 0]),
        ),
        ("ring", program(Entry::Syscall, IO_URING_SETUP, [1, MEMORY, 0])),
        ("ring-32", program(Entry::Int80, IO_URING_SETUP, [1, MEMORY, 0])),
    ]
}

/// What has to work as before.
fn others() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("unix", program(Entry::Syscall, SOCKET, [1, STREAM, 0])),
        ("inet", program(Entry::Syscall, SOCKET, [2, STREAM, 0])),
        ("inet6", program(Entry::Syscall, SOCKET, [10, STREAM, 0])),
        ("netlink", program(Entry::Syscall, SOCKET, [16, RAW, 0])),
        ("inet-32", program(Entry::Int80, SOCKET_32, [2, STREAM, 0])),
        ("inet6-32", program(Entry::Int80, SOCKET_32, [10, STREAM, 0])),
    ]
}

/// A descriptor, negated; errnos are smaller.
const OPENED: i32 = 200;
const DENIALS: [i32; 3] = [1, 38, 97];

/// Runs each of them, and says how it ended.
const EACH: &str = "for p in /calls/*; do $p; echo ${p##*/} $?; done";

/// The programs, and flags that show them to a container.
struct Calls {
    scratch: Scratch,
    mount: String,
}

impl Calls {
    fn new(user: &User, name: &str) -> Self {
        let scratch = Scratch::new(user, name);
        for (name, program) in ways().into_iter().chain(others()) {
            let path = scratch.0.join(name);
            user.write(&path, program);
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        let mount = format!("{}:/calls:ro", scratch.path());
        Self { scratch, mount }
    }
}

fn ends(output: Output) -> BTreeMap<String, i32> {
    let output = output.ok();
    let ends: BTreeMap<String, i32> = output
        .out
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, code)| (name.to_owned(), code.trim().parse().unwrap()))
        .collect();
    assert_eq!(ends.len(), ways().len() + others().len(), "{output:#?}");
    ends
}

/// Every family works but AF_VSOCK, which no way leads to.
#[track_caller]
fn denies_vsock_alone(what: &str, output: Output) {
    let ends = ends(output);
    for (name, _) in ways() {
        assert!(DENIALS.contains(&ends[name]), "{what}: {name} of {ends:?}");
    }
    for (name, _) in others() {
        assert!(ends[name] >= OPENED, "{what}: {name} of {ends:?}");
    }
}

/// Podman's own profile, changed.
fn podmans(change: impl FnOnce(&mut Value)) -> Value {
    let text = fs::read("/usr/share/containers/seccomp.json").unwrap();
    let mut profile = serde_json::from_slice(&text).unwrap();
    change(&mut profile);
    profile
}

/// Profiles by name, each of which permits AF_VSOCK.
fn profiles() -> Vec<(&'static str, Value)> {
    let socket_for_all = |profile: &mut Value| {
        let rules = profile["syscalls"].as_array_mut().unwrap();
        for rule in rules.iter_mut() {
            rule["names"].as_array_mut().unwrap().retain(|name| name != "socket");
        }
        rules.retain(|rule| rule["names"].as_array().is_some_and(|names| !names.is_empty()));
        rules.push(json!({"names": ["socket", "socketcall", "io_uring_setup"], "action": "SCMP_ACT_ALLOW"}));
    };
    let compat = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    vec![
        (
            "errno",
            podmans(|profile| {
                socket_for_all(profile);
                profile["defaultErrnoRet"] = json!(1);
                profile["defaultErrno"] = json!("EPERM");
            }),
        ),
        (
            "enosys",
            podmans(|profile| {
                socket_for_all(profile);
                profile["defaultErrnoRet"] = json!(38);
                profile["defaultErrno"] = json!("ENOSYS");
            }),
        ),
        // Upstream's idea of a denial: 64 bits are compared, and on 32-bit x86 `socketcall` stays open.
        (
            "not-40",
            podmans(|profile| {
                socket_for_all(profile);
                let last = profile["syscalls"].as_array_mut().unwrap().last_mut().unwrap();
                last["args"] = json!([{"index": 0, "value": 40, "valueTwo": 0, "op": "SCMP_CMP_NE"}]);
                last["names"] = json!(["socket"]);
            }),
        ),
        (
            "allow",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": compat, "syscalls": [
            {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "args": []},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [
                {"index": 2, "value": 9, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}]}),
        ),
    ]
}

fn no_profile_leaves_a_way_to_vsock(user: &User, prefix: &str) {
    let calls = Calls::new(user, &format!("{prefix}-calls"));
    let mut options = vec![
        Vec::new(),
        vec!["--security-opt".to_owned(), "seccomp=unconfined".to_owned()],
    ];
    let files = Scratch::new(user, &format!("{prefix}-profiles"));
    for (name, profile) in profiles() {
        let path = files.0.join(name);
        user.write(&path, profile.to_string());
        options.push(vec!["--security-opt".to_owned(), format!("seccomp={}", path.display())]);
    }
    user.profile(prefix, "");
    for options in &options {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let flags = [&["--rm", "-v", &calls.mount], &options[..], &[IMAGE, "sh", "-c", EACH]].concat();
        let what = format!("{prefix} {options:?}");

        let open = ends(user.podman(&[&["run"], &flags[..]].concat()));
        for way in ["socket-upper-1", "socketcall-32"] {
            assert!(
                open[way] >= OPENED,
                "{what}, unshielded: this kernel has no AF_VSOCK? {open:?}"
            );
        }
        if options.iter().any(|option| option.ends_with("unconfined")) {
            // All of them are real.
            let wrong: Vec<_> = open
                .iter()
                .filter(|(name, code)| !name.ends_with("-32") && **code < OPENED)
                .collect();
            assert!(wrong.is_empty(), "{what}, unshielded: {wrong:?}");
        }

        let _guard = Container::named(user, prefix);
        let run = ["run", prefix, "--profiles", prefix, "--"];
        denies_vsock_alone(&what, user.shield(&[&run, &flags[..]].concat()));
    }
    for options in &options[..2] {
        // What comes in later.
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let container = Container::start(user, prefix, "", &[&["-v", &calls.mount], &options[..]].concat());
        denies_vsock_alone("exec", container.sh(EACH));
        container.restart();
        denies_vsock_alone("exec after a restart", container.sh(EACH));
        container.is("up");
    }
    assert!(calls.scratch.has("socket"));
}

fn no_profile_leaves_a_way_to_vsock_under_crun() {
    no_profile_leaves_a_way_to_vsock(&User::shared(), "vsock");
}

fn no_profile_leaves_a_way_to_vsock_under_runc() {
    let user = FreshUser::with_hooks();
    let conf = fs::read_to_string(user.containers_conf()).unwrap();
    let runc = conf.replace("[engine]\n", "[engine]\nruntime = \"runc\"\n");
    user.write(&user.containers_conf(), runc);
    let info = user.podman(&["info", "--format", "{{.Host.OCIRuntime.Name}}"]);
    assert_eq!(info.ok().text(), "runc");
    no_profile_leaves_a_way_to_vsock(&user, "vsock-runc");
}

/// Started in front of podman: `prepare` mends the hooks, and this damages them again.
const WITHOUT_PRECREATE: [&str; 4] = [
    "sh",
    "-c",
    "rm ~/.local/share/terok/shield/precreate.d/terok-shield-precreate.json && exec \"$@\"",
    "sh",
];

/// A container that the flags of `prepare` make, but for the seal.
fn with_annotations(user: &User, name: &str, starter: &[&str], more: &[&str]) -> Container {
    let container = Container::named(user, name);
    let flags = user.prepare(name, "");
    let pairs = flags.chunks(2).filter(|pair| pair[0] != "--sysctl");
    let mut words = [starter, &["podman", "run", "-d", "--stop-signal", "KILL"]].concat();
    words.extend(pairs.flatten().map(String::as_str));
    words.extend(more);
    words.extend([IMAGE, "sleep", "100000"]);
    user.run(&words).ok();
    container
}

fn annotations_alone_deny_vsock_too() {
    let user = User::shared();
    let calls = Calls::new(&user, "vsock-annotations-calls");
    let container = with_annotations(&user, "vsock-annotations", &[], &["-v", &calls.mount]);
    denies_vsock_alone("annotations", container.sh(EACH));
}

fn a_profile_that_leaves_the_socket_to_another_process_is_refused() {
    let user = User::shared();
    let files = Scratch::new(&user, "vsock-traced-profiles");
    let traced = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["socket"], "action": "SCMP_ACT_TRACE", "args": []}]});
    user.write(&files.0.join("traced"), traced.to_string());
    let option = format!("seccomp={}", files.at("traced"));
    let attempt = Attempt::new(&user, "vsock-traced", &["--security-opt", &option]);
    attempt.works_unshielded();
    for way in [Way::Run, Way::Prepared, Way::PreparedWithoutSeal] {
        attempt.is_refused(way, "leaves socket to another process");
    }
}

fn without_precreate_a_profile_that_permits_vsock_is_refused() {
    let user = FreshUser::with_hooks();
    let calls = Calls::new(&user, "vsock-calls");
    for flags in [&[][..], &["--security-opt", "seccomp=unconfined"]] {
        let attempt = Attempt::new(&user, "vsock-open", flags);
        attempt.works_unshielded();
        let attempt = attempt.started_by(&WITHOUT_PRECREATE);
        attempt.is_refused(Way::PreparedWithoutSeal, "could use AF_VSOCK");
    }
    // A profile of the operator's that denies it, recognised by what it does.
    let closed = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["socketcall", "io_uring_setup", "io_uring_enter"], "action": "SCMP_ACT_ERRNO", "args": []},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [
                {"index": 0, "value": 0xffff_ffff_u64, "valueTwo": 40, "op": "SCMP_CMP_MASKED_EQ"}]}
        ]
    });
    let files = Scratch::new(&user, "vsock-closed-profiles");
    user.write(&files.0.join("closed"), closed.to_string());
    let option = format!("seccomp={}", files.at("closed"));
    let container = with_annotations(
        &user,
        "vsock-closed",
        &WITHOUT_PRECREATE,
        &["-v", &calls.mount, "--security-opt", &option],
    );
    container.is("up");
    denies_vsock_alone("a profile of the operator's", container.sh(EACH));
}
