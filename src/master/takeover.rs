//! Being the next program: takes over what the one before wrote down, and replaces its workers by
//! our own, as a reload does.

use super::Master;
use super::command::Command;
use super::epochs::Epochs;
use super::ledger::{Ledger, saved};
use super::mail::Post;
use super::supervise::Process;
use super::workers::State;
use crate::admin::line::{self, Request};
use crate::config::Mode;
use crate::event::Event;
use crate::io::{Batch, Fd, Instant, Io, Processes};
use crate::ipc::mail::Mail;
use crate::ipc::manifest::{Core, WorkerPart, of_hex};

impl Process {
    /// What the next program must know of it, besides its life and its books.
    pub(super) fn save(&self, part: &mut WorkerPart) {
        part.pid = self.pid;
        part.generation = self.generation;
        part.reads = self.reads;
        part.connections_max = self.connections_max;
        let usable = self.channel.as_ref().filter(|_| !self.abandoned);
        part.channel = usable.map(Fd::raw);
        part.control =
            self.control.as_ref().and_then(|bytes| String::from_utf8(bytes.clone()).ok());
        part.mail = self.save_post();
        part.unpromised = self.taken_back;
    }
}

impl<I: Io + Processes> Master<I> {
    /// Takes over, before the first turn. `first_mode`, `resized`: what our own configuration says
    /// of the mode, and of the number of workers if that has changed; `unknown`: what only the
    /// program before counts.
    ///
    /// # Errors
    ///
    /// What was written down does not fit together.
    pub fn take_over(
        &mut self,
        core: &Core,
        mode: Mode,
        first_mode: Mode,
        resized: Option<u32>,
        unknown: Vec<String>,
    ) -> Result<(), String> {
        let board = self.board;
        self.workers.restore(&core.slots, &core.workers, |line| board.has(line))?;
        self.ledger = Ledger::restored(&core.ledger);
        for part in &core.workers {
            self.ledger.restore_transit(part);
            self.adopt(part)?;
        }
        for part in &core.pending {
            self.pending.put_back(saved::restore(part));
        }
        self.ops.epochs = Epochs::resumed(core.epoch, mode, first_mode);
        self.ops.drained = core.drained;
        self.control.began = Some(Instant::from_nanos(core.began));
        let visitors = &mut self.control.visitors;
        let askers = core.askers.iter().map(|fd| visitors.adopt(Fd::new(*fd))).collect();
        self.ops.took_over = Some((askers, resized, unknown));
        for part in &core.waiting {
            let askers = part.askers.iter().map(|fd| visitors.adopt(Fd::new(*fd))).collect();
            match line::parse(part.line.as_bytes()) {
                Ok(Request::Order(command)) => self.ops.wait(command, askers),
                Ok(_) | Err(_) => return Err(format!("{}: no command", part.line.escape_debug())),
            }
        }
        for part in &core.visitors {
            let input = of_hex(&part.input).ok_or("a visitor's bytes are no hexadecimal")?;
            if let Some(stranger) = visitors.adopt_asking(Fd::new(part.fd), part.door, input) {
                self.io.close(stranger);
            }
        }
        Ok(())
    }

    fn adopt(&mut self, part: &WorkerPart) -> Result<(), String> {
        let pidfd = self.io.adopt(part.pid);
        let pidfd = pidfd.map_err(|errno| format!("process {}: {errno}", part.pid))?;
        let post = part.mail.as_ref().map(|mail| {
            let wrong = || "a stream's bytes are no hexadecimal".to_owned();
            let came = of_hex(&mail.came).ok_or_else(wrong)?;
            let leaves = of_hex(&mail.leaves).ok_or_else(wrong)?;
            let mail_max = self.message_max;
            Ok(Post::new(Fd::new(mail.fd), Mail::restored(mail_max, &came, leaves)))
        });
        let post = post.transpose().map_err(|wrong: String| wrong)?;
        let process = Process {
            generation: part.generation,
            reads: part.reads,
            connections_max: part.connections_max,
            pid: part.pid,
            pidfd: Some(pidfd),
            channel: part.channel.map(Fd::new),
            abandoned: part.channel.is_none(),
            receiving: false,
            short: false,
            resume: false,
            cap: None,
            canceled: false,
            passing: None,
            outbox: Vec::new(),
            control: part.control.clone().map(String::into_bytes),
            retry_at: None,
            taken_back: part.unpromised,
            dead: false,
            last_words: None,
            batch: Batch::default(),
            marks: Vec::new(),
            post,
        };
        self.processes.insert(part.line, process);
        Ok(())
    }

    /// In the first turn: hears the workers that were taken over, and begins to replace them.
    pub(super) fn wake_up(&mut self, now: Instant) {
        let Some((askers, resized, unknown)) = self.ops.took_over.take() else { return };
        self.listen_to_all(now);
        // Those that ended meanwhile: their signals may have been read by the program before.
        self.reap(now);
        let lines: Vec<u32> = self.processes.keys().copied().collect();
        for line in lines {
            if !self.has_state(line, State::Dead) {
                self.pass_control(line);
                self.watchdog.wake(line, now);
            }
        }
        let note = match unknown.join(", ") {
            names if names.is_empty() => names,
            names => format!("; only it counts {}", names.escape_debug()),
        };
        (self.events)(&Event::TookOver { workers: self.processes.len(), note });
        self.finish_upgrade(askers, now);
        if let Some(workers) = resized {
            self.ops.put_off(Command::ScaleTo(workers.min(self.ops.slots_max)));
        }
    }
}
