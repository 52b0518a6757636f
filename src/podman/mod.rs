//! Podman's side of the shield: what an operator may pass to `podman run`, what is added to it, and where the hooks live.
//!
//! `flags` and `launch` are pure; `conf` and `hooks` touch the files whose paths they are given and nothing else. Nothing here
//! starts podman or looks into a container: that is for `cli/` and `hook/`.

pub mod conf;
mod files;
pub mod flags;
pub mod hooks;
pub mod launch;

pub use conf::{ConfError, ConfPaths, Edit, HooksDirs};
pub use files::FileError;
pub use flags::{
    FlagError, PortProtocol, PublishedPort, Screened, is_interactive_needed, publish_flags, screen,
    screen_pasta_options,
};
pub use hooks::{
    Change, Finding, FindingKind, HookError, HookSet, InstallReport, Outcome, Scope, UninstallReport, serving,
};
pub use launch::{Launch, LaunchError, shell_quote};

/// Every annotation of ours begins with this; the operator may not set one through `run`.
pub const ANNOTATION_PREFIX: &str = "terok.shield.";
/// Names of the profiles, separated by colons. The hooks are matched by this key alone.
pub const ANNOTATION_PROFILES: &str = "terok.shield.profiles";
/// The container's name: which bundle is its own.
pub const ANNOTATION_NAME: &str = "terok.shield.name";
/// Absolute path of the state directory that holds the bundle.
pub const ANNOTATION_STATE_DIR: &str = "terok.shield.state_dir";
/// What `run` and `prepare` noted in the policy that they made: proof that a container is the one that it was made for. An image can
/// bring annotations too, and knows the container's name at most.
pub const ANNOTATION_LAUNCH: &str = "terok.shield.launch";
/// The version of the tool that launched the container.
pub const ANNOTATION_VERSION: &str = "terok.shield.version";
/// `true` or `false`: whether traffic goes to the audit log.
pub const ANNOTATION_AUDIT_ENABLED: &str = "terok.shield.audit_enabled";
/// Addresses of the upstream resolvers, for where they cannot be found out.
pub const ANNOTATION_UPSTREAM_DNS: &str = "terok.shield.upstream_dns";
/// TCP ports of the host's loopback that the container may reach, separated by colons.
pub const ANNOTATION_LOOPBACK_PORTS: &str = "terok.shield.loopback_ports";
/// Published ports, each as [`PublishedPort`] is displayed, separated by colons.
pub const ANNOTATION_PUBLISH: &str = "terok.shield.publish";

/// Capabilities with which a program could change the table or get round it, without `CAP_`. Refused as flags and, whoever gave
/// them, by the hook.
pub const FORBIDDEN_CAPABILITIES: [&str; 7] = [
    "NET_ADMIN",
    "NET_RAW",
    "SYS_ADMIN",
    "SYS_PTRACE",
    "SYS_MODULE",
    "BPF",
    "DAC_READ_SEARCH",
];

/// Beginnings of annotations that make the runtime do something else than run a container that the hooks have seen. An image
/// may bring them too.
pub const RUNTIME_ANNOTATIONS: [&str; 3] = ["run.oci.", "krun.", "module.wasm."];

/// A sysctl that no kernel has: a container that carries it starts only where our `precreate` hook takes it out again.
pub const SEAL_SYSCTL: &str = "net.terok_shield.sealed";
/// Every sysctl below this belongs to the seal.
pub const SEAL_SYSCTL_PREFIX: &str = "net.terok_shield";

/// File names of the hooks. A file of the same name in a later hooks directory would mask ours.
pub const HOOK_FILE_CREATE_RUNTIME: &str = "terok-shield-createRuntime.json";
/// See [`HOOK_FILE_CREATE_RUNTIME`].
pub const HOOK_FILE_POSTSTOP: &str = "terok-shield-poststop.json";
/// See [`HOOK_FILE_CREATE_RUNTIME`]; lives in a directory of its own, because CRI-O refuses a stage it doesn't know.
pub const HOOK_FILE_PRECREATE: &str = "terok-shield-precreate.json";

/// Variables that a process which starts podman for a shielded container takes out of podman's environment: descriptors that
/// podman would hand on to the container, and remote services, whose hooks are not ours.
pub const PODMAN_ENV_TO_REMOVE: [&str; 5] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "CONTAINER_HOST",
    "CONTAINER_CONNECTION",
];
