//! What a worker that hangs holds and has not begun: taken before it is struck, and given to others
//! when it is dead.
//!
//! Not earlier: its ring holds a receive on each, and would eat bytes of a new owner when it goes
//! on. That nobody has read or written a byte is asked of the kernel again after its death, when
//! its ring is gone too: so nothing is answered twice, and no byte is missing.

use super::Master;
use super::ledger::Arrival;
use crate::event::Event;
use crate::io::{Errno, Instant, Io, Processes};
use crate::stats::Counter;

impl<I: Io + Processes> Master<I> {
    /// Takes copies of what it has not begun. Gives back how many.
    pub(super) fn take_untouched(&mut self, line: u32, now: Instant) -> Result<u64, Errno> {
        let Some(process) = self.processes.get(&line) else { return Ok(0) };
        let Some(pidfd) = &process.pidfd else { return Ok(0) };
        let port = |address: &String| address.rsplit(':').next().and_then(|p| p.parse().ok());
        let addresses = self.control.addresses();
        let ports: Vec<u16> = addresses.iter().filter_map(port).collect();
        let found = self.io.untouched(process.pid(), pidfd, &ports, UNTOUCHED_MAX)?;
        let index = |of| addresses.iter().position(|address| port(address) == Some(of));
        let arrivals: Vec<Arrival> = found
            .into_iter()
            .map(|(of, fd)| {
                let listener = index(of).and_then(|index| u16::try_from(index).ok()).unwrap_or(0);
                Arrival { fd, listener, at: now, carried: None }
            })
            .collect();
        let count = arrivals.len() as u64;
        self.untouched.insert(line, arrivals);
        Ok(count)
    }

    /// The worker is dead, and its ring gone: what it has not begun goes to others. For the books,
    /// it gave them back.
    pub(super) fn release_untouched(&mut self, line: u32, now: Instant) {
        let (mut count, board) = (0, self.board.line(line));
        for arrival in self.untouched.remove(&line).unwrap_or_default() {
            // It may have died with fewer than we saw: those that it had not counted yet.
            let is_open = super::ledger::open_in(&board) > count;
            if is_open && self.io.is_untouched(&arrival.fd) {
                self.pending.put_back(Arrival { at: now, ..arrival });
                count += 1;
            } else {
                self.close(arrival.fd);
            }
        }
        board.add(Counter::HandedBack, count);
        self.ledger.rescue(line, count);
        if count > 0
            && let Some(life) = self.workers.life(line)
        {
            (self.events)(&Event::Redispatched { slot: life.slot, count });
        }
    }
}

/// Of one worker, at a time: each takes three system calls to look at.
const UNTOUCHED_MAX: usize = 1024;
