//! Application messages between master and workers: what waits to leave, what came in part, and who
//! is called. Pure.
//!
//! They travel on a stream of their own beside the channel, so that a large one never delays a
//! connection, and a handover never waits for who does not read its mail.

use super::frame::{self, Frames};
use super::message::Message;
use super::{Error, ErrorKind, WireError};
use crate::panics::contained;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// One end of a stream of messages.
#[derive(Debug)]
pub struct Mail {
    max: usize,
    frames: Frames,
    out: Vec<u8>,
}

impl Mail {
    /// For messages of up to `max` bytes (`message_max`).
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, frames: Frames::new(max), out: Vec::new() }
    }

    /// Something to send. Says `false`, and does not take it, when a whole message of the largest
    /// size waits already: the other end does not read.
    pub fn push(&mut self, frame: &[u8]) -> bool {
        let room = self.out.len() <= self.max;
        if room {
            self.out.extend_from_slice(frame);
        }
        room
    }

    /// All that waits, for one send.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        (!self.out.is_empty()).then(|| std::mem::take(&mut self.out))
    }

    /// What could not be sent goes before all that waits.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.out.splice(..0, bytes.iter().copied());
    }

    /// For the next program of this process: what came in part, and what waits to leave.
    #[must_use]
    pub fn save(&self) -> (&[u8], &[u8]) {
        (self.frames.rest(), &self.out)
    }

    /// What another program saved.
    #[must_use]
    pub fn restored(max: usize, came: &[u8], out: Vec<u8>) -> Self {
        let mut frames = Frames::new(max);
        frames.push(came);
        Self { max, frames, out }
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Bytes came: every message that is whole by now.
    ///
    /// # Errors
    ///
    /// A frame or message that is none, or above the limit: the stream cannot be read on.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Message>, WireError> {
        self.frames.push(bytes);
        let mut messages = Vec::new();
        while let Some(payload) = self.frames.next_frame()? {
            messages.push(Message::parse(payload, self.max)?);
        }
        Ok(messages)
    }
}

/// A message as it leaves.
fn frame(message: &Message, max: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    frame::encode(&message.encode(max)?, max, &mut bytes)?;
    Ok(bytes)
}

fn full() -> Error {
    Error::new(ErrorKind::Ipc, "too many messages wait to be sent: this one was not taken")
}

/// Messages of one worker to its master and back. All copies are one; for the worker's own thread.
///
/// Get it from `WorkerInfo::mail`, in the factory that makes the handler.
#[derive(Clone, Default)]
pub struct WorkerMail(Rc<RefCell<WorkerDesk>>);

#[derive(Default)]
struct WorkerDesk {
    mail: Option<Mail>,
    hook: Option<Box<dyn FnMut(Message)>>,
}

impl WorkerMail {
    /// One that is connected; the default is not.
    pub(crate) fn connected(max: usize) -> Self {
        let mail = Some(Mail::new(max));
        Self(Rc::new(RefCell::new(WorkerDesk { mail, hook: None })))
    }

    /// Sends a message to the master, after what runs now.
    ///
    /// # Errors
    ///
    /// It is above `message_max`; the pool has no mail (`Pool::messages`); or the master has left a
    /// whole message of the largest size unread.
    pub fn send(&self, message: &Message) -> Result<(), Error> {
        let mut desk = self.0.borrow_mut();
        let none = || Error::new(ErrorKind::Ipc, "this pool has no mail: see `Pool::messages`");
        let mail = desk.mail.as_mut().ok_or_else(none)?;
        if mail.push(&frame(message, mail.max)?) { Ok(()) } else { Err(full()) }
    }

    /// Calls this for every message of the master, between requests. Must not block.
    pub fn on_message(&self, hook: impl FnMut(Message) + 'static) {
        self.0.borrow_mut().hook = Some(Box::new(hook));
    }

    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        self.0.borrow_mut().mail.as_mut()?.take()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().mail.as_ref().is_none_or(Mail::is_empty)
    }

    /// Nothing can be sent any more.
    pub(crate) fn disconnect(&self) {
        self.0.borrow_mut().mail = None;
    }

    pub(crate) fn receive(&self, bytes: &[u8]) -> Result<Vec<Message>, WireError> {
        let mut desk = self.0.borrow_mut();
        desk.mail.as_mut().map_or_else(|| Ok(Vec::new()), |mail| mail.receive(bytes))
    }

    /// Hands a message to the application, which may send meanwhile; `false`: it panicked.
    pub(crate) fn deliver(&self, message: Message) -> bool {
        let hook = self.0.borrow_mut().hook.take();
        let Some(mut hook) = hook else { return true };
        let result = contained(|| hook(message));
        self.0.borrow_mut().hook.get_or_insert(hook);
        result.is_ok()
    }
}

pub(crate) type Letter = (Option<u32>, Result<Vec<u8>, Error>);

/// Messages of the master to its workers and back. All copies are one; for the master's own thread:
/// give it to `Pool::messages`, and use copies in the pool's hooks.
#[derive(Clone, Default)]
pub struct MasterMail(Rc<RefCell<MasterDesk>>);

#[derive(Default)]
struct MasterDesk {
    /// What waits to be given to workers, and to whom; `None`: to all.
    out: Vec<(Option<u32>, Message)>,
    hook: Option<Box<dyn FnMut(u32, Message)>>,
}

impl MasterMail {
    /// Most messages that may wait for the master's next pass.
    pub const WAITING_MAX: usize = 10_000;

    /// Nothing waits, and nobody is called.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends a message to the worker of a slot. One that is not there, or does not read, does not
    /// get it: that is an event.
    ///
    /// # Errors
    ///
    /// [`MasterMail::WAITING_MAX`] wait already.
    pub fn send(&self, worker: u32, message: &Message) -> Result<(), Error> {
        self.push(Some(worker), message)
    }

    /// Sends a message to every worker that serves.
    ///
    /// # Errors
    ///
    /// As [`MasterMail::send`].
    pub fn broadcast(&self, message: &Message) -> Result<(), Error> {
        self.push(None, message)
    }

    fn push(&self, worker: Option<u32>, message: &Message) -> Result<(), Error> {
        let mut desk = self.0.borrow_mut();
        if desk.out.len() >= Self::WAITING_MAX {
            return Err(full());
        }
        desk.out.push((worker, message.clone()));
        Ok(())
    }

    /// Calls this for every message of a worker, with its slot. Must not block.
    pub fn on_message(&self, hook: impl FnMut(u32, Message) + 'static) {
        self.0.borrow_mut().hook = Some(Box::new(hook));
    }

    /// What waits: for whom, and as it leaves, or why it can't.
    pub(crate) fn take(&self, max: usize) -> Vec<Letter> {
        let out = std::mem::take(&mut self.0.borrow_mut().out);
        out.into_iter().map(|(worker, message)| (worker, frame(&message, max))).collect()
    }

    /// Hands a message to the application, which may send meanwhile; `false`: it panicked.
    pub(crate) fn deliver(&self, worker: u32, message: Message) -> bool {
        let hook = self.0.borrow_mut().hook.take();
        let Some(mut hook) = hook else { return true };
        let result = contained(|| hook(worker, message));
        self.0.borrow_mut().hook.get_or_insert(hook);
        result.is_ok()
    }
}

impl fmt::Debug for WorkerMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerMail")
    }
}

impl fmt::Debug for MasterMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterMail")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::message::MessageType;
    use crate::ipc::{Map, Value};

    fn message(text: &str) -> Message {
        let mut data = Map::new();
        data.insert("text".to_owned(), Value::from(text));
        Message::new(MessageType::Other("app".to_owned()), data, 0.0)
    }

    #[test]
    fn messages_come_out_whole_and_in_order_wherever_they_were_cut() {
        let (worker, mut master) = (WorkerMail::connected(1000), Mail::new(1000));
        let sent: Vec<Message> = ["a", "b", &"c".repeat(900)].map(message).to_vec();
        sent.iter().for_each(|message| worker.send(message).unwrap());
        let bytes = worker.take().unwrap();
        assert!(worker.is_empty());
        for piece in [1, 7, 10_000] {
            let parts = bytes.chunks(piece).map(|part| master.receive(part).unwrap());
            assert_eq!(parts.flatten().collect::<Vec<_>>(), sent);
        }
    }

    #[test]
    fn who_does_not_read_is_not_written_to_without_end() {
        let worker = WorkerMail::connected(1000);
        let sent = (0..).take_while(|_| worker.send(&message("tick")).is_ok()).count();
        assert!((10..100).contains(&sent), "{sent}");
        assert!(worker.take().is_some());
        worker.send(&message("room again")).unwrap();
        let large = worker.send(&message(&"x".repeat(1000))).unwrap_err();
        assert!(large.to_string().contains("at most 1000"), "{large}");
        let none = WorkerMail::default().send(&message("")).unwrap_err();
        assert!(none.to_string().contains("no mail"), "{none}");
        let master = MasterMail::new();
        let sent = (0..).take_while(|_| master.broadcast(&message("")).is_ok()).count();
        assert_eq!(sent, MasterMail::WAITING_MAX);
    }

    #[test]
    fn a_hook_may_answer_at_once() {
        let master = MasterMail::new();
        let copy = master.clone();
        master.on_message(move |worker, got| copy.send(worker, &got).unwrap());
        assert!(master.deliver(3, message("echo")) && master.deliver(4, message("echo")));
        let out = master.take(1000);
        assert_eq!(out.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [Some(3), Some(4)]);
        let worker = WorkerMail::connected(1000);
        let copy = worker.clone();
        worker.on_message(move |got| copy.send(&got).unwrap());
        assert!(worker.deliver(message("echo")) && !worker.is_empty());
        worker.disconnect();
        assert!(worker.send(&message("")).is_err());
    }

    #[test]
    fn a_hook_that_panics_is_kept() {
        let worker = WorkerMail::connected(1000);
        assert!(worker.deliver(message("nobody listens")));
        worker.on_message(|got| assert_eq!(got.data["text"], "good"));
        assert!(!worker.deliver(message("bad")));
        assert!(worker.deliver(message("good")));
        let master = MasterMail::new();
        master.on_message(|worker, _| assert_eq!(worker, 1));
        assert!(!master.deliver(0, message("")));
        assert!(master.deliver(1, message("")));
    }

    #[test]
    fn garbage_ends_the_stream() {
        let mut mail = Mail::new(1000);
        assert_eq!(mail.receive(&[0, 0, 0, 0]), Err(WireError::Empty));
        let mut mail = Mail::new(1000);
        assert!(matches!(mail.receive(&[0, 0, 0, 2, b'[', b']']), Err(WireError::Shape(_))));
    }
}
