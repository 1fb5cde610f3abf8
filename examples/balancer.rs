//! A balancer of one's own: everything to the worker that answers the fewest requests now, whatever
//! connections idle elsewhere.
//!
//! `cargo run --example balancer`, then `curl http://127.0.0.1:8080/`: it says which worker served.

use ringfort::Pool;
use ringfort::balancer::{Balancer, Client, Load};
use ringfort::http::{Request, Response};

/// The fewest requests being answered; of those the one that had the fewest connections so far.
#[derive(Default)]
struct LeastActive {
    had: Vec<u64>,
}

impl Balancer for LeastActive {
    fn pick(&mut self, _client: &Client<'_>, loads: &[Load]) -> Option<usize> {
        self.had.resize(loads.len(), 0);
        let with_room = (0..loads.len()).filter(|&worker| loads[worker].room > 0);
        let worker = with_room.min_by_key(|&worker| (loads[worker].active, self.had[worker]))?;
        self.had[worker] += 1;
        Some(worker)
    }

    fn on_worker_removed(&mut self, worker: usize) {
        // Its successor has had none.
        if let Some(had) = self.had.get_mut(worker) {
            *had = 0;
        }
    }
}

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .workers(2)
        .balancer(LeastActive::default())
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve_with(|worker| {
            let slot = worker.slot();
            move |_req: &Request<'_>, res: &mut Response| res.text(format!("worker {slot}\n"))
        })
}
