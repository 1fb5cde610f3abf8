//! Where the words of a line are on a board that another build of this program laid out: found by
//! the names of its counters and reasons. Pure.

use super::COUNTERS;
use crate::stats::{CloseReason, Counter};

/// What a board counts, by name, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Its counters.
    pub counters: Vec<String>,
    /// Its reasons to close.
    pub reasons: Vec<String>,
}

impl Names {
    /// Of the boards of this build.
    #[must_use]
    pub fn own() -> Self {
        Self {
            counters: Counter::ALL.iter().map(|counter| counter.name().to_owned()).collect(),
            reasons: CloseReason::ALL.iter().map(|reason| reason.name().to_owned()).collect(),
        }
    }

    /// The names that this build does not know.
    #[must_use]
    pub fn unknown(&self) -> Vec<&str> {
        let own = Self::own();
        let counters = self.counters.iter().filter(|name| !own.counters.contains(name));
        let reasons = self.reasons.iter().filter(|name| !own.reasons.contains(name));
        counters.chain(reasons).map(String::as_str).collect()
    }

    /// 64-bit words of a line.
    #[must_use]
    pub const fn line_words(&self) -> usize {
        let words = COUNTERS + self.counters.len() + self.reasons.len();
        words.next_multiple_of(8)
    }
}

/// A board as another build would make it. For tests: one build plays two.
#[derive(Clone, Debug)]
pub struct Build {
    /// How it is laid out.
    pub laid_out: Names,
    /// What it says its words are called.
    pub called: Names,
}

impl Default for Build {
    fn default() -> Self {
        Self { laid_out: Names::own(), called: Names::own() }
    }
}

/// What the books need of every line; a board without them is not read.
const REQUIRED: [Counter; 8] = [
    Counter::Adopted,
    Counter::Received,
    Counter::Closed,
    Counter::Requests,
    Counter::Responses,
    Counter::HandedBack,
    Counter::TakenBack,
    Counter::HandedOver,
];

/// The words of a line, by what we call them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    counters: [Option<usize>; Counter::ALL.len()],
    reasons: [Option<usize>; CloseReason::ALL.len()],
    /// Of reasons that we do not know.
    pub(super) strangers: Vec<usize>,
}

impl Layout {
    /// `None`: it is our own.
    ///
    /// # Errors
    ///
    /// A counter that the books need is missing.
    pub(super) fn of(names: &Names) -> Result<Option<Self>, String> {
        if *names == Names::own() {
            return Ok(None);
        }
        let reasons_at = COUNTERS + names.counters.len();
        let find = |all: &[String], name: &str| all.iter().position(|other| other == name);
        let mut layout = Self {
            counters: [None; Counter::ALL.len()],
            reasons: [None; CloseReason::ALL.len()],
            strangers: Vec::new(),
        };
        for (word, counter) in layout.counters.iter_mut().zip(Counter::ALL) {
            *word = find(&names.counters, counter.name()).map(|at| COUNTERS + at);
        }
        for (word, reason) in layout.reasons.iter_mut().zip(CloseReason::ALL) {
            *word = find(&names.reasons, reason.name()).map(|at| reasons_at + at);
        }
        let all = reasons_at..reasons_at + names.reasons.len();
        layout.strangers = all.filter(|word| !layout.reasons.contains(&Some(*word))).collect();
        match REQUIRED.iter().find(|counter| layout.counter(**counter).is_none()) {
            Some(counter) => Err(format!("its board has no counter {}", counter.name())),
            None => Ok(Some(layout)),
        }
    }

    pub(super) const fn counter(&self, counter: Counter) -> Option<usize> {
        self.counters[counter as usize]
    }

    pub(super) const fn reason(&self, reason: CloseReason) -> Option<usize> {
        self.reasons[reason as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_by_name_in_any_order() {
        assert_eq!(Layout::of(&Names::own()), Ok(None));
        let mut names = Names::own();
        names.counters.reverse();
        names.counters.push("later".to_owned());
        names.reasons.retain(|name| name != "reset");
        names.reasons.insert(0, "gone".to_owned());
        assert_eq!(names.unknown(), ["later", "gone"]);
        let layout = Layout::of(&names).unwrap().expect("it is not ours");
        let all = Counter::ALL.len();
        assert_eq!(layout.counter(Counter::ALL[0]), Some(COUNTERS + all - 1));
        assert_eq!(layout.reason(CloseReason::Reset), None);
        assert_eq!(layout.reason(CloseReason::ClientClosed), Some(COUNTERS + all + 2));
        assert_eq!(layout.strangers, [COUNTERS + all + 1]);
    }

    #[test]
    fn a_board_without_what_the_books_need_is_refused() {
        for counter in REQUIRED {
            let mut names = Names::own();
            names.counters.retain(|name| name != counter.name());
            let want = format!("its board has no counter {}", counter.name());
            assert_eq!(Layout::of(&names), Err(want));
        }
    }
}
