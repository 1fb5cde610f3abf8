//! How workers ended, and why: for logs, status and metrics. Pure.

use crate::event::KillReason;
use crate::io::Exit;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Why a worker is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// It finished, as it was asked to.
    Finished,
    /// It exited by itself, with this code.
    Code(i32),
    /// A signal that the master did not send; with a core dump or not.
    Signal(i32, bool),
    /// The kernel killed it, out of memory.
    OutOfMemory,
    /// The master killed it.
    Killed(KillReason),
    /// The watchdog ended it, by this signal, with a core dump or not.
    Hung {
        /// ABRT or KILL.
        signal: i32,
        /// Whether it left a core dump.
        dumped: bool,
        /// For how long its loop had not turned when it was aborted.
        quiet: Duration,
    },
}

impl EndReason {
    /// What an exit means. `asked`: it was to end; `killed`: the master has sent a KILL; `quiet`:
    /// the watchdog has sent an ABRT, when its loop had not turned for so long; `oom`: the kernel
    /// has killed somebody of ours for want of memory.
    #[must_use]
    pub fn new(
        exit: Exit,
        asked: bool,
        killed: Option<KillReason>,
        quiet: Option<Duration>,
        oom: bool,
    ) -> Self {
        if let (Exit::Signal(signal @ (ABORT | KILL), dumped), Some(quiet)) = (exit, quiet) {
            return Self::Hung { signal, dumped, quiet };
        }
        match (exit, killed) {
            (Exit::Code(0), _) if asked => Self::Finished,
            (Exit::Code(code), _) => Self::Code(code),
            (Exit::Signal(KILL, _), Some(reason)) => Self::Killed(reason),
            (Exit::Signal(KILL, _), None) if oom => Self::OutOfMemory,
            (Exit::Signal(signal, dumped), _) => Self::Signal(signal, dumped),
        }
    }

    /// Its class, as a label.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Code(_) => "exit_code",
            Self::Signal(..) => "signal",
            Self::OutOfMemory => "out_of_memory",
            Self::Killed(_) | Self::Hung { .. } => "killed",
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Finished => Exit::Code(0).fmt(f),
            Self::Code(code) => Exit::Code(code).fmt(f),
            Self::Signal(signal, dumped) => Exit::Signal(signal, dumped).fmt(f),
            Self::OutOfMemory => f.write_str("killed by the kernel: out of memory"),
            Self::Killed(reason) => write!(f, "killed by the master: {}", reason.name()),
            Self::Hung { signal, dumped, quiet } => {
                let (exit, seconds) = (Exit::Signal(signal, dumped), quiet.as_secs_f64());
                write!(f, "killed by the master: watchdog: no tick for {seconds:.1} s: {exit}")
            }
        }
    }
}

/// The last end of a slot's worker that nobody had asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its process.
    pub pid: u32,
    /// Why it ended; of a failed boot, what it said.
    pub why: String,
    /// Its last panic; empty if it had none.
    pub panic: String,
    /// The last lines that it wrote to standard error, if the master reads that.
    pub lines: Vec<String>,
}

/// How workers ended.
#[derive(Debug, Default)]
pub struct Ends {
    /// All of them, by class.
    classes: BTreeMap<&'static str, u64>,
    /// The last one of each slot.
    last: BTreeMap<u32, End>,
    /// Those whose last words have not been heard, by process: slot and end.
    unheard: BTreeMap<u32, (u32, End)>,
    /// What the kernel's count of processes killed for want of memory was.
    oom_kills: Option<u64>,
}

impl Ends {
    /// The kernel's count stands here now; whether it has grown since it was told last.
    pub fn oom(&mut self, count: Option<u64>) -> bool {
        let before = std::mem::replace(&mut self.oom_kills, count);
        before.zip(count).is_some_and(|(before, count)| count > before)
    }

    /// A worker ended; what it said last is heard after this.
    pub fn add(&mut self, slot: u32, pid: u32, reason: EndReason, asked: bool, panic: &str) {
        *self.classes.entry(reason.class()).or_default() += 1;
        if !asked {
            let (why, panic) = (reason.to_string(), panic.to_owned());
            self.unheard.insert(pid, (slot, End { pid, why, panic, lines: Vec::new() }));
        }
    }

    /// All that it said was heard; `why`: its boot had failed, and this is why; `lines`: what it
    /// wrote last. Answers whether that matters: nobody had asked for its end.
    pub fn heard(&mut self, pid: u32, why: Option<&str>, lines: Vec<String>) -> bool {
        let Some((slot, mut end)) = self.unheard.remove(&pid) else { return false };
        end.lines = lines;
        if let Some(why) = why {
            why.clone_into(&mut end.why);
        }
        self.last.insert(slot, end);
        true
    }

    /// The last one of a slot.
    #[must_use]
    pub fn last(&self, slot: u32) -> Option<&End> {
        self.last.get(&slot)
    }

    /// How many ended, by class.
    #[must_use]
    pub const fn classes(&self) -> &BTreeMap<&'static str, u64> {
        &self.classes
    }
}

/// SIGKILL (signal(7)).
const KILL: i32 = 9;
/// SIGABRT.
const ABORT: i32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(exit: Exit, asked: bool, killed: Option<KillReason>, oom: bool, want: &str) {
        let reason = EndReason::new(exit, asked, killed, None, oom);
        assert_eq!(format!("{}: {reason}", reason.class()), want);
    }

    #[test]
    fn an_exit_has_one_reason() {
        let kill = Exit::Signal(9, false);
        let late = Some(KillReason::BootTimeout);
        check(Exit::Code(0), true, None, false, "finished: exit code 0");
        check(Exit::Code(0), false, None, false, "exit_code: exit code 0");
        check(Exit::Code(3), true, late, true, "exit_code: exit code 3");
        check(
            Exit::Signal(11, true),
            false,
            None,
            true,
            "signal: signal 11 (SIGSEGV), core dumped",
        );
        check(Exit::Signal(64, false), false, None, true, "signal: signal 64");
        check(kill, false, None, false, "signal: signal 9 (SIGKILL)");
        check(kill, false, None, true, "out_of_memory: killed by the kernel: out of memory");
        let ours = "killed: killed by the master: not ready within boot_timeout";
        check(kill, false, late, true, ours);
        check(Exit::Signal(6, false), false, late, true, "signal: signal 6 (SIGABRT)");
    }

    #[test]
    fn what_the_watchdog_struck_says_so_and_how_long_it_hung() {
        let hung = |exit| {
            let quiet = Some(Duration::from_millis(3049));
            let reason = EndReason::new(exit, true, Some(KillReason::Hung), quiet, true);
            format!("{}: {reason}", reason.class())
        };
        let says = "killed: killed by the master: watchdog: no tick for 3.0 s: ";
        assert_eq!(hung(Exit::Signal(6, true)), format!("{says}signal 6 (SIGABRT), core dumped"));
        assert_eq!(hung(Exit::Signal(9, false)), format!("{says}signal 9 (SIGKILL)"));
        // It went on, and ended in its own way.
        assert_eq!(hung(Exit::Code(3)), "exit_code: exit code 3");
        assert_eq!(hung(Exit::Signal(11, false)), "signal: signal 11 (SIGSEGV)");
    }

    #[test]
    fn each_slot_keeps_its_last_end_that_nobody_asked_for() {
        let mut ends = Ends::default();
        ends.add(0, 41, EndReason::Code(7), false, "");
        ends.add(0, 42, EndReason::Finished, true, "");
        ends.add(1, 43, EndReason::Code(3), false, "at 7");
        assert_eq!(ends.last(0), None, "what it said last is not heard yet");
        assert!(ends.heard(41, None, vec!["one".to_owned()]));
        assert!(ends.heard(43, Some("no disk"), Vec::new()));
        assert!(!ends.heard(42, Some("another's"), Vec::new()));
        assert_eq!(ends.last(0).map(|end| end.lines.len()), Some(1));
        let last =
            |slot| ends.last(slot).map(|end| (end.pid, end.why.as_str(), end.panic.as_str()));
        assert_eq!(
            [last(0), last(1), last(2)],
            [Some((41, "exit code 7", "")), Some((43, "no disk", "at 7")), None]
        );
        assert_eq!(
            ends.classes().iter().collect::<Vec<_>>(),
            [(&"exit_code", &2), (&"finished", &1)]
        );
    }

    #[test]
    fn only_a_count_that_grows_means_something() {
        let mut ends = Ends::default();
        let counts = [None, Some(3), Some(3), Some(5), None, Some(9), Some(1)];
        assert_eq!(
            counts.map(|count| ends.oom(count)),
            [false, false, false, true, false, false, false]
        );
    }
}
