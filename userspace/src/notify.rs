//! States of the daemon -> the service manager.
//!
//! Source: systemd `sd_notify(3)`.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the service manager wants to hear from us; it may not want to.
#[derive(Debug, Default)]
pub struct ServiceManager(Option<SocketAddr>);

impl ServiceManager {
    /// The one that `NOTIFY_SOCKET` names.
    #[must_use]
    pub fn from_environment() -> Self {
        // One that cannot be reached hears nothing, and ends us when it runs out of patience.
        Self(std::env::var("NOTIFY_SOCKET").ok().and_then(|name| address(&name).ok()))
    }

    /// All listeners are up.
    pub fn ready(&self) {
        self.tell("READY=1\n");
    }

    /// The last drain begins.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\n");
    }

    fn tell(&self, state: &str) {
        let Some(address) = &self.0 else { return };
        let told = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(state.as_bytes(), address)
        });
        if let Err(error) = told {
            tracing::warn!(%error, "telling the service manager (NOTIFY_SOCKET)");
        }
    }
}

fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str) {
        let socket = UnixDatagram::bind_addr(&address(name).unwrap()).unwrap();
        let manager = ServiceManager(Some(address(name).unwrap()));
        manager.ready();
        manager.stopping();
        for expected in ["READY=1\n", "STOPPING=1\n"] {
            let mut state = [0; 64];
            let length = socket.recv(&mut state).unwrap();
            assert_eq!(&state[..length], expected.as_bytes());
        }
    }

    #[test]
    fn states_are_told_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        check(folder.path().join("notify").to_str().unwrap());
        check(&format!("@rotameter-notify-{}", std::process::id()));
    }

    #[test]
    fn a_manager_that_is_gone_is_no_obstacle() {
        ServiceManager(Some(address("/nonexistent/notify").unwrap())).ready();
        ServiceManager::default().ready();
    }
}
