//! Frame -> UDP payload: the checks of doors 1 and 3. Every bounds check of a frame lives here.
//!
//! These doors stand in front of the stack, so they let through to the payload only what the stack
//! would have delivered to our socket, checksums included. Everything else is passed untouched.

use aya_ebpf::programs::{TcContext, XdpContext};
use ingest_ebpf::{
    checksum::{fold, halves, is_valid},
    identity::store,
    layout::{
        ALLOWED_NETWORKS_MAX, LISTEN_LOOPBACK, LISTEN_PORTS_MAX, LISTEN_VIRTUAL, ListenKey, PAYLOAD_BYTES_MAX,
    },
    verdict::Verdict,
};

use crate::{
    ingest::scratch,
    maps::{LISTEN, LISTEN_GENERATION, Scratch, setting},
};

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

const PROTOCOL_UDP: u8 = 17;
// Of the four bytes of an IPv4 header that begin with the fragment bits.
const PROTOCOL_MASK: u32 = 0x0000_00ff_u32.to_be();
const FRAGMENT_AND_PROTOCOL_MASK: u32 = 0x3fff_00ff_u32.to_be();
const WHOLE_AND_UDP: u32 = (PROTOCOL_UDP as u32).to_be();
const NEXT_HEADER_FRAGMENT: u8 = 44;

/// What has a frame: its linear part, and the interface at which it is.
pub trait FrameContext {
    fn data(&self) -> usize;
    /// Behind the frame. Read each time: what the compiler has found out by comparing with the last one, the
    /// verifier has not.
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
        // SAFETY: the context is the kernel's.
        unsafe { (&raw const (*self.ctx).data_end).read_volatile() as usize }
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
        // SAFETY: the context is the kernel's.
        unsafe { (&raw const (*self.skb.skb).data_end).read_volatile() as usize }
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context is the kernel's.
        unsafe { (*self.skb.skb).ifindex }
    }
}

/// Checks the frame's headers, all but the checksum of what they carry, and puts the source into the
/// scratch space.
///
/// With a VLAN tag and without, the checks are compiled apart: then each header's offset is a constant.
#[inline(always)]
pub fn datagram<C: FrameContext>(ctx: &C) -> Result<(Datagram, &'static mut Scratch), Verdict> {
    let frame = Frame { data: ctx.data(), end: ctx.data_end() };
    let ethertype: u16 = frame.read(12).ok_or(Verdict::OtherTraffic)?;
    match ethertype {
        ETHERTYPE_IPV4 => ipv4::<C, ETHERNET_BYTES>(ctx, frame, 0),
        ETHERTYPE_IPV6 => ipv6::<C, ETHERNET_BYTES>(ctx, frame, 0),
        ETHERTYPE_VLAN => vlan(ctx, frame),
        // A service tag (802.1ad), too: it counts its ids apart, so it is left to the stack.
        _ => Err(Verdict::OtherTraffic),
    }
}

#[inline(always)]
fn vlan<C: FrameContext>(ctx: &C, frame: Frame) -> Result<(Datagram, &'static mut Scratch), Verdict> {
    const IP: usize = ETHERNET_BYTES + VLAN_BYTES;
    let tag: u16 = frame.read(ETHERNET_BYTES).ok_or(Verdict::OtherTraffic)?;
    let ethertype: u16 = frame.read(IP - 2).ok_or(Verdict::OtherTraffic)?;
    match ethertype {
        ETHERTYPE_IPV4 => ipv4::<C, IP>(ctx, frame, tag & VLAN_ID_MASK),
        ETHERTYPE_IPV6 => ipv6::<C, IP>(ctx, frame, tag & VLAN_ID_MASK),
        _ => Err(Verdict::OtherTraffic),
    }
}

#[inline(always)]
fn ipv4<C: FrameContext, const IP: usize>(
    ctx: &C,
    frame: Frame,
    vlan: u16,
) -> Result<(Datagram, &'static mut Scratch), Verdict> {
    if !frame.has(IP + IPV4_BYTES + UDP_BYTES) {
        return Err(Verdict::OtherTraffic);
    }
    // Fragment bits and offset, TTL, protocol.
    let middle: u32 = frame.at(IP + 6);
    if frame.at::<u8>(IP) != 0x45 || middle & FRAGMENT_AND_PROTOCOL_MASK != WHOLE_AND_UDP {
        return Err(if middle & PROTOCOL_MASK != WHOLE_AND_UDP || frame.at::<u8>(IP) >> 4 != 4 {
            Verdict::OtherTraffic
        } else if frame.at::<u8>(IP) != 0x45 {
            Verdict::IpOptions
        } else {
            Verdict::Fragment
        });
    }
    let udp = IP + IPV4_BYTES;
    let port = our_port(&frame, udp)?;
    let scratch = scratch().ok_or(Verdict::OtherTraffic)?;
    let (source, destination) = (frame.at::<u32>(IP + 12), frame.at::<u32>(IP + 16));
    let interface = listening(ctx, &frame, vlan, port, mapped(destination), scratch)?;
    // The stack takes nothing from the wire that claims to come from the destination itself.
    if interface & LISTEN_LOOPBACK == 0 && (source == destination || !allowed_v4(source)) {
        return Err(Verdict::SourceNotAllowed);
    }
    let total = usize::from(u16::from_be(frame.at(IP + 2)));
    let length = usize::from(u16::from_be(frame.at(udp + 4)));
    if total != length + IPV4_BYTES {
        return Err(Verdict::BadLength);
    }
    if frame.at::<u8>(IP + 8) == 0 {
        return Err(Verdict::TtlZero);
    }
    let addresses = u64::from(source) + u64::from(destination);
    let header = u64::from(frame.at::<u32>(IP))
        + u64::from(frame.at::<u32>(IP + 4))
        + u64::from(frame.at::<u32>(IP + 8))
        + addresses;
    if !is_valid(header) {
        return Err(Verdict::BadIpChecksum);
    }
    scratch.header.source_address = mapped(source);
    Ok((Datagram { udp: frame.data + udp, end: frame.end, addresses }, scratch))
}

#[inline(always)]
fn ipv6<C: FrameContext, const IP: usize>(
    ctx: &C,
    frame: Frame,
    vlan: u16,
) -> Result<(Datagram, &'static mut Scratch), Verdict> {
    if !frame.has(IP + IPV6_BYTES + UDP_BYTES) {
        return Err(Verdict::OtherTraffic);
    }
    match frame.at::<u8>(IP + 6) {
        PROTOCOL_UDP => {}
        NEXT_HEADER_FRAGMENT => return Err(Verdict::Fragment),
        // Hop-by-hop, routing and destination options.
        0 | 43 | 60 => return Err(Verdict::IpOptions),
        _ => return Err(Verdict::OtherTraffic),
    }
    if frame.at::<u8>(IP) >> 4 != 6 {
        return Err(Verdict::OtherTraffic);
    }
    let udp = IP + IPV6_BYTES;
    let port = our_port(&frame, udp)?;
    let scratch = scratch().ok_or(Verdict::OtherTraffic)?;
    let destination = [frame.at::<u64>(IP + 24), frame.at::<u64>(IP + 32)];
    let interface = listening(ctx, &frame, vlan, port, destination, scratch)?;
    let source = [frame.at::<u64>(IP + 8), frame.at::<u64>(IP + 16)];
    if interface & LISTEN_LOOPBACK == 0 && (source == destination || !allowed_v6(source)) {
        return Err(Verdict::SourceNotAllowed);
    }
    let length = usize::from(u16::from_be(frame.at(udp + 4)));
    if usize::from(u16::from_be(frame.at(IP + 4))) != length {
        return Err(Verdict::BadLength);
    }
    if frame.at::<u8>(IP + 7) == 0 {
        return Err(Verdict::TtlZero);
    }
    // Here it may not be left out.
    if frame.at::<u16>(udp + 6) == 0 {
        return Err(Verdict::BadUdpChecksum);
    }
    scratch.header.source_address = source;
    let addresses = halves(source[0]) + halves(source[1]) + halves(destination[0]) + halves(destination[1]);
    Ok((Datagram { udp: frame.data + udp, end: frame.end, addresses }, scratch))
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
    // Most often the first.
    if count > 0 && source & setting!(allowed_v4[0].mask) == setting!(allowed_v4[0].address) {
        return true;
    }
    for at in 1..ALLOWED_NETWORKS_MAX {
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
    /// Address of the UDP header; all before it, and the UDP header itself, is inside the frame.
    udp: usize,
    /// Behind the frame.
    end: usize,
    /// Sum of both addresses.
    addresses: u64,
}

impl Datagram {
    /// Payload's length, and the address of the eight bytes that end it.
    #[inline(always)]
    fn extent(&self) -> Result<(usize, usize), Verdict> {
        // SAFETY: as in `at`. Volatile, without what the compiler or the verifier learnt from an earlier load.
        let length = usize::from(u16::from_be(unsafe { ((self.udp + 4) as *const u16).read_volatile() }));
        // The verifier of Linux 6.1 loses the lower bound of a length that was computed by subtraction;
        // masking the length less one and adding it back states both bounds at once.
        let payload = (length.wrapping_sub(UDP_BYTES + 1) & 2047) + 1;
        if payload > PAYLOAD_BYTES_MAX || payload + UDP_BYTES != length {
            return Err(match length {
                0..UDP_BYTES => Verdict::BadLength,
                UDP_BYTES => Verdict::Empty,
                _ => Verdict::LongPayload,
            });
        }
        // The frame may end before the datagram does. One pointer for the check and for the access: the
        // verifier knows what it learnt by a comparison of that very pointer only.
        let end = self.udp + payload;
        if end + 8 > self.end {
            return Err(Verdict::BadLength);
        }
        Ok((payload, end))
    }

    /// Loads a field of the UDP header.
    #[inline(always)]
    fn at<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: inside the frame, which stays mapped while the program runs; any bytes are a T, for it is
        // only used with integers.
        unsafe { ((self.udp + offset) as *const T).read_unaligned() }
    }

    /// Loads two words of the payload, if the frame does not end before.
    #[inline(always)]
    fn two_words(&self, end: usize, offset: usize) -> Option<(u64, u64)> {
        let at = self.udp + UDP_BYTES + offset;
        // SAFETY: inside the frame, as was just asked; the rest as in `at`.
        let load = |at: usize| unsafe { (at as *const [u64; 2]).read_unaligned() };
        (at + 16 <= end).then(|| load(at).into())
    }

    /// The pseudo-header's sum: addresses, protocol and length.
    #[inline(always)]
    fn pseudo_header(&self) -> u64 {
        self.addresses + u64::from(u16::from(PROTOCOL_UDP).to_be()) + u64::from(self.at::<u16>(4))
    }

    /// Whether the checksum will do although the payload does not sum up to it: there is none (over IPv6 that has
    /// been refused), or just the pseudo-header's.
    #[inline(always)]
    fn needs_no_payload(&self, scratch: &Scratch) -> bool {
        let checksum: u16 = self.at(6);
        let is_virtual = scratch.listen_flags & u64::from(LISTEN_VIRTUAL) != 0;
        checksum == 0 || (is_virtual && fold(self.pseudo_header()) == checksum)
    }

    /// Copies the payload into the scratch space, the rest of its last two words zeros, and sums it up on the way.
    /// Its last eight bytes, which may begin before it.
    ///
    /// Word by word out of the frame: for a datagram of Airflow's size `bpf_xdp_load_bytes` takes longer,
    /// and the sum would go over the copy once more.
    #[inline(always)]
    pub fn load<C: FrameContext>(&self, ctx: &C, scratch: &mut Scratch) -> Result<u64, Verdict> {
        let (payload, end) = self.extent()?;
        store(&mut scratch.payload_bytes, payload as u32);
        scratch.header.source_port = u16::from_be(self.at(0));
        let pairs = payload / 16;
        // SAFETY: `extent` compared what is behind it with the frame's end; any bytes are a u64.
        let last_bytes = unsafe { (end as *const u64).read_unaligned() };
        let last = ending(end, payload);
        scratch.payload.set_two_words(pairs * 16, last);
        let header = self.pseudo_header() + u64::from(self.at::<u32>(0)) + u64::from(self.at::<u32>(4));
        let mut sum = Sum::new(last);
        let frame_end = ctx.data_end();
        macro_rules! take {
            ($at:expr) => {
                let Some(pair) = self.two_words(frame_end, $at * 16) else { return Err(Verdict::BadLength) };
                scratch.payload.set_two_words($at * 16, pair);
                sum.add(pair);
            };
        }
        // The first ones written out, for half of the work of a loop is counting.
        'taken: {
            macro_rules! first_pairs {
                ($($at:literal)*) => {
                    $(
                        if pairs <= $at {
                            break 'taken;
                        }
                        take!($at);
                    )*
                };
            }
            first_pairs!(0 1 2 3);
            for at in 4..PAYLOAD_BYTES_MAX / 16 {
                if at >= pairs {
                    break;
                }
                take!(at);
            }
        }
        if is_valid(header + sum.total()) || self.needs_no_payload(scratch) {
            Ok(last_bytes)
        } else {
            Err(Verdict::BadUdpChecksum)
        }
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

    /// Loads a field that may lie behind the frame's end.
    #[inline(always)]
    fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        self.has(offset + size_of::<T>()).then(|| self.at(offset))
    }
}
