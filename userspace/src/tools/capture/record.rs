//! A daemon, or a port of our own -> a capture.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::UdpSocket;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::writer::Writer;
use crate::config::{HostPort, units};
use crate::datagram::Source;
use crate::line::lines;
use crate::live::tail::{Captured, Status};
use crate::tools::client::Client;
use crate::tools::follow::{Event, FollowFlags, follow, unseen};
use crate::tools::print;

/// How often a silent port is left to look at the clock.
const LOOK: Duration = Duration::from_millis(200);
/// A year is as good as for ever, and can be added to a time.
const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Records datagrams into a file, for `rotameter replay` and `rotameter diff`.
///
/// They come from a running daemon, or with --listen from a port of our own. Ctrl-C ends it in order.
#[derive(Debug, clap::Parser)]
#[command(name = "rotameter capture", bin_name = "rotameter capture")]
pub struct CaptureFlags {
    #[command(flatten)]
    follow: FollowFlags,
    /// File to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Receive on this UDP address instead of asking a daemon.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<HostPort>,
    /// End after this time.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = units::parse_duration)]
    duration: Duration,
    /// End when the file has this size.
    #[arg(long, value_name = "BYTES", default_value = "256Mi", value_parser = units::parse_size)]
    max_bytes: u64,
}

/// Writes the file.
///
/// # Errors
///
/// The file is there already or cannot be written; the daemon does not answer; the address cannot be
/// had.
pub fn capture(flags: &CaptureFlags) -> anyhow::Result<()> {
    // Everything that can fail, before the file is there.
    let from = match &flags.listen {
        Some(address) => Origin::Port(bind(address)?),
        None => Origin::Daemon(Box::new(Client::new(&flags.follow.connect)?)),
    };
    let mut writer = Writer::new(create(&flags.out)?, flags.max_bytes);
    let until = Instant::now() + flags.duration.min(DURATION_MAX);
    let recorded = match &from {
        Origin::Port(socket) => listen(socket, flags, &mut writer, until),
        Origin::Daemon(client) => ask(client, flags, &mut writer, until),
    };
    let datagrams = writer.datagrams;
    let bytes = writer.finish().with_context(|| writing(&flags.out))?;
    let status = match recorded {
        // Nothing was begun, so nothing stays behind.
        Err(error) if datagrams == 0 => {
            let _ = std::fs::remove_file(&flags.out);
            return Err(error);
        }
        recorded => recorded?,
    };
    print(&format!("{}: {datagrams} datagrams, {bytes} bytes", flags.out.display()));
    if let Some(unseen) = unseen(&status) {
        eprintln!("# not in there: {unseen}");
    }
    Ok(())
}

enum Origin {
    Port(UdpSocket),
    Daemon(Box<Client>),
}

fn writing(path: &Path) -> String {
    format!("writing capture {}", path.display())
}

fn create(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path).with_context(|| match path.exists() {
        true => format!("{} is there already; choose another name, or remove it", path.display()),
        false => writing(path),
    })
}

fn ask(client: &Client, flags: &CaptureFlags, writer: &mut Writer, until: Instant) -> anyhow::Result<Status> {
    let path = flags.follow.path(&["datagrams"])?;
    let mut last = Status::default();
    follow(client, &path, |event| {
        let goes_on = match event {
            Event::Line(line) => writer.push(line).with_context(|| writing(&flags.out))?,
            // At least one a second, so that the clock is looked at.
            Event::Status(status) => {
                last = status;
                writer.tick().with_context(|| writing(&flags.out))?;
                true
            }
        };
        Ok(if goes_on && Instant::now() < until { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(last)
}

fn bind(address: &HostPort) -> anyhow::Result<UdpSocket> {
    let socket = crate::listener::bind(address, socket2::Type::DGRAM).with_context(|| {
        format!("listening on {address}; does the daemon have the port? without --listen it is asked")
    })?;
    // A large one, as far as it is granted.
    let _ = socket.set_recv_buffer_size(4 << 20);
    let socket = UdpSocket::from(socket);
    socket
        .set_nonblocking(false)
        .and_then(|()| socket.set_read_timeout(Some(LOOK)))
        .context("setting a timeout")?;
    Ok(socket)
}

fn listen(
    socket: &UdpSocket,
    flags: &CaptureFlags,
    writer: &mut Writer,
    until: Instant,
) -> anyhow::Result<Status> {
    let filter = flags.follow.own()?;
    let interrupted = interrupted()?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut began = None;
    while Instant::now() < until && !interrupted() {
        writer.tick().with_context(|| writing(&flags.out))?;
        let (bytes, source) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(error) => bail!(anyhow::Error::from(error).context("receiving")),
        };
        let payload = buffer.get(..bytes).unwrap_or_default();
        if !lines(payload).any(|line| filter.wants(line)) {
            continue;
        }
        let since = began.get_or_insert_with(Instant::now).elapsed();
        let line = serde_json::to_vec(&Captured::new(payload, Source::Address(source), since))?;
        if !writer.push(&line).with_context(|| writing(&flags.out))? {
            break;
        }
    }
    Ok(Status::default())
}

/// Tells whether somebody has pressed Ctrl-C since.
fn interrupted() -> anyhow::Result<impl Fn() -> bool> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let (pressed, seen) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("rotameter-signal".to_owned())
        .spawn(move || {
            if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
                // Nobody looks any more once it has ended by itself.
                let _ = pressed.send(());
            }
        })
        .context("starting a thread")?;
    Ok(move || seen.try_recv().is_ok())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::reader::{End, Reader};
    use super::*;

    #[test]
    fn a_port_of_our_own_is_recorded_until_the_file_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("capture.gz");
        let socket = bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for n in 0..20 {
            sender.send_to(format!("a{}:{n}|c", n % 2).as_bytes(), socket.local_addr().unwrap()).unwrap();
        }
        let out_flag = format!("--out={}", out.display());
        let flags = CaptureFlags::parse_from(["capture", &out_flag, "--filter=a1"]);
        let mut writer = Writer::new(create(&out).unwrap(), u64::MAX);
        listen(&socket, &flags, &mut writer, Instant::now() + Duration::from_millis(500)).unwrap();
        assert_eq!(writer.datagrams, 10);
        writer.finish().unwrap();
        let mut reader = Reader::open(&out).unwrap();
        let first = reader.next().unwrap().unwrap();
        assert_eq!(
            (first.payload.as_slice(), first.sender.1),
            (&b"a1:1|c"[..], sender.local_addr().unwrap().port())
        );
        assert_eq!(reader.end(), End::Whole);
        let error = format!("{:#}", create(&out).unwrap_err());
        assert!(error.contains("is there already"), "{error}");
    }
}
