//! A master that is killed or stopped, and a worker that is stopped: who goes on, and who ends.

use crate::client::{Client, PATIENCE};
use crate::harness::Case;
use crate::raw::signal;
use crate::server::{Server, Stopwatch, eventually, gone, pause, port_is_free, state};
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("orphans::shared::a_dead_master_ends_its_workers", || dead_master("shared")),
    ("orphans::centralized::a_dead_master_ends_its_workers", || dead_master("centralized")),
    ("orphans::shared::a_hung_worker_goes_with_its_master", || hung("shared")),
    ("orphans::centralized::a_hung_worker_goes_with_its_master", || hung("centralized")),
    ("orphans::a_worker_that_hangs_at_boot_goes_with_its_master", hangs_at_boot),
    ("orphans::shared::a_stopped_master_stops_nobody", || stopped_master("shared")),
    ("orphans::centralized::a_stopped_master_stops_nobody_it_knows", || {
        stopped_master("centralized");
    }),
    ("orphans::centralized::a_stopped_worker_stops_its_own_only", stopped_worker),
];

/// Within which everybody is gone, and the port is free.
const BOUND: Duration = Duration::from_secs(1);

/// What runs and takes less than 750 ms is finished; then everybody is gone.
fn dead_master(mode: &str) {
    let mut server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    let (address, workers) = (server.address(), server.workers());
    let mut clients: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.get("/plaintext").unwrap();
        client.ask("/slow?ms=400").unwrap();
    }
    let mut late = server.connect();
    late.get("/plaintext").unwrap();
    late.ask("/slow?ms=60000").unwrap();
    signal(server.pid(), libc::SIGKILL);
    let killed = Stopwatch::start();
    assert_eq!(server.exit_code(PATIENCE), None, "killed by a signal");
    for client in &mut clients {
        assert_eq!(client.reply().expect("it was under way").text(), "400 ms later\n");
    }
    all_gone(&workers, address, &killed);
    assert!(late.is_closed());
}

fn all_gone(workers: &[u32], address: SocketAddr, killed: &Stopwatch) {
    gone(workers, BOUND.saturating_sub(killed.elapsed()));
    port_is_free(address, BOUND.saturating_sub(killed.elapsed()));
    println!("gone after {:?}", killed.elapsed());
}

/// A handler computes for ever, another waits for ever; a third worker sleeps.
fn hung(mode: &str) {
    let mut server = Server::bad(&format!("--mode {mode} --workers 3 --watchdog-timeout 60s"));
    server.await_ready(3);
    let (address, workers) = (server.address(), server.workers());
    let mut hung = Vec::new();
    for path in ["/spin", "/block"] {
        let mut client = eventually("one that does not hang yet", PATIENCE, || {
            let mut client = server.connect();
            client.ask("/workers").ok()?;
            if client.is_silent_for(Duration::from_millis(300)) {
                return None;
            }
            client.reply().ok()?;
            Some(client)
        });
        client.ask(path).expect("it serves");
        assert!(client.is_silent_for(Duration::from_millis(100)));
        hung.push(client);
    }
    signal(server.pid(), libc::SIGKILL);
    let killed = Stopwatch::start();
    assert_eq!(server.exit_code(PATIENCE), None, "killed by a signal");
    all_gone(&workers, address, &killed);
}

fn hangs_at_boot() {
    let mut server = Server::bad("--mode shared --workers 2 --boot hang");
    let (address, pid) = (server.address(), server.pid());
    let workers = eventually("workers in their boot", PATIENCE, || {
        let workers = server.workers();
        // It sleeps where the application has put it.
        let hang = |pid: &u32| {
            let what = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
            state(*pid) == Some('S') && what.starts_with(&libc::SYS_futex.to_string())
        };
        (workers.len() == 2 && workers.iter().all(hang)).then_some(workers)
    });
    signal(pid, libc::SIGKILL);
    assert_eq!(server.exit_code(PATIENCE), None, "killed by a signal");
    gone(&workers, Duration::from_secs(1));
    port_is_free(address, Duration::from_millis(500));
}

fn stopped_master(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    let mut known: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut known {
        client.get("/plaintext").unwrap();
    }
    pause(server.pid());
    for client in &mut known {
        assert_eq!(client.get("/plaintext").unwrap().status, 200);
    }
    let mut new: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut new {
        client.ask("/plaintext").unwrap();
    }
    if mode == "centralized" {
        assert!(new[0].is_silent_for(Duration::from_millis(100)), "who would have accepted it?");
        signal(server.pid(), libc::SIGCONT);
    }
    for client in &mut new {
        assert_eq!(client.reply().unwrap().status, 200);
    }
    signal(server.pid(), libc::SIGCONT);
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
}

fn stopped_worker() {
    let server = Server::start("--mode centralized --workers 2");
    server.await_ready(2);
    let stopped = server.workers()[0];
    let mut known: Vec<(u32, Client)> = (0..8)
        .map(|_| {
            let mut client = server.connect();
            (client.get("/workers").unwrap().pid(), client)
        })
        .collect();
    pause(stopped);
    let mut waiting = Vec::new();
    for (pid, client) in &mut known {
        client.ask("/plaintext").unwrap();
        if *pid == stopped {
            waiting.push(client);
        } else {
            assert_eq!(client.reply().unwrap().status, 200);
        }
    }
    assert_eq!(waiting.len(), 4, "least connections: half of them");
    assert!(waiting[0].is_silent_for(Duration::from_millis(50)));
    signal(stopped, libc::SIGCONT);
    for client in waiting {
        assert_eq!(client.reply().unwrap().status, 200);
    }
}
