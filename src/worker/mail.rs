//! Application messages of this worker and its master, on a stream beside the channel.

use super::Worker;
use crate::io::{Bytes, Completion, ErrnoClass, Fd, Io, Kind, Op, Owned, Token};
use crate::ipc::mail::WorkerMail;
use crate::protocol::Protocol;
use crate::stats::Counter;

/// Our end of the stream, and what the kernel does with it.
#[derive(Debug)]
pub(super) struct Post {
    fd: Fd,
    mail: WorkerMail,
    sending: bool,
}

/// Its place in tokens: no connection has it.
const POST: u32 = Token::SLOTS_MAX - 1;
const READ_BYTES: usize = 16 << 10;

pub(super) const fn is_of_post(token: Token) -> bool {
    token.slot == POST
}

impl<I: Io, P: Protocol> Worker<I, P> {
    /// With a stream of application messages.
    #[must_use]
    pub fn with_mail(mut self, fd: Fd, mail: WorkerMail) -> Self {
        self.post = Some(Post { fd, mail, sending: false });
        self.read_mail(vec![0; READ_BYTES].into_boxed_slice());
        self
    }

    fn read_mail(&mut self, buffer: Box<[u8]>) {
        if let Some(post) = &self.post {
            let token = Token::new(Kind::Read, POST, 0);
            self.io.submit(token, Op::Read(&post.fd, buffer, u64::MAX));
        }
    }

    /// Bytes of the master. A master that is gone, or says what is no message, is not read again.
    pub(super) fn on_mail_read(&mut self, completion: &Completion) {
        let Some(Owned::Buffer(buffer)) = self.io.reclaim(completion.token) else { return };
        let Some(post) = &self.post else { return };
        let mail = post.mail.clone();
        let bytes = match completion.result {
            Ok(0) => return mail.disconnect(),
            Ok(count) => &buffer[..count as usize],
            Err(errno) if errno.class() == ErrnoClass::Retry => &[],
            Err(_) => return mail.disconnect(),
        };
        let Ok(messages) = mail.receive(bytes) else { return mail.disconnect() };
        for message in messages {
            if !mail.deliver(message) {
                self.line.add(Counter::HandlerPanics, 1);
            }
        }
        self.read_mail(buffer);
    }

    pub(super) fn on_mail_sent(&mut self, completion: &Completion) {
        let owned = self.io.reclaim(completion.token);
        let Some(post) = &mut self.post else { return };
        post.sending = false;
        let sent = match completion.result {
            Ok(count) => count as usize,
            Err(errno) if errno.class() == ErrnoClass::Retry => 0,
            Err(_) => return post.mail.disconnect(),
        };
        if let Some(Owned::Bytes(bytes, from)) = owned
            && from + sent < bytes.len()
        {
            self.send_mail_bytes(bytes, from + sent);
        }
    }

    /// What handlers of this turn want sent.
    pub(super) fn send_mail(&mut self) {
        if let Some(post) = &self.post
            && !post.sending
            && let Some(bytes) = post.mail.take()
        {
            self.send_mail_bytes(Bytes::Owned(bytes), 0);
        }
    }

    fn send_mail_bytes(&mut self, bytes: Bytes, from: usize) {
        if let Some(post) = &mut self.post {
            post.sending = true;
            let token = Token::new(Kind::Send, POST, 0);
            self.io.submit(token, Op::Send(&post.fd, bytes, from));
        }
    }

    /// Whether a turn would send something.
    pub(super) fn has_mail(&self) -> bool {
        self.post.as_ref().is_some_and(|post| !post.sending && !post.mail.is_empty())
    }

    /// Whether everything that was to be sent has left, or never will.
    pub(super) fn mail_is_sent(&self) -> bool {
        self.post.as_ref().is_none_or(|post| !post.sending && post.mail.is_empty())
    }
}
