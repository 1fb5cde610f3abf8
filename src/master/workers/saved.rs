//! The table as it goes to the next program of this process, and comes from the one before. Pure.

use super::{Life, Next, Role, Slot, State, Workers};
use crate::event::KillReason;
use crate::io::Instant;
use crate::ipc::manifest::{SlotPart, WorkerPart};

impl Workers {
    /// All slots, in order.
    #[must_use]
    pub fn save_slots(&self) -> Vec<SlotPart> {
        let slot = |slot: &Slot| SlotPart {
            generation: slot.generation,
            epoch: slot.epoch,
            filled: slot.next != Next::Never,
            line: if let Next::Life(line) = slot.next { Some(line) } else { None },
            spawn_at: if let Next::Spawn(at) = slot.next { Some(at.as_nanos()) } else { None },
        };
        self.slots.iter().map(slot).collect()
    }

    /// What the table knows of the life on this line; `None`: it is dead, or only a check, a
    /// candidate or on trial.
    #[must_use]
    pub fn save_life(&self, line: u32) -> Option<WorkerPart> {
        let life = self.lives.get(&line).filter(|life| life.role == Role::Incumbent)?;
        let state = match life.state {
            State::Booting => "booting",
            State::Ready | State::Full { .. } => "ready",
            State::Draining => "draining",
            State::Killed => "killed",
            State::Dead => return None,
        };
        Some(WorkerPart {
            line,
            slot: life.slot,
            epoch: life.epoch,
            state: state.to_owned(),
            asked: life.asked,
            born: life.born.as_nanos(),
            ready_at: life.ready_at.map(Instant::as_nanos),
            kill_at: life.deadline.map(|(at, _)| at.as_nanos()),
            kill_why: life.deadline.map(|(_, why)| why.name().to_owned()),
            ..WorkerPart::default()
        })
    }

    /// Whether any life is dead and not forgotten, or is no slot's worker: a check, a candidate.
    #[must_use]
    pub fn is_in_between(&self) -> bool {
        self.lives.values().any(|life| life.state == State::Dead || life.role != Role::Incumbent)
    }

    /// The table as another program saved it; `known`: whether a line is on the board.
    ///
    /// # Errors
    ///
    /// What does not fit together.
    pub fn restore(
        &mut self,
        slots: &[SlotPart],
        workers: &[WorkerPart],
        known: impl Fn(u32) -> bool,
    ) -> Result<(), String> {
        self.lives.clear();
        for part in workers {
            let life = life(part)?;
            if !known(part.line) || life.slot as usize >= slots.len() {
                return Err(format!("a worker on line {} in slot {}", part.line, part.slot));
            }
            if self.lives.insert(part.line, life).is_some() {
                return Err(format!("two workers on line {}", part.line));
            }
        }
        self.slots = Vec::new();
        for part in slots {
            let next = match (part.line, part.spawn_at) {
                (Some(line), _) if self.lives.contains_key(&line) => Next::Life(line),
                (Some(line), _) => return Err(format!("no worker on line {line}")),
                (None, Some(at)) if part.filled => Next::Spawn(Instant::from_nanos(at)),
                (None, None) if part.filled => Next::Spawn(Instant::default()),
                (None, _) => Next::Never,
            };
            let mut slot = Slot::new(next, part.epoch);
            // What failed with another program is no failure of this one.
            slot.generation = part.generation;
            self.slots.push(slot);
        }
        self.came_up = true;
        Ok(())
    }
}

fn life(part: &WorkerPart) -> Result<Life, String> {
    let state = match part.state.as_str() {
        "booting" => State::Booting,
        "ready" => State::Ready,
        "draining" => State::Draining,
        "killed" => State::Killed,
        other => return Err(format!("a worker that is {}", other.escape_debug())),
    };
    let all = [
        KillReason::BootTimeout,
        KillReason::ChannelGone,
        KillReason::DrainTimeout,
        KillReason::OldEpoch,
        KillReason::Hung,
    ];
    let why = all.into_iter().find(|why| part.kill_why.as_deref() == Some(why.name()));
    let why = why.unwrap_or(KillReason::Stopped);
    Ok(Life {
        slot: part.slot,
        state,
        role: Role::Incumbent,
        epoch: part.epoch,
        born: Instant::from_nanos(part.born),
        asked: part.asked,
        // The watchdog, which is a new one, says so again if it is.
        late: false,
        quiet: None,
        ready_at: part.ready_at.map(Instant::from_nanos),
        deadline: part.kill_at.map(|at| (Instant::from_nanos(at), why)),
        boot_failure: None,
        exit: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn table() -> Workers {
        let now = Instant::default().after(Duration::from_secs(1));
        let mut workers = Workers::new(3, 9, Duration::from_secs(10), 7);
        for (slot, line) in [(0, 4), (1, 2)] {
            workers.spawned(slot, line, now);
            workers.ready(line, now);
        }
        workers.drain(2, now.after(Duration::from_secs(30)));
        workers.park(2);
        workers
    }

    fn saved(workers: &Workers) -> (Vec<SlotPart>, Vec<WorkerPart>) {
        let lines: Vec<u32> = workers.lives().map(|(line, _)| line).collect();
        (workers.save_slots(), lines.iter().filter_map(|&line| workers.save_life(line)).collect())
    }

    #[test]
    fn what_was_saved_is_the_same_table_again() {
        let before = table();
        let (slots, lives) = saved(&before);
        let mut after = Workers::new(1, 9, Duration::from_secs(10), 7);
        after.restore(&slots, &lives, |line| line < 9).unwrap();
        assert_eq!(saved(&after), (slots, lives));
        assert_eq!(after.incumbent(0), Some(4));
        assert_eq!(after.reader(1), None, "it drains");
        assert!(after.is_parked(2));
        assert_eq!(after.next_deadline(), before.next_deadline());
        assert_eq!(after.all_failed(), None);
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<SlotPart>, &mut Vec<WorkerPart>), want: &str) {
        let (mut slots, mut lives) = saved(&table());
        change(&mut slots, &mut lives);
        let mut workers = Workers::new(1, 9, Duration::from_secs(10), 7);
        assert_eq!(workers.restore(&slots, &lives, |line| line < 9).unwrap_err(), want);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        check(|_, lives| lives[0].line = 9, "a worker on line 9 in slot 1");
        check(|_, lives| lives[0].slot = 3, "a worker on line 2 in slot 3");
        check(|_, lives| lives[0].line = 4, "two workers on line 4");
        check(|slots, _| slots[0].line = Some(8), "no worker on line 8");
        check(|_, lives| lives[0].state = "asleep".to_owned(), "a worker that is asleep");
    }
}
