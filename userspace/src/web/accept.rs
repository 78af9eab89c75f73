//! `Accept` -> format and escaping scheme of the exposition.
//!
//! What `expfmt` of the Go client answers, so that a scraper sees no difference. OpenMetrics, which
//! statsd_exporter does not write, is a choice only where it is switched on: Prometheus prefers it.

use super::quality::{entries, quality};
use crate::exposition::{Encoding, Escaping, Format, OpenMetricsVersion};

/// Entries of the header that are looked at; the rest is ignored.
const ENTRIES_MAX: usize = 64;

/// The format that the client prefers, or text if it names none that there is.
pub(super) fn negotiate<'a>(
    headers: impl IntoIterator<Item = &'a str>,
    openmetrics: bool,
) -> (Format, Escaping) {
    let mut wanted: Vec<(f64, &str)> =
        entries(headers).map(|entry| (quality(entry), entry)).take(ENTRIES_MAX).collect();
    // Of two with one quality the earlier one goes first.
    wanted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut escaping = Escaping::default();
    for (_, entry) in wanted.into_iter().filter(|(quality, _)| *quality > 0.0) {
        let named = parameter(entry, "escaping");
        if let Some(named) = Escaping::ALL.into_iter().find(|escaping| named == Some(escaping.name())) {
            escaping = named;
        }
        if let Some(format) = format(entry, openmetrics) {
            return (format, escaping);
        }
    }
    (Format::Text, escaping)
}

fn format(entry: &str, openmetrics: bool) -> Option<Format> {
    let media_type = entry.split(';').next().unwrap_or_default().trim();
    let version = parameter(entry, "version").unwrap_or_default();
    if media_type.eq_ignore_ascii_case("text/plain") {
        return ["", "0.0.4"].contains(&version).then_some(Format::Text);
    }
    if media_type.eq_ignore_ascii_case("application/vnd.google.protobuf") {
        if parameter(entry, "proto") != Some("io.prometheus.client.MetricFamily") {
            return None;
        }
        return match parameter(entry, "encoding") {
            Some("delimited") => Some(Format::Protobuf(Encoding::Delimited)),
            Some("text") => Some(Format::Protobuf(Encoding::Text)),
            Some("compact-text") => Some(Format::Protobuf(Encoding::CompactText)),
            _ => None,
        };
    }
    if openmetrics && media_type.eq_ignore_ascii_case("application/openmetrics-text") {
        return match version {
            "1.0.0" => Some(Format::OpenMetrics(OpenMetricsVersion::V1_0_0)),
            "" | "0.0.1" => Some(Format::OpenMetrics(OpenMetricsVersion::V0_0_1)),
            _ => None,
        };
    }
    None
}

/// The value of the parameter `name`, without quotes.
fn parameter<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    entry.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily";

    #[track_caller]
    fn check(header: &str, openmetrics: bool, expected: &str) {
        let (format, escaping) = negotiate([header], openmetrics);
        assert_eq!(format.content_type(escaping), expected, "{header}");
    }

    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

    #[test]
    fn text_is_for_all_who_name_nothing_better() {
        for header in [
            "",
            "*/*",
            "text/*",
            "application/json",
            "text/plain",
            "TEXT/plain;version=0.0.4",
            "text/plain;version=0.0.3",
            "application/openmetrics-text;version=1.0.0",
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/vnd.google.protobuf;encoding=delimited",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=json",
            &format!("{PROTOBUF};encoding=delimited;q=0"),
            &format!("{PROTOBUF};encoding=delimited;q=0.3,text/plain;q=0.4"),
            &",".repeat(100_000),
        ] {
            check(header, false, TEXT);
        }
    }

    #[test]
    fn protobuf_has_three_encodings() {
        for encoding in ["delimited", "text", "compact-text"] {
            check(
                &format!("{PROTOBUF};encoding={encoding};q=0.7,text/plain;version=0.0.4;q=0.3"),
                false,
                &format!(
                    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                     encoding={encoding}; escaping=underscores"
                ),
            );
        }
    }

    #[test]
    fn openmetrics_is_written_where_it_is_switched_on() {
        let one = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores";
        let old = "application/openmetrics-text; version=0.0.1; charset=utf-8; escaping=underscores";
        check("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", true, one);
        check("application/openmetrics-text;version=\"1.0.0\"", true, one);
        check("application/openmetrics-text", true, old);
        check("application/openmetrics-text;version=0.0.1;q=0.2,*/*;q=0.1", true, old);
        check("application/openmetrics-text;version=2.0.0", true, TEXT);
        check("application/openmetrics-text;version=1.0.0;q=0.4,text/plain;q=0.5", true, TEXT);
    }

    #[test]
    fn the_scheme_is_echoed_also_from_an_entry_that_was_not_chosen() {
        let scheme = |scheme: &str| TEXT.replace("underscores", scheme);
        for name in ["allow-utf-8", "underscores", "dots", "values"] {
            check(&format!("text/plain;version=0.0.4;escaping={name}"), false, &scheme(name));
        }
        check("application/openmetrics-text;escaping=dots,text/plain;q=0.5", false, &scheme("dots"));
        check("text/plain,application/openmetrics-text;escaping=dots", false, TEXT);
        check("text/plain;escaping=unknown", false, TEXT);
    }
}
