//! A connection under a script: what a worker does, by hand and with a clock of its own.

use super::{Connection, Http};
use crate::config::Config;
use crate::http::Handler;
use crate::io::{Errno, Fd, Instant};
use crate::ipc::board::Line;
use crate::protocol::{Close, Cx, Next, Out, Protocol};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// One connection, its worker and its client.
#[derive(Debug)]
pub(crate) struct Script<H: Handler> {
    http: Http<H>,
    connection: Option<Connection>,
    pub(crate) line: Line,
    pub(crate) next: Next,
    now: Instant,
    fd: Fd,
    /// How many bytes of output may be held.
    pub(crate) room: usize,
    /// The client reads: output leaves after every call.
    pub(crate) reads: bool,
    held: (Vec<u8>, Option<crate::io::Bytes>),
    pub(crate) output: Vec<u8>,
    /// Files that were closed.
    pub(crate) closed_files: usize,
}

impl<H: Handler> Script<H> {
    pub(crate) fn new(handler: H, options: &[(&str, &str)]) -> Self {
        let mut config = Config::default();
        for (name, value) in options {
            config.set(name, value).unwrap();
        }
        let mut http = Http::new(handler, &config);
        http.tick(0);
        let now = Instant::from_nanos(1_000_000_000);
        let (connection, next) = http.open(now);
        Self {
            http,
            connection: Some(connection),
            line: Line::detached(),
            next,
            now,
            fd: Fd::new(-1),
            room: 1 << 20,
            reads: true,
            held: (Vec::new(), None),
            output: Vec::new(),
            closed_files: 0,
        }
    }

    /// One call into the machine. A connection that is closing is told nothing any more.
    fn tell(&mut self, event: impl FnOnce(&mut Http<H>, &mut Connection, &mut Cx<'_>) -> Next) {
        let Some(connection) = &mut self.connection else { return };
        if self.next.close.is_some() {
            return;
        }
        let (buffer, body) = &mut self.held;
        let out = Out::new(buffer, body, 0, self.room);
        let lookup = |_: &Fd| Some(([127, 0, 0, 1], 9).into());
        let mut cx = Cx { now: self.now, out, stats: &self.line, fd: &self.fd, lookup };
        self.next = event(&mut self.http, connection, &mut cx);
        if self.http.finished_file(connection).is_some() {
            self.closed_files += 1;
        }
    }

    /// What a worker does until the machine has no wish left that needs neither client nor time.
    pub(crate) fn run(&mut self) -> &mut Self {
        for _ in 0..100_000 {
            if self.reads {
                self.output.append(&mut self.held.0);
                self.output.extend_from_slice(&self.held.1.take().unwrap_or_default());
            }
            let is_empty = self.held.0.is_empty() && self.held.1.is_none();
            if self.next.close.is_some() {
                return self;
            } else if let Some((offset, length)) = self.next.read_file {
                let bytes = self.read_file(offset, length);
                self.tell(|http, connection, cx| http.file(connection, bytes, cx));
            } else if (self.next.flushed || self.next.again) && is_empty {
                self.tell(|http, connection, cx| http.resume(connection, cx));
            } else {
                return self;
            }
        }
        panic!("the machine wants to go on for ever: {:?}", self.next);
    }

    fn read_file(&self, offset: u64, length: u32) -> Result<Vec<u8>, Errno> {
        let fd = Http::<H>::file_of(self.connection.as_ref().unwrap()).unwrap();
        let file = File::open(format!("/proc/self/fd/{}", fd.raw())).unwrap();
        let mut bytes = vec![0; length as usize];
        let count = file.read_at(&mut bytes, offset).map_err(|_| Errno::Gone)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// The client sends.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.receive(bytes).run()
    }

    /// The client sends, and the worker has not come to anything else yet.
    pub(crate) fn receive(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.tell(|http, connection, cx| http.receive(connection, bytes.as_ref(), cx));
        self
    }

    /// The client sends the bytes in pieces that end at these places.
    pub(crate) fn send_cut(&mut self, bytes: &[u8], cuts: &[usize]) -> &mut Self {
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
    pub(crate) fn eof(&mut self) -> &mut Self {
        self.tell(Http::eof);
        self.run()
    }

    /// The worker drains.
    pub(crate) fn drain(&mut self) -> &mut Self {
        self.tell(Http::drain);
        self.run()
    }

    /// Time passes, and with it every deadline in it.
    pub(crate) fn wait(&mut self, duration: Duration) -> &mut Self {
        let end = self.now.after(duration);
        while let Some(deadline) = self.next.deadline.filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.tell(Http::timeout);
            self.run();
        }
        self.now = end;
        self
    }

    pub(crate) fn wait_ms(&mut self, millis: u64) -> &mut Self {
        self.wait(Duration::from_millis(millis))
    }

    /// How long until the deadline.
    pub(crate) fn deadline_ms(&self) -> Option<u128> {
        self.next.deadline.map(|deadline| deadline.since(self.now).as_millis())
    }

    pub(crate) fn close(&self) -> Option<Close> {
        self.next.close
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.connection.as_ref().unwrap()
    }

    /// The connection is over, for whatever reason.
    pub(crate) fn hang_up(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.http.close(connection).is_some()
        {
            self.closed_files += 1;
        }
    }

    /// All output so far: `|` for CRLF, `D|` for the Date field.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output)
            .replace("Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "D|")
            .replace("Content-Type: text/plain; charset=utf-8\r\n", "T|")
            .replace("Content-Type: application/octet-stream\r\n", "O|")
            .replace("HTTP/1.1 ", "")
            .replace("\r\n", "|")
    }
}
