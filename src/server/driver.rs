//! Turns a worker whose loop is not its own: the application's, or one with more to wait for.

use super::mailbox::{IN_RING, Mail, Mailbox};
use crate::io::{Completion, Instant, Io};
use crate::protocol::Protocol;
use crate::sys::ring::Ring;
use crate::worker::Worker;
use std::sync::Arc;

/// A worker, and the mailbox that wakes it.
pub(crate) struct Driver<P: Protocol> {
    pub(crate) worker: Worker<Ring, P>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// When it turned last.
    pub(crate) turned: Instant,
    done: Vec<Completion>,
}

impl<P: Protocol> Driver<P> {
    pub(crate) fn new(mut worker: Worker<Ring, P>, mailbox: Arc<Mailbox>) -> Self {
        worker.io().hear(mailbox.bell());
        let mut done = Vec::new();
        worker.turn(&mut done);
        Self { turned: worker.now(), worker, mailbox, done }
    }

    /// Sends what is to be sent, sleeps until something happens or `until`, and handles it. Mail is
    /// left to the caller, who takes it before every pass; while there is some, nobody sleeps.
    ///
    /// Answers whether anything had completed.
    pub(crate) fn pass(&mut self, until: Option<Instant>) -> bool {
        let mut deadline = [self.worker.next_turn(), until].into_iter().flatten().min();
        if !self.mailbox.may_sleep(IN_RING) {
            deadline = Some(self.worker.now());
        }
        self.worker.wait(deadline, &mut self.done);
        self.mailbox.awake();
        let any = !self.done.is_empty();
        self.worker.turn(&mut self.done);
        self.turned = self.worker.now();
        any
    }

    /// What has been sent until now. Wakes are done here; who wakes itself meanwhile has its turn
    /// after the next pass, so that it lets all others have theirs.
    pub(crate) fn mail(&mut self) -> Vec<Mail> {
        let mut others = Vec::new();
        for _ in 0..self.mailbox.len() {
            match self.mailbox.pop() {
                Some(Mail::Wake(token)) => self.worker.resume(token),
                Some(mail) => others.push(mail),
                None => break,
            }
        }
        others
    }

    /// Sees to it that the ring's descriptor becomes readable when the next deadline comes.
    pub(crate) fn set_alarm(&mut self) {
        let next = self.worker.next_turn();
        self.worker.io().set_alarm(next);
    }

    /// Whether there is something to do before anybody may sleep.
    pub(crate) fn has_work(&mut self) -> bool {
        let next = self.worker.next_turn();
        let is_due = next.is_some_and(|at| at <= self.worker.io().now());
        is_due || self.worker.has_output() || self.worker.io().has_queued()
    }
}
