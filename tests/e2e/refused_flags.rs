//! Podman flags that would undo the shield: `run` rejects them before anything happens, and where they come by another way,
//! the hook refuses.

use crate::lab::{Container, IMAGE};
use crate::refusal::{Attempt, Way};
use crate::user::User;

tests![
    run_rejects_flags_that_would_undo_the_shield_as_wrong_usage,
    the_hook_refuses_the_hosts_network_namespace,
    the_hook_refuses_another_containers_network_namespace_that_is_not_shielded,
    the_hook_refuses_a_foreign_pid_namespace,
    the_hook_refuses_a_privileged_container,
    the_hook_refuses_capabilities_that_could_change_the_table,
    the_hook_refuses_inherited_sockets,
    a_refused_container_is_refused_again_when_it_is_started_again,
];

fn run_rejects_flags_that_would_undo_the_shield_as_wrong_usage() {
    let user = User::shared();
    user.profile("usage-flags", "");
    let other = Container::unshielded(&user, "usage-other", &[]);
    let shared = format!("container:{}", other.name);
    let cases: &[&[&str]] = &[
        &["--network", "host"],
        &["--network=host"],
        &["--net", "host"],
        &["--net=host"],
        &["--network", &shared],
        &["--network", "ns:/proc/1/ns/net"],
        &["--network", "slirp4netns:allow_host_loopback=true"],
        &["--pid", "host"],
        &["--pid=host"],
        &["--pid", &shared],
        &["--privileged"],
        &["--privileged=true"],
        &["--privileged=1"],
        &["--cap-add", "NET_ADMIN"],
        &["--cap-add=NET_RAW"],
        &["--cap-add", "SYS_ADMIN"],
        &["--cap-add", "all"],
        &["--cap-add", "ALL"],
        &["--cap-add", "cap_net_admin"],
        &["--cap-add", "CHOWN,net_raw"],
        &["--cap-add", "SYS_PTRACE"],
        &["--cap-add", "SYS_MODULE"],
        &["--cap-add", "BPF"],
        &["--cap-add", "DAC_READ_SEARCH"],
        &["--userns", &shared],
        &["--name", "other"],
        &["--hooks-dir", "/tmp"],
        &["--runtime", "runc"],
        &["--remote"],
        &["--pod", "some"],
        &["--preserve-fds", "1"],
        &["--annotation", "terok.shield.profiles=base"],
        &["--annotation=terok.shield.name=other"],
        &["--annotation", "run.oci.keep_original_groups=1"],
        &["--sysctl", "net.terok_shield.sealed=0"],
        &["--env", "LISTEN_FDS=1"],
        &["-it", "--network=host"],
        &["-de", "LISTEN_FDS=1"],
    ];
    for flags in cases {
        // Before what is harmless, and behind it.
        for words in [[flags, &["--rm"][..]].concat(), [&["--rm"][..], flags].concat()] {
            let container = Container::named(&user, "usage-flags");
            let line = [
                &["run", "usage-flags", "--profiles", "usage-flags", "--"],
                &words[..],
                &[IMAGE, "true"],
            ];
            let output = user.shield(&line.concat()).code(2);
            // It names the flag, or the cluster of short ones in which it stands.
            let flag = flags[flags.len().saturating_sub(2)..]
                .iter()
                .rev()
                .find(|word| word.starts_with('-'))
                .unwrap();
            let flag = flag.split('=').next().unwrap();
            assert!(output.one_line().contains(flag), "{output:#?}");
            assert_eq!(output.out, "");
            assert_eq!(
                user.podman(&["container", "exists", &container.name]).code,
                1,
                "{words:?}"
            );
        }
    }
    // The same words behind the image are the program's.
    user.shield(&[
        "run",
        "usage-flags",
        "--profiles",
        "usage-flags",
        "--",
        "--rm",
        IMAGE,
        "echo",
        "--network",
        "host",
    ])
    .ok();
}

fn the_hook_refuses_the_hosts_network_namespace() {
    let attempt = Attempt::new(&User::shared(), "hook-nethost", &["--network", "host"]);
    attempt.works_unshielded();
    attempt.is_refused(Way::PreparedWithoutSeal, "no network namespace of its own");
    // With the seal podman itself says no.
    attempt.launch(Way::Prepared).code(125);
    attempt.nothing_runs();
}

fn the_hook_refuses_another_containers_network_namespace_that_is_not_shielded() {
    let user = User::shared();
    let other = Container::unshielded(&user, "hook-net-other", &[]);
    let network = format!("container:{}", other.name);
    let attempt = Attempt::new(&user, "hook-netshared", &["--network", &network]);
    attempt.works_unshielded();
    attempt.is_refused(Way::PreparedWithoutSeal, "shared with process");
    assert_ne!(attempt.launch(Way::Prepared).code, 0);
    attempt.nothing_runs();
    // The other one has no table now, and still its network.
    assert_eq!(other.in_its_network(&["nft", "list", "ruleset"]).ok().text(), "");
    other.reaches(&crate::probe::web(&["203.0.113.10", "2001:db8::10"]));
}

fn the_hook_refuses_a_foreign_pid_namespace() {
    let user = User::shared();
    let attempt = Attempt::new(&user, "hook-pidhost", &["--pid", "host"]);
    attempt.works_unshielded();
    attempt.is_refused(Way::Prepared, "no pid namespace of its own");

    let other = Container::unshielded(&user, "hook-pid-other", &[]);
    let pid = format!("container:{}", other.name);
    let attempt = Attempt::new(&user, "hook-pidshared", &["--pid", &pid]);
    attempt.works_unshielded();
    attempt.is_refused(Way::Prepared, "shares a pid namespace");
}

fn the_hook_refuses_a_privileged_container() {
    let attempt = Attempt::new(&User::shared(), "hook-privileged", &["--privileged"]);
    attempt.works_unshielded();
    attempt.is_refused(Way::Prepared, "the container has CAP_");
    attempt.is_refused(Way::PreparedWithoutSeal, "the container has CAP_");
}

fn the_hook_refuses_capabilities_that_could_change_the_table() {
    let user = User::shared();
    for capability in [
        "NET_ADMIN",
        "NET_RAW",
        "SYS_ADMIN",
        "SYS_PTRACE",
        "SYS_MODULE",
        "BPF",
        "DAC_READ_SEARCH",
    ] {
        let name = format!("hook-cap-{}", capability.to_lowercase());
        let attempt = Attempt::new(&user, &name, &["--cap-add", capability]);
        attempt.works_unshielded();
        attempt.is_refused(Way::PreparedWithoutSeal, &format!("the container has CAP_{capability}"));
    }
    let attempt = Attempt::new(&user, "hook-cap-all", &["--cap-add", "all"]);
    attempt.works_unshielded();
    attempt.is_refused(Way::PreparedWithoutSeal, "the container has CAP_");
    assert_ne!(attempt.launch(Way::Prepared).code, 0);
    attempt.nothing_runs();
}

fn the_hook_refuses_inherited_sockets() {
    let user = User::shared();
    let attempt = Attempt::new(&user, "hook-fds", &["-e", "LISTEN_FDS=1"]);
    attempt.works_unshielded();
    attempt.is_refused(Way::Prepared, "LISTEN_FDS");
    let attempt = Attempt::new(&user, "hook-preserve", &["--preserve-fds", "1"]).started_by(&[
        "sh",
        "-c",
        "exec \"$@\" 3</dev/null",
        "sh",
    ]);
    attempt.works_unshielded();
    attempt.is_refused(Way::Prepared, "--preserve-fds");
}

fn a_refused_container_is_refused_again_when_it_is_started_again() {
    let user = User::shared();
    let attempt = Attempt::new(&user, "hook-again", &["--pid", "host"]);
    assert_ne!(attempt.launch(Way::Prepared).code, 0);
    for _ in 0..2 {
        let output = user.podman(&["start", "hook-again"]);
        assert_ne!(output.code, 0, "{output:#?}");
        attempt.noted("no pid namespace of its own");
        attempt.nothing_runs();
    }
    attempt.container.is("inactive");
    let output = attempt.container.verb("status", &[]).ok();
    assert!(output.one_line().contains("no pid namespace of its own"), "{output:#?}");
}
