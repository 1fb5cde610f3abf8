//! State of each worker: made after the fork, so it is the worker's own, without a lock.
//!
//! `curl http://127.0.0.1:8080/` several times: each worker counts for itself.

use ringfort::Pool;
use ringfort::http::{Request, Response};

fn main() -> Result<(), ringfort::Error> {
    Pool::bind("127.0.0.1:8080").workers(2).serve_with(|worker| {
        // Here a real one connects to its database.
        let slot = worker.slot();
        let mut count = 0_u64;
        move |_req: &Request<'_>, res: &mut Response| {
            count += 1;
            res.text(format!("request {count} of worker {slot}\n"));
        }
    })
}
