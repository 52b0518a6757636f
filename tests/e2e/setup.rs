//! Hooks that install themselves, and go without a trace.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::lab::{Container, IMAGE};
use crate::probe::web;
use crate::user::{FreshUser, User};

tests![
    run_installs_missing_hooks_by_itself_and_says_so_in_one_line,
    prepare_installs_missing_hooks_by_itself_and_says_so_in_one_line,
    what_the_user_has_in_containers_conf_stays_and_uninstall_puts_it_back_byte_for_byte,
    a_containers_conf_that_cannot_be_edited_is_left_alone_and_nothing_starts,
    setup_twice_changes_nothing,
    check_environment_says_ready_or_names_the_command_that_mends,
    hooks_that_were_damaged_are_mended_by_the_next_run,
    the_line_of_prepare_goes_through_eval_and_its_json_into_an_argument_list,
    directories_of_the_users_own_choice_serve,
];

fn installed(user: &User) -> bool {
    [
        "hooks.d/terok-shield-createRuntime.json",
        "hooks.d/terok-shield-poststop.json",
        "precreate.d/terok-shield-precreate.json",
    ]
    .iter()
    .all(|file| user.hooks().join(file).exists())
}

fn run_installs_missing_hooks_by_itself_and_says_so_in_one_line() {
    let user = FreshUser::new();
    user.profile("first", "203.0.113.10\n2001:db8::10\n");
    let container = Container::named(&user, "first");
    let line = [
        "run",
        "first",
        "--profiles",
        "first",
        "--",
        "-d",
        IMAGE,
        "sleep",
        "100000",
    ];
    let output = user.shield(&line).ok();
    let said = output.one_line();
    assert!(
        said.contains("installed") && said.contains(user.hooks().to_str().unwrap()),
        "{output:#?}"
    );
    assert_eq!(output.text().len(), 64, "{output:#?}");
    assert!(installed(&user));
    container.is("up");
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
    container.is_refused(&web(&["203.0.113.11", "2001:db8::11"]));
    // From then on there is nothing to say.
    let again = user
        .shield(&["run", "second", "--profiles", "first", "--", "--rm", IMAGE, "true"])
        .ok();
    assert_eq!(again.err, "");
    // Nobody else may write what decides about containers.
    for directory in ["hooks.d", "precreate.d"] {
        let mode = user.hooks().join(directory).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{directory} has {mode:o}");
    }
}

fn prepare_installs_missing_hooks_by_itself_and_says_so_in_one_line() {
    let user = FreshUser::new();
    user.profile("first", "203.0.113.10\n2001:db8::10\n");
    let output = user.shield(&["prepare", "first", "--profiles", "first"]).ok();
    assert!(output.one_line().contains("installed"), "{output:#?}");
    assert_eq!(output.out.lines().count(), 1);
    assert!(installed(&user));
    let again = user.shield(&["prepare", "first", "--profiles", "first"]).ok();
    // All but the proof, which is another one for each launch.
    let without_proof = |line: &str| {
        let (before, after) = line.split_once("terok.shield.launch=").unwrap();
        (before.to_owned(), after.split_once(' ').unwrap().1.to_owned())
    };
    assert_eq!(again.err, "");
    assert_ne!(again.out, output.out);
    assert_eq!(without_proof(&again.out), without_proof(&output.out));
}

fn what_the_user_has_in_containers_conf_stays_and_uninstall_puts_it_back_byte_for_byte() {
    let user = FreshUser::new();
    let conf = user.containers_conf();
    let own = user.home.join("own-hooks.d");
    user.make_directory(&own);
    let own = own.display();
    let texts = [
        String::new(),
        "\n\n".to_owned(),
        "# nothing but a remark".to_owned(),
        "[containers]\nlog_size_max = 1000000 # bytes\n".to_owned(),
        "[engine]\n# my runtime\nruntime = \"crun\"\n\n[containers]\ntz = \"local\"\n".to_owned(),
        format!("[engine]\nhooks_dir = [\"{own}\"]\n"),
        format!("[engine]\nhooks_dir=['{own}',]# mine\n"),
        format!("# a\n[engine] # b\n  hooks_dir = [ # c\n    \"{own}\", # d\n\n    # e\n  ]\n# f\n\n\n[network]\n"),
        "[engine]\r\n# windows\r\nnum_locks = 2048\r\n".to_owned(),
        format!("engine.hooks_dir = [\"{own}\"]\n"),
        "[network]\n[engine]".to_owned(),
        "[engine]\nhooks_dir = []\n".to_owned(),
    ];
    for text in texts {
        user.write(&conf, &text);
        fs::set_permissions(&conf, fs::Permissions::from_mode(0o640)).unwrap();
        user.shield(&["setup", "--user"]).ok();
        let edited = fs::read_to_string(&conf).unwrap();
        // Every line that was there is there, in order; the list of hooks apart.
        let mut rest = edited.lines();
        for line in text.lines().filter(|line| !line.contains("hooks")) {
            assert!(
                rest.any(|found| found.trim_end() == line.trim_end()),
                "{line:?} of {text:?} in {edited:?}"
            );
        }
        if text.contains("own-hooks.d") {
            assert!(edited.contains("own-hooks.d"), "{edited:?}");
        }
        // Podman reads it, and runs the hooks.
        let container = Container::start(&user, "uninstall", "203.0.113.10\n2001:db8::10\n", &[]);
        container.is("up");
        container.remove();
        let output = user.shield(&["setup", "--uninstall"]).ok();
        assert_eq!(output.err, "", "{output:#?}");
        assert_eq!(fs::read_to_string(&conf).unwrap(), text, "{edited:?}");
        assert_eq!(conf.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert!(!user.hooks().join("hooks.d").exists() && !user.hooks().join("precreate.d").exists());
    }
    // Where there was no file there is none, and a link stays one.
    fs::remove_file(&conf).unwrap();
    user.shield(&["setup", "--user"]).ok();
    assert!(conf.exists());
    user.shield(&["setup", "--uninstall"]).ok();
    assert!(!conf.exists());
    let target = user.home.join("dotfiles/containers.conf");
    user.write(&target, "[engine]\nnum_locks = 2048\n");
    symlink(&target, &conf).unwrap();
    user.shield(&["setup", "--user"]).ok();
    assert!(conf.is_symlink());
    user.shield(&["setup", "--uninstall"]).ok();
    assert!(conf.is_symlink());
    assert_eq!(fs::read_to_string(&target).unwrap(), "[engine]\nnum_locks = 2048\n");
    // Twice is once.
    user.shield(&["setup", "--uninstall"]).ok();
}

fn a_containers_conf_that_cannot_be_edited_is_left_alone_and_nothing_starts() {
    let user = FreshUser::new();
    user.profile("plain", "");
    let conf = user.containers_conf();
    for text in [
        "[engine\n",
        "[engine]\nhooks_dir = 7\n",
        "[engine]\nhooks_dir = [7]\n",
        "engine = 1\n",
        "\u{0}",
    ] {
        user.write(&conf, text);
        for line in [
            &["run", "uneditable", "--profiles", "plain", "--", "--rm", IMAGE, "true"][..],
            &["prepare", "uneditable", "--profiles", "plain"],
            &["setup", "--user"],
        ] {
            let output = user.shield(line);
            assert!(
                output.code == 4 || (output.code == 125 && line[0] == "run"),
                "{text:?}: {output:#?}"
            );
            assert!(output.one_line().contains("containers.conf"), "{output:#?}");
            assert_eq!(output.out, "");
        }
        assert_eq!(fs::read_to_string(&conf).unwrap(), text);
        assert!(!installed(&user));
    }
    fs::remove_file(conf).unwrap();
}

fn setup_twice_changes_nothing() {
    let user = FreshUser::new();
    user.shield(&["setup", "--user"]).ok();
    let files = || -> Vec<_> {
        let mut paths = vec![user.containers_conf()];
        for directory in ["hooks.d", "precreate.d"] {
            let entries = fs::read_dir(user.hooks().join(directory)).unwrap();
            paths.extend(entries.map(|entry| entry.unwrap().path()));
        }
        paths.sort();
        paths
            .into_iter()
            .map(|path| {
                (
                    fs::read(&path).unwrap(),
                    path.metadata().unwrap().modified().unwrap(),
                    path,
                )
            })
            .collect()
    };
    let before = files();
    assert_eq!(before.len(), 4);
    let output = user.shield(&["setup"]).ok();
    assert_eq!(
        output.out.lines().filter(|line| line.starts_with("unchanged ")).count(),
        4,
        "{output:#?}"
    );
    assert_eq!(files(), before);
    let other = user.shield(&["setup", "--root"]).code(4);
    assert!(other.one_line().contains("root"), "{other:#?}");
}

fn check_environment_says_ready_or_names_the_command_that_mends() {
    let user = FreshUser::with_own_program();
    let ready = user.shield(&["check-environment", "--json"]).ok();
    assert_eq!(ready.json()["ready"], true, "{ready:#?}");
    user.shield(&["check-environment"]).ok();
    let conf = fs::read_to_string(user.containers_conf()).unwrap();
    let create = user.hooks().join("hooks.d/terok-shield-createRuntime.json");
    let good = fs::read_to_string(&create).unwrap();
    for (what, damage) in [
        ("a hook file is missing", (&create, None)),
        (
            "a hook file was changed",
            (&create, Some(good.replace("createRuntime", "poststop"))),
        ),
        ("containers.conf is missing", (&user.containers_conf(), None)),
        (
            "containers.conf says another directory",
            (
                &user.containers_conf(),
                Some("[engine]\nhooks_dir = [\"/nowhere\"]\n".to_owned()),
            ),
        ),
    ] {
        match damage {
            (path, None) => fs::remove_file(path).unwrap(),
            (path, Some(text)) => user.write(path, text),
        }
        let found = user.shield(&["check-environment", "--json"]).code(4).json();
        assert_eq!(found["ready"], false, "{what}");
        let mends: Vec<&str> = found["checks"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|check| check["mend"].as_str())
            .collect();
        assert_eq!(mends, ["terok-shield setup --user"], "{what}");
        let text = user.shield(&["check-environment"]).code(4);
        assert!(text.out.contains("terok-shield setup --user"), "{text:#?}");
        user.sh(&mends[0].replace("terok-shield", &user.program)).ok();
        assert_eq!(
            user.shield(&["check-environment", "--json"]).ok().json()["ready"],
            true,
            "{what}"
        );
    }
    assert_eq!(fs::read_to_string(&create).unwrap(), good);
    user.shield(&["setup", "--uninstall"]).ok();
    user.shield(&["check-environment", "--json"]).code(4);
    assert!(conf.contains("hooks_dir"));
}

fn hooks_that_were_damaged_are_mended_by_the_next_run() {
    let user = FreshUser::with_hooks();
    let create = user.hooks().join("hooks.d/terok-shield-createRuntime.json");
    let good = fs::read_to_string(&create).unwrap();
    let damages: [&dyn Fn(); 4] = [
        &|| fs::remove_file(&create).unwrap(),
        &|| fs::remove_dir_all(user.hooks()).unwrap(),
        &|| fs::remove_file(user.containers_conf()).unwrap(),
        &|| user.write(&create, good.replace("/usr/local/bin", "/usr/bin")),
    ];
    for damage in damages {
        damage();
        user.profile("mended", "203.0.113.10\n");
        let container = Container::named(&user, "mended");
        let line = [
            "run",
            "mended",
            "--profiles",
            "mended",
            "--",
            "-d",
            IMAGE,
            "sleep",
            "100000",
        ];
        let output = user.shield(&line).ok();
        assert!(output.one_line().contains("installed"), "{output:#?}");
        container.is("up");
        container.is_refused(&web(&["203.0.113.11", "2001:db8::11"]));
    }
    assert_eq!(fs::read_to_string(&create).unwrap(), good);
    // What masks our hook file is somebody else's: it is named, and nothing starts.
    let later = user.home.join("later.d");
    user.write(&later.join("terok-shield-createRuntime.json"), "{}");
    let conf = fs::read_to_string(user.containers_conf()).unwrap();
    let end = conf.rfind(']').unwrap();
    user.write(
        &user.containers_conf(),
        format!("{}, \"{}\"]\n", &conf[..end], later.display()),
    );
    let masked = user
        .shield(&["run", "masked", "--profiles", "mended", "--", "--rm", IMAGE, "true"])
        .code(125);
    assert!(masked.one_line().contains("later.d"), "{masked:#?}");
    user.shield(&["prepare", "masked", "--profiles", "mended"]).code(4);
}

fn the_line_of_prepare_goes_through_eval_and_its_json_into_an_argument_list() {
    let user = User::shared();
    user.profile("prepared", "203.0.113.10\n2001:db8::10\n");
    let container = Container::named(&user, "prepared");
    for line in [
        format!("eval \"podman run -d $(terok-shield prepare prepared --profiles prepared) {IMAGE} sleep 100000\""),
        format!("podman run -d $(terok-shield prepare prepared --profiles prepared) {IMAGE} sleep 100000"),
    ] {
        user.sh(&line).ok();
        container.is("up");
        container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
        container.is_refused(&web(&["203.0.113.11", "2001:db8::11"]));
        container.remove();
    }
    let output = user
        .shield(&[
            "prepare",
            "prepared",
            "--profiles",
            "prepared",
            "--json",
            "--allow",
            "203.0.113.11:80",
        ])
        .ok();
    assert_eq!(output.err, "");
    let json = output.json();
    let flags: Vec<&str> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|flag| flag.as_str().unwrap())
        .collect();
    user.podman(&[&["run", "-d"], &flags[..], &[IMAGE, "sleep", "100000"]].concat())
        .ok();
    container.is("up");
    container.reaches(&web(&["203.0.113.11"]));
    container.remove();
    // A path that a shell would split.
    let odd = user.home.join("it's a state");
    user.make_directory(&odd);
    let odd_user = user.with_variable("TEROK_SHIELD_STATE_DIR", odd.to_str().unwrap());
    let line =
        format!("eval \"podman run -d $(terok-shield prepare prepared --profiles prepared) {IMAGE} sleep 100000\"");
    let output = odd_user.sh(&line).ok();
    assert_eq!(output.err, "");
    let container = Container::named(&odd_user, "prepared");
    container.is("up");
    assert!(odd.join("containers/prepared/policy.json").exists());
}

fn directories_of_the_users_own_choice_serve() {
    let user = FreshUser::new();
    let at = |name: &str| user.home.join("my").join(name).to_str().unwrap().to_owned();
    let state = at("state/terok/shield");
    let mine = user
        .with_variable("XDG_CONFIG_HOME", &at("config"))
        .with_variable("XDG_STATE_HOME", &at("state"))
        // Only for the helpers of these tests, which look there.
        .with_variable("TEROK_SHIELD_STATE_DIR", &state);
    user.write(
        &user.home.join("my/config/terok/shield/profiles/chosen.txt"),
        "203.0.113.10\n2001:db8::10\n",
    );
    user.make_directory(&user.home.join("my/state/terok"));
    let container = Container::named(&mine, "chosen");
    let line = [
        "run",
        "chosen",
        "--profiles",
        "chosen",
        "--",
        "-d",
        IMAGE,
        "sleep",
        "100000",
    ];
    mine.shield(&line).ok();
    container.is("up");
    container.reaches(&web(&["203.0.113.10", "2001:db8::10"]));
    container.is_refused(&web(&["203.0.113.11", "2001:db8::11"]));
    assert!(user.home.join("my/config/containers/containers.conf").exists());
    assert!(!user.containers_conf().exists());
    container.remove();
    // They are protected wherever they are.
    for place in [
        "my/state/terok/shield",
        "my/config",
        "my",
        "my/config/terok/shield/profiles",
    ] {
        let mount = format!("{}:/x:ro", user.home.join(place).display());
        let line = [
            "run",
            "chosen",
            "--profiles",
            "chosen",
            "--",
            "--rm",
            "-v",
            &mount,
            IMAGE,
            "true",
        ];
        let output = mine.shield(&line).code(126);
        assert!(output.err.contains("shows the container"), "{place}: {output:#?}");
        container.remove();
    }
}
