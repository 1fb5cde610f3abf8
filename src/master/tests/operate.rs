//! What operators ask for, in the small world: each outcome once, each with one answer.

use super::super::answer::{Answer, Asker};
use super::super::command::Command;
use super::*;
use crate::config;
use crate::io::Purpose;

/// Asks, and gives back what was answered so far.
fn ask(stage: &mut Stage, number: u64, command: Command) -> Vec<(u64, Answer)> {
    let now = stage.kernel.borrow().now;
    stage.master.on_command(command, Some(Asker(number)), now);
    stage.settle();
    answers(stage)
}

fn answers(stage: &mut Stage) -> Vec<(u64, Answer)> {
    stage.master.told.drain(..).map(|(Asker(number), answer)| (number, answer)).collect()
}

/// The processes that live and were spawned for this.
fn living(stage: &Stage, purpose: Purpose) -> Vec<usize> {
    let of = |process: &usize| stage.kernel.borrow().processes[*process].purpose == purpose;
    (0..stage.processes()).filter(|p| stage.is_alive(*p)).filter(of).collect()
}

/// The throw-away child says that it has read the configuration, and exits.
fn read_config(stage: &mut Stage, options: &[(&str, &str)]) {
    let checks = living(stage, Purpose::Check);
    let options: Vec<(String, String)> =
        options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let bytes = message::Message::config_read(&options, &["backlog".to_owned()], 0.0);
    let bytes = bytes.encode(1024).unwrap();
    stage.say(checks[0], Message { bytes, ..Message::default() });
    stage.settle();
    stage.die(checks[0], Exit::Code(0));
    stage.pass_time(millis(150));
}

/// The candidate says READY and answers the probe.
fn prove(stage: &mut Stage, answer: &str) {
    let candidate = *living(stage, Purpose::Succeed).last().unwrap();
    stage.say_ready(candidate);
    stage.settle();
    let mut kernel = stage.kernel.borrow_mut();
    for said in kernel.probes.values_mut().filter(|said| said.is_none()) {
        *said = Some(answer.to_owned());
    }
    drop(kernel);
    stage.settle();
}

fn heard(stage: &mut Stage, process: usize) -> Vec<String> {
    stage.receive(process);
    stage.kernel.borrow().processes[process].heard.clone()
}

const GOOD: &str = "HTTP/1.1 200 OK\r\n";

#[test]
fn a_reload_proves_the_new_one_before_the_old_one_drains() {
    let mut stage = Stage::ready(Mode::Shared, 1, &[]);
    assert_eq!(ask(&mut stage, 7, Command::Reload), []);
    read_config(&mut stage, &[("head_max", "8192")]);
    let candidate = living(&stage, Purpose::Succeed)[0];
    assert_eq!(heard(&mut stage, 0), [""; 0], "the old one knows nothing yet");
    prove(&mut stage, GOOD);
    let answer = &answers(&mut stage)[..];
    let [(7, Answer { ok: true, code: 0, text, fields, .. })] = answer else {
        panic!("{answer:?}")
    };
    assert!(text.contains("a restart is needed for backlog"), "{text}");
    assert_eq!(fields.len(), 4);
    assert_eq!(heard(&mut stage, candidate), ["serve"]);
    assert_eq!(heard(&mut stage, 0), ["shutdown"]);
    let kernel = stage.kernel.borrow();
    let new = &kernel.processes[candidate];
    assert_eq!((new.epoch, new.listeners), (1, 1));
    assert_eq!(new.settings, [("head_max".to_owned(), "8192".to_owned())]);
}

/// The connection of an earlier probe ends while the next candidate of the slot is asked.
#[test]
fn the_end_of_an_earlier_probe_says_nothing_of_the_next_candidate() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[("probe_timeout", "1s")]);
    ask(&mut stage, 1, Command::Reload);
    read_config(&mut stage, &[]);
    let silent = living(&stage, Purpose::Succeed)[0];
    stage.say_ready(silent);
    stage.pass_time(millis(1100));
    let [(1, Answer { ok: false, text, .. })] = &answers(&mut stage)[..] else { panic!() };
    assert!(text.contains("no answer to the probe in time"), "{text}");
    stage.die(silent, KILLED);
    ask(&mut stage, 2, Command::Reload);
    read_config(&mut stage, &[]);
    stage.say_ready(*living(&stage, Purpose::Succeed).last().unwrap());
    // The first connection is given up half a second after its answer was due.
    stage.pass_time(millis(500));
    assert_eq!(answers(&mut stage), []);
    for said in stage.kernel.borrow_mut().probes.values_mut().filter(|said| said.is_none()) {
        *said = Some(GOOD.to_owned());
    }
    stage.settle();
    let [(2, Answer { ok: true, .. })] = &answers(&mut stage)[..] else { panic!() };
}

/// What goes wrong, and why the caller is told it did.
#[track_caller]
fn check_failure(wrong: impl FnOnce(&mut Stage), want: &str) {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[("probe_timeout", "1s")]);
    let open = stage.open();
    ask(&mut stage, 1, Command::Reload);
    wrong(&mut stage);
    stage.pass_time(millis(300));
    for process in 2..stage.processes() {
        stage.die(process, KILLED);
    }
    stage.pass_time(millis(3000));
    let answers = answers(&mut stage);
    let [(1, Answer { ok: false, code: 1, text, .. })] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(text.contains(want), "{text}");
    assert_eq!((heard(&mut stage, 0), heard(&mut stage, 1)), (vec![], vec![]));
    assert_eq!(stage.open(), open, "descriptors: {want}");
    assert!(stage.master.report().balances());
    stage.signal(TERM);
    assert!(end(&mut stage).is_clean());
}

#[test]
fn what_fails_changes_nothing_and_says_why() {
    check_failure(
        |stage| {
            let check = living(stage, Purpose::Check)[0];
            let bytes = message::Message::worker_failed("workers: many", 0.0).encode(1024);
            stage.say(check, Message { bytes: bytes.unwrap(), ..Message::default() });
            stage.settle();
            stage.die(check, Exit::Code(3));
        },
        "workers: many",
    );
    check_failure(|stage| stage.die(2, Exit::Signal(11, true)), "signal 11 (SIGSEGV), core dumped");
    check_failure(|stage| read_config(stage, &[("head_max", "1")]), "head_max");
    check_failure(
        |stage| {
            read_config(stage, &[]);
            stage.die(3, Exit::Code(7));
        },
        "slot 0: exit code 7 before READY",
    );
    check_failure(
        |stage| {
            read_config(stage, &[]);
            prove(stage, "HTTP/1.1 500 Oh\r\n");
        },
        "it answered the probe with 500",
    );
    check_failure(
        |stage| {
            read_config(stage, &[]);
            stage.say_ready(3);
            stage.pass_time(millis(1100));
        },
        "no answer to the probe in time",
    );
    check_failure(
        |stage| {
            read_config(stage, &[]);
            stage.say_ready(3);
            stage.settle();
            stage.die(3, KILLED);
        },
        "signal 9",
    );
}

/// The first of two has proved itself and dies while the second is asked.
#[test]
fn who_died_after_it_proved_itself_takes_nothing_over() {
    for state in ["dead", "draining"] {
        let mut stage = Stage::ready(Mode::Centralized, 2, &[("surge", "2")]);
        ask(&mut stage, 1, Command::Reload);
        read_config(&mut stage, &[]);
        let [first, second] = living(&stage, Purpose::Succeed)[..] else { panic!() };
        stage.say_ready(first);
        stage.settle();
        let answer = |stage: &mut Stage| {
            for said in stage.kernel.borrow_mut().probes.values_mut().filter(|s| s.is_none()) {
                *said = Some(GOOD.to_owned());
            }
            stage.settle();
        };
        answer(&mut stage);
        stage.say_ready(second);
        stage.settle();
        match state {
            "dead" => stage.die_holding_its_channel(first, KILLED),
            _ => stage.hang_up(first),
        }
        answer(&mut stage);
        stage.pass_time(millis(3000));
        stage.die(first, KILLED);
        stage.die(second, KILLED);
        stage.pass_time(millis(3000));
        let [(1, Answer { ok: false, text, .. })] = &answers(&mut stage)[..] else { panic!() };
        assert!(text.contains("since it proved") || text.contains("after it had proved"), "{text}");
        assert_eq!((heard(&mut stage, 0), heard(&mut stage, 1)), (vec![], vec![]));
        let report = stage.master.report();
        assert!(report.balances() && report.cut.is_empty(), "{report}");
    }
}

#[test]
fn a_refused_fork_ends_it() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    stage.kernel.borrow_mut().spawn_errno = Some(Errno::Again);
    let said = ask(&mut stage, 1, Command::Reload);
    assert!(said[0].1.text.starts_with("cannot fork"), "{said:?}");
    assert!(stage.is_alive(0));
}

#[test]
fn those_that_wait_are_one_and_each_is_answered() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    assert_eq!(ask(&mut stage, 1, Command::Reload), []);
    assert_eq!(ask(&mut stage, 2, Command::Reload), []);
    assert_eq!(ask(&mut stage, 3, Command::Reload), []);
    let busy = ask(&mut stage, 4, Command::SetMode(config::Mode::Shared));
    assert!(busy[0].1.text.starts_with("busy: reload since"), "{busy:?}");
    stage.die(1, Exit::Code(3));
    stage.pass_time(millis(150));
    assert_eq!(answers(&mut stage).len(), 1, "the first");
    let second = living(&stage, Purpose::Check)[0];
    stage.die(second, Exit::Code(3));
    stage.pass_time(millis(150));
    let numbers: Vec<u64> = answers(&mut stage).iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [2, 3]);
    assert!(living(&stage, Purpose::Check).is_empty());
}

#[test]
fn the_last_word_of_those_that_wait_is_the_last_done() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    ask(&mut stage, 1, Command::Reload);
    ask(&mut stage, 2, Command::Reload);
    ask(&mut stage, 3, Command::DrainWorkers);
    ask(&mut stage, 4, Command::Reload);
    stage.die(1, Exit::Code(3));
    stage.pass_time(millis(150));
    assert_eq!(heard(&mut stage, 0), ["shutdown"]);
    assert_eq!(living(&stage, Purpose::Check).len(), 1, "and then the reload");
}

#[test]
fn only_what_is_meant_to_brings_drained_workers_back() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    ask(&mut stage, 1, Command::DrainWorkers);
    for command in [Command::SetMode(config::Mode::Shared), Command::Rollback] {
        let said = ask(&mut stage, 2, command);
        assert!(said.iter().any(|(_, answer)| answer.text.contains("were drained")), "{said:?}");
    }
    assert_eq!(living(&stage, Purpose::Succeed), [0; 0]);
    ask(&mut stage, 3, Command::ScaleTo(1));
    assert_eq!(living(&stage, Purpose::Serve).len(), 2, "the old one, which drains, and a new one");
}

#[test]
fn term_during_a_reload_ends_it_and_then_the_pool() {
    let mut stage = Stage::ready(Mode::Shared, 1, &[]);
    ask(&mut stage, 1, Command::Reload);
    ask(&mut stage, 2, Command::Reload);
    read_config(&mut stage, &[]);
    stage.signal(TERM);
    stage.settle();
    let answers = answers(&mut stage);
    assert!(answers.iter().all(|(_, answer)| answer.text.contains("the pool drains")));
    assert_eq!(answers.len(), 2);
    assert!(stage.kernel.borrow().processes[2].killed);
    let report = end(&mut stage);
    assert!(report.is_clean(), "a candidate served nobody: {report}");
}

#[test]
fn a_rollback_brings_the_settings_back() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    let said = ask(&mut stage, 1, Command::Rollback);
    assert_eq!(said[0].1.text, "there is no earlier configuration");
    ask(&mut stage, 2, Command::Reload);
    read_config(&mut stage, &[("head_max", "8192")]);
    prove(&mut stage, GOOD);
    assert!(answers(&mut stage)[0].1.ok);
    ask(&mut stage, 3, Command::Rollback);
    prove(&mut stage, GOOD);
    assert!(answers(&mut stage)[0].1.ok);
    let newest = *living(&stage, Purpose::Succeed).last().unwrap();
    let kernel = stage.kernel.borrow();
    assert_eq!(
        (kernel.processes[newest].epoch, &kernel.processes[newest].settings[..]),
        (2, &[][..])
    );
}

#[test]
fn scaling_down_parks_and_the_master_reads_what_is_left() {
    let mut stage = Stage::ready(Mode::Shared, 3, &[]);
    assert_eq!(stage.readers(), "- - -");
    let said = ask(&mut stage, 1, Command::ScaleTo(1));
    assert_eq!((said[0].1.ok, said[0].1.text.as_str()), (true, "1 workers"));
    assert_eq!(stage.readers(), "- poll poll");
    assert_eq!(heard(&mut stage, 2), ["shutdown"]);
    stage.connect(2);
    stage.settle();
    assert_eq!(stage.inbox(0), 1, "no queue is without a reader");
    assert_eq!(ask(&mut stage, 2, Command::ScaleTo(2)), [], "its worker boots");
    stage.say_ready(3);
    stage.settle();
    assert!(answers(&mut stage)[0].1.ok);
    assert_eq!(stage.readers(), "- - poll");
    let said = ask(&mut stage, 3, Command::ScaleTo(9));
    assert_eq!(said[0].1.text, "workers_max allows 8 workers");
}

/// All were drained, the reload that was to bring them back fails, and of the steps up that came
/// meanwhile not all have room.
#[test]
fn steps_that_waited_go_as_far_as_they_may() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[]);
    assert!(ask(&mut stage, 1, Command::DrainWorkers)[0].1.ok);
    stage.die(0, Exit::Code(0));
    stage.pass_time(millis(150));
    ask(&mut stage, 2, Command::Reload);
    assert_eq!(ask(&mut stage, 3, Command::ScaleBy(5)), []);
    assert_eq!(ask(&mut stage, 4, Command::ScaleBy(5)), []);
    stage.die(1, Exit::Code(3));
    stage.pass_time(millis(150));
    let said = answers(&mut stage);
    assert!(said.len() == 1 && !said[0].1.ok, "the reload: {said:?}");
    for process in 2..stage.processes() {
        stage.say_ready(process);
    }
    stage.settle();
    let said = answers(&mut stage);
    assert_eq!(said.len(), 2);
    assert!(said.iter().all(|(_, answer)| answer.ok && answer.text == "8 workers"), "{said:?}");
}

#[test]
fn who_does_not_come_up_is_said() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[("boot_timeout", "1s")]);
    assert_eq!(ask(&mut stage, 1, Command::ScaleTo(2)), []);
    assert_eq!(ask(&mut stage, 2, Command::ScaleBy(1)), []);
    stage.pass_time(millis(1100));
    let answers = answers(&mut stage);
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|(_, answer)| answer.text.starts_with("not all of 3 workers")));
}

#[test]
fn another_mode_is_another_reader() {
    let mut stage = Stage::ready(Mode::Shared, 1, &[]);
    ask(&mut stage, 1, Command::SetMode(config::Mode::Centralized));
    prove(&mut stage, GOOD);
    assert!(answers(&mut stage)[0].1.ok);
    assert_eq!(stage.readers(), "poll", "the master's now");
    assert_eq!(stage.kernel.borrow().processes[1].listeners, 0);
    ask(&mut stage, 2, Command::SetMode(config::Mode::Shared));
    prove(&mut stage, GOOD);
    assert!(answers(&mut stage)[0].1.ok);
    assert_eq!(stage.readers(), "-", "its worker's again");
    let said = ask(&mut stage, 3, Command::SetMode(config::Mode::Auto));
    assert!(!said[0].1.ok);
}

#[test]
fn a_pool_that_began_centralized_gets_a_listener_a_worker() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
    assert_eq!(stage.readers(), "accept");
    ask(&mut stage, 1, Command::SetMode(config::Mode::Shared));
    prove(&mut stage, GOOD);
    prove(&mut stage, GOOD);
    assert!(answers(&mut stage)[0].1.ok);
    assert_eq!(stage.readers(), "-", "the central one is the first slot's");
    let kernel = stage.kernel.borrow();
    let listeners: Vec<usize> = kernel.processes.iter().map(|p| p.listeners).collect();
    assert_eq!(listeners, [0, 0, 1, 1]);
}

#[test]
fn a_fat_worker_is_replaced_and_only_one_at_a_time() {
    let mut stage = Stage::ready(Mode::Shared, 2, &[("recycle_rss", "1m")]);
    stage.kernel.borrow_mut().memory = Some(2 << 20);
    stage.pass_time(millis(600));
    assert_eq!(living(&stage, Purpose::Succeed).len(), 1);
    assert_eq!(stage.log().iter().filter(|line| line.starts_with("worker is replaced")).count(), 2);
    stage.kernel.borrow_mut().memory = Some(0);
    prove(&mut stage, GOOD);
    assert_eq!(living(&stage, Purpose::Succeed).len(), 1, "the old one has not ended");
    stage.receive(0);
    stage.die(0, Exit::Code(0));
    stage.pass_time(millis(150));
    assert_eq!(living(&stage, Purpose::Succeed).len(), 2);
}

/// What interrupts it says nothing against the successors: it goes on at once.
#[test]
fn recycling_goes_on_after_what_came_before_it() {
    let mut stage = Stage::ready(Mode::Shared, 1, &[("recycle_rss", "1m")]);
    stage.kernel.borrow_mut().memory = Some(2 << 20);
    stage.pass_time(millis(600));
    let successor = living(&stage, Purpose::Succeed)[0];
    assert!(ask(&mut stage, 1, Command::ScaleBy(0))[0].1.ok);
    stage.die(successor, KILLED);
    stage.pass_time(millis(1200));
    assert_eq!(living(&stage, Purpose::Succeed).len(), 1);
}

#[test]
fn a_reload_fills_the_slots_of_those_that_nobody_followed() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[("auto_restart", "false")]);
    stage.die(0, KILLED);
    stage.die(1, KILLED);
    stage.pass_time(millis(300));
    ask(&mut stage, 1, Command::Reload);
    read_config(&mut stage, &[]);
    prove(&mut stage, GOOD);
    prove(&mut stage, GOOD);
    let [(1, Answer { ok: true, text, .. })] = &answers(&mut stage)[..] else { panic!() };
    assert_eq!(text, "epoch 1 serves with 2 workers; a restart is needed for backlog");
}

#[test]
fn what_an_operator_asks_for_comes_before_recycling() {
    let mut stage = Stage::ready(Mode::Shared, 1, &[]);
    assert_eq!(ask(&mut stage, 1, Command::Recycle(Some(0))), []);
    let said = ask(&mut stage, 2, Command::Reload);
    assert!(said[0].0 == 1 && said[0].1.text.starts_with("something more urgent"), "{said:?}");
    let said = ask(&mut stage, 3, Command::Recycle(Some(5)));
    assert!(!said[0].1.ok);
}

#[test]
fn a_lame_duck_is_not_ready_and_serves() {
    let mut stage = Stage::ready(Mode::Centralized, 1, &[("lame_duck", "2s")]);
    assert!(stage.master.is_ready());
    stage.signal(TERM);
    stage.settle();
    assert!(!stage.master.is_ready());
    stage.connect(0);
    stage.settle();
    assert_eq!(stage.inbox(0), 1);
    assert_eq!(heard(&mut stage, 0), [""; 0]);
    stage.pass_time(millis(2100));
    assert_eq!(stage.readers(), "-");
    let said = ask(&mut stage, 1, Command::ScaleTo(2));
    assert_eq!(said[0].1.text, "the pool drains");
    let report = end(&mut stage);
    assert_eq!((report.accepted, report.served), (1, 1));
}

#[test]
fn more_workers_than_descriptors_are_refused_before_anything_is_touched() {
    let mut stage = Stage::ready(Mode::Shared, 2, &[]);
    let open = stage.open();
    // A worker takes three: its channel, its pidfd, a listener.
    stage.kernel.borrow_mut().fds_max = open + FDS_SPARE + 7;
    let refused = ask(&mut stage, 1, Command::ScaleTo(8));
    let [(1, Answer { ok: false, code: 1, text, .. })] = &refused[..] else {
        panic!("{refused:?}")
    };
    assert!(text.contains("suffice for 4 workers, not for 8; nothing has changed"), "{text}");
    assert_eq!((stage.open(), stage.processes()), (open, 2));
    assert_eq!(ask(&mut stage, 2, Command::ScaleTo(4)), []);
    assert_eq!((stage.open(), stage.processes()), (open + 6, 4));
}

#[test]
fn no_listener_is_made_when_its_worker_could_not_be_forked() {
    let mut stage = Stage::ready(Mode::Shared, 1, &[]);
    assert_eq!(ask(&mut stage, 1, Command::ScaleTo(2)), []);
    let queues = stage.kernel.borrow().queues.len();
    // The slot is new, and descriptors run out between the answer and the fork.
    let now = stage.kernel.borrow().now;
    let epoch = stage.master.ops.epochs.current();
    stage.kernel.borrow_mut().fds_max = stage.open() + 3;
    stage.master.workers.unpark(2, epoch, now);
    stage.settle();
    assert_eq!(stage.kernel.borrow().queues.len(), queues, "nobody would read it");
    let log = stage.log().join("\n");
    assert!(log.contains("slot=2"), "{log}");
}

#[test]
fn a_mode_whose_listeners_have_no_descriptors_is_refused() {
    let mut stage = Stage::ready(Mode::Centralized, 2, &[]);
    let open = stage.open();
    stage.kernel.borrow_mut().fds_max = open + FDS_SPARE;
    let refused = ask(&mut stage, 1, Command::SetMode(config::Mode::Shared));
    let [(1, Answer { ok: false, text, .. })] = &refused[..] else { panic!("{refused:?}") };
    assert!(text.contains("RLIMIT_NOFILE"), "{text}");
    assert_eq!((stage.open(), stage.processes()), (open, 2));
}
