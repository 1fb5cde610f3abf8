//! Connections are opened, broken off, joined and closed.

use super::{CONNECTING_MAX, Client, Connection, Job, Life, NOT_DIRTY, Phase, RETRY};
use crate::io::{Address, Completion, Connects, Errno, Half, Io, Kind, Op, Token};
use crate::load::tally::Failure;
use std::net::{IpAddr, Ipv4Addr};

/// The source addresses of connections over loopback: each has ports of its own, so that many
/// short connections do not run out of them while old ones are in TIME-WAIT.
#[derive(Debug)]
pub(super) struct Sources {
    is_loopback: bool,
    /// From the first connection on, not only when one is opened anew.
    always: bool,
    /// Of 127.0.0.0/8, apart for each thread.
    next: u32,
}

/// Addresses of 127.0.0.0/8 without the first and the last.
const HOSTS: u32 = 0x00ff_fffe;
/// The default range of source ports (ip_local_port_range) has 28,232.
const ONE_SOURCE: u32 = 20_000;

impl Sources {
    pub(super) fn new(job: &Job) -> Self {
        let ip = match &job.address {
            Address::Tcp(address) => Some(address.ip()),
            Address::Unix(_) => None,
        };
        Self {
            is_loopback: ip.is_some_and(|ip| ip.is_ipv4() && ip.is_loopback()),
            always: job.requests_per_connection.is_some()
                || job.connections.saturating_mul(job.share.1) > ONE_SOURCE,
            next: job.share.0 % 0xff * 0x1_0000,
        }
    }

    /// For the next connection; `None`: as the kernel likes.
    fn next(&mut self, is_reopened: bool) -> Option<IpAddr> {
        if !self.is_loopback || !(self.always || is_reopened) {
            return None;
        }
        // 127.0.0.0 and 127.255.255.255 are no hosts.
        self.next = (self.next + 1) % HOSTS;
        let host = 1 + self.next;
        Some(IpAddr::V4(Ipv4Addr::from_bits(0x7f00_0000 | host)))
    }
}

impl<I: Io + Connects> Client<I> {
    pub(super) fn open_connection(&mut self, slot: usize) {
        let may = match self.phase {
            Phase::Connecting => self.connecting < CONNECTING_MAX,
            Phase::Ready | Phase::WarmUp | Phase::Measuring => true,
            // Only for what is due and was not sent yet.
            Phase::Draining => !self.is_sent(),
            Phase::Closing | Phase::Done => false,
        };
        if !may {
            return;
        }
        let connection = &mut self.connections[slot];
        debug_assert!(connection.fd.is_none(), "one at a time");
        let token = connection.token(slot, Kind::Connect);
        let source = self.sources.next(connection.is_reopened);
        match self.io.connect(token, &self.job.address, source) {
            Ok(fd) => {
                connection.fd = Some(fd);
                connection.connect_armed = true;
                connection.since = self.now;
                connection.life = Life::Connecting(self.now);
                self.connecting += 1;
            }
            Err(errno) => self.connect_failed(slot, errno),
        }
    }

    pub(super) fn on_connect(&mut self, completion: &Completion) {
        self.connecting -= 1;
        let slot = completion.token.slot as usize;
        let connection = &mut self.connections[slot];
        // Nothing else of a slot is in flight while it connects, so this is its present use.
        connection.connect_armed = false;
        if connection.life == Life::Joining {
            self.close_join(slot);
        } else if let Err(errno) = completion.result {
            self.close(slot);
            self.connect_failed(slot, errno);
        } else {
            self.opened(slot);
        }
        self.open_more();
    }

    /// Opens what had to wait for the connects before it.
    fn open_more(&mut self) {
        if self.phase != Phase::Connecting {
            return;
        }
        self.tick = self.now;
    }

    fn opened(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        connection.life = Life::Open;
        if self.phase == Phase::Connecting && !connection.is_reopened {
            // Many connections take their time; none for so long is what is too long.
            self.phase_end = self.now.after(self.job.timeout);
        }
        if std::mem::take(&mut connection.is_broken) {
            self.broken -= 1;
        }
        if std::mem::replace(&mut connection.is_reopened, true) && self.phase == Phase::Measuring {
            self.tally.connections.reopened += 1;
        }
        self.arm(slot);
        if self.is_asking() || self.schedule.is_some() {
            self.let_ask(slot);
        }
    }

    fn connect_failed(&mut self, slot: usize, errno: Errno) {
        let failure = match errno {
            Errno::Refused => Failure::Refused,
            Errno::AddressInUse => Failure::OutOfPorts,
            Errno::NoFds => Failure::OutOfDescriptors,
            Errno::Canceled => Failure::ConnectTimeout,
            Errno::Again
            | Errno::Interrupted
            | Errno::Busy
            | Errno::NoBuffers
            | Errno::PeerGone
            | Errno::Aborted
            | Errno::TooManyInFlight
            | Errno::Gone
            | Errno::Denied
            | Errno::Other(_) => Failure::Connect,
        };
        self.tally.fail(failure, || errno.to_string());
        self.connections[slot].life = Life::Closed(self.now.after(RETRY));
        self.mark_broken(slot);
    }

    pub(super) fn cancel_connect(&mut self, slot: usize) {
        let token = self.connections[slot].token(slot, Kind::Connect);
        self.io.submit(token.with(Kind::Cancel), Op::Cancel(token));
    }

    /// The connection is not as it should be: what is on its way on it has failed.
    pub(super) fn break_off(&mut self, slot: usize, failure: Failure, why: &str) {
        self.lose(slot, failure, why);
        self.mark_broken(slot);
        self.hang_up(slot);
    }

    fn mark_broken(&mut self, slot: usize) {
        if !std::mem::replace(&mut self.connections[slot].is_broken, true) {
            self.broken += 1;
        }
        if self.phase == Phase::Measuring {
            let alive = self.open() as u64;
            let min = &mut self.tally.connections.alive_min;
            *min = alive.min(*min);
        }
    }

    /// Ends the connection from our side, and opens another when the kernel has let go of it.
    pub(super) fn hang_up(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        if matches!(connection.life, Life::Closed(_) | Life::Joining) {
            return;
        }
        if connection.connect_armed {
            self.cancel_connect(slot);
        } else if (connection.recv_armed || connection.send_armed)
            && let Some(fd) = &connection.fd
        {
            self.io.shutdown(fd, Half::Both);
        }
        self.connections[slot].life = Life::Joining;
        self.close_join(slot);
    }

    pub(super) fn close_join(&mut self, slot: usize) {
        let connection = &self.connections[slot];
        let idle = !connection.connect_armed && !connection.recv_armed && !connection.send_armed;
        if connection.life == Life::Joining && idle {
            self.close(slot);
            self.open_connection(slot);
        }
    }

    fn close(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        connection.life = Life::Closed(self.now);
        connection.generation = connection.generation.wrapping_add(1);
        connection.reader.reset();
        connection.sent.clear();
        connection.asked = 0;
        connection.dirty = NOT_DIRTY;
        if let Some(fd) = connection.fd.take() {
            self.io.close(fd);
        }
    }
}

impl Connection {
    pub(super) fn token(&self, slot: usize, kind: Kind) -> Token {
        let slot = u32::try_from(slot).expect("there are at most a million");
        Token::new(kind, slot, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_stay_on_loopback_and_do_not_repeat_soon() {
        let mut sources = Sources { is_loopback: true, always: true, next: HOSTS - 50_000 };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100_000 {
            let source = sources.next(false).unwrap();
            assert!(source.is_loopback());
            assert!(seen.insert(source), "{source} again");
        }
        sources.always = false;
        assert_eq!(sources.next(false), None);
        assert!(sources.next(true).is_some());
    }
}
