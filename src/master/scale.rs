//! How many slots are filled: which are parked, which are filled, and when that is done. Pure.

use crate::io::Instant;

/// What must change so that so many slots are filled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// To be parked: the highest first.
    pub park: Vec<u32>,
    /// To be filled: the lowest first.
    pub fill: Vec<u32>,
}

impl Change {
    /// From these slots, in order, to so many.
    #[must_use]
    pub fn new(active: &[u32], target: u32) -> Self {
        let target = target as usize;
        let over = active.len().saturating_sub(target);
        let missing = target.saturating_sub(active.len());
        let park = active.iter().rev().take(over).copied().collect();
        let fill = (0..).filter(|slot| !active.contains(slot)).take(missing).collect();
        Self { park, fill }
    }
}

/// The target after so many more, or less; why not, if there is none.
///
/// # Errors
///
/// Below one, or more than there is room for.
pub fn target(now: usize, by: i32, max: u32) -> Result<u32, String> {
    let wanted = i64::try_from(now).unwrap_or(i64::MAX).saturating_add(i64::from(by));
    match u32::try_from(wanted) {
        Ok(0) | Err(_) => Err("one worker is the least; draining all of them is a command".into()),
        Ok(target) if target > max => Err(format!("workers_max allows {max} workers")),
        Ok(target) => Ok(target),
    }
}

/// The same of what waited, and may be several steps in one: as far as they go.
///
/// # Errors
///
/// There is nowhere to go.
pub fn reach(now: usize, by: i32, max: u32) -> Result<u32, String> {
    target(now, by, max).or_else(|why| {
        let end = if by > 0 { max } else { 1 };
        let moves = if by > 0 { now < max as usize } else { now > 1 };
        if moves { Ok(end) } else { Err(why) }
    })
}

/// A change that is not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaling {
    /// How many workers there are to be.
    pub target: u32,
    /// Until when they are waited for.
    pub until: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(active: &[u32], target: u32, park: &[u32], fill: &[u32]) {
        let want = Change { park: park.to_vec(), fill: fill.to_vec() };
        assert_eq!(Change::new(active, target), want);
    }

    #[test]
    fn the_highest_go_first_and_the_lowest_come_first() {
        check(&[0, 1, 2, 3], 2, &[3, 2], &[]);
        check(&[0, 3], 4, &[], &[1, 2]);
        check(&[0, 1], 2, &[], &[]);
        check(&[], 2, &[], &[0, 1]);
        check(&[1, 5], 0, &[5, 1], &[]);
    }

    #[test]
    fn steps_stay_between_one_and_the_most() {
        assert_eq!(target(2, 1, 3), Ok(3));
        assert_eq!(target(0, 1, 3), Ok(1), "after all were drained");
        assert_eq!(target(2, i32::MIN, 3).unwrap_err().split(' ').next(), Some("one"));
        assert_eq!(target(1, -1, 3).unwrap_err().split(' ').next(), Some("one"));
        assert_eq!(target(3, 1, 3).unwrap_err(), "workers_max allows 3 workers");
        assert_eq!(target(3, i32::MAX, 3).unwrap_err(), "workers_max allows 3 workers");
    }

    #[test]
    fn several_steps_in_one_go_as_far_as_they_may() {
        assert_eq!(reach(0, 2, 1), Ok(1));
        assert_eq!(reach(3, -7, 8), Ok(1));
        assert_eq!(reach(3, 2, 8), Ok(5));
        for (now, by) in [(3, 1), (1, -1), (0, -1), (4, 1)] {
            let why = target(now, by, 3).unwrap_err();
            assert_eq!(reach(now, by, 3), Err(why));
        }
    }

    proptest! {
        #[test]
        fn steps_in_one_end_where_they_would_one_by_one(
            now in 0_usize..9, by in prop_oneof![-9_i32..0, 1_i32..10], max in 1_u32..8,
        ) {
            let now = now % (max as usize + 1);
            let one_by_one = (0..by.abs()).fold(now, |now, _| {
                target(now, by.signum(), max).map_or(now, |target| target as usize)
            });
            let reached = reach(now, by, max).map_or(now, |target| target as usize);
            prop_assert_eq!(reached, one_by_one);
        }

        #[test]
        fn the_target_is_met(
            mut active in prop::collection::btree_set(0_u32..20, 0..20),
            target in 0_u32..20,
        ) {
            let change = Change::new(&active.iter().copied().collect::<Vec<_>>(), target);
            prop_assert!(change.park.is_empty() || change.fill.is_empty());
            for slot in change.park {
                prop_assert!(active.remove(&slot));
            }
            for slot in change.fill {
                prop_assert!(active.insert(slot));
            }
            prop_assert_eq!(active.len(), target as usize);
        }
    }
}
