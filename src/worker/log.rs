//! The access log: what the protocol collected in a pass goes to the file in one write, which the
//! loop never waits for.

use super::{CHANNEL, Key, Worker};
use crate::io::{Bytes, Completion, Errno, ErrnoClass, Fd, Instant, Io, Kind, Op, Owned};
use crate::protocol::Protocol;
use crate::stats::Counter;
use std::time::Duration;

/// The file, and what the kernel is writing to it.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) file: Option<Fd>,
    /// Lines on their way, if there are any.
    writing: Option<u64>,
    /// Nothing else is left to do: how long the worker stays for them.
    pub(super) until: Option<Instant>,
}

impl Log {
    pub(super) const fn new(file: Option<Fd>) -> Self {
        Self { file, writing: None, until: None }
    }
}

impl<I: Io, P: Protocol> Worker<I, P> {
    /// Writes what has been collected, one write at a time.
    pub(super) fn write_log(&mut self) {
        if self.log.file.is_none() || self.log.writing.is_some() {
            return;
        }
        let lines = self.protocol.log().map(std::mem::take).unwrap_or_default();
        if !lines.is_empty() {
            self.write(lines.into_bytes().into(), 0);
        }
    }

    fn write(&mut self, bytes: Bytes, offset: usize) {
        let Some(file) = &self.log.file else { return };
        self.log.writing = Some(lines(&bytes[offset..]));
        let token = Key { slot: CHANNEL, generation: 0 }.token(Kind::Write);
        self.io.submit(token, Op::Write(file, bytes, offset));
    }

    /// A write took some bytes, or failed: then its lines are lost, and counted.
    pub(super) fn on_write(&mut self, completion: &Completion) {
        self.log.writing = None;
        let Some(Owned::Bytes(bytes, offset)) = self.io.reclaim(completion.token) else { return };
        let written = match completion.result.map_err(Errno::class) {
            Ok(count) => count as usize,
            Err(ErrnoClass::Retry) => return self.write(bytes, offset),
            Err(ErrnoClass::Pause | ErrnoClass::Close | ErrnoClass::Expected) => 0,
        };
        let end = offset + written;
        if end >= bytes.len() {
            return;
        }
        if written > 0 {
            return self.write(bytes, end);
        }
        self.line.add(Counter::AccessLogDropped, lines(&bytes[end..]));
    }

    /// Whether the worker, which has nothing else to do, need not stay for its log: all is written,
    /// or nobody reads the pipe that it goes to. What is on its way then is lost, and counted.
    pub(super) fn has_logged(&mut self, at_once: bool) -> bool {
        let Some(lines) = self.log.writing else { return true };
        let now = self.now;
        let until = *self.log.until.get_or_insert_with(|| now.after(GRACE));
        if !at_once && now < until {
            return false;
        }
        self.line.add(Counter::AccessLogDropped, lines);
        true
    }
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// How long a drained worker waits for its log.
const GRACE: Duration = Duration::from_secs(1);
