//! What happened in the pool, as typed values: one log line each, with a level. Pure.

mod hang;

pub use hang::Hang;

use crate::io::{Errno, Exit};
use crate::master::Report;
use crate::master::ends::EndReason;
use crate::master::recycle::Cause;
use std::fmt;
use std::time::Duration;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed, and somebody should look.
    Error,
    /// Something failed, and the pool dealt with it.
    Warn,
    /// The normal life of a pool.
    Info,
}

impl Level {
    /// Its name in a log line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
        }
    }
}

/// Why the master killed a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// It did not say READY within `boot_timeout`.
    BootTimeout,
    /// Its channel is closed, and it did not exit within the grace.
    ChannelGone,
    /// It did not end its drain in time.
    DrainTimeout,
    /// The pool was told to stop now.
    Stopped,
    /// Too many old epochs were alive.
    OldEpoch,
    /// Its loop did not turn for `watchdog_timeout`.
    Hung,
}

impl KillReason {
    /// As part of a sentence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BootTimeout => "not ready within boot_timeout",
            Self::ChannelGone => "its channel is closed and it did not exit",
            Self::DrainTimeout => "not drained within drain_timeout",
            Self::Stopped => "stopped now",
            Self::OldEpoch => "too many old epochs are alive",
            Self::Hung => "it hung for watchdog_timeout",
        }
    }
}

/// Why a worker's channel is not used any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelFault {
    /// The worker closed its end.
    EndOfFile,
    /// A receive or a pass failed.
    Failed(Errno),
    /// A message that is none, came cut, with descriptors, or at the wrong time.
    BadMessage(String),
}

impl fmt::Display for ChannelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndOfFile => f.write_str("end of file"),
            Self::Failed(errno) => errno.fmt(f),
            Self::BadMessage(what) => write!(f, "bad message: {}", what.escape_debug()),
        }
    }
}

/// Something that happened in the pool. `Display` is one line without a newline, whatever a worker
/// said.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The master runs and is about to spawn its workers.
    Started {
        /// How many slots there are.
        workers: u32,
        /// How many listeners the master holds.
        listeners: u32,
    },
    /// A worker was forked.
    WorkerSpawned {
        /// Which slot it fills.
        slot: u32,
        /// How often the slot was filled before.
        generation: u32,
        /// Its process.
        pid: u32,
    },
    /// A worker serves.
    WorkerReady {
        /// Which slot it fills.
        slot: u32,
        /// Its process.
        pid: u32,
        /// From fork to READY.
        boot: Duration,
    },
    /// A worker's process ended and was reaped.
    WorkerExited {
        /// Which slot it filled.
        slot: u32,
        /// Its process.
        pid: u32,
        /// How it ended.
        exit: Exit,
        /// Why.
        reason: EndReason,
        /// From fork to the end.
        uptime: Duration,
        /// Connections that were open in it and are cut.
        open: u64,
        /// Whether we asked for it: a drain or a kill.
        asked: bool,
    },
    /// A worker that ended by itself had panicked before: the beginning of what the panic said.
    LastPanic {
        /// Which slot it filled.
        slot: u32,
        /// Its process.
        pid: u32,
        /// Where and why.
        panic: String,
    },
    /// What a worker that ended by itself wrote last to standard error.
    LastLines {
        /// Which slot it filled.
        slot: u32,
        /// Its process.
        pid: u32,
        /// The last lines.
        lines: Vec<String>,
    },
    /// A worker ended before it was ready.
    WorkerBootFailed {
        /// Which slot it was to fill.
        slot: u32,
        /// What it said, or how it ended.
        reason: String,
    },
    /// The master killed a worker.
    WorkerKilled {
        /// Which slot it filled.
        slot: u32,
        /// Its process.
        pid: u32,
        /// Why.
        reason: KillReason,
    },
    /// The kernel refused to fork; it is tried again.
    SpawnRefused {
        /// Which slot was to be filled.
        slot: u32,
        /// What the kernel said.
        errno: Errno,
        /// When it is tried again.
        delay: Duration,
    },
    /// A slot stays empty for a while, because its workers keep dying.
    BackOff {
        /// Which slot.
        slot: u32,
        /// How long.
        delay: Duration,
    },
    /// A worker had no descriptors for all that it was handed: others serve the rest. Said once as
    /// long as it lasts.
    WorkerShort {
        /// Which slot it fills.
        slot: u32,
        /// Its process.
        pid: u32,
        /// Connections open in it.
        open: u64,
    },
    /// Workers end more often than one a slot, and one, in ten seconds.
    RestartStorm {
        /// How many slots there are.
        workers: usize,
    },
    /// Connections were answered with 503 by the master. At most once a second.
    Refused {
        /// How many since the last such event.
        count: u64,
    },
    /// Accepting failed for want of descriptors. At most once a second.
    OutOfFds {
        /// How many times since the last such event.
        count: u64,
    },
    /// Accepting failed for another reason. At most once a second.
    AcceptFailed {
        /// What the kernel said last.
        errno: Errno,
    },
    /// A worker's channel is not used any more; the worker is replaced.
    ChannelBroken {
        /// Which slot.
        slot: u32,
        /// Its process.
        pid: u32,
        /// Why.
        fault: ChannelFault,
    },
    /// Connections that a dead worker had not begun go to others.
    Redispatched {
        /// Which slot had died.
        slot: u32,
        /// How many connections.
        count: u64,
    },
    /// A worker's loop does not turn though something waits for it, or turns again.
    WorkerHang {
        /// Which slot it fills.
        slot: u32,
        /// Its process.
        pid: u32,
        /// What is said of it, or done about it.
        hang: Hang,
    },
    /// New workers are to take over: a reload, a rollback, another mode, recycling.
    TransactionBegan {
        /// Which of them.
        what: &'static str,
        /// Of which epoch the new workers are.
        epoch: u32,
    },
    /// What an operator asked for has ended, well or not.
    CommandEnded {
        /// Whether it was done; otherwise nothing has changed.
        ok: bool,
        /// Which command.
        what: &'static str,
        /// How it ended.
        text: String,
    },
    /// A worker is replaced because it has reached a limit.
    WorkerRecycled {
        /// Which slot it fills.
        slot: u32,
        /// Its process.
        pid: u32,
        /// Which limit.
        cause: Cause,
    },
    /// A slot could not get a listener of its own: its worker serves what the master hands over.
    ListenFailed {
        /// Which slot.
        slot: u32,
        /// What the kernel said.
        errno: Errno,
    },
    /// The application's balancer panicked; least connections serve on.
    BalancerPanicked,
    /// The application's hook for messages panicked; it is called again for the next one.
    MessageHookPanicked {
        /// Whose message it was.
        slot: u32,
    },
    /// An application's message was not sent.
    MessageLost {
        /// To whom; `None`: to all.
        slot: Option<u32>,
        /// Why.
        why: String,
    },
    /// A signal that the master does not act on.
    SignalIgnored {
        /// Its number (signal(7)).
        signal: u32,
        /// Why.
        why: &'static str,
    },
    /// The next program was tried, and is good: this process becomes it.
    HandoverBegan,
    /// This program has taken over a pool.
    TookOver {
        /// So many workers of the program before, which serve on until ours do.
        workers: usize,
        /// What is to be said of them: what only their program counts.
        note: String,
    },
    /// The pool drains: nothing new is accepted.
    DrainBegan {
        /// How long it may take.
        timeout: Duration,
    },
    /// The pool was told to stop now.
    Stopping,
    /// All workers are gone.
    DrainEnded {
        /// What became of all connections.
        report: Box<Report>,
    },
}

impl Event {
    /// How much it matters.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::WorkerExited { asked, exit: Exit::Code(0), .. } if *asked => Level::Info,
            Self::Started { .. }
            | Self::WorkerSpawned { .. }
            | Self::WorkerReady { .. }
            | Self::DrainBegan { .. }
            | Self::HandoverBegan
            | Self::TookOver { .. }
            | Self::TransactionBegan { .. }
            | Self::CommandEnded { ok: true, .. }
            | Self::WorkerRecycled { .. }
            | Self::WorkerHang { hang: Hang::Back, .. }
            | Self::Redispatched { .. } => Level::Info,
            Self::DrainEnded { report } if report.is_clean() => Level::Info,
            Self::WorkerExited { .. }
            | Self::BackOff { .. }
            | Self::WorkerShort { .. }
            | Self::LastPanic { .. }
            | Self::LastLines { .. }
            | Self::Refused { .. }
            | Self::SignalIgnored { .. }
            | Self::Stopping
            | Self::DrainEnded { .. }
            | Self::MessageLost { .. }
            | Self::WorkerHang { hang: Hang::Late { .. }, .. }
            | Self::SpawnRefused { .. } => Level::Warn,
            Self::WorkerBootFailed { .. }
            | Self::WorkerKilled { .. }
            | Self::WorkerHang { hang: Hang::Known(_) | Hang::Aborted { .. }, .. }
            | Self::OutOfFds { .. }
            | Self::AcceptFailed { .. }
            | Self::ChannelBroken { .. }
            | Self::CommandEnded { ok: false, .. }
            | Self::ListenFailed { .. }
            | Self::MessageHookPanicked { .. }
            | Self::RestartStorm { .. }
            | Self::BalancerPanicked => Level::Error,
        }
    }

    /// Hands the event to the `log` facade.
    #[cfg(feature = "log")]
    pub fn log(&self) {
        let level = match self.level() {
            Level::Error => log::Level::Error,
            Level::Warn => log::Level::Warn,
            Level::Info => log::Level::Info,
        };
        log::log!(target: "ringfort", level, "{self}");
    }
}

impl fmt::Display for Event {
    #[expect(clippy::too_many_lines, reason = "an arm an event")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { workers, listeners } => {
                write!(f, "master started: workers={workers} listeners={listeners}")
            }
            Self::WorkerSpawned { slot, generation, pid } => {
                write!(f, "worker spawned: slot={slot} generation={generation} pid={pid}")
            }
            Self::WorkerReady { slot, pid, boot } => {
                write!(f, "worker ready: slot={slot} pid={pid} boot={boot:?}")
            }
            Self::WorkerExited { slot, pid, exit: _, reason, uptime, open, asked } => {
                let how = if *asked { "ended" } else { "died" };
                write!(
                    f,
                    "worker {how}: slot={slot} pid={pid} {reason}, uptime={uptime:?} open={open}"
                )
            }
            Self::LastPanic { slot, pid, panic } => {
                write!(f, "its last panic: slot={slot} pid={pid}: {}", panic.escape_debug())
            }
            Self::LastLines { slot, pid, lines } => {
                write!(
                    f,
                    "its last lines: slot={slot} pid={pid}: {}",
                    lines.join("\n").escape_debug()
                )
            }
            Self::WorkerBootFailed { slot, reason } => {
                write!(f, "worker did not come up: slot={slot}: {}", reason.escape_debug())
            }
            Self::WorkerKilled { slot, pid, reason } => {
                write!(f, "worker killed: slot={slot} pid={pid}: {}", reason.name())
            }
            Self::SpawnRefused { slot, errno, delay } => {
                write!(f, "cannot fork a worker: slot={slot}: {errno}; trying again in {delay:?}")
            }
            Self::BackOff { slot, delay } => {
                write!(f, "worker keeps dying: slot={slot}: next one in {delay:?}")
            }
            Self::WorkerShort { slot, pid, open } => {
                write!(f, "worker out of file descriptors: slot={slot} pid={pid} open={open}")
            }
            Self::RestartStorm { workers } => {
                write!(f, "workers end too often: more than {} in 10 s", workers + 1)
            }
            Self::Refused { count } => write!(f, "connections answered with 503: {count}"),
            Self::OutOfFds { count } => {
                write!(f, "out of file descriptors: accept failed {count} times; `ulimit -n`")
            }
            Self::AcceptFailed { errno } => write!(f, "accept failed: {errno}; trying again"),
            Self::ChannelBroken { slot, pid, fault } => {
                write!(f, "channel of a worker broken: slot={slot} pid={pid}: {fault}")
            }
            Self::Redispatched { slot, count } => {
                write!(
                    f,
                    "connections that a worker had not begun given to others: slot={slot} count={count}"
                )
            }
            Self::WorkerHang { slot, pid, hang } => {
                write!(f, "worker {}: slot={slot} pid={pid}{hang}", hang.name())
            }
            Self::TransactionBegan { what, epoch } => write!(f, "{what} begins: epoch={epoch}"),
            Self::CommandEnded { ok, what, text } => {
                let how = if *ok { "done" } else { "failed" };
                write!(f, "{what} {how}: {}", text.escape_debug())
            }
            Self::WorkerRecycled { slot, pid, cause } => {
                write!(f, "worker is replaced: slot={slot} pid={pid}: {}", cause.name())
            }
            Self::ListenFailed { slot, errno } => {
                write!(f, "no listener for a worker of its own: slot={slot}: {errno}")
            }
            Self::BalancerPanicked => {
                f.write_str("the application's balancer panicked: least connections from now on")
            }
            Self::MessageHookPanicked { slot } => {
                write!(f, "the application's hook panicked at a message: slot={slot}")
            }
            Self::MessageLost { slot, why } => {
                let to = slot.map_or_else(|| "all".to_owned(), |slot| slot.to_string());
                write!(f, "message lost: slot={to}: {}", why.escape_debug())
            }
            Self::SignalIgnored { signal, why } => write!(f, "signal {signal} ignored: {why}"),
            Self::HandoverBegan => f.write_str("becoming the next program"),
            Self::TookOver { workers, note } => {
                write!(f, "took over: workers={workers} of the program before{note}")
            }
            Self::DrainBegan { timeout } => write!(f, "draining, at most {timeout:?}"),
            Self::Stopping => f.write_str("stopping now"),
            Self::DrainEnded { report } => write!(f, "drained: {report}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_a_worker_said() {
        let nasty = "a\nb\r\x1b[31m\u{2028}".to_owned();
        let failed = Event::WorkerBootFailed { slot: 3, reason: nasty.clone() };
        let fault = ChannelFault::BadMessage(nasty);
        let broken = Event::ChannelBroken { slot: 3, pid: 7, fault };
        for event in [failed, broken] {
            let line = event.to_string();
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{2028}'), "{line:?}");
            assert_eq!(event.level(), Level::Error);
        }
    }

    #[test]
    fn a_death_that_was_asked_for_is_no_warning() {
        let exited = |asked, exit| Event::WorkerExited {
            slot: 0,
            pid: 1,
            exit,
            reason: EndReason::new(exit, asked, None, None, false),
            uptime: Duration::from_secs(1),
            open: 0,
            asked,
        };
        assert_eq!(exited(true, Exit::Code(0)).level(), Level::Info);
        assert_eq!(exited(true, Exit::Code(1)).level(), Level::Warn);
        assert_eq!(exited(false, Exit::Code(0)).level(), Level::Warn);
    }
}
