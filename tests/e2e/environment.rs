//! `check-environment`: the protection proved with packets, and what is said where it cannot be or does not hold.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::command::{Output, root};
use crate::lab::{Scratch, host_ruleset};
use crate::user::{FreshUser, User};

tests![
    the_protection_is_proved_with_packets_of_both_families_and_nothing_is_left,
    a_libnftables_that_does_nothing_protects_nothing,
    a_table_that_does_not_last_is_found_by_the_packets_that_pass,
    a_libnftables_that_crashes_proves_nothing,
    what_cannot_be_tried_is_not_proved,
    each_thing_that_keeps_podman_from_the_hooks_is_named_with_the_command_that_mends_it,
];

fn check(user: &User) -> Output {
    user.shield(&["check-environment", "--json"])
}

/// The only check of that name.
#[track_caller]
fn found(output: &Output, name: &str) -> Value {
    let report = output.json();
    let mut checks = report["checks"].as_array().unwrap().iter();
    let check = checks.find(|check| check["name"] == name).unwrap().clone();
    assert!(checks.all(|check| check["name"] != name), "{output:#?}");
    check
}

/// That the protection is not there, or not proved, for this reason.
#[track_caller]
fn is_unproved(output: Output, reason: &str) {
    let output = output.code(4);
    let protection = found(&output, "protection");
    assert_eq!(protection["ok"], false, "{output:#?}");
    assert!(
        protection["detail"].as_str().unwrap().contains(reason),
        "{reason:?} in {protection:#?}"
    );
    assert!(
        protection["mend"].as_str().unwrap().starts_with("sudo "),
        "{protection:#?}"
    );
    assert_eq!(output.json()["ready"], false);
}

fn the_protection_is_proved_with_packets_of_both_families_and_nothing_is_left() {
    let user = User::shared();
    let interfaces = || fs::read_dir("/sys/class/net").unwrap().count();
    let before = interfaces();
    let output = check(&user).ok();
    assert_eq!(found(&output, "protection")["ok"], true, "{output:#?}");
    let report = output.json();
    let packets = report["packets"].as_array().unwrap();
    for standing in ["listed", "denied", "floor", "private", "unlisted"] {
        for protocol in ["tcp", "udp"] {
            for bracket in [true, false] {
                let one: Vec<&Value> = packets
                    .iter()
                    .filter(|packet| packet["standing"] == standing && packet["protocol"] == protocol)
                    .filter(|packet| packet["to"].as_str().unwrap().starts_with('[') == bracket)
                    .collect();
                assert_eq!(one.len(), 1, "{standing} {protocol}: {packets:#?}");
                assert_eq!(one[0]["passed"], standing == "listed", "{packets:#?}");
            }
        }
    }
    assert_eq!(packets.len(), 20);
    let text = user.shield(&["check-environment"]).ok();
    let proved = "proved with packets: 4 to what is listed passed, 16 to anything else did not";
    assert!(text.out.contains(proved), "{text:#?}");
    assert_eq!((interfaces(), host_ruleset()), (before, String::new()));
}

/// The user with a libnftables of this source in the place of the system's.
fn with_library(scratch: &Scratch, source: &str) -> User {
    let file = scratch.at("stub.c");
    fs::write(&file, source).unwrap();
    // The loader wants the versions of symbols that the program was linked with.
    let versions = scratch.at("versions");
    fs::write(&versions, "LIBNFTABLES_1 { global: nft_*; local: *; };").unwrap();
    let (script, library) = (
        format!("-Wl,--version-script={versions}"),
        scratch.at("libnftables.so.1"),
    );
    root(&["cc", "-shared", "-fPIC", &script, "-o", &library, &file, "-ldl"]).ok();
    User::shared().with_variable("LD_LIBRARY_PATH", scratch.path())
}

/// Everything but `nft_run_cmd_from_buffer` and the output.
const STUB: &str = r#"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
static int context;
void *nft_ctx_new(unsigned flags) { return &context; }
void nft_ctx_free(void *ctx) {}
int nft_ctx_buffer_output(void *ctx) { return 0; }
int nft_ctx_buffer_error(void *ctx) { return 0; }
void nft_ctx_output_set_flags(void *ctx, unsigned flags) {}
const char *nft_ctx_get_output_buffer(void *ctx) { return "{\"nftables\":[]}"; }
const char *nft_ctx_get_error_buffer(void *ctx) { return ""; }
"#;

fn a_libnftables_that_does_nothing_protects_nothing() {
    let scratch = Scratch::new(&User::shared(), "library-idle");
    let source = format!("{STUB} int nft_run_cmd_from_buffer(void *ctx, const char *command) {{ return 0; }}");
    is_unproved(check(&with_library(&scratch, &source)), "not as it was written");
}

fn a_libnftables_that_crashes_proves_nothing() {
    let scratch = Scratch::new(&User::shared(), "library-crash");
    let source = format!("{STUB} int nft_run_cmd_from_buffer(void *ctx, const char *command) {{ abort(); }}");
    is_unproved(check(&with_library(&scratch, &source)), "ended unexpectedly");
}

/// The system's library, which takes the table away once it was read back.
fn a_table_that_does_not_last_is_found_by_the_packets_that_pass() {
    let scratch = Scratch::new(&User::shared(), "library-forget");
    let source = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
static void *sym(const char *name) {
    static void *real;
    if (!real) real = dlopen("SYSTEM", RTLD_NOW | RTLD_LOCAL);
    return dlsym(real, name);
}
static char listing[1 << 20];
static int listed;
void *nft_ctx_new(unsigned flags) { return ((void *(*)(unsigned))sym("nft_ctx_new"))(flags); }
void nft_ctx_free(void *ctx) { ((void (*)(void *))sym("nft_ctx_free"))(ctx); }
int nft_ctx_buffer_output(void *ctx) { return ((int (*)(void *))sym("nft_ctx_buffer_output"))(ctx); }
int nft_ctx_buffer_error(void *ctx) { return ((int (*)(void *))sym("nft_ctx_buffer_error"))(ctx); }
void nft_ctx_output_set_flags(void *ctx, unsigned flags) {
    ((void (*)(void *, unsigned))sym("nft_ctx_output_set_flags"))(ctx, flags);
}
const char *nft_ctx_get_output_buffer(void *ctx) {
    return listed ? listing : ((const char *(*)(void *))sym("nft_ctx_get_output_buffer"))(ctx);
}
const char *nft_ctx_get_error_buffer(void *ctx) {
    return ((const char *(*)(void *))sym("nft_ctx_get_error_buffer"))(ctx);
}
int nft_run_cmd_from_buffer(void *ctx, const char *command) {
    int (*run)(void *, const char *) = (int (*)(void *, const char *))sym("nft_run_cmd_from_buffer");
    const char *(*output)(void *) = (const char *(*)(void *))sym("nft_ctx_get_output_buffer");
    int status = run(ctx, command);
    listed = strstr(command, "\"list\"") != NULL;
    if (listed) {
        snprintf(listing, sizeof listing, "%s", output(ctx));
        run(ctx, "{\"nftables\":[{\"flush\":{\"ruleset\":null}}]}");
    }
    return status;
}
"#;
    let linked = root(&["ldd", crate::lab::PROGRAM]).ok();
    let system = linked
        .out
        .lines()
        .find_map(|line| line.trim().strip_prefix("libnftables.so.1 => ")?.split(' ').next())
        .unwrap_or_else(|| panic!("{linked:#?}"))
        .to_owned();
    let output = check(&with_library(&scratch, &source.replace("SYSTEM", &system)));
    is_unproved(output.clone(), "it does not hold: ");
    let report = output.json();
    let packets = report["packets"].as_array().unwrap();
    assert!(packets.iter().all(|packet| packet["passed"] == true), "{packets:#?}");
}

fn what_cannot_be_tried_is_not_proved() {
    let user = User::shared();
    let program = &user.program;
    // In a user namespace of its own, so that the limit and the mount are nobody else's.
    for (line, reason) in [
        ("echo 0 >/proc/sys/user/max_net_namespaces", "no namespaces"),
        ("mount --bind /dev/null /dev/net/tun", "no device"),
        ("mount -t tmpfs none /dev/net", "no device"),
    ] {
        let line = format!("{line} && exec {program} check-environment --json");
        is_unproved(user.run(&["unshare", "-rm", "sh", "-c", &line]), reason);
    }
}

fn each_thing_that_keeps_podman_from_the_hooks_is_named_with_the_command_that_mends_it() {
    let user = FreshUser::with_own_program();
    let conf = user.containers_conf();
    let good = fs::read_to_string(&conf).unwrap();
    let is_mended = |user: &User, reason: &str, command: &str| {
        let output = check(user).code(4);
        let hooks = found(&output, "hooks");
        assert!(
            hooks["detail"].as_str().unwrap().contains(reason),
            "{reason:?} in {hooks:#?}"
        );
        assert_eq!(hooks["mend"], command, "{hooks:#?}");
        user.sh(&command.replace("terok-shield ", &format!("{} ", user.program)))
            .ok();
        check(user).ok();
    };
    is_mended_after(&user, &is_mended);
    // A file of the same name in a later directory.
    let later = user.home.join("later.d");
    let end = good.rfind(']').unwrap();
    for name in ["terok-shield-createRuntime.json", "terok-shield-precreate.json"] {
        let mask = later.join(name);
        user.write(&mask, "{}");
        user.write(&conf, format!("{}, \"{}\"]\n", &good[..end], later.display()));
        is_mended(&user, "masks the hook", &format!("rm {}", mask.display()));
    }
    user.write(&conf, &good);
    // A directory that others may write.
    let hooks = user.hooks().join("hooks.d");
    root(&["chmod", "0777", hooks.to_str().unwrap()]).ok();
    is_mended(&user, "written by others", &format!("chmod go-w {}", hooks.display()));
    // Another file has the last word: what it says is somebody else's.
    let drop_in = user.home.join(".config/containers/containers.conf.d/90-own.conf");
    user.write(&drop_in, "[engine]\nhooks_dir = [\"/nowhere\"]\n");
    let output = check(&user).code(4);
    assert_eq!(
        found(&output, "hooks")["mend"],
        format!("${{EDITOR:-vi}} {}", drop_in.display())
    );
    fs::remove_file(drop_in).unwrap();
    check(&user).ok();
}

fn is_mended_after(user: &FreshUser, is_mended: &dyn Fn(&User, &str, &str)) {
    // The program was moved: the hooks start what is gone.
    let moved = user.home.join("other/terok-shield");
    user.make_directory(moved.parent().unwrap());
    fs::rename(&user.program, &moved).unwrap();
    let mut same = (**user).clone();
    same.program = moved.to_str().unwrap().to_owned();
    is_mended(&same, "which is missing, not", "terok-shield setup --user");
    // And back again.
    fs::rename(&moved, &user.program).unwrap();
    is_mended(user, "which is missing, not", "terok-shield setup --user");
    fs::remove_dir_all(user.hooks()).unwrap();
    is_mended(user, "is missing", "terok-shield setup --user");
    fs::remove_file(user.containers_conf()).unwrap();
    is_mended(user, "podman does not read", "terok-shield setup --user");
    assert!(Path::new(&user.program).exists());
}
