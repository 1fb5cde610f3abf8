//! Which signal asks the master for what (signal(7), Linux on x86-64 and aarch64). Pure.

use super::scale;
use crate::config::Mode;

/// What an operator, or the kernel, asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Finish what runs, then exit.
    Drain,
    /// Exit now.
    Stop,
    /// A child ended: reap.
    Reap,
    /// Replace all workers by new ones, as a transaction.
    Reload,
    /// Replace this program by the one on disk, as a transaction.
    Upgrade,
    /// Go back to the epoch before the last reload.
    Rollback,
    /// So many workers more, or less.
    ScaleBy(i32),
    /// So many workers.
    ScaleTo(u32),
    /// Drain all workers and keep the master.
    DrainWorkers,
    /// Replace the worker of this slot, or all of them, one by one.
    Recycle(Option<u32>),
    /// Change how connections reach workers.
    SetMode(Mode),
    /// Say what every worker does.
    Dump,
    /// Nothing, and why.
    Ignore(&'static str),
}

impl Command {
    /// Its word in answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Stop => "stop",
            Self::Reap => "reap",
            Self::Reload => "reload",
            Self::Upgrade => "upgrade",
            Self::Rollback => "rollback",
            Self::ScaleBy(_) | Self::ScaleTo(_) | Self::DrainWorkers => "scale",
            Self::Recycle(_) => "recycle",
            Self::SetMode(_) => "mode",
            Self::Dump => "dump",
            Self::Ignore(_) => "ignore",
        }
    }

    /// This one, which waits, and then another of the same name, as one; there may be so many
    /// workers.
    #[must_use]
    pub fn then(self, later: Self, max: u32) -> Self {
        match (self, later) {
            (Self::ScaleBy(first), Self::ScaleBy(by)) => Self::ScaleBy(first.saturating_add(by)),
            (Self::ScaleTo(target), Self::ScaleBy(by)) => {
                Self::ScaleTo(scale::reach(target as usize, by, max).unwrap_or(target))
            }
            _ => later,
        }
    }
}

/// Bytes of one record of a signalfd (signalfd(2)); its first four are the signal's number.
pub const SIGNAL_RECORD: usize = 128;

/// The signals in what was read from a signalfd. A cut record, which the kernel never writes, is
/// left out; so is a WINCH that the kernel sends when a terminal's window changes its size, which
/// nobody means as a command (`ssi_code` above 0: not sent by a process).
pub fn signals(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(SIGNAL_RECORD).filter_map(|record| {
        let number = u32::from_ne_bytes(*record.first_chunk()?);
        let code = i32::from_ne_bytes(*record.get(8..)?.first_chunk()?);
        (number != WINCH || code <= 0).then_some(number)
    })
}

/// Signals that came in one read, in the order in which they are obeyed. The kernel gives them by
/// number, whenever each was sent: of WINCH and what brings workers back the latter has the last
/// word, so that no pool is left without workers by a WINCH that was taken back.
pub fn in_order(signals: &mut [u32]) {
    signals.sort_by_key(|signal| *signal != WINCH);
}

/// What a signal asks for. `draining`: a drain runs already.
#[must_use]
pub const fn command(signal: u32, draining: bool) -> Command {
    match signal {
        INT | QUIT | TERM if draining => Command::Stop,
        INT | QUIT | TERM => Command::Drain,
        CHLD => Command::Reap,
        HUP | USR1 | TTIN | TTOU | WINCH if draining => Command::Ignore("the pool drains"),
        HUP | USR1 => Command::Reload,
        USR2 => Command::Ignore("it is the application's"),
        TTIN => Command::ScaleBy(1),
        TTOU => Command::ScaleBy(-1),
        WINCH => Command::DrainWorkers,
        _ => Command::Ignore("it has no meaning here"),
    }
}

const HUP: u32 = 1;
const INT: u32 = 2;
const QUIT: u32 = 3;
const USR1: u32 = 10;
/// The application's, unless `usr2_upgrade`.
pub const USR2: u32 = 12;
const TERM: u32 = 15;
const CHLD: u32 = 17;
const TTIN: u32 = 21;
const TTOU: u32 = 22;
const WINCH: u32 = 28;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        let mut table = String::new();
        for signal in 0..=64 {
            let (first, second) = (command(signal, false), command(signal, true));
            if first != Command::Ignore("it has no meaning here") {
                table.push_str(&format!("{signal}: {first:?} / {second:?}\n"));
            }
        }
        let want = "\
1: Reload / Ignore(\"the pool drains\")
2: Drain / Stop
3: Drain / Stop
10: Reload / Ignore(\"the pool drains\")
12: Ignore(\"it is the application's\") / Ignore(\"it is the application's\")
15: Drain / Stop
17: Reap / Reap
21: ScaleBy(1) / Ignore(\"the pool drains\")
22: ScaleBy(-1) / Ignore(\"the pool drains\")
28: DrainWorkers / Ignore(\"the pool drains\")
";
        assert_eq!(table, want);
    }

    #[test]
    fn a_read_may_bring_several_signals_and_never_half_a_one() {
        let mut bytes = vec![0; 3 * SIGNAL_RECORD];
        bytes[..4].copy_from_slice(&TERM.to_ne_bytes());
        bytes[SIGNAL_RECORD..SIGNAL_RECORD + 4].copy_from_slice(&CHLD.to_ne_bytes());
        let read = &bytes[..3 * SIGNAL_RECORD - 1];
        assert_eq!(signals(read).collect::<Vec<_>>(), [TERM, CHLD]);
        assert_eq!(signals(&[]).count(), 0);
    }

    #[test]
    fn who_brings_workers_back_has_the_last_word() {
        let mut pending = [HUP, CHLD, TTIN, WINCH];
        in_order(&mut pending);
        assert_eq!(pending, [WINCH, HUP, CHLD, TTIN]);
    }

    #[test]
    fn a_window_that_changes_its_size_drains_nobody() {
        let mut record = vec![0; SIGNAL_RECORD];
        record[..4].copy_from_slice(&WINCH.to_ne_bytes());
        assert_eq!(signals(&record).collect::<Vec<_>>(), [WINCH], "sent by kill(2)");
        record[8..12].copy_from_slice(&0x80_i32.to_ne_bytes());
        assert_eq!(signals(&record).count(), 0, "sent by the kernel");
    }

    #[track_caller]
    fn check(first: Command, later: Command, want: Command) {
        assert_eq!(first.then(later, 8), want);
    }

    #[test]
    fn two_that_wait_become_one() {
        check(Command::Reload, Command::Reload, Command::Reload);
        check(Command::ScaleBy(1), Command::ScaleBy(1), Command::ScaleBy(2));
        check(Command::ScaleTo(4), Command::ScaleBy(-1), Command::ScaleTo(3));
        check(Command::ScaleTo(8), Command::ScaleBy(1), Command::ScaleTo(8));
        // One less than one is refused; it is not the command that drains all.
        check(Command::ScaleTo(1), Command::ScaleBy(-1), Command::ScaleTo(1));
        check(Command::ScaleBy(1), Command::ScaleTo(4), Command::ScaleTo(4));
        check(Command::ScaleTo(4), Command::DrainWorkers, Command::DrainWorkers);
        check(Command::DrainWorkers, Command::ScaleBy(1), Command::ScaleBy(1));
    }
}
