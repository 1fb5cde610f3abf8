//! Limits of the pool: connections, waiting, messages, boot, drain, descriptors.

use crate::client::Client;
use crate::harness::Case;
use crate::server::{Plan, SOON, Server, now, since};
use ringfort::stats::{CloseReason, Counter};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("pool::a_full_worker_makes_clients_wait", connections_max),
    ("pool::too_many_wait", pending_max),
    ("pool::waiting_too_long", pending_timeout),
    ("pool::a_full_worker_of_its_own_listener", connections_max_shared),
    ("pool::a_bad_message_of_a_worker_ends_that_worker", bad_messages),
    ("pool::a_strange_but_valid_message_is_read_over", strange_messages),
    ("pool::a_worker_that_never_boots_is_killed_and_replaced", boot_timeout),
    ("pool::a_pool_without_workers_ends_with_the_reason", boot_failure),
    ("pool::the_backlog_is_as_long_as_it_was_set", backlog),
    ("pool::a_drain_finishes_what_runs", drain),
    ("pool::a_drain_ends_at_its_deadline", drain_deadline),
    ("pool::out_of_descriptors", descriptors),
    ("pool::a_panic_costs_one_connection", panic),
];

/// The 503 of the master, and the close.
#[track_caller]
fn is_refused(client: &mut Client) {
    let answer = client.last_answer();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert_eq!(answer.field("connection"), Some("close"));
}

const FULL: [(&str, &str); 2] = [("mode", "centralized"), ("connections_max", "2")];

/// Two clients that are served, and so fill the only worker.
fn fill(server: &mut Server) -> [Client; 2] {
    let clients = [(); 2].map(|()| {
        let mut client = server.connect();
        client.get("/");
        assert_eq!(client.answer().status, 200);
        client
    });
    assert_eq!(server.open(), 2);
    clients
}

fn connections_max() {
    let mut server = Server::start(&FULL);
    let [first, _second] = fill(&mut server);
    let mut third = server.connect();
    third.get("/");
    third.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(third.read().is_err(), "a third was served");
    assert_eq!(server.open(), 2);
    drop(first);
    third.stream.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(third.answer().status, 200);
    let books = server.stop();
    assert_eq!((books.get("accepted"), books.get("served")), (3, 3));
}

fn pending_timeout() {
    let settings = [FULL[0], FULL[1], ("pending_timeout", "400ms")];
    let mut server = Server::start(&settings);
    let [mut first, _second] = fill(&mut server);
    let start = now();
    let mut third = server.connect();
    third.get("/");
    is_refused(&mut third);
    assert!(since(start) >= Duration::from_millis(400), "{:?}", since(start));
    assert!(since(start) < SOON / 2, "{:?}", since(start));
    drop(third);
    server.event("answered with 503: 1");
    // Who is served notices nothing.
    first.get("/");
    assert_eq!(first.answer().status, 200);
    assert_eq!(server.stop().get("pending_timeout"), 1);
}

fn pending_max() {
    const CLIENTS: usize = 20;
    let settings = [FULL[0], FULL[1], ("pending_max", "3"), ("pending_timeout", "1m")];
    let mut server = Server::start(&settings);
    let full = fill(&mut server);
    // All of them arrive at once.
    server.freeze();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
    server.thaw();
    server.event("answered with 503");
    clients.iter_mut().for_each(|client| client.get("/"));
    // Three wait; who does not has an answer.
    let mut served = 0;
    let mut refused = 0;
    drop(full);
    for mut client in clients {
        let answer = client.answer();
        match answer.status {
            200 => served += 1,
            503 => refused += 1,
            status => panic!("{status}"),
        }
    }
    assert!(served >= 3, "{served} were served");
    assert!(refused > 0, "none was refused");
    let books = server.stop();
    assert_eq!(books.get("pending_max"), refused);
    assert_eq!(books.get("served"), served + 2);
}

/// In shared-socket mode too: nobody waits without end in a queue that nobody reads.
fn connections_max_shared() {
    let settings = [("mode", "shared"), ("connections_max", "2"), ("pending_timeout", "400ms")];
    let mut server = Server::start(&settings);
    let [first, _second] = fill(&mut server);
    let mut third = server.connect();
    third.get("/");
    is_refused(&mut third);
    drop((third, first));
    server.serves();
    assert_eq!(server.stop().get("pending_timeout"), 1);
}

/// The worker says this on its channel. It still answers, is replaced, and nobody else notices.
#[track_caller]
fn check_replaced(mode: &str, say: &str, fault: &str) {
    let mut server = Server::start(&[("mode", mode), ("workers", "2")]);
    let before = server.workers();
    let mut client = server.connect();
    client.get("/pid");
    let pid = client.answer();
    let pid = pid.text().split_off("200 ".len());
    client.get(say);
    assert_eq!(client.answer().text(), "200 said");
    let event = server.event("channel of a worker broken");
    assert!(event.contains(&format!("pid={pid}: bad message: {fault}")), "{event}");
    let event = server.event("worker ready");
    assert!(event.contains("boot="), "{event}");
    server.eventually("two workers, one of them new", |server| {
        let after = server.workers();
        let kept = after.iter().filter(|pid| before.contains(pid)).count();
        (after.len(), kept) == (2, 1)
    });
    assert!(!server.workers().contains(&pid.parse().unwrap()));
    (0..8).for_each(|_| server.serves());
    let books = server.stop();
    assert_eq!((books.get("deaths"), books.get("worker_died")), (3, 0));
}

fn bad_messages() {
    check_replaced("centralized", "/channel?say=json", "not JSON");
    check_replaced("shared", "/channel?say=garbage", "3 bytes where 16 are needed");
    check_replaced("centralized", "/channel?say=ready", "READY twice");
    check_replaced("centralized", "/channel?say=shutdown", "a worker does not say shutdown");
    check_replaced("shared", "/channel?say=long&bytes=5000", "5032 bytes; at most 1024 may be");
    check_replaced("centralized", "/channel?say=long&bytes=100000", "cut, or with descriptors");
    check_replaced("centralized", "/channel?say=descriptors", "cut, or with descriptors");
}

/// What a newer worker or an application may say is no reason to replace it.
fn strange_messages() {
    let mut server = Server::start(&[]);
    let before = server.workers();
    for _ in 0..100 {
        let mut client = server.connect();
        client.get("/channel?say=metrics");
        assert_eq!(client.answer().text(), "200 said");
    }
    assert_eq!(server.workers(), before);
    server.eventually("closed", |server| server.open() == 0);
    assert_eq!(server.stop().get("deaths"), 1);
}

fn boot_timeout() {
    for mode in ["shared", "centralized"] {
        let settings = [("mode", mode), ("workers", "2"), ("boot_timeout", "400ms")];
        let plan = Plan { settings: &settings, hangs: 1, ..Plan::default() };
        let start = now();
        let mut server = Server::with(plan);
        // Also what the kernel gives to the listener of the slot that hangs.
        (0..20).for_each(|_| server.serves());
        let event = server.event("worker killed");
        assert!(event.contains("slot=0"), "{event}");
        assert!(event.contains("not ready within boot_timeout"), "{event}");
        assert!(since(start) >= Duration::from_millis(400), "{:?}", since(start));
        server.event("worker ready: slot=0");
        (0..20).for_each(|_| server.serves());
        let books = server.stop();
        assert_eq!((books.get("deaths"), books.get("killed")), (3, 1));
        assert_eq!((books.get("served"), books.get("refused")), (40, 0));
    }
}

/// A pool of which no worker ever boots ends with the reason, and its clients are told.
fn boot_failure() {
    let settings = [("mode", "centralized"), ("boot_timeout", "200ms")];
    let plan = Plan { settings: &settings, hangs: u32::MAX, ..Plan::default() };
    let server = Server::with(plan);
    let mut early = server.connect();
    early.get("/");
    is_refused(&mut early);
    drop(early);
    let books = server.wait(1);
    assert_eq!((books.get("accepted"), books.get("refused")), (1, 1));
}

fn backlog() {
    const BACKLOG: usize = 4;
    let server = Server::start(&[("mode", "centralized"), ("backlog", "4")]);
    server.freeze();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.port));
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
    // The kernel takes one more than it is told (listen(2), tcp_v4_conn_request).
    let queued: Vec<TcpStream> = (0..=BACKLOG).map(|_| connect().unwrap()).collect();
    assert!(connect().is_err(), "the queue is longer than {BACKLOG}");
    server.thaw();
    for stream in queued {
        let mut client = Client::over(stream);
        client.get("/");
        assert_eq!(client.answer().status, 200);
    }
    server.stop();
}

fn drain() {
    for mode in ["shared", "centralized"] {
        let mut server = Server::start(&[("mode", mode), ("drain_timeout", "10s")]);
        let mut busy: Vec<Client> = (0..20)
            .map(|_| {
                let mut client = server.connect();
                client.get("/slow?ms=300");
                client
            })
            .collect();
        let mut idle = server.connect();
        idle.get("/");
        assert_eq!(idle.answer().status, 200);
        server.eventually("read", |server| server.count(Counter::Requests) == 21);
        let start = now();
        server.terminate();
        assert!(idle.last_answers().is_empty());
        for client in &mut busy {
            let answer = client.last_answer();
            assert_eq!(answer.text(), "200 slow");
            assert_eq!(answer.field("connection"), Some("close"));
        }
        drop((busy, idle));
        let books = server.wait(0);
        assert!(since(start) < SOON / 2, "{:?}", since(start));
        assert_eq!((books.get("served"), books.get("cut")), (21, 0));
        assert_eq!(books.get("drained_served"), 21);
    }
}

fn drain_deadline() {
    let mut server = Server::start(&[("drain_timeout", "400ms")]);
    let mut stuck = server.connect();
    stuck.get("/slow?ms=60000");
    server.eventually("read", |server| server.count(Counter::Requests) == 1);
    let start = now();
    server.terminate();
    let books = server.wait(1);
    assert!(since(start) >= Duration::from_millis(400), "{:?}", since(start));
    assert!(since(start) < SOON / 2, "{:?}", since(start));
    assert_eq!(books.get(CloseReason::DrainDeadline.name()), 1);
    assert_eq!((books.get("drained_cut"), books.get("killed")), (1, 0));
}

/// The reserve answers one, accepting pauses, a counter moves, nothing spins, and it goes on.
fn descriptors() {
    // Its own second at rest is measured before anybody has waited too long.
    let (wait, linger) = (("pending_timeout", "1500ms"), ("linger_timeout", "200ms"));
    let settings = [FULL[0], FULL[1], wait, linger];
    let plan = Plan { settings: &settings, descriptors: Some(80), ..Plan::default() };
    let mut server = Server::with(plan);
    let [mut first, _second] = fill(&mut server);
    let mut clients: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    server.event("out of file descriptors");
    let (start, before) = (now(), server.master_ticks());
    server.eventually("a second later", |_| since(start) > Duration::from_secs(1));
    let ticks = server.master_ticks() - before;
    assert!(ticks < 30, "the master spins: {ticks} hundredths of a second in one");
    first.get("/");
    assert_eq!(first.answer().status, 200);
    // Everybody is told, also those that waited in the kernel.
    for client in &mut clients {
        is_refused(client);
    }
    drop(clients);
    drop(first);
    server.serves();
    let books = server.stop();
    assert!(books.get("master_out_of_fds") > 0, "{books:?}");
    assert_eq!((books.get("refused"), books.get("deaths")), (100, 1), "{books:?}");
}

fn panic() {
    let mut server = Server::start(&[]);
    let before = server.workers();
    let mut other = server.connect();
    other.get("/");
    assert_eq!(other.answer().status, 200);
    let mut client = server.connect();
    client.get("/panic");
    client.get("/marker");
    let answer = client.last_answer();
    assert_eq!((answer.status, answer.field("connection")), (500, Some("close")));
    drop(client);
    server.expect_closed(CloseReason::HandlerPanic, 1);
    assert_eq!(server.count(Counter::HandlerPanics), 1);
    other.get("/");
    assert_eq!(other.answer().status, 200);
    assert_eq!(server.workers(), before);
    server.stop();
}
