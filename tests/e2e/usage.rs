//! What is typed or written wrongly: one clear line, exit status 2, and nothing happens.

use crate::command::Output;
use crate::lab::{Container, IMAGE};
use crate::user::{FreshUser, User};

tests![
    a_bad_line_of_a_profile_is_named_by_file_line_and_column,
    an_unknown_profile_is_an_error_that_names_the_nearest,
    an_empty_list_of_profiles_is_not_the_default_one,
    a_container_name_that_would_be_a_path_is_an_error,
    an_unknown_key_of_the_configuration_is_an_error,
    a_network_with_host_bits_names_the_one_that_was_meant,
    targets_that_are_none_are_errors_with_a_place,
    profiles_that_include_each_other_or_nothing_are_errors,
    a_profile_or_configuration_that_others_could_write_is_not_used,
    a_container_that_does_not_exist_is_told_by_its_own_status,
    wrong_words_are_wrong_usage_and_help_is_none,
];

/// Exit status 2, one line on standard error, nothing on standard output.
#[track_caller]
fn is_usage(output: Output) -> String {
    let output = output.code(2);
    assert_eq!(output.out, "", "{output:#?}");
    output.one_line().to_owned()
}

/// By every verb that reads profiles. Nothing is made.
#[track_caller]
fn bad_profile(user: &User, profile: &str, words: &[&str]) {
    let name = format!("bad-{profile}");
    for line in [
        &["run", &name, "--profiles", profile, "--", "--rm", IMAGE, "true"][..],
        &["prepare", &name, "--profiles", profile],
        &["prepare", &name, "--profiles", profile, "--json"],
        &["preview", "--profiles", profile],
        &["preview", "--json", "--profiles", profile],
        &["profiles", profile],
    ] {
        let message = is_usage(user.shield(line));
        for word in words {
            assert!(message.contains(word), "{word:?} in {message:?}");
        }
    }
    assert!(!user.bundle(&name).join("policy.json").exists());
    assert_ne!(user.podman(&["container", "exists", &name]).code, 0);
}

fn a_bad_line_of_a_profile_is_named_by_file_line_and_column() {
    let user = User::shared();
    for (text, place) in [
        ("203.0.113.10\n\n  exa mple.com\n", ":3:"),
        ("allowed.test\nallowed.test:99999\n", ":2:14:"),
        ("allowed.test:0\n", ":1:14:"),
        ("# fine\nallowed.test:80/sctp\n", ":2:"),
        ("2001:db8::10:80:90:100:200:300:400\n", ":1:"),
        ("[2001:db8::10:80\n", ":1:"),
        ("203.0.113.256\n", ":1:"),
        ("203.0.113.10/33\n", ":1:"),
        ("http://allowed.test/\n", ":1:"),
        ("allowed.test 203.0.113.10\n", ":1:"),
        ("\u{1b}[2J\n", ":1:"),
    ] {
        user.profile("bad-line", text);
        let file = user.config().join("profiles/bad-line.txt");
        let place = format!("{}{place}", file.display());
        bad_profile(&user, "bad-line", &[&place, "expected"]);
        let message = user.shield(&["profiles", "bad-line"]).err;
        assert!(!message.contains('\u{1b}'), "{message:?}");
    }
    // A profile is never half used: the line before the bad one neither.
    user.profile("bad-line", "203.0.113.10\nbad line\n");
    user.profile("good-line", "203.0.113.11\n");
    let both = [
        "run",
        "bad-both",
        "--profiles",
        "good-line",
        "bad-line",
        "--",
        "--rm",
        IMAGE,
        "true",
    ];
    is_usage(user.shield(&both));
}

fn an_unknown_profile_is_an_error_that_names_the_nearest() {
    let user = User::shared();
    user.profile("intranet", "203.0.113.10\n");
    bad_profile(&user, "dev-pyton", &["dev-pyton", "dev-python"]);
    bad_profile(&user, "intrant", &["intrant", "intranet"]);
    for name in ["../base", "a/b", "Base", "base.txt", "-x"] {
        is_usage(user.shield(&["prepare", "bad-name", &format!("--profiles={name}")]));
    }
}

fn an_empty_list_of_profiles_is_not_the_default_one() {
    let user = User::shared();
    // As in `--profiles "$PROFILES"` with a variable that nobody set: that must not open what the default profile does.
    for name in ["--profiles=", "--profiles= ", "--profiles=,"] {
        is_usage(user.shield(&["prepare", "bad-empty", name]));
        is_usage(user.shield(&["preview", name]));
    }
}

fn a_container_name_that_would_be_a_path_is_an_error() {
    let user = User::shared();
    user.profile("plain", "");
    let long = "a".repeat(129);
    for name in [
        "a/b", "../x", "a..b", "..", ".", "/etc", "a b", "a\nb", ".hidden", "_x", "\u{e4}", &long,
    ] {
        for line in [
            &["run", name, "--profiles", "plain", "--", "--rm", IMAGE, "true"][..],
            &["prepare", name, "--profiles", "plain"],
            &["allow", name, "203.0.113.10"],
            &["deny", name, "203.0.113.10"],
            &["status", name],
            &["rules", name],
            &["resolve", name],
            &["logs", "--container", name],
        ] {
            is_usage(user.shield(line));
        }
    }
}

fn an_unknown_key_of_the_configuration_is_an_error() {
    let user = FreshUser::with_hooks();
    user.profile("plain", "");
    let file = user.config().join("config.toml");
    for (text, word) in [
        ("refuse = \"reset\"\nportocol = 4\n", "config.toml:2:1:"),
        ("refuse = \"politely\"\n", "config.toml:1:"),
        ("dns = 4\n", "config.toml:1:"),
        ("profiles = [\"a/b\"]\n", "config.toml:1:"),
        ("refuse = \n", "config.toml:1:"),
        ("[section]\nkey = 1\n", "config.toml:1:"),
    ] {
        user.write(&file, text);
        for line in [
            &["run", "bad-config", "--profiles", "plain", "--", "--rm", IMAGE, "true"][..],
            &["prepare", "bad-config", "--profiles", "plain"],
            &["status"],
            &["preview", "--profiles", "plain"],
            &["profiles"],
            &["allow", "bad-config", "203.0.113.10"],
        ] {
            let message = is_usage(user.shield(line));
            assert!(message.contains(word), "{word:?} in {message:?}");
        }
    }
    // What is right is used.
    user.write(&file, "refuse = \"icmp\"\nprofiles = [\"plain\"]\n");
    let container = Container::named(&user, "good-config");
    user.shield(&["run", "good-config", "--", "-d", IMAGE, "sleep", "100000"])
        .ok();
    assert_eq!(container.policy()["profiles"], serde_json::json!(["plain"]));
    // ICMP for TCP too: at once for datagrams, and another error for a connection.
    for (probe, found) in container.probe(&crate::probe::web(&["203.0.113.11", "2001:db8::11"])) {
        assert!(["EHOSTUNREACH", "EACCES"].contains(&found.as_str()), "{probe} {found}");
    }
}

fn a_network_with_host_bits_names_the_one_that_was_meant() {
    let user = User::shared();
    let container = Container::start(&user, "host-bits", "", &[]);
    for (given, meant) in [
        ("203.0.113.1/24", "203.0.113.0/24"),
        ("2001:db8::1/64", "2001:db8::/64"),
    ] {
        user.profile("host-bits", format!("{given}\n"));
        bad_profile(&user, "host-bits", &[meant, ":1:"]);
        for verb in ["allow", "deny"] {
            let message = is_usage(container.verb(verb, &[given]));
            assert!(message.contains(meant), "{message}");
        }
        let line = ["prepare", "bad-bits", "--profiles", "plain", "--allow", given];
        user.profile("plain", "");
        assert!(is_usage(user.shield(&line)).contains(meant));
    }
    assert_eq!(container.policy()["grants"].as_array().unwrap().len(), 0);
    container.is("up");
}

fn targets_that_are_none_are_errors_with_a_place() {
    let container = Container::start(&User::shared(), "no-target", "", &[]);
    for target in [
        "",
        " ",
        "a b",
        "203.0.113.10:",
        "[2001:db8::10",
        "example..com",
        "x:1:2",
        "@base",
        "203.0.113.010",
        "exam\nple.com",
        "fe80::1%eth0",
    ] {
        for verb in ["allow", "deny"] {
            let message = is_usage(container.verb(verb, &[target]));
            assert!(message.contains("column"), "{target:?}: {message}");
        }
    }
    assert_eq!(container.policy()["grants"].as_array().unwrap().len(), 0);
}

fn profiles_that_include_each_other_or_nothing_are_errors() {
    let user = User::shared();
    user.profile("circle-a", "203.0.113.10\n@circle-b\n");
    user.profile("circle-b", "@circle-c\n");
    user.profile("circle-c", "@circle-a\n");
    bad_profile(&user, "circle-a", &["circle-"]);
    user.profile("lonely", "@no-such-profile-at-all\n");
    bad_profile(&user, "lonely", &["no-such-profile-at-all"]);
    // The same profile by two ways is no circle.
    user.profile("diamond-a", "@diamond-b\n@diamond-c\n");
    user.profile("diamond-b", "@diamond-d\n");
    user.profile("diamond-c", "@diamond-d\n");
    user.profile("diamond-d", "203.0.113.10\n");
    user.shield(&["preview", "--profiles", "diamond-a"]).ok();
}

fn a_profile_or_configuration_that_others_could_write_is_not_used() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt, chown};
    let user = FreshUser::with_hooks();
    user.profile("open", "203.0.113.10\n");
    let profile = user.config().join("profiles/open.txt");
    let directory = user.config().join("profiles");
    for path in [&profile, &directory] {
        let good = path.metadata().unwrap().permissions();
        for mode in [0o664, 0o666, 0o777] {
            set_permissions(path, Permissions::from_mode(mode | (good.mode() & 0o111))).unwrap();
            bad_profile(&user, "open", &["writable"]);
        }
        set_permissions(path, good).unwrap();
        chown(path, Some(2001), None).unwrap();
        bad_profile(&user, "open", &["2001"]);
        chown(path, Some(user.uid), None).unwrap();
    }
    user.shield(&["preview", "--profiles", "open"]).ok();
    let file = user.config().join("config.toml");
    user.write(&file, "refuse = \"reset\"\n");
    set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    is_usage(user.shield(&["preview", "--profiles", "open"]));
}

fn a_container_that_does_not_exist_is_told_by_its_own_status() {
    let user = FreshUser::new();
    for line in [
        &["allow", "none", "203.0.113.10"][..],
        &["deny", "none", "example.com"],
        &["status", "none"],
        &["status", "none", "--json"],
        &["rules", "none"],
        &["rules", "none", "--json"],
        &["resolve", "none"],
        &["logs", "--container", "none"],
        &["status", "0123456789ab"],
    ] {
        let output = user.shield(line).code(3);
        assert_eq!(output.out, "");
        assert!(
            output
                .one_line()
                .contains(line.iter().find(|word| word.starts_with(['n', '0'])).unwrap())
        );
    }
}

fn wrong_words_are_wrong_usage_and_help_is_none() {
    let user = User::shared();
    for line in [
        &["nonsense"][..],
        &[],
        &["run"],
        &["run", "x"],
        &["run", "x", IMAGE],
        &["allow", "x"],
        &["deny"],
        &["status", "--nonsense"],
        &["logs", "-n", "many"],
        &["setup", "--user", "--root"],
        &["preview", "--all"],
    ] {
        let output = user.shield(line).code(2);
        assert_ne!(output.err, "");
        assert_eq!(output.out, "");
    }
    for line in [&["--help"][..], &["run", "--help"], &["--version"], &["allow", "-h"]] {
        let output = user.shield(line).ok();
        assert_ne!(output.out, "");
        assert_eq!(output.err, "");
    }
}
