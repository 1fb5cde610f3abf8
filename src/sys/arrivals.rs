//! Who may still join a listener's queue.

use super::socket;
use crate::io::{Fd, Half};
use std::mem::size_of;

/// Nobody joins this listener's queue any more, whoever holds it; those in it can be accepted.
///
/// Between the last accept and the end of a listener somebody may always have joined, who would be
/// reset. TCP: from now on its SYN is dropped, and sent again by its kernel; that finds nobody who
/// listens, and the client is refused. Handshakes that have begun are finished. Unix: shut down,
/// which refuses at once and leaves the queue. Where the kernel says no, nothing changes.
pub fn hold(listener: &Fd) {
    if domain(listener) == Some(libc::AF_UNIX) {
        return socket::shutdown(listener, Half::Both);
    }
    let (mut drop_syn, filters) = (DROP_SYN, DROP_SYN.len());
    let len = libc::c_ushort::try_from(filters).unwrap_or(0);
    let program = libc::sock_fprog { len, filter: drop_syn.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0);
    // SAFETY: the program and what it points to live on this stack; the kernel copies both.
    unsafe {
        libc::setsockopt(
            listener.raw(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
}

fn domain(socket: &Fd) -> Option<libc::c_int> {
    let mut domain: libc::c_int = 0;
    let mut size = libc::socklen_t::try_from(size_of::<libc::c_int>()).ok()?;
    // SAFETY: both live on this stack, and the size is that of the number.
    let answer = unsafe {
        libc::getsockopt(
            socket.raw(),
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut domain).cast(),
            &raw mut size,
        )
    };
    (answer == 0).then_some(domain)
}

const fn step(code: u16, jump: (u8, u8), k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: jump.0, jf: jump.1, k }
}

/// Loads a byte; goes on if it has one of these bits, else skips a step; returns. As numbers: the
/// constants of libc are wider than the field.
const LOAD: u16 = 0x30;
const TEST: u16 = 0x45;
const RETURN: u16 = 0x06;

/// By the flags of the TCP header (RFC 9293 §3.1: the byte at 13, SYN is 2): dropped or whole.
const DROP_SYN: [libc::sock_filter; 4] = [
    step(LOAD, (0, 0), 13),
    step(TEST, (0, 1), 2),
    step(RETURN, (0, 0), 0),
    step(RETURN, (0, 0), u32::MAX),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Address, Errno};
    use crate::sys::socket::{Options, accept, close, listen, local_address};
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::os::fd::FromRawFd;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::Duration;

    fn open(address: &Address) -> Fd {
        let defer_accept = Duration::ZERO;
        listen(address, Options { backlog: 16, reuse_port: false, defer_accept }).unwrap()
    }

    /// One is in the queue, and is served; one comes afterwards, and is refused.
    fn check<S: Read + Write + Send>(
        address: &Address,
        connect: impl Fn(&Address) -> std::io::Result<S> + Sync,
    ) {
        let listener = open(address);
        let address = local_address(&listener).unwrap();
        let mut early = connect(&address).unwrap();
        hold(&listener);
        thread::scope(|scope| {
            let late = scope.spawn(|| connect(&address).map(|_| ()).map_err(|error| error.kind()));
            let fd = accept(&listener).expect("it was in the queue");
            // SAFETY: the one owner gives it up here; to write is the same to any socket.
            let mut stream = unsafe { TcpStream::from_raw_fd(fd.raw()) };
            stream.write_all(b"whole").unwrap();
            drop(stream);
            assert!(matches!(accept(&listener), Err(Errno::Again | Errno::Gone)));
            socket::shutdown(&listener, Half::Both);
            assert_eq!(late.join().unwrap(), Err(ErrorKind::ConnectionRefused));
        });
        let mut text = String::new();
        early.read_to_string(&mut text).unwrap();
        assert_eq!(text, "whole");
        assert!(matches!(accept(&listener), Err(Errno::Again | Errno::Gone)));
        close(listener);
    }

    #[test]
    fn who_waits_is_served_and_who_comes_is_refused() {
        let tcp = |address: &Address| match address {
            Address::Tcp(address) => TcpStream::connect(address),
            Address::Unix(_) => unreachable!("asked for TCP"),
        };
        for address in ["127.0.0.1:0", "[::1]:0"] {
            check(&Address::Tcp(address.parse().unwrap()), tcp);
        }
        let path = std::env::temp_dir().join(format!("ringfort-held-{}", std::process::id()));
        check(&Address::Unix(path.clone()), |_| UnixStream::connect(&path));
        std::fs::remove_file(&path).unwrap();
    }
}
