//! The search for a server's capacity: trials at rising and falling rates, each a run of its own.

use super::capacity::{Capacity, Trial};
use super::plan::Plan;
use super::report::Report;
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
    /// It was stopped.
    pub interrupted: bool,
}

impl Found {
    /// What a command ends with: a report's codes; [`Report::EXIT_GATE`] when no rate held.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (&self.best, self.interrupted, self.client_was_limit) {
            (_, true, _) => Report::EXIT_INTERRUPTED,
            (_, _, true) => Report::EXIT_INVALID,
            (None, _, _) => Report::EXIT_GATE,
            (Some(_), _, _) => Report::EXIT_OK,
        }
    }
}

impl Report {
    /// Whether the server kept up with what was due: all but 2 % came back within the measured
    /// time, and what may still be on its way when that ends.
    fn is_kept_up_with(&self) -> bool {
        let on_their_way = u64::from(self.plan.connections) * u64::from(self.plan.pipeline);
        (self.tally.replies + on_their_way) * 100 >= self.tally.requests * 98
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
        let mut interrupted = false;
        while let Some(rate) = capacity.next() {
            let pace = Pace::Open { arrivals, from: rate, to: rate };
            let report = self.clone().pace(pace).run_watched(watch)?;
            interrupted = report.interrupted;
            if interrupted {
                break;
            }
            // A client that was late or busy only made the server look worse: what held all the
            // same, held.
            let sound = report.reasons.iter().all(is_ours);
            if report.is_kept_up_with() && sound && report.gates_held() {
                capacity.tell(Trial::Held);
                best = Some(report);
            } else {
                capacity.tell(Trial::Broken);
                // Broken once is tried again.
                if capacity.next() != Some(rate) {
                    limit = Some(report);
                }
            }
        }
        Ok(Found {
            client_was_limit: limit.as_ref().is_some_and(|limit| limit.reasons.iter().any(is_ours)),
            best,
            limit,
            trials: capacity.trials(),
            interrupted,
        })
    }
}
