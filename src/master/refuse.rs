//! Answers 503 and closes without a reset: receive what is unread, send, end our half, linger,
//! join, close.
//!
//! A close with unread bytes resets the connection, and the reset destroys the answer on its way
//! (RFC 9112 §9.6). So a receive is armed first, and it drops what comes until the peer closes or
//! the linger is over.

use crate::io::{Completion, ErrnoClass, Fd, Half, Instant, Io, Kind, Op, SendNow, Token};
use std::collections::BTreeMap;
use std::time::Duration;

/// The answer. The Date header is optional for 5xx (RFC 9110 §6.6.1).
pub const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Retry-After: 1\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 20\r\n\
    Connection: close\r\n\
    \r\n\
    Service unavailable\n";

/// Most connections that linger at a time; above, the oldest is closed at once.
pub const LINGERING_MAX: usize = 256;

/// The connections that are being refused, oldest first.
#[derive(Debug)]
pub struct Refusals {
    rows: BTreeMap<u64, Refusal>,
    next: u64,
    /// Whose answers the next `wait` sends.
    sending: Vec<u64>,
    /// Whose answers the last `wait` sent.
    lent: Vec<u64>,
    linger: Duration,
    closed: u64,
    /// Idle ones that ended as such, and those that asked for something after all: not yet told.
    idle: u64,
    asked: u64,
}

#[derive(Debug)]
struct Refusal {
    fd: Fd,
    stage: Stage,
    /// The kernel holds the receive.
    receiving: bool,
    /// The peer is at its end, or gone.
    ended: bool,
    /// How often its receive found no buffer.
    starved: u8,
    deadline: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It idled with a worker before: answered only if something comes.
    Listening,
    /// The answer goes out with the next `wait`.
    Sending,
    /// The answer is out; reading until the peer closes.
    Lingering,
    /// Closed when its receive has ended.
    Closing,
}

impl Refusals {
    /// None yet; each may linger so long.
    #[must_use]
    pub fn new(linger: Duration) -> Self {
        let (sending, lent) = (Vec::new(), Vec::new());
        Self { rows: BTreeMap::new(), next: 0, sending, lent, linger, closed: 0, idle: 0, asked: 0 }
    }

    /// Refuses one that idles: nothing is said to it, unless it asks within [`IDLE_GRACE`].
    pub fn listen<I: Io>(&mut self, io: &mut I, fd: Fd, now: Instant) {
        self.add(io, fd, Stage::Listening, now.after(IDLE_GRACE.min(self.linger)));
    }

    /// Those to come may linger so long.
    pub fn set_linger(&mut self, linger: Duration) {
        self.linger = linger;
    }

    /// Refuses one: arms the receive, and lends the answer to the next `wait`.
    pub fn begin<I: Io>(&mut self, io: &mut I, fd: Fd, now: Instant) {
        self.sending.push(self.next);
        self.add(io, fd, Stage::Sending, now.after(self.linger));
    }

    fn add<I: Io>(&mut self, io: &mut I, fd: Fd, stage: Stage, deadline: Instant) {
        let number = self.next;
        self.next += 1;
        io.submit(token(number), Op::Recv(&fd));
        let refusal = Refusal { fd, stage, receiving: true, ended: false, starved: 0, deadline };
        self.rows.insert(number, refusal);
    }

    /// What the next `wait` sends.
    pub fn sends(&self) -> impl ExactSizeIterator<Item = SendNow<'_>> {
        self.sending.iter().map(|number| SendNow {
            token: token(*number).with(Kind::SendNow),
            // A row stays in the table as long as it is in `sending`.
            fd: &self.rows[number].fd,
            head: UNAVAILABLE,
            body: &[],
        })
    }

    /// The `wait` has sent them; which of them failed is in its completions.
    pub fn waited(&mut self) {
        self.lent.append(&mut self.sending);
    }

    /// Whether the next `wait` sends anything. Then it must not sleep: what is out makes no
    /// completion, and its linger is to begin.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        !self.sending.is_empty()
    }

    /// The answer did not go out whole: the peer is gone, or does not read even so little.
    pub fn on_send(&mut self, completion: &Completion) {
        if let Some(refusal) = self.rows.get_mut(&number(completion.token)) {
            refusal.ended = true;
        }
    }

    /// Something came, and is dropped; or the receive has ended.
    pub fn on_recv<I: Io>(&mut self, io: &mut I, completion: Completion) {
        if let Some(buf) = completion.buf {
            io.recycle(buf);
        }
        let number = number(completion.token);
        let Some(refusal) = self.rows.get_mut(&number) else { return };
        refusal.receiving = completion.more;
        match completion.result {
            Ok(0) => refusal.ended = true,
            Ok(_) if refusal.stage == Stage::Listening => {
                refusal.stage = Stage::Sending;
                refusal.deadline = refusal.deadline.after(self.linger);
                self.asked += 1;
                self.sending.push(number);
            }
            Ok(_) => {}
            Err(errno) => match errno.class() {
                ErrnoClass::Retry => {}
                // All buffers were taken; they are free again when this pass is over.
                ErrnoClass::Pause if refusal.starved < STARVED_MAX => refusal.starved += 1,
                ErrnoClass::Pause | ErrnoClass::Close | ErrnoClass::Expected => {
                    refusal.ended = true;
                }
            },
        }
        if !refusal.receiving && !refusal.ended && refusal.stage != Stage::Closing {
            io.submit(completion.token, Op::Recv(&refusal.fd));
            refusal.receiving = true;
        }
        self.close_join(io, number);
    }

    /// The completions of the last `wait` were handled: what it sent without one is out.
    pub fn sent<I: Io>(&mut self, io: &mut I) {
        for number in std::mem::take(&mut self.lent) {
            if let Some(refusal) = self.rows.get_mut(&number) {
                refusal.stage = Stage::Lingering;
                if !refusal.ended {
                    io.shutdown(&refusal.fd, Half::Write);
                }
            }
            self.close_join(io, number);
        }
        let mut excess = self.rows.len().saturating_sub(LINGERING_MAX);
        while excess > 0
            && let Some(number) = self.first_lingering()
        {
            self.close(io, number);
            excess -= 1;
        }
    }

    /// Closes those that have lingered long enough.
    pub fn expire<I: Io>(&mut self, io: &mut I, now: Instant) {
        while let Some(number) = self.first_lingering()
            && self.rows[&number].deadline <= now
        {
            self.close(io, number);
        }
    }

    /// Nobody lingers any more.
    pub fn hurry(&mut self, now: Instant) {
        self.linger = Duration::ZERO;
        for refusal in self.rows.values_mut() {
            refusal.deadline = now;
        }
    }

    /// When to expire the next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.first_lingering().map(|number| self.rows[&number].deadline)
    }

    /// Whether all are closed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many were ever closed.
    #[must_use]
    pub const fn closed(&self) -> u64 {
        self.closed
    }

    /// How many idle ones ended as such and how many asked for something, since it was last asked.
    pub fn take_idle(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.idle), std::mem::take(&mut self.asked))
    }

    /// How many of which neither is known, or told.
    #[must_use]
    pub fn undecided(&self) -> u64 {
        let listens = |refusal: &&Refusal| refusal.stage == Stage::Listening;
        self.rows.values().filter(listens).count() as u64 + self.idle + self.asked
    }

    fn first_lingering(&self) -> Option<u64> {
        let waits = |stage| matches!(stage, Stage::Lingering | Stage::Listening);
        let waiting = self.rows.iter().filter(|(_, refusal)| waits(refusal.stage));
        waiting.min_by_key(|(_, refusal)| refusal.deadline).map(|(&number, _)| number)
    }

    fn close<I: Io>(&mut self, io: &mut I, number: u64) {
        if let Some(refusal) = self.rows.get_mut(&number) {
            self.idle += u64::from(refusal.stage == Stage::Listening);
            refusal.stage = Stage::Closing;
            refusal.ended = true;
            if refusal.receiving {
                let recv = token(number);
                io.submit(recv.with(Kind::Cancel), Op::Cancel(recv));
            }
        }
        self.close_join(io, number);
    }

    /// Closes it when its answer is out, its peer is at its end and no operation uses it.
    fn close_join<I: Io>(&mut self, io: &mut I, number: u64) {
        let Some(refusal) = self.rows.get(&number) else { return };
        if !refusal.ended || refusal.receiving || refusal.stage == Stage::Sending {
            return;
        }
        if let Some(refusal) = self.rows.remove(&number) {
            self.idle += u64::from(refusal.stage == Stage::Listening);
            io.close(refusal.fd);
            self.closed += 1;
        }
    }
}

/// The number is split over slot and generation: it never comes again while its row lives.
#[expect(clippy::cast_possible_truncation, reason = "cut to the width of each field on purpose")]
fn token(number: u64) -> Token {
    let slots = u64::from(Token::SLOTS_MAX);
    Token::new(Kind::Recv, (number % slots) as u32, (number / slots) as u32)
}

fn number(token: Token) -> u64 {
    u64::from(token.generation) * u64::from(Token::SLOTS_MAX) + u64::from(token.slot)
}

/// How long an idle connection is listened to: a request may be on its way to it.
const IDLE_GRACE: Duration = Duration::from_millis(500);
/// How often a receive that found no buffer is armed again.
const STARVED_MAX: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_its_length() {
        let text = std::str::from_utf8(UNAVAILABLE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    }

    #[test]
    fn a_token_finds_its_row() {
        for n in [0, 1, u64::from(Token::SLOTS_MAX) - 1, u64::from(Token::SLOTS_MAX) * 7 + 3] {
            assert_eq!(number(token(n)), n);
        }
    }
}
