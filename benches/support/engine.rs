//! The engine as an application runs it: a pool with its master.

use super::server::Setup;
use super::sys;
use ringfort::http::{Request, Response};
use ringfort::server::Server;
use ringfort::server::tasks::Call;
use ringfort::{Mode, Pool};
use std::time::Duration;

/// One worker, as the floor. Returns when it was told to stop.
pub(crate) fn serve(setup: &Setup) {
    let hello = |_: &Request<'_>, response: &mut Response| response.text("Hello, World!");
    pool(setup, 1).serve(hello).expect("a free address, and a kernel that can");
}

/// Two workers that say who they are.
pub(crate) fn serve_pids(setup: &Setup) {
    let pids = |_: &_| {
        let name = format!("worker {:010}", std::process::id());
        move |_: &Request<'_>, response: &mut Response| response.text(name.clone())
    };
    pool(setup, 2).serve_with(pids).expect("a free address, and a kernel that can");
}

/// One worker whose requests are futures.
pub(crate) fn serve_async(setup: &Setup) {
    let hello = |_: Call| async {
        let mut response = Response::new();
        response.text("Hello, World!");
        response
    };
    pool(setup, 1).serve_async(move |_| hello).expect("a free address, and a kernel that can");
}

/// One worker whose loop sleeps in the engine.
pub(crate) fn serve_loop(setup: &Setup) {
    let hello = |_: u32, server: &mut Server| {
        while server.wait(None) {
            answer_all(server);
        }
    };
    pool(setup, 1).run_workers(hello).expect("a free address, and a kernel that can");
}

/// One worker whose loop sleeps in epoll.
pub(crate) fn serve_epoll(setup: &Setup) {
    let hello = |_: u32, server: &mut Server| {
        let notify = server.notify_fd().expect("a descriptor");
        let epoll = sys::epoll(&notify).expect("a descriptor");
        while !server.is_done() {
            sys::epoll_wait(&epoll);
            answer_all(server);
        }
    };
    pool(setup, 1).run_workers(hello).expect("a free address, and a kernel that can");
}

fn answer_all(server: &mut Server) {
    while let Some(request) = server.next_request() {
        // Whoever has left needs no answer.
        let _ = server.respond(request.id(), |response| response.text("Hello, World!"));
    }
}

fn pool(setup: &Setup, workers: u32) -> Pool {
    // Room for the 10,000 of the benches, where the machine has it.
    let room = sys::raise_descriptors().expect("Linux").saturating_sub(500).min(12_000);
    Pool::bind(&format!("127.0.0.1:{}", setup.port))
        .mode(if setup.centralized { Mode::Centralized } else { Mode::Shared })
        .workers(workers)
        .limits(|set| {
            let defer = Duration::from_secs(u64::from(setup.defer));
            set.connections_max(room)?.defer_accept(defer)?;
            Ok(())
        })
}
