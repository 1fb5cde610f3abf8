//! Timers of futures: the worker's loop fires them.

use crate::io::Instant;
use crate::sys::clock::monotonic;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Sleeps for at least this long, from when it is first awaited, to the millisecond; and at least
/// for one, so that a loop around it never keeps the worker. Only inside of an async handler:
/// nobody fires it elsewhere.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { duration: duration.max(SHORTEST), entry: None }
}

/// See [`sleep`]. Dropped, it is as if it had never been.
#[derive(Debug)]
#[must_use = "it sleeps when it is awaited"]
pub struct Sleep {
    duration: Duration,
    entry: Option<(Instant, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = monotonic();
        if self.entry.is_some_and(|(at, _)| at <= now) {
            return Poll::Ready(());
        }
        let duration = self.duration;
        TIMERS.with_borrow_mut(|timers| {
            let entry = *self.entry.get_or_insert_with(|| {
                timers.count += 1;
                (now.after(duration), timers.count)
            });
            timers.sleepers.insert(entry, context.waker().clone());
        });
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            TIMERS.with_borrow_mut(|timers| timers.sleepers.remove(entry));
        }
    }
}

/// When the next sleeper is to be woken.
pub(super) fn next() -> Option<Instant> {
    TIMERS.with_borrow(|timers| timers.sleepers.first_key_value().map(|((at, _), _)| *at))
}

/// Wakes all that have slept long enough.
pub(super) fn fire(now: Instant) {
    let due = TIMERS.with_borrow_mut(|timers| {
        let later = timers.sleepers.split_off(&(now, u64::MAX));
        std::mem::replace(&mut timers.sleepers, later)
    });
    due.into_values().for_each(Waker::wake);
}

#[derive(Debug, Default)]
struct Timers {
    sleepers: BTreeMap<(Instant, u64), Waker>,
    /// Tells sleepers apart that are due at the same time.
    count: u64,
}

thread_local! {
    static TIMERS: RefCell<Timers> = RefCell::default();
}

const SHORTEST: Duration = Duration::from_millis(1);
