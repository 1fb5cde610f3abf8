//! Whether each worker's loop turns while something waits for it, and what is done when it does
//! not: asked, avoided, struck three times. Pure.
//!
//! A worker that sleeps because nothing is there for it is healthy, and is not looked at: looks end
//! when all are asleep, and begin again with the next connection. One that has not turned since the
//! look before, though something waits for it, is asked to (a message on its channel wakes it). If
//! it still has not turned by then, others serve what waits, and after that it is struck: a report
//! of what it is at, ABRT (for a core dump), KILL. One that runs is struck only for the time that
//! it had on a CPU, so that a crowded machine is no hang; one that a debugger holds is not struck.
//! When the looks themselves come late, the master was stopped or starved, and every clock starts
//! anew.

use crate::io::{Instant, RunState, Usage};
use std::collections::BTreeMap;
use std::time::Duration;

/// What is known of a worker at a look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// When its loop last turned, by its own word.
    pub turned: u64,
    /// Something waits for it now: connections in transit or in its listener's queue, requests that
    /// have begun.
    pub waits: bool,
    /// Connections are open in it, so that something may wait without our seeing it.
    pub open: bool,
    /// Nothing else will end it: it may be struck.
    pub strikes: bool,
    /// What the kernel says of it; only asked when something waits, or it is a suspect.
    pub usage: Option<Usage>,
}

/// What to do about a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Say something to it, so that it turns if it can.
    Ask,
    /// Give it nothing new, and what it has not begun to others.
    Avoid,
    /// It turns again.
    Welcome,
    /// Say what it is at.
    Report,
    /// Send it ABRT.
    Abort,
    /// Send it KILL.
    Kill,
}

/// The workers that are watched, by line.
#[derive(Debug)]
pub struct Watchdog {
    timeout: Duration,
    next_look: Option<Instant>,
    watched: BTreeMap<u32, Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    turned: u64,
    /// Looks in a row at which it had not turned.
    quiet: u32,
    suspicion: Option<Suspicion>,
    asleep: bool,
}

/// It was asked to turn.
#[derive(Debug)]
struct Suspicion {
    since: Instant,
    /// How long it had been on a CPU when that was first asked.
    cpu: Option<Duration>,
    /// What was done about it last.
    last: Action,
}

impl Watchdog {
    /// A worker that hangs is killed in time for its successor to serve within `timeout`. Zero:
    /// none is watched.
    #[must_use]
    pub const fn new(timeout: Duration) -> Self {
        Self { timeout, next_look: None, watched: BTreeMap::new() }
    }

    /// Another limit, for those that are suspected already too.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Something is there for this worker: it is looked at.
    pub fn wake(&mut self, line: u32, now: Instant) {
        if self.timeout.is_zero() {
            return;
        }
        self.watched.entry(line).or_default().asleep = false;
        let next = now.after(self.period());
        self.next_look = self.next_look.or(Some(next));
    }

    /// When to look.
    #[must_use]
    pub const fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// Whether nothing is there for this worker, so that it is not looked at until `wake`.
    #[must_use]
    pub fn is_asleep(&self, line: u32) -> bool {
        self.watched.get(&line).is_some_and(|watched| watched.asleep)
    }

    /// Whether it has not turned since the last look.
    #[must_use]
    pub fn is_quiet(&self, line: u32, turned: u64) -> bool {
        self.watched.get(&line).is_some_and(|watched| watched.turned == turned)
    }

    /// Whether it was asked to turn, and has not.
    #[must_use]
    pub fn is_suspect(&self, line: u32) -> bool {
        self.watched.get(&line).is_some_and(|watched| watched.suspicion.is_some())
    }

    /// A look begins, if it is time: `false` if not. `exists`: whether a worker is watched on.
    pub fn begin(&mut self, now: Instant, exists: impl Fn(u32) -> bool) -> bool {
        let Some(due) = self.next_look.filter(|due| *due <= now) else { return false };
        self.watched.retain(|&line, _| exists(line));
        let overslept = now.since(due) > GAP;
        for suspicion in self.watched.values_mut().filter_map(|w| w.suspicion.as_mut()) {
            // What it did meanwhile nobody saw. It is as suspect as before, and no more.
            suspicion.since = if overslept { now } else { suspicion.since };
        }
        true
    }

    /// The look at one worker.
    pub fn look(&mut self, line: u32, facts: Facts, now: Instant) -> Option<Action> {
        let timeout = self.timeout;
        let watched = self.watched.entry(line).or_default();
        watched.asleep = false;
        if std::mem::replace(&mut watched.turned, facts.turned) != facts.turned {
            watched.quiet = 0;
            let before = watched.suspicion.take()?;
            return (before.last != Action::Ask).then_some(Action::Welcome);
        }
        watched.quiet = watched.quiet.saturating_add(1);
        let Some(suspicion) = &mut watched.suspicion else {
            watched.asleep = !facts.waits && !facts.open;
            if !facts.waits && (!facts.open || watched.quiet < QUIET_LOOKS) {
                return None;
            }
            let cpu = facts.usage.map(|usage| usage.cpu);
            watched.suspicion = Some(Suspicion { since: now, cpu, last: Action::Ask });
            return Some(Action::Ask);
        };
        let action = suspicion.next(facts, timeout, now)?;
        suspicion.last = action;
        Some(action)
    }

    /// The look is over.
    pub fn end(&mut self, now: Instant) {
        let awake = !self.timeout.is_zero() && self.watched.values().any(|watched| !watched.asleep);
        self.next_look = awake.then(|| now.after(self.period()));
    }

    fn period(&self) -> Duration {
        (self.timeout / PARTS).min(PERIOD_MAX)
    }
}

impl Suspicion {
    fn next(&mut self, facts: Facts, timeout: Duration, now: Instant) -> Option<Action> {
        let passed = now.since(self.since);
        let stuck = match facts.usage {
            Some(Usage { state: RunState::Running, cpu }) => {
                let before = *self.cpu.get_or_insert(cpu);
                passed.min(cpu.saturating_sub(before) * SHARE)
            }
            Some(Usage { state: RunState::Traced, .. }) => Duration::ZERO,
            Some(Usage { state: RunState::Waiting | RunState::Stopped, .. }) | None => passed,
        };
        let part = timeout / PARTS;
        let (action, due) = match self.last {
            Action::Ask => (Action::Avoid, passed >= (part * LATE).min(LATE_MAX)),
            Action::Avoid => (Action::Report, stuck >= part * REPORT),
            Action::Report => (Action::Abort, stuck >= part * ABORT),
            Action::Abort => (Action::Kill, stuck >= part * KILL),
            Action::Kill | Action::Welcome => return None,
        };
        (due && (facts.strikes || action == Action::Avoid)).then_some(action)
    }
}

/// The timeout in parts: a look every part; late, and struck, after so many.
const PARTS: u32 = 20;
const LATE: u32 = 3;
const REPORT: u32 = 8;
const ABORT: u32 = 12;
const KILL: u32 = 16;
/// However long the timeout: who waits for a worker that hangs is served by another after a second.
const PERIOD_MAX: Duration = Duration::from_millis(250);
const LATE_MAX: Duration = Duration::from_millis(750);
/// After so many looks at which it had not turned, one with open connections is asked to.
const QUIET_LOOKS: u32 = 4;
/// A look that comes so much later than it should: the master was stopped or starved.
const GAP: Duration = Duration::from_millis(500);
/// One that runs, and is not alone on its CPU, is struck as if it had so small a share of it.
const SHARE: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: u64 = 1_000_000;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * MILLI)
    }

    fn usage(state: RunState, cpu_millis: u64) -> Usage {
        Usage { state, cpu: Duration::from_millis(cpu_millis) }
    }

    /// A worker that hangs from the first look on: what is done, and at which look (250 ms each).
    #[track_caller]
    fn check(facts: impl Fn(u64) -> Facts, want: &str) {
        let mut watchdog = Watchdog::new(Duration::from_secs(5));
        watchdog.wake(0, at(0));
        let mut seen = Vec::new();
        for look in 1..40 {
            let now = at(look * 250);
            assert!(watchdog.begin(now, |_| true), "it is looked at");
            if let Some(action) = watchdog.look(0, facts(look), now) {
                seen.push(format!("{look}:{action:?}"));
            }
            watchdog.end(now);
            if watchdog.next_look().is_none() {
                seen.push(format!("{look}:asleep"));
                break;
            }
        }
        assert_eq!(seen.join(" "), want);
    }

    #[test]
    fn one_that_hangs_is_avoided_after_a_second_and_dead_before_five() {
        let stopped = |_| Facts {
            waits: true,
            strikes: true,
            usage: Some(usage(RunState::Stopped, 0)),
            ..Facts::default()
        };
        check(stopped, "1:Ask 4:Avoid 9:Report 13:Abort 17:Kill");
        // With /proc not to be read it is the same.
        let unknown = |_| Facts { waits: true, strikes: true, ..Facts::default() };
        check(unknown, "1:Ask 4:Avoid 9:Report 13:Abort 17:Kill");
        // An endless handler has its CPU, or shares it with three others.
        let spinning = |look| Facts {
            waits: true,
            strikes: true,
            usage: Some(usage(RunState::Running, look * 63)),
            ..Facts::default()
        };
        check(spinning, "1:Ask 4:Avoid 9:Report 13:Abort 17:Kill");
    }

    #[test]
    fn one_that_is_starved_held_or_leaving_is_avoided_only() {
        let with = |strikes, state, each: u64| {
            move |look| {
                let usage = Some(usage(state, look * each));
                Facts { waits: true, strikes, usage, ..Facts::default() }
            }
        };
        check(with(true, RunState::Running, 1), "1:Ask 4:Avoid");
        check(with(true, RunState::Traced, 0), "1:Ask 4:Avoid");
        check(with(false, RunState::Stopped, 0), "1:Ask 4:Avoid");
    }

    #[test]
    fn one_without_work_is_left_alone_and_one_that_answers_is_healthy() {
        check(|_| Facts::default(), "1:asleep");
        // Open connections: it is asked now and then, and answers.
        let answers = |look| Facts { turned: look / 5, open: true, ..Facts::default() };
        check(answers, "4:Ask 9:Ask 14:Ask 19:Ask 24:Ask 29:Ask 34:Ask 39:Ask");
        let silent = |_| Facts { open: true, strikes: true, ..Facts::default() };
        check(silent, "4:Ask 7:Avoid 12:Report 16:Abort 20:Kill");
        let late = |look| Facts { turned: look / 6, waits: look < 6, ..Facts::default() };
        check(late, "1:Ask 4:Avoid 6:Welcome 7:asleep");
    }

    #[test]
    fn a_master_that_was_stopped_begins_anew() {
        let mut watchdog = Watchdog::new(Duration::from_secs(5));
        let hangs = Facts { waits: true, strikes: true, ..Facts::default() };
        watchdog.wake(0, at(0));
        for (now, want) in [
            (250, Some(Action::Ask)),
            (10_250, None),
            (10_500, None),
            (11_000, Some(Action::Avoid)),
            (12_000, None),
            (21_000, None),
            (22_000, None),
            (23_000, None),
        ] {
            assert!(watchdog.begin(at(now), |_| true));
            assert_eq!(watchdog.look(0, hangs, at(now)), want, "at {now}");
            watchdog.end(at(now));
        }
    }

    #[test]
    fn zero_watches_nobody() {
        let mut watchdog = Watchdog::new(Duration::ZERO);
        watchdog.wake(0, at(0));
        assert_eq!(watchdog.next_look(), None);
        assert!(!watchdog.is_asleep(0));
    }

    proptest! {
        /// Whoever turns within 750 ms of being asked is never avoided, let alone struck.
        #[test]
        fn the_healthy_are_never_struck(
            looks in prop::collection::vec((1_u64..400, 0_u64..3, any::<bool>()), 1..200),
        ) {
            let mut watchdog = Watchdog::new(Duration::from_secs(5));
            let (mut now, mut turned, mut asked) = (0, 0, None);
            for (pause, answer, waits) in looks {
                now += pause;
                // It answers at the second look after the question at the latest.
                if asked.is_some_and(|since| now - since > 250 * answer.min(1)) {
                    (turned, asked) = (turned + 1, None);
                }
                watchdog.wake(0, at(now));
                if !watchdog.begin(at(now), |_| true) {
                    continue;
                }
                let facts = Facts { turned, waits, open: true, strikes: true, usage: None };
                match watchdog.look(0, facts, at(now)) {
                    Some(Action::Ask) => asked = Some(now),
                    other => prop_assert_eq!(other, None),
                }
                watchdog.end(at(now));
            }
        }
    }
}
