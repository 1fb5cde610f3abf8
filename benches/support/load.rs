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
    /// Requests sent at once on a connection; the next follow when all are answered.
    pub(crate) pipeline: usize,
    /// One request a connection: the server closes, the client connects again.
    pub(crate) close: bool,
    /// Requests a second over all connections; 0: as fast as they are answered.
    pub(crate) rate: u64,
    /// Connections may be cut: that is counted, not an error.
    pub(crate) cuts: bool,
}

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answers: u64,
    /// Connections that ended before their answer.
    pub(crate) cut: u64,
    /// Of a paced plan: nanoseconds from when a request was due to its answer.
    pub(crate) latencies: Vec<u64>,
}

impl Outcome {
    pub(crate) fn add(&mut self, more: Self) {
        self.answers += more.answers;
        self.cut += more.cut;
        self.latencies.extend(more.latencies);
    }
}

pub(crate) struct Load<'a> {
    ring: &'a mut Ring,
    address: SocketAddr,
    plan: Plan,
    request: &'static [u8],
    answer: Vec<u8>,
    connections: Vec<Connection>,
    /// Paced: connections that owe nothing, and when the next request is due.
    free: VecDeque<u32>,
    due: u64,
    starved: Vec<u32>,
    outcome: Outcome,
}

struct Connection {
    /// None between two requests of a plan that closes.
    fd: Option<i32>,
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
    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// How long one answer is.
    pub(crate) fn answer_bytes(&self) -> usize {
        self.answer.len()
    }

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
            free: VecDeque::new(),
            due: 0,
            starved: Vec::new(),
            outcome: Outcome::default(),
        };
        load.connect_all().map_err(|error| format!("connect: {error}"))?;
        Ok(load)
    }

    fn connect_all(&mut self) -> io::Result<()> {
        for slot in (0..).take(self.plan.connections) {
            self.connections.push(Connection { fd: None, owed: 0, at: 0, due: 0 });
            if !self.plan.close {
                self.open(slot)?;
            }
            self.next(slot)?;
        }
        Ok(())
    }

    fn open(&mut self, slot: u32) -> io::Result<i32> {
        let fd = TcpStream::connect(self.address)?.into_raw_fd();
        self.connections[slot as usize].fd = Some(fd);
        self.ring.recv(fd, slot);
        Ok(fd)
    }

    /// The connection owes nothing: asks again, or waits until the next request is due.
    fn next(&mut self, slot: u32) -> io::Result<()> {
        if self.plan.rate == 0 {
            return self.ask(slot);
        }
        self.free.push_back(slot);
        Ok(())
    }

    fn ask(&mut self, slot: u32) -> io::Result<()> {
        let connection = &mut self.connections[slot as usize];
        (connection.owed, connection.at) = (self.plan.pipeline, 0);
        let fd = match connection.fd {
            Some(fd) => fd,
            None => self.open(slot)?,
        };
        self.ring.send(fd, slot, self.request);
        Ok(())
    }

    /// Asks for this long. What is on its way at the end is counted by the next run.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Outcome, String> {
        self.run_until(time, |_| false)
    }

    /// The same, but ends early when some received bytes are what was waited for.
    pub(crate) fn run_until(
        &mut self,
        time: Duration,
        mut found: impl FnMut(&[u8]) -> bool,
    ) -> Result<Outcome, String> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).expect("short");
        let mut now = sys::now();
        let (mut end, mut moved) = (now + nanos(time), now);
        let mut done = Vec::new();
        self.due = now;
        while now < end {
            self.pace(now).map_err(|error| error.to_string())?;
            self.ring.enter(0, &mut done);
            now = sys::now();
            if !done.is_empty() {
                moved = now;
            } else if now - moved > nanos(STALL) && self.free.len() < self.connections.len() {
                return Err(format!("no answer for {STALL:?}"));
            }
            for completion in done.drain(..) {
                if found(self.ring.bytes(&completion)) {
                    end = now;
                }
                self.on_completion(&completion, now)?;
            }
            for slot in std::mem::take(&mut self.starved) {
                self.receive_again(slot);
            }
        }
        Ok(std::mem::take(&mut self.outcome))
    }

    /// Sends what is due. A request that is late because all connections are busy stays due.
    fn pace(&mut self, now: u64) -> io::Result<()> {
        while self.plan.rate > 0 && self.due <= now {
            let Some(slot) = self.free.pop_front() else { break };
            self.connections[slot as usize].due = self.due;
            self.due += 1_000_000_000 / self.plan.rate;
            self.ask(slot)?;
        }
        Ok(())
    }

    fn receive_again(&mut self, slot: u32) {
        let fd = self.connections[slot as usize].fd.expect("open until its receive ends");
        self.ring.recv(fd, slot);
    }

    fn on_completion(&mut self, completion: &Completion, now: u64) -> Result<(), String> {
        match (completion.kind, completion.result) {
            (Kind::Recv, 1..) => self.on_bytes(completion, now)?,
            (Kind::Recv, result) if result == -libc::ENOBUFS => self.starved.push(completion.slot),
            (Kind::Recv, _) => self.on_end(completion)?,
            // The receive says so too.
            _ if self.plan.cuts => {}
            (kind, result) => return Err(format!("{kind:?}: {}", failure(result))),
        }
        Ok(())
    }

    fn on_bytes(&mut self, completion: &Completion, now: u64) -> Result<(), String> {
        let slot = completion.slot;
        let connection = &mut self.connections[slot as usize];
        let answers = connection.check(self.ring.bytes(completion), &self.answer)?;
        let complete = answers > 0 && connection.owed == 0;
        self.outcome.answers += answers;
        if complete && self.plan.rate > 0 {
            self.outcome.latencies.push(now - connection.due);
        }
        self.ring.recycle(completion);
        if !completion.more {
            self.receive_again(slot);
        }
        if complete && !self.plan.close {
            self.next(slot).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn on_end(&mut self, completion: &Completion) -> Result<(), String> {
        let slot = completion.slot;
        let connection = &mut self.connections[slot as usize];
        let whole = self.plan.close && connection.owed == 0 && completion.result == 0;
        if !whole && !self.plan.cuts {
            let owed = connection.owed;
            return Err(format!("ended, {owed} answers owed: {}", failure(completion.result)));
        }
        self.outcome.cut += u64::from(!whole);
        connection.fd.take().into_iter().for_each(sys::close);
        self.next(slot).map_err(|error| error.to_string())
    }
}

fn failure(result: i32) -> String {
    if result == 0 {
        return "end of file".to_owned();
    }
    io::Error::from_raw_os_error(-result).to_string()
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
        let open = self.connections.iter().filter_map(|connection| connection.fd);
        let mut left = open.inspect(|fd| sys::shutdown(*fd)).count();
        let mut done = Vec::new();
        while left > 0 {
            for slot in std::mem::take(&mut self.starved) {
                self.receive_again(slot);
            }
            self.ring.enter(1, &mut done);
            for completion in done.drain(..).filter(|completion| completion.kind == Kind::Recv) {
                self.ring.recycle(&completion);
                if completion.more {
                    continue;
                }
                if completion.result > 0 || completion.result == -libc::ENOBUFS {
                    self.starved.push(completion.slot);
                } else {
                    let connection = &mut self.connections[completion.slot as usize];
                    connection.fd.take().into_iter().for_each(sys::close);
                    left -= 1;
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
    while length_of(&answer).is_none_or(|length| answer.len() < length) {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&buffer[..length]),
        }
    }
    Ok(answer)
}

/// Head and body together, once the head is here.
fn length_of(answer: &[u8]) -> Option<usize> {
    let text = str::from_utf8(answer).ok()?;
    let (head, _) = text.split_once("\r\n\r\n")?;
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let body: usize = lengths.next()?.1.parse().ok()?;
    Some(head.len() + 4 + body)
}
