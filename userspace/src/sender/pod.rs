//! One item of a pod list, JSON -> what of it can become a label.

use std::net::IpAddr;

use serde::Deserialize;
use smallvec::SmallVec;

/// Labels by which charts say what part of Airflow a pod is, in order of preference: the official
/// chart's, the community chart's (the same), and the recommended one of Kubernetes.
const COMPONENT_LABELS: [&str; 3] =
    ["component", "app.kubernetes.io/component", "airflow.apache.org/component"];

/// Set by the Kubernetes executor on the pod of a task.
const TASK_LABEL: &str = "kubernetes_executor";

/// Addresses of one pod: one of each family, as Kubernetes allows.
const ADDRESSES_MAX: usize = 2;

/// A pod, as far as its senders are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    pub namespace: Box<str>,
    pub name: Box<str>,
    /// Empty before it is scheduled.
    pub node: Box<str>,
    /// `scheduler`, `worker`, `triggerer` …; `task` for a pod of the Kubernetes executor; empty if
    /// nothing says so.
    pub component: Box<str>,
}

/// A pod with what finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) uid: Box<str>,
    pub(super) pod: Pod,
    /// Empty on the host's network, where the address says nothing about the pod.
    pub(super) addresses: SmallVec<[IpAddr; ADDRESSES_MAX]>,
    /// Its processes have ended; another pod may have its address.
    pub(super) ended: bool,
}

/// The fields of a pod that are read; the rest is skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Item {
    pub(super) metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    name: Box<str>,
    namespace: Box<str>,
    uid: Box<str>,
    pub(super) resource_version: Box<str>,
    #[serde(deserialize_with = "wanted_labels")]
    labels: WantedLabels,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Box<str>,
    host_network: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Box<str>,
    #[serde(rename = "podIP")]
    pod_ip: Box<str>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: Box<str>,
}

type WantedLabels = std::collections::BTreeMap<Box<str>, Box<str>>;

/// `null` is none, as everywhere in Kubernetes.
fn wanted_labels<'de, D: serde::Deserializer<'de>>(from: D) -> Result<WantedLabels, D::Error> {
    Ok(Option::<WantedLabels>::deserialize(from)?.unwrap_or_default())
}

impl Item {
    /// `None` for what has no identity, and so is no pod.
    pub(super) fn found(self) -> Option<Found> {
        let Self { metadata, spec, status } = self;
        if metadata.uid.is_empty() || metadata.name.is_empty() {
            return None;
        }
        let component = component(&metadata.labels);
        let mut addresses = SmallVec::new();
        if !spec.host_network {
            let texts = status.pod_ips.iter().map(|pod_ip| &*pod_ip.ip).chain([&*status.pod_ip]);
            for address in texts.filter_map(|text| text.parse::<IpAddr>().ok()) {
                if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Some(Found {
            uid: metadata.uid,
            pod: Pod { namespace: metadata.namespace, name: metadata.name, node: spec.node_name, component },
            addresses,
            ended: matches!(&*status.phase, "Succeeded" | "Failed"),
        })
    }
}

fn component(labels: &WantedLabels) -> Box<str> {
    if labels.get(TASK_LABEL).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return "task".into();
    }
    let named = COMPONENT_LABELS.iter().find_map(|label| labels.get(*label));
    named.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(json: &str) -> Option<Found> {
        serde_json::from_str::<Item>(json).unwrap().found()
    }

    #[test]
    fn a_scheduler_of_the_official_chart() {
        let pod = found(
            r#"{"metadata":{"name":"airflow-scheduler-0","namespace":"airflow","uid":"u1","resourceVersion":"7",
                "labels":{"component":"scheduler","tier":"airflow"},"annotations":{"a":"b"}},
                "spec":{"nodeName":"n1","containers":[{"name":"scheduler"}]},
                "status":{"phase":"Running","podIP":"10.1.0.9","podIPs":[{"ip":"10.1.0.9"},{"ip":"fd00::9"}]}}"#,
        )
        .unwrap();
        assert_eq!((&*pod.pod.component, &*pod.pod.node), ("scheduler", "n1"));
        assert_eq!(pod.addresses.as_slice(), ["10.1.0.9", "fd00::9"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert!(!pod.ended);
    }

    #[test]
    fn a_task_of_the_kubernetes_executor_that_has_ended() {
        let pod = found(
            r#"{"metadata":{"name":"t","namespace":"a","uid":"u","labels":{"kubernetes_executor":"True","component":"worker"}},
                "status":{"phase":"Succeeded","podIP":"10.1.0.9"}}"#,
        )
        .unwrap();
        assert_eq!((&*pod.pod.component, pod.ended, pod.addresses.len()), ("task", true, 1));
    }

    #[test]
    fn the_hosts_address_is_nobodys_and_odd_fields_are_no_error() {
        let host = r#"{"metadata":{"name":"n","uid":"u","labels":null},"spec":{"hostNetwork":true},"status":{"podIP":"10.0.0.1"}}"#;
        assert!(found(host).unwrap().addresses.is_empty());
        let odd = r#"{"metadata":{"name":"n","uid":"u"},"status":{"podIP":"","podIPs":[{"ip":"nonsense"}]}}"#;
        assert!(found(odd).unwrap().addresses.is_empty());
        assert_eq!(found("{}"), None);
    }
}
