//! The end of a run: it drains, is given up, or is stopped.

use super::{Client, Connection, Phase};
use crate::io::{Connects, Io};
use crate::load::pace::{Pace, Schedule};
use crate::load::tally::{Failure, Tally};

impl<I: Io + Connects> Client<I> {
    /// Ends the run now. What is due and has no reply is not a failure, but it has waited for so
    /// long: nobody hides a slow server by Ctrl-C.
    pub fn stop(&mut self) {
        if self.phase <= Phase::Ready {
            self.tally.connections.opened = self.open() as u64;
        }
        if self.phase < Phase::Measuring {
            // The clock never started.
            self.end = self.start;
            return self.enter_closing();
        }
        for sent in self.connections.iter().flat_map(|connection| &connection.sent) {
            if sent.counted {
                self.tally.unfinished += 1;
                let (response, service) = (self.now.since(sent.due), self.now.since(sent.at));
                self.tally.wait_in_vain(response, Some(service));
            }
        }
        while let Some(due) = self.next_due().filter(|due| *due <= self.now) {
            self.count_due(due);
            self.tally.unfinished += 1;
            self.tally.wait_in_vain(self.now.since(due), None);
            self.skip_due();
        }
        self.end = self.end.min(self.now);
        self.enter_closing();
    }

    /// What was counted, at the end.
    #[must_use]
    pub fn into_tally(mut self) -> Tally {
        let answered = self.connections.iter().filter(|connection| connection.has_answered);
        self.tally.connections.answered = answered.count() as u64;
        let measured = self.measured();
        self.tally.finish(matches!(self.job.pace, Pace::Open { .. }), measured);
        self.tally
    }

    pub(super) fn is_drained(&self) -> bool {
        let is_idle = |connection: &Connection| connection.sent.is_empty();
        self.is_sent() && self.connections.iter().all(is_idle)
    }

    /// Nothing that is due is still to be sent.
    pub(super) fn is_sent(&self) -> bool {
        self.next_due().is_none()
    }

    /// What has no reply by now will not get one; what is due and was never sent has failed too.
    pub(super) fn give_up(&mut self) {
        for slot in 0..self.connections.len() {
            self.lose(slot, Failure::Timeout, "");
        }
        while let Some(due) = self.next_due() {
            self.count_due(due);
            self.fail(Failure::Unsent, "", due, None);
            self.skip_due();
        }
    }

    fn next_due(&self) -> Option<crate::io::Instant> {
        self.schedule.as_ref().and_then(Schedule::due)
    }

    fn skip_due(&mut self) {
        if let Some(schedule) = &mut self.schedule {
            schedule.advance();
        }
    }

    pub(super) fn enter_closing(&mut self) {
        self.phase = Phase::Closing;
        self.schedule = None;
        self.eager.clear();
        for slot in 0..self.connections.len() {
            self.connections[slot].sent.clear();
            self.hang_up(slot);
        }
    }
}
