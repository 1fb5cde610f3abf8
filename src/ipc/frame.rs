//! The length prefix of the stream channel: four bytes big-endian, then the payload. Pure.

use super::WireError;

const PREFIX: usize = 4;

/// Appends one frame.
///
/// # Errors
///
/// An empty payload, or one above `max` bytes.
pub fn encode(payload: &[u8], max: usize, bytes: &mut Vec<u8>) -> Result<(), WireError> {
    let length = length(payload.len(), max)?;
    bytes.reserve(PREFIX + payload.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
    Ok(())
}

/// Cuts a stream of bytes into frames, wherever the bytes were cut on their way.
///
/// It holds what came and nothing more: a prefix that announces a megabyte reserves no megabyte.
/// Call [`Frames::next_frame`] until it answers `None` after every [`Frames::push`]; then it never
/// holds more than one frame and one push.
#[derive(Debug)]
pub struct Frames {
    max: usize,
    buffer: Vec<u8>,
    start: usize,
}

impl Frames {
    /// Takes frames of up to `max` bytes (`message_max`).
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, buffer: Vec::new(), start: 0 }
    }

    /// Bytes came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// What came and is no whole frame yet.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The next whole frame's payload; `None` until more bytes come.
    ///
    /// # Errors
    ///
    /// A length of 0 or above the limit, as soon as its prefix is there. The stream cannot be read
    /// on after that: every further call gives the same error.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, WireError> {
        let rest = &self.buffer[self.start..];
        let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let announced = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        length(announced, self.max)?;
        let Some(payload) = rest.get(..announced) else {
            return Ok(None);
        };
        self.start += PREFIX + announced;
        Ok(Some(payload))
    }

    /// Whether a frame has begun and not ended: at end-of-file, the sender broke off.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.start < self.buffer.len()
    }
}

fn length(bytes: usize, max: usize) -> Result<u32, WireError> {
    match u32::try_from(bytes) {
        Ok(0) => Err(WireError::Empty),
        Ok(length) if bytes <= max => Ok(length),
        _ => Err(WireError::TooLarge { bytes, max }),
    }
}

/// For the fuzzer: any bytes, cut anywhere, give the same frames and the same end.
pub fn fuzz(data: &[u8]) {
    let (&cut, stream) = data.split_first().unwrap_or((&0, &[]));
    let whole = frames(stream, stream.len().max(1));
    assert_eq!(
        frames(stream, usize::from(cut).max(1)),
        whole,
        "where bytes are cut must not matter"
    );
    let mut again = Vec::new();
    for payload in &whole.0 {
        encode(payload, FUZZ_MAX, &mut again).expect("a frame that was read can be written");
    }
    assert!(stream.starts_with(&again), "a frame is written as it was read");
}

fn frames(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<WireError>) {
    let mut frames = Frames::new(FUZZ_MAX);
    let mut payloads = Vec::new();
    for bytes in stream.chunks(piece) {
        frames.push(bytes);
        loop {
            match frames.next_frame() {
                Ok(Some(payload)) => payloads.push(payload.to_vec()),
                Ok(None) => break,
                Err(error) => return (payloads, Some(error)),
            }
        }
    }
    (payloads, None)
}

const FUZZ_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_cut_gives_the_same_frames(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
            piece in 1_usize..400,
            tail in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut stream = Vec::new();
            for payload in &payloads {
                encode(payload, FUZZ_MAX, &mut stream).unwrap();
            }
            stream.extend_from_slice(&tail);
            prop_assert_eq!(frames(&stream, piece), (payloads, None));
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(data in prop::collection::vec(any::<u8>(), 0..600)) {
            fuzz(&data);
        }
    }

    #[track_caller]
    fn check(stream: &[u8], want: Result<Option<&[u8]>, WireError>) {
        let mut frames = Frames::new(4);
        frames.push(stream);
        assert_eq!(frames.next_frame(), want);
    }

    #[test]
    fn limits() {
        check(&[], Ok(None));
        check(&[0, 0, 0], Ok(None));
        check(&[0, 0, 0, 0], Err(WireError::Empty));
        check(&[0, 0, 0, 1, 9], Ok(Some(&[9])));
        check(&[0, 0, 0, 4, 1, 2, 3, 4, 0], Ok(Some(&[1, 2, 3, 4])));
        check(&[0, 0, 0, 4, 1, 2, 3], Ok(None));
        check(&[0, 0, 0, 5], Err(WireError::TooLarge { bytes: 5, max: 4 }));
        check(&[255; 4], Err(WireError::TooLarge { bytes: 0xffff_ffff, max: 4 }));
        assert_eq!(encode(&[], 4, &mut Vec::new()), Err(WireError::Empty));
        let above = WireError::TooLarge { bytes: 5, max: 4 };
        assert_eq!(encode(&[0; 5], 4, &mut Vec::new()), Err(above));
    }

    #[test]
    fn a_broken_stream_stays_broken() {
        let mut frames = Frames::new(4);
        frames.push(&[0, 0, 0, 0]);
        assert_eq!(frames.next_frame(), Err(WireError::Empty));
        frames.push(&[0, 0, 0, 1, 1]);
        assert_eq!(frames.next_frame(), Err(WireError::Empty));
        assert!(frames.is_partial());
    }

    #[test]
    fn memory_follows_what_came_not_what_was_announced() {
        let mut frames = Frames::new(64 << 20);
        frames.push(&[4, 0, 0, 0, 1]);
        assert_eq!(frames.next_frame(), Ok(None));
        assert!(frames.buffer.capacity() < 64);
    }
}
