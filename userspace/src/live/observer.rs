//! Time -> a look a second.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io, thread};

const INTERVAL: Duration = Duration::from_secs(1);

/// A thread that looks; it ends when this goes.
#[derive(Debug)]
pub struct Observer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Calls `look` once a second.
    ///
    /// # Errors
    ///
    /// A thread cannot be had.
    pub fn start(mut look: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = thread::Builder::new().name("rotameter-live".to_owned()).spawn(move || {
            loop {
                look();
                if stopped.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
