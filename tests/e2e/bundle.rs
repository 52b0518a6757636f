//! A state directory that is not as the operator left it: the container does not start.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::command::root;
use crate::lab::{Container, IMAGE, Scratch};
use crate::refusal::Attempt;
use crate::user::{FreshUser, User};

tests![
    a_policy_file_that_is_not_whole_or_not_ours_is_refused,
    a_policy_file_that_somebody_else_could_have_written_is_refused,
    a_state_directory_that_somebody_else_could_have_written_is_refused,
    other_files_of_the_state_directory_that_are_damaged_are_refused,
    the_bundle_of_another_container_is_refused,
    a_full_disk_refuses_the_start,
];

/// The last part of the state directory's path.
const STATE: &str = "shield";

/// A user of his own, since what cannot be noted in a bundle is noted above it.
struct Damaged {
    attempt: Attempt,
    user: FreshUser,
}

impl Damaged {
    fn new() -> Self {
        let user = FreshUser::with_hooks();
        Self {
            attempt: Attempt::new(&user, "damaged", &[]),
            user,
        }
    }

    /// A container whose state directory was damaged between `prepare` and the start is refused for this reason.
    #[track_caller]
    fn is_refused(&self, reason: &str, damage: impl FnOnce(&Path)) {
        let flags = self.user.prepare("damaged", "203.0.113.10\n2001:db8::10\n");
        damage(&self.user.bundle("damaged"));
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mount = format!("{}:/scratch", self.attempt.scratch.path());
        let program = [
            "-d",
            "-v",
            &mount,
            IMAGE,
            "sh",
            "-c",
            "touch /scratch/ran; exec sleep 100000",
        ];
        let output = self.user.podman(&[&["run"], &flags[..], &program].concat());
        assert!((125..=127).contains(&output.code), "{reason}: {output:#?}");
        if reason == STATE {
            // There is no place that it could be noted at. Who asks is told.
            let again = self
                .user
                .shield(&["run", "damaged", "--profiles", "damaged", "--", "-d", IMAGE, "true"]);
            assert_eq!(again.code, 125, "{again:#?}");
            assert!(again.one_line().contains(reason), "{reason} in {again:#?}");
        } else {
            self.attempt.noted(reason);
        }
        self.attempt.nothing_runs();
        self.attempt.container.remove();
        root(&["rm", "-rf", self.user.state().to_str().unwrap()]).ok();
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn a_policy_file_that_is_not_whole_or_not_ours_is_refused() {
    let damaged = Damaged::new();
    let policy = |bundle: &Path| bundle.join("policy.json");
    for size in [0, 1, 100, 300] {
        damaged.is_refused("policy.json", |bundle| {
            let text = fs::read(policy(bundle)).unwrap();
            fs::write(policy(bundle), &text[..size]).unwrap();
        });
    }
    // All but the last brace.
    damaged.is_refused("policy.json", |bundle| {
        let text = fs::read_to_string(policy(bundle)).unwrap();
        fs::write(policy(bundle), text.trim_end().strip_suffix('}').unwrap()).unwrap();
    });
    for text in ["{}", "[]", "null", "\"\"", "{\"version\":1}", "\u{0}"] {
        damaged.is_refused("policy.json", |bundle| fs::write(policy(bundle), text).unwrap());
    }
    for version in [json!(2), json!(0), json!(-1), json!("1"), json!(1.5), Value::Null] {
        damaged.is_refused("policy.json", |bundle| {
            edit(&policy(bundle), |file| file["version"] = version);
        });
    }
    damaged.is_refused("version 2", |bundle| {
        edit(&policy(bundle), |file| file["version"] = json!(2))
    });
    damaged.is_refused("policy.json", |bundle| {
        edit(&policy(bundle), |file| file["more"] = json!(1))
    });
    damaged.is_refused("policy.json", |bundle| {
        edit(&policy(bundle), |file| file["mode"] = json!("open"))
    });
    damaged.is_refused("policy.json", |bundle| {
        edit(&policy(bundle), |file| {
            file["targets"] = json!([{"target": "203.0.113.1/24", "origin": null}])
        });
    });
    damaged.is_refused("other", |bundle| {
        edit(&policy(bundle), |file| file["name"] = json!("other"))
    });
    for key in [
        "version",
        "name",
        "targets",
        "grants",
        "mode",
        "settings",
        "protected",
        "published",
    ] {
        damaged.is_refused("policy.json", |bundle| {
            edit(&policy(bundle), |file| {
                file.as_object_mut().unwrap().remove(key).unwrap();
            });
        });
    }
    damaged.is_refused("policy.json", |bundle| fs::remove_file(policy(bundle)).unwrap());
}

fn a_policy_file_that_somebody_else_could_have_written_is_refused() {
    let damaged = Damaged::new();
    let policy = |bundle: &Path| bundle.join("policy.json");
    for mode in [0o620, 0o602, 0o666] {
        damaged.is_refused("policy.json", |bundle| {
            fs::set_permissions(policy(bundle), Permissions::from_mode(mode)).unwrap();
        });
    }
    damaged.is_refused("policy.json", |bundle| chown(policy(bundle), Some(2001), None).unwrap());
    damaged.is_refused("policy.json", |bundle| {
        let elsewhere = bundle.join("elsewhere.json");
        fs::rename(policy(bundle), &elsewhere).unwrap();
        symlink(&elsewhere, policy(bundle)).unwrap();
    });
    damaged.is_refused("policy.json", |bundle| {
        fs::remove_file(policy(bundle)).unwrap();
        root(&["mkfifo", policy(bundle).to_str().unwrap()]).ok();
        chown(policy(bundle), Some(damaged.user.uid), Some(damaged.user.uid)).unwrap();
    });
    damaged.is_refused("policy.json", |bundle| {
        fs::remove_file(policy(bundle)).unwrap();
        damaged.user.make_directory(&policy(bundle));
    });
}

fn a_state_directory_that_somebody_else_could_have_written_is_refused() {
    let damaged = Damaged::new();
    // The bundle, the directory of all bundles, and the state directory.
    for (up, what) in [(0, "damaged"), (1, "containers"), (2, STATE)] {
        let place = |bundle: &Path| bundle.ancestors().nth(up).unwrap().to_owned();
        for mode in [0o770, 0o777, 0o720] {
            damaged.is_refused(what, |bundle| {
                fs::set_permissions(place(bundle), Permissions::from_mode(mode)).unwrap();
            });
        }
        damaged.is_refused(what, |bundle| chown(place(bundle), Some(2001), Some(2001)).unwrap());
        damaged.is_refused(what, |bundle| {
            let elsewhere = place(bundle).with_file_name("elsewhere");
            fs::rename(place(bundle), &elsewhere).unwrap();
            symlink(&elsewhere, place(bundle)).unwrap();
        });
        root(&[
            "rm",
            "-rf",
            damaged.user.state().with_file_name("elsewhere").to_str().unwrap(),
        ])
        .ok();
    }
    damaged.is_refused("damaged", |bundle| fs::remove_dir_all(bundle).unwrap());
}

fn other_files_of_the_state_directory_that_are_damaged_are_refused() {
    let damaged = Damaged::new();
    for text in ["", "{", "{\"version\":2,\"names\":{}}", "{\"version\":1,\"names\":[]}"] {
        damaged.is_refused("resolved.json", |bundle| {
            fs::write(bundle.join("resolved.json"), text).unwrap()
        });
    }
    damaged.is_refused("resolved.json", |bundle| {
        let _ = fs::remove_file(bundle.join("resolved.json"));
        symlink("/dev/null", bundle.join("resolved.json")).unwrap();
    });
    damaged.is_refused("audit.jsonl", |bundle| {
        let _ = fs::remove_file(bundle.join("audit.jsonl"));
        symlink("/dev/null", bundle.join("audit.jsonl")).unwrap();
    });
    damaged.is_refused("lock", |bundle| {
        let _ = fs::remove_file(bundle.join("lock"));
        symlink(bundle.join("policy.json"), bundle.join("lock")).unwrap();
    });
}

fn the_bundle_of_another_container_is_refused() {
    let user = User::shared();
    let first = Container::start(&user, "owner", "203.0.113.10\n2001:db8::10\n", &[]);
    let flags = [
        "--annotation",
        "terok.shield.profiles=owner",
        "--annotation",
        "terok.shield.name=owner",
        "--annotation",
        &format!("terok.shield.state_dir={}", user.state().display()),
        "--sysctl",
        "net.terok_shield.sealed=1",
        "--cap-drop",
        "NET_ADMIN,NET_RAW",
    ];
    let attempt = Attempt::new(&user, "owner-thief", &flags);
    let before = first.policy();
    attempt.launch(crate::refusal::Way::Unshielded).code(126);
    attempt.nothing_runs();
    let log = fs::read_to_string(user.bundle("owner").join("hook-error.log")).unwrap();
    assert!(log.contains("belongs to another container"), "{log:?}");
    assert_eq!(first.policy(), before);
    first.is("up");
    // Not while it is stopped either.
    user.podman(&["stop", "owner"]).ok();
    attempt.container.remove();
    attempt.launch(crate::refusal::Way::Unshielded).code(126);
    attempt.nothing_runs();
    user.podman(&["start", "owner"]).ok();
    first.is("up");
}

fn a_full_disk_refuses_the_start() {
    let user = User::shared();
    let disk = Scratch::new(&user, "disk-mount");
    let options = format!("size=128k,mode=0700,uid={},gid={}", user.uid, user.uid);
    root(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", disk.path()]).ok();
    let small = user.with_variable("TEROK_SHIELD_STATE_DIR", &disk.at("state"));
    let tried = std::panic::catch_unwind(|| {
        let attempt = Attempt::new(&small, "disk", &[]);
        let flags = small.prepare("disk", "203.0.113.10\n2001:db8::10\n");
        // Whatever was still to be written has no place now.
        root(&["sh", "-c", &format!("cat /dev/zero >{}", disk.at("filling"))]);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mount = format!("{}:/scratch", attempt.scratch.path());
        let start = |mode: &'static str| {
            let program = [mode, "-v", &mount, IMAGE, "sh", "-c", "touch /scratch/ran"];
            small.podman(&[&["run"], &flags[..], &program].concat())
        };
        start("-d").code(126);
        attempt.nothing_runs();
        attempt.container.remove();
        fs::remove_file(disk.at("filling")).unwrap();
        let again = start("--rm");
        let log = small.bundle("disk").join("hook-error.log");
        assert_eq!(again.code, 0, "{again:#?} {:?}", fs::read_to_string(log));
        assert!(attempt.scratch.has("ran"));
    });
    root(&["umount", "--lazy", disk.path()]).ok();
    tried.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
