//! The first part of a turn: what the master handed over, what our own listeners hold.

use super::{CHANNEL, Connection, NOT_DIRTY, Phase, Short, Worker};
use super::{Drain, InFlight, Step, Timer, drain};
use crate::io::{Completion, Errno, ErrnoClass, Fd, Io, Kind, Message, Op, Owned, Token};
use crate::ipc::board::WorkerState;
use crate::ipc::handoff::{self, Carried, Handoff};
use crate::ipc::message::{CONTROL_MAX, Message as Control, MessageType};
use crate::protocol::Protocol;
use crate::stats::{CloseReason, Counter};
use std::time::Duration;

/// Most arrivals taken from one listener in one pass; the rest waits for the next.
const ACCEPTS_A_PASS: usize = 64;

/// Bytes of one signal as a signalfd is read (signalfd(2)); the first four are its number.
const SIGNAL_RECORD: usize = 128;
/// The signal that drains.
const TERM: u32 = 15;

/// How long listeners are left alone when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl<I: Io, P: Protocol> Worker<I, P> {
    pub(super) fn arm_channel(&mut self) {
        if let Some(channel) = &self.channel {
            self.io.submit(Token::new(Kind::Receive, CHANNEL, 0), Op::Receive(channel));
        }
    }

    pub(super) fn arm_signals(&mut self) {
        if let Some(signals) = &self.signals {
            let buffer = vec![0; SIGNAL_RECORD].into_boxed_slice();
            let token = Token::new(Kind::Signal, CHANNEL, 0);
            self.io.submit(token, Op::Read(signals, buffer, u64::MAX));
        }
    }

    /// TERM drains; every other signal of that descriptor is the application's.
    pub(super) fn on_signal(&mut self, completion: &Completion) {
        let owned = self.io.reclaim(completion.token);
        match completion.result.map_err(Errno::class) {
            Ok(bytes) => {
                let Some(Owned::Buffer(buffer)) = owned else { return self.arm_signals() };
                let bytes = &buffer[..buffer.len().min(bytes as usize)];
                for record in bytes.chunks_exact(SIGNAL_RECORD) {
                    let number = record.first_chunk().map_or(0, |n| u32::from_ne_bytes(*n));
                    if number == TERM {
                        self.leaving |= self.drain.is_serving();
                        // Our successor goes on with what idles here.
                        self.begin_drain(self.limits.drain, true);
                    } else {
                        self.calls.in_worker(number);
                    }
                }
            }
            Err(ErrnoClass::Retry | ErrnoClass::Pause) => {}
            Err(ErrnoClass::Close | ErrnoClass::Expected) => return,
        }
        self.arm_signals();
    }

    /// Watches our own listeners, as long as there is room for what arrives.
    pub(super) fn arm_listeners(&mut self) {
        let room = self.held() < self.limits.connections;
        self.tell_full(!room);
        self.accept_pause = self.accept_pause.filter(|until| *until > self.now);
        if !room || self.waits || !self.drain.is_serving() || self.accept_pause.is_some() {
            return;
        }
        for (index, listener) in (0..).zip(&mut self.listeners) {
            if let (Some(fd), false) = (&listener.fd, listener.armed) {
                listener.armed = true;
                self.io.submit(Token::new(Kind::Poll, index, 0), Op::Poll(fd));
            }
        }
    }

    /// Once whenever the last room is taken: the master reads our listeners until there is room, so
    /// that nobody waits in a queue that nobody reads.
    fn tell_full(&mut self, is_full: bool) {
        self.told_full &= is_full;
        let reads = !self.waits && !self.listeners.is_empty();
        if is_full && !self.told_full && !self.passing && reads {
            self.told_full = true;
            self.say(&Control::worker_full(self.slot, self.stamp()));
        }
    }

    /// Once: the master hands nothing more to us, reads our listeners and spawns our successor.
    pub(super) fn tell_leaving(&mut self) {
        if self.leaving && !self.passing {
            self.leaving = false;
            self.say(&Control::worker_draining(self.slot, self.stamp()));
        }
    }

    /// A message of the master came, or its end-of-file.
    pub(super) fn on_receive(&mut self, completion: &Completion) {
        let message = match self.io.reclaim(completion.token) {
            Some(Owned::Message(message)) if completion.result.is_ok() => message,
            _ => match completion.result.map_err(Errno::class) {
                Err(ErrnoClass::Retry | ErrnoClass::Pause) => {
                    self.line.add(Counter::OutOfFds, 1);
                    return self.arm_channel();
                }
                Ok(_) | Err(ErrnoClass::Close | ErrnoClass::Expected) => Message::default(),
            },
        };
        if message.bytes.is_empty() {
            return self.lose_master(message);
        }
        if handoff::is_handoff(&message.bytes) {
            self.on_handoff(message);
        } else {
            self.on_control(message);
        }
        self.arm_channel();
    }

    /// End-of-file on the channel: no sibling holds the other end, so the master is gone.
    fn lose_master(&mut self, message: Message) {
        self.drop_back();
        self.drop_fds(message.fds);
        if let Some(channel) = self.channel.take() {
            self.io.close(channel);
        }
        self.begin_drain(drain::ORPHAN, false);
    }

    fn drop_fds(&mut self, fds: Vec<Fd>) {
        for fd in fds {
            self.io.close(fd);
        }
    }

    fn on_handoff(&mut self, message: Message) {
        // The master's copies are what saves connections that came with nonsense: it hands them to
        // others when this worker ends, which it does now: the channel is not to be trusted.
        let Ok(header) = Handoff::decode(&message.bytes) else { return self.lose_master(message) };
        let (came, said) = (message.fds.len(), header.entries().len());
        if came > said || (came < said) != message.truncated {
            return self.lose_master(message);
        }
        // Unclaimed: the master did not wait for us, and they are others' by now.
        if !self.line.claim(said as u64) || self.short != Short::No {
            return self.drop_fds(message.fds);
        }
        self.line.add(Counter::Received, came as u64);
        for (fd, &(listener, carried)) in message.fds.into_iter().zip(header.entries()) {
            self.adopt(fd, listener, true, carried);
        }
        // The kernel installs the first ones as far as there are descriptors.
        if came < said {
            self.line.add(Counter::OutOfFds, 1);
            self.short = Short::ToTell;
        }
    }

    /// Of the last handoff only the first ones came: the master takes the others back, and all that
    /// it has passed since.
    pub(super) fn tell_short(&mut self) {
        if self.short == Short::ToTell && !self.passing {
            self.short = Short::Telling;
            self.say(&Control::worker_short(self.slot, self.stamp()));
        }
    }

    fn on_control(&mut self, message: Message) {
        self.drop_fds(message.fds);
        match Control::parse(&message.bytes, CONTROL_MAX) {
            Ok(control) if control.kind == MessageType::Shutdown => {
                let time = control.drain().unwrap_or(self.limits.drain);
                self.begin_drain(time, control.hands_back());
            }
            Ok(control) if control.kind == MessageType::Serve => self.waits = false,
            Ok(control) if control.kind == MessageType::Resume => self.short = Short::No,
            // What a newer master says and we do not know is no reason to stop serving.
            Ok(_) | Err(_) => {}
        }
    }

    /// Something arrived on a listener of ours, or the kernel stopped watching it.
    pub(super) fn on_poll(&mut self, completion: &Completion) {
        let index = completion.token.slot as usize;
        let Some(listener) = self.listeners.get_mut(index) else { return };
        listener.armed &= completion.more;
        listener.left_over = true;
        if listener.armed || self.drain.is_serving() {
            return;
        }
        // The last close resets what is queued: what came since the drain began is taken first.
        while self.accept_some(index, ACCEPTS_A_PASS) {}
        if let Some(fd) = self.listeners[index].fd.take() {
            self.io.close(fd);
        }
    }

    /// Takes what waits on our listeners: at most [`ACCEPTS_A_PASS`] each, and only with room.
    pub(super) fn accept_left_over(&mut self) {
        for index in 0..self.listeners.len() {
            if !self.listeners[index].left_over {
                continue;
            }
            self.listeners[index].left_over = self.accept_some(index, ACCEPTS_A_PASS);
        }
    }

    /// Returns whether more may be waiting.
    fn accept_some(&mut self, index: usize, most: usize) -> bool {
        for _ in 0..most {
            if self.held() >= self.limits.connections {
                self.unwatch(index);
                return false;
            }
            let listener = &self.listeners[index];
            let Some(fd) = &listener.fd else { return false };
            let address = listener.address;
            match self.io.accept(fd).map_err(|errno| (errno, errno.class())) {
                Ok(fd) => self.adopt(fd, address, false, None),
                Err((Errno::Again, _)) => return false,
                Err((_, ErrnoClass::Retry)) => {}
                // What struck one arrival (a firewall's refusal) says nothing of the next: it is
                // looked at again after the pause.
                Err((_, ErrnoClass::Pause | ErrnoClass::Close)) => {
                    // The kernel's queue holds them meanwhile.
                    self.line.add(Counter::OutOfFds, 1);
                    self.accept_pause = Some(self.now.after(ACCEPT_PAUSE));
                    self.unwatch(index);
                    return false;
                }
                // The pool ends: the master has taken what it held, and shut it down.
                Err((_, ErrnoClass::Expected)) => {
                    self.unlisten(index);
                    return false;
                }
            }
        }
        true
    }

    /// Closes a listener, once it is not watched any more.
    fn unlisten(&mut self, index: usize) {
        self.unwatch(index);
        let listener = &mut self.listeners[index];
        if !listener.armed
            && let Some(fd) = listener.fd.take()
        {
            self.io.close(fd);
        }
    }

    /// Stops watching a listener; `arm_listeners` watches it again when there is room.
    fn unwatch(&mut self, index: usize) {
        if self.listeners[index].armed {
            let slot = u32::try_from(index).unwrap_or(u32::MAX);
            let target = Token::new(Kind::Poll, slot, 0);
            self.io.submit(target.with(Kind::Cancel), Op::Cancel(target));
        }
    }

    /// A connection is ours: it gets a slot, its machine and an armed receive.
    pub(super) fn adopt(
        &mut self,
        fd: Fd,
        listener: u16,
        handed_over: bool,
        carried: Option<Carried>,
    ) {
        self.line.add(Counter::Adopted, 1);
        let Some(fd) = self.protocol.take(fd, self.now) else { return };
        let (machine, next) = self.protocol.open(self.now, carried);
        let key = self.connections.insert(Connection {
            fd,
            listener,
            in_flight: InFlight::default(),
            phase: Phase::Open,
            handed_over,
            eof: false,
            paused: false,
            resume: false,
            stage: next.stage,
            counted: next.stage,
            timer: Timer::default(),
            dirty: NOT_DIRTY,
            backlog: None,
            machine,
        });
        self.stages.add(next.stage, 1);
        self.arm_recv(key);
        self.apply(key, next);
        match self.drain {
            Drain::Serving => {}
            Drain::Until(_) if self.back.until.is_some() => self.may_leave(key),
            Drain::Until(_) => self.tell(key, super::tell::Event::Drain),
            Drain::Cutting => self.finish(key, CloseReason::DrainDeadline),
        }
    }

    /// Takes nothing new any more, and tells every connection; or, if somebody else goes on, gives
    /// them back.
    pub(super) fn begin_drain(&mut self, time: Duration, hand_back: bool) {
        if self.drain.request(self.now, time) != Step::Begin {
            if !hand_back {
                self.end_hand_back();
            }
            return;
        }
        self.line.set_state(WorkerState::Draining);
        self.calls.shutdown();
        // What the kernel has queued for us came before the drain: it is still served.
        for index in 0..self.listeners.len() {
            while !self.waits && self.accept_some(index, ACCEPTS_A_PASS) {}
            self.listeners[index].left_over = false;
            if self.listeners[index].armed {
                self.unwatch(index);
            } else if let Some(fd) = self.listeners[index].fd.take() {
                self.io.close(fd);
            }
        }
        if hand_back {
            return self.begin_hand_back(time);
        }
        for key in self.connections.keys() {
            self.tell(key, super::tell::Event::Drain);
        }
    }

    /// At the deadline: what has not finished is cut.
    pub(super) fn cut_all(&mut self) {
        debug_assert_eq!(self.drain, Drain::Cutting);
        for key in self.connections.keys() {
            // Who has its last answer and only leaves its side open is not cut.
            let reason = match self.connections.get_mut(key).map(|connection| connection.phase) {
                Some(Phase::Lingering(reason)) => reason,
                Some(Phase::Open | Phase::Leaving | Phase::Closing(_) | Phase::Joining(_))
                | None => CloseReason::DrainDeadline,
            };
            self.finish(key, reason);
        }
    }

    /// The process may exit when no connection and no listener is left.
    pub(super) fn finish_drain(&mut self) {
        let closed = self.listeners.iter().all(|l| l.fd.is_none());
        let taken = if self.drain == Drain::Cutting { 0 } else { self.protocol.taken() };
        let passed = self.back.is_quiet() || self.drain == Drain::Cutting;
        let sent = self.mail_is_sent() || self.drain == Drain::Cutting;
        let empty = self.connections.is_empty() && taken == 0;
        let quiet = empty && closed && passed && sent && !self.drain.is_serving();
        if quiet && !self.ended && self.has_logged(self.drain == Drain::Cutting) {
            self.ended = true;
            if let Some(file) = self.log.file.take() {
                self.io.close(file);
            }
            self.line.set_state(WorkerState::Stopped);
        }
    }
}
