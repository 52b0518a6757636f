use super::*;
use std::os::unix::fs::symlink;

struct Place {
    root: tempfile::TempDir,
    set: HookSet,
    program: PathBuf,
}

fn place() -> Place {
    let root = tempfile::tempdir().unwrap();
    let base = fs::canonicalize(root.path()).unwrap();
    let conf = ConfPaths {
        vendor: base.join("vendor.conf"),
        admin: base.join("etc.conf"),
        user: base.join("home/containers.conf"),
        only: None,
        last: None,
        uid: 1000,
    };
    let program = base.join("terok-shield");
    executable(&program);
    let set = HookSet::at(
        Scope::User,
        base.join("data/terok/shield/hooks.d"),
        base.join("data/terok/shield/precreate.d"),
        conf,
    );
    Place { root, set, program }
}

fn executable(path: &Path) {
    fs::write(path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn outcomes(changes: &[Change]) -> Vec<Outcome> {
    changes.iter().map(|change| change.outcome).collect()
}

fn kinds(findings: &[Finding]) -> Vec<FindingKind> {
    findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn installing_writes_three_hooks_and_lists_both_directories_once() {
    let Place {
        root: _root,
        set,
        program,
    } = place();
    let report = set.install(&program).unwrap();
    assert_eq!(outcomes(&report.changes), [Outcome::Changed; 4]);
    assert_eq!(report.findings, []);
    let again = set.install(&program).unwrap();
    assert_eq!(outcomes(&again.changes), [Outcome::Unchanged; 4]);
    for (path, stage) in set.files() {
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "version": "1.0.0",
                "hook": {
                    "path": program.to_str().unwrap(),
                    "args": ["terok-shield", "hook", stage],
                    "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                    "timeout": 30
                },
                "when": {"annotations": {"^terok\\.shield\\.profiles$": ".*"}},
                "stages": [stage]
            })
        );
        assert_eq!(mode(&path), 0o644);
        assert_eq!(mode(path.parent().unwrap()), 0o755);
    }
}

#[test]
fn the_hook_names_the_program_and_not_a_link_to_it() {
    let Place { root, set, program } = place();
    let link = root.path().join("link");
    symlink(&program, &link).unwrap();
    set.install(&link).unwrap();
    assert_eq!(set.verify(&program), []);
    assert_eq!(set.verify(&link), []);
}

#[test]
fn uninstalling_leaves_what_was_there_before() {
    let Place {
        root: _root,
        set,
        program,
    } = place();
    fs::create_dir_all(set.conf.user.parent().unwrap()).unwrap();
    fs::write(&set.conf.user, "# mine\n").unwrap();
    set.install(&program).unwrap();
    let foreign = set.hooks_dir.join("other.json");
    fs::write(&foreign, "{}").unwrap();
    fs::write(set.hooks_dir.join(HOOK_FILE_POSTSTOP), "{}").unwrap();
    let report = set.uninstall();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert_eq!(
        outcomes(&report.changes),
        [Outcome::Changed, Outcome::Removed, Outcome::Kept, Outcome::Removed]
    );
    assert_eq!(fs::read_to_string(&set.conf.user).unwrap(), "# mine\n");
    assert!(foreign.exists() && !set.precreate_dir.exists());
    assert_eq!(outcomes(&set.uninstall().changes), [Outcome::Kept]);
}

#[test]
fn uninstalling_removes_a_containers_conf_that_was_only_ours() {
    let Place {
        root: _root,
        set,
        program,
    } = place();
    set.install(&program).unwrap();
    assert_eq!(outcomes(&set.uninstall().changes), [Outcome::Removed; 4]);
    assert!(!set.conf.user.exists() && !set.hooks_dir.parent().unwrap().exists());
    assert!(set.uninstall().changes.is_empty());
}

#[test]
fn uninstalling_goes_on_after_an_error() {
    let Place {
        root: _root,
        set,
        program,
    } = place();
    set.install(&program).unwrap();
    fs::write(&set.conf.user, "[engine").unwrap();
    let report = set.uninstall();
    assert_eq!(report.errors.len(), 1);
    assert_eq!(outcomes(&report.changes), [Outcome::Removed; 3]);
}

#[test]
fn a_malformed_containers_conf_keeps_everything_from_being_written() {
    let Place {
        root: _root,
        set,
        program,
    } = place();
    fs::create_dir_all(set.conf.user.parent().unwrap()).unwrap();
    fs::write(&set.conf.user, "[engine").unwrap();
    assert!(set.install(&program).is_err());
    assert!(!set.is_present());
}

#[test]
fn a_failed_write_puts_back_the_hooks_written_before() {
    let Place {
        root: _root,
        set,
        program,
    } = place();
    fs::create_dir_all(&set.hooks_dir).unwrap();
    let first = set.hooks_dir.join(HOOK_FILE_CREATE_RUNTIME);
    fs::write(&first, "old").unwrap();
    fs::write(&set.precreate_dir, "in the way").unwrap();
    assert!(set.install(&program).is_err());
    assert_eq!(fs::read(&first).unwrap(), b"old");
    assert!(!set.hooks_dir.join(HOOK_FILE_POSTSTOP).exists() && !set.conf.user.exists());
}

#[test]
fn nothing_is_installed_for_a_program_that_podman_would_pass_over() {
    let Place { root, set, program } = place();
    assert!(set.install(&root.path().join("absent")).is_err());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(
        set.install(&program)
            .unwrap_err()
            .to_string()
            .contains("not an executable file")
    );
    assert!(set.install(root.path()).is_err());
    assert!(!set.is_present());
}

#[test]
fn verify_finds_what_would_keep_podman_from_running_the_hooks() {
    let Place { root, set, program } = place();
    assert_eq!(
        kinds(&set.verify(&program)),
        [
            FindingKind::Missing,
            FindingKind::Missing,
            FindingKind::Missing,
            FindingKind::NotListed,
            FindingKind::NotListed
        ]
    );
    set.install(&program).unwrap();
    let only = |kind, text: &str| {
        let findings = set.verify(&program);
        assert!(
            findings
                .iter()
                .any(|finding| finding.kind == kind && finding.message.contains(text)),
            "{text}: {findings:?}"
        );
        assert!(
            findings
                .iter()
                .all(|finding| finding.kind == kind && !finding.message.contains('\n')),
            "{findings:?}"
        );
        findings
    };
    let hook = set.hooks_dir.join(HOOK_FILE_CREATE_RUNTIME);

    fs::remove_file(&hook).unwrap();
    assert_eq!(
        only(FindingKind::Missing, "createRuntime.json is missing")[0]
            .mend
            .as_deref(),
        Some("terok-shield setup --user")
    );
    set.install(&program).unwrap();

    let other = root.path().join("other");
    executable(&other);
    set.install(&other).unwrap();
    only(FindingKind::Differs, "/other, not ");
    fs::remove_file(&other).unwrap();
    only(FindingKind::Differs, "/other, which is missing, not ");
    set.install(&program).unwrap();

    fs::write(&hook, "{}").unwrap();
    only(FindingKind::Differs, "is not terok-shield's");
    set.install(&program).unwrap();

    fs::set_permissions(&hook, fs::Permissions::from_mode(0o664)).unwrap();
    only(FindingKind::Writable, "can be written by others");
    set.install(&program).unwrap();
    fs::set_permissions(&set.precreate_dir, fs::Permissions::from_mode(0o775)).unwrap();
    only(FindingKind::Writable, "precreate.d can be written by others");
    fs::set_permissions(&set.precreate_dir, fs::Permissions::from_mode(0o755)).unwrap();

    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    only(FindingKind::Program, "not an executable file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let drop_in = PathBuf::from(format!("{}.d/50-x.conf", set.conf.user.display()));
    fs::create_dir(drop_in.parent().unwrap()).unwrap();
    fs::write(&drop_in, "[engine]\nhooks_dir = ['/elsewhere']\n").unwrap();
    let findings = only(FindingKind::NotListed, "50-x.conf; add it there");
    let edit = format!("${{EDITOR:-vi}} {}", drop_in.display());
    assert!(findings.iter().all(|finding| finding.mend.as_ref() == Some(&edit)));
    assert_eq!(set.install(&program).unwrap().findings, findings);
    fs::write(&drop_in, "[engine").unwrap();
    only(FindingKind::Unreadable, "50-x.conf:1:8");
    fs::remove_file(&drop_in).unwrap();

    fs::write(&set.conf.user, "").unwrap();
    assert!(
        only(FindingKind::NotListed, "no containers.conf sets hooks_dir")
            .iter()
            .all(|finding| finding.mend.is_some())
    );
    assert_eq!(set.install(&program).unwrap().findings, []);
}

#[test]
fn a_file_of_the_same_name_in_a_later_directory_masks_a_hook() {
    let Place { root, set, program } = place();
    set.install(&program).unwrap();
    let later = root.path().join("later");
    fs::create_dir(&later).unwrap();
    let text = fs::read_to_string(&set.conf.user)
        .unwrap()
        .replace("\"]", &format!("\", \"{}\"]", later.display()));
    fs::write(&set.conf.user, text).unwrap();
    assert_eq!(set.verify(&program), []);
    fs::write(later.join(HOOK_FILE_PRECREATE), "{}").unwrap();
    let findings = set.verify(&program);
    assert_eq!(kinds(&findings), [FindingKind::Masked]);
    assert!(
        findings[0].message.contains("later/terok-shield-precreate.json masks"),
        "{findings:?}"
    );
    // in a directory before ours it is masked itself
    fs::write(&set.conf.user, "").unwrap();
    fs::write(
        &set.conf.admin,
        format!("[engine]\nhooks_dir = ['{}']\n", later.display()),
    )
    .unwrap();
    assert_eq!(set.install(&program).unwrap().findings, []);
}

#[test]
fn a_home_behind_a_symbolic_link_is_the_same_directory() {
    let Place { root, set, program } = place();
    set.install(&program).unwrap();
    let link = root.path().join("link");
    symlink(set.hooks_dir.parent().unwrap(), &link).unwrap();
    let linked = HookSet::at(
        Scope::User,
        link.join("hooks.d"),
        link.join("precreate.d"),
        set.conf.clone(),
    );
    assert_eq!(linked.verify(&program), []);
}

#[test]
fn the_set_that_serves_is_the_one_without_findings() {
    let Place { root, set, program } = place();
    let base = root.path();
    let system = HookSet::at(
        Scope::Root,
        base.join("sys/hooks.d"),
        base.join("sys/precreate.d"),
        set.conf.clone(),
    );
    let sets = [set, system];
    let missing = serving(&sets, &program).unwrap_err();
    assert_eq!(missing[0].mend.as_deref(), Some("terok-shield setup --user"));
    assert_eq!(sets[1].install(&program).unwrap().findings, []);
    assert_eq!(serving(&sets, &program).unwrap().scope(), Scope::Root);
    // the user's own set repeats the system's directories before its own, and so it wins
    assert_eq!(sets[0].install(&program).unwrap().findings, []);
    assert_eq!(serving(&sets, &program).unwrap().scope(), Scope::User);
    assert_eq!(kinds(&sets[1].verify(&program)), [FindingKind::Masked; 3]);
    assert!(sets[0].uninstall().errors.is_empty());
    assert!(sets[1].uninstall().errors.is_empty());
    assert!(!sets[1].conf.admin.exists() && sets[1].hooks_dir.exists());
}

#[test]
fn the_directories_follow_the_environment() {
    let conf = ConfPaths::from_env(Path::new("/h"), 1000, |_| None);
    let set = HookSet::user(Path::new("/h"), conf.clone(), |_| None);
    assert_eq!(
        set.dirs(),
        [
            Path::new("/h/.local/share/terok/shield/hooks.d"),
            Path::new("/h/.local/share/terok/shield/precreate.d")
        ]
    );
    let set = HookSet::user(Path::new("/h"), conf.clone(), |_| Some("/d".into()));
    assert_eq!(set.dirs()[0], Path::new("/d/terok/shield/hooks.d"));
    assert_eq!(
        HookSet::root(conf).dirs(),
        [Path::new(DEFAULT_HOOKS_DIR), Path::new(ROOT_PRECREATE_DIR)]
    );
}
