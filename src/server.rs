//! The event-driven worker: an application's own loop over the worker's requests. It runs beside
//! whatever else the loop watches, and answers when it likes.
//!
//! ```no_run
//! use ringfort::Pool;
//! use ringfort::server::Server;
//!
//! fn main() -> Result<(), ringfort::Error> {
//!     Pool::bind("127.0.0.1:8080").run_workers(|_worker_id: u32, server: &mut Server| {
//!         while server.wait(None) {
//!             while let Some(request) = server.next_request() {
//!                 let text = format!("you asked for {}\n", request.path());
//!                 // It fails only if the client has left in the meantime.
//!                 let _ = server.respond(request.id(), |response| response.text(text));
//!             }
//!         }
//!     })
//! }
//! ```

pub(crate) mod born;
mod desk;
mod driver;
mod mailbox;
pub mod raw;
pub mod tasks;

pub(crate) use born::{Born, Job};

use crate::http::{Http, OwnedRequest, Response};
use crate::io::{Fd, Instant, Io, Token};
use crate::sys::errno::Failed;
use crate::worker::{Key, Slots};
use desk::{Desk, Inbox, Stage};
use driver::Driver;
use mailbox::{Mail, Mailbox, OUTSIDE};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A worker whose loop is the application's.
pub trait EventDriven {
    /// Called once in each worker; `worker_id` is its slot, from 0. Returns when [`Server::wait`]
    /// says so; one that returns earlier drains, and is replaced.
    fn run(&mut self, worker_id: u32, server: &mut Server);
}

impl<F: FnMut(u32, &mut Server)> EventDriven for F {
    fn run(&mut self, worker_id: u32, server: &mut Server) {
        self(worker_id, server);
    }
}

/// Names a request that was handed out, until it is answered or its client has left. Who has only
/// ended its own side of the connection (`shutdown(SHUT_WR)`) may wait for the answer, and gets it;
/// a client that closes looks the same until it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(Key);

/// A request that waits for an answer. It dereferences to its content.
#[derive(Debug)]
pub struct Pending {
    id: RequestId,
    request: OwnedRequest,
}

impl Pending {
    /// What to answer it by.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Its content alone, to be moved to where it is worked on.
    #[must_use]
    pub fn into_request(self) -> OwnedRequest {
        self.request
    }
}

impl Deref for Pending {
    type Target = OwnedRequest;

    fn deref(&self) -> &OwnedRequest {
        &self.request
    }
}

/// This request waits for no answer: it was answered, its ticket was taken, or its client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOwed;

impl fmt::Display for NotOwed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was answered already, or its client has left")
    }
}

impl std::error::Error for NotOwed {}

/// The right and the duty to answer one request, from any thread. One that is dropped answers 500.
#[derive(Debug)]
#[must_use = "a ticket that is dropped answers 500"]
pub struct Ticket {
    id: RequestId,
    mailbox: Option<Arc<Mailbox>>,
}

impl Ticket {
    /// Answers: `fill` runs on the worker's loop, so the work is done before. If the client has
    /// left in the meantime, it is dropped without a call.
    pub fn answer(mut self, fill: impl FnOnce(&mut Response) + Send + 'static) {
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.push(Mail::Answer(self.id, Box::new(fill)));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.push(Mail::Answer(self.id, Box::new(|response| response.plain(500))));
        }
    }
}

/// The worker as its application's loop sees it. It stays on its thread:
///
/// ```compile_fail
/// fn elsewhere(server: ringfort::server::Server) {
///     std::thread::spawn(move || drop(server));
/// }
/// ```
pub struct Server {
    driver: Driver<Http<Inbox>>,
    desk: Rc<RefCell<Desk>>,
    /// Somebody watches the descriptor.
    notify: bool,
    /// The loop was told that there is nothing to do, and may sleep.
    told_quiet: bool,
    /// The loop was told that the worker drains.
    told_draining: bool,
    /// Everything was looked at by the last `wait`.
    fresh: bool,
    /// The loop has asked for a request since the last `wait`.
    taken: bool,
}

impl Server {
    /// Sleeps until there is a request, the drain begins, or `timeout` has passed (`None`: however
    /// long it takes). `false`: the worker has drained, and the loop is to end. A request that was
    /// left lying after the `wait` before ends it only when something else happens.
    pub fn wait(&mut self, timeout: Option<Duration>) -> bool {
        let until = timeout.map(|timeout| self.driver.worker.io().now().after(timeout));
        self.told_quiet = false;
        self.catch_up();
        let mut left_lying = !std::mem::take(&mut self.taken);
        loop {
            self.read_mail();
            let began_to_drain = self.driver.worker.is_draining() && !self.told_draining;
            self.told_draining |= began_to_drain;
            if (self.desk.borrow().queued > 0 && !left_lying) || began_to_drain {
                self.fresh = true;
                return true;
            }
            if self.driver.worker.is_done() {
                return false;
            }
            if until.is_some_and(|until| until <= self.driver.worker.now()) {
                return true;
            }
            self.driver.pass(until);
            left_lying = false;
        }
    }

    /// Whether a request waits. Never sleeps; sends what was answered and handles what has come.
    pub fn has_request(&mut self) -> bool {
        self.catch_up();
        if self.desk.borrow().queued == 0 {
            self.settle();
        }
        self.desk.borrow().queued > 0
    }

    /// The next request. `None`: there is none now, and everything that was answered is on its way;
    /// a loop that watches [`Server::notify_fd`] may sleep. Requests of one connection come one
    /// after the other: the next when the one before is answered.
    pub fn next_request(&mut self) -> Option<Pending> {
        self.catch_up();
        self.taken = true;
        let next = self.desk.borrow_mut().next();
        if next.is_some() {
            return next;
        }
        // Whoever calls `wait` next gets the same done there, at the price of one system call less.
        if std::mem::take(&mut self.fresh) && !self.notify {
            return None;
        }
        self.settle();
        self.desk.borrow_mut().next()
    }

    /// Answers a request of any connection, in any order.
    ///
    /// # Errors
    ///
    /// It was answered already, its ticket was taken, or its client has left. `fill` is not called
    /// then.
    pub fn respond(
        &mut self,
        id: RequestId,
        fill: impl FnOnce(&mut Response) + 'static,
    ) -> Result<(), NotOwed> {
        let token = self.set_stage(id, Stage::Answered(Box::new(fill)))?;
        self.driver.worker.resume(token);
        if std::mem::take(&mut self.told_quiet) {
            // It may go to sleep without asking again; this answer has to leave.
            self.driver.mailbox.call();
        }
        Ok(())
    }

    /// Lets a request be answered from another thread.
    ///
    /// # Errors
    ///
    /// As [`Server::respond`].
    pub fn ticket(&mut self, id: RequestId) -> Result<Ticket, NotOwed> {
        self.set_stage(id, Stage::Ticketed)?;
        Ok(Ticket { id, mailbox: Some(Arc::clone(&self.driver.mailbox)) })
    }

    fn set_stage(&self, id: RequestId, to: Stage) -> Result<Token, NotOwed> {
        match self.desk.borrow_mut().owed.get_mut(id.0) {
            Some((token, stage @ Stage::Given)) => {
                *stage = to;
                Ok(*token)
            }
            _ => Err(NotOwed),
        }
    }

    /// Whether a request that was handed out waits for its answer.
    #[must_use]
    pub fn has_pending_response(&self) -> bool {
        let desk = self.desk.borrow();
        desk.owed.len() > desk.queued
    }

    /// Readable when there is something to do, until [`Server::next_request`] has said that there
    /// is none; ask until then if what watches is edge triggered. For epoll and all that is built
    /// on it. Deadlines, connections of the master, and answers from other threads make it readable
    /// too.
    ///
    /// # Errors
    ///
    /// Out of descriptors.
    pub fn notify_fd(&mut self) -> io::Result<BorrowedFd<'_>> {
        let mailbox = Arc::clone(&self.driver.mailbox);
        let number = |failed: Failed| io::Error::from_raw_os_error(failed.number);
        let bell = mailbox.notify().map_err(number)?;
        if !std::mem::replace(&mut self.notify, true) {
            self.driver.worker.io().set_notify(bell).map_err(number)?;
            self.settle();
        }
        Ok(self.driver.mailbox.notify().map_err(number)?.as_fd())
    }

    /// Serves a connection that was obtained elsewhere: a connected stream socket.
    pub fn add_connection(&mut self, socket: impl Into<OwnedFd>) {
        self.driver.worker.add(Fd::new(socket.into().into_raw_fd()));
        if std::mem::take(&mut self.told_quiet) {
            self.driver.mailbox.call();
        }
    }

    /// The address of the client of a request that is not answered yet; `None` on a Unix socket.
    /// Costs a system call.
    #[must_use]
    pub fn peer(&self, id: RequestId) -> Option<SocketAddr> {
        let token = self.desk.borrow().owed.get(id.0)?.0;
        self.driver.worker.peer(token)
    }

    /// Whether the worker finishes what runs and takes nothing new.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.driver.worker.is_draining()
    }

    /// Whether it has drained: the loop is to end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.driver.worker.is_done()
    }

    /// Drains this worker, as TERM does; the pool replaces it. Go on until [`Server::is_done`], or
    /// return: what is not answered then, is answered with 503.
    pub fn stop(&mut self) {
        self.driver.worker.retire(None);
        if std::mem::take(&mut self.told_quiet) {
            self.driver.mailbox.call();
        }
    }

    pub(crate) fn new(born: Born) -> Result<(u32, Self), Failed> {
        let mailbox = Mailbox::new()?;
        let owed = Slots::with_capacity(64);
        let desk = Rc::new(RefCell::new(Desk { queue: VecDeque::new(), owed, queued: 0 }));
        let slot = born.slot();
        let driver = Driver::new(born.http(Inbox(Rc::clone(&desk))), mailbox);
        let server = Self {
            driver,
            desk,
            notify: false,
            told_quiet: false,
            told_draining: false,
            fresh: false,
            taken: true,
        };
        Ok((slot, server))
    }

    /// The application's loop has ended: drains what is left.
    pub(crate) fn finish(mut self) {
        self.stop();
        while !self.driver.worker.is_done() {
            self.read_mail();
            let owed: Vec<Key> = self.desk.borrow().owed.keys();
            for key in owed {
                self.give_up(key);
            }
            self.driver.pass(None);
        }
    }

    fn give_up(&mut self, key: Key) {
        let mut desk = self.desk.borrow_mut();
        let Some((token, stage)) = desk.owed.get_mut(key) else { return };
        if let Stage::Queued | Stage::Given = stage {
            let was_queued = matches!(stage, Stage::Queued);
            *stage = Stage::Answered(Box::new(|response| response.plain(503)));
            let token = *token;
            desk.queued -= usize::from(was_queued);
            drop(desk);
            self.driver.worker.resume(token);
        }
    }

    /// What other threads have sent.
    fn read_mail(&mut self) {
        for mail in self.driver.mail() {
            let Mail::Answer(id, fill) = mail else { continue };
            let token = match self.desk.borrow_mut().owed.get_mut(id.0) {
                Some((token, stage @ Stage::Ticketed)) => {
                    *stage = Stage::Answered(fill);
                    *token
                }
                _ => continue,
            };
            self.driver.worker.resume(token);
        }
    }

    /// However many requests wait: after a millisecond of the application's work, what it has
    /// answered leaves, and what has come is seen.
    fn catch_up(&mut self) {
        let now = self.driver.worker.io().now();
        if now.since(self.driver.turned) >= PASS_AFTER {
            self.read_mail();
            self.driver.pass(Some(Instant::default()));
        }
    }

    /// Does everything that can be done without waiting; stops at the first request.
    fn settle(&mut self) {
        // Right after a sleep there is something; what clears the descriptor then is the pass
        // after.
        let mut is_first = std::mem::take(&mut self.told_quiet);
        for _ in 0..PASSES_MAX {
            self.read_mail();
            if self.desk.borrow().queued > 0 || self.driver.worker.is_done() {
                return;
            }
            let clears = self.notify && !std::mem::take(&mut is_first);
            if clears {
                self.driver.worker.io().clear_notify();
            }
            let nothing_came = !self.driver.pass(Some(Instant::default()));
            if self.desk.borrow().queued > 0 {
                if clears {
                    // Whoever takes one and watches again has to see the others.
                    self.driver.mailbox.remind();
                }
                return;
            }
            if self.notify {
                self.driver.set_alarm();
            }
            let is_quiet = (clears && nothing_came) || !self.notify;
            if is_quiet && !self.driver.has_work() && self.driver.mailbox.may_sleep(OUTSIDE) {
                self.told_quiet = true;
                return;
            }
        }
        // Others have their turn; but not for long.
        let _ = self.driver.mailbox.may_sleep(OUTSIDE);
        self.driver.mailbox.call();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("draining", &self.is_draining()).finish_non_exhaustive()
    }
}

/// How long an answer waits at most for the application to take more requests, but for what it does
/// with one.
const PASS_AFTER: Duration = Duration::from_millis(1);

/// Passes without a request before the application's loop has its turn again.
const PASSES_MAX: u32 = 64;
