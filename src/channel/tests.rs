//! Channels over real sockets: every end, every limit, every cut.

use super::*;
use crate::error::{Error, ErrorKind};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(20);

/// A path of this test's own; the socket there is removed by its listener.
fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringfort-channel-{}-{name}", std::process::id()))
}

fn message(text: &str) -> Message {
    let mut data = Map::new();
    data.insert("text".to_owned(), text.into());
    Message::new(MessageType::Other("test".to_owned()), data, 1.5)
}

#[track_caller]
fn is_ipc<T: std::fmt::Debug>(result: Result<T, Error>, says: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.group()), (ErrorKind::Ipc, "IPC_ERROR"));
    assert!(error.to_string().contains(says), "{error}");
}

/// A channel, and the bare other end of it.
fn half() -> (UnixSocketChannel, UnixStream) {
    let (channel, other) = UnixSocketChannel::pair().unwrap();
    let other = UnixStream::from(OwnedFd::from(other));
    other.set_nonblocking(false).unwrap();
    (channel, other)
}

#[test]
fn a_server_makes_its_path_takes_clients_and_removes_the_path() {
    let path = path("server");
    let server = UnixSocketChannel::listen(&path).unwrap();
    assert!(path.exists());
    assert_eq!(server.path(), path);
    assert!(server.accept().unwrap().is_none(), "nobody yet");
    let mut client = UnixSocketChannel::connect(&path).unwrap();
    let mut accepted = server.accept().unwrap().unwrap();
    assert!(server.accept().unwrap().is_none());
    client.send(&Message::worker_ready(1, timestamp())).unwrap();
    let got = accepted.receive_within(LONG).unwrap().message().unwrap();
    assert_eq!((got.kind.clone(), got.slot()), (MessageType::WorkerReady, Some(1)));
    assert!((timestamp() - got.timestamp).abs() < 60.0, "{}", got.timestamp);
    accepted.send(&message("back")).unwrap();
    assert_eq!(client.receive_within(LONG).unwrap(), Received::Message(message("back")));
    drop(server);
    assert!(!path.exists());
    is_ipc(UnixSocketChannel::connect(&path), "cannot connect");
}

#[test]
fn a_dead_servers_path_is_taken_over_and_a_living_ones_is_not() {
    let path = path("stale");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let server = UnixSocketChannel::listen(&path).unwrap();
    let second = UnixSocketChannel::listen(&path).unwrap_err();
    assert_eq!(second.kind(), ErrorKind::AddressInUse);
    drop(server);
    let nowhere = UnixSocketChannel::listen(path.join("no/such/folder")).unwrap_err();
    assert_eq!(nowhere.group(), "WORKER_POOL_ERROR");
}

#[test]
fn a_message_in_pieces_waits_for_its_rest() {
    let (mut channel, mut other) = half();
    assert_eq!(channel.receive().unwrap(), Received::Nothing);
    let json = message("whole").encode(1000).unwrap();
    let length = u32::try_from(json.len()).unwrap().to_be_bytes();
    for piece in [&length[..2], &length[2..], &json[..7]] {
        other.write_all(piece).unwrap();
        assert_eq!(channel.receive().unwrap(), Received::Nothing);
    }
    other.write_all(&json[7..]).unwrap();
    assert_eq!(channel.receive().unwrap(), Received::Message(message("whole")));
}

#[test]
fn the_end_is_told_apart_from_nothing_and_from_breaking_off() {
    let (mut one, mut other) = UnixSocketChannel::pair().unwrap();
    other.send(&message("last words")).unwrap();
    drop(other);
    assert_eq!(one.receive().unwrap(), Received::Message(message("last words")));
    assert_eq!(one.receive().unwrap(), Received::Closed);
    assert_eq!(one.receive_within(LONG).unwrap(), Received::Closed);
    is_ipc(one.send(&message("to nobody")), "cannot send");
    let (mut channel, mut other) = half();
    other.write_all(&[0, 0, 0, 9, b'{']).unwrap();
    drop(other);
    is_ipc(channel.receive(), "broke off");
}

#[test]
fn what_is_no_message_is_an_error() {
    let broken = |bytes: &[u8], says: &str| {
        let (channel, mut other) = half();
        other.write_all(bytes).unwrap();
        is_ipc(channel.message_max(64).receive(), says);
    };
    broken(&[0, 0, 0, 0], "without a byte");
    broken(&[0, 0, 0, 65], "65 bytes; at most 64 may be");
    broken(&[0xff; 4], "at most 64");
    broken(b"\0\0\0\x02[]", "JSON object");
    broken(b"\0\0\0\x03{]}", "not JSON");
}

#[test]
fn a_message_above_the_limit_is_not_sent() {
    let (mut one, mut other) = UnixSocketChannel::pair().unwrap();
    is_ipc(one.send(&message(&"x".repeat(UnixSocketChannel::MESSAGE_MAX))), "at most 1048576");
    assert_eq!(other.receive().unwrap(), Received::Nothing);
    one.send(&message("still fine")).unwrap();
    assert_eq!(other.receive().unwrap(), Received::Message(message("still fine")));
}

#[test]
fn a_large_message_leaves_in_pieces_and_arrives_whole() {
    let (mut one, mut other) = UnixSocketChannel::pair().unwrap();
    let large = message(&"y".repeat(1_000_000));
    one.send(&large).unwrap();
    assert!(!one.flush().unwrap(), "more than the kernel holds");
    is_ipc(one.send(&large).and_then(|()| one.send(&large)), "does not read");
    let mut rounds = 0;
    let got = loop {
        if let Received::Message(message) = other.receive().unwrap() {
            break message;
        }
        one.flush().unwrap();
        rounds += 1;
        assert!(rounds < 1_000);
    };
    assert_eq!(got, large);
}

#[test]
fn waiting_ends_when_something_comes_or_the_time_is_over() {
    let (mut one, mut other) = half();
    assert_eq!(one.receive_within(Duration::ZERO).unwrap(), Received::Nothing);
    assert_eq!(one.receive_within(Duration::from_millis(20)).unwrap(), Received::Nothing);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut request = [0; 4];
            other.read_exact(&mut request).unwrap();
            let json = message("answer").encode(1000).unwrap();
            other.write_all(&u32::try_from(json.len()).unwrap().to_be_bytes()).unwrap();
            other.write_all(&json).unwrap();
        });
        one.send(&message("question")).unwrap();
        let answer = one.receive_within(LONG).unwrap();
        assert_eq!(answer, Received::Message(message("answer")));
    });
    assert_eq!(one.receive().unwrap(), Received::Closed);
}

/// A descriptor to pass, and the end that tells whether anybody still has it.
fn probe() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    other.set_nonblocking(true).unwrap();
    (one, other)
}

/// Whether nobody has the other end any more.
fn is_closed(mut end: &UnixStream) -> bool {
    matches!(end.read(&mut [0]), Ok(0))
}

fn metadata() -> Map<String, Value> {
    let value = json!({"client_ip": "192.0.2.1", "worker_id": 2, "deep": {"list": [1, null]}});
    value.as_object().cloned().unwrap()
}

#[test]
fn a_descriptor_arrives_with_its_metadata() {
    assert!(FdPasser::is_supported());
    let (sender, receiver) = FdPasser::pair().unwrap();
    assert_eq!(receiver.receive().unwrap().message().map(|passed| passed.fds.len()), None);
    let (passed, mut end) = probe();
    assert!(sender.send(&[passed.as_fd()], &metadata()).unwrap());
    drop(passed);
    let got = receiver.receive().unwrap().message().unwrap();
    assert_eq!(got.metadata, metadata());
    let [fd] = <[OwnedFd; 1]>::try_from(got.fds).unwrap();
    UnixStream::from(fd).write_all(b"alive").unwrap();
    let mut said = String::new();
    end.set_nonblocking(false).unwrap();
    end.read_to_string(&mut said).unwrap();
    assert_eq!(said, "alive");
    let (other, _) = probe();
    assert!(sender.send(&[other.as_fd()], &Map::new()).unwrap());
    assert_eq!(receiver.receive().unwrap().message().unwrap().metadata, Map::new());
    drop(sender);
    assert!(matches!(receiver.receive().unwrap(), Received::Closed));
}

#[test]
fn as_many_as_the_kernel_allows_go_in_one_message() {
    let (sender, receiver) = FdPasser::pair().unwrap();
    let receiver = receiver.fds_max(FdPasser::FDS_MAX);
    let (fd, end) = probe();
    let fds = vec![fd.as_fd(); FdPasser::FDS_MAX + 1];
    is_ipc(sender.send(&fds, &Map::new()), "254 descriptors; 1 to 253");
    is_ipc(sender.send(&[], &Map::new()), "0 descriptors");
    assert!(sender.send(&fds[1..], &Map::new()).unwrap());
    drop(fd);
    let got = receiver.receive().unwrap().message().unwrap();
    assert_eq!(got.fds.len(), 253);
    assert!(!is_closed(&end));
    drop(got);
    assert!(is_closed(&end), "all 253 closed themselves");
}

#[test]
fn surplus_and_cut_messages_are_errors_and_leak_nothing() {
    for (count, max) in [(2, 1), (3, 1), (9, 8), (253, 8)] {
        let (sender, receiver) = FdPasser::pair().unwrap();
        let receiver = receiver.fds_max(max);
        let (fd, end) = probe();
        assert!(sender.send(&vec![fd.as_fd(); count], &Map::new()).unwrap());
        drop(fd);
        is_ipc(receiver.receive(), "cut");
        assert!(is_closed(&end), "{count} came where {max} may");
        let (fd, _) = probe();
        assert!(sender.send(&[fd.as_fd()], &metadata()).unwrap());
        assert!(receiver.receive().unwrap().message().is_some(), "the next one is whole");
    }
    let (sender, receiver) = FdPasser::pair().unwrap();
    let receiver = receiver.metadata_max(10);
    let (fd, end) = probe();
    assert!(sender.send(&[fd.as_fd()], &metadata()).unwrap());
    drop(fd);
    is_ipc(receiver.receive(), "cut");
    assert!(is_closed(&end));
    is_ipc(sender.metadata_max(10).send(&[end.as_fd()], &metadata()), "at most 10");
}

#[test]
fn bad_metadata_or_none_close_what_came_with_them() {
    let (sender, receiver) = FdPasser::pair().unwrap();
    let channel = crate::io::Fd::new(std::os::fd::AsRawFd::as_raw_fd(&sender.as_fd()));
    for bytes in [&b"{\"a\":"[..], b"[]", b"{}\0", b"\0"] {
        let (fd, end) = probe();
        let number = crate::io::Fd::new(std::os::fd::AsRawFd::as_raw_fd(&fd));
        crate::sys::scm::send_message(&channel, bytes, &[&number]).unwrap();
        drop(fd);
        is_ipc(receiver.receive(), "JSON");
        assert!(is_closed(&end), "{bytes:?}");
    }
    crate::sys::scm::send_message(&channel, b"{}", &[]).unwrap();
    is_ipc(receiver.receive(), "without a descriptor");
}

/// P3 of the original: what could not be sent was counted as sent, and lost.
#[test]
fn p3_a_full_channel_says_so_and_keeps_the_descriptor_with_the_sender() {
    let (sender, receiver) = FdPasser::pair().unwrap();
    let (fd, end) = probe();
    let mut sent = 0;
    while sender.send(&[fd.as_fd()], &Map::new()).unwrap() {
        sent += 1;
        assert!(sent < 100_000, "never full");
    }
    for _ in 0..sent {
        assert!(receiver.receive().unwrap().message().is_some());
    }
    assert!(matches!(receiver.receive().unwrap(), Received::Nothing));
    assert!(!is_closed(&end));
    assert!(sender.send(&[fd.as_fd()], &Map::new()).unwrap(), "room again");
    drop(receiver);
    is_ipc(sender.send(&[fd.as_fd()], &Map::new()), "cannot pass");
}

/// P15 of the original: its descriptors travelled on a byte stream.
#[test]
fn p15_descriptors_need_a_channel_that_keeps_messages_apart() {
    let (stream, _other) = UnixStream::pair().unwrap();
    is_ipc(FdPasser::new(stream.into()), "SOCK_SEQPACKET");
    is_ipc(FdPasser::new(std::fs::File::open("/dev/null").unwrap().into()), "SO_TYPE");
    let (sender, receiver) = FdPasser::pair().unwrap();
    let sender = FdPasser::new(sender.into()).unwrap();
    let (fd, _end) = probe();
    for number in 0..3 {
        let mut said = Map::new();
        said.insert("number".to_owned(), number.into());
        assert!(sender.send(&[fd.as_fd()], &said).unwrap());
    }
    for number in 0..3 {
        let got = receiver.receive().unwrap().message().unwrap();
        assert_eq!((got.fds.len(), &got.metadata["number"]), (1, &number.into()));
    }
}
