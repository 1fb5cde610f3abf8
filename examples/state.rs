//! State of each worker: made after the fork, so it is the worker's own, without a lock.
//!
//! `curl http://127.0.0.1:8080/` several times: each worker counts for itself.

use ringfort::Pool;
use ringfort::http::{Request, Response};

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .workers(2)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve_with(|worker| {
            // Here a real one connects to its database.
            let slot = worker.slot();
            let mut count = 0_u64;
            move |_req: &Request<'_>, res: &mut Response| {
                count += 1;
                res.text(format!("request {count} of worker {slot}\n"));
            }
        })
}
