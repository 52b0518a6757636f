use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn paths(variables: &[(&str, &str)], is_root: bool) -> Result<Paths, ConfigError> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    Paths::from(|name| variables.get(name).map(OsString::from), is_root)
}

fn both(state: &str, config: &str) -> Paths {
    Paths {
        state: state.into(),
        config: config.into(),
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A configuration directory that nobody else can write, with this file in it.
fn directory(text: &str) -> (tempfile::TempDir, Paths) {
    let directory = tempfile::tempdir().unwrap();
    chmod(directory.path(), 0o700);
    let paths = both("/nonexistent", directory.path().to_str().unwrap());
    fs::write(paths.config_file(), text).unwrap();
    chmod(&paths.config_file(), 0o644);
    (directory, paths)
}

#[test]
fn a_variable_of_ours_goes_before_xdg_and_xdg_before_home() {
    let home = ("HOME", "/home/u");
    assert_eq!(
        paths(&[home], false).unwrap(),
        both("/home/u/.local/state/terok/shield", "/home/u/.config/terok/shield")
    );
    let xdg = [home, ("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "/c")];
    assert_eq!(paths(&xdg, false).unwrap(), both("/s/terok/shield", "/c/terok/shield"));
    let own = [
        xdg[1],
        xdg[2],
        ("TEROK_SHIELD_STATE_DIR", "/own/s"),
        ("TEROK_SHIELD_CONFIG_DIR", "/own/c"),
    ];
    assert_eq!(paths(&own, false).unwrap(), both("/own/s", "/own/c"));
    assert_eq!(paths(&own, true).unwrap(), both("/own/s", "/own/c"));
}

#[test]
fn root_has_the_systems_directories_whatever_xdg_says() {
    let system = both("/var/lib/terok-shield", "/etc/terok-shield");
    assert_eq!(paths(&[], true).unwrap(), system);
    assert_eq!(
        paths(&[("XDG_STATE_HOME", "/s"), ("HOME", "/root")], true).unwrap(),
        system
    );
}

#[test]
fn relative_paths_and_a_missing_home_are_errors_and_empty_ones_count_as_unset() {
    for variable in ["HOME", "XDG_STATE_HOME", "TEROK_SHIELD_STATE_DIR"] {
        let error = paths(&[(variable, "x/y")], false).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{variable}=\"x/y\" is not")), "{error}");
    }
    assert!(matches!(paths(&[("HOME", "")], false), Err(ConfigError::NoHome { .. })));
}

#[test]
fn the_parts_lie_where_the_design_says() {
    let paths = both("/s", "/c");
    assert_eq!(paths.bundle(&"box".parse().unwrap()), Path::new("/s/containers/box"));
    assert_eq!(paths.profiles(), Path::new("/c/profiles"));
}

#[test]
fn a_missing_file_means_the_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let paths = both("/nonexistent", directory.path().to_str().unwrap());
    let config = Config::load(&paths).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.profiles[0].as_str(), "dev-standard");
    assert_eq!(config.refuse, Refuse::Reset);
}

#[test]
fn every_key_is_read() {
    let (_directory, paths) = directory(
        "dns = \"static\"\nrefuse = \"icmp\"\nprofiles = [\"base\", \"dev-python\"]\nannotations = \"few\"\n",
    );
    let config = Config::load(&paths).unwrap();
    assert_eq!(config.refuse, Refuse::Icmp);
    assert_eq!(config.annotations, Some(Annotations::Few));
    assert_eq!(Config::default().annotations, None);
    assert_eq!(config.profiles.len(), 2);
}

#[test]
fn what_is_wrong_is_said_on_one_line_with_its_place() {
    for (text, start) in [
        ("dns = \"static\"\nrefus = \"icmp\"", "c:2:1: unknown field `refus`"),
        ("\n  dns = \"agent\"", "c:2:9: `agent` is not available"),
        ("dns = \"x\"", "c:1:7: unknown variant `x`"),
        ("refuse = \"drop\"", "c:1:10: unknown variant `drop`"),
        ("profiles = [\"a\", \"../b\"]", "c:1:12: profile name \"../b\""),
        ("annotations = \"most\"", "c:1:15: unknown variant `most`"),
        ("profiles = \"a\"", "c:1:12: invalid type"),
        ("dns = ", "c:1:"),
        ("dns = \"static\"\ndns = \"static\"", "c:2:1: duplicate key"),
    ] {
        let error = Config::parse("c", text).unwrap_err().to_string();
        assert!(error.starts_with(start), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_place() {
    let (_directory, paths) = directory("");
    fs::write(paths.config_file(), b"# \xc3\xa4\n# \xff").unwrap();
    let error = Config::load(&paths).unwrap_err().to_string();
    assert!(error.ends_with(":2:3: the file is not UTF-8 from here on"), "{error}");
}

#[test]
fn a_file_or_directory_that_others_can_write_is_refused() {
    let (directory, paths) = directory("");
    for mode in [0o664, 0o646] {
        chmod(&paths.config_file(), mode);
        let error = Config::load(&paths).unwrap_err().to_string();
        assert!(error.contains("config.toml: writable by others"), "{error}");
    }
    chmod(&paths.config_file(), 0o600);
    chmod(directory.path(), 0o777);
    let error = Config::load(&paths).unwrap_err().to_string();
    assert!(error.contains("(mode 0777); use chmod go-w"), "{error}");
    assert!(!error.contains("config.toml"), "{error}");
}

#[test]
fn a_file_of_another_user_is_refused_and_one_of_root_is_not() {
    let directory = tempfile::tempdir().unwrap();
    chmod(directory.path(), 0o700);
    let metadata = fs::metadata(directory.path()).unwrap();
    let owner = metadata.uid();
    assert_eq!(distrust(&metadata, owner), None);
    assert_eq!(distrust(&metadata, owner + 1).is_none(), owner == 0);
    let root = fs::metadata("/proc/self/uid_map").unwrap();
    assert_eq!(distrust(&root, root.uid()), None);
}

#[test]
fn what_is_no_regular_file_or_too_large_is_refused_without_waiting() {
    let (_directory, paths) = directory(&"#".repeat(MAX_CONFIG_BYTES + 1));
    assert!(Config::load(&paths).unwrap_err().to_string().contains("larger than"));
    fs::remove_file(paths.config_file()).unwrap();
    nix::unistd::mkfifo(&paths.config_file(), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(Config::load(&paths).unwrap_err().to_string().contains("regular file"));
    fs::remove_file(paths.config_file()).unwrap();
    fs::create_dir(paths.config_file()).unwrap();
    assert!(Config::load(&paths).unwrap_err().to_string().contains("regular file"));
}
