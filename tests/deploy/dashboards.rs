//! Grafana's JSON -> every query in it; and what makes it importable.

use serde_json::Value;

use super::tools::{files, folder, output, python};

/// A dashboard, by the name of its file.
pub(super) fn dashboards() -> Vec<(String, Value)> {
    let files = files("deploy/grafana", ".json");
    assert!(!files.is_empty());
    let read = |file: &std::path::PathBuf| {
        let text = std::fs::read_to_string(file).expect("a readable file");
        let name = file.file_name().expect("a file has a name").to_string_lossy().into_owned();
        (name, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
    };
    files.iter().map(read).collect()
}

/// The panels of a dashboard, those in collapsed rows too.
pub(super) fn panels(dashboard: &Value) -> Vec<&Value> {
    fn walk<'a>(panels: &'a Value, into: &mut Vec<&'a Value>) {
        for panel in panels.as_array().into_iter().flatten() {
            into.push(panel);
            walk(&panel["panels"], into);
        }
    }
    let mut all = Vec::new();
    walk(&dashboard["panels"], &mut all);
    all
}

/// Titles of panels with their queries.
pub(super) fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in panels(dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().expect("a panel has a title").to_owned();
            queries.push((title, target["expr"].as_str().expect("a target has a query").to_owned()));
        }
    }
    queries
}

#[test]
#[ignore = "needs jsonnet; cargo xtask test installs it"]
fn what_is_shipped_is_what_the_mixin_renders() {
    output(python().arg(folder("deploy/mixin/render.py")).arg("--check"));
}

#[test]
fn dashboards_are_importable_anywhere() {
    for (name, dashboard) in dashboards() {
        assert!(dashboard["id"].is_null() && dashboard["uid"].is_null(), "{name} is tied to one Grafana");
        assert_eq!(dashboard["__inputs"][0]["pluginId"], "prometheus", "{name} asks for no data source");
        let variables = dashboard["templating"]["list"].as_array().expect("a list");
        assert!(variables.iter().any(|variable| variable["type"] == "datasource"), "{name}");
        let all = panels(&dashboard);
        let mut ids: Vec<i64> = all.iter().map(|panel| panel["id"].as_i64().expect("a number")).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all.len(), "{name}: two panels have one id");
        for panel in all.iter().filter(|panel| panel["type"] != "row") {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {}", panel["title"]);
            assert!(!queries(&dashboard).is_empty());
        }
    }
}

/// A panel that lies on another one, or beyond the right edge, is moved about by Grafana.
#[test]
fn no_panel_lies_on_another() {
    for (name, dashboard) in dashboards() {
        let place = |panel: &Value| {
            let of = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            (of("x"), of("y"), of("x") + of("w"), of("y") + of("h"))
        };
        let top: Vec<&Value> = dashboard["panels"].as_array().expect("a list").iter().collect();
        for (index, panel) in top.iter().enumerate() {
            let (left, top_edge, right, bottom) = place(panel);
            assert!(right <= 24, "{name}: {}", panel["title"]);
            for other in &top[..index] {
                let (l, t, r, b) = place(other);
                let apart = right <= l || r <= left || bottom <= t || b <= top_edge;
                assert!(apart, "{name}: {} and {}", panel["title"], other["title"]);
            }
        }
    }
}
