//! The next program on trial: a child of the master that it is to replace. It reads the manifest,
//! forks a worker, waits until that is ready, asks it for an answer, says how that went, and ends.
//! Nothing that it opens is the pool's.

use super::upgrade;
use super::{Base, LINES_PER_SLOT, Launching, boot_failed, descriptors, launch, may_fork};
use crate::config::Config;
use crate::io::{Errno, Fd, Purpose, Signal, WorkerPlan};
use crate::ipc::board::Board;
use crate::ipc::handoff::Handoff;
use crate::ipc::manifest::Manifest;
use crate::ipc::message::{CONTROL_MAX, Message, MessageType};
use crate::master::probe;
use crate::mode::recommended;
use crate::pool::{Hooks, WorkerInfo};
use crate::server::Job;
use crate::sys::process::{self, Forked};
use crate::sys::{clock, owned, scm, shm, socket};
use crate::system::SystemInfo;
use std::fmt;

/// Tries, says how that went, and ends the process.
pub(super) fn run<E: fmt::Display>(
    manifest: Result<Box<Manifest>, String>,
    channel: &Fd,
    config: Config,
    hooks: Hooks,
    factory: impl FnMut(&WorkerInfo) -> Result<Job, E> + 'static,
) -> ! {
    let tried = manifest.and_then(|manifest| attempt(&manifest, channel, config, hooks, factory));
    let said = tried.and_then(|()| {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double exactly")]
        let stamp = clock::unix_time() as f64;
        let good = Message::config_read(&[], &[], stamp);
        let bytes = good.encode(CONTROL_MAX).map_err(|error| error.to_string())?;
        scm::send_message(channel, &bytes, &[]).map_err(|errno| errno.to_string())
    });
    upgrade::leave(match said {
        Ok(_) => 0,
        Err(why) => boot_failed(channel, &why),
    })
}

fn attempt<E: fmt::Display>(
    manifest: &Manifest,
    channel: &Fd,
    mut config: Config,
    mut hooks: Hooks,
    factory: impl FnMut(&WorkerInfo) -> Result<Job, E> + 'static,
) -> Result<(), String> {
    let text = |error: crate::error::Error| error.to_string();
    may_fork(&config).map_err(text)?;
    upgrade::check(manifest, &config)?;
    let mut inherited = process::open_fds().map_err(|failed| failed.error("/proc").to_string())?;
    let passed = manifest.trial_descriptors();
    inherited.retain(|fd| !passed.contains(fd) && *fd != channel.raw());
    descriptors::fit(&mut config).map_err(text)?;
    let system = SystemInfo::get(u32::try_from(config.fallback_cpus()).unwrap_or(1));
    let mode = recommended(&config, &system).mode;
    let memory = shm::create(Board::words(LINES_PER_SLOT));
    let memory = memory.map_err(|failed| failed.error("the board").to_string())?;
    let board = Board::create(memory.words, LINES_PER_SLOT);
    let (path, time) = (config.probe_path().to_owned(), config.probe_timeout());
    let launching = Launching {
        base: Base { config, mode },
        board,
        inherited,
        // A worker that hangs would outlive a trial that is killed.
        death: Signal::Kill,
        next: None,
    };
    let mailed = hooks.mail.is_some();
    let mut launch =
        launch(launching, factory, hooks.reload.take(), hooks.calls.clone()).map_err(text)?;
    let mut worker = Tried::spawn(&mut launch, manifest.core.epoch.wrapping_add(1), mailed)?;
    let result = worker
        .await_ready()
        .and_then(|()| if time.is_zero() { Ok(()) } else { worker.probe(&path, time) });
    worker.end();
    result
}

/// The one worker of a trial.
struct Tried {
    forked: Forked,
    channel: Fd,
    /// Kept open, so that the worker sees no end of it.
    _mail: Option<Fd>,
}

impl Tried {
    fn spawn(
        launch: &mut crate::sys::ring::Launch,
        epoch: u32,
        mailed: bool,
    ) -> Result<Self, String> {
        let text = |errno: Errno| errno.to_string();
        let (channel, theirs) = socket::seqpacket_pair().map_err(text)?;
        let mail = mailed.then(owned::stream_pair).transpose().map_err(text)?;
        let (mail, their_mail) = mail.unzip();
        let plan = WorkerPlan {
            slot: 0,
            generation: 0,
            epoch,
            line: 0,
            listeners: &[],
            mail: their_mail.as_ref(),
            purpose: Purpose::Succeed,
            settings: &[],
            handover: "",
        };
        let raw = theirs.raw();
        let forked = process::spawn(|| launch(&plan, Fd::new(raw)));
        socket::close(theirs);
        if let Some(theirs) = their_mail {
            socket::close(theirs);
        }
        let forked = forked.map_err(|error| error.error().to_string())?;
        Ok(Self { forked, channel, _mail: mail })
    }

    /// The master that waits for us ends what takes longer than `boot_timeout`.
    fn await_ready(&mut self) -> Result<(), String> {
        loop {
            process::await_readable(&self.channel);
            let message = match scm::receive_message(&self.channel, CONTROL_MAX) {
                Ok(message) if message.bytes.is_empty() => return Err(self.why()),
                Ok(message) => message,
                Err(Errno::Again | Errno::Interrupted) => continue,
                Err(_) => return Err(self.why()),
            };
            let message = Message::parse(&message.bytes, CONTROL_MAX);
            let message = message.map_err(|error| error.to_string())?;
            if message.kind == MessageType::WorkerReady {
                return Ok(());
            }
            if message.kind == MessageType::WorkerFailed {
                return Err(message.reason().unwrap_or("no reason given").to_owned());
            }
        }
    }

    /// How it ended: its channel has.
    fn why(&self) -> String {
        process::await_readable(&self.forked.pidfd);
        match process::reap(&self.forked.pidfd) {
            Some(exit) => format!("{exit} before READY"),
            None => "its channel is closed".to_owned(),
        }
    }

    fn probe(&mut self, path: &str, time: std::time::Duration) -> Result<(), String> {
        let text = |errno: Errno| format!("no connection to ask it: {errno}");
        let (ours, theirs) = socket::stream_pair().map_err(text)?;
        let mut handoff = Handoff::new(0);
        handoff.push(0, None);
        let mut bytes = Vec::new();
        handoff.encode(&mut bytes);
        let sent = scm::send_message(&self.channel, &bytes, &[&theirs]);
        socket::close(theirs);
        let asked = sent.and_then(|_| socket::send_now(&ours, probe::request(path).as_bytes()));
        asked.map_err(text)?;
        let until = clock::monotonic().after(time);
        let (mut answer, mut room) = (Vec::new(), [0; 1024]);
        loop {
            let left = until.since(clock::monotonic());
            if left.is_zero() || !process::await_readable_for(&ours, left) {
                return Err("no answer to the probe in time".to_owned());
            }
            match socket::receive_now(&ours, &mut room) {
                Ok(0) => return Err("it closed the connection".to_owned()),
                Ok(count) => answer.extend_from_slice(&room[..count]),
                Err(Errno::Again | Errno::Interrupted) => {}
                Err(errno) => return Err(format!("no answer to the probe: {errno}")),
            }
            if let Some(verdict) = probe::verdict(&answer) {
                return verdict;
            }
        }
    }

    fn end(self) {
        // One that has ended is reaped.
        let _ = process::signal(&self.forked.pidfd, Signal::Kill);
        while process::reap(&self.forked.pidfd).is_none() {
            process::await_readable(&self.forked.pidfd);
        }
        socket::close(self.forked.pidfd);
        socket::close(self.channel);
    }
}
