//! A network device whose other end is a file: what the current network namespace sends through it can be read there, as
//! bare IP packets. It goes with the namespace.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::KernelError;

const PATH: &str = "/dev/net/tun";
const NAME: &[u8] = b"tun0";
/// `TUNSETIFF` of `linux/if_tun.h`: `_IOW('T', 202, int)`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
/// Longer than any packet that is read: the device's MTU is 1500.
const PACKET: usize = 2048;

/// A device to which everything leads.
#[derive(Debug)]
pub struct Tun {
    file: File,
    has_v6: bool,
}

impl Tun {
    /// Makes it in the current namespace, up, with these addresses and the default routes of both families. Where the
    /// kernel has no IPv6 at all, there is nothing that could be sent over it.
    pub fn new(v4: Ipv4Addr, v6: Ipv6Addr) -> Result<Self, KernelError> {
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(PATH)
            .map_err(|error| KernelError::system("open", PATH, error))?;
        let mut request = interface();
        request.ifr_ifru.ifru_flags = flags(libc::IFF_TUN | libc::IFF_NO_PI);
        control(&file, TUNSETIFF, &mut request, "make a device of")?;

        let inet = datagram(AddressFamily::Inet)?;
        let mut request = interface();
        request.ifr_ifru.ifru_addr = v4_address(v4);
        control(&inet, libc::SIOCSIFADDR, &mut request, "set the address of")?;
        request.ifr_ifru.ifru_flags = flags(libc::IFF_UP | libc::IFF_RUNNING);
        control(&inet, libc::SIOCSIFFLAGS, &mut request, "switch on")?;
        // SAFETY: an all-zero rtentry is a valid value: addresses that say nothing, null pointers.
        let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
        let mut name = interface().ifr_name;
        route.rt_dst = v4_address(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = v4_address(Ipv4Addr::UNSPECIFIED);
        route.rt_flags = libc::RTF_UP;
        route.rt_dev = name.as_mut_ptr();
        control(&inet, libc::SIOCADDRT, &mut route, "lead IPv4 to")?;

        let has_v6 = match datagram(AddressFamily::Inet6) {
            Ok(inet6) => {
                lead_v6(&inet6, v6)?;
                true
            }
            Err(KernelError::System { source, .. }) if source.raw_os_error() == Some(libc::EAFNOSUPPORT) => false,
            Err(error) => return Err(error),
        };
        Ok(Self { file, has_v6 })
    }

    /// Whether this kernel knows IPv6.
    #[must_use]
    pub fn has_v6(&self) -> bool {
        self.has_v6
    }

    /// Every packet that was sent through it and not read yet.
    pub fn packets(&mut self) -> Result<Vec<Vec<u8>>, KernelError> {
        let mut packets = Vec::new();
        let mut buffer = [0; PACKET];
        loop {
            match self.file.read(&mut buffer) {
                Ok(length) => packets.push(buffer[..length].to_vec()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(packets),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(KernelError::system("read", PATH, error)),
            }
        }
    }
}

/// `in6_rtmsg` of `linux/ipv6_route.h`; libc's has private fields.
#[repr(C)]
struct RouteV6 {
    destination: libc::in6_addr,
    source: libc::in6_addr,
    gateway: libc::in6_addr,
    kind: u32,
    destination_length: u16,
    source_length: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    interface: libc::c_int,
}

fn lead_v6(inet6: &OwnedFd, address: Ipv6Addr) -> Result<(), KernelError> {
    let mut request = interface();
    control(inet6, libc::SIOCGIFINDEX, &mut request, "find")?;
    // SAFETY: the kernel has just filled in this member; any bits are a valid integer.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    let mut own = libc::in6_ifreq {
        ifr6_addr: libc::in6_addr {
            s6_addr: address.octets(),
        },
        ifr6_prefixlen: 128,
        ifr6_ifindex: index,
    };
    control(inet6, libc::SIOCSIFADDR, &mut own, "set the IPv6 address of")?;
    let nowhere = libc::in6_addr { s6_addr: [0; 16] };
    let mut route = RouteV6 {
        destination: nowhere,
        source: nowhere,
        gateway: nowhere,
        kind: 0,
        destination_length: 0,
        source_length: 0,
        metric: 1,
        info: 0,
        flags: u32::from(libc::RTF_UP),
        interface: index,
    };
    control(inet6, libc::SIOCADDRT, &mut route, "lead IPv6 to")
}

/// A request about the device and nothing in it.
fn interface() -> libc::ifreq {
    // SAFETY: an all-zero ifreq is a valid value of this plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(NAME) {
        *place = libc::c_char::from_ne_bytes([*byte]);
    }
    request
}

/// Interface flags are a short in requests, and all that are used here fit.
#[allow(clippy::cast_possible_truncation)]
fn flags(flags: libc::c_int) -> libc::c_short {
    flags as libc::c_short
}

fn v4_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    // Port, then the address.
    for (place, byte) in data[2..].iter_mut().zip(address.octets()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: data,
    }
}

fn datagram(family: AddressFamily) -> Result<OwnedFd, KernelError> {
    socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|error| KernelError::system("open", "a socket", error))
}

/// One `ioctl` with a structure that the kernel reads and may fill in.
fn control<T>(fd: &impl AsRawFd, code: libc::c_ulong, argument: &mut T, what: &'static str) -> Result<(), KernelError> {
    // SAFETY: each caller passes the structure that belongs to the code; it lives through the call.
    let status = unsafe { libc::ioctl(fd.as_raw_fd(), code, std::ptr::from_mut(argument)) };
    if status < 0 {
        return Err(KernelError::system(what, "a tun device", Errno::last()));
    }
    Ok(())
}
