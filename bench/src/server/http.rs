//! A GET -> the answer, and how long it took.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsRawFd as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;

const TIMEOUT: Duration = Duration::from_secs(60);
/// More than any scenario's exposition.
const BODY_BYTES_MAX: u64 = 1 << 30;

const DISCARDED_AT_ONCE: usize = 1 << 20;

/// An exposition as it came.
#[derive(Debug)]
pub struct Scrape {
    pub body: Vec<u8>,
    /// From the connection to the last byte.
    pub elapsed: Duration,
}

impl Scrape {
    /// The body, with whatever is no UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// The status of a page.
///
/// # Errors
///
/// Nobody listens, or the answer is no HTTP.
pub(crate) fn status(address: &str, path: &str) -> anyhow::Result<u16> {
    let mut head = String::new();
    ask(address, path)?.read_line(&mut head)?;
    parse_status(&head)
}

/// A page; anything but 200 is an error.
///
/// # Errors
///
/// Nobody listens, the answer is no HTTP or not 200, or it is too long.
pub(crate) fn get(address: &str, path: &str) -> anyhow::Result<Scrape> {
    let began = Instant::now();
    let mut reader = ask(address, path)?;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = parse_status(&line)?;
    let (mut length, mut chunked) = (None, false);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = Some(value.trim().parse::<u64>().context("an odd Content-Length")?);
        }
        chunked |= header == "transfer-encoding: chunked";
    }
    let mut body = Vec::new();
    if chunked {
        read_chunks(&mut reader, &mut body)?;
    } else {
        reader.take(length.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX)).read_to_end(&mut body)?;
        anyhow::ensure!(length.is_none_or(|length| length == body.len() as u64), "{path}: cut off");
    }
    let elapsed = began.elapsed();
    anyhow::ensure!(status == 200, "{path}: status {status}: {}", String::from_utf8_lossy(&body).trim());
    Ok(Scrape { body, elapsed })
}

/// Asks for a page and has the kernel throw it away as it comes: a scraper elsewhere, of which this machine
/// sees no more than its packets. Returns the number of bytes, head included.
///
/// # Errors
///
/// Nobody listens, the connection breaks, or the answer is not 200.
pub(crate) fn discard(address: &str, path: &str) -> anyhow::Result<u64> {
    let mut reader = ask(address, path)?;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = parse_status(&line)?;
    anyhow::ensure!(status == 200, "{path}: status {status}");
    let mut bytes = (line.len() + reader.buffer().len()) as u64;
    loop {
        // SAFETY: with MSG_TRUNC a TCP socket writes no byte anywhere (tcp(7)).
        let taken = unsafe {
            libc::recv(reader.get_ref().as_raw_fd(), std::ptr::null_mut(), DISCARDED_AT_ONCE, libc::MSG_TRUNC)
        };
        match u64::try_from(taken) {
            Ok(0) => return Ok(bytes),
            Ok(taken) => bytes += taken,
            Err(_) => return Err(std::io::Error::last_os_error()).with_context(|| format!("reading {path}")),
        }
    }
}

fn ask(address: &str, path: &str) -> anyhow::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    Ok(BufReader::with_capacity(256 << 10, stream))
}

fn parse_status(line: &str) -> anyhow::Result<u16> {
    let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
    code.and_then(|code| code.parse().ok()).context("the answer is no HTTP")
}

fn read_chunks(reader: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim(), 16).context("an odd chunk")?;
        anyhow::ensure!(body.len() as u64 + length <= BODY_BYTES_MAX, "the answer is too long");
        if length == 0 {
            return Ok(());
        }
        let before = body.len() as u64;
        reader.by_ref().take(length).read_to_end(body)?;
        anyhow::ensure!(body.len() as u64 == before + length, "the answer was cut off");
        line.clear();
        reader.read_line(&mut line)?;
    }
}
