//! What other threads send to a worker's loop: a queue, and a bell that wakes the loop for it.

use super::RequestId;
use crate::http::Response;
use crate::io::Token;
use crate::sys::errno::Failed;
use crate::sys::notify::Bell;
use crossbeam_queue::SegQueue;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
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
    /// Where the loop sleeps: [`AWAKE`] (or it will be: nobody has to ring), [`IN_RING`] or
    /// [`OUTSIDE`].
    place: AtomicU8,
    bell: Bell,
    /// Rung by the ring too, for a loop that sleeps outside.
    notify: OnceLock<Bell>,
}

impl Mailbox {
    pub(crate) fn new() -> Result<Arc<Self>, Failed> {
        let bell = Bell::new()?;
        let (mail, place, notify) = (SegQueue::new(), AtomicU8::new(AWAKE), OnceLock::new());
        Ok(Arc::new(Self { mail, place, bell, notify }))
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
        match (self.place.swap(AWAKE, Ordering::SeqCst), self.notify.get()) {
            (AWAKE, _) => {}
            (OUTSIDE, Some(notify)) => notify.ring(),
            _ => self.bell.ring(),
        }
    }

    /// What a loop outside of the ring watches; made at the first call.
    pub(crate) fn notify(&self) -> Result<&Bell, Failed> {
        if self.notify.get().is_none() {
            let _ = self.notify.set(Bell::new()?);
        }
        Ok(self.notify.get().unwrap_or(&self.bell))
    }

    /// Makes that readable: there is more than was taken.
    pub(crate) fn remind(&self) {
        if let Some(notify) = self.notify.get() {
            notify.ring();
        }
    }

    pub(crate) fn pop(&self) -> Option<Mail> {
        self.mail.pop()
    }

    pub(crate) fn len(&self) -> usize {
        self.mail.len()
    }

    /// Before the loop sleeps: whether it may. What is pushed after this rings.
    pub(crate) fn may_sleep(&self, place: u8) -> bool {
        self.place.store(place, Ordering::SeqCst);
        self.mail.is_empty()
    }

    /// The loop runs, and will look before it sleeps again.
    pub(crate) fn awake(&self) {
        self.place.store(AWAKE, Ordering::SeqCst);
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

/// The loop runs.
pub(crate) const AWAKE: u8 = 0;
/// It sleeps in the ring's `wait`.
pub(crate) const IN_RING: u8 = 1;
/// It may sleep wherever its application likes, and watches the descriptor.
pub(crate) const OUTSIDE: u8 = 2;
