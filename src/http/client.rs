//! Who a request is from: the peer, or whom a trusted proxy names. Pure.

use super::head::Head;
use crate::io::Peer;
use crate::network::Network;
use std::net::{IpAddr, SocketAddr};

/// The client's address. A peer outside of the trusted networks is the client itself, whatever it
/// says. What a trusted proxy says of whom it serves is believed, and so on: of the addresses in
/// all `X-Forwarded-For` fields, read from the last to the first, the first that is not trusted is
/// the client. What is no address ends the search at the one before: everything further left was
/// written by nobody we trust. `None`: it came over a Unix socket, and nobody we trust says more.
pub(super) fn client(peer: Peer, trusted: &[Network], head: &Head<'_>) -> Option<IpAddr> {
    let fields = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for"));
    let peer_address = peer.address().map(|address| address.ip().to_canonical());
    if trusted.is_empty() || peer == Peer::Gone {
        return peer_address;
    }
    let values: Vec<&[u8]> = fields.map(|(_, value)| value).collect();
    last_untrusted(peer_address, trusted, values.into_iter())
}

/// `None`: a Unix socket.
fn last_untrusted<'a>(
    peer: Option<IpAddr>,
    trusted: &[Network],
    forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> Option<IpAddr> {
    let is_trusted = |client: Option<IpAddr>| {
        trusted.iter().any(|network| match client {
            Some(address) => network.contains(address),
            None => *network == Network::UNIX,
        })
    };
    let mut client = peer;
    let hops = forwarded.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    for hop in hops {
        if !is_trusted(client) {
            break;
        }
        match address(hop) {
            Some(address) => client = Some(address.to_canonical()),
            None => break,
        }
    }
    client
}

/// An address of the field, which some proxies write with a port or in brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim_ascii();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(peer: &str, fields: &[&str], want: &str) {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let fields = fields.iter().map(|field| field.as_bytes());
        let peer: IpAddr = peer.parse().unwrap();
        let got = last_untrusted(Some(peer.to_canonical()), &trusted, fields);
        assert_eq!(got.unwrap().to_string(), want);
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        check("203.0.113.9", &["198.51.100.1"], "203.0.113.9");
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &[], "10.0.0.1");
        // What a client writes itself stands left of what the proxy adds.
        check("10.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &["1.1.1.1", "198.51.100.1, 10.0.0.7"], "198.51.100.1");
        check("10.0.0.1", &["10.0.0.2,10.0.0.3"], "10.0.0.2");
        check("10.0.0.1", &["1.1.1.1, unknown, 10.0.0.7"], "10.0.0.7");
        check("::1", &["198.51.100.1:4711"], "198.51.100.1");
        check("::1", &["[2001:db8::1]:4711"], "2001:db8::1");
        check("::1", &["[2001:db8::1]"], "2001:db8::1");
        check("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &["\u{ff}"], "10.0.0.1");
    }

    #[test]
    fn who_connects_over_a_unix_socket_may_be_a_trusted_proxy() {
        let address = |text: &str| text.parse::<IpAddr>().ok();
        let client = |trusted: &[&str], field: &str| {
            let trusted: Vec<Network> = trusted.iter().map(|text| text.parse().unwrap()).collect();
            last_untrusted(None, &trusted, [field.as_bytes()].into_iter())
        };
        assert_eq!(client(&["unix"], "1.1.1.1, 198.51.100.1"), address("198.51.100.1"));
        assert_eq!(client(&["unix", "10.0.0.0/8"], "1.1.1.1, 10.0.0.7"), address("1.1.1.1"));
        assert_eq!(client(&["unix"], "unknown"), None);
        assert_eq!(client(&["::/0", "0.0.0.0/0"], "198.51.100.1"), None);
    }
}
