//! A mapping file that changes while datagrams flow -> each event by the old rules or by the new
//! ones, none by neither.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::daemon::Daemon;
use super::world::{Family, World};

/// Reloads while one sender sends.
const RELOADS: usize = 8;

/// Rules that take the same names under the name of a `generation`; one of them drops.
fn rules(generation: usize) -> String {
    format!(
        "mappings:\n\
         - match: hot.*\n  name: hot_{generation}\n  labels:\n    task: $1\n\
         - match: noise.*\n  action: drop\n  name: noise\n"
    )
}

/// Writes as the kubelet does: whole, beside the old one, and swapped in.
fn swap_in(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("room for a file");
    fs::rename(&new, path).expect("both are there");
}

/// The sum of all series whose name begins with `name`.
fn sum(exposition: &str, name: &str) -> u64 {
    let values = exposition.lines().filter(|line| line.starts_with(name)).filter_map(|line| {
        let value: f64 = line.rsplit(' ').next()?.parse().ok()?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        Some(value as u64)
    });
    values.sum()
}

fn check(flags: &[&str], hot_in_kernel: bool) {
    let directory = tempfile::tempdir().expect("room for a directory");
    let path = directory.path().join("mapping.yml");
    swap_in(&path, &rules(0));
    let mapping = format!("--statsd.mapping-config={}", path.display());
    let world = World::new();
    let mut all = vec![mapping.as_str(), "--promotion.interval=100ms"];
    all.extend(flags);
    let daemon = world.start(&all);
    let socket = world.socket(Family::V4);
    let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for task in 0..50 {
                    socket.send(format!("hot.{}:1|c", task % 5).as_bytes()).expect("the daemon listens");
                    socket.send(format!("noise.{}:1|c", task % 5).as_bytes()).expect("the daemon listens");
                }
                sent.fetch_add(100, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        for generation in 1..=RELOADS {
            if hot_in_kernel {
                let slots = |daemon: &Daemon| daemon.figures().counted();
                let before = slots(&daemon);
                daemon.wait_for_figures("the kernel counts", |figures| figures.counted() > before + 50);
            } else {
                std::thread::sleep(Duration::from_millis(100));
            }
            swap_in(&path, &rules(generation));
            daemon.signal(Signal::HUP);
            let name = format!("hot_{generation}");
            daemon.wait_for_exposition("the new name", |text| sum(text, &name) > 0);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let sent = sent.load(Ordering::Relaxed);
    daemon.wait_for_figures("all sent", |figures| figures.accounted() >= sent);
    let text = daemon.scrape();
    assert_eq!(sum(&text, "hot_"), sent / 2, "{text}");
    assert_eq!(sum(&text, "noise"), 0);
    assert_eq!(sum(&text, "statsd_exporter_events_actions_total{action=\"drop\"}"), sent / 2);
    assert_eq!(sum(&text, "statsd_exporter_config_reloads_total{outcome=\"success\"}"), RELOADS as u64);
    daemon.stop();
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn no_event_is_lost_between_old_rules_and_new_ones() {
    check(&["--ebpf=off"], false);
    check(&["--ebpf=required"], true);
    check(&["--ebpf=required", "--xdp.interface=veth-d"], true);
}

/// Nobody tells the daemon: it looks.
#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_swapped_file_is_taken_by_itself_and_a_bad_one_is_not() {
    let directory = tempfile::tempdir().expect("room for a directory");
    let path = directory.path().join("mapping.yml");
    swap_in(&path, &rules(0));
    let mapping = format!("--statsd.mapping-config={}", path.display());
    let world = World::new();
    let daemon = world.start(&["--ebpf=off", &mapping]);
    let socket = world.socket(Family::V4);
    swap_in(&path, "mappings:\n- match: hot.*\n");
    daemon.wait_for_exposition("the failure", |text| {
        sum(text, "statsd_exporter_config_reloads_total{outcome=\"failure\"}") == 1
    });
    assert!(daemon.log().contains("mapping.yml"), "{}", daemon.log());
    socket.send(b"hot.a:1|c").expect("the daemon listens");
    daemon.wait_for_exposition("the old rules", |text| text.contains("hot_0{task=\"a\"} 1\n"));
    swap_in(&path, &rules(1));
    daemon.wait_for_exposition("the success", |text| {
        sum(text, "statsd_exporter_config_reloads_total{outcome=\"success\"}") == 1
    });
    socket.send(b"hot.a:1|c").expect("the daemon listens");
    daemon.wait_for_exposition("the new rules", |text| text.contains("hot_1{task=\"a\"} 1\n"));
    daemon.stop();
}
