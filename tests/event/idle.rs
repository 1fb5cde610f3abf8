//! What a worker does while nobody wants anything: nothing.

use crate::harness::Case;
use crate::loops::start;
use crate::server::{Server, eventually};
use std::fs;
use std::time::Duration;

pub(crate) const CASES: &[Case] =
    &[("idle::p5_an_idle_worker_is_never_scheduled", p5_an_idle_worker_is_never_scheduled)];

/// How often a process gave up the CPU because it had nothing to do, or was made to.
fn switches(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let lines = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
    lines.map(|(_, count)| count.trim().parse::<u64>().expect("a number")).sum()
}

/// The worker of a server that has answered, and sleeps.
fn idle_worker(server: &Server) -> u32 {
    assert_eq!(server.connect().get("/").expect("an answer").status, 200);
    let pid = *server.workers().first().expect("it has one");
    eventually("a worker that sleeps", Duration::from_secs(10), || {
        let before = switches(pid);
        std::thread::park_timeout(Duration::from_millis(500));
        (switches(pid) == before).then_some(pid)
    })
}

/// Theirs: master and workers woke up a thousand times a second.
fn p5_an_idle_worker_is_never_scheduled() {
    let mut servers = Vec::new();
    for kind in ["loop", "poll", "async"] {
        for mode in ["shared", "centralized"] {
            servers.push((kind, mode, start(kind, mode, "")));
        }
    }
    let workers: Vec<u32> = servers.iter().map(|(.., server)| idle_worker(server)).collect();
    let before: Vec<u64> = workers.iter().map(|pid| switches(*pid)).collect();
    // The span that is promised: it is what is measured, not a delay.
    for _ in 0..10 {
        println!("a second more");
        std::thread::park_timeout(Duration::from_secs(1));
    }
    for ((kind, mode, server), (pid, before)) in servers.iter().zip(workers.iter().zip(before)) {
        assert_eq!(switches(*pid) - before, 0, "{kind}, {mode}");
        assert_eq!(server.connect().get("/").expect("an answer").status, 200);
    }
}
