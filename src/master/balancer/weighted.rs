//! Connections in the proportion of weights that can be changed while the pool runs. Pure: the
//! memory of the weights comes from outside.

use super::{Balancer, Client, Load, in_turn};
use crate::config::Balancing;
use std::sync::atomic::{AtomicU64, Ordering};

/// The weight of each slot, 1 unless it was set. All copies are one: who sets a weight in a worker,
/// or in the process that started the pool, sets it for the master too.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weights {
    words: &'static [AtomicU64],
}

impl Weights {
    /// As many as there can be slots.
    pub const SLOTS_MAX: usize = 1024;
    /// The largest weight.
    pub const MAX: u32 = 1_000_000;

    /// Weights in this memory, which somebody else may see too; the first slots get these, all
    /// others 1.
    #[must_use]
    pub(crate) fn over(words: &'static [AtomicU64], first: &[u32]) -> Self {
        let weights = Self { words };
        for slot in 0..words.len() {
            weights.set(slot, first.get(slot).copied().unwrap_or(1));
        }
        weights
    }

    /// Sets the weight of a slot, from the next pick on. 0: only when nobody else has room.
    /// `false`: there is no such slot. A weight above [`Weights::MAX`] counts as that.
    pub fn set(&self, slot: usize, weight: u32) -> bool {
        let Some(word) = self.words.get(slot) else { return false };
        word.store(u64::from(weight.min(Self::MAX)), Ordering::Relaxed);
        true
    }

    /// The weight of a slot.
    #[must_use]
    pub fn get(&self, slot: usize) -> u32 {
        let weight = self.words.get(slot).map_or(1, |word| word.load(Ordering::Relaxed));
        // Whatever else is in the memory counts as the largest.
        u32::try_from(weight).unwrap_or(u32::MAX).min(Self::MAX)
    }
}

/// Each worker gets its share of the connections: weights 3 and 1 mean three of four and one of
/// four, spread as evenly as that goes (a a b a, not a a a b). Loads do not matter, but who has no
/// room is left out.
#[derive(Clone, Debug)]
pub struct Weighted {
    weights: Weights,
    /// What each slot is owed, in units of one connection divided by the sum of the weights.
    owed: Vec<i64>,
    next: usize,
}

impl Weighted {
    /// A balancer that goes by these weights.
    #[must_use]
    pub const fn new(weights: Weights) -> Self {
        Self { weights, owed: Vec::new(), next: 0 }
    }
}

impl Balancer for Weighted {
    fn pick(&mut self, _: &Client<'_>, loads: &[Load]) -> Option<usize> {
        self.owed.resize(loads.len(), 0);
        let mut sum = 0;
        for index in in_turn(0, loads) {
            let weight = i64::from(self.weights.get(index));
            self.owed[index] += weight;
            sum += weight;
        }
        // Who has no weight takes part only when nobody with room has one.
        let weighs = |index: &usize| sum == 0 || self.weights.get(*index) > 0;
        let most = in_turn(self.next, loads).filter(weighs).map(|index| self.owed[index]).max()?;
        let index = in_turn(self.next, loads)
            .filter(weighs)
            .find(|&index| sum == 0 || self.owed[index] == most)?;
        self.owed[index] -= sum;
        self.next = index + 1;
        Some(index)
    }

    fn on_worker_removed(&mut self, worker: usize) {
        if let Some(owed) = self.owed.get_mut(worker) {
            *owed = 0;
        }
    }

    fn reset(&mut self) {
        self.owed.clear();
        self.next = 0;
    }

    fn name(&self) -> &'static str {
        Balancing::Weighted.name()
    }
}
