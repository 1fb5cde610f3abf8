//! The same bodies on both kernels: what the simulated one does, the real one does too.
//!
//! `real` runs on an io_uring of this machine, `sim` (with `--features sim`) on the simulated
//! kernel. Where the two differ stands at the function of the simulator, under "Difference to
//! Linux".

use ringfort::io::{
    Address, Batch, Bytes, Completion, Connects, Errno, Fd, Half, Io, Kind, Op, Owned, SendNow,
    Token,
};
use std::time::Duration;

/// What a body needs besides the seam: things to run it on, and time.
trait Arm {
    type Kernel: Io + Connects;
    fn io(&mut self) -> &mut Self::Kernel;
    /// Both ends of a connection; what one sends and nobody reads is bounded.
    fn pair(&mut self) -> (Fd, Fd);
    /// Both ends of a channel.
    fn channel(&mut self) -> (Fd, Fd);
    fn listener(&mut self) -> Fd;
    /// The client's end of a connection to that listener.
    fn connect(&mut self, listener: &Fd) -> Fd;
    /// Where it listens.
    fn address(&mut self, listener: &Fd) -> Address;
    /// Makes as much time pass as one silent wait does.
    fn pause(&mut self);
}

/// Each ring has so few buffers that they run out.
const BUFFERS: u16 = 4;
const BUFFER_BYTES: u16 = 1024;
/// When nothing completes for so long, nothing will.
const SILENCE: Duration = Duration::from_millis(30);

fn token(kind: Kind, slot: u32) -> Token {
    Token::new(kind, slot, 7)
}

/// Sends (slot, to whom, head, body), then waits until nothing completes any more.
fn send_and_settle(arm: &mut impl Arm, sends: &[(u32, &Fd, &[u8], &[u8])]) -> Vec<Completion> {
    let mut all = Vec::new();
    let mut lent = sends;
    loop {
        let deadline = arm.io().now().after(SILENCE);
        let before = all.len();
        let sends = lent.iter().map(|&(slot, fd, head, body)| SendNow {
            token: token(Kind::SendNow, slot),
            fd,
            head,
            body,
        });
        arm.io().wait(sends, Some(deadline), &mut all);
        if all.len() == before && lent.is_empty() {
            return all;
        }
        lent = &[];
        arm.pause();
    }
}

fn wait_once(arm: &mut impl Arm) -> Vec<Completion> {
    let mut done = Vec::new();
    let deadline = arm.io().now().after(SILENCE);
    arm.io().wait([].into_iter(), Some(deadline), &mut done);
    done
}

fn settle(arm: &mut impl Arm) -> Vec<Completion> {
    send_and_settle(arm, &[])
}

/// Writes bytes into a connection, all of which fit.
fn write(arm: &mut impl Arm, fd: &Fd, bytes: &[u8]) -> Vec<Completion> {
    let done = send_and_settle(arm, &[(99, fd, bytes, &[])]);
    assert!(done.iter().all(|done| done.token.kind != Kind::SendNow), "short or failed: {done:?}");
    done
}

/// The bytes of these completions; their buffers are given back.
fn take(arm: &mut impl Arm, done: Vec<Completion>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for buf in done.into_iter().filter_map(|done| done.buf) {
        bytes.extend_from_slice(arm.io().bytes(&buf));
        arm.io().recycle(buf);
    }
    bytes
}

/// Kind, result and whether more follow, of completions that brought no bytes.
fn ends(done: &[Completion]) -> Vec<(Kind, Result<u32, Errno>, bool)> {
    let ends = done.iter().filter(|done| done.buf.is_none());
    ends.map(|done| (done.token.kind, done.result, done.more)).collect()
}

fn close_all(arm: &mut impl Arm, fds: impl IntoIterator<Item = Fd>) {
    fds.into_iter().for_each(|fd| arm.io().close(fd));
}

/// Ends what is armed on both, then closes them.
fn hang_up(arm: &mut impl Arm, pair: [Fd; 2]) {
    pair.iter().for_each(|fd| arm.io().shutdown(fd, Half::Both));
    settle(arm);
    close_all(arm, pair);
}

fn fd_of(done: &Completion) -> Fd {
    Fd::new(i32::try_from(done.result.unwrap()).unwrap())
}

fn recv(arm: &mut impl Arm, slot: u32, fd: &Fd) {
    arm.io().submit(token(Kind::Recv, slot), Op::Recv(fd));
}

fn cancel(arm: &mut impl Arm, target: Token) {
    arm.io().submit(target.with(Kind::Cancel), Op::Cancel(target));
}

fn pass(arm: &mut impl Arm, channel: &Fd, bytes: &[u8], fds: Vec<Fd>) {
    let batch = Batch { bytes: bytes.to_vec(), fds };
    arm.io().submit(token(Kind::Pass, 0), Op::Pass(channel, batch));
}

fn receive(arm: &mut impl Arm, channel: &Fd) {
    arm.io().submit(token(Kind::Receive, 0), Op::Receive(channel));
}

fn a_connect_completes_once_and_carries_bytes(arm: &mut impl Arm) {
    let listener = arm.listener();
    let address = arm.address(&listener);
    let client = arm.io().connect(token(Kind::Connect, 3), &address, None).unwrap();
    assert_eq!(ends(&settle(arm)), [(Kind::Connect, Ok(0), false)]);
    let server = arm.io().accept(&listener).unwrap();
    recv(arm, 4, &server);
    let mut done = write(arm, &client, b"hello");
    done.extend(settle(arm));
    assert_eq!(take(arm, done), b"hello");
    hang_up(arm, [client, server]);
    close_all(arm, [listener]);
}

fn a_connect_to_nobody_is_refused(arm: &mut impl Arm) {
    let listener = arm.listener();
    let address = arm.address(&listener);
    close_all(arm, [listener]);
    let client = arm.io().connect(token(Kind::Connect, 3), &address, None).unwrap();
    assert_eq!(ends(&settle(arm)), [(Kind::Connect, Err(Errno::Refused), false)]);
    close_all(arm, [client]);
}

fn accept_takes_all_arrivals_and_goes_on(arm: &mut impl Arm) {
    let listener = arm.listener();
    let mut open = vec![arm.connect(&listener), arm.connect(&listener)];
    arm.io().submit(token(Kind::Accept, 0), Op::Accept(&listener));
    let mut done = settle(arm);
    assert_eq!(done.len(), 2);
    open.push(arm.connect(&listener));
    done.extend(settle(arm));
    assert_eq!(done.len(), 3);
    assert!(done.iter().all(|done| done.more));
    cancel(arm, token(Kind::Accept, 0));
    assert_eq!(ends(&settle(arm)), [(Kind::Accept, Err(Errno::Canceled), false)]);
    open.extend(done.iter().map(fd_of).chain([listener]));
    close_all(arm, open);
}

fn poll_says_that_there_are_arrivals(arm: &mut impl Arm) {
    let listener = arm.listener();
    arm.io().submit(token(Kind::Poll, 0), Op::Poll(&listener));
    assert!(settle(arm).is_empty(), "nobody came");
    assert_eq!(arm.io().accept(&listener), Err(Errno::Again));
    let mut open = Vec::new();
    for _ in 0..2 {
        open.extend([arm.connect(&listener), arm.connect(&listener)]);
        let done = settle(arm);
        assert!(!done.is_empty() && done.iter().all(|done| done.more), "{done:?}");
        open.extend([arm.io().accept(&listener).unwrap(), arm.io().accept(&listener).unwrap()]);
        assert_eq!(arm.io().accept(&listener), Err(Errno::Again));
        assert!(settle(arm).is_empty(), "nothing new");
    }
    cancel(arm, token(Kind::Poll, 0));
    assert_eq!(ends(&settle(arm)), [(Kind::Poll, Err(Errno::Canceled), false)]);
    close_all(arm, open.into_iter().chain([listener]));
}

fn poll_sees_what_came_before_it(arm: &mut impl Arm) {
    let listener = arm.listener();
    let client = arm.connect(&listener);
    arm.io().submit(token(Kind::Poll, 0), Op::Poll(&listener));
    assert_eq!(settle(arm).len(), 1);
    cancel(arm, token(Kind::Poll, 0));
    assert_eq!(settle(arm).len(), 1);
    close_all(arm, [listener, client]);
}

fn bytes_then_end_of_file(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    recv(arm, 1, &ours);
    let done = write(arm, &theirs, b"hello");
    assert!(done.iter().all(|done| done.more));
    assert_eq!(take(arm, done), b"hello");
    arm.io().shutdown(&theirs, Half::Write);
    assert_eq!(ends(&settle(arm)), [(Kind::Recv, Ok(0), false)]);
    // The other direction still works.
    recv(arm, 2, &theirs);
    let done = write(arm, &ours, b"answer");
    assert_eq!(take(arm, done), b"answer");
    arm.io().shutdown(&ours, Half::Write);
    assert_eq!(ends(&settle(arm)), [(Kind::Recv, Ok(0), false)]);
    close_all(arm, [ours, theirs]);
}

fn a_peer_that_closes_with_bytes_unread_resets(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    write(arm, &theirs, b"sent before");
    write(arm, &ours, b"never read");
    arm.io().close(theirs);
    recv(arm, 1, &ours);
    let done = settle(arm);
    assert_eq!(ends(&done), [(Kind::Recv, Err(Errno::PeerGone), false)]);
    assert_eq!(take(arm, done), b"sent before");
    arm.io().close(ours);
}

fn the_first_send_to_a_closed_peer_seems_to_work(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    arm.io().close(theirs);
    assert!(settle(arm).is_empty());
    assert!(write(arm, &ours, b"into the void").is_empty());
    let done = send_and_settle(arm, &[(1, &ours, b"again", b"")]);
    assert_eq!(ends(&done), [(Kind::SendNow, Err(Errno::PeerGone), false)]);
    arm.io().close(ours);
}

fn a_whole_inline_send_is_silent(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    recv(arm, 1, &theirs);
    let sends: [(u32, &Fd, &[u8], &[u8]); 3] =
        [(1, &ours, b"head ", b"body "), (2, &ours, b"", b"only "), (3, &ours, b"alone", b"")];
    let done = send_and_settle(arm, &sends);
    assert!(done.iter().all(|done| done.token.kind == Kind::Recv), "{done:?}");
    assert_eq!(take(arm, done), b"head body only alone");
    hang_up(arm, [ours, theirs]);
}

fn an_inline_send_that_does_not_fit_says_how_much_did(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    let body: Vec<u8> = (0..8_u32 << 20).map(|at| (at % 251) as u8).collect();
    let mut done = Vec::new();
    let send = SendNow { token: token(Kind::SendNow, 1), fd: &ours, head: b"!", body: &body };
    let deadline = arm.io().now();
    arm.io().wait([send].into_iter(), Some(deadline), &mut done);
    assert_eq!(done.len(), 1, "exactly one, in the same wait");
    let sent = done[0].result.unwrap() as usize;
    assert!(0 < sent && sent <= body.len(), "{sent}");
    // Sooner or later there is no room at all (the real kernel makes some more, at first).
    let (mut read, mut offset) = (Vec::new(), sent - 1);
    loop {
        let done = send_and_settle(arm, &[(2, &ours, &body[offset..], b"")]);
        match done[..] {
            [Completion { result: Ok(sent), .. }] => offset += sent as usize,
            [Completion { result: Err(Errno::Again), .. }] => break,
            _ => panic!("{done:?}"),
        }
    }
    // The rest goes asynchronously, as fast as it is read.
    recv(arm, 2, &theirs);
    arm.io().submit(token(Kind::Send, 3), Op::Send(&ours, Bytes::from(body.clone()), offset));
    while read.len() < body.len() + 1 {
        let mut done = Vec::new();
        let deadline = arm.io().now().after(Duration::from_secs(5));
        arm.io().wait([].into_iter(), Some(deadline), &mut done);
        assert!(!done.is_empty(), "stuck at {offset} sent, {} read", read.len());
        arm.pause();
        let starved = done.iter().any(|done| done.token.kind == Kind::Recv && !done.more);
        for end in done.iter().filter(|done| done.token.kind == Kind::Send) {
            let Some(Owned::Bytes(bytes, from)) = arm.io().reclaim(end.token) else { panic!() };
            assert_eq!(from, offset);
            offset += end.result.unwrap() as usize;
            if offset < body.len() {
                arm.io().submit(end.token, Op::Send(&ours, bytes, offset));
            }
        }
        read.extend(take(arm, done));
        if starved {
            recv(arm, 2, &theirs);
        }
    }
    assert_eq!(offset, body.len());
    assert!(read[0] == b'!' && read[1..] == body);
    hang_up(arm, [ours, theirs]);
}

fn cancel_ends_what_its_token_means_and_nothing_else(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    recv(arm, 1, &ours);
    recv(arm, 2, &theirs);
    assert!(settle(arm).is_empty());
    cancel(arm, token(Kind::Recv, 1));
    let done = settle(arm);
    assert_eq!(ends(&done), [(Kind::Recv, Err(Errno::Canceled), false)]);
    assert_eq!(done[0].token, token(Kind::Recv, 1));
    let done = write(arm, &ours, b"still heard");
    assert_eq!(take(arm, done), b"still heard");
    // What is over cannot be cancelled; that is no news.
    cancel(arm, token(Kind::Recv, 1));
    assert!(settle(arm).is_empty());
    hang_up(arm, [ours, theirs]);
}

fn a_cancel_that_meets_bytes_ends_once(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    recv(arm, 1, &ours);
    assert!(settle(arm).is_empty());
    cancel(arm, token(Kind::Recv, 1));
    let done = write(arm, &theirs, b"late");
    let last: Vec<_> = done.iter().filter(|done| !done.more).map(|done| done.result).collect();
    assert_eq!(last, [Err(Errno::Canceled)]);
    let mut read = take(arm, done);
    // Bytes that it did not bring wait for the next.
    recv(arm, 2, &ours);
    let done = settle(arm);
    read.extend(take(arm, done));
    assert_eq!(read, b"late");
    hang_up(arm, [ours, theirs]);
}

fn shutdown_of_both_halves_ends_a_receive(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    recv(arm, 1, &ours);
    recv(arm, 2, &theirs);
    assert!(settle(arm).is_empty());
    arm.io().shutdown(&ours, Half::Both);
    assert_eq!(ends(&settle(arm)), [(Kind::Recv, Ok(0), false); 2], "both ends see it");
    close_all(arm, [ours, theirs]);
}

fn close_does_not_end_a_receive(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    recv(arm, 1, &ours);
    recv(arm, 2, &theirs);
    assert!(settle(arm).is_empty());
    arm.io().close(ours);
    assert!(settle(arm).is_empty(), "the operation keeps the connection open");
    cancel(arm, token(Kind::Recv, 1));
    let mut ends = ends(&settle(arm));
    ends.sort_by_key(|(_, result, _)| result.is_ok());
    let want = [(Kind::Recv, Err(Errno::Canceled), false), (Kind::Recv, Ok(0), false)];
    assert_eq!(ends, want, "cancelled; and now the peer sees the end");
    arm.io().close(theirs);
}

fn descriptors_travel_in_order(arm: &mut impl Arm) {
    let (here, there) = arm.channel();
    for mark in [0, 1, 3, u8::try_from(Batch::FDS_MAX).unwrap()] {
        let count = usize::from(mark);
        let (ours, theirs): (Vec<_>, Vec<_>) = (0..count).map(|_| arm.pair()).unzip();
        receive(arm, &there);
        pass(arm, &here, &[mark, b'!'], theirs);
        let mut ends = ends(&settle(arm));
        ends.sort_by_key(|(kind, ..)| *kind);
        let want = [(Kind::Pass, Ok(2), false), (Kind::Receive, Ok(2), false)];
        assert_eq!(ends, want, "one message, then it is over");
        let Some(Owned::Batch(sent)) = arm.io().reclaim(token(Kind::Pass, 0)) else { panic!() };
        let Some(Owned::Message(got)) = arm.io().reclaim(token(Kind::Receive, 0)) else { panic!() };
        assert_eq!((sent.fds.len(), got.fds.len(), got.truncated), (count, count, false));
        assert_eq!(got.bytes, [mark, b'!']);
        close_all(arm, sent.fds); // the receiver's are descriptors of their own
        for (number, (client, server)) in (1..=mark).zip(ours.into_iter().zip(got.fds)) {
            recv(arm, number.into(), &server);
            let done = write(arm, &client, &[number]);
            assert!(done.iter().all(|done| done.token.slot == u32::from(number)));
            assert_eq!(take(arm, done), [number]);
            hang_up(arm, [client, server]);
        }
    }
    close_all(arm, [here, there]);
}

fn a_full_channel_refuses_at_once_and_loses_nothing(arm: &mut impl Arm) {
    let (here, there) = arm.channel();
    let mut sent = 0_u32;
    loop {
        pass(arm, &here, &sent.to_le_bytes(), Vec::new());
        let done = wait_once(arm);
        assert!(arm.io().reclaim(token(Kind::Pass, 0)).is_some());
        if done[0].result == Err(Errno::Again) {
            break;
        }
        assert_eq!(done[0].result, Ok(4));
        sent += 1;
        assert!(sent < 10_000, "a channel without a bound");
    }
    for number in 0..sent {
        receive(arm, &there);
        assert_eq!(wait_once(arm)[0].result, Ok(4));
        let Some(Owned::Message(got)) = arm.io().reclaim(token(Kind::Receive, 0)) else { panic!() };
        assert_eq!(got.bytes, number.to_le_bytes());
    }
    close_all(arm, [here, there]);
}

fn a_closed_channel_is_an_empty_message(arm: &mut impl Arm) {
    let (here, there) = arm.channel();
    receive(arm, &there);
    assert!(settle(arm).is_empty());
    arm.io().close(here);
    assert_eq!(ends(&settle(arm)), [(Kind::Receive, Ok(0), false)]);
    let Some(Owned::Message(end)) = arm.io().reclaim(token(Kind::Receive, 0)) else { panic!() };
    assert!(end.bytes.is_empty() && end.fds.is_empty());
    pass(arm, &there, b"hello?", Vec::new());
    assert_eq!(ends(&settle(arm)), [(Kind::Pass, Err(Errno::PeerGone), false)]);
    assert!(arm.io().reclaim(token(Kind::Pass, 0)).is_some());
    arm.io().close(there);
}

fn a_channel_closed_with_messages_unread_says_so_before_anything_else(arm: &mut impl Arm) {
    let (here, there) = arm.channel();
    for from in [&there, &here] {
        pass(arm, from, b"word", Vec::new());
        settle(arm);
        assert!(arm.io().reclaim(token(Kind::Pass, 0)).is_some());
    }
    arm.io().close(here); // it never read the first
    for want in [Err(Errno::PeerGone), Ok(4), Ok(0)] {
        receive(arm, &there);
        assert_eq!(ends(&settle(arm)), [(Kind::Receive, want, false)]);
        assert_eq!(arm.io().reclaim(token(Kind::Receive, 0)).is_some(), want.is_ok());
    }
    arm.io().close(there);
}

fn buffers_come_back(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    recv(arm, 1, &ours);
    for round in 0..u8::try_from(BUFFERS * 4).unwrap() {
        let done = write(arm, &theirs, &[round; 100]);
        assert_eq!(take(arm, done), [round; 100]);
    }
    hang_up(arm, [ours, theirs]);
}

fn a_receive_without_buffers_ends_and_can_be_armed_again(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    let bytes: Vec<u8> = (0..6 * BUFFER_BYTES).map(|at| (at % 251) as u8).collect();
    recv(arm, 1, &ours);
    let done = write(arm, &theirs, &bytes);
    assert_eq!(ends(&done), [(Kind::Recv, Err(Errno::NoBuffers), false)]);
    assert_eq!(done.len(), usize::from(BUFFERS) + 1);
    // Even an idle connection: whoever arms without a buffer fails at once.
    recv(arm, 2, &theirs);
    assert_eq!(ends(&settle(arm)), [(Kind::Recv, Err(Errno::NoBuffers), false)]);
    let mut read = take(arm, done);
    recv(arm, 1, &ours);
    let done = settle(arm);
    assert!(done.iter().all(|done| done.more));
    read.extend(take(arm, done));
    assert_eq!(read, bytes);
    hang_up(arm, [ours, theirs]);
}

/// More receives than a submission queue holds, right after buffers came back.
fn who_arms_first_gets_the_buffers(arm: &mut impl Arm) {
    let (ours, theirs) = arm.pair();
    recv(arm, 1, &ours);
    let done = write(arm, &theirs, &[1; 6 * BUFFER_BYTES as usize]);
    let crowd: Vec<(Fd, Fd)> = (0..80).map(|_| arm.pair()).collect();
    let hello: Vec<(u32, &Fd, &[u8], &[u8])> =
        crowd.iter().map(|(_, theirs)| (99, theirs, b"hello".as_slice(), [].as_slice())).collect();
    send_and_settle(arm, &hello);
    take(arm, done);
    for (slot, (ours, _)) in (2..).zip(&crowd) {
        recv(arm, slot, ours);
    }
    let done = settle(arm);
    let served = done.iter().filter(|done| done.buf.is_some()).map(|done| done.token.slot);
    let served: Vec<u32> = served.collect();
    assert_eq!(served, (2..2 + u32::from(BUFFERS)).collect::<Vec<_>>());
    take(arm, done);
    let all = crowd.into_iter().chain([(ours, theirs)]).flat_map(|(ours, theirs)| [ours, theirs]);
    let all: Vec<Fd> = all.collect();
    all.iter().for_each(|fd| arm.io().shutdown(fd, Half::Both));
    settle(arm);
    close_all(arm, all);
}

/// The arm's process has few descriptors: this takes all of them.
fn accept_without_descriptors_ends_and_loses_nobody(arm: &mut impl Arm) {
    let listener = arm.listener();
    let waiting: Vec<Fd> = (0..4).map(|_| arm.connect(&listener)).collect();
    let crowd = arm.listener();
    let mut others: Vec<Fd> = (0..30).map(|_| arm.connect(&crowd)).collect();
    loop {
        match arm.io().accept(&crowd) {
            Ok(fd) => others.push(fd),
            Err(errno) => break assert_eq!(errno, Errno::NoFds),
        }
    }
    arm.io().submit(token(Kind::Accept, 0), Op::Accept(&listener));
    assert_eq!(ends(&settle(arm)), [(Kind::Accept, Err(Errno::NoFds), false)]);
    let spare = others.split_off(others.len() - 2);
    close_all(arm, spare);
    arm.io().submit(token(Kind::Accept, 0), Op::Accept(&listener));
    let done = settle(arm);
    let accepted: Vec<Fd> = done.iter().filter(|done| done.more).map(fd_of).collect();
    assert_eq!(accepted.len(), 2, "as many as there are descriptors: {done:?}");
    assert_eq!(done.last().map(|done| done.result), Some(Err(Errno::NoFds)));
    close_all(arm, waiting.into_iter().chain(accepted).chain(others).chain([listener, crowd]));
}

macro_rules! both {
    ($($name:ident)*) => {
        mod on_the_real_kernel {
            $(#[test] fn $name() { super::$name(&mut super::real::Machine::new()); })*
        }
        #[cfg(feature = "sim")]
        mod on_the_simulated_kernel {
            $(#[test] fn $name() {
                for seed in 0..20 { super::$name(&mut super::sim::Machine::new(seed)); }
            })*
        }
    };
}

both! {
    accept_takes_all_arrivals_and_goes_on
    poll_says_that_there_are_arrivals
    poll_sees_what_came_before_it
    bytes_then_end_of_file
    a_peer_that_closes_with_bytes_unread_resets
    a_connect_completes_once_and_carries_bytes
    a_connect_to_nobody_is_refused
    the_first_send_to_a_closed_peer_seems_to_work
    a_whole_inline_send_is_silent
    an_inline_send_that_does_not_fit_says_how_much_did
    cancel_ends_what_its_token_means_and_nothing_else
    a_cancel_that_meets_bytes_ends_once
    shutdown_of_both_halves_ends_a_receive
    close_does_not_end_a_receive
    descriptors_travel_in_order
    a_full_channel_refuses_at_once_and_loses_nothing
    a_closed_channel_is_an_empty_message
    a_channel_closed_with_messages_unread_says_so_before_anything_else
    buffers_come_back
    who_arms_first_gets_the_buffers
    a_receive_without_buffers_ends_and_can_be_armed_again
}

mod real {
    use super::{Arm, BUFFER_BYTES, BUFFERS};
    use ringfort::io::{Address, Fd};
    use ringfort::sys::ring::{Ring, RingSettings};
    use ringfort::sys::socket::{self, Options};
    use std::net::TcpStream;
    use std::os::fd::IntoRawFd;
    use std::process::Command;
    use std::time::Duration;

    pub(super) struct Machine(Ring);

    impl Machine {
        pub(super) fn new() -> Self {
            let (buffers, buffer_bytes) = (BUFFERS, BUFFER_BYTES);
            let settings = RingSettings {
                submissions: 64,
                completions: 128,
                buffers,
                buffer_bytes,
                message_bytes: 1024,
            };
            Self(Ring::new(settings).expect("this machine has io_uring"))
        }
    }

    impl Arm for Machine {
        type Kernel = Ring;

        fn io(&mut self) -> &mut Ring {
            &mut self.0
        }

        fn pair(&mut self) -> (Fd, Fd) {
            let listener = self.listener();
            let ours = self.connect(&listener);
            let theirs = socket::accept(&listener).expect("a connected client is in the queue");
            socket::close(listener);
            socket::set_send_buffer(&ours, 16 << 10).unwrap();
            (ours, theirs)
        }

        fn channel(&mut self) -> (Fd, Fd) {
            socket::seqpacket_pair().unwrap()
        }

        fn listener(&mut self) -> Fd {
            let options = Options { backlog: 128, reuse_port: false, defer_accept: Duration::ZERO };
            socket::listen(&Address::Tcp("127.0.0.1:0".parse().unwrap()), options).unwrap()
        }

        fn connect(&mut self, listener: &Fd) -> Fd {
            let Ok(Address::Tcp(address)) = socket::local_address(listener) else { panic!() };
            Fd::new(TcpStream::connect(address).unwrap().into_raw_fd())
        }

        fn address(&mut self, listener: &Fd) -> Address {
            socket::local_address(listener).unwrap()
        }

        fn pause(&mut self) {}
    }

    /// The limit is the process's, so this body gets a process of its own.
    #[test]
    fn accept_without_descriptors_ends_and_loses_nobody() {
        let name = "real::accept_without_descriptors_ends_and_loses_nobody";
        if std::env::var_os("FEW_DESCRIPTORS").is_some() {
            return super::accept_without_descriptors_ends_and_loses_nobody(&mut Machine::new());
        }
        let output = Command::new("sh")
            .args(["-c", "ulimit -n 64; exec \"$@\"", "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env("FEW_DESCRIPTORS", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[cfg(feature = "sim")]
mod sim {
    use super::{Arm, BUFFER_BYTES, BUFFERS, SILENCE};
    use ringfort::io::{Address, Fd};
    use ringfort::sim::{FaultPlan, Kernel, ProcessId, Sizes, World};

    pub(super) struct Machine {
        world: World,
        pid: ProcessId,
        kernel: Kernel,
    }

    impl Machine {
        pub(super) fn new(seed: u64) -> Self {
            Self::with_fds(seed, 256)
        }

        fn with_fds(seed: u64, fds: usize) -> Self {
            let sizes = Sizes {
                buffers: BUFFERS,
                buffer_bytes: BUFFER_BYTES,
                stream_bytes: 64 << 10,
                fds,
                ..Sizes::default()
            };
            let mut world = World::new(seed, FaultPlan::NONE, sizes, false);
            let (pid, kernel) = world.process("test");
            Self { world, pid, kernel }
        }
    }

    impl Arm for Machine {
        type Kernel = Kernel;

        fn io(&mut self) -> &mut Kernel {
            &mut self.kernel
        }

        fn pair(&mut self) -> (Fd, Fd) {
            self.world.pair(self.pid)
        }

        fn channel(&mut self) -> (Fd, Fd) {
            self.world.channel(self.pid)
        }

        fn listener(&mut self) -> Fd {
            self.world.listener(self.pid)
        }

        fn connect(&mut self, listener: &Fd) -> Fd {
            self.world.connect(self.pid, listener)
        }

        fn address(&mut self, _: &Fd) -> Address {
            Address::Unix("any".into())
        }

        fn pause(&mut self) {
            self.world.advance(SILENCE);
        }
    }

    #[test]
    fn accept_without_descriptors_ends_and_loses_nobody() {
        super::accept_without_descriptors_ends_and_loses_nobody(&mut Machine::with_fds(0, 64));
    }
}
