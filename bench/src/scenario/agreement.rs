//! The same datagrams to each server -> whether they show the same, series by series.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::{
    fleet::{Dialect, Fleet, Preset, Settings, Version},
    judge::{
        Judge,
        text::{same, sample, series},
    },
    lab::Lab,
    load::{LineType, Payloads, Totals},
    network::{self, Pair},
    report::{Findings, Row},
    server::{Contestant, Doors, is_own},
};

use super::{
    offer::{Offer, Wire},
    trial::Trial,
};

const NAME: &str = "agreement";
const GENERATOR_CPU: usize = 0;
/// A rate that every program keeps up with.
const RATE: f64 = 10_000.0;
const READ_BUFFER_BYTES: u64 = 64 << 20;
const DIFFERENCES_SHOWN: usize = 10;
const SEED: u64 = 7;
/// Quantiles are estimates. What statsd_exporter asks for without a mapping file, and for any other quantile.
const ERRORS: [(f64, f64); 3] = [(0.5, 0.05), (0.9, 0.01), (0.99, 0.001)];
const ERROR_MAX: f64 = 0.05;

/// Sends a fleet's datagrams to ours without a door, to ours with XDP, and to every other program, and compares
/// what they show then: names, types, help texts, labels and values. A server's own metrics are left out, and
/// quantiles may differ as far as their error allows.
///
/// # Errors
///
/// A right is missing, a server does not start, a datagram is lost; or they do not show the same.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    // Others do not have our profiles.
    let ours = lab.plain()?;
    let mut findings = Findings::default();
    for (version, dialect, what) in [
        (Version::V2_11, Dialect::Plain, "2.11 without tags"),
        (Version::V3_3, Dialect::Datadog, "3.3 with tags"),
    ] {
        let settings = Settings { version, dialect, ..Settings::preset(Preset::Large) };
        let payloads = Payloads::collect(Fleet::new(settings, SEED), lab.size(20_000, 100_000));
        let values = values(&payloads, &ours.judge);
        network::within(|pair| {
            network::pin(GENERATOR_CPU)?;
            let reference = show(lab, pair, &ours, Doors::None, &payloads)?;
            let others =
                std::iter::once((&ours, Doors::Xdp)).chain(lab.versus.iter().map(|it| (it, Doors::None)));
            for (contestant, doors) in others {
                let shown = show(lab, pair, contestant, doors, &payloads)?;
                let differences = compare(&reference, &shown, &values);
                anyhow::ensure!(
                    differences.is_empty(),
                    "{what}: {} and {} differ in {} places: {}",
                    ours.name,
                    contestant.name,
                    differences.len(),
                    differences[..differences.len().min(DIFFERENCES_SHOWN)].join("; ")
                );
                let doors = if contestant.ours { ", XDP" } else { "" };
                let case =
                    format!("fleet of {what}: samples alike, {} and {}{doors}", ours.name, contestant.name);
                #[expect(clippy::cast_precision_loss, reason = "a count of samples")]
                let alike = shown.samples.len() as f64;
                findings.rows.push(Row::new(NAME, case, "samples", &[alike]));
            }
            Ok(())
        })?;
    }
    findings.notes.push(
        "each was sent the same datagrams; names, types, help texts, labels and values were compared, and quantiles \
         with the values sent, within their error"
            .to_owned(),
    );
    Ok(findings)
}

/// What a fresh server shows after these datagrams, none of them lost.
fn show(
    lab: &Lab,
    pair: Pair,
    contestant: &Contestant,
    doors: Doors,
    payloads: &Payloads,
) -> anyhow::Result<Exposition> {
    let wire = Wire::new(pair)?;
    let mut trial = Trial::start(pair, contestant, &lab.setup(doors).read_buffer(READ_BUFFER_BYTES))?;
    let mut offer = Offer::new(&wire, payloads.clone(), &contestant.judge)?;
    trial.once(&mut offer, RATE)?;
    trial.check_series(&[offer])?;
    let text = trial.server.scrape()?;
    Exposition::read(&text.text()).with_context(|| format!("what {} shows", contestant.name))
}

/// What senders have fed, of an exposition.
#[derive(Debug, Default, PartialEq)]
struct Exposition {
    /// Type and help text by family.
    families: BTreeMap<String, (String, String)>,
    samples: BTreeMap<String, f64>,
}

impl Exposition {
    fn read(text: &str) -> anyhow::Result<Self> {
        let mut read = Self::default();
        for line in text.lines() {
            if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
                read.families.entry(name.to_owned()).or_default().1 = help.to_owned();
            } else if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
            {
                read.families.entry(name.to_owned()).or_default().0 = kind.to_owned();
            } else if !line.starts_with('#') {
                let (series, value) = sample(line).with_context(|| format!("no sample: {line}"))?;
                anyhow::ensure!(
                    read.samples.insert(series, value).is_none(),
                    "a series that stands twice: {line}"
                );
            }
        }
        read.families.retain(|name, _| !is_own(name));
        read.samples.retain(|series, _| !is_own(series));
        Ok(read)
    }
}

/// All that is not the same.
fn compare(one: &Exposition, other: &Exposition, values: &Values) -> Vec<String> {
    let mut differences = Vec::new();
    for name in
        one.families.keys().chain(other.families.keys().filter(|name| !one.families.contains_key(*name)))
    {
        let (one, other) = (one.families.get(name), other.families.get(name));
        if one != other {
            differences.push(format!("family {name}: {one:?}, {other:?}"));
        }
    }
    for series in
        one.samples.keys().chain(other.samples.keys().filter(|series| !one.samples.contains_key(*series)))
    {
        let alike = match (one.samples.get(series), other.samples.get(series)) {
            (Some(one), Some(other)) if same(*one, *other) => true,
            (Some(one), Some(other)) => values.allow(series, *one) && values.allow(series, *other),
            _ => false,
        };
        if !alike {
            differences.push(format!(
                "{series}: {:?}, {:?}",
                one.samples.get(series),
                other.samples.get(series)
            ));
        }
    }
    differences
}

/// The values that each observer was sent, sorted.
struct Values(BTreeMap<String, Vec<f64>>);

fn values(payloads: &Payloads, judge: &Judge) -> Values {
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for payload in payloads.iter() {
        let mut lines = Totals::default();
        lines.add(payload.bytes);
        for (identity, total) in lines.iter().filter(|(identity, _)| identity.line_type == LineType::Observer)
        {
            let Some(place) = judge.place(identity) else { continue };
            let value =
                (total.sum + total.timer_sum / place.timer_per_second) * place.scale / total.observations;
            values.entry(series(&place.name, "", &place.labels)).or_default().push(value);
        }
    }
    values.values_mut().for_each(|values| values.sort_by(f64::total_cmp));
    Values(values)
}

impl Values {
    /// Whether a sample is a quantile that lies within its error.
    fn allow(&self, sample: &str, value: f64) -> bool {
        let Some((name, labels)) = sample.split_once('{') else { return false };
        let labels = labels.trim_end_matches('}');
        let is_quantile = |label: &&str| label.starts_with("quantile=\"");
        // No value of a label that a fleet sends holds a comma.
        let Some(quantile) = labels.split(',').find(is_quantile) else { return false };
        let rest: Vec<&str> = labels.split(',').filter(|label| !is_quantile(label)).collect();
        let of = if rest.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", rest.join(",")) };
        let quantile = quantile.trim_start_matches("quantile=\"").trim_end_matches('"').parse::<f64>();
        let (Some(values), Ok(quantile)) = (self.0.get(&of), quantile) else { return false };
        let error = ERRORS.into_iter().find(|(at, _)| *at == quantile).map_or(ERROR_MAX, |(_, error)| error);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among some thousand values; negative ones become 0"
        )]
        let at = |quantile: f64, more: f64| {
            let rank = (quantile * values.len() as f64 + more) as usize;
            values[rank.min(values.len() - 1)]
        };
        // A rank more on either side: a rank may be rounded, and counted from 0 or 1.
        (at(quantile - error, -2.0)..=at(quantile + error, 1.0)).contains(&value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "# HELP t h\n# TYPE t summary\nt{a=\"b\",quantile=\"0.5\"} 0.05\nt_sum{a=\"b\"} 5.05\n\
                         t_count{a=\"b\"} 100\n# TYPE go_x gauge\ngo_x 1\n";

    fn sent() -> Values {
        let lines: Vec<String> = (1..=100).map(|value| format!("t:{value}|ms|#a:b")).collect();
        values(&Payloads::of(lines.iter().map(String::as_bytes)), &Judge::default())
    }

    #[track_caller]
    fn check(from: &str, to: &str, differences: usize) {
        let read = |text: &str| Exposition::read(text).expect("an exposition");
        assert_eq!(compare(&read(SHOWN), &read(&SHOWN.replace(from, to)), &sent()).len(), differences);
    }

    #[test]
    fn every_difference_is_told() {
        check("", "", 0);
        check("go_x", "go_y", 0);
        check("# HELP t h", "# HELP t i", 1);
        check("summary", "gauge", 1);
        check("t_count{a=\"b\"} 100", "t_count{a=\"b\"} 99", 1);
        check("t_sum{a=\"b\"}", "t_sum{a=\"c\"}", 2);
    }

    #[test]
    fn quantiles_may_differ_within_their_error() {
        check("} 0.05\n", "} 0.046\n", 0);
        check("} 0.05\n", "} 0.03\n", 1);
    }
}
