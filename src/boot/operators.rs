//! What the master opens for its operators before it serves, and closes at its end: control socket,
//! health listener, pid file, umask.

use super::upgrade;
use crate::admin::{Parts, Trust};
use crate::config::{Config, parse_address};
use crate::error::{Error, ErrorKind};
use crate::io::{Address, Fd};
use crate::ipc::manifest::{DoorPart, FilePart, LockPart, Shell};
use crate::sys::lock::{PidFile, Refused};
use crate::sys::socket::{self, FileId, Options};
use crate::sys::{errno::Failed, privilege};
use std::os::fd::IntoRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::time::Duration;

/// All that a pool's operators have of it.
pub(super) struct Operators {
    pid_file: Option<PidFile>,
    umask: Option<u32>,
    paths: Vec<(PathBuf, FileId)>,
    doors: Vec<(Fd, Trust)>,
    /// Where health is answered, with the port that it got.
    pub(super) health: Option<Address>,
}

impl Operators {
    /// Opens all of it. `lent`: a control listener that was made elsewhere.
    pub(super) fn open(config: &Config, lent: Option<Fd>) -> Result<Self, Error> {
        let (paths, doors) = (Vec::new(), Vec::new());
        let mut all = Self { pid_file: None, umask: None, paths, doors, health: None };
        if let Err(error) = all.fill(config, lent) {
            for (fd, _) in std::mem::take(&mut all.doors) {
                socket::close(fd);
            }
            all.close();
            return Err(error);
        }
        Ok(all)
    }

    /// As the program before left it. Its files are the pool's to remove.
    pub(super) fn taken_over(shell: &Shell) -> Self {
        let trust = |operator| if operator { Trust::Operator } else { Trust::Anyone };
        let doors = shell.doors.iter().map(|door| (Fd::new(door.fd), trust(door.operator)));
        let id = |file: &FilePart| {
            (PathBuf::from(&file.path), FileId { device: file.device, inode: file.inode })
        };
        let pid_file = shell.pid_file.as_ref().map(|lock| {
            let (path, id) = id(&lock.file);
            PidFile::adopt(path, id, Fd::new(lock.fd))
        });
        Self {
            pid_file,
            umask: shell.umask,
            paths: shell.files.iter().map(id).collect(),
            doors: doors.collect(),
            health: shell.health.as_deref().and_then(parse_address),
        }
    }

    /// For the next program. Before `parts`, which takes the doors.
    pub(super) fn save(&self, shell: &mut Shell) {
        let door = |(fd, trust): &(Fd, Trust)| DoorPart {
            fd: fd.raw(),
            operator: *trust == Trust::Operator,
        };
        shell.doors = self.doors.iter().map(door).collect();
        shell.files.extend(self.paths.iter().map(|(path, id)| upgrade::file(path, *id)));
        shell.umask = self.umask;
        shell.health = self.health.as_ref().map(Address::to_string);
        shell.pid_file = self.pid_file.as_ref().map(|pid_file| {
            let (path, id, fd) = pid_file.parts();
            LockPart { file: upgrade::file(path, id), fd }
        });
    }

    fn fill(&mut self, config: &Config, lent: Option<Fd>) -> Result<(), Error> {
        self.doors.extend(lent.map(|fd| (fd, Trust::Operator)));
        self.pid_file = config.pid_file().map(PidFile::create).transpose().map_err(|refused| {
            let shown = config.pid_file().map(|path| path.display().to_string());
            let shown = shown.unwrap_or_default();
            match refused {
                Refused::Held(pid) => Error::new(
                    ErrorKind::AddressInUse,
                    format!("{shown}: another master holds it: {pid}"),
                ),
                Refused::NotOurs => Error::new(
                    ErrorKind::Config,
                    format!(
                        "pid_file: {shown} holds something else than a number; it is left alone"
                    ),
                ),
                Refused::Failed(failed) => failed.error(shown),
            }
        })?;
        if let Some(path) = config.control() {
            let address = Address::Unix(path.to_owned());
            // From its first moment nobody else may connect.
            let before = privilege::umask(0o177);
            let bound = self.bind(&address);
            privilege::umask(before);
            let fd = bound.map_err(|failed| failed.error(&address))?;
            self.doors.push((fd, Trust::Operator));
        }
        if let Some(address) = config.admin_address() {
            let fd = self.bind(address).map_err(|failed| failed.error(address))?;
            self.health = Some(socket::local_address(&fd).map_err(|failed| failed.error(address))?);
            self.doors.push((fd, Trust::Anyone));
        }
        self.umask = config.umask().map(privilege::umask);
        Ok(())
    }

    fn bind(&mut self, address: &Address) -> Result<Fd, Failed> {
        if let Address::Unix(path) = address
            && let Some(name) = path.to_str().and_then(|path| path.strip_prefix('@'))
        {
            return abstract_listener(name);
        }
        let options = Options { backlog: BACKLOG, reuse_port: false, defer_accept: Duration::ZERO };
        let fd = socket::listen(address, options)?;
        if let Address::Unix(path) = address {
            self.paths.extend(FileId::of(path).map(|id| (path.clone(), id)));
        }
        Ok(fd)
    }

    /// What the master gets of it.
    pub(super) fn parts(
        &mut self,
        addresses: &[Address],
        descriptors: (u64, u64),
        (upgradable, earlier): (bool, bool),
    ) -> Parts {
        Parts {
            doors: std::mem::take(&mut self.doors),
            user: privilege::user(),
            addresses: addresses.iter().map(Address::to_string).collect(),
            descriptors,
            upgradable,
            earlier,
        }
    }

    /// Removes what is still ours.
    pub(super) fn close(&mut self) {
        for (path, id) in std::mem::take(&mut self.paths) {
            socket::unlink_own(&path, id);
        }
        if let Some(pid_file) = self.pid_file.take() {
            pid_file.remove();
        }
        if let Some(mask) = self.umask.take() {
            privilege::umask(mask);
        }
    }
}

/// A listener without a file. Any user of this network namespace can reach it: SO_PEERCRED decides.
pub(crate) fn abstract_listener(name: &str) -> Result<Fd, Failed> {
    let failed = |error: std::io::Error| Failed {
        step: "bind the control socket",
        number: error.raw_os_error().unwrap_or(0),
    };
    let address = SocketAddr::from_abstract_name(name).map_err(failed)?;
    let listener = UnixListener::bind_addr(&address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Fd::new(listener.into_raw_fd()))
}

/// Control and health visitors that wait to be let in.
const BACKLOG: u32 = 64;
