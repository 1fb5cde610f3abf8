//! The master's descriptors: whether what an operator wants fits under RLIMIT_NOFILE, asked before
//! anything is touched.

use super::Master;
use super::answer::Answer;
use super::command::Command;
use crate::config::Mode;
use crate::io::{Instant, Io, Processes};

/// Of the master, for each worker: its channel and its pidfd. Listeners and messages come on top.
pub const FDS_PER_WORKER: usize = 2;
/// Left to the master for arrivals, probes, and the candidates of a reload.
pub const FDS_SPARE: usize = 16;
/// Open at a time while a worker is forked: both ends of its channel and of its messages, and one
/// to count threads by.
const FDS_TO_FORK: usize = 5;

impl<I: Io + Processes> Master<I> {
    /// How many descriptors could be opened now, if it is not more than that.
    fn descriptors_left(&mut self, most: usize) -> usize {
        let mut opened = Vec::new();
        while opened.len() < most
            && let Ok(fd) = self.io.spare()
        {
            opened.push(fd);
        }
        let count = opened.len();
        for fd in opened {
            self.io.close(fd);
        }
        count
    }

    /// Whether a listener can be made and a worker forked after that: one that nobody reads
    /// would take arrivals all the same.
    pub(super) fn can_listen_and_fork(&mut self) -> bool {
        let wanted = 1 + FDS_TO_FORK;
        self.descriptors_left(wanted) == wanted
    }

    /// How many of these slots can be filled, the first of them first. One that was filled before
    /// can: what takes its place now are arrivals, which wait for it.
    pub(super) fn room_to_fill(&mut self, slots: &[u32]) -> usize {
        let new = slots.iter().position(|&slot| slot >= self.workers.slots());
        let Some(old) = new else { return slots.len() };
        let shared = self.ops.epochs.settings(self.ops.epochs.current()).mode == Mode::Shared;
        let each = FDS_PER_WORKER + usize::from(self.mail.is_some());
        let needs = slots[old..]
            .iter()
            .map(|&slot| each + if shared { self.listeners_missing(slot) } else { 0 });
        let needs: Vec<usize> = needs.collect();
        let most = needs.iter().sum::<usize>() + FDS_SPARE;
        let mut left = self.descriptors_left(most).saturating_sub(FDS_SPARE);
        let fits = needs.iter().take_while(|need| {
            let fits = **need <= left;
            left = left.saturating_sub(**need);
            fits
        });
        old + fits.count()
    }

    /// Changes the mode, if the listeners that the workers of a shared one need can be had.
    pub(super) fn change_mode(&mut self, mode: Mode, askers: Vec<super::Asker>, now: Instant) {
        let active: Vec<u32> = self.workers.active().collect();
        let missing: usize = active.iter().map(|&slot| self.listeners_missing(slot)).sum();
        let most = missing + FDS_SPARE;
        if mode == Mode::Shared && missing > 0 && self.descriptors_left(most) < most {
            let why = format!("no descriptors (RLIMIT_NOFILE) for {missing} listeners");
            return self.conclude(askers, &Answer::failed(Command::SetMode(mode).name(), why));
        }
        self.begin_mode(mode, askers, now);
    }

    /// How many listeners a slot lacks.
    fn listeners_missing(&self, slot: u32) -> usize {
        self.ops.groups.iter().filter(|&&address| !self.sockets.has(slot, address)).count()
    }
}
