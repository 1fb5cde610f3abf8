//! The load client: it never sleeps, so that a server is always asked as fast as it answers, and it
//! checks every answer: its first bytes and, as the next must begin right behind it, its length.

use super::ring::{Completion, Kind, Ring};
use super::sys;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::IntoRawFd;
use std::time::Duration;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Connections that ask.
    pub(crate) connections: usize,
    /// Connections that have asked once and stay open.
    pub(crate) idle: usize,
    /// Requests sent at once on a connection; the next follow when all are answered.
    pub(crate) pipeline: usize,
    /// One request a connection: the server closes, the client connects again.
    pub(crate) close: bool,
    /// Requests a second over all connections; 0: as fast as they are answered.
    pub(crate) rate: u64,
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answers: u64,
    /// Of a paced plan: nanoseconds from when a request was due to its answer.
    pub(crate) latencies: Vec<u64>,
}

pub(crate) struct Load<'a> {
    ring: &'a mut Ring,
    address: SocketAddr,
    plan: Plan,
    request: &'static [u8],
    answer: Vec<u8>,
    connections: Vec<Connection>,
    idle: Vec<TcpStream>,
    /// Paced: connections that owe nothing, and when the next request is due.
    free: VecDeque<u32>,
    due: u64,
    starved: Vec<u32>,
    outcome: Outcome,
}

struct Connection {
    fd: i32,
    /// Answers that have not come yet.
    owed: usize,
    /// Bytes that have come of the current answer.
    at: usize,
    due: u64,
}

/// How much of an answer is compared; behind it comes the Date.
const PREFIX: usize = b"HTTP/1.1 200 OK\r\n".len();
/// An answer that takes this long will not come.
const STALL: Duration = Duration::from_secs(5);

impl<'a> Load<'a> {
    /// Asks once, to learn the answer that all others are held against, then connects.
    pub(crate) fn connect(ring: &'a mut Ring, port: u16, plan: Plan) -> Result<Self, String> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let request = request(plan.close);
        let answer = ask(address, request).map_err(|error| format!("the first answer: {error}"))?;
        let mut load = Self {
            ring,
            address,
            plan,
            request: Vec::leak(request.repeat(plan.pipeline)),
            answer,
            connections: Vec::new(),
            idle: Vec::new(),
            free: VecDeque::new(),
            due: 0,
            starved: Vec::new(),
            outcome: Outcome::default(),
        };
        load.connect_all().map_err(|error| format!("connect: {error}"))?;
        Ok(load)
    }

    fn connect_all(&mut self) -> io::Result<()> {
        for _ in 0..self.plan.idle {
            let mut stream = TcpStream::connect(self.address)?;
            stream.write_all(request(false))?;
            let mut answer = vec![0; self.answer.len()];
            stream.read_exact(&mut answer)?;
            self.idle.push(stream);
        }
        for slot in (0..).take(self.plan.connections) {
            let fd = TcpStream::connect(self.address)?.into_raw_fd();
            self.connections.push(Connection { fd, owed: 0, at: 0, due: 0 });
            self.ring.recv(fd, slot);
            if self.plan.rate == 0 {
                self.ask(slot);
            } else {
                self.free.push_back(slot);
            }
        }
        Ok(())
    }

    /// Asks for this long. What is on its way at the end is counted by the next run.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Outcome, String> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).expect("short");
        let mut now = sys::now();
        let (end, mut moved) = (now + nanos(time), now);
        let mut done = Vec::new();
        self.due = now;
        while now < end {
            self.pace(now);
            self.ring.enter(0, &mut done);
            now = sys::now();
            if !done.is_empty() {
                moved = now;
            } else if now - moved > nanos(STALL) && self.free.len() < self.connections.len() {
                return Err(format!("no answer for {STALL:?}"));
            }
            for completion in done.drain(..) {
                self.on_completion(&completion, now)?;
            }
            for slot in std::mem::take(&mut self.starved) {
                self.ring.recv(self.connections[slot as usize].fd, slot);
            }
        }
        Ok(std::mem::take(&mut self.outcome))
    }

    /// Sends what is due. A request that is late because all connections are busy stays due.
    fn pace(&mut self, now: u64) {
        while self.plan.rate > 0 && self.due <= now {
            let Some(slot) = self.free.pop_front() else { return };
            self.connections[slot as usize].due = self.due;
            self.due += 1_000_000_000 / self.plan.rate;
            self.ask(slot);
        }
    }

    fn ask(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.owed = self.plan.pipeline;
        self.ring.send(connection.fd, slot, self.request);
    }

    fn on_completion(&mut self, completion: &Completion, now: u64) -> Result<(), String> {
        let slot = completion.slot;
        let connection = &mut self.connections[slot as usize];
        let failed = || io::Error::from_raw_os_error(-completion.result);
        match completion.result {
            _ if completion.kind == Kind::Send => Err(format!("a send fell short: {}", failed())),
            1.. => {
                let bytes = self.ring.bytes(completion);
                let answers = connection.check(bytes, &self.answer)?;
                self.outcome.answers += answers;
                self.ring.recycle(completion);
                if !completion.more {
                    self.ring.recv(connection.fd, slot);
                }
                if answers > 0 && connection.owed == 0 {
                    self.answered(slot, now);
                }
                Ok(())
            }
            0 if self.plan.close && connection.owed == 0 => {
                sys::close(connection.fd);
                let stream = TcpStream::connect(self.address).map_err(|error| error.to_string())?;
                connection.fd = stream.into_raw_fd();
                self.ring.recv(connection.fd, slot);
                self.ask(slot);
                Ok(())
            }
            0 => Err(format!("closed with {} answers owed", connection.owed)),
            result if result == -libc::ENOBUFS => {
                self.starved.push(slot);
                Ok(())
            }
            _ => Err(format!("recv: {}", failed())),
        }
    }

    fn answered(&mut self, slot: u32, now: u64) {
        if self.plan.rate > 0 {
            self.outcome.latencies.push(now - self.connections[slot as usize].due);
            self.free.push_back(slot);
        } else if !self.plan.close {
            self.ask(slot);
        }
    }
}

impl Connection {
    /// How many answers end in these bytes.
    fn check(&mut self, mut bytes: &[u8], answer: &[u8]) -> Result<u64, String> {
        let mut ended = 0;
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(bytes.len().min(answer.len() - self.at));
            let compared = part.len().min(PREFIX.saturating_sub(self.at));
            if self.owed == 0 || part[..compared] != answer[self.at..self.at + compared] {
                return Err(format!("not the answer: {:?}", String::from_utf8_lossy(part)));
            }
            self.at += part.len();
            if self.at == answer.len() {
                self.at = 0;
                self.owed -= 1;
                ended += 1;
            }
            bytes = rest;
        }
        Ok(ended)
    }
}

impl Drop for Load<'_> {
    /// Join, then close: a descriptor is closed when its receive has ended.
    fn drop(&mut self) {
        self.connections.iter().for_each(|connection| sys::shutdown(connection.fd));
        let mut done = Vec::new();
        let mut open = self.connections.len();
        while open > 0 {
            for slot in std::mem::take(&mut self.starved) {
                self.ring.recv(self.connections[slot as usize].fd, slot);
            }
            self.ring.enter(1, &mut done);
            for completion in done.drain(..).filter(|completion| completion.kind == Kind::Recv) {
                self.ring.recycle(&completion);
                if completion.more {
                } else if completion.result > 0 || completion.result == -libc::ENOBUFS {
                    self.starved.push(completion.slot);
                } else {
                    sys::close(self.connections[completion.slot as usize].fd);
                    open -= 1;
                }
            }
        }
    }
}

fn request(close: bool) -> &'static [u8] {
    if close {
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: close\r\n\r\n"
    } else {
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
    }
}

/// One request on a connection of its own: its whole answer.
fn ask(address: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(STALL))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&buffer[..length]),
        }
        if answer.ends_with(b"Hello, World!") {
            return Ok(answer);
        }
    }
}
