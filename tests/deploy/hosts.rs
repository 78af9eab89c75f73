//! What is for machines without Kubernetes: compose, systemd, scrape jobs, Terraform.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::tools::{files, folder, named, output, python, text};

fn yaml(path: &str) -> Value {
    yaml_serde::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
#[ignore = "needs the daemon's binary; cargo xtask test builds it"]
fn compose_has_the_shape_that_people_have() {
    let compose = yaml("deploy/compose/compose.yaml");
    let service = &compose["services"]["rotameter"];
    let ports: Vec<&str> = service["ports"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|port| port.as_str().expect("text"))
        .collect();
    assert!(ports.contains(&"8125:8125/udp") && ports.contains(&"9102:9102"), "{ports:?}");
    // One string, which an entry point may hand over as one argument.
    let command = service["command"].as_str().expect("one string");
    output(Command::new(named("ROTAMETER_BIN")).arg("--check-config").args(command.split(' ')));
    let check = service["healthcheck"]["test"].as_array().expect("a list");
    assert!(check.iter().all(|word| word != "/metrics"));
    let mut taken: Vec<String> = Vec::new();
    for (name, service) in compose["services"].as_object().expect("services") {
        assert_eq!(service["restart"], "always", "{name}");
        for port in service["ports"].as_array().into_iter().flatten() {
            let port = port.as_str().expect("text").split(':').next().expect("a port").to_owned();
            let protocol =
                if service["ports"].to_string().contains(&format!("{port}/udp")) { "udp" } else { "tcp" };
            assert!(!taken.contains(&format!("{port}/{protocol}")), "{name} takes {port} a second time");
            taken.push(format!("{port}/{protocol}"));
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let source = volume.as_str().expect("text").split(':').next().expect("a source");
            if source.starts_with('.') {
                assert!(folder("deploy/compose").join(source).exists(), "{name} mounts {source}");
            }
        }
    }
    assert!(taken.contains(&"9100/tcp".to_owned()) && taken.contains(&"9103/tcp".to_owned()), "{taken:?}");
}

#[test]
#[ignore = "needs promtool; cargo xtask test installs it"]
fn scrape_jobs_are_what_prometheus_reads() {
    let mut configs = files("deploy/prometheus", ".yml");
    configs.retain(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("scrape-")));
    assert!(configs.len() >= 2, "{configs:?}");
    configs.push(folder("deploy/compose/prometheus.yml"));
    let scratch = tempfile::tempdir().expect("room for a folder");
    for file in configs {
        let text = fs::read_to_string(&file).expect("a readable file");
        // Debian's build leaves this way of discovery out.
        let text = text.replace("kubernetes_sd_configs:\n      - role: pod\n", "static_configs: []\n");
        let copy = scratch.path().join("prometheus.yml");
        fs::write(&copy, text).expect("the folder is ours");
        output(
            Command::new(named("ROTAMETER_PROMTOOL")).args(["check", "config", "--syntax-only"]).arg(&copy),
        );
    }
}

/// systemd itself reads the units, where this machine has it.
#[test]
#[ignore = "needs the daemon's binary; cargo xtask test builds it"]
fn systemd_finds_nothing_to_say() {
    let flags = text("deploy/systemd/rotameter.env");
    let flags = flags.lines().find_map(|line| line.strip_prefix("ROTAMETER_FLAGS=")).expect("the flags");
    output(Command::new(named("ROTAMETER_BIN")).arg("--check-config").args(flags.split(' ')));
    let unit = text("deploy/systemd/rotameter.service");
    assert!(
        unit.contains("AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_ADMIN\n")
            && unit.contains("Type=notify\n")
    );
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let scratch = tempfile::tempdir().expect("room for a folder");
    let units = ["rotameter.service", "rotameter.socket"].map(|name| {
        let copy = scratch.path().join(name);
        let binary = named("ROTAMETER_BIN").display().to_string();
        let unit = text(&format!("deploy/systemd/{name}")).replace("/usr/local/bin/rotameter", &binary);
        fs::write(&copy, unit).expect("the folder is ours");
        copy
    });
    let said = Command::new("systemd-analyze").arg("verify").args(&units).output().expect("it starts");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("rotameter")).collect();
    assert!(about_us.is_empty(), "{about_us:#?}");
}

/// Terraform itself cannot be had everywhere; its language can be read, and the flags tried.
#[test]
#[ignore = "needs a reader of HCL and the daemon's binary; cargo xtask test brings them"]
fn the_terraform_sample_is_readable() {
    const READ: &str = "import hcl2, json, sys\nprint(json.dumps(hcl2.load(open(sys.argv[1]))))";
    for file in files("deploy/terraform", ".tf") {
        let read: Value =
            serde_json::from_str(&output(python().args(["-c", READ]).arg(&file))).expect("JSON");
        assert!(read["resource"].is_array() || read["variable"].is_array(), "{}", file.display());
    }
    let main = text("deploy/terraform/main.tf");
    let flags: Vec<&str> =
        main.split('"').filter(|word| word.starts_with("--") && !word.contains("${")).collect();
    assert!(flags.len() > 2, "{flags:?}");
    let ours =
        flags.iter().filter(|flag| !flag.starts_with("--config.file") && !flag.starts_with("--storage"));
    output(Command::new(named("ROTAMETER_BIN")).arg("--check-config").args(ours));
}
