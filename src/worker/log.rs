//! The access log: what the protocol collected in a pass goes to the file in one write, which the
//! loop never waits for.

use super::{CHANNEL, Key, Worker};
use crate::io::{Bytes, Completion, Errno, ErrnoClass, Fd, Io, Kind, Op, Owned};
use crate::protocol::Protocol;
use crate::stats::Counter;

/// The file, and whether the kernel is writing to it.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) file: Option<Fd>,
    pub(super) is_writing: bool,
}

impl<I: Io, P: Protocol> Worker<I, P> {
    /// Writes what has been collected, one write at a time.
    pub(super) fn write_log(&mut self) {
        if self.log.file.is_none() || self.log.is_writing {
            return;
        }
        let lines = self.protocol.log().map(std::mem::take).unwrap_or_default();
        if !lines.is_empty() {
            self.write(lines.into_bytes().into(), 0);
        }
    }

    fn write(&mut self, bytes: Bytes, offset: usize) {
        let Some(file) = &self.log.file else { return };
        self.log.is_writing = true;
        let token = Key { slot: CHANNEL, generation: 0 }.token(Kind::Write);
        self.io.submit(token, Op::Write(file, bytes, offset));
    }

    /// A write took some bytes, or failed: then its lines are lost, and counted.
    pub(super) fn on_write(&mut self, completion: &Completion) {
        self.log.is_writing = false;
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
        let lost = bytes[end..].iter().filter(|byte| **byte == b'\n').count();
        self.line.add(Counter::AccessLogDropped, lost as u64);
    }
}
