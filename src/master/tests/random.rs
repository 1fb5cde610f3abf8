//! Anything in any order: nothing is lost, doubled, leaked or spun on.

use super::world::{Client, Mode, Stage};
use super::{KILLED, TERM, end, millis};
use crate::io::{Errno, Exit, Message};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Step {
    Connect { listener: usize, count: u8 },
    Ready(usize),
    Receive(usize),
    Short(usize, u8),
    Serve(usize),
    Die(usize, bool),
    HangUp(usize),
    Nonsense(usize),
    Deaf(usize, bool),
    FewFds(Option<u8>),
    NoFork(bool),
    Stubborn(bool),
    Signal(u32),
    Turn,
    Time(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let process = || 0_usize..12;
    prop_oneof![
        8 => (0_usize..3, 1_u8..40).prop_map(|(listener, count)| Step::Connect { listener, count }),
        8 => process().prop_map(Step::Ready),
        8 => process().prop_map(Step::Receive),
        2 => (process(), 0_u8..4).prop_map(|(process, most)| Step::Short(process, most)),
        8 => process().prop_map(Step::Serve),
        3 => (process(), any::<bool>()).prop_map(|(process, clean)| Step::Die(process, clean)),
        1 => process().prop_map(Step::HangUp),
        1 => process().prop_map(Step::Nonsense),
        2 => (process(), any::<bool>()).prop_map(|(process, deaf)| Step::Deaf(process, deaf)),
        1 => proptest::option::of(0_u8..4).prop_map(Step::FewFds),
        1 => any::<bool>().prop_map(Step::NoFork),
        1 => any::<bool>().prop_map(Step::Stubborn),
        1 => prop::sample::select(vec![1_u32, 17, 28]).prop_map(Step::Signal),
        8 => Just(Step::Turn),
        6 => (1_u64..700).prop_map(Step::Time),
    ]
}

/// What the test knows about every client.
#[derive(Default)]
struct Fates {
    connected: u32,
    served: BTreeSet<Client>,
    cut: BTreeSet<Client>,
}

fn living(stage: &Stage, index: usize) -> Option<usize> {
    (index < stage.processes() && stage.is_alive(index)).then_some(index)
}

fn apply(stage: &mut Stage, fates: &mut Fates, step: &Step) {
    let count = stage.processes();
    let process = |index: usize| (index < count).then_some(index);
    match *step {
        Step::Connect { listener, count } => {
            let listener = listener % stage.listeners.len();
            for _ in 0..count {
                stage.connect(listener);
            }
            fates.connected += u32::from(count);
        }
        Step::Ready(index) => {
            if let Some(index) = living(stage, index) {
                stage.say_ready(index);
            }
        }
        Step::Receive(index) => {
            if let Some(index) = living(stage, index) {
                stage.receive(index);
            }
        }
        Step::Short(index, most) => {
            if let Some(index) = living(stage, index) {
                stage.receive_short(index, usize::from(most));
            }
        }
        Step::Serve(index) => {
            if let Some(index) = living(stage, index) {
                fates.served.extend(stage.serve_one(index));
            }
        }
        Step::Die(index, clean) => {
            if let Some(index) = process(index) {
                stage.die(index, if clean { Exit::Code(0) } else { KILLED });
            }
        }
        Step::HangUp(index) => {
            if let Some(index) = process(index) {
                stage.hang_up(index);
            }
        }
        Step::Nonsense(index) => {
            if let Some(index) = living(stage, index) {
                stage.say(index, Message { bytes: b"{]".to_vec(), ..Message::default() });
            }
        }
        Step::Deaf(index, deaf) => {
            if let Some(index) = process(index) {
                stage.kernel.borrow_mut().processes[index].deaf = deaf.then_some(Errno::Again);
            }
        }
        Step::FewFds(more) => {
            let open = stage.open();
            let max = more.map_or(usize::MAX, |more| open + usize::from(more));
            stage.kernel.borrow_mut().fds_max = max;
        }
        Step::NoFork(no) => {
            stage.kernel.borrow_mut().spawn_errno = no.then_some(Errno::Again);
        }
        Step::Stubborn(stubborn) => stage.kernel.borrow_mut().stubborn = stubborn,
        Step::Signal(signal) => stage.signal(signal),
        Step::Turn => stage.step(),
        Step::Time(duration) => stage.pass_time(millis(duration)),
    }
}

/// Every client that a dead process had is cut; nobody else may have it.
fn look(stage: &Stage, fates: &mut Fates) {
    let kernel = stage.kernel.borrow();
    let mut owners: BTreeMap<Client, &str> = BTreeMap::new();
    for (index, process) in kernel.processes.iter().enumerate() {
        let name = if stage.is_alive(index) { "a worker" } else { "a dead worker" };
        for &client in &process.has {
            let other = owners.insert(client, name);
            assert_eq!(other, None, "client {client} has two workers");
        }
    }
    fates.cut = owners.iter().filter(|(_, who)| **who != "a worker").map(|(&c, _)| c).collect();
    let ends = fates.served.iter().chain(&kernel.refused);
    for client in ends {
        assert!(!owners.contains_key(client), "client {client} was ended and is open");
    }
    assert!(fates.served.is_disjoint(&kernel.refused));
    drop(kernel);
    let report = stage.master.report();
    assert!(report.balances(), "{report}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_lost_or_done_twice(
        shared: bool,
        workers in 1_u32..4,
        pending_max in 1_u32..60,
        steps in prop::collection::vec(any_step(), 0..120),
    ) {
        let mode = if shared { Mode::Shared } else { Mode::Centralized };
        let pending_max = pending_max.to_string();
        let options = [
            ("pending_max", pending_max.as_str()),
            ("pending_timeout", "2s"),
            ("connections_max", "50"),
            ("drain_timeout", "1s"),
        ];
        // One worker came up, so that failed boots do not end the pool.
        let mut stage = Stage::ready(mode, workers, &options);
        let mut fates = Fates::default();
        for step in &steps {
            apply(&mut stage, &mut fates, step);
            look(&stage, &mut fates);
        }
        // Then all is well again, and the pool is asked to end.
        {
            let mut kernel = stage.kernel.borrow_mut();
            kernel.fds_max = usize::MAX;
            kernel.spawn_errno = None;
            kernel.stubborn = false;
            for client in kernel.answered.values_mut() {
                *client = true;
            }
            for process in &mut kernel.processes {
                process.deaf = None;
            }
        }
        stage.signal(TERM);
        let report = end(&mut stage);
        look(&stage, &mut fates);
        // Every client that was not left in a closed listener's queue had exactly one fate.
        let refused: u64 = report.refused.values().sum();
        let cut: u64 = report.cut.values().sum();
        prop_assert_eq!(u64::from(fates.connected), report.accepted);
        prop_assert_eq!(stage.kernel.borrow().refused.len() as u64, refused);
        prop_assert_eq!(fates.cut.len() as u64, cut);
        prop_assert_eq!(report.served + refused + cut, report.accepted);
        prop_assert_eq!(report.open, 0);
    }
}
