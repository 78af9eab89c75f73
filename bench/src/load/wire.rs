//! Payloads -> live frames out of one end of a veth pair, millions a second from one core.
//!
//! The kernel runs our XDP program for every frame of a test run and sends what the program leaves in
//! it. The program walks a table of finished frames, so that names, values, addresses and source ports
//! differ from frame to frame, without a call for each.

use std::{io, net::Ipv4Addr, time::Duration};

use anyhow::Context as _;

use super::{
    pace::{Limits, Outlet, Pace, drive},
    payloads::{Payload, Payloads},
    sent::Sent,
};
use crate::{
    fleet::Sender,
    frame::{FrameBuilder, frame},
    network::Pair,
    raw_map::ArrayMap,
    raw_program::{Attached, Instruction, RawProgram},
};

/// Frames that the kernel hands over at once: at most 256, which is what a veth end queues.
const BATCH: u32 = 64;
/// An Ethernet frame with the longest datagram that passes unfragmented.
const FRAME_BYTES_MAX: usize = 1514;
/// Memory of the kernel for one table.
const TABLE_BYTES_MAX: usize = 256 << 20;
/// Where in an entry its frame begins; before that stands its length.
const FRAME_AT: usize = 8;

/// A table of frames in the kernel, and the program that sends them.
#[derive(Debug)]
pub struct Wire {
    transmit: RawProgram,
    pair: Pair,
    /// The sending end has to have a program of its own, and this one is known to the kernel's
    /// dispatcher already: another would be entered and taken out at each call, tens of milliseconds.
    _sending: Attached,
    cursor: ArrayMap,
    _frames: ArrayMap,
    /// What a run starts with: a frame as long as the longest, for the program only cuts.
    blank: Vec<u8>,
    frames: u64,
}

impl Wire {
    /// Puts the payloads, as frames to 10.77.0.1:9125, into the kernel. It sends on the calling
    /// thread's CPU, and the receiving end works there, too.
    ///
    /// # Errors
    ///
    /// A payload is too long for a frame, the table too large, or the kernel refuses the programs.
    pub fn new(pair: Pair, payloads: &Payloads) -> anyhow::Result<Self> {
        Self::to(pair, payloads, &frame())
    }

    /// As [`Self::new`], in frames of which `base` gives all but source and payload.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn to(pair: Pair, payloads: &Payloads, base: &FrameBuilder) -> anyhow::Result<Self> {
        anyhow::ensure!(!payloads.is_empty(), "nothing to send: the table of payloads is empty");
        let longest = payloads.iter().map(|payload| build(base, payload).len()).max().unwrap_or(0);
        anyhow::ensure!(
            longest <= FRAME_BYTES_MAX,
            "a payload of {} bytes makes a frame of {longest}; {FRAME_BYTES_MAX} is the most that a wire takes",
            payloads.longest()
        );
        let entry = (FRAME_AT + longest).next_multiple_of(8);
        anyhow::ensure!(
            entry.saturating_mul(payloads.len()) <= TABLE_BYTES_MAX,
            "{} payloads of up to {} bytes: more than {} MiB of the kernel's memory; take fewer",
            payloads.len(),
            payloads.longest(),
            TABLE_BYTES_MAX >> 20
        );
        let mut frames = ArrayMap::create(u32::try_from(entry)?, u32::try_from(payloads.len())?)
            .context("making a BPF map for the frames")?;
        for (place, payload) in payloads.iter().enumerate() {
            let frame = build(base, payload);
            let bytes = frames.entry_mut(place);
            bytes[..4].copy_from_slice(&u32::try_from(frame.len())?.to_ne_bytes());
            bytes[FRAME_AT..FRAME_AT + frame.len()].copy_from_slice(&frame);
        }
        let mut cursor = ArrayMap::create(16, 1).context("making a BPF map for the generator")?;
        cursor.entry_mut(0)[4..8].copy_from_slice(&u32::try_from(payloads.len())?.to_ne_bytes());
        let mut blank = build(base, payloads.get(0));
        blank.resize(longest, 0);
        let transmit = RawProgram::from_instructions(&program(
            u32::try_from(frames.descriptor())?,
            u32::try_from(cursor.descriptor())?,
            u32::try_from(longest)?,
            u32::from_ne_bytes(blank[8..12].try_into()?),
        ))?;
        let sending = transmit.attach(pair.sending)?;
        Ok(Self { transmit, pair, _sending: sending, cursor, _frames: frames, blank, frames: 0 })
    }

    /// Sends the table, over and over, until a limit is reached or a signal comes. A second call goes
    /// on where the first ended; its account's `datagrams` are its own.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn send(&mut self, payloads: &Payloads, pace: Pace, limits: Limits) -> anyhow::Result<Sent> {
        self.send_watched(payloads, pace, limits, &mut |_| true)
    }

    /// As [`Self::send`]; `watch` sees the frames sent several times a second, and ends it by `false`.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub fn send_watched(
        &mut self,
        payloads: &Payloads,
        pace: Pace,
        limits: Limits,
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> anyhow::Result<Sent> {
        drive(self, payloads, pace, limits, watch)
    }

    /// Frames sent since the beginning: with [`Payloads::totals`], what a server has to show.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    fn written(&self) -> u64 {
        self.cursor.word(0, 8)
    }
}

impl Outlet for Wire {
    /// Keeps the set-up of a test run small beside its frames.
    const BATCH: usize = 4096;
    const TICK: Duration = Duration::from_micros(500);

    fn send(&mut self, _payloads: &Payloads, _first: u64, count: usize) -> io::Result<usize> {
        let before = self.written();
        let count = u32::try_from(count).unwrap_or(BATCH);
        self.transmit
            .run_live(&self.blank, self.pair.sending, count, BATCH)
            .map_err(|error| io::Error::other(format!("{error:#}")))?;
        let sent = self.written() - before;
        self.frames += sent;
        Ok(usize::try_from(sent).unwrap_or(usize::MAX))
    }
}

fn build(base: &FrameBuilder, payload: Payload<'_>) -> Vec<u8> {
    let (address, port) = source(payload.sender);
    base.clone().source(address.into()).source_port(port).payload(payload.bytes)
}

/// An address, and a port that is not a well-known one.
fn source(sender: Sender) -> (Ipv4Addr, u16) {
    (address(sender), if sender.port < 1024 { sender.port + 40_000 } else { sender.port })
}

/// Where a sender's frames come from: an address in 10.77.128.0/17 for each of 32,768 hosts.
#[must_use]
pub fn address(sender: Sender) -> Ipv4Addr {
    let [.., third, fourth] = sender.host.to_be_bytes();
    Ipv4Addr::new(10, 77, 128 | third, fourth)
}

/// Takes the next frame of the table and sends it back out of the interface.
///
/// `own` is the end of our source MAC: what comes in on the interface by itself, as neighbour discovery
/// does, has another, and must not take an entry.
///
/// The cursor holds: the next entry, how many there are (`u32` each), and the frames written (`u64`).
fn program(frames: u32, cursor: u32, longest: u32, own: u32) -> Vec<Instruction> {
    const LOOK_UP: u32 = 1;
    const ADJUST_TAIL: u32 = 65;
    const STORE_BYTES: u32 = 190;
    const TRANSMIT: u32 = 3;
    const DROP: u32 = 1;
    let frame_at = u32::try_from(FRAME_AT).unwrap_or(8);
    // Destination register, and source register in the upper half.
    let registers = |destination: u8, source: u8| destination | source << 4;
    let i = Instruction::new;
    let mut code = vec![
        i(0xbf, registers(6, 1), 0, 0), // r6 = the frame's context
        i(0x61, registers(2, 6), 0, 0), // r2 = where the frame begins
        i(0x61, registers(3, 6), 4, 0), // r3 = where it ends
        i(0xbf, registers(4, 2), 0, 0),
        i(0x07, registers(4, 0), 0, 14),
        i(0x2d, registers(4, 3), 43, 0), // shorter than an Ethernet header: give up
        i(0x61, registers(4, 2), 8, 0),  // r4 = the end of its source MAC
        i(0x56, registers(4, 0), 41, own), // not from us: give up
        i(0x62, registers(10, 0), -4, 0), // key = 0
        i(0x18, registers(1, 1), 0, cursor), // r1 = cursor map
        i(0, 0, 0, 0),
        i(0xbf, registers(2, 10), 0, 0),
        i(0x07, registers(2, 0), 0, (-4_i32).cast_unsigned()), // r2 = &key
        i(0x85, 0, 0, LOOK_UP),
        i(0x15, registers(0, 0), 34, 0), // none: give up
        i(0xbf, registers(7, 0), 0, 0),  // r7 = cursor
        i(0x61, registers(8, 7), 0, 0),  // r8 = next
        i(0xbf, registers(1, 8), 0, 0),
        i(0x07, registers(1, 0), 0, 1), // r1 = the one after
        i(0x61, registers(2, 7), 4, 0), // r2 = how many
        i(0xad, registers(1, 2), 1, 0),
        i(0xb7, registers(1, 0), 0, 0), // round the circle
        i(0x63, registers(7, 1), 0, 0),
        i(0x63, registers(10, 8), -4, 0),    // key = next
        i(0x18, registers(1, 1), 0, frames), // r1 = table of frames
        i(0, 0, 0, 0),
        i(0xbf, registers(2, 10), 0, 0),
        i(0x07, registers(2, 0), 0, (-4_i32).cast_unsigned()),
        i(0x85, 0, 0, LOOK_UP),
        i(0x15, registers(0, 0), 19, 0),       // none: give up
        i(0xbf, registers(8, 0), 0, 0),        // r8 = entry
        i(0x61, registers(9, 8), 0, 0),        // r9 = its frame's bytes
        i(0x25, registers(9, 0), 16, longest), // for the verifier: no more than
        i(0xa5, registers(9, 0), 15, 14),      // and no less than
        i(0xbf, registers(1, 6), 0, 0),
        i(0xbf, registers(2, 9), 0, 0),
        i(0x17, registers(2, 0), 0, longest), // cut the rest off
        i(0x85, 0, 0, ADJUST_TAIL),
        i(0x55, registers(0, 0), 10, 0),
        i(0xbf, registers(1, 6), 0, 0),
        i(0xb7, registers(2, 0), 0, 0),
        i(0xbf, registers(3, 8), 0, 0),
        i(0x07, registers(3, 0), 0, frame_at),
        i(0xbf, registers(4, 9), 0, 0),
        i(0x85, 0, 0, STORE_BYTES),
        i(0x55, registers(0, 0), 3, 0),
    ];
    code.extend([
        i(0x79, registers(1, 7), 8, 0),
        i(0x07, registers(1, 0), 0, 1),
        i(0x05, 0, 2, 0),                  // over the next two
        i(0xb7, registers(0, 0), 0, DROP), // give up
        i(0x95, 0, 0, 0),
        i(0x7b, registers(7, 1), 8, 0), // one more written
        i(0xb7, registers(0, 0), 0, TRANSMIT),
        i(0x95, 0, 0, 0),
    ]);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sender_has_a_private_address_and_an_unprivileged_port() {
        let (address, port) = source(Sender { host: 1_000_001, port: 7 });
        assert!(address.is_private() && port >= 1024);
        assert_ne!(source(Sender { host: 1, port: 40_000 }), source(Sender { host: 2, port: 40_000 }));
    }

    #[test]
    fn every_jump_of_the_program_lands_on_an_instruction() {
        let code = program(3, 4, 100, 5);
        let last = i64::try_from(code.len()).expect("a short program") - 1;
        for (place, instruction) in code.iter().enumerate() {
            let place = i64::try_from(place).expect("a short program");
            if let Some(distance) = instruction.jump() {
                assert!((0..=last).contains(&(place + 1 + i64::from(distance))), "{place}");
            }
        }
    }

    #[test]
    #[ignore = "needs root: network namespaces, CAP_BPF"]
    fn frames_arrive_as_the_table_says() {
        use crate::{
            fleet::{Fleet, Preset},
            network,
            raw_program::Action,
        };
        use std::{collections::BTreeMap, net::UdpSocket};

        let table = Payloads::collect(Fleet::preset(Preset::Small, 1), 500);
        let received = network::within(|pair| {
            let pass = RawProgram::load(Action::Pass)?;
            let _attached = pass.attach(pair.receiving)?;
            let socket = UdpSocket::bind("10.77.0.1:9125")?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            let mut wire = Wire::new(pair, &table)?;
            let mut received = Vec::new();
            // Fewer at a time than the socket's buffer holds.
            for _ in 0..20 {
                let sent = wire.send(&table, Pace::FlatOut, Limits::datagrams(40))?;
                anyhow::ensure!(sent.datagrams == 40, "{sent}");
                for _ in 0..40 {
                    let mut bytes = [0; 2048];
                    let (length, from) = socket.recv_from(&mut bytes)?;
                    received.push((bytes[..length].to_vec(), from));
                }
            }
            anyhow::ensure!(wire.frames() == 800);
            Ok(received)
        });
        let received = received.expect("all frames arrive");
        let mut sources = BTreeMap::new();
        for (sent, (bytes, from)) in received.into_iter().enumerate() {
            let payload = table.after(sent as u64);
            assert_eq!(bytes, payload.bytes, "frame {sent}");
            let (address, port) = source(payload.sender);
            assert_eq!(from, (address, port).into(), "frame {sent}");
            *sources.entry(from).or_insert(0) += 1;
        }
        assert!(sources.len() > 3);
    }
}
