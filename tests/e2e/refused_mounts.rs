//! Mounts by which a container would reach what protects it.
//!
//! A container that sees a whole home keeps podman's mounts of all other containers there busy: whoever mounts one does so
//! as a user of his own.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::command::root;
use crate::lab::{Container, IMAGE, Scratch};
use crate::refusal::{Attempt, Way};
use crate::user::{FreshUser, User};

tests![
    what_protects_a_container_cannot_be_mounted_into_it_in_any_way,
    a_file_of_what_protects_a_container_cannot_be_mounted_either,
    a_socket_of_podman_cannot_be_mounted,
    a_named_volume_that_is_a_bind_mount_is_seen_through,
    the_mounts_of_another_container_are_looked_at_too,
    a_root_file_system_that_holds_the_state_is_refused,
    a_directory_into_which_the_state_is_bind_mounted_is_refused,
    harmless_directories_may_be_mounted,
];

/// Every way to mount `path` that `podman run` has.
fn ways(path: &str, link: &str) -> Vec<Vec<String>> {
    let volume = |value: String| vec!["-v".to_owned(), value];
    let mount = |value: String| vec!["--mount".to_owned(), value];
    vec![
        volume(format!("{path}:/x")),
        volume(format!("{path}:/x:ro")),
        volume(format!("{path}:/x:O")),
        volume(format!("{link}:/x")),
        volume(format!("{link}:/x:ro")),
        mount(format!("type=bind,source={path},destination=/x,ro=true")),
    ]
}

#[track_caller]
fn refused_in_every_way(user: &User, name: &str, path: &Path, reason: &str) {
    let links = Scratch::new(user, &format!("{name}-link"));
    let link = links.at("innocent");
    symlink(path, &link).unwrap();
    for (index, flags) in ways(path.to_str().unwrap(), &link).iter().enumerate() {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let attempt = Attempt::new(user, &format!("{name}-{index}"), &flags);
        if is_overlay_of_home(user, &flags) {
            attempt.launch(Way::Run).code(126);
            attempt.nothing_runs();
            continue;
        }
        attempt.works_unshielded();
        attempt.is_refused(Way::Run, reason);
        // To the hook it is the same.
        if index == 0 {
            attempt.is_refused(Way::Prepared, reason);
        }
    }
}

/// Podman keeps the upper directory of an overlay below the home: there it cannot make one of the home itself, shield or
/// not.
fn is_overlay_of_home(user: &User, flags: &[&str]) -> bool {
    flags[1] == format!("{}:/x:O", user.home.display()) || flags[1] == "volume-home:/x:O"
}

fn what_protects_a_container_cannot_be_mounted_into_it_in_any_way() {
    let user = FreshUser::with_hooks();
    // What is to be mounted has to be there.
    user.prepare("first", "");
    let runtime = format!("/run/user/{}", user.uid);
    for (name, path) in [
        ("mount-state", user.state()),
        ("mount-config", user.config()),
        ("mount-hooks", user.hooks().join("hooks.d")),
        ("mount-precreate", user.hooks().join("precreate.d")),
        ("mount-home", user.home.clone()),
        ("mount-runtime", runtime.into()),
    ] {
        refused_in_every_way(&user, name, &path, "shows the container");
    }
}

fn a_file_of_what_protects_a_container_cannot_be_mounted_either() {
    let user = FreshUser::with_hooks();
    let _neighbour = Container::start(&user, "neighbour", "", &[]);
    for (name, path) in [
        ("mount-above", Path::new("/home").to_owned()),
        ("mount-bundle", user.bundle("neighbour")),
        ("mount-policy", user.bundle("neighbour").join("policy.json")),
        ("mount-profile", user.config().join("profiles/neighbour.txt")),
        ("mount-conf", user.containers_conf()),
        (
            "mount-storage",
            user.home.join(".local/share/containers/storage/overlay-containers"),
        ),
        ("mount-libpod", user.home.join(".local/share/containers/storage/libpod")),
    ] {
        let attempt = Attempt::new(&user, name, &["-v", &format!("{}:/x", path.display())]);
        attempt.works_unshielded();
        attempt.is_refused(Way::Run, "shows the container");
    }
    let own = Attempt::new(
        &user,
        "mount-own",
        &["-v", &format!("{}:/x", user.state().join("containers").display())],
    );
    own.is_refused(Way::Run, "shows the container");
}

fn a_socket_of_podman_cannot_be_mounted() {
    let user = FreshUser::with_hooks();
    let runtime = Path::new("/run/user").join(user.uid.to_string());
    for (name, path) in [
        ("mount-socket", runtime.join("podman/podman.sock")),
        ("mount-rootsocket", "/run/podman/podman.sock".into()),
        ("mount-docker", "/run/docker.sock".into()),
    ] {
        user.make_directory(path.parent().unwrap());
        let listener = UnixListener::bind(&path).unwrap();
        chown(&path, Some(user.uid), Some(user.uid)).unwrap();
        let shown = path.display();
        for flags in [
            format!("{shown}:/x.sock"),
            format!("{shown}:/x.sock:ro"),
            format!("{}:/x", path.parent().unwrap().display()),
        ] {
            let attempt = Attempt::new(&user, name, &["-v", &flags]);
            if !flags.starts_with("/run:") {
                attempt.works_unshielded();
            }
            attempt.is_refused(Way::Run, "shows the container");
            attempt.is_refused(Way::Prepared, "shows the container");
        }
        drop(listener);
        fs::remove_file(path).unwrap();
    }
}

fn a_named_volume_that_is_a_bind_mount_is_seen_through() {
    let user = FreshUser::with_hooks();
    // Other file systems are mounted below the home, and without `r` the kernel would not let a user bind it.
    for (name, device, how) in [
        ("volume-home", user.home.clone(), "o=rbind"),
        ("volume-state", user.state(), "o=bind"),
    ] {
        let device = format!("device={}", device.display());
        user.podman(&["volume", "create", "-o", "type=none", "-o", how, "-o", &device, name])
            .ok();
        for option in ["", ":ro", ":O"] {
            let flags = ["-v", &format!("{name}:/x{option}")];
            let attempt = Attempt::new(&user, &format!("{name}-user"), &flags);
            if is_overlay_of_home(&user, &flags) {
                attempt.launch(Way::Run).code(126);
                attempt.nothing_runs();
                continue;
            }
            attempt.works_unshielded();
            attempt.is_refused(Way::Run, "shows the container");
            attempt.is_refused(Way::Prepared, "shows the container");
        }
        user.podman(&["volume", "rm", "--force", name]).ok();
    }
    // An ordinary one is nobody's secret.
    let container = Container::start(&user, "volume-plain", "", &["-v", "volume-plain-data:/x"]);
    container.sh("touch /x/file && test -f /x/file").ok();
    container.remove();
    user.podman(&["volume", "rm", "--force", "volume-plain-data"]).ok();
}

fn the_mounts_of_another_container_are_looked_at_too() {
    let user = FreshUser::with_hooks();
    let _other = Container::unshielded(&user, "mounts-other", &["-v", &format!("{}:/x", user.home.display())]);
    let attempt = Attempt::new(&user, "mounts-from", &["--volumes-from", "mounts-other"]);
    attempt.works_unshielded();
    attempt.is_refused(Way::Run, "shows the container");
    attempt.is_refused(Way::Prepared, "shows the container");
}

fn a_root_file_system_that_holds_the_state_is_refused() {
    let user = User::shared();
    let scratch = Scratch::new(&user, "rootfs");
    let system = scratch.at("system");
    user.make_directory(Path::new(&system));
    user.sh(&format!("tar -C {system} -xf {}", crate::lab::image_tar()))
        .ok();
    let attempt = Attempt::new(&user, "rootfs-plain", &["--rootfs"]).image(&[&system]);
    attempt.launch(Way::Run).ok();
    attempt.container.is("up");
    attempt.container.remove();

    let state = format!("{system}/home/state");
    let inside = user.with_variable("TEROK_SHIELD_STATE_DIR", &state);
    for directory in [system.clone(), format!("{system}:O")] {
        let attempt = Attempt::new(&inside, "rootfs-state", &["--rootfs"]).image(&[&directory]);
        attempt.works_unshielded();
        attempt.is_refused(Way::Run, "shows the container");
        attempt.is_refused(Way::Prepared, "shows the container");
    }
}

fn a_directory_into_which_the_state_is_bind_mounted_is_refused() {
    let user = User::shared();
    let scratch = Scratch::new(&user, "elsewhere");
    let below = scratch.at("some/where");
    user.make_directory(Path::new(&below));
    root(&["mount", "--rbind", user.state().to_str().unwrap(), &below]).ok();
    let attempts: Vec<_> = [scratch.path(), &scratch.at("some"), &below]
        .iter()
        .map(|path| Attempt::new(&user, "mount-elsewhere", &["-v", &format!("{path}:/x")]))
        .collect();
    let tried = std::panic::catch_unwind(|| {
        for attempt in &attempts {
            attempt.works_unshielded();
            attempt.is_refused(Way::Run, "shows the container");
        }
    });
    root(&["umount", "--recursive", &below]).ok();
    tried.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn harmless_directories_may_be_mounted() {
    let user = User::shared();
    let work = user.home.join("work");
    user.make_directory(&work);
    let link = user.home.join("work-link");
    symlink(&work, &link).unwrap();
    for source in [work.to_str().unwrap(), link.to_str().unwrap(), "/usr/share"] {
        for option in ["", ":ro", ":O"] {
            let flags = format!("{source}:/x{option}");
            let container = Container::start(&user, "mount-harmless", "", &["-v", &flags]);
            container.is("up");
            container.remove();
        }
    }
    assert_ne!(user.podman(&["image", "exists", IMAGE]).code, 1);
}
