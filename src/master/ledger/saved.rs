//! The books as they go to the next program of this process, and come from the one before. Pure.

use super::{Arrival, Ledger, RefuseReason, Totals, Transit, UNKNOWN_REASON};
use crate::io::{Fd, Instant};
use crate::ipc::handoff::Carried;
use crate::ipc::manifest::{ConnectionPart, LedgerPart, WorkerPart};
use crate::stats::{CloseReason, Counter};

impl Ledger {
    /// All but what is in transit.
    #[must_use]
    pub fn save(&self) -> LedgerPart {
        let dead = &self.dead;
        let refused = RefuseReason::ALL.iter().zip(&self.refused);
        let counters = Counter::ALL.iter().zip(&dead.counters);
        let reasons = CloseReason::ALL.iter().map(|reason| reason.name()).zip(&dead.reasons);
        let reasons = reasons.chain([(UNKNOWN_REASON, &dead.unknown)]);
        LedgerPart {
            accepted: self.accepted,
            refused: refused.map(|(reason, count)| (reason.name().to_owned(), *count)).collect(),
            redispatched: self.redispatched,
            rescued: self.rescued,
            probes: self.probes,
            deaths: self.deaths,
            killed: self.killed,
            closed_idle: self.closed_idle,
            own: dead.own,
            taken: dead.taken,
            handed_back: dead.handed_back,
            died: dead.died,
            lost: dead.lost,
            counters: counters.map(|(counter, n)| (counter.name().to_owned(), *n)).collect(),
            reasons: reasons.map(|(reason, n)| (reason.to_owned(), *n)).collect(),
        }
    }

    /// What is in transit to the life on this line.
    pub fn save_transit(&self, line: u32, part: &mut WorkerPart) {
        if let Some(transit) = self.transit.get(&line) {
            (part.handed, part.settled) = (transit.handed, transit.settled);
            (part.sent, part.revoked) = (transit.sent, transit.revoked);
            part.taken_back = transit.taken_back;
            part.copies = transit.copies.iter().map(save).collect();
        }
    }

    /// Books that another program saved. A counter that this one does not know is dropped; of
    /// reasons the connections are counted as [`UNKNOWN_REASON`], so that the books balance.
    #[must_use]
    pub fn restored(part: &LedgerPart) -> Self {
        let find = |all: &[(String, u64)], name: &str| {
            all.iter().find(|(known, _)| known == name).map_or(0, |(_, count)| *count)
        };
        let mut dead = Totals {
            own: part.own,
            taken: part.taken,
            handed_back: part.handed_back,
            died: part.died,
            lost: part.lost,
            ..Totals::default()
        };
        for (sum, counter) in dead.counters.iter_mut().zip(Counter::ALL) {
            *sum = find(&part.counters, counter.name());
        }
        for (sum, reason) in dead.reasons.iter_mut().zip(CloseReason::ALL) {
            *sum = find(&part.reasons, reason.name());
        }
        let all: u64 = part.reasons.iter().map(|(_, count)| count).sum();
        dead.unknown = all.saturating_sub(dead.reasons.iter().sum());
        Self {
            accepted: part.accepted,
            refused: RefuseReason::ALL.map(|reason| find(&part.refused, reason.name())),
            redispatched: part.redispatched,
            rescued: part.rescued,
            probes: part.probes,
            deaths: part.deaths,
            killed: part.killed,
            closed_idle: part.closed_idle,
            dead,
            ..Self::default()
        }
    }

    /// What was in transit to the life on this line.
    pub fn restore_transit(&mut self, part: &WorkerPart) {
        let transit = Transit {
            handed: part.handed,
            settled: part.settled,
            sent: part.sent,
            revoked: part.revoked,
            copies: part.copies.iter().map(restore).collect(),
            taken_back: part.taken_back,
        };
        self.transit.insert(part.line, transit);
    }
}

/// A connection as it is saved.
#[must_use]
pub fn save(arrival: &Arrival) -> ConnectionPart {
    ConnectionPart {
        fd: arrival.fd.raw(),
        listener: arrival.listener,
        at: arrival.at.as_nanos(),
        carried: arrival.carried.map(|carried| (carried.requests, carried.since.as_nanos())),
    }
}

/// A connection that was saved.
#[must_use]
pub fn restore(part: &ConnectionPart) -> Arrival {
    let carried = part
        .carried
        .map(|(requests, since)| Carried { requests, since: Instant::from_nanos(since) });
    Arrival {
        fd: Fd::new(part.fd),
        listener: part.listener,
        at: Instant::from_nanos(part.at),
        carried,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::board::Line;

    fn arrival(number: i32) -> Arrival {
        let carried = Carried { requests: 3, since: Instant::from_nanos(5) };
        let at = Instant::from_nanos(9);
        Arrival { fd: Fd::new(number), listener: 1, at, carried: Some(carried) }
    }

    fn books() -> Ledger {
        let mut ledger = Ledger::default();
        let dead = Line::detached();
        dead.add(Counter::Adopted, 3);
        dead.add(Counter::Requests, 8);
        dead.close(CloseReason::ClientClosed);
        dead.close(CloseReason::Reset);
        ledger.begin(1);
        ledger.bury(1, &dead);
        ledger.begin(2);
        (0..4).for_each(|_| ledger.accept());
        ledger.refuse(RefuseReason::PendingMax);
        let back = ledger.hand_over(2, [arrival(20), arrival(21), arrival(22)].into_iter());
        assert!(back.is_empty());
        ledger
    }

    /// As the next program has it, with a worker on line 2 that has received this many.
    fn report(ledger: &Ledger, received: u64) -> crate::master::Report {
        let line = Line::detached();
        line.add(Counter::Received, received);
        line.add(Counter::Adopted, received);
        ledger.report([(2, line, 0)].into_iter(), 0)
    }

    #[test]
    fn what_was_saved_are_the_same_books_again() {
        let mut before = books();
        before.settle(2, 1).for_each(drop);
        let mut part = WorkerPart { line: 2, ..WorkerPart::default() };
        before.save_transit(2, &mut part);
        assert_eq!((part.handed, part.settled, part.copies.len()), (3, 1, 2));
        let mut after = Ledger::restored(&before.save());
        after.restore_transit(&part);
        assert_eq!(report(&after, 2), report(&before, 2));
        assert!(report(&after, 2).balances());
        assert_eq!(after.settle(2, 2).collect::<Vec<_>>(), [Fd::new(21)]);
        assert_eq!(after.recover(2), [arrival(22)]);
    }

    #[test]
    fn a_reason_that_nobody_knows_any_more_leaves_the_books_balanced() {
        let before = books();
        let mut saved = before.save();
        for (name, _) in &mut saved.reasons {
            if name == "reset" {
                *name = "a word of another version".to_owned();
            }
        }
        let mut part = WorkerPart { line: 2, ..WorkerPart::default() };
        before.save_transit(2, &mut part);
        let mut after = Ledger::restored(&saved);
        after.restore_transit(&part);
        let (before, after) = (report(&before, 0), report(&after, 0));
        assert_eq!(after.cut.get("unknown_reason"), Some(&1));
        assert_eq!(after.cut.get("worker_died"), before.cut.get("worker_died"));
        assert_eq!((after.accepted, after.open), (before.accepted, before.open));
        assert_eq!(after.balances(), before.balances());
    }
}
