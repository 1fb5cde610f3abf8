//! may_minihttp as its README shows it.

use common::{BIG, HELLO, arguments};
use may_minihttp::{HttpServer, HttpService, Request, Response};
use std::io::{self, Read};

#[derive(Clone)]
struct Service;

impl HttpService for Service {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        match request.path() {
            "/" => {
                response.header("Content-Type: text/plain");
                response.body(str::from_utf8(HELLO).unwrap());
            }
            "/big" => response.body_mut().extend_from_slice(&BIG),
            "/upload" => {
                let mut buffer = [0; 16 << 10];
                let (mut body, mut count) = (request.body(), 0);
                loop {
                    match body.read(&mut buffer)? {
                        0 => break,
                        read => count += read,
                    }
                }
                response.body_mut().extend_from_slice(count.to_string().as_bytes());
            }
            _ => {
                response.status_code(404, "Not Found");
            }
        }
        Ok(())
    }
}

fn main() {
    let (port, threads) = arguments();
    may::config().set_workers(threads);
    HttpServer(Service).start(("127.0.0.1", port)).unwrap().join().unwrap();
}
