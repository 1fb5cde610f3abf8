//! The chunked transfer coding (RFC 9112 §7.1), read byte by byte as it comes. Pure.
//!
//! Extensions and trailers are read, checked and dropped. A byte is judged by what stands before
//! it and by nothing else, so where the bytes are cut cannot matter.

use super::body::{BodyLimits, Decoded};
use super::close::Refusal;
use super::syntax::{is_text, is_token};

/// Where a chunked body stands.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// In a chunk line: the size so far. In data: the bytes that are still to come.
    size: u64,
    /// Bytes of content that may still be announced.
    room: u64,
    /// Bytes that may still be spent on extensions, padding and trailers.
    overhead_left: u32,
    /// Bytes that this line may still have.
    line_left: u32,
    line_max: u32,
}

/// What comes next. `Bws` is the "bad" whitespace of RFC 9110 §5.6.3: read, never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SizeFirst,
    Size,
    /// After `;`.
    NameFirst,
    Name,
    /// After a name and whitespace.
    NameBws,
    /// After `=`.
    ValueFirst,
    Value,
    Quoted,
    /// After a backslash in quotes.
    QuotedPair,
    QuotedEnd,
    /// After a size or a value and whitespace.
    ValueBws,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// A trailer, or the empty line that ends the body.
    TrailerFirst,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl Decoder {
    pub(super) fn new(limits: &BodyLimits) -> Self {
        Self {
            state: State::SizeFirst,
            size: 0,
            room: limits.body_max,
            overhead_left: limits.chunk_overhead_max,
            line_left: limits.chunk_line_max,
            line_max: limits.chunk_line_max,
        }
    }

    /// As [`super::body::Body::decode`].
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<Decoded, Refusal> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                at += self.take_data(&input[at..], sink);
            } else {
                self.state = self.step(input[at])?;
                at += 1;
            }
        }
        Ok(Decoded { used: at, done: self.is_done() })
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn take_data(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8])) -> usize {
        let here = usize::try_from(self.size).map_or(input.len(), |left| left.min(input.len()));
        sink(&input[..here]);
        self.size -= here as u64;
        if self.size == 0 {
            self.state = State::DataCr;
        }
        here
    }

    /// One byte that is not data.
    fn step(&mut self, byte: u8) -> Result<State, Refusal> {
        if !matches!(byte, b'\r' | b'\n') {
            self.line_left = self.line_left.checked_sub(1).ok_or(Refusal::BAD_REQUEST)?;
        }
        Ok(match (self.state, byte) {
            (State::SizeFirst | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.push_digit(byte)?;
                State::Size
            }
            (State::Size | State::Name | State::Value | State::QuotedEnd, b'\r') => State::SizeLf,
            (State::SizeLf, b'\n') => self.end_size_line()?,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.start_line();
                State::SizeFirst
            }
            (State::TrailerFirst, b'\r') => State::EndLf,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => {
                self.start_line();
                State::TrailerFirst
            }
            (State::EndLf, b'\n') => State::Done,
            (state, byte) => {
                self.spend()?;
                step_overhead(state, byte)?
            }
        })
    }

    /// One more digit of a size.
    fn push_digit(&mut self, byte: u8) -> Result<(), Refusal> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        if self.state == State::Size && self.size == 0 {
            self.spend()?; // a leading zero
        }
        if self.size >> 60 != 0 {
            return Err(Refusal::BAD_REQUEST);
        }
        self.size = self.size << 4 | u64::from(digit);
        Ok(())
    }

    /// The size is known: data follows, or trailers after the last chunk.
    fn end_size_line(&mut self) -> Result<State, Refusal> {
        self.start_line();
        self.room = self.room.checked_sub(self.size).ok_or(Refusal::BODY_TOO_LARGE)?;
        Ok(if self.size == 0 { State::TrailerFirst } else { State::Data })
    }

    fn start_line(&mut self) {
        self.line_left = self.line_max;
    }

    /// Sizes and line ends are free, so that a body of many tiny chunks is served; all else that
    /// is not content is counted.
    fn spend(&mut self) -> Result<(), Refusal> {
        self.overhead_left = self.overhead_left.checked_sub(1).ok_or(Refusal::BAD_REQUEST)?;
        Ok(())
    }
}

/// One byte of an extension (RFC 9112 §7.1.1) or of a trailer (§7.1.2).
fn step_overhead(state: State, byte: u8) -> Result<State, Refusal> {
    Ok(match (state, byte) {
        (State::Size | State::Value | State::QuotedEnd | State::ValueBws, b' ' | b'\t') => {
            State::ValueBws
        }
        (
            State::Size
            | State::Name
            | State::NameBws
            | State::Value
            | State::QuotedEnd
            | State::ValueBws,
            b';',
        ) => State::NameFirst,
        (State::NameFirst, b' ' | b'\t') => State::NameFirst,
        (State::Name | State::NameBws, b' ' | b'\t') => State::NameBws,
        (State::Name | State::NameBws, b'=') => State::ValueFirst,
        (State::ValueFirst, b' ' | b'\t') => State::ValueFirst,
        (State::ValueFirst, b'"') => State::Quoted,
        (State::Quoted, b'"') => State::QuotedEnd,
        (State::Quoted, b'\\') => State::QuotedPair,
        (State::TrailerName, b':') => State::TrailerValue,
        (State::NameFirst | State::Name, byte) if is_token(byte) => State::Name,
        (State::ValueFirst | State::Value, byte) if is_token(byte) => State::Value,
        (State::Quoted | State::QuotedPair, byte) if is_text(byte) => State::Quoted,
        (State::TrailerFirst | State::TrailerName, byte) if is_token(byte) => State::TrailerName,
        (State::TrailerValue, byte) if is_text(byte) => State::TrailerValue,
        _ => return Err(Refusal::BAD_REQUEST),
    })
}

#[cfg(test)]
mod tests;
