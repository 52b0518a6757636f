use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn desired(name: &str) -> PolicyFile {
    PolicyFile {
        launch: Some("0f3a".to_owned()),
        ..PolicyFile::new(
            &name.parse().unwrap(),
            &["test".parse().unwrap()],
            Vec::new(),
            Settings::default(),
        )
    }
}

/// A bundle `web` with a policy, in a state directory of its own.
fn bundle() -> (tempfile::TempDir, Bundle) {
    let directory = tempfile::tempdir().unwrap();
    let bundle = Bundle::open_or_make(&directory.path().join("state"), &"web".parse().unwrap()).unwrap();
    let lock = bundle.lock().unwrap();
    bundle.set_policy(&lock, &desired("web")).unwrap();
    (directory, bundle)
}

fn open(directory: &tempfile::TempDir) -> Result<Bundle, BundleError> {
    Bundle::open(&directory.path().join("state"), &"web".parse().unwrap())
}

fn mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_was_written_is_read_back() {
    let (directory, bundle) = bundle();
    assert_eq!(open(&directory).unwrap().policy().unwrap(), desired("web"));
    assert_eq!(bundle.resolved().unwrap(), ResolvedFile::default());
    assert_eq!(bundle.running().unwrap(), None);
    let names: Vec<String> = list(&directory.path().join("state"))
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["web"]);
}

#[test]
fn a_bundle_that_is_not_there_is_missing_and_not_an_error_of_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(open(&directory), Err(BundleError::Missing { .. })));
    assert_eq!(list(&directory.path().join("state")).unwrap().len(), 0);
}

#[test]
fn directories_that_others_may_use_are_not_trusted() {
    let (directory, bundle) = bundle();
    let containers = bundle.path().parent().unwrap().to_owned();
    let state = containers.parent().unwrap().to_owned();
    for (path, bad) in [
        (bundle.path(), 0o770),
        (bundle.path(), 0o750),
        (bundle.path(), 0o701),
        (&containers, 0o720),
        (&state, 0o770),
    ] {
        mode(path, bad);
        assert!(
            matches!(open(&directory), Err(BundleError::Untrusted { .. })),
            "{} {bad:o}",
            path.display()
        );
        mode(path, 0o700);
    }
    open(&directory).unwrap();
}

#[test]
fn a_bundle_behind_a_link_is_not_trusted() {
    let (directory, bundle) = bundle();
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(bundle.path(), &elsewhere).unwrap();
    symlink(&elsewhere, bundle.path()).unwrap();
    assert!(matches!(open(&directory), Err(BundleError::Untrusted { .. })));
}

#[test]
fn files_that_others_may_write_or_that_are_links_are_not_trusted() {
    let (_directory, bundle) = bundle();
    let policy = bundle.path().join("policy.json");
    mode(&policy, 0o620);
    assert!(matches!(bundle.policy(), Err(BundleError::Untrusted { .. })));
    mode(&policy, 0o600);
    let copy = bundle.path().join("copy.json");
    fs::rename(&policy, &copy).unwrap();
    symlink(&copy, &policy).unwrap();
    assert!(matches!(bundle.policy(), Err(BundleError::Untrusted { .. })));
    fs::remove_file(&policy).unwrap();
    nix::unistd::mkfifo(&policy, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(matches!(bundle.policy(), Err(BundleError::Untrusted { .. })));
    fs::remove_file(&policy).unwrap();
    assert!(matches!(bundle.policy(), Err(BundleError::Malformed { .. })));
}

#[test]
fn a_policy_is_read_whole_or_not_at_all() {
    let (_directory, bundle) = bundle();
    let path = bundle.path().join("policy.json");
    let good = fs::read_to_string(&path).unwrap();
    for end in 0..good.trim_end().len() {
        fs::write(&path, &good[..end]).unwrap();
        assert!(bundle.policy().is_err(), "the first {end} bytes");
    }
    for bad in [
        good.replace("\"version\": 1", "\"version\": 2"),
        good.replace("\"version\": 1", "\"version\": \"1\""),
        good.replace("\"name\": \"web\"", "\"name\": \"other\""),
        good.replace("\"mode\": \"up\"", "\"mode\": \"open\""),
        good.replace("\"mode\": \"up\",", ""),
        good.replace("\"mode\"", "\"surprise\": 1, \"mode\""),
    ] {
        fs::write(&path, bad).unwrap();
        assert!(bundle.policy().is_err());
    }
    fs::write(&path, good).unwrap();
    bundle.policy().unwrap();
}

#[test]
fn files_are_private_whatever_the_umask() {
    let (_directory, bundle) = bundle();
    let lock = bundle.lock().unwrap();
    bundle.set_resolved(&lock, &ResolvedFile::default()).unwrap();
    for entry in fs::read_dir(bundle.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[test]
fn a_refusal_is_noted_in_the_bundle_or_beside_it() {
    let (directory, bundle) = bundle();
    let state = directory.path().join("state");
    note_refusal(&state, Some(bundle.name()), "no\nway");
    assert!(refusal(&state, bundle.name()).unwrap().ends_with("no way"));
    note_refusal(&state, Some(&"other".parse().unwrap()), "unknown");
    assert!(
        fs::read_to_string(state.join("hook-error.log"))
            .unwrap()
            .contains("unknown")
    );
}

#[test]
fn names_are_stale_when_they_expire_or_expire_too_late() {
    use std::time::{Duration, SystemTime};
    let now = SystemTime::now();
    let mut resolved = ResolvedFile::default();
    resolved.put("short".into(), Vec::new(), now, Duration::from_secs(60));
    resolved.put("late".into(), Vec::new(), now, Duration::from_secs(7200));
    let names = ["short", "late", "missing"].map(str::to_owned);
    assert_eq!(resolved.stale(&names, now), ["late", "missing"]);
    assert_eq!(resolved.stale(&names, now + Duration::from_secs(61)).len(), 3);
    assert!(resolved.forget_stale(now, &std::collections::BTreeSet::new()));
    assert_eq!(resolved.names.keys().collect::<Vec<_>>(), ["short"]);
}
