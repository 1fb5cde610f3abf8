//! The reload transaction: new workers prove themselves, then take over one by one; whatever fails,
//! the old ones serve on. Pure: told what happened, it is asked what to do.
//!
//! Checking → proving → trial → rolling, and undoing when something fails after the first old
//! worker has been succeeded. Recycling, a rollback and a change of mode are the same without the
//! parts that they do not need.

use crate::io::Instant;
use std::time::Duration;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Read the configuration first, in a throw-away child.
    pub check: bool,
    /// How long a new worker may take to answer a request below 500; `None`: it is not asked.
    pub probe: Option<Duration>,
    /// How many new workers serve on trial, and how long; `None`: no trial.
    pub trial: Option<(u32, Duration)>,
    /// The slots whose workers are succeeded.
    pub slots: Vec<u32>,
    /// How many new workers are on their way at a time; 1 or more.
    pub surge: u32,
    /// The next one waits until the old one has ended.
    pub one_by_one: bool,
    /// When a later one fails, the old kind comes back to the slots that were succeeded.
    pub undo: bool,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fork the throw-away child; then say `checked`.
    Check,
    /// Fork a candidate for this slot; then say `ready` or `failed`.
    Spawn(u32),
    /// Send its candidate a request; then say `answered` or `failed`.
    Probe(u32),
    /// Let its candidate take connections, on trial.
    Try(u32),
    /// Compare those on trial with the others; then say `judged`.
    Judge,
    /// Its candidate fills the slot from now on, and the one before drains; say `left` when that
    /// has ended, or `not_promoted` if the candidate serves no more.
    Promote(u32),
    /// Its candidate is given up.
    GiveUp(u32),
    /// From here on `Spawn` means the old kind.
    Undo,
    /// It is over; nothing follows.
    End(Result<(), String>),
}

/// Where the transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The configuration is being read.
    Checking,
    /// The first new workers come up.
    Proving,
    /// Some of them serve on trial, until then.
    Trial(Instant),
    /// The trial is over and is being judged.
    Judging,
    /// One after the other takes over.
    Rolling,
    /// Something failed: the old kind comes back.
    Undoing,
    /// It is over.
    Over,
}

/// Where one slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    Waiting,
    /// Its candidate was asked for.
    Booting,
    /// Its candidate is ready, and to be asked.
    Ready,
    /// Its candidate owes an answer, until then.
    Probing(Instant),
    Proven,
    /// Its candidate has taken over; the one before has not ended.
    Leaving,
    Done,
}

/// One transaction.
#[derive(Debug)]
pub struct Transaction {
    plan: Plan,
    phase: Phase,
    seats: Vec<(u32, Seat)>,
    asked: bool,
    /// Why it failed.
    failure: Option<String>,
    /// Slots whose candidate is to be given up.
    give_up: Vec<u32>,
    /// Those that take part in the trial have been told.
    tried: usize,
}

impl Transaction {
    /// A transaction that has not begun.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        assert!(plan.surge > 0, "a roll of none at a time");
        let phase = if plan.check { Phase::Checking } else { Phase::Proving };
        let seats = plan.slots.iter().map(|&slot| (slot, Seat::Waiting)).collect();
        let (asked, failure, give_up, tried) = (false, None, Vec::new(), 0);
        Self { plan, phase, seats, asked, failure, give_up, tried }
    }

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether any old worker has been succeeded.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.seats.iter().any(|(_, seat)| matches!(seat, Seat::Leaving | Seat::Done))
    }

    /// The slots whose candidates are on trial.
    pub fn on_trial(&self) -> impl Iterator<Item = u32> + '_ {
        self.seats[..self.tried].iter().map(|(slot, _)| *slot)
    }

    /// The configuration was read, or why it could not be.
    pub fn checked(&mut self, result: Result<(), String>) {
        if self.phase == Phase::Checking {
            match result {
                Ok(()) => self.phase = Phase::Proving,
                Err(why) => self.fail(why),
            }
        }
    }

    /// The candidate of this slot serves.
    pub fn ready(&mut self, slot: u32) {
        let next = match self.plan.probe {
            Some(_) if self.phase != Phase::Undoing => Seat::Ready,
            Some(_) | None => Seat::Proven,
        };
        if let Some(seat) = self.seat(slot)
            && *seat == Seat::Booting
        {
            *seat = next;
        }
    }

    /// It has answered, or why that was no answer.
    pub fn answered(&mut self, slot: u32, result: Result<(), String>) {
        match (self.seat(slot), result) {
            (Some(seat @ Seat::Probing(_)), Ok(())) => *seat = Seat::Proven,
            (Some(Seat::Probing(_)), Err(why)) => self.failed(slot, &why),
            _ => {}
        }
    }

    /// The candidate of this slot is dead, or could not be forked.
    pub fn failed(&mut self, slot: u32, why: &str) {
        let undoing = self.phase == Phase::Undoing;
        let Some(seat) = self.seat(slot) else { return };
        match seat {
            Seat::Waiting | Seat::Leaving | Seat::Done => {}
            // The new kind stays there, or nobody: restarts go on as ever.
            _ if undoing => {
                *seat = Seat::Done;
                self.give_up.push(slot);
            }
            Seat::Booting | Seat::Ready | Seat::Probing(_) | Seat::Proven => {
                self.fail(format!("slot {slot}: {why}"));
            }
        }
    }

    /// The candidate of this slot was to take over, and serves no more.
    pub fn not_promoted(&mut self, slot: u32, why: &str) {
        if let Some(seat @ (Seat::Leaving | Seat::Done)) = self.seat(slot) {
            *seat = Seat::Proven;
        }
        self.failed(slot, why);
    }

    /// A worker of the new kind that had taken over is dead.
    pub fn crashed(&mut self, slot: u32, why: &str) {
        if self.plan.undo && self.phase == Phase::Rolling {
            self.fail(format!("slot {slot}, after it took over: {why}"));
        }
    }

    /// The trial was judged.
    pub fn judged(&mut self, result: Result<(), String>) {
        if self.phase == Phase::Judging {
            match result {
                Ok(()) => self.phase = Phase::Rolling,
                Err(why) => self.fail(why),
            }
        }
    }

    /// The one that was succeeded in this slot has ended.
    pub fn left(&mut self, slot: u32) {
        if let Some(seat @ Seat::Leaving) = self.seat(slot) {
            *seat = Seat::Done;
        }
    }

    /// The pool ends: what is under way is given up, what has taken over stays.
    pub fn abort(&mut self, why: &str) {
        self.plan.undo = false;
        self.fail(why.to_owned());
    }

    fn seat(&mut self, slot: u32) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|(of, _)| *of == slot).map(|(_, seat)| seat)
    }

    fn fail(&mut self, why: String) {
        if matches!(self.phase, Phase::Undoing | Phase::Over) {
            return;
        }
        self.failure = Some(why);
        let succeeded = |seat: &Seat| matches!(seat, Seat::Leaving | Seat::Done);
        let under_way = |seat: &Seat| *seat != Seat::Waiting && !succeeded(seat);
        self.give_up = self.seats.iter().filter(|(_, s)| under_way(s)).map(|(s, _)| *s).collect();
        self.seats.retain(|(_, seat)| succeeded(seat));
        self.tried = 0;
        if self.plan.undo {
            self.seats.iter_mut().for_each(|(_, seat)| *seat = Seat::Waiting);
        } else {
            self.seats.clear();
        }
        self.phase = Phase::Undoing;
        self.asked = false;
    }

    /// What to do now; ask until it answers `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        if let Some(late) = self.late(now) {
            self.failed(late, "no answer to the probe in time");
        }
        if let Some(slot) = self.give_up.pop() {
            return Some(Action::GiveUp(slot));
        }
        match self.phase {
            Phase::Checking => self.once(Action::Check),
            Phase::Proving => self.poll_proving(now),
            Phase::Trial(until) => self.poll_trial(until, now),
            Phase::Judging => self.once(Action::Judge),
            Phase::Rolling => self.poll_rolling(now),
            Phase::Undoing if !self.seats.is_empty() && !self.asked => self.once(Action::Undo),
            Phase::Undoing => self.poll_rolling(now),
            Phase::Over => None,
        }
    }

    /// When to ask again at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let trial = if let Phase::Trial(until) = self.phase { Some(until) } else { None };
        let probing =
            |seat: &Seat| if let Seat::Probing(until) = seat { Some(*until) } else { None };
        self.seats.iter().filter_map(|(_, seat)| probing(seat)).chain(trial).min()
    }

    fn late(&self, now: Instant) -> Option<u32> {
        let late = |seat: &Seat| matches!(seat, Seat::Probing(until) if *until <= now);
        self.seats.iter().find(|(_, seat)| late(seat)).map(|(slot, _)| *slot)
    }

    fn once(&mut self, action: Action) -> Option<Action> {
        (!std::mem::replace(&mut self.asked, true)).then_some(action)
    }

    /// The first wave, before any old one is touched: as many as roll at a time, or are on trial.
    fn first_wave(&self) -> usize {
        let trial = self.plan.trial.map_or(0, |(workers, _)| workers);
        let wave = self.plan.surge.max(trial);
        self.seats.len().min(usize::try_from(wave).unwrap_or(usize::MAX))
    }

    fn poll_proving(&mut self, now: Instant) -> Option<Action> {
        let wave = self.first_wave();
        if let Some(action) = self.spawn(wave).or_else(|| self.probe(wave, now)) {
            return Some(action);
        }
        if self.seats[..wave].iter().any(|(_, seat)| *seat != Seat::Proven) {
            return None;
        }
        self.phase = match self.plan.trial {
            Some((workers, time)) if workers > 0 && wave > 0 => Phase::Trial(now.after(time)),
            Some(_) | None => Phase::Rolling,
        };
        self.asked = false;
        self.poll(now)
    }

    fn poll_trial(&mut self, until: Instant, now: Instant) -> Option<Action> {
        let workers = self.plan.trial.map_or(0, |(workers, _)| workers as usize);
        if self.tried < workers.min(self.seats.len()) {
            self.tried += 1;
            return Some(Action::Try(self.seats[self.tried - 1].0));
        }
        if now < until {
            return None;
        }
        self.phase = Phase::Judging;
        self.poll(now)
    }

    fn poll_rolling(&mut self, now: Instant) -> Option<Action> {
        if let Some((slot, seat)) = self.seats.iter_mut().find(|(_, seat)| *seat == Seat::Proven) {
            *seat = if self.plan.one_by_one { Seat::Leaving } else { Seat::Done };
            return Some(Action::Promote(*slot));
        }
        let under_way = |seat: &Seat| !matches!(seat, Seat::Waiting | Seat::Done);
        let busy = self.seats.iter().filter(|(_, seat)| under_way(seat)).count();
        let room = busy < self.plan.surge as usize;
        if let Some(action) = room.then(|| self.spawn(self.seats.len())).flatten() {
            return Some(action);
        }
        if let Some(action) = self.probe(self.seats.len(), now) {
            return Some(action);
        }
        if self.seats.iter().any(|(_, seat)| *seat != Seat::Done) {
            return None;
        }
        self.phase = Phase::Over;
        Some(Action::End(self.failure.take().map_or(Ok(()), Err)))
    }

    fn spawn(&mut self, upto: usize) -> Option<Action> {
        let mut seats = self.seats[..upto].iter_mut();
        let (slot, seat) = seats.find(|(_, seat)| *seat == Seat::Waiting)?;
        *seat = Seat::Booting;
        Some(Action::Spawn(*slot))
    }

    fn probe(&mut self, upto: usize, now: Instant) -> Option<Action> {
        let time = self.plan.probe?;
        let ready = self.seats[..upto].iter_mut().find(|(_, seat)| *seat == Seat::Ready);
        let (slot, seat) = ready?;
        *seat = Seat::Probing(now.after(time));
        Some(Action::Probe(*slot))
    }
}

#[cfg(test)]
mod tests;
