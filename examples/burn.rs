//! An application that computes for each answer, on one worker: something to compare.
//!
//! ```console
//! $ cargo build --release --example burn
//! $ ringfort compare 'target/release/examples/burn 127.0.0.1:{port} 100000' \
//!                    'target/release/examples/burn 127.0.0.1:{port} 112000'
//! ```

use ringfort::{Mode, Pool};
use std::hint::black_box;

fn main() -> Result<(), ringfort::Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let steps = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(100_000_u64);
    Pool::bind(&address).mode(Mode::Shared).workers(1).serve(move |_req, res| {
        let work = |sum: u64, step| black_box(sum.rotate_left(5) ^ step);
        res.text(format!("{:016x}\n", (0..steps).fold(0, work)));
    })
}
