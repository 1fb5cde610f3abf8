//! What an application gives to the server: handlers, receivers and sources of long bodies. Pure.

use super::request::Request;
use super::response::Response;
use std::fmt::Display;
use std::task::Poll;
use std::time::Duration;

/// Answers requests. Every worker has one of its own, and calls it for one request at a time.
///
/// A closure is a handler: `|request, response| response.text("Hello, World!")`. It may return
/// `Result<(), E>`; an error is answered with 500.
///
/// A panic is contained: that request is answered with 500, its connection closed, and the handler
/// called again for the next request of another connection. Its state is then what the panic left.
pub trait Handler {
    /// Answers one request. A response that is left as it is means 200 without a body. Without a
    /// method of its own a handler says `Hello from Worker Pool!`.
    fn handle(&mut self, request: &Request<'_>, response: &mut Response) {
        let _ = request;
        response.text("Hello from Worker Pool!");
    }

    /// Asked when a request announces a body: who receives it while it comes. `None` (the default):
    /// it is kept until it is whole, and given to [`Handler::handle`].
    fn upload(&mut self, head: &Request<'_>) -> Option<Box<dyn Upload>> {
        let _ = head;
        None
    }
}

impl<F, R> Handler for F
where
    F: FnMut(&Request<'_>, &mut Response) -> R,
    R: Outcome,
{
    fn handle(&mut self, request: &Request<'_>, response: &mut Response) {
        if let Err(error) = self(request, response).into_result() {
            response.fail(&error);
        }
    }
}

/// What a closure may return: nothing, or a result whose error is answered with 500.
pub trait Outcome {
    /// An error as text. The peer never sees it.
    ///
    /// # Errors
    ///
    /// The closure failed.
    fn into_result(self) -> Result<(), String>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// Receives the body of one request while it comes, instead of having it kept whole.
pub trait Upload {
    /// The next bytes of the content, without the chunked coding around them. Never empty.
    fn write(&mut self, bytes: &[u8]);

    /// The body was whole: answer the request. An upload that ends early is only dropped.
    fn finish(self: Box<Self>, response: &mut Response);

    /// Whether it can take no more for now: reading pauses until its connection is resumed, which
    /// is its own to see to (an async handler's body does). Never, by default.
    fn is_full(&self) -> bool {
        false
    }

    /// Its connection was resumed.
    fn resume(&mut self) {}
}

/// An answer that somebody else gives, later: asked whenever its connection is resumed. Dropped
/// when the client leaves.
pub(crate) trait Owed {
    /// Fills in the response, if it is there.
    fn poll(&mut self, response: &mut Response) -> Poll<()>;

    /// Whether it is given up when the client ends its side, unless `half_close` is set. A client
    /// that closes looks the same until it is written to.
    fn ends_at_eof(&self) -> bool {
        false
    }
}

/// The source of an answer's body, asked for more whenever what it gave has left.
pub trait Stream {
    /// Appends the next bytes to `out`. At best some 16 to 64 KiB: all of them are held in memory.
    fn next(&mut self, out: &mut Vec<u8>) -> Pull;

    /// How many bytes will come in all, if that is known: sent as Content-Length. A stream that
    /// brings more or fewer fails. `None` (the default): sent chunked, and to an HTTP/1.0 client
    /// until the close.
    fn length(&self) -> Option<u64> {
        None
    }
}

/// What a [`Stream`] says with each piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// There is more. Ask again; after a millisecond if nothing came.
    More,
    /// That was the end.
    Done,
    /// Ask again after this time, and after a millisecond at the earliest.
    Later(Duration),
    /// Nothing now; ask again when the connection is resumed, which is the stream's to see to (an
    /// async body does).
    Wait,
    /// It cannot go on: the connection is cut, so that the peer does not take the answer for whole.
    Failed,
}
