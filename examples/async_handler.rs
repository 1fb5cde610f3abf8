//! Async handlers on the worker's own loop: no runtime, no `Send`, cancelled when the client
//! leaves.
//!
//! `curl http://127.0.0.1:8080/?ms=50`, `curl -T some-file http://127.0.0.1:8080/`,
//! `curl -N http://127.0.0.1:8080/count`

use ringfort::Pool;
use ringfort::http::{InvalidHeader, Response};
use ringfort::server::tasks::{Call, Sender, sleep};
use std::time::Duration;

async fn answer(mut call: Call) -> Result<Response, InvalidHeader> {
    let mut response = Response::new();
    match (call.method(), call.path()) {
        ("GET", "/count") => {
            response.header("Content-Type", "text/plain")?;
            response.stream(call.stream(count));
        }
        ("GET", _) => {
            let wait = call.query_value("ms").and_then(|text| text.parse().ok()).unwrap_or(1);
            sleep(Duration::from_millis(wait)).await;
            response.text(format!("{} after {wait} ms\n", call.path()));
        }
        _ => {
            let mut bytes = 0;
            while let Some(piece) = call.body().next().await {
                bytes += piece.len();
            }
            response.text(format!("{bytes} bytes\n"));
        }
    }
    Ok(response)
}

/// A body that is made while it is sent.
async fn count(mut sender: Sender) {
    for number in 1..=3 {
        sender.send(format!("{number}\n")).await;
        sleep(Duration::from_millis(20)).await;
    }
}

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .workers(2)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve_async(|_worker| answer)
}
