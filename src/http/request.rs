//! A request as its handler sees it: borrowed from the bytes that were received. Pure.

use super::client::client;
use super::head::{Head, Version};
use crate::io::{Fd, Peer, Token};
use crate::network::Network;
use crate::protocol::Cx;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// A request. All of it is borrowed; nothing was copied or decoded that was not asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    head: &'a Head<'a>,
    body: &'a [u8],
    token: Token,
    fd: &'a Fd,
    lookup: fn(&Fd) -> Peer,
    proxies: &'static [Network],
}

impl<'a> Request<'a> {
    pub(super) fn new(
        head: &'a Head<'a>,
        body: &'a [u8],
        cx: &Cx<'a>,
        proxies: &'static [Network],
    ) -> Self {
        Self { head, body, token: cx.token, fd: cx.fd, lookup: cx.lookup, proxies }
    }

    /// How to find the peer's address; for as long as the connection is open.
    pub(crate) fn socket(&self) -> (Fd, fn(&Fd) -> Peer) {
        (Fd::new(self.fd.raw()), self.lookup)
    }

    /// The connection it came on.
    pub(crate) fn token(&self) -> Token {
        self.token
    }

    /// `GET`, `POST` …, as sent: methods are case-sensitive.
    #[must_use]
    pub fn method(&self) -> &'a str {
        self.head.method
    }

    /// The target as sent: path and query, or a whole URL from a client that takes us for a proxy.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.head.target
    }

    /// The path of the target, still percent-encoded; never empty.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.head.path()
    }

    /// What follows the first `?`, still percent-encoded.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.head.query()
    }

    /// The first value of this name in the query, decoded as forms encode it: `+` is a space. What
    /// is not UTF-8 then is replaced by U+FFFD. A name without `=` has the empty value.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<Cow<'a, str>> {
        query_value(self.query()?, name)
    }

    /// HTTP/1.0 or 1.1.
    #[must_use]
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The value of the first field of this name, whatever its case. It may hold bytes over 127.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.head.header(name)
    }

    /// All fields in the order they came.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.head.headers()
    }

    /// Name and port of the server that the client means.
    #[must_use]
    pub fn host(&self) -> Option<&'a str> {
        self.head.host()
    }

    /// The whole body; empty when there is none, or when it is streamed to an upload.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The client's address: the peer's, or, when the peer is one of `trusted_proxies`, the one
    /// that its `X-Forwarded-For` names (no proxy we trust can be made to say anything else).
    /// `None` on a Unix socket, unless those who connect there are trusted (`unix`) and name one.
    /// Costs a system call.
    #[must_use]
    pub fn client(&self) -> Option<IpAddr> {
        client((self.lookup)(self.fd), self.proxies, self.head)
    }

    /// The peer's address; `None` on a Unix socket. Costs a system call.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        (self.lookup)(self.fd).address()
    }
}

/// The first value of a name in a query, decoded as forms encode it.
pub(super) fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_form(key) == name).then(|| decode_form(value))
    })
}

fn decode_form(text: &str) -> Cow<'_, str> {
    if !text.contains('+') {
        return into_text(percent_decode(text.as_bytes()));
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(into_text(percent_decode(spaced.as_bytes())).into_owned())
}

fn into_text(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Replaces each `%` and two hexadecimal digits by their byte (RFC 3986 §2.1). Any other `%` stays.
pub(crate) fn percent_decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = bytes.iter().position(|byte| *byte == b'%') else {
        return Cow::Borrowed(bytes);
    };
    let mut decoded = bytes[..first].to_vec();
    let mut at = first;
    while let Some(byte) = bytes.get(at) {
        let pair = (*byte == b'%').then(|| hex(bytes.get(at + 1)).zip(hex(bytes.get(at + 2))));
        if let Some((high, low)) = pair.flatten() {
            decoded.push(high << 4 | low);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    Cow::Owned(decoded)
}

fn hex(digit: Option<&u8>) -> Option<u8> {
    match digit? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        digit @ b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Config;
    use crate::http::head::{HeadLimits, Storage, parse};
    use crate::io::{Instant, Kind};
    use crate::ipc::board::Line;
    use crate::protocol::Out;

    pub(crate) fn with_request(target: &str, check: impl FnOnce(&Request<'_>)) {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\nX: \x31\r\n\r\n");
        with_head(&head, check);
    }

    pub(crate) fn with_head(bytes: &str, check: impl FnOnce(&Request<'_>)) {
        let mut storage = Storage::new();
        let limits = HeadLimits::from(&Config::default());
        let head = parse(bytes.as_bytes(), &mut storage, &limits).unwrap().unwrap();
        let fd = Fd::new(-1);
        let (mut buffer, mut body) = (Vec::new(), None);
        let cx = Cx {
            now: Instant::default(),
            out: Out::new(&mut buffer, &mut body, 0, 0),
            stats: &Line::detached(),
            token: Token::new(Kind::Recv, 0, 0),
            fd: &fd,
            lookup: |_| Peer::Tcp(([127, 0, 0, 1], 80).into()),
        };
        check(&Request::new(&head, b"body", &cx, &[]));
    }

    #[test]
    fn a_request_shows_what_was_sent() {
        with_request("/a%20b?c=d", |request| {
            assert_eq!(request.method(), "GET");
            assert_eq!(request.target(), "/a%20b?c=d");
            assert_eq!(request.path(), "/a%20b");
            assert_eq!(request.query(), Some("c=d"));
            assert_eq!(request.version(), Version::Http11);
            assert_eq!(request.header("x"), Some(&b"1"[..]));
            assert_eq!(request.headers().len(), 2);
            assert_eq!(request.host(), Some("a.example"));
            assert_eq!(request.body(), b"body");
            assert_eq!(request.peer(), Some(([127, 0, 0, 1], 80).into()));
        });
    }

    #[track_caller]
    fn check(target: &str, want: Option<&str>) {
        with_request(target, |request| {
            assert_eq!(request.query_value("name").as_deref(), want, "{target}");
        });
    }

    #[test]
    fn values_of_the_query_are_decoded() {
        check("/", None);
        check("/?", None);
        check("/?nam=1&names=2", None);
        check("/?name", Some(""));
        check("/?name=", Some(""));
        check("/?a=b&name=1&name=2", Some("1"));
        check("/?n%61me=x%20y+z", Some("x y z"));
        check("/?name=%e2%82%ac", Some("€"));
        check("/?name=a=b", Some("a=b"));
        check("/?name=100%", Some("100%"));
        check("/?name=%zz%4", Some("%zz%4"));
        check("/?name=%ff", Some("\u{fffd}"));
        check("/?name=%2B", Some("+"));
    }
}
