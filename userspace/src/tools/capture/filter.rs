//! UDP ports -> a program of the classic packet filter, which the kernel runs before it copies a packet.
//!
//! It sees packets from the IP header on, as a packet socket without link headers does. What it lets
//! through is looked at again by [`super::packet`]; it only has to keep the rest of a busy interface away.

use socket2::SockFilter;

/// A step may jump over 255 others at most, and each port takes one.
pub(super) const PORTS_MAX: usize = 64;

/// Where the kernel keeps what is not in the packet: `SKF_AD_OFF` and its offsets, in `linux/filter.h`.
const PROTOCOL: u32 = 0xffff_f000;
const PACKET_TYPE: u32 = 0xffff_f004;
const PACKET_OUTGOING: u32 = 4;

const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const UDP: u32 = 17;
/// Hop-by-hop options, routing, fragment, destination options.
const IPV6_EXTENSIONS: [u32; 4] = [0, 43, 44, 60];
/// All of it.
const TAKE: u32 = 0x4_0000;

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_INDEXED: u16 = 0x48;
/// Four times the low half of a byte, the length of an IPv4 header.
const LOAD_HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ANY_BIT: u16 = 0x45;
const JUMP: u16 = 0x05;
const RETURN: u16 = 0x06;

/// The program for datagrams to `ports`, of which there are at most [`PORTS_MAX`]. On a loopback each
/// packet comes twice, and `inbound_only` leaves out the first.
pub(super) fn program(ports: &[u16], inbound_only: bool) -> Vec<SockFilter> {
    let mut steps = Steps::default();
    if inbound_only {
        steps.load(LOAD_WORD, PACKET_TYPE);
        steps.drop_if(PACKET_OUTGOING);
    }
    steps.load(LOAD_WORD, PROTOCOL);
    steps.section(IPV4, |steps| ipv4(steps, 0));
    steps.section(IPV6, |steps| ipv6(steps, 0));
    // A tag that nobody took out of the packet. Of what goes out the packet begins behind it all the same;
    // of what comes in, the type of what it holds is behind it.
    for tag in [0x8100, 0x88a8] {
        steps.section(tag, |steps| {
            steps.load(LOAD_WORD, PACKET_TYPE);
            steps.section(PACKET_OUTGOING, |steps| {
                steps.load(LOAD_BYTE, 0);
                steps.push(AND, 0, 0, 0xf0);
                steps.section(0x40, |steps| ipv4(steps, 0));
                steps.section(0x60, |steps| ipv6(steps, 0));
                steps.end(0);
            });
            steps.load(LOAD_HALF, 2);
            steps.section(IPV4, |steps| ipv4(steps, 4));
            steps.section(IPV6, |steps| ipv6(steps, 4));
            steps.end(0);
        });
    }
    steps.end(0);
    steps.finish(ports)
}

fn ipv4(steps: &mut Steps, at: u32) {
    steps.load(LOAD_BYTE, at + 9);
    steps.drop_unless(UDP);
    steps.load(LOAD_HALF, at + 6);
    // Only a first fragment holds the ports.
    steps.push(JUMP_ANY_BIT, 0, 1, 0x1fff);
    steps.end(0);
    steps.load(LOAD_HEADER_LENGTH, at);
    steps.load(LOAD_HALF_INDEXED, at + 2);
    steps.jump_to_ports();
}

fn ipv6(steps: &mut Steps, at: u32) {
    steps.load(LOAD_BYTE, at + 6);
    // What has further headers is rare; it is all let through.
    for extension in IPV6_EXTENSIONS {
        steps.push(JUMP_EQUAL, 0, 1, extension);
        steps.end(TAKE);
    }
    steps.drop_unless(UDP);
    steps.load(LOAD_HALF, at + 42);
    steps.jump_to_ports();
}

#[derive(Default)]
struct Steps {
    steps: Vec<(u16, u8, u8, u32)>,
    /// Those that jump to the comparison of ports, which stands last.
    to_ports: Vec<usize>,
}

impl Steps {
    fn push(&mut self, code: u16, yes: u8, no: u8, value: u32) {
        self.steps.push((code, yes, no, value));
    }

    fn load(&mut self, code: u16, from: u32) {
        self.push(code, 0, 0, from);
    }

    fn end(&mut self, bytes: u32) {
        self.push(RETURN, 0, 0, bytes);
    }

    fn drop_if(&mut self, value: u32) {
        self.push(JUMP_EQUAL, 0, 1, value);
        self.end(0);
    }

    fn drop_unless(&mut self, value: u32) {
        self.push(JUMP_EQUAL, 1, 0, value);
        self.end(0);
    }

    fn jump_to_ports(&mut self) {
        self.to_ports.push(self.steps.len());
        self.push(JUMP, 0, 0, 0);
    }

    /// Steps for what equals `value`; all else goes on behind them. They end or jump away.
    fn section(&mut self, value: u32, write: impl FnOnce(&mut Self)) {
        let jump = self.steps.len();
        self.push(JUMP_EQUAL, 0, 0, value);
        write(self);
        let over = self.steps.len() - jump - 1;
        self.steps[jump].2 = u8::try_from(over).expect("a section is short");
    }

    fn finish(mut self, ports: &[u16]) -> Vec<SockFilter> {
        let begin = self.steps.len();
        for at in std::mem::take(&mut self.to_ports) {
            self.steps[at].3 = u32::try_from(begin - at - 1).expect("the program is short");
        }
        let ports = ports.get(..PORTS_MAX).unwrap_or(ports);
        for (at, port) in ports.iter().enumerate() {
            let to_end = u8::try_from(ports.len() - at).expect("there are few ports");
            self.push(JUMP_EQUAL, to_end, 0, (*port).into());
        }
        self.end(0);
        self.end(TAKE);
        self.steps.into_iter().map(|(code, yes, no, value)| SockFilter::new(code, yes, no, value)).collect()
    }
}
