//! A network interface -> datagrams to the StatsD ports, beside whoever receives them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netdevice;
use socket2::{Domain, SockAddr, Socket, Type};

use super::filter::{self, PORTS_MAX};
use super::packet::{Link, Tally, Udp};
use crate::listener::{ReceiveBatch, report_overflow, report_timestamps};

/// Packets wait here while the file is written.
const BUFFER_BYTES: usize = 8 << 20;
const INTERFACES_SHOWN_MAX: usize = 20;

/// An interface that is looked at.
pub(super) struct Interface {
    name: String,
    socket: Socket,
    batch: ReceiveBatch,
    ports: Vec<u16>,
    lost: u32,
}

impl Interface {
    /// Begins to look.
    ///
    /// # Errors
    ///
    /// There is no such interface, or we may not.
    pub(super) fn open(name: &str, ports: &[u16]) -> anyhow::Result<Self> {
        if ports.len() > PORTS_MAX {
            bail!("--port is given {} times; {PORTS_MAX} do", ports.len());
        }
        // No packet comes before it is bound, so none passes by the filter.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, None).map_err(|error| {
            let way_out = match error.raw_os_error() {
                Some(libc::EPERM) => {
                    ": CAP_NET_RAW is needed (sudo, or the capability NET_RAW of the container); without it, \
                     a daemon can be asked, or --listen takes a port of its own"
                }
                Some(libc::EAFNOSUPPORT) => {
                    ": this system lets nobody look at packets; ask a daemon, or --listen"
                }
                _ => "",
            };
            anyhow::Error::from(error).context(format!("looking at interface {name}{way_out}"))
        })?;
        let looking = || format!("looking at interface {name}");
        let index = netdevice::name_to_index(socket.as_fd(), name).with_context(|| unknown(name))?;
        socket.set_nonblocking(true).with_context(looking)?;
        socket.attach_filter(&filter::program(ports, is_loopback(name))).with_context(looking)?;
        // A large one, as far as it is granted. The other two tell times and losses.
        let _ = crate::listener::raise_receive_buffer(&socket, BUFFER_BYTES);
        report_timestamps(&socket).and_then(|()| report_overflow(&socket)).with_context(looking)?;
        socket.bind(&address(index)?).with_context(looking)?;
        let batch = ReceiveBatch::new();
        Ok(Self { name: name.to_owned(), socket, batch, ports: ports.to_vec(), lost: 0 })
    }

    /// Waits for packets, `wait` at most. Hands on each datagram, with the time when it came, since 1970,
    /// and its packet from the IP header on.
    ///
    /// # Errors
    ///
    /// The interface went away; what `take` says.
    pub(super) fn receive(
        &mut self,
        wait: Duration,
        tally: &mut Tally,
        mut take: impl FnMut(Duration, Udp<'_>, &[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let wait = Timespec::try_from(wait).context("waiting")?;
        // An interrupted wait is a short one.
        let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&wait));
        let received = match self.batch.receive(self.socket.as_fd()) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                bail!("interface {} went down or away; what came before is in the file", self.name)
            }
            Err(error) => {
                return Err(error).with_context(|| format!("receiving on interface {}", self.name));
            }
        };
        for index in 0..received {
            let control = self.batch.control(index);
            self.lost = control.overflow.unwrap_or(self.lost);
            let packet = ip_packet(self.batch.payload(index));
            let Some(udp) = tally.look(Link::Ip, packet, &self.ports) else { continue };
            take(control.arrived.unwrap_or_default(), udp, packet)?;
        }
        Ok(())
    }

    /// Packets that found the buffer full.
    pub(super) fn lost(&self) -> u32 {
        self.lost
    }
}

/// From the IP header on. Of two tags the kernel leaves the inner one, and does not say so.
fn ip_packet(bytes: &[u8]) -> &[u8] {
    let is_ip = |bytes: &[u8]| {
        let word = |at: usize| {
            bytes.get(at..at + 2).map_or(0, |word| usize::from(word[0]) << 8 | usize::from(word[1]))
        };
        match bytes.first().map(|byte| byte >> 4) {
            Some(4) => (20..=bytes.len()).contains(&word(2)),
            Some(6) => word(4) + 40 <= bytes.len(),
            _ => false,
        }
    };
    match bytes.get(4..) {
        Some(behind) if !is_ip(bytes) && is_ip(behind) => behind,
        _ => bytes,
    }
}

fn unknown(name: &str) -> String {
    let names = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<String> =
        names.filter_map(|entry| entry.file_name().into_string().ok()).take(INTERFACES_SHOWN_MAX).collect();
    names.sort();
    format!("there is no interface {name:?}; there are {}", names.join(", "))
}

fn is_loopback(name: &str) -> bool {
    let flags = std::fs::read_to_string(format!("/sys/class/net/{name}/flags")).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).unwrap_or_default();
    flags & libc::IFF_LOOPBACK.cast_unsigned() != 0
}

/// All packets of an interface.
fn address(index: u32) -> anyhow::Result<SockAddr> {
    let every = u16::try_from(libc::ETH_P_ALL).context("a protocol has two bytes")?;
    let family = libc::sa_family_t::try_from(libc::AF_PACKET).context("a family has two bytes")?;
    let index = i32::try_from(index).context("an interface's number is positive")?;
    // SAFETY: `sockaddr_ll` is integers and bytes; all of them may be zero.
    #[expect(unsafe_code, reason = "libc gives the type no constructor")]
    let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sll_family = family;
    address.sll_protocol = every.to_be();
    address.sll_ifindex = index;
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).context("it is short")?;
    // SAFETY: `storage` is large enough and aligned for every socket address, so for this one; `length` is
    // its true size, and all of it is initialised by the write.
    #[expect(unsafe_code, reason = "socket2 knows no addresses of packet sockets")]
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, bytes| {
            storage.cast::<libc::sockaddr_ll>().write(address);
            *bytes = length;
            Ok(())
        })
    }?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_before_a_packet_is_seen() {
        let v4 = [&[0x45, 0, 0, 21][..], &[0; 17]].concat();
        let v6 = [&[0x60, 0, 0, 0, 0, 1][..], &[0; 35]].concat();
        for packet in [v4, v6] {
            assert_eq!(ip_packet(&packet), packet);
            // 0x4505 and 0x6005 are ids of tags, too.
            for tag in [[0, 5], [0x45, 5], [0x60, 5]] {
                let kind = if packet[0] == 0x45 { [8, 0] } else { [0x86, 0xdd] };
                assert_eq!(ip_packet(&[&tag[..], &kind, &packet].concat()), packet);
            }
        }
        assert_eq!(ip_packet(&[0x45]), [0x45]);
    }
}
