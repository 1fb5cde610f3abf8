//! Files below a folder, opened so that no path leads out of it.

use super::errno::{Failed, last, last_number};
use crate::io::{Errno, Fd};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a folder as the root for [`open_beneath`].
///
/// # Errors
///
/// There is none, it is none, or it may not be searched.
pub fn open_root(path: &Path) -> Result<OwnedFd, Failed> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(folder) => Ok(folder.into()),
        Err(_) => Err(Failed { step: "open", number: last_number() }),
    }
}

/// Opens or makes a file to be written to at its end, whoever else does the same (O_APPEND). Does
/// not wait for the reader of a FIFO (O_NONBLOCK).
///
/// # Errors
///
/// It cannot be made or written; `ENXIO`: a FIFO that nobody reads (fifo(7)).
pub fn open_log(path: &Path) -> Result<Fd, Failed> {
    let flags = libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
    match OpenOptions::new().append(true).create(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Fd::new(file.into_raw_fd())),
        Err(_) => Err(Failed { step: "open", number: last_number() }),
    }
}

/// Opens a file for reading, by a path relative to `root` (openat2(2)). Never waits, not even for
/// the writer of a FIFO: what was opened is for the caller to look at.
///
/// # Errors
///
/// [`Errno::Gone`] for no such file, and for a path that leads out of the root: absolute, by `..`,
/// or by a symbolic link.
pub fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Result<File, Errno> {
    let Ok(path) = CString::new(path) else { return Err(Errno::Gone) };
    // SAFETY: all zeroes is a valid `open_how`.
    let mut how: libc::open_how = unsafe { zeroed() };
    how.flags = flag(libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY);
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    for _ in 0..RACES_MAX {
        // SAFETY: both pointers are read before the call returns; the size is that of the struct.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if let Ok(fd) = i32::try_from(fd)
            && fd >= 0
        {
            // SAFETY: the kernel just made it for us, so nobody else owns it.
            return Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }));
        }
        match (last(), last_number()) {
            // A folder on the way was renamed in the meantime: the kernel could not be sure.
            (Errno::Again | Errno::Interrupted, _) => {}
            (_, libc::EXDEV | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG) => {
                return Err(Errno::Gone);
            }
            (errno, _) => return Err(errno),
        }
    }
    Err(Errno::Again)
}

/// As `open_how` takes them.
fn flag(flags: libc::c_int) -> u64 {
    u64::from(flags.cast_unsigned())
}

/// How often an opening is tried again that met a rename.
const RACES_MAX: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::{env, fs, process};

    /// A folder of its own, with a file outside of the root beside it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("ringfort-file-{name}-{}", process::id()));
            fs::create_dir_all(path.join("root/sub")).unwrap();
            fs::write(path.join("secret"), "secret").unwrap();
            fs::write(path.join("root/a"), "a").unwrap();
            fs::write(path.join("root/sub/b"), "b").unwrap();
            Self(path)
        }

        fn root(&self) -> PathBuf {
            self.0.join("root")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn no_path_leads_out() {
        let folder = Folder::new("out");
        symlink("sub/b", folder.root().join("inside")).unwrap();
        symlink("../secret", folder.root().join("outside")).unwrap();
        symlink(folder.0.join("secret"), folder.root().join("absolute")).unwrap();
        symlink(folder.root().join("a"), folder.root().join("absolute-inside")).unwrap();
        symlink("..", folder.root().join("sub/up")).unwrap();
        symlink("loop", folder.root().join("loop")).unwrap();
        let root = open_root(&folder.root()).unwrap();
        let read = |path: &str| {
            let mut text = String::new();
            open_beneath(root.as_fd(), path.as_bytes())?.read_to_string(&mut text).unwrap();
            Ok::<_, Errno>(text)
        };
        for (path, want) in [
            ("a", Ok("a")),
            ("sub/b", Ok("b")),
            ("sub//./b", Ok("b")),
            ("inside", Ok("b")),
            ("sub/up/a", Ok("a")),
            ("", Err(Errno::Gone)),
            ("none", Err(Errno::Gone)),
            ("a/b", Err(Errno::Gone)),
            ("a\0", Err(Errno::Gone)),
            ("../secret", Err(Errno::Gone)),
            ("sub/../../secret", Err(Errno::Gone)),
            ("sub/up/../secret", Err(Errno::Gone)),
            ("outside", Err(Errno::Gone)),
            ("absolute", Err(Errno::Gone)),
            ("absolute-inside", Err(Errno::Gone)),
            ("/etc/hostname", Err(Errno::Gone)),
            ("loop", Err(Errno::Gone)),
            (&"x".repeat(5000), Err(Errno::Gone)),
        ] {
            assert_eq!(read(path).as_deref(), want.as_deref(), "{path}");
        }
    }

    #[test]
    fn a_fifo_without_a_writer_does_not_block() {
        let folder = Folder::new("fifo");
        let path = CString::new(folder.root().join("fifo").as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: the path is a C string that outlives the call.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        let root = open_root(&folder.root()).unwrap();
        let file = open_beneath(root.as_fd(), b"fifo").unwrap();
        assert!(!file.metadata().unwrap().is_file());
    }

    #[test]
    fn a_root_is_a_folder() {
        let folder = Folder::new("root");
        for (path, number) in [("none", libc::ENOENT), ("secret", libc::ENOTDIR)] {
            let failed = open_root(&folder.0.join(path)).unwrap_err();
            assert_eq!(failed, Failed { step: "open", number });
        }
    }
}
