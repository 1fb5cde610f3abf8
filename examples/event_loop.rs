//! The application's own loop in each worker: requests come when it asks, answers leave in any
//! order.
//!
//! `cargo run --example event_loop`, then `curl http://127.0.0.1:8080/`

use ringfort::Pool;
use ringfort::server::Server;

fn run(worker_id: u32, server: &mut Server) {
    // Once: connections to a database, caches.
    let mut count = 0_u64;
    // Until the worker has drained.
    while server.wait(None) {
        while let Some(request) = server.next_request() {
            count += 1;
            let path = request.path().to_owned();
            // It fails only if the client has left in the meantime.
            let _ = server.respond(request.id(), move |response| {
                response.text(format!("{path}: request {count} of worker {worker_id}\n"));
            });
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
