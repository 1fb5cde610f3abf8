//! Clients that ask without pause over connections that they keep, and check every byte.

use crate::client::{Client, PATIENCE};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// What all clients counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests answered whole and right.
    pub(crate) answered: u64,
    pub(crate) connected: u64,
    /// Connections that ended between two requests: the server said so, or closed.
    pub(crate) closed: u64,
    /// Every other request without a right answer.
    pub(crate) failures: Vec<String>,
}

impl Tally {
    /// Every request was answered.
    #[track_caller]
    pub(crate) fn check(&self) {
        println!(
            "{} answers, {} connections, {} closed",
            self.answered, self.connected, self.closed
        );
        assert!(self.failures.is_empty(), "{:?}", self.failures);
        assert!(self.answered > 0);
    }
}

/// Does `work` while clients ask: half of them GET, half POST, a fourth with a connection for each
/// request.
pub(crate) fn under_load<T>(
    address: SocketAddr,
    clients: usize,
    work: impl FnOnce(&AtomicU64) -> T,
) -> (T, Tally) {
    let (over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let at_the_end = SetOnDrop(&over);
        let (over, answers) = (&over, &answers);
        let threads: Vec<_> = (0..clients)
            .map(|number| scope.spawn(move || ask(address, number, over, answers)))
            .collect();
        let result = work(answers);
        drop(at_the_end);
        let mut sum = Tally::default();
        for thread in threads {
            let tally = thread.join().expect("a client does not panic");
            sum.answered += tally.answered;
            sum.connected += tally.connected;
            sum.closed += tally.closed;
            sum.failures.extend(tally.failures);
        }
        (result, sum)
    })
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn ask(address: SocketAddr, number: usize, over: &AtomicBool, answers: &AtomicU64) -> Tally {
    let mut tally = Tally::default();
    while !over.load(Ordering::Relaxed) {
        let stream = match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => stream,
            Err(error) => {
                tally.failures.push(format!("connect: {error}"));
                continue;
            }
        };
        tally.connected += 1;
        let mut client = Client::new(stream);
        let short = number % 4 == 3;
        let mut first = true;
        while first || !over.load(Ordering::Relaxed) {
            match one(&mut client, number, tally.answered, short) {
                Ok(goes_on) => {
                    tally.answered += 1;
                    answers.fetch_add(1, Ordering::Relaxed);
                    if !goes_on {
                        tally.closed += u64::from(!short);
                        break;
                    }
                }
                // RFC 9112 §9.3.1: an idle connection may be closed at any time.
                Err(error) if !first && error.kind() == io::ErrorKind::ConnectionAborted => {
                    tally.closed += 1;
                    break;
                }
                Err(error) => {
                    tally.failures.push(format!("client {number}: {error} (first: {first})"));
                    break;
                }
            }
            first = false;
        }
    }
    tally
}

/// One request; whether the connection goes on after it.
fn one(client: &mut Client, number: usize, count: u64, short: bool) -> io::Result<bool> {
    let close = if short { "Connection: close\r\n" } else { "" };
    let want = if number.is_multiple_of(2) {
        client.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{close}\r\n"))?;
        "Hello, World!".to_owned()
    } else {
        let body = format!("{number} asks {count}").repeat(1 + (count % 50) as usize);
        let length = body.len();
        let head =
            format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{close}\r\n");
        client.send(head + &body)?;
        body
    };
    let reply = client.reply()?;
    if reply.status != 200 || reply.text() != want {
        return Err(io::Error::other(format!("wrong answer: {}{}", reply.head, reply.text())));
    }
    Ok(reply.header("connection") != Some("close"))
}
