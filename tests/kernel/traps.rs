//! The traps that the design avoids, each walked into the naive way and passed our way.
//!
//! What the naive way loses here is what servers lose in production: these cases keep the reason
//! for each odd-looking rule where a machine checks it.

use crate::harness::Case;
use crate::processes::{SOON, sleep_for_ever, spawn, wait};
use crate::raw;
use ringfort::io::{
    Address, Batch, Bytes, Completion, Errno, Exit, Fd, Half, Io, Kind, Op, Owned, SendNow, Signal,
    Token,
};
use ringfort::sys::process::{self, Forked};
use ringfort::sys::ring::{Ring, RingSettings};
use ringfort::sys::{clock, scm, shm, socket};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("traps::a_stopped_owner_with_accept_armed_keeps_arrivals", stopped_owner_naive),
    ("traps::a_stopped_owner_with_poll_armed_leaves_them_to_the_master", stopped_owner_ours),
    ("traps::arrivals_before_a_kill_die_with_an_armed_accept", killed_owner_naive),
    ("traps::arrivals_before_a_kill_survive_an_armed_poll", killed_owner_ours),
    ("traps::arrivals_after_a_kill_die_with_an_armed_accept", dying_owner_naive),
    ("traps::arrivals_after_a_kill_survive_an_armed_poll", dying_owner_ours),
    ("traps::in_transit_to_a_killed_worker_is_lost_without_a_copy", in_transit_naive),
    ("traps::in_transit_to_a_killed_worker_is_served_from_the_copy", in_transit_ours),
    ("traps::a_close_is_no_end_while_the_master_holds_a_copy", close_under_a_copy_naive),
    ("traps::a_shutdown_is_one_all_the_same", close_under_a_copy_ours),
    ("traps::a_close_queued_behind_a_short_send_cuts_the_answer", close_behind_send_naive),
    ("traps::a_close_after_the_last_byte_cuts_nothing", close_behind_send_ours),
    ("traps::a_refusal_with_its_request_unread_ends_in_a_reset", refusal_naive),
    ("traps::a_refusal_after_one_read_and_a_linger_arrives", refusal_ours),
    ("traps::a_refusal_in_the_middle_of_an_upload_arrives", refusal_of_an_upload),
];

/// How many clients each case has.
const CLIENTS: usize = 10;

/// How often what depends on timing is tried.
const ROUNDS: usize = 20;

/// How long the naive way is given for what never comes.
const NEVER: Duration = Duration::from_millis(300);

/// A ring and what came out of it.
struct Loop {
    ring: Ring,
    done: Vec<Completion>,
}

impl Loop {
    fn new() -> Self {
        let ring = Ring::new(RingSettings::MASTER).expect("limits::this_machine_can_run_us");
        Self { ring, done: Vec::new() }
    }

    fn submit(&mut self, kind: Kind, op: Op<'_>) {
        self.ring.submit(token(kind), op);
    }

    /// Collects completions until there are so many, or the time is over.
    fn collect(&mut self, count: usize, within: Duration) {
        let deadline = clock::monotonic().after(within);
        loop {
            self.ring.wait(std::iter::empty(), Some(deadline), &mut self.done);
            if self.done.len() >= count || self.ring.now() >= deadline {
                return;
            }
        }
    }
}

fn token(kind: Kind) -> Token {
    Token::new(kind, 0, 0)
}

fn listen() -> (Fd, SocketAddr) {
    let options = socket::Options { backlog: 64, reuse_port: false, defer_accept: Duration::ZERO };
    let listener = socket::listen(&Address::Tcp(([127, 0, 0, 1], 0).into()), options).unwrap();
    let Ok(Address::Tcp(address)) = socket::local_address(&listener) else { panic!("TCP") };
    (listener, address)
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client
}

fn connect_all(address: SocketAddr) -> Vec<TcpStream> {
    (0..CLIENTS).map(|_| connect(address)).collect()
}

/// Answers, and ends the connection properly.
fn serve(fd: Fd) {
    assert_eq!(socket::send_now(&fd, b"served"), Ok(6));
    socket::shutdown(&fd, Half::Write);
    socket::close(fd);
}

/// How many of them were served, to the end of file.
fn count_served(clients: Vec<TcpStream>) -> usize {
    clients.into_iter().filter_map(read_to_end).filter(|answer| answer == b"served").count()
}

/// All bytes until a clean end of file; `None` after a reset. Never waits for ever.
fn read_to_end(mut client: TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match client.read_to_end(&mut bytes) {
        Ok(_) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("neither an end of file nor a reset: {error}"),
    }
}

/// Takes all that wait on a listener, and serves them.
fn accept_and_serve(listener: &Fd) -> usize {
    std::iter::from_fn(|| socket::accept(listener).ok()).map(serve).count()
}

/// A worker that arms an operation on the listener, and stops: at once, or when that had so many
/// answers, before it does anything about them.
fn owner(kind: Kind, op: Op<'_>, answers: usize) -> Forked {
    spawn(|| {
        let mut looping = Loop::new();
        looping.submit(kind, op);
        looping.collect(answers, if answers == 0 { Duration::ZERO } else { SOON });
        assert!(looping.done.len() >= answers);
        raw::stop();
        sleep_for_ever()
    })
}

fn kill(child: &Forked) {
    process::signal(&child.pidfd, Signal::Kill).unwrap();
    assert_eq!(wait(child), Exit::Signal(9, false));
}

/// The kernel wakes one accept for an arrival, the first in line: the stopped one.
fn stopped_owner_naive() {
    let (listener, address) = listen();
    let owner = owner(Kind::Accept, Op::Accept(&listener), 0);
    raw::wait_until_stopped(owner.pid);
    let mut master = Loop::new();
    master.submit(Kind::Accept, Op::Accept(&listener));
    master.collect(1, Duration::ZERO);
    let _clients = connect_all(address);
    master.collect(1, NEVER);
    assert_eq!(master.done.len(), 0, "all are kept from the master");
    kill(&owner);
}

/// It wakes every poll, so whoever is able to run takes them.
fn stopped_owner_ours() {
    let (listener, address) = listen();
    let owner = owner(Kind::Poll, Op::Poll(&listener), 0);
    raw::wait_until_stopped(owner.pid);
    let mut master = Loop::new();
    master.submit(Kind::Poll, Op::Poll(&listener));
    master.collect(1, Duration::ZERO);
    let clients = connect_all(address);
    master.collect(1, SOON);
    assert_eq!(accept_and_serve(&listener), CLIENTS);
    assert_eq!(count_served(clients), CLIENTS);
    kill(&owner);
}

/// An armed accept takes arrivals inside the kernel, before the worker can do anything for them.
fn killed_owner_naive() {
    let (listener, address) = listen();
    let owner = owner(Kind::Accept, Op::Accept(&listener), 1);
    let clients = connect_all(address);
    raw::wait_until_stopped(owner.pid);
    kill(&owner);
    let served = accept_and_serve(&listener);
    socket::close(listener);
    assert_eq!(count_served(clients), served);
    assert!(served < CLIENTS, "at least one died with the ring");
}

/// An armed poll takes nothing.
fn killed_owner_ours() {
    let (listener, address) = listen();
    let owner = owner(Kind::Poll, Op::Poll(&listener), 1);
    let clients = connect_all(address);
    raw::wait_until_stopped(owner.pid);
    kill(&owner);
    assert_eq!(accept_and_serve(&listener), CLIENTS);
    assert_eq!(count_served(clients), CLIENTS);
}

/// The dying ring goes on accepting for some milliseconds, also those who come after the kill.
fn dying_owner_naive() {
    // How many rounds it takes to show depends on the machine: one, or a few hundred.
    assert!((0..ROUNDS * 200).any(|_| lost_at_a_death(Kind::Accept) > 0), "the trap is not there");
}

fn dying_owner_ours() {
    let lost = (0..ROUNDS).map(|_| lost_at_a_death(Kind::Poll)).sum::<usize>();
    assert_eq!(lost, 0, "of {}", ROUNDS * CLIENTS);
}

/// How many of those are lost who connect right after the kill of a worker that waits for them.
fn lost_at_a_death(kind: Kind) -> usize {
    let (listener, address) = listen();
    let (ours, theirs) = socket::seqpacket_pair().unwrap();
    let owner = spawn(|| {
        let mut looping = Loop::new();
        let accept = kind == Kind::Accept;
        looping.submit(kind, if accept { Op::Accept(&listener) } else { Op::Poll(&listener) });
        looping.collect(1, Duration::ZERO);
        scm::send_message(&theirs, b"armed", &[]).unwrap();
        looping.collect(usize::MAX, SOON);
        99
    });
    assert!(raw::is_readable(&ours, SOON));
    process::signal(&owner.pidfd, Signal::Kill).unwrap();
    let clients = connect_all(address);
    assert_eq!(wait(&owner), Exit::Signal(9, false));
    let served = accept_and_serve(&listener);
    [listener, ours, theirs].into_iter().for_each(socket::close);
    assert_eq!(count_served(clients), served);
    CLIENTS - served
}

/// What the master and its worker share in the cases of handing over.
struct HandOver {
    worker: Forked,
    channel: Fd,
    /// The board: how many connections the worker has received.
    received: &'static AtomicU64,
    clients: Vec<TcpStream>,
    /// The master's copies, by the message they went out in.
    copies: [Vec<Fd>; 2],
}

/// Two messages with half of the clients each go out. The worker takes the first, counts and serves
/// it, then stops with a receive armed; so the second is in transit.
fn hand_over(end: fn(Fd)) -> HandOver {
    let (listener, address) = listen();
    let received = &shm::create(1).unwrap().words[0];
    let (ours, theirs) = socket::seqpacket_pair().unwrap();
    let worker = spawn(|| {
        let mut looping = Loop::new();
        looping.submit(Kind::Receive, Op::Receive(&theirs));
        looping.collect(1, SOON);
        let message = looping.ring.reclaim(token(Kind::Receive));
        let Some(Owned::Message(message)) = message else { panic!("{message:?}") };
        received.fetch_add(message.fds.len() as u64, Ordering::Release);
        for fd in message.fds {
            assert_eq!(socket::send_now(&fd, b"served"), Ok(6));
            end(fd);
        }
        looping.submit(Kind::Receive, Op::Receive(&theirs));
        raw::stop();
        sleep_for_ever()
    });
    socket::close(theirs);
    let clients = connect_all(address);
    let mut accepted: Vec<Fd> =
        clients.iter().map(|_| socket::accept(&listener).unwrap()).collect();
    let second = accepted.split_off(CLIENTS / 2);
    let copies = [pass(&ours, accepted), pass(&ours, second)];
    raw::wait_until_stopped(worker.pid);
    HandOver { worker, channel: ours, received, clients, copies }
}

fn pass(channel: &Fd, fds: Vec<Fd>) -> Vec<Fd> {
    let mut looping = Loop::new();
    looping.submit(Kind::Pass, Op::Pass(channel, Batch { bytes: b"handoff".to_vec(), fds }));
    looping.collect(1, SOON);
    assert_eq!(looping.done[0].result, Ok(7));
    let Some(Owned::Batch(batch)) = looping.ring.reclaim(token(Kind::Pass)) else {
        panic!("the batch comes back")
    };
    batch.fds
}

fn in_transit_naive() {
    let HandOver { worker, channel, clients, copies, .. } = hand_over(properly);
    // Sent is sent, and a descriptor that was passed on is closed.
    copies.into_iter().flatten().for_each(socket::close);
    kill(&worker);
    socket::close(channel);
    assert_eq!(count_served(clients), CLIENTS / 2, "what was in transit died with the worker");
}

fn in_transit_ours() {
    let HandOver { worker, channel, received, clients, copies } = hand_over(properly);
    kill(&worker);
    socket::close(channel);
    let received = usize::try_from(received.load(Ordering::Acquire)).unwrap();
    assert_eq!(received, CLIENTS / 2);
    for (index, copy) in copies.into_iter().flatten().enumerate() {
        if index < received { socket::close(copy) } else { serve(copy) }
    }
    assert_eq!(count_served(clients), CLIENTS);
}

/// A connection that others hold too ends by a shutdown, not by a close.
fn properly(fd: Fd) {
    socket::shutdown(&fd, Half::Both);
    socket::close(fd);
}

fn close_under_a_copy_naive() {
    let HandOver { worker, mut clients, copies, .. } = hand_over(socket::close);
    let client = &mut clients[0];
    client.set_read_timeout(Some(NEVER)).unwrap();
    let mut answer = Vec::new();
    let error = client.read_to_end(&mut answer).unwrap_err();
    assert_eq!(answer, b"served");
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "no end of file while a copy is held");
    copies.into_iter().flatten().for_each(socket::close);
    kill(&worker);
}

fn close_under_a_copy_ours() {
    let HandOver { worker, clients, copies, .. } = hand_over(properly);
    let first = clients.into_iter().take(CLIENTS / 2).collect();
    assert_eq!(count_served(first), CLIENTS / 2, "although the master holds its copies");
    copies.into_iter().flatten().for_each(socket::close);
    kill(&worker);
}

/// As long as the answer to `GET /big`.
const BIG: usize = 102_400;

/// A connection whose sends are short: on the defaults of loopback they never are.
fn narrow(listener: &Fd) -> Fd {
    let fd = socket::accept(listener).unwrap();
    socket::set_send_buffer(&fd, 16 * 1024).unwrap();
    fd
}

fn close_behind_send_naive() {
    let (listener, address) = listen();
    let client = connect(address);
    raw::send_then_close(narrow(&listener), &vec![b'x'; BIG]);
    let arrived = read_to_end(client).map_or(0, |bytes| bytes.len());
    assert!(arrived > 0 && arrived < BIG, "{arrived} of {BIG}");
}

fn close_behind_send_ours() {
    let (listener, address) = listen();
    let client = spawn(|| {
        let arrived = read_to_end(connect(address)).map_or(0, |bytes| bytes.len());
        i32::from(arrived != BIG)
    });
    let readable = raw::is_readable(&listener, SOON);
    assert!(readable);
    let fd = narrow(&listener);
    let (head, body) = (vec![b'h'; 100], vec![b'b'; BIG - 100]);
    let mut looping = Loop::new();
    let send = SendNow { token: token(Kind::SendNow), fd: &fd, head: &head, body: &body };
    looping.ring.wait([send].into_iter(), Some(clock::monotonic()), &mut looping.done);
    let sent = looping.done.pop().expect("a short send has a completion").result.unwrap() as usize;
    assert!(sent > head.len() && sent < BIG, "{sent}");
    // The rest goes out asynchronously, piece by piece; only the last one allows the close.
    let (mut body, mut offset) = (Bytes::Owned(body), sent - head.len());
    while offset < body.len() {
        looping.submit(Kind::Send, Op::Send(&fd, body, offset));
        looping.collect(1, SOON);
        let piece = looping.done.pop().expect("a piece is taken").result.unwrap();
        assert!(piece > 0);
        let Some(Owned::Bytes(rest, from)) = looping.ring.reclaim(token(Kind::Send)) else {
            panic!("the bytes come back")
        };
        (body, offset) = (rest, from + piece as usize);
    }
    socket::close(fd);
    assert_eq!(wait(&client), Exit::Code(0));
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: refused\r\n\r\n";
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
const REFUSED: usize = 50;

/// How many of the refused got the whole answer and a clean end. `refuse` gives back the connection
/// if it is to be lingered over.
fn count_refused(refuse: fn(Fd) -> Option<Fd>) -> usize {
    let (listener, address) = listen();
    let clean = (0..REFUSED).filter(|_| {
        let mut client = connect(address);
        client.write_all(REQUEST).unwrap();
        let lingering = refuse(socket::accept(&listener).unwrap());
        let answer = read_to_end(client);
        lingering.into_iter().for_each(linger);
        answer.is_some_and(|answer| answer == REFUSAL)
    });
    clean.count()
}

/// Reads and drops until the client has closed, or for a bounded time.
fn linger(fd: Fd) {
    let mut buffer = [0; 4096];
    loop {
        match socket::receive_now(&fd, &mut buffer) {
            Ok(1..) => {}
            Err(Errno::Again) if raw::is_readable(&fd, SOON) => {}
            Ok(0) | Err(_) => return socket::close(fd),
        }
    }
}

fn refuse(fd: Fd) -> Option<Fd> {
    // RFC 9112 §9.6: what stays unread makes the close a reset, which may destroy the answer.
    assert!(socket::receive_now(&fd, &mut [0; 4096]).is_ok());
    assert_eq!(socket::send_now(&fd, REFUSAL), Ok(REFUSAL.len()));
    socket::shutdown(&fd, Half::Write);
    Some(fd)
}

fn refusal_naive() {
    let clean = count_refused(|fd| {
        assert_eq!(socket::send_now(&fd, REFUSAL), Ok(REFUSAL.len()));
        socket::close(fd);
        None
    });
    assert_eq!(clean, 0, "of {REFUSED}");
}

fn refusal_ours() {
    assert_eq!(count_refused(refuse), REFUSED);
}

fn refusal_of_an_upload() {
    let (listener, address) = listen();
    let client = spawn(|| {
        let mut client = connect(address);
        client.write_all(REQUEST).unwrap();
        client.write_all(&vec![b'u'; 4 << 20]).unwrap();
        i32::from(read_to_end(client).is_none_or(|answer| answer != REFUSAL))
    });
    assert!(raw::is_readable(&listener, SOON));
    let fd = socket::accept(&listener).unwrap();
    assert!(raw::is_readable(&fd, SOON));
    refuse(fd).into_iter().for_each(linger);
    assert_eq!(wait(&client), Exit::Code(0));
}
