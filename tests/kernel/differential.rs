//! Any payload -> the same verdict, slots and ring bytes from the compiled object as in userspace.

use std::net::SocketAddr;

use ingest_ebpf::verdict::{Door, Outcome, Verdict};
use proptest::test_runner::TestRunner;
use rotameter_bench::frame::{FrameBuilder, frame, frame_v6};

use super::generate::{self, POOL};
use super::loaded::{Effect, Loaded, SLOTS};
use super::model::{Expected, Hot, operation};
use crate::corpus;

/// Promotes these lines, each into the slot of its place.
#[track_caller]
pub(super) fn promote(kernel: &mut Loaded, lines: &[&[u8]]) -> Hot {
    let mut hot = Hot::default();
    for (slot, line) in (0..SLOTS).zip(lines) {
        let (_, _, tail) = rotameter::line::split_value(line).expect("the line has one value");
        kernel.promote_as(line, slot, operation(tail));
        hot.insert(line, slot);
    }
    hot
}

/// What `door` must do with the payload; the two models must agree about it first.
#[track_caller]
pub(super) fn expected(hot: &Hot, door: Door, payload: &[u8], source: SocketAddr) -> Effect {
    let expected = hot.by_splitter(payload);
    let counted = (expected.verdict.outcome() == Outcome::Counted).then(|| expected.clone());
    if expected.verdict != Verdict::Empty {
        assert_eq!(hot.by_parser(payload), counted, "the two models, {}", payload.escape_ascii());
    }
    let Expected { verdict, slots, values, empty_lines } = expected;
    let effect = match verdict.outcome() {
        Outcome::Ringed => Effect::ringed(door, verdict, payload, source),
        Outcome::Counted | Outcome::Passed => Effect::of(door, verdict),
    };
    Effect { slots, values, empty_lines, ..effect }
}

#[track_caller]
fn check(kernel: &mut Loaded, hot: &Hot, builder: &FrameBuilder, source: SocketAddr, payload: &[u8]) {
    let effect = kernel.run_xdp(&builder.payload(payload));
    assert_eq!(effect, expected(hot, Door::Xdp, payload, source), "{}", payload.escape_ascii());
}

fn senders() -> [(FrameBuilder, SocketAddr); 2] {
    [
        (frame(), "10.77.0.2:40000".parse().expect("an address")),
        (frame_v6(), "[fd77::2]:40000".parse().expect("an address")),
    ]
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn generated_payloads_have_the_same_end_in_the_object_as_in_userspace() {
    let mut runner = TestRunner::new(generate::config(40));
    // Few tables, many payloads: loading the object takes a thousand times as long as running it.
    let table = (generate::promoted(), proptest::collection::vec(generate::payload(), 300));
    let senders = senders();
    let tested = runner.run(&table, |(promoted, payloads)| {
        let mut kernel = Loaded::new();
        let lines: Vec<&[u8]> = promoted.iter().map(|index| POOL[*index].as_bytes()).collect();
        let hot = promote(&mut kernel, &lines);
        for payload in &payloads {
            for (builder, source) in &senders {
                check(&mut kernel, &hot, builder, *source, payload);
            }
        }
        Ok(())
    });
    tested.expect("object and userspace agree");
}

#[test]
#[ignore = "needs CAP_BPF, CAP_NET_ADMIN"]
fn recorded_payloads_have_the_same_end_in_the_object_as_in_userspace() {
    for name in corpus::names().expect("the corpus is there") {
        let datagrams = corpus::load(&name).expect("the recording loads");
        let mut kernel = Loaded::new();
        let busiest = busiest(datagrams.iter().map(AsRef::as_ref));
        let hot = promote(&mut kernel, &busiest);
        let (builder, source) = &senders()[0];
        let (mut counted, mut all) = (0_u32, 0_u32);
        for datagram in &datagrams {
            check(&mut kernel, &hot, builder, *source, &datagram.payload);
            all += 1;
            counted += u32::from(hot.by_splitter(&datagram.payload).verdict == Verdict::Counted);
        }
        println!("{name}: {counted} of {all} datagrams counted with {} identities", busiest.len());
        assert!(counted > 0 && counted < all);
    }
}

/// Lines of the most frequent identities of a recording, as many as there are slots.
fn busiest<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut lines = std::collections::HashMap::<_, (u32, &[u8])>::new();
    for line in payloads.flat_map(rotameter::line::lines) {
        let Some((head, _, tail)) = rotameter::line::split_value(line) else { continue };
        if rotameter::kernel::identities::identity_of(line, 0).is_some() {
            lines.entry((head, tail)).or_insert((0, line)).0 += 1;
        }
    }
    let mut lines: Vec<_> = lines.into_values().collect();
    lines.sort_unstable_by(|a, b| b.cmp(a));
    lines.into_iter().take(SLOTS as usize).map(|(_, line)| line).collect()
}
