//! The body of a request: one machine over its framing. Pure.

use super::chunk::Decoder;
use super::close::Refusal;
use super::head::Framing;
use crate::config::Config;

/// How large a body, and what carries it, may become. Taken from a valid [`Config`].
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    pub(super) body_max: u64,
    pub(super) chunk_line_max: u32,
    pub(super) chunk_overhead_max: u32,
}

impl From<&Config> for BodyLimits {
    fn from(config: &Config) -> Self {
        // Both ranges end far below 4 GiB.
        let narrow = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self {
            body_max: config.body_max(),
            chunk_line_max: narrow(config.chunk_line_max()),
            chunk_overhead_max: narrow(config.chunk_overhead_max()),
        }
    }
}

impl BodyLimits {
    /// Of what a client reads, in chunks of whatever size: only a single chunk line has a limit, of
    /// 4 KiB.
    pub const REPLY: Self =
        Self { body_max: u64::MAX, chunk_line_max: 4096, chunk_overhead_max: u32::MAX };
}

/// Where the body of the current request stands. It holds no bytes.
#[derive(Clone, Debug)]
pub struct Body(Machine);

#[derive(Clone, Debug)]
enum Machine {
    /// So many bytes are still to come. Without a body: none.
    Length(u64),
    Chunked(Decoder),
}

/// What became of the input of [`Body::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// So many bytes of the input belong to this body. The rest is the next request's.
    pub used: usize,
    /// The body is complete. Until then all input is used.
    pub done: bool,
}

impl Body {
    /// The body that a head announced. Its length was checked with the head.
    #[must_use]
    pub fn new(framing: Framing, limits: &BodyLimits) -> Self {
        Self(match framing {
            Framing::None => Machine::Length(0),
            Framing::Length(bytes) => Machine::Length(bytes),
            Framing::Chunked => Machine::Chunked(Decoder::new(limits)),
        })
    }

    /// Takes what belongs to this body and gives its content, piece by piece, to `sink`. Call it
    /// right after `new` too: a body may be complete without a byte.
    ///
    /// # Errors
    ///
    /// 400 for bad chunks, 413 for a chunked body over `body_max`. The connection is then out of
    /// step; nothing after it may be served.
    pub fn decode(
        &mut self,
        input: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<Decoded, Refusal> {
        match &mut self.0 {
            Machine::Length(left) => {
                let here = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                if here > 0 {
                    sink(&input[..here]);
                }
                *left -= here as u64;
                Ok(Decoded { used: here, done: *left == 0 })
            }
            Machine::Chunked(decoder) => decoder.decode(input, sink),
        }
    }

    /// Whether all of it was decoded.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.0 {
            Machine::Length(left) => *left == 0,
            Machine::Chunked(decoder) => decoder.is_done(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"content" used`, with `…` while more is to come, for each piece in turn.
    #[track_caller]
    fn check(framing: Framing, pieces: &[&str], want: &str) {
        let mut body = Body::new(framing, &BodyLimits::from(&Config::default()));
        let mut shown = Vec::new();
        for piece in pieces {
            let mut content = Vec::new();
            let mut sink = |bytes: &[u8]| content.extend_from_slice(bytes);
            let decoded = body.decode(piece.as_bytes(), &mut sink).unwrap();
            assert_eq!(decoded.done, body.is_done());
            let more = if decoded.done { "" } else { "…" };
            shown.push(format!("\"{}\" {}{more}", content.escape_ascii(), decoded.used));
        }
        assert_eq!(shown.join(", "), want);
    }

    #[test]
    fn none() {
        check(Framing::None, &["", "GET"], "\"\" 0, \"\" 0");
        check(Framing::Length(0), &["", "GET"], "\"\" 0, \"\" 0");
    }

    #[test]
    fn length() {
        check(Framing::Length(5), &["helloGET"], "\"hello\" 5");
        check(
            Framing::Length(5),
            &["", "hel", "lo", "GET"],
            "\"\" 0…, \"hel\" 3…, \"lo\" 2, \"\" 0",
        );
        check(Framing::Length(u64::MAX), &["hello"], "\"hello\" 5…");
    }

    #[test]
    fn chunked() {
        let pieces = ["5\r\nhe", "llo", "\r\n0\r\n", "\r\nGET", "GET"];
        check(Framing::Chunked, &pieces, "\"he\" 5…, \"llo\" 3…, \"\" 5…, \"\" 2, \"\" 0");
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Body>() <= 32, "{}", size_of::<Body>());
    }
}
