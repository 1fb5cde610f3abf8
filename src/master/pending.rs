//! Accepted, not yet handed over: bounded by count and age. Pure.

use super::ledger::Arrival;
use crate::io::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// The connections that wait for a worker, oldest first.
///
/// When `max` wait, accepting pauses, so that the kernel's backlog takes over; it resumes at half,
/// so that it does not stutter. What comes nevertheless (a multishot accept drains what it finds)
/// is too much, and to be refused.
#[derive(Debug)]
pub struct Pending {
    queue: VecDeque<Arrival>,
    max: usize,
    timeout: Duration,
    paused: bool,
}

impl Pending {
    /// Room for `max` connections, each for at most `timeout`.
    #[must_use]
    pub fn new(max: usize, timeout: Duration) -> Self {
        Self { queue: VecDeque::new(), max, timeout, paused: false }
    }

    /// How long one waits at most.
    #[must_use]
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Other limits, for those that wait already too.
    pub fn set_limits(&mut self, max: usize, timeout: Duration) {
        (self.max, self.timeout) = (max, timeout);
        self.paused = self.queue.len() >= max;
    }

    /// A new one. Gives it back when it is too much.
    #[must_use = "what comes back must be refused"]
    pub fn push(&mut self, arrival: Arrival) -> Option<Arrival> {
        if self.queue.len() >= self.max {
            return Some(arrival);
        }
        self.insert(arrival);
        self.paused |= self.queue.len() >= self.max;
        None
    }

    /// One that was to be handed over and was not. It keeps its age, goes before all younger ones,
    /// and is never too much: it has been promised a worker.
    pub fn put_back(&mut self, arrival: Arrival) {
        self.insert(arrival);
        self.paused |= self.queue.len() >= self.max;
    }

    /// Keeps the queue in the order of arrival, which its timeout relies on.
    fn insert(&mut self, arrival: Arrival) {
        let place = if self.queue.back().is_none_or(|last| last.at <= arrival.at) {
            self.queue.len()
        } else {
            self.queue.partition_point(|other| other.at < arrival.at)
        };
        self.queue.insert(place, arrival);
    }

    /// All that wait, oldest first.
    #[must_use]
    pub const fn all(&self) -> &VecDeque<Arrival> {
        &self.queue
    }

    /// The one that waits longest, left where it is.
    #[must_use]
    pub fn front(&self) -> Option<&Arrival> {
        self.queue.front()
    }

    /// The one that waits longest.
    pub fn pop(&mut self) -> Option<Arrival> {
        let arrival = self.queue.pop_front();
        self.paused &= self.queue.len() > self.max / 2;
        arrival
    }

    /// The next one that has waited too long.
    pub fn expire(&mut self, now: Instant) -> Option<Arrival> {
        if now < self.next_deadline()? {
            return None;
        }
        self.pop()
    }

    /// When the next one has waited too long.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.queue.front().map(|arrival| arrival.at.after(self.timeout))
    }

    /// Whether nothing more should be accepted now.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Fd;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_millis(50);

    fn arrival(number: i32, millis: u64) -> Arrival {
        let at = Instant::default().after(Duration::from_millis(millis));
        Arrival { fd: Fd::new(number), listener: 0, at, carried: None }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Pop,
        PutBack,
        Wait(u64),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Push),
            2 => Just(Step::Pop),
            1 => Just(Step::PutBack),
            1 => (0_u64..40).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_nothing_waits_too_long_and_the_oldest_goes_first(
            max in 1_usize..8,
            steps in prop::collection::vec(any_step(), 0..200),
        ) {
            let mut pending = Pending::new(max, TIMEOUT);
            let (mut millis, mut made, mut ended) = (0, 0, 0);
            let mut taken: Vec<Arrival> = Vec::new();
            for step in steps {
                match step {
                    Step::Push => {
                        let full = pending.len() >= max;
                        let refused = pending.push(arrival(made, millis));
                        made += 1;
                        prop_assert_eq!(refused.is_some(), full);
                        ended += i32::from(full);
                    }
                    Step::Pop => taken.extend(pending.pop()),
                    Step::PutBack => {
                        if let Some(arrival) = taken.pop() {
                            pending.put_back(arrival);
                        }
                    }
                    Step::Wait(more) => millis += more,
                }
                let now = Instant::default().after(Duration::from_millis(millis));
                while let Some(old) = pending.expire(now) {
                    prop_assert!(now.since(old.at) >= TIMEOUT);
                    ended += 1;
                }
                prop_assert!(pending.queue.iter().all(|other| now.since(other.at) < TIMEOUT));
                prop_assert!(pending.queue.iter().is_sorted_by_key(|other| other.at));
                let count = pending.len() + taken.len() + usize::try_from(ended).unwrap();
                prop_assert_eq!(count, usize::try_from(made).unwrap());
                prop_assert!(!pending.is_paused() || pending.len() > max / 2);
                prop_assert!(pending.is_paused() || pending.len() < max);
            }
        }
    }

    #[test]
    fn pauses_when_full_and_resumes_at_half() {
        let mut pending = Pending::new(4, TIMEOUT);
        let mut seen = String::new();
        for number in 0..4 {
            assert_eq!(pending.push(arrival(number, 0)), None);
            seen.push(if pending.is_paused() { 'p' } else { '-' });
        }
        assert!(pending.push(arrival(4, 0)).is_some());
        while pending.pop().is_some() {
            seen.push(if pending.is_paused() { 'p' } else { '-' });
        }
        assert_eq!(seen, "---pp---");
    }
}
