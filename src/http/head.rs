//! The head of a request (RFC 9112 §2–§6): `httparse` cuts it, we judge it. Pure.
//!
//! A head is parsed from its first byte whenever more of it has come. Whatever refuses a prefix
//! refuses every longer one in the same way, so where the bytes are cut cannot matter.

use super::close::Refusal;
use super::syntax::{is_authority, is_token};
use crate::config::Config;
use std::mem::MaybeUninit;

/// The version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl Version {
    /// As it stands in a request line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// How the end of the body is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// So many bytes.
    Length(u64),
    /// Until the last chunk.
    Chunked,
}

/// How large a head may be, and which body it may announce. Taken from a valid [`Config`].
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    head_max: usize,
    request_line_max: usize,
    headers_max: usize,
    body_max: u64,
}

impl From<&Config> for HeadLimits {
    fn from(config: &Config) -> Self {
        // The ranges end far below 4 GiB.
        let narrow = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let head_max = narrow(config.head_max());
        Self {
            head_max,
            // A longer line could not be followed by its end: the client learns 414, not 431.
            request_line_max: narrow(config.request_line_max()).min(head_max - LINE_ENDS),
            headers_max: narrow(config.headers_max()),
            body_max: config.body_max(),
        }
    }
}

/// Room for the fields of heads, never initialised. Lives on the stack of who parses.
#[derive(Debug)]
pub struct Storage<'b> {
    few: [MaybeUninit<httparse::Header<'b>>; FEW],
    /// For heads with more fields, where the configuration allows them.
    many: Vec<httparse::Header<'b>>,
}

impl Storage<'_> {
    /// Costs nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { few: [MaybeUninit::uninit(); FEW], many: Vec::new() }
    }
}

impl Default for Storage<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// The head of a request that may be served.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method, as sent: `GET`.
    pub method: &'a str,
    /// The request target, as sent: visible ASCII without `#`.
    pub target: &'a str,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// Bytes of the head, from the first given to [`parse`] to the end of the empty line.
    pub length: usize,
    /// How the end of the body is found.
    pub framing: Framing,
    /// Whether the client allows another request on this connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    fields: &'a [httparse::Header<'a>],
    host: Option<&'a [u8]>,
    /// Where in the target its path begins.
    path_at: usize,
}

impl<'a> Head<'a> {
    /// The path of the target, still percent-encoded; `*` for the asterisk form.
    #[must_use]
    pub fn path(&self) -> &'a str {
        let (path, _) = self.path_and_query();
        if path.is_empty() { "/" } else { path }
    }

    /// What follows the first `?` of the target, still percent-encoded.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.path_and_query().1
    }

    fn path_and_query(&self) -> (&'a str, Option<&'a str>) {
        let rest = &self.target[self.path_at..];
        rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)))
    }

    /// Name and port of the server that the client means: the authority of an absolute target,
    /// else the Host field (RFC 9112 §3.3). `None`: HTTP/1.0 without Host.
    #[must_use]
    pub fn host(&self) -> Option<&'a str> {
        self.host.and_then(|host| std::str::from_utf8(host).ok())
    }

    /// The value of the first field of this name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields in the order of the head: a name, and a value without the whitespace around it.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.fields.iter().map(|field| (field.name, field.value))
    }
}

/// Reads the head that `bytes` begin with. `None`: it is not complete; come again with the same
/// bytes and more.
///
/// # Errors
///
/// What the request is to be refused with. It holds for whatever follows, too.
pub fn parse<'s, 'b: 's>(
    bytes: &'b [u8],
    storage: &'s mut Storage<'b>,
    limits: &HeadLimits,
) -> Result<Option<Head<'s>>, Refusal> {
    let held = &bytes[..bytes.len().min(limits.head_max)];
    let Some(start) = skip_empty_lines(held)? else { return Ok(None) };
    let lines = &held[start..];
    let mut request = httparse::Request::new(&mut []);
    let few = &mut storage.few[..limits.headers_max.min(FEW)];
    let mut outcome = request.parse_with_uninit_headers(lines, few);
    if outcome == Err(httparse::Error::TooManyHeaders) && limits.headers_max > FEW {
        storage.many.reserve_exact(limits.headers_max);
        let many = &mut storage.many.spare_capacity_mut()[..limits.headers_max];
        outcome = request.parse_with_uninit_headers(lines, many);
    }
    if let Ok(httparse::Status::Complete(length)) = outcome {
        return judge(&lines[..length], request, start, limits).map(Some);
    }
    match refuse_unfinished(lines, &request, outcome.err(), limits) {
        Some(refusal) => Err(refusal),
        None if held.len() == limits.head_max => Err(Refusal::HEAD_TOO_LARGE),
        None => Ok(None),
    }
}

/// Where the request line begins, once its first byte is here. RFC 9112 §2.2: a server should
/// ignore at least one empty line before it.
fn skip_empty_lines(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut at = 0;
    loop {
        match bytes[at..] {
            [b'\r', b'\n', ..] if at < EMPTY_LINES_MAX * 2 => at += 2,
            [b'\r'] | [] => return Ok(None),
            [b'\r' | b'\n', ..] => return Err(Refusal::BAD_REQUEST),
            _ => return Ok(Some(at)),
        }
    }
}

/// Why a head that did not parse to its end is refused, if it already is.
#[cold]
fn refuse_unfinished(
    lines: &[u8],
    request: &httparse::Request<'_, '_>,
    error: Option<httparse::Error>,
    limits: &HeadLimits,
) -> Option<Refusal> {
    match lines.get(..limits.request_line_max + CRLF) {
        // Too long. But what is wrong within the limit was wrong before the line was too long.
        Some(line) if !line.contains(&b'\n') => {
            let mut request = httparse::Request::new(&mut []);
            let error = request.parse_with_uninit_headers(line, &mut []).err();
            let sooner = error.and_then(|error| refuse(line, &request, error));
            Some(sooner.unwrap_or(Refusal::URI_TOO_LONG))
        }
        _ => error.and_then(|error| refuse(lines, request, error)),
    }
}

fn refuse(
    lines: &[u8],
    request: &httparse::Request<'_, '_>,
    error: httparse::Error,
) -> Option<Refusal> {
    use httparse::Error::{
        HeaderName, HeaderValue, NewLine, Status, Token, TooManyHeaders, Version,
    };
    match error {
        HeaderName | HeaderValue | NewLine | Status | Token => Some(Refusal::BAD_REQUEST),
        TooManyHeaders => Some(Refusal::HEAD_TOO_LARGE),
        Version => {
            let before = [request.method, request.path].map(|part| part.map_or(0, str::len) + 1);
            refuse_version(&lines[before[0] + before[1]..])
        }
    }
}

/// 505 for the form `HTTP/1.1` with other digits, 400 for anything else.
fn refuse_version(bytes: &[u8]) -> Option<Refusal> {
    const FORM: &[u8] = b"HTTP/d.d";
    for (form, byte) in FORM.iter().zip(bytes) {
        let fits = if *form == b'd' { byte.is_ascii_digit() } else { form == byte };
        if !fits {
            return Some(Refusal::BAD_REQUEST);
        }
    }
    (bytes.len() >= FORM.len()).then_some(Refusal::VERSION_UNSUPPORTED)
}

/// What `httparse` does not judge. `lines` is the head without the empty lines before it.
fn judge<'s, 'b: 's>(
    lines: &'b [u8],
    request: httparse::Request<'s, 'b>,
    start: usize,
    limits: &HeadLimits,
) -> Result<Head<'s>, Refusal> {
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(Refusal::BAD_REQUEST);
    };
    // First, because it is what the line alone was refused with before its end came.
    if method.len() + target.len() + "  HTTP/1.1".len() > limits.request_line_max {
        return Err(Refusal::URI_TOO_LONG);
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let fields: &'s [httparse::Header<'b>] = request.headers;
    if !all_lines_end_in_crlf(lines, fields) {
        return Err(Refusal::BAD_REQUEST);
    }
    let (authority, path_at) = judge_target(method, target)?;
    let known = Known::read(fields)?;
    if known.host.is_none() && version == Version::Http11 {
        return Err(Refusal::BAD_REQUEST);
    }
    let framing = known.framing(version)?;
    // RFC 9110 §9.1: methods are case-sensitive, and no method has lower-case letters.
    if method == "CONNECT" || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Refusal::NOT_IMPLEMENTED);
    }
    // RFC 9110 §10.1.1: an expectation of an HTTP/1.0 client is ignored.
    if known.expects_other && version == Version::Http11 {
        return Err(Refusal::EXPECTATION_FAILED);
    }
    if matches!(framing, Framing::Length(length) if length > limits.body_max) {
        return Err(Refusal::BODY_TOO_LARGE);
    }
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    Ok(Head {
        method,
        target,
        version,
        length: start + lines.len(),
        framing,
        keep_alive: !known.close && (known.keep_alive || version == Version::Http11),
        expects_continue: known.expects_continue && has_body && version == Version::Http11,
        fields,
        host: authority.map(str::as_bytes).or(known.host),
        path_at,
    })
}

/// `httparse` takes a bare LF as the end of a line. It lets no CR stand elsewhere, so it is enough
/// to look before the LF in front of each name and of the end.
fn all_lines_end_in_crlf(lines: &[u8], fields: &[httparse::Header<'_>]) -> bool {
    let start = lines.as_ptr().addr();
    lines.ends_with(b"\r\n\r\n")
        && fields.iter().all(|field| {
            let at = field.name.as_ptr().addr() - start;
            lines.get(at.wrapping_sub(CRLF)) == Some(&b'\r')
        })
}

/// The authority that the target names, if it does, and where its path begins (RFC 9112 §3.2).
fn judge_target<'a>(method: &str, target: &'a str) -> Result<(Option<&'a str>, usize), Refusal> {
    // `httparse` has refused controls and spaces.
    if target.bytes().fold(false, |bad, byte| bad | (byte == b'#') | (byte >= 0x80)) {
        return Err(Refusal::BAD_REQUEST);
    }
    if method == "CONNECT" {
        return if is_authority(target.as_bytes()) {
            Ok((Some(target), target.len()))
        } else {
            Err(Refusal::BAD_REQUEST)
        };
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok((None, 0));
    }
    let (scheme, rest) = target.split_once("://").ok_or(Refusal::BAD_REQUEST)?;
    let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    if !is_http || !is_authority(authority.as_bytes()) {
        return Err(Refusal::BAD_REQUEST);
    }
    Ok((Some(authority), scheme.len() + "://".len() + authority.len()))
}

/// The fields that decide how a request is read.
#[derive(Default)]
struct Known<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    coding: Option<Coding>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    expects_other: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Chunked,
    Unknown,
}

impl<'a> Known<'a> {
    fn read(fields: &[httparse::Header<'a>]) -> Result<Self, Refusal> {
        let mut known = Self::default();
        for httparse::Header { name, value } in fields {
            // By length first: most fields are passed over for the price of one comparison.
            match name.len() {
                4 if is(name, "host") => known.on_host(value)?,
                6 if is(name, "expect") => known.on_expect(value),
                10 if is(name, "connection") => known.on_connection(value),
                14 if is_or_resembles(name, "content-length")? => known.on_length(value)?,
                17 if is_or_resembles(name, "transfer-encoding")? => known.on_coding(value)?,
                _ => {}
            }
        }
        Ok(known)
    }

    /// RFC 9112 §3.2: a second Host or an invalid one is answered with 400. An empty one is valid.
    fn on_host(&mut self, value: &'a [u8]) -> Result<(), Refusal> {
        if self.host.is_some() || !(value.is_empty() || is_authority(value)) {
            return Err(Refusal::BAD_REQUEST);
        }
        self.host = Some(value);
        Ok(())
    }

    /// RFC 9110 §10.1.1.
    fn on_expect(&mut self, value: &[u8]) {
        if value.eq_ignore_ascii_case(b"100-continue") {
            self.expects_continue = true;
        } else {
            self.expects_other = true;
        }
    }

    /// RFC 9112 §9.3.
    fn on_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 §6.3: equal repetitions may be forgiven. We do not.
    fn on_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() {
            return Err(Refusal::BAD_REQUEST);
        }
        self.length = Some(parse_length(value).ok_or(Refusal::BAD_REQUEST)?);
        Ok(())
    }

    /// RFC 9112 §6.1. One field is enough for everyone who means well.
    fn on_coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.coding.is_some() {
            return Err(Refusal::BAD_REQUEST);
        }
        self.coding = Some(parse_coding(value).ok_or(Refusal::BAD_REQUEST)?);
        Ok(())
    }

    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.coding, self.length) {
            (None, None) => Ok(Framing::None),
            (None, Some(length)) => Ok(Framing::Length(length)),
            // RFC 9112 §6.3: both together may be request smuggling. §6.1: 1.0 has no codings.
            (Some(_), Some(_)) => Err(Refusal::BAD_REQUEST),
            (Some(_), None) if version == Version::Http10 => Err(Refusal::BAD_REQUEST),
            (Some(Coding::Chunked), None) => Ok(Framing::Chunked),
            (Some(Coding::Unknown), None) => Err(Refusal::NOT_IMPLEMENTED),
        }
    }
}

/// Whether the name of a field is this one, whatever its case. Both have the same length. No byte
/// of a token but a letter becomes a letter, and none but `-` becomes `-`, by the bit 0x20.
fn is(name: &str, wanted: &str) -> bool {
    name.bytes().zip(wanted.bytes()).fold(0, |differs, (a, b)| differs | ((a | 0x20) ^ b)) == 0
}

/// As [`is`]. Refuses the name with `_` for `-`: others take the two for the same (CGI does), and a
/// body would begin where we do not see it.
fn is_or_resembles(name: &str, wanted: &str) -> Result<bool, Refusal> {
    let folded = name.bytes().map(|byte| if byte == b'_' { b'-' } else { byte });
    if !folded.zip(wanted.bytes()).all(|(a, b)| a.eq_ignore_ascii_case(&b)) {
        return Ok(false);
    }
    if name.contains('_') { Err(Refusal::BAD_REQUEST) } else { Ok(true) }
}

/// `1*DIGIT` (RFC 9110 §8.6), as many as a `u64` can need.
fn parse_length(value: &[u8]) -> Option<u64> {
    if !(1..=LENGTH_DIGITS_MAX).contains(&value.len()) {
        return None;
    }
    value.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// `None`: not a list of codings, chunked before another one, or `identity`, which is no longer a
/// coding (RFC 9112 §7).
fn parse_coding(value: &[u8]) -> Option<Coding> {
    let mut last = None;
    for coding in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        let is_name = !coding.is_empty() && coding.iter().all(|byte| is_token(*byte));
        if !is_name || last == Some(Coding::Chunked) || coding.eq_ignore_ascii_case(b"identity") {
            return None;
        }
        let is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        last = Some(if is_chunked && last.is_none() { Coding::Chunked } else { Coding::Unknown });
    }
    last
}

const CRLF: usize = 2;
/// The CRLF of the request line and that of the empty line.
const LINE_ENDS: usize = 2 * CRLF;
/// Fields that a head may have without an allocation: the default of `headers_max`. Fits a page.
const FEW: usize = 100;
/// Empty lines before a request line that are forgiven.
const EMPTY_LINES_MAX: usize = 4;
/// Digits of `u64::MAX`.
const LENGTH_DIGITS_MAX: usize = 20;

#[cfg(test)]
mod tests;
