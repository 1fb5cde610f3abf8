//! Connections of another process that it has not begun: taken with pidfd_getfd(2).

use super::errno::last;
use super::socket::{close, local_address};
use crate::io::{Address, Errno, Fd};
use std::fs;

/// TCP connections of a process, accepted on one of these ports, of which nobody has read or
/// written a byte: each with its port, `most` of them. The process has them still.
///
/// # Errors
///
/// We may not take a descriptor of it (ptrace(2), "access mode checking"), or have no room.
pub fn untouched(
    pid: u32,
    pidfd: &Fd,
    ports: &[u16],
    most: usize,
) -> Result<Vec<(u16, Fd)>, Errno> {
    let mut found = Vec::new();
    // A process that has ended has none.
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let (true, Some(number)) = (is_socket && found.len() < most, number) else { continue };
        let fd = match get(pidfd, number) {
            Ok(fd) => fd,
            // It has closed it meanwhile.
            Err(Errno::Other(libc::EBADF)) => continue,
            Err(errno) => {
                found.into_iter().for_each(|(_, fd)| close(fd));
                return Err(errno);
            }
        };
        match local_address(&fd) {
            Ok(Address::Tcp(at)) if ports.contains(&at.port()) && is_untouched(&fd) => {
                found.push((at.port(), fd));
            }
            _ => close(fd),
        }
    }
    Ok(found)
}

/// A copy of a descriptor of that process; close-on-exec.
fn get(pidfd: &Fd, number: i32) -> Result<Fd, Errno> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.raw(), number, 0) };
    i32::try_from(answer).ok().filter(|fd| *fd >= 0).map(Fd::new).ok_or_else(last)
}

/// Whether a TCP connection is open at both ends, and not a byte of it was read or written here:
/// all that has ever come is in its queue.
#[must_use]
pub fn is_untouched(fd: &Fd) -> bool {
    // The queue first: what comes in between makes it look touched, and never the reverse.
    let mut queued: libc::c_int = 0;
    // SAFETY: fills a local of its type.
    if unsafe { libc::ioctl(fd.raw(), libc::FIONREAD, &raw mut queued) } == -1 {
        return false;
    }
    let Some(info) = info(fd) else { return false };
    info.state == ESTABLISHED
        && u64::try_from(queued) == Ok(info.received)
        && info.segments_out == 0
        && info.unsent == 0
}

/// What we ask of `struct tcp_info` (linux/tcp.h), whose layout only grows at its end.
#[derive(Debug)]
struct Info {
    state: u8,
    /// Bytes that came in order, those that wait in the queue included.
    received: u64,
    /// Segments with data that left.
    segments_out: u32,
    /// Bytes that wait to leave.
    unsent: u32,
}

fn info(fd: &Fd) -> Option<Info> {
    let mut bytes = [0_u8; 160];
    let mut length = u32::try_from(bytes.len()).ok()?;
    // SAFETY: fills as many bytes as there are, at most.
    let answer = unsafe {
        libc::getsockopt(
            fd.raw(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    // No TCP, or a kernel that is too old to say it all.
    if answer == -1 || length as usize != bytes.len() {
        return None;
    }
    let four = |at: usize| bytes[at..].first_chunk().map(|four| u32::from_ne_bytes(*four));
    Some(Info {
        state: bytes[0],
        received: bytes[128..].first_chunk().map(|eight| u64::from_ne_bytes(*eight))?,
        unsent: four(144)?,
        segments_out: four(156)?,
    })
}

/// TCP_ESTABLISHED (linux/tcp_states.h).
const ESTABLISHED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

    /// A connection: the client, and our end of it.
    fn pair(listener: &TcpListener) -> (TcpStream, Fd) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, Fd::new(server.into_raw_fd()))
    }

    fn stream(fd: Fd) -> TcpStream {
        // SAFETY: the `Fd` owned it, and is gone: it closes nothing by itself.
        TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd.raw()) })
    }

    #[test]
    fn a_byte_read_or_written_is_seen_and_one_that_waits_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut client, fd) = pair(&listener);
        assert!(is_untouched(&fd));
        client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let mut server = stream(fd);
        let mut one = [0; 1];
        server.peek(&mut one).unwrap();
        let fd = Fd::new(server.as_raw_fd());
        assert!(is_untouched(&fd), "it came, and nobody has read it");
        server.read_exact(&mut one).unwrap();
        assert!(!is_untouched(&fd));
        server.read_exact(&mut [0; 15]).unwrap();
        assert!(!is_untouched(&fd), "the queue is empty again");
        let (mut client, fd) = pair(&listener);
        let mut server = stream(fd);
        server.write_all(b"x").unwrap();
        client.read_exact(&mut one).unwrap();
        assert!(!is_untouched(&Fd::new(server.as_raw_fd())));
        let (client, fd) = pair(&listener);
        drop(client);
        stream(fd).set_nonblocking(true).unwrap();
        let (left, _right) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!is_untouched(&Fd::new(left.as_raw_fd())), "no TCP");
    }

    #[test]
    fn a_process_is_asked_for_those_of_its_ports() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mut client, fd) = pair(&listener);
        client.write_all(b"first").unwrap();
        let (pid, most) = (std::process::id(), 9);
        let pidfd = process::adopt(pid).unwrap();
        assert!(untouched(pid, &pidfd, &[], most).unwrap().is_empty());
        assert!(untouched(pid, &pidfd, &[port], 0).unwrap().is_empty());
        let mut found = untouched(pid, &pidfd, &[port], most).unwrap();
        assert_eq!(found.len(), 1, "not its client, not its listener");
        let (of, copy) = found.remove(0);
        close(fd);
        let mut came = [0; 5];
        stream(copy).read_exact(&mut came).unwrap();
        assert_eq!((of, &came), (port, b"first"));
        close(pidfd);
    }
}
