//! A whole fleet at its own pace -> what it saves to count its lines, most of them gauges, in the kernel.

use std::time::Duration;

use anyhow::Context as _;

use crate::{
    fleet::{Fleet, Preset},
    lab::Lab,
    load::{self, Limits, Pace, Payloads, wire::address},
    network::{self, Pair},
    report::{Findings, Row},
    server::{Contestant, Doors, Figures, Server},
};

const NAME: &str = "gauges";
const GENERATOR_CPU: usize = 0;
const SEED: u64 = 3;
const DIFFERENCES_SHOWN: usize = 3;
/// Where a full ring passes to; loss is not what is asked here.
const READ_BUFFER_BYTES: u64 = 64 << 20;
/// Which lines get a slot.
const RULES: [(&str, Option<&str>); 3] = [
    ("nothing in slots", Some("--promotion.min-rate=1000000000")),
    ("in slots what comes each second", Some("--promotion.min-rate=1")),
    ("in slots by default", None),
];

/// What one run of a fleet took.
struct Run {
    /// Of the process, for each datagram.
    ns: f64,
    /// Datagrams that the kernel counted.
    counted_percent: f64,
}

/// Plays the presets `large` and `huge` to a fresh daemon for each rule.
///
/// # Errors
///
/// A right is missing, a datagram is lost, or a series is not what was sent.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    // Of the fleet's time, and how many times faster it goes.
    let (span, speed) = lab.size((Duration::from_secs(16), 2.0), (Duration::from_secs(60), 1.0));
    let mut findings = Findings::default();
    for (preset, name) in [(Preset::Large, "large"), (Preset::Huge, "huge")] {
        let fleet = Fleet::preset(preset, SEED).take_while(|datagram| datagram.at < span);
        let payloads = Payloads::collect(fleet, usize::MAX);
        let mut found: Vec<Vec<Run>> = RULES.iter().map(|_| Vec::new()).collect();
        network::within(|pair| {
            network::pin(GENERATOR_CPU)?;
            for _ in 0..lab.long_runs() {
                for ((what, flag), found) in RULES.iter().zip(&mut found) {
                    let ours = ours.clone().flags(&flag.map(str::to_owned).into_iter().collect::<Vec<_>>());
                    found.push(
                        play(lab, pair, &ours, &payloads, speed)
                            .with_context(|| format!("{name}, {what}"))?,
                    );
                }
            }
            Ok(())
        })?;
        for ((what, _), runs) in RULES.iter().zip(&found) {
            let of = |value: fn(&Run) -> f64| -> Vec<f64> { runs.iter().map(value).collect() };
            let case = |figure: &str| format!("fleet {name}, {what}: {figure}");
            findings.rows.push(Row::new(NAME, case("CPU of the process"), "ns/datagram", &of(|run| run.ns)));
            let counted = of(|run| run.counted_percent);
            findings.rows.push(Row::new(NAME, case("counted in the kernel"), "%", &counted));
        }
        let ratios: Vec<f64> =
            found[0].iter().zip(&found[2]).map(|(none, default)| default.ns / none.ns).collect();
        let case = format!("fleet {name}: CPU of the process, by default / nothing in slots");
        findings.rows.push(Row::new(NAME, case, "times", &ratios));
        let share = [gauge_percent(&payloads)];
        findings.rows.push(Row::new(NAME, format!("fleet {name}: lines that are gauges"), "%", &share));
    }
    findings.notes.push(format!(
        "the second half of {} s of each fleet, {speed} times as fast as it sends; every series was held against what \
         was sent. What the kernel takes for a line in a slot or in the ring stands in kernel-cost",
        span.as_secs()
    ));
    Ok(findings)
}

fn play(lab: &Lab, pair: Pair, ours: &Contestant, payloads: &Payloads, speed: f64) -> anyhow::Result<Run> {
    let server = Server::start(ours, &lab.setup(Doors::Xdp).read_buffer(READ_BUFFER_BYTES))?;
    let mut wire = load::Wire::new(pair, payloads)?;
    let all = payloads.len() as u64;
    let mut middle = None;
    let mut look = |sent: u64| {
        if middle.is_none() && sent >= all / 2 {
            // The scrape brings in what waits.
            middle = Some(server.figures().and_then(|figures| Ok((sent, server.cpu()?, counted(&figures)))));
        }
        true
    };
    let sent = wire.send_watched(payloads, Pace::Recorded(speed), Limits::datagrams(all), &mut look)?;
    let (from, cpu, before) = middle.context("the fleet was too short to look at its middle")??;
    server.wait_until_quiet()?;
    let scrape = server.scrape()?;
    let spent = server.cpu()?.saturating_sub(cpu);
    let text = scrape.text();
    let figures = Figures::read(&text);
    let totals = payloads.totals_between(0, sent.datagrams, |sender| address(sender).to_bits());
    let differences = totals.expected(&ours.judge).differences(&text, DIFFERENCES_SHOWN);
    anyhow::ensure!(
        differences.is_empty(),
        "the exposition is not what was sent ({} lost): {}",
        figures.lost(),
        differences.join("; ")
    );
    #[expect(clippy::cast_precision_loss, reason = "a count of datagrams")]
    let datagrams = (sent.datagrams - from).max(1) as f64;
    Ok(Run {
        ns: spent.as_secs_f64() * 1e9 / datagrams,
        counted_percent: 100.0 * (counted(&figures) - before) / datagrams,
    })
}

/// Datagrams that the door counted by itself.
fn counted(figures: &Figures) -> f64 {
    figures.own_sum("rotameter_datagrams_total", "verdict=\"counted\"")
}

fn gauge_percent(payloads: &Payloads) -> f64 {
    let totals = payloads.totals(payloads.len() as u64);
    #[expect(clippy::cast_precision_loss, reason = "a count of lines")]
    let percent = 100.0 * totals.lines_of(load::LineType::Gauge) as f64 / totals.lines().max(1) as f64;
    percent
}
