//! Behind a reverse proxy: a Unix socket, and loopback beside it for a look.
//!
//! `curl --unix-socket /tmp/ringfort-example.sock http://localhost/`

use ringfort::Pool;

fn main() -> Result<(), ringfort::Error> {
    Pool::bind("unix:/tmp/ringfort-example.sock")
        .and_bind("127.0.0.1:8080")
        .workers(2)
        .serve(|req, res| res.text(format!("{} {}\n", req.method(), req.target())))
}
