//! What stands between the master and a balancer that may be anybody's: it catches its panics,
//! replaces picks that cannot be, and tells it what the counters say. Pure.

use super::{Balancer, Client, LeastConnections, Load};
use crate::panics::{contained, discard};
use std::fmt;
use std::mem::replace;

/// A balancer, and what it was told.
pub struct Guard {
    balancer: Box<dyn Balancer>,
    /// One a slot: the process in it that takes connections.
    seen: Vec<Option<Seen>>,
    panicked: bool,
}

/// A worker's life and its counters, as they were last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its line on the board, which no two lives share.
    pub line: u32,
    /// Connections it ever had.
    pub opened: u64,
    /// Connections it has closed.
    pub closed: u64,
}

impl Guard {
    /// Guards this one.
    #[must_use]
    pub fn new(balancer: Box<dyn Balancer>) -> Self {
        Self { balancer, seen: Vec::new(), panicked: false }
    }

    /// The index of a worker with room, whatever the balancer says; `None` when it says none.
    pub fn pick(&mut self, client: &Client<'_>, loads: &[Load]) -> Option<usize> {
        match self.call(|balancer| balancer.pick(client, loads)) {
            Some(Some(index)) if loads.get(index).is_some_and(|load| load.room > 0) => Some(index),
            Some(None) => None,
            Some(Some(_)) | None => LeastConnections::default().pick(client, loads),
        }
    }

    /// Who takes connections in this slot now, with its counters; the balancer hears what changed.
    pub fn watch(&mut self, slot: usize, now: Option<Seen>) {
        if self.seen.len() <= slot {
            self.seen.resize(slot + 1, None);
        }
        let before = replace(&mut self.seen[slot], now);
        if before == now {
            return;
        }
        let line = |seen: Option<Seen>| seen.map(|seen| seen.line);
        if before.is_some() && line(before) != line(now) {
            self.call(|balancer| balancer.on_worker_removed(slot));
        }
        let Some(now) = now else { return };
        let of_this_life = before.filter(|before| before.line == now.line);
        let (opened, closed) = of_this_life.map_or((0, 0), |seen| (seen.opened, seen.closed));
        // What it closed before it was seen, it had opened before.
        let more = now.opened.saturating_sub(opened);
        if more > 0 {
            self.call(|balancer| balancer.on_established(slot, more));
        }
        let fewer = now.closed.saturating_sub(closed);
        if fewer > 0 {
            self.call(|balancer| balancer.on_closed(slot, fewer));
        }
    }

    /// All workers are other ones, or are to be.
    pub fn reset(&mut self) {
        self.seen.clear();
        self.call(|balancer| balancer.reset());
    }

    /// Who picks now.
    pub fn name(&mut self) -> &'static str {
        self.call(|balancer| balancer.name()).unwrap_or_else(|| self.balancer.name())
    }

    /// Whether it has panicked since this was last asked, and was replaced.
    pub fn take_panic(&mut self) -> bool {
        std::mem::take(&mut self.panicked)
    }

    /// `None`: it panicked, and least connections serve on.
    fn call<T>(&mut self, call: impl FnOnce(&mut dyn Balancer) -> T) -> Option<T> {
        let result = contained(|| call(&mut *self.balancer));
        if result.is_err() {
            self.let_go();
            self.panicked = true;
        }
        result.ok()
    }

    fn let_go(&mut self) {
        discard(replace(&mut self.balancer, Box::new(LeastConnections::default())));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("seen", &self.seen).finish_non_exhaustive()
    }
}
