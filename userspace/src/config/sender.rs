//! Flags about senders -> which labels, and where the pods are asked for.

use std::path::PathBuf;

use super::{ConfigError, flag};
use crate::cli::SenderFlags;
use crate::sender::{PodSource, Scope, SenderLabels, Trust};

/// The kubelet of the node whose network we share.
const KUBELET_URL: &str = "https://127.0.0.1:10250";

/// Checked; nothing is read or asked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// At least one.
    pub labels: SenderLabels,
    pub source: PodSource,
    pub url: String,
    pub scope: Scope,
    pub trust: Trust,
    pub token_file: Option<PathBuf>,
}

/// `None` if no labels are wanted. `environment` is asked for what Kubernetes tells its pods.
pub(super) fn load(
    flags: &SenderFlags,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<Sender>, ConfigError> {
    let labels: SenderLabels = flag("sender.labels", &flags.labels, str::parse)?;
    if labels.is_empty() {
        return Ok(None);
    }
    let source = flag("sender.pods", &flags.pods, |text| match text {
        "api" => Ok(PodSource::ApiServer),
        "kubelet" => Ok(PodSource::Kubelet),
        _ => Err("the list of pods comes from \"api\" or from \"kubelet\""),
    })?;
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let url = flags.url.clone().or_else(|| match source {
        PodSource::Kubelet => Some(KUBELET_URL.to_owned()),
        PodSource::ApiServer => api_server(set("KUBERNETES_SERVICE_HOST")?, set("KUBERNETES_SERVICE_PORT")?),
    });
    let url = flag("sender.url", "", |_| {
        url.ok_or(
            "not set, and outside of a pod nothing says where the API server is (KUBERNETES_SERVICE_HOST)",
        )
    })?;
    let node = match (flags.node.as_deref(), source) {
        (Some("*"), _) | (None, PodSource::Kubelet) => None,
        (Some(node), _) => Some(node.to_owned()),
        (None, PodSource::ApiServer) => Some(flag("sender.node", "", |_| {
            set("NODE_NAME").ok_or(
                "not set, and NODE_NAME is not either; give the pod NODE_NAME from spec.nodeName, \
                or ask for the pods of all nodes by --sender.node=*",
            )
        })?),
    };
    let some = |text: &String| (!text.is_empty()).then(|| PathBuf::from(text));
    let trust = match flags.insecure_skip_verify {
        true => Trust::Anybody,
        false => Trust::Authorities(PathBuf::from(&flags.ca_file)),
    };
    Ok(Some(Sender {
        labels,
        source,
        url,
        scope: Scope { node, namespace: flags.namespace.clone().filter(|text| !text.is_empty()) },
        trust,
        token_file: some(&flags.token_file),
    }))
}

fn api_server(host: String, port: String) -> Option<String> {
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Some(format!("https://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;

    fn load_with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Option<Sender>, ConfigError> {
        let cli = Cli::from_arguments(std::iter::once(&"rotameter").chain(arguments)).unwrap();
        load(&cli.sender, |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const IN_A_POD: [(&str, &str); 3] =
        [("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "443"), ("NODE_NAME", "n1")];

    #[test]
    fn off_by_default_and_in_a_pod_two_words_do() {
        assert_eq!(load_with(&[], &IN_A_POD).unwrap(), None);
        let sender = load_with(&["--sender.labels=pod"], &IN_A_POD).unwrap().unwrap();
        assert_eq!(
            (sender.url.as_str(), sender.scope.node.as_deref()),
            ("https://[fd00::1]:443", Some("n1"))
        );
    }

    #[test]
    fn what_is_lacking_is_named() {
        let error = load_with(&["--sender.labels=pod"], &[]).unwrap_err();
        assert_eq!(error.flag, "sender.url");
        let error = load_with(&["--sender.labels=pod"], &IN_A_POD[..2]).unwrap_err();
        assert_eq!(error.flag, "sender.node");
        let error = load_with(&["--sender.labels=pod", "--sender.pods=etcd"], &IN_A_POD).unwrap_err();
        assert_eq!(error.flag, "sender.pods");
    }

    #[test]
    fn all_nodes_must_be_asked_for_but_a_kubelet_has_one_only() {
        let sender = load_with(&["--sender.labels=pod", "--sender.node=*"], &IN_A_POD).unwrap().unwrap();
        assert_eq!(sender.scope.node, None);
        let sender = load_with(&["--sender.labels=pod", "--sender.pods=kubelet"], &[]).unwrap().unwrap();
        assert_eq!((sender.url.as_str(), sender.scope.node), (KUBELET_URL, None));
    }
}
