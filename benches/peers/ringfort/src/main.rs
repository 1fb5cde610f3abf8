//! ringfort as its documentation shows it: `peer-ringfort PORT THREADS [centralized] [defer]`.

use common::{BIG, HELLO, arguments};
use ringfort::http::{Request, Response};
use ringfort::{Mode, Pool};
use std::time::Duration;

fn answer(request: &Request<'_>, response: &mut Response) {
    match request.path() {
        "/" => response.text(str::from_utf8(HELLO).unwrap()),
        "/big" => response.bytes("text/plain", &BIG[..]),
        "/upload" => response.text(request.body().len().to_string()),
        _ => response.plain(404),
    }
}

fn main() -> Result<(), ringfort::Error> {
    let (port, workers) = arguments();
    let has = |word: &str| std::env::args().any(|argument| argument == word);
    let defer = Duration::from_secs(u64::from(has("defer")));
    Pool::bind(&format!("127.0.0.1:{port}"))
        .mode(if has("centralized") { Mode::Centralized } else { Mode::Shared })
        .workers(u32::try_from(workers).unwrap())
        .limits(|set| set.connections_max(12_000)?.defer_accept(defer).map(drop))
        .serve(answer)
}
