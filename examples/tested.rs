//! An application and its tests: the handler without a socket, and, with `--features sim`, a pool
//! whose workers are killed. `cargo test --example tested --features sim` runs them.

use ringfort::http::{Request, Response};
use ringfort::{Error, Pool};

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve(handler)
}

/// Says how long the text is that was sent.
fn handler(request: &Request<'_>, response: &mut Response) {
    match (request.method(), std::str::from_utf8(request.body())) {
        ("POST", Ok(text)) => response.text(text.chars().count().to_string()),
        ("POST", Err(_)) => response.plain(400),
        _ => response.plain(405),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfort::testing::Connection;

    #[test]
    fn texts_are_counted_and_everything_else_is_refused() {
        let mut client = Connection::new(handler);
        assert_eq!(client.request("POST", "/", &[], "größer".as_bytes()).text(), "6");
        assert_eq!(client.request("POST", "/", &[], b"\xff").status, 400);
        assert_eq!(client.get("/").status, 405);
    }

    #[cfg(feature = "sim")]
    #[test]
    fn a_killed_worker_costs_nobody_an_answer() {
        use ringfort::testing::SimulatedPool;
        use std::time::Duration;

        let mut pool = SimulatedPool::new(42, 2, |_worker| handler);
        pool.kill_workers();
        for number in 0..50 {
            pool.ask_at(Duration::from_millis(number), "/", b"four", None);
        }
        let answers = pool.run().unwrap();
        assert!(answers.iter().all(|answer| answer.body == b"4"));
    }
}
