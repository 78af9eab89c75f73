//! A fleet's datagrams, by wire and by socket: the exposition must be what the model says was sent.

use rotameter_bench::fleet::{Dialect, Fleet, Preset, Settings, Version};
use rotameter_bench::judge::Judge;
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
