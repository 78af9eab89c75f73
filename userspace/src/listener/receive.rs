//! Datagram socket -> up to 64 datagrams at once, by `recvmmsg`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Datagrams per call: enough to make the call cheap, few enough to stay in the cache.
pub(super) const BATCH: usize = 64;
/// The largest UDP payload has 65,527 bytes (IPv6 without jumbograms), so none is ever cut. A Unix
/// datagram may be longer, as far as its sender's buffer goes.
const PAYLOAD_BYTES_MAX: usize = 65_536;
/// `sockaddr_in6`, the longer one of the two.
const SOURCE_BYTES: usize = size_of::<libc::sockaddr_in6>();
/// Three control messages: a header of 16 bytes each, 8 for the counter, 16 for the time, 16 for who
/// sent it.
const CONTROL_WORDS: usize = 12;
const CONTROL_HEADER_BYTES: usize = size_of::<libc::cmsghdr>();

/// Buffers of one batch, made once. Pages that no datagram has touched take no memory.
pub(crate) struct ReceiveBatch {
    payloads: Vec<u8>,
    sources: [[u8; SOURCE_BYTES]; BATCH],
    controls: [[u64; CONTROL_WORDS]; BATCH],
    lengths: [Lengths; BATCH],
}

/// How much the kernel wrote for one datagram.
#[derive(Clone, Copy, Default)]
struct Lengths {
    payload: usize,
    source: usize,
    control: usize,
    /// The datagram was longer than the buffer.
    cut: bool,
}

/// What the kernel sent along with a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    /// Datagrams that the socket has dropped so far; wraps. Absent while it is zero.
    pub(crate) overflow: Option<u32>,
    /// Time of arrival, since 1970.
    pub(crate) arrived: Option<Duration>,
    /// The sender's process, by its number in our namespace.
    pub(crate) process: Option<u32>,
}

impl ReceiveBatch {
    pub(crate) fn new() -> Self {
        Self {
            // Zeroed memory of this size comes straight from the kernel, untouched.
            payloads: vec![0; BATCH * PAYLOAD_BYTES_MAX],
            sources: [[0; SOURCE_BYTES]; BATCH],
            controls: [[0; CONTROL_WORDS]; BATCH],
            lengths: [Lengths::default(); BATCH],
        }
    }

    /// Takes what waits in the socket, at most [`BATCH`] datagrams, and never waits itself.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where nothing waits; otherwise the socket's error. Nothing was taken then.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        // SAFETY: `mmsghdr` and `iovec` are integers and pointers; all of them may be zero.
        #[expect(unsafe_code, reason = "libc hides padding fields of msghdr, so it has no other constructor")]
        let (mut headers, mut vectors): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let buffers = self.payloads.chunks_exact_mut(PAYLOAD_BYTES_MAX);
        let parts = buffers.zip(&mut self.sources).zip(&mut self.controls);
        for ((header, vector), ((payload, source), control)) in
            headers.iter_mut().zip(&mut vectors).zip(parts)
        {
            vector.iov_base = payload.as_mut_ptr().cast();
            vector.iov_len = payload.len();
            header.msg_hdr.msg_name = source.as_mut_ptr().cast();
            header.msg_hdr.msg_namelen = libc::socklen_t::try_from(SOURCE_BYTES).expect("28 bytes are short");
            header.msg_hdr.msg_iov = &raw mut *vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            // The field is wider with glibc than with musl.
            header.msg_hdr.msg_controllen = size_of_val(control) as _;
        }
        let batch = libc::c_uint::try_from(BATCH).expect("a batch is small");
        // SAFETY: `socket` is open while it is borrowed. The `batch` headers are initialised above;
        // each points to one `iovec` and to a payload, source and control buffer with their true
        // sizes, all distinct, all exclusively ours and alive until the call returns; the kernel
        // keeps no pointer. A null timeout is allowed. It buys one system call for 64 datagrams.
        #[expect(unsafe_code, reason = "no safe wrapper of recvmmsg hands out control messages")]
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                batch,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
        for (lengths, header) in self.lengths.iter_mut().zip(&headers).take(received) {
            #[allow(clippy::unnecessary_cast, reason = "the control length is narrower with musl")]
            let control = header.msg_hdr.msg_controllen as usize;
            *lengths = Lengths {
                payload: header.msg_len as usize,
                source: header.msg_hdr.msg_namelen as usize,
                control,
                cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            };
        }
        Ok(received.min(BATCH))
    }

    /// Payload of the `index`th datagram of the last call.
    pub(crate) fn payload(&self, index: usize) -> &[u8] {
        let start = index * PAYLOAD_BYTES_MAX;
        &self.payloads[start..start + self.lengths[index].payload.min(PAYLOAD_BYTES_MAX)]
    }

    /// Whether the end of that payload is missing.
    pub(super) fn was_cut(&self, index: usize) -> bool {
        self.lengths[index].cut
    }

    pub(super) fn source(&self, index: usize) -> Option<SocketAddr> {
        parse_source(&self.sources[index][..self.lengths[index].source.min(SOURCE_BYTES)])
    }

    pub(crate) fn control(&self, index: usize) -> Control {
        let mut bytes = [0_u8; CONTROL_WORDS * 8];
        for (to, word) in bytes.chunks_exact_mut(8).zip(self.controls[index]) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        parse_control(&bytes[..self.lengths[index].control.min(bytes.len())])
    }
}

/// The address in a `sockaddr_in` or `sockaddr_in6`; IPv4 on a dual-stack socket comes back as IPv4.
fn parse_source(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(field(bytes, 0)?));
    let port = u16::from_be_bytes(field(bytes, 2)?);
    match family {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(field::<4>(bytes, 4)?);
            Some(SocketAddr::new(ip.into(), port))
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(field::<16>(bytes, 8)?);
            let scope = u32::from_ne_bytes(field(bytes, 24)?);
            match IpAddr::V6(ip).to_canonical() {
                IpAddr::V6(ip) => Some(SocketAddrV6::new(ip, port, 0, scope).into()),
                v4 @ IpAddr::V4(_) => Some(SocketAddr::new(v4, port)),
            }
        }
        _ => None,
    }
}

/// Walks control messages: `cmsghdr { len: usize, level: i32, type: i32 }`, data, padding to a word.
fn parse_control(mut bytes: &[u8]) -> Control {
    let mut control = Control::default();
    while let (Some(length), Some(level), Some(kind)) = (
        field(bytes, 0).map(usize::from_ne_bytes),
        field(bytes, 8).map(i32::from_ne_bytes),
        field(bytes, 12).map(i32::from_ne_bytes),
    ) {
        let Some(data) = bytes.get(CONTROL_HEADER_BYTES..length) else { break };
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                control.overflow = field(data, 0).map(u32::from_ne_bytes);
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                control.arrived = timespec(data);
            }
            // 0 where it has no number here.
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                control.process = field(data, 0).map(u32::from_ne_bytes).filter(|process| *process != 0);
            }
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
    }
    control
}

fn timespec(data: &[u8]) -> Option<Duration> {
    let seconds = u64::try_from(i64::from_ne_bytes(field(data, 0)?)).ok()?;
    let nanoseconds = u32::try_from(i64::from_ne_bytes(field(data, 8)?)).ok()?;
    (nanoseconds < 1_000_000_000).then(|| Duration::new(seconds, nanoseconds))
}

/// The `N` bytes from `at` on, if they are there.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (CONTROL_HEADER_BYTES + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn control_messages_are_found_in_any_order() {
        let overflow = message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7_u32.to_ne_bytes());
        let time = [1_700_000_000_i64.to_ne_bytes(), 5_i64.to_ne_bytes()].concat();
        let time = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &time);
        let credentials = [77_u32, 0, 0].map(u32::to_ne_bytes).concat();
        let credentials = message(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &credentials);
        let other = message(libc::IPPROTO_IP, 1, b"xyz");
        let arrived = Some(Duration::new(1_700_000_000, 5));
        let expected = Control { overflow: Some(7), arrived, process: Some(77) };
        assert_eq!(parse_control(&[overflow.clone(), time.clone(), credentials.clone()].concat()), expected);
        assert_eq!(parse_control(&[credentials, time, other, overflow].concat()), expected);
    }

    #[test]
    fn a_cut_or_senseless_control_message_ends_the_walk() {
        let whole = message(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7_u32.to_ne_bytes());
        for end in 0..whole.len() {
            // The padding may be missing, the data may not.
            let expected = if end >= 20 { Some(7) } else { None };
            assert_eq!(parse_control(&whole[..end]).overflow, expected, "{end}");
        }
        for length in [0_usize, 1, 15, usize::MAX] {
            let mut bytes = whole.clone();
            bytes[..8].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(parse_control(&bytes), Control::default());
        }
    }

    #[test]
    fn a_mapped_source_is_ipv4() {
        let mut bytes = [0_u8; SOURCE_BYTES];
        bytes[..2].copy_from_slice(&u16::try_from(libc::AF_INET6).unwrap().to_ne_bytes());
        bytes[2..4].copy_from_slice(&8125_u16.to_be_bytes());
        bytes[8..24].copy_from_slice(&"::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(parse_source(&bytes), Some("192.0.2.7:8125".parse().unwrap()));
        bytes[8..24].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(parse_source(&bytes), Some("[2001:db8::1]:8125".parse().unwrap()));
        assert_eq!(parse_source(&bytes[..20]), None);
        assert_eq!(parse_source(&[]), None);
    }
}
