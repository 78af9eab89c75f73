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

/// Checks the frame and puts payload and source into the scratch space; the payload's length.
#[inline(always)]
pub fn payload<C: FrameContext>(ctx: &C, scratch: &mut Scratch) -> Result<usize, Verdict> {
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
        ETHERTYPE_IPV4 => ipv4(ctx, &frame, ip, vlan, scratch),
        ETHERTYPE_IPV6 => ipv6(ctx, &frame, ip, vlan, scratch),
        _ => Err(Verdict::OtherTraffic),
    }
}

#[inline(always)]
fn ipv4<C: FrameContext>(
    ctx: &C,
    frame: &Frame,
    ip: usize,
    vlan: u16,
    scratch: &mut Scratch,
) -> Result<usize, Verdict> {
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
    let port = our_port(frame, udp)?;
    let (source, destination) = (frame.at::<u32>(ip + 12), frame.at::<u32>(ip + 16));
    let interface = listening(ctx, frame, vlan, port, mapped(destination), scratch)?;
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
    let checksum: u16 = frame.at(udp + 6);
    let pseudo = u64::from(source) + u64::from(destination) + pseudo_tail(frame, udp);
    let header = udp_header_sum(frame, udp);
    let (payload, sum) = load(frame, udp, length, scratch)?;
    // Over IPv4, zero means that the sender computed none.
    if checksum != 0 && !valid(pseudo, header + sum, checksum, interface) {
        return Err(Verdict::BadUdpChecksum);
    }
    scratch.header.source_address = mapped(source);
    Ok(payload)
}

#[inline(always)]
fn ipv6<C: FrameContext>(
    ctx: &C,
    frame: &Frame,
    ip: usize,
    vlan: u16,
    scratch: &mut Scratch,
) -> Result<usize, Verdict> {
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
    let port = our_port(frame, udp)?;
    let destination = [frame.at::<u64>(ip + 24), frame.at::<u64>(ip + 32)];
    let interface = listening(ctx, frame, vlan, port, destination, scratch)?;
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
    let checksum: u16 = frame.at(udp + 6);
    let addresses = halves(source[0]) + halves(source[1]) + halves(destination[0]) + halves(destination[1]);
    let pseudo = addresses + pseudo_tail(frame, udp);
    let header = udp_header_sum(frame, udp);
    let (payload, sum) = load(frame, udp, length, scratch)?;
    if checksum == 0 || !valid(pseudo, header + sum, checksum, interface) {
        return Err(Verdict::BadUdpChecksum);
    }
    scratch.header.source_address = source;
    Ok(payload)
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

/// Copies the payload of a UDP datagram of `length` bytes (its header included), terminated, and sums
/// it up on the way. Its length, and the sum of its 32-bit words.
///
/// Word by word out of the frame: for a datagram of Airflow's size `bpf_xdp_load_bytes` takes longer,
/// and the sum would go over the copy once more.
#[inline(always)]
fn load(frame: &Frame, udp: usize, length: usize, scratch: &mut Scratch) -> Result<(usize, u64), Verdict> {
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
    scratch.header.source_port = u16::from_be(frame.at(udp));
    let start = udp + UDP_BYTES;
    // The frame may end before the datagram does. One pointer for the check and for the access: the
    // verifier knows what it learnt by a comparison of that very pointer only.
    let behind = frame.data + start + payload;
    if behind > frame.end {
        return Err(Verdict::BadLength);
    }
    // Two words at a time, for each look whether the frame goes on takes as long as a word. So the rest is
    // taken from the sixteen bytes that end the payload; headers stand before it, so they are inside the
    // frame. What of them is older falls out by shifts, and zeros come in: the NUL that ends a line.
    // SAFETY: inside the frame, as just said; any bytes are a u64.
    let ending = unsafe { ((behind - 16) as *const [u64; 2]).read_unaligned() };
    let (rest, tail_bits) = (payload & 8, 8 * (payload & 7));
    let top = |word: u64| (word >> 1) >> (63 - tail_bits);
    let mut last = (top(ending[1]), 0);
    if rest != 0 {
        last = (top(ending[0]) | (ending[1] << tail_bits), last.0);
    }
    let pairs = payload / 16;
    scratch.payload.finish(pairs * 16, last);
    // The sum of the words as such, which wraps, and that of their upper halves, which does not, give that
    // of both halves in the end: less work for each word.
    let mut words = last.0.wrapping_add(last.1);
    let mut upper = (last.0 >> 32) + (last.1 >> 32);
    for at in 0..PAYLOAD_BYTES_MAX / 16 {
        if at >= pairs {
            break;
        }
        let Some([first, second]) = frame.read::<[u64; 2]>(start + at * 16) else {
            return Err(Verdict::BadLength);
        };
        scratch.payload.set_two_words(at * 16, (first, second));
        words = words.wrapping_add(first).wrapping_add(second);
        upper += (first >> 32) + (second >> 32);
    }
    let lower = words.wrapping_sub(upper << 32);
    Ok((payload, lower + upper))
}

/// The pseudo-header's protocol and length; its addresses are the caller's.
#[inline(always)]
fn pseudo_tail(frame: &Frame, udp: usize) -> u64 {
    u64::from(u16::from(PROTOCOL_UDP).to_be()) + u64::from(frame.at::<u16>(udp + 4))
}

/// Ports, length and checksum.
#[inline(always)]
fn udp_header_sum(frame: &Frame, udp: usize) -> u64 {
    u64::from(frame.at::<u32>(udp)) + u64::from(frame.at::<u32>(udp + 4))
}

/// Whether the UDP checksum is that of pseudo-header, header and payload; `datagram` is the sum of the
/// latter two.
#[inline(always)]
fn valid(pseudo: u64, datagram: u64, checksum: u16, interface: u32) -> bool {
    (interface & LISTEN_VIRTUAL != 0 && fold(pseudo) == checksum) || is_valid(pseudo + datagram)
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

    /// Loads a field that may lie behind the frame's end.
    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        self.has(offset + size_of::<T>()).then(|| self.at(offset))
    }
}
