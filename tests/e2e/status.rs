//! The status page in a real browser: its charts and tables hold what was sent.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use super::namespace::run;
use super::world::{PORT, World};

/// `None` only where the set-up installs none.
fn browser() -> Option<PathBuf> {
    if let Some(browser) = std::env::var_os("ROTAMETER_BROWSER") {
        return Some(browser.into());
    }
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    system.lines().any(|line| line == "ID=debian").then(|| {
        panic!("ROTAMETER_BROWSER names no program; `cargo xtask test` installs Debian's headless Chromium and sets it")
    })
}

/// The page as its script has made it; the browser's time runs ahead, so that it looks several times.
fn dom(world: &World, browser: PathBuf, path: &str) -> String {
    let profile = tempfile::tempdir().expect("room for a folder");
    let mut command = world.ours.command(browser);
    command.args(["--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--timeout=20000"]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.args(["--dump-dom", &format!("http://127.0.0.1:9102{path}")]);
    run(&mut command)
}

/// What stands in an attribute of the element that begins with `begin`.
#[track_caller]
fn attribute<'a>(dom: &'a str, begin: &str, name: &str) -> &'a str {
    let element = dom.split_once(begin).and_then(|(_, rest)| rest.split('>').next());
    let element = element.unwrap_or_else(|| panic!("no {begin} in\n{dom}"));
    let value = element.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split('"').next());
    value.unwrap_or_else(|| panic!("no {name} in {begin}{element}"))
}

#[test]
#[ignore = "needs root and the headless browser"]
fn a_browser_draws_what_arrives() {
    let Some(browser) = browser() else { return eprintln!("left out: there is no headless browser") };
    let world = World::without_cable();
    let daemon = world.start(&["--ebpf=off"]);
    let sender = world.ours.inside(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    // The first look of the daemon has nothing to compare with, the next ones have.
    let has_points = |json: &str| {
        json.matches("\"lines_per_second\":[").count() == 1 && {
            let column = json.split_once("\"lines_per_second\":[").map_or("", |(_, rest)| rest);
            column.split(']').next().is_some_and(|column| column.split(',').count() >= 3)
        }
    };
    let start = std::time::Instant::now();
    loop {
        for line in ["airflow.ti.start.etl.load:1|c", "airflow.pool.open_slots:3|g", "<b>&\u{1b}:1|c", "bad"]
        {
            sender.send_to(line.as_bytes(), (Ipv4Addr::LOCALHOST, PORT)).expect("the loopback is up");
        }
        let (status, body) = daemon.get("/live?history").expect("it answers");
        assert_eq!(status, 200);
        if has_points(&String::from_utf8_lossy(&body)) {
            break;
        }
        assert!(start.elapsed() < super::daemon::PATIENCE, "no history");
        std::thread::sleep(Duration::from_millis(100));
    }
    let dom = dom(&world, browser, "/status");
    for chart in ["rate", "lost", "refused", "series"] {
        let begin = format!("<svg id=\"chart-{chart}\"");
        let points: u32 = attribute(&dom, &begin, "data-points").parse().expect("a number");
        assert!(points >= 3, "{chart}: {points}");
        let drawn = dom.split_once(&begin).map_or("", |(_, rest)| rest.split("</svg>").next().unwrap_or(""));
        assert!(attribute(drawn, "<path", " d").starts_with('M'), "{drawn}");
    }
    for row in [
        "<td>airflow.ti.start.etl.load:|c</td>",
        "<td>etl</td>",
        "<td>127.0.0.1</td>",
        "<td>&lt;b&gt;&amp;",
        "malformed_line",
        "<td>socket filter</td><td>off</td>",
    ] {
        assert!(dom.contains(row), "no {row} in\n{dom}");
    }
    assert!(!dom.contains("<b>&"), "a name became markup");
    daemon.stop();
}
