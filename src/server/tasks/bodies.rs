//! Bodies as streams: of a request, to a future; of an answer, from a future.

use super::super::mailbox::Resume;
use super::{Answer, Task};
use crate::http::{Outcome, Pull, Response, Stream, Upload};
use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Bytes on their way between a connection and a future.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    bytes: Vec<u8>,
    ended: bool,
    /// Nobody reads any more.
    dropped: bool,
    /// Who waits for bytes, or for room.
    waiting: Option<Waker>,
}

impl Pipe {
    fn is_full(&self) -> bool {
        self.bytes.len() >= HELD_MAX
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

/// The body of a request. One that is dropped is read and thrown away.
#[derive(Debug)]
pub struct Body(Rc<RefCell<Pipe>>);

impl Body {
    pub(super) fn empty() -> Self {
        Self(Rc::new(RefCell::new(Pipe { ended: true, ..Pipe::default() })))
    }

    pub(super) fn coming() -> Self {
        Self(Rc::default())
    }

    pub(super) fn pipe(&self) -> Rc<RefCell<Pipe>> {
        Rc::clone(&self.0)
    }

    /// The next bytes, as many as are there; `None` at the end. While nobody asks, no more than
    /// some 64 KiB are held and the client has to wait. A body that is not sent to its end drops
    /// the future.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        poll_fn(|context| {
            let mut pipe = self.0.borrow_mut();
            if !pipe.bytes.is_empty() {
                return Poll::Ready(Some(std::mem::take(&mut pipe.bytes)));
            }
            if pipe.ended {
                return Poll::Ready(None);
            }
            pipe.waiting = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// All that is left of it; `body_max` bounds it.
    pub async fn whole(&mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        while let Some(mut bytes) = self.next().await {
            whole.append(&mut bytes);
        }
        whole
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.dropped = true;
        pipe.bytes = Vec::new();
    }
}

/// Feeds a future with the body of its request.
pub(super) struct Feed<T> {
    pipe: Rc<RefCell<Pipe>>,
    task: Option<Task<T>>,
    /// The answer that was there before the body was.
    answer: Response,
}

impl<T: Future<Output: Answer>> Feed<T> {
    pub(super) fn begin(task: Task<T>, pipe: Rc<RefCell<Pipe>>) -> Self {
        let mut feed = Self { pipe, task: Some(task), answer: Response::new() };
        feed.step();
        feed
    }

    fn step(&mut self) {
        if let Some(task) = &mut self.task
            && task.step(&mut self.answer).is_ready()
        {
            self.task = None;
        }
    }
}

impl<T: Future<Output: Answer> + 'static> Upload for Feed<T> {
    fn write(&mut self, bytes: &[u8]) {
        let mut pipe = self.pipe.borrow_mut();
        if !pipe.dropped {
            pipe.bytes.extend_from_slice(bytes);
            pipe.wake();
            drop(pipe);
            self.step();
        }
    }

    fn finish(mut self: Box<Self>, response: &mut Response) {
        let mut pipe = self.pipe.borrow_mut();
        pipe.ended = true;
        pipe.wake();
        drop(pipe);
        match self.task.take() {
            Some(task) => task.begin(response),
            None => *response = self.answer,
        }
    }

    fn is_full(&self) -> bool {
        let pipe = self.pipe.borrow();
        pipe.is_full() && !pipe.dropped
    }

    fn resume(&mut self) {
        self.step();
    }
}

/// Takes the bytes of an answer's body from the future that makes them.
#[derive(Debug)]
pub struct Sender(Rc<RefCell<Pipe>>);

impl Sender {
    /// Sends bytes; waits while some 64 KiB have not left.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.borrow_mut().bytes.extend_from_slice(bytes.as_ref());
        poll_fn(|context| {
            let mut pipe = self.0.borrow_mut();
            if !pipe.is_full() {
                return Poll::Ready(());
            }
            pipe.waiting = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// The body of an answer that a future makes.
pub(super) struct Produced<T: Future> {
    future: Pin<Box<T>>,
    pipe: Rc<RefCell<Pipe>>,
    resume: Arc<Resume>,
    waker: Waker,
}

impl<T: Future<Output: Outcome>> Produced<T> {
    pub(super) fn new(make: impl FnOnce(Sender) -> T, resume: Arc<Resume>) -> Self {
        let pipe = Rc::<RefCell<Pipe>>::default();
        let future = Box::pin(make(Sender(Rc::clone(&pipe))));
        let waker = Waker::from(Arc::clone(&resume));
        Self { future, pipe, resume, waker }
    }
}

impl<T: Future<Output: Outcome>> Stream for Produced<T> {
    fn next(&mut self, out: &mut Vec<u8>) -> Pull {
        self.resume.looks();
        let mut context = Context::from_waker(&self.waker);
        let polled = self.future.as_mut().poll(&mut context);
        let mut pipe = self.pipe.borrow_mut();
        let was_full = pipe.is_full();
        out.append(&mut pipe.bytes);
        if was_full {
            pipe.wake();
        }
        match polled {
            Poll::Ready(outcome) => match outcome.into_result() {
                Ok(()) => Pull::Done,
                Err(_) => Pull::Failed,
            },
            Poll::Pending if out.is_empty() => Pull::Wait,
            Poll::Pending => Pull::More,
        }
    }
}

impl<T> fmt::Debug for Feed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

/// Bytes held before their sender has to wait.
const HELD_MAX: usize = 64 << 10;
