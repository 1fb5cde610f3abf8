//! Fork, death, inheritance: `sys::process` against the kernel.

use crate::harness::Case;
use crate::own;
use crate::raw;
use ringfort::io::{Errno, Exit, Fd, Signal};
use ringfort::sys::process::{self, Forked};
use ringfort::sys::{scm, shm, signal, socket};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("processes::every_end_is_told_apart", every_end_is_told_apart),
    ("processes::a_panic_never_reaches_the_parents_frames", a_panic_stays_in_the_child),
    ("processes::a_reaped_child_is_nobody", a_reaped_child_is_nobody),
    ("processes::a_child_that_somebody_else_reaped_is_dead", reaped_by_somebody_else),
    ("processes::only_strangers_are_reaped_as_strangers", strangers),
    ("processes::a_child_keeps_its_own_and_the_applications_descriptors", descriptors_kept),
    ("processes::a_child_drains_when_its_parent_dies", dies_with_its_parent),
    ("processes::a_child_sees_that_its_parent_is_dead_already", parent_dead_already),
    ("processes::shared_memory_is_shared", shared_memory),
    ("processes::no_call_leaks_a_descriptor", nothing_leaks),
];

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Forks, and fails the case if that fails.
pub(crate) fn spawn(child: impl FnOnce() -> i32) -> Forked {
    process::spawn(child).expect("one thread, and nothing is short")
}

/// Waits for the end of a child, and reaps it.
pub(crate) fn wait(child: &Forked) -> Exit {
    assert!(raw::is_readable(&child.pidfd, SOON), "child {} does not end", child.pid);
    process::reap(&child.pidfd).expect("its pidfd says that it has ended")
}

/// Sleeps until it is killed.
pub(crate) fn sleep_for_ever() -> i32 {
    let (_never, written) = socket::seqpacket_pair().expect("a pair");
    raw::is_readable(&written, SOON);
    99
}

fn every_end_is_told_apart() {
    assert_eq!(wait(&spawn(|| 0)), Exit::Code(0));
    assert_eq!(wait(&spawn(|| 255)), Exit::Code(255));
    let child = spawn(sleep_for_ever);
    assert_eq!(process::reap(&child.pidfd), None, "it runs");
    process::signal(&child.pidfd, Signal::Term).unwrap();
    assert_eq!(wait(&child), Exit::Signal(signal::TERM, false));
    let child = spawn(sleep_for_ever);
    process::signal(&child.pidfd, Signal::Kill).unwrap();
    assert_eq!(wait(&child), Exit::Signal(9, false));
    let Exit::Signal(6, _) = wait(&spawn(|| std::process::abort())) else { panic!("SIGABRT") };
}

fn a_panic_stays_in_the_child() {
    struct OfProcess(u32);
    impl Drop for OfProcess {
        fn drop(&mut self) {
            assert_eq!(self.0, process::id(), "the child unwinds into its parent's frames");
        }
    }
    let _frame_of_the_parent = OfProcess(process::id());
    let child = spawn(|| panic!("this panic is part of the test"));
    assert_eq!(wait(&child), Exit::Code(process::EXIT_PANIC));
}

fn a_reaped_child_is_nobody() {
    let child = spawn(|| 0);
    wait(&child);
    assert!(process::signal(&child.pidfd, Signal::Kill).is_err());
    assert!(process::signal_number(&child.pidfd, 0).is_err());
}

fn reaped_by_somebody_else() {
    // Who ignores SIGCHLD has its children reaped by the kernel.
    raw::set_handler(signal::CHLD, true);
    let child = spawn(sleep_for_ever);
    process::signal(&child.pidfd, Signal::Kill).unwrap();
    assert_eq!(wait(&child), Exit::Code(-1));
    // So whoever reads SIGCHLD from a signalfd gets the default back first.
    let (fd, _mask) = signal::open(&[signal::CHLD]).unwrap();
    assert_eq!(wait(&spawn(|| 7)), Exit::Code(7));
    assert!(raw::is_readable(&fd, SOON));
    socket::close(fd);
}

fn strangers() {
    assert!(!process::reap_stranger(|_| false), "there is no child");
    let ours = spawn(|| 5);
    assert!(raw::is_readable(&ours.pidfd, SOON));
    assert!(!process::reap_stranger(|pid| pid == ours.pid));
    assert_eq!(process::reap(&ours.pidfd), Some(Exit::Code(5)), "it was left for us");
    let stranger = spawn(|| 6);
    assert!(raw::is_readable(&stranger.pidfd, SOON));
    assert!(process::reap_stranger(|pid| pid == ours.pid));
    assert!(!process::reap_stranger(|_| false));
}

fn descriptors_kept() {
    let application = File::open("/").unwrap();
    let inherited = process::open_fds().unwrap();
    assert!(inherited.contains(&application.as_raw_fd()));
    let pool: Vec<Fd> = (0..20).map(|_| socket::spare().unwrap()).collect();
    let child = spawn(|| {
        let keep = [&pool[3], &pool[4], &pool[19]];
        process::close_all_but(&inherited, &keep).unwrap();
        let mut want: Vec<i32> = inherited.clone();
        want.extend(keep.iter().map(|fd| fd.raw()));
        want.sort_unstable();
        assert_eq!(process::open_fds().unwrap(), want);
        0
    });
    assert_eq!(wait(&child), Exit::Code(0));
    pool.into_iter().for_each(socket::close);
}

fn dies_with_its_parent() {
    own::adopt_orphans();
    let (deaths, _mask) = signal::open(&[signal::CHLD]).unwrap();
    let (ours, theirs) = socket::seqpacket_pair().unwrap();
    let tell = |text: &[u8]| scm::send_message(&theirs, text, &[]).unwrap();
    let parent = spawn(|| {
        let me = process::id();
        let (ready, told) = socket::seqpacket_pair().unwrap();
        spawn(|| {
            let (signals, _) = signal::open(&[signal::TERM]).unwrap();
            assert!(process::die_with(me, Signal::Term).unwrap());
            scm::send_message(&ready, b"armed", &[]).unwrap();
            assert!(raw::is_readable(&signals, SOON));
            let got = raw::read(&signals);
            assert_eq!(signal::parse(&got).next().unwrap().signal, signal::TERM);
            tell(b"drained");
            0
        });
        assert!(raw::is_readable(&told, SOON));
        0
    });
    assert_eq!(wait(&parent), Exit::Code(0));
    assert!(raw::is_readable(&ours, SOON));
    assert_eq!(scm::receive_message(&ours, 64).unwrap().bytes, b"drained");
    while !process::reap_stranger(|_| false) {
        assert!(raw::is_readable(&deaths, SOON));
        raw::read(&deaths);
    }
    [ours, theirs, deaths].into_iter().for_each(socket::close);
}

fn parent_dead_already() {
    let stranger = process::parent_id();
    let child = spawn(|| i32::from(process::die_with(stranger, Signal::Kill).unwrap()));
    assert_eq!(wait(&child), Exit::Code(0), "the parent is not the one expected");
}

fn shared_memory() {
    let shared = shm::create(16).unwrap();
    let child = spawn(|| {
        shared.words[0].store(41, Ordering::Release);
        shm::open(&shared.fd).unwrap()[15].store(42, Ordering::Release);
        0
    });
    wait(&child);
    assert_eq!(shared.words[0].load(Ordering::Acquire), 41);
    assert_eq!(shared.words[15].load(Ordering::Acquire), 42);
}

/// Also on the way of an error.
fn nothing_leaks() {
    let before = process::open_fds().unwrap();
    let options = socket::Options { backlog: 16, reuse_port: false, defer_accept: Duration::ZERO };
    let group = socket::group("127.0.0.1:0".parse().unwrap(), 3, options).unwrap();
    let address = socket::local_address(&group[0]).unwrap();
    assert!(socket::listen(&address, options).is_err());
    let ringfort::io::Address::Tcp(tcp) = address else { panic!("{address}") };
    assert!(socket::group(tcp, 3, options).is_err());
    group.into_iter().for_each(socket::close);
    assert!(shm::create(0).is_err());
    assert!(signal::open(&[999]).is_err());

    let (ours, theirs) = socket::seqpacket_pair().unwrap();
    scm::send_message(&ours, b"x", &[&ours, &theirs, &ours]).unwrap();
    let message = scm::receive_message(&theirs, 1).unwrap();
    assert_eq!(message.fds.len(), 3);
    message.fds.into_iter().for_each(socket::close);
    // At the limit the kernel drops what it can't install, and says so.
    scm::send_message(&ours, b"x", &[&ours, &theirs, &ours]).unwrap();
    let next = u64::try_from(theirs.raw()).unwrap() + 1;
    raw::limit(raw::Resource::Descriptors, next + 1, 4096);
    let message = scm::receive_message(&theirs, 1).unwrap();
    assert!(message.truncated);
    assert_eq!(message.fds.len(), 1);
    assert_eq!(socket::spare(), Err(Errno::NoFds));
    message.fds.into_iter().for_each(socket::close);
    raw::limit(raw::Resource::Descriptors, 4096, 4096);
    [ours, theirs].into_iter().for_each(socket::close);
    assert_eq!(process::open_fds().unwrap(), before);
}
