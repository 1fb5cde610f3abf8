//! To and from the types of the `http` crate (feature `http`), for code that is written against
//! those. Each conversion copies; [`Request`] and [`Response`] as they are cost less. Pure.
//!
//! ```no_run
//! use ringfort::Pool;
//! use ringfort::http::types;
//!
//! fn answer(request: http::Request<Vec<u8>>) -> http::Response<String> {
//!     let text = format!("{} {}\n", request.method(), request.uri().path());
//!     http::Response::new(text)
//! }
//!
//! fn main() -> Result<(), ringfort::Error> {
//!     Pool::bind("127.0.0.1:8080").serve_with(|_worker| types::handler(answer))
//! }
//! ```

use super::head::Version;
use super::response::InvalidHeader;
use super::{Handler, OwnedRequest, Request, Response};
use crate::io::Bytes;

/// A handler over the types of the `http` crate. Bodies come whole. A target that their `Uri` does
/// not take is answered with 400.
pub fn handler<B: Into<Bytes>>(
    mut answer: impl FnMut(::http::Request<Vec<u8>>) -> ::http::Response<B>,
) -> impl Handler {
    move |request: &Request<'_>, response: &mut Response| match request.try_into() {
        Ok(request) => *response = answer(request).into(),
        Err(_) => response.plain(400),
    }
}

impl TryFrom<&Request<'_>> for ::http::Request<Vec<u8>> {
    type Error = ::http::Error;

    /// Fails where their `Uri` takes less than a target may hold.
    fn try_from(request: &Request<'_>) -> Result<Self, ::http::Error> {
        let head = (request.method(), request.target(), request.version());
        build(head, request.headers(), request.body().to_vec())
    }
}

impl TryFrom<OwnedRequest> for ::http::Request<Vec<u8>> {
    type Error = ::http::Error;

    /// Fails where their `Uri` takes less than a target may hold.
    fn try_from(mut request: OwnedRequest) -> Result<Self, ::http::Error> {
        let body = request.take_body();
        let head = (request.method(), request.target(), request.version());
        build(head, request.headers(), body)
    }
}

fn build<'a>(
    (method, target, version): (&str, &str, Version),
    fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    body: Vec<u8>,
) -> Result<::http::Request<Vec<u8>>, ::http::Error> {
    let version = match version {
        Version::Http10 => ::http::Version::HTTP_10,
        Version::Http11 => ::http::Version::HTTP_11,
    };
    let begun = ::http::Request::builder().method(method).uri(target).version(version);
    fields.fold(begun, |so_far, (name, value)| so_far.header(name, value)).body(body)
}

impl<B: Into<Bytes>> From<::http::Response<B>> for Response {
    /// Date, Content-Length and Transfer-Encoding are left out, as the server writes them itself;
    /// `Connection: close` closes. Extensions and version have no meaning here.
    fn from(response: ::http::Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        let mut ours = Self::new();
        ours.bytes("", body);
        ours.status(parts.status.as_u16());
        for (name, value) in &parts.headers {
            let closes = name == ::http::header::CONNECTION
                && value.as_bytes().split(|byte| *byte == b',').any(is_close);
            if closes {
                ours.close();
            }
            // What their types hold can be sent, but for what we write.
            let set = ours.field(name.as_str(), value.as_bytes());
            debug_assert!(matches!(set, Ok(_) | Err(InvalidHeader::Reserved)), "{name}");
        }
        ours
    }
}

fn is_close(word: &[u8]) -> bool {
    word.trim_ascii().eq_ignore_ascii_case(b"close")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::tests::with_request;
    use crate::testing::Connection;
    use ::http::header::{CONTENT_TYPE, HOST};

    #[test]
    fn a_request_is_the_same_in_their_types() {
        with_request("/a%20b?c=d", |request| {
            let owned = ::http::Request::try_from(OwnedRequest::from(request)).unwrap();
            let theirs = ::http::Request::try_from(request).unwrap();
            assert_eq!(format!("{owned:?}"), format!("{theirs:?}"));
            assert_eq!(theirs.method(), ::http::Method::GET);
            assert_eq!((theirs.uri().path(), theirs.uri().query()), ("/a%20b", Some("c=d")));
            assert_eq!(theirs.version(), ::http::Version::HTTP_11);
            assert_eq!(theirs.headers()[HOST], "a.example");
            assert_eq!(theirs.headers().len(), 2);
            assert_eq!(theirs.body(), b"body");
        });
        with_request("http://h:80/p?q", |request| {
            let theirs = ::http::Request::try_from(request).unwrap();
            assert_eq!(theirs.uri().authority().unwrap().as_str(), "h:80");
        });
    }

    /// Answers with what came, as far as a response can say it.
    fn echo(request: ::http::Request<Vec<u8>>) -> ::http::Response<Vec<u8>> {
        let mut response = ::http::Response::builder()
            .status(201)
            .header(CONTENT_TYPE, "application/x")
            .header("content-length", "999")
            .header("date", "never")
            .header("x-odd", ::http::HeaderValue::from_bytes(b"a\xff").unwrap());
        if let Some(cookies) = request.headers().get("cookie") {
            response = response.header("set-cookie", cookies).header("set-cookie", "b=2");
        }
        if request.uri().path() == "/close" {
            response = response.header("connection", "x, Close");
        }
        response.body(request.into_body()).unwrap()
    }

    #[test]
    fn a_handler_may_be_written_in_their_types() {
        let mut client = Connection::new(handler(echo));
        let reply = client.request("POST", "/?a", &[("Cookie", "a=1")], b"hello");
        assert_eq!((reply.status, reply.text().as_str()), (201, "hello"));
        assert_eq!(reply.header("content-type"), Some("application/x"));
        assert_eq!(reply.header("content-length"), Some("5"), "the server's own");
        assert_ne!(reply.header("date"), Some("never"));
        let cookies = reply.headers.iter().filter(|(name, _)| name == "set-cookie");
        assert_eq!(cookies.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert!(!client.is_closed());
        // And back, for tests that compare in their types.
        let theirs = ::http::Response::try_from(reply).unwrap();
        assert_eq!(
            (theirs.status(), theirs.body().as_slice()),
            (201.try_into().unwrap(), &b"hello"[..])
        );
        assert_eq!(client.get("/close").status, 201);
        assert!(client.is_closed());
    }

    #[test]
    fn a_target_that_is_no_uri_of_theirs_is_answered_with_400() {
        let mut client = Connection::new(handler(echo));
        assert_eq!(client.get("/a<b").status, 400);
        assert_eq!(client.get("/a%3Cb").status, 201);
    }
}
