//! Supervision: spawn, listen to the channel, kill, reap, join, bury.

use super::Master;
use super::ends::EndReason;
use super::ledger::{self, Arrival};
use super::mail::Post;
use super::shutdown::{KILL_GRACE, Phase};
use super::workers::{Action, Death, Role, State, Wanted};
use crate::error::{Error, ErrorKind};
use crate::event::{ChannelFault, Event, KillReason};
use crate::io::{
    Batch, Completion, Errno, ErrnoClass, Exit, Fd, Instant, Io, Kind, Message, Op, Owned,
    Processes, Signal, Token,
};
use crate::ipc::handoff::{self, Carried};
use crate::ipc::message::{self, CONFIG_MAX, CONTROL_MAX, MessageType};
use crate::stats::Counter;
use std::time::Duration;

/// A worker's process as the master holds it: its descriptors and the operations on them.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) generation: u32,
    /// It has listeners of its slot.
    pub(super) reads: bool,
    /// Connections that it may hold.
    pub(super) connections_max: u64,
    pub(super) pid: u32,
    pub(super) pidfd: Option<Fd>,
    /// Our end of its channel; `None` once it is closed.
    pub(super) channel: Option<Fd>,
    /// The channel is not used any more, and closed when its operations have ended.
    pub(super) abandoned: bool,
    /// The kernel holds the receive on the channel.
    pub(super) receiving: bool,
    pub(super) canceled: bool,
    /// What the kernel is passing on the channel, one message at a time.
    pub(super) passing: Option<Passing>,
    /// The next message's connections.
    pub(super) outbox: Vec<Arrival>,
    /// A control message that waits for the channel.
    pub(super) control: Option<Vec<u8>>,
    /// When to try it again.
    pub(super) retry_at: Option<Instant>,
    /// It had no descriptors for all it was handed: what is in transit to it is taken back as soon
    /// as nothing is being passed, and then it is told to go on.
    pub(super) short: bool,
    pub(super) resume: bool,
    /// So many connections it can hold, as it turned out, until then.
    pub(super) cap: Option<(u64, Instant)>,
    /// Connections it gave back for which it has not been promised room for others.
    pub(super) taken_back: u64,
    /// It was reaped.
    pub(super) dead: bool,
    /// Until when its last words are waited for.
    pub(super) last_words: Option<Instant>,
    /// Memory of the last message, for the next.
    pub(super) batch: Batch,
    pub(super) marks: Vec<Mark>,
    /// Its application messages, if the pool has any.
    pub(super) post: Option<Post>,
}

/// Listener, time of arrival and earlier life of a connection whose descriptor is in a batch.
type Mark = (u16, Instant, Option<Carried>);

#[derive(Debug)]
pub(super) enum Passing {
    Connections(Vec<Mark>),
    Control,
    Resume,
}

impl Process {
    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether connections may be passed to it now.
    pub(super) const fn may_pass(&self) -> bool {
        let says = self.control.is_some() || self.short || self.resume;
        self.passing.is_none() && !says && !self.abandoned && !self.dead
    }

    /// Connections that it may hold now.
    pub(super) fn room_for(&self, now: Instant) -> u64 {
        let cap = self.cap.filter(|(_, until)| now < *until).map(|(cap, _)| cap);
        cap.map_or(self.connections_max, |cap| cap.min(self.connections_max))
    }

    /// How many connections are in the kernel's hands.
    pub(super) fn passing(&self) -> usize {
        match &self.passing {
            Some(Passing::Connections(marks)) => marks.len(),
            Some(Passing::Control | Passing::Resume) | None => 0,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let lifted = self.cap.map(|(_, until)| until);
        [self.retry_at, self.last_words, lifted].into_iter().flatten().min()
    }
}

impl<I: Io + Processes> Master<I> {
    /// Spawns and kills what is due, and gets on with what waits for a channel.
    pub(super) fn supervise(&mut self, now: Instant) {
        while let Some(action) = self.workers.poll(now) {
            match action {
                Action::Spawn { slot, generation, line, epoch, purpose } => {
                    self.spawn(slot, generation, line, Wanted { epoch, purpose }, now);
                }
                Action::Kill { line, reason, first } => self.kill(line, reason, first, now),
            }
        }
        self.hear_out(now);
    }

    /// Gets on with what waits for a channel, or for a dead worker's last words.
    pub(super) fn hear_out(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let lines: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, process)| due(process.retry_at) || due(process.last_words))
            .map(|(&line, _)| line)
            .collect();
        for process in self.processes.values_mut() {
            process.cap = process.cap.filter(|(_, until)| now < *until);
        }
        for line in lines {
            self.pass_control(line);
            self.end_last_words(line);
            self.join(line);
        }
    }

    pub(super) fn receive(&mut self, line: u32) {
        if let Some(process) = self.processes.get_mut(&line)
            && let Some(channel) = &process.channel
            && !process.abandoned
            // What the dead have said is heard to its end.
            && (process.dead || self.phase != Phase::Quiescing)
        {
            let token = Token::new(Kind::Receive, line, process.generation);
            self.io.submit(token, Op::Receive(channel));
            process.receiving = true;
        }
    }

    pub(super) fn on_receive(&mut self, completion: &Completion, now: Instant) {
        let line = completion.token.slot;
        let owned = self.io.reclaim(completion.token);
        let Some(process) = self.processes.get_mut(&line) else { return };
        process.receiving = completion.more;
        let heard = match (completion.result, owned) {
            (Ok(0), _) => Err(ChannelFault::EndOfFile),
            (Ok(_), Some(Owned::Message(message))) => self.on_message(line, message, now),
            (Ok(_), _) => Err(ChannelFault::BadMessage("no message came".to_owned())),
            // Its other end was closed with messages of ours unread. Said once, and before what it
            // had sent: that comes now, and then end-of-file.
            (Err(Errno::PeerGone), _) => Ok(()),
            (Err(errno), _) => match errno.class() {
                ErrnoClass::Retry | ErrnoClass::Expected => Ok(()),
                ErrnoClass::Pause | ErrnoClass::Close => Err(ChannelFault::Failed(errno)),
            },
        };
        match heard {
            Ok(()) => self.receive(line),
            Err(fault) => self.channel_broken(line, fault, now),
        }
        self.join(line);
    }

    fn on_message(
        &mut self,
        line: u32,
        message: Message,
        now: Instant,
    ) -> Result<(), ChannelFault> {
        if handoff::is_handoff(&message.bytes) {
            let taken = self.on_hand_back(line, message, now);
            return taken.map_err(ChannelFault::BadMessage);
        }
        let strange = message.truncated || !message.fds.is_empty();
        for fd in message.fds {
            self.close(fd);
        }
        let bad = |what: &str| Err(ChannelFault::BadMessage(what.to_owned()));
        if strange {
            return bad("cut, or with descriptors");
        }
        let Some(life) = self.workers.life(line) else { return Ok(()) };
        let (slot, state, role) = (life.slot, life.state, life.role);
        let max = if role == Role::Check { CONFIG_MAX } else { CONTROL_MAX };
        let message = match message::Message::parse(&message.bytes, max) {
            Ok(message) => message,
            Err(error) => return bad(&error.to_string()),
        };
        match message.kind {
            MessageType::WorkerReady => match state {
                _ if message.slot() != Some(slot) => return bad("READY of another slot"),
                State::Booting if role == Role::Check => return bad("READY of a check"),
                State::Booting => self.on_ready(line, slot, now),
                State::Ready | State::Full { .. } => return bad("READY twice"),
                State::Draining | State::Killed | State::Dead => {}
            },
            MessageType::WorkerFailed => {
                self.workers.boot_failed(line, message.reason().unwrap_or("no reason given"));
            }
            MessageType::ConfigRead if role == Role::Check => self.config_read(&message, now),
            // It wakes us: the board says who reads its listeners now.
            MessageType::WorkerFull => {}
            MessageType::WorkerShort => {
                if let Some(process) = self.processes.get_mut(&line) {
                    process.short = true;
                }
                self.take_back(line, now);
            }
            MessageType::WorkerDraining => {
                let kill_at = now.after(self.drain_timeout).after(KILL_GRACE);
                self.workers.leaves(line, kill_at, now);
            }
            // An application's own; nobody here asks for them.
            MessageType::ConnectionClosed | MessageType::WorkerMetrics => {}
            MessageType::Shutdown
            | MessageType::Serve
            | MessageType::Resume
            | MessageType::Ping
            | MessageType::ConfigRead
            | MessageType::Reload
            | MessageType::Other(_) => {
                return bad(&format!("a worker does not say {}", message.kind.name()));
            }
        }
        Ok(())
    }

    fn on_ready(&mut self, line: u32, slot: u32, now: Instant) {
        if let Some(boot) = self.workers.ready(line, now)
            && let Some(process) = self.processes.get(&line)
        {
            (self.events)(&Event::WorkerReady { slot, pid: process.pid, boot });
            self.watchdog.wake(line, now);
            if self.workers.life(line).is_some_and(|life| life.role == Role::Candidate) {
                self.candidate_ready(slot);
            }
        }
    }

    /// The channel is used no more. That alone is no death: the worker is given a grace to exit,
    /// and a worker that has just died is reaped before anybody speaks of its channel.
    pub(super) fn channel_broken(&mut self, line: u32, fault: ChannelFault, now: Instant) {
        self.reap_one(line, now);
        let Some(process) = self.processes.get_mut(&line) else { return };
        if process.abandoned {
            return;
        }
        process.abandoned = true;
        process.control = None;
        process.retry_at = None;
        if process.dead {
            return;
        }
        // The end of the other end is how a death looks from here before it can be reaped: it is
        // spoken of when the process is reaped, or killed because it was none.
        let ended = [ChannelFault::EndOfFile, ChannelFault::Failed(Errno::PeerGone)];
        if !ended.contains(&fault)
            && let Some(life) = self.workers.life(line)
        {
            let (slot, pid) = (life.slot, process.pid);
            (self.events)(&Event::ChannelBroken { slot, pid, fault });
        }
        self.workers.channel_gone(line, now);
        self.join(line);
    }

    fn kill(&mut self, line: u32, reason: KillReason, first: bool, now: Instant) {
        self.reap_one(line, now);
        let Some(process) = self.processes.get(&line).filter(|process| !process.dead) else {
            return;
        };
        // A failure is repeated with the next KILL; a process that is gone is reaped.
        if let Some(pidfd) = &process.pidfd {
            let _ = self.io.signal(pidfd, Signal::Kill);
        }
        if first && let Some(life) = self.workers.life(line) {
            // Those that never served are no loss.
            if matches!(life.role, Role::Incumbent | Role::Trial) {
                self.ledger.kill();
            }
            if life.role != Role::Check {
                (self.events)(&Event::WorkerKilled { slot: life.slot, pid: process.pid, reason });
            }
        }
    }

    /// Children ended, one SIGCHLD for any number of them.
    pub(super) fn reap(&mut self, now: Instant) {
        let lines: Vec<u32> = self.processes.keys().copied().collect();
        for line in lines {
            self.reap_one(line, now);
        }
        while self.pid1 && self.io.reap_stranger() {}
    }

    fn reap_one(&mut self, line: u32, now: Instant) {
        if let Some(process) = self.processes.get(&line)
            && !process.dead
            && let Some(pidfd) = &process.pidfd
            && let Some(exit) = self.io.reap(pidfd)
        {
            self.on_exit(line, exit, now);
        }
    }

    fn on_exit(&mut self, line: u32, exit: Exit, now: Instant) {
        let Some(process) = self.processes.get_mut(&line) else { return };
        process.dead = true;
        process.control = None;
        process.retry_at = None;
        process.last_words = Some(now.after(LAST_WORDS));
        let pid = process.pid;
        let open = ledger::open_in(&self.board.line(line));
        if let Some(death) = self.workers.exited(line, exit, now) {
            let panic = self.board.line(line).noted();
            self.speak_of(&death, pid, exit, open, panic, now);
        }
        self.recover(line);
        self.join(line);
    }

    /// Says how a worker ended and why, and what is made of it.
    fn speak_of(
        &mut self,
        death: &Death,
        pid: u32,
        exit: Exit,
        open: u64,
        panic: String,
        now: Instant,
    ) {
        let (slot, uptime, asked) = (death.slot, death.uptime, death.asked);
        if death.role == Role::Check {
            return;
        }
        let oom = exit == Exit::Signal(KILL, false) && self.ends.oom(self.io.oom_kills());
        let reason = EndReason::new(exit, asked, death.killed, death.quiet, oom);
        // One that hung was killed, but nobody had wanted it to end.
        let wanted = asked && !matches!(reason, EndReason::Hung { .. });
        self.ends.add(slot, pid, reason, wanted, &panic);
        (self.events)(&Event::WorkerExited { slot, pid, exit, reason, uptime, open, asked });
        if !wanted && !panic.is_empty() {
            (self.events)(&Event::LastPanic { slot, pid, panic });
        }
        if let Some(delay) = death.delay.filter(|delay| !delay.is_zero()) {
            (self.events)(&Event::BackOff { slot, delay });
        }
        let workers = self.workers.active().count();
        if !wanted && self.intensity.hit(workers, now) {
            (self.events)(&Event::RestartStorm { workers });
        }
    }

    /// What the worker has not received, and never will, goes to others, before what came later.
    pub(super) fn recover(&mut self, line: u32) {
        let received = self.board.line(line).get(Counter::Received);
        for fd in self.ledger.settle(line, received) {
            self.io.close(fd);
            self.accepting.closed += 1;
        }
        if self.workers.life(line).is_some_and(|life| life.role == Role::Candidate) {
            let probes = self.ledger.recover_probes(line);
            return probes.into_iter().for_each(|probe| self.close(probe.fd));
        }
        let arrivals = self.ledger.recover(line);
        let count = arrivals.len() as u64;
        for arrival in arrivals {
            self.pending.put_back(arrival);
        }
        if count > 0
            && let Some(life) = self.workers.life(line)
        {
            (self.events)(&Event::Redispatched { slot: life.slot, count });
        }
    }

    /// A dead worker's ring may hold the other end of its channel for a while (4 to 40 ms): what it
    /// said before its end arrives before end-of-file, or not at all.
    fn end_last_words(&mut self, line: u32) {
        if let Some(process) = self.processes.get_mut(&line)
            && process.dead
        {
            process.abandoned = true;
            process.last_words = None;
        }
    }

    /// Closes an abandoned channel when no operation uses it, and buries the dead whose channel is
    /// closed.
    pub(super) fn join(&mut self, line: u32) {
        let Some(process) = self.processes.get_mut(&line).filter(|process| process.abandoned)
        else {
            return;
        };
        if process.receiving && !process.canceled {
            process.canceled = true;
            let token = Token::new(Kind::Receive, line, process.generation);
            self.io.submit(token.with(Kind::Cancel), Op::Cancel(token));
        }
        // What a dead worker had sent is read to its end.
        let unread = process.post.as_ref().is_some_and(|post| !post.over)
            || self.words.get(&line).is_some_and(|words| !words.over);
        if process.last_words.is_some() && (unread || self.untouched.contains_key(&line)) {
            return;
        }
        let posted = process.close_post(&mut self.io, line);
        let heard = self.words.get_mut(&line).is_none_or(|words| {
            // What it writes until it is dead is heard.
            process.dead && words.close(&mut self.io)
        });
        if process.receiving || process.passing.is_some() || !posted {
            return;
        }
        if let Some(channel) = process.channel.take() {
            self.io.close(channel);
        }
        if process.dead && heard {
            self.bury(line);
        }
    }

    fn bury(&mut self, line: u32) {
        // What was being passed when it died came back only now.
        self.recover(line);
        self.release_untouched(line, self.io.now());
        let life = self.workers.life(line).cloned();
        match life.as_ref().map(|life| life.role) {
            Some(Role::Check) => self.ledger.forget(line),
            Some(Role::Candidate) => self.ledger.bury_candidate(line, &self.board.line(line)),
            Some(Role::Incumbent | Role::Trial) | None => {
                self.ledger.bury(line, &self.board.line(line));
            }
        }
        let process = self.processes.remove(&line);
        let pid = process.as_ref().map_or(0, |process| process.pid);
        if let Some(pidfd) = process.and_then(|process| process.pidfd) {
            self.io.close(pidfd);
        }
        let failure = self.workers.forget(line);
        let lines = self.words.remove(&line).map_or_else(Vec::new, |words| words.tail.lines());
        let why = failure.as_ref().map(|(_, reason)| reason.as_str());
        if self.ends.heard(pid, why, lines.clone()) && !lines.is_empty() {
            let slot = life.as_ref().map_or(0, |life| life.slot);
            (self.events)(&Event::LastLines { slot, pid, lines });
        }
        if let Some((slot, reason)) = failure
            && life.as_ref().is_some_and(|life| life.role != Role::Check)
        {
            (self.events)(&Event::WorkerBootFailed { slot, reason });
        }
        if let Some(life) = life {
            self.life_over(line, &life, self.io.now());
        }
    }

    /// Whether every worker failed its first boot: nothing will ever serve here.
    pub(super) fn boot_failure(&self) -> Option<Error> {
        let reasons = self.workers.all_failed()?;
        let reasons: Vec<String> = reasons
            .iter()
            .enumerate()
            .map(|(slot, reason)| format!("slot {slot}: {}", reason.escape_debug()))
            .collect();
        let context = format!("no worker came up: {}", reasons.join("; "));
        Some(Error::new(ErrorKind::WorkersFailed, context))
    }
}

/// SIGKILL (signal(7)).
const KILL: i32 = 9;
/// How long a dead worker's channel is listened to, at most.
const LAST_WORDS: Duration = Duration::from_millis(100);
