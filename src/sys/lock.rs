//! A file that holds this process's number, and that one process at a time has.

use super::errno::{Failed, last_number};
use super::socket::FileId;
use crate::io::Fd;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file. It is locked for as long as this value lives (flock(2)): a number in a file can be a
/// stranger's by now, a lock is gone with its holder.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    id: FileId,
    /// Close-on-exec, but for the next program of this process.
    locked: File,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another process holds it; what it wrote there.
    Held(String),
    /// What is there holds something else than a number.
    NotOurs,
    /// A step failed.
    Failed(Failed),
}

impl PidFile {
    /// Creates it, exclusively. One whose holder is gone is replaced; one whose holder lives is
    /// left alone.
    ///
    /// # Errors
    ///
    /// Somebody holds it; it can't be created or written; what is there is no plain file, or holds
    /// something else than a number.
    pub fn create(path: &Path) -> Result<Self, Refused> {
        // Each turn another process has removed or replaced what was there: that does not go on.
        for _ in 0..TRIES {
            let (file, fresh) = open(path)?;
            if !lock(&file)? {
                return Err(Refused::Held(read(file)));
            }
            let id = FileId::of(path);
            let same = file.metadata().is_ok_and(|meta| {
                id.is_some_and(|id| id == FileId { device: meta.dev(), inode: meta.ino() })
            });
            if let (Some(id), true) = (id, same) {
                if !fresh {
                    if !holds_a_number(&file) {
                        return Err(Refused::NotOurs);
                    }
                    file.set_len(0).map_err(|error| failed("write the pid file", &error))?;
                }
                writeln!(&file, "{}", std::process::id())
                    .map_err(|error| failed("write the pid file", &error))?;
                return Ok(Self { path: path.to_owned(), id, locked: file });
            }
        }
        Err(Refused::Held("it keeps changing".to_owned()))
    }

    /// Where it is, which file that is, and the descriptor that holds the lock.
    #[must_use]
    pub fn parts(&self) -> (&Path, FileId, i32) {
        (&self.path, self.id, self.locked.as_raw_fd())
    }

    /// One that an earlier program of this process created.
    #[must_use]
    pub fn adopt(path: PathBuf, id: FileId, fd: Fd) -> Self {
        Self { path, id, locked: File::from(super::owned::own(fd)) }
    }

    /// Removes it, if it is still the one that was created.
    pub fn remove(self) {
        super::socket::unlink_own(&self.path, self.id);
    }
}

const TRIES: usize = 100;
/// More bytes than a number takes, with blanks around it.
const NUMBER_MAX: usize = 32;

/// The file, and whether it was made now.
fn open(path: &Path) -> Result<(File, bool), Refused> {
    let mut options = OpenOptions::new();
    // A link that somebody planted there would lead the writing elsewhere.
    options.read(true).write(true).mode(0o644).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    match options.create_new(true).open(path) {
        Ok(file) => return Ok((file, true)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed("create the pid file", &error)),
    }
    match options.create_new(false).open(path) {
        Ok(file) if file.metadata().is_ok_and(|meta| meta.is_file()) => Ok((file, false)),
        Ok(_) => Err(Refused::Failed(Failed { step: "open the pid file", number: libc::EINVAL })),
        Err(error) => Err(failed("open the pid file", &error)),
    }
}

fn lock(file: &File) -> Result<bool, Refused> {
    // SAFETY: no pointers.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match last_number() {
        libc::EWOULDBLOCK => Ok(false),
        number => Err(Refused::Failed(Failed { step: "lock the pid file", number })),
    }
}

/// Whether a file is empty or holds a number, as a pid file does: else it is somebody's, named by
/// mistake.
fn holds_a_number(file: &File) -> bool {
    let mut bytes = [0; NUMBER_MAX];
    let read = file.read_at(&mut bytes, 0);
    read.is_ok_and(|count| {
        count < NUMBER_MAX && bytes[..count].trim_ascii().iter().all(u8::is_ascii_digit)
    })
}

/// What a holder wrote: its number, if it is a number.
fn read(file: File) -> String {
    let mut text = String::new();
    let _ = file.take(NUMBER_MAX as u64).read_to_string(&mut text);
    text.trim().chars().filter(char::is_ascii_digit).collect()
}

fn failed(step: &'static str, error: &std::io::Error) -> Refused {
    Refused::Failed(Failed { step, number: error.raw_os_error().unwrap_or(libc::EIO) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn path(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("ringfort-pid-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    #[test]
    fn one_holder_at_a_time_and_the_file_goes_with_it() {
        let path = path("one");
        let first = PidFile::create(&path).unwrap();
        let own = std::process::id().to_string();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{own}\n"));
        assert_eq!(PidFile::create(&path).unwrap_err(), Refused::Held(own));
        first.remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_stranger_is_left_alone() {
        let path = path("stale");
        fs::write(&path, " 999999999\n\n").unwrap();
        let held = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        // Somebody else's by now: not ours to remove.
        fs::rename(&path, path.with_extension("moved")).unwrap();
        fs::write(&path, "theirs").unwrap();
        held.remove();
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_holds_something_else_is_left_alone() {
        let path = path("precious");
        for precious in ["precious", "12 of 13\n", "1\0", &"9".repeat(32)] {
            fs::write(&path, precious).unwrap();
            assert_eq!(PidFile::create(&path).unwrap_err(), Refused::NotOurs, "{precious:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), precious);
        }
        fs::write(&path, "").unwrap();
        PidFile::create(&path).unwrap().remove();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_plain_file_is_refused() {
        let link = path("link");
        let target = path("target");
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(matches!(PidFile::create(&link), Err(Refused::Failed(_))));
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert!(matches!(PidFile::create(Path::new("/dev/null")), Err(Refused::Failed(_))));
        assert!(matches!(PidFile::create(Path::new("/no/such/folder")), Err(Refused::Failed(_))));
        fs::remove_file(&link).unwrap();
    }
}
