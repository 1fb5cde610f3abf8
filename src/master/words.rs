//! What workers write to standard error, if the master reads it (`capture_stderr`): passed on to
//! its own, and the last lines of each kept for its end.

use super::Master;
use crate::io::{Completion, ErrnoClass, Fd, Io, Kind, Op, Owned, Processes, Token};
use std::collections::VecDeque;

/// The last lines of one worker.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<u8>);

impl Tail {
    fn add(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        self.0.drain(..self.0.len().saturating_sub(BYTES_MAX));
    }

    /// They, without their ends; the first may lack its beginning.
    pub(super) fn lines(mut self) -> Vec<String> {
        let text = String::from_utf8_lossy(self.0.make_contiguous()).into_owned();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let first = lines.len().saturating_sub(LINES_MAX);
        lines[first..].iter().map(|line| (*line).to_owned()).collect()
    }
}

/// Our end of the pipe that is a worker's standard error.
#[derive(Debug)]
pub(super) struct Words {
    fd: Option<Fd>,
    token: Token,
    reading: bool,
    canceled: bool,
    /// Nothing more comes.
    pub(super) over: bool,
    pub(super) tail: Tail,
}

impl Words {
    fn read<I: Io>(&mut self, io: &mut I, buffer: Box<[u8]>) {
        if let Some(fd) = &self.fd {
            self.reading = true;
            io.submit(self.token, Op::Read(fd, buffer, u64::MAX));
        }
    }

    /// Ends it when no operation uses it; whether it has ended.
    pub(super) fn close<I: Io>(&mut self, io: &mut I) -> bool {
        self.over = true;
        if self.reading {
            if !std::mem::replace(&mut self.canceled, true) {
                io.submit(self.token.with(Kind::Cancel), Op::Cancel(self.token));
            }
            return false;
        }
        if let Some(fd) = self.fd.take() {
            io.close(fd);
        }
        true
    }
}

/// Tells its tokens from those of mail and of probes.
pub(super) const fn is_words(token: Token) -> bool {
    token.slot >= WORDS && token.slot < 2 * WORDS
}

impl<I: Io + Processes> Master<I> {
    /// The worker of this line was spawned.
    pub(super) fn open_words(&mut self, line: u32) {
        let Some(process) = self.processes.get(&line) else { return };
        let Some(fd) = self.io.stderr(process.pid()) else { return };
        let token = Token::new(Kind::Read, WORDS + line, process.generation);
        let (tail, fd) = (Tail::default(), Some(fd));
        let mut words = Words { fd, token, reading: false, canceled: false, over: false, tail };
        words.read(&mut self.io, vec![0; BYTES_MAX].into_boxed_slice());
        self.words.insert(line, words);
    }

    pub(super) fn on_words(&mut self, completion: &Completion) {
        let line = completion.token.slot - WORDS;
        let owned = self.io.reclaim(completion.token);
        let (Some(words), Some(Owned::Buffer(buffer))) = (self.words.get_mut(&line), owned) else {
            return;
        };
        words.reading = false;
        match completion.result.map_err(crate::io::Errno::class) {
            Ok(count) if count > 0 => {
                let bytes = &buffer[..count as usize];
                self.io.pass_on(bytes);
                words.tail.add(bytes);
            }
            Err(ErrnoClass::Retry) => {}
            // Nobody holds the other end, or we do not want to know.
            Ok(_) | Err(_) => words.over = true,
        }
        if words.over {
            return self.join(line);
        }
        words.read(&mut self.io, buffer);
    }
}

/// In the slots of tokens, above all lines and below all probes.
const WORDS: u32 = Token::SLOTS_MAX / 4;
/// Of one worker.
const BYTES_MAX: usize = 4096;
const LINES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_within_their_bounds() {
        let mut tail = Tail::default();
        for number in 0..1000 {
            tail.add(format!("line {number}\r\n\n").as_bytes());
        }
        tail.add(b"\xff, and no end");
        let lines = tail.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (LINES_MAX, "line 985"));
        assert_eq!(lines[15], "\u{fffd}, and no end");
        let mut tail = Tail::default();
        tail.add(&[b'x'; 3 * BYTES_MAX]);
        assert_eq!(tail.lines()[0].len(), BYTES_MAX);
        assert!(Tail::default().lines().is_empty());
    }
}
