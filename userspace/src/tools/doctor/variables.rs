//! Where the daemon runs -> the variables that make Airflow send to it, ready to be pasted.

use std::fmt::Write as _;
use std::path::Path;

use super::ports::read;

/// How Airflow reaches the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Deployment {
    /// Found out by where this runs.
    Auto,
    /// A pod on each node, on the node's network.
    Daemonset,
    /// A container in Airflow's own pod.
    Sidecar,
    /// One Service of Kubernetes for all.
    Central,
    /// A service of Docker's or Podman's compose.
    Compose,
    /// The same machine, or another one with a name.
    Host,
}

/// What this process sees of where it runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    pub(super) kubernetes: bool,
    pub(super) container: bool,
    /// Interfaces that are not one end of a pair whose other end lies elsewhere.
    pub(super) host_network: bool,
    pub(super) host_name: String,
    pub(super) namespace: String,
    /// Host of `--url` if that is another machine.
    pub(super) elsewhere: Option<String>,
}

impl Surroundings {
    pub(super) fn look(elsewhere: Option<String>) -> Self {
        let account = Path::new("/var/run/secrets/kubernetes.io/serviceaccount");
        Self {
            kubernetes: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            container: ["/.dockerenv", "/run/.containerenv"].iter().any(|file| Path::new(file).exists()),
            host_network: has_own_interfaces(),
            host_name: read("/proc/sys/kernel/hostname").trim().to_owned(),
            namespace: read(&account.join("namespace").display().to_string()).trim().to_owned(),
            elsewhere,
        }
    }

    /// The deployment that it looks like, and by what.
    fn guess(&self) -> (Deployment, &'static str) {
        const AIRFLOW: [&str; 8] = [
            "scheduler",
            "worker",
            "webserver",
            "api-server",
            "triggerer",
            "dag-processor",
            "airflow",
            "celery",
        ];
        if self.elsewhere.is_some() {
            (Deployment::Host, "--url names another machine")
        } else if self.kubernetes && self.host_network {
            (Deployment::Daemonset, "a pod on the node's network")
        } else if self.kubernetes && AIRFLOW.iter().any(|part| self.host_name.contains(part)) {
            (Deployment::Sidecar, "a pod that is named like one of Airflow's")
        } else if self.kubernetes {
            (Deployment::Central, "a pod with a network of its own")
        } else if self.container && !self.host_network {
            (Deployment::Compose, "a container with a network of its own")
        } else {
            (Deployment::Host, "the network of a machine")
        }
    }

    /// `rotameter-7d9f8b6c5-x2x4z` is a pod of the Deployment, and mostly of the Service, `rotameter`.
    fn service(&self) -> String {
        if !self.kubernetes {
            return "rotameter".to_owned();
        }
        let mut parts: Vec<&str> = self.host_name.split('-').collect();
        if parts.len() > 2 {
            parts.truncate(parts.len() - 2);
        }
        let name = parts.join("-");
        let name = if name.is_empty() { "rotameter".to_owned() } else { name };
        if self.namespace.is_empty() { name } else { format!("{name}.{}", self.namespace) }
    }
}

/// A pod has its loopback, and ends of pairs; a machine has cards, or at least bridges.
fn has_own_interfaces() -> bool {
    let interfaces = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    interfaces.filter(|interface| interface.file_name() != "lo").any(|interface| {
        let number = |file: &str| read(&interface.path().join(file).display().to_string()).trim().to_owned();
        number("iflink") == number("ifindex")
    })
}

/// Host as it is set: a value, or a field that Kubernetes fills in.
enum Host {
    Value(String),
    HostIp,
}

/// The page for a daemon that receives on `port`.
pub(super) fn page(asked: Deployment, around: &Surroundings, port: u16) -> String {
    let (deployment, by) = match asked {
        Deployment::Auto => around.guess(),
        asked => (asked, "as asked for"),
    };
    let (host, how) = match deployment {
        Deployment::Auto | Deployment::Host => (
            Host::Value(around.elsewhere.clone().unwrap_or_else(|| "localhost".to_owned())),
            "Airflow on the same machine; from others, this machine's name in place of localhost",
        ),
        Deployment::Daemonset => (
            Host::HostIp,
            "a daemon on each node; for `extraEnv: |-` of the official chart, or `env:` of a container",
        ),
        Deployment::Sidecar => (
            Host::Value("localhost".to_owned()),
            "a daemon in the same pod; for `env:` of Airflow's container",
        ),
        Deployment::Central => (
            Host::Value(around.service()),
            "one Service; for `extraEnv: |-` of the official chart. Put its name in if this one is another",
        ),
        Deployment::Compose => (
            Host::Value("rotameter".to_owned()),
            "the name of its service; under `environment:` of Airflow's services",
        ),
    };
    let values = [
        ("STATSD_ON", "True".to_owned()),
        ("STATSD_HOST", String::new()),
        ("STATSD_PORT", port.to_string()),
        ("STATSD_PREFIX", "airflow".to_owned()),
    ];
    // Writing into a String cannot fail.
    let mut out = String::new();
    let _ = writeln!(out, "# For Airflow: {how} ({by}).");
    for (name, value) in values {
        let key = format!("AIRFLOW__METRICS__{name}");
        let value = match (&host, name) {
            (Host::Value(host), "STATSD_HOST") => Some(host.clone()),
            (Host::HostIp, "STATSD_HOST") => None,
            _ => Some(value),
        };
        out += &setting(deployment, &key, value.as_deref());
    }
    out += "# If you can, one of these, for real labels instead of ids in names:\n\
            # nothing to install:\n";
    out += &commented(&setting(deployment, "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED", Some("True")));
    out += "# or, with pip install 'apache-airflow[datadog]':\n";
    out += &commented(&setting(deployment, "AIRFLOW__METRICS__STATSD_DATADOG_ENABLED", Some("True")));
    out += "# Every component needs them (scheduler, workers, triggerer, DAG processor, web or API server), and \
            reads\n# them when it starts. --variables=MODE names another deployment: daemonset, sidecar, central, \
            compose, host.\n";
    out
}

fn setting(deployment: Deployment, key: &str, value: Option<&str>) -> String {
    match (deployment, value) {
        (_, None) => format!("- name: {key}\n  valueFrom: {{fieldRef: {{fieldPath: status.hostIP}}}}\n"),
        (Deployment::Daemonset | Deployment::Sidecar | Deployment::Central, Some(value)) => {
            format!("- name: {key}\n  value: \"{value}\"\n")
        }
        (Deployment::Compose, Some(value)) => format!("{key}: \"{value}\"\n"),
        (Deployment::Auto | Deployment::Host, Some(value)) => format!("{key}={value}\n"),
    }
}

fn commented(text: &str) -> String {
    text.lines().map(|line| format!("#   {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::airflow::{Origin, look, of_text};
    use super::*;

    const ALL: [Deployment; 5] = [
        Deployment::Daemonset,
        Deployment::Sidecar,
        Deployment::Central,
        Deployment::Compose,
        Deployment::Host,
    ];

    fn pod(name: &str) -> Surroundings {
        Surroundings {
            kubernetes: true,
            host_name: name.to_owned(),
            namespace: "metrics".to_owned(),
            ..Surroundings::default()
        }
    }

    #[test]
    fn what_is_printed_is_right_by_our_own_rules() {
        let around = Surroundings { host_name: "rota-7d9f8b6c5-x2x4z".to_owned(), ..Surroundings::default() };
        for deployment in ALL {
            let page = page(deployment, &around, 8125);
            let settings = of_text(&page);
            let origin = Origin { shown: "the page".to_owned(), whole: true };
            assert_eq!(look(&origin, &settings, &[8125]), [], "{page}");
            assert!(settings.iter().any(|setting| setting.key.ends_with("_PORT")), "{page}");
            assert!(!settings.iter().any(|setting| setting.key.ends_with("_ENABLED")), "{page}");
        }
    }

    #[track_caller]
    fn check(around: &Surroundings, part: &str) {
        let page = page(Deployment::Auto, around, 9125);
        assert!(page.contains(part), "no {part} in\n{page}");
    }

    #[test]
    fn the_deployment_is_seen_by_where_this_runs() {
        check(&Surroundings::default(), "AIRFLOW__METRICS__STATSD_HOST=localhost\n");
        check(
            &pod("rota-7d9f8b6c5-x2x4z"),
            "- name: AIRFLOW__METRICS__STATSD_HOST\n  value: \"rota.metrics\"\n",
        );
        check(&pod("airflow-scheduler-0"), "  value: \"localhost\"\n");
        let node = Surroundings { host_network: true, ..pod("node-1") };
        check(&node, "  valueFrom: {fieldRef: {fieldPath: status.hostIP}}\n");
        let container = Surroundings { container: true, ..Surroundings::default() };
        check(&container, "AIRFLOW__METRICS__STATSD_HOST: \"rotameter\"\n");
        let on_host = Surroundings { host_network: true, ..container };
        check(&on_host, "AIRFLOW__METRICS__STATSD_HOST=localhost\n");
        let other = Surroundings { elsewhere: Some("metrics.example".to_owned()), ..pod("x") };
        check(&other, "AIRFLOW__METRICS__STATSD_HOST=metrics.example\n");
    }
}
