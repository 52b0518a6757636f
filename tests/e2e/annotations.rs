//! Containers that nobody prepared: an annotation asks for the shield, and the hook compiles the policy by itself.

use std::fs;

use serde_json::json;

use crate::command::{Output, root, wait_until};
use crate::lab::{Container, IMAGE, bystander, files_of};
use crate::probe::{at, everything, web};
use crate::reach::{CLOSED, ONE_OF_EACH, OPEN};
use crate::refusal::{Attempt, Way};
use crate::rootful::Rootful;
use crate::user::{FreshUser, User};

tests![
    an_annotation_shields_and_stop_and_start_keep_what_was_changed,
    a_container_is_called_as_podman_calls_it_until_it_is_renamed,
    a_profile_that_cannot_be_used_starts_nothing,
    an_annotation_takes_nobody_elses_policy,
    a_successor_starts_anew_and_the_log_goes_on,
    what_cannot_be_protected_is_refused_with_an_annotation_alone,
    a_port_that_the_annotation_publishes_is_open_and_no_other,
    what_few_annotations_leave_out_does_not_count,
    of_roots_containers_profiles_and_name_count_unless_the_configuration_says_more,
    without_hooks_an_annotation_protects_nothing_and_the_seal_does,
];

const PROFILES: &str = "terok.shield.profiles";

/// `podman run -d` with annotations of ours.
fn launch(user: &User, name: &str, annotations: &[(&str, &str)], flags: &[&str]) -> (Container, Output) {
    let container = Container::named(user, name);
    let annotations: Vec<String> = annotations
        .iter()
        .map(|(key, value)| format!("--annotation={key}={value}"))
        .collect();
    let mut words = vec!["run", "-d", "--name", name, "--stop-signal", "KILL"];
    words.extend(annotations.iter().map(String::as_str));
    words.extend(flags);
    if !flags.contains(&IMAGE) {
        words.extend([IMAGE, "sleep", "100000"]);
    }
    let output = user.podman(&words);
    (container, output)
}

#[track_caller]
fn is_shielded(container: &Container) {
    container.is("up");
    container.reaches(&everything(&OPEN));
    container.is_refused(&everything(&CLOSED));
}

fn an_annotation_shields_and_stop_and_start_keep_what_was_changed() {
    let user = User::shared();
    user.profile("noted", ONE_OF_EACH);
    user.profile("noted-too", "203.0.113.11\n2001:db8::11\n");
    let (container, output) = launch(&user, "noted", &[(PROFILES, "noted:noted-too")], &[]);
    output.ok();
    container.is("up");
    container.reaches(&everything(&OPEN));
    container.reaches(&web(&["203.0.113.11", "2001:db8::11"]));
    container.is_refused(&web(&["203.0.113.12", "2001:db8::12", "10.9.8.7", "fd00:9::7"]));
    let policy = container.policy();
    assert_eq!(policy["profiles"], json!(["noted", "noted-too"]));
    assert_eq!(policy["container_id"], json!(container.id()));
    assert_eq!(policy["launch"], json!(null));
    // Its resolvers are asked as ever.
    assert_eq!(
        container
            .sh("dig +short +tries=1 +timeout=5 allowed.test A")
            .ok()
            .text(),
        "203.0.113.10"
    );
    for target in ["203.0.113.11", "2001:db8::10"] {
        container.verb("deny", &[target]).ok();
    }
    container.verb("allow", &["203.0.113.12"]).ok();
    // A profile that was changed is for the next container.
    user.profile("noted", "0.0.0.0/0\n::/0\n");
    for round in 0..3 {
        match round {
            0 => container.restart(),
            _ => {
                user.podman(&["stop", "noted"]).ok();
                container.is("inactive");
                user.podman(&["start", "noted"]).ok();
            }
        }
        container.is("up");
        container.reaches(&web(&["203.0.113.10", "203.0.113.12", "2001:db8::11"]));
        container.is_refused(&web(&["203.0.113.11", "2001:db8::10", "2001:db8::12"]));
    }
}

fn a_container_is_called_as_podman_calls_it_until_it_is_renamed() {
    let user = User::shared();
    user.profile("called", ONE_OF_EACH);
    // No name at all: podman makes one up.
    let words = [
        "run",
        "-d",
        "--stop-signal",
        "KILL",
        "--annotation",
        "terok.shield.profiles=called",
    ];
    let id = user.podman(&[&words[..], &[IMAGE, "sleep", "100000"]].concat()).ok();
    let made_up = user
        .podman(&["container", "inspect", "--format", "{{.Name}}", id.text()])
        .ok();
    let container = Container::named(&user, made_up.text());
    is_shielded(&container);
    assert_eq!(user.shield(&["status", &id.text()[..12]]).ok().text(), "up");
    container.remove();
    // A name in an annotation comes before podman's.
    let given = [(PROFILES, "called"), ("terok.shield.name", "called-given")];
    let (container, output) = launch(&user, "called-podman", &given, &[]);
    output.ok();
    assert!(!user.bundle("called-podman").exists());
    assert_eq!(user.shield(&["status", "called-given"]).ok().text(), "up");
    container.remove();
    // What was denied stays so under another name.
    let (container, output) = launch(&user, "called-first", &[(PROFILES, "called")], &[]);
    output.ok();
    container.verb("deny", &["203.0.113.20"]).ok();
    user.podman(&["rename", "called-first", "called-second"]).ok();
    user.podman(&["restart", "--time", "0", "called-second"]).ok();
    let renamed = Container::named(&user, "called-second");
    renamed.is_refused(&web(&["203.0.113.20"]));
    renamed.reaches(&web(&["2001:db8::20"]));
    assert_eq!(user.shield(&["status", "called-first"]).ok().text(), "up");
    assert!(!user.bundle("called-second").exists());
}

fn a_profile_that_cannot_be_used_starts_nothing() {
    let user = FreshUser::with_hooks();
    user.profile("good", "203.0.113.10\n2001:db8::10\n");
    user.profile("broken", "203.0.113.10\n203.0.113.0/99\n");
    for (index, (profiles, reason)) in [
        ("none-such", "none-such"),
        ("good:none-such", "none-such"),
        ("broken", "broken.txt:2:"),
        ("good:broken", "broken.txt:2:"),
        ("../good", PROFILES),
        ("/etc/passwd", PROFILES),
        ("good:", PROFILES),
        (":", PROFILES),
        ("good good", PROFILES),
        ("good,good", PROFILES),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("useless-{index}");
        // Podman 4 takes an annotation for a line of CSV, unless it comes from a file.
        if profiles.contains(',') && !crate::lab::by_pasta() {
            continue;
        }
        let annotation = format!("{PROFILES}={profiles}");
        let attempt = Attempt::new(&user, &name, &["--annotation", &annotation]);
        let output = attempt.launch(Way::Unshielded);
        assert!((125..=127).contains(&output.code), "{profiles}: {output:#?}");
        attempt.noted(reason);
        attempt.nothing_runs();
        assert!(!user.bundle(&name).exists(), "{profiles} leaves no policy behind");
        attempt.container.remove();
    }
    // The configuration counts as well.
    let attempt = Attempt::new(&user, "useless", &["--annotation", "terok.shield.profiles=good"]);
    user.write(&user.config().join("config.toml"), "annotation = \"all\"\n");
    attempt.launch(Way::Unshielded).code(126);
    attempt.noted("config.toml:1:1: unknown field");
    attempt.nothing_runs();
    attempt.container.remove();
    fs::remove_file(user.config().join("config.toml")).unwrap();
    attempt.launch(Way::Unshielded).ok();
    assert!(attempt.scratch.has("ran"));
    // Nothing asked for is nothing allowed.
    let (container, output) = launch(&user, "empty", &[(PROFILES, "")], &[]);
    output.ok();
    container.is("up");
    container.is_refused(&web(&["203.0.113.10", "2001:db8::10"]));
}

fn an_annotation_takes_nobody_elses_policy() {
    let user = User::shared();
    user.profile("thief", "0.0.0.0/0\n::/0\n");
    let files = files_of(&user.bundle("bystander"));
    let rules = bystander().rules_and_sets();
    let steal = |annotations: &[(&str, &str)], of: &str, reason: &str| {
        let before = fs::read(user.bundle(of).join("policy.json")).unwrap();
        let (container, output) = launch(&user, "thief", annotations, &[]);
        assert!((125..=127).contains(&output.code), "{annotations:?}: {output:#?}");
        let log = fs::read_to_string(user.bundle(of).join("hook-error.log")).unwrap();
        assert!(log.contains(reason), "{reason:?} in {log:?}");
        assert_eq!(fs::read(user.bundle(of).join("policy.json")).unwrap(), before);
        container.remove();
    };
    // Of a container that runs, by its name.
    let name = ("terok.shield.name", "bystander");
    steal(
        &[(PROFILES, "thief"), name],
        "bystander",
        "belongs to another container",
    );
    let guessed = ("terok.shield.launch", "00000000-0000-4000-8000-000000000000");
    steal(
        &[(PROFILES, "thief"), name, guessed],
        "bystander",
        "belongs to another container",
    );
    assert_eq!(bystander().rules_and_sets(), rules);
    let now = files_of(&user.bundle("bystander"));
    assert_eq!(
        now.iter().find(|(path, _)| path.ends_with("policy.json")),
        files.iter().find(|(path, _)| path.ends_with("policy.json"))
    );
    bystander().is("up");
    // Of one that is stopped, and was never prepared either.
    user.profile("robbed", "203.0.113.10\n2001:db8::10\n");
    let (robbed, output) = launch(&user, "robbed", &[(PROFILES, "robbed")], &[]);
    output.ok();
    robbed.verb("deny", &["2001:db8::10"]).ok();
    user.podman(&["stop", "robbed"]).ok();
    let name = ("terok.shield.name", "robbed");
    steal(&[(PROFILES, "thief"), name], "robbed", "belongs to another container");
    steal(&[(PROFILES, "robbed"), name], "robbed", "belongs to another container");
    user.podman(&["start", "robbed"]).ok();
    robbed.reaches(&web(&["203.0.113.10"]));
    robbed.is_refused(&web(&["2001:db8::10"]));
    // Of one that is still to come, by its name in an annotation or in podman.
    user.prepare("awaited", "203.0.113.10\n2001:db8::10\n");
    let name = ("terok.shield.name", "awaited");
    steal(&[(PROFILES, "thief"), name], "awaited", "made for another launch");
    steal(
        &[(PROFILES, "thief"), name, guessed],
        "awaited",
        "made for another launch",
    );
    let (container, output) = launch(&user, "awaited", &[(PROFILES, "thief")], &[]);
    assert_ne!(output.code, 0, "{output:#?}");
    container.remove();
    // And the other way round: flags of a launch that was not this one's.
    user.podman(&["rm", "--force", "--time", "0", "robbed"]).ok();
    let (container, output) = launch(&user, "robbed", &[(PROFILES, "robbed"), guessed], &[]);
    assert_ne!(output.code, 0, "{output:#?}");
    container.remove();
}

fn a_successor_starts_anew_and_the_log_goes_on() {
    let user = User::shared();
    user.profile("line", ONE_OF_EACH);
    user.profile("line-two", "203.0.113.11\n2001:db8::11\n");
    let (container, output) = launch(&user, "line", &[(PROFILES, "line")], &[]);
    output.ok();
    container.verb("allow", &["203.0.113.12"]).ok();
    container.verb("deny", &["203.0.113.20"]).ok();
    container.remove();
    let (container, output) = launch(&user, "line", &[(PROFILES, "line-two")], &[]);
    output.ok();
    container.is("up");
    container.reaches(&web(&["203.0.113.11", "2001:db8::11"]));
    container.is_refused(&web(&["203.0.113.12", "203.0.113.20", "203.0.113.10", "2001:db8::10"]));
    let log = user.shield(&["logs", "--container", "line", "-n", "1000"]).ok();
    assert_eq!(log.out.matches(r#""action":"setup""#).count(), 2, "{log:#?}");
    assert_eq!(log.out.matches(r#""action":"denied""#).count(), 1, "{log:#?}");
    // `run` finds the name taken while it is, and takes it afterwards.
    let words = [
        "run",
        "line",
        "--profiles",
        "line",
        "--",
        "-d",
        "--stop-signal",
        "KILL",
        IMAGE,
        "sleep",
        "100000",
    ];
    assert!(user.shield(&words).code(125).one_line().contains("exists already"));
    container.is("up");
    container.remove();
    user.shield(&words).ok();
    is_shielded(&container);
    container.remove();
    // And so does an annotation what `run` has left.
    let (container, output) = launch(&user, "line", &[(PROFILES, "line-two")], &[]);
    output.ok();
    container.reaches(&web(&["203.0.113.11", "2001:db8::11"]));
    container.is_refused(&web(&["203.0.113.10", "2001:db8::10"]));
}

fn what_cannot_be_protected_is_refused_with_an_annotation_alone() {
    let user = FreshUser::with_hooks();
    let home = format!("{}:/x:ro", user.home.display());
    for (name, flags, reason) in [
        (
            "bare-network",
            &["--network", "host"][..],
            "no network namespace of its own",
        ),
        ("bare-pid", &["--pid", "host"], "no pid namespace of its own"),
        ("bare-cap", &["--cap-add", "NET_ADMIN"], "CAP_NET_ADMIN"),
        ("bare-all", &["--privileged"], "CAP_"),
        ("bare-home", &["-v", &home], "shows the container"),
    ] {
        let attempt = Attempt::new(&user, name, flags);
        attempt.works_unshielded();
        attempt.is_refused(Way::Annotated, reason);
    }
}

const SERVER: &str =
    "for port in 80 81; do busybox httpd -p $port -h /tmp; done; echo page >/tmp/index.html; exec sleep 100000";

fn page(port: u16) -> Output {
    root(&[
        "curl",
        "-s",
        "--max-time",
        "10",
        &format!("http://127.0.0.1:{port}/index.html"),
    ])
}

/// A server on two ports, both of which podman publishes. slirp4netns' own port handler comes in by the interface.
fn server(user: &User, name: &str, ports: [u16; 2], annotations: &[(&str, &str)]) -> (Container, Output) {
    let publish = [80, 81].map(|port| format!("127.0.0.1:{}:{port}", ports[usize::from(port == 81)]));
    let network = "slirp4netns:port_handler=slirp4netns";
    let flags = [
        "--network",
        network,
        "-p",
        &publish[0],
        "-p",
        &publish[1],
        IMAGE,
        "sh",
        "-c",
        SERVER,
    ];
    launch(user, name, annotations, &flags)
}

fn a_port_that_the_annotation_publishes_is_open_and_no_other() {
    let user = User::shared();
    user.profile("door", "203.0.113.10\n2001:db8::10\n");
    let publish = ("terok.shield.publish", "80:53/udp:8000-8010/tcp");
    let (container, output) = server(&user, "door", [18401, 18402], &[(PROFILES, "door"), publish]);
    output.ok();
    for _ in 0..2 {
        wait_until("the published port answers", || {
            (page(18401).text() == "page").then_some(())
        });
        // The server is there, and nobody comes in.
        container.sh("curl -s http://127.0.0.1:81/index.html").ok();
        let other = page(18402);
        assert_ne!(other.code, 0, "{other:#?}");
        container.is("up");
        container.is_refused(&web(&["203.0.113.11", "2001:db8::11"]));
        container.restart();
    }
    assert_eq!(container.policy()["published"].as_array().unwrap().len(), 3);
    for bad in ["0", "80/sctp", "80-70", "65536", "x", "80,81"] {
        if bad.contains(',') && !crate::lab::by_pasta() {
            continue;
        }
        let annotations = [(PROFILES, "door"), ("terok.shield.publish", bad)];
        let (container, output) = launch(&user, "door-bad", &annotations, &[]);
        assert!((125..=127).contains(&output.code), "{bad}: {output:#?}");
        container.remove();
    }
}

fn what_few_annotations_leave_out_does_not_count() {
    let user = FreshUser::with_hooks();
    user.profile("door", "203.0.113.10\n2001:db8::10\n");
    let annotations = [
        (PROFILES, "door"),
        ("terok.shield.publish", "80"),
        ("terok.shield.other", "x"),
    ];
    user.write(&user.config().join("config.toml"), "annotations = \"all\"\n");
    let (container, output) = server(&user, "all", [18411, 18412], &annotations);
    output.ok();
    wait_until("the published port answers", || {
        (page(18411).text() == "page").then_some(())
    });
    container.remove();
    user.write(&user.config().join("config.toml"), "annotations = \"few\"\n");
    let (container, output) = server(&user, "few", [18413, 18414], &annotations);
    output.ok();
    container.is("up");
    wait_until("the server answers inside", || {
        (container.sh("curl -s http://127.0.0.1:80/index.html").text() == "page").then_some(())
    });
    assert_ne!(page(18413).code, 0);
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
    let log = user.shield(&["logs", "--container", "few"]).ok();
    assert!(
        log.out
            .contains("do not count here: terok.shield.other, terok.shield.publish"),
        "{log:#?}"
    );
    // A state directory is believed; who may not choose it is told so.
    let elsewhere = user.home.join("elsewhere/state");
    let annotations = [
        (PROFILES, "door"),
        ("terok.shield.state_dir", elsewhere.to_str().unwrap()),
    ];
    let (container, output) = launch(&user, "few-state", &annotations, &[]);
    assert!((125..=127).contains(&output.code), "{output:#?}");
    container.remove();
    user.write(&user.config().join("config.toml"), "annotations = \"all\"\n");
    launch(&user, "few-state", &annotations, &[]).1.ok();
    assert!(elsewhere.join("containers/few-state/policy.json").exists());
}

fn of_roots_containers_profiles_and_name_count_unless_the_configuration_says_more() {
    let host = Rootful::new();
    host.shield(&["setup", "--root"]).ok();
    let subnets = ["--ipv6", "--subnet", "10.89.6.0/24", "--subnet", "fd00:90::/64", "fold"];
    host.podman(&[&["network", "create"], &subnets[..]].concat()).ok();
    host.profile("tenant", ONE_OF_EACH);
    let elsewhere = "/run/lab/elsewhere";
    let annotations = [
        (PROFILES, "tenant"),
        ("terok.shield.name", "tenants-own"),
        ("terok.shield.publish", "80"),
        ("terok.shield.state_dir", elsewhere),
        ("terok.shield.upstream_dns", "203.0.113.53"),
    ];
    let start = |name: &str, port: &str, annotations: &[(&str, &str)]| {
        let flags = [
            "--cgroups",
            "disabled",
            "--network",
            "fold",
            "-p",
            port,
            IMAGE,
            "sh",
            "-c",
            SERVER,
        ];
        launch(&host, name, annotations, &flags)
    };
    let page = |port: u16| {
        let url = format!("http://10.200.0.2:{port}/index.html");
        root(&["curl", "-s", "--max-time", "5", &url])
    };
    let serves = |container: &Container| {
        wait_until("the server answers inside", || {
            (container.sh("curl -s http://127.0.0.1:80/index.html").text() == "page").then_some(())
        });
    };
    // The attack first: nobody is in the way.
    let (open, output) = start("open", "18420:80", &[]);
    output.ok();
    open.reaches(&web(&OPEN));
    open.reaches(&web(&["203.0.113.11", "2001:db8::11"]));
    wait_until("the port answers without a shield", || {
        (page(18420).text() == "page").then_some(())
    });
    open.remove();

    let (container, output) = start("tenant", "18421:80", &annotations);
    output.ok();
    for _ in 0..2 {
        assert_eq!(host.shield(&["status", "tenants-own"]).ok().text(), "up");
        container.reaches(&web(&OPEN));
        container.is_refused(&web(&CLOSED));
        serves(&container);
        assert_ne!(page(18421).code, 0);
        host.podman(&["restart", "--time", "0", "tenant"]).ok();
    }
    assert!(!std::path::Path::new(elsewhere).exists());
    let log = host.shield(&["logs", "--container", "tenants-own"]).ok();
    let ignored = "do not count here: terok.shield.publish, terok.shield.state_dir, terok.shield.upstream_dns";
    assert!(log.out.contains(ignored), "{log:#?}");
    container.remove();

    host.write(&host.config().join("config.toml"), "annotations = \"all\"\n");
    let (container, output) = start("tenant", "18422:80", &annotations);
    output.ok();
    assert_eq!(host.shield(&["status", "tenants-own"]).ok().text(), "up");
    wait_until("the published port answers", || {
        (page(18422).text() == "page").then_some(())
    });
    container.is_refused(&web(&CLOSED));
    // Root's state is nowhere else, whatever counts.
    assert!(!std::path::Path::new(elsewhere).exists());
    container.remove();
    fs::remove_file(host.config().join("config.toml")).unwrap();
}

fn without_hooks_an_annotation_protects_nothing_and_the_seal_does() {
    let user = FreshUser::new();
    user.profile("hookless", "203.0.113.10\n2001:db8::10\n");
    let annotations = [(PROFILES, "hookless")];
    let (container, output) = launch(&user, "hookless", &annotations, &[]);
    output.ok();
    container.reaches(&web(&["203.0.113.11", "2001:db8::11"]));
    container.remove();
    let sealed = ["--sysctl", "net.terok_shield.sealed=1"];
    let (container, output) = launch(&user, "hookless", &annotations, &sealed);
    assert!((125..=127).contains(&output.code), "{output:#?}");
    container.remove();
    user.shield(&["setup", "--user"]).ok();
    for flags in [&sealed[..], &[]] {
        let (container, output) = launch(&user, "hookless", &annotations, flags);
        output.ok();
        container.is("up");
        container.reaches(&at(&["203.0.113.10", "2001:db8::10"], &[("http", 80)]));
        container.is_refused(&web(&["203.0.113.11", "2001:db8::11"]));
        container.remove();
    }
}
