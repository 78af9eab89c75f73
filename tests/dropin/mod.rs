//! Case files -> the daemon from outside, as a drop-in for statsd_exporter.
//!
//! `cases/*.case` say what goes in and what must come out; `case.rs` describes how they are written.
//! Each case has a daemon of its own, on a loopback address of its own. Where statsd_exporter would
//! crash, lose data or fail a scrape, the case says what happens instead.

mod case;
mod daemon;
mod expectation;
mod http;
mod run;

use case::Case;

/// Each file with its cases.
const FILES: [(&str, &str); 16] = [
    ("lines", include_str!("cases/lines.case")),
    ("values", include_str!("cases/values.case")),
    ("tags", include_str!("cases/tags.case")),
    ("dogstatsd", include_str!("cases/dogstatsd.case")),
    ("transports", include_str!("cases/transports.case")),
    ("relay", include_str!("cases/relay.case")),
    ("registry", include_str!("cases/registry.case")),
    ("flags", include_str!("cases/flags.case")),
    ("web", include_str!("cases/web.case")),
    ("schema", include_str!("cases/schema.case")),
    ("invalid", include_str!("cases/invalid.case")),
    ("matching", include_str!("cases/matching.case")),
    ("templates", include_str!("cases/templates.case")),
    ("rules", include_str!("cases/rules.case")),
    ("observers", include_str!("cases/observers.case")),
    ("time", include_str!("cases/time.case")),
];

fn cases() -> Vec<Case> {
    let cases: Vec<Case> = FILES.into_iter().flat_map(|(file, text)| case::parse(file, text)).collect();
    assert!(cases.len() >= 400, "{} cases", cases.len());
    cases
}

#[test]
#[ignore = "needs the daemon's binary, which cargo xtask test builds and names"]
fn doors_shut() {
    run::all(&cases(), &["--ebpf=off"]);
}

#[test]
#[ignore = "needs CAP_BPF, CAP_PERFMON"]
fn doors_open() {
    // A verifier's run for each daemon takes a third of a second, so only where a door may matter: for
    // how lines arrive, are cut, and find series that come and go; not for what a text means.
    const MATTER: [&str; 6] = ["lines", "dogstatsd", "transports", "relay", "registry", "time"];
    let matters = |case: &Case| MATTER.iter().any(|file| case.name.starts_with(&format!("{file}:")));
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.sends_udp() && matters(case)).collect();
    let flags = ["--ebpf=required", "--ebpf.doors=socket-filter", "--promotion.interval=100ms"];
    run::all(&cases, &flags);
}
