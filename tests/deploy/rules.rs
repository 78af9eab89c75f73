//! Alert and recording rules -> promtool, and what every alert must carry.

use std::process::Command;

use serde::Deserialize;

use super::tools::{files, folder, named, output, text};

#[derive(Deserialize)]
pub(super) struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Clone, Deserialize)]
pub(super) struct Rule {
    pub(super) alert: Option<String>,
    pub(super) expr: String,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// All rules that are shipped.
pub(super) fn rules() -> Vec<Rule> {
    let files = files("deploy/prometheus", ".rules.yml");
    assert!(!files.is_empty());
    files
        .iter()
        .flat_map(|file| {
            let text = std::fs::read_to_string(file).expect("a readable file");
            let file: RuleFile =
                yaml_serde::from_str(&text).unwrap_or_else(|error| panic!("{file:?}: {error}"));
            file.groups.into_iter().flat_map(|group| group.rules)
        })
        .collect()
}

#[test]
#[ignore = "needs promtool; cargo xtask test installs it"]
fn promtool_finds_nothing_to_say() {
    output(
        Command::new(named("ROTAMETER_PROMTOOL"))
            .arg("check")
            .arg("rules")
            .args(files("deploy/prometheus", ".rules.yml")),
    );
    let tests = files("deploy/prometheus/tests", ".test.yml");
    assert!(!tests.is_empty());
    output(Command::new(named("ROTAMETER_PROMTOOL")).arg("test").arg("rules").args(tests));
}

#[test]
fn each_alert_says_what_to_do() {
    for rule in rules() {
        let Some(alert) = rule.alert else { continue };
        let severity = rule.labels.get("severity").map(String::as_str);
        assert!(matches!(severity, Some("critical" | "warning" | "info")), "{alert}: {severity:?}");
        for annotation in ["summary", "description"] {
            assert!(
                rule.annotations.get(annotation).is_some_and(|text| text.len() > 20),
                "{alert}: {annotation}"
            );
        }
        let url = rule.annotations.get("runbook_url").unwrap_or_else(|| panic!("{alert} has no runbook_url"));
        let (path, anchor) = url.split_once('#').unwrap_or_else(|| panic!("{alert}: {url}"));
        assert_eq!(anchor, alert.to_lowercase(), "{url}");
        assert!(text(path).contains(&format!("\n## {alert}\n")), "{path} has no heading for {alert}");
    }
}

#[test]
#[ignore = "needs jsonnet; cargo xtask test brings it"]
fn the_mixin_has_one_setting_for_links_to_runbooks() {
    const LINKS: &str = "import _jsonnet, sys\n\
        print(_jsonnet.evaluate_snippet('', \"local m = (import '%s') + {_config+:: {runbookBaseUrl: 'https://git/'}};\\n\
        [r.annotations.runbook_url for g in m.prometheusAlerts.groups for r in g.rules]\" % sys.argv[1]))";
    let mixin = folder("deploy/mixin/mixin.libsonnet");
    let links: Vec<String> =
        serde_json::from_str(&output(super::tools::python().args(["-c", LINKS]).arg(mixin))).expect("JSON");
    assert_eq!(links.len(), rules().iter().filter(|rule| rule.alert.is_some()).count());
    assert!(links.iter().all(|link| link.starts_with("https://git/docs/runbooks/")), "{links:?}");
}

/// The other way round: a runbook whose alert has gone helps nobody.
#[test]
fn each_runbook_has_its_alert() {
    let alerts: Vec<String> = rules().into_iter().filter_map(|rule| rule.alert).collect();
    for file in files("docs/runbooks", ".md") {
        let page = std::fs::read_to_string(&file).expect("a readable file");
        for heading in page.lines().filter_map(|line| line.strip_prefix("## ")) {
            assert!(alerts.iter().any(|alert| alert == heading), "{}: {heading}", file.display());
        }
    }
}

#[test]
fn each_alert_is_tested() {
    let tests: String = files("deploy/prometheus/tests", ".test.yml")
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("a readable file"))
        .collect();
    for alert in rules().into_iter().filter_map(|rule| rule.alert) {
        assert!(
            tests.contains(&format!("alertname: {alert}\n"))
                || tests.contains(&format!("alertname=\"{alert}\"")),
            "no test in {} fires {alert}",
            folder("deploy/prometheus/tests").display()
        );
    }
}
