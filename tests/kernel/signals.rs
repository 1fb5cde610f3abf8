//! What each process makes of signals: `sys::signal` against the kernel.

use crate::harness::Case;
use crate::processes::{SOON, spawn, wait};
use crate::raw;
use ringfort::io::{Exit, Fd};
use ringfort::sys::{process, scm, signal, socket};

pub(crate) const CASES: &[Case] = &[
    ("signals::a_signal_is_read_with_its_sender", read_with_sender),
    ("signals::ten_of_a_kind_are_read_as_one", coalesced),
    ("signals::an_ignored_signal_is_read_all_the_same", ignored_before),
    ("signals::after_the_pool_the_mask_is_as_before", mask_restored),
    ("signals::a_worker_ignores_the_groups_signals_and_drains_on_term", worker),
    ("signals::a_worker_keeps_the_applications_handler", application_handler),
];

fn all() -> [i32; 9] {
    use signal::*;
    [CHLD, HUP, INT, QUIT, TERM, TTIN, TTOU, USR1, WINCH]
}

#[track_caller]
fn next_signals(fd: &Fd) -> Vec<i32> {
    assert!(raw::is_readable(fd, SOON));
    signal::parse(&raw::read(fd)).map(|received| received.signal).collect()
}

fn read_with_sender() {
    let (fd, _mask) = signal::open(&all()).unwrap();
    for number in all() {
        raw::raise(number);
        assert!(raw::is_readable(&fd, SOON));
        let got: Vec<_> = signal::parse(&raw::read(&fd)).collect();
        assert_eq!(got, [signal::Received { signal: number, sender: process::id() }]);
    }
    assert!(raw::read(&fd).is_empty(), "non-blocking");
}

fn coalesced() {
    let (fd, _mask) = signal::open(&[signal::CHLD]).unwrap();
    let children: Vec<_> = (0..10).map(|_| spawn(|| 0)).collect();
    assert!(children.iter().all(|child| raw::is_readable(&child.pidfd, SOON)));
    assert_eq!(next_signals(&fd), [signal::CHLD], "so every child is asked for");
    children.iter().for_each(|child| assert_eq!(wait(child), Exit::Code(0)));
}

fn ignored_before() {
    // nohup(1) ignores HUP for what it starts.
    raw::set_handler(signal::HUP, true);
    let (fd, _mask) = signal::open(&[signal::HUP]).unwrap();
    raw::raise(signal::HUP);
    assert_eq!(next_signals(&fd), [signal::HUP]);
}

fn mask_restored() {
    let before = blocked();
    let (fd, mask) = signal::open(&all()).unwrap();
    assert_ne!(blocked(), before);
    mask.restore().unwrap();
    assert_eq!(blocked(), before);
    socket::close(fd);
}

/// The line of proc(5) with the blocked signals.
fn blocked() -> u64 {
    status("SigBlk:")
}

fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn worker() {
    let (_signals, _mask) = signal::open(&all()).unwrap();
    let (ours, theirs) = socket::seqpacket_pair().unwrap();
    let child = spawn(|| {
        let term = signal::become_worker().unwrap();
        let read = [signal::TERM, signal::USR1, signal::USR2];
        let bits: u64 = read.iter().map(|number| bit(*number)).sum();
        assert_eq!(blocked(), bits, "a child of the application inherits no more");
        scm::send_message(&theirs, b"ready", &[]).unwrap();
        let mut got = Vec::new();
        while !got.contains(&signal::TERM) {
            got.extend(next_signals(&term));
        }
        assert!(got.iter().all(|number| read.contains(number)), "{got:?}");
        17
    });
    assert!(raw::is_readable(&ours, SOON));
    for number in all().into_iter().chain([signal::USR2, signal::PIPE]) {
        if ![signal::TERM, signal::CHLD].contains(&number) {
            process::signal_number(&child.pidfd, number).unwrap();
        }
    }
    process::signal_number(&child.pidfd, signal::TERM).unwrap();
    assert_eq!(wait(&child), Exit::Code(17));
}

fn application_handler() {
    raw::set_handler(signal::USR1, false);
    let child = spawn(|| {
        let _term = signal::become_worker().unwrap();
        assert_ne!(status("SigCgt:") & bit(signal::USR1), 0);
        // Its own handler gets the one; the other is read.
        assert_eq!(blocked(), bit(signal::TERM) | bit(signal::USR2));
        0
    });
    assert_eq!(wait(&child), Exit::Code(0));
}
