//! What one thread saw, and how several of them add up. Pure.

use hdrhistogram::Histogram;
use std::time::Duration;

macro_rules! failures {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $of:ident;)*) => {
        /// What can go wrong, each with a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Failure { $($(#[doc = $doc])+ $name,)* }

        impl Failure {
            /// All of them, in the order of reports.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in reports; it never changes.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it befell.
            #[must_use]
            pub const fn of(self) -> Of {
                match self { $(Self::$name => Of::$of,)* }
            }
        }
    };
}

/// What a failure befell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// An attempt to connect.
    Connect,
    /// A request.
    Request,
    /// A connection that no request was on its way on.
    Connection,
}

failures! {
    /// Nobody listens there.
    Refused = "refused", Connect;
    /// No connection within the timeout.
    ConnectTimeout = "connect_timeout", Connect;
    /// No free source port (EADDRNOTAVAIL): connections are opened faster than TIME-WAIT ends.
    OutOfPorts = "out_of_ports", Connect;
    /// No free descriptor.
    OutOfDescriptors = "out_of_descriptors", Connect;
    /// The connect failed in another way.
    Connect = "connect", Connect;
    /// No whole reply within the timeout.
    Timeout = "timeout", Request;
    /// The server reset the connection.
    Reset = "reset", Request;
    /// The server closed the connection before it sent any of the reply.
    Closed = "closed", Request;
    /// The server closed the connection in the middle of the reply.
    Short = "short", Request;
    /// What came is no HTTP/1.x reply.
    Malformed = "malformed", Request;
    /// The status is not the expected one.
    Status = "status", Request;
    /// The body is not the expected one.
    Body = "body", Request;
    /// It was due, but every connection was busy until the end.
    Unsent = "unsent", Request;
    /// The server sent bytes, and no request was on its way that they could answer.
    Unasked = "unasked", Connection;
}

const KINDS: usize = Failure::ALL.len();

/// Counts by kind of failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures([u64; KINDS]);

impl Failures {
    /// Of one kind.
    #[must_use]
    pub fn get(&self, failure: Failure) -> u64 {
        self.0[failure as usize]
    }

    /// Of one kind of subject.
    #[must_use]
    pub fn total(&self, of: Of) -> u64 {
        Failure::ALL.iter().filter(|failure| failure.of() == of).map(|f| self.get(*f)).sum()
    }

    pub(super) fn count(&mut self, failure: Failure) {
        self.0[failure as usize] += 1;
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own += other);
    }
}

/// One second of a run.
#[derive(Clone, Debug)]
pub struct Second {
    /// Right replies that came in it.
    pub replies: u64,
    /// Requests that were due in it and failed, whenever that was.
    pub failures: u64,
    /// Latency of those replies, in microseconds, to two digits.
    pub latency: Histogram<u32>,
}

impl Second {
    fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, MICROS_MAX, 2);
        Self { replies: 0, failures: 0, latency: latency.expect("bounds and digits are in range") }
    }
}

/// Latencies in nanoseconds, to three digits.
pub type Latency = Histogram<u64>;

const NANOS_MAX: u64 = 3_600_000_000_000;
const MICROS_MAX: u64 = NANOS_MAX / 1000;

/// An empty one.
pub(super) fn latency() -> Latency {
    Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("bounds and digits are in range")
}

/// All that one thread counted in the measured time.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Requests that were due in the measured time. Each is in `answered`, in one of the failures
    /// of a request, or in `unfinished`.
    pub requests: u64,
    /// Of those, answered as expected.
    pub answered: u64,
    /// Of those, without a whole reply when the run was interrupted.
    pub unfinished: u64,
    /// What failed.
    pub failures: Failures,
    /// One example of each kind of failure, where there is more to say than its name.
    pub examples: Vec<(Failure, String)>,
    /// Right replies that came within the measured time, whenever they were asked for: the rate is
    /// these by the time.
    pub replies: u64,
    /// Replies by status, from 100 on.
    pub status: Vec<u64>,
    /// Bytes received in the measured time.
    pub bytes_in: u64,
    /// Bytes sent in the measured time.
    pub bytes_out: u64,
    /// From the sending of a request to its whole reply. What failed, or was unfinished, had waited
    /// in vain: it would have taken longer than that, and counts as those that did.
    pub service: Latency,
    /// From the time a request was due; in a closed loop empty: the same as `service`.
    pub response: Latency,
    /// What had waited in vain, since it was due.
    pub in_vain: Latency,
    /// The same, since it was sent.
    pub(super) in_vain_service: Latency,
    /// How late this client noticed that a request was due. Not the server's doing.
    pub lag: Latency,
    /// The measured time, second by second.
    pub seconds: Vec<Second>,
    /// Of the measured time the second half.
    pub second_half: Half,
    /// Connections.
    pub connections: Connections,
}

/// What came and went in half of the measured time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Half {
    /// Requests that were due in it.
    pub due: u64,
    /// Right replies that came in it, whenever they were asked for.
    pub replies: u64,
}

/// Of the connections asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// So many were asked for.
    pub requested: u64,
    /// So many were open before the clock started.
    pub opened: u64,
    /// So many of those had an answer by the end.
    pub answered: u64,
    /// The fewest that were open at any time between; the sum of each thread's fewest.
    pub alive_min: u64,
    /// How often one was opened anew.
    pub reopened: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            requests: 0,
            answered: 0,
            unfinished: 0,
            failures: Failures::default(),
            examples: Vec::new(),
            replies: 0,
            status: vec![0; STATUSES],
            bytes_in: 0,
            bytes_out: 0,
            service: latency(),
            response: latency(),
            in_vain: latency(),
            in_vain_service: latency(),
            lag: latency(),
            seconds: Vec::new(),
            second_half: Half::default(),
            connections: Connections::default(),
        }
    }
}

const STATUSES: usize = 900;
/// A run of more seconds is longer than any series is good for; its rest is in the last one.
const SECONDS_MAX: usize = 24 * 3600;

impl Tally {
    /// What came in this second of the run.
    pub(super) fn second(&mut self, index: u64) -> &mut Second {
        let index = usize::try_from(index).unwrap_or(usize::MAX).min(SECONDS_MAX - 1);
        while self.seconds.len() <= index {
            self.seconds.push(Second::new());
        }
        &mut self.seconds[index]
    }

    /// A request that waited so long in vain, since it was due and since it was sent.
    pub(super) fn wait_in_vain(&mut self, response: Duration, service: Option<Duration>) {
        self.in_vain.saturating_record(nanos(response));
        if let Some(service) = service {
            self.in_vain_service.saturating_record(nanos(service));
        }
    }

    /// At the end, once: puts what waited in vain among the latencies, and makes the series as long
    /// as the measured time.
    pub(super) fn finish(&mut self, is_open_loop: bool, measured: Duration) {
        add_longer(&mut self.service, &self.in_vain_service);
        if is_open_loop {
            add_longer(&mut self.response, &self.in_vain);
        }
        if !measured.is_zero() {
            self.second(last_second(measured));
        }
    }

    pub(super) fn count_status(&mut self, status: u16) {
        let index = usize::from(status).saturating_sub(100).min(STATUSES - 1);
        self.status[index] += 1;
    }

    /// One more failure, with what more there is to say of it.
    pub(super) fn fail(&mut self, failure: Failure, why: impl FnOnce() -> String) {
        self.failures.count(failure);
        if !self.examples.iter().any(|(known, _)| *known == failure) {
            let why = why();
            self.examples.extend((!why.is_empty()).then_some((failure, why)));
        }
    }

    /// Takes another thread's in.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.unfinished += other.unfinished;
        self.failures.add(&other.failures);
        for (failure, why) in &other.examples {
            if !self.examples.iter().any(|(known, _)| known == failure) {
                self.examples.push((*failure, why.clone()));
            }
        }
        self.replies += other.replies;
        self.status.iter_mut().zip(&other.status).for_each(|(own, other)| *own += other);
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        for (own, other) in [
            (&mut self.service, &other.service),
            (&mut self.response, &other.response),
            (&mut self.lag, &other.lag),
            (&mut self.in_vain, &other.in_vain),
            (&mut self.in_vain_service, &other.in_vain_service),
        ] {
            own.add(other).expect("all have the same bounds");
        }
        for (index, second) in (0..).zip(&other.seconds) {
            let own = self.second(index);
            own.replies += second.replies;
            own.failures += second.failures;
            own.latency.add(&second.latency).expect("all have the same bounds");
        }
        self.second_half.due += other.second_half.due;
        self.second_half.replies += other.second_half.replies;
        let (own, other) = (&mut self.connections, &other.connections);
        own.requested += other.requested;
        own.opened += other.opened;
        own.answered += other.answered;
        own.alive_min += other.alive_min;
        own.reopened += other.reopened;
    }
}

/// Adds latencies that are known only to be longer than these bounds. Each counts as one of those
/// that did take longer, spread evenly over them; with its bound if none did. So what fails fast
/// changes nothing, what fails late shows, and no percentile looks better for a failure.
fn add_longer(known: &mut Latency, bounds: &Latency) {
    if bounds.is_empty() {
        return;
    }
    let counts = |of: &Latency| -> Vec<(u64, u64)> {
        of.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
    };
    let (values, bounds) = (counts(known), counts(bounds));
    let mut longer = known.len();
    let mut bounds = bounds.into_iter().peekable();
    known.reset();
    // What each value counts by now, and what rounding has left over.
    let (mut weight, mut rest) = (1.0, 0.0);
    for (value, count) in values {
        while let Some((_, more)) = bounds.next_if(|(bound, _)| *bound < value) {
            #[expect(clippy::cast_precision_loss, reason = "a ratio")]
            let share = more as f64 / longer as f64;
            weight += share;
        }
        longer -= count;
        #[expect(clippy::cast_precision_loss, reason = "a weight")]
        let exact = count as f64 * weight + rest;
        rest = exact - exact.round();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        known.saturating_record_n(value, exact.round() as u64);
    }
    bounds.for_each(|(bound, count)| known.saturating_record_n(bound, count));
}

/// The number of the second that this measured time ends in.
pub(super) fn last_second(measured: Duration) -> u64 {
    measured.saturating_sub(Duration::from_nanos(1)).as_secs()
}

/// In nanoseconds, for a histogram; at least one, at most an hour.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).clamp(1, NANOS_MAX)
}

/// The same for the histogram of a second.
pub(super) fn micros(duration: Duration) -> u64 {
    (nanos(duration) / 1000).clamp(1, MICROS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against an independent computation: sort the raw samples and count.
        #[test]
        fn percentiles_agree_with_the_raw_samples(
            mut raw in prop::collection::vec(1u64..5_000_000_000, 1..400),
            split in 0usize..400,
        ) {
            let (mut one, mut other) = (Tally::default(), Tally::default());
            for (at, sample) in raw.iter().enumerate() {
                let own = if at < split { &mut one } else { &mut other };
                own.service.saturating_record(*sample);
            }
            one.add(&other);
            raw.sort_unstable();
            for quantile in [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0] {
                #[expect(
                    clippy::cast_possible_truncation, clippy::cast_sign_loss,
                    clippy::cast_precision_loss, reason = "a rank"
                )]
                let rank = ((quantile * raw.len() as f64).ceil() as usize).max(1);
                let (want, got) = (raw[rank - 1], one.service.value_at_quantile(quantile));
                prop_assert!(got.abs_diff(want) <= want / 1000 + 1, "{}: {} {}", quantile, got, want);
            }
        }
    }

    proptest! {
        /// Nothing is lost, and no percentile is lower than without those that waited in vain.
        #[test]
        fn what_waits_in_vain_never_makes_a_percentile_look_better(
            known in prop::collection::vec(1u64..1_000_000, 0..200),
            bounds in prop::collection::vec(1u64..2_000_000, 0..200),
        ) {
            let of = |raw: &[u64]| {
                let mut all = latency();
                raw.iter().for_each(|value| all.saturating_record(*value));
                all
            };
            let (before, bounds) = (of(&known), of(&bounds));
            let mut after = before.clone();
            add_longer(&mut after, &bounds);
            prop_assert_eq!(after.len(), before.len() + bounds.len());
            let sorted = |of: &Latency| -> Vec<u64> {
                let each = of.iter_recorded();
                each.flat_map(|at| (0..at.count_at_value()).map(move |_| at.value_iterated_to()))
                    .collect()
            };
            let (before, after) = (sorted(&before), sorted(&after));
            for percent in 1..=100 {
                // Rounding moves at most one of them to the next value.
                let was = (before.len() * percent).div_ceil(100).saturating_sub(2);
                let is = (after.len() * percent).div_ceil(100).saturating_sub(1);
                prop_assert!(after.get(is) >= before.get(was), "p{}", percent);
            }
        }
    }

    #[test]
    fn what_fails_late_is_a_latency_and_what_fails_fast_is_none() {
        let mut known = latency();
        known.saturating_record_n(1_000, 98);
        known.saturating_record_n(1_000_000, 2);
        let mut bounds = latency();
        bounds.saturating_record_n(10, 100); // as many fail at once
        add_longer(&mut known, &bounds);
        assert_eq!((known.len(), known.value_at_quantile(0.98)), (200, 1_000));
        let mut bounds = latency();
        bounds.saturating_record_n(500_000, 20); // slower than most: as slow as the slowest
        bounds.saturating_record_n(2_000_000, 20); // slower than any: at least so long
        add_longer(&mut known, &bounds);
        assert_eq!(known.len() - known.count_between(0, 999_000), 44);
        assert_eq!(known.len() - known.count_between(0, 1_999_000), 20);
    }

    #[test]
    fn the_series_is_as_long_as_the_measured_time() {
        for (millis, want) in [(0, 0), (1, 1), (1000, 1), (1001, 2), (3000, 3)] {
            let mut tally = Tally::default();
            tally.finish(false, Duration::from_millis(millis));
            assert_eq!(tally.seconds.len(), want, "{millis}");
        }
    }

    #[test]
    fn threads_add_up_second_by_second() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.second(0).replies = 3;
        other.second(2).replies = 4;
        other.fail(Failure::Short, || "half".to_owned());
        one.fail(Failure::Short, String::new);
        one.add(&other);
        let replies: Vec<u64> = one.seconds.iter().map(|second| second.replies).collect();
        assert_eq!(replies, [3, 0, 4]);
        assert_eq!(one.failures.get(Failure::Short), 2);
        assert_eq!(one.failures.total(Of::Request), 2);
        assert_eq!(one.examples, [(Failure::Short, "half".to_owned())]);
    }
}
