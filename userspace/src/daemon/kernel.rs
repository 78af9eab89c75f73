//! Flags and sockets -> the kernel object, loaded, and its doors, followed.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ingest_ebpf::layout::{BUCKET_PLACES, NetworkV4, NetworkV6, address_words};
use tokio::sync::watch;
use tracing::{info, warn};

use super::running::Daemon;
use crate::{
    config::{Cidr, Config},
    kernel::{
        doors::{Change, Doors, Refusal},
        interfaces::{self, Interface},
        object::{EMBEDDED, LoadOptions, Object, ObjectError, Sizes, Tables},
        ring::Ring,
    },
};

/// The kernel side, or why there is none.
pub(super) enum Kernel {
    Loaded {
        doors: Box<Doors>,
        tables: Arc<Tables>,
        rings: Vec<Ring>,
        interfaces: Option<watch::Receiver<Vec<Interface>>>,
    },
    Shut {
        why: String,
    },
}

/// Loads the object for the sockets' ports. No door is opened yet.
pub(super) async fn load(config: &Config, sockets: Vec<SocketAddr>) -> anyhow::Result<Kernel> {
    let object = EMBEDDED.ok_or(ObjectError::NotBuiltIn)?;
    if sockets.is_empty() {
        anyhow::bail!("there is no UDP socket, and the doors serve nothing else (--statsd.listen-udp)");
    }
    let (allowed_v4, allowed_v6) = allowed(&config.xdp.allow_sources);
    let options = LoadOptions {
        sizes: Sizes {
            slots: config.ebpf.slots,
            buckets: config.ebpf.identities.div_ceil(BUCKET_PLACES).next_power_of_two(),
            ring_bytes: config.ebpf.ring_bytes,
        },
        seed: random_seed(),
        ports: sockets.iter().map(SocketAddr::port).collect(),
        allowed_v4,
        allowed_v6,
    };
    let mut object = Object::load(object, &options)?;
    let tables = Arc::clone(&object.tables);
    let rings = std::mem::take(&mut object.rings);
    let doors = Doors::new(object, config.xdp.interfaces.clone(), config.ebpf.loopback, sockets)?;
    let xdp = config.ebpf.doors.xdp && !config.xdp.interfaces.is_empty();
    let interfaces = if xdp || config.ebpf.loopback { Some(interfaces::follow().await?) } else { None };
    Ok(Kernel::Loaded { doors: Box::new(doors), tables, rings, interfaces })
}

/// The allow-list in the form in which the program compares it.
fn allowed(sources: &[Cidr]) -> (Vec<NetworkV4>, Vec<NetworkV6>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for source in sources {
        let bits = u32::from(source.prefix_bits());
        match source.network() {
            std::net::IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                v4.push(NetworkV4 { address: u32::from_ne_bytes(address.octets()), mask: mask.to_be() });
            }
            std::net::IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                v6.push(NetworkV6 {
                    address: address_words(address.octets()),
                    mask: address_words(mask.to_be_bytes()),
                });
            }
        }
    }
    (v4, v6)
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Keeps door 1 on what the interfaces are now. Also looks without a change now and then: another
/// XDP program that was in the way goes without one.
pub(super) async fn follow(daemon: Arc<Daemon>, mut interfaces: watch::Receiver<Vec<Interface>>) {
    loop {
        tokio::select! {
            changed = interfaces.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        let present = interfaces.borrow_and_update().clone();
        if let Some(doors) = daemon.doors.lock().as_mut() {
            log_changes(&doors.follow(&present));
        }
    }
}

/// How long an interface that could not be had waits for another try.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub(super) fn log_changes(changes: &[Change]) {
    for change in changes {
        match change {
            Change::Attached { interface, loopback: false } => info!(interface, "XDP attached"),
            Change::Detached { interface, loopback: false } => info!(interface, "XDP detached"),
            Change::Attached { interface, loopback: true } => info!(interface, "TCX attached"),
            Change::Detached { interface, loopback: true } => info!(interface, "TCX detached"),
            Change::Refused(Refusal { interface, reason, loopback: false }) => {
                warn!(interface, reason, "XDP not attached");
            }
            Change::Refused(Refusal { interface, reason, loopback: true }) => {
                warn!(interface, reason, "TCX not attached");
            }
        }
    }
}
