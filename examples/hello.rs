//! The least: one function answers everything, on every CPU.
//!
//! `cargo run --release --example hello`, then `curl http://127.0.0.1:8080/`

use ringfort::Pool;

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve(|_req, res| res.text("Hello, World!"))
}
