//! Who succeeds whom in a slot, and which slots are parked. Pure.
//!
//! A candidate boots beside the worker it is to succeed, and takes over when it has proved itself;
//! until then the slot's worker serves, dies and is spawned anew as if there were no candidate.

use super::{Candidate, Life, Next, Policy, Restarts, Slot, State, Workers};
use crate::admin::ProcessState;
use crate::event::KillReason;
use crate::io::{Instant, Purpose};

/// What a life is to its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It fills the slot, or filled it until it was told to drain.
    Incumbent,
    /// It is to succeed the one that fills the slot, and takes no connections yet.
    Candidate,
    /// As a candidate, but it takes its share of connections, on trial.
    Trial,
    /// It only reads the configuration, or tries the next program.
    Check,
}

/// Which life is to be spawned beside the one that fills a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of which epoch.
    pub epoch: u32,
    /// [`Purpose::Succeed`], [`Purpose::Check`] or [`Purpose::Upgrade`].
    pub purpose: Purpose,
}

impl Workers {
    /// A candidate for this slot is to be spawned; there is none yet.
    pub fn want(&mut self, slot: u32, wanted: Wanted) {
        let entry = &mut self.slots[slot as usize];
        assert_eq!(entry.candidate, None, "slot {slot} has a candidate");
        entry.candidate = Some(Candidate::Wanted(wanted));
    }

    /// The candidate was forked, as `poll` asked.
    pub fn candidate_spawned(&mut self, slot: u32, line: u32, wanted: Wanted, now: Instant) {
        let role = if wanted.purpose.serves() { Role::Candidate } else { Role::Check };
        self.born(slot, line, role, wanted.epoch, now);
        self.slots[slot as usize].candidate = Some(Candidate::Life(line));
    }

    /// The line of the slot's candidate, once it is forked.
    #[must_use]
    pub fn candidate(&self, slot: u32) -> Option<u32> {
        match self.slots.get(slot as usize)?.candidate {
            Some(Candidate::Life(line)) => Some(line),
            Some(Candidate::Wanted(_)) | None => None,
        }
    }

    /// The slot has no candidate any more: it died, or is given up and killed.
    pub fn give_up(&mut self, slot: u32, now: Instant) {
        let line = self.candidate(slot);
        self.slots[slot as usize].candidate = None;
        if let Some(line) = line {
            self.kill(line, now);
        }
    }

    /// The candidate is none any more, and lives on: it is to drain.
    pub fn release(&mut self, slot: u32) {
        self.slots[slot as usize].candidate = None;
    }

    /// The candidate takes connections, on trial.
    pub fn try_out(&mut self, slot: u32) {
        if let Some(line) = self.candidate(slot)
            && let Some(life) = self.lives.get_mut(&line)
        {
            life.role = Role::Trial;
        }
    }

    /// The candidate fills the slot from now on. Gives back the line of the one before it, which is
    /// to drain; `None` if the slot had none.
    ///
    /// # Errors
    ///
    /// It serves no more, since it proved itself; nothing has changed.
    pub fn promote(&mut self, slot: u32) -> Result<Option<u32>, String> {
        let line = self.candidate(slot).ok_or("it is no candidate any more")?;
        let life = self.lives.get_mut(&line).ok_or("it is gone")?;
        match (life.serves(), life.late, life.exit) {
            (true, false, _) => {}
            (_, _, Some(exit)) => {
                return Err(format!("it ended after it had proved itself: {exit}"));
            }
            (true, true, None) => return Err("it hangs since it proved itself".to_owned()),
            (false, _, None) => return Err("it ends since it proved itself".to_owned()),
        }
        life.role = Role::Incumbent;
        let epoch = life.epoch;
        let entry = &mut self.slots[slot as usize];
        (entry.candidate, entry.epoch) = (None, epoch);
        entry.restarts.reset();
        match std::mem::replace(&mut entry.next, Next::Life(line)) {
            Next::Life(before) => Ok(Some(before)),
            Next::Spawn(_) | Next::Never => Ok(None),
        }
    }

    /// The slot is filled by nobody any more. Gives back the line of the one that did, which is to
    /// drain.
    pub fn park(&mut self, slot: u32) -> Option<u32> {
        let entry = &mut self.slots[slot as usize];
        entry.restarts.reset();
        match std::mem::replace(&mut entry.next, Next::Never) {
            Next::Life(line) => Some(line),
            Next::Spawn(_) | Next::Never => None,
        }
    }

    /// The slot is filled again, by a worker of this epoch; made if there is none of this number
    /// yet.
    pub fn unpark(&mut self, slot: u32, epoch: u32, now: Instant) {
        while self.slots() <= slot {
            self.slots.push(Slot::new(Next::Never, epoch));
        }
        let entry = &mut self.slots[slot as usize];
        if entry.next == Next::Never && !self.stopping {
            (entry.next, entry.epoch) = (Next::Spawn(now), epoch);
            entry.restarts.reset();
        }
    }

    /// Whether nobody is to fill the slot.
    #[must_use]
    pub fn is_parked(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_none_or(|slot| slot.next == Next::Never)
    }

    /// The slots that are filled, or to be.
    pub fn active(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.slots()).filter(|&slot| !self.is_parked(slot))
    }

    /// The line of the worker that fills a slot.
    #[must_use]
    pub fn incumbent(&self, slot: u32) -> Option<u32> {
        match self.slots.get(slot as usize)?.next {
            Next::Life(line) => Some(line),
            Next::Spawn(_) | Next::Never => None,
        }
    }

    /// Whether every slot that is to be filled has a worker that serves.
    #[must_use]
    pub fn all_ready(&self) -> bool {
        self.active().all(|slot| {
            self.incumbent(slot).and_then(|line| self.life(line)).is_some_and(Life::takes)
        })
    }

    /// The slots that nobody fills now, and how that looks from outside.
    pub fn vacancies(&self) -> impl Iterator<Item = (u32, ProcessState)> + '_ {
        (0..).zip(&self.slots).filter_map(|(number, slot)| match slot.next {
            Next::Life(_) => None,
            // Also one that is not to be filled again by itself (`auto_restart`).
            _ if slot.restarts.in_a_row() > 0 => Some((number, ProcessState::Failed)),
            Next::Spawn(_) => Some((number, ProcessState::Starting)),
            Next::Never => Some((number, ProcessState::Stopped)),
        })
    }

    /// The lives to be killed so that besides this epoch at most so many older ones are alive.
    #[must_use]
    pub fn beyond_epochs(&self, epoch: u32, olds: usize) -> Vec<u32> {
        let alive = |life: &&Life| life.state != State::Dead && life.epoch != epoch;
        let mut epochs: Vec<u32> = self.lives.values().filter(alive).map(|l| l.epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        let over = epochs.len().saturating_sub(olds);
        let doomed = |life: &Life| alive(&life) && epochs[..over].contains(&life.epoch);
        self.lives().filter(|(_, life)| doomed(life)).map(|(line, _)| line).collect()
    }

    /// It is to be killed at the next `poll`, for this reason.
    pub fn kill_for(&mut self, line: u32, reason: KillReason, now: Instant) {
        if let Some(life) = self.running(line) {
            life.asked = true;
            life.deadline = Some((now, reason));
        }
    }

    /// When the slots are filled again from now on, and whether.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Whether no worker serves or boots, and because of failures none is spawned before then.
    #[must_use]
    pub fn none_before(&self, then: Instant) -> bool {
        let may_serve = |life: &Life| life.takes() || life.state == State::Booting;
        let empty = |slot: &Slot| match slot.next {
            Next::Spawn(at) => at > then,
            Next::Never => true,
            Next::Life(_) => false,
        };
        self.slots.iter().any(|slot| slot.restarts.in_a_row() > 0)
            && self.slots.iter().all(empty)
            && !self.lives.values().any(may_serve)
    }

    /// Each slot, its failures, and when it is filled again, if it is empty and is to be.
    pub fn restarts(&self) -> impl Iterator<Item = (u32, &Restarts, Option<Instant>)> {
        (0..).zip(&self.slots).map(|(number, slot)| match slot.next {
            Next::Spawn(at) => (number, &slot.restarts, Some(at)),
            Next::Life(_) | Next::Never => (number, &slot.restarts, None),
        })
    }

    /// New lives may take so long to say READY.
    pub fn set_boot_timeout(&mut self, timeout: std::time::Duration) {
        self.boot_timeout = timeout;
    }
}

#[cfg(test)]
mod tests;
