//! Any datagrams -> the pipeline's ledger: every line, sample and event is accounted for.

use proptest::prelude::*;
use rotameter::clock::Timestamp;
use rotameter::datagram::{Datagram, Source, Transport};
use rotameter::exposition::Format;
use rotameter::line::{Dialects, Tally};
use rotameter::pipeline::{Pipeline, PipelineOptions};

fn pipeline(dialects: Dialects) -> Pipeline {
    // A cache so small that lines are forgotten while others are remembered.
    Pipeline::new(PipelineOptions { dialects, cached_lines_max: 8, ..PipelineOptions::default() }, None)
}

fn ingest(pipeline: &Pipeline, payloads: &[Vec<u8>]) {
    for payload in payloads {
        let datagram =
            Datagram { payload, received: Timestamp(1), source: Source::Nameless, transport: Transport::Udp };
        pipeline.ingest(&[datagram]);
    }
}

/// What was counted. The sums must hold.
#[track_caller]
fn tally(pipeline: &Pipeline, payloads: &[Vec<u8>]) -> Tally {
    let shown: Vec<String> = payloads.iter().map(|payload| payload.escape_ascii().to_string()).collect();
    pipeline.look(|core| {
        core.ledger.check().unwrap_or_else(|sum| panic!("{sum}: {shown:?}"));
        core.ledger.tally
    })
}

/// A line that is nearly always good, with few names, so that types meet and lines come again.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let head = "[ab](_sum|_count)?([,#;]k=[vw]|\\[k=v\\])?";
    let value =
        prop_oneof![6 => "[+-]?[0-9]{1,3}(\\.[0-9])?", 1 => "(1e308|nan|-inf|x|)", 1 => "[1-3]:[1-3]"];
    let field = prop_oneof![
        "@(0\\.5|2|-1|1e-7|1e-18|1e-19|x)",
        "#(k:v|l:w,bad|quantile:1|__x:y)",
        "(c:x|e:y|card:z|T1|\\?)",
    ];
    let fields = prop::collection::vec(field, 0..3);
    let sample = (value, "(c|g|ms|h|d|s)", fields)
        .prop_map(|(value, kind, fields)| [vec![value, kind], fields].concat().join("|"));
    let notice = "(_e\\{1,1\\}:a\\|b|_sc\\|a\\|[0-4]|)";
    prop_oneof![
        9 => (head, sample).prop_map(|(head, sample)| format!("{head}:{sample}").into_bytes()),
        1 => notice.prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(line(), 0..6).prop_map(|lines| lines.join(&b'\n'))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// A line that is remembered counts as one that is read.
    #[test]
    fn what_is_sent_thrice_counts_thrice(
        payloads in prop::collection::vec(payload(), 0..6),
        dogstatsd: bool,
        graphite: bool,
        packing: bool,
    ) {
        let dialects = Dialects { dogstatsd, graphite, packing, ..Dialects::default() };
        let (once, thrice) = (pipeline(dialects), pipeline(dialects));
        ingest(&once, &payloads);
        for _ in 0..3 {
            ingest(&thrice, &payloads);
        }
        let once = tally(&once, &payloads);
        let mut expected = Tally::default();
        for _ in 0..3 {
            expected += &once;
        }
        prop_assert_eq!(tally(&thrice, &payloads), expected);
        let lines = payloads.iter().map(|payload| payload.split(|&byte| byte == b'\n').count() as u64);
        prop_assert_eq!(once.lines, lines.sum::<u64>());
    }

    /// How lines are cut into datagrams makes no difference.
    #[test]
    fn lines_count_alike_however_they_are_cut(lines in prop::collection::vec(line(), 1..12), cut in 1..12_usize) {
        let lines: Vec<Vec<u8>> = lines.join(&b'\n').split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
        let together: Vec<Vec<u8>> = lines.chunks(cut).map(|some| some.join(&b'\n')).collect();
        let (one_by_one, in_pieces) = (pipeline(Dialects::default()), pipeline(Dialects::default()));
        ingest(&one_by_one, &lines);
        ingest(&in_pieces, &together);
        prop_assert_eq!(tally(&one_by_one, &lines), tally(&in_pieces, &together));
        let exposition = |pipeline: &Pipeline| {
            let mut out = Vec::new();
            pipeline.write_exposition(Vec::new(), Format::Text, &mut out);
            String::from_utf8(out).expect("an exposition is text")
        };
        prop_assert_eq!(exposition(&one_by_one), exposition(&in_pieces));
    }
}
