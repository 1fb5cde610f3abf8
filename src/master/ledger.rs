//! What became of every connection: accepted = served + refused + cut + open, and what is in
//! transit to whom. Pure.
//!
//! A connection is counted where it is decided: the master counts what it accepts, refuses and
//! hands over; a worker counts on its line what it takes and how that ends. What a dead worker left
//! open is cut. What was on its way to it goes to others, and counts for them.

pub mod saved;

use crate::io::{Fd, Instant};
use crate::ipc::board::Line;
use crate::ipc::handoff::Carried;
use crate::stats::{Class, CloseReason, Counter};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// A connection that the master accepted and still answers for.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The connection.
    pub fd: Fd,
    /// The listener it arrived on, by index into the pool's addresses.
    pub listener: u16,
    /// When it was accepted, or came back.
    pub at: Instant,
    /// What a worker that gave it back said of it.
    pub carried: Option<Carried>,
}

/// Why the master answered a connection with 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefuseReason {
    /// More were waiting for a worker than `pending_max`.
    PendingMax,
    /// It waited for a worker longer than `pending_timeout`.
    PendingTimeout,
    /// No worker serves, and none would have come up within `pending_timeout`.
    NoWorker,
    /// The master was out of descriptors.
    OutOfFds,
    /// The pool drains, and no worker could take it any more.
    Draining,
}

impl RefuseReason {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::PendingMax, Self::PendingTimeout, Self::NoWorker, Self::OutOfFds, Self::Draining];

    /// Its name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PendingMax => "pending_max",
            Self::PendingTimeout => "pending_timeout",
            Self::NoWorker => "no_worker",
            Self::OutOfFds => "master_out_of_fds",
            Self::Draining => "draining",
        }
    }
}

/// The books of the pool.
#[derive(Debug, Default)]
pub struct Ledger {
    accepted: u64,
    refused: [u64; RefuseReason::ALL.len()],
    redispatched: u64,
    rescued: u64,
    /// Of those accepted, connections of the master with itself.
    probes: u64,
    deaths: u64,
    killed: u64,
    /// Given back, and closed because no worker is left to take them.
    closed_idle: u64,
    dead: Totals,
    transit: BTreeMap<u32, Transit>,
}

/// What is on its way to one worker's life, in the order of its handing over.
#[derive(Debug, Default)]
struct Transit {
    /// Connections ever handed over to this life.
    handed: u64,
    /// Of those, how many the worker is known to have received; their copies are closed.
    settled: u64,
    /// Our copies of the rest: `handed - settled` of them.
    copies: VecDeque<Arrival>,
    /// Connections that any message brought to it, those that were taken back included.
    sent: u64,
    /// What it had not seen was taken back, and nothing more is its: how many it had seen then.
    revoked: Option<u64>,
    /// Connections that it gave back and we took.
    taken_back: u64,
}

impl Ledger {
    /// The master accepted one.
    pub fn accept(&mut self) {
        self.accepted += 1;
    }

    /// The master asks a worker over a connection of its own.
    pub fn probe(&mut self) {
        self.accepted += 1;
        self.probes += 1;
    }

    /// So many of those never reached their workers.
    pub fn unprobe(&mut self, count: u64) {
        self.accepted -= count;
        self.probes -= count;
    }

    /// As `recover`, for a worker that only the master has asked anything.
    pub fn recover_probes(&mut self, line: u32) -> VecDeque<Arrival> {
        let probes = self.recover(line);
        self.redispatched -= probes.len() as u64;
        self.unprobe(probes.len() as u64);
        probes
    }

    /// The master answered one with 503.
    pub fn refuse(&mut self, reason: RefuseReason) {
        self.refused[reason as usize] += 1;
    }

    /// The master killed a worker.
    pub fn kill(&mut self) {
        self.killed += 1;
    }

    /// A worker gave so many back.
    pub fn take_back(&mut self, line: u32, count: u64) {
        if let Some(transit) = self.transit.get_mut(&line) {
            transit.taken_back += count;
        }
    }

    /// A dead worker had not begun so many; as if it had given them back.
    pub fn rescue(&mut self, line: u32, count: u64) {
        self.take_back(line, count);
        self.rescued += count;
    }

    /// So many that were given back are closed: nobody was left to take them.
    pub fn close_idle(&mut self, count: u64) {
        self.closed_idle += count;
    }

    /// A worker's life begins on this line.
    pub fn begin(&mut self, line: u32) {
        let earlier = self.transit.insert(line, Transit::default());
        assert!(earlier.is_none(), "line {line} has two lives");
    }

    /// How many connections were ever handed over to the life on this line: the sequence of its
    /// next message.
    #[must_use]
    pub fn handed(&self, line: u32) -> u64 {
        self.transit.get(&line).map_or(0, |transit| transit.handed)
    }

    /// The kernel took these over for the worker; our copies are kept. Gives back those that the
    /// worker will not take: what it had not seen was taken back meanwhile.
    pub fn hand_over(
        &mut self,
        line: u32,
        arrivals: impl Iterator<Item = Arrival>,
    ) -> Vec<Arrival> {
        let transit = self.transit.get_mut(&line);
        let transit = transit.expect("a handed-over connection has a life: `begin` made it");
        // It sees a message whole or not at all.
        let takes = transit.revoked.is_none_or(|seen| transit.sent < seen);
        let before = transit.copies.len();
        if !takes {
            let back: Vec<Arrival> = arrivals.collect();
            transit.sent += back.len() as u64;
            self.rescued += back.len() as u64;
            return back;
        }
        transit.copies.extend(arrivals);
        let count = (transit.copies.len() - before) as u64;
        transit.handed += count;
        transit.sent += count;
        Vec::new()
    }

    /// The worker has seen so many, and cannot claim any more: gives back the copies of the others,
    /// oldest first.
    pub fn revoke(&mut self, line: u32, seen: u64) -> VecDeque<Arrival> {
        let Some(transit) = self.transit.get_mut(&line) else { return VecDeque::new() };
        if transit.revoked.is_some() {
            return VecDeque::new();
        }
        transit.revoked = Some(seen);
        let unseen = usize::try_from(transit.sent.saturating_sub(seen)).unwrap_or(usize::MAX);
        let back = transit.copies.split_off(transit.copies.len().saturating_sub(unseen));
        transit.handed -= back.len() as u64;
        self.rescued += back.len() as u64;
        back
    }

    /// Whether it can claim nothing.
    #[must_use]
    pub fn is_revoked(&self, line: u32) -> bool {
        self.transit.get(&line).is_some_and(|transit| transit.revoked.is_some())
    }

    /// Whether messages are on their way to it, as it has seen so many connections.
    #[must_use]
    pub fn waits(&self, line: u32, seen: u64) -> bool {
        self.transit.get(&line).is_some_and(|transit| transit.sent > seen)
    }

    /// It has seen all that was revoked: what it is handed from now on is its own again.
    pub fn reinstate(&mut self, line: u32) {
        if let Some(transit) = self.transit.get_mut(&line) {
            transit.revoked = None;
        }
    }

    /// The worker says that it has received so many: gives back the copies this covers, for
    /// closing.
    pub fn settle(&mut self, line: u32, received: u64) -> impl Iterator<Item = Fd> + '_ {
        self.transit
            .get_mut(&line)
            .into_iter()
            .flat_map(move |transit| transit.settle(received))
            .map(|arrival| arrival.fd)
    }

    /// Whether any copy is kept.
    #[must_use]
    pub fn has_copies(&self) -> bool {
        self.transit.values().any(|transit| !transit.copies.is_empty())
    }

    /// The worker is dead: gives back what it had not received, oldest first. `settle` went before,
    /// with its last word.
    pub fn recover(&mut self, line: u32) -> VecDeque<Arrival> {
        let Some(transit) = self.transit.get_mut(&line) else { return VecDeque::new() };
        transit.handed = transit.settled;
        self.redispatched += transit.copies.len() as u64;
        std::mem::take(&mut transit.copies)
    }

    /// The worker is dead and was reaped, and nothing is being passed to it any more: adds up its
    /// line, which is free then.
    pub fn bury(&mut self, line: u32, counters: &Line) {
        let transit = self.transit.remove(&line).unwrap_or_default();
        assert!(transit.copies.is_empty(), "line {line} is buried with connections");
        self.deaths += 1;
        self.dead.add(counters);
        self.dead.died += open_in(counters);
        self.dead.lost += transit.lost_back(counters);
    }

    /// The same of one that never served: what was open in it were probes, and no client is lost.
    pub fn bury_candidate(&mut self, line: u32, counters: &Line) {
        self.bury(line, counters);
        let open = open_in(counters);
        self.dead.died -= open;
        self.dead.taken -= open;
        self.unprobe(open);
    }

    /// The process on this line was no worker, and is gone.
    pub fn forget(&mut self, line: u32) {
        self.transit.remove(&line);
    }

    /// Each counter of [`Counter::ALL`], over these lines and all that are buried.
    #[must_use]
    pub fn counters(&self, living: impl Iterator<Item = Line>) -> Vec<u64> {
        let mut totals = self.dead.clone();
        living.for_each(|line| totals.add(&line));
        totals.counters.to_vec()
    }

    /// What became of all connections. `living`: each line that is not buried, and how many
    /// connections the kernel is passing to it now; `waiting`: accepted, and given to nobody yet.
    #[must_use]
    pub fn report(&self, living: impl Iterator<Item = (u32, Line, u64)>, waiting: u64) -> Report {
        let mut totals = self.dead.clone();
        let mut in_transit = 0;
        for (line, counters, passing) in living {
            totals.add(&counters);
            // A worker may be ahead of us: it has what we have not heard was passed.
            let handed = self.handed(line) + passing;
            in_transit += handed.saturating_sub(counters.get(Counter::Received));
            in_transit += self.transit.get(&line).map_or(0, |to| to.lost_back(&counters));
        }
        let mut report = Report {
            accepted: self.accepted + totals.own,
            served: totals.class(Class::Served) + self.closed_idle,
            handed_back: totals.handed_back,
            open: totals.open() + in_transit + waiting,
            open_at_death: totals.died + totals.lost,
            redispatched: self.redispatched,
            rescued: self.rescued,
            probes: self.probes,
            deaths: self.deaths,
            killed: self.killed,
            ..Report::default()
        };
        for (reason, &count) in RefuseReason::ALL.iter().zip(&self.refused) {
            report.refused.insert(reason.name(), count);
        }
        for (reason, &count) in CloseReason::ALL.iter().zip(&totals.reasons) {
            match reason.class() {
                Class::Served => {}
                Class::Refused => drop(report.refused.insert(reason.name(), count)),
                Class::Cut => drop(report.cut.insert(reason.name(), count)),
            }
        }
        report.cut.insert(WORKER_DIED, totals.died + totals.lost);
        report.cut.insert(UNKNOWN_REASON, totals.unknown);
        report.refused.retain(|_, count| *count > 0);
        report.cut.retain(|_, count| *count > 0);
        report
    }
}

impl Transit {
    /// What the worker says it gave back, and has not arrived.
    fn lost_back(&self, counters: &Line) -> u64 {
        counters.get(Counter::HandedBack).saturating_sub(self.taken_back)
    }

    fn settle(&mut self, received: u64) -> impl Iterator<Item = Arrival> + '_ {
        // A worker that claims more than it was given claims what there is.
        let received = received.clamp(self.settled, self.handed);
        let count = usize::try_from(received - self.settled).unwrap_or(usize::MAX);
        self.settled = received;
        self.copies.drain(..count.min(self.copies.len()))
    }
}

/// Lines added up.
#[derive(Clone, Debug, Default)]
struct Totals {
    /// Connections that workers accepted by themselves.
    own: u64,
    /// Connections that workers took, from the master or by themselves.
    taken: u64,
    reasons: [u64; CloseReason::ALL.len()],
    counters: [u64; Counter::ALL.len()],
    /// Given back to the master.
    handed_back: u64,
    /// Open in workers when they died.
    died: u64,
    /// Given back by workers that died, and not arrived.
    lost: u64,
    /// Closed for reasons that only an earlier program of this process knew.
    unknown: u64,
}

impl Totals {
    fn add(&mut self, line: &Line) {
        let adopted = line.get(Counter::Adopted);
        let received = line.get(Counter::Received);
        // A worker that died between its two counters had taken what either of them says.
        self.own += adopted.saturating_sub(received);
        self.taken += adopted.max(received);
        self.handed_back += line.get(Counter::HandedBack);
        self.unknown += line.closed_for_unknown();
        for (sum, &reason) in self.reasons.iter_mut().zip(CloseReason::ALL) {
            *sum += line.closed_for(reason);
        }
        for (sum, &counter) in self.counters.iter_mut().zip(Counter::ALL) {
            *sum += line.get(counter);
        }
    }

    fn class(&self, class: Class) -> u64 {
        let of_class = CloseReason::ALL.iter().zip(&self.reasons);
        of_class.filter(|(reason, _)| reason.class() == class).map(|(_, count)| count).sum()
    }

    fn open(&self) -> u64 {
        let closed = self.reasons.iter().sum::<u64>() + self.unknown;
        self.taken.saturating_sub(closed + self.handed_back + self.died)
    }
}

/// Connections open in the worker of this line, as far as it has said.
#[must_use]
pub fn open_in(line: &Line) -> u64 {
    let mut totals = Totals::default();
    totals.add(line);
    totals.open()
}

/// Under which name a connection is cut that was open in a worker when it died.
pub const WORKER_DIED: &str = "worker_died";
/// Under which name a connection is in the books that a worker of an earlier program of this
/// process closed for a reason that we do not know, before or after an upgrade.
pub const UNKNOWN_REASON: &str = "unknown_reason";

/// What became of all connections: accepted = served + refused + cut + open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Connections accepted, by the master or by workers.
    pub accepted: u64,
    /// Of those, ended as they should.
    pub served: u64,
    /// Of those, told that we would not serve them, by reason; reasons without any are left out.
    pub refused: BTreeMap<&'static str, u64>,
    /// Of those, ended in the middle of something, by reason; reasons without any are left out.
    pub cut: BTreeMap<&'static str, u64>,
    /// Of those, waiting, in transit or open.
    pub open: u64,
    /// Connections open in workers when they died (they are in `cut`).
    pub open_at_death: u64,
    /// Connections that a dead worker had not begun and that went to others.
    pub redispatched: u64,
    /// Connections that a worker which hung had not begun and that went to others.
    pub rescued: u64,
    /// Of those accepted, connections over which the master asked new workers for an answer.
    pub probes: u64,
    /// Connections that draining workers gave back, for others.
    pub handed_back: u64,
    /// Workers that ended, for whatever reason.
    pub deaths: u64,
    /// Workers that the master killed.
    pub killed: u64,
    /// Of those, since the drain began.
    pub drained_killed: u64,
    /// Connections that ended as they should since the drain began.
    pub drained_served: u64,
    /// Connections that we cut since the drain began: by its deadline, a stop, a death.
    pub drained_cut: u64,
}

impl Report {
    /// Whether the books balance.
    #[must_use]
    pub fn balances(&self) -> bool {
        let refused: u64 = self.refused.values().sum();
        let cut: u64 = self.cut.values().sum();
        self.accepted == self.served + refused + cut + self.open
    }

    /// Whether the drain ended as it should: no worker was killed in it, no connection cut by us.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.drained_cut == 0 && self.drained_killed == 0
    }

    /// Says what happened since an earlier one.
    pub(super) fn since(&mut self, earlier: &Self) {
        self.drained_served = self.served.saturating_sub(earlier.served);
        self.drained_cut = self.cut_by_us().saturating_sub(earlier.cut_by_us());
        self.drained_killed = self.killed.saturating_sub(earlier.killed);
    }

    /// Connections that we cut, as opposed to those that their peers did.
    fn cut_by_us(&self) -> u64 {
        [CloseReason::DrainDeadline.name(), WORKER_DIED]
            .iter()
            .filter_map(|name| self.cut.get(name))
            .sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u64 = self.refused.values().sum();
        let cut: u64 = self.cut.values().sum();
        write!(
            f,
            "accepted={} served={} refused={refused} cut={cut} open={}",
            self.accepted, self.served, self.open
        )?;
        for (name, count) in self.refused.iter().chain(&self.cut) {
            write!(f, " {name}={count}")?;
        }
        write!(
            f,
            " redispatched={} rescued={} handed_back={} deaths={} killed={} drained_served={} \
             drained_cut={} probes={}",
            self.redispatched,
            self.rescued,
            self.handed_back,
            self.deaths,
            self.killed,
            self.drained_served,
            self.drained_cut,
            self.probes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINES: u32 = 3;

    #[derive(Clone, Debug)]
    enum Step {
        Accept(u8),
        Refuse,
        HandOver {
            line: u32,
            count: u8,
        },
        /// The worker takes some of what it was handed, and accepts some by itself.
        Take {
            line: u32,
            count: u8,
            own: u8,
        },
        Close {
            line: u32,
            reason: usize,
        },
        Settle(u32),
        Die(u32),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let line = || 0..LINES;
        prop_oneof![
            (1_u8..9).prop_map(Step::Accept),
            Just(Step::Refuse),
            (line(), 1_u8..9).prop_map(|(line, count)| Step::HandOver { line, count }),
            (line(), 0_u8..9, 0_u8..3).prop_map(|(line, count, own)| Step::Take {
                line,
                count,
                own
            }),
            (line(), 0..CloseReason::ALL.len())
                .prop_map(|(line, reason)| Step::Close { line, reason }),
            line().prop_map(Step::Settle),
            line().prop_map(Step::Die),
        ]
    }

    fn arrival(number: u64) -> Arrival {
        let raw = i32::try_from(number).unwrap();
        Arrival { fd: Fd::new(raw), listener: 0, at: Instant::default(), carried: None }
    }

    proptest! {
        #[test]
        fn the_books_balance_and_every_copy_comes_back_once(
            steps in prop::collection::vec(any_step(), 0..200),
        ) {
            let mut ledger = Ledger::default();
            let mut lines: Vec<Line> = (0..LINES).map(|_| Line::detached()).collect();
            (0..LINES).for_each(|line| ledger.begin(line));
            // Waiting, and in transit to each line in order: numbers of connections.
            let mut waiting: VecDeque<u64> = VecDeque::new();
            let mut in_transit: Vec<VecDeque<u64>> = vec![VecDeque::new(); LINES as usize];
            let mut accepted = 0;
            let mut own_accepts = 0;
            for step in steps {
                match step {
                    Step::Accept(count) => for _ in 0..count {
                        ledger.accept();
                        waiting.push_back(accepted);
                        accepted += 1;
                    },
                    Step::Refuse => if waiting.pop_front().is_some() {
                        ledger.refuse(RefuseReason::PendingMax);
                    },
                    Step::HandOver { line, count } => {
                        let count = usize::from(count).min(waiting.len());
                        let batch: Vec<u64> = waiting.drain(..count).collect();
                        ledger.hand_over(line, batch.iter().map(|&number| arrival(number)));
                        in_transit[line as usize].extend(batch);
                    }
                    Step::Take { line, count, own } => {
                        let index = line as usize;
                        let unread = ledger.handed(line) - lines[index].get(Counter::Received);
                        let count = u64::from(count).min(unread);
                        lines[index].add(Counter::Received, count);
                        lines[index].add(Counter::Adopted, count + u64::from(own));
                        own_accepts += u64::from(own);
                    }
                    Step::Close { line, reason } => {
                        let line = &lines[line as usize];
                        if line.open() > 0 {
                            line.close(CloseReason::ALL[reason]);
                        }
                    }
                    Step::Settle(line) => {
                        let received = lines[line as usize].get(Counter::Received);
                        for fd in ledger.settle(line, received) {
                            let number = in_transit[line as usize].pop_front();
                            prop_assert_eq!(number, u64::try_from(fd.raw()).ok());
                        }
                    }
                    Step::Die(line) => {
                        let index = line as usize;
                        let received = lines[index].get(Counter::Received);
                        let settled = ledger.settle(line, received).count();
                        in_transit[index].drain(..settled);
                        let back: Vec<u64> = ledger
                            .recover(line)
                            .iter()
                            .map(|arrival| u64::try_from(arrival.fd.raw()).unwrap())
                            .collect();
                        prop_assert_eq!(&back, &Vec::from(in_transit[index].split_off(0)));
                        back.into_iter().rev().for_each(|number| waiting.push_front(number));
                        ledger.bury(line, &lines[index]);
                        lines[index] = Line::detached();
                        ledger.begin(line);
                    }
                }
                let living = lines.iter().zip(0..).map(|(line, index)| (index, *line, 0));
                let report = ledger.report(living, waiting.len() as u64);
                prop_assert!(report.balances(), "{report}");
                prop_assert_eq!(report.accepted, accepted + own_accepts);
                let copies = in_transit.iter().any(|line| !line.is_empty());
                prop_assert_eq!(ledger.has_copies(), copies);
            }
        }
    }

    #[test]
    fn a_worker_that_claims_more_than_it_was_given_gets_what_there_is() {
        let mut ledger = Ledger::default();
        ledger.begin(0);
        ledger.hand_over(0, [arrival(1), arrival(2)].into_iter());
        assert_eq!(ledger.settle(0, u64::MAX).count(), 2);
        assert_eq!(ledger.settle(0, 0).count(), 0, "nor does it take back");
        assert_eq!(ledger.handed(0), 2);
    }

    #[test]
    fn a_report_says_what_was_cut_and_whether_the_drain_was_clean() {
        let mut ledger = Ledger::default();
        ledger.begin(0);
        let line = Line::detached();
        line.add(Counter::Adopted, 3);
        line.close(CloseReason::Drain);
        line.close(CloseReason::Reset);
        let report = ledger.report([(0, line, 0)].into_iter(), 0);
        assert!(report.is_clean(), "a reset is the peer's doing");
        ledger.bury(0, &line);
        let mut after = ledger.report(std::iter::empty(), 0);
        after.since(&report);
        assert!(!after.is_clean());
        let want = "accepted=3 served=1 refused=0 cut=2 open=0 reset=1 worker_died=1 \
                    redispatched=0 rescued=0 handed_back=0 deaths=1 killed=0 drained_served=0 \
                    drained_cut=1 probes=0";
        assert_eq!(after.to_string(), want);
    }
}
