//! How an application adds fields to every answer (CORS, security): a handler around a handler.
//!
//! `cargo run --example headers`, then `curl -i http://127.0.0.1:8080/`.

use ringfort::Pool;
use ringfort::http::{Handler, Request, Response, Upload};

/// Adds its fields before the handler inside is asked, who may add others or replace the body.
struct Headers<H>(H);

impl<H: Handler> Handler for Headers<H> {
    fn handle(&mut self, request: &Request<'_>, response: &mut Response) {
        for (name, value) in [
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Access-Control-Allow-Origin", "https://app.example"),
        ] {
            // Names and values are ours, and valid.
            let _ = response.header(name, value);
        }
        if request.method() == "OPTIONS" {
            let _ = response.header("Access-Control-Allow-Methods", "GET, POST");
            response.status(204);
            return;
        }
        self.0.handle(request, response);
    }

    fn upload(&mut self, head: &Request<'_>) -> Option<Box<dyn Upload>> {
        self.0.upload(head)
    }
}

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let hello = |_: &Request<'_>, response: &mut Response| response.text("Hello, World!");
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve_with(move |_| Headers(hello))
}
