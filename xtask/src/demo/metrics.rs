//! The daemon's pages -> the numbers that the demo shows.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A daemon with a full registry answers with less.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What one scrape says: every sample's name with labels as written, and its value.
pub(super) struct Scrape(Vec<(String, f64)>);

/// One entry of the daemon's list of promoted identities.
#[derive(Debug, Deserialize)]
pub(super) struct Promoted {
    pub(super) identity: String,
    /// Lines per second, as the daemon last measured it.
    #[serde(default)]
    pub(super) rate: f64,
}

pub(super) fn scrape(web: SocketAddr) -> Result<Scrape> {
    get(web, "/metrics").map(|text| Scrape::parse(&text))
}

/// Promoted identities, busiest first. Empty where the daemon has no such page.
pub(super) fn promoted(web: SocketAddr) -> Vec<Promoted> {
    let list = get(web, "/promoted").ok().and_then(|text| serde_json::from_str::<Vec<Promoted>>(&text).ok());
    let mut list = list.unwrap_or_default();
    list.sort_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| a.identity.cmp(&b.identity)));
    list
}

/// Body of the page. HTTP/1.0, since its answers come in one piece and end with the connection.
pub(super) fn get(web: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&web, TIMEOUT).with_context(|| format!("reaching {web}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).context("setting a timeout")?;
    stream.set_write_timeout(Some(TIMEOUT)).context("setting a timeout")?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {web}\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(|| format!("asking {web} for {path}"))?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)
        .with_context(|| format!("reading http://{web}{path}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{web} speaks no HTTP"))?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("http://{web}{path} answered: {status}");
    }
    Ok(body.to_owned())
}

impl Scrape {
    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// Sum over all series of the family that carry this label; `None` if there is none.
    pub(super) fn sum(&self, family: &str, label: Option<(&str, &str)>) -> Option<f64> {
        let label = label.map(|(name, value)| format!("{name}=\"{value}\""));
        let matching = self.0.iter().filter(|(series, _)| {
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            name == family && label.as_ref().is_none_or(|label| has_label(labels, label))
        });
        matching.map(|(_, value)| *value).reduce(|sum, value| sum + value)
    }
}

/// Whether the label stands there whole; `verdict="x"` must not be found in `my_verdict="x"`.
fn has_label(labels: &str, label: &str) -> bool {
    labels.match_indices(label).any(|(at, _)| at == 0 || labels[..at].ends_with([',', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE rotameter_datagrams_total counter
rotameter_datagrams_total{door=\"xdp\",verdict=\"counted\",reason=\"\"} 5
rotameter_datagrams_total{door=\"socket_filter\",verdict=\"counted\",reason=\"\"} 2
rotameter_datagrams_total{door=\"xdp\",verdict=\"passed\",reason=\"other_port\"} 1e+06
rotameter_promoted_identities 3
";

    #[track_caller]
    fn check(family: &str, label: Option<(&str, &str)>, expected: Option<f64>) {
        assert_eq!(Scrape::parse(TEXT).sum(family, label), expected);
    }

    #[test]
    fn series_with_the_label_are_added_up() {
        check("rotameter_datagrams_total", Some(("verdict", "counted")), Some(7.0));
        check("rotameter_datagrams_total", Some(("verdict", "passed")), Some(1e6));
        check("rotameter_promoted_identities", None, Some(3.0));
    }

    #[test]
    fn a_metric_that_is_absent_is_not_zero() {
        check("rotameter_lost_datagrams_total", None, None);
        check("rotameter_datagrams_total", Some(("verdict", "ringed")), None);
    }

    #[test]
    fn a_label_is_found_by_its_whole_name_only() {
        check("rotameter_datagrams_total", Some(("dict", "counted")), None);
    }
}
