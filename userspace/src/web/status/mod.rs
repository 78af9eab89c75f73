//! Start-up table, key figures -> the page at `/status`, whose script draws the rest.
//!
//! Nothing is loaded from elsewhere, and the policy that goes with the page lets nothing else run: the
//! script and the style are named by their hashes.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::digest::{SHA256, digest};

use super::landing::{escape, grouped};
use crate::startup::Row;
use crate::version::VERSION;

const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// Lists that the script fills: id, title, headings of the columns.
const LISTS: [(&str, &str, [&str; 3]); 4] = [
    ("identities", "Hottest identities", ["lines/s", "", "line without its value"]),
    ("dags", "DAGs", ["lines/s", "", "DAG"]),
    ("senders", "Senders of what came whole", ["lines/s", "", "address"]),
    ("losses", "Lost or refused", ["total", "a second", "where and why"]),
];

/// The value of `Content-Security-Policy` for the page.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64_STANDARD.encode(digest(&SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         script-src 'sha256-{}'; style-src 'sha256-{}'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

/// The page, as HTML. Without JavaScript it still has figures and table.
pub(super) fn page(telemetry_path: &str, rows: &[Row], figures: &[(&'static str, f64)]) -> String {
    let metrics = escape(telemetry_path.trim_start_matches('/'));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Rotameter: status</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>Rotameter {VERSION}</h1>\n\
         <p><a href=\"./\">start</a> <a href=\"{metrics}\">metrics</a> <a href=\"live?history\">as JSON</a> \
         <span id=\"state\" role=\"status\"></span></p>\n\
         <noscript><p>The charts need JavaScript; the tables below do not.</p></noscript>\n\
         <div id=\"charts\"></div>\n"
    );
    for (id, title, headings) in LISTS {
        let headings: String =
            headings.iter().map(|heading| format!("<th scope=\"col\">{heading}</th>")).collect();
        // Writing to a String cannot fail; the same holds below.
        let _ = writeln!(
            page,
            "<details open><summary>{title}</summary>\n<table><thead><tr>{headings}</tr></thead>\
             <tbody id=\"{id}\"></tbody></table></details>"
        );
    }
    page.push_str("<h2>When this page was loaded</h2>\n<table>\n");
    for (name, value) in figures {
        let _ = writeln!(page, "<tr><td>{}</td><td class=\"n\">{}</td></tr>", escape(name), grouped(*value));
    }
    page.push_str("</table>\n<h2>At start</h2>\n<table>\n");
    page.push_str(
        "<tr><th scope=\"col\">feature</th><th scope=\"col\">state</th><th scope=\"col\">why</th></tr>\n",
    );
    for (feature, state, why) in rows {
        let (feature, state, why) = (escape(feature), escape(state), escape(why));
        let _ = writeln!(page, "<tr><td>{feature}</td><td>{state}</td><td>{why}</td></tr>");
    }
    // The hash is of what stands between the tags, to the byte.
    let _ = write!(page, "</table>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between<'a>(page: &'a str, begin: &str, end: &str) -> &'a str {
        page.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).expect("it is there").0
    }

    #[test]
    fn the_policy_names_what_stands_in_the_page() {
        let page = page("/metrics", &[], &[]);
        for (begin, end) in [("<script>", "</script>"), ("<style>", "</style>")] {
            let hash = BASE64_STANDARD.encode(digest(&SHA256, between(&page, begin, end).as_bytes()));
            assert!(POLICY.contains(&format!("'sha256-{hash}'")), "{begin}");
        }
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_nothing_is_unescaped() {
        let row = ("<xdp>".to_owned(), "off".to_owned(), "a & b".to_owned());
        let page = page("/m\"x", &[row], &[("lines", 12_345.0)]);
        assert!(page.contains("<td>&lt;xdp&gt;</td><td>off</td><td>a &amp; b</td>"));
        assert!(page.contains("href=\"m&quot;x\"") && page.contains("<td class=\"n\">12,345</td>"));
        // The name space of SVG is a name, and nobody loads it.
        assert_eq!(page.matches("://").count(), page.matches("http://www.w3.org/2000/svg").count());
        assert!(!SCRIPT.contains("innerHTML") && !SCRIPT.contains("eval"));
    }
}
