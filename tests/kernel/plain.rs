//! One plain line, and all that nearly is one -> what the splitter makes of it.
//!
//! Such a line is found from its end, without a look at each byte before it; so here are the payloads with
//! which that could go wrong.

use std::net::SocketAddr;

use ingest_ebpf::identity::Identity;
use ingest_ebpf::layout::{OPERATION_ADD, Payload};
use ingest_ebpf::plain;
use ingest_ebpf::verdict::{Door, Verdict};
use rotameter::kernel::identities::{HashedIdentity, identity_of};
use rotameter_bench::frame::{FrameBuilder, UdpChecksum, frame, frame_v6};

use super::differential::{expected, promote};
use super::loaded::{Effect, Loaded};
use super::model::Hot;

const COUNTER: &str = "airflow.ti_successes:1|c";
const GAUGE: &str = "airflow.pool.open_slots.default_pool:128|g";
/// Longer than what is searched for an early `:`.
const LONG: &str =
    "airflow.dag.a_dag_with_a_name_that_goes_on.a_task_with_a_name_that_goes_on_for_longer.scheduled:1|c";

fn senders() -> [(FrameBuilder, SocketAddr); 3] {
    let address = |text: &str| text.parse().expect("an address");
    [
        (frame(), address("10.77.0.2:40000")),
        (frame().udp_checksum(UdpChecksum::Zero).padding(3), address("10.77.0.2:40000")),
        (frame_v6(), address("[fd77::2]:40000")),
    ]
}

/// Whether it was counted; that, and all else, must be as the models say.
#[track_caller]
fn check(kernel: &mut Loaded, hot: &Hot, payload: &[u8]) -> bool {
    senders().map(|sender| check_from(kernel, hot, &sender, payload))[0]
}

/// In one kind of frame only.
#[track_caller]
fn check_v4(kernel: &mut Loaded, hot: &Hot, payload: &[u8]) -> bool {
    check_from(kernel, hot, &senders()[0], payload)
}

#[track_caller]
fn check_from(
    kernel: &mut Loaded,
    hot: &Hot,
    (builder, source): &(FrameBuilder, SocketAddr),
    payload: &[u8],
) -> bool {
    let expected = expected(hot, Door::Xdp, payload, *source);
    assert_eq!(kernel.run_xdp(&builder.payload(payload)), expected, "{}", payload.escape_ascii());
    hot.by_splitter(payload).verdict == Verdict::Counted
}

/// With an end of line and without.
#[track_caller]
fn check_both(kernel: &mut Loaded, hot: &Hot, line: &[u8]) -> bool {
    let counted = check(kernel, hot, line);
    assert_eq!(check(kernel, hot, &[line, b"\n"].concat()), counted, "{}", line.escape_ascii());
    counted
}

#[track_caller]
fn check_bad_checksum(kernel: &mut Loaded, payload: &[u8]) {
    let mut frame = frame().payload(payload);
    let last = frame.last_mut().expect("it has a payload");
    *last ^= 1;
    assert_eq!(kernel.run_xdp(&frame), Effect::of(Door::Xdp, Verdict::BadUdpChecksum));
}

/// Lengths of a head around each end of a pair of words where something may go wrong.
fn head_lengths() -> impl Iterator<Item = usize> {
    (1..=34).chain([47, 48, 49, 63, 64, 65, 127, 128, 129, 143, 144, 145, 223, 224, 225, 239])
}

fn head(length: usize) -> String {
    (b'a'..=b'z').cycle().skip(length).take(length).map(char::from).collect()
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_plain_line_of_any_length_is_counted_if_every_byte_is_right() {
    let kernel = &mut Loaded::new();
    let types = ["c", "g"];
    let lines: Vec<String> =
        head_lengths().map(|length| format!("{}:1|{}", head(length), types[length % 2])).collect();
    let hot = promote(kernel, &lines.iter().map(String::as_bytes).collect::<Vec<_>>());
    for length in head_lengths() {
        let (head, kind) = (head(length), types[length % 2]);
        let line = format!("{head}:7|{kind}");
        assert!(check_both(kernel, &hot, line.as_bytes()), "{line}");
        assert!(check(kernel, &hot, format!("{line}\n{line}").as_bytes()), "{line} twice");
        let value = ["0", "42", "007", "128", "1000"][length % 5];
        let other = format!("{head}:{value}|{kind}");
        assert!(check_both(kernel, &hot, other.as_bytes()), "{other}");
        for at in [0, length / 2, length - 1, length + 3] {
            let mut other = line.clone().into_bytes();
            other[at] ^= 8;
            assert!(!check_v4(kernel, &hot, &other));
        }
        check_bad_checksum(kernel, line.as_bytes());
    }
    // A pair of words is left for the tail.
    for length in 240..=242 {
        assert!(!check_both(kernel, &hot, format!("{}:7|c", head(length)).as_bytes()));
    }
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_byte_that_no_head_has_is_never_counted() {
    let kernel = &mut Loaded::new();
    let hot = promote(kernel, &[COUNTER, GAUGE, LONG].map(str::as_bytes));
    for line in [COUNTER, GAUGE, LONG] {
        let head = line.find(':').expect("it has one");
        for at in [0, head / 2, head - 1] {
            for byte in [0, b'\n', b'\r', b':', b'|', 0x1f, 0x7f, 0x80, 0xba, 0xff] {
                let mut other = line.as_bytes().to_vec();
                other[at] = byte;
                assert!(!check_v4(kernel, &hot, &other), "{}", other.escape_ascii());
            }
        }
        // Behind the head.
        for at in head..line.len() {
            for byte in [0, b'\n', b':', b'|', b'5', b'/', 0x7f, 0x80, 0xff] {
                let mut other = line.as_bytes().to_vec();
                other[at] = byte;
                check_v4(kernel, &hot, &other);
            }
        }
    }
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn several_lines_are_never_taken_for_the_last_one() {
    let kernel = &mut Loaded::new();
    let hot = promote(kernel, &[COUNTER, GAUGE, LONG].map(str::as_bytes));
    let others = ["airflow.cold:1|c", "airflow.dag.a.b.duration:1.5|ms", "a:1|c|#dag:etl", "", ":", "x"];
    let lines = || [COUNTER, GAUGE, LONG].into_iter().chain(others);
    for first in lines() {
        for last in [COUNTER, GAUGE, LONG] {
            let all_hot = !others.contains(&first);
            let counted = check_both(kernel, &hot, format!("{first}\n{last}").as_bytes());
            assert_eq!(counted, all_hot, "{first} and {last}");
            for middle in lines() {
                check_v4(kernel, &hot, format!("{first}\n{middle}\n{last}").as_bytes());
            }
        }
    }
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_collision_with_several_lines_can_only_mean_not_hot() {
    let kernel = &mut Loaded::new();
    let payload = format!("{COUNTER}\nairflow.cold:1|c");
    let last = u64::from_le_bytes(*payload.as_bytes().last_chunk().expect("it is longer"));
    let line = plain::plain_line(last, payload.len()).expect("its end is plain");
    let mut words = Payload::EMPTY;
    words.bytes[..payload.len()].copy_from_slice(payload.as_bytes());
    let seed = kernel.object.tables.seed;
    let (hash, _) = plain::hash(&words, &line.shape, line.tail, seed);
    // As long as all that stands before the last value, and a hash that was forged.
    let other = payload.replace(['\n', ':'], ".").replace(".1|c", ":1|c");
    let other = other.replacen(":1|c", ".1|c", 1);
    let HashedIdentity { identity, .. } = identity_of(other.as_bytes(), seed).expect("it has an identity");
    assert_eq!(
        Identity { words: [0; 32], ..identity },
        Identity { words: [0; 32], shape: line.shape, ..identity }
    );
    let forged = HashedIdentity { hash, identity };
    kernel.object.tables.identities.insert(&forged, 5, OPERATION_ADD).expect("the table has room");
    let mut hot = promote(kernel, &[]);
    assert!(!check_both(kernel, &hot, payload.as_bytes()));
    kernel.promote(COUNTER.as_bytes(), 0);
    hot.insert(COUNTER.as_bytes(), 0);
    assert!(!check_both(kernel, &hot, payload.as_bytes()));
}
