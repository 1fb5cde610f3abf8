//! Becoming another program in the same process, and what goes along: descriptors, a text, one
//! variable of the environment.

use super::errno::{Failed, last_number, step};
use super::process;
use crate::io::Fd;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Becomes the program at this path, with our arguments and environment and one variable more.
/// Returns only when that failed.
pub fn exec(path: &Path, variable: &str, value: &str) -> Failed {
    let invalid = Failed { step: "execve", number: libc::EINVAL };
    let pair = |(name, value): (OsString, OsString)| [name, value].join("=".as_ref());
    let mut environment: Vec<OsString> =
        std::env::vars_os().filter(|(name, _)| name != variable).map(pair).collect();
    environment.push(format!("{variable}={value}").into());
    let strings = |all: Vec<OsString>| {
        let all = all.into_iter().map(|text| CString::new(text.into_vec()));
        all.collect::<Result<Vec<_>, _>>()
    };
    let arguments = strings(std::env::args_os().collect());
    let (Ok(path), Ok(arguments), Ok(environment)) =
        (CString::new(path.as_os_str().as_bytes()), arguments, strings(environment))
    else {
        return invalid;
    };
    let pointers = |all: &[CString]| {
        let all = all.iter().map(|text| text.as_ptr());
        all.chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (arguments_at, environment_at) = (pointers(&arguments), pointers(&environment));
    // SAFETY: strings that end in a zero byte and arrays that end in a null; all outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments_at.as_ptr(), environment_at.as_ptr()) };
    Failed { step: "execve", number: last_number() }
}

/// This process's program, whatever becomes of its file: close-on-exec.
///
/// # Errors
///
/// /proc is not mounted; out of descriptors.
pub fn own_program() -> Result<Fd, Failed> {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the string ends in a zero byte.
    let fd = step("open", unsafe { libc::open(c"/proc/self/exe".as_ptr(), flags) })?;
    Ok(Fd::new(fd))
}

/// Where [`exec`] finds a program that is open.
#[must_use]
pub fn path_of(program: &Fd) -> PathBuf {
    format!("/proc/self/fd/{}", program.raw()).into()
}

/// Takes a variable out of the environment, so that no child of ours finds it.
///
/// # Errors
///
/// /proc is not mounted; another thread runs, which might be reading the environment.
pub fn take_variable(name: &str) -> Result<Option<String>, Failed> {
    let Some(value) = std::env::var_os(name) else { return Ok(None) };
    if process::threads()? > 1 {
        return Err(Failed { step: "the environment", number: libc::EBUSY });
    }
    // SAFETY: one thread, as checked: nobody reads the environment now.
    unsafe { std::env::remove_var(name) };
    Ok(value.into_string().ok())
}

/// Whether these descriptors stay open in the next program.
///
/// # Errors
///
/// One of them is not open; those before it are changed.
pub fn keep_open(fds: &[i32], keep: bool) -> Result<(), Failed> {
    let flags = if keep { 0 } else { libc::FD_CLOEXEC };
    for fd in fds {
        // SAFETY: no pointers.
        step("F_SETFD", unsafe { libc::fcntl(*fd, libc::F_SETFD, flags) })?;
    }
    Ok(())
}

/// Whether it is a listening socket.
#[must_use]
pub fn is_listener(fd: i32) -> bool {
    let mut listens: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of_val(&listens)).unwrap_or(0);
    // SAFETY: fills a local of its type, whose size `length` says.
    let answer = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            (&raw mut listens).cast(),
            &raw mut length,
        )
    };
    answer == 0 && listens == 1
}

/// Whether it is a socket.
#[must_use]
pub fn is_socket(fd: i32) -> bool {
    // SAFETY: integers, for which zero is a value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fills a local of its type.
    let answer = unsafe { libc::fstat(fd, &raw mut stat) };
    answer == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

/// A text without a file, for the next program: close-on-exec.
///
/// # Errors
///
/// Out of descriptors or memory.
pub fn write_text(text: &str) -> Result<Fd, Failed> {
    let failed = |error: std::io::Error| Failed {
        step: "write the manifest",
        number: error.raw_os_error().unwrap_or(libc::EIO),
    };
    let name = c"ringfort-manifest";
    // SAFETY: the string ends in a zero byte.
    let fd = step("memfd_create", unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: just opened, and owned by nobody else.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok(Fd::new(file.into_raw_fd()))
}

/// The text behind a descriptor, which is closed.
///
/// # Errors
///
/// It is not open, cannot be read, or is longer than `max`.
pub fn read_text(fd: Fd, max: u64) -> Result<Vec<u8>, Failed> {
    let failed = |error: std::io::Error| Failed {
        step: "read the manifest",
        number: error.raw_os_error().unwrap_or(libc::EIO),
    };
    keep_open(&[fd.raw()], false)?;
    // SAFETY: it is open, and an `Fd` has one owner, which gives it up here.
    let mut file = unsafe { File::from_raw_fd(fd.raw()) };
    file.rewind().map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > max {
        return Err(Failed { step: "read the manifest", number: libc::EFBIG });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::{close, spare};

    #[test]
    fn a_text_goes_along_and_is_bounded() {
        let fd = write_text("hello").unwrap();
        assert_eq!(read_text(fd, 5).unwrap(), b"hello");
        let fd = write_text("hello!").unwrap();
        assert_eq!(read_text(fd, 5).unwrap_err().number, libc::EFBIG);
        assert!(read_text(Fd::new(-1), 5).is_err());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        let failed = exec(Path::new("/dev/null"), "RINGFORT_TEST", "1");
        assert_eq!(failed.number, libc::EACCES);
        let failed = exec(Path::new("/no/such/program"), "RINGFORT_TEST", "1");
        assert_eq!(failed.number, libc::ENOENT);
    }

    #[test]
    fn kinds_are_told_apart() {
        let file = spare().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        use std::os::fd::AsRawFd;
        assert!(is_listener(listener.as_raw_fd()) && is_socket(listener.as_raw_fd()));
        assert!(!is_listener(one.as_raw_fd()) && is_socket(other.as_raw_fd()));
        assert!(!is_listener(file.raw()) && !is_socket(file.raw()));
        assert!(!is_listener(-1) && !is_socket(-1));
        assert!(keep_open(&[file.raw()], true).is_ok() && keep_open(&[-1], true).is_err());
        close(file);
    }
}
