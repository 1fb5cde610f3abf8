//! Listeners, groups and channels against the kernel.

use super::*;
use crate::error::ErrorKind;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

const PLAIN: Options = Options { backlog: 128, reuse_port: false, defer_accept: Duration::ZERO };

fn tcp(text: &str) -> Address {
    Address::Tcp(text.parse().unwrap())
}

fn port_of(fd: &Fd) -> SocketAddr {
    match local_address(fd).unwrap() {
        Address::Tcp(address) => address,
        Address::Unix(path) => panic!("{}", path.display()),
    }
}

/// A folder of this test alone, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringfort-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn into_stream(fd: Fd) -> TcpStream {
    // SAFETY: the one owner gives it up here.
    unsafe { TcpStream::from_raw_fd(fd.raw()) }
}

fn flags(fd: &Fd) -> (bool, bool) {
    // SAFETY: no pointers.
    let status = unsafe { libc::fcntl(fd.raw(), libc::F_GETFL) };
    // SAFETY: no pointers.
    let descriptor = unsafe { libc::fcntl(fd.raw(), libc::F_GETFD) };
    (status & libc::O_NONBLOCK != 0, descriptor & libc::FD_CLOEXEC != 0)
}

#[track_caller]
fn accept_one(listener: &Fd) -> Fd {
    accept(listener).expect("connect returned, so the arrival is in the queue")
}

proptest! {
    #[test]
    fn an_address_survives_the_kernels_form(address: SocketAddr) {
        prop_assert_eq!(Name::tcp(address).address(), Address::Tcp(address));
    }

    #[test]
    fn a_path_survives_the_kernels_form(path in "/[a-zA-Z0-9é ./]{0,80}") {
        let address = Address::Unix(path.into());
        prop_assert_eq!(Name::of(&address).unwrap().address(), address);
    }
}

#[test]
fn connections_arrive_over_each_family() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = listen(&tcp(address), PLAIN).unwrap();
        assert_eq!(flags(&listener), (true, true));
        assert_eq!(accept(&listener), Err(Errno::Again));
        let client = TcpStream::connect(port_of(&listener)).unwrap();
        let fd = accept_one(&listener);
        assert_eq!(flags(&fd), (false, true));
        assert_eq!(peer(&fd), Peer::Tcp(client.local_addr().unwrap()));
        assert!(into_stream(fd).nodelay().unwrap(), "inherited from the listener");
        close(listener);
    }
}

#[test]
fn a_unix_socket_has_a_path_and_no_peer_address() {
    let folder = Folder::new();
    let address = Address::Unix(folder.file("s"));
    let listener = listen(&address, PLAIN).unwrap();
    assert_eq!(local_address(&listener).unwrap(), address);
    let _client = UnixStream::connect(folder.file("s")).unwrap();
    let fd = accept_one(&listener);
    assert_eq!(peer(&fd), Peer::Unix);
    close(fd);
    close(listener);
}

#[test]
fn a_half_closed_connection_still_receives() {
    let listener = listen(&tcp("127.0.0.1:0"), PLAIN).unwrap();
    let mut client = TcpStream::connect(port_of(&listener)).unwrap();
    let fd = accept_one(&listener);
    shutdown(&fd, Half::Write);
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    client.write_all(b"late").unwrap();
    let mut bytes = [0; 8];
    assert_eq!(into_stream(fd).read(&mut bytes).unwrap(), 4);
    close(listener);
}

#[track_caller]
fn check_refused(address: &Address, step: &str, kind: ErrorKind) {
    let failed = listen(address, PLAIN).unwrap_err();
    assert_eq!((failed.step, failed.kind()), (step, kind), "{failed}");
}

#[test]
fn a_refusal_says_which_step_and_why() {
    let holder = listen(&tcp("127.0.0.1:0"), PLAIN).unwrap();
    check_refused(&Address::Tcp(port_of(&holder)), "bind", ErrorKind::AddressInUse);
    check_refused(&tcp("192.0.2.1:0"), "bind", ErrorKind::AddressNotAvailable);
    check_refused(&Address::Unix("/nowhere/s".into()), "bind", ErrorKind::System);
    check_refused(&Address::Unix("x".repeat(108).into()), "socket path", ErrorKind::System);
    check_refused(&Address::Unix("a\0b".into()), "socket path", ErrorKind::System);
    close(holder);
}

#[test]
fn ipv4_and_ipv6_listen_side_by_side() {
    // A stranger may hold the IPv4 port of one try, but not of all; without V6ONLY all fail.
    let side_by_side = (0..8).any(|_| {
        let six = listen(&tcp("[::]:0"), PLAIN).unwrap();
        let four = Address::Tcp((Ipv4Addr::UNSPECIFIED, port_of(&six).port()).into());
        let four = listen(&four, PLAIN).map(close);
        close(six);
        four.is_ok()
    });
    assert!(side_by_side);
}

#[test]
fn a_group_shares_one_port_and_loses_no_arrival() {
    let group = group("127.0.0.1:0".parse().unwrap(), 4, PLAIN).unwrap();
    let address = port_of(&group[0]);
    assert!(group.iter().all(|fd| port_of(fd) == address));
    let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut peers: Vec<_> = group
        .iter()
        .flat_map(|listener| std::iter::from_fn(move || accept(listener).ok()))
        .map(|fd| into_stream(fd).peer_addr().unwrap())
        .collect();
    let mut want: Vec<_> = clients.iter().map(|c| c.local_addr().unwrap()).collect();
    peers.sort();
    want.sort();
    assert_eq!(peers, want);
    group.into_iter().for_each(close);
}

#[test]
fn a_second_instance_does_not_join_a_group() {
    let first = group("127.0.0.2:0".parse().unwrap(), 2, PLAIN).unwrap();
    let address = port_of(&first[0]);
    let failed = group(address, 2, PLAIN).unwrap_err();
    assert_eq!((failed.step, failed.kind()), ("bind", ErrorKind::AddressInUse));
    // The naive way: straight into the group, and nobody says a word.
    close(listen(&Address::Tcp(address), Options { reuse_port: true, ..PLAIN }).unwrap());
    first.into_iter().for_each(close);
    assert_eq!(check_free(address), Ok(()));
}

#[test]
fn a_restart_does_not_wait_for_old_connections() {
    let listener = listen(&tcp("127.0.0.3:0"), PLAIN).unwrap();
    let address = port_of(&listener);
    let mut client = TcpStream::connect(address).unwrap();
    // Who closes first keeps TIME-WAIT: the server.
    close(accept_one(&listener));
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    drop(client);
    close(listener);
    close(listen(&Address::Tcp(address), PLAIN).unwrap());
}

#[test]
fn only_a_socket_file_that_nobody_answers_on_is_replaced() {
    let folder = Folder::new();
    let path = folder.file("s");
    let address = Address::Unix(path.clone());
    close(listen(&address, PLAIN).unwrap());
    let listener = listen(&address, PLAIN).unwrap();
    check_refused(&address, "bind", ErrorKind::AddressInUse);
    assert!(UnixStream::connect(&path).is_ok(), "the live one was left alone");

    let ours = FileId::of(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    check_refused(&address, "the path is there and no socket", ErrorKind::System);
    unlink_own(&path, ours);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    close(listener);

    std::fs::remove_file(&path).unwrap();
    close(listen(&address, PLAIN).unwrap());
    unlink_own(&path, FileId::of(&path).unwrap());
    assert!(FileId::of(&path).is_none());
}

#[test]
fn a_deferred_listener_takes_whole_seconds() {
    let options = Options { defer_accept: Duration::from_millis(1), ..PLAIN };
    let listener = listen(&tcp("127.0.0.1:0"), options).unwrap();
    let mut client = TcpStream::connect(port_of(&listener)).unwrap();
    assert_eq!(accept(&listener), Err(Errno::Again), "a silent client is held back");
    client.write_all(b"x").unwrap();
    into_stream(accept_one(&listener));
    close(listener);
}

#[test]
fn what_fits_is_sent_and_what_is_there_is_received() {
    let listener = listen(&tcp("127.0.0.1:0"), PLAIN).unwrap();
    let mut client = TcpStream::connect(port_of(&listener)).unwrap();
    let fd = accept_one(&listener);
    set_send_buffer(&fd, 16 * 1024).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(receive_now(&fd, &mut buffer), Err(Errno::Again));
    client.write_all(b"ping").unwrap();
    assert_eq!(receive_now(&fd, &mut buffer), Ok(4));
    let sent = send_now(&fd, &vec![7; 32 << 20]).unwrap();
    assert!(sent > 0 && sent < 32 << 20, "{sent}");
    shutdown(&fd, Half::Write);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), sent);
    drop(client);
    close(fd);
    close(listener);
}

#[test]
fn a_closed_channel_is_read_as_end_of_file_and_written_as_a_peer_gone() {
    let (ours, theirs) = seqpacket_pair().unwrap();
    assert_eq!((flags(&ours), flags(&theirs)), ((false, true), (false, true)));
    close(theirs);
    assert_eq!(receive_now(&ours, &mut [0; 8]), Ok(0));
    assert_eq!(send_now(&ours, b"x"), Err(Errno::PeerGone));
    close(ours);
}
