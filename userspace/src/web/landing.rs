//! Version, links, key figures, start-up table -> the landing page.

use std::fmt::Write as _;

use crate::startup::Row;

const STYLE: &str = "body{font-family:sans-serif;margin:2em;max-width:60em}\
                     td,th{text-align:left;padding:.2em 1em .2em 0}td.n{text-align:right}";

/// The page at `/`, as HTML.
pub(super) fn page(
    telemetry_path: &str,
    lifecycle: bool,
    rows: &[Row],
    figures: &[(&'static str, f64)],
) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Rotameter</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>Rotameter</h1>\n\
         <p>StatsD in, Prometheus out; takes the place of the StatsD Exporter \
         (statsd_exporter). Version {version}.</p>\n<ul>\n"
    );
    let links = [
        (telemetry_path, "the exposition, for Prometheus to scrape"),
        (super::STATUS, "what goes on now, with charts"),
        (super::LIVE, "the same as JSON"),
        (super::PROMOTED, "identities that the kernel counts at present, with their rates, as JSON"),
        (super::CARDINALITY, "where the series are: families, label values, offenders, as JSON"),
        (super::HEALTHY, "answers 200 while the daemon runs"),
        (super::READY, "answers 200 once it receives"),
    ];
    for (path, text) in links {
        let path = escape(path);
        // Writing to a String cannot fail; the same holds below.
        let _ = writeln!(page, "<li><a href=\"{path}\">{path}</a>: {text}</li>");
    }
    if lifecycle {
        let (reload, quit) = (super::RELOAD, super::QUIT);
        let _ = writeln!(page, "<li>POST to {reload} or {quit}: reads the mapping file anew, or ends</li>");
    }
    page.push_str("</ul>\n<h2>Now</h2>\n<table>\n");
    for (name, value) in figures {
        let value = grouped(*value);
        let _ = writeln!(page, "<tr><td>{}</td><td class=\"n\">{value}</td></tr>", escape(name));
    }
    page.push_str("</table>\n<h2>At start</h2>\n<table>\n");
    page.push_str("<tr><th>feature</th><th>state</th><th>why</th></tr>\n");
    for (feature, state, why) in rows {
        let (feature, state, why) = (escape(feature), escape(state), escape(why));
        let _ = writeln!(page, "<tr><td>{feature}</td><td>{state}</td><td>{why}</td></tr>");
    }
    page.push_str("</table>\n</body>\n</html>\n");
    page
}

/// A count with its digits in threes: `1,234,567`.
pub(super) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && digit.is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `text` with the characters that mean something in HTML written as entities.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_links_and_shows_the_tables_escaped() {
        let row = ("xdp <eth0>".to_owned(), "off".to_owned(), "a & \"b\"".to_owned());
        let page = page("/m", false, &[row], &[("lines", 1_234_567.0)]);
        assert!(page.contains("<a href=\"/m\">/m</a>"));
        assert!(page.contains("<td>xdp &lt;eth0&gt;</td><td>off</td><td>a &amp; &quot;b&quot;</td>"));
        assert!(page.contains("<td>lines</td><td class=\"n\">1,234,567</td>"), "{page}");
        assert!(page.contains(env!("CARGO_PKG_VERSION")));
        assert!(!page.contains("/-/quit") && !page.contains("<script"));
    }

    #[test]
    fn digits_come_in_threes() {
        let cases = [(0.0, "0"), (999.0, "999"), (1000.0, "1,000"), (123_456.0, "123,456")];
        for (value, text) in cases {
            assert_eq!(grouped(value), text);
        }
    }
}
