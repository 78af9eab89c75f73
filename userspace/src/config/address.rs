//! Text -> [`HostPort`], where a listener binds.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// `host:port` as `statsd_exporter` takes it. An empty host stands for every address of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, without brackets; may be empty.
    host: String,
    port: u16,
}

/// Why a text is no `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("no port; write host:port, or :port for every address of the machine")]
    MissingPort,
    #[error("the port is no number from 0 to 65535")]
    BadPort,
    #[error("too many colons; write an IPv6 address in brackets, for example [::1]:9125")]
    Brackets,
}

impl HostPort {
    /// As configured, without brackets; may be empty.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port as configured; 0 lets the kernel choose.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The addresses to try, in order; a name is resolved now, and its first address, IPv4 if
    /// there is one, is the only one.
    ///
    /// # Errors
    ///
    /// What the resolver says. Never empty without an error.
    pub fn candidates(&self) -> io::Result<Vec<SocketAddr>> {
        if self.host.is_empty() {
            // One socket on `::` takes IPv4 as well. Where IPv6 is switched off it cannot be had.
            return Ok([IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)]
                .map(|ip| SocketAddr::new(ip, self.port))
                .to_vec());
        }
        let addresses: Vec<SocketAddr> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        match addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()) {
            Some(address) => Ok(vec![*address]),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        }
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(AddressError::MissingPort)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').ok_or(AddressError::Brackets)?,
            None if host.contains([':', '[', ']']) => return Err(AddressError::Brackets),
            None => host,
        };
        if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(AddressError::BadPort);
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| AddressError::BadPort)? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, candidates: &[&str]) {
        let address: HostPort = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
        let expected: Vec<SocketAddr> = candidates.iter().map(|a| a.parse().unwrap()).collect();
        assert_eq!(address.candidates().unwrap(), expected);
    }

    #[test]
    fn an_empty_host_is_every_address_of_both_families() {
        check(":9125", &["[::]:9125", "0.0.0.0:9125"]);
    }

    #[test]
    fn an_address_is_itself() {
        check("127.0.0.1:0", &["127.0.0.1:0"]);
        check("[::1]:9125", &["[::1]:9125"]);
        check("0.0.0.0:9125", &["0.0.0.0:9125"]);
    }

    #[test]
    fn a_bad_form_says_what_to_write() {
        let error = |text: &str| text.parse::<HostPort>().unwrap_err();
        assert_eq!(error("localhost"), AddressError::MissingPort);
        assert_eq!(error(""), AddressError::MissingPort);
        assert_eq!(error("::1:9125"), AddressError::Brackets);
        assert_eq!(error("[::1:9125"), AddressError::Brackets);
        for text in [":", ":http", ":65536", ":+1", ":-1", "h:"] {
            assert_eq!(error(text), AddressError::BadPort, "{text}");
        }
    }
}
