//! Workers whose loop does not turn: who is asked, avoided, struck, and what becomes of what they
//! had not begun.

use super::*;

const FIVE: &[(&str, &str)] = &[("watchdog_timeout", "5s")];

/// Its loop turns, now.
fn tick(stage: &Stage, process: usize) {
    let kernel = stage.kernel.borrow();
    let line = stage.board.line(kernel.processes[process].line);
    line.set_tick(line.tick() + 1);
}

fn heard(stage: &mut Stage, process: usize) -> Vec<String> {
    stage.receive(process);
    stage.kernel.borrow().processes[process].heard.clone()
}

/// Time passes, in which only these turn.
fn pass(stage: &mut Stage, time: u64, turning: &[usize]) {
    for _ in 0..time / 50 {
        for &process in turning {
            stage.receive(process);
            tick(stage, process);
        }
        stage.pass_time(millis(50));
    }
}

#[test]
fn what_a_worker_that_hangs_has_not_begun_is_served_by_another_and_only_there() {
    let mut stage = Stage::ready(Mode::Centralized, 2, FIVE);
    for _ in 0..4 {
        stage.connect(0);
    }
    stage.settle();
    stage.receive(0);
    for _ in 0..6 {
        stage.connect(0);
    }
    stage.settle();
    assert_eq!(stage.inbox(0), 3, "it hangs with two, and three on their way");
    pass(&mut stage, 1100, &[1]);
    assert_eq!(stage.kernel.borrow().processes[1].has.len(), 8);
    // Nothing new goes to it.
    for _ in 0..4 {
        stage.connect(0);
    }
    pass(&mut stage, 100, &[1]);
    assert_eq!((stage.inbox(0), stage.kernel.borrow().processes[1].has.len()), (3, 12));
    // It goes on: nothing of what waits is its own, and then it is like any other.
    pass(&mut stage, 600, &[0, 1]);
    assert_eq!((stage.inbox(0), stage.kernel.borrow().processes[0].has.len()), (0, 2));
    stage.connect(0);
    stage.settle();
    assert_eq!(stage.inbox(0), 1);
    let log = stage.log().join("\n");
    assert!(log.contains("worker is late: slot=0") && log.contains("given to others: 3"), "{log}");
    assert!(log.contains("worker turns again: slot=0"), "{log}");
    stage.receive(0);
    stage.signal(TERM);
    let report = end(&mut stage);
    assert_eq!((report.accepted, report.served, report.rescued), (15, 15, 3));
    assert_eq!(report.redispatched, 0);
}

#[test]
fn its_listener_is_read_by_the_master_while_it_hangs() {
    let mut stage = Stage::ready(Mode::Shared, 2, FIVE);
    pass(&mut stage, 1000, &[0, 1]);
    pass(&mut stage, 1000, &[]);
    assert_eq!(stage.readers(), "poll poll", "they sleep: who comes wakes the master too");
    let now = stage.kernel.borrow().now;
    assert_eq!(stage.master.next_deadline(now), None, "nobody is looked at");
    stage.connect(0);
    pass(&mut stage, 500, &[1]);
    assert_eq!(stage.inbox(1), 0, "it is given time");
    pass(&mut stage, 600, &[1]);
    assert_eq!(stage.kernel.borrow().processes[1].has.len(), 1);
    assert_eq!(stage.readers().split(' ').next(), Some("poll"));
    pass(&mut stage, 500, &[0, 1]);
    let log = stage.log().join("\n");
    assert!(log.contains("worker turns again: slot=0"), "{log}");
    stage.connect(0);
    pass(&mut stage, 100, &[1]);
    assert_eq!(stage.inbox(1), 0, "it is the worker's again");
}

#[test]
fn it_is_asked_reported_aborted_and_killed_and_then_replaced() {
    let mut stage = Stage::ready(Mode::Centralized, 2, FIVE);
    stage.connect(0);
    stage.settle();
    stage.receive(0);
    pass(&mut stage, 5500, &[1]);
    assert!(!stage.is_alive(0), "it has an open connection, and does not turn");
    assert!(stage.is_alive(1));
    let log = stage.log();
    let said = [
        "worker is late: slot=0",
        "worker hangs: slot=0",
        "worker aborted: slot=0",
        "worker killed: slot=0",
    ];
    let places = said.map(|text| log.iter().position(|line| line.contains(text)));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{log:?}");
    assert_eq!(heard(&mut stage, 0), ["ABRT", "ping"]);
    assert_eq!(stage.processes(), 3, "a successor");
}

/// A pass that ended after its worker's was revoked: the worker saw it before, or never will.
#[test]
fn what_was_being_passed_when_it_was_revoked_goes_to_one_of_both() {
    let arrival = |raw| ledger::Arrival {
        fd: Fd::new(raw),
        listener: 0,
        at: Instant::default(),
        carried: None,
    };
    for claimed in [false, true] {
        let line = crate::ipc::board::Line::detached();
        let mut books = Ledger::default();
        books.begin(0);
        assert!(!claimed || line.claim(2));
        assert_eq!(books.revoke(0, line.revoke()).len(), 0);
        let back = books.hand_over(0, [arrival(1), arrival(2)].into_iter());
        assert_eq!((back.len(), books.handed(0)), if claimed { (0, 2) } else { (2, 0) });
        assert_eq!(books.waits(0, line.seen()), !claimed);
        assert!(claimed || !line.claim(2));
        assert!(!books.waits(0, line.seen()));
    }
}
