//! Sockets by plain system calls: listeners, channels, and the few calls that are cheaper outside
//! the ring.

use super::errno::{Failed, check, step};
use crate::io::{Address, Errno, Fd, Half, Peer};
use std::ffi::OsStr;
use std::mem::{offset_of, size_of, size_of_val};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// How to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The kernel's queue of arrivals; net.core.somaxconn caps it.
    pub backlog: u32,
    /// Join the group of listeners of this address (SO_REUSEPORT); ignored for a Unix socket.
    pub reuse_port: bool,
    /// Hold a silent client back so long (TCP_DEFER_ACCEPT, whole seconds, rounded up); zero: not.
    pub defer_accept: Duration,
}

/// Opens a listener: close-on-exec and non-blocking, so that an `accept` finds nothing instead of
/// waiting for an arrival that another reader took.
///
/// TCP: SO_REUSEADDR, so that a restart need not wait for old connections in TIME-WAIT, and
/// TCP_NODELAY, which accepted connections inherit. IPv6 takes only IPv6 (IPV6_V6ONLY), whatever
/// net.ipv6.bindv6only says: `[::]` and `0.0.0.0` can then be listened on side by side, and no peer
/// shows up as `::ffff:…`.
///
/// Unix: a socket file that nobody listens on any more is replaced; one that answers is left alone
/// (`EADDRINUSE`), and so is any other kind of file (`ENOTSOCK`).
///
/// # Errors
///
/// The step that failed, with its errno.
pub fn listen(address: &Address, options: Options) -> Result<Fd, Failed> {
    let name = Name::of(address)?;
    let fd = socket(name.family(), libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
    match prepare(&fd, address, &name, options) {
        Ok(()) => Ok(fd),
        Err(failed) => {
            close(fd);
            Err(failed)
        }
    }
}

fn prepare(fd: &Fd, address: &Address, name: &Name, options: Options) -> Result<(), Failed> {
    match address {
        Address::Tcp(tcp) => {
            set(fd, "SO_REUSEADDR", libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
            if tcp.is_ipv6() {
                set(fd, "IPV6_V6ONLY", libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            }
            if options.reuse_port {
                set(fd, "SO_REUSEPORT", libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
            }
            set(fd, "TCP_NODELAY", libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
            let seconds = options.defer_accept.as_millis().div_ceil(1000);
            if seconds > 0 {
                let seconds = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
                set(fd, "TCP_DEFER_ACCEPT", libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)?;
            }
        }
        Address::Unix(path) => remove_stale(path, name)?,
    }
    bind(fd, name)?;
    let backlog = libc::c_int::try_from(options.backlog).unwrap_or(libc::c_int::MAX);
    // SAFETY: no pointers.
    step("listen", unsafe { libc::listen(fd.raw(), backlog) })?;
    Ok(())
}

/// Opens `slots` listeners of one address, among which the kernel spreads arrivals (SO_REUSEPORT).
/// With port 0 the kernel chooses for the first, and the others take its number.
///
/// A second instance of the same user would join such a group silently and take its share of the
/// arrivals; so the address is bound once without SO_REUSEPORT before.
///
/// # Errors
///
/// `EADDRINUSE` if somebody listens there already, with or without SO_REUSEPORT; else the step
/// that failed. Nothing stays open then.
pub fn group(address: SocketAddr, slots: usize, options: Options) -> Result<Vec<Fd>, Failed> {
    let options = Options { reuse_port: true, ..options };
    let mut group = Vec::with_capacity(slots);
    let filled = check_free(address).and_then(|()| {
        let mut address = Address::Tcp(address);
        while group.len() < slots {
            group.push(listen(&address, options)?);
            address = local_address(&group[0])?;
        }
        Ok(())
    });
    if let Err(failed) = filled {
        group.into_iter().for_each(close);
        return Err(failed);
    }
    Ok(group)
}

/// Whether nobody listens on this address: bound once without SO_REUSEPORT, and closed again.
///
/// # Errors
///
/// `EADDRINUSE`, or any other reason why it can't be bound.
pub fn check_free(address: SocketAddr) -> Result<(), Failed> {
    let name = Name::tcp(address);
    let fd = socket(name.family(), libc::SOCK_STREAM)?;
    let free = prepare_check(&fd, address).and_then(|()| bind(&fd, &name));
    close(fd);
    free
}

fn prepare_check(fd: &Fd, address: SocketAddr) -> Result<(), Failed> {
    set(fd, "SO_REUSEADDR", libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if address.is_ipv6() {
        set(fd, "IPV6_V6ONLY", libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    Ok(())
}

/// Removes a socket file that nobody answers on (a listener that was killed leaves it behind).
fn remove_stale(path: &Path, name: &Name) -> Result<(), Failed> {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let in_use = Failed { step: "bind", number: libc::EADDRINUSE };
    if !std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) {
        return Err(Failed { step: "the path is there and no socket", number: libc::ENOTSOCK });
    }
    let probe = socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
    let answer = connect(&probe, name);
    close(probe);
    // Only a refusal proves that nobody listens: EAGAIN means a full queue, EACCES another user.
    match answer {
        Err(Failed { number: libc::ECONNREFUSED, .. }) => unlink(path),
        Ok(()) | Err(_) => Err(in_use),
    }
}

/// Removes the socket file of our own listener, at shutdown. Leaves it if it is another's by now
/// (then it is not the file whose inode was bound) or gone.
pub fn unlink_own(path: &Path, inode: FileId) {
    if FileId::of(path) == Some(inode) {
        // Best effort at the end of a process: what stays is replaced at the next start.
        let _ = unlink(path);
    }
}

/// Which file a path meant when we bound it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// On which device it is.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl FileId {
    /// Of the file at this path now; `None` if there is none.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::symlink_metadata(path).ok()?;
        Some(Self { device: meta.dev(), inode: meta.ino() })
    }
}

fn unlink(path: &Path) -> Result<(), Failed> {
    std::fs::remove_file(path).map_err(|error| Failed {
        step: "unlink the stale socket",
        number: error.raw_os_error().unwrap_or(libc::EIO),
    })
}

/// Where this socket is bound, with the port that the kernel chose.
///
/// # Errors
///
/// Not a socket.
pub fn local_address(fd: &Fd) -> Result<Address, Failed> {
    let mut name = Name::EMPTY;
    // SAFETY: the storage has room for every family, and `length` says how much.
    step("getsockname", unsafe {
        libc::getsockname(fd.raw(), (&raw mut name.storage).cast(), &raw mut name.length)
    })?;
    Ok(name.address())
}

/// Who is at the other end.
#[must_use]
pub fn peer(fd: &Fd) -> Peer {
    let mut name = Name::EMPTY;
    // SAFETY: the storage has room for every family, and `length` says how much.
    let answer = unsafe {
        libc::getpeername(fd.raw(), (&raw mut name.storage).cast(), &raw mut name.length)
    };
    if answer == -1 {
        return Peer::Gone;
    }
    match name.address() {
        Address::Tcp(address) => Peer::Tcp(address),
        Address::Unix(_) => Peer::Unix,
    }
}

/// Takes one arrival, close-on-exec. It is in blocking mode, although its listener is not: a ring
/// answers EAGAIN on a non-blocking socket where it would have waited.
///
/// # Errors
///
/// [`Errno::Again`]: there is none now. [`Errno::Gone`]: the listener was shut down.
pub fn accept(listener: &Fd) -> Result<Fd, Errno> {
    // SAFETY: null for "tell me no address" is allowed.
    let fd = check(unsafe {
        libc::accept4(
            listener.raw(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC,
        )
    });
    let listens_no_more = Err(Errno::Other(libc::EINVAL));
    if fd == listens_no_more { Err(Errno::Gone) } else { fd.map(Fd::new) }
}

/// Ends one or both halves. A connection that is already gone is no error.
pub fn shutdown(fd: &Fd, half: Half) {
    let how = match half {
        Half::Write => libc::SHUT_WR,
        Half::Both => libc::SHUT_RDWR,
    };
    // SAFETY: no pointers.
    unsafe { libc::shutdown(fd.raw(), how) };
}

/// Closes a descriptor. Whatever close(2) answers, the number is free afterwards on Linux, so there
/// is nothing to repeat.
pub fn close(fd: Fd) {
    // SAFETY: the one owner gives it up here.
    unsafe { libc::close(fd.raw()) };
}

/// Both ends of a channel: SOCK_SEQPACKET, close-on-exec, so that a message is a message and a
/// closed end is read as an empty one.
///
/// # Errors
///
/// Out of descriptors or memory.
pub fn seqpacket_pair() -> Result<(Fd, Fd), Errno> {
    unix_pair(libc::SOCK_SEQPACKET)
}

/// Both ends of a connection, neither of which blocks: SOCK_STREAM, close-on-exec.
///
/// # Errors
///
/// Out of descriptors or memory.
pub fn stream_pair() -> Result<(Fd, Fd), Errno> {
    unix_pair(libc::SOCK_STREAM | libc::SOCK_NONBLOCK)
}

fn unix_pair(kind: libc::c_int) -> Result<(Fd, Fd), Errno> {
    let mut pair = [-1; 2];
    let kind = kind | libc::SOCK_CLOEXEC;
    // SAFETY: fills an array of two.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) })?;
    Ok((Fd::new(pair[0]), Fd::new(pair[1])))
}

/// A second descriptor of the same open file, close-on-exec.
///
/// # Errors
///
/// Out of descriptors.
pub fn duplicate(fd: &Fd) -> Result<Fd, Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.raw(), libc::F_DUPFD_CLOEXEC, 0) }).map(Fd::new)
}

/// A descriptor that stands for nothing: the reserve that is closed when descriptors run out, so
/// that one arrival can still be taken, answered and closed.
///
/// # Errors
///
/// Out of descriptors.
pub fn spare() -> Result<Fd, Errno> {
    // SAFETY: no pointers.
    check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) }).map(Fd::new)
}

/// Reads at most `buffer.len()` bytes without waiting; 0: end-of-file.
///
/// # Errors
///
/// [`Errno::Again`]: nothing there.
pub fn receive_now(fd: &Fd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: writes at most `len` bytes into the slice.
    let count = unsafe {
        libc::recv(fd.raw(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT)
    };
    count_of(count)
}

/// Sends what fits without waiting; how many bytes that was.
///
/// # Errors
///
/// [`Errno::Again`]: no room; [`Errno::PeerGone`].
pub fn send_now(fd: &Fd, bytes: &[u8]) -> Result<usize, Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: reads `len` bytes of the slice.
    let count = unsafe { libc::send(fd.raw(), bytes.as_ptr().cast(), bytes.len(), flags) };
    count_of(count)
}

/// Limits what the kernel holds of unsent bytes (SO_SNDBUF; the kernel doubles it). Tests make
/// sends short with it: on loopback's defaults they never are.
///
/// # Errors
///
/// Not a socket.
pub fn set_send_buffer(fd: &Fd, bytes: u32) -> Result<(), Failed> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set(fd, "SO_SNDBUF", libc::SOL_SOCKET, libc::SO_SNDBUF, bytes)
}

pub(super) fn count_of(count: isize) -> Result<usize, Errno> {
    usize::try_from(count).map_err(|_| super::errno::last())
}

pub(super) fn socket(family: libc::c_int, kind: libc::c_int) -> Result<Fd, Failed> {
    // SAFETY: no pointers.
    step("socket", unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) }).map(Fd::new)
}

pub(super) fn bind(fd: &Fd, name: &Name) -> Result<(), Failed> {
    // SAFETY: reads `length` bytes of the storage, which is as long or longer.
    step("bind", unsafe { libc::bind(fd.raw(), (&raw const name.storage).cast(), name.length) })?;
    Ok(())
}

fn connect(fd: &Fd, name: &Name) -> Result<(), Failed> {
    // SAFETY: reads `length` bytes of the storage, which is as long or longer.
    step("connect", unsafe {
        libc::connect(fd.raw(), (&raw const name.storage).cast(), name.length)
    })?;
    Ok(())
}

pub(super) fn set(
    fd: &Fd,
    name: &'static str,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> Result<(), Failed> {
    // SAFETY: reads one int.
    step(name, unsafe {
        libc::setsockopt(
            fd.raw(),
            level,
            option,
            (&raw const value).cast(),
            length_of(size_of_val(&value)),
        )
    })?;
    Ok(())
}

/// An address in the kernel's form.
pub(super) struct Name {
    pub(super) storage: libc::sockaddr_storage,
    pub(super) length: libc::socklen_t,
}

impl Name {
    const EMPTY: Self = Self {
        // SAFETY: plain integers, for which zero is a value.
        storage: unsafe { std::mem::zeroed() },
        length: length_of(size_of::<libc::sockaddr_storage>()),
    };

    pub(super) fn of(address: &Address) -> Result<Self, Failed> {
        match address {
            Address::Tcp(address) => Ok(Self::tcp(*address)),
            Address::Unix(path) => Self::unix(path),
        }
    }

    pub(super) fn tcp(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => Self::with(libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(v6) => Self::with(libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            }),
        }
    }

    /// A path must leave room for its closing zero byte (unix(7)) and contain none.
    fn unix(path: &Path) -> Result<Self, Failed> {
        let bytes = path.as_os_str().as_bytes();
        let mut name = libc::sockaddr_un { sun_family: family(libc::AF_UNIX), sun_path: [0; 108] };
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(Failed { step: "socket path", number: libc::EINVAL });
        }
        if bytes.len() >= name.sun_path.len() {
            return Err(Failed { step: "socket path", number: libc::ENAMETOOLONG });
        }
        for (to, from) in name.sun_path.iter_mut().zip(bytes) {
            *to = libc::c_char::from_ne_bytes([*from]);
        }
        Ok(Self::with(name))
    }

    fn with<T: Copy>(name: T) -> Self {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        let mut new = Self { length: length_of(size_of::<T>()), ..Self::EMPTY };
        // SAFETY: the storage is large enough (checked above) and aligned for every family
        // (that is what sockaddr_storage is for).
        unsafe { (&raw mut new.storage).cast::<T>().write(name) };
        new
    }

    pub(super) fn family(&self) -> libc::c_int {
        libc::c_int::from(self.storage.ss_family)
    }

    /// # Safety
    ///
    /// The storage must hold a `T`: its family says so.
    unsafe fn read<T: Copy>(&self) -> T {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        // SAFETY: large enough and aligned; initialised whole, as zeroes at first.
        unsafe { (&raw const self.storage).cast::<T>().read() }
    }

    fn address(&self) -> Address {
        match self.family() {
            libc::AF_INET => {
                // SAFETY: this family.
                let name: libc::sockaddr_in = unsafe { self.read() };
                let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
                Address::Tcp(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: this family.
                let name: libc::sockaddr_in6 = unsafe { self.read() };
                let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
                let port = u16::from_be(name.sin6_port);
                let scope = name.sin6_scope_id;
                Address::Tcp(SocketAddrV6::new(ip, port, name.sin6_flowinfo, scope).into())
            }
            _ => Address::Unix(self.path()),
        }
    }

    /// The path of a Unix socket; empty for one without a name.
    fn path(&self) -> std::path::PathBuf {
        // SAFETY: any bytes are a valid sockaddr_un.
        let name: libc::sockaddr_un = unsafe { self.read() };
        let start = offset_of!(libc::sockaddr_un, sun_path);
        let length = (self.length as usize).saturating_sub(start).min(name.sun_path.len());
        let bytes: Vec<u8> = name.sun_path[..length]
            .iter()
            .map(|c| c.to_ne_bytes()[0])
            .take_while(|byte| *byte != 0)
            .collect();
        OsStr::from_bytes(&bytes).into()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "sizes of structs and families: small numbers")]
const fn length_of(size: usize) -> libc::socklen_t {
    size as libc::socklen_t
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "address families are small positive numbers"
)]
const fn family(number: libc::c_int) -> libc::sa_family_t {
    number as libc::sa_family_t
}

#[cfg(test)]
mod tests;
