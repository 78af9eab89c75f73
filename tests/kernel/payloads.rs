//! Payloads -> slots, ring or stack, by the identities that are promoted.

use std::net::SocketAddr;

use ingest_ebpf::layout::{OPERATION_ADD, OPERATION_LAST, PAYLOAD_BYTES_MAX};
use ingest_ebpf::verdict::{Door, Verdict};
use rotameter::kernel::identities::{HashedIdentity, Refused, identity_of};
use rotameter_bench::frame::{UdpChecksum, frame};

use super::loaded::{Effect, Loaded, SLOTS};

const HOT: &str = "airflow.ti_successes:1|c";
const SLOT: u32 = 3;
const TAGGED: &str = "airflow.ti.finish:1|c|@0.5|#dag_id:etl,state:success";
const TAGGED_SLOT: u32 = SLOTS - 1;

fn kernel() -> Loaded {
    let mut kernel = Loaded::new();
    kernel.promote(HOT.as_bytes(), SLOT);
    kernel.promote(TAGGED.as_bytes(), TAGGED_SLOT);
    kernel
}

fn sender() -> SocketAddr {
    "10.77.0.2:40000".parse().expect("an address")
}

/// Hot through and through: what each slot gained.
#[track_caller]
fn check_counted(kernel: &mut Loaded, payload: &[u8], slots: &[(u32, (u64, u64))], empty_lines: u64) {
    let slots = slots.iter().copied().collect();
    let expected = Effect { slots, empty_lines, ..Effect::of(Door::Xdp, Verdict::Counted) };
    assert_eq!(kernel.run_xdp(&frame().payload(payload)), expected, "{}", payload.escape_ascii());
}

/// Whole into the ring, not a byte changed, and no slot touched.
#[track_caller]
fn check_ringed(kernel: &mut Loaded, payload: &[u8], verdict: Verdict) {
    let expected = Effect::ringed(Door::Xdp, verdict, payload, sender());
    assert_eq!(kernel.run_xdp(&frame().payload(payload)), expected, "{}", payload.escape_ascii());
}

#[track_caller]
fn check_passed(kernel: &mut Loaded, payload: &[u8], verdict: Verdict) {
    let expected = Effect::of(Door::Xdp, verdict);
    assert_eq!(kernel.run_xdp(&frame().payload(payload)), expected, "{} bytes", payload.len());
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn hot_lines_are_counted_each_in_its_slot() {
    let kernel = &mut kernel();
    let line = |value: &str| HOT.replace(":1|", &format!(":{value}|")).into_bytes();
    check_counted(kernel, HOT.as_bytes(), &[(SLOT, (1, 1))], 0);
    check_counted(kernel, TAGGED.as_bytes(), &[(TAGGED_SLOT, (1, 1))], 0);
    check_counted(kernel, &line("0"), &[(SLOT, (1, 0))], 0);
    check_counted(kernel, &line("12345678"), &[(SLOT, (1, 12_345_678))], 0);
    check_counted(kernel, &line("123456789"), &[(SLOT, (1, 123_456_789))], 0);
    check_counted(kernel, &line("000000000000042"), &[(SLOT, (1, 42))], 0);
    check_counted(kernel, &line("4294967295"), &[(SLOT, (1, u64::from(u32::MAX)))], 0);
    let both = format!("{TAGGED}\n{HOT}\n{TAGGED}");
    check_counted(kernel, both.as_bytes(), &[(SLOT, (1, 1)), (TAGGED_SLOT, (2, 2))], 0);
    check_counted(kernel, format!("{HOT}\n").as_bytes(), &[(SLOT, (1, 1))], 1);
    check_counted(
        kernel,
        format!("{HOT}\n{TAGGED}\n").as_bytes(),
        &[(SLOT, (1, 1)), (TAGGED_SLOT, (1, 1))],
        1,
    );
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn the_last_value_of_a_gauge_is_kept() {
    let kernel = &mut kernel();
    kernel.promote_as(b"airflow.pool:1|g", 7, OPERATION_LAST);
    let check = |kernel: &mut Loaded, payload: &str, lines, value| {
        let (slots, values) = ([(7, (lines, 0))].into(), [(7, value)].into());
        let expected = Effect { slots, values, ..Effect::of(Door::Xdp, Verdict::Counted) };
        assert_eq!(kernel.run_xdp(&frame().payload(payload.as_bytes())), expected, "{payload}");
    };
    check(kernel, "airflow.pool:0|g", 1, (0, 0));
    check(kernel, "airflow.pool:128|g", 1, (128, 0));
    check(kernel, "airflow.pool:128|g", 1, (128, 0));
    check(kernel, "airflow.pool:4294967296|g", 1, (4_294_967_296, 0));
    check(kernel, "airflow.pool:999999999999999|g", 1, (999_999_999_999_999, 0));
    check(kernel, "airflow.pool:3.0|g", 1, (30, 1));
    check(kernel, "airflow.pool:97.512345|g", 1, (97_512_345, 6));
    check(kernel, "airflow.pool:1|g\nairflow.pool:2|g\nairflow.pool:1.5|g", 3, (15, 1));
    for value in ["-1", "+1", "inf", "nan", "1e3", "0.5132538035440165", "1.", ".5", "1234567890123456"] {
        check_ringed(kernel, format!("airflow.pool:{value}|g").as_bytes(), Verdict::OddLine);
    }
    check_ringed(kernel, b"airflow.pool:1|g\nairflow.cold:1|g", Verdict::NotHot);
    check_ringed(kernel, b"airflow.pool:1.5|ms", Verdict::OddLine);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn thirty_two_lines_are_counted_and_one_more_is_ringed() {
    let kernel = &mut kernel();
    let lines = |count| [HOT].repeat(count).join("\n");
    check_counted(kernel, lines(32).as_bytes(), &[(SLOT, (32, 32))], 0);
    check_counted(kernel, format!("{}\n", lines(32)).as_bytes(), &[(SLOT, (32, 32))], 1);
    check_ringed(kernel, lines(33).as_bytes(), Verdict::ManyLines);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn what_is_not_hot_through_and_through_is_ringed_whole() {
    let kernel = &mut kernel();
    check_ringed(kernel, b"airflow.cold:1|c", Verdict::NotHot);
    check_ringed(kernel, b"airflow.ti_successes:1|g", Verdict::NotHot);
    check_ringed(kernel, b"airflow.ti_successes:1|c|@0.5", Verdict::NotHot);
    check_ringed(kernel, b"airflow.ti_successe:1|c", Verdict::NotHot);
    check_ringed(kernel, format!("{HOT}\nairflow.cold:1|c").as_bytes(), Verdict::NotHot);
    check_ringed(kernel, format!("airflow.cold:1|c\n{HOT}").as_bytes(), Verdict::NotHot);
    check_ringed(kernel, format!("{HOT}\n\n{HOT}").as_bytes(), Verdict::NotHot);
    check_ringed(kernel, format!("{HOT}\n\n").as_bytes(), Verdict::OddLine);
    check_ringed(kernel, b"\n", Verdict::OddLine);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_value_that_is_not_for_a_slot_is_ringed() {
    let kernel = &mut kernel();
    let large = ["4294967296", "999999999999999"];
    let odd = [
        "1234567890123456",
        "0000000000000001",
        "",
        "-1",
        "+1",
        "1.0",
        "1.5",
        "1e3",
        "0x10",
        "1_0",
        "1:2",
        " 1",
        "1 ",
        "nan",
        "12345678x",
        "1234567x",
    ];
    for value in large {
        check_ringed(kernel, HOT.replace(":1|", &format!(":{value}|")).as_bytes(), Verdict::LargeValue);
    }
    for value in odd {
        check_ringed(kernel, HOT.replace(":1|", &format!(":{value}|")).as_bytes(), Verdict::OddLine);
    }
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn bytes_that_are_not_printable_are_ringed_unchanged() {
    let kernel = &mut kernel();
    let payloads: [&[u8]; 9] = [
        b"airflow.ti_successes:1|c\r\n",
        b"airflow.ti_successes:1|c\r",
        b"airflow.ti_successes:1|c\0",
        b"airflow.ti_successes:1|c\0\n",
        b"airflow.ti_successes:1\0|c",
        b"\0",
        b"airflow.ti_successes:1|c|#k:\xff\xfe",
        b"airflow.\xc3\xa9:1|c",
        b"\xff\xff\xff\xff",
    ];
    for payload in payloads {
        check_ringed(kernel, payload, Verdict::OddLine);
    }
    // Where only a comparison shows it.
    for payload in [
        b"airflow.ti\0successes:1|c".as_slice(),
        b"\nirflow.ti_successes:1|c",
        b"airflow.ti_successes:1|c\x7f",
    ] {
        check_ringed(kernel, payload, Verdict::NotHot);
        assert!(identity_of(payload, 0).is_none());
    }
    // What an earlier datagram left behind the end is not read.
    check_counted(kernel, HOT.as_bytes(), &[(SLOT, (1, 1))], 0);
    check_ringed(kernel, b"airflow.ti_successes:1|", Verdict::OddLine);
    check_ringed(kernel, b"airflow.ti_successes:1", Verdict::OddLine);
    check_ringed(kernel, b"airflow.ti_successes:", Verdict::OddLine);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn an_identity_of_the_longest_kind_is_counted_and_one_byte_more_is_ringed() {
    let kernel = &mut kernel();
    let head = |bytes| format!("{}:1|c", "n".repeat(bytes));
    let tail = |bytes: usize| format!("name.ab:1|c|#{}", "t".repeat(bytes - 4));
    // Head and tail are padded to pairs of words each: 15 of them and one.
    for (slot, fits, long) in [(10, head(239), head(240)), (11, tail(239), tail(240))] {
        kernel.promote(fits.as_bytes(), slot);
        check_counted(kernel, fits.as_bytes(), &[(slot, (1, 1))], 0);
        assert!(identity_of(long.as_bytes(), 0).is_none());
        check_ringed(kernel, long.as_bytes(), Verdict::LongLine);
        check_ringed(kernel, format!("{HOT}\n{long}").as_bytes(), Verdict::LongLine);
    }
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn an_empty_payload_and_one_longer_than_a_frame_are_passed() {
    let kernel = &mut kernel();
    check_passed(kernel, b"", Verdict::Empty);
    let padded = frame().padding(18).payload(b"");
    assert_eq!(kernel.run_xdp(&padded), Effect::of(Door::Xdp, Verdict::Empty));

    // As full as it gets with hot lines of one identity.
    let fill = |length: usize, line: &str| {
        let mut payload = [line].repeat(length / (line.len() + 1)).join("\n").into_bytes();
        payload.resize(length, b'x');
        payload
    };
    check_ringed(kernel, &fill(PAYLOAD_BYTES_MAX, "airflow.cold:1|c"), Verdict::NotHot);
    check_passed(kernel, &fill(PAYLOAD_BYTES_MAX + 1, "airflow.cold:1|c"), Verdict::LongPayload);
    // Lengths that are 1 and 36 modulo the power of two that the object masks with.
    for length in [2048, 2049, 2084] {
        check_passed(kernel, &fill(length, HOT), Verdict::LongPayload);
    }

    let head = "n".repeat(PAYLOAD_BYTES_MAX / 8 - 5);
    let line = format!("{head}:1|c");
    assert_eq!(line.len(), 183);
    kernel.promote(line.as_bytes(), 20);
    let mut full = [line.as_str()].repeat(8).join("\n");
    full.push('\n');
    assert_eq!(full.len(), PAYLOAD_BYTES_MAX);
    check_counted(kernel, full.as_bytes(), &[(20, (8, 8))], 1);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_collision_is_refused_and_can_only_mean_not_hot() {
    let kernel = &mut kernel();
    let seed = kernel.object.tables.seed;
    let hashed = |line: &str| identity_of(line.as_bytes(), seed).expect("the line has an identity");
    let (hot, other) = (hashed(HOT), hashed("airflow.other:1|c"));
    let insert = |kernel: &Loaded, identity: &HashedIdentity, slot| {
        kernel.object.tables.identities.insert(identity, slot, OPERATION_ADD)
    };
    let forged = HashedIdentity { hash: hot.hash, identity: other.identity };
    assert_eq!(insert(kernel, &forged, 5), Err(Refused::Collision));
    check_counted(kernel, HOT.as_bytes(), &[(SLOT, (1, 1))], 0);

    // Four identities in one bucket, told apart by their tags; the fifth has no place.
    let in_bucket = |tag: u64| HashedIdentity { hash: tag << 33 | 77, identity: other.identity };
    for tag in 1..=4 {
        assert_eq!(insert(kernel, &in_bucket(tag), 30), Ok(()));
    }
    assert_eq!(insert(kernel, &in_bucket(5), 30), Err(Refused::BucketFull));
    kernel.object.tables.identities.remove(in_bucket(2).hash, 30);
    assert_eq!(insert(kernel, &in_bucket(5), 30), Ok(()));

    // The other way round: bucket and tag are those of the line, the bytes are not.
    kernel.object.tables.identities.remove(hot.hash, SLOT);
    check_ringed(kernel, HOT.as_bytes(), Verdict::NotHot);
    assert_eq!(insert(kernel, &forged, 5), Ok(()));
    check_ringed(kernel, HOT.as_bytes(), Verdict::NotHot);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn an_entry_that_the_program_does_not_understand_is_not_hot() {
    let kernel = &mut kernel();
    kernel.promote_as(b"airflow.unknown:1|c", 40, OPERATION_LAST + 1);
    check_ringed(kernel, b"airflow.unknown:1|c", Verdict::NotHot);
    kernel.promote_as(b"airflow.none:1|c", 41, 0);
    check_ringed(kernel, b"airflow.none:1|c", Verdict::NotHot);
    kernel.promote(b"airflow.beyond:1|c", SLOTS);
    check_ringed(kernel, b"airflow.beyond:1|c", Verdict::NotHot);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn a_full_ring_passes_and_an_emptied_one_takes_again() {
    let kernel = &mut kernel();
    let cold = frame().udp_checksum(UdpChecksum::Valid).payload(b"airflow.cold:1|c");
    let program = kernel.object.xdp().expect("the object has the program");
    // One test run, so that all of it happens on one CPU.
    let repeat = 4 * super::loaded::RING_BYTES / 64;
    let options = aya::programs::TestRunOptions {
        data_in: Some(&cold),
        repeat,
        ..aya::programs::TestRunOptions::new()
    };
    let last = aya::programs::TestRun::test_run(program, options).expect("the kernel runs the program");
    assert_eq!(last.return_value, 2, "the last one is passed");
    let effect = kernel.effect();
    let count =
        |verdict: Verdict| effect.verdicts.get(&(Door::Xdp.name(), verdict.reason())).copied().unwrap_or(0);
    assert!(count(Verdict::RingFull) > 0, "{:?}", effect.verdicts);
    assert_eq!(count(Verdict::NotHot) + count(Verdict::RingFull), u64::from(repeat));
    assert_eq!(count(Verdict::NotHot), effect.records.len() as u64);
    assert!(effect.slots.is_empty());
    check_ringed(kernel, b"airflow.cold:1|c", Verdict::NotHot);
}
