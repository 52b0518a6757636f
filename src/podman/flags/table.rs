//! The flags of `podman run`, 4.3 to 5.x and what 6 is known to add, and which of them take a value.
//!
//! Compiled from `podman run --help` (4.3.1) and podman's `cmd/podman/common/create.go`, `netflags.go`, `containers/run.go`,
//! `root.go` (global flags are accepted after `run` too) and `utils/alias.go`. A flag that the installed podman doesn't have is
//! its own error to report; what matters here is that no version gives a flag of this table a different arity.

use super::rules::Rule;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arity {
    /// `--flag` alone means true; a value only with `=`.
    Bool,
    /// Takes the next argument.
    Value,
}

#[derive(Debug)]
pub(super) struct Spec {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) arity: Arity,
    pub(super) rule: Rule,
}

const fn switch(long: &'static str) -> Spec {
    Spec {
        long,
        short: None,
        arity: Arity::Bool,
        rule: Rule::Pass,
    }
}

const fn value(long: &'static str) -> Spec {
    Spec {
        long,
        short: None,
        arity: Arity::Value,
        rule: Rule::Pass,
    }
}

const fn refused(long: &'static str, reason: &'static str) -> Spec {
    value(long).rule(Rule::Refuse(reason))
}

impl Spec {
    const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }
}

const GLOBAL: &str =
    "a global flag of podman; a shielded container is made with podman's configured defaults, leave it out";
const REMOTE: &str = "a remote podman runs the other host's hooks, not these; leave it out";
const HOOKS: &str = "it replaces the hooks directories, terok-shield's among them; leave it out";
const RUNTIME: &str = "the hooks are proven with the configured crun or runc; leave it out";
const POD: &str =
    "containers of a pod are not started through 'run' yet; use 'terok-shield prepare' and annotate every member";
const DESCRIPTORS: &str = "an inherited descriptor may be a socket that no firewall sees; leave it out";

const FLAGS: &[Spec] = &[
    value("add-host"),
    value("annotation").rule(Rule::Annotation),
    value("arch"),
    value("attach").short('a'),
    value("auth-file"),
    value("authfile"),
    value("blkio-weight"),
    value("blkio-weight-device"),
    value("cap-add").rule(Rule::CapAdd),
    value("cap-drop"),
    value("cert-dir"),
    value("cgroup-conf"),
    value("cgroup-parent"),
    value("cgroupns"),
    value("cgroups"),
    value("chrootdirs"),
    value("cidfile"),
    value("conmon-pidfile"),
    value("cpu-period"),
    value("cpu-quota"),
    value("cpu-rt-period"),
    value("cpu-rt-runtime"),
    value("cpu-shares").short('c'),
    value("cpus"),
    value("cpuset-cpus"),
    value("cpuset-mems"),
    value("creds"),
    value("decryption-key"),
    switch("detach").short('d'),
    value("detach-keys"),
    value("device").rule(Rule::Device),
    value("device-cgroup-rule"),
    value("device-read-bps"),
    value("device-read-iops"),
    value("device-write-bps"),
    value("device-write-iops"),
    switch("disable-content-trust"),
    value("dns"),
    value("dns-option"),
    value("dns-search"),
    value("entrypoint"),
    value("env").short('e').rule(Rule::Environment),
    value("env-file"),
    switch("env-host"),
    value("env-merge").rule(Rule::Environment),
    value("expose"),
    value("gidmap"),
    value("gpus"),
    value("group-add"),
    value("group-entry"),
    value("health-cmd"),
    value("health-interval"),
    value("health-log-destination"),
    value("health-max-log-count"),
    value("health-max-log-size"),
    value("health-on-failure"),
    value("health-retries"),
    value("health-start-period"),
    value("health-startup-cmd"),
    value("health-startup-interval"),
    value("health-startup-retries"),
    value("health-startup-success"),
    value("health-startup-timeout"),
    value("health-timeout"),
    switch("help").rule(Rule::RefuseTrue("it starts nothing; see 'podman run --help'")),
    value("hostname").short('h'),
    value("hosts-file"),
    value("hostuser"),
    switch("http-proxy"),
    value("image-volume"),
    switch("init"),
    value("init-path"),
    switch("interactive").short('i'),
    value("ip"),
    value("ip6"),
    value("ipc"),
    value("kernel-memory"),
    value("label").short('l'),
    value("label-file"),
    value("log-driver").rule(Rule::LogDriver),
    value("log-level"),
    value("log-opt"),
    value("mac-address"),
    value("memory").short('m'),
    value("memory-reservation"),
    value("memory-swap"),
    value("memory-swappiness"),
    value("mount"),
    refused("name", "terok-shield sets it from NAME; leave it out"),
    value("network").rule(Rule::Network),
    value("network-alias"),
    switch("no-healthcheck"),
    switch("no-hostname"),
    switch("no-hosts"),
    switch("oom-kill-disable"),
    value("oom-score-adj"),
    value("os"),
    switch("passwd"),
    value("passwd-entry"),
    value("personality"),
    value("pid").rule(Rule::Pid),
    value("pidfile"),
    value("pids-limit"),
    value("platform"),
    refused("pod", POD),
    refused("pod-id-file", POD),
    refused("preserve-fd", DESCRIPTORS),
    value("preserve-fds").rule(Rule::Zero(DESCRIPTORS)),
    switch("privileged").rule(Rule::RefuseTrue(
        "the container could change its own firewall; leave it out and name the devices it needs with --device",
    )),
    value("publish").short('p').rule(Rule::Publish),
    switch("publish-all").short('P').rule(Rule::RefuseTrue(
        "the ports to open are not known ahead of time; name each with --publish",
    )),
    value("pull"),
    switch("quiet").short('q'),
    value("rdt-class"),
    switch("read-only"),
    switch("read-only-tmpfs"),
    switch("replace"),
    value("requires"),
    value("restart"),
    value("retry"),
    value("retry-delay"),
    switch("rm"),
    switch("rmi"),
    switch("rootfs"),
    value("sdnotify"),
    value("seccomp-policy"),
    value("secret"),
    value("security-opt"),
    value("shm-size"),
    value("shm-size-systemd"),
    switch("sig-proxy"),
    value("signature-policy"),
    value("stop-signal"),
    value("stop-timeout"),
    value("storage-opt"),
    value("subgidname"),
    value("subuidname"),
    value("sysctl").rule(Rule::Sysctl),
    switch("syslog"),
    value("systemd"),
    value("timeout"),
    switch("tls-verify"),
    value("tmpfs"),
    switch("tty").short('t'),
    value("tz"),
    value("uidmap"),
    value("ulimit"),
    value("umask"),
    value("unsetenv"),
    switch("unsetenv-all"),
    value("user").short('u'),
    value("userns").rule(Rule::Userns),
    value("uts"),
    value("variant"),
    value("volume").short('v'),
    value("volumes-from"),
    value("workdir").short('w'),
    // Global flags. All are refused on sight, so their arity doesn't matter.
    refused("cdi-spec-dir", GLOBAL),
    refused("cgroup-manager", GLOBAL),
    refused("config", GLOBAL),
    refused("conmon", GLOBAL),
    refused("connection", REMOTE),
    refused("context", REMOTE),
    refused("db-backend", GLOBAL),
    refused("default-mounts-file", GLOBAL),
    refused("events-backend", GLOBAL),
    refused("hooks-dir", HOOKS),
    refused("host", REMOTE),
    refused("identity", REMOTE),
    refused("imagestore", GLOBAL),
    refused(
        "module",
        "it replaces settings of containers.conf, hooks_dir perhaps among them; leave it out",
    ),
    refused("namespace", GLOBAL),
    refused("network-backend", GLOBAL),
    refused("network-cmd-path", GLOBAL),
    refused("network-config-dir", GLOBAL),
    refused("ns", GLOBAL),
    refused("registries-conf", GLOBAL),
    switch("remote").short('r').rule(Rule::Refuse(REMOTE)),
    refused("root", GLOBAL),
    refused("runroot", GLOBAL),
    refused("runtime", RUNTIME),
    refused("runtime-flag", RUNTIME),
    refused("ssh", REMOTE),
    refused("storage-driver", GLOBAL),
    refused("tmpdir", GLOBAL),
    switch("transient-store").rule(Rule::Refuse(GLOBAL)),
    refused("url", REMOTE),
    refused("volumepath", GLOBAL),
];

/// Old names that podman rewrites (`utils.AliasFlags`), `purge` up to 4.x.
const ALIASES: &[(&str, &str)] = &[
    ("dns-opt", "dns-option"),
    ("healthcheck-command", "health-cmd"),
    ("healthcheck-interval", "health-interval"),
    ("healthcheck-retries", "health-retries"),
    ("healthcheck-start-period", "health-start-period"),
    ("healthcheck-timeout", "health-timeout"),
    ("net", "network"),
    ("override-arch", "arch"),
    ("override-os", "os"),
    ("override-variant", "variant"),
    ("purge", "rm"),
];

/// The flag of this long name or alias. Names are case-sensitive and never abbreviated.
pub(super) fn long(name: &str) -> Option<&'static Spec> {
    let name = ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map_or(name, |(_, long)| long);
    FLAGS.iter().find(|spec| spec.long == name)
}

/// The flag of this letter.
pub(super) fn short(letter: char) -> Option<&'static Spec> {
    FLAGS.iter().find(|spec| spec.short == Some(letter))
}

#[cfg(test)]
pub(super) fn all() -> &'static [Spec] {
    FLAGS
}
