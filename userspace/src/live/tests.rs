//! Lines and counters in -> the report that comes out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::*;
use crate::datagram::{Datagram, Source, Transport};
use crate::registry::FamilyKind;

fn samples(lines: &[(&str, u8)], times: usize) -> Samples {
    let (mut sampler, mut samples) = (Sampler::default(), Samples::default());
    for (line, host) in lines.iter().cycle().take(times * lines.len()) {
        let source = Source::Address(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, *host)), 9));
        let received = Timestamp(1);
        sampler.see(line.as_bytes(), &Datagram { payload: b"", received, source, transport: Transport::Udp });
    }
    sampler.swap(&mut samples);
    samples
}

fn family(name: &str, samples: &[(&str, f64)]) -> OwnFamily {
    let samples = samples.iter().map(|(labels, value)| ((*labels).to_owned(), *value)).collect();
    OwnFamily { name: name.to_owned(), help: String::new(), kind: FamilyKind::Counter, samples }
}

const SECOND: u64 = 1_000_000_000;

#[track_caller]
fn check(talkers: &[Talker], expected: &[(&str, f64, bool)]) {
    let talkers: Vec<_> = talkers.iter().map(|t| (t.name.as_str(), t.per_second, t.in_kernel)).collect();
    assert_eq!(talkers, expected);
}

#[test]
fn lines_of_userspace_and_of_the_kernel_are_ranked_together() {
    let live = Live::default();
    live.observe(&Samples::default(), &[], 100.0, Timestamp(SECOND));
    let lines = samples(
        &[("a.ti.start.etl.t:1|c", 1), ("b:1|ms", 2), ("b:2|ms", 2), ("a.dag.ml.t.duration:3|ms", 2)],
        10,
    );
    live.observe(&lines, &[], 102.0, Timestamp(3 * SECOND));
    let promoted = vec![(b"a.ti.start.etl.t:|c".to_vec(), 50.0), (b"hot:|c".to_vec(), 7.0)];
    let report = live.report(&promoted, false);
    check(
        &report.identities,
        &[
            ("a.ti.start.etl.t:|c", 50.0, true),
            ("b:|ms", 10.0, false),
            ("hot:|c", 7.0, true),
            ("a.dag.ml.t.duration:|ms", 5.0, false),
        ],
    );
    check(&report.dags, &[("etl", 50.0, true), ("ml", 5.0, false)]);
    check(&report.senders, &[("10.0.0.2", 15.0, false), ("10.0.0.1", 5.0, false)]);
}

#[test]
fn losses_have_totals_rates_and_reasons() {
    let live = Live::default();
    let families = |lost: f64, malformed: f64, counters: f64| {
        vec![
            family(LOST, &[("where=\"udp_socket_queue\"", lost)]),
            family(
                "statsd_exporter_sample_errors_total",
                &[("reason=\"malformed_value\"", malformed), ("reason=\"x\"", 0.0)],
            ),
            family("statsd_exporter_events_total", &[("type=\"counter\"", counters)]),
            family("statsd_exporter_lines_total", &[("", counters + malformed)]),
        ]
    };
    live.observe(&Samples::default(), &families(5.0, 0.0, 10.0), 100.0, Timestamp(SECOND));
    live.observe(&Samples::default(), &families(9.0, 1.0, 30.0), 102.0, Timestamp(3 * SECOND));
    assert_eq!(live.last_line_seconds(), 102.0);
    let report = live.report(&Vec::new(), true);
    let losses: Vec<_> = report.losses.iter().map(|l| (l.reason.as_str(), l.total, l.per_second)).collect();
    assert_eq!(losses, [("where=\"udp_socket_queue\"", 9.0, 2.0), ("reason=\"malformed_value\"", 1.0, 0.5)]);
    check(&report.types, &[("counter", 10.0, false)]);
    assert_eq!((report.now.lines_per_second, report.now.lost_per_second), (10.5, 2.0));
    assert_eq!(report.now.refused_per_second, 0.5);
    assert_eq!(report.history.map(|columns| columns.lines_per_second), Some(vec![10.5]));
    // Nothing more has come.
    live.observe(&Samples::default(), &families(9.0, 1.0, 30.0), 103.0, Timestamp(4 * SECOND));
    assert_eq!(live.last_line_seconds(), 102.0);
}

#[test]
fn a_line_with_several_values_goes_by_its_name() {
    let mut key = Vec::new();
    write_identity(b"a:1:2|ms", &mut key);
    assert_eq!(key, b"a:");
}

#[test]
fn a_report_survives_the_wire_and_unknown_fields() {
    let report = Report { version: "1".to_owned(), ..Report::default() };
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    let text = text.replacen('{', "{\"new\":{},", 1);
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}
