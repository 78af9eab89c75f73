//! A capture -> the same datagrams again, from the same source ports, at a chosen speed.

use std::collections::HashMap;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::ChildStdout;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{capture, signals};

/// Sockets beyond this would meet the usual limit of open files; later ports share one socket.
const SOCKETS_MAX: usize = 512;

/// How long to pause between two rounds, so that a round of very high speed still has a length.
const PAUSE: Duration = Duration::from_millis(1);

#[derive(clap::Args)]
pub(crate) struct Options {
    capture: PathBuf,
    #[arg(long)]
    to: SocketAddr,
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

/// Plays the capture over and over until the time is up, then prints how many datagrams it sent.
pub(crate) fn main(options: &Options) -> Result<()> {
    if !(options.speed.is_finite() && options.speed > 0.0) {
        bail!("--speed {} is no speed; 1 is as recorded, 20 is twenty times faster", options.speed);
    }
    signals::catch();
    let datagrams = capture::read(&options.capture)?;
    let (Some(first), Some(_)) = (datagrams.first(), datagrams.last()) else {
        bail!("{} holds no datagram", options.capture.display());
    };
    let start = first.at;
    let mut sockets = HashMap::new();
    let deadline = Instant::now() + Duration::from_secs(u64::from(options.seconds));
    let mut sent = 0_u64;
    'playing: loop {
        let round = Instant::now();
        for datagram in &datagrams {
            let due = round + datagram.at.saturating_sub(start).div_f64(options.speed);
            if !wait_until(due.min(deadline)) || due > deadline {
                break 'playing;
            }
            let socket = socket_for(&mut sockets, datagram.source_port)?;
            // A full queue on our own side is no reason to end; what did not leave is not counted.
            sent += u64::from(socket.send_to(&datagram.payload, options.to).is_ok());
        }
        thread::sleep(PAUSE);
    }
    // A demo that was killed reads no more.
    let _ = writeln!(std::io::stdout(), "{sent}");
    Ok(())
}

/// What [`main`] printed in the other process; `None` if that ended otherwise.
pub(super) fn read_report(output: Option<ChildStdout>) -> Option<u64> {
    let mut text = String::new();
    output?.take(64).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Sleeps until then; false if a signal asked to stop.
fn wait_until(due: Instant) -> bool {
    loop {
        if signals::stop_requested() {
            return false;
        }
        match due.checked_duration_since(Instant::now()) {
            None | Some(Duration::ZERO) => return true,
            Some(left) => thread::sleep(left.min(Duration::from_millis(100))),
        }
    }
}

fn socket_for(sockets: &mut HashMap<u16, UdpSocket>, port: u16) -> Result<&UdpSocket> {
    let key = if sockets.len() < SOCKETS_MAX || sockets.contains_key(&port) { port } else { 0 };
    match sockets.entry(key) {
        std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
        std::collections::hash_map::Entry::Vacant(entry) => {
            let bound = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, key))
                .or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
                .context("binding a socket to send from")?;
            Ok(entry.insert(bound))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_port_keeps_its_socket() {
        let mut sockets = HashMap::new();
        let first = socket_for(&mut sockets, 0).and_then(|socket| Ok(socket.local_addr()?));
        let again = socket_for(&mut sockets, 0).and_then(|socket| Ok(socket.local_addr()?));
        assert_eq!(first.expect("loopback is there"), again.expect("loopback is there"));
        assert_eq!(sockets.len(), 1);
    }

    #[test]
    fn a_time_that_has_passed_needs_no_waiting() {
        assert!(wait_until(Instant::now()));
    }
}
