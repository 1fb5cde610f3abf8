//! The least: one function answers everything, on every CPU.
//!
//! `cargo run --release --example hello`, then `curl http://127.0.0.1:8080/`

use ringfort::Pool;

fn main() -> Result<(), ringfort::Error> {
    Pool::bind("127.0.0.1:8080").serve(|_req, res| res.text("Hello, World!"))
}
