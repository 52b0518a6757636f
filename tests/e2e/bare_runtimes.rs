//! crun and runc with a bundle that somebody else made, as CRI-O starts them: real root, no podman, no monitor, hooks in the
//! configuration itself.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::command::{Output, root};
use crate::lab::{PROGRAM, Scratch, image_tar};
use crate::user::User;

tests![
    crun_with_a_bundle_of_ones_own_is_shielded_by_an_annotation,
    runc_with_a_bundle_of_ones_own_is_shielded_by_an_annotation,
];

/// A network namespace with a way to the internet, and a root file system.
struct Ground {
    runtime: &'static str,
    user: User,
    scratch: Scratch,
    /// Ids that may have been used.
    ids: Vec<String>,
}

impl Ground {
    fn new(runtime: &'static str, number: u8) -> Self {
        let user = User::root_behind(vec!["env".to_owned()]);
        let scratch = Scratch::new(&user, runtime);
        let ground = Self {
            runtime,
            user,
            scratch,
            ids: Vec::new(),
        };
        let image = image_tar();
        let rootfs = ground.scratch.at("rootfs");
        let line = format!(
            "set -e
            mkdir {rootfs}
            tar -xf {image} -C {rootfs}
            mkdir -p {rootfs}/proc {rootfs}/dev
            ip netns add {runtime}
            ip link add {runtime} type veth peer name eth0 netns {runtime}
            ip address add 10.201.{number}.1/24 dev {runtime}
            ip address add fd00:201:{number}::1/64 dev {runtime} nodad
            ip link set {runtime} up
            ip -n {runtime} link set lo up
            ip -n {runtime} address add 10.201.{number}.2/24 dev eth0
            ip -n {runtime} address add fd00:201:{number}::2/64 dev eth0 nodad
            ip -n {runtime} link set eth0 up
            ip -n {runtime} route add default via 10.201.{number}.1
            ip -n {runtime} route add default via fd00:201:{number}::1"
        );
        ground.user.sh(&line).ok();
        ground
    }

    /// A bundle: what is changed in it makes the cases.
    fn bundle(&mut self, id: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
        let hook = |stage: &str| {
            json!([{
                "path": PROGRAM,
                "args": ["terok-shield", "hook", stage],
                "env": ["PATH=/usr/bin:/bin"],
            }])
        };
        let few = json!(["CAP_NET_BIND_SERVICE", "CAP_CHOWN"]);
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": ["sleep", "100000"],
                "env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"],
                "cwd": "/",
                "capabilities": {"bounding": few, "effective": few, "permitted": few},
                "noNewPrivileges": true,
            },
            // Relative to the bundle.
            "root": {"path": "../../rootfs", "readonly": true},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            ],
            "linux": {
                "namespaces": [
                    {"type": "pid"},
                    {"type": "mount"},
                    {"type": "ipc"},
                    {"type": "uts"},
                    {"type": "network", "path": format!("/run/netns/{}", self.runtime)},
                ],
                // Nobody narrows this one: no precreate runs here.
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                    "syscalls": [
                        {"names": ["socketcall", "io_uring_setup", "io_uring_enter"], "action": "SCMP_ACT_ERRNO"},
                        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [
                            {"index": 0, "value": 0xffff_ffff_u64, "valueTwo": 40, "op": "SCMP_CMP_MASKED_EQ"}]},
                    ],
                },
            },
            "annotations": {"terok.shield.profiles": self.runtime},
            "hooks": {"createRuntime": hook("createRuntime"), "poststop": hook("poststop")},
        });
        change(&mut config);
        self.ids.push(id.to_owned());
        let bundle = self.scratch.0.join("bundles").join(id);
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        bundle
    }

    /// Starts a container. Its streams are files: nobody waits for them.
    fn run(&mut self, id: &str, change: impl FnOnce(&mut Value)) -> Output {
        let bundle = self.bundle(id, change);
        let line = format!(
            "cd / && {} run --detach --bundle {} {id} </dev/null >{1}/out 2>&1; code=$?; cat {1}/out; exit $code",
            self.runtime,
            bundle.display()
        );
        self.user.sh(&line)
    }

    fn exec(&self, id: &str, words: &[&str]) -> Output {
        self.user.run(&[&[self.runtime, "exec", id], words].concat())
    }

    #[track_caller]
    fn delete(&self, id: &str) {
        self.user.run(&[self.runtime, "delete", "--force", id]).ok();
    }

    #[track_caller]
    fn reaches(&self, id: &str, addresses: &[&str]) {
        for address in addresses {
            let output = self.ask(id, address).ok();
            assert_eq!(output.text(), *address, "{output:#?}");
        }
    }

    /// Refused at once: 7 is curl's word for that, 28 would be a time-out.
    #[track_caller]
    fn is_refused(&self, id: &str, addresses: &[&str]) {
        for address in addresses {
            self.ask(id, address).code(7);
        }
    }

    fn ask(&self, id: &str, address: &str) -> Output {
        let url = if address.contains(':') {
            format!("http://[{address}]/")
        } else {
            format!("http://{address}/")
        };
        self.exec(id, &["curl", "-g", "-s", "--max-time", "30", &url])
    }

    #[track_caller]
    fn is_not_started(&mut self, id: &str, reason: &str, change: impl FnOnce(&mut Value)) {
        let output = self.run(id, change);
        assert_ne!(output.code, 0, "{id}: {output:#?}");
        let mut places = vec![self.user.state()];
        let bundles = fs::read_dir(self.user.state().join("containers")).unwrap();
        places.extend(bundles.map(|bundle| bundle.unwrap().path()));
        let said: Vec<String> = places
            .iter()
            .filter_map(|place| fs::read_to_string(place.join("hook-error.log")).ok())
            .collect();
        assert!(
            said.iter().any(|text| text.contains(reason)),
            "{id}: {reason:?} in {said:?}"
        );
        let state = self.user.run(&[self.runtime, "state", id]);
        assert!(!state.out.contains("running"), "{state:#?}");
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for id in &self.ids {
            self.user.run(&[self.runtime, "delete", "--force", id]);
        }
        root(&["ip", "netns", "delete", self.runtime]);
        root(&["ip", "link", "delete", self.runtime]);
    }
}

const LISTED: [&str; 4] = ["203.0.113.10", "2001:db8::10", "203.0.113.20", "2001:db8::20"];
const CLOSED: [&str; 5] = [
    "203.0.113.11",
    "2001:db8::11",
    "10.9.8.7",
    "fd00:9::7",
    "169.254.169.254",
];

fn is_shielded_like_any_other(runtime: &'static str, number: u8) {
    let mut ground = Ground::new(runtime, number);
    let user = ground.user.clone();
    user.profile(runtime, "=allowed.test\n203.0.113.20\n2001:db8::20\n");
    let (first, second) = (format!("{runtime}-first"), format!("{runtime}-second"));
    // Without hooks the same bundle reaches everything.
    ground
        .run(&first, |config| drop(config.as_object_mut().unwrap().remove("hooks")))
        .ok();
    ground.reaches(&first, &LISTED);
    ground.reaches(&first, &CLOSED);
    ground.delete(&first);

    ground.run(&first, |_| ()).ok();
    ground.reaches(&first, &LISTED);
    ground.is_refused(&first, &CLOSED);
    // It is called by the first digits of its id, which is all that there is.
    let short = &first[..12.min(first.len())];
    assert_eq!(user.shield(&["status", short]).ok().text(), "up");
    assert_eq!(user.bundle_json(short, "policy.json")["container_id"], json!(first));
    user.shield(&["deny", short, "203.0.113.20"]).ok();
    ground.is_refused(&first, &["203.0.113.20"]);
    // While it runs nobody else takes its policy; that it was there in this directory once is no sign of life.
    let named = |name: &str| {
        let name = name.to_owned();
        move |config: &mut Value| config["annotations"]["terok.shield.name"] = json!(name)
    };
    // Another network, for a table of its own.
    let apart = |config: &mut Value| {
        config["linux"]["namespaces"].as_array_mut().unwrap()[4] = json!({"type": "network"});
    };
    let short = short.to_owned();
    let other = named(&short);
    ground.is_not_started(&second, "belongs to another container", |config| {
        apart(config);
        other(config);
    });
    // Two containers in one network: the first one's policy was not asked.
    ground.is_not_started(&second, "shared with process", |_| ());
    ground.delete(&first);
    assert_eq!(user.shield(&["status", &short]).ok().text(), "inactive");

    // The same again keeps what was denied; with other profiles it is not the same.
    ground.run(&first, |_| ()).ok();
    ground.is_refused(&first, &["203.0.113.20"]);
    ground.reaches(&first, &["203.0.113.10", "2001:db8::10", "2001:db8::20"]);
    ground.delete(&first);
    let profile = format!("{runtime}-other");
    user.profile(&profile, "203.0.113.11\n2001:db8::11\n");
    ground
        .run(&first, |config| {
            config["annotations"]["terok.shield.profiles"] = json!(profile)
        })
        .ok();
    ground.reaches(&first, &["203.0.113.11", "2001:db8::11"]);
    ground.is_refused(&first, &LISTED);
    ground.delete(&first);

    // Now that it is gone, another one may be called so.
    ground.run(&second, named(&short)).ok();
    ground.reaches(&second, &LISTED);
    ground.is_refused(&second, &CLOSED);
    assert_eq!(user.shield(&["status", &short]).ok().text(), "up");
    ground.delete(&second);

    // What cannot be, is not.
    let third = format!("{runtime}-third");
    ground.is_not_started(&third, "none-such", |config| {
        config["annotations"]["terok.shield.profiles"] = json!("none-such");
    });
    ground.is_not_started(&third, "the runtime's configuration", |config| {
        let mount = json!({"destination": "/srv", "type": "bind", "source": ".", "options": ["rbind", "ro"]});
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    ground.is_not_started(&third, "does not limit its capabilities", |config| {
        drop(config["process"].as_object_mut().unwrap().remove("capabilities"));
    });
    ground.is_not_started(&third, "could use AF_VSOCK", |config| {
        drop(config["linux"].as_object_mut().unwrap().remove("seccomp"));
    });
    ground.is_not_started(&third, "no network namespace of its own", |config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().pop();
    });
}

fn crun_with_a_bundle_of_ones_own_is_shielded_by_an_annotation() {
    is_shielded_like_any_other("crun", 1);
}

fn runc_with_a_bundle_of_ones_own_is_shielded_by_an_annotation() {
    is_shielded_like_any_other("runc", 2);
}
