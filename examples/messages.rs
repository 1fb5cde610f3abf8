//! Messages between master and workers: each worker counts its visitors, the master adds them up
//! and tells all.
//!
//! `cargo run --example messages`, then `curl http://127.0.0.1:8080/` some times.

use ringfort::Pool;
use ringfort::channel::{Map, MasterMail, Message, MessageType};
use ringfort::http::{Request, Response};
use std::cell::Cell;
use std::rc::Rc;

const VISITS: &str = "visits";

fn visits(count: u64) -> Message {
    let mut data = Map::new();
    data.insert(VISITS.to_owned(), count.into());
    Message::new(MessageType::Other(VISITS.to_owned()), data, ringfort::channel::timestamp())
}

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let mail = MasterMail::new();
    let (copy, mut total) = (mail.clone(), 0);
    mail.on_message(move |_worker, message| {
        total += message.data.get(VISITS).and_then(|count| count.as_u64()).unwrap_or(0);
        // Whoever misses this one hears the next.
        let _ = copy.broadcast(&visits(total));
    });
    Pool::bind(&address)
        .workers(2)
        .messages(&mail)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .serve_with(|worker| {
            let (mail, total) = (worker.mail(), Rc::new(Cell::new(0)));
            let heard = Rc::clone(&total);
            mail.on_message(move |message| {
                heard.set(message.data.get(VISITS).and_then(|count| count.as_u64()).unwrap_or(0));
            });
            move |_req: &Request<'_>, res: &mut Response| {
                let told = mail.send(&visits(1)).is_ok();
                res.text(format!("{} visits before yours, told: {told}\n", total.get()));
            }
        })
}
