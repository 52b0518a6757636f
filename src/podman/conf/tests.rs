use super::*;
use std::os::unix::fs::symlink;

const DEFAULT: &str = DEFAULT_HOOKS_DIR;

struct Place {
    _root: tempfile::TempDir,
    conf: ConfPaths,
}

fn place() -> Place {
    let root = tempfile::tempdir().unwrap();
    let base = root.path();
    let conf = ConfPaths {
        vendor: base.join("vendor/containers.conf"),
        admin: base.join("etc/containers.conf"),
        user: base.join("home/containers/containers.conf"),
        only: None,
        last: None,
        uid: 1000,
    };
    Place { _root: root, conf }
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn hooks(list: &str) -> String {
    format!("[engine]\nhooks_dir = [{list}]\n")
}

fn add(conf: &ConfPaths) -> Option<PathBuf> {
    let edit = conf.plan_add(&conf.user, &["/o/hooks.d", "/o/precreate.d"]).unwrap()?;
    edit.apply().unwrap();
    Some(edit.path().to_owned())
}

fn remove(conf: &ConfPaths) {
    if let Some(edit) = conf.plan_remove(&conf.user, &["/o/hooks.d", "/o/precreate.d"]).unwrap() {
        edit.apply().unwrap();
    }
}

#[test]
fn files_are_read_in_podmans_order_and_the_last_list_wins() {
    let Place { mut conf, _root } = place();
    let effective = |conf: &ConfPaths| conf.hooks_dirs().unwrap().dirs.join(" ");
    assert_eq!(effective(&conf), DEFAULT);
    let admin_d = with_d(&conf.admin);
    let rootless = conf.admin.with_file_name("containers.rootless.conf");
    let steps = [
        conf.vendor.clone(),
        conf.admin.clone(),
        admin_d.join("10-a.conf"),
        admin_d.join("20-a.conf"),
        rootless.clone(),
        with_d(&rootless).join("a.conf"),
        with_d(&rootless).join("1000/a.conf"),
        conf.user.clone(),
        with_d(&conf.user).join("a.conf"),
    ];
    for (number, path) in steps.iter().enumerate() {
        put(path, &hooks(&format!("'/{number}'")));
        assert_eq!(effective(&conf), format!("/{number}"));
        assert_eq!(conf.hooks_dirs().unwrap().set_by.as_deref(), Some(path.as_path()));
    }
    put(&with_d(&conf.user).join("z.conf.bak"), &hooks("'/not-read'"));
    put(&with_d(&conf.user).join("z.conf/x"), "");
    assert_eq!(effective(&conf), "/8");
    conf.last = Some(conf.vendor.with_file_name("last"));
    put(conf.last.as_ref().unwrap(), &hooks("'/last'"));
    assert_eq!(effective(&conf), "/last");
    conf.last = None;
    conf.only = Some(conf.vendor.with_file_name("only"));
    assert_eq!(effective(&conf), DEFAULT);
    conf.only = Some(PathBuf::from("/dev/null"));
    assert_eq!(effective(&conf), DEFAULT);
}

#[test]
fn options_of_every_network_that_open_the_host_are_found_whichever_file_has_them() {
    let Place { conf, _root } = place();
    conf.screen_network().unwrap();
    put(
        &conf.vendor,
        "[network]\npasta_options = ['-t', 'auto', '--map-host-loopback=169.254.1.2']\n\
         [engine]\nnetwork_cmd_options = ['enable_ipv6=true']\n",
    );
    conf.screen_network().unwrap();
    for bad in [
        "[network]\npasta_options = ['-T', '5432']",
        "[network]\npasta_options = ['-4', '--map-gw']",
        "[network]\npasta_options = ['--udp-ns=auto']",
        "[network]\npasta_options = ['--map-host-loopback', '10.0.2.2']",
        "[engine]\nnetwork_cmd_options = ['allow_host_loopback=true']",
    ] {
        put(&conf.user, bad);
        let error = conf.screen_network().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", conf.user.display())), "{error}");
        assert!(
            error.ends_with("; leave it out") || error.contains("may only be"),
            "{error}"
        );
    }
    // A later file takes it back.
    put(
        &with_d(&conf.user).join("z.conf"),
        "[engine]\nnetwork_cmd_options = []\n",
    );
    conf.screen_network().unwrap();
}

#[test]
fn podman_5s_append_attribute_holds_for_later_files() {
    let Place { conf, _root } = place();
    put(&conf.vendor, &hooks("'/v', {append=true}"));
    put(&conf.admin, &hooks("'/a'"));
    put(&conf.user, &hooks("'/u'"));
    assert_eq!(conf.hooks_dirs().unwrap().dirs, [DEFAULT, "/v", "/a", "/u"]);
    put(&conf.user, &hooks("'/u', {append=false}"));
    assert_eq!(conf.hooks_dirs().unwrap().dirs, ["/u"]);
}

#[test]
fn adding_keeps_what_was_effective_and_removing_gives_back_every_byte() {
    for text in [
        "",
        "\n",
        "# only a comment",
        "[engine]",
        "[engine]\n",
        "[engine] # mine\nruntime = \"crun\" # c\n\n[network]\n",
        "[engine]\r\nruntime = \"crun\"\r\n",
        "\u{feff}[engine]\r\n",
        "[containers]\nlog_driver = 'x'",
        "[containers]\nlog_driver = 'x'\n",
        "[engine.runtimes]\ncrun = ['/x']\n",
        "[engine.runtimes]\ncrun = ['/x']",
        "[engine]\nhooks_dir = []\n",
        "[engine]\nhooks_dir = [ ]",
        "[engine]\nhooks_dir=['/a']#x\n",
        "[engine]\nhooks_dir = [\n  '/a', # one\n  \"/b\" , # two\n]\n",
        "[engine]\nhooks_dir = [\n\t'/a'\n\t# end\n]\n",
        "[engine]\nhooks_dir = ['/a', {append=true}]\n",
        "engine.hooks_dir = ['/a']\n",
        "engine = { hooks_dir = ['/a'] }\n",
    ] {
        let Place { conf, _root } = place();
        put(&conf.vendor, &hooks("'/system'"));
        put(&conf.user, text);
        let before = conf.hooks_dirs().unwrap().dirs;
        assert_eq!(add(&conf).as_deref(), Some(conf.user.as_path()), "{text:?}");
        let mut wanted = before.clone();
        wanted.extend(["/o/hooks.d".to_owned(), "/o/precreate.d".to_owned()]);
        assert_eq!(conf.hooks_dirs().unwrap().dirs, wanted, "{text:?}");
        assert_eq!(add(&conf), None, "{text:?}: a second time changes nothing");
        remove(&conf);
        assert_eq!(fs::read_to_string(&conf.user).unwrap(), text);
        remove(&conf);
        assert_eq!(fs::read_to_string(&conf.user).unwrap(), text);
    }
}

#[test]
fn a_file_of_our_own_comes_and_goes() {
    let Place { conf, _root } = place();
    add(&conf);
    assert_eq!(
        fs::read_to_string(&conf.user).unwrap(),
        format!(
            "[engine]\n# This file was added by terok-shield setup.\nhooks_dir = [\"{DEFAULT}\", \"/o/hooks.d\", \"/o/precreate.d\"]\n"
        )
    );
    assert_eq!(fs::metadata(&conf.user).unwrap().permissions().mode() & 0o7777, 0o644);
    remove(&conf);
    assert!(!conf.user.exists());
}

#[test]
fn what_the_user_added_to_our_file_stays() {
    let Place { conf, _root } = place();
    for (from, to, left) in [
        (
            "hooks_dir",
            "runtime = 'crun'\nhooks_dir",
            "[engine]\n# This file was added by terok-shield setup.\nruntime = 'crun'\nhooks_dir",
        ),
        (
            "\"/o/hooks.d\"",
            "\"/mine\", \"/o/hooks.d\"",
            "[engine]\nhooks_dir = [\"/usr/share/containers/oci/hooks.d\", \"/mine\"]\n",
        ),
        ("]\n# T", "]\nruntime = 'crun'\n# T", ""),
        ("d\"]\n", "d\"]\nruntime = 'crun'\n", "[engine]\nruntime = 'crun'\n"),
        ("d\"]\n", "d\"]\n[network]\nx = 1\n", "[network]\nx = 1\n"),
    ] {
        add(&conf);
        let text = fs::read_to_string(&conf.user).unwrap().replace(from, to);
        fs::write(&conf.user, &text).unwrap();
        remove(&conf);
        let rest = fs::read_to_string(&conf.user).unwrap();
        assert!(!rest.contains("/o/"), "{text}\n->\n{rest}");
        assert!(parse(&conf.user, &rest).is_ok());
        assert!(rest.contains("crun") || rest == left, "{text}\n->\n{rest}");
        fs::remove_file(&conf.user).unwrap();
    }
}

#[test]
fn entries_that_were_moved_about_are_taken_out_and_the_rest_stays_a_list() {
    for (list, left) in [
        ("'/o/hooks.d', '/a', '/o/precreate.d'", "'/a'"),
        ("'/o/hooks.d', '/o/precreate.d', '/a'", "'/a'"),
        ("'/o/hooks.d', '/o/precreate.d'", ""),
        ("'/o/hooks.d'", ""),
        ("'/a', '/o/hooks.d', '/b', '/o/precreate.d', '/c',", "'/a', '/b', '/c',"),
        ("'/a', # keep\n'/o/hooks.d',\n", "'/a', # keep\n\n"),
        ("'/o/hooks.d', # keep\n'/a'", " # keep\n'/a'"),
    ] {
        let Place { conf, _root } = place();
        put(&conf.user, &hooks(list));
        remove(&conf);
        assert_eq!(fs::read_to_string(&conf.user).unwrap(), hooks(left), "{list}");
        conf.hooks_dirs().unwrap();
    }
}

#[test]
fn malformed_files_are_errors_with_a_place_and_are_not_touched() {
    for (text, place_in_text) in [
        ("[engine\n", ":1:8: "),
        ("[containers]\n\nx = = 1\n", ":3:5: "),
        ("a = 1\n[engine]\nhooks_dir = 'x'\n", ":3:13: "),
        ("[engine]\nhooks_dir = [1]\n", ":2:14: "),
        ("[engine]\nhooks_dir = [{frob=true}]\n", ":2:14: "),
        ("\u{e4}=1\n", ":1:1: "),
        ("engine = 1\n", ":1:10: "),
        ("[[engine]]\n", ":1:1: "),
    ] {
        let Place { conf, _root } = place();
        put(&conf.user, text);
        for message in [
            conf.plan_add(&conf.user, &["/o"]).unwrap_err().to_string(),
            conf.plan_remove(&conf.user, &["/o"]).unwrap_err().to_string(),
            conf.hooks_dirs().unwrap_err().to_string(),
        ] {
            assert!(
                message.contains(&format!("containers.conf{place_in_text}")),
                "{text:?}: {message}"
            );
            assert!(!message.contains('\n'), "{message}");
        }
        assert_eq!(fs::read_to_string(&conf.user).unwrap(), text);
    }
    let Place { conf, _root } = place();
    put(&conf.user, "");
    fs::write(&conf.user, b"[engine]\n\xff").unwrap();
    assert!(conf.hooks_dirs().unwrap_err().to_string().contains(":2:1: not UTF-8"));
    put(&conf.user, &"#".repeat((1 << 20) + 1));
    assert!(conf.hooks_dirs().is_err());
}

#[test]
fn forms_that_are_not_edited_are_errors_that_say_what_to_add() {
    for text in ["engine.runtime = 'crun'\n", "engine = { runtime = 'crun' }\n"] {
        let Place { conf, _root } = place();
        put(&conf.user, text);
        let message = conf
            .plan_add(&conf.user, &["/o/hooks.d", "/p"])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("add \"/o/hooks.d\" and \"/p\" to hooks_dir of [engine] by hand"),
            "{message}"
        );
    }
}

#[test]
fn a_symbolic_link_is_written_through_and_keeps_its_targets_mode() {
    let Place { conf, _root } = place();
    let target = conf.vendor.with_file_name("dotfiles.conf");
    put(&target, "# mine\n");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir_all(conf.user.parent().unwrap()).unwrap();
    symlink(&target, &conf.user).unwrap();
    assert_eq!(add(&conf).unwrap(), fs::canonicalize(&target).unwrap());
    assert!(conf.user.is_symlink());
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(conf.hooks_dirs().unwrap().dirs.contains(&"/o/precreate.d".to_owned()));
    fs::remove_file(&target).unwrap();
    let message = conf.plan_add(&conf.user, &["/o"]).unwrap_err().to_string();
    assert!(message.contains("a symbolic link to nothing"), "{message}");
}

#[test]
fn the_paths_follow_the_environment() {
    let conf = ConfPaths::from_env(Path::new("/h"), 0, |_| None);
    assert_eq!(conf.user_target(), Path::new("/h/.config/containers/containers.conf"));
    let conf = ConfPaths::from_env(Path::new("/h"), 0, |name| match name {
        "XDG_CONFIG_HOME" => Some("/c".into()),
        "CONTAINERS_CONF" => Some("".into()),
        _ => Some("/o".into()),
    });
    assert_eq!(conf.user_target(), Path::new("/c/containers/containers.conf"));
    assert_eq!(conf.last.as_deref(), Some(Path::new("/o")));
    let conf = ConfPaths::from_env(Path::new("/h"), 0, |_| Some("/x".into()));
    assert_eq!(conf.user_target(), Path::new("/x"));
}
