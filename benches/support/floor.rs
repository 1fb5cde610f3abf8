//! The floor: the least that serving HTTP costs on this kernel. It parses nothing, times nothing,
//! limits nothing: it counts empty lines and answers fixed bytes.
#![expect(unsafe_code, reason = "the floor talks to the kernel without a layer in between")]

use super::ring::{Completion, Kind, Ring};
use super::server::Setup;
use super::sys::{self, BATCH_MAX, Letter};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;

/// The engine's own answer to `GET /`, byte for byte but for the time.
const KEEP_ALIVE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\nHello, World!";
const CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\
    Connection: close\r\n\r\nHello, World!";
/// Where a worker finds its channel: it is its standard input.
const CHANNEL: i32 = 0;

pub(crate) fn answer(setup: &Setup) -> &'static [u8] {
    if setup.close { CLOSE } else { KEEP_ALIVE }
}

/// The process that a bench started with `serve floor …`. Never returns.
#[expect(clippy::zombie_processes, reason = "the bench kills and reaps the whole group")]
pub(crate) fn serve(setup: &Setup) -> ! {
    let listener = listen(setup).expect("the address is free");
    if setup.centralized {
        let (ours, theirs) = sys::seqpacket().expect("a socket pair");
        let mut worker = setup.command("floor-worker");
        worker.stdin(Stdio::from(theirs)).spawn().expect("a worker");
        drop(worker); // and with it our copy of the worker's end
        master(&listener, &ours);
    }
    let mut worker = Worker::new(setup);
    worker.ring.accept(listener.as_raw_fd());
    worker.run()
}

/// The worker of the centralized floor: its channel is its standard input.
pub(crate) fn serve_channel(setup: &Setup) -> ! {
    let mut worker = Worker::new(setup);
    worker.inbox = Some(Letter::new());
    worker.receive();
    worker.run()
}

fn listen(setup: &Setup) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], setup.port)))?;
    sys::set_option(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    if setup.defer {
        sys::set_option(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 1)?;
    }
    sys::listen(&listener, 4096)?;
    Ok(listener)
}

/// Accepts, passes on, closes its copy.
fn master(listener: &TcpListener, channel: &OwnedFd) -> ! {
    let mut ring = Ring::new().expect("a ring");
    ring.accept(listener.as_raw_fd());
    let mut letter = Letter::new();
    let mut done = Vec::new();
    loop {
        ring.enter(1, &mut done);
        let accepted: Vec<i32> = done.drain(..).map(|completion| completion.result).collect();
        for batch in accepted.chunks(BATCH_MAX) {
            letter.pass(channel, batch).expect("room in the channel");
            batch.iter().for_each(|fd| sys::close(*fd));
        }
    }
}

struct Worker {
    ring: Ring,
    close: bool,
    /// Where connections come from, if not from a listener.
    inbox: Option<Box<Letter>>,
    /// By descriptor.
    connections: Vec<Requests>,
    /// With requests to answer in this pass.
    asked: Vec<i32>,
    /// To be shut down after the `enter` that runs their send.
    answered: Vec<i32>,
    /// Their receive ended because no buffer was free.
    starved: Vec<i32>,
    /// Length of one answer, and many of them.
    answer: usize,
    answers: &'static [u8],
}

impl Worker {
    fn new(setup: &Setup) -> Self {
        let answer = answer(setup);
        Self {
            ring: Ring::new().expect("a ring"),
            close: setup.close,
            inbox: None,
            connections: Vec::new(),
            asked: Vec::new(),
            answered: Vec::new(),
            starved: Vec::new(),
            answer: answer.len(),
            answers: Vec::leak(answer.repeat(64)),
        }
    }

    fn run(&mut self) -> ! {
        let mut done = Vec::new();
        loop {
            self.flush();
            self.ring.enter(u32::from(self.answered.is_empty()), &mut done);
            self.answered.drain(..).for_each(sys::shutdown);
            for completion in done.drain(..) {
                match completion.kind {
                    Kind::Accept => self.adopt(completion.result),
                    Kind::Receive => self.on_receive(),
                    Kind::Recv => self.on_recv(&completion),
                    // The peer is gone, and its receive says so too.
                    Kind::Send => assert!(completion.result < 0, "a send fell short"),
                }
            }
            for fd in self.starved.drain(..) {
                self.ring.recv(fd, fd.cast_unsigned());
            }
        }
    }

    /// All answers of a connection in one send.
    fn flush(&mut self) {
        for fd in self.asked.drain(..) {
            let connection = &mut self.connections[fd.cast_unsigned() as usize];
            let mut length = std::mem::take(&mut connection.ended) * self.answer;
            if self.close && length > 0 {
                self.answered.push(fd);
            }
            while length > 0 {
                let now = length.min(self.answers.len());
                self.ring.send(fd, fd.cast_unsigned(), &self.answers[..now]);
                length -= now;
            }
        }
    }

    fn adopt(&mut self, fd: i32) {
        let index = usize::try_from(fd).expect("accepted");
        if index >= self.connections.len() {
            self.connections.resize(index + 1, Requests::default());
        }
        self.connections[index] = Requests::default();
        self.ring.recv(fd, fd.cast_unsigned());
    }

    fn receive(&mut self) {
        let inbox = self.inbox.as_mut().expect("a worker with a channel");
        // SAFETY: the inbox is boxed, lives as long as the process, and is read at the completion.
        unsafe { self.ring.receive(CHANNEL, inbox.prepare()) };
    }

    fn on_receive(&mut self) {
        let fds = self.inbox.as_ref().expect("a worker with a channel").fds();
        assert!(!fds.is_empty(), "the master is gone");
        fds.into_iter().for_each(|fd| self.adopt(fd));
        self.receive();
    }

    fn on_recv(&mut self, completion: &Completion) {
        let fd = completion.slot.cast_signed();
        let connection = &mut self.connections[completion.slot as usize];
        if completion.result > 0 {
            let before = connection.ended;
            connection.count(self.ring.bytes(completion));
            if before == 0 && connection.ended > 0 {
                self.asked.push(fd);
            }
            self.ring.recycle(completion);
            if !completion.more {
                self.ring.recv(fd, completion.slot);
            }
        } else if completion.result == -libc::ENOBUFS {
            self.starved.push(fd);
        } else {
            connection.ended = 0; // it may still stand in `asked`
            sys::close(fd);
        }
    }
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Requests {
    /// Heads that have ended and are not answered yet.
    pub(crate) ended: usize,
    /// How much of an empty line the bytes so far end with.
    partial: usize,
}

impl Requests {
    /// Counts the heads that end in these bytes, wherever the stream was cut.
    pub(crate) fn count(&mut self, bytes: &[u8]) {
        let rest = &END[self.partial..];
        if self.partial > 0 && bytes.len() < rest.len() && rest.starts_with(bytes) {
            self.partial += bytes.len();
            return;
        }
        let mut start = 0;
        if self.partial > 0 && bytes.starts_with(rest) {
            self.ended += 1;
            start = rest.len();
        }
        // Looks at the byte where an end could end, and skips as far as that byte allows.
        let mut at = start + 3;
        while at < bytes.len() {
            at += match bytes[at] {
                b'\n' if bytes[at - 3..].starts_with(END) => {
                    self.ended += 1;
                    start = at + 1;
                    4
                }
                b'\n' => 2,
                b'\r' => 1,
                _ => 4,
            };
        }
        let tail = &bytes[start..];
        self.partial = (1..END.len()).rev().find(|n| tail.ends_with(&END[..*n])).unwrap_or(0);
    }
}

const END: &[u8] = b"\r\n\r\n";

/// Checks the floor's only piece of logic: wherever a stream is cut, the count is the same.
pub(crate) fn check() {
    let stream = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\r\n\n\r\n\r\nX\r\n\r\r\n\r\n".repeat(2);
    for first in 0..stream.len() {
        for second in first..stream.len() {
            let mut requests = Requests::default();
            requests.count(&stream[..first]);
            requests.count(&stream[first..second]);
            requests.count(&stream[second..]);
            assert_eq!(requests.ended, 6, "cut at {first} and {second}");
        }
    }
}
