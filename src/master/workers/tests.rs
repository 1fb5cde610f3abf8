//! The table of states and events, the restart policy, and properties of both.

use super::*;
use std::fmt::Write;

const BOOT: Duration = Duration::from_secs(10);

fn at(millis: u64) -> Instant {
    Instant::default().after(Duration::from_millis(millis))
}

/// The spawn of a life of slot 0 for its slot.
fn spawn(generation: u32, line: u32) -> Action {
    Action::Spawn { slot: 0, generation, line, epoch: 0, purpose: Purpose::Serve }
}

/// A table with one slot, whose life on line 0 stands in this state at 100 ms.
fn in_state(name: &str) -> Workers {
    let mut workers = Workers::new(1, 3, BOOT, 7);
    let first = workers.poll(at(0));
    assert_eq!(first, Some(spawn(0, 0)));
    workers.spawned(0, 0, at(0));
    if name == "Booting" {
        return workers;
    }
    assert!(workers.ready(0, at(1)).is_some());
    match name {
        "Ready" => {}
        "Full" => workers.full(0, 5, at(100)),
        "Draining" => workers.drain(0, at(5000)),
        "Killed" => {
            workers.kill(0, at(100));
            assert!(matches!(workers.poll(at(100)), Some(Action::Kill { first: true, .. })));
        }
        "Dead" => assert!(workers.exited(0, Exit::Code(0), at(100)).is_some()),
        _ => panic!("no state {name}"),
    }
    workers
}

#[test]
fn the_whole_table() {
    type Event = (&'static str, fn(&mut Workers));
    let events: [Event; 9] = [
        ("ready", |w| {
            w.ready(0, at(101));
        }),
        ("boot_failed", |w| w.boot_failed(0, "no disk")),
        ("full", |w| w.full(0, 5, at(101))),
        ("moved", |w| w.moved(0, 6, at(101))),
        ("drain", |w| w.drain(0, at(5000))),
        ("channel_gone", |w| w.channel_gone(0, at(101))),
        ("kill", |w| {
            w.kill(0, at(101));
            w.poll(at(101));
        }),
        ("late", |w| {
            w.poll(at(20_000));
        }),
        ("exited", |w| {
            w.exited(0, Exit::Code(1), at(101));
        }),
    ];
    let mut table = String::new();
    for state in ["Booting", "Ready", "Full", "Draining", "Killed", "Dead"] {
        write!(table, "{state:>8}:").unwrap();
        for (name, event) in &events {
            let mut workers = in_state(state);
            event(&mut workers);
            let after = format!("{:?}", workers.life(0).unwrap().state);
            let after = after.split(' ').next().unwrap();
            if after != state {
                write!(table, " {name} {after}").unwrap();
            }
        }
        table.push('\n');
    }
    let want = "
 Booting: ready Ready drain Draining channel_gone Draining kill Killed late Killed exited Dead
   Ready: full Full drain Draining channel_gone Draining kill Killed exited Dead
    Full: moved Ready drain Draining channel_gone Draining kill Killed exited Dead
Draining: kill Killed late Killed exited Dead
  Killed: exited Dead
    Dead:
";
    assert_eq!(table, want[1..]);
}

#[test]
fn a_full_one_has_room_when_its_counter_moves_or_after_a_while() {
    let mut workers = in_state("Full");
    workers.moved(0, 5, at(101));
    assert!(matches!(workers.life(0).unwrap().state, State::Full { .. }));
    assert_eq!(workers.next_deadline(), Some(at(100).after(FULL_RETRY)));
    workers.moved(0, 5, at(100).after(FULL_RETRY));
    assert_eq!(workers.life(0).unwrap().state, State::Ready);
}

#[test]
fn a_kill_is_repeated_until_the_process_is_reaped() {
    let mut workers = in_state("Draining");
    let reason = KillReason::DrainTimeout;
    assert_eq!(workers.poll(at(4999)), None);
    assert_eq!(workers.poll(at(5000)), Some(Action::Kill { line: 0, reason, first: true }));
    assert_eq!(workers.poll(at(5000)), None);
    assert_eq!(workers.poll(at(6000)), Some(Action::Kill { line: 0, reason, first: false }));
    workers.stop();
    let death = workers.exited(0, Exit::Signal(9, false), at(6001)).unwrap();
    assert!(death.asked);
    assert_eq!((death.delay, workers.next_deadline()), (None, None));
}

/// Lets every life of one slot end `served` after it was ready (`None`: during its boot), and
/// returns when it was spawned, up to `until`.
fn spawns(served: Option<Duration>, until: Duration, policy: Policy) -> Vec<Instant> {
    let mut workers = Workers::new(1, 3, BOOT, 7);
    workers.set_policy(policy);
    let (mut now, mut spawned) = (Instant::default(), Vec::new());
    while now.since(Instant::default()) < until {
        if let Some(Action::Spawn { slot, line, .. }) = workers.poll(now) {
            workers.spawned(slot, line, now);
            spawned.push(now);
            if let Some(served) = served {
                workers.ready(line, now);
                now = now.after(served);
            }
            workers.exited(line, Exit::Signal(11, true), now);
            workers.forget(line);
        }
        match workers.next_deadline() {
            Some(at) => now = at.max(now),
            None => break,
        }
    }
    spawned
}

#[test]
fn the_slot_is_filled_when_the_policy_says() {
    let secs = Duration::from_secs;
    let policy = Policy::default();
    for served in [None, Some(Duration::ZERO)] {
        let spawned = spawns(served, secs(3), policy);
        assert!((8..=20).contains(&spawned.len()), "{spawned:?}");
        assert_eq!(spawned[0], spawned[1], "the first retry is at once");
    }
    let healthy = spawns(Some(secs(1)), secs(30), policy);
    assert_eq!(healthy.len(), 30, "after a healthy run at once: {healthy:?}");
    let slow = spawns(Some(secs(1)), secs(30), Policy { delay: secs(2), ..policy });
    assert_eq!(slow.len(), 10, "{slow:?}");
}

#[test]
fn without_auto_restart_a_slot_stays_empty_until_it_is_filled_by_a_command() {
    let off = Policy { auto: false, ..Policy::default() };
    assert_eq!(spawns(None, BOOT, off).len(), 1);
    assert_eq!(spawns(Some(BOOT), BOOT * 3, off).len(), 1);
    for leaves in [false, true] {
        let mut workers = in_state("Ready");
        workers.set_policy(off);
        if leaves {
            workers.leaves(0, at(5000), at(101));
        }
        let death = workers.exited(0, Exit::Code(0), at(102)).unwrap();
        assert_eq!((death.delay, workers.poll(at(20_000))), (None, None));
        assert!(workers.is_parked(0));
        assert_eq!(workers.none_before(at(20_000)), !leaves, "nobody asked for that");
        workers.unpark(0, 0, at(20_000));
        assert_eq!(workers.poll(at(20_000)), Some(spawn(1, 1)));
    }
}

#[test]
fn a_pool_whose_workers_fail_has_none_before_the_next_is_due() {
    let mut workers = in_state("Ready");
    assert!(!workers.none_before(at(60_000)));
    for _ in 0..2 {
        workers.exited(0, Exit::Code(1), at(101));
        workers.forget(0);
        if workers.poll(at(101)).is_some() {
            workers.spawned(0, 0, at(101));
            assert!(!workers.none_before(at(101)), "one boots");
        }
    }
    assert!(workers.none_before(at(120)));
    assert!(!workers.none_before(at(160)), "the next is due by then");
    workers.unpark(0, 0, at(130));
    workers.park(0);
    assert!(!workers.none_before(at(120)), "an operator wants none: who comes may wait");
}

#[test]
fn a_refused_fork_is_tried_again_and_never_counts_as_a_failed_boot() {
    let mut workers = Workers::new(1, 3, BOOT, 1);
    let mut now = at(0);
    for _ in 0..100 {
        assert!(matches!(workers.poll(now), Some(Action::Spawn { slot: 0, .. })));
        let delay = workers.spawn_refused(0, now);
        assert!(delay >= at(25).since(at(0)) && delay <= BOOT * 3, "{delay:?}");
        assert_eq!(workers.poll(now), None);
        now = workers.next_deadline().unwrap();
    }
    assert_eq!(workers.all_failed(), None);
}

#[test]
fn when_every_slot_failed_its_boots_the_reasons_are_known() {
    let mut workers = Workers::new(3, 9, BOOT, 1);
    let mut now = at(0);
    for _ in 0..BOOT_TRIES {
        assert_eq!(workers.all_failed(), None);
        while let Some(Action::Spawn { slot, .. }) = workers.poll(now) {
            workers.spawned(slot, slot, now);
        }
        workers.boot_failed(0, "no disk");
        workers.exited(0, Exit::Code(3), now);
        workers.exited(1, Exit::Signal(9, false), now);
        assert_eq!(workers.forget(0), Some((0, "no disk".to_owned())));
        assert_eq!(workers.forget(1), Some((1, "signal 9 (SIGKILL) before READY".to_owned())));
        assert_eq!(workers.all_failed(), None, "one still boots");
        now = now.after(BOOT);
        assert!(matches!(workers.poll(now), Some(Action::Kill { line: 2, .. })));
        workers.exited(2, Exit::Signal(9, false), now);
        workers.forget(2);
        now = now.after(Duration::from_secs(1));
    }
    let want = ["no disk", "signal 9 (SIGKILL) before READY", KillReason::BootTimeout.name()];
    assert_eq!(workers.all_failed(), Some(want.to_vec()));
}

#[test]
fn once_a_worker_came_up_failed_boots_never_end_the_pool() {
    let mut workers = in_state("Dead");
    workers.forget(0);
    for n in 0..20 {
        let now = at(1000 * n + 1000);
        workers.spawned(0, 1, now);
        workers.exited(1, Exit::Code(3), now);
        assert!(workers.forget(1).is_some());
        assert_eq!(workers.all_failed(), None);
    }
}

#[test]
fn a_line_is_used_again_only_when_it_was_forgotten_and_each_life_has_its_generation() {
    let mut workers = Workers::new(1, 3, BOOT, 1);
    let mut seen = Vec::new();
    for n in 0..6 {
        let now = at(2000 * n);
        while let Some(Action::Spawn { slot, generation, line, .. }) = workers.poll(now) {
            seen.push((generation, line));
            workers.spawned(slot, line, now);
        }
        let newest = seen.last().unwrap().1;
        workers.exited(newest, Exit::Code(0), now);
        if n == 3 {
            // Three dead ones hold all lines: nothing is due, and nothing spins.
            assert_eq!(workers.next_deadline(), None);
            workers.forget(1);
        }
    }
    assert_eq!(seen, [(0, 0), (1, 1), (2, 2), (3, 1)]);
}

#[test]
fn a_worker_that_leaves_has_its_successor_at_once_and_is_killed_when_it_stays_too_long() {
    let mut workers = in_state("Ready");
    workers.leaves(0, at(700), at(101));
    assert_eq!(workers.reader(0), None);
    assert_eq!(workers.poll(at(101)), Some(spawn(1, 1)));
    workers.spawned(0, 1, at(101));
    let reason = KillReason::DrainTimeout;
    assert_eq!(workers.poll(at(700)), Some(Action::Kill { line: 0, reason, first: true }));
    let death = workers.exited(0, Exit::Signal(9, false), at(701)).unwrap();
    assert!(death.asked && death.delay.is_none());
    assert_eq!(workers.poll(at(701)), None, "there is one already");
}

#[test]
fn a_worker_that_leaves_while_the_pool_stops_has_no_successor() {
    let mut workers = in_state("Ready");
    workers.stop();
    workers.leaves(0, at(700), at(101));
    assert_eq!(workers.poll(at(101)), None);
}
