//! JSON in, JSON out, with statuses and headers.
//!
//! `curl -d '{"name":"Ada"}' http://127.0.0.1:8080/greet`

use ringfort::Pool;
use ringfort::http::{InvalidHeader, Request, Response};
use serde_json::{Value, json};

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve(answer)
}

fn answer(req: &Request<'_>, res: &mut Response) -> Result<(), InvalidHeader> {
    match (req.method(), req.path()) {
        ("POST", "/greet") => match serde_json::from_slice::<Value>(req.body()) {
            Ok(value) => {
                let name = value["name"].as_str().unwrap_or("stranger");
                res.header("cache-control", "no-store")?.json(&json!({ "greeting": name }));
            }
            Err(error) => res.status(400).json(&json!({ "error": error.to_string() })),
        },
        (_, "/greet") => res.status(405).header("allow", "POST")?.text("POST it\n"),
        _ => res.status(404).text("no such path\n"),
    }
    Ok(())
}
