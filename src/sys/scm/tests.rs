//! Messages with descriptors over real socket pairs.

use super::*;
use crate::sys::socket::{close, duplicate, seqpacket_pair, spare};
use proptest::prelude::*;

/// Which open file a descriptor means.
fn file_of(fd: &Fd) -> (u64, u64, u32) {
    // SAFETY: integers only, for which zero is a value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fills a local of its type.
    let answer = unsafe { libc::fstat(fd.raw(), &raw mut stat) };
    assert_eq!(answer, 0);
    (stat.st_dev, stat.st_ino, stat.st_mode)
}

fn is_close_on_exec(fd: &Fd) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::fcntl(fd.raw(), libc::F_GETFD) & libc::FD_CLOEXEC != 0 }
}

/// A descriptor of some kind.
fn some_fd(kind: u8) -> Fd {
    let socket = |family, kind| {
        // SAFETY: no pointers.
        Fd::new(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) })
    };
    match kind % 5 {
        0 => spare().unwrap(),
        1 => socket(libc::AF_INET, libc::SOCK_STREAM),
        2 => socket(libc::AF_INET6, libc::SOCK_DGRAM),
        3 => socket(libc::AF_UNIX, libc::SOCK_STREAM),
        // SAFETY: the string ends in a zero byte.
        _ => Fd::new(unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_descriptors_arrive_in_order_as_the_same_open_files(
        kinds in prop::collection::vec(0u8..5, 0..=FDS_MAX),
        bytes in prop::collection::vec(any::<u8>(), 1..2000),
    ) {
        let (ours, theirs) = seqpacket_pair().unwrap();
        let fds = kinds.iter().copied().map(some_fd).collect();
        let batch = Batch { bytes: bytes.clone(), fds };
        let out = OutMessage::new(batch);
        // SAFETY: the message outlives the call.
        let sent = unsafe { libc::sendmsg(ours.raw(), out.header(), SEND_FLAGS) };
        prop_assert_eq!(usize::try_from(sent).unwrap(), bytes.len());
        let batch = out.into_batch();

        let message = receive_message(&theirs, 2000).unwrap();
        prop_assert!(!message.truncated);
        prop_assert_eq!(&message.bytes, &bytes);
        let files = |fds: &[Fd]| fds.iter().map(file_of).collect::<Vec<_>>();
        prop_assert_eq!(files(&message.fds), files(&batch.fds));
        prop_assert!(message.fds.iter().all(is_close_on_exec));
        batch.fds.into_iter().chain(message.fds).for_each(close);
        close(ours);
        close(theirs);
    }

    #[test]
    fn control_data_of_any_bits_is_read_without_harm(words: Vec<u64>) {
        prop_assert!(descriptors(&words).len() <= words.len() * 2);
    }

    #[test]
    fn control_data_reads_back(numbers in prop::collection::vec(any::<i32>(), 0..=FDS_MAX)) {
        let words = control_of(numbers.iter().copied());
        prop_assert_eq!(descriptors(&words).iter().map(Fd::raw).collect::<Vec<_>>(), numbers);
    }
}

#[track_caller]
fn check_cut(bytes_max: usize, fds_max: usize, want_bytes: usize, want_fds: usize, cut: bool) {
    let (ours, theirs) = seqpacket_pair().unwrap();
    let mut room = InMessage::new(bytes_max, fds_max);
    // Twice: the room is as large for the second message as for the first.
    for _ in 0..2 {
        assert_eq!(send_message(&ours, &[1; 100], &[&ours, &ours, &theirs, &ours]), Ok(100));
        // SAFETY: the room outlives the call.
        let count = unsafe { libc::recvmsg(theirs.raw(), room.header(), RECEIVE_FLAGS) };
        let message = room.take(usize::try_from(count).unwrap());
        assert_eq!((message.bytes.len(), message.fds.len()), (want_bytes, want_fds));
        assert_eq!(message.truncated, cut);
        message.fds.into_iter().for_each(close);
    }
    close(ours);
    close(theirs);
}

#[test]
fn what_the_kernel_cuts_is_seen_and_what_it_gave_is_adopted() {
    check_cut(100, 4, 100, 4, false);
    check_cut(99, 4, 99, 4, true);
    check_cut(100, 2, 100, 2, true);
    check_cut(100, 0, 100, 0, true);
    check_cut(1000, FDS_MAX, 100, 4, false);
}

#[test]
fn the_end_of_a_channel_is_an_empty_message() {
    let (ours, theirs) = seqpacket_pair().unwrap();
    assert_eq!(receive_message(&theirs, 10).unwrap_err(), Errno::Again);
    assert_eq!(send_message(&ours, b"", &[]), Err(errno(libc::EINVAL)));
    assert_eq!(send_message(&ours, b"x", &[&ours; FDS_MAX + 1]), Err(errno(libc::EINVAL)));
    assert_eq!(send_message(&ours, b"last", &[]), Ok(4));
    close(ours);
    assert_eq!(receive_message(&theirs, 10).unwrap().bytes, b"last");
    let end = receive_message(&theirs, 10).unwrap();
    assert!(end.bytes.is_empty() && end.fds.is_empty() && !end.truncated);
    assert_eq!(send_message(&theirs, b"x", &[]), Err(Errno::PeerGone));
    close(theirs);
}

#[test]
fn a_full_channel_says_so_and_keeps_what_it_has() {
    let (ours, theirs) = seqpacket_pair().unwrap();
    let fd = duplicate(&ours).unwrap();
    let mut sent = 0;
    let refused = loop {
        match send_message(&ours, b"x", &[&fd]) {
            Ok(_) => sent += 1,
            Err(errno) => break errno,
        }
    };
    assert_eq!(refused, Errno::Again);
    for _ in 0..sent {
        receive_message(&theirs, 1).unwrap().fds.into_iter().for_each(close);
    }
    assert_eq!(receive_message(&theirs, 1).unwrap_err(), Errno::Again);
    [fd, ours, theirs].into_iter().for_each(close);
}
