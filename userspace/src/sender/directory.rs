//! What Kubernetes says about pods -> pod by address and by uid.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hashbrown::HashMap;
use parking_lot::RwLock;

use super::pod::{Found, Pod};

/// Pods that are known at a time. A node runs some hundred; a list of all of a very large cluster may be
/// cut here, and then those pods are unknown senders.
pub(super) const PODS_MAX: usize = 65_536;

/// Pods that have ended and whose address nobody else has yet: their last datagrams may still come.
const ENDED_MAX: usize = 4096;

/// Pods of one list, and what changed since.
#[derive(Debug, Default)]
pub struct PodDirectory {
    state: RwLock<State>,
    /// Changes with every change that an address or a uid could see.
    generation: AtomicU64,
    refused: AtomicU64,
    requests_succeeded: AtomicU64,
    requests_failed: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    pods: HashMap<Box<str>, Entry>,
    /// Uid of the pod that an address means: a live one if there is one, else the one that ended last.
    addresses: HashMap<IpAddr, Box<str>>,
    ended: usize,
}

#[derive(Debug)]
struct Entry {
    found: Found,
    pod: Arc<Pod>,
}

/// For the daemon's own metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectoryStats {
    pub pods: u64,
    /// Pods that had no room.
    pub refused: u64,
    pub requests_succeeded: u64,
    pub requests_failed: u64,
}

impl PodDirectory {
    /// Changes whenever [`PodDirectory::by_address`] or [`PodDirectory::by_uid`] may answer differently.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The pod that sends from this address.
    #[must_use]
    pub fn by_address(&self, address: IpAddr) -> Option<Arc<Pod>> {
        let state = self.state.read();
        let uid = state.addresses.get(&address.to_canonical())?;
        state.pods.get(uid).map(|entry| Arc::clone(&entry.pod))
    }

    /// The pod of this uid, as it stands in the path of a control group.
    #[must_use]
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        self.state.read().pods.get(uid).map(|entry| Arc::clone(&entry.pod))
    }

    #[must_use]
    pub fn stats(&self) -> DirectoryStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DirectoryStats {
            pods: self.state.read().pods.len() as u64,
            refused: read(&self.refused),
            requests_succeeded: read(&self.requests_succeeded),
            requests_failed: read(&self.requests_failed),
        }
    }

    pub(super) fn count_request(&self, succeeded: bool) {
        let counter = if succeeded { &self.requests_succeeded } else { &self.requests_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a whole list: what is not in it has gone.
    pub(super) fn replace(&self, list: Vec<Found>) {
        let mut state = State::default();
        for found in list {
            self.put(&mut state, found);
        }
        *self.state.write() = state;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A pod that is new or has changed.
    pub(super) fn upsert(&self, found: Found) {
        let mut state = self.state.write();
        if state.pods.get(&found.uid).is_some_and(|entry| entry.found == found) {
            // Most changes of a pod are in its conditions, which nobody asked for.
            return;
        }
        state.remove(&found.uid);
        self.put(&mut state, found);
        drop(state);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A pod that was deleted. It is kept as one that ended, for the datagrams under way.
    pub(super) fn delete(&self, mut found: Found) {
        found.ended = true;
        self.upsert(found);
    }

    /// A pod that now has this address.
    #[cfg(test)]
    pub(crate) fn learn(&self, name: &str, address: &str) {
        self.upsert(tests::found(name, address, false));
    }

    fn put(&self, state: &mut State, found: Found) {
        if state.pods.len() >= PODS_MAX {
            state.forget_ended();
        }
        if state.pods.len() >= PODS_MAX || (found.ended && state.ended >= ENDED_MAX && !state.forget_ended())
        {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        }
        for address in &found.addresses {
            let other = state.addresses.get(address).and_then(|uid| state.pods.get(uid));
            if !found.ended || other.is_none_or(|other| other.found.ended) {
                state.addresses.insert(*address, found.uid.clone());
            }
        }
        state.ended += usize::from(found.ended);
        let pod = Arc::new(found.pod.clone());
        state.pods.insert(found.uid.clone(), Entry { found, pod });
    }
}

impl State {
    fn remove(&mut self, uid: &str) {
        let Some(entry) = self.pods.remove(uid) else { return };
        self.ended -= usize::from(entry.found.ended);
        for address in &entry.found.addresses {
            if self.addresses.get(address).is_some_and(|of| **of == *uid) {
                self.addresses.remove(address);
            }
        }
    }

    /// Forgets all pods that have ended; whether there was any.
    fn forget_ended(&mut self) -> bool {
        let ended: Vec<Box<str>> =
            self.pods.iter().filter(|(_, entry)| entry.found.ended).map(|(uid, _)| uid.clone()).collect();
        for uid in &ended {
            self.remove(uid);
        }
        !ended.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn found(uid: &str, address: &str, ended: bool) -> Found {
        Found {
            uid: uid.into(),
            pod: Pod { namespace: "a".into(), name: uid.into(), node: "n".into(), component: "".into() },
            addresses: [address.parse().unwrap()].into_iter().collect(),
            ended,
        }
    }

    fn name(directory: &PodDirectory, address: &str) -> Option<String> {
        directory.by_address(address.parse().unwrap()).map(|pod| pod.name.to_string())
    }

    #[test]
    fn an_address_means_the_pod_that_lives() {
        let directory = PodDirectory::default();
        directory.replace(vec![found("old", "10.0.0.1", true), found("new", "10.0.0.1", false)]);
        assert_eq!(name(&directory, "10.0.0.1").as_deref(), Some("new"));
        directory.replace(vec![found("new", "10.0.0.1", false), found("old", "10.0.0.1", true)]);
        assert_eq!(name(&directory, "10.0.0.1").as_deref(), Some("new"));
        assert_eq!(name(&directory, "::ffff:10.0.0.1").as_deref(), Some("new"));
    }

    #[test]
    fn a_deleted_pod_is_known_until_another_has_its_address() {
        let directory = PodDirectory::default();
        directory.upsert(found("first", "10.0.0.1", false));
        directory.delete(found("first", "10.0.0.1", false));
        assert_eq!(name(&directory, "10.0.0.1").as_deref(), Some("first"));
        directory.upsert(found("second", "10.0.0.1", false));
        assert_eq!(name(&directory, "10.0.0.1").as_deref(), Some("second"));
        assert!(directory.by_uid("first").is_some());
    }

    #[test]
    fn only_a_change_that_shows_changes_the_generation() {
        let directory = PodDirectory::default();
        directory.upsert(found("a", "10.0.0.1", false));
        let before = directory.generation();
        directory.upsert(found("a", "10.0.0.1", false));
        assert_eq!(directory.generation(), before);
        directory.upsert(found("a", "10.0.0.2", false));
        assert_ne!(directory.generation(), before);
        assert_eq!(
            (name(&directory, "10.0.0.1"), name(&directory, "10.0.0.2")),
            (None, Some("a".to_owned()))
        );
    }

    #[test]
    fn pods_that_ended_and_pods_at_all_have_a_bound() {
        let directory = PodDirectory::default();
        for n in 0..3 * ENDED_MAX {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + u32::try_from(n).unwrap()).to_string();
            directory.upsert(found(&format!("pod{n}"), &address, true));
        }
        let stats = directory.stats();
        assert!(stats.pods <= ENDED_MAX as u64, "{stats:?}");
        assert_eq!(stats.refused, 0);
    }
}
