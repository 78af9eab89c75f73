//! Version, links, start-up table -> the landing page.

use crate::startup::Row;

/// The page at `/`, as HTML.
pub(super) fn page(telemetry_path: &str, rows: &[Row]) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let links = [
        (telemetry_path, "the exposition, for Prometheus to scrape"),
        (super::PROMOTED, "identities that the kernel counts at present, with their rates, as JSON"),
        (super::HEALTHY, "answers 200 while the daemon runs"),
        (super::READY, "answers 200 once it receives"),
    ]
    .map(|(path, text)| {
        let path = escape(path);
        format!("<li><a href=\"{path}\">{path}</a>: {text}</li>\n")
    })
    .concat();
    let rows: String = rows
        .iter()
        .map(|(feature, state, why)| {
            let (feature, state, why) = (escape(feature), escape(state), escape(why));
            format!("<tr><td>{feature}</td><td>{state}</td><td>{why}</td></tr>\n")
        })
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Rotameter</title>\n\
         <style>body{{font-family:sans-serif;margin:2em}}td,th{{text-align:left;padding:.2em 1em .2em 0}}</style>\n\
         </head>\n<body>\n<h1>Rotameter</h1>\n<p>StatsD in, Prometheus out. Version {version}.</p>\n\
         <ul>\n{links}</ul>\n<h2>At start</h2>\n\
         <table>\n<tr><th>feature</th><th>state</th><th>why</th></tr>\n{rows}</table>\n</body>\n</html>\n"
    )
}

/// `text` with the characters that mean something in HTML written as entities.
fn escape(text: &str) -> String {
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
    fn the_page_links_and_shows_the_table_escaped() {
        let row = ("xdp <eth0>".to_owned(), "off".to_owned(), "a & \"b\"".to_owned());
        let page = page("/m", &[row]);
        assert!(page.contains("<a href=\"/m\">/m</a>"));
        assert!(page.contains("<td>xdp &lt;eth0&gt;</td><td>off</td><td>a &amp; &quot;b&quot;</td>"));
        assert!(page.contains(env!("CARGO_PKG_VERSION")));
    }
}
