//! What the watchdog asks of the kernel: what a process does, and whether a listener's queue holds
//! anybody.

use crate::io::{Fd, RunState, Usage};
use std::fs;
use std::time::Duration;

/// What a process does now, and how long it was on a CPU (proc(5)).
#[must_use]
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // SAFETY: no pointers.
    let a_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    read(&stat, a_second)
}

fn read(stat: &str, ticks_a_second: u64) -> Option<Usage> {
    // After the name, which may hold anything: state is the 3rd field, the times 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = match fields.next()? {
        "R" => RunState::Running,
        "T" => RunState::Stopped,
        "t" => RunState::Traced,
        _ => RunState::Waiting,
    };
    let mut ticks = fields.skip(10).map_while(|field| field.parse::<u64>().ok());
    let ticks = ticks.next()?.checked_add(ticks.next()?)?;
    let cpu = Duration::from_millis(ticks.checked_mul(1000)?.checked_div(ticks_a_second)?);
    Some(Usage { state, cpu })
}

/// Whether arrivals wait in a listener's queue.
#[must_use]
pub fn has_arrivals(listener: &Fd) -> bool {
    let mut poll = libc::pollfd { fd: listener.raw(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives on this stack.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & libc::POLLIN != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_whatever_the_name() {
        let line = "7 (a) R (b) T 1 7 7 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 1 0 5 6 7";
        let want = Usage { state: RunState::Stopped, cpu: Duration::from_secs(4) };
        assert_eq!(read(line, 100), Some(want));
        assert_eq!(read("7 (a) T 1 7", 100), None);
        assert_eq!(read("", 100), None);
    }

    #[test]
    fn this_process_is_found_and_no_other() {
        assert!(usage(std::process::id()).is_some());
        assert_eq!(usage(u32::MAX), None);
    }
}
