//! Workers that hang, stopped or in a handler that does not return: who else waits is served by
//! others, what they had not begun is answered once, and they are replaced.

use crate::client::{Client, PATIENCE};
use crate::harness::Case;
use crate::raw::signal;
use crate::server::{Server, Stopwatch, eventually, folder, pause};
use ringfort::admin::client::ask;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("hang::shared::a_stopped_worker_keeps_nobody_waiting", || stopped("shared")),
    ("hang::centralized::a_stopped_worker_keeps_nobody_waiting", || stopped("centralized")),
    ("hang::shared::a_stopped_worker_is_replaced", || replaced("shared")),
    ("hang::centralized::a_stopped_worker_is_replaced", || replaced("centralized")),
    ("hang::an_endless_handler_costs_its_worker", || endless("/spin")),
    ("hang::a_blocked_handler_costs_its_worker", || endless("/block")),
    ("hang::shared::nobody_is_shot_by_a_master_that_was_stopped", || stopped_master("shared")),
    ("hang::centralized::nobody_is_shot_by_a_master_that_was_stopped", || {
        stopped_master("centralized");
    }),
    ("hang::a_timeout_of_zero_waits_for_ever", never),
    ("hang::shared::what_it_holds_and_has_not_begun_is_served_by_others", || fresh("shared")),
    ("hang::centralized::what_it_holds_and_has_not_begun_is_served_by_others", || {
        fresh("centralized");
    }),
    ("hang::a_dump_says_what_a_worker_that_hangs_is_at", dump),
];

/// Nobody waits longer, whatever became of a worker.
const DETECTION: Duration = Duration::from_secs(2);

/// So many clients connect and ask, and each is answered in time: by whom.
fn all_are_served(server: &Server, count: usize) -> Vec<(Client, u32)> {
    let mut clients: Vec<(Client, Stopwatch)> = (0..count)
        .map(|_| {
            let began = Stopwatch::start();
            let mut client = server.connect();
            client.ask("/workers").expect("it listens");
            (client, began)
        })
        .collect();
    let mut longest = Duration::ZERO;
    for (client, began) in &mut clients {
        let reply = client.reply().expect("who hangs had not begun it");
        assert_eq!(reply.status, 200, "{reply:?}");
        longest = longest.max(began.elapsed());
        assert!(began.elapsed() <= DETECTION, "{:?}", began.elapsed());
    }
    println!("{count} were served within {longest:?}");
    let pid = |client: &mut Client| client.get("/workers").expect("it goes on there").pid();
    clients
        .into_iter()
        .map(|(mut client, _)| (pid(&mut client), client))
        .map(|(p, c)| (c, p))
        .collect()
}

/// It is stopped with connections that idle, is avoided, and continued before it is struck.
fn stopped(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 4 --watchdog-timeout 8s"));
    server.await_ready(4);
    let victim = server.workers()[1];
    let mut known = all_are_served(&server, 32);
    pause(victim);
    let mut served = all_are_served(&server, 64);
    assert!(served.iter().all(|(_, pid)| *pid != victim), "it is stopped");
    // From here on nobody waits for it at all.
    for _ in 0..8 {
        let began = Stopwatch::start();
        assert_eq!(server.connect().get("/plaintext").expect("it is avoided").status, 200);
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }
    assert!(server.log().contains("worker is late: slot="), "{}", server.log());
    signal(victim, libc::SIGCONT);
    server.await_log("worker turns again");
    // Who was served by another gets nothing from it: not an answer more, not an end.
    for (client, pid) in served.iter_mut() {
        assert!(client.is_silent_for(Duration::from_millis(2)), "answered twice");
        assert_eq!(client.get("/workers").expect("its connection is whole").pid(), *pid);
    }
    // Those that it had before are its own still.
    for (client, pid) in &mut known {
        assert_eq!(client.get("/workers").expect("its connection is whole").pid(), *pid);
    }
    eventually("connections of its own again", PATIENCE, || {
        (server.connect().get("/workers").ok()?.pid() == victim).then_some(())
    });
    drop((known, served));
    check_end(server, "killed=0", mode);
}

/// The books of a pool in which nobody was cut.
#[track_caller]
fn check_end(server: Server, says: &str, mode: &str) {
    signal(server.pid(), libc::SIGTERM);
    let books = server.books();
    books.check();
    let log = server.log();
    assert!(log.contains(says), "{log}");
    assert_eq!(books.get("rescued") > 0, mode == "centralized", "{log}");
}

/// It has nothing open, and somebody waits for it.
fn replaced(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 4"));
    server.await_ready(4);
    let victim = server.workers()[2];
    pause(victim);
    let began = Stopwatch::start();
    drop(all_are_served(&server, 64));
    server.await_log("it hung for watchdog_timeout");
    server.await_ready(5);
    println!("replaced after {:?}", began.elapsed());
    assert!(began.elapsed() <= Duration::from_secs(5), "{:?}", began.elapsed());
    let log = server.log();
    let report = log.lines().find(|line| line.contains(&format!("pid={victim} stopped for ")));
    assert!(report.is_some_and(|report| report.contains(" arrivals=")), "its state: {log}");
    let end = log.lines().find(|line| line.contains(&format!("pid={victim} killed by the master")));
    assert!(end.is_some_and(|end| end.contains("watchdog: no tick for ")), "{log}");
    check_end(server, "killed=1", mode);
}

/// One request that never ends; everybody else is served, and its worker is aborted.
fn endless(path: &str) {
    let server = Server::bad("--mode centralized --workers 2");
    server.await_ready(2);
    let mut client = server.connect();
    let victim = client.get("/workers").unwrap().pid();
    let began = Stopwatch::start();
    client.ask(path).unwrap();
    drop(all_are_served(&server, 16));
    let died = eventually("its end", 2 * PATIENCE, || {
        server.log().lines().find(|line| line.contains("worker died")).map(str::to_owned)
    });
    assert!(died.contains("watchdog: no tick for ") && died.contains("SIGABRT"), "{died}");
    assert!(died.contains(&format!("pid={victim} ")), "{died}");
    server.await_ready(3);
    println!("replaced after {:?}", began.elapsed());
    // One that computes is struck for the time that it had on a CPU.
    let most = Duration::from_secs(if path == "/spin" { 20 } else { 5 });
    assert!(began.elapsed() <= most, "{:?}", began.elapsed());
    assert!(client.is_closed());
    let log = server.log();
    let report = log.lines().find(|line| line.contains("worker hangs")).expect("it is reported");
    assert!(
        report.contains("active=1") && report.contains(&format!("handles GET {path}")),
        "{log}"
    );
}

/// It holds connections whose clients had not said anything when it began to hang: others answer
/// them when it is dead. What it had answered before is cut with it.
fn fresh(mode: &str) {
    let options = format!("--mode {mode} --workers 2 --watchdog-timeout 2s --head-timeout 60s");
    let server = Server::bad(&options);
    server.await_ready(2);
    // Both have some of these, whoever the kernel gives them to.
    let mut known: Vec<(Client, u32)> = Vec::new();
    let mut fresh = Vec::new();
    while known.len() < 16 || known.iter().all(|(_, pid)| *pid == known[0].1) {
        // Two and one: so that workers who take turns get some of both.
        fresh.extend([server.connect(), server.connect()]);
        let mut client = server.connect();
        let pid = client.get("/workers").expect("it serves").pid();
        known.push((client, pid));
    }
    let (mut hangs, victim) = known.remove(0);
    hangs.ask("/block").expect("it is open");
    server.await_log("worker is late");
    for client in &mut fresh {
        client.ask("/workers").expect("it is open");
    }
    for client in &mut fresh {
        assert_ne!(client.reply().expect("somebody else has it").pid(), victim);
    }
    let log = server.log();
    assert!(log.contains("worker aborted: slot=") && !log.contains("not begun, for others: 0"));
    assert!(log.contains("connections that a worker had not begun given to others"), "{log}");
    assert!(hangs.is_closed());
    for (client, pid) in &mut known {
        let lives = *pid != victim;
        assert_eq!(client.get("/workers").is_ok(), lives, "{pid} {victim}");
    }
    let cut = 1 + known.iter().filter(|(_, pid)| *pid == victim).count() as u64;
    drop((known, fresh, hangs));
    signal(server.pid(), libc::SIGTERM);
    let books = server.books();
    books.check();
    assert_eq!(books.get("worker_died"), cut, "{books:?}");
    assert!(books.get("rescued") > 0, "{books:?}");
}

/// Longer than any worker may hang; each has a request that is not answered, and one that idles.
fn stopped_master(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    let mut known = all_are_served(&server, 8);
    for (client, _) in &mut known[..4] {
        client.ask("/slow?ms=10500").unwrap();
    }
    pause(server.pid());
    std::thread::park_timeout(Duration::from_secs(10));
    signal(server.pid(), libc::SIGCONT);
    let more = all_are_served(&server, 8);
    for (client, pid) in &mut known {
        if let Err(error) = client.get("/workers") {
            panic!("{pid}: {error}");
        }
    }
    drop((known, more));
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("worker is late") && !log.contains("worker hangs"), "{log}");
    assert!(log.contains("deaths=2 killed=0"), "{log}");
}

/// A worker with a connection in each state hangs in a handler: the board says so, the kernel says
/// the rest.
fn dump() {
    let name = folder().join("control").display().to_string();
    let options = format!("--mode centralized --workers 1 --watchdog-timeout 60s --control {name}");
    let server = Server::bad(&options);
    server.await_ready(1);
    let ask = || {
        let reply = ask(&name, "dump", PATIENCE).expect("the master answers");
        assert!(reply.ok, "{}", reply.line);
        reply.json["workers"][0].as_str().expect("one worker").to_owned()
    };
    let mut idle: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/workers").unwrap().status, 200);
    }
    let mut reading = server.connect();
    reading.send(b"GET /workers HT").unwrap();
    eventually("one that is reading", PATIENCE, || {
        let says = ask();
        says.contains(" idle=2 reading=1 answering=0 writing=0 ").then_some(())
    });
    let mut hangs = server.connect();
    hangs.ask("/block?secret").unwrap();
    let says = eventually("the request in the handler", PATIENCE, || {
        let says = ask();
        says.contains("handles GET /block,").then_some(says)
    });
    println!("{says}");
    let pid = server.workers()[0];
    assert!(says.contains(&format!(" pid {pid} ")) && says.contains(" open=4 active=1 "), "{says}");
    assert!(says.contains("blocked for ") && says.contains("in the kernel: "), "{says}");
    assert!(!says.contains("secret"), "{says}");
    signal(pid, libc::SIGKILL);
    server.await_ready(2);
    assert_eq!(server.stop().0, Some(0));
}

fn never() {
    let server = Server::start("--mode centralized --workers 2 --watchdog-timeout 0s");
    server.await_ready(2);
    let victim = server.workers()[0];
    pause(victim);
    let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.ask("/workers").unwrap();
    }
    let waits = |client: &mut Client| client.is_silent_for(Duration::from_millis(500));
    let mut waiting: Vec<&mut Client> =
        clients.iter_mut().filter_map(|client| waits(client).then_some(client)).collect();
    assert_eq!(waiting.len(), 4, "half of them, each for so long");
    assert!(!server.log().contains("worker is late"));
    signal(victim, libc::SIGCONT);
    for client in &mut waiting {
        assert_eq!(client.reply().unwrap().pid(), victim);
    }
}
