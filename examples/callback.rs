//! The callback worker: each connection is an owned socket, handled on one of four threads.
//!
//! `cargo run --example callback`, then `curl http://127.0.0.1:8080/`

use ringfort::Pool;
use ringfort::server::raw::{Metadata, Socket};
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

fn handle(socket: Socket, metadata: &Metadata) {
    // An error means that the client has left; there is nobody to tell.
    let _ = answer(socket, metadata);
}

fn answer(socket: Socket, metadata: &Metadata) -> std::io::Result<()> {
    socket.set_timeout(Some(Duration::from_secs(30)))?;
    let mut socket = BufReader::new(socket);
    let mut line = String::new();
    while socket.read_line(&mut line)? > 2 {
        line.clear();
    }
    let client =
        metadata.client_ip().map_or_else(|| "a Unix socket".to_owned(), |ip| ip.to_string());
    let text = format!("hello {client}, from worker {}\n", metadata.worker_id);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
    socket.get_mut().write_all((head + &text).as_bytes())
}

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .workers(2)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve_raw(4, handle)
}
