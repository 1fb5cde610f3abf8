//! Commands, from signals and control connections: which part of the master acts on each.

use super::Master;
use super::answer::{Answer, Asker};
use super::command::Command;
use crate::io::{Instant, Io, Processes};

impl<I: Io + Processes> Master<I> {
    /// Acts on a command. Each one ends in one answer, now or later.
    pub(super) fn on_command(&mut self, command: Command, asker: Option<Asker>, now: Instant) {
        match command {
            Command::Drain => self.begin_drain(now),
            Command::Stop => self.stop(now),
            Command::Reap => self.reap(now),
            Command::Reload
            | Command::Upgrade
            | Command::Rollback
            | Command::ScaleBy(_)
            | Command::ScaleTo(_)
            | Command::DrainWorkers
            | Command::Recycle(_)
            | Command::SetMode(_)
            | Command::Dump
            | Command::Ignore(_) => {
                self.answer(asker, Answer::failed("command", "not available yet"));
            }
        }
    }

    /// The end of a command, for who asked for it.
    pub(super) fn answer(&mut self, asker: Option<Asker>, answer: Answer) {
        self.answers.extend(asker.map(|asker| (asker, answer)));
    }
}
