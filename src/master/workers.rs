//! The table of worker slots and of the lives in them: who boots, serves, drains, is killed, and
//! when the next one is spawned. Pure.
//!
//! A slot is a place in the pool; a life is one process in it. A life is known by its line on the
//! board, which no two lives share, so that a slot may have an old and a new one at a time.

mod action;
mod saved;
mod succession;

pub use action::{Action, Death};
pub use succession::{Role, Wanted};

use super::restart::{Failure, Jitter, Policy, Restarts};
use crate::event::KillReason;
use crate::io::{Exit, Instant, Purpose};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where a life stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Forked; has not said READY.
    Booting,
    /// Serves and takes connections.
    Ready,
    /// Serves, but its channel had no room: takes connections again when its `received` counter has
    /// moved from here, or after a while.
    Full {
        /// The counter when the channel had no room.
        received: u64,
        /// When to try anyway.
        until: Instant,
    },
    /// Takes nothing new; is to exit by itself.
    Draining,
    /// A KILL was sent.
    Killed,
    /// Reaped; operations on its descriptors may still be with the kernel.
    Dead,
}

/// One process in a slot.
#[derive(Clone, Debug)]
pub struct Life {
    /// Which slot it fills.
    pub slot: u32,
    /// Where it stands.
    pub state: State,
    /// What it is to the slot.
    pub role: Role,
    /// Which reload it belongs to.
    pub epoch: u32,
    /// When it was forked.
    pub born: Instant,
    /// Whether we asked it to end.
    pub asked: bool,
    /// Its loop does not turn though something waits for it: it gets nothing new.
    pub late: bool,
    /// The watchdog has aborted it, when its loop had not turned for so long.
    quiet: Option<Duration>,
    ready_at: Option<Instant>,
    /// When it is killed, and why.
    deadline: Option<(Instant, KillReason)>,
    /// Why its boot failed, when it did.
    boot_failure: Option<String>,
    /// How it ended.
    exit: Option<Exit>,
}

/// The table.
#[derive(Debug)]
pub struct Workers {
    slots: Vec<Slot>,
    lives: BTreeMap<u32, Life>,
    lines: u32,
    boot_timeout: Duration,
    policy: Policy,
    jitter: Jitter,
    /// Whether any worker ever was ready.
    came_up: bool,
    stopping: bool,
}

#[derive(Debug)]
struct Slot {
    /// Of its next life.
    generation: u32,
    /// Of the lives that fill it when nobody asks for another.
    epoch: u32,
    next: Next,
    /// Who is to succeed the one in it.
    candidate: Option<Candidate>,
    restarts: Restarts,
    /// Boots that failed in a row, and why the last one did.
    boot_failures: u32,
    boot_failure: Option<String>,
}

/// Who fills a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The life on this line.
    Life(u32),
    /// One that is spawned then.
    Spawn(Instant),
    /// Nobody: the slot is parked, or the pool stops.
    Never,
}

/// Who is to succeed the worker of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidate {
    /// It is to be spawned.
    Wanted(Wanted),
    /// The life on this line.
    Life(u32),
}

impl Workers {
    /// So many slots, all to be filled at once, on a board of so many lines.
    #[must_use]
    pub fn new(slots: u32, lines: u32, boot_timeout: Duration, seed: u64) -> Self {
        Self {
            slots: (0..slots).map(|_| Slot::new(Next::Spawn(Instant::default()), 0)).collect(),
            lives: BTreeMap::new(),
            lines,
            boot_timeout,
            policy: Policy::default(),
            jitter: Jitter(seed),
            came_up: false,
            stopping: false,
        }
    }

    /// What to do now; ask until it answers `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Action> {
        self.poll_kill(now).or_else(|| self.poll_spawn(now))
    }

    fn poll_kill(&mut self, now: Instant) -> Option<Action> {
        let due = |life: &Life| life.deadline.is_some_and(|(deadline, _)| deadline <= now);
        let (&line, life) = self.lives.iter_mut().find(|(_, life)| due(life))?;
        let (_, reason) = life.deadline?;
        let first = life.state != State::Killed;
        if life.state == State::Booting && life.boot_failure.is_none() {
            life.boot_failure = Some(reason.name().to_owned());
        }
        life.state = State::Killed;
        life.deadline = Some((now.after(KILL_AGAIN), reason));
        Some(Action::Kill { line, reason, first })
    }

    fn poll_spawn(&self, now: Instant) -> Option<Action> {
        let due = |slot: &Slot| matches!(slot.next, Next::Spawn(at) if at <= now);
        let wanted = |slot: &Slot| match slot.candidate {
            Some(Candidate::Wanted(wanted)) => Some(wanted),
            Some(Candidate::Life(_)) | None => None,
        };
        let vacant = self.slots.iter().position(due);
        let index = vacant.or_else(|| self.slots.iter().position(|s| wanted(s).is_some()))?;
        // Without a free line it waits until an earlier life is forgotten.
        let line = (0..self.lines).find(|line| !self.lives.contains_key(line))?;
        let slot = &self.slots[index];
        let ours = Wanted { epoch: slot.epoch, purpose: Purpose::Serve };
        let Wanted { epoch, purpose } = wanted(slot).filter(|_| vacant.is_none()).unwrap_or(ours);
        let generation = slot.generation;
        Some(Action::Spawn { slot: u32::try_from(index).ok()?, generation, line, epoch, purpose })
    }

    /// When to ask again at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let kills = self.lives.values().filter_map(|life| life.deadline.map(|(at, _)| at));
        let tries = self.lives.values().filter_map(|life| match life.state {
            State::Full { until, .. } => Some(until),
            State::Booting | State::Ready | State::Draining | State::Killed | State::Dead => None,
        });
        let room = u32::try_from(self.lives.len()).is_ok_and(|lives| lives < self.lines);
        let spawns = self.slots.iter().filter_map(|slot| match slot.next {
            Next::Spawn(at) if room => Some(at),
            Next::Spawn(_) | Next::Life(_) | Next::Never => None,
        });
        kills.chain(tries).chain(spawns).min()
    }

    /// A worker was forked for its slot, as `poll` asked.
    pub fn spawned(&mut self, slot: u32, line: u32, now: Instant) {
        self.born(slot, line, Role::Incumbent, self.slots[slot as usize].epoch, now);
        self.slots[slot as usize].next = Next::Life(line);
    }

    fn born(&mut self, slot: u32, line: u32, role: Role, epoch: u32, now: Instant) {
        let life = Life {
            slot,
            state: State::Booting,
            role,
            epoch,
            born: now,
            asked: false,
            late: false,
            quiet: None,
            ready_at: None,
            deadline: Some((now.after(self.boot_timeout), KillReason::BootTimeout)),
            boot_failure: None,
            exit: None,
        };
        let entry = &mut self.slots[slot as usize];
        // A check fills nothing.
        let counts = u32::from(role != Role::Check);
        entry.generation = entry.generation.wrapping_add(counts);
        let earlier = self.lives.insert(line, life);
        assert!(earlier.is_none(), "line {line} has two lives");
    }

    /// The kernel would not fork: it is asked again after the delay that this returns.
    pub fn spawn_refused(&mut self, slot: u32, now: Instant) -> Duration {
        let entry = &mut self.slots[slot as usize];
        let delay = entry.restarts.failed(Failure::Refused, now, self.policy, &mut self.jitter);
        entry.next = Next::Spawn(now.after(delay));
        delay
    }

    /// It says READY. Gives back how long that took; `None` if it is not booting any more.
    pub fn ready(&mut self, line: u32, now: Instant) -> Option<Duration> {
        let life = self.lives.get_mut(&line).filter(|life| life.state == State::Booting)?;
        life.state = State::Ready;
        life.ready_at = Some(now);
        life.deadline = None;
        self.came_up = true;
        let entry = &mut self.slots[life.slot as usize];
        if entry.next == Next::Life(line) {
            entry.restarts.ready();
        }
        Some(now.since(life.born))
    }

    /// It says why it cannot come up; it exits by itself, or is killed when its boot is over.
    pub fn boot_failed(&mut self, line: u32, reason: &str) {
        if let Some(life) = self.lives.get_mut(&line) {
            life.boot_failure = Some(reason.to_owned());
        }
    }

    /// Its channel had no room, when its `received` counter stood here.
    pub fn full(&mut self, line: u32, received: u64, now: Instant) {
        if let Some(life) = self.lives.get_mut(&line)
            && life.state == State::Ready
        {
            life.state = State::Full { received, until: now.after(FULL_RETRY) };
        }
    }

    /// Its `received` counter stands here: a full one whose counter has moved has room again.
    pub fn moved(&mut self, line: u32, received: u64, now: Instant) {
        if let Some(life) = self.lives.get_mut(&line)
            && let State::Full { received: before, until } = life.state
            && (received != before || now >= until)
        {
            life.state = State::Ready;
        }
    }

    /// It is asked to finish and exit, and killed at the deadline.
    pub fn drain(&mut self, line: u32, deadline: Instant) {
        if let Some(life) = self.running(line) {
            life.asked = true;
            life.retire(deadline, KillReason::DrainTimeout);
        }
    }

    /// It drains because somebody else told it to: its successor is spawned at once, and does not
    /// wait for its end.
    pub fn leaves(&mut self, line: u32, deadline: Instant, now: Instant) {
        self.drain(line, deadline);
        let Some(life) = self.lives.get(&line).filter(|life| life.state == State::Draining) else {
            return;
        };
        let entry = &mut self.slots[life.slot as usize];
        if entry.next == Next::Life(line) {
            let follows = self.policy.auto && !self.stopping;
            entry.next = if follows { Next::Spawn(now) } else { Next::Never };
        }
    }

    /// Its channel is not used any more, for whatever reason: it gets nothing new, has a grace to
    /// exit by itself, and is then killed.
    pub fn channel_gone(&mut self, line: u32, now: Instant) {
        if let Some(life) = self.running(line) {
            life.retire(now.after(CHANNEL_GRACE), KillReason::ChannelGone);
        }
    }

    /// It is to be killed at the next `poll`.
    pub fn kill(&mut self, line: u32, now: Instant) {
        if let Some(life) = self.running(line) {
            life.asked = true;
            life.deadline = Some((now, KillReason::Stopped));
        }
    }

    /// Whether its loop turns when something waits for it.
    pub fn set_late(&mut self, line: u32, late: bool) {
        if let Some(life) = self.running(line) {
            life.late = late;
        }
    }

    /// The watchdog aborts it: its loop has not turned for so long.
    pub fn struck(&mut self, line: u32, quiet: Duration) {
        if let Some(life) = self.running(line) {
            life.quiet = Some(quiet);
        }
    }

    fn running(&mut self, line: u32) -> Option<&mut Life> {
        let over = |state| matches!(state, State::Killed | State::Dead);
        self.lives.get_mut(&line).filter(|life| !over(life.state))
    }

    /// It was reaped. Its line stays taken until `forget`.
    pub fn exited(&mut self, line: u32, exit: Exit, now: Instant) -> Option<Death> {
        let life = self.lives.get_mut(&line).filter(|life| life.state != State::Dead)?;
        let killed = life.deadline.take().filter(|_| life.state == State::Killed);
        let killed = killed.map(|(_, reason)| reason);
        life.state = State::Dead;
        life.exit = Some(exit);
        let booting = life.ready_at.is_none();
        if booting && !life.asked {
            life.boot_failure.get_or_insert_with(|| format!("{exit} before READY"));
        }
        let (slot, asked, uptime) = (life.slot, life.asked, now.since(life.born));
        let (role, quiet) = (life.role, life.quiet);
        let failure = life.ready_at.map_or(Failure::Boot, |ready| Failure::Crash(now.since(ready)));
        let delay = self.follow(slot, line, failure, now);
        Some(Death { slot, uptime, asked, killed, quiet, booting, delay, role })
    }

    /// Who follows the life on this line in its slot, and when.
    fn follow(&mut self, slot: u32, line: u32, failure: Failure, now: Instant) -> Option<Duration> {
        let entry = &mut self.slots[slot as usize];
        if entry.next != Next::Life(line) {
            return None;
        }
        entry.next = Next::Never;
        if self.stopping {
            return None;
        }
        let delay = entry.restarts.failed(failure, now, self.policy, &mut self.jitter);
        if !self.policy.auto {
            return None;
        }
        entry.next = Next::Spawn(now.after(delay));
        Some(delay)
    }

    /// All its operations have ended: the line is free. Gives back why its boot failed, if it did.
    pub fn forget(&mut self, line: u32) -> Option<(u32, String)> {
        let life = self.lives.remove(&line)?;
        assert_eq!(life.state, State::Dead, "line {line} is forgotten while its worker lives");
        if life.asked || life.ready_at.is_some() {
            return None;
        }
        let reason = life.boot_failure?;
        if life.role != Role::Incumbent {
            return Some((life.slot, reason));
        }
        let slot = &mut self.slots[life.slot as usize];
        slot.boot_failures += 1;
        slot.boot_failure = Some(reason.clone());
        Some((life.slot, reason))
    }

    /// Nobody is spawned any more.
    pub fn stop(&mut self) {
        self.stopping = true;
        for slot in &mut self.slots {
            slot.candidate = slot.candidate.filter(|c| matches!(c, Candidate::Life(_)));
            if matches!(slot.next, Next::Spawn(_)) {
                slot.next = Next::Never;
            }
        }
    }

    /// Whether no worker ever came up and every slot has failed [`BOOT_TRIES`] times in a row, so
    /// that one stray kill does not end a pool: each slot's last reason.
    #[must_use]
    pub fn all_failed(&self) -> Option<Vec<&str>> {
        if self.came_up || self.stopping {
            return None;
        }
        let tries = if self.policy.auto { BOOT_TRIES } else { 1 };
        let gave_up = |slot: &Slot| slot.boot_failures >= tries;
        self.slots
            .iter()
            .map(|slot| slot.boot_failure.as_deref().filter(|_| gave_up(slot)))
            .collect()
    }

    /// The life on this line.
    #[must_use]
    pub fn life(&self, line: u32) -> Option<&Life> {
        self.lives.get(&line)
    }

    /// All lives, by line; the dead whose line is not free yet included.
    pub fn lives(&self) -> impl Iterator<Item = (u32, &Life)> {
        self.lives.iter().map(|(&line, life)| (line, life))
    }

    /// The line of the slot's worker, if it reads its listeners while it has room.
    #[must_use]
    pub fn reader(&self, slot: u32) -> Option<u32> {
        match self.slots.get(slot as usize)?.next {
            Next::Life(line) => self.lives.get(&line).is_some_and(Life::serves).then_some(line),
            Next::Spawn(_) | Next::Never => None,
        }
    }

    /// Whether any worker takes connections, or soon may.
    #[must_use]
    pub fn any_is_ready(&self) -> bool {
        self.lives.values().any(Life::takes)
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }
}

impl Slot {
    fn new(next: Next, epoch: u32) -> Self {
        Self {
            generation: 0,
            epoch,
            next,
            candidate: None,
            restarts: Restarts::default(),
            boot_failures: 0,
            boot_failure: None,
        }
    }
}

impl Life {
    /// Why it ended.
    #[must_use]
    pub fn why(&self) -> String {
        match (&self.boot_failure, self.exit) {
            (Some(reason), _) => reason.clone(),
            (None, Some(exit)) => exit.to_string(),
            (None, None) => "it runs".to_owned(),
        }
    }

    /// Whether it serves and may be given connections, now or when it has room.
    #[must_use]
    pub fn takes(&self) -> bool {
        self.serves() && !self.late && matches!(self.role, Role::Incumbent | Role::Trial)
    }

    fn serves(&self) -> bool {
        matches!(self.state, State::Ready | State::Full { .. })
    }

    /// Drains from now on; an earlier deadline stays.
    fn retire(&mut self, deadline: Instant, reason: KillReason) {
        self.state = State::Draining;
        if self.deadline.is_none_or(|(earlier, _)| deadline < earlier) {
            self.deadline = Some((deadline, reason));
        }
    }
}

/// Failed boots of every slot after which a pool that never served gives up.
pub const BOOT_TRIES: u32 = 3;
/// How long a worker whose channel is gone may take to exit: its own drain in that case takes a
/// second, and ends with a cut and an exit that must not race with our KILL.
const CHANNEL_GRACE: Duration = Duration::from_millis(1500);
/// How long until a KILL that was followed by no death is repeated.
const KILL_AGAIN: Duration = Duration::from_secs(1);
/// How long a channel without room is left alone when its worker's counter does not move.
const FULL_RETRY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
