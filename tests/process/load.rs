//! Load: many clients that ask without pause, and count what becomes of each request.

use crate::client::{Client, PATIENCE, Reply};
use crate::server::Stopwatch;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How many clients of which kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clients {
    /// One connection each, as long as it lasts, and then another.
    pub(crate) steady: usize,
    /// A new connection for each request.
    pub(crate) short: usize,
}

/// What the clients counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Connections that were opened.
    pub(crate) connected: u64,
    /// Requests answered whole and right.
    pub(crate) answered: u64,
    /// Requests answered with 503.
    pub(crate) refused: u64,
    /// Connections that the server closed while they were idle to its knowledge: not a byte came to
    /// a request that was not the first. HTTP clients repeat such a request (RFC 9110 §9.2.2).
    pub(crate) closed: Vec<Failure>,
    /// Connections of steady clients after their first: each of them lost one before.
    pub(crate) reopened: u64,
    /// Every other request without a right answer.
    pub(crate) failures: Vec<Failure>,
}

/// A request without an answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The process that had answered on this connection before.
    pub(crate) worker: Option<u32>,
    /// The client's port; 0 if there was no connection.
    pub(crate) port: u16,
    pub(crate) error: io::Error,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.connected += other.connected;
        self.answered += other.answered;
        self.refused += other.refused;
        self.reopened += other.reopened;
        self.closed.extend(other.closed);
        self.failures.extend(other.failures);
    }

    /// Everything was answered.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        assert!(self.failures.is_empty() && self.refused == 0, "{self:?}");
        assert!(self.answered > 0, "{self:?}");
    }
}

/// Does `work` while the clients ask; what it returns, and what they counted.
pub(crate) fn under_load<T>(
    address: SocketAddr,
    clients: Clients,
    work: impl FnOnce() -> T,
) -> (T, Tally) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over_at_the_end = SetOnDrop(&over);
        let kinds = [(clients.steady, steady as Loop), (clients.short, short as Loop)];
        let kinds = kinds.into_iter().flat_map(|(count, kind)| std::iter::repeat_n(kind, count));
        let over = &over;
        let threads: Vec<_> = kinds.map(|kind| scope.spawn(move || kind(address, over))).collect();
        let result = work();
        drop(over_at_the_end);
        let mut tally = Tally::default();
        for thread in threads {
            tally.add(thread.join().expect("a client does not panic"));
        }
        (result, tally)
    })
}

type Loop = fn(SocketAddr, &AtomicBool) -> Tally;

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn steady(address: SocketAddr, over: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        tally.reopened += u64::from(tally.connected > 0);
        let Some(mut client) = connect(address, &mut tally) else { continue };
        let mut worker = None;
        let mut first = true;
        while !over.load(Ordering::Relaxed) {
            match client.get(if first { "/workers" } else { "/plaintext" }) {
                Ok(reply) => {
                    if first && reply.status == 200 {
                        worker = Some(reply.pid());
                    }
                    let right = first || reply.body == b"Hello, World!";
                    tally.count(&reply, right, worker);
                    if reply.header("connection") == Some("close") {
                        break;
                    }
                }
                Err(error) if !first && is_close(&error) => {
                    tally.closed.push(Failure { worker, port: port(&mut client), error });
                    break;
                }
                Err(error) => {
                    tally.failures.push(Failure { worker, port: port(&mut client), error });
                    break;
                }
            }
            first = false;
        }
    }
    tally
}

/// The client's port; 0 if it has none.
fn port(client: &mut Client) -> u16 {
    client.stream().local_addr().map_or(0, |address| address.port())
}

fn short(address: SocketAddr, over: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        let Some(mut client) = connect(address, &mut tally) else { continue };
        let request = "GET /plaintext HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        match client.send(request).and_then(|()| client.reply()) {
            Ok(reply) => tally.count(&reply, reply.body == b"Hello, World!", None),
            Err(error) => {
                tally.failures.push(Failure { worker: None, port: port(&mut client), error });
            }
        }
    }
    tally
}

fn connect(address: SocketAddr, tally: &mut Tally) -> Option<Client> {
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(stream) => {
            tally.connected += 1;
            Some(Client::new(stream))
        }
        Err(error) => {
            tally.failures.push(Failure { worker: None, port: 0, error });
            None
        }
    }
}

impl Tally {
    fn count(&mut self, reply: &Reply, right: bool, worker: Option<u32>) {
        match reply.status {
            200 if right => self.answered += 1,
            503 => self.refused += 1,
            _ => {
                let error = io::Error::new(ErrorKind::InvalidData, reply.head.clone());
                self.failures.push(Failure { worker, port: 0, error });
            }
        }
    }
}

fn is_close(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | BrokenPipe)
}

/// Lets the load go on for so long.
pub(crate) fn go_on_for(time: Duration) {
    let began = Stopwatch::start();
    while began.elapsed() < time {
        thread::park_timeout(time);
    }
}
