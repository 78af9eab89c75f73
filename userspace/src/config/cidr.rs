//! Text -> [`Cidr`], a range of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses: those that share the first `prefix_bits` bits with `network`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    network: IpAddr,
    prefix_bits: u8,
}

/// Why a text is no address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("not an address range; write it as 10.0.0.0/8 or fc00::/7")]
    Form,
    #[error("an {family} prefix has at most {bits_max} bits")]
    TooLong { family: &'static str, bits_max: u8 },
    #[error("bits are set behind the prefix; did you mean {0}?")]
    HostBits(Cidr),
}

impl Cidr {
    /// First address of the range.
    #[must_use]
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// At most 32 for IPv4, 128 for IPv6.
    #[must_use]
    pub fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }

    /// Whether `address` lies in the range. An IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        mask(address.to_canonical(), self.prefix_bits) == self.network
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// `address/bits`, or an address alone for a range of one.
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Form)?;
        let (family, bits_max) = if address.is_ipv4() { ("IPv4", 32) } else { ("IPv6", 128) };
        let prefix_bits = match bits {
            None => bits_max,
            Some(bits) if bits.is_empty() || !bits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(CidrError::Form);
            }
            Some(bits) => match bits.parse::<u8>() {
                Ok(bits) if bits <= bits_max => bits,
                _ => return Err(CidrError::TooLong { family, bits_max }),
            },
        };
        let cidr = Self { network: mask(address, prefix_bits), prefix_bits };
        if cidr.network == address { Ok(cidr) } else { Err(CidrError::HostBits(cidr)) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_bits)
    }
}

/// `address` with everything behind its first `bits` bits cleared.
fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(bits))).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(u32::from(bits))).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cidr: &str, inside: &[&str], outside: &[&str]) {
        let cidr: Cidr = cidr.parse().unwrap();
        assert_eq!(cidr.to_string().parse(), Ok(cidr));
        for address in inside {
            assert!(cidr.contains(address.parse().unwrap()), "{address} in {cidr}");
        }
        for address in outside {
            assert!(!cidr.contains(address.parse().unwrap()), "{address} not in {cidr}");
        }
    }

    #[test]
    fn a_range_holds_what_shares_its_prefix() {
        check("10.0.0.0/8", &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], &["11.0.0.0", "::a00:0"]);
        check("192.168.1.7", &["192.168.1.7"], &["192.168.1.6"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1"]);
        check("fc00::/7", &["fd12::1"], &["fe80::1", "10.0.0.1"]);
        check("::/0", &["::1", "ffff::"], &["127.0.0.1", "::ffff:127.0.0.1"]);
    }

    #[test]
    fn a_wrong_range_says_what_is_wrong() {
        for text in ["", "10/8", "eth0", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8"] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError::Form), "{text}");
        }
        assert!(matches!("10.0.0.0/33".parse::<Cidr>(), Err(CidrError::TooLong { bits_max: 32, .. })));
        assert!(matches!("::/999".parse::<Cidr>(), Err(CidrError::TooLong { bits_max: 128, .. })));
        let error = "10.1.2.3/8".parse::<Cidr>().unwrap_err();
        assert_eq!(error.to_string(), "bits are set behind the prefix; did you mean 10.0.0.0/8?");
    }
}
