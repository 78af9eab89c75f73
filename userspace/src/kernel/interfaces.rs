//! Netlink notifications -> snapshots of the machine's network interfaces.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, VlanProtocol, XdpAttached,
};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;
use tracing::warn;

/// A pod's start makes a dozen notifications; this long they are gathered into one snapshot.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// A snapshot takes milliseconds; a kernel that does not answer within this is asked again.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(5);
const REOPEN_AFTER: Duration = Duration::from_secs(1);
const REOPEN_AFTER_MAX: Duration = Duration::from_secs(60);
/// `IFNAMSIZ` less its NUL.
const NAME_BYTES_MAX: usize = 15;

/// One network interface, as the kernel described it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    /// `None` where it has no Ethernet address.
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
    /// Switched on by the administrator; the cable may be out.
    pub up: bool,
    pub loopback: bool,
    /// What made it, for a virtual interface: `veth`, `bridge`, `vlan`.
    pub kind: Option<String>,
    /// Of an 802.1Q interface: the interface that its frames cross, and its id.
    pub vlan: Option<Vlan>,
    /// Whether an XDP program is on it, ours or another.
    pub xdp: bool,
    /// In ascending order.
    pub addresses: Vec<IpAddr>,
}

/// Where a VLAN interface's frames are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    pub parent: u32,
    /// 1 to 4094.
    pub id: u16,
}

/// Names that an operator meant: text with `*` and `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceGlob(String);

/// Why a text cannot name an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceGlobError {
    #[error("the name is empty; write an interface, for example eth0 or eth*")]
    Empty,
    #[error("no interface has such a name: the kernel allows no / and no space in it")]
    BadCharacter,
    #[error("no interface has a name of more than 15 bytes")]
    TooLong,
}

impl InterfaceGlob {
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        name_matches(&self.0, name)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it may stand for several interfaces; one that may not is missed when it is absent.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.0.contains(['*', '?'])
    }
}

impl FromStr for InterfaceGlob {
    type Err = InterfaceGlobError;

    fn from_str(text: &str) -> Result<Self, InterfaceGlobError> {
        if text.is_empty() {
            return Err(InterfaceGlobError::Empty);
        }
        if text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            return Err(InterfaceGlobError::BadCharacter);
        }
        if text.bytes().filter(|b| *b != b'*').count() > NAME_BYTES_MAX {
            return Err(InterfaceGlobError::TooLong);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whether all of `name` matches `glob`: `*` stands for any run of bytes, `?` for one byte.
#[must_use]
pub fn name_matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut g, mut n) = (0, 0);
    // Where the last star stands, and up to where it has swallowed the name. Only the last star
    // ever needs to give way, so the work is bounded by the product of the lengths.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, n));
                g += 1;
            }
            Some(b) if *b == b'?' || *b == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match star {
                Some((at, swallowed)) => {
                    star = Some((at, swallowed + 1));
                    g = at + 1;
                    n = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|b| *b == b'*')
}

/// What is wrong with the view of the interfaces.
#[derive(Debug, thiserror::Error)]
pub enum InterfacesError {
    #[error("opening a netlink socket")]
    Open(#[source] io::Error),
    #[error("asking the kernel for its interfaces")]
    Dump(#[source] rtnetlink::Error),
    #[error("asking the kernel for its interfaces: no answer")]
    NoAnswer,
}

/// The present interfaces by ascending index, and every later change of them.
///
/// The follower runs as a task of the present runtime and ends when all receivers are gone. It looks
/// at the network namespace of the thread that calls this.
///
/// # Errors
///
/// There is no netlink, or it does not answer: nothing can be followed.
pub async fn follow() -> Result<watch::Receiver<Vec<Interface>>, InterfacesError> {
    let mut netlink = Netlink::open().map_err(InterfacesError::Open)?;
    let (sender, receiver) = watch::channel(netlink.snapshot().await?);
    tokio::spawn(async move {
        let mut reopen_after = REOPEN_AFTER;
        loop {
            let failure = tokio::select! {
                () = sender.closed() => return,
                failure = forward(&mut netlink, &sender, &mut reopen_after) => failure,
            };
            warn!(error = %failure, "lost sight of the network interfaces, asking again");
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(reopen_after) => {}
            }
            reopen_after = (reopen_after * 2).min(REOPEN_AFTER_MAX);
            match Netlink::open() {
                Ok(fresh) => netlink = fresh,
                Err(error) => warn!(%error, "opening a netlink socket"),
            }
        }
    });
    Ok(receiver)
}

/// Sends a snapshot after every change. Returns why it cannot go on.
async fn forward(
    netlink: &mut Netlink,
    sender: &watch::Sender<Vec<Interface>>,
    reopen_after: &mut Duration,
) -> String {
    loop {
        let present = match netlink.snapshot().await {
            Ok(present) => present,
            Err(error) => return format!("{:#}", anyhow::Error::from(error)),
        };
        *reopen_after = REOPEN_AFTER;
        sender.send_if_modified(|known| {
            let changed = *known != present;
            if changed {
                *known = present;
            }
            changed
        });
        if !netlink.changed().await {
            return "the netlink socket closed".to_owned();
        }
    }
}

/// A netlink socket that is told of changes of links and addresses.
struct Netlink {
    handle: Handle,
    notifications: Notifications,
    /// Ends the task that serves the socket when this goes.
    _connection: AbortOnDrop,
}

type Notifications = std::pin::Pin<Box<dyn futures_util::Stream<Item = ()> + Send + Sync>>;

impl Netlink {
    fn open() -> io::Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, notifications) = rtnetlink::new_multicast_connection(&groups)?;
        let connection = AbortOnDrop(tokio::spawn(connection));
        Ok(Self { handle, notifications: Box::pin(notifications.map(|_| ())), _connection: connection })
    }

    /// Waits for a change, then for those that come with it. False: the socket is gone.
    async fn changed(&mut self) -> bool {
        // What a notification says is not looked at: it only leads to a new dump. So it makes no
        // difference whether the kernel had to throw some away (ENOBUFS), which also ends up here.
        if self.notifications.next().await.is_none() {
            return false;
        }
        tokio::time::sleep(DEBOUNCE).await;
        loop {
            match self.notifications.next().now_or_never() {
                Some(Some(())) => {}
                Some(None) => return false,
                None => return true,
            }
        }
    }

    async fn snapshot(&self) -> Result<Vec<Interface>, InterfacesError> {
        tokio::time::timeout(SNAPSHOT_TIMEOUT, self.dump()).await.map_err(|_| InterfacesError::NoAnswer)?
    }

    async fn dump(&self) -> Result<Vec<Interface>, InterfacesError> {
        let mut interfaces = BTreeMap::new();
        let mut links = self.handle.link().get().execute();
        while let Some(link) = links.try_next().await.map_err(InterfacesError::Dump)? {
            interfaces.insert(link.header.index, interface(&link));
        }
        let mut addresses = self.handle.address().get().execute();
        while let Some(address) = addresses.try_next().await.map_err(InterfacesError::Dump)? {
            // An address of a link that came after the first dump: its notification is on the way.
            let Some(interface) = interfaces.get_mut(&address.header.index) else { continue };
            interface.addresses.extend(own_address(&address.attributes));
        }
        let mut interfaces: Vec<Interface> = interfaces.into_values().collect();
        for interface in &mut interfaces {
            interface.addresses.sort_unstable();
            interface.addresses.dedup();
        }
        Ok(interfaces)
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn interface(link: &LinkMessage) -> Interface {
    let flags = link.header.flags;
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        loopback: flags.contains(LinkFlags::Loopback),
        kind: None,
        vlan: None,
        xdp: false,
        addresses: Vec::new(),
    };
    let (mut parent, mut vlan_id) = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            // Tunnels have addresses of other lengths; those are no Ethernet address.
            LinkAttribute::Address(bytes) => interface.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::LinkInfo(infos) => {
                interface.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                vlan_id = infos.iter().find_map(|info| match info {
                    LinkInfo::Data(InfoData::Vlan(vlan)) => vlan_id_of(vlan),
                    _ => None,
                });
            }
            LinkAttribute::Link(index) => parent = Some(*index),
            LinkAttribute::Xdp(xdp) => {
                interface.xdp =
                    xdp.iter().any(|xdp| matches!(xdp, LinkXdp::Attached(how) if *how != XdpAttached::None));
            }
            _ => {}
        }
    }
    interface.vlan = parent.zip(vlan_id).map(|(parent, id)| Vlan { parent, id });
    interface
}

/// The id of an 802.1Q interface. Those of 802.1ad count their ids apart, and door 1 leaves their
/// frames to the stack.
fn vlan_id_of(vlan: &[InfoVlan]) -> Option<u16> {
    if vlan.contains(&InfoVlan::Protocol(VlanProtocol::Ieee8021Ad)) {
        return None;
    }
    vlan.iter().find_map(|info| match info {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

/// The interface's own address: on a point-to-point link, `Address` is the peer's.
fn own_address(attributes: &[AddressAttribute]) -> Option<IpAddr> {
    let local = attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    local.or_else(|| {
        attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_an_802_1q_interface_has_a_vlan_for_door_1() {
        let of = |protocol| vlan_id_of(&[InfoVlan::Protocol(protocol), InfoVlan::Id(7)]);
        assert_eq!(of(VlanProtocol::Ieee8021Q), Some(7));
        assert_eq!(of(VlanProtocol::Ieee8021Ad), None);
        assert_eq!(vlan_id_of(&[InfoVlan::Id(7)]), Some(7));
    }

    #[track_caller]
    fn check(glob: &str, matching: &[&str], other: &[&str]) {
        let glob: InterfaceGlob = glob.parse().unwrap();
        for name in matching {
            assert!(glob.matches(name), "{} matches {name}", glob.as_str());
        }
        for name in other {
            assert!(!glob.matches(name), "{} does not match {name}", glob.as_str());
        }
    }

    #[test]
    fn a_glob_matches_the_whole_name() {
        check("eth0", &["eth0"], &["eth", "eth00", "xeth0", ""]);
        check("eth*", &["eth0", "eth", "eth0.100"], &["veth0"]);
        check("*eth*0", &["veth10", "eth0", "xethx00"], &["eth1"]);
    }

    #[test]
    fn question_marks_stand_for_exactly_one_byte() {
        check("en?", &["eno", "en0"], &["en", "eno1"]);
        check("?*?", &["ab", "abc"], &["a", ""]);
        check("**", &["", "x"], &[]);
    }

    #[test]
    fn many_stars_end_in_time() {
        assert!(!name_matches(&"*a".repeat(2000), &"a".repeat(1999)));
    }

    #[test]
    fn names_that_cannot_exist_are_refused() {
        let error = |text: &str| text.parse::<InterfaceGlob>().unwrap_err();
        assert_eq!(error(""), InterfaceGlobError::Empty);
        assert_eq!(error("a/b"), InterfaceGlobError::BadCharacter);
        assert_eq!(error("a b"), InterfaceGlobError::BadCharacter);
        assert_eq!(error("abcdefghijklmnop"), InterfaceGlobError::TooLong);
        assert!("abcdefghijklmno*".parse::<InterfaceGlob>().is_ok());
    }

    fn ip(arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status().expect("iproute2 is installed");
        assert!(status.success(), "ip {arguments}");
    }

    /// Waits until the snapshot does what `wanted` asks, or fails after ten seconds.
    async fn until(
        receiver: &mut watch::Receiver<Vec<Interface>>,
        what: &str,
        wanted: impl Fn(&[Interface]) -> bool,
    ) {
        let seen = tokio::time::timeout(Duration::from_secs(10), receiver.wait_for(|now| wanted(now)));
        assert!(seen.await.is_ok(), "never seen: {what}");
    }

    #[test]
    #[ignore = "needs CAP_SYS_ADMIN, CAP_NET_ADMIN"]
    fn links_and_addresses_are_followed() {
        // A namespace of this thread's own: it goes with the thread, whatever the test does.
        let follower = std::thread::spawn(|| {
            #[expect(unsafe_code, reason = "std has no unshare")]
            // SAFETY: `unshare` takes no pointer; CLONE_NEWNET concerns this thread alone.
            let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(result, 0, "unshare: {}", io::Error::last_os_error());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut receiver = follow().await.unwrap();
                assert!(
                    receiver.borrow().iter().any(|i| i.name == "lo" && i.loopback && i.mac == Some([0; 6]))
                );
                ip("link add rota0 type veth peer name rota1");
                until(&mut receiver, "veth", |now| {
                    now.iter().any(|i| {
                        i.name == "rota0"
                            && i.kind.as_deref() == Some("veth")
                            && !i.up
                            && i.mtu == 1500
                            && i.mac.is_some_and(|mac| mac != [0; 6])
                    })
                })
                .await;
                ip("address add 192.0.2.1/24 dev rota0");
                ip("address add 2001:db8::1/64 dev rota0 nodad");
                ip("link set rota0 mtu 9000 up");
                until(&mut receiver, "addresses", |now| {
                    let wanted: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
                    now.iter()
                        .any(|i| i.up && i.mtu == 9000 && wanted.iter().all(|a| i.addresses.contains(a)))
                })
                .await;
                ip("address del 192.0.2.1/24 dev rota0");
                until(&mut receiver, "one address less", |now| {
                    now.iter().all(|i| !i.addresses.contains(&"192.0.2.1".parse().unwrap()))
                })
                .await;
                ip("link set rota1 name rota2");
                until(&mut receiver, "rename", |now| {
                    now.iter().any(|i| i.name == "rota2") && !now.iter().any(|i| i.name == "rota1")
                })
                .await;
                // More changes than one socket buffer holds, while nobody reads: what was lost on
                // the way is made up for by the snapshot.
                for round in 0..300 {
                    ip(&format!("link set rota0 mtu {}", 2000 + round));
                }
                until(&mut receiver, "the last of many", |now| now.iter().any(|i| i.mtu == 2299)).await;
                ip("link del rota0");
                until(&mut receiver, "removal", |now| !now.iter().any(|i| i.name.starts_with("rota"))).await;
            });
        });
        follower.join().unwrap();
    }
}
