//! A pool without room: who waits, who is told 503, and that room comes back.

use crate::client::{Client, PATIENCE};
use crate::harness::Case;
use crate::raw::signal;
use crate::server::{Server, Stopwatch, eventually, pause};
use ringfort::sys::process;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("full::shared::arrivals_wait_and_are_refused_when_too_old", || waits("shared")),
    ("full::centralized::arrivals_wait_and_are_refused_when_too_old", || waits("centralized")),
    ("full::shared::arrivals_get_the_room_that_comes_back", || room_again("shared")),
    ("full::centralized::arrivals_get_the_room_that_comes_back", || room_again("centralized")),
    ("full::centralized::more_than_may_wait_are_refused_at_once", too_many),
    ("full::shared::many_idle_hinder_nobody", || many_idle("shared")),
    ("full::centralized::many_idle_hinder_nobody", || many_idle("centralized")),
];

fn fill(server: &Server, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/plaintext").expect("there is room").status, 200);
    }
    clients
}

/// The whole 503, and then the end: no reset may destroy it on its way.
fn check_refused(client: &mut Client) {
    let reply = client.reply().expect("an answer that can be read");
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.text(), "Service unavailable\n");
    assert_eq!(client.rest().expect("no reset"), b"");
}

fn waits(mode: &str) {
    let options = "--workers 1 --connections-max 4 --pending-timeout 300ms";
    let server = Server::start(&format!("--mode {mode} {options}"));
    server.await_ready(1);
    let mut room = fill(&server, 4);
    let began = Stopwatch::start();
    let mut more: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut more {
        client.ask("/plaintext").unwrap();
    }
    for client in &mut more {
        check_refused(client);
    }
    let took = began.elapsed();
    assert!((250..1500).contains(&took.as_millis()), "{took:?}");
    // Who is in is served all the time.
    for client in &mut room {
        assert_eq!(client.get("/plaintext").unwrap().status, 200);
    }
    let mut server = server;
    signal(server.pid(), libc::SIGTERM);
    assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
    let books = server.books();
    books.check();
    assert_eq!((books.get("accepted"), books.get("pending_timeout")), (8, 4), "{books:?}");
}

fn room_again(mode: &str) {
    let options = "--workers 1 --connections-max 4 --pending-timeout 60s";
    let server = Server::start(&format!("--mode {mode} {options}"));
    server.await_ready(1);
    let room = fill(&server, 4);
    let mut more: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut more {
        client.ask("/plaintext").unwrap();
    }
    assert!(more[0].is_silent_for(Duration::from_millis(100)), "there was no room");
    drop(room);
    for client in &mut more {
        assert_eq!(client.reply().unwrap().status, 200);
    }
}

/// What arrives while as many wait as may is the kernel's to keep. What one pass of the master
/// finds is another matter: it is accepted already, and told.
fn too_many() {
    let options = "--workers 1 --connections-max 2 --pending-max 3 --pending-timeout 60s";
    let server = Server::start(&format!("--mode centralized {options}"));
    server.await_ready(1);
    let room = fill(&server, 2);
    pause(server.pid());
    let mut arrivals: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut arrivals {
        client.ask("/plaintext").unwrap();
    }
    signal(server.pid(), libc::SIGCONT);
    for client in &mut arrivals[3..] {
        check_refused(client);
    }
    drop(room);
    // The room of one is the next one's.
    for mut client in arrivals.drain(..3) {
        assert_eq!(client.reply().unwrap().status, 200);
    }
}

fn many_idle(mode: &str) {
    process::raise_nofile().expect("up to the hard limit anybody may");
    let server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    let idle: Vec<Client> = (0..500).map(|_| server.connect()).collect();
    let mut busy = fill(&server, 32);
    for _ in 0..50 {
        for client in &mut busy {
            client.ask("/plaintext").unwrap();
        }
        for client in &mut busy {
            assert_eq!(client.reply().unwrap().text(), "Hello, World!");
        }
    }
    let open = |client: &mut Client| {
        let status = client.get("/workers").expect("it serves").text();
        let counts = status.split("\"connections\":").skip(1);
        let count = |text: &str| text.split([',', '}']).next().map(str::to_owned);
        counts.filter_map(count).map(|n| n.parse::<usize>().expect("a number")).sum::<usize>()
    };
    let mut one = busy.pop().expect("there are 32");
    eventually("all of them are counted", PATIENCE, || (open(&mut one) == 532).then_some(()));
    drop((idle, busy));
    eventually("all slots are free again", PATIENCE, || (open(&mut one) == 1).then_some(()));
}
