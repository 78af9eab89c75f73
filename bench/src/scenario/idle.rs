//! A daemon that nobody talks to -> its share of a CPU, its memory.

use std::time::{Duration, Instant};

use ingest_ebpf::{
    layout::{SEGMENT_BYTES, Segment, Slot},
    verdict::COUNTERS_PER_CPU,
};
use rotameter::{cli::Cli, config::Config};

use crate::{
    network,
    report::Row,
    server::{Contestant, Doors, Server, Setup},
};

const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Starts `daemon` with both doors open and watches it for `duration`.
///
/// # Errors
///
/// The daemon does not start, or ends.
pub fn measure(daemon: &Contestant, duration: Duration) -> anyhow::Result<Vec<Row>> {
    let config = Config::load(&Cli::from_arguments(["rotameter"])?)?;
    let (memory, share) = network::within(|_| {
        let daemon = Server::start(daemon, &Setup::new(Doors::Xdp))?;
        let memory = daemon.resident_bytes()?;
        let before = daemon.cpu()?;
        let started = Instant::now();
        std::thread::sleep(duration);
        let used = daemon.cpu()?.saturating_sub(before);
        Ok((memory, used.as_secs_f64() / started.elapsed().as_secs_f64()))
    })?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let ring = f64::from(config.ebpf.ring_bytes) / SEGMENT_BYTES as f64 * size_of::<Segment>() as f64;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let rows = f64::from(config.ebpf.slots) * size_of::<Slot>() as f64 + f64::from(COUNTERS_PER_CPU) * 8.0;
    Ok(vec![
        Row::new("idle", "both doors open, nothing comes", "% of a CPU", &[share * 100.0]).at_most(0.5),
        Row::new("idle", "resident memory after start", "MiB", &[memory / MEBIBYTE]).at_most(40.0),
        Row::new("idle", "of a ring, for each CPU", "MiB", &[ring / MEBIBYTE]),
        Row::new("idle", "of slots and counters, for each CPU", "MiB", &[rows / MEBIBYTE]),
    ])
}
