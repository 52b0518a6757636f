//! The connected sockets of a network namespace, and how to end one (sock_diag(7), `linux/inet_diag.h`).
//!
//! Rules stop the bytes of a connection and let its reader and writer wait. Ending the socket tells both at once, and, while
//! the rules still let it pass, sends the other side a reset.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

use super::KernelError;
use crate::policy::Protocol;

/// `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY` of `linux/sock_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_sockid`.
const SOCKET_ID: usize = 48;
/// States of `net/tcp_states.h` in which a socket has a far end: all but TIME_WAIT (6), CLOSE (7) and LISTEN (10).
const CONNECTED: u32 = 0xfff & !(1 << 6 | 1 << 7 | 1 << 10) & !1;
/// Dumps that the kernel says were disturbed are made again, so often.
const ATTEMPTS: usize = 10;

/// A connected TCP or UDP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its own end.
    pub local: SocketAddr,
    /// The far end. A v4-mapped address is given as IPv4.
    pub remote: SocketAddr,
    family: u8,
    id: [u8; SOCKET_ID],
}

/// A door to the sockets of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Sockets {
    fd: OwnedFd,
}

fn failed(operation: &'static str) -> impl FnOnce(nix::errno::Errno) -> KernelError {
    move |error| KernelError::system(operation, "the sockets of the container", error)
}

fn malformed() -> KernelError {
    KernelError::system(
        "list",
        "the sockets of the container",
        io::Error::from(io::ErrorKind::InvalidData),
    )
}

impl Sockets {
    /// Opens it in the current network namespace.
    pub fn open() -> Result<Self, KernelError> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )
        .map_err(failed("look at"))?;
        Ok(Self { fd })
    }

    /// Every connected TCP and UDP socket. A protocol of which this kernel knows no listing is left out.
    pub fn connected(&self) -> Result<Vec<Socket>, KernelError> {
        let mut sockets = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for family in [libc::AF_INET, libc::AF_INET6] {
                let family = u8::try_from(family).map_err(|_| malformed())?;
                sockets.extend(self.listed(protocol, family)?);
            }
        }
        Ok(sockets)
    }

    fn listed(&self, protocol: Protocol, family: u8) -> Result<Vec<Socket>, KernelError> {
        for _ in 0..ATTEMPTS {
            let flags = libc::NLM_F_REQUEST | libc::NLM_F_DUMP;
            self.send(SOCK_DIAG_BY_FAMILY, flags, family, protocol, CONNECTED, &[0; SOCKET_ID])?;
            if let Some(sockets) = self.answers(protocol)? {
                return Ok(sockets);
            }
        }
        Err(malformed())
    }

    /// The answers to one listing; `None` if it was disturbed.
    fn answers(&self, protocol: Protocol) -> Result<Option<Vec<Socket>>, KernelError> {
        let mut sockets = Vec::new();
        let mut disturbed = false;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(failed("list"))?;
            let mut rest = &buffer[..length];
            while let Some(message) = Message::first(rest) {
                rest = &rest[message.span.min(rest.len())..];
                disturbed |= i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok((!disturbed).then_some(sockets)),
                    // No such listing in this kernel: then there is nothing to end either.
                    libc::NLMSG_ERROR if matches!(message.error(), Some(libc::ENOENT | libc::EINVAL)) => {
                        return Ok(Some(sockets));
                    }
                    libc::NLMSG_ERROR => {
                        let code = message.error().unwrap_or(libc::EIO);
                        return Err(KernelError::system(
                            "list",
                            "the sockets of the container",
                            io::Error::from_raw_os_error(code),
                        ));
                    }
                    _ => sockets.push(Socket::read(message.body, protocol).ok_or_else(malformed)?),
                }
            }
        }
    }

    /// Ends a socket: its reader and its writer get ECONNABORTED. `false` if it has ended by itself, or if this kernel cannot
    /// (CONFIG_INET_DIAG_DESTROY): then it waits until its own timeout for what the rules no longer let pass.
    pub fn end(&self, socket: &Socket) -> Result<bool, KernelError> {
        self.send(
            SOCK_DESTROY,
            libc::NLM_F_REQUEST | libc::NLM_F_ACK,
            socket.family,
            socket.protocol,
            0xfff,
            &socket.id,
        )?;
        let mut buffer = [0; 4096];
        let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(failed("end"))?;
        match Message::first(&buffer[..length]).and_then(|message| message.error()) {
            Some(0) => Ok(true),
            Some(libc::ENOENT | libc::EOPNOTSUPP) => Ok(false),
            code => Err(KernelError::system(
                "end",
                "a connection of the container",
                io::Error::from_raw_os_error(code.unwrap_or(libc::EIO)),
            )),
        }
    }

    fn send(
        &self,
        kind: u16,
        flags: i32,
        family: u8,
        protocol: Protocol,
        states: u32,
        id: &[u8; SOCKET_ID],
    ) -> Result<(), KernelError> {
        let protocol = match protocol {
            Protocol::Tcp => libc::IPPROTO_TCP,
            Protocol::Udp => libc::IPPROTO_UDP,
        };
        // `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, the socket.
        let mut body = vec![family, u8::try_from(protocol).map_err(|_| malformed())?, 0, 0];
        body.extend(states.to_ne_bytes());
        body.extend(id);
        let length = u32::try_from(HEADER + body.len()).map_err(|_| malformed())?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(u16::try_from(flags).map_err(|_| malformed())?.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        sendto(
            self.fd.as_raw_fd(),
            &message,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )
        .map_err(failed("look at"))?;
        Ok(())
    }
}

/// One netlink message.
struct Message<'a> {
    kind: u16,
    flags: u16,
    body: &'a [u8],
    /// Its length with the padding behind it.
    span: usize,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl<'a> Message<'a> {
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let length = usize::try_from(u32::from_ne_bytes(array(bytes, 0)?)).ok()?;
        Some(Self {
            kind: u16::from_ne_bytes(array(bytes, 4)?),
            flags: u16::from_ne_bytes(array(bytes, 6)?),
            body: bytes.get(HEADER..length)?,
            span: length.next_multiple_of(4),
        })
    }

    /// The errno of an acknowledgement; 0 for success.
    fn error(&self) -> Option<i32> {
        (i32::from(self.kind) == libc::NLMSG_ERROR)
            .then(|| array(self.body, 0).map(|bytes| -i32::from_ne_bytes(bytes)))
            .flatten()
    }
}

impl Socket {
    /// From a `struct inet_diag_msg`.
    fn read(body: &[u8], protocol: Protocol) -> Option<Self> {
        let family = *body.first()?;
        let id: [u8; SOCKET_ID] = array(body, 4)?;
        let address = |at: usize| -> Option<IpAddr> {
            Some(if i32::from(family) == libc::AF_INET {
                IpAddr::V4(Ipv4Addr::from(array::<4>(&id, at)?))
            } else {
                IpAddr::V6(Ipv6Addr::from(array::<16>(&id, at)?)).to_canonical()
            })
        };
        let port = |at| array(&id, at).map(u16::from_be_bytes);
        Some(Self {
            protocol,
            local: SocketAddr::new(address(4)?, port(0)?),
            remote: SocketAddr::new(address(20)?, port(2)?),
            family,
            id,
        })
    }
}
