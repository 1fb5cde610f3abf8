//! Asking a new worker for an answer before anybody else does: one request over a connection of the
//! master with itself, whose other end is handed to the worker like any connection.

use super::Master;
use super::ledger::Arrival;
use crate::io::{Bytes, Completion, Fd, Half, Instant, Io, Kind, Op, Owned, Processes, Token};
use std::collections::BTreeMap;
use std::time::Duration;

/// The questions that are under way, by number. A question may outlive the worker that it was put
/// to.
pub(super) type Probes = BTreeMap<u32, Probe>;

/// One question, and what came of it.
#[derive(Debug)]
pub(super) struct Probe {
    fd: Fd,
    slot: u32,
    /// The life that is asked: its line of the board, and its slot's generation.
    line: u32,
    generation: u32,
    token: Token,
    /// Operations that the kernel holds.
    sending: bool,
    reading: bool,
    /// The first bytes of the answer.
    answer: Vec<u8>,
    judged: bool,
    /// When it is given up, answered or not.
    deadline: Instant,
    shut: bool,
}

impl<I: Io + Processes> Master<I> {
    /// Asks the candidate of this slot.
    pub(super) fn probe(&mut self, slot: u32, path: &str, time: Duration, now: Instant) {
        if let Err(why) = self.try_probe(slot, path, time, now) {
            self.probed(slot, Err(why));
        }
    }

    fn try_probe(
        &mut self,
        slot: u32,
        path: &str,
        time: Duration,
        now: Instant,
    ) -> Result<(), String> {
        let line = self.workers.candidate(slot).ok_or("it is gone")?;
        let process = self.processes.get_mut(&line).ok_or("it is gone")?;
        if !process.may_pass() {
            return Err("its channel is not free".to_owned());
        }
        let pair = self.io.pair().map_err(|errno| format!("no connection to ask it: {errno}"));
        let (fd, theirs) = pair?;
        process.outbox.push(Arrival { fd: theirs, listener: 0, at: now, carried: None });
        self.ledger.probe();
        process.pass(&mut self.io, line, self.ledger.handed(line));
        let generation = process.generation;
        // The kernel holds nothing of a number that is gone.
        let number = self.probes.last_key_value().map_or(0, |(last, _)| last + 1);
        let token = Token::new(Kind::Send, PROBES, number);
        let request = request(path).into_bytes();
        self.io.submit(token, Op::Send(&fd, Bytes::Owned(request), 0));
        // Past the transaction's own deadline: it says that the answer is late.
        let deadline = now.after(time).after(GRACE);
        let mut probe = Probe {
            fd,
            slot,
            line,
            generation,
            token,
            sending: true,
            reading: false,
            answer: Vec::new(),
            judged: false,
            deadline,
            shut: false,
        };
        probe.read(&mut self.io, vec![0; READ_BYTES].into_boxed_slice());
        self.probes.insert(number, probe);
        Ok(())
    }

    /// The request is out, or could not be sent: then the answer does not come either.
    pub(super) fn on_probe_sent(&mut self, completion: &Completion) {
        let _ = self.io.reclaim(completion.token);
        let number = completion.token.generation;
        if let Some(probe) = self.probes.get_mut(&number) {
            probe.sending = false;
        }
        self.join_probe(number);
    }

    /// Bytes of the answer, or its end.
    pub(super) fn on_probe_read(&mut self, completion: &Completion) {
        let number = completion.token.generation;
        let owned = self.io.reclaim(completion.token);
        let Some(probe) = self.probes.get_mut(&number) else { return };
        probe.reading = false;
        let count = completion.result.map_or(0, |count| count as usize);
        let Some(Owned::Buffer(buffer)) = owned else { return self.join_probe(number) };
        let bytes = &buffer[..count.min(buffer.len())];
        let room = HEAD_BYTES.saturating_sub(probe.answer.len());
        probe.answer.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let verdict = if count == 0 {
            verdict(&probe.answer).or_else(|| Some(Err("it closed the connection".to_owned())))
        } else {
            verdict(&probe.answer)
        };
        let (slot, line, generation) = (probe.slot, probe.line, probe.generation);
        let news = verdict.filter(|_| !std::mem::replace(&mut probe.judged, true));
        if count > 0 && !probe.shut {
            // All of it is read, so that the worker has sent it whole.
            probe.read(&mut self.io, buffer);
        }
        // The end of a question to an earlier candidate says nothing of this one.
        if let Some(result) = news
            && self.is_candidate(slot, line, generation)
        {
            self.probed(slot, result);
        }
        self.join_probe(number);
    }

    fn is_candidate(&self, slot: u32, line: u32, generation: u32) -> bool {
        let process = self.processes.get(&line);
        self.workers.candidate(slot) == Some(line)
            && process.is_some_and(|process| process.generation == generation)
    }

    /// Ends what took too long; all of them if the pool ends.
    pub(super) fn expire_probes(&mut self, all: bool, now: Instant) {
        for probe in self.probes.values_mut() {
            if (all || probe.deadline <= now) && !std::mem::replace(&mut probe.shut, true) {
                // Ends what the kernel holds.
                self.io.shutdown(&probe.fd, Half::Both);
            }
        }
    }

    fn join_probe(&mut self, number: u32) {
        let over = |probe: &Probe| !probe.sending && !probe.reading;
        if self.probes.get(&number).is_some_and(over)
            && let Some(probe) = self.probes.remove(&number)
        {
            self.close(probe.fd);
        }
    }
}

impl Probe {
    fn read<I: Io>(&mut self, io: &mut I, buffer: Box<[u8]>) {
        io.submit(self.token.with(Kind::Read), Op::Read(&self.fd, buffer, u64::MAX));
        self.reading = true;
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (!self.shut).then_some(self.deadline)
    }
}

/// What is asked.
#[must_use]
pub fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ringfort-probe\r\n\
         Connection: close\r\n\r\n"
    )
}

/// What the first bytes of an answer say; `None`: too few. Below 500 is good.
#[must_use]
pub fn verdict(answer: &[u8]) -> Option<Result<(), String>> {
    let line = answer.get(..STATUS_BYTES)?;
    let status = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    let status = status.filter(|status| status.iter().all(u8::is_ascii_digit));
    Some(match status.and_then(|status| str::from_utf8(status).ok()) {
        None => Err("its answer to the probe is not HTTP".to_owned()),
        Some(status) if status < "500" => Ok(()),
        Some(status) => Err(format!("it answered the probe with {status}")),
    })
}

/// Whether an operation is a probe's; others of its kinds are those of the line's messages.
pub(super) const fn is_probe(token: Token) -> bool {
    token.slot >= PROBES
}

/// Above all lines, in the slots of tokens.
const PROBES: u32 = Token::SLOTS_MAX / 2;
/// `HTTP/1.1 200`.
const STATUS_BYTES: usize = 12;
/// What is kept of an answer.
const HEAD_BYTES: usize = 64;
const READ_BYTES: usize = 4096;
const GRACE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, want: &str) {
        let got = match verdict(answer.as_bytes()) {
            None => "more".to_owned(),
            Some(Ok(())) => "good".to_owned(),
            Some(Err(why)) => why,
        };
        assert_eq!(got, want, "{answer:?}");
    }

    #[test]
    fn below_500_is_good() {
        check("", "more");
        check("HTTP/1.1 20", "more");
        check("HTTP/1.1 200", "good");
        check("HTTP/1.0 404 Not Found\r\n", "good");
        check("HTTP/1.1 499 x", "good");
        check("HTTP/1.1 500 x", "it answered the probe with 500");
        check("HTTP/1.1 503 Service Unavailable", "it answered the probe with 503");
        check("SSH-2.0-OpenSSH", "its answer to the probe is not HTTP");
        check("HTTP/1.1 2x0", "its answer to the probe is not HTTP");
    }
}
