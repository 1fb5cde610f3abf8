//! Application messages of the workers and their master, on a stream beside each channel.

use super::Master;
use super::shutdown::Phase;
use super::supervise::Process;
use crate::event::{ChannelFault, Event};
use crate::io::{
    Bytes, Completion, Errno, ErrnoClass, Fd, Instant, Io, Kind, Op, Owned, Processes, Token,
};
use crate::ipc::mail::{Mail, MasterMail};
use crate::ipc::manifest::{self, MailPart};

/// Our end of one worker's stream, and what the kernel does with it.
#[derive(Debug)]
pub(super) struct Post {
    fd: Option<Fd>,
    mail: Mail,
    reading: bool,
    sending: bool,
    /// It is not used any more.
    pub(super) over: bool,
    canceled: bool,
}

impl Post {
    pub(super) const fn new(fd: Fd, mail: Mail) -> Self {
        let (reading, sending, over, canceled) = (false, false, false, false);
        Self { fd: Some(fd), mail, reading, sending, over, canceled }
    }
}

impl<I: Io + Processes> Master<I> {
    /// With application messages: each worker gets a stream of its own.
    #[must_use]
    pub fn with_mail(mut self, mail: MasterMail) -> Self {
        self.mail = Some(mail);
        self
    }

    /// The worker of this line was spawned with the other end of this stream.
    pub(super) fn open_post(&mut self, line: u32, fd: Fd) {
        let mail = Mail::new(self.message_max);
        if let Some(process) = self.processes.get_mut(&line) {
            process.post = Some(Post::new(fd, mail));
        }
        self.begin_mail(line);
    }

    /// Reads from the stream, from its beginning or again.
    pub(super) fn begin_mail(&mut self, line: u32) {
        if let Some(post) = self.processes.get_mut(&line).and_then(|process| process.post.as_mut())
            && !post.over
            && !post.reading
        {
            post.canceled = false;
            self.read_mail(line, vec![0; READ_BYTES].into_boxed_slice());
        }
    }

    fn read_mail(&mut self, line: u32, buffer: Box<[u8]>) {
        if let Some(process) = self.processes.get_mut(&line)
            && let Some(post) = &mut process.post
            && let Some(fd) = &post.fd
            && !post.over
            && self.phase != Phase::Quiescing
        {
            post.reading = true;
            let token = Token::new(Kind::Read, line, process.generation);
            self.io.submit(token, Op::Read(fd, buffer, u64::MAX));
        }
    }

    pub(super) fn on_mail_read(&mut self, completion: &Completion, now: Instant) {
        let line = completion.token.slot;
        let owned = self.io.reclaim(completion.token);
        let (Some(process), Some(Owned::Buffer(buffer))) = (self.processes.get_mut(&line), owned)
        else {
            return;
        };
        let Some(post) = &mut process.post else { return };
        post.reading = false;
        let bytes = match completion.result {
            Ok(count) if count > 0 => &buffer[..count as usize],
            Err(errno) if errno.class() == ErrnoClass::Retry => &[],
            Err(Errno::Canceled) if self.phase == Phase::Quiescing => return,
            Ok(_) | Err(_) => {
                post.over = true;
                return self.join(line);
            }
        };
        match post.mail.receive(bytes) {
            Ok(messages) => {
                let slot = self.workers.life(line).map(|life| life.slot);
                for message in messages {
                    self.deliver(slot, message);
                }
                self.read_mail(line, buffer);
            }
            Err(wrong) => {
                post.over = true;
                let fault = ChannelFault::BadMessage(format!("application message: {wrong}"));
                self.channel_broken(line, fault, now);
            }
        }
        self.join(line);
    }

    fn deliver(&mut self, slot: Option<u32>, message: crate::ipc::message::Message) {
        let (Some(slot), Some(mail)) = (slot, &self.mail) else { return };
        if !mail.deliver(slot, message) {
            (self.events)(&Event::MessageHookPanicked { slot });
        }
    }

    pub(super) fn on_mail_sent(&mut self, completion: &Completion) {
        let line = completion.token.slot;
        let owned = self.io.reclaim(completion.token);
        let Some(process) = self.processes.get_mut(&line) else { return };
        let Some(post) = &mut process.post else { return };
        post.sending = false;
        let sent = match completion.result {
            Ok(count) => count as usize,
            Err(errno) if errno.class() == ErrnoClass::Retry => 0,
            Err(Errno::Canceled) if self.phase == Phase::Quiescing => 0,
            Err(_) => {
                // Its end of file says the rest.
                post.over = true;
                return self.join(line);
            }
        };
        if let Some(Owned::Bytes(bytes, from)) = owned
            && from + sent < bytes.len()
        {
            if self.phase == Phase::Quiescing {
                return post.mail.put_back(&bytes[from + sent..]);
            }
            process.send_mail(&mut self.io, line, bytes, from + sent);
        }
        self.join(line);
    }

    /// Gives what hooks want sent to the workers it is for.
    pub(super) fn post(&mut self) {
        let Some(mail) = &self.mail else { return };
        for (to, frame) in mail.take(self.message_max) {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    (self.events)(&Event::MessageLost { slot: to, why: error.to_string() });
                    continue;
                }
            };
            let mut found = to.is_none();
            for slot in 0..self.workers.slots() {
                let Some(line) = self.workers.reader(slot) else { continue };
                let process = self.processes.get_mut(&line);
                let Some(post) = process.and_then(|process| process.post.as_mut()) else {
                    continue;
                };
                if to.is_some_and(|to| to != slot) || post.over {
                    continue;
                }
                found = true;
                if !post.mail.push(&frame) {
                    let why = "the worker does not read its messages".to_owned();
                    (self.events)(&Event::MessageLost { slot: Some(slot), why });
                }
            }
            if !found {
                let why = "no worker serves in this slot".to_owned();
                (self.events)(&Event::MessageLost { slot: to, why });
            }
        }
        for (&line, process) in &mut self.processes {
            if let Some(post) = &mut process.post
                && !post.sending
                && !post.over
                && let Some(bytes) = post.mail.take()
            {
                process.send_mail(&mut self.io, line, Bytes::Owned(bytes), 0);
            }
        }
    }
}

impl Process {
    fn send_mail<I: Io>(&mut self, io: &mut I, line: u32, bytes: Bytes, from: usize) {
        if let Some(post) = &mut self.post
            && let Some(fd) = &post.fd
            && !post.over
        {
            post.sending = true;
            let token = Token::new(Kind::Send, line, self.generation);
            io.submit(token, Op::Send(fd, bytes, from));
        }
    }

    /// Cancels what the kernel does with the stream; whether it does nothing.
    pub(super) fn pause_post<I: Io>(&mut self, io: &mut I, line: u32) -> bool {
        let Some(post) = self.post.as_mut().filter(|post| !post.over) else { return true };
        for (kind, runs) in [(Kind::Read, post.reading), (Kind::Send, post.sending)] {
            if runs && !post.canceled {
                let token = Token::new(kind, line, self.generation);
                io.submit(token.with(Kind::Cancel), Op::Cancel(token));
            }
        }
        post.canceled = true;
        !post.reading && !post.sending
    }

    /// For the next program of this process.
    pub(super) fn save_post(&self) -> Option<MailPart> {
        let post = self.post.as_ref().filter(|post| !post.over)?;
        let (came, leaves) = post.mail.save();
        let (came, leaves) = (manifest::to_hex(came), manifest::to_hex(leaves));
        Some(MailPart { fd: post.fd.as_ref()?.raw(), came, leaves })
    }

    /// Ends the stream when no operation uses it; whether it has ended.
    pub(super) fn close_post<I: Io>(&mut self, io: &mut I, line: u32) -> bool {
        let Some(post) = &mut self.post else { return true };
        post.over = true;
        for (kind, runs) in [(Kind::Read, post.reading), (Kind::Send, post.sending)] {
            if runs && !post.canceled {
                let token = Token::new(kind, line, self.generation);
                io.submit(token.with(Kind::Cancel), Op::Cancel(token));
            }
        }
        post.canceled = true;
        if post.reading || post.sending {
            return false;
        }
        if let Some(fd) = post.fd.take() {
            io.close(fd);
        }
        true
    }
}

const READ_BYTES: usize = 16 << 10;
