//! Names and their addresses: asking resolvers ahead of time, and keeping what
//! they answer from pointing inwards.
//!
//! Which names may be asked about is `policy`'s decision, and what becomes of
//! the addresses is the caller's.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use resolv_conf::ScopedIp;

use crate::policy::{self, Class};

mod query;
mod resolve;
mod transport;

pub use resolve::{Answer, MAX_TTL, Problem, Resolution, ResolveError, resolve};

/// The port of DNS (RFC 1035, 4.2).
const PORT: u16 = 53;
/// How many resolvers are taken from a file; the C library takes three.
const MAX_SERVERS: usize = 8;

/// The resolvers that the text of a `resolv.conf` names and `usable` accepts,
/// in its order. Lines that can't be read are passed over, as the C library
/// does; where nothing is left the list is empty.
pub fn servers_from(text: &str, usable: impl Fn(IpAddr) -> bool) -> Vec<SocketAddr> {
    let (config, _) = resolv_conf::Config::parse_with_errors(text.as_bytes());
    let mut servers = Vec::new();
    for server in config.nameservers {
        let server = match server {
            ScopedIp::V4(address) => SocketAddr::new(address.into(), PORT),
            ScopedIp::V6(address, scope) => {
                // Without its interface a link-local resolver can't be asked.
                let Some(scope) = scope.map_or(Some(0), |scope| scope_id(&scope)) else {
                    continue;
                };
                SocketAddrV6::new(address, PORT, 0, scope).into()
            }
        };
        if usable(server.ip()) && !servers.contains(&server) && servers.len() < MAX_SERVERS {
            servers.push(server);
        }
    }
    servers
}

/// An interface by number or by name.
fn scope_id(scope: &str) -> Option<u32> {
    scope.parse().ok().or_else(|| nix::net::if_::if_nametoindex(scope).ok())
}

/// Splits addresses from an answer into those to keep and those that point
/// where no name may lead: the floor and private ranges, embedded forms
/// included (DNS rebinding). `allowed` says whether an explicit entry of the
/// policy covers an address nevertheless.
pub fn filter(
    addresses: impl IntoIterator<Item = IpAddr>,
    allowed: impl Fn(IpAddr) -> bool,
) -> (Vec<IpAddr>, Vec<IpAddr>) {
    addresses
        .into_iter()
        .partition(|address| policy::classify(*address) == Class::Public || allowed(*address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn resolvers_are_read_in_order_with_both_families_and_scopes() {
        let text = "# comment\nsearch example.com\nnameserver 203.0.113.53\n\
                    nameserver 2001:db8::53\nnameserver fe80::1%7\nnameserver nonsense\n\
                    nameserver 203.0.113.53\nnameserver fe80::2%no-such-interface\n\
                    options timeout:1 attempts:9 unknown-option\n";
        let servers: Vec<String> = servers_from(text, |_| true).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["203.0.113.53:53", "[2001:db8::53]:53", "[fe80::1%7]:53"]);
    }

    #[test]
    fn resolvers_that_are_not_usable_are_left_out_and_none_is_made_up() {
        let text = "nameserver 127.0.0.53\nnameserver ::1\nnameserver 203.0.113.53\n";
        let servers = servers_from(text, |address| !address.is_loopback());
        assert_eq!(servers, ["203.0.113.53:53".parse().unwrap()]);
        assert!(servers_from("", |_| true).is_empty());
        assert!(servers_from("\0\u{fffd}nameserver", |_| true).is_empty());
        let many: String = (0..99).map(|i| format!("nameserver 203.0.113.{i}\n")).collect();
        assert_eq!(servers_from(&many, |_| true).len(), MAX_SERVERS);
    }

    #[test]
    fn an_interface_may_be_given_by_name() {
        assert_eq!(scope_id("12"), Some(12));
        assert_eq!(scope_id("lo"), nix::net::if_::if_nametoindex("lo").ok());
    }

    #[test]
    fn answers_that_point_inwards_are_removed_unless_an_explicit_entry_covers_them() {
        let all = addresses(&[
            "203.0.113.1",
            "10.0.0.1",
            "169.254.169.254",
            "2001:db8::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
        ]);
        let (kept, removed) = filter(all.clone(), |_| false);
        assert_eq!(kept, addresses(&["203.0.113.1", "2001:db8::1"]));
        assert_eq!(removed.len(), 5);
        let explicit = addresses(&["10.0.0.1"]);
        let (kept, _) = filter(all, |address| explicit.contains(&address));
        assert_eq!(kept, addresses(&["203.0.113.1", "10.0.0.1", "2001:db8::1"]));
    }
}
