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

/// Where in the kernel a process is: the innermost functions, if we may know them, and the number
/// of its system call (proc(5)). Empty: it is not in the kernel, or we may know neither.
#[must_use]
pub fn place(pid: u32) -> String {
    let file = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    describe(&file("stack"), &file("wchan"), &file("syscall"))
}

fn describe(stack: &str, waits_in: &str, call: &str) -> String {
    let function = |line: &str| {
        let name = line.split_once("] ")?.1;
        Some(name.split_once('+').map_or(name, |(name, _)| name).to_owned())
    };
    let mut parts: Vec<String> = stack.lines().filter_map(function).take(FRAMES).collect();
    // It is `0` for who does not wait, and for who may not ask.
    if parts.is_empty() && !matches!(waits_in, "" | "0") {
        parts.push(waits_in.to_owned());
    }
    // A process that is not in the kernel has none, or -1.
    let call = call.split_whitespace().next().and_then(|number| number.parse::<u32>().ok());
    if let Some(number) = call {
        parts.push(format!("system call {number}"));
    }
    parts.join(" < ")
}

/// So many of the innermost functions say enough.
const FRAMES: usize = 4;

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
    fn a_place_in_the_kernel_is_described_as_far_as_it_may_be_known() {
        let stack = "[<0>] do_signal_stop+0x1f/0x2a\n[<0>] get_signal+0x1/0x2\n";
        let call = "426 0x4 0x1 0x0 0x7ffd 0x7f1\n";
        let want = "do_signal_stop < get_signal < system call 426";
        assert_eq!(describe(stack, "do_signal_stop", call), want);
        assert_eq!(describe("", "futex_wait", "202 0x1\n"), "futex_wait < system call 202");
        assert_eq!(describe("", "0", "running\n"), "");
        assert_eq!(describe("", "0", "-1 0x7ffd 0x7f1\n"), "");
        assert_eq!(describe("", "", ""), "");
    }

    #[test]
    fn this_process_is_found_and_no_other() {
        assert!(usage(std::process::id()).is_some());
        assert_eq!(usage(u32::MAX), None);
    }
}
