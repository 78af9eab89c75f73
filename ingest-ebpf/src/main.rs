//! The kernel object: three doors, one body.

#![no_std]
#![no_main]
// Everything here is reached through the three programs; the binary exports nothing to Rust code.
#![allow(unreachable_pub, reason = "a binary's modules export to each other only")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "the kernel's 32-bit lengths and indices, each bounded by a check"
)]

mod frame;
mod ingest;
mod maps;
mod ring;

use aya_ebpf::{
    EbpfContext,
    bindings::xdp_action,
    helpers::generated::{bpf_redirect, bpf_sk_fullsock, bpf_skb_load_bytes, bpf_skb_load_bytes_relative},
    macros::{classifier, socket_filter, xdp},
    programs::{SkBuffContext, TcContext, XdpContext},
};
use ingest_ebpf::{
    identity::store,
    layout::PAYLOAD_BYTES_MAX,
    verdict::{Door, Outcome, Verdict},
};

use crate::{
    frame::{Datagram, FrameContext},
    ingest::{counted, ingest, scratch},
    maps::{SOCKET_DOOR, Scratch},
};

/// Door 1: what comes from the wire, in native mode only.
#[xdp]
#[inline(always)]
pub fn door_xdp(ctx: XdpContext) -> u32 {
    match counted(Door::Xdp, from_frame(&ctx)).outcome() {
        Outcome::Passed => xdp_action::XDP_PASS,
        Outcome::Counted | Outcome::Ringed => xdp_action::XDP_DROP,
    }
}

#[inline(always)]
fn from_frame(ctx: &XdpContext) -> Verdict {
    match frame::datagram(ctx) {
        Ok((datagram, scratch)) => from_datagram(ctx, Door::Xdp, &datagram, scratch),
        Err(verdict) => verdict,
    }
}

#[inline(always)]
fn from_datagram<C: EbpfContext + FrameContext>(
    ctx: &C,
    door: Door,
    datagram: &Datagram,
    scratch: &mut Scratch,
) -> Verdict {
    match datagram.load(ctx, scratch) {
        Ok(last) => ingest(ctx, door, scratch, last),
        Err(verdict) => verdict,
    }
}

/// What stands on our UDP sockets: it goes on with door 2's program as long as there is a daemon.
///
/// A socket may outlive the daemon, held by systemd or whoever passed it, and with the socket its filter. Then
/// nobody reads the rings any more, so everything has to stay in the socket, for the next daemon.
#[socket_filter]
pub fn door_socket_entry(ctx: SkBuffContext) -> i64 {
    // SAFETY: both programs are socket filters, and nothing is held here that would have to be dropped.
    unsafe { SOCKET_DOOR.tail_call(&ctx, 0) };
    KEEP_ALL
}

/// Keep all of a datagram, however long.
const KEEP_ALL: i64 = u32::MAX as i64;

/// Door 2: what the stack delivers to one of our own UDP sockets.
#[socket_filter]
#[inline(always)]
pub fn door_socket_filter(ctx: SkBuffContext) -> i64 {
    match counted(Door::SocketFilter, from_socket(&ctx)).outcome() {
        Outcome::Passed => KEEP_ALL,
        Outcome::Counted | Outcome::Ringed => 0,
    }
}

const UDP_BYTES: u32 = 8;
/// `BPF_HDR_START_NET`: offsets count from the network header.
const FROM_NETWORK_HEADER: u32 = 1;
const ETHERTYPE_IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// The stack has checked everything; the buffer begins with the UDP header.
#[inline(always)]
fn from_socket(ctx: &SkBuffContext) -> Verdict {
    let Some(scratch) = scratch() else { return Verdict::Empty };
    let length = ctx.len();
    if length <= UDP_BYTES {
        return Verdict::Empty;
    }
    // As in `frame::load`: both bounds in a form that the verifier of Linux 6.1 keeps.
    let payload = ((length - UDP_BYTES - 1) & 2047) + 1;
    if payload as usize > PAYLOAD_BYTES_MAX || payload + UDP_BYTES != length {
        return Verdict::LongPayload;
    }
    let skb = ctx.as_ptr().cast();
    // SAFETY: the context is the kernel's, and the payload has room for PAYLOAD_BYTES_MAX bytes.
    let result =
        unsafe { bpf_skb_load_bytes(skb, UDP_BYTES, scratch.payload.bytes.as_mut_ptr().cast(), payload) };
    if result != 0 || !load_source(ctx, scratch) {
        return Verdict::BadLength;
    }
    scratch.payload.terminate(payload as usize);
    let last = scratch.payload.last_word(payload as usize);
    store(&mut scratch.payload_bytes, payload);
    ingest(ctx, Door::SocketFilter, scratch, last)
}

/// The sender's address and port into the record's header.
#[inline(always)]
fn load_source(ctx: &SkBuffContext, scratch: &mut Scratch) -> bool {
    let skb = ctx.as_ptr().cast();
    let mut port = 0_u16;
    let address = &mut scratch.header.source_address;
    let to: *mut u64 = address.as_mut_ptr();
    // SAFETY: the context is the kernel's, and each destination is as long as the count says.
    let results = unsafe {
        let source = if ctx.skb.protocol() == ETHERTYPE_IPV6 {
            bpf_skb_load_bytes_relative(skb, 8, to.cast(), 16, FROM_NETWORK_HEADER)
        } else {
            // An IPv4 address mapped into IPv6; its four bytes come last.
            *address = [0, 0xffff_0000];
            bpf_skb_load_bytes_relative(skb, 12, to.byte_add(12).cast(), 4, FROM_NETWORK_HEADER)
        };
        source | bpf_skb_load_bytes(skb, 0, (&raw mut port).cast(), 2)
    };
    scratch.header.source_port = u16::from_be(port);
    results == 0
}

/// Door 3: what a socket of this machine sends to one of our own, where the loopback device takes it.
///
/// Here the datagram has not yet been queued, nor woken anybody, nor looked for its socket.
#[classifier]
#[inline(always)]
pub fn door_loopback(ctx: TcContext) -> i32 {
    match counted(Door::Loopback, from_loopback(&ctx)).outcome() {
        Outcome::Passed => TCX_PASS_ON,
        // To no interface: the buffer is freed, and its sender is told that it was sent. A drop would
        // be counted as an error of the sender's (UdpSndbufErrors).
        // SAFETY: the helper has no preconditions.
        Outcome::Counted | Outcome::Ringed => unsafe { bpf_redirect(0, 0) as i32 },
    }
}

/// `TCX_NEXT`: other programs may look at it, too.
const TCX_PASS_ON: i32 = -1;
const SOCK_DGRAM: u32 = 2;
const IPPROTO_UDP: u32 = 17;

#[inline(always)]
fn from_loopback(ctx: &TcContext) -> Verdict {
    let skb = ctx.skb.skb;
    // SAFETY: the context is the kernel's.
    let is_super_packet = || unsafe { (*skb).gso_size } != 0;
    match frame::datagram(ctx) {
        Ok((datagram, scratch)) => {
            // What a raw socket made up may be something that the stack would not deliver.
            // SAFETY: the context is the kernel's.
            let sender = unsafe { (*skb).__bindgen_anon_2.sk };
            if sender.is_null() {
                return Verdict::NoUdpSender;
            }
            // SAFETY: the context's socket, which is not null.
            let sender = unsafe { bpf_sk_fullsock(sender) };
            if sender.is_null() {
                return Verdict::NoUdpSender;
            }
            // SAFETY: the helper's socket, which is not null.
            let (kind, protocol) = unsafe { ((*sender).type_, (*sender).protocol) };
            if kind != SOCK_DGRAM || protocol != IPPROTO_UDP {
                return Verdict::NoUdpSender;
            }
            if is_super_packet() {
                return Verdict::SuperPacket;
            }
            from_datagram(ctx, Door::Loopback, &datagram, scratch)
        }
        // It has its payload in pages, of which the program sees nothing.
        Err(Verdict::BadLength) if is_super_packet() => Verdict::SuperPacket,
        Err(verdict) => verdict,
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel allows the helpers that we call to GPL programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
