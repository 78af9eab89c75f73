//! Interfaces, sockets -> the ways on which a frame for one of our sockets comes in.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use ingest_ebpf::layout::{LISTEN_LOOPBACK, LISTEN_VIRTUAL, ListenKey, address_words};

use super::interfaces::Interface;

/// Every way on which a frame for one of `sockets` can come in at an interface that `is_attached`, with the flags of
/// its entry. In the order in which they deserve a place, for the kernel's map has a bound: an interface's own
/// addresses first, then those of real cards, then those of everything else.
pub(super) fn ways_in(
    interfaces: &[Interface],
    sockets: &[SocketAddr],
    is_attached: impl Fn(u32) -> bool,
) -> Vec<(ListenKey, u32)> {
    let mut ways = Vec::new();
    for interface in interfaces.iter().filter(|interface| is_attached(interface.index)) {
        let flags = match interface.kind.as_deref() {
            // Checksums are computed where a datagram leaves the machine, which it does not here.
            _ if interface.loopback => LISTEN_VIRTUAL | LISTEN_LOOPBACK,
            Some("veth") => LISTEN_VIRTUAL,
            _ => 0,
        };
        let tagged = interfaces.iter().filter_map(|other| {
            let vlan = other.vlan.filter(|vlan| vlan.parent == interface.index)?;
            Some((other, vlan.id))
        });
        for (entrance, vlan) in std::iter::once((interface, 0)).chain(tagged) {
            let Some(mac) = entrance.mac else { continue };
            let own = own_addresses(interfaces, entrance);
            for socket in sockets {
                for (rank, address) in addresses_of(*socket, &own) {
                    let key = ListenKey {
                        interface: interface.index,
                        port: socket.port().to_be(),
                        mac,
                        vlan: vlan.to_be(),
                        padding: 0,
                        address: address_words(octets(address)),
                    };
                    ways.push((rank, key, flags));
                }
            }
        }
    }
    // Stable: within a rank by interface.
    ways.sort_by_key(|(rank, ..)| *rank);
    let mut seen = HashSet::new();
    ways.retain(|(_, key, _)| seen.insert(*key));
    ways.into_iter().map(|(_, key, flags)| (key, flags)).collect()
}

/// How much an address deserves a place; less is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Own,
    RealCard,
    Other,
}

/// The addresses that the stack answers for to a frame that came in at `entrance`: all that this machine has, but
/// link-local ones only where they are, and on the loopback device, by which the machine sends to its own.
fn own_addresses(interfaces: &[Interface], entrance: &Interface) -> Vec<(Rank, IpAddr)> {
    let mut own = Vec::new();
    for interface in interfaces {
        let here = interface.index == entrance.index;
        let rank = match &interface.kind {
            _ if here => Rank::Own,
            None => Rank::RealCard,
            Some(_) => Rank::Other,
        };
        let reachable = |address: &&IpAddr| match address {
            // Nothing on a wire goes to a loopback address; the stack drops what claims to.
            address if address.is_loopback() => entrance.loopback,
            IpAddr::V6(address) if address.is_unicast_link_local() => here || entrance.loopback,
            _ => true,
        };
        own.extend(interface.addresses.iter().filter(reachable).map(|address| (rank, *address)));
    }
    own
}

/// The addresses to which a datagram for `socket` may be sent.
fn addresses_of(socket: SocketAddr, own: &[(Rank, IpAddr)]) -> Vec<(Rank, IpAddr)> {
    let those = |wanted: &dyn Fn(&IpAddr) -> bool| {
        own.iter().copied().filter(|(_, address)| wanted(address)).collect::<Vec<_>>()
    };
    match socket.ip() {
        // A wildcard socket over IPv6 takes both families, as the listener binds it.
        IpAddr::V6(address) if address.is_unspecified() => own.to_vec(),
        IpAddr::V4(address) if address.is_unspecified() => those(&IpAddr::is_ipv4),
        // Nothing goes there where that is not our own.
        address if address.is_loopback() => those(&|own| *own == address),
        address => vec![(Rank::Own, address)],
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u8, kind: Option<&str>, addresses: &[&str]) -> Interface {
        Interface {
            index: index.into(),
            name: format!("i{index}"),
            mac: Some([2, 0, 0, 0, 0, index]),
            mtu: 1500,
            up: true,
            loopback: false,
            kind: kind.map(str::to_owned),
            vlan: None,
            xdp: false,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    fn key(index: u8, address: &str) -> ListenKey {
        ListenKey {
            interface: index.into(),
            port: 9125_u16.to_be(),
            mac: [2, 0, 0, 0, 0, index],
            vlan: 0,
            padding: 0,
            address: address_words(octets(address.parse().unwrap())),
        }
    }

    #[track_caller]
    fn check(socket: &str, expected: &[ListenKey]) {
        let interfaces = [
            interface(1, Some("dummy"), &["10.96.0.1"]),
            interface(2, None, &["10.0.0.1", "fe80::2"]),
            interface(3, Some("veth"), &["10.1.0.1", "fe80::3", "127.0.0.9"]),
        ];
        let ways = ways_in(&interfaces, &[socket.parse().unwrap()], |index| index == 3);
        assert_eq!(ways.iter().map(|(key, _)| *key).collect::<Vec<_>>(), expected);
        assert!(ways.iter().all(|(_, flags)| *flags == LISTEN_VIRTUAL));
    }

    #[test]
    fn a_wildcard_socket_listens_on_every_address_of_its_families_the_likeliest_first() {
        let v4 = ["10.1.0.1", "10.0.0.1", "10.96.0.1"].map(|address| key(3, address));
        check("0.0.0.0:9125", &v4);
        check("[::]:9125", &[key(3, "10.1.0.1"), key(3, "fe80::3"), v4[1], v4[2]]);
    }

    #[test]
    fn a_socket_with_an_address_listens_there_unless_it_is_a_loopback_one() {
        check("10.0.0.9:9125", &[key(3, "10.0.0.9")]);
        check("127.0.0.9:9125", &[]);
    }
}
