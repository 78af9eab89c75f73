//! Files of /proc/net -> datagrams that nobody takes, and sockets that stand before ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::finding::{Finding, Severity};

/// Sockets of the machine that are looked at.
const SOCKETS_MAX: usize = 100_000;

/// A file of the kernel's; empty where it cannot be read.
pub(super) fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A bound UDP socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    address: IpAddr,
    port: u16,
    inode: u64,
}

pub(super) fn sockets() -> Vec<Socket> {
    let mut all = of_table(&read("/proc/net/udp"));
    all.extend(of_table(&read("/proc/net/udp6")));
    all
}

/// The sockets of `/proc/net/udp` or `udp6`.
fn of_table(table: &str) -> Vec<Socket> {
    let rows = table.lines().skip(1).take(SOCKETS_MAX);
    rows.filter_map(|row| {
        let mut fields = row.split_ascii_whitespace();
        let (address, port) = fields.nth(1)?.split_once(':')?;
        Some(Socket {
            address: address_of(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            inode: fields.nth(7)?.parse().ok()?,
        })
    })
    .collect()
}

/// Words in the machine's byte order, written in hex.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes.get_mut(at * 4..at * 4 + 4)?.copy_from_slice(&word(at)?);
            }
            Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

/// Sockets that share a port of ours, so that one of them gets what was meant for the other.
pub(super) fn shadowed(listening: &[u16], sockets: &[Socket]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for port in listening {
        let there: Vec<&Socket> = sockets.iter().filter(|socket| socket.port == *port).collect();
        if there.len() < 2 {
            continue;
        }
        let shown: Vec<String> = there
            .iter()
            .take(8)
            .map(|socket| format!("{} (inode {}{})", socket.address, socket.inode, owner(socket.inode)))
            .collect();
        findings.push(Finding {
            rule: "shadowed",
            severity: Severity::Warning,
            text: format!(
                "several sockets are bound to UDP port {port}: the one with the closer address, or the newer \
                 one, takes datagrams that were meant for the other"
            ),
            evidence: shown.join(", "),
            way_out: format!(
                "`ss -lunp 'sport = :{port}'` names the processes; stop the one that should not be there"
            ),
        });
    }
    findings
}

/// The process that has the socket, as far as we may see that.
fn owner(inode: u64) -> String {
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    for process in processes.filter(|entry| entry.file_name().to_str().is_some_and(is_process)) {
        let descriptors = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut links = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        if links.any(|link| link.as_os_str() == wanted.as_str()) {
            let name = read(&process.path().join("comm").display().to_string());
            return format!(", {} {}", name.trim(), process.file_name().display());
        }
    }
    String::new()
}

/// Counters of UDP, machine-wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UdpCounters {
    /// Datagrams to a port where nobody listens.
    no_ports: u64,
    /// Datagrams that a full queue refused.
    receive_buffer_errors: u64,
}

/// Of `/proc/net/snmp`.
pub(super) fn udp_counters(snmp: &str) -> Option<UdpCounters> {
    let mut rows = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (rows.next()?.split(' '), rows.next()?.split(' '));
    let pairs: Vec<(&str, &str)> = names.zip(values).collect();
    let value = |name: &str| pairs.iter().find(|(found, _)| *found == name)?.1.parse().ok();
    Some(UdpCounters { no_ports: value("NoPorts")?, receive_buffer_errors: value("RcvbufErrors")? })
}

/// What two looks at them say.
pub(super) fn unwanted(
    before: UdpCounters,
    after: UdpCounters,
    between: Duration,
    listening: &[u16],
) -> Option<Finding> {
    let grown = after.no_ports.saturating_sub(before.no_ports);
    let ports: Vec<String> = listening.iter().map(u16::to_string).collect();
    let other = if listening.contains(&8125) { "9125" } else { "8125" };
    (grown > 0 && !listening.is_empty()).then(|| Finding {
        rule: "nobody-listens",
        severity: Severity::Warning,
        text: "something sends UDP to a port of this machine where nobody listens".to_owned(),
        evidence: format!(
            "NoPorts of /proc/net/snmp grew by {grown} in {between:?}; the daemon listens on {}",
            ports.join(", ")
        ),
        way_out: format!(
            "Airflow's default port is 8125, statsd_exporter's 9125: if it is that, start the daemon with \
             --statsd.listen-udp=:{} --statsd.listen-udp=:{other}; `tcpdump -ni any icmp` shows the port",
            ports[0]
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  513: 0100007F:23A5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 100 2 0000 0
  514: 00000000:23A5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 101 2 0000 0
  515: 00000000:1FBD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 102 2 0000 0
  odd row
";
    const TABLE6: &str = "head
  1: 00000000000000000000000000000000:23A5 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 103 2 0 0
";

    #[test]
    fn two_sockets_on_our_port_are_told() {
        let mut sockets = of_table(TABLE);
        assert_eq!(sockets.len(), 3);
        assert_eq!((sockets[0].address.to_string().as_str(), sockets[0].port), ("127.0.0.1", 9125));
        assert!(shadowed(&[8125], &sockets).is_empty());
        let found = shadowed(&[9125], &sockets);
        assert!(found[0].evidence.contains("127.0.0.1 (inode 100"), "{found:?}");
        sockets = of_table(TABLE6);
        assert_eq!(sockets[0].address.to_string(), "::");
    }

    #[test]
    fn datagrams_to_closed_ports_are_told() {
        let snmp = |no_ports: u32| {
            format!("Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 1 {no_ports} 0 0 3\n")
        };
        let counters = |no_ports| udp_counters(&snmp(no_ports)).unwrap();
        assert!(unwanted(counters(5), counters(5), Duration::from_secs(2), &[9125]).is_none());
        let found = unwanted(counters(5), counters(9), Duration::from_secs(2), &[9125]).unwrap();
        assert!(found.evidence.starts_with("NoPorts of /proc/net/snmp grew by 4 in 2s"), "{found:?}");
        assert!(found.way_out.contains("--statsd.listen-udp=:8125"));
        assert_eq!(udp_counters("Udp: a b\n"), None);
        assert_eq!(udp_counters(""), None);
    }

    #[test]
    fn our_own_socket_is_found_with_its_process() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = sockets().into_iter().find(|socket| socket.port == port).expect("it is in the table");
        assert!(owner(found.inode).ends_with(&std::process::id().to_string()), "{}", owner(found.inode));
    }
}
