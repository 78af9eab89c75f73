//! Overlays and chart -> objects, held against Kubernetes' schemas and against what they promise.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::Deserialize as _;
use serde_json::Value;

use super::tools::{attempt, folder, named, output, python};

/// The oldest that the sidecar works on, the one that helm and kubectl are of, and the newest known.
const VERSIONS: [&str; 3] = ["1.29", "1.34", "1.37"];

/// Objects out of YAML, after Kubernetes' schemas have nothing to say about them.
#[track_caller]
fn valid(name: &str, yaml: &str) -> Vec<Value> {
    let mut python = python()
        .arg(folder("tests/deploy/validate.py"))
        .args(VERSIONS)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    python.stdin.take().expect("a pipe").write_all(yaml.as_bytes()).expect("it reads all");
    let outcome = python.wait_with_output().expect("it ends");
    let said =
        String::from_utf8_lossy(&outcome.stdout).into_owned() + &String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "{name}: {said}");
    let objects = documents(yaml);
    assert_eq!(said.lines().count(), objects.len(), "{name}: {said}");
    for object in &objects {
        probes_are_cheap(name, object);
        flags_are_known(name, object);
    }
    objects
}

fn documents(yaml: &str) -> Vec<Value> {
    yaml_serde::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

#[track_caller]
fn overlay(name: &str) -> Vec<Value> {
    let path = folder("deploy/kubernetes/overlays").join(name);
    valid(name, &output(Command::new(named("ROTAMETER_KUBECTL")).arg("kustomize").arg(path)))
}

fn helm(arguments: &[&str]) -> Command {
    release("metrics", "rotameter", arguments)
}

fn release(name: &str, namespace: &str, arguments: &[&str]) -> Command {
    let mut helm = Command::new(named("ROTAMETER_HELM"));
    helm.args(["template", name])
        .arg(folder("deploy/helm/rotameter"))
        .args(["--namespace", namespace])
        .args(arguments);
    helm
}

#[track_caller]
fn chart(arguments: &[&str]) -> Vec<Value> {
    valid(&format!("chart {arguments:?}"), &output(&mut helm(arguments)))
}

fn values(name: &str) -> String {
    folder("deploy/helm/rotameter/ci").join(name).display().to_string()
}

#[track_caller]
fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

fn containers(object: &Value) -> Vec<&Value> {
    let pod = &object["spec"]["template"]["spec"];
    let lists = [&pod["containers"], &pod["initContainers"]];
    lists.into_iter().filter_map(Value::as_array).flatten().collect()
}

/// Our containers of an object; Airflow's own stand in the sidecar's sample.
fn ours(object: &Value) -> Vec<&Value> {
    containers(object).into_iter().filter(|container| container["name"] == "rotameter").collect()
}

#[track_caller]
fn probes_are_cheap(name: &str, object: &Value) {
    for container in ours(object) {
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            let path = container[probe]["httpGet"]["path"].as_str();
            assert!(
                matches!(path, None | Some("/-/healthy" | "/-/ready")),
                "{name}: {probe} asks for {path:?}"
            );
        }
        assert!(container["livenessProbe"].is_object(), "{name}");
    }
}

/// The daemon itself is asked whether it takes the flags; files that only the pod has are left out.
#[track_caller]
fn flags_are_known(name: &str, object: &Value) {
    for container in ours(object) {
        let args = container["args"].as_array().expect("a list of flags");
        let args: Vec<&str> = args.iter().map(|arg| arg.as_str().expect("a flag is text")).collect();
        let here =
            args.iter().filter(|arg| !arg.contains("/etc/rotameter/") && !arg.starts_with("--sender."));
        output(Command::new(named("ROTAMETER_BIN")).arg("--check-config").args(here));
        assert!(
            args.iter().any(|arg| arg.starts_with("--registry.max-series=")),
            "{name}: no bound of series"
        );
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name}: no bound of memory");
    }
}

/// The Pod Security Standard "restricted", as far as our pods can touch it.
fn is_restricted(pod: &Value, container: &Value) -> bool {
    let (outer, inner) = (&pod["securityContext"], &container["securityContext"]);
    let either = |field: &str| if inner[field].is_null() { &outer[field] } else { &inner[field] };
    pod["hostNetwork"] != true
        && either("runAsNonRoot") == true
        && either("seccompProfile")["type"] == "RuntimeDefault"
        && inner["allowPrivilegeEscalation"] == false
        && inner["capabilities"]["drop"] == serde_json::json!(["ALL"])
        && inner["capabilities"]["add"].is_null()
}

/// What the agent on each node needs, whoever wrote its manifest.
#[track_caller]
fn is_node_agent(daemon_set: &Value) {
    let spec = &daemon_set["spec"]["template"]["spec"];
    assert_eq!(spec["hostNetwork"], true);
    assert_eq!(spec["dnsPolicy"], "ClusterFirstWithHostNet");
    assert_eq!(spec["tolerations"], serde_json::json!([{"operator": "Exists"}]));
    assert!(spec["priorityClassName"].is_string());
    assert_eq!(daemon_set["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"], 0);
    let security = &ours(daemon_set)[0]["securityContext"];
    assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]));
    assert_eq!(security["capabilities"]["add"], serde_json::json!(["BPF", "PERFMON", "NET_ADMIN"]));
    assert_eq!((&security["runAsUser"], &security["readOnlyRootFilesystem"]), (&0.into(), &true.into()));
    assert!(security["privileged"].is_null());
}

/// Whether a policy lets in UDP as well as TCP; without the word a rule is for TCP only.
fn lets_udp_in(policy: &Value) -> bool {
    let rules = policy["spec"]["ingress"].as_array().expect("a list");
    let mut ports = rules.iter().filter_map(|rule| rule["ports"].as_array()).flatten();
    ports.any(|port| port["protocol"] == "UDP" && port["port"] == 9125)
}

#[test]
#[ignore = "needs kubectl, Kubernetes' schemas and the daemon's binary; cargo xtask test brings them"]
fn the_overlays_hold() {
    let objects = overlay("daemonset");
    is_node_agent(one(&objects, "DaemonSet"));
    assert_eq!(
        one(&objects, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        "privileged"
    );
    one(&objects, "PodMonitor");
    one(&objects, "PrometheusRule");

    let objects = overlay("daemonset-plain");
    let security = &ours(one(&objects, "DaemonSet"))[0]["securityContext"];
    assert!(security["runAsNonRoot"] == true && security["capabilities"]["add"].is_null());

    let objects = overlay("central");
    let deployment = one(&objects, "Deployment");
    assert!(is_restricted(&deployment["spec"]["template"]["spec"], ours(deployment)[0]));
    assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");
    assert!(lets_udp_in(one(&objects, "NetworkPolicy")));

    let objects = overlay("sidecar");
    let scheduler = one(&objects, "Deployment");
    assert_eq!(containers(scheduler).len(), 2);
    let sidecar = ours(scheduler)[0];
    assert_eq!(sidecar["restartPolicy"], "Always");
    for container in containers(scheduler) {
        // One container that is not would have the whole pod refused.
        assert!(is_restricted(&scheduler["spec"]["template"]["spec"], container), "{container}");
    }
}

#[test]
#[ignore = "needs helm, Kubernetes' schemas and the daemon's binary; cargo xtask test brings them"]
fn the_chart_renders_what_it_promises() {
    let objects = chart(&[]);
    is_node_agent(one(&objects, "DaemonSet"));
    assert!(objects.iter().all(|object| !object["kind"].as_str().expect("a kind").contains("Role")));

    let objects = chart(&["--values", &values("all-values.yaml")]);
    is_node_agent(one(&objects, "DaemonSet"));
    for kind in ["PodMonitor", "ServiceMonitor", "PrometheusRule", "ClusterRole", "Secret"] {
        one(&objects, kind);
    }
    let names: Vec<&str> = objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect();
    assert!(names.contains(&"airflow-statsd") && names.contains(&"metrics-text"), "{names:?}");
    assert!(names.contains(&"metrics-rotameter-dashboard-rotameter"), "{names:?}");

    // Its web.config asks for a password, which a kubelet has not.
    assert_eq!(ours(one(&objects, "DaemonSet"))[0]["livenessProbe"]["tcpSocket"]["port"], "http");
    let tls = "web.config.tls_server_config.cert_file=server.pem,podMonitor.enabled=true";
    let objects = chart(&["--set", tls]);
    let probe = &ours(one(&objects, "DaemonSet"))[0]["readinessProbe"]["httpGet"];
    assert_eq!((&probe["path"], &probe["scheme"]), (&"/-/ready".into(), &"HTTPS".into()));
    assert_eq!(one(&objects, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["scheme"], "https");

    let base = "prometheusRule.runbookBaseUrl=https://git.example.com/r/";
    let rules =
        one(&chart(&["--set", "prometheusRule.enabled=true", "--set", base]), "PrometheusRule").to_string();
    assert!(rules.contains(r#""https://git.example.com/r/docs/runbooks/rotameter.md#rotameterdown""#));
    assert!(!rules.contains(r#":"docs/runbooks"#));

    let objects = chart(&["--set", "ebpf.seccompProfile=Unconfined"]);
    let security = &ours(one(&objects, "DaemonSet"))[0]["securityContext"];
    assert_eq!(security["seccompProfile"]["type"], "Unconfined");

    let objects = chart(&["--values", &values("central-values.yaml")]);
    let deployment = one(&objects, "Deployment");
    assert!(is_restricted(&deployment["spec"]["template"]["spec"], ours(deployment)[0]));
    assert!(lets_udp_in(one(&objects, "NetworkPolicy")));
    assert_eq!(one(&objects, "Role")["metadata"]["namespace"], "airflow");
}

/// Kind, namespace and name of each object of a release with everything on.
#[track_caller]
fn identities(name: &str, namespace: &str, more: &[&str]) -> Vec<(String, String, String)> {
    let (all, extra) = (values("all-values.yaml"), "extraManifests=null,service.extraNames=null");
    let mut helm = release(name, namespace, &["--values", &all, "--set", extra]);
    let rendered = output(helm.args(more));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let identity = |object: Value| {
        let kind = text(&object["kind"]).expect("a kind");
        let is_clusters = matches!(&*kind, "ClusterRole" | "ClusterRoleBinding" | "PriorityClass");
        let place = text(&object["metadata"]["namespace"]).unwrap_or_else(|| namespace.to_owned());
        let name = text(&object["metadata"]["name"]).expect("a name");
        assert!(kind != "Service" || name.len() <= 63, "{name}");
        (kind, if is_clusters { String::new() } else { place }, name)
    };
    documents(&rendered).into_iter().map(identity).collect()
}

#[test]
#[ignore = "needs helm; cargo xtask test brings it"]
fn releases_have_no_object_in_common() {
    let long = "a-release-with-a-name-as-long-as-helm-lets-it-become";
    let in_airflow = ["--set", "sender.namespace=airflow"];
    for (first, second, more) in [
        (("metrics", "one"), ("metrics", "two"), &[][..]),
        (("metrics", "one"), ("metrics", "two"), &in_airflow[..]),
        (("metrics", "one-two"), ("two-metrics", "one"), &[]),
        (("metrics", "one"), ("others", "one"), &[]),
        ((&format!("{long}a"), "one"), (&format!("{long}b"), "one"), &[]),
    ] {
        let first = identities(first.0, first.1, more);
        let second = identities(second.0, second.1, more);
        assert!(first.len() > 12 && first.len() == second.len());
        let common: Vec<_> = first.iter().filter(|object| second.contains(object)).collect();
        assert!(common.is_empty(), "{common:?}");
    }
}

#[test]
#[ignore = "needs helm; cargo xtask test brings it"]
fn a_value_out_of_range_is_named() {
    for (value, named) in [
        ("web.port=70000", "/web/port"),
        ("statsd.udpPorts={0}", "/statsd/udpPorts/0"),
        ("mode=statefulset", "/mode"),
        ("registry.maxSeries=0", "/registry/maxSeries"),
        ("ebpf.seccompProfile=None", "/ebpf/seccompProfile"),
        ("sender.labels={ip}", "/sender/labels/0"),
        ("image.digest=sha256:12", "/image/digest"),
        ("podMonitor.interval=often", "/podMonitor/interval"),
        ("registry.maxseries=5", "maxseries"),
        ("registry.maxSeries=null", "maxSeries"),
        ("statsd=null", "statsd"),
        ("profile.name=airfow", "/profile/name"),
        ("fullnameOverride=A b", "/fullnameOverride"),
    ] {
        let message = attempt(&mut helm(&["--set", value])).expect_err("a value that is out of range");
        assert!(message.contains(named), "{value}: {message}");
    }
}

#[test]
fn the_chart_knows_every_profile() {
    let schema: Value =
        serde_json::from_str(&super::tools::text("deploy/helm/rotameter/values.schema.json")).expect("JSON");
    let names = std::iter::once("").chain(rotameter::profile::ALL.iter().map(|profile| profile.name));
    let listed = &schema["properties"]["profile"]["properties"]["name"]["enum"];
    assert_eq!(*listed, names.map(Value::from).collect::<Value>());
}

/// The block for Airflow's chart is text to that chart; Kubernetes must be able to read it.
#[test]
#[ignore = "needs Kubernetes' schemas; cargo xtask test brings them"]
fn the_values_for_airflow_are_good_pods() {
    let read = |name: &str| -> Value {
        yaml_serde::from_str(&super::tools::text(&format!("deploy/airflow/{name}"))).expect("YAML")
    };
    let official = read("official-chart-values.yaml");
    assert_eq!(official["statsd"]["enabled"], false);
    let block = official["extraEnv"].as_str().expect("the chart wants text");
    let environment: Value = yaml_serde::from_str(block).expect("a list of variables");
    let community = &read("community-chart-values.yaml")["airflow"]["extraEnv"];
    assert_eq!(&environment, community, "both charts are told the same");
    let sidecar = read("community-chart-sidecar-values.yaml");
    let container = &sidecar["airflow"]["extraContainers"][0];
    let args = container["args"].as_array().expect("a list").iter().map(|arg| arg.as_str().expect("text"));
    output(Command::new(named("ROTAMETER_BIN")).arg("--check-config").args(args));
    let pod = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "airflow"},
        "spec": {"containers": [{"name": "scheduler", "image": "airflow", "env": environment}, container]},
    });
    valid("pod", &pod.to_string());
    for object in sidecar["extraManifests"].as_array().expect("a list") {
        valid("extraManifests", &object.to_string());
    }
    for name in environment.as_array().expect("a list").iter().map(|variable| variable["name"].as_str()) {
        assert!(name.is_some_and(|name| name.starts_with("AIRFLOW__METRICS__STATSD_")), "{name:?}");
    }
}
