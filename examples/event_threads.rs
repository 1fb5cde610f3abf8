//! Blocking work on a pool of threads: each takes a ticket, and the loop goes on serving.
//!
//! `cargo run --example event_threads`, then `curl http://127.0.0.1:8080/slow`

use ringfort::Pool;
use ringfort::http::OwnedRequest;
use ringfort::server::{Server, Ticket};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

const THREADS: usize = 4;

/// One thread of the pool. A panic would drop its ticket, which answers 500.
fn work(jobs: &Mutex<Receiver<(OwnedRequest, Ticket)>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((request, ticket)) = next else { return };
        // Stands for a driver that blocks.
        thread::park_timeout(Duration::from_millis(20));
        let text = format!("{}: worked out on {:?}\n", request.path(), thread::current().id());
        ticket.answer(move |response| response.text(text));
    }
}

fn run(_worker_id: u32, server: &mut Server) {
    let (sender, receiver) = channel();
    let receiver = Arc::new(Mutex::new(receiver));
    for _ in 0..THREADS {
        let receiver = Arc::clone(&receiver);
        let thread = thread::Builder::new().spawn(move || work(&receiver));
        drop(thread.expect("a worker without its threads is replaced"));
    }
    while server.wait(None) {
        while let Some(request) = server.next_request() {
            if request.path() == "/slow" {
                let id = request.id();
                if let Ok(ticket) = server.ticket(id) {
                    let _ = sender.send((request.into_request(), ticket));
                }
            } else {
                let _ = server.respond(request.id(), |response| response.text("at once\n"));
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .workers(2)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .run_workers(run)
}
