//! Signals -> one request to stop, seen by everyone who waits.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Asks every [`Stop`] to end. Dropping it asks as well.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// What a task looks at to learn that it should end.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// A trigger and the stop that it sets off.
#[must_use]
pub fn channel() -> (Trigger, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Stop(receiver))
}

impl Trigger {
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns once stopping was requested; at once if it already was.
    pub async fn requested(&mut self) {
        // An error means that the trigger is gone: nobody could ask any more, so this is the request.
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// SIGTERM and SIGINT from now on: the future ends with the name of the first that comes. SIGUSR1 and
/// SIGUSR2 do nothing.
///
/// # Errors
///
/// The signals could not be caught.
pub fn signals() -> io::Result<impl Future<Output = &'static str>> {
    // Caught before the first listener binds, so that an early SIGTERM is an orderly stop, too.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Left alone they would end the process, and Go's programs, whose place we take, live on: someone's
    // script for turning logs over may send them. Once caught they stay caught.
    drop(signal(SignalKind::user_defined1())?);
    drop(signal(SignalKind::user_defined2())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_is_seen_by_those_who_wait_and_those_who_come_later() {
        let (trigger, mut stop) = channel();
        let mut waiting = stop.clone();
        let waiter = tokio::spawn(async move { waiting.requested().await });
        assert!(!stop.is_requested());
        trigger.stop();
        waiter.await.unwrap();
        stop.requested().await;
        assert!(stop.is_requested());
    }

    #[tokio::test]
    async fn a_dropped_trigger_stops() {
        let (trigger, mut stop) = channel();
        drop(trigger);
        stop.requested().await;
        assert!(stop.is_requested());
    }
}
