//! Ending the connections that a policy does not let pass.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::kernel::{KernelError, Socket, Sockets};
use crate::policy::{Mode, Protocol};
use crate::ruleset::{Contents, SetId, Verdict, decide};

/// Ends every socket of the current network namespace that the table with these contents, in this mode, does not let pass.
/// Returns how many there were.
pub(super) fn cut(mode: Mode, contents: &Contents) -> Result<usize, KernelError> {
    let door = Sockets::open()?;
    let sockets = door.connected()?;
    if sockets.is_empty() {
        return Ok(0);
    }
    let own = own_addresses()?;
    let mut ended = 0;
    for socket in sockets.iter().filter(|socket| is_closed(socket, mode, contents, &own)) {
        ended += usize::from(door.end(socket)?);
    }
    Ok(ended)
}

fn is_closed(socket: &Socket, mode: Mode, contents: &Contents, own: &BTreeSet<IpAddr>) -> bool {
    let far = socket.remote.ip();
    if own.contains(&far) {
        // It may still have come by way of a published port: rootlessport's connections arrive from an own address, and
        // `block` does not tell them from any other of `lo`.
        return mode == Mode::Block && !far.is_loopback() && is_published(socket, contents);
    }
    let decision = decide(mode, contents, far, Some((socket.protocol, socket.remote.port())));
    match decision.verdict {
        verdict if verdict.passes() => false,
        Verdict::Private | Verdict::Blocked => mode == Mode::Block || !is_published(socket, contents),
        _ => true,
    }
}

/// Whether somebody outside may have opened it, to a port that the operator published.
fn is_published(socket: &Socket, contents: &Contents) -> bool {
    let port = socket.local.port();
    contents
        .sets
        .get(&SetId::Published)
        .into_iter()
        .flatten()
        .filter_map(|element| element.service)
        .any(|(protocol, range): (Protocol, _)| {
            protocol == socket.protocol && (range.first..=range.last).contains(&port)
        })
}

/// Addresses that stay inside of the namespace.
fn own_addresses() -> Result<BTreeSet<IpAddr>, KernelError> {
    let list = nix::ifaddrs::getifaddrs()
        .map_err(|error| KernelError::system("list", "the addresses of the container", error))?;
    Ok(list
        .filter_map(|interface| {
            let address = interface.address?;
            address
                .as_sockaddr_in()
                .map(|v4| IpAddr::V4(v4.ip()))
                .or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect())
}
