//! What other threads send to a worker's loop: a queue, and a bell that wakes the loop for it.

use super::RequestId;
use crate::http::Response;
use crate::io::Token;
use crate::sys::errno::Failed;
use crate::sys::notify::Bell;
use crossbeam_queue::SegQueue;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

/// What a worker's loop is told.
pub(crate) enum Mail {
    /// Resume this connection.
    Wake(Token),
    /// Answer this request.
    Answer(RequestId, Box<dyn FnOnce(&mut Response) + Send>),
    /// A thread is done with a connection; `false`: it panicked.
    Finished(bool),
}

/// One a worker; shared with all who may want to wake it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    mail: SegQueue<Mail>,
    /// The loop is awake, or will be: nobody has to ring.
    awake: AtomicBool,
    bell: Bell,
}

impl Mailbox {
    pub(crate) fn new() -> Result<Arc<Self>, Failed> {
        let bell = Bell::new()?;
        Ok(Arc::new(Self { mail: SegQueue::new(), awake: AtomicBool::new(true), bell }))
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// From any thread.
    pub(crate) fn push(&self, mail: Mail) {
        self.mail.push(mail);
        self.call();
    }

    /// Wakes the loop, if it sleeps.
    pub(crate) fn call(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            self.bell.ring();
        }
    }

    pub(crate) fn pop(&self) -> Option<Mail> {
        self.mail.pop()
    }

    /// Before the loop sleeps, or leaves it to somebody else to wake it: whether it may. What is
    /// pushed after this rings.
    pub(crate) fn may_sleep(&self) -> bool {
        self.awake.store(false, Ordering::SeqCst);
        self.mail.is_empty()
    }

    /// The loop runs, and will look before it sleeps again.
    pub(crate) fn awake(&self) {
        self.awake.store(true, Ordering::SeqCst);
    }
}

/// Resumes one connection. A `Waker` of it may go to any thread, and be used after the connection.
#[derive(Debug)]
pub(crate) struct Resume {
    token: Token,
    mailbox: Arc<Mailbox>,
    /// It was woken and has not looked since.
    woken: AtomicBool,
}

impl Resume {
    pub(crate) fn new(token: Token, mailbox: Arc<Mailbox>) -> Arc<Self> {
        Arc::new(Self { token, mailbox, woken: AtomicBool::new(false) })
    }

    /// It looks now: who wakes it from now on wakes it again.
    pub(crate) fn looks(&self) {
        self.woken.store(false, Ordering::SeqCst);
    }
}

impl Wake for Resume {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.mailbox.push(Mail::Wake(self.token));
        }
    }
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wake(token) => write!(f, "Wake({token:?})"),
            Self::Answer(id, _) => write!(f, "Answer({id:?})"),
            Self::Finished(whole) => write!(f, "Finished({whole})"),
        }
    }
}
