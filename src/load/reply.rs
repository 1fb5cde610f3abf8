//! Reads replies out of a connection's bytes and holds each against what was expected. Pure.

use crate::http::body::{Body, BodyLimits};
use crate::http::head::Framing;
use httparse::{Header, ParserConfig, Response, Status};
use std::mem::MaybeUninit;

/// What the request at the front of the line expects of its reply.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The request was a HEAD: no body follows.
    pub head: bool,
    /// How the body must begin, and its length; `None`: any.
    pub body: Option<(&'a [u8], u64)>,
    /// Keep the body for [`Reader::take_kept`], as far as [`KEEP_MAX`].
    pub keep: bool,
}

/// A whole reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub status: u16,
    /// Bytes of content.
    pub body_bytes: u64,
    /// The body was as expected.
    pub body_right: bool,
    /// The server will send nothing more on this connection.
    pub closes: bool,
}

/// Why what came is no reply. The connection is out of step then and must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(&'static str);

impl Malformed {
    /// In words.
    #[must_use]
    pub fn why(self) -> &'static str {
        self.0
    }
}

/// How a connection that the server ended left its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Between replies.
    Clean,
    /// In the middle of one: it is short.
    Short,
    /// The end of the connection was the end of the reply (RFC 9112 §6.3, rule 8).
    Whole(Reply),
}

/// Most bytes of a body that are kept or compared; of a longer one the length is all that counts
/// beyond.
pub const KEEP_MAX: usize = 1 << 20;
/// Bytes of a head, in total.
const HEAD_MAX: usize = 64 << 10;
/// Fields of a head.
const FIELDS_MAX: usize = 64;

/// Where one connection stands between and within replies. It holds no bytes, but for a head that
/// came in pieces and a body that is to be kept.
#[derive(Debug)]
pub struct Reader {
    state: State,
    current: Reply,
    /// A head whose end has not come.
    carry: Vec<u8>,
    kept: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Head,
    Length(u64),
    Chunked(Box<Body>),
    UntilEnd,
}

impl Default for Reader {
    fn default() -> Self {
        let (state, carry, kept) = (State::Head, Vec::new(), Vec::new());
        Self { state, current: NONE, carry, kept }
    }
}

const NONE: Reply = Reply { status: 0, body_bytes: 0, body_right: true, closes: false };

impl Reader {
    /// The next reply that ends in `input`, which is shortened by what was used. `None`: all of it
    /// is used, and more must come.
    ///
    /// # Errors
    ///
    /// The bytes are no HTTP/1.x reply.
    #[inline]
    pub fn next(&mut self, input: &mut &[u8], ask: Ask<'_>) -> Result<Option<Reply>, Malformed> {
        loop {
            let done = match &mut self.state {
                State::Head => {
                    if !self.read_head(input, ask)? {
                        return Ok(None);
                    }
                    continue;
                }
                State::Length(left) => {
                    let here =
                        usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                    *left -= here as u64;
                    let done = *left == 0;
                    let (piece, rest) = input.split_at(here);
                    *input = rest;
                    self.current.take(piece, ask, &mut self.kept);
                    done
                }
                State::Chunked(body) => {
                    let (current, kept) = (&mut self.current, &mut self.kept);
                    let decoded = body
                        .decode(input, &mut |piece: &[u8]| current.take(piece, ask, kept))
                        .map_err(|_| Malformed("bad chunks"))?;
                    *input = &input[decoded.used..];
                    decoded.done
                }
                State::UntilEnd => {
                    self.current.take(input, ask, &mut self.kept);
                    *input = &[];
                    false
                }
            };
            return Ok(done.then(|| self.finish(ask)));
        }
    }

    /// The server has closed, or reset, its side.
    pub fn end(&mut self, ask: Ask<'_>) -> End {
        match self.state {
            State::Head if self.carry.is_empty() => End::Clean,
            State::UntilEnd => End::Whole(self.finish(ask)),
            State::Head | State::Length(_) | State::Chunked(_) => End::Short,
        }
    }

    /// The body of the last reply, if it was to be kept.
    pub fn take_kept(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }

    /// Ready for another connection.
    pub fn reset(&mut self) {
        self.state = State::Head;
        self.current = NONE;
        self.carry.clear();
        self.kept.clear();
    }

    fn finish(&mut self, ask: Ask<'_>) -> Reply {
        self.state = State::Head;
        let mut reply = std::mem::replace(&mut self.current, NONE);
        reply.body_right &=
            ask.head || ask.body.is_none_or(|(_, length)| length == reply.body_bytes);
        reply
    }

    /// Whether a head is complete; then the state is that of its body.
    fn read_head(&mut self, input: &mut &[u8], ask: Ask<'_>) -> Result<bool, Malformed> {
        if input.is_empty() {
            return Ok(false);
        }
        let head = if self.carry.is_empty() {
            parse(input)?
        } else {
            self.carry.extend_from_slice(input);
            parse(&self.carry)?
        };
        let Some(head) = head else {
            if self.carry.is_empty() {
                self.carry.extend_from_slice(input);
            }
            *input = &[];
            return if self.carry.len() > HEAD_MAX { Err(TOO_LONG) } else { Ok(false) };
        };
        // What the carry held before this input is all of the head.
        let before = self.carry.len().saturating_sub(input.len());
        *input = &input[head.bytes - before..];
        self.carry.clear();
        self.begin(&head, ask);
        Ok(true)
    }

    fn begin(&mut self, head: &Head, ask: Ask<'_>) {
        self.kept.clear();
        if (100..200).contains(&head.status) && head.status != 101 {
            return; // an interim reply (RFC 9110 §15.2): the real one follows
        }
        self.current = Reply { status: head.status, closes: head.closes, ..NONE };
        let bodiless = ask.head || matches!(head.status, 101 | 204 | 304);
        self.state = match (bodiless, head.body) {
            (true, _) => State::Length(0),
            (false, Announced::Length(bytes)) => State::Length(bytes),
            (false, Announced::Chunked) => {
                State::Chunked(Box::new(Body::new(Framing::Chunked, &BodyLimits::REPLY)))
            }
            (false, Announced::Nothing) => {
                self.current.closes = true;
                State::UntilEnd
            }
        };
    }
}

impl Reply {
    fn take(&mut self, piece: &[u8], ask: Ask<'_>, kept: &mut Vec<u8>) {
        if let Some((want, _)) = ask.body {
            let from = usize::try_from(self.body_bytes).unwrap_or(usize::MAX).min(want.len());
            let compared = piece.len().min(want.len() - from);
            // Comparing is as fast as memory: cheaper than any hash of the piece.
            self.body_right &= piece[..compared] == want[from..from + compared];
        }
        if ask.keep {
            kept.extend_from_slice(&piece[..piece.len().min(KEEP_MAX - kept.len())]);
        }
        self.body_bytes += piece.len() as u64;
    }
}

const TOO_LONG: Malformed = Malformed("a head of more than 64 KiB or 64 fields");

struct Head {
    bytes: usize,
    status: u16,
    closes: bool,
    body: Announced,
}

#[derive(Clone, Copy, PartialEq)]
enum Announced {
    Nothing,
    Length(u64),
    Chunked,
}

/// `None`: its end has not come.
fn parse(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_MAX];
    let mut response = Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut fields,
    );
    let bytes = match parsed {
        Ok(Status::Complete(bytes)) => bytes,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LONG),
        Err(_) => return Err(Malformed("not the head of an HTTP/1.x reply")),
    };
    let mut head = Head {
        bytes,
        status: response.code.unwrap_or(0),
        closes: response.version == Some(0),
        body: Announced::Nothing,
    };
    // "close" wins, wherever it stands (RFC 9112 §9.3).
    let mut close = false;
    for Header { name, value } in response.headers.iter() {
        // Most fields are told apart by their length alone.
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = digits(value).ok_or(Malformed("Content-Length is no number"))?;
                if head.body != Announced::Nothing && head.body != Announced::Length(length) {
                    return Err(Malformed("two different lengths"));
                }
                head.body = Announced::Length(length);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if !value.eq_ignore_ascii_case(b"chunked") || head.body != Announced::Nothing {
                    return Err(Malformed("a transfer coding other than chunked alone"));
                }
                head.body = Announced::Chunked;
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                let mut options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                let has = |option: &[u8], name: &[u8]| option.eq_ignore_ascii_case(name);
                if options.clone().any(|option| has(option, b"close")) {
                    (head.closes, close) = (true, true);
                } else if !close && options.any(|option| has(option, b"keep-alive")) {
                    head.closes = false;
                }
            }
            _ => {}
        }
    }
    Ok(Some(head))
}

/// Decimal digits and nothing else.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANY: Ask<'_> = Ask { head: false, body: None, keep: false };

    /// What comes of these pieces: `status:body_bytes`, `!` for a wrong body, `.` for a closing
    /// reply; then how the connection ended.
    fn read(pieces: &[&[u8]], ask: Ask<'_>) -> String {
        let (mut reader, mut seen) = (Reader::default(), String::new());
        for piece in pieces {
            let mut input = *piece;
            loop {
                match reader.next(&mut input, ask) {
                    Ok(Some(reply)) => {
                        let wrong = if reply.body_right { "" } else { "!" };
                        let closes = if reply.closes { "." } else { "" };
                        let Reply { status, body_bytes, .. } = reply;
                        seen += &format!("{status}:{body_bytes}{wrong}{closes} ");
                    }
                    Ok(None) => break,
                    Err(malformed) => return seen + malformed.why(),
                }
            }
        }
        seen + &match reader.end(ask) {
            End::Clean => "clean".to_owned(),
            End::Short => "short".to_owned(),
            End::Whole(reply) => format!("{}:{}", reply.status, reply.body_bytes),
        }
    }

    #[track_caller]
    fn check(bytes: &str, want: &str) {
        assert_eq!(read(&[bytes.as_bytes()], ANY), want);
    }

    const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    const CHUNKS: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";

    #[test]
    fn replies_of_every_framing() {
        check(HELLO, "200:5 clean");
        check(&HELLO.repeat(2), "200:5 200:5 clean");
        check(CHUNKS, "200:5 clean");
        check("HTTP/1.1 204 No Content\r\n\r\n", "204:0 clean");
        check("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "304:0 clean");
        check("HTTP/1.1 200 OK\r\n\r\nto the end", "200:10");
        check(&format!("HTTP/1.1 100 Continue\r\n\r\n{HELLO}"), "200:5 clean");
        check("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "200:0. clean");
        check(
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
            "200:0 clean",
        );
        check(
            "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n",
            "200:0. clean",
        );
        for fields in
            ["Connection: close, keep-alive\r\n", "Connection: close\r\nConnection: keep-alive\r\n"]
        {
            check(&format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n"), "200:0. clean");
        }
    }

    /// A server's own limits are none of a client's.
    #[test]
    fn a_reply_may_be_larger_than_a_request() {
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&format!("{head}{}0\r\n\r\n", chunk.repeat(256)), "200:16777216 clean");
        check(&format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(100_000)), "200:100000 clean");
    }

    /// Beyond what is kept, the length counts.
    #[test]
    fn a_body_longer_than_what_is_kept_is_compared_by_its_length() {
        let body = "x".repeat(KEEP_MAX + 2);
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let kept = &body.as_bytes()[..KEEP_MAX];
        for (length, want) in [(body.len(), ""), (body.len() - 1, "!")] {
            let ask = Ask { body: Some((kept, length as u64)), ..ANY };
            let want = format!("200:{}{want} clean", body.len());
            assert_eq!(read(&[reply.as_bytes()], ask), want);
        }
    }

    #[test]
    fn what_ends_early_is_short() {
        check("", "clean");
        check("HTTP/1.1 20", "short");
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "short");
        check(&CHUNKS[..CHUNKS.len() - 2], "short");
    }

    #[test]
    fn what_is_no_reply_is_malformed() {
        check("SSH-2.0-x\r\n", "not the head of an HTTP/1.x reply");
        check(&format!("{HELLO}xx\r\n"), "200:5 not the head of an HTTP/1.x reply");
        check("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "Content-Length is no number");
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "two different lengths",
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "a transfer coding other than chunked alone",
        );
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", "bad chunks");
        check(&format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(65)), TOO_LONG.why());
        check(&format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(HEAD_MAX)), TOO_LONG.why());
    }

    #[test]
    fn a_body_is_compared_in_full_wherever_it_is_cut() {
        for (body, want) in [
            (&b"hello"[..], "200:5 clean"),
            (b"hellO", "200:5! clean"),
            (b"hell", "200:5! clean"),
            (b"hello!", "200:5! clean"),
            (b"", "200:5! clean"),
        ] {
            let ask = Ask { body: Some((body, body.len() as u64)), ..ANY };
            for reply in [HELLO, CHUNKS] {
                for cut in 0..reply.len() {
                    let (one, other) = reply.as_bytes().split_at(cut);
                    assert_eq!(read(&[one, other], ask), want, "{reply:?} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_head_request_is_answered_without_a_body() {
        let ask = Ask { head: true, body: Some((b"hello", 5)), keep: false };
        assert_eq!(read(&[&HELLO.as_bytes()[..HELLO.len() - 5]], ask), "200:0 clean");
    }

    #[test]
    fn a_body_is_kept_when_asked_for() {
        let mut reader = Reader::default();
        let mut input = CHUNKS.as_bytes();
        reader.next(&mut input, Ask { keep: true, ..ANY }).unwrap().unwrap();
        assert_eq!(reader.take_kept(), b"hello");
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(
            which in prop::collection::vec(0usize..4, 0..6),
            noise in prop::collection::vec(any::<u8>(), 0..20),
            mut cuts in prop::collection::vec(0usize..600, 0..12),
        ) {
            let known = [HELLO, CHUNKS, "HTTP/1.1 204 No\r\n\r\n", "HTTP/1.1 100 Go\r\n\r\n"];
            let mut bytes: Vec<u8> = which.iter().flat_map(|at| known[*at].bytes()).collect();
            bytes.extend(noise);
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(bytes.len()));
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|two| &bytes[two[0]..two[1]]).collect();
            prop_assert_eq!(read(&pieces, ANY), read(&[&bytes], ANY));
        }
    }
}
