//! Stories as text, and the promises of a transaction under random outcomes.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn at(millis: u64) -> Instant {
    Instant::default().after(Duration::from_millis(millis))
}

fn plan(slots: u32) -> Plan {
    Plan {
        check: true,
        probe: Some(Duration::from_secs(5)),
        trial: None,
        slots: (0..slots).collect(),
        surge: 1,
        one_by_one: false,
        undo: true,
    }
}

/// Does all that the machine wants now, as text.
fn actions(machine: &mut Transaction, now: Instant) -> String {
    let mut text = Vec::new();
    while let Some(action) = machine.poll(now) {
        text.push(match action {
            Action::Check => "check".to_owned(),
            Action::Spawn(slot) => format!("spawn {slot}"),
            Action::Probe(slot) => format!("probe {slot}"),
            Action::Try(slot) => format!("try {slot}"),
            Action::Judge => "judge".to_owned(),
            Action::Promote(slot) => format!("promote {slot}"),
            Action::GiveUp(slot) => format!("give up {slot}"),
            Action::Undo => "undo".to_owned(),
            Action::End(Ok(())) => "end".to_owned(),
            Action::End(Err(why)) => format!("failed: {why}"),
        });
    }
    text.join(", ")
}

/// `story`: a line each, what happens and then what the machine wants.
#[track_caller]
fn check(plan: Plan, story: &str) {
    let mut machine = Transaction::new(plan);
    let mut now = at(0);
    for line in story.trim().lines() {
        let (event, want) = line.trim().split_once(" ->").unwrap();
        let words: Vec<&str> = event.split_whitespace().collect();
        let slot = || words[1].parse::<u32>().unwrap();
        match words[0] {
            "begin" => {}
            "checked" if words[1] == "ok" => machine.checked(Ok(())),
            "checked" => machine.checked(Err("bad".to_owned())),
            "ready" => machine.ready(slot()),
            "answer" => machine.answered(slot(), Ok(())),
            "error" => machine.answered(slot(), Err("500".to_owned())),
            "dies" => machine.failed(slot(), "signal 11"),
            "crash" => machine.crashed(slot(), "signal 11"),
            "judged" if words[1] == "ok" => machine.judged(Ok(())),
            "judged" => machine.judged(Err("worse".to_owned())),
            "left" => machine.left(slot()),
            "abort" => machine.abort("drain"),
            "wait" => now = now.after(Duration::from_secs(words[1].parse().unwrap())),
            other => panic!("no event {other}"),
        }
        assert_eq!(actions(&mut machine, now), want.trim(), "after {event:?}");
    }
}

#[test]
fn one_after_the_other_new_before_old() {
    check(
        plan(2),
        "begin -> check
         checked ok -> spawn 0
         ready 0 -> probe 0
         answer 0 -> promote 0, spawn 1
         ready 1 -> probe 1
         answer 1 -> promote 1, end",
    );
}

#[test]
fn a_surge_boots_several_at_a_time() {
    check(
        Plan { surge: 2, ..plan(4) },
        "begin -> check
         checked ok -> spawn 0, spawn 1
         ready 1 -> probe 1
         answer 1 ->
         ready 0 -> probe 0
         answer 0 -> promote 0, promote 1, spawn 2, spawn 3
         ready 2 -> probe 2
         answer 2 -> promote 2
         ready 3 -> probe 3
         answer 3 -> promote 3, end",
    );
}

#[test]
fn whatever_fails_before_the_first_takes_over_changes_nothing() {
    check(plan(2), "begin -> check\n checked bad -> failed: bad");
    let boots = "begin -> check\n checked ok -> spawn 0\n";
    check(plan(2), &format!("{boots} dies 0 -> give up 0, failed: slot 0: signal 11"));
    let asked = format!("{boots} ready 0 -> probe 0\n");
    check(plan(2), &format!("{asked} error 0 -> give up 0, failed: slot 0: 500"));
    check(plan(2), &format!("{asked} dies 0 -> give up 0, failed: slot 0: signal 11"));
    check(
        plan(2),
        &format!("{asked} wait 5 -> give up 0, failed: slot 0: no answer to the probe in time"),
    );
    check(plan(2), &format!("{asked} abort -> give up 0, failed: drain"));
}

#[test]
fn a_trial_comes_before_the_first_takes_over() {
    let trial = Plan { trial: Some((1, Duration::from_secs(10))), check: false, ..plan(2) };
    let on_trial = "begin -> spawn 0\n ready 0 -> probe 0\n answer 0 -> try 0\n";
    check(
        trial.clone(),
        &format!(
            "{on_trial} wait 9 ->
             wait 1 -> judge
             judged ok -> promote 0, spawn 1
             ready 1 -> probe 1
             answer 1 -> promote 1, end"
        ),
    );
    check(
        trial.clone(),
        &format!("{on_trial} wait 10 -> judge\n judged bad -> give up 0, failed: worse"),
    );
    check(trial, &format!("{on_trial} dies 0 -> give up 0, failed: slot 0: signal 11"));
}

#[test]
fn a_later_failure_brings_the_old_kind_back() {
    let half = "begin -> spawn 0\n ready 0 -> promote 0, spawn 1\n ready 1 -> promote 1, spawn 2\n";
    let quick = Plan { check: false, probe: None, ..plan(3) };
    check(
        quick.clone(),
        &format!(
            "{half} dies 2 -> give up 2, undo, spawn 0
             ready 0 -> promote 0, spawn 1
             ready 1 -> promote 1, failed: slot 2: signal 11"
        ),
    );
    check(
        quick.clone(),
        &format!(
            "{half} crash 0 -> give up 2, undo, spawn 0
             dies 0 -> give up 0, spawn 1
             ready 1 -> promote 1, failed: slot 0, after it took over: signal 11"
        ),
    );
    check(quick, &format!("{half} abort -> give up 2, failed: drain"));
}

#[test]
fn recycling_waits_until_the_old_one_has_ended() {
    let recycle = Plan { check: false, one_by_one: true, undo: false, ..plan(2) };
    check(
        recycle,
        "begin -> spawn 0
         ready 0 -> probe 0
         answer 0 -> promote 0
         crash 0 ->
         left 0 -> spawn 1
         ready 1 -> probe 1
         answer 1 -> promote 1
         left 1 -> end",
    );
}

#[test]
fn without_a_slot_only_the_configuration_is_read() {
    check(plan(0), "begin -> check\n checked ok -> end");
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Good,
    DiesBooting,
    AnswersBadly,
    NeverAnswers,
    CrashesLater,
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let trial = prop::option::of((1_u32..4, 0_u64..20));
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (0_u32..6, 1_u32..4, trial, flags).prop_map(|(slots, surge, trial, flags)| Plan {
        check: flags.0,
        probe: flags.1.then_some(Duration::from_secs(5)),
        trial: trial.map(|(workers, secs)| (workers, Duration::from_secs(secs))),
        slots: (0..slots).collect(),
        surge,
        one_by_one: flags.2,
        undo: flags.3,
    })
}

fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Good),
        1 => Just(Fate::DiesBooting),
        1 => Just(Fate::AnswersBadly),
        1 => Just(Fate::NeverAnswers),
        1 => Just(Fate::CrashesLater),
    ]
}

proptest! {
    /// Every transaction ends; a slot is never without its worker; what was not proved never takes
    /// over; no candidate is forgotten.
    #[test]
    fn promises(
        plan in any_plan(),
        fates in prop::collection::vec(any_fate(), 1..40),
        abort_at in prop::option::of(0_usize..40),
    ) {
        let mut machine = Transaction::new(plan.clone());
        let mut fates = fates.into_iter().cycle();
        let mut now = at(0);
        let (mut candidates, mut proven) = (BTreeSet::new(), BTreeSet::new());
        let (mut taken, mut undone) = (BTreeSet::new(), false);
        let mut end = None;
        for step in 0..1000 {
            if abort_at == Some(step) {
                machine.abort("drain");
            }
            let Some(action) = machine.poll(now) else {
                prop_assert_eq!(abort_at.is_none_or(|at| step < at) && end.is_none()
                    && machine.next_deadline().is_none(), false, "stuck in {:?}", machine);
                if end.is_some() { break; }
                now = machine.next_deadline().unwrap_or(now).max(now);
                continue;
            };
            prop_assert!(end.is_none(), "{action:?} after the end");
            match action {
                Action::Check => machine.checked(Ok(())),
                Action::Spawn(slot) => {
                    prop_assert!(candidates.insert(slot), "two candidates");
                    let most = plan.surge.max(plan.trial.map_or(0, |(workers, _)| workers));
                    prop_assert!(candidates.len() <= most as usize);
                    match fates.next() {
                        Some(Fate::DiesBooting) => machine.failed(slot, "died"),
                        _ => {
                            machine.ready(slot);
                            if plan.probe.is_none() || undone { proven.insert(slot); }
                        }
                    }
                }
                Action::Probe(slot) => {
                    prop_assert!(candidates.contains(&slot));
                    match fates.next() {
                        Some(Fate::AnswersBadly) => machine.answered(slot, Err("500".into())),
                        Some(Fate::NeverAnswers) => {}
                        _ => {
                            proven.insert(slot);
                            machine.answered(slot, Ok(()));
                        }
                    }
                }
                Action::Try(slot) => prop_assert!(proven.contains(&slot) && taken.is_empty()),
                Action::Judge => machine.judged(Ok(())),
                Action::Promote(slot) => {
                    prop_assert!(candidates.remove(&slot) && proven.remove(&slot));
                    prop_assert!(undone || taken.insert(slot), "twice");
                    machine.left(slot);
                    if let Some(Fate::CrashesLater) = fates.next() {
                        machine.crashed(slot, "crash");
                    }
                }
                Action::GiveUp(slot) => {
                    prop_assert!(candidates.remove(&slot));
                    proven.remove(&slot);
                }
                Action::Undo => {
                    prop_assert!(plan.undo && !taken.is_empty());
                    undone = true;
                }
                Action::End(result) => end = Some(result),
            }
        }
        prop_assert!(candidates.is_empty(), "{candidates:?} are left");
        match end {
            Some(Ok(())) => prop_assert_eq!(taken.len(), plan.slots.len()),
            Some(Err(_)) => {}
            None => prop_assert!(false, "no end: {machine:?}"),
        }
    }
}
