//! Address of a datagram's sender -> a small number that stands for its labels.
//!
//! The number is part of what the line cache looks for, so two pods that send the same line have each
//! their own series, and a warm line costs one look at the last address more.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hashbrown::HashMap;

use crate::clock::Timestamp;
use crate::datagram::Source;

use super::{
    cgroup,
    directory::{DirectoryStats, PodDirectory},
    labels::SenderLabels,
    pod::Pod,
};

/// A set of labels' values. Numbers are never used twice, so whoever still holds an old one finds
/// nothing by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SenderId(pub u32);

impl SenderId {
    /// Nobody that is known; also everybody while the labels are off.
    pub const UNKNOWN: Self = Self(0);
}

/// Addresses, and sets of values, that are remembered at a time.
const REMEMBERED_MAX: usize = 65_536;

/// How long a process is remembered: its number may go to another one.
const PROCESS_AGE_MAX: Duration = Duration::from_secs(1);

/// What is known of senders at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderReading {
    pub directory: DirectoryStats,
    /// Datagrams whose sender is no pod that is known.
    pub unknown: u64,
}

type Values = Arc<[Box<str>]>;

/// Senders as the pipeline sees them.
#[derive(Debug)]
pub struct SenderTable {
    labels: SenderLabels,
    directory: Arc<PodDirectory>,
    generation: u64,
    addresses: HashMap<IpAddr, SenderId>,
    processes: HashMap<u32, (SenderId, Timestamp)>,
    /// The address that was asked for last: datagrams come in bursts.
    last: Option<(IpAddr, SenderId)>,
    ids: HashMap<Values, SenderId>,
    values: HashMap<SenderId, Values>,
    next: u32,
    /// Datagrams whose sender is no pod that is known.
    unknown: u64,
}

impl SenderTable {
    /// A table that asks `directory`, for the values of `labels`.
    #[must_use]
    pub fn new(labels: SenderLabels, directory: Arc<PodDirectory>) -> Self {
        Self {
            labels,
            directory,
            generation: 0,
            addresses: HashMap::new(),
            processes: HashMap::new(),
            last: None,
            ids: HashMap::new(),
            values: HashMap::new(),
            next: 1,
            unknown: 0,
        }
    }

    /// For the daemon's own metrics.
    #[must_use]
    pub fn reading(&self) -> SenderReading {
        SenderReading { directory: self.directory.stats(), unknown: self.unknown }
    }

    /// Whose labels a datagram of this source gets.
    pub fn find(&mut self, source: Source, now: Timestamp) -> SenderId {
        let generation = self.directory.generation();
        if generation != self.generation {
            self.generation = generation;
            self.last = None;
            self.addresses.clear();
            self.processes.clear();
        }
        let id = match source {
            Source::Address(address) => self.of_address(address.ip()),
            Source::Process(process) => self.of_process(process, now),
            Source::Nameless => SenderId::UNKNOWN,
        };
        self.unknown += u64::from(id == SenderId::UNKNOWN);
        id
    }

    fn of_address(&mut self, address: IpAddr) -> SenderId {
        let id = match self.last {
            Some((last, id)) if last == address => id,
            _ => match self.addresses.get(&address) {
                Some(id) => *id,
                None => self.ask(address),
            },
        };
        self.last = Some((address, id));
        id
    }

    fn of_process(&mut self, process: u32, now: Timestamp) -> SenderId {
        match self.processes.get(&process) {
            Some((id, asked)) if now < asked.after(PROCESS_AGE_MAX) => return *id,
            _ => {}
        }
        let pod = cgroup::pod_uid(process).and_then(|uid| self.directory.by_uid(&uid));
        let id = pod.map_or(SenderId::UNKNOWN, |pod| self.intern(&pod));
        if self.processes.len() >= REMEMBERED_MAX {
            self.processes.clear();
        }
        self.processes.insert(process, (id, now));
        id
    }

    /// Names and values of the labels of `id`; none for a stranger, and none that are empty.
    pub fn labels(&self, id: SenderId) -> impl Iterator<Item = (&'static str, &str)> {
        let values = self.values.get(&id).map_or(&[][..], |values| values);
        let labels = self.labels.iter().zip(values);
        labels.filter(|(_, value)| !value.is_empty()).map(|(label, value)| (label.name(), &**value))
    }

    fn ask(&mut self, address: IpAddr) -> SenderId {
        let id = self.directory.by_address(address).map_or(SenderId::UNKNOWN, |pod| self.intern(&pod));
        // Addresses can be forged, so strangers must not fill it for good.
        if self.addresses.len() >= REMEMBERED_MAX {
            self.addresses.clear();
        }
        self.addresses.insert(address, id);
        id
    }

    fn intern(&mut self, pod: &Pod) -> SenderId {
        let values: Values = self.labels.iter().map(|label| label.value(pod).into()).collect();
        if let Some(id) = self.ids.get(&values) {
            return *id;
        }
        if self.ids.len() >= REMEMBERED_MAX {
            // Those that still send are found again, under new numbers.
            self.ids.clear();
            self.values.clear();
            self.addresses.clear();
        }
        let id = SenderId(self.next);
        // After four billion sets of values all further senders are strangers.
        let Some(next) = self.next.checked_add(1) else { return SenderId::UNKNOWN };
        self.next = next;
        self.ids.insert(Arc::clone(&values), id);
        self.values.insert(id, values);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::super::pod::Found;
    use super::*;

    fn found(uid: &str, address: &str, component: &str) -> Found {
        Found {
            uid: uid.into(),
            pod: Pod {
                namespace: "air".into(),
                name: uid.into(),
                node: "n".into(),
                component: component.into(),
            },
            addresses: [address.parse().unwrap()].into_iter().collect(),
            ended: false,
        }
    }

    fn source(address: &str) -> Source {
        Source::Address((address.parse::<IpAddr>().unwrap(), 4000).into())
    }

    impl SenderTable {
        fn see(&mut self, source: Source) -> SenderId {
            self.find(source, Timestamp(1))
        }
    }

    #[test]
    fn pods_with_the_same_values_are_one_sender() {
        let directory = Arc::new(PodDirectory::default());
        directory.replace(vec![
            found("a", "10.0.0.1", "worker"),
            found("b", "10.0.0.2", "worker"),
            found("c", "10.0.0.3", "scheduler"),
        ]);
        let mut table = SenderTable::new("component".parse().unwrap(), directory);
        let ids = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|text| table.see(source(text)));
        assert_eq!(ids[0], ids[1]);
        assert_ne!(ids[0], ids[2]);
        assert_eq!(table.labels(ids[2]).collect::<Vec<_>>(), [("component", "scheduler")]);
        assert_eq!(table.see(source("10.9.9.9")), SenderId::UNKNOWN);
        assert_eq!(table.see(Source::Nameless), SenderId::UNKNOWN);
        assert_eq!((table.unknown, table.labels(SenderId::UNKNOWN).count()), (2, 0));
    }

    #[test]
    fn an_address_that_goes_to_another_pod_is_another_sender_at_once() {
        let directory = Arc::new(PodDirectory::default());
        directory.replace(vec![found("a", "10.0.0.1", "")]);
        let mut table = SenderTable::new("pod,component".parse().unwrap(), Arc::clone(&directory));
        let first = table.see(source("10.0.0.1"));
        assert_eq!(table.labels(first).collect::<Vec<_>>(), [("pod", "a")]);
        directory.replace(vec![found("b", "10.0.0.1", "")]);
        let second = table.see(source("10.0.0.1"));
        assert_eq!(table.labels(second).collect::<Vec<_>>(), [("pod", "b")]);
        directory.replace(vec![found("a", "10.0.0.1", "")]);
        assert_eq!(table.see(source("10.0.0.1")), first);
    }

    #[test]
    fn strangers_and_pods_fill_no_table() {
        let directory = Arc::new(PodDirectory::default());
        let mut table = SenderTable::new("pod".parse().unwrap(), Arc::clone(&directory));
        for n in 0..2 * u32::try_from(REMEMBERED_MAX).unwrap() {
            table.see(Source::Address((std::net::Ipv4Addr::from(n), 1).into()));
            table.see(Source::Process(u32::MAX - n));
        }
        assert!(table.addresses.len().max(table.processes.len()) <= REMEMBERED_MAX);
    }
}
