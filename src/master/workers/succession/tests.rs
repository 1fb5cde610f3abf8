//! Succession, parking and the end of old epochs, step by step.

use super::super::Action;
use super::*;
use crate::io::Exit;
use std::time::Duration;

fn at(millis: u64) -> Instant {
    Instant::default().after(Duration::from_millis(millis))
}

const NEXT: Wanted = Wanted { epoch: 1, purpose: Purpose::Succeed };

/// Does what the table wants until it wants nothing; every new life is ready at once.
fn run(workers: &mut Workers, now: Instant) -> Vec<(u32, u32)> {
    let mut spawned = Vec::new();
    while let Some(action) = workers.poll(now) {
        let Action::Spawn { slot, line, epoch, purpose, .. } = action else { continue };
        match purpose {
            Purpose::Serve => workers.spawned(slot, line, now),
            Purpose::Succeed | Purpose::Check | Purpose::Upgrade => {
                workers.candidate_spawned(slot, line, Wanted { epoch, purpose }, now);
            }
        }
        workers.ready(line, now);
        spawned.push((slot, epoch));
    }
    spawned
}

fn pool(slots: u32) -> Workers {
    let mut workers = Workers::new(slots, 5 * slots, Duration::from_secs(10), 7);
    run(&mut workers, at(0));
    workers
}

#[test]
fn a_candidate_takes_over_and_its_epoch_goes_on() {
    let mut workers = pool(2);
    workers.want(1, NEXT);
    assert_eq!(run(&mut workers, at(1)), [(1, 1)]);
    let (old, new) = (workers.incumbent(1).unwrap(), workers.candidate(1).unwrap());
    assert!(!workers.life(new).unwrap().takes(), "not before it has proved itself");
    assert_eq!(workers.promote(1), Ok(Some(old)));
    assert!(workers.life(new).unwrap().takes());
    assert_eq!((workers.incumbent(1), workers.candidate(1)), (Some(new), None));
    workers.drain(old, at(5000));
    assert!(workers.exited(old, Exit::Code(0), at(10)).unwrap().delay.is_none());
    workers.forget(old);
    // Its own successor after a crash is of the new epoch.
    workers.exited(new, Exit::Signal(11, false), at(2000));
    assert_eq!(run(&mut workers, at(2000)), [(1, 1)]);
}

#[test]
fn a_candidate_that_dies_costs_its_slot_nothing() {
    let mut workers = pool(1);
    workers.want(0, NEXT);
    run(&mut workers, at(1));
    let (old, new) = (workers.incumbent(0).unwrap(), workers.candidate(0).unwrap());
    let death = workers.exited(new, Exit::Code(3), at(2)).unwrap();
    assert_eq!((death.role, death.delay), (Role::Candidate, None));
    workers.give_up(0, at(2));
    workers.forget(new);
    assert_eq!((workers.incumbent(0), workers.candidate(0)), (Some(old), None));
    assert_eq!(run(&mut workers, at(100)), []);
}

#[test]
fn one_that_is_given_up_is_killed_and_the_slots_own_comes_first() {
    let mut workers = pool(1);
    let old = workers.incumbent(0).unwrap();
    workers.want(0, NEXT);
    workers.exited(old, Exit::Signal(9, false), at(5000));
    assert_eq!(run(&mut workers, at(5000)), [(0, 0), (0, 1)], "the slot is filled first");
    let candidate = workers.candidate(0).unwrap();
    workers.give_up(0, at(5001));
    let want = Action::Kill { line: candidate, reason: KillReason::Stopped, first: true };
    assert_eq!(workers.poll(at(5001)), Some(want));
}

#[test]
fn a_parked_slot_is_filled_by_nobody_until_it_is_unparked() {
    let mut workers = pool(2);
    let line = workers.park(1).unwrap();
    assert!(workers.is_parked(1) && !workers.is_parked(0));
    assert_eq!(workers.active().collect::<Vec<_>>(), [0]);
    workers.drain(line, at(5000));
    assert!(workers.exited(line, Exit::Code(0), at(10)).unwrap().delay.is_none());
    assert_eq!(run(&mut workers, at(1000)), []);
    assert!(workers.all_ready(), "who is parked is not waited for");
    workers.unpark(1, 4, at(1000));
    workers.unpark(3, 4, at(1000));
    assert!(!workers.all_ready());
    assert_eq!(run(&mut workers, at(1000)), [(1, 4), (3, 4)]);
    assert_eq!(workers.active().collect::<Vec<_>>(), [0, 1, 3], "2 was made, and is parked");
}

#[test]
fn a_parked_slot_can_be_filled_by_a_candidate() {
    let mut workers = pool(1);
    workers.park(0);
    workers.want(0, NEXT);
    run(&mut workers, at(1));
    assert_eq!(workers.promote(0), Ok(None));
    assert!(!workers.is_parked(0));
}

#[test]
fn who_is_on_trial_takes_connections() {
    let mut workers = pool(1);
    workers.want(0, NEXT);
    run(&mut workers, at(1));
    workers.try_out(0);
    let line = workers.candidate(0).unwrap();
    assert!(workers.life(line).unwrap().takes());
    workers.release(0);
    assert_eq!(workers.candidate(0), None);
}

#[test]
fn the_oldest_epochs_end_first() {
    let mut workers = pool(1);
    for epoch in 1..=3 {
        workers.want(0, Wanted { epoch, ..NEXT });
        run(&mut workers, at(u64::from(epoch)));
        let old = workers.promote(0).unwrap().unwrap();
        workers.drain(old, at(90_000));
        let beyond = workers.beyond_epochs(epoch, 2);
        let epochs: Vec<u32> = beyond.iter().map(|&l| workers.life(l).unwrap().epoch).collect();
        assert_eq!(epochs, if epoch == 3 { vec![0] } else { vec![] });
    }
}

#[test]
fn a_pool_that_stops_wants_no_candidate() {
    let mut workers = pool(1);
    workers.want(0, NEXT);
    workers.stop();
    assert_eq!(run(&mut workers, at(1)), []);
    workers.unpark(0, 1, at(1));
    assert_eq!(run(&mut workers, at(1)), []);
}
