//! What is sent: the target, requests as bytes, and in which order several of them rotate. Pure.

use super::wrong;
use crate::error::Error;
use crate::io::Address;
use std::path::PathBuf;
use std::sync::Arc;

/// Where to connect and what to ask for, as an URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host as the Host field names it.
    pub host: String,
    /// Path and query; begins with `/`.
    pub path: String,
    /// Where that is; a name is looked up with [`Target::addresses`].
    pub place: Place,
}

/// The place of a target before a name is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `host:port`, for the resolver.
    Name(String),
    /// A Unix socket.
    Path(PathBuf),
}

impl Target {
    /// Reads `http://HOST[:PORT][/PATH]`, with the scheme or without, `http://[IPv6]:PORT/`, or a
    /// Unix socket as nginx writes it: `unix:SOCKET[:/PATH]`.
    ///
    /// # Errors
    ///
    /// `https`, which is not offered; no host; characters that a request line may not carry.
    pub fn parse(url: &str) -> Result<Self, Error> {
        if url.starts_with("https:") {
            return Err(wrong(format!("{url}: no TLS here: measure the plain port behind it")));
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(format!("{url:?}: an URL has no spaces; write %20")));
        }
        let rest = url.strip_prefix("http://").unwrap_or(url);
        if let Some(rest) = rest.strip_prefix("unix:") {
            let (socket, path) = rest.split_once(':').unwrap_or((rest, "/"));
            return Self::new(
                "localhost",
                path,
                Place::Path(socket.into()),
                socket.is_empty(),
                url,
            );
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(split);
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let name = if has_port { host.to_owned() } else { format!("{host}:80") };
        let empty = host.is_empty() || host.starts_with(':') || host.contains('@');
        Self::new(host, path, Place::Name(name), empty, url)
    }

    fn new(host: &str, path: &str, place: Place, wrong_: bool, url: &str) -> Result<Self, Error> {
        if wrong_ {
            return Err(wrong(format!("{url}: expected http://HOST[:PORT][/PATH] or unix:SOCKET")));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { host: host.to_owned(), path, place })
    }

    /// Where to connect: one address or more, in the order of the resolver, which may take a while.
    ///
    /// # Errors
    ///
    /// There is no such name.
    pub fn addresses(&self) -> Result<Vec<Address>, Error> {
        let name = match &self.place {
            Place::Path(path) => return Ok(vec![Address::Unix(path.clone())]),
            Place::Name(name) => name,
        };
        let found = std::net::ToSocketAddrs::to_socket_addrs(name.as_str())
            .map_err(|error| wrong(format!("{name}: {error}")))?;
        let found: Vec<Address> = found.map(Address::Tcp).collect();
        if found.is_empty() { Err(wrong(format!("{name}: no address"))) } else { Ok(found) }
    }
}

/// One request of a mix: its bytes, how often it comes, and what its reply must be.
#[derive(Clone, Debug)]
pub struct Template {
    /// As it goes out.
    pub bytes: Arc<[u8]>,
    /// It is a HEAD: its reply has no body.
    pub head: bool,
    /// So many of the sum of all weights.
    pub weight: u32,
    /// What its reply must be.
    pub expect: Expect,
}

/// What a reply must be. Any other is an error: it does not count as answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// This status; `None`: any below 400.
    pub status: Option<u16>,
    /// And this body.
    pub body: ExpectBody,
}

/// What a body must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExpectBody {
    /// Anything.
    #[default]
    Any,
    /// The same as that of the first right reply to the same request.
    SameAsFirst,
    /// Exactly this.
    Exactly(Arc<[u8]>),
}

impl Template {
    /// A request built from its parts. `fields`: `Name: value` each; a Host of ours gives way to
    /// one of theirs, and Content-Length is added where there is a body.
    ///
    /// # Errors
    ///
    /// A method that is no word, a field without a colon or with a line break.
    pub fn build(
        target: &Target,
        method: &str,
        fields: &[String],
        body: &[u8],
    ) -> Result<Self, Error> {
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(wrong(format!("{method:?}: expected a method, such as POST")));
        }
        let mut head = format!("{method} {} HTTP/1.1\r\n", target.path);
        if !fields.iter().any(|field| is_named(field, "host")) {
            head += &format!("Host: {}\r\n", target.host);
        }
        for field in fields {
            let name = field.split(':').next().unwrap_or_default();
            let is_line = field.contains(':') && !field.contains(['\r', '\n', '\0']);
            if !is_line || name.is_empty() || name.contains(' ') {
                return Err(wrong(format!(
                    "{field:?}: expected a field, such as Accept: text/html"
                )));
            }
            head += field;
            head += "\r\n";
        }
        let has_length = fields.iter().any(|field| is_named(field, "content-length"));
        if !has_length && (!body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH")) {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        Ok(Self::of(method, head, body))
    }

    /// A request from a file: a request line, fields, an empty line, a body. Lines may end in LF
    /// alone; Host and Content-Length are added if they are missing; a last line break behind the
    /// head only ends it.
    ///
    /// # Errors
    ///
    /// No request line, or a head that is not text.
    pub fn from_file(target: &Target, bytes: &[u8]) -> Result<Self, Error> {
        let (head, body) = split_head(bytes);
        let head = str::from_utf8(head).map_err(|_| wrong("the head of a request is no text"))?;
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !path.starts_with('/') || words.next() != Some("HTTP/1.1") || words.next().is_some() {
            return Err(wrong(format!("{first:?}: expected METHOD /path HTTP/1.1")));
        }
        let fields: Vec<String> = lines.filter(|line| !line.is_empty()).map(String::from).collect();
        let target = Target { path: path.to_owned(), ..target.clone() };
        Self::build(&target, method, &fields, body)
    }

    fn of(method: &str, mut head: String, body: &[u8]) -> Self {
        head += "\r\n";
        let bytes = [head.as_bytes(), body].concat().into();
        Self { bytes, head: method == "HEAD", weight: 1, expect: Expect::default() }
    }
}

fn is_named(field: &str, name: &str) -> bool {
    field.split(':').next().is_some_and(|own| own.trim_ascii().eq_ignore_ascii_case(name))
}

/// Head and body of a request in a file.
fn split_head(bytes: &[u8]) -> (&[u8], &[u8]) {
    for end in [&b"\r\n\r\n"[..], b"\n\n"] {
        if let Some(at) = bytes.windows(end.len()).position(|window| window == end) {
            return (&bytes[..at], &bytes[at + end.len()..]);
        }
    }
    (bytes, &[])
}

/// Which request comes next: each as often as its weight says, spread as evenly as can be.
#[derive(Clone, Debug)]
pub struct Rotation {
    weights: Vec<u32>,
    /// How much each is owed ("smooth weighted round robin").
    credit: Vec<i64>,
    total: i64,
}

impl Rotation {
    /// Of these weights; `skip`: how many turns others have had, so that threads do not march in
    /// step.
    #[must_use]
    pub fn new(weights: impl IntoIterator<Item = u32>, skip: u32) -> Self {
        let weights: Vec<u32> = weights.into_iter().collect();
        let total = weights.iter().map(|weight| i64::from(*weight)).sum();
        let mut new = Self { credit: vec![0; weights.len()], weights, total };
        (0..skip).for_each(|_| {
            let _ = new.turn();
        });
        new
    }

    /// The index of the next request.
    #[inline]
    pub fn turn(&mut self) -> u16 {
        if self.weights.len() == 1 {
            return 0;
        }
        let mut best = 0;
        for at in 0..self.weights.len() {
            self.credit[at] += i64::from(self.weights[at]);
            if self.credit[at] > self.credit[best] {
                best = at;
            }
        }
        self.credit[best] -= self.total;
        u16::try_from(best).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Host, path and place, or the error.
    #[track_caller]
    fn check(url: &str, want: &str) {
        let got = match Target::parse(url) {
            Ok(Target { host, path, place: Place::Name(name) }) => format!("{host} {path} {name}"),
            Ok(Target { host, path, place: Place::Path(file) }) => {
                format!("{host} {path} {}", file.display())
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn urls() {
        check("http://127.0.0.1:8080/a?b", "127.0.0.1:8080 /a?b 127.0.0.1:8080");
        check("example.org", "example.org / example.org:80");
        check("http://[::1]:81", "[::1]:81 / [::1]:81");
        check("http://[::1]/x", "[::1] /x [::1]:80");
        check("http://h?q#f", "h /?q h:80");
        check("unix:/run/x.sock", "localhost / /run/x.sock");
        check("http://unix:/run/x.sock:/a", "localhost /a /run/x.sock");
        check("https://x", "https://x: no TLS here: measure the plain port behind it [config]");
        check("http://a b", "\"http://a b\": an URL has no spaces; write %20 [config]");
        let form = "expected http://HOST[:PORT][/PATH] or unix:SOCKET [config]";
        for url in ["http://", "http:///x", "http://:80", "unix:", "http://u@h/"] {
            check(url, &format!("{url}: {form}"));
        }
    }

    fn target() -> Target {
        Target::parse("http://h:1/p").unwrap()
    }

    #[track_caller]
    fn built(template: Result<Template, Error>, want: &str) {
        let got = match template {
            Ok(template) => String::from_utf8_lossy(&template.bytes).replace("\r\n", "|"),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn requests_are_built_from_parts() {
        let build = |method, fields: &[&str], body| {
            let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
            Template::build(&target(), method, &fields, body)
        };
        built(build("GET", &[], b""), "GET /p HTTP/1.1|Host: h:1||");
        built(build("GET", &["host: x", "A: b"], b""), "GET /p HTTP/1.1|host: x|A: b||");
        built(build("POST", &[], b"xy"), "POST /p HTTP/1.1|Host: h:1|Content-Length: 2||xy");
        built(build("POST", &[], b""), "POST /p HTTP/1.1|Host: h:1|Content-Length: 0||");
        built(build("G T", &[], b""), "\"G T\": expected a method, such as POST [config]");
        for field in ["x", ": x", "a b: x", "a: b\r\nc: d"] {
            let want = format!("{field:?}: expected a field, such as Accept: text/html [config]");
            built(build("GET", &[field], b""), &want);
        }
    }

    #[test]
    fn requests_are_read_from_files() {
        let read = |text: &str| Template::from_file(&target(), text.as_bytes());
        let want = "PUT /a HTTP/1.1|Host: h:1|X: y|Content-Length: 4||bo\ny";
        built(read("PUT /a HTTP/1.1\nX: y\n\nbo\ny"), want);
        built(read("PUT /a HTTP/1.1\r\nX: y\r\n\r\nbo\ny"), want);
        built(read("GET / HTTP/1.1\n"), "GET / HTTP/1.1|Host: h:1||");
        built(read("GET /"), "\"GET /\": expected METHOD /path HTTP/1.1 [config]");
        built(read(""), "\"\": expected METHOD /path HTTP/1.1 [config]");
        assert!(read("HEAD / HTTP/1.1\n\n").unwrap().head);
    }

    #[test]
    fn a_mix_is_spread_evenly() {
        let mut rotation = Rotation::new([5, 1, 1], 0);
        let order: Vec<u16> = (0..7).map(|_| rotation.turn()).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    proptest! {
        #[test]
        fn each_comes_as_often_as_its_weight(
            weights in prop::collection::vec(1u32..20, 1..6), skip in 0u32..50,
        ) {
            let mut rotation = Rotation::new(weights.iter().copied(), skip);
            let mut counts = vec![0; weights.len()];
            for _ in 0..weights.iter().sum() {
                counts[usize::from(rotation.turn())] += 1;
            }
            prop_assert_eq!(counts, weights);
        }
    }
}
