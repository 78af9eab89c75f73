//! Nothing -> two namespaces with a cable between them: the daemon's and the senders'.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use super::daemon::Daemon;
use super::namespace::Namespace;

/// The daemon's end of the cable.
pub(super) const OUR_END: &str = "veth-d";
/// The senders' end.
const THEIR_END: &str = "veth-s";
pub(super) const OUR_MAC: &str = "02:77:00:00:00:01";
const THEIR_MAC: &str = "02:77:00:00:00:02";
/// The port that the daemon listens on unless told otherwise.
pub(super) const PORT: u16 = 9125;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Address of the daemon's end.
    pub(super) fn ours(self) -> IpAddr {
        match self {
            Self::V4 => [10, 77, 0, 1].into(),
            Self::V6 => "fd77::1".parse().expect("an address"),
        }
    }

    /// Address of the senders' end.
    pub(super) fn theirs(self) -> IpAddr {
        match self {
            Self::V4 => [10, 77, 0, 2].into(),
            Self::V6 => "fd77::2".parse().expect("an address"),
        }
    }
}

/// The two ends. Fields are dropped in this order.
pub(super) struct World {
    pub(super) ours: Arc<Namespace>,
    pub(super) theirs: Namespace,
}

impl World {
    pub(super) fn new() -> Self {
        let world = Self::without_cable();
        world.lay_cable(OUR_END, THEIR_END);
        world
    }

    pub(super) fn without_cable() -> Self {
        Self { ours: Arc::new(Namespace::new("d")), theirs: Namespace::new("s") }
    }

    /// Joins the namespaces by a veth pair with addresses of both families.
    pub(super) fn lay_cable(&self, our_end: &str, their_end: &str) {
        self.lay_cable_as(our_end, their_end, None);
    }

    /// The same, and our end has this index, if one is given.
    pub(super) fn lay_cable_as(&self, our_end: &str, their_end: &str, index: Option<u32>) {
        let index = index.map(|index| format!(" index {index}")).unwrap_or_default();
        // One queue each: with more, frames of one sender could overtake each other.
        self.ours.ip(&format!(
            "link add {our_end}{index} address {OUR_MAC} numtxqueues 1 numrxqueues 1 type veth \
             peer name {their_end} address {THEIR_MAC} numtxqueues 1 numrxqueues 1 netns {}",
            self.theirs.name()
        ));
        for (namespace, end, addresses) in [
            (&*self.ours, our_end, ["10.77.0.1/24", "fd77::1/64"]),
            (&self.theirs, their_end, ["10.77.0.2/24", "fd77::2/64"]),
        ] {
            namespace.ip(&format!("addr add {} dev {end}", addresses[0]));
            namespace.ip(&format!("addr add {} dev {end} nodad", addresses[1]));
            namespace.ip(&format!("link set {end} up"));
        }
        // While a neighbour is being asked for, only so many datagrams wait for the answer.
        for family in Family::ALL {
            self.theirs.ip(&format!(
                "neigh replace {} lladdr {OUR_MAC} dev {their_end} nud permanent",
                family.ours()
            ));
        }
        // A veth with XDP has a queue of 256 frames; with a queueing discipline before it, Linux 6.16
        // and later make the sender wait where older ones drop. `cable_drops` sees both.
        self.theirs.tc(&format!("qdisc replace dev {their_end} root pfifo limit 100000"));
    }

    /// Starts the daemon with `flags` and waits until it is ready.
    #[track_caller]
    pub(super) fn start(&self, flags: &[&str]) -> Daemon {
        Daemon::start(&self.ours, flags)
    }

    /// A socket on the senders' end.
    pub(super) fn socket(&self, family: Family) -> UdpSocket {
        self.theirs.inside(|| {
            let socket = UdpSocket::bind((family.theirs(), 0)).expect("a free port");
            socket.connect((family.ours(), PORT)).expect("a route");
            socket
        })
    }

    pub(super) fn target(family: Family) -> SocketAddr {
        (family.ours(), PORT).into()
    }

    /// Frames that got lost on the cable, for want of room in its queue.
    pub(super) fn cable_drops(&self) -> u64 {
        // Of the thread's own namespace, unlike what is mounted at /sys.
        let read = || std::fs::read_to_string("/proc/thread-self/net/dev").expect("proc is mounted");
        let text = self.theirs.inside(read);
        let line = text.lines().find_map(|line| line.trim().strip_prefix(THEIR_END)?.strip_prefix(':'));
        // Eight figures of reception, eight of transmission; the fourth of each is drops.
        let dropped = line.expect("the end is there").split_whitespace().nth(11);
        dropped.and_then(|dropped| dropped.parse().ok()).expect("a count")
    }
}
