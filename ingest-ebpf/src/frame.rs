//! Frame -> UDP payload: the checks of doors 1 and 3. Every bounds check of a frame lives here.
//!
//! These doors stand in front of the stack, so they let through to the payload only what the stack
//! would have delivered to our socket, checksums included. Everything else is passed untouched.

use aya_ebpf::programs::{TcContext, XdpContext};
use ingest_ebpf::{
    checksum::{fold, halves, is_valid},
    layout::{
        ALLOWED_NETWORKS_MAX, LISTEN_LOOPBACK, LISTEN_PORTS_MAX, LISTEN_VIRTUAL, ListenKey, PAYLOAD_BYTES_MAX,
    },
    verdict::Verdict,
};

use crate::maps::{LISTEN, LISTEN_GENERATION, Scratch, setting};

const ETHERNET_BYTES: usize = 14;
const VLAN_BYTES: usize = 4;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;

// Network byte order, as loaded from the frame.
const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
const ETHERTYPE_VLAN: u16 = 0x8100_u16.to_be();
const VLAN_ID_MASK: u16 = 0x0fff_u16.to_be();
const FRAGMENT_MASK: u16 = 0x3fff_u16.to_be();

const PROTOCOL_UDP: u8 = 17;
const NEXT_HEADER_FRAGMENT: u8 = 44;

/// What has a frame: its linear part, and the interface at which it is.
pub trait FrameContext {
    fn data(&self) -> usize;
    fn data_end(&self) -> usize;
    fn interface(&self) -> u32;
}

impl FrameContext for XdpContext {
    #[inline(always)]
    fn data(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        self.data_end()
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        self.ingress_ifindex() as u32
    }
}

impl FrameContext for TcContext {
    #[inline(always)]
    fn data(&self) -> usize {
        self.data()
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        self.data_end()
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.skb.skb).ifindex }
    }
}

/// Checks the frame's headers, all but the checksum of what they carry, and puts the source into the
/// scratch space.
#[inline(always)]
pub fn datagram<C: FrameContext>(ctx: &C, scratch: &mut Scratch) -> Result<Datagram, Verdict> {
    let frame = Frame { data: ctx.data(), end: ctx.data_end() };
    let mut ethertype: u16 = frame.read(12).ok_or(Verdict::OtherTraffic)?;
    let mut vlan = 0;
    let mut ip = ETHERNET_BYTES;
    // A service tag (802.1ad) counts its ids apart, so it is left to the stack.
    if ethertype == ETHERTYPE_VLAN {
        let tag: u16 = frame.read(ETHERNET_BYTES).ok_or(Verdict::OtherTraffic)?;
        vlan = tag & VLAN_ID_MASK;
        ethertype = frame.read(ETHERNET_BYTES + 2).ok_or(Verdict::OtherTraffic)?;
        ip += VLAN_BYTES;
    }
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(ctx, frame, ip, vlan, scratch),
        ETHERTYPE_IPV6 => ipv6(ctx, frame, ip, vlan, scratch),
        _ => Err(Verdict::OtherTraffic),
    }
}

#[inline(always)]
fn ipv4<C: FrameContext>(
    ctx: &C,
    frame: Frame,
    ip: usize,
    vlan: u16,
    scratch: &mut Scratch,
) -> Result<Datagram, Verdict> {
    if !frame.has(ip + IPV4_BYTES + UDP_BYTES) {
        return Err(Verdict::OtherTraffic);
    }
    if frame.at::<u8>(ip + 9) != PROTOCOL_UDP || frame.at::<u8>(ip) >> 4 != 4 {
        return Err(Verdict::OtherTraffic);
    }
    if frame.at::<u8>(ip) != 0x45 {
        return Err(Verdict::IpOptions);
    }
    if frame.at::<u16>(ip + 6) & FRAGMENT_MASK != 0 {
        return Err(Verdict::Fragment);
    }
    let udp = ip + IPV4_BYTES;
    let port = our_port(&frame, udp)?;
    let (source, destination) = (frame.at::<u32>(ip + 12), frame.at::<u32>(ip + 16));
    let interface = listening(ctx, &frame, vlan, port, mapped(destination), scratch)?;
    // The stack takes nothing from the wire that claims to come from the destination itself.
    if interface & LISTEN_LOOPBACK == 0 && (source == destination || !allowed_v4(source)) {
        return Err(Verdict::SourceNotAllowed);
    }
    let total = usize::from(u16::from_be(frame.at(ip + 2)));
    let length = usize::from(u16::from_be(frame.at(udp + 4)));
    if total != length + IPV4_BYTES {
        return Err(Verdict::BadLength);
    }
    if frame.at::<u8>(ip + 8) == 0 {
        return Err(Verdict::TtlZero);
    }
    let header = u64::from(frame.at::<u32>(ip))
        + u64::from(frame.at::<u32>(ip + 4))
        + u64::from(frame.at::<u32>(ip + 8))
        + u64::from(source)
        + u64::from(destination);
    if !is_valid(header) {
        return Err(Verdict::BadIpChecksum);
    }
    scratch.header.source_address = mapped(source);
    let addresses = u64::from(source) + u64::from(destination);
    // Zero means that the sender computed none.
    Ok(Datagram { frame, udp, addresses, interface, may_lack_checksum: true })
}

#[inline(always)]
fn ipv6<C: FrameContext>(
    ctx: &C,
    frame: Frame,
    ip: usize,
    vlan: u16,
    scratch: &mut Scratch,
) -> Result<Datagram, Verdict> {
    if !frame.has(ip + IPV6_BYTES + UDP_BYTES) {
        return Err(Verdict::OtherTraffic);
    }
    match frame.at::<u8>(ip + 6) {
        PROTOCOL_UDP => {}
        NEXT_HEADER_FRAGMENT => return Err(Verdict::Fragment),
        // Hop-by-hop, routing and destination options.
        0 | 43 | 60 => return Err(Verdict::IpOptions),
        _ => return Err(Verdict::OtherTraffic),
    }
    if frame.at::<u8>(ip) >> 4 != 6 {
        return Err(Verdict::OtherTraffic);
    }
    let udp = ip + IPV6_BYTES;
    let port = our_port(&frame, udp)?;
    let destination = [frame.at::<u64>(ip + 24), frame.at::<u64>(ip + 32)];
    let interface = listening(ctx, &frame, vlan, port, destination, scratch)?;
    let source = [frame.at::<u64>(ip + 8), frame.at::<u64>(ip + 16)];
    if interface & LISTEN_LOOPBACK == 0 && (source == destination || !allowed_v6(source)) {
        return Err(Verdict::SourceNotAllowed);
    }
    let length = usize::from(u16::from_be(frame.at(udp + 4)));
    if usize::from(u16::from_be(frame.at(ip + 4))) != length {
        return Err(Verdict::BadLength);
    }
    if frame.at::<u8>(ip + 7) == 0 {
        return Err(Verdict::TtlZero);
    }
    scratch.header.source_address = source;
    let addresses = halves(source[0]) + halves(source[1]) + halves(destination[0]) + halves(destination[1]);
    Ok(Datagram { frame, udp, addresses, interface, may_lack_checksum: false })
}

/// The destination port, if it is one that we listen on.
#[inline(always)]
fn our_port(frame: &Frame, udp: usize) -> Result<u16, Verdict> {
    let port: u16 = frame.at(udp + 2);
    for at in 0..LISTEN_PORTS_MAX {
        let listen = setting!(ports[at]);
        if listen == 0 {
            break;
        }
        if listen == port {
            return Ok(port);
        }
    }
    Err(Verdict::OtherTraffic)
}

/// Whether the frame goes to one of our sockets; if so, the `LISTEN_*` bits of its interface.
#[inline(always)]
fn listening<C: FrameContext>(
    ctx: &C,
    frame: &Frame,
    vlan: u16,
    port: u16,
    address: [u64; 2],
    scratch: &mut Scratch,
) -> Result<u32, Verdict> {
    let key = ListenKey { interface: ctx.interface(), port, mac: frame.at(0), vlan, padding: 0, address };
    let generation = LISTEN_GENERATION.get(0).map_or(0, |generation| {
        // SAFETY: a valid, aligned word that the daemon may write at any time; hence volatile.
        unsafe { core::ptr::from_ref(generation).read_volatile() }
    }) + 1;
    if scratch.listen_generation == generation && scratch.listen_key.equals(&key) {
        return Ok(scratch.listen_flags as u32);
    }
    // SAFETY: not preallocated, so an element that the daemon deletes is not reused while we read it.
    let Some(entry) = (unsafe { LISTEN.get(key) }) else { return Err(Verdict::OtherDestination) };
    scratch.listen_key = key;
    scratch.listen_flags = u64::from(entry.flags);
    scratch.listen_generation = generation;
    Ok(entry.flags)
}

#[inline(always)]
fn allowed_v4(source: u32) -> bool {
    let count = setting!(allowed_v4_count) as usize;
    for at in 0..ALLOWED_NETWORKS_MAX {
        if at >= count {
            break;
        }
        if source & setting!(allowed_v4[at].mask) == setting!(allowed_v4[at].address) {
            return true;
        }
    }
    false
}

#[inline(always)]
fn allowed_v6(source: [u64; 2]) -> bool {
    let count = setting!(allowed_v6_count) as usize;
    for at in 0..ALLOWED_NETWORKS_MAX {
        if at >= count {
            break;
        }
        if source[0] & setting!(allowed_v6[at].mask[0]) == setting!(allowed_v6[at].address[0])
            && source[1] & setting!(allowed_v6[at].mask[1]) == setting!(allowed_v6[at].address[1])
        {
            return true;
        }
    }
    false
}

/// A datagram whose headers are as they should be.
pub struct Datagram {
    frame: Frame,
    /// Offset of the UDP header; all before it, and the UDP header itself, is inside the frame.
    udp: usize,
    /// Sum of both addresses.
    addresses: u64,
    /// The `LISTEN_*` bits of its interface.
    interface: u32,
    may_lack_checksum: bool,
}

impl Datagram {
    /// Payload's length, and the address of the eight bytes that end it.
    #[inline(always)]
    fn extent(&self) -> Result<(usize, usize), Verdict> {
        let length = usize::from(u16::from_be(self.frame.at_volatile(self.udp + 4)));
        if length < UDP_BYTES {
            return Err(Verdict::BadLength);
        }
        if length == UDP_BYTES {
            return Err(Verdict::Empty);
        }
        // The verifier of Linux 6.1 loses the lower bound of a length that was computed by subtraction;
        // masking the length less one and adding it back states both bounds at once.
        let payload = ((length - UDP_BYTES - 1) & 2047) + 1;
        if payload > PAYLOAD_BYTES_MAX || payload + UDP_BYTES != length {
            return Err(Verdict::LongPayload);
        }
        // The frame may end before the datagram does. One pointer for the check and for the access: the
        // verifier knows what it learnt by a comparison of that very pointer only.
        let end = self.frame.data + self.udp + payload;
        if end + 8 > self.frame.end {
            return Err(Verdict::BadLength);
        }
        Ok((payload, end))
    }

    /// What the payload's checksum hangs on; to be read before the payload is, so that nothing of the frame is
    /// needed any more behind it. `None`, if it is missing and must not.
    #[inline(always)]
    fn checksum(&self) -> Option<Checksum> {
        let frame = &self.frame;
        // The pseudo-header's protocol and length.
        let tail = u64::from(u16::from(PROTOCOL_UDP).to_be()) + u64::from(frame.at::<u16>(self.udp + 4));
        let pseudo = self.addresses + tail;
        // Ports, length and checksum.
        let header = u64::from(frame.at::<u32>(self.udp)) + u64::from(frame.at::<u32>(self.udp + 4));
        let checksum: u16 = frame.at(self.udp + 6);
        let mut needs_no_payload = self.interface & LISTEN_VIRTUAL != 0 && fold(pseudo) == checksum;
        if checksum == 0 {
            if !self.may_lack_checksum {
                return None;
            }
            needs_no_payload = true;
        }
        Some(Checksum { needs_no_payload, header: pseudo + header })
    }

    /// Copies the payload into the scratch space, terminated, and sums it up on the way. Its length, and its last
    /// eight bytes, which may begin before it.
    ///
    /// Word by word out of the frame: for a datagram of Airflow's size `bpf_xdp_load_bytes` takes longer,
    /// and the sum would go over the copy once more.
    #[inline(always)]
    pub fn load(&self, scratch: &mut Scratch) -> Result<(usize, u64), Verdict> {
        let frame = &self.frame;
        let (payload, end) = self.extent()?;
        scratch.header.source_port = u16::from_be(frame.at(self.udp));
        let start = self.udp + UDP_BYTES;
        let pairs = payload / 16;
        // SAFETY: `extent` compared what is behind it with the frame's end; any bytes are a u64.
        let last_bytes = unsafe { (end as *const u64).read_unaligned() };
        let last = ending(end, payload);
        scratch.payload.finish(pairs * 16, last);
        let checksum = self.checksum().ok_or(Verdict::BadUdpChecksum)?;
        let mut sum = Sum::new(last);
        for at in 0..PAYLOAD_BYTES_MAX / 16 {
            if at >= pairs {
                break;
            }
            let Some([first, second]) = frame.read::<[u64; 2]>(start + at * 16) else {
                return Err(Verdict::BadLength);
            };
            scratch.payload.set_two_words(at * 16, (first, second));
            sum.add((first, second));
        }
        if checksum.is_valid(sum.total()) { Ok((payload, last_bytes)) } else { Err(Verdict::BadUdpChecksum) }
    }
}

/// How a UDP checksum is to be judged once the payload's sum is known.
struct Checksum {
    /// There is none, or just the pseudo-header's, and that will do.
    needs_no_payload: bool,
    /// Sum of pseudo-header and header.
    header: u64,
}

impl Checksum {
    #[inline(always)]
    fn is_valid(&self, payload: u64) -> bool {
        self.needs_no_payload || is_valid(self.header + payload)
    }
}

/// The last `count & 15` of the bytes that end with the eight at the address `end`, as two words, zeros behind
/// them.
///
/// Two words at a time, for each look whether the frame goes on takes as long as a word. So the rest is
/// taken from the sixteen bytes that end there; headers stand before, so they are inside the frame. What of
/// them is older falls out by shifts, and zeros come in: the NUL that ends a line.
#[inline(always)]
fn ending(end: usize, count: usize) -> (u64, u64) {
    // SAFETY: the caller compared what is behind those eight with the frame's end; any bytes are a u64.
    let ending = unsafe { ((end - 8) as *const [u64; 2]).read_unaligned() };
    let (rest, tail_bits) = (count & 8, 8 * (count & 7));
    let top = |word: u64| (word >> 1) >> (63 - tail_bits);
    if rest != 0 { (top(ending[0]) | (ending[1] << tail_bits), top(ending[1])) } else { (top(ending[1]), 0) }
}

/// A sum of the 32-bit halves of words.
///
/// The sum of the words as such, which wraps, and that of their upper halves, which does not, give that
/// of both halves in the end: less work for each word.
struct Sum {
    words: u64,
    upper: u64,
}

impl Sum {
    #[inline(always)]
    fn new(pair: (u64, u64)) -> Self {
        let mut sum = Self { words: 0, upper: 0 };
        sum.add(pair);
        sum
    }

    #[inline(always)]
    fn add(&mut self, pair: (u64, u64)) {
        self.words = self.words.wrapping_add(pair.0).wrapping_add(pair.1);
        self.upper += (pair.0 >> 32) + (pair.1 >> 32);
    }

    #[inline(always)]
    fn total(&self) -> u64 {
        self.words.wrapping_sub(self.upper << 32) + self.upper
    }
}

/// An IPv4 address as loaded from the frame, mapped into IPv6.
#[inline(always)]
fn mapped(address: u32) -> [u64; 2] {
    [0, (u64::from(address) << 32) | 0xffff_0000]
}

/// The linear part of a frame.
struct Frame {
    data: usize,
    end: usize,
}

impl Frame {
    /// Whether the frame holds its first `bytes` bytes.
    #[inline(always)]
    fn has(&self, bytes: usize) -> bool {
        self.data + bytes <= self.end
    }

    /// Loads a header field; the caller has asked [`Frame::has`] for more than its end, and the
    /// verifier checks that it did.
    #[inline(always)]
    fn at<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: inside the frame, which stays mapped while the program runs; any bytes are a T,
        // for it is only used with integers and byte arrays.
        unsafe { ((self.data + offset) as *const T).read_unaligned() }
    }

    /// The same, without what the compiler or the verifier learnt from an earlier load.
    #[inline(always)]
    fn at_volatile(&self, offset: usize) -> u16 {
        // SAFETY: as in `at`.
        unsafe { ((self.data + offset) as *const u16).read_volatile() }
    }

    /// Loads a field that may lie behind the frame's end.
    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        self.has(offset + size_of::<T>()).then(|| self.at(offset))
    }
}
