//! For an application's own tests: a handler without sockets, and, with feature `sim`, a whole pool
//! on a simulated kernel.
//!
//! ```
//! use ringfort::http::{Request, Response};
//! use ringfort::testing::Connection;
//! use std::time::Duration;
//!
//! fn handler(request: &Request<'_>, response: &mut Response) {
//!     match request.path() {
//!         "/later" => {
//!             response.after(Duration::from_secs(60), |response| response.text("at last"));
//!         }
//!         path => response.text(format!("you asked for {path}")),
//!     }
//! }
//!
//! let mut client = Connection::new(handler);
//! assert_eq!(client.get("/a").text(), "you asked for /a");
//! assert_eq!(client.get("/later").text(), "at last"); // takes no minute: the clock is the test's
//! assert_eq!(client.send("GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").status, 400);
//! assert!(client.is_closed());
//! ```

#[cfg(feature = "sim")]
mod pool;
mod reply;

use crate::fuzzing::script::Script;
use crate::http::Handler;
#[cfg(feature = "sim")]
pub use crate::sim::{Answered, FaultPlan, Ratio, Violation};
use crate::stats::{CloseReason, Counter};
#[cfg(feature = "sim")]
pub use pool::{Clock, SimulatedPool, SimulatedWorker};
pub use reply::Reply;
use std::time::Duration;

/// One client's connection to a handler. What it sends goes through the parser, the limits and the
/// timeouts of a real worker; time passes only when the test says so, or when an answer waits for
/// it.
#[derive(Debug)]
pub struct Connection<H: Handler> {
    script: Script<H>,
    /// How much of the output was read as replies.
    read: usize,
}

impl<H: Handler> Connection<H> {
    /// A connection to this handler, with the default configuration.
    pub fn new(handler: H) -> Self {
        Self::with(handler, &[])
    }

    /// The same with options, as [`Config::set`](crate::Config::set) takes them.
    ///
    /// # Panics
    ///
    /// An option is none, or its value is out of range.
    #[must_use]
    pub fn with(handler: H, options: &[(&str, &str)]) -> Self {
        Self { script: Script::new(handler, options), read: 0 }
    }

    /// GET.
    ///
    /// # Panics
    ///
    /// As [`Connection::send`].
    pub fn get(&mut self, target: &str) -> Reply {
        self.request("GET", target, &[], b"")
    }

    /// A whole request. `Host` is added, and `Content-Length` when there is a body. If the last
    /// answer closed the connection, this is a new one.
    ///
    /// # Panics
    ///
    /// As [`Connection::send`].
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        if self.is_closed() {
            self.reconnect();
        }
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !body.is_empty() {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.script.send(&bytes);
        self.reply(method == "HEAD")
    }

    /// Any bytes, and what is answered to them.
    ///
    /// # Panics
    ///
    /// Nothing is answered, now or at any deadline.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Reply {
        self.script.send(bytes);
        self.reply(false)
    }

    /// Any bytes, perhaps not enough for an answer: how many bytes have come in answer by now.
    pub fn push(&mut self, bytes: impl AsRef<[u8]>) -> usize {
        self.script.send(bytes);
        self.script.output.len() - self.read
    }

    /// Time passes, with every deadline in it.
    pub fn wait(&mut self, time: Duration) {
        self.script.wait(time);
    }

    /// The worker drains.
    pub fn drain(&mut self) {
        self.script.drain();
    }

    /// The client closes its side.
    pub fn close(&mut self) {
        self.script.eof();
    }

    /// Whether the server closes the connection now.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.script.close().is_some()
    }

    /// Why, if it does.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.script.close().map(|close| close.reason)
    }

    /// A counter of the worker.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.script.line.get(counter)
    }

    /// The next reply that has come and was not read.
    ///
    /// # Panics
    ///
    /// There is none.
    pub fn next_reply(&mut self) -> Reply {
        self.reply(false)
    }

    fn reply(&mut self, head_only: bool) -> Reply {
        loop {
            let output = &self.script.output[self.read..];
            if let Some((reply, length)) = Reply::read(output, head_only, self.is_closed()) {
                self.read += length;
                return reply;
            }
            let waits = !self.is_closed() && self.script.deadline_ms().is_some();
            assert!(waits, "no answer: {:?}", String::from_utf8_lossy(output));
            self.script.tell_timeout();
        }
    }

    fn reconnect(&mut self) {
        self.script.hang_up();
        self.script.output.clear();
        self.read = 0;
    }
}

#[cfg(test)]
mod tests;
