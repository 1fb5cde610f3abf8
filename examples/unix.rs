//! Behind a reverse proxy: a Unix socket, and loopback beside it for a look.
//!
//! `curl --unix-socket /tmp/ringfort-example.sock http://localhost/`

use ringfort::Pool;

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let socket = std::env::args().nth(2).unwrap_or_else(|| "/tmp/ringfort-example.sock".to_owned());
    Pool::bind(&address)
        .and_bind(&format!("unix:{socket}"))
        .workers(2)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve(|req, res| res.text(format!("{} {}\n", req.method(), req.target())))
}
