//! A fleet's datagrams, by wire and by socket: the exposition must be what the model says was sent.

use std::path::PathBuf;

use rotameter_bench::fleet::{Dialect, Fleet, Preset, Settings, Version};
use rotameter_bench::judge::Judge;
use rotameter_bench::load::socket::{SOURCES, send_watched};
use rotameter_bench::load::{Limits, Pace, Payloads, Target, Wire, send};
use rotameter_bench::network;
use rotameter_bench::server::{Contestant, Doors, OURS, Server, Setup};

use super::daemon::binary;

/// Datagrams of a table, which is sent one and a half times.
const TABLE: usize = 20_000;
const DATAGRAMS: u64 = 30_000;
/// So slow that nothing is lost on a machine that does other things, too.
const RATE: Pace = Pace::PerSecond(20_000.0);

#[track_caller]
fn check(version: Version, dialect: Dialect, doors: Doors, by_wire: bool) {
    let settings = Settings { version, dialect, ..Settings::preset(Preset::Large) };
    let payloads = Payloads::collect(Fleet::new(settings, 5), TABLE);
    let differences = network::within(|pair| {
        let ours = Contestant::new(OURS, binary().into(), true)?;
        // The largest buffer that the default limit of the kernel allows root, and rings to match.
        let setup = Setup::new(doors).read_buffer(16 << 20).flag("--promotion.min-rate=5");
        let server = Server::start(&ours, &setup)?;
        // On one CPU what is received in order is recorded in order.
        network::pin(0)?;
        let limits = Limits::datagrams(DATAGRAMS);
        let sent = if by_wire {
            Wire::new(pair, &payloads)?.send(&payloads, RATE, limits)?
        } else {
            send(&Target::Udp("127.0.0.1:9125".parse()?), &payloads, RATE, limits)?
        };
        anyhow::ensure!(sent.datagrams == DATAGRAMS, "{sent}");
        let totals = payloads.totals(sent.datagrams);
        anyhow::ensure!(totals.lines() == sent.lines && totals.malformed() == 0);
        server.wait_until_quiet()?;
        Ok(totals.expected(&Judge::default()).differences(&server.scrape()?.text(), 10))
    });
    let differences = differences.expect("the fleet is sent");
    assert!(differences.is_empty(), "{version:?}, {dialect:?}, {doors:?}: {differences:#?}");
}

/// The same over a Unix socket: `flag` opens it at a path, `target` sends there from `sources` sockets.
#[track_caller]
fn check_unix(flag: &str, target: fn(PathBuf) -> Target, sources: usize) {
    let settings =
        Settings { version: Version::V3_3, dialect: Dialect::Datadog, ..Settings::preset(Preset::Large) };
    let payloads = Payloads::collect(Fleet::new(settings, 5), TABLE);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("statsd.sock");
    let differences = network::within(|_| {
        let ours = Contestant::new(OURS, binary().into(), true)?;
        let setup = Setup::new(Doors::None).flag(format!("{flag}={}", path.display()));
        let server = Server::start(&ours, &setup)?;
        let (target, limits) = (target(path.clone()), Limits::datagrams(DATAGRAMS));
        let sent = send_watched(&target, sources, &payloads, RATE, limits, &mut |_| true)?;
        anyhow::ensure!(sent.datagrams == DATAGRAMS && sent.errors.is_empty(), "{sent}");
        server.wait_until_quiet()?;
        let expected = payloads.totals(sent.datagrams).expected(&Judge::default());
        anyhow::ensure!(expected.samples().len() > 5_000, "a small fleet");
        Ok(expected.differences(&server.scrape()?.text(), 10))
    });
    let differences = differences.expect("the fleet is sent");
    assert!(differences.is_empty(), "{flag}: {differences:#?}");
}

#[test]
#[ignore = "needs root: network namespaces"]
fn a_fleet_over_unix_sockets_is_counted_exactly() {
    check_unix("--statsd.listen-unixgram", Target::Unixgram, SOURCES);
    // Between connections there is no order, and gauges go by it.
    check_unix("--statsd.listen-unix", Target::UnixStream, 1);
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_fleet_from_the_wire_is_counted_exactly() {
    check(Version::V2_11, Dialect::Plain, Doors::Xdp, true);
    check(Version::V3_3, Dialect::Datadog, Doors::Xdp, true);
}

#[test]
#[ignore = "needs root: network namespaces, CAP_BPF"]
fn a_fleet_from_sockets_is_counted_exactly() {
    check(Version::V3_3, Dialect::Plain, Doors::SocketFilter, false);
    check(Version::V2_11, Dialect::Influx, Doors::None, false);
}
