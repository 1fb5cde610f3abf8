//! The end of a pool and of one worker: what runs is finished, what idles is let go, what is stuck
//! is cut in time; and the books agree with what the clients counted.

use crate::client::{Client, PATIENCE};
use crate::harness::Case;
use crate::load::{Clients, go_on_for, under_load};
use crate::raw::signal;
use crate::server::{Server, Stopwatch, gone, port_is_free, state};
use std::io::ErrorKind;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("drain::shared::what_runs_is_finished_and_the_port_is_free", || finishes("shared")),
    ("drain::centralized::what_runs_is_finished_and_the_port_is_free", || finishes("centralized")),
    ("drain::shared::under_load_nobody_is_cut", || under_fire("shared")),
    ("drain::centralized::under_load_nobody_is_cut", || under_fire("centralized")),
    ("drain::shared::idle_connections_are_let_go", || idle("shared")),
    ("drain::centralized::idle_connections_are_let_go", || idle("centralized")),
    ("drain::shared::a_stuck_client_is_cut_in_time", || stuck("shared")),
    ("drain::centralized::a_stuck_client_is_cut_in_time", || stuck("centralized")),
    ("drain::shared::a_second_signal_means_now", || second("shared")),
    ("drain::centralized::a_second_signal_means_now", || second("centralized")),
    ("drain::int_and_quit_drain_too", int_and_quit),
    ("drain::shared::term_to_a_worker_drains_that_one", || one_worker("shared")),
    ("drain::centralized::term_to_a_worker_drains_that_one", || one_worker("centralized")),
    ("drain::the_books_agree_with_the_clients", books),
];

fn slow_clients(server: &Server, count: usize, ms: u32) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        // The first answer says that the connection is adopted; the second is under way.
        assert_eq!(client.get("/plaintext").expect("an answer").status, 200);
        client.ask(&format!("/slow?ms={ms}")).expect("it is open");
    }
    clients
}

/// Whole answers to all that was asked.
fn check_answered(clients: Vec<Client>, ms: u32) {
    for mut client in clients {
        let reply = client.reply().expect("it was under way");
        assert_eq!((reply.status, reply.text()), (200, format!("{ms} ms later\n")));
        assert_eq!(reply.header("connection"), Some("close"), "{reply:?}");
        assert!(client.is_closed());
    }
}

fn finishes(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    let (address, workers) = (server.address(), server.workers());
    let clients = slow_clients(&server, 50, 400);
    signal(server.pid(), libc::SIGTERM);
    let began = Stopwatch::start();
    check_answered(clients, 400);
    let (mut server, log) = (server, String::new());
    assert_eq!(server.exit_code(PATIENCE), Some(0), "{log}{}", server.log());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    gone(&workers, Duration::ZERO);
    port_is_free(address, Duration::ZERO);
    let books = server.books();
    books.check();
    assert_eq!((books.get("served"), books.get("cut")), (50, 0), "{books:?}");
}

/// TERM while clients ask without pause. What was accepted is served; what comes later is refused
/// by the kernel.
fn under_fire(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    let clients = slow_clients(&server, 8, 300);
    let load = Clients { steady: 6, short: 4 };
    let (mut server, tally) = under_load(server.address(), load, || {
        go_on_for(Duration::from_millis(100));
        let mut server = server;
        signal(server.pid(), libc::SIGTERM);
        check_answered(clients, 300);
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
        server
    });
    let count = |kind| tally.failures.iter().filter(|failure| failure.error.kind() == kind).count();
    let (late, reset) = (count(ErrorKind::ConnectionRefused), count(ErrorKind::ConnectionReset));
    println!("answered={} refused by the kernel={late} reset by it={reset}", tally.answered);
    assert_eq!(tally.failures.len(), late + reset, "{:?}", tally.failures);
    // Between the last accept from a listener and its close the kernel takes arrivals of its own
    // accord, and the close resets them: at most once a client, which is refused from then on.
    assert!(reset <= load.steady + load.short, "{reset}");
    assert!(tally.closed.is_empty() && tally.refused == 0, "{:?}", tally.closed);
    assert_eq!(server.exit_code(Duration::ZERO), Some(0));
    let books = server.books();
    books.check();
    assert_eq!((books.get("cut"), books.get("refused")), (0, 0), "{books:?}");
}

fn idle(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    let mut clients: Vec<Client> = (0..32).map(|_| server.connect()).collect();
    for client in clients.iter_mut().step_by(2) {
        assert_eq!(client.get("/plaintext").unwrap().status, 200);
    }
    let began = Stopwatch::start();
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(clients.iter_mut().all(Client::is_closed));
}

/// One that asked for much and reads nothing, one that has sent half a request, one that waits for
/// longer than the drain may take.
fn stuck(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 2 --drain-timeout 500ms"));
    server.await_ready(2);
    let mut deaf = server.connect();
    for _ in 0..200 {
        deaf.ask("/big").unwrap();
    }
    let mut half = server.connect();
    half.send("GET / HT").unwrap();
    let mut late = server.connect();
    late.ask("/slow?ms=60000").unwrap();
    // Both workers have seen all of it when each has answered another.
    for _ in 0..8 {
        server.connect().get("/plaintext").unwrap();
    }
    let mut server = server;
    let began = Stopwatch::start();
    signal(server.pid(), libc::SIGTERM);
    // Cut connections are no clean end.
    assert_eq!(server.exit_code(PATIENCE), Some(1), "{}", server.log());
    let took = began.elapsed();
    let (least, most) = (Duration::from_millis(450), Duration::from_millis(1000));
    assert!((least..most).contains(&took), "{took:?}");
    late.reply().unwrap_err();
    let books = server.books();
    books.check();
    assert!(books.get("drain_deadline") >= 2, "{books:?}");
    assert_eq!(books.get("killed"), 0, "workers end by themselves: {books:?}");
}

fn second(mode: &str) {
    let mut server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    let (address, workers) = (server.address(), server.workers());
    let mut clients = slow_clients(&server, 4, 60_000);
    signal(server.pid(), libc::SIGTERM);
    server.await_log("draining");
    let began = Stopwatch::start();
    signal(server.pid(), libc::SIGTERM);
    assert_eq!(server.exit_code(PATIENCE), Some(1), "{}", server.log());
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    gone(&workers, Duration::ZERO);
    port_is_free(address, Duration::from_millis(500));
    assert!(clients.iter_mut().all(Client::is_closed));
}

fn int_and_quit() {
    for number in [libc::SIGINT, libc::SIGQUIT] {
        let mut server = Server::start("--workers 2");
        server.await_ready(2);
        let workers = server.workers();
        let clients = slow_clients(&server, 4, 200);
        // Ctrl-C reaches the whole group.
        workers.iter().for_each(|pid| signal(*pid, number));
        signal(server.pid(), number);
        check_answered(clients, 200);
        assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
    }
}

/// Its successor does not wait for its end, and nobody waits for it.
fn one_worker(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    let drained = server.workers()[0];
    let load = Clients { steady: 4, short: 4 };
    // The kernel spreads them by chance: of so many each worker gets some.
    let clients = slow_clients(&server, 24, 1000);
    let ((), tally) = under_load(server.address(), load, || {
        signal(drained, libc::SIGTERM);
        server.await_ready(3);
        assert!(state(drained).is_some(), "it has clients that wait for their answers");
        for _ in 0..16 {
            let began = Stopwatch::start();
            let reply = server.connect().get("/workers").expect("somebody serves");
            assert_ne!(reply.pid(), drained);
            assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        }
        for mut client in clients {
            assert_eq!(client.reply().expect("it was under way").text(), "1000 ms later\n");
        }
        gone(&[drained], PATIENCE);
    });
    tally.is_clean();
    // Not even the connections that it had: they went on with its successor.
    assert!(tally.closed.is_empty(), "{tally:?}");
    assert_eq!(tally.reopened, 0, "{tally:?}");
    let line = server.await_log(&format!("worker ended: slot=0 pid={drained} exit code 0"));
    assert!(line.contains("open=0"), "{line}");
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
}

/// Kills under load, and then the end: every connection that a client opened is in the books, and
/// stands there for what the client saw.
fn books() {
    let server = Server::start("--mode centralized --workers 3");
    server.await_ready(3);
    let load = Clients { steady: 6, short: 6 };
    let (killed, tally) = under_load(server.address(), load, || {
        let mut killed = Vec::new();
        for round in 0..3 {
            go_on_for(Duration::from_millis(100));
            killed.push(server.workers()[0]);
            signal(killed[round], libc::SIGKILL);
            server.await_ready(4 + round);
        }
        go_on_for(Duration::from_millis(100));
        killed
    });
    let mut server = server;
    signal(server.pid(), libc::SIGTERM);
    assert_eq!(server.exit_code(PATIENCE), Some(0), "{}", server.log());
    let books = server.books();
    let lost = (tally.failures.len() + tally.closed.len()) as u64;
    println!("connected={} lost={lost} {books:?}", tally.connected);
    books.check();
    assert_eq!(books.get("accepted"), tally.connected);
    assert_eq!((books.get("refused"), books.get("open")), (0, 0));
    assert_eq!(books.get("deaths"), 3 + killed.len() as u64);
    // A connection whose answer was out when its worker died is cut in the books, and whole to its
    // client.
    assert!(lost <= books.get("worker_died"), "lost {lost}: {tally:?}");
    let aborted = books.get("client_aborted") + books.get("reset");
    assert_eq!(books.get("cut"), books.get("worker_died") + aborted);
    assert_eq!(books.get("served") + books.get("cut"), tally.connected);
}
