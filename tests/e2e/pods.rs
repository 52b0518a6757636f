//! Pods: their members share one network, and so one shield.

use crate::command::{Output, root, wait_until};
use crate::lab::{Container, IMAGE, Scratch};
use crate::probe::{everything, web};
use crate::reach::{CLOSED, ONE_OF_EACH, OPEN};
use crate::user::User;

tests![
    kube_play_shields_every_container_of_a_pod,
    members_of_a_pod_join_its_shield_and_others_are_refused,
    the_network_of_an_ordinary_container_is_not_shielded_for_another,
];

const PROFILES: &str = "terok.shield.profiles";

/// A pod, removed with all its members when this is dropped.
struct Pod {
    user: User,
    name: String,
}

impl Pod {
    fn named(user: &User, name: &str) -> Self {
        Self {
            user: user.clone(),
            name: name.to_owned(),
        }
    }

    /// Starts a member.
    fn run(&self, name: &str, flags: &[&str]) -> Output {
        let words = [
            "run",
            "-d",
            "--pod",
            &self.name,
            "--name",
            name,
            "--stop-signal",
            "KILL",
        ];
        let program = [IMAGE, "sleep", "100000"];
        self.user.podman(&[&words[..], flags, &program].concat())
    }

    fn members(&self) -> Vec<Container> {
        let filter = format!("pod={}", self.name);
        let format = "{{.Names}} {{.IsInfra}}";
        let listing = self.user.podman(&["ps", "--filter", &filter, "--format", format]).ok();
        let members = listing.out.lines().filter_map(|line| line.strip_suffix(" false"));
        members.map(|name| Container::named(&self.user, name)).collect()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let removed = self
            .user
            .podman(&["pod", "rm", "--force", "--ignore", "--time", "0", &self.name]);
        if !std::thread::panicking() {
            removed.ok();
        }
    }
}

#[track_caller]
fn is_shielded(container: &Container) {
    container.reaches(&everything(&OPEN));
    container.is_refused(&everything(&CLOSED));
}

fn page(port: u16) -> Output {
    root(&[
        "curl",
        "-s",
        "--max-time",
        "5",
        &format!("http://127.0.0.1:{port}/index.html"),
    ])
}

fn kube_play_shields_every_container_of_a_pod() {
    let user = User::shared();
    user.profile("cube", ONE_OF_EACH);
    let scratch = Scratch::new(&user, "cube");
    let file = scratch.at("pod.yaml");
    let container = |name: &str, command: &str| {
        format!(
            "  - name: {name}
    image: {IMAGE}:latest
    imagePullPolicy: Never
    command: [/bin/sh, -c, '{command}']
    env: [{{name: PATH, value: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin'}}]
"
        )
    };
    let yaml = |annotations: &str, port: u16| {
        let serve = "echo page >/tmp/index.html; busybox httpd -p 80 -h /tmp; exec sleep 100000";
        format!(
            "apiVersion: v1
kind: Pod
metadata:
  name: cube
{annotations}
spec:
  containers:
{}    ports: [{{containerPort: 80, hostPort: {port}}}]
{}{}",
            container("one", serve),
            container("two", "exec sleep 100000"),
            container("three", "exec sleep 100000"),
        )
    };
    let play = |text: String| {
        user.write(file.as_ref(), text);
        user.podman(&[
            "kube",
            "play",
            "--network",
            "slirp4netns:port_handler=slirp4netns",
            &file,
        ])
    };
    // Nothing is in the way without the annotation.
    let pod = Pod::named(&user, "cube");
    play(yaml("", 18431)).ok();
    for member in pod.members() {
        member.reaches(&web(&OPEN));
        member.reaches(&web(&["203.0.113.11", "2001:db8::11"]));
    }
    drop(pod);
    // Podman starts its containers in any order, and not one after the other.
    for (round, port) in [18432, 18433, 18434].into_iter().enumerate() {
        let pod = Pod::named(&user, "cube");
        let publish = if round == 0 {
            "\n    terok.shield.publish: '80'"
        } else {
            ""
        };
        let annotations = format!("  annotations:\n    {PROFILES}: cube\n    terok.shield.name: cube-{round}{publish}");
        let output = play(yaml(&annotations, port)).ok();
        let members = pod.members();
        assert_eq!(members.len(), 3, "{output:#?}");
        let name = format!("cube-{round}");
        let verb = |words: &[&str]| user.shield(words).ok().text().to_owned();
        assert_eq!(verb(&["status", &name]), "up");
        for member in &members {
            if round == 0 {
                is_shielded(member);
            } else {
                member.reaches(&web(&OPEN));
                member.is_refused(&web(&CLOSED));
            }
            let answer = member.sh("dig +short +tries=1 +timeout=5 allowed.test A").ok();
            assert_eq!(answer.text(), "203.0.113.10");
        }
        wait_until("the server answers inside", || {
            (members[0].sh("curl -s http://127.0.0.1:80/index.html").text() == "page").then_some(())
        });
        if round == 0 {
            wait_until("the published port answers", || {
                (page(port).text() == "page").then_some(())
            });
        } else {
            assert_ne!(page(port).code, 0);
        }
        // One policy for all, kept while one of them, or all, are started again.
        verb(&["deny", &name, "203.0.113.20"]);
        verb(&["deny", &name, "2001:db8::20"]);
        members[1].restart();
        for member in &members {
            member.is_refused(&web(&["203.0.113.20", "2001:db8::20", "203.0.113.11"]));
        }
        if round == 1 {
            user.podman(&["pod", "stop", "--time", "0", "cube"]).ok();
            user.podman(&["pod", "start", "cube"]).ok();
            assert_eq!(verb(&["status", &name]), "up");
            for member in &members {
                member.is_refused(&web(&["203.0.113.20", "2001:db8::20", "203.0.113.11"]));
                member.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
            }
        }
        // The pod takes its members along.
        std::mem::forget(members);
        drop(pod);
        assert_eq!(verb(&["status", &name]), "inactive");
    }
}

fn members_of_a_pod_join_its_shield_and_others_are_refused() {
    let user = User::shared();
    user.profile("club", ONE_OF_EACH);
    user.profile("club-other", "203.0.113.11\n2001:db8::11\n");
    let annotation = |value: &str| format!("--annotation={PROFILES}={value}");
    let (ours, others) = (annotation("club"), annotation("club-other"));
    let pod = Pod::named(&user, "club");
    user.podman(&["pod", "create", "--name", "club"]).ok();
    // Somebody who was not asked is there already.
    pod.run("club-stranger", &[]).ok();
    let refused = pod.run("club-first", &[&ours]);
    assert!((125..=127).contains(&refused.code), "{refused:#?}");
    user.podman(&["rm", "--force", "--time", "0", "club-stranger", "club-first"])
        .ok();

    pod.run("club-first", &[&ours]).ok();
    pod.run("club-second", &[&ours]).ok();
    let [first, second] = ["club-first", "club-second"].map(|name| Container::named(&user, name));
    for member in [&first, &second] {
        is_shielded(member);
    }
    // Without a name of its own the pod is called as podman calls its infra container.
    let infra = user
        .podman(&["pod", "inspect", "--format", "{{.InfraContainerID}}", "club"])
        .ok();
    let infra = &infra.text()[..12];
    assert_eq!(user.shield(&["status", infra]).ok().text(), "up");
    // Each member's name and id lead to it, too.
    for given in ["club-first", "club-second", &second.id(), &second.id()[..12]] {
        assert_eq!(user.shield(&["status", given]).ok().text(), "up", "{given}");
    }
    user.shield(&["deny", "club-second", "203.0.113.20"]).ok();
    // Who asks for something else does not get in, and takes nothing away.
    for flags in [
        vec![others.as_str()],
        vec![&ours, "--annotation=terok.shield.publish=80"],
        vec![&ours, "--annotation=terok.shield.name=club-named"],
        vec![&ours, "--cap-add", "NET_ADMIN"],
        vec![&ours, "--annotation=terok.shield.launch=x"],
    ] {
        let refused = pod.run("club-third", &flags);
        assert!((125..=127).contains(&refused.code), "{flags:?}: {refused:#?}");
        user.podman(&["rm", "--force", "--ignore", "--time", "0", "club-third"])
            .ok();
        assert_eq!(user.shield(&["status", infra]).ok().text(), "up");
    }
    first.is_refused(&web(&["203.0.113.20", "203.0.113.11", "2001:db8::11"]));
    // The first one's end is not the pod's.
    first.remove();
    second.is_refused(&web(&["203.0.113.20", "203.0.113.11", "2001:db8::11"]));
    second.reaches(&web(&["203.0.113.10", "2001:db8::20"]));
    pod.run("club-fourth", &[&ours]).ok();
    let fourth = Container::named(&user, "club-fourth");
    fourth.is_refused(&web(&["203.0.113.20", "203.0.113.11", "2001:db8::11"]));
    fourth.reaches(&web(&["203.0.113.10", "2001:db8::20"]));
    assert_eq!(user.shield(&["status", infra]).ok().text(), "up");
    let refused = pod.run("club-third", &[&others]);
    assert!((125..=127).contains(&refused.code), "{refused:#?}");
}

fn the_network_of_an_ordinary_container_is_not_shielded_for_another() {
    let user = User::shared();
    user.profile("guest", "203.0.113.10\n2001:db8::10\n");
    let host = Container::unshielded(&user, "guest-host", &[]);
    let id = host.id();
    // Whatever it says of itself, and however much its host looks like an infra container.
    let sandbox = format!("--annotation=io.kubernetes.cri-o.SandboxID={id}");
    let kind = "--annotation=io.kubernetes.cri-o.ContainerType=container";
    let profiles = format!("--annotation={PROFILES}=guest");
    for flags in [vec![profiles.as_str()], vec![&profiles, &sandbox, kind]] {
        let guest = Container::named(&user, "guest");
        let words = ["run", "-d", "--name", "guest", "--network", "container:guest-host"];
        let output = user.podman(&[&words[..], &flags, &[IMAGE, "sleep", "100000"]].concat());
        assert!((125..=127).contains(&output.code), "{output:#?}");
        guest.remove();
        host.reaches(&web(&["203.0.113.11", "2001:db8::11"]));
    }
}
