//! The search for a server's capacity: trials at rising and falling rates, each a run of its own.

use super::capacity::{Capacity, Trial};
use super::plan::Plan;
use super::report::Report;
use super::tally::Failure;
use super::threads::{Go, Live};
use super::verdict::Reason;
use super::{Arrivals, Pace};
use crate::error::Error;

/// What came of a search.
#[derive(Clone, Debug)]
pub struct Found {
    /// The report of the highest rate that held; `None`: none did.
    pub best: Option<Report>,
    /// The report of the lowest rate that did not.
    pub limit: Option<Report>,
    /// How many trials there were.
    pub trials: u32,
    /// The client was what could not go higher: the server may hold more.
    pub client_was_limit: bool,
    /// The trial that was stopped: the search is not over.
    pub stopped: Option<Report>,
}

impl Found {
    /// What a command ends with: a report's codes; [`Report::EXIT_GATE`] when no rate held,
    /// [`Report::EXIT_INVALID`] when none could: nothing was answered as expected.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (&self.best, &self.stopped, self.client_was_limit) {
            (_, Some(_), _) => Report::EXIT_INTERRUPTED,
            (_, _, true) => Report::EXIT_INVALID,
            (None, _, _) if self.has_no_answers() => Report::EXIT_INVALID,
            (None, _, _) => Report::EXIT_GATE,
            (Some(_), _, _) => Report::EXIT_OK,
        }
    }

    /// What ended it, in words.
    #[must_use]
    pub fn note(&self) -> &'static str {
        match (&self.best, &self.stopped, self.client_was_limit) {
            (_, Some(_), _) => "interrupted: the search was not over",
            (_, _, true) => "the client was the limit: the server may hold more",
            (None, _, _) if self.has_no_answers() => {
                "no rate held: nothing is answered as expected"
            }
            (None, _, _) => "no rate held",
            (Some(_), _, _) => "the server was the limit",
        }
    }

    fn has_no_answers(&self) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.reasons.contains(&Reason::NoAnswers))
    }
}

impl Report {
    /// Every reply was a wrong one: no lower rate makes them right.
    fn is_all_wrong(&self) -> bool {
        let wrong = [Failure::Status, Failure::Body, Failure::Malformed];
        let count: u64 = wrong.iter().map(|kind| self.tally.failures.get(*kind)).sum();
        self.tally.answered == 0 && count > 0 && count == self.failed()
    }
}

impl Plan {
    /// Searches for the highest rate at which this plan keeps its gates, and the server keeps up.
    /// The plan's own pace only says how requests are spaced; its duration is that of one trial.
    ///
    /// # Errors
    ///
    /// As [`Plan::run`].
    pub fn find_capacity(
        self,
        mut capacity: Capacity,
        watch: &mut dyn FnMut(&Live) -> Go,
    ) -> Result<Found, Error> {
        let arrivals = match self.pace {
            Pace::Open { arrivals, .. } => arrivals,
            Pace::Closed => Arrivals::Constant,
        };
        let is_ours =
            |reason: &Reason| matches!(reason, Reason::ClientBound(_) | Reason::Lagging(_));
        let (mut best, mut limit): (Option<Report>, Option<Report>) = (None, None);
        let mut stopped = None;
        while let Some(rate) = capacity.next() {
            let pace = Pace::Open { arrivals, from: rate, to: rate };
            let report = self.clone().pace(pace).run_watched(watch)?;
            if report.interrupted {
                stopped = Some(report);
                break;
            }
            // A client that was late or busy only made the server look worse: what held all the
            // same, held.
            let sound = report.reasons.iter().all(is_ours);
            let kept_up = report.tally.second_half.is_kept_up_with(arrivals);
            if kept_up && sound && report.gates_held() {
                capacity.tell(Trial::Held);
                best = Some(report);
            } else if best.is_none() && report.is_all_wrong() {
                capacity.tell(Trial::Broken);
                limit = Some(report);
                break;
            } else {
                capacity.tell(Trial::Broken);
                // Broken once is tried again.
                if capacity.next() != Some(rate) {
                    limit = Some(report);
                }
            }
        }
        Ok(Found {
            client_was_limit: limit
                .as_ref()
                .is_some_and(|limit| !limit.is_all_wrong() && limit.reasons.iter().any(is_ours)),
            best,
            limit,
            trials: capacity.trials(),
            stopped,
        })
    }
}
