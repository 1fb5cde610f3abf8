//! A machine that refuses: the probe under filters and limits that each case puts on itself.

use crate::harness::Case;
use crate::own;
use crate::raw::{self, Resource};
use ringfort::ErrorKind;
use ringfort::sys::{probe, process};

pub(crate) const CASES: &[Case] = &[
    ("limits::this_machine_can_run_us", this_machine),
    ("limits::a_filter_on_setup_is_named", filter_on_setup),
    ("limits::a_filter_on_enter_is_named", filter_on_enter),
    ("limits::a_filter_on_register_is_named", filter_on_register),
    ("limits::a_filter_that_denies_the_call_exists_is_named", filter_enosys),
    ("limits::too_little_locked_memory_is_named", locked_memory),
    ("limits::too_few_descriptors_are_named_with_the_numbers", descriptors),
    ("limits::no_descriptor_for_a_ring_is_named", no_descriptor),
    ("limits::the_soft_limit_of_descriptors_is_raised_to_the_hard_one", nofile_raised),
];

#[track_caller]
fn check(want: ErrorKind, says: &str) {
    let error = probe::check(16).expect_err("it is not to be had");
    assert_eq!(error.kind(), want, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

fn this_machine() {
    let facts = probe::check(16).unwrap();
    assert!(facts.kernel >= Some(probe::KERNEL_MIN));
    assert!(facts.descriptors >= 16);
}

fn filter_on_setup() {
    own::forbid(libc::SYS_io_uring_setup, libc::EPERM);
    check(ErrorKind::RingBlocked, "seccomp");
}

fn filter_on_enter() {
    own::forbid(libc::SYS_io_uring_enter, libc::EPERM);
    check(ErrorKind::RingBlocked, "seccomp");
}

fn filter_on_register() {
    own::forbid(libc::SYS_io_uring_register, libc::EPERM);
    check(ErrorKind::RingBlocked, "seccomp");
}

fn filter_enosys() {
    own::forbid(libc::SYS_io_uring_setup, libc::ENOSYS);
    check(ErrorKind::RingBlocked, "ENOSYS");
}

fn locked_memory() {
    raw::limit(Resource::LockedMemory, 4096, 4096);
    raw::drop_capabilities();
    check(ErrorKind::MemoryLocked, "smallest ring");
}

fn descriptors() {
    raw::limit(Resource::Descriptors, 64, 64);
    let error = probe::check(10_064).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooFewDescriptors);
    let text = error.to_string();
    assert!(text.contains("10064") && text.contains("limit is 64"), "{text}");
}

fn no_descriptor() {
    assert_eq!(process::open_fds(), Ok(vec![0, 1, 2]));
    raw::limit(Resource::Descriptors, 3, 3);
    check(ErrorKind::TooFewDescriptors, "no descriptor");
}

fn nofile_raised() {
    raw::limit(Resource::Descriptors, 64, 128);
    assert_eq!(process::raise_nofile(), Ok((64, 128)));
    assert_eq!(process::raise_nofile(), Ok((128, 128)));
    assert_eq!(process::nofile_max(), Ok(128));
}
