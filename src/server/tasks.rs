//! Async handlers: each request is a future on the worker's own loop.
//!
//! There is no executor beside the worker: a future lives in its connection, which is resumed when
//! it is woken, and dropped with it when the client leaves. So a future needs no `Send`, may borrow
//! nothing, and must not block. Its waker may be used from any thread. [`sleep`] is the timer;
//! bodies are streams in both directions, with back-pressure.
//!
//! A client that closes its connection and one that only ends its own side (`shutdown(SHUT_WR)`)
//! and waits look the same until they are written to. Both are taken for gone; with the option
//! `half_close` both get their answer, and only a reset drops a future early.
//!
//! ```no_run
//! use ringfort::Pool;
//! use ringfort::http::Response;
//! use ringfort::server::tasks::{Call, sleep};
//! use std::time::Duration;
//!
//! async fn answer(call: Call) -> Response {
//!     sleep(Duration::from_millis(5)).await;
//!     let mut response = Response::new();
//!     response.text(format!("{} after a while\n", call.path()));
//!     response
//! }
//!
//! fn main() -> Result<(), ringfort::Error> {
//!     Pool::bind("127.0.0.1:8080").serve_async(|_worker| answer)
//! }
//! ```

mod bodies;
mod clock;

pub use bodies::{Body, Sender};
pub use clock::{Sleep, sleep};

use super::Born;
use super::driver::Driver;
use super::mailbox::{Mailbox, Resume};
use crate::http::{Handler, Outcome, Owed, OwnedRequest, Request, Response, Stream, Upload};
use crate::io::{Fd, Peer};
use crate::sys::errno::Failed;
use bodies::{Feed, Produced};
use std::cell::Cell;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Makes a future of each request. Async functions and closures with one argument are such.
pub trait AsyncHandler {
    /// What a request becomes.
    type Future: Future<Output: Answer> + 'static;

    /// Called when a request's head is there; its body may still be coming.
    fn call(&mut self, call: Call) -> Self::Future;
}

impl<F, T> AsyncHandler for F
where
    F: FnMut(Call) -> T,
    T: Future<Output: Answer> + 'static,
{
    type Future = T;

    fn call(&mut self, call: Call) -> T {
        self(call)
    }
}

/// What a future may end with: a response, or a result whose error is answered with 500 (the peer
/// never sees it).
pub trait Answer {
    /// Fills in the response.
    fn fill(self, response: &mut Response);
}

impl Answer for Response {
    fn fill(self, response: &mut Response) {
        *response = self;
    }
}

impl<E: Display> Answer for Result<Response, E> {
    fn fill(self, response: &mut Response) {
        match self {
            Ok(answer) => *response = answer,
            Err(error) => response.fail(&error.to_string()),
        }
    }
}

/// A request, and its way back. It dereferences to the head; its body is a stream of its own.
#[derive(Debug)]
pub struct Call {
    request: OwnedRequest,
    body: Body,
    link: Rc<Link>,
}

/// What a future knows of its connection.
#[derive(Debug)]
struct Link {
    resume: Arc<Resume>,
    fd: Fd,
    lookup: fn(&Fd) -> Peer,
    /// The connection has not let go of the future.
    open: Cell<bool>,
}

impl Call {
    /// The body, while it comes; its end is there at once if there is none.
    pub fn body(&mut self) -> &mut Body {
        &mut self.body
    }

    /// A body for the answer, made by a future that runs while it is sent:
    /// `response.stream(call.stream(|sender| async move { … }))`. It is dropped when the client
    /// leaves; an error cuts the connection, so that the client does not take the body for whole.
    pub fn stream<F, T>(&self, make: F) -> impl Stream + use<F, T>
    where
        F: FnOnce(Sender) -> T,
        T: Future<Output: Outcome> + 'static,
    {
        Produced::new(make, Arc::clone(&self.link.resume))
    }

    /// The peer's address; `None` on a Unix socket, and when the answer was given. Costs a system
    /// call.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        if self.link.open.get() { (self.link.lookup)(&self.link.fd).address() } else { None }
    }
}

impl Deref for Call {
    type Target = OwnedRequest;

    fn deref(&self) -> &OwnedRequest {
        &self.request
    }
}

/// A future, and who is resumed when it is woken.
struct Task<T> {
    future: Pin<Box<T>>,
    link: Rc<Link>,
    waker: Waker,
    /// It was polled in this very call; the connection asks once more.
    is_fresh: bool,
}

impl<T: Future<Output: Answer>> Task<T> {
    fn new(future: T, link: Rc<Link>) -> Self {
        let waker = Waker::from(Arc::clone(&link.resume));
        Self { future: Box::pin(future), link, waker, is_fresh: false }
    }

    fn step(&mut self, response: &mut Response) -> Poll<()> {
        self.link.resume.looks();
        let mut context = Context::from_waker(&self.waker);
        self.future.as_mut().poll(&mut context).map(|answer| answer.fill(response))
    }

    /// The same, for the first time; it is owed if it is not there.
    fn begin(mut self, response: &mut Response)
    where
        T: 'static,
    {
        if self.step(response).is_pending() {
            self.is_fresh = true;
            response.owe(Box::new(self));
        }
    }
}

impl<T: Future<Output: Answer>> Owed for Task<T> {
    fn poll(&mut self, response: &mut Response) -> Poll<()> {
        if std::mem::take(&mut self.is_fresh) {
            return Poll::Pending;
        }
        self.step(response)
    }

    fn ends_at_eof(&self) -> bool {
        true
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.link.open.set(false);
    }
}

/// The handler that makes futures.
pub(super) struct Async<F> {
    make: F,
    mailbox: Arc<Mailbox>,
}

impl<F: AsyncHandler + 'static> Async<F> {
    /// Serves until it has drained.
    pub(super) fn run(born: Born, make: F) -> Result<(), Failed> {
        let mailbox = Mailbox::new()?;
        let handler = Self { make, mailbox: Arc::clone(&mailbox) };
        let mut driver = Driver::new(born.http(handler), mailbox);
        loop {
            // Nobody sends a future anything but a wake.
            drop(driver.mail());
            if driver.worker.is_done() {
                return Ok(());
            }
            driver.pass(clock::next());
            clock::fire(driver.worker.now());
        }
    }

    fn task(&mut self, request: &Request<'_>, body: Body) -> Task<F::Future> {
        let (fd, lookup) = request.socket();
        let resume = Resume::new(request.token(), Arc::clone(&self.mailbox));
        let link = Rc::new(Link { resume, fd, lookup, open: Cell::new(true) });
        let call = Call { request: request.into(), body, link: Rc::clone(&link) };
        Task::new(self.make.call(call), link)
    }
}

impl<F: AsyncHandler + 'static> Handler for Async<F> {
    fn handle(&mut self, request: &Request<'_>, response: &mut Response) {
        self.task(request, Body::empty()).begin(response);
    }

    fn upload(&mut self, head: &Request<'_>) -> Option<Box<dyn Upload>> {
        let body = Body::coming();
        let feed = body.pipe();
        Some(Box::new(Feed::begin(self.task(head, body), feed)))
    }
}
