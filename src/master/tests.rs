//! The loop in a small world: each promise once, then all of them at random.

mod hang;
mod operate;
mod random;
mod world;

use super::*;
use crate::error::ErrorKind;
use crate::io::{Errno, Exit, Message};
use crate::ipc::message;
use crate::stats::{CloseReason, Counter};
use balancer::Client;
use std::cell::RefCell;
use std::rc::Rc;
use world::{Mode, Stage};

const TERM: u32 = 15;
const TTIN: u32 = 21;
const KILLED: Exit = Exit::Signal(9, false);

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Ends the drain: workers finish and exit when they are told.
#[track_caller]
fn end(stage: &mut Stage) -> Report {
    for _ in 0..10_000 {
        if stage.master.is_done() {
            assert_eq!(stage.open(), 0, "descriptors were left open");
            let report = stage.master.report();
            assert!(report.balances(), "{report}");
            return report;
        }
        stage.settle();
        for process in 0..stage.processes() {
            if stage.is_alive(process) && stage.receive(process) {
                while stage.serve_one(process).is_some() {}
                stage.die(process, Exit::Code(0));
            }
        }
        stage.pass_time(millis(1));
    }
    panic!("does not end: {:?}", stage.master);
}

#[test]
fn arrivals_go_to_the_least_loaded_in_one_message_a_pass() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
    for _ in 0..40 {
        stage.connect(0);
    }
    stage.settle();
    assert_eq!((stage.inbox(0), stage.inbox(1)), (20, 20));
    assert_eq!((stage.largest_batch(0), stage.largest_batch(1)), (20, 20));
    stage.receive(0);
    stage.receive(1);
    while stage.serve_one(1).is_some() {}
    stage.settle();
    for _ in 0..20 {
        stage.connect(0);
    }
    stage.settle();
    assert_eq!((stage.inbox(0), stage.inbox(1)), (0, 20));
    stage.signal(TERM);
    let report = end(&mut stage);
    assert_eq!((report.accepted, report.served), (60, 60));
    assert!(report.is_clean());
}

#[test]
fn a_worker_never_has_more_than_two_batches_in_transit() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    for _ in 0..200 {
        stage.connect(0);
    }
    stage.settle();
    assert_eq!((stage.inbox(0), stage.largest_batch(0)), (64, 32));
    assert_eq!(stage.master.pending.len(), 136);
    stage.receive(0);
    stage.pass_time(millis(2));
    assert_eq!(stage.inbox(0), 64);
}

#[test]
fn a_copy_is_kept_until_the_worker_has_the_connection() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    let before = stage.open();
    stage.connect(0);
    stage.settle();
    assert_eq!(stage.open(), before + 1);
    let now = stage.kernel.borrow().now;
    assert!(stage.master.next_deadline(now).is_some_and(|at| at <= now.after(millis(1))));
    stage.receive(0);
    stage.pass_time(millis(1));
    assert_eq!(stage.open(), before);
    assert_eq!(stage.master.next_deadline(now), None);
}

#[test]
fn what_a_dead_worker_had_not_received_goes_to_others_and_the_rest_is_cut() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
    for _ in 0..4 {
        stage.connect(0);
    }
    stage.settle();
    stage.receive(0);
    for _ in 0..6 {
        stage.connect(0);
    }
    stage.settle();
    let (has, on_its_way) = (2, stage.inbox(0));
    assert_eq!(on_its_way, 3);
    stage.die(0, KILLED);
    stage.settle();
    assert_eq!(stage.inbox(1), 5 + on_its_way);
    stage.signal(TERM);
    let report = end(&mut stage);
    assert_eq!(report.cut.get(WORKER_DIED), Some(&has));
    assert_eq!((report.redispatched, report.served), (3, 8));
}

#[test]
fn what_a_worker_has_no_descriptors_for_goes_to_others_and_nobody_dies() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
    for _ in 0..2 {
        for _ in 0..10 {
            stage.connect(0);
        }
        stage.settle();
    }
    assert_eq!((stage.inbox(0), stage.inbox(1)), (10, 10), "two messages each");
    stage.receive_short(0, 2);
    stage.receive(1);
    stage.settle();
    // Three of its first message, and the second whole.
    assert_eq!(stage.inbox(1), 8);
    stage.receive(1);
    stage.receive(0);
    assert_eq!(stage.kernel.borrow().processes[0].heard, ["resume"]);
    assert_eq!(stage.kernel.borrow().processes[0].has.len(), 2);
    // It gets no more than it holds, until one of them ends or a while is over.
    stage.connect(0);
    stage.settle();
    assert_eq!((stage.inbox(0), stage.inbox(1)), (0, 1));
    stage.serve_one(0);
    stage.connect(0);
    stage.settle();
    assert_eq!((stage.inbox(0), stage.inbox(1)), (1, 1));
    stage.pass_time(millis(100));
    for _ in 0..4 {
        stage.connect(0);
    }
    stage.settle();
    assert_eq!((stage.inbox(0), stage.inbox(1)), (5, 1), "it has fewer");
    let log = stage.log().join("\n");
    assert_eq!(log.matches("worker out of file descriptors: slot=0 pid=100 open=2").count(), 1);
    stage.signal(TERM);
    let report = end(&mut stage);
    assert_eq!((report.served, report.accepted, report.redispatched), (26, 26, 8));
    assert!(report.is_clean());
}

#[test]
fn who_was_killed_for_want_of_memory_is_told_from_who_was_killed() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
    stage.die(0, KILLED);
    stage.settle();
    stage.kernel.borrow_mut().oom_kills = 1;
    stage.die(1, KILLED);
    stage.settle();
    let log = stage.log().join("\n");
    assert!(log.contains("worker died: slot=0 pid=100 signal 9 (SIGKILL), "), "{log}");
    let line = "worker died: slot=1 pid=101 killed by the kernel: out of memory, ";
    assert!(log.contains(line), "{log}");
    stage.signal(TERM);
    end(&mut stage);
}

#[test]
fn without_hope_for_a_worker_clients_are_told_at_once() {
    let options = [("auto_restart", "false"), ("pending_timeout", "60s")];
    let mut stage = Stage::ready(Mode::Centralized, 1, &options);
    stage.die(0, KILLED);
    stage.settle();
    let client = stage.connect(0);
    stage.settle();
    assert!(stage.kernel.borrow().refused.contains(&client));
    stage.signal(TTIN);
    stage.settle();
    stage.say_ready(1);
    stage.connect(0);
    stage.settle();
    assert_eq!(stage.inbox(1), 1, "a command fills the slot");
    stage.signal(TERM);
    let report = end(&mut stage);
    assert_eq!(report.refused.get("no_worker"), Some(&1));
}

#[test]
fn a_full_channel_puts_the_batch_back_at_the_head() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
    stage.kernel.borrow_mut().processes[0].deaf = Some(Errno::Again);
    let first = stage.connect(0);
    let second = stage.connect(0);
    stage.settle();
    // What the first worker's channel refused went to the second, and nothing was lost.
    stage.receive(1);
    let has = stage.kernel.borrow().processes[1].has.clone();
    assert_eq!(has.into_iter().collect::<Vec<_>>(), [first, second]);
    stage.kernel.borrow_mut().processes[0].deaf = None;
    stage.pass_time(millis(50));
    stage.connect(0);
    stage.settle();
    assert_eq!(stage.inbox(0), 1, "it has room again");
}

#[test]
fn without_a_ready_worker_arrivals_wait_and_get_503_when_they_are_too_old() {
    let options = [("pending_timeout", "100ms"), ("boot_timeout", "60s")];
    let mut stage = Stage::new(Mode::Centralized, 1, &options);
    let client = stage.connect(0);
    stage.pass_time(millis(99));
    assert!(!stage.kernel.borrow().refused.contains(&client));
    stage.pass_time(millis(2));
    assert!(stage.kernel.borrow().refused.contains(&client));
    let other = stage.connect(0);
    stage.pass_time(millis(50));
    stage.say_ready(0);
    stage.settle();
    assert_eq!(stage.inbox(0), 1, "client {other} got its worker");
    stage.signal(TERM);
    let report = end(&mut stage);
    assert_eq!(report.refused.get("pending_timeout"), Some(&1));
}

#[test]
fn too_many_pause_accepting_and_half_of_them_resume_it() {
    let options = [("pending_max", "10"), ("pending_timeout", "5s")];
    let mut stage = Stage::new(Mode::Shared, 1, &options);
    assert_eq!(stage.readers(), "poll");
    for _ in 0..30 {
        stage.connect(0);
    }
    stage.settle();
    assert_eq!((stage.master.pending.len(), stage.readers().as_str()), (10, "-"));
    stage.pass_time(millis(5000));
    assert_eq!(stage.kernel.borrow().refused.len(), 10);
    assert_eq!(stage.master.pending.len(), 10, "resumed");
}

#[test]
fn a_multishot_that_brings_too_many_has_them_refused() {
    let mut stage = Stage::new(Mode::Centralized, 1, &[("pending_max", "10")]);
    for _ in 0..30 {
        stage.connect(0);
    }
    stage.settle();
    assert_eq!(stage.kernel.borrow().refused.len(), 20);
    assert_eq!(stage.readers(), "-");
    stage.say_ready(0);
    stage.settle();
    assert_eq!((stage.inbox(0), stage.readers().as_str()), (10, "accept"));
}

#[test]
fn the_master_reads_a_slot_without_a_ready_worker() {
    let mut stage = Stage::new(Mode::Shared, 2, &[]);
    assert_eq!(stage.readers(), "poll poll");
    stage.say_ready(0);
    stage.settle();
    assert_eq!(stage.readers(), "- poll");
    stage.connect(1);
    stage.settle();
    assert_eq!(stage.inbox(0), 1, "an orphan goes to who is ready");
    stage.say_ready(1);
    stage.settle();
    assert_eq!(stage.readers(), "- -");
    stage.die(0, KILLED);
    stage.settle();
    assert_eq!(stage.readers(), "poll -");
    let third = stage.processes() - 1;
    assert_eq!(third, 2, "respawned at once");
    stage.say_ready(third);
    stage.settle();
    assert_eq!(stage.readers(), "- -");
}

#[test]
fn the_master_reads_the_listeners_of_a_full_worker() {
    let options = [("connections_max", "1"), ("pending_timeout", "100ms")];
    let mut stage = Stage::ready(Mode::Shared, 2, &options);
    let line = stage.kernel.borrow().processes[0].line;
    let full = |stage: &mut Stage| {
        let bytes = message::Message::worker_full(0, 0.0).encode(1024).unwrap();
        stage.board.line(line).add(Counter::Adopted, 1);
        stage.say(0, Message { bytes, ..Message::default() });
        stage.settle();
    };
    full(&mut stage);
    assert_eq!(stage.readers(), "poll -");
    stage.connect(0);
    stage.connect(0);
    stage.settle();
    assert_eq!(stage.inbox(1), 1, "the first goes to who has room");
    stage.pass_time(millis(101));
    assert_eq!(stage.master.report().refused.get("pending_timeout"), Some(&1));
    stage.board.line(line).close(CloseReason::ClientClosed);
    stage.connect(0);
    stage.settle();
    assert_eq!((stage.inbox(0), stage.readers().as_str()), (1, "- -"));
    full(&mut stage);
    assert_eq!(stage.readers(), "poll -");
}

#[test]
fn more_than_one_sweep_of_arrivals_are_all_taken() {
    let mut stage = Stage::new(Mode::Shared, 1, &[]);
    for _ in 0..300 {
        stage.connect(0);
    }
    stage.settle();
    assert_eq!(stage.master.pending.len(), 300);
}

#[test]
fn out_of_descriptors_the_reserve_answers_and_nothing_spins() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    let open = stage.open();
    stage.kernel.borrow_mut().fds_max = open;
    for _ in 0..5 {
        stage.connect(0);
    }
    let waits = stage.kernel.borrow().waits;
    stage.pass_time(millis(1000));
    assert_eq!(stage.kernel.borrow().refused.len(), 5, "each was answered through the reserve");
    assert!(stage.kernel.borrow().waits - waits < 100, "spins");
    stage.kernel.borrow_mut().fds_max = usize::MAX;
    stage.connect(0);
    stage.pass_time(millis(200));
    assert_eq!(stage.inbox(0), 1);
    assert_eq!(stage.open(), open + 1, "the reserve is back");
}

#[test]
fn out_of_descriptors_with_clients_that_stay_the_backlog_waits() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    stage.kernel.borrow_mut().stubborn = true;
    let open = stage.open();
    stage.kernel.borrow_mut().fds_max = open;
    for _ in 0..5 {
        stage.connect(0);
    }
    let waits = stage.kernel.borrow().waits;
    stage.pass_time(millis(1900));
    assert_eq!(stage.kernel.borrow().refused.len(), 1);
    assert!(stage.kernel.borrow().waits - waits < 100, "spins");
    let log = stage.log().join("\n");
    assert!(log.matches("out of file descriptors").count() <= 2, "{log}");
    stage.pass_time(millis(9000));
    assert_eq!(stage.kernel.borrow().refused.len(), 5, "each linger of 2 s frees the next");
}

#[test]
fn a_wait_that_sends_an_answer_does_not_sleep() {
    let mut stage = Stage::new(Mode::Centralized, 1, &[("pending_timeout", "10ms")]);
    stage.kernel.borrow_mut().stubborn = true;
    stage.connect(0);
    stage.settle();
    let now = stage.kernel.borrow().now.after(millis(10));
    stage.kernel.borrow_mut().now = now;
    stage.turn();
    assert_eq!(stage.master.next_deadline(now), Some(now));
    stage.step();
    assert!(stage.master.next_deadline(now).is_some_and(|at| at > now), "it lingers");
}

#[test]
fn a_refused_client_that_stays_is_closed_after_its_linger() {
    let options = [("pending_timeout", "10ms"), ("linger_timeout", "300ms")];
    let mut stage = Stage::new(Mode::Centralized, 1, &options);
    stage.kernel.borrow_mut().stubborn = true;
    let open = stage.open();
    stage.connect(0);
    stage.pass_time(millis(50));
    assert_eq!(stage.open(), open + 1, "lingers");
    stage.pass_time(millis(300));
    assert_eq!(stage.open(), open);
}

#[test]
fn at_most_256_linger() {
    let options = [("pending_timeout", "10ms"), ("pending_max", "1000")];
    let mut stage = Stage::new(Mode::Centralized, 1, &options);
    stage.kernel.borrow_mut().stubborn = true;
    let open = stage.open();
    for _ in 0..400 {
        stage.connect(0);
    }
    stage.pass_time(millis(50));
    assert_eq!(stage.kernel.borrow().refused.len(), 400, "all were answered");
    assert_eq!(stage.open(), open + refuse::LINGERING_MAX);
}

#[test]
fn a_worker_that_says_nonsense_is_replaced() {
    let good = |text: &str| Message { bytes: text.as_bytes().to_vec(), ..Message::default() };
    let nonsense = [
        good("{"),
        good("not json"),
        good(r#"{"type":"worker_ready","data":{"worker_id":7}}"#),
        good(r#"{"type":"worker_ready","data":{"worker_id":0}}"#), // for the second time
        good(r#"{"type":"shutdown","data":{}}"#),
        good(r#"{"type":"make_tea","data":{}}"#),
        good(&format!(r#"{{"type":"worker_metrics","data":{{"a":"{}"}}}}"#, "x".repeat(2000))),
        Message { truncated: true, ..good("{}") },
    ];
    for message in nonsense {
        let mut stage = Stage::ready(Mode::Centralized, 1, &[("message_max", "1024")]);
        stage.log();
        stage.say(0, message);
        stage.settle();
        let log = stage.log();
        assert!(log[0].starts_with("channel of a worker broken: slot=0 pid=100"), "{log:?}");
        stage.connect(0);
        stage.pass_time(millis(1499));
        assert_eq!(stage.inbox(0), 0, "gets nothing any more");
        assert!(stage.is_alive(0), "has a second and a half to exit by itself");
        stage.pass_time(millis(2));
        assert!(!stage.is_alive(0));
        stage.say_ready(1);
        stage.settle();
        assert_eq!(stage.inbox(1), 1);
    }
}

#[test]
fn end_of_file_alone_is_no_death_but_is_not_for_long() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    stage.hang_up(0);
    stage.pass_time(millis(1499));
    assert!(stage.is_alive(0));
    assert_eq!(stage.processes(), 1);
    stage.pass_time(millis(2));
    assert!(!stage.is_alive(0));
    assert_eq!(stage.processes(), 2);
}

#[test]
fn a_boot_that_takes_too_long_is_killed_and_tried_again() {
    let mut stage = Stage::new(Mode::Centralized, 2, &[("boot_timeout", "1s")]);
    stage.say_ready(0);
    stage.pass_time(millis(1001));
    assert!(stage.is_alive(0) && !stage.is_alive(1));
    assert_eq!(stage.processes(), 3);
    let log = stage.log().join("\n");
    assert!(log.contains("worker killed: slot=1 pid=101: not ready within boot_timeout"), "{log}");
}

#[test]
fn when_no_worker_comes_up_the_master_ends_with_their_reasons() {
    let mut stage = Stage::new(Mode::Shared, 2, &[]);
    let failed = message::Message::worker_failed("no\ndisk", 0.0).encode(1024).unwrap();
    for boot in 0..workers::BOOT_TRIES {
        assert!(!stage.master.is_done(), "gave up after {boot} boots");
        for process in 0..stage.processes() {
            if stage.is_alive(process) && stage.slot(process) == 0 {
                stage.say(process, Message { bytes: failed.clone(), ..Message::default() });
                stage.die(process, Exit::Code(3));
            } else if stage.is_alive(process) {
                stage.die(process, Exit::Signal(11, true));
            }
        }
        stage.pass_time(millis(200));
    }
    assert!(stage.master.is_done(), "{:?}", stage.master);
    assert_eq!(stage.open(), 0);
    let error = stage.master.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WorkersFailed);
    let want = "no worker came up: slot 0: no\\ndisk; \
                slot 1: signal 11 (SIGSEGV), core dumped before READY [workers_failed]";
    assert_eq!(error.to_string(), want);
}

#[test]
fn a_fork_that_is_refused_is_tried_again() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
    stage.kernel.borrow_mut().spawn_errno = Some(Errno::Again);
    stage.die(1, KILLED);
    stage.pass_time(millis(5000));
    stage.connect(0);
    stage.settle();
    assert_eq!((stage.processes(), stage.inbox(0)), (2, 1));
    stage.kernel.borrow_mut().spawn_errno = None;
    stage.pass_time(millis(1001));
    assert_eq!(stage.processes(), 3);
}

#[test]
fn as_pid_1_strangers_are_reaped() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    stage.master.pid1 = true;
    stage.kernel.borrow_mut().strangers = 5;
    stage.signal(17);
    stage.settle();
    assert_eq!(stage.kernel.borrow().strangers, 0);
}

#[test]
fn a_drain_hands_over_what_was_accepted_and_lets_workers_finish() {
    for mode in [Mode::Centralized, Mode::Shared] {
        let mut stage = Stage::ready(mode, 2, &[]);
        for _ in 0..3 {
            stage.connect(0);
        }
        stage.signal(TERM);
        let report = end(&mut stage);
        // In shared mode the owner would sweep its own; here the master's last look finds them.
        assert_eq!((report.accepted, report.served), (3, 3), "{mode:?}");
        assert!(report.is_clean());
        assert_eq!((report.deaths, report.killed, report.drained_served), (2, 0, 3));
    }
}

#[test]
fn a_drain_that_begins_with_a_message_on_its_way_is_told_after_it() {
    let mut stage = Stage::ready(Mode::Shared, 1, &[("drain_timeout", "0s")]);
    stage.connect(0);
    stage.signal(TERM);
    let report = end(&mut stage);
    assert_eq!((report.served, report.killed), (1, 0), "{report}");
}

#[test]
fn a_drain_refuses_what_no_worker_takes() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[("connections_max", "1")]);
    for _ in 0..3 {
        stage.connect(0);
    }
    stage.settle();
    stage.signal(TERM);
    stage.pass_time(millis(499));
    assert_eq!(stage.kernel.borrow().refused.len(), 0);
    stage.pass_time(millis(2));
    assert_eq!(stage.kernel.borrow().refused.len(), 2);
    let report = end(&mut stage);
    assert_eq!(report.refused.get("draining"), Some(&2));
}

#[test]
fn a_worker_that_does_not_drain_is_killed_and_the_report_says_so() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[("drain_timeout", "2s")]);
    stage.connect(0);
    stage.settle();
    stage.receive(0);
    stage.signal(TERM);
    stage.pass_time(millis(20));
    assert!(stage.receive(0), "told");
    stage.pass_time(millis(2479));
    assert!(stage.is_alive(0));
    stage.pass_time(millis(100));
    assert!(stage.master.is_done());
    let report = stage.master.report();
    assert!(!report.is_clean() && report.balances());
    assert_eq!((report.killed, report.drained_cut, report.open_at_death), (2, 1, 1));
}

#[test]
fn a_second_signal_stops_now() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
    stage.kernel.borrow_mut().stubborn = true;
    stage.connect(0);
    stage.settle();
    stage.signal(TERM);
    stage.settle();
    assert!(stage.is_alive(0) && stage.is_alive(1));
    stage.signal(TERM);
    stage.pass_time(millis(200));
    assert!(stage.master.is_done(), "{:?}", stage.master);
    assert_eq!(stage.open(), 0);
    // The connection had not been received: it came back, and was refused.
    let report = stage.master.report();
    assert_eq!((report.killed, report.refused.get("draining")), (2, Some(&1)));
}

#[test]
fn a_worker_that_dies_while_draining_is_not_replaced_and_its_connections_are_told() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
    stage.connect(0);
    stage.signal(TERM);
    stage.pass_time(millis(20));
    let owner = usize::from(stage.inbox(0) == 0);
    stage.die(owner, KILLED);
    stage.settle();
    assert_eq!(stage.processes(), 2);
    let report = end(&mut stage);
    assert_eq!(report.refused.get("draining"), Some(&1));
}

#[test]
fn a_panicking_balancer_is_replaced() {
    struct Panics;
    impl Balancer for Panics {
        fn pick(&mut self, _: &Client<'_>, _: &[Load]) -> Option<usize> {
            panic!("the application's mistake")
        }
    }
    struct Lies;
    impl Balancer for Lies {
        fn pick(&mut self, _: &Client<'_>, _: &[Load]) -> Option<usize> {
            Some(99)
        }
    }
    for balancer in [Box::new(Panics) as Box<dyn Balancer>, Box::new(Lies)] {
        let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
        stage.master.balancer = Guard::new(balancer);
        for _ in 0..4 {
            stage.connect(0);
        }
        stage.settle();
        assert_eq!((stage.inbox(0), stage.inbox(1)), (2, 2));
    }
}

/// P1 of the original: nobody told its balancer that a connection had closed, so its least
/// connections were chance. Ours hears of everything, from the board, without a message.
#[test]
fn p1_the_balancer_hears_of_every_connection_and_every_worker_that_goes() {
    #[derive(Clone, Default)]
    struct Counts(Rc<RefCell<[i64; 2]>>);
    impl Balancer for Counts {
        fn pick(&mut self, _: &Client<'_>, loads: &[Load]) -> Option<usize> {
            let counts = *self.0.borrow();
            (0..2).filter(|&slot| loads[slot].room > 0).min_by_key(|&slot| counts[slot])
        }

        fn on_established(&mut self, worker: usize, count: u64) {
            self.0.borrow_mut()[worker] += i64::try_from(count).unwrap();
        }

        fn on_closed(&mut self, worker: usize, count: u64) {
            self.0.borrow_mut()[worker] -= i64::try_from(count).unwrap();
        }

        fn on_worker_removed(&mut self, worker: usize) {
            self.0.borrow_mut()[worker] = 0;
        }
    }
    let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
    let counts = Counts::default();
    stage.master.balancer = Guard::new(Box::new(counts.clone()));
    let connect = |stage: &mut Stage, count| {
        for _ in 0..count {
            stage.connect(0);
            stage.settle();
            stage.pass_time(millis(1));
        }
        *counts.0.borrow()
    };
    assert_eq!(connect(&mut stage, 6), [3, 3]);
    stage.receive(0);
    stage.receive(1);
    assert!(stage.serve_one(1).is_some() && stage.serve_one(1).is_some());
    stage.pass_time(millis(1));
    assert_eq!(connect(&mut stage, 0), [3, 1]);
    assert_eq!(connect(&mut stage, 2), [3, 3], "both to the one with fewer");
    stage.die(0, KILLED);
    stage.settle();
    assert_eq!(connect(&mut stage, 0), [0, 3]);
    stage.signal(TERM);
    end(&mut stage);
}

/// In shared mode the master stands in for a slot without a ready worker, and then it picks.
#[test]
fn an_orphan_of_a_slot_goes_where_the_balancer_says() {
    struct Last;
    impl Balancer for Last {
        fn pick(&mut self, _: &Client<'_>, loads: &[Load]) -> Option<usize> {
            loads.iter().rposition(|load| load.room > 0)
        }
    }
    let mut stage = Stage::new(Mode::Shared, 3, &[]);
    stage.master.balancer = Guard::new(Box::new(Last));
    stage.say_ready(1);
    stage.say_ready(2);
    stage.settle();
    for _ in 0..3 {
        stage.connect(0);
    }
    stage.settle();
    assert_eq!((stage.inbox(1), stage.inbox(2)), (0, 3));
}

#[test]
fn signals_without_a_meaning_are_named_and_harmless() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    stage.log();
    for signal in [12, 40] {
        stage.signal(signal);
    }
    stage.settle();
    assert_eq!(stage.log().len(), 2);
    assert!(stage.is_alive(0));
}

#[test]
fn a_closed_connection_leaves_the_books_balanced_at_every_moment() {
    let mut stage = Stage::ready(Mode::Shared, 1, &[]);
    let line = stage.board.line(0);
    line.add(Counter::Adopted, 3);
    line.close(CloseReason::Reset);
    line.close(CloseReason::BadRequest);
    let report = stage.master.report();
    assert!(report.balances());
    assert_eq!((report.accepted, report.open), (3, 1));
    stage.die(0, KILLED);
    stage.pass_time(millis(200));
    let report = stage.master.report();
    assert!(report.balances());
    assert_eq!((report.accepted, report.open, report.open_at_death), (3, 0, 1));
}
