//! An answer: what a handler fills in, and how its head is written. Pure.

use super::date::Date;
use super::handler::{Owed, Stream};
use super::syntax::{is_text, is_token};
use crate::io::Bytes;
use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// An answer in the making. Without a body and with status 200 until told otherwise; the last body
/// that was set counts. Date, Content-Length, Transfer-Encoding and Connection are ours to write.
#[derive(Debug)]
pub struct Response {
    status: u16,
    close: bool,
    /// What the body's setter says of its type, unless the handler set the field.
    default_type: &'static str,
    content_type: Option<Box<str>>,
    /// Other fields, as they will be sent.
    fields: Vec<u8>,
    pub(super) body: Payload,
}

/// Where the body of an answer comes from.
#[derive(Default)]
pub(super) enum Payload {
    #[default]
    None,
    Bytes(Bytes),
    Stream(Box<dyn Stream>),
    File(FileBody),
    After(Duration, Later),
    Owed(Box<dyn Owed>),
}

pub(super) type Later = Box<dyn FnOnce(&mut Response)>;

/// Part of a file as the body of an answer. It is read through the worker's ring, piece by piece,
/// while it is sent.
#[derive(Debug)]
pub struct FileBody {
    /// Open for reading; a regular file.
    pub file: OwnedFd,
    /// Where the part begins, in bytes.
    pub offset: u64,
    /// Bytes of the part. A file that turns out shorter cuts the connection.
    pub len: u64,
}

/// A header field that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidHeader {
    /// The name is not a token (RFC 9110 §5.6.2): letters, digits, and some marks like `-`.
    Name,
    /// The value holds CR, LF, NUL or another control character.
    Value,
    /// Date, Content-Length, Transfer-Encoding and Connection are written by the server.
    Reserved,
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "not a field name",
            Self::Value => "a control character in the value of a field",
            Self::Reserved => "this field is written by the server itself",
        })
    }
}

impl std::error::Error for InvalidHeader {}

impl Response {
    /// 200, no fields, no body.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            status: 200,
            close: false,
            default_type: "",
            content_type: None,
            fields: Vec::new(),
            body: Payload::None,
        }
    }

    /// Sets the status: 200 to 599. Anything else becomes 500: no final answer could carry it.
    pub fn status(&mut self, status: u16) -> &mut Self {
        self.status = if (200..=599).contains(&status) { status } else { 500 };
        self
    }

    /// Adds a field. A second `Content-Type` replaces the first, and the one that the body brings.
    ///
    /// # Errors
    ///
    /// What would break the framing of the answer, or let the value begin another field.
    pub fn header(&mut self, name: &str, value: &str) -> Result<&mut Self, InvalidHeader> {
        self.field(name, value.as_bytes())
    }

    /// The same for a value that need not be text.
    pub(super) fn field(&mut self, name: &str, value: &[u8]) -> Result<&mut Self, InvalidHeader> {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(InvalidHeader::Name);
        }
        if !value.iter().copied().all(is_text) {
            return Err(InvalidHeader::Value);
        }
        if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return Err(InvalidHeader::Reserved);
        }
        if name.eq_ignore_ascii_case("content-type") {
            self.content_type = Some(String::from_utf8_lossy(value).into());
            return Ok(self);
        }
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.fields.extend_from_slice(part);
        }
        Ok(self)
    }

    /// A status with its reason as text, and nothing that was set before: `404 Not Found`.
    pub fn plain(&mut self, status: u16) {
        self.reset();
        self.status(status);
        self.text(reason(self.status));
    }

    /// Plain text in UTF-8.
    pub fn text(&mut self, text: impl Into<Bytes>) {
        self.set_body("text/plain; charset=utf-8", text.into());
    }

    /// HTML in UTF-8.
    pub fn html(&mut self, html: impl Into<Bytes>) {
        self.set_body("text/html; charset=utf-8", html.into());
    }

    /// JSON.
    pub fn json(&mut self, value: &serde_json::Value) {
        self.set_body("application/json", value.to_string().into());
    }

    /// Any bytes and their type. Large bytes are sent from where they are, without a copy. A type
    /// that cannot be sent becomes `application/octet-stream`; one that is not known before the
    /// request is set with [`Response::header`].
    pub fn bytes(&mut self, content_type: &'static str, bytes: impl Into<Bytes>) {
        let is_valid = content_type.bytes().all(is_text);
        self.set_body(if is_valid { content_type } else { OCTETS }, bytes.into());
    }

    fn set_body(&mut self, content_type: &'static str, bytes: Bytes) {
        self.default_type = content_type;
        self.body = Payload::Bytes(bytes);
    }

    /// A body that is made while it is sent. Set its `Content-Type` with [`Response::header`].
    pub fn stream(&mut self, stream: impl Stream + 'static) {
        self.default_type = OCTETS;
        self.body = Payload::Stream(Box::new(stream));
    }

    /// Part of a file. Set its `Content-Type` with [`Response::header`].
    pub fn file(&mut self, body: FileBody) {
        self.default_type = OCTETS;
        self.body = Payload::File(body);
    }

    /// Answers later: the worker calls `answer` with this response after `delay`, to the
    /// millisecond, and serves other connections in the meantime. Requests that follow on this
    /// connection wait. If the connection ends before, `answer` is dropped without a call.
    pub fn after(&mut self, delay: Duration, answer: impl FnOnce(&mut Self) + 'static) {
        self.body = Payload::After(delay, Box::new(answer));
    }

    /// Somebody else answers.
    pub(crate) fn owe(&mut self, owed: Box<dyn Owed>) {
        self.body = Payload::Owed(owed);
    }

    /// Closes the connection after this answer.
    pub fn close(&mut self) -> &mut Self {
        self.close = true;
        self
    }

    pub(super) fn wants_close(&self) -> bool {
        self.close
    }

    pub(super) fn code(&self) -> u16 {
        self.status
    }

    /// 500, and nothing that was set before. The reason goes to the log, not to the peer.
    pub(crate) fn fail(&mut self, reason: &str) {
        #[cfg(feature = "log")]
        log::error!("a handler failed: {reason}");
        #[cfg(not(feature = "log"))]
        let _ = reason;
        self.plain(500);
    }

    /// As new; keeps the memory of its fields for the next answer.
    pub(super) fn reset(&mut self) {
        self.status = 200;
        self.close = false;
        self.default_type = "";
        self.content_type = None;
        self.fields.clear();
        if self.fields.capacity() > FIELDS_KEPT {
            self.fields = Vec::new();
        }
        self.body = Payload::None;
    }

    /// Whether an answer with this status has a body at all (RFC 9110 §6.4.1, §15.3.6).
    pub(super) fn may_have_body(&self) -> bool {
        !matches!(self.status, 204 | 205 | 304)
    }

    /// Writes it whole, as the last answer of a connection that is then to be closed. For a body
    /// of bytes; one that would have to be produced is left out.
    pub fn write_last(&self, date: &Date, buffer: &mut Vec<u8>) {
        self.write_whole(date, false, buffer);
    }

    /// The same; without the body for a HEAD request, whose answer still tells its length.
    pub(super) fn write_whole(&self, date: &Date, is_head: bool, buffer: &mut Vec<u8>) {
        let mut body: &[u8] = &[];
        if let Payload::Bytes(bytes) = &self.body
            && self.may_have_body()
        {
            body = bytes;
        }
        self.write_head(date, Length::Fixed(body.len() as u64), Persistence::Close, buffer);
        if !is_head {
            buffer.extend_from_slice(body);
        }
    }

    pub(super) fn write_head(
        &self,
        date: &Date,
        length: Length,
        persistence: Persistence,
        buffer: &mut Vec<u8>,
    ) {
        if self.status == 200 {
            buffer.extend_from_slice(date.ok());
        } else {
            write_status_line(self.status, buffer);
            buffer.extend_from_slice(date.line());
        }
        let content_type = self.content_type.as_deref().unwrap_or(self.default_type);
        if !content_type.is_empty() && self.may_have_body() {
            buffer.extend_from_slice(b"Content-Type: ");
            buffer.extend_from_slice(content_type.as_bytes());
            buffer.extend_from_slice(b"\r\n");
        }
        match length {
            // RFC 9110 §8.6: never with 204. With 304 it would have to be that of the 200.
            Length::Fixed(_) if matches!(self.status, 204 | 304) => {}
            Length::Fixed(bytes) => {
                buffer.extend_from_slice(b"Content-Length: ");
                write_decimal(bytes, buffer);
                buffer.extend_from_slice(b"\r\n");
            }
            Length::Chunked => buffer.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Length::UntilClose => {}
        }
        buffer.extend_from_slice(&self.fields);
        buffer.extend_from_slice(match persistence {
            Persistence::Implied => b"\r\n",
            Persistence::Close => b"Connection: close\r\n\r\n",
            Persistence::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        });
    }
}

impl Default for Response {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
            Self::File(body) => body.fmt(f),
            Self::After(delay, _) => write!(f, "After({delay:?})"),
            Self::Owed(_) => f.write_str("Owed"),
        }
    }
}

/// How the peer finds the end of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Fixed(u64),
    Chunked,
    UntilClose,
}

/// What the Connection field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Persistence {
    /// Nothing: HTTP/1.1 goes on by itself.
    Implied,
    Close,
    /// An HTTP/1.0 client asked for it and must be told that it got it.
    KeepAlive,
}

#[cold]
fn write_status_line(status: u16, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(u64::from(status), buffer);
    buffer.push(b' ');
    buffer.extend_from_slice(reason(status).as_bytes());
    buffer.extend_from_slice(b"\r\n");
}

fn write_decimal(mut value: u64, buffer: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    buffer.extend_from_slice(&digits[at..]);
}

/// The phrase of a status (RFC 9110 §15); empty for one that has none.
pub(super) const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// Bytes of fields that are kept for the next answer.
const FIELDS_KEPT: usize = 4096;
const OCTETS: &str = "application/octet-stream";
const RESERVED: [&str; 4] = ["date", "content-length", "transfer-encoding", "connection"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(fill: impl FnOnce(&mut Response), length: Length, want: &str) {
        let mut response = Response::new();
        fill(&mut response);
        let mut buffer = Vec::new();
        response.write_head(&Date::new(0), length, Persistence::Implied, &mut buffer);
        let got = String::from_utf8(buffer).unwrap();
        let got = got.replace("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "D|").replace("\r\n", "|");
        assert_eq!(got, want);
    }

    #[test]
    fn heads_as_written() {
        let fixed = Length::Fixed;
        check(|_| {}, fixed(0), "HTTP/1.1 200 OK|D|Content-Length: 0||");
        check(
            |r| r.text("x"),
            fixed(u64::MAX),
            "HTTP/1.1 200 OK|D|Content-Type: text/plain; charset=utf-8|\
             Content-Length: 18446744073709551615||",
        );
        check(
            |r| r.status(404).html("x"),
            fixed(10),
            "HTTP/1.1 404 Not Found|D|Content-Type: text/html; charset=utf-8|Content-Length: 10||",
        );
        check(
            |r| r.header("X-A", "1").unwrap().header("x-a", "").unwrap().json(&json!({})),
            Length::Chunked,
            "HTTP/1.1 200 OK|D|Content-Type: application/json|Transfer-Encoding: chunked|\
             X-A: 1|x-a: ||",
        );
        check(
            |r| r.bytes("a\r\nb", "x"),
            fixed(1),
            "HTTP/1.1 200 OK|D|Content-Type: application/octet-stream|Content-Length: 1||",
        );
        check(|r| r.status(204).text("x"), fixed(0), "HTTP/1.1 204 No Content|D||");
        check(|r| r.status(304).text("x"), fixed(0), "HTTP/1.1 304 Not Modified|D||");
        check(
            |r| r.status(205).text("x"),
            fixed(0),
            "HTTP/1.1 205 Reset Content|D|Content-Length: 0||",
        );
        check(|r| _ = r.status(599), Length::UntilClose, "HTTP/1.1 599 |D||");
        for wrong in [0, 100, 101, 199, 600, 999] {
            check(
                |r| _ = r.status(wrong),
                Length::UntilClose,
                "HTTP/1.1 500 Internal Server Error|D||",
            );
        }
    }

    #[test]
    fn the_handlers_content_type_counts_whenever_it_is_set() {
        let want = "HTTP/1.1 200 OK|D|Content-Type: b|Content-Length: 1||";
        let set = |r: &mut Response| {
            r.header("content-type", "a").unwrap().header("Content-Type", "b").unwrap();
        };
        check(
            |r| {
                set(r);
                r.text("x");
            },
            Length::Fixed(1),
            want,
        );
        check(
            |r| {
                r.text("x");
                set(r);
            },
            Length::Fixed(1),
            want,
        );
    }

    #[test]
    fn a_field_that_would_break_the_answer_is_refused() {
        for (name, value, want) in [
            ("", "x", InvalidHeader::Name),
            ("a b", "x", InvalidHeader::Name),
            ("a:", "x", InvalidHeader::Name),
            ("a\r\nb", "x", InvalidHeader::Name),
            ("é", "x", InvalidHeader::Name),
            ("a", "x\r\nSet-Cookie: y", InvalidHeader::Value),
            ("a", "x\ny", InvalidHeader::Value),
            ("a", "x\ry", InvalidHeader::Value),
            ("a", "x\0", InvalidHeader::Value),
            ("Content-Type", "x\n", InvalidHeader::Value),
            ("DATE", "x", InvalidHeader::Reserved),
            ("content-Length", "1", InvalidHeader::Reserved),
            ("transfer-encoding", "chunked", InvalidHeader::Reserved),
            ("connection", "close", InvalidHeader::Reserved),
        ] {
            let mut response = Response::new();
            assert_eq!(response.header(name, value).unwrap_err(), want, "{name:?}: {value:?}");
            assert!(response.fields.is_empty());
        }
        assert!(Response::new().header("a", "é\t\"").is_ok());
    }

    #[test]
    fn a_last_answer_is_whole_and_says_so() {
        let mut response = Response::new();
        response.status(503).header("Retry-After", "1").unwrap().text("busy\n");
        let mut buffer = Vec::new();
        response.write_last(&Date::new(0), &mut buffer);
        assert_eq!(
            String::from_utf8(buffer).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\nRetry-After: 1\r\n\
             Connection: close\r\n\r\nbusy\n"
        );
    }
}
