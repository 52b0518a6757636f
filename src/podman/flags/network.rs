//! `--network`: modes that share a namespace, and options of slirp4netns and pasta that reach the host past the firewall.
//!
//! The options are a list of what is known to be harmless: pasta reads them with getopt_long, which takes any unique beginning
//! of a long option and clusters of short ones, so a list of harmful spellings would never be complete.

use std::net::IpAddr;

/// Modes by which the container would live in somebody else's network namespace.
const SHARED: [&str; 5] = ["host", "container", "ns", "path", "pod"];

/// pasta's options that take no value. Inbound, naming and sizes: nothing by which the host's own services are reached.
const PASTA_SWITCHES: [&str; 22] = [
    "-4",
    "-6",
    "-d",
    "-q",
    "--config-net",
    "--debug",
    "--freebind",
    "--ipv4-only",
    "--ipv6-only",
    "--no-copy-addrs",
    "--no-copy-routes",
    "--no-dhcp",
    "--no-dhcp-dns",
    "--no-dhcp-search",
    "--no-dhcpv6",
    "--no-icmp",
    "--no-map-gw",
    "--no-ndp",
    "--no-ra",
    "--no-tcp",
    "--no-udp",
    "--quiet",
];

/// pasta's options that take any value.
const PASTA_VALUES: [&str; 25] = [
    "-D",
    "-I",
    "-M",
    "-S",
    "-a",
    "-g",
    "-i",
    "-m",
    "-n",
    "-o",
    "-t",
    "-u",
    "--address",
    "--dns",
    "--dns-forward",
    "--gateway",
    "--interface",
    "--mac-addr",
    "--mtu",
    "--netmask",
    "--ns-ifname",
    "--ns-mac-addr",
    "--outbound",
    "--tcp-ports",
    "--udp-ports",
];

/// Options that forward the container's loopback to the host's: only `none`.
const PASTA_NONE: [&str; 4] = ["-T", "-U", "--tcp-ns", "--udp-ns"];

/// Options that give the host an address of its own inside: only `none` or podman's 169.254.1.2, which the rules know.
const PASTA_MAPS: [&str; 2] = ["--map-guest-addr", "--map-host-loopback"];

/// slirp4netns options as podman names them, `allow_host_loopback` apart.
const SLIRP: [&str; 6] = [
    "cidr",
    "enable_ipv6",
    "mtu",
    "outbound_addr",
    "outbound_addr6",
    "port_handler",
];

/// One value of `--network`.
pub(super) fn network(value: &str) -> Result<(), String> {
    let (mode, options) = match value.split_once(':') {
        Some((mode, options)) => (mode, Some(options)),
        None => (value, None),
    };
    // several networks may stand in one value
    if mode
        .split(',')
        .any(|name| SHARED.iter().any(|shared| name.eq_ignore_ascii_case(shared)))
    {
        return Err("the container would live in a network namespace that is not its own; leave it out".to_owned());
    }
    let options: Vec<&str> = options.map(|options| options.split(',').collect()).unwrap_or_default();
    match mode {
        "slirp4netns" => screen_slirp_options(&options),
        "pasta" => screen_pasta_options(&options),
        _ => Ok(()),
    }
}

/// Judges slirp4netns options, from `--network slirp4netns:...` or `network_cmd_options` of containers.conf.
///
/// # Errors
/// One line that names the option.
pub fn screen_slirp_options(options: &[&str]) -> Result<(), String> {
    for option in options {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "allow_host_loopback" if value != "false" => {
                return Err("allow_host_loopback opens the host's own services; leave it out".to_owned());
            }
            "allow_host_loopback" => {}
            known if SLIRP.contains(&known) => {}
            other => {
                return Err(format!(
                    "slirp4netns option '{}' is not known to be harmless; leave it out",
                    super::shown(other)
                ));
            }
        }
    }
    Ok(())
}

/// Judges pasta's options, from `--network pasta:...` or `pasta_options` of containers.conf.
///
/// # Errors
/// One line that names the option.
pub fn screen_pasta_options(options: &[&str]) -> Result<(), String> {
    let mut rest = options.iter().copied();
    while let Some(option) = rest.next() {
        let (name, attached) = split_option(option);
        if PASTA_SWITCHES.contains(&option) {
            continue;
        }
        let known = PASTA_VALUES.contains(&name) || PASTA_NONE.contains(&name) || PASTA_MAPS.contains(&name);
        let Some(value) = attached
            .or_else(|| if known { rest.next() } else { None })
            .filter(|_| known)
        else {
            return Err(format!(
                "pasta option '{}' is not known to be harmless; leave it out",
                super::shown(option)
            ));
        };
        if PASTA_NONE.contains(&name) && value != "none" {
            return Err(format!(
                "pasta's {name} opens ports of the host's loopback; leave it out"
            ));
        }
        if PASTA_MAPS.contains(&name) && !harmless_map(value) {
            return Err(format!(
                "pasta's {name} may only be 169.254.1.2 or none; the firewall knows the host by no other address"
            ));
        }
    }
    Ok(())
}

/// `--name=value` and `-nVALUE` apart.
fn split_option(option: &str) -> (&str, Option<&str>) {
    if option.starts_with("--") {
        return match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
    }
    match option.char_indices().nth(2) {
        Some((end, _)) if option.starts_with('-') => (&option[..end], Some(&option[end..])),
        _ => (option, None),
    }
}

fn harmless_map(value: &str) -> bool {
    value == "none" || value.parse::<IpAddr>() == Ok(IpAddr::from([169, 254, 1, 2]))
}
