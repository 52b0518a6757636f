//! What was typed.

use clap::{Args as ClapArgs, Parser, Subcommand};

/// A default-deny egress firewall for rootless Podman containers.
#[derive(Debug, Parser)]
#[command(name = "terok-shield", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 no such container, 4 environment not ready;\n\
    `run` ends with podman's own, or 125 where it never came to podman."
)]
pub struct Args {
    /// Say more; twice and three times for more still
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub verbose: u8,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a container behind the firewall
    #[command(
        after_help = "Example: terok-shield run my-container --profiles dev-standard dev-python -- alpine:latest sh"
    )]
    Run(Run),
    /// Make a container's policy ready and print the podman flags that put it behind the firewall
    Prepare(Prepare),
    /// Install or remove the OCI hooks
    Setup(Setup),
    /// Let a running container reach a target, for good or for a time
    Allow(Allow),
    /// Keep a running container from a target, for good
    Deny(Grant),
    /// Enforce again: what is listed passes, nothing else
    Up(Container),
    /// Let public destinations pass; what was denied stays closed
    Down(Down),
    /// Let nothing pass
    #[command(visible_alias = "quarantine")]
    Block(Container),
    /// Say what happens to a destination, because of which line, and what would change that
    Explain(Explain),
    /// Look the names of a container's policy up again
    Resolve(Resolve),
    /// Say whether a container's firewall is as it should be
    Status(Status),
    /// Show a running container's table as the kernel has it
    Rules(Rules),
    /// List the profiles, or show one
    Profiles(Profiles),
    /// Show the ruleset for some profiles, without touching anything
    Preview(Preview),
    /// Show the audit log
    Logs(Logs),
    /// Say whether this machine can shield containers, and what to do if not
    CheckEnvironment(Json),
}

#[derive(Debug, ClapArgs)]
pub struct Run {
    /// The container's name
    pub name: String,
    /// Profiles to allow, separated by spaces or commas, up to `--`
    #[arg(long, num_args = 1.., value_delimiter = ',', value_name = "PROFILE")]
    pub profiles: Vec<String>,
    /// A target to allow beside them, for good; may be given again
    #[arg(long, value_name = "TARGET")]
    pub allow: Vec<String>,
    /// Flags of podman run, the image, and its command
    #[arg(last = true, required = true, value_name = "PODMAN FLAGS, IMAGE, COMMAND")]
    pub podman: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub struct Prepare {
    /// The container's name
    pub name: String,
    /// Profiles to allow, separated by spaces or commas
    #[arg(long, num_args = 1.., value_delimiter = ',', value_name = "PROFILE")]
    pub profiles: Vec<String>,
    /// A target to allow beside them, for good; may be given again
    #[arg(long, value_name = "TARGET")]
    pub allow: Vec<String>,
    /// A port that you will publish, as you will tell podman: [[ip:]hostPort:]containerPort[/udp]; may be given again
    #[arg(long, value_name = "PORT")]
    pub publish: Vec<String>,
    /// Print a JSON array instead of a line for the shell
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Setup {
    /// For this user (the default)
    #[arg(long, conflicts_with = "root")]
    pub user: bool,
    /// For every user of this machine; needs root
    #[arg(long)]
    pub root: bool,
    /// Remove what was installed
    #[arg(long)]
    pub uninstall: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Container {
    /// The container: name, full id or 12 digits of it
    pub container: String,
}

#[derive(Debug, ClapArgs)]
pub struct Down {
    /// The container: name, full id or 12 digits of it
    pub container: String,
    /// Let private destinations pass too
    #[arg(long)]
    pub all: bool,
    /// Until it is up again by itself: 90s, 10m, 1h30m; at most 7d
    #[arg(long = "for", value_name = "TIME", allow_hyphen_values = true)]
    pub time: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct Allow {
    #[command(flatten)]
    pub grant: Grant,
    /// Until it ends by itself: 90s, 10m, 1h30m; at most 7d
    #[arg(long = "for", value_name = "TIME", allow_hyphen_values = true)]
    pub time: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct Explain {
    #[command(flatten)]
    pub grant: Grant,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Grant {
    /// The container: name, full id or 12 digits of it
    pub container: String,
    /// A name, address or network, with ports if need be: example.com, 203.0.113.0/24, [2001:db8::1]:443/tcp
    pub target: String,
}

#[derive(Debug, ClapArgs)]
pub struct Resolve {
    /// The container: name, full id or 12 digits of it
    pub container: String,
    /// Look all names up, not only those that are too old
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Status {
    /// The container: name, full id or 12 digits of it. Without it: all of them
    pub container: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Rules {
    /// The container: name, full id or 12 digits of it
    pub container: String,
    /// Print libnftables' JSON and nothing else
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Profiles {
    /// The profile to show
    pub profile: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub struct Preview {
    /// Profiles, separated by spaces or commas
    #[arg(long, num_args = 1.., value_delimiter = ',', value_name = "PROFILE")]
    pub profiles: Vec<String>,
    /// The rules of `down`: public destinations pass
    #[arg(long)]
    pub down: bool,
    /// With --down: private destinations pass too
    #[arg(long, requires = "down")]
    pub all: bool,
    /// Print the libnftables document and nothing else
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Logs {
    /// Only this container's: name, full id or 12 digits of it
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
    /// How many of the latest entries
    #[arg(short = 'n', long = "lines", default_value_t = 50, value_name = "COUNT")]
    pub count: usize,
}

#[derive(Debug, ClapArgs)]
pub struct Json {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
