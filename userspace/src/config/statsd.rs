//! Listeners' and the relay's flags -> [`Statsd`].

use super::{ConfigError, HostPort, UnixAddress, flag, units};
use crate::cli::Cli;

/// What a socket may keep for us; the kernel doubles it, and counts in 31 bits.
const RECEIVE_BUFFER_BYTES_MAX: u64 = 1 << 30;
/// Each UDP socket has a thread and 4 MiB of address space.
const UDP_SOCKETS_MAX: usize = 16;
/// Each target has a thread and a queue.
const RELAY_TARGETS_MAX: usize = 16;
/// The largest payload that UDP over IPv4 carries.
const PACKET_BYTES_MAX: u64 = 65_507;

/// Where lines come from, and where else they go. All listeners may be off: the service manager may
/// have sockets for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statsd {
    pub udp: Vec<HostPort>,
    pub tcp: Option<HostPort>,
    pub unixgram: Option<UnixAddress>,
    pub unix: Option<UnixAddress>,
    pub unix_mode: SocketMode,
    /// `None` lets the listener choose.
    pub receive_buffer_bytes: Option<u32>,
    pub relay: Relay,
}

/// Permissions of a Unix socket's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketMode {
    Bits(u32),
    /// No octal number: only a warning, as in `statsd_exporter`, and the umask decides.
    Unreadable(String),
}

/// Where raw lines are relayed to; nowhere unless there is a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    pub targets: Vec<HostPort>,
    /// Bytes of a packet, at most 65,507; `None` sends each line alone.
    pub packet_bytes_max: Option<usize>,
}

pub(super) fn load(cli: &Cli) -> Result<Statsd, ConfigError> {
    let flags = &cli.listeners;
    let udp = addresses("statsd.listen-udp", &flags.listen_udp, UDP_SOCKETS_MAX)?;
    let tcp = optional("statsd.listen-tcp", &flags.listen_tcp)?;
    let unixgram = optional("statsd.listen-unixgram", flags.listen_unixgram.as_deref().unwrap_or_default())?;
    let unix = optional("statsd.listen-unix", flags.listen_unix.as_deref().unwrap_or_default())?;
    let receive_buffer_bytes =
        flag("statsd.read-buffer", &flags.read_buffer, |text| match units::parse_size(text) {
            Ok(0) => Ok(None),
            Ok(bytes) if bytes <= RECEIVE_BUFFER_BYTES_MAX => {
                u32::try_from(bytes).map(Some).map_err(|_| units::UnitError::TooLarge)
            }
            Ok(_) => Err(units::UnitError::TooLarge),
            Err(error) => Err(error),
        })?;
    let unix_mode = socket_mode(&flags.unixsocket_mode);
    Ok(Statsd { udp, tcp, unixgram, unix, unix_mode, receive_buffer_bytes, relay: relay(cli)? })
}

/// The value, or `None` for an empty text.
fn optional<T>(name: &'static str, text: &str) -> Result<Option<T>, ConfigError>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    if text.is_empty() { Ok(None) } else { flag(name, text, |text| text.parse().map(Some)) }
}

/// Addresses without the empty ones.
fn addresses(name: &'static str, texts: &[String], max: usize) -> Result<Vec<HostPort>, ConfigError> {
    let mut addresses = Vec::new();
    for text in texts {
        addresses.extend(optional(name, text)?);
    }
    if addresses.len() > max {
        return flag(name, "", |_| Err(format!("at most {max} of them")));
    }
    Ok(addresses)
}

fn socket_mode(text: &str) -> SocketMode {
    match u32::from_str_radix(text, 8) {
        Ok(bits) => SocketMode::Bits(bits & 0o777),
        Err(_) => SocketMode::Unreadable(text.to_owned()),
    }
}

fn relay(cli: &Cli) -> Result<Relay, ConfigError> {
    let flags = &cli.listeners;
    let targets = addresses("statsd.relay.address", &flags.relay_address, RELAY_TARGETS_MAX)?;
    for (n, target) in targets.iter().enumerate() {
        if targets[..n].contains(target) {
            return flag("statsd.relay.address", &target.to_string(), |_| Err("it is given twice"));
        }
        if target.host().is_empty() || target.port() == 0 {
            return flag("statsd.relay.address", &target.to_string(), |_| {
                Err("a target has a host and a port, for example 10.0.0.1:8125")
            });
        }
    }
    // An unsigned flag of statsd_exporter, so 0x100 does as well as 4Ki.
    let bytes = flag("statsd.relay.packet-length", &flags.relay_packet_length, |text| {
        units::parse_unsigned(text).or_else(|_| units::parse_size(text))
    })?;
    let bytes = usize::try_from(bytes.min(PACKET_BYTES_MAX)).expect("65,507 is small");
    Ok(Relay { targets, packet_bytes_max: (bytes > 0).then_some(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(arguments: &[&str]) -> Result<Statsd, ConfigError> {
        let arguments = std::iter::once(&"rotameter").chain(arguments);
        super::load(&Cli::from_arguments(arguments).expect("the arguments parse"))
    }

    #[test]
    fn udp_repeats_and_an_empty_address_switches_it_off() {
        let two = load(&["--statsd.listen-udp=:9125", "--statsd.listen-udp=127.0.0.1:8125"]).unwrap();
        assert_eq!(two.udp, [":9125".parse().unwrap(), "127.0.0.1:8125".parse().unwrap()]);
        let none = load(&["--statsd.listen-udp=", "--statsd.listen-tcp="]).unwrap();
        assert!(none.udp.is_empty() && none.tcp.is_none());
        assert!(load(&["--statsd.listen-udp=:1"; UDP_SOCKETS_MAX + 1]).is_err());
    }

    #[test]
    fn a_mode_is_octal_and_nothing_else_ends_the_start() {
        assert_eq!(load(&[]).unwrap().unix_mode, SocketMode::Bits(0o755));
        assert_eq!(load(&["--statsd.unixsocket-mode=0777"]).unwrap().unix_mode, SocketMode::Bits(0o777));
        for bad in ["rwx", "", "799", "-1", "7777777777777"] {
            let mode = load(&[&format!("--statsd.unixsocket-mode={bad}")]).unwrap().unix_mode;
            assert_eq!(mode, SocketMode::Unreadable(bad.to_owned()));
        }
    }

    #[test]
    fn a_relay_has_whole_targets_and_packets_that_udp_carries() {
        let relay = load(&["--statsd.relay.address=a:1", "--statsd.relay.address=b:2"]).unwrap().relay;
        assert_eq!(relay.targets, ["a:1".parse().unwrap(), "b:2".parse().unwrap()]);
        assert_eq!(relay.packet_bytes_max, Some(1400));
        let length = |text: &str| {
            load(&[&format!("--statsd.relay.packet-length={text}")]).unwrap().relay.packet_bytes_max
        };
        assert_eq!((length("0"), length("20"), length("100000")), (None, Some(20), Some(65_507)));
        assert_eq!((length("0x20"), length("1Ki")), (Some(32), Some(1024)));
        assert!(load(&["--statsd.relay.address=a:1"; 2]).is_err(), "twice");
        for bad in [":8125", "host:0", "host"] {
            assert!(load(&[&format!("--statsd.relay.address={bad}")]).is_err(), "{bad}");
        }
    }
}
