use super::table::{Arity, all};
use super::*;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn screened(line: &str) -> Screened {
    screen(&words(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn error(args: &[&str]) -> FlagError {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    match screen(&args) {
        Ok(screened) => panic!("{args:?} passed as {screened:?}"),
        Err(error) => error,
    }
}

#[test]
fn the_image_is_found_in_every_spelling_podman_accepts() {
    for (line, flags) in [
        ("IMG sh -c x", ""),
        ("--rm IMG sh -c x", "--rm=true"),
        ("--rm=false IMG sh -c x", "--rm=false"),
        ("-it IMG sh -c x", "--interactive=true --tty=true"),
        ("-itd IMG sh -c x", "--interactive=true --tty=true --detach=true"),
        ("-i=false -t=1 IMG sh -c x", "--interactive=false --tty=true"),
        ("-e A=b IMG sh -c x", "--env=A=b"),
        ("-eA=b IMG sh -c x", "--env=A=b"),
        ("-e=A=b IMG sh -c x", "--env=A=b"),
        ("-ite A=b IMG sh -c x", "--interactive=true --tty=true --env=A=b"),
        ("-dp 80:80 IMG sh -c x", "--detach=true --publish=80:80"),
        ("-dp80:80 IMG sh -c x", "--detach=true --publish=80:80"),
        ("-dp=80:80 IMG sh -c x", "--detach=true --publish=80:80"),
        ("--env A=b IMG sh -c x", "--env=A=b"),
        ("--env=A=b IMG sh -c x", "--env=A=b"),
        ("--env= IMG sh -c x", "--env="),
        ("--env --rm IMG sh -c x", "--env=--rm"),
        ("-e -it IMG sh -c x", "--env=-it"),
        ("--workdir -- IMG sh -c x", "--workdir=--"),
        ("-h host IMG sh -c x", "--hostname=host"),
        ("-c 5 -m 1g IMG sh -c x", "--cpu-shares=5 --memory=1g"),
        (
            "--read-only --init --tls-verify=f IMG sh -c x",
            "--read-only=true --init=true --tls-verify=false",
        ),
        ("--net none --dns-opt x IMG sh -c x", "--net=none --dns-opt=x"),
        ("--healthcheck-command none IMG sh -c x", "--healthcheck-command=none"),
        ("-- IMG sh -c x", ""),
        ("-q -- IMG sh -c x", "--quiet=true"),
        ("-e= IMG sh -c x", "--env=="),
    ] {
        let got = screened(line);
        assert_eq!(got.flags.join(" "), flags, "{line}");
        assert_eq!(got.image_and_command.join(" "), "IMG sh -c x", "{line}");
    }
}

#[test]
fn flags_of_the_command_are_the_commands() {
    let got = screened("IMG --privileged --network host -- -P");
    assert_eq!(got.image_and_command.join(" "), "IMG --privileged --network host -- -P");
    assert!(got.flags.is_empty());
}

#[test]
fn what_podman_gets_ends_the_flags_before_the_image() {
    let shield = words("--name x");
    let args = screened("-e A -- IMG -x").podman_args(&shield, true);
    assert_eq!(
        args.join(" "),
        "run --env=A --interactive=true --tty=true --name x -- IMG -x"
    );
}

#[test]
fn what_is_not_understood_is_an_error_that_names_it() {
    for (args, message) in [
        (vec!["--frobnicate", "IMG"], "unknown podman flag --frobnicate:"),
        (vec!["--frobnicate=x", "IMG"], "unknown podman flag --frobnicate:"),
        (vec!["--privilege", "IMG"], "unknown podman flag --privilege:"),
        (vec!["--Privileged", "IMG"], "unknown podman flag --Privileged:"),
        (vec!["-iz", "IMG"], "unknown podman flag -iz:"),
        (vec!["-i=", "IMG"], "unknown podman flag -i=:"),
        (vec!["-test.v", "IMG"], "unknown podman flag -test.v:"),
        (vec!["-itest.v", "IMG"], "unknown podman flag -itest.v:"),
        (vec!["-\u{e9}", "IMG"], "unknown podman flag -\u{e9}:"),
        (vec!["--=x", "IMG"], "podman flag --=x: not the form"),
        (vec!["---rm", "IMG"], "podman flag ---rm: not the form"),
        (
            vec!["--rm=maybe", "IMG"],
            "podman flag --rm=maybe: the value is neither",
        ),
        (vec!["--rm=", "IMG"], "podman flag --rm=: the value is neither"),
        (vec!["--env"], "podman flag --env needs a value"),
        (vec!["-ite"], "podman flag -ite needs a value"),
        (vec![], "no image"),
        (vec!["--rm"], "no image"),
        (vec!["--env", "IMG"], "no image"),
        (vec!["--rm", ""], "no image"),
        (vec!["--rm", "--"], "no image"),
        (vec!["--", "--privileged"], "image --privileged: begins with '-'"),
        (vec!["-"], "image -: begins with '-'"),
    ] {
        let error = error(&args).to_string();
        assert!(error.starts_with(message), "{args:?}: {error}");
    }
}

#[test]
fn what_would_undo_the_shield_is_refused_in_every_spelling() {
    // each is tried as --flag value, --flag=value; the error names it so
    for (flag, value) in [
        ("--network", "host"),
        ("--network", "HOST"),
        ("--network", "container:x"),
        ("--network", "ns:/proc/1/ns/net"),
        ("--network", "path:/x"),
        ("--network", "pod"),
        ("--network", "a,host"),
        ("--network", "a,container:x"),
        ("--net", "host"),
        ("--net", "container:x"),
        ("--net", "ns:/x"),
        ("--net", "slirp4netns:allow_host_loopback=true"),
        ("--network", "slirp4netns:mtu=1500,allow_host_loopback=true"),
        ("--network", "slirp4netns:allow_host_loopback"),
        ("--network", "slirp4netns:frob=1"),
        ("--network", "pasta:-T,5432"),
        ("--network", "pasta:-T5432"),
        ("--network", "pasta:-4T,5432"),
        ("--network", "pasta:-U,53"),
        ("--network", "pasta:--tcp-ns,auto"),
        ("--network", "pasta:--tcp-ns=auto"),
        ("--network", "pasta:--tcp-n,auto"),
        ("--network", "pasta:--udp-ns,all"),
        ("--network", "pasta:--udp-ns=5353"),
        ("--network", "pasta:--map-gw"),
        ("--network", "pasta:--map-g"),
        ("--network", "pasta:-t,8080,--map-gw"),
        ("--network", "pasta:--map-host-loopback,10.0.0.1"),
        ("--network", "pasta:--map-host-loopback=10.0.0.1"),
        ("--network", "pasta:--map-host-loopback=fd00::1"),
        ("--network", "pasta:--map-host-loopback=gateway"),
        ("--network", "pasta:--map-guest-addr,203.0.113.1"),
        ("--network", "pasta:--host-lo-to-ns-lo"),
        ("--network", "pasta:--netns,/proc/1/ns/net"),
        ("--network", "pasta:--mtu"),
        ("--network", "pasta:12345"),
        ("--pid", "host"),
        ("--pid", "container:x"),
        ("--pid", "ns:/proc/1/ns/pid"),
        ("--pid", "pod"),
        ("--userns", "container:x"),
        ("--userns", "ns:/x"),
        ("--userns", "pod"),
        ("--cap-add", "NET_ADMIN"),
        ("--cap-add", "net_admin"),
        ("--cap-add", "CAP_NET_ADMIN"),
        ("--cap-add", "cap_net_raw"),
        ("--cap-add", "CHOWN,NET_RAW"),
        ("--cap-add", "CHOWN,\"NET_RAW\""),
        ("--cap-add", "SYS_ADMIN"),
        ("--cap-add", "SYS_PTRACE"),
        ("--cap-add", "SYS_MODULE"),
        ("--cap-add", "BPF"),
        ("--cap-add", "DAC_READ_SEARCH"),
        ("--cap-add", "all"),
        ("--cap-add", "CAP_ALL"),
        ("--cap-add", "CHOWN\nNET_ADMIN"),
        ("--name", "x"),
        ("--pod", "x"),
        ("--pod", "new:x"),
        ("--pod-id-file", "x"),
        ("--hooks-dir", "/x"),
        ("--runtime", "runsc"),
        ("--runtime-flag", "debug"),
        ("--url", "tcp://example.test"),
        ("--connection", "x"),
        ("--identity", "x"),
        ("--module", "x"),
        ("--root", "/x"),
        ("--network-cmd-path", "/x"),
        ("--annotation", "terok.shield.profiles=x"),
        ("--annotation", "Terok.Shield.name=x"),
        ("--annotation", " terok.shield.name=x"),
        ("--annotation", "a=b,terok.shield.name=x"),
        ("--annotation", "a=b,\"terok.shield.name=x\""),
        ("--annotation", "run.oci.handler=krun"),
        ("--annotation", "run.oci.hooks.stdout=/x"),
        ("--annotation", "krun.cpus=1"),
        ("--annotation", "module.wasm.image/variant=compat"),
        ("--annotation", "a=b\nterok.shield.name=x"),
        ("--sysctl", "net.terok_shield.sealed=1"),
        ("--sysctl", "net.terok_shield.other=1"),
        ("--sysctl", "net/terok_shield/sealed=0"),
        ("--sysctl", "net.ipv4.ip_forward=0,net.terok_shield.sealed=0"),
        ("--device", "/dev/vsock"),
        ("--device", "/dev/vhost-vsock:/dev/x:rwm"),
        ("--device", "/dev/../dev//./vsock"),
        ("--device", "/dev/fuse,/dev/vsock"),
        ("--device", "/dev"),
        ("--device", "/dev/"),
        ("--device", "/dev/../"),
        ("--env", "LISTEN_FDS=1"),
        ("--env", "LISTEN_PID"),
        ("--env", "LISTEN_*"),
        ("--env-merge", "LISTEN_FDNAMES=x"),
        ("--preserve-fds", "1"),
        ("--preserve-fds", "0x1"),
        ("--preserve-fd", "3"),
    ] {
        for (args, shown) in [
            (
                vec![flag.to_owned(), value.to_owned(), "IMG".to_owned()],
                format!("{flag} {value}"),
            ),
            (
                vec![format!("{flag}={value}"), "IMG".to_owned()],
                format!("{flag}={value}"),
            ),
        ] {
            match screen(&args) {
                Err(error @ FlagError::Refused { .. }) => {
                    let message = error.to_string();
                    assert!(
                        message.starts_with(&format!("podman flag {}: ", super::shown(&shown))),
                        "{message}"
                    );
                    assert!(!message.contains('\n'), "{message}");
                }
                other => panic!("{args:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn booleans_and_short_flags_that_undo_the_shield_are_refused_in_every_spelling() {
    for spelling in [
        "--privileged",
        "--privileged=true",
        "--privileged=1",
        "--privileged=t",
        "--privileged=TRUE",
        "-P",
        "-dP",
        "-Pd",
        "-itP",
        "-P=true",
        "--publish-all",
        "--publish-all=True",
        "--remote",
        "--remote=true",
        "--remote=false",
        "-r",
        "--transient-store",
        "--help",
        "-e=LISTEN_FDS=1",
        "-eLISTEN_FDS=1",
        "-ieLISTEN_FDS",
    ] {
        let error = error(&[spelling, "IMG"]);
        assert!(matches!(&error, FlagError::Refused { .. }), "{spelling}: {error}");
        assert!(error.to_string().contains(spelling), "{spelling}: {error}");
    }
}

#[test]
fn harmless_values_pass() {
    for line in [
        "--network none IMG",
        "--network= IMG",
        "--network bridge IMG",
        "--network bridge:ip=10.88.0.5 IMG",
        "--network mynet IMG",
        "--network a --network b:alias=x IMG",
        "--network hostile IMG",
        "--network private IMG",
        "--net slirp4netns IMG",
        "--network slirp4netns:allow_host_loopback=false,mtu=1500,port_handler=slirp4netns IMG",
        "--network pasta IMG",
        "--network pasta:-t,8080,-u,none,--mtu,1500 IMG",
        "--network pasta:-t8080,--ipv4-only,-a10.0.0.5 IMG",
        "--network pasta:-T,none,--udp-ns=none,-Unone IMG",
        "--network pasta:--map-host-loopback,169.254.1.2 IMG",
        "--network pasta:--map-host-loopback=169.254.1.2,--map-guest-addr=none IMG",
        "--pid private IMG",
        "--pid= IMG",
        "--userns host IMG",
        "--userns keep-id IMG",
        "--userns keep-id:uid=1000,gid=1000 IMG",
        "--userns auto:size=100 IMG",
        "--userns nomap IMG",
        "--ipc host --uts host --cgroupns host IMG",
        "--privileged=false IMG",
        "-P=false IMG",
        "--publish-all=0 IMG",
        "--cap-add CHOWN,SYS_TIME IMG",
        "--cap-drop ALL IMG",
        "--annotation run.ocean=1 IMG",
        "--annotation dossier.project=x IMG",
        "--annotation a=terok.shield.x IMG",
        "--sysctl net.ipv4.ping_group_range=0,0 IMG",
        "--sysctl net.terok_shieldx=1 IMG",
        "--device /dev/net/tun IMG",
        "--device /dev/fuse:/dev/vsock2 IMG",
        "--device vendor.com/gpu=all IMG",
        "--env LISTEN=1 --env-host IMG",
        "--env *=x IMG",
        "--preserve-fds 0 IMG",
        "--security-opt seccomp=unconfined IMG",
        "-v /a:/b --mount type=tmpfs,dst=/x --tmpfs /y --volumes-from z IMG",
        "--rootfs /x",
        "--group-add keep-groups --gpus all --secret s --systemd always --sdnotify conmon IMG",
        "--storage-opt size=1g --cidfile /x --conmon-pidfile /y --init-path /z IMG",
        "--expose 80 --http-proxy=false IMG",
    ] {
        screened(line);
    }
}

#[test]
fn the_last_of_several_booleans_counts_as_in_podman() {
    let got = screened("-itd --rm --replace -t=false IMG");
    assert!(got.interactive && !got.tty && got.detach && got.rm && got.replace);
    assert!(screened("--rmi IMG").rm && screened("--purge IMG").rm);
    assert!(!screened("--rm --rm=false IMG").rm);
    assert!(screened("--rootfs /x").rootfs);
    assert_eq!(screened("--net a --network b --userns auto IMG").networks, ["a", "b"]);
    assert_eq!(screened("--userns auto IMG").userns.as_deref(), Some("auto"));
}

#[test]
fn published_ports_are_the_containers_in_both_families() {
    for (value, ports) in [
        ("80", "80/tcp"),
        ("80/udp", "80/udp"),
        ("8080:80", "80/tcp"),
        (":80", "80/tcp"),
        ("8080:80/UDP", "80/udp"),
        ("203.0.113.1:8080:80", "80/tcp"),
        ("203.0.113.1::80", "80/tcp"),
        ("0.0.0.0:8080:80", "80/tcp"),
        ("[2001:db8::1]:8080:80", "80/tcp"),
        ("[2001:db8::1]::80/udp", "80/udp"),
        ("[::]:8080:80", "80/tcp"),
        ("8000-8010:8000-8010/udp", "8000-8010/udp"),
        ("[2001:db8::1]:9000-9001:80-81", "80-81/tcp"),
        ("8000-8010:80", "80/tcp"),
        ("80-81", "80-81/tcp"),
        ("53:53/udp,80", "53/udp 80/tcp"),
        ("\"53:53/tcp,udp\"", "53/tcp 53/udp"),
        ("65535", "65535/tcp"),
    ] {
        for line in [
            format!("-p {value} IMG"),
            format!("-p{value} IMG"),
            format!("--publish={value} IMG"),
        ] {
            let got: Vec<String> = screened(&line).publish.iter().map(ToString::to_string).collect();
            assert_eq!(got.join(" "), ports, "{line}");
        }
    }
    let list = PublishedPort::parse_list("80/tcp:8000-8010/udp:443").unwrap();
    assert_eq!(
        list.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["80/tcp", "8000-8010/udp", "443/tcp"]
    );
    assert!(PublishedPort::parse_list("80:x").is_err());
}

#[test]
fn ports_that_podman_would_not_take_are_errors() {
    for value in [
        "",
        "0",
        "65536",
        "x",
        "80/",
        "80/sctp",
        "80/tcp/udp",
        "+80",
        "81-80",
        "1-2-3",
        "a:b:c:d",
        "203.0.113.1:80:",
        "8080:",
        "203.0.113.999:1:80",
        "2001:db8::1:8080:80",
        "[2001:db8::1]:80",
        "[2001:db8::1]80",
        "[203.0.113.1]:1:80",
        "[::1:1:80",
        "x:80",
        "8000-8010:80-81",
        "\"80",
        "80\"",
        "::80:80",
    ] {
        let error = error(&["-p", value, "IMG"]);
        assert!(matches!(&error, FlagError::Publish { .. }), "{value}: {error}");
        assert!(
            error.to_string().starts_with(&format!("podman flag -p {value}: ")),
            "{error}"
        );
    }
}

#[test]
fn a_terminal_is_added_only_where_nothing_was_said_about_it() {
    for (line, needed) in [
        ("IMG", true),
        ("-v /a:/b IMG", true),
        ("IMG -d", true),
        ("-i IMG", false),
        ("-t IMG", false),
        ("-d IMG", false),
        ("--tty=false IMG", false),
        ("-a stdout IMG", false),
        ("--log-driver journald IMG", true),
    ] {
        assert_eq!(is_interactive_needed(&screened(line), true, true), needed, "{line}");
        assert!(!is_interactive_needed(&screened(line), false, true));
        assert!(!is_interactive_needed(&screened(line), true, false));
    }
}

#[test]
fn what_is_echoed_is_one_bounded_line() {
    let long = format!("--x{}\n\u{1b}[31m", "y".repeat(10_000));
    let message = error(&[&long, "IMG"]).to_string();
    assert!(message.len() < 600 && !message.contains(char::is_control), "{message}");
    assert_eq!(shown("a\n\u{1b}b"), "a\\n\\u{1b}b");
}

#[test]
fn every_flag_is_in_the_table_once() {
    let mut seen = std::collections::BTreeSet::new();
    for spec in all() {
        assert!(seen.insert(spec.long.to_owned()), "{}", spec.long);
        assert!(
            spec.short.is_none_or(|letter| seen.insert(letter.to_string())),
            "{:?}",
            spec.short
        );
    }
}

/// Letter, name and arity of every flag in the help of podman 4.3.1.
#[test]
fn every_flag_of_podman_4_3s_help_is_in_the_table_with_its_arity() {
    let help = include_str!("podman-4.3.1.flags");
    assert_eq!(help.lines().count(), 131);
    for line in help.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let spec = table::long(words[1]).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(spec.short, words[0].chars().find(|letter| *letter != '-'), "{line}");
        assert_eq!(spec.arity == Arity::Value, words[2] == "value", "{line}");
    }
}
