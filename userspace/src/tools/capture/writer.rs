//! Datagrams -> a capture.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

/// What is lost at most when the writer is ended by force.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// A capture that is being written.
pub(super) struct Writer {
    gzip: GzEncoder<Counting>,
    flushed: Instant,
    bytes_max: u64,
    pub(super) datagrams: u64,
}

/// A file that knows how much went into it.
struct Counting {
    file: File,
    bytes: u64,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Writer {
    pub(super) fn new(file: File, bytes_max: u64) -> Self {
        let counting = Counting { file, bytes: 0 };
        Self {
            gzip: GzEncoder::new(counting, Compression::fast()),
            flushed: Instant::now(),
            bytes_max,
            datagrams: 0,
        }
    }

    /// Adds a line. False once the file has its size.
    pub(super) fn push(&mut self, line: &[u8]) -> io::Result<bool> {
        self.gzip.write_all(line)?;
        self.gzip.write_all(b"\n")?;
        self.datagrams += 1;
        self.tick()?;
        Ok(self.gzip.get_ref().bytes < self.bytes_max)
    }

    /// Makes what there is safe, if it is time.
    pub(super) fn tick(&mut self) -> io::Result<()> {
        if self.flushed.elapsed() >= FLUSH_INTERVAL {
            self.flushed = Instant::now();
            self.gzip.flush()?;
        }
        Ok(())
    }

    /// Ends the file; its size.
    pub(super) fn finish(self) -> io::Result<u64> {
        let counting = self.gzip.finish()?;
        counting.file.sync_all()?;
        Ok(counting.bytes)
    }
}
