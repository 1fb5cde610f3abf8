//! Ranges of addresses. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A range of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address; or `unix`: everybody who
/// connects over a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address, as 128 bits: an IPv4 address stands in its IPv4-mapped form.
    first: u128,
    /// How many of the 128 bits are fixed.
    bits: u32,
}

impl Network {
    /// Whoever connects over a Unix socket: no address is in it.
    pub const UNIX: Self = Self { first: 0, bits: UNIX_BITS };

    /// Whether the address is in it. An IPv4-mapped IPv6 address is the IPv4 address it maps.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        if *self == Self::UNIX {
            return false;
        }
        (number(address) ^ self.first).checked_shr(u128::BITS - self.bits).unwrap_or(0) == 0
    }
}

/// Longer than any prefix.
const UNIX_BITS: u32 = u128::BITS + 1;

/// An address as 128 bits, IPv4 in its mapped form (RFC 4291 §2.5.5.2).
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "unix" {
            return Ok(Self::UNIX);
        }
        let (address, length) = text.split_once('/').map_or((text, None), |(a, n)| (a, Some(n)));
        let address: IpAddr = address.parse().map_err(drop)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(drop)?
            }
            Some(_) => return Err(()),
        };
        if length > most {
            return Err(());
        }
        let bits = length + (u128::BITS - most);
        let host = u128::MAX.checked_shr(bits).unwrap_or(0);
        // Bits behind the prefix are a mistake more often than not: said, not corrected.
        if number(address) & host != 0 {
            return Err(());
        }
        Ok(Self { first: number(address), bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::UNIX {
            return f.write_str("unix");
        }
        let address = IpAddr::V6(self.first.into()).to_canonical();
        let bits = if address.is_ipv4() { self.bits - 96 } else { self.bits };
        write!(f, "{address}/{bits}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
            ("10.0.0.1", "::ffff:10.0.0.1", "::10.0.0.1"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "::2"),
        ] {
            let network: Network = text.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{text} {outside}");
            assert_eq!(network.to_string().parse(), Ok(network), "{text}");
        }
        assert_eq!("unix".parse(), Ok(Network::UNIX));
        assert_eq!(Network::UNIX.to_string(), "unix");
        assert!(!Network::UNIX.contains("::".parse().unwrap()));
        let all: Network = "::/0".parse().unwrap();
        assert!(all.contains("10.0.0.1".parse().unwrap()));
        for text in ["", "10.0.0.0/33", "10.0.0.1/8", "::/129", "10.0.0.0/", "10.0.0.0/+8", "x"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
