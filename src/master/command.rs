//! Which signal asks the master for what (signal(7), Linux on x86-64 and aarch64). Pure.

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

/// Bytes of one record of a signalfd (signalfd(2)); its first four are the signal's number.
pub const SIGNAL_RECORD: usize = 128;

/// The signals in what was read from a signalfd. A cut record, which the kernel never writes, is
/// left out.
pub fn signals(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(SIGNAL_RECORD).filter_map(|record| {
        let number = record.first_chunk()?;
        Some(u32::from_ne_bytes(*number))
    })
}

/// What a signal asks for. `draining`: a drain runs already.
#[must_use]
pub const fn command(signal: u32, draining: bool) -> Command {
    match signal {
        INT | QUIT | TERM if draining => Command::Stop,
        INT | QUIT | TERM => Command::Drain,
        CHLD => Command::Reap,
        HUP | USR1 => Command::Ignore("reload is not available yet"),
        USR2 => Command::Ignore("it is the application's"),
        TTIN | TTOU | WINCH => Command::Ignore("scaling is not available yet"),
        _ => Command::Ignore("it has no meaning here"),
    }
}

const HUP: u32 = 1;
const INT: u32 = 2;
const QUIT: u32 = 3;
const USR1: u32 = 10;
const USR2: u32 = 12;
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
1: Ignore(\"reload is not available yet\") / Ignore(\"reload is not available yet\")
2: Drain / Stop
3: Drain / Stop
10: Ignore(\"reload is not available yet\") / Ignore(\"reload is not available yet\")
12: Ignore(\"it is the application's\") / Ignore(\"it is the application's\")
15: Drain / Stop
17: Reap / Reap
21: Ignore(\"scaling is not available yet\") / Ignore(\"scaling is not available yet\")
22: Ignore(\"scaling is not available yet\") / Ignore(\"scaling is not available yet\")
28: Ignore(\"scaling is not available yet\") / Ignore(\"scaling is not available yet\")
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
}
