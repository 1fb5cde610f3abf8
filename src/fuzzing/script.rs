//! One connection under a script: what its worker and its client do, on a clock of its own.

use crate::config::Config;
use crate::http::{Connection, Handler, Http};
use crate::io::{Bytes, Errno, Fd, Instant, Kind, Peer, Token};
use crate::ipc::board::Line;
use crate::protocol::{Close, Cx, Next, Out, Protocol};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// A connection, the worker that runs it, and the client at its other end.
#[derive(Debug)]
pub struct Script<H: Handler> {
    http: Http<H>,
    connection: Connection,
    now: Instant,
    /// Output that has not left.
    held: (Vec<u8>, Option<Bytes>),
    /// What the machine wants.
    pub next: Next,
    /// The counters.
    pub line: Line,
    /// How many bytes of output may be held.
    pub room: usize,
    /// Whether the client reads: then output leaves after every call.
    pub reads: bool,
    /// What the client has read.
    pub output: Vec<u8>,
    /// How many files the worker would have closed.
    pub closed_files: usize,
}

impl<H: Handler> Script<H> {
    /// A new connection. `options` are those of [`Config::set`].
    ///
    /// # Panics
    ///
    /// An option is none or out of range.
    pub fn new(handler: H, options: &[(&str, &str)]) -> Self {
        let mut config = Config::default();
        for (name, value) in options {
            config.set(name, value).expect("an option and a value in its range");
        }
        let mut http = Http::new(handler, &config);
        http.tick(0);
        let now = Instant::from_nanos(1_000_000_000);
        let (connection, next) = http.open(now, None);
        Self {
            http,
            connection,
            now,
            held: (Vec::new(), None),
            next,
            line: Line::detached(),
            room: 1 << 20,
            reads: true,
            output: Vec::new(),
            closed_files: 0,
        }
    }

    /// One call into the machine. A connection that is closing is told nothing any more.
    fn tell(&mut self, event: impl FnOnce(&mut Http<H>, &mut Connection, &mut Cx<'_>) -> Next) {
        if self.next.close.is_some() {
            return;
        }
        let (buffer, body) = &mut self.held;
        let out = Out::new(buffer, body, 0, self.room);
        let lookup = |_: &Fd| Peer::Tcp(([127, 0, 0, 1], 9).into());
        let (token, fd) = (Token::new(Kind::Recv, 0, 0), &Fd::new(-1));
        let mut cx = Cx { now: self.now, out, stats: &self.line, token, fd, lookup };
        self.next = event(&mut self.http, &mut self.connection, &mut cx);
        self.closed_files += usize::from(self.http.finished_file(&mut self.connection).is_some());
    }

    /// What a worker does until the machine has no wish left that needs neither client nor time.
    ///
    /// # Panics
    ///
    /// There is no end to it.
    pub fn run(&mut self) -> &mut Self {
        for _ in 0..STEPS_MAX {
            if self.reads {
                self.output.append(&mut self.held.0);
                self.output.extend_from_slice(&self.held.1.take().unwrap_or_default());
            }
            let has_left = self.held.0.is_empty() && self.held.1.is_none();
            if self.next.close.is_some() {
                return self;
            } else if let Some((offset, length)) = self.next.read_file {
                let bytes = self.read_file(offset, length);
                self.tell(|http, connection, cx| http.file(connection, bytes, cx));
            } else if (self.next.flushed || self.next.again) && has_left {
                self.tell(Http::resume);
            } else {
                return self;
            }
        }
        panic!("the machine wants to go on for ever: {:?}", self.next);
    }

    fn read_file(&self, offset: u64, length: u32) -> Result<Vec<u8>, Errno> {
        let fd = Http::<H>::file_of(&self.connection).ok_or(Errno::Gone)?;
        let file = File::open(format!("/proc/self/fd/{}", fd.raw())).map_err(|_| Errno::Gone)?;
        let mut bytes = vec![0; length as usize];
        let count = file.read_at(&mut bytes, offset).map_err(|_| Errno::Gone)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// The client sends.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.receive(bytes).run()
    }

    /// The client sends, and the worker has not come to anything else yet.
    pub fn receive(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.tell(|http, connection, cx| http.receive(connection, bytes.as_ref(), cx));
        self
    }

    /// The client sends the bytes in pieces that end at these places, in rising order.
    pub fn send_cut(&mut self, bytes: &[u8], cuts: &[usize]) -> &mut Self {
        let mut from = 0;
        for cut in cuts.iter().copied().chain([bytes.len()]) {
            let to = cut.clamp(from, bytes.len());
            if from < to {
                self.send(&bytes[from..to]);
            }
            from = to;
        }
        self
    }

    /// The client ends its side.
    pub fn eof(&mut self) -> &mut Self {
        self.tell(Http::eof);
        self.run()
    }

    /// Somebody resumes the connection.
    pub fn resume(&mut self) -> &mut Self {
        self.tell(Http::resume);
        self.run()
    }

    /// The worker drains.
    pub fn drain(&mut self) -> &mut Self {
        self.tell(Http::drain);
        self.run()
    }

    /// Time passes, and with it every deadline in it.
    pub fn wait(&mut self, duration: Duration) -> &mut Self {
        let end = self.now.after(duration);
        while let Some(deadline) = self.next.deadline.filter(|deadline| *deadline <= end) {
            if self.next.close.is_some() {
                break;
            }
            self.now = self.now.max(deadline);
            self.tell(Http::timeout);
            self.run();
        }
        self.now = end;
        self
    }

    /// The deadline passes, whenever that is.
    pub fn tell_timeout(&mut self) -> &mut Self {
        self.now = self.next.deadline.unwrap_or(self.now);
        self.tell(Http::timeout);
        self.run()
    }

    /// As [`Script::wait`], in milliseconds.
    pub fn wait_ms(&mut self, millis: u64) -> &mut Self {
        self.wait(Duration::from_millis(millis))
    }

    /// How long until the deadline.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u128> {
        self.next.deadline.map(|deadline| deadline.since(self.now).as_millis())
    }

    /// How the machine wants the connection closed, if it does.
    #[must_use]
    pub fn close(&self) -> Option<Close> {
        self.next.close
    }

    /// The machine of the connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connection is over, for whatever reason. A new one takes its place.
    pub fn hang_up(&mut self) {
        let (connection, next) = self.http.open(self.now, None);
        let connection = std::mem::replace(&mut self.connection, connection);
        self.next = next;
        self.closed_files += usize::from(self.http.close(connection).is_some());
    }

    /// All output so far: `|` for CRLF, `D|` for the Date, and `T|` or `O|` for the two most common
    /// types.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output)
            .replace("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "D|")
            .replace("Content-Type: text/plain; charset=utf-8\r\n", "T|")
            .replace("Content-Type: application/octet-stream\r\n", "O|")
            .replace("HTTP/1.1 ", "")
            .replace("\r\n", "|")
    }
}

/// Far more than the longest answer needs.
const STEPS_MAX: usize = 100_000;
