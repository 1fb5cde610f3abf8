//! Clients that keep arriving, each with a connection for its request, until nobody listens.

use crate::client::{Client, PATIENCE};
use crate::raw;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// What became of all that arrived.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    pub(crate) answered: u64,
    /// With a 503.
    pub(crate) refused: u64,
    /// Those that got no answer, and why.
    pub(crate) broken: Vec<String>,
}

/// Lets clients arrive, does `disturb` while they do, and ends the pool with TERM.
pub(crate) fn term_amid_arrivals(
    address: SocketAddr,
    pid: u32,
    disturb: impl FnOnce(),
) -> Arrivals {
    let answers = AtomicU64::new(0);
    let sum = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| arrive(address, &answers))).collect();
        while answers.load(Ordering::Relaxed) < 50 && !clients[0].is_finished() {
            thread::yield_now();
        }
        disturb();
        raw::signal(pid, libc::SIGTERM);
        let mut sum = Arrivals::default();
        for client in clients {
            let one = client.join().expect("a client does not panic");
            sum.answered += one.answered;
            sum.refused += one.refused;
            sum.broken.extend(one.broken);
        }
        sum
    });
    assert!(sum.answered >= 50, "{sum:?}");
    sum
}

fn arrive(address: SocketAddr, answers: &AtomicU64) -> Arrivals {
    let mut sum = Arrivals::default();
    loop {
        let stream = match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => stream,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return sum,
            Err(error) => {
                sum.broken.push(format!("connect: {error}"));
                return sum;
            }
        };
        let mut client = Client::new(stream);
        let asked = client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        match asked.and_then(|()| client.reply()) {
            Ok(reply) if reply.status == 200 => {
                sum.answered += 1;
                answers.fetch_add(1, Ordering::Relaxed);
            }
            Ok(reply) if reply.status == 503 => sum.refused += 1,
            Ok(reply) => sum.broken.push(reply.head),
            Err(error) => sum.broken.push(error.to_string()),
        }
    }
}
