//! Variables and configuration of Airflow's -> what keeps it from sending, or from sending to us.

use super::finding::{Finding, Severity};

/// Settings that are looked at, of one place.
const SETTINGS_MAX: usize = 10_000;
/// Where Airflow sends to unless told otherwise.
const PORT_DEFAULT: u16 = 8125;

/// Where settings stand.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) shown: String,
    /// All that is set stands there, so that what is missing is not set.
    pub(super) whole: bool,
}

/// One variable; a key of airflow.cfg stands as the variable that would set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: String,
}

impl Setting {
    /// If we look at such.
    pub(super) fn of(key: &str, value: &str) -> Option<Self> {
        let wanted = key.starts_with("AIRFLOW_") || key == "KUBERNETES_SERVICE_HOST";
        wanted.then(|| Self { key: key.to_owned(), value: unquoted(value).to_owned() })
    }
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let pair = |quote| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    pair('"').or_else(|| pair('\'')).unwrap_or(text)
}

/// The variables in any text that sets some: an env file, a compose file, values of a chart, a manifest.
pub(super) fn of_text(text: &str) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut named: Option<String> = None;
    for line in text.lines() {
        let line = line.trim_start_matches([' ', '\t', '-']).trim_end();
        if line.starts_with('#') {
            continue;
        }
        if let Some(value) = line.strip_prefix("value:") {
            settings.extend(named.take().and_then(|key| Setting::of(&key, value)));
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let line = line.trim_start_matches(['"', '\'']);
        if let Some(name) = line.strip_prefix("name:") {
            named = Some(unquoted(name).to_owned());
        } else if line.starts_with("AIRFLOW_") {
            let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(line.len());
            let (key, rest) = line.split_at(end);
            let value = rest.trim_start_matches(['"', '\'']).trim_start().strip_prefix(['=', ':']);
            // A list in quotes, "KEY=value", has its end quote behind the value.
            let value = value.map(|value| value.trim().trim_end_matches(','));
            settings.extend(value.and_then(|value| Setting::of(key, value.trim_matches(['"', '\'']))));
        }
        if settings.len() >= SETTINGS_MAX {
            break;
        }
    }
    settings
}

/// The keys of airflow.cfg, as the variables that would set them.
pub(super) fn of_cfg(text: &str) -> Vec<Setting> {
    let mut section = String::new();
    let mut settings = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_ascii_uppercase();
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) {
            let key = format!("AIRFLOW__{section}__{}", key.trim().to_ascii_uppercase());
            settings.extend(Setting::of(&key, value));
        }
        if settings.len() >= SETTINGS_MAX {
            break;
        }
    }
    settings
}

/// What is wrong with them. `listening` are the daemon's UDP ports, if they are known.
pub(super) fn look(origin: &Origin, settings: &[Setting], listening: &[u16]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |rule, severity, text: &str, evidence: String, way_out: String| {
        let evidence = format!("{} in {}", evidence, origin.shown);
        findings.push(Finding { rule, severity, text: text.to_owned(), evidence, way_out });
    };
    let shown = |setting: &Setting| format!("{}={}", setting.key, setting.value);
    for setting in settings {
        if let Some(right) = with_two_underscores(&setting.key) {
            find(
                "single-underscore",
                Severity::Error,
                "Airflow does not read this variable: two underscores stand before and behind the section",
                shown(setting),
                format!("rename it to {right}, and restart every component"),
            );
        }
        if let Some(name) = setting.key.strip_prefix("AIRFLOW__SCHEDULER__STATSD_") {
            find(
                "old-section",
                Severity::Warning,
                "these settings left the section scheduler for metrics in Airflow 2.0",
                shown(setting),
                format!("rename it to AIRFLOW__METRICS__STATSD_{name}"),
            );
        }
    }
    let get = |name: &str| {
        let key = format!("AIRFLOW__METRICS__{name}");
        settings.iter().rev().find(|setting| setting.key == key)
    };
    let is_true = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "t" | "true" | "1");
    match get("STATSD_ON") {
        Some(on) if is_true(&on.value) => {}
        Some(on) => find(
            "statsd-off",
            Severity::Error,
            "Airflow is told to send nothing",
            shown(on),
            "set it to True (t, true and 1 do as well, yes and on do not), and restart every component"
                .to_owned(),
        ),
        None if origin.whole || get("STATSD_HOST").is_some() => find(
            "statsd-off",
            if origin.whole { Severity::Error } else { Severity::Warning },
            "Airflow sends nothing unless it is told to",
            "no AIRFLOW__METRICS__STATSD_ON".to_owned(),
            "set AIRFLOW__METRICS__STATSD_ON=True for every component: scheduler, workers, triggerer, \
             dag-processor, webserver or API server"
                .to_owned(),
        ),
        None => {}
    }
    // Where it is only missing, a mistake that comes behind it is told at once, too.
    let on = get("STATSD_ON").is_none_or(|on| is_true(&on.value));
    let port = get("STATSD_PORT");
    let is_set = get("STATSD_ON").is_some();
    if on
        && (origin.whole && is_set || port.is_some() || get("STATSD_HOST").is_some())
        && !listening.is_empty()
    {
        let number = port.map_or(Some(PORT_DEFAULT), |port| port.value.parse().ok());
        if number.is_none_or(|number| !listening.contains(&number)) {
            let ports: Vec<String> = listening.iter().map(u16::to_string).collect();
            find(
                "wrong-port",
                Severity::Error,
                "Airflow sends to a port on which the daemon does not listen",
                port.map_or_else(
                    || format!("no AIRFLOW__METRICS__STATSD_PORT, so {PORT_DEFAULT};"),
                    |port| format!("{};", shown(port)),
                ) + &format!(" the daemon listens on {};", ports.join(", ")),
                format!(
                    "set AIRFLOW__METRICS__STATSD_PORT={}, or start the daemon with --statsd.listen-udp=:9125 \
                     --statsd.listen-udp=:8125 for both",
                    ports[0]
                ),
            );
        }
    }
    let host = get("STATSD_HOST").map_or("localhost", |host| host.value.as_str());
    let in_pod = settings.iter().any(|setting| setting.key == "KUBERNETES_SERVICE_HOST");
    let local = matches!(host, "localhost" | "127.0.0.1" | "::1" | "");
    if on && (is_set || get("STATSD_HOST").is_some()) && local && in_pod {
        find(
            "localhost-in-pod",
            Severity::Warning,
            "localhost inside a pod is the pod itself: it does only where the daemon is a sidecar of this very pod",
            format!("statsd_host is {host:?}, and KUBERNETES_SERVICE_HOST is set"),
            "with a daemon on each node: AIRFLOW__METRICS__STATSD_HOST from the field status.hostIP"
                .to_owned(),
        );
    }
    if on && host.contains("://") {
        find(
            "host-is-url",
            Severity::Error,
            "statsd_host is a host's name or address, no URL",
            format!("statsd_host is {host:?}"),
            "leave out what stands before and behind the name".to_owned(),
        );
    }
    findings
}

/// The name that was meant by one like `AIRFLOW_METRICS__STATSD_ON` or `AIRFLOW__METRICS_STATSD_ON`.
fn with_two_underscores(key: &str) -> Option<String> {
    let rest = key.strip_prefix("AIRFLOW_")?;
    let rest = rest.strip_prefix('_').unwrap_or(rest);
    let option = rest.strip_prefix("METRICS_")?;
    let option = option.strip_prefix('_').unwrap_or(option);
    let right = format!("AIRFLOW__METRICS__{option}");
    (right != key && !option.is_empty()).then_some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, whole: bool, ports: &[u16]) -> Vec<&'static str> {
        let origin = Origin { shown: "there".to_owned(), whole };
        look(&origin, &of_text(text), ports).into_iter().map(|finding| finding.rule).collect()
    }

    const GOOD: &str = "AIRFLOW__METRICS__STATSD_ON=True\nAIRFLOW__METRICS__STATSD_HOST=10.0.0.1\n\
                        AIRFLOW__METRICS__STATSD_PORT=9125\n";

    #[test]
    fn what_is_right_gives_nothing() {
        assert!(found(GOOD, true, &[9125]).is_empty());
        assert!(found("A=b\n", false, &[9125]).is_empty());
    }

    #[test]
    fn single_underscores_are_seen_on_either_side() {
        for key in ["AIRFLOW_METRICS__STATSD_ON", "AIRFLOW__METRICS_STATSD_ON", "AIRFLOW_METRICS_STATSD_ON"] {
            let finding = &look(
                &Origin { shown: "there".to_owned(), whole: false },
                &of_text(&format!("{key}: 'true'")),
                &[],
            )[0];
            assert_eq!(finding.rule, "single-underscore", "{key}");
            assert!(finding.way_out.contains("AIRFLOW__METRICS__STATSD_ON"), "{}", finding.way_out);
        }
        assert_eq!(found("AIRFLOW_HOME=/x\nAIRFLOW_UID=50000\n", false, &[]), [""; 0]);
    }

    #[test]
    fn off_and_missing_are_told_where_all_that_is_set_is_known() {
        assert_eq!(found("AIRFLOW__METRICS__STATSD_ON=yes", false, &[]), ["statsd-off"]);
        assert_eq!(found("AIRFLOW__CORE__EXECUTOR=x", true, &[]), ["statsd-off"]);
        assert!(found("AIRFLOW__CORE__EXECUTOR=x", false, &[]).is_empty());
    }

    #[test]
    fn the_default_port_is_not_ours() {
        assert_eq!(found("AIRFLOW__METRICS__STATSD_ON=1", true, &[9125]), ["wrong-port"]);
        assert!(found("AIRFLOW__METRICS__STATSD_ON=1", true, &[9125, 8125]).is_empty());
        assert_eq!(found(&GOOD.replace("9125", "9102"), true, &[9125]), ["wrong-port"]);
        // A daemon that does not answer has unknown ports.
        assert!(found(&GOOD.replace("9125", "9102"), true, &[]).is_empty());
    }

    #[test]
    fn what_is_behind_a_missing_switch_is_told_with_it() {
        let misspelt =
            GOOD.replace("METRICS__STATSD_ON", "METRICS_STATSD_ON").replace("10.0.0.1", "http://x");
        let rules = found(&misspelt.replace("9125", "8126"), false, &[9125]);
        assert_eq!(rules, ["single-underscore", "statsd-off", "wrong-port", "host-is-url"]);
        // Who switches it off means it.
        assert_eq!(found(&GOOD.replace("True", "False").replace("9125", "1"), true, &[9125]), ["statsd-off"]);
    }

    #[test]
    fn localhost_in_a_pod_is_the_pod() {
        let origin = Origin { shown: "there".to_owned(), whole: true };
        let mut settings = of_text(&GOOD.replace("10.0.0.1", "localhost"));
        assert!(look(&origin, &settings, &[9125]).is_empty());
        settings.extend(Setting::of("KUBERNETES_SERVICE_HOST", "10.96.0.1"));
        assert_eq!(look(&origin, &settings, &[9125])[0].rule, "localhost-in-pod");
    }

    #[track_caller]
    fn check_text(text: &str, expected: &[(&str, &str)]) {
        let settings = of_text(text);
        let settings: Vec<_> = settings.iter().map(|s| (s.key.as_str(), s.value.as_str())).collect();
        assert_eq!(settings, expected, "{text}");
    }

    #[test]
    fn variables_are_read_from_every_form_of_file() {
        let key = "AIRFLOW__METRICS__STATSD_ON";
        for text in [
            "export AIRFLOW__METRICS__STATSD_ON=true # on".replace(" # on", ""),
            "  AIRFLOW__METRICS__STATSD_ON: 'true'".to_owned(),
            "  - AIRFLOW__METRICS__STATSD_ON=true".to_owned(),
            "  - \"AIRFLOW__METRICS__STATSD_ON=true\"".to_owned(),
            "\"AIRFLOW__METRICS__STATSD_ON\": \"true\",".to_owned(),
            "  - name: AIRFLOW__METRICS__STATSD_ON\n    value: \"true\"".to_owned(),
        ] {
            check_text(&text, &[(key, "true")]);
        }
        check_text("# AIRFLOW__METRICS__STATSD_ON=true\nname: other\nvalue: x", &[]);
        check_text("name: AIRFLOW__METRICS__STATSD_HOST\nvalueFrom: {fieldRef: x}", &[]);
    }

    #[test]
    fn the_configuration_file_is_read_by_section() {
        let cfg =
            "[core]\nstatsd_on = False\n[metrics]\n# statsd_on = False\nstatsd_on = True\nstatsd_port=8125\n";
        let origin = Origin { shown: "airflow.cfg".to_owned(), whole: true };
        let rules: Vec<_> = look(&origin, &of_cfg(cfg), &[9125]).into_iter().map(|f| f.rule).collect();
        assert_eq!(rules, ["wrong-port"]);
        let old = look(&origin, &of_cfg("[scheduler]\nstatsd_on = True\n"), &[9125]);
        assert_eq!(old.iter().map(|f| f.rule).collect::<Vec<_>>(), ["old-section", "statsd-off"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[ A-Z_=:'\"#\\[\\]\n-]{0,200}(AIRFLOW_[A-Z_]{0,20}[=:'\" ]{0,4}.{0,9}\n?){0,5}") {
            let origin = Origin { shown: String::new(), whole: true };
            look(&origin, &of_text(&text), &[9125]);
            look(&origin, &of_cfg(&text), &[9125]);
        }
    }
}
