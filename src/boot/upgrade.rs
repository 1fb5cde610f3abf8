//! The exec: what this process tells its next program, and what it was told by the one before.

use super::{Bound, Operators};
use crate::config::{Config, Mode, parse_address};
use crate::error::{Error, ErrorKind};
use crate::io::{Address, Fd, WorkerPlan};
use crate::ipc::board::{Board, Names};
use crate::ipc::manifest::{self, BoardPart, Core, ElderPart, FilePart, Manifest, Shell, VARIABLE};
use crate::master::MasterListener;
use crate::sys::errno::Failed;
use crate::sys::signal::Mask;
use crate::sys::socket::{FileId, close};
use crate::sys::{exec, process, shm};
use std::path::{Path, PathBuf};

/// What the environment of this process says that it is.
pub(super) enum Arrived {
    /// The next program, which takes over.
    TakeOver(Box<Manifest>),
    /// The next program on trial, and to whom it says how that went.
    Trial(Result<Box<Manifest>, String>, Fd),
}

/// Reads it, once.
pub(super) fn arrived() -> Result<Option<Arrived>, Error> {
    let said = exec::take_variable(VARIABLE).map_err(|failed| failed.error("upgrade"))?;
    let Some(said) = said else { return Ok(None) };
    let words: Vec<&str> = said.split(' ').collect();
    let fd = |text: &str| text.parse().ok().filter(|fd| *fd > 2).map(Fd::new);
    match words.as_slice() {
        ["serve", text] => {
            let read = fd(text).ok_or_else(|| "no descriptor".to_owned()).and_then(read);
            let manifest = read.map_err(|why| refused(&why))?;
            closed_again(&manifest.descriptors())?;
            Ok(Some(Arrived::TakeOver(manifest)))
        }
        ["try", text, channel] => {
            let Some(channel) = fd(channel) else { return Err(refused("no channel")) };
            closed_again(&[channel.raw()])?;
            let read = fd(text).ok_or_else(|| "no descriptor".to_owned()).and_then(read);
            Ok(Some(Arrived::Trial(read, channel)))
        }
        _ => Err(refused("what the environment says of an upgrade is not understood")),
    }
}

/// What the master says when it cannot take over.
pub(super) fn refused(why: &str) -> Error {
    Error::new(ErrorKind::System, format!("upgrade: {why}"))
}

fn read(fd: Fd) -> Result<Box<Manifest>, String> {
    let text = exec::read_text(fd, manifest::BYTES_MAX);
    let text = text.map_err(|failed| failed.error("the manifest").to_string())?;
    Manifest::decode(&text).map(Box::new)
}

/// No program that the application starts gets them.
fn closed_again(fds: &[i32]) -> Result<(), Error> {
    exec::keep_open(fds, false).map_err(|failed| failed.error("a descriptor of the manifest"))
}

/// Whether this program, so configured, can go on with what is in the manifest.
///
/// # Errors
///
/// Why not.
pub(super) fn check(manifest: &Manifest, config: &Config) -> Result<(), String> {
    let before = manifest.shell.addresses.iter().map(|(wanted, _)| wanted.clone());
    let now = config.addresses().iter().map(Address::to_string);
    if !before.eq(now) {
        return Err("it listens on other addresses: that takes a restart".to_owned());
    }
    let listeners = &manifest.core.listeners;
    if listeners.iter().any(|part| !exec::is_listener(part.fd)) {
        return Err("a listener of the manifest is none".to_owned());
    }
    let elders = manifest.shell.elders.iter().map(|elder| &elder.board);
    for part in elders.chain([&manifest.shell.board]) {
        let read = board(part, &names(part));
        read.map_err(|why| format!("{why}: that takes a restart"))?;
    }
    Ok(())
}

/// What a board of the manifest counts.
pub(super) fn names(part: &BoardPart) -> Names {
    Names { counters: part.counters.clone(), reasons: part.reasons.clone() }
}

/// What only programs before this one count.
pub(super) fn unknown(manifest: &Manifest) -> Vec<String> {
    let mut all = Vec::new();
    for elder in &manifest.shell.elders {
        all.extend(names(&elder.board).unknown().into_iter().map(str::to_owned));
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// A board of the manifest, laid out like this.
///
/// # Errors
///
/// It is none that we can read.
pub(super) fn board(part: &BoardPart, names: &Names) -> Result<Board, String> {
    let words = shm::open(&Fd::new(part.fd));
    let words = words.map_err(|failed| failed.error("the board").to_string())?;
    let board = Board::open_as(words, names)?;
    if board.lines() == part.lines {
        Ok(board)
    } else {
        Err("the board has not as many lines as was said".to_owned())
    }
}

/// What of the manifest only the master's process has.
///
/// # Errors
///
/// A descriptor is not what it should be.
pub(super) fn check_sockets(core: &Core) -> Result<(), String> {
    let mut connections: Vec<i32> = core.pending.iter().map(|part| part.fd).collect();
    connections.extend(core.all_askers());
    for worker in &core.workers {
        connections.extend(worker.channel);
        connections.extend(worker.mail.iter().map(|mail| mail.fd));
        connections.extend(worker.copies.iter().map(|part| part.fd));
    }
    match connections.iter().find(|fd| !exec::is_socket(**fd)) {
        Some(fd) => Err(format!("descriptor {fd} of the manifest is no socket")),
        None => Ok(()),
    }
}

/// Where the pool listens, as the program before left it.
///
/// # Errors
///
/// An address that is none.
pub(super) fn bound(manifest: &Manifest) -> Result<Bound, String> {
    let address = |(_, bound): &(String, String)| {
        parse_address(bound).ok_or_else(|| format!("{}: no address", bound.escape_debug()))
    };
    let addresses = manifest.shell.addresses.iter().map(address).collect::<Result<_, _>>()?;
    let listener = |part: &manifest::ListenerPart| MasterListener {
        address: part.address,
        slot: part.slot,
        fd: Fd::new(part.fd),
    };
    let listeners = manifest.core.listeners.iter().map(listener).collect();
    Ok(Bound { addresses, listeners, paths: Vec::new() })
}

/// How this process becomes the next program.
pub(super) struct Next {
    program: PathBuf,
    /// The program before this one, if it became this.
    earlier: Option<Fd>,
    shell: Shell,
    before: Mask,
}

impl Drop for Next {
    fn drop(&mut self) {
        self.earlier.take().into_iter().for_each(close);
    }
}

impl Next {
    /// The program that runs now, as it is on disk when it is asked for.
    pub(super) fn new(shell: Shell, before: Mask, earlier: Option<Fd>) -> Result<Self, Error> {
        let program = std::env::current_exe()
            .map_err(|error| Error::new(ErrorKind::System, format!("our own path: {error}")))?;
        // What proc(5) adds when the file was replaced or removed.
        let program = match program.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
            Some(path) => PathBuf::from(path),
            None => program,
        };
        Ok(Self { program, earlier, shell, before })
    }

    fn manifest(&self, core: &str) -> Result<Manifest, String> {
        let core = Core::decode(core).ok_or("what the master knows cannot be written down")?;
        let shell = self.shell.clone();
        let mut manifest = Manifest { version: manifest::VERSION, shell, core };
        manifest.drop_unused_boards();
        Ok(manifest)
    }

    /// Goes on as the next program; gives back why that failed.
    pub(super) fn replace(&self, core: &str) -> String {
        let manifest = match self.manifest(core) {
            Ok(manifest) => manifest,
            Err(why) => return why,
        };
        let mut manifest = manifest;
        let own = match exec::own_program() {
            Ok(own) => own,
            Err(failed) => return failed.error("our own program").to_string(),
        };
        manifest.shell.program = Some(own.raw());
        let mut fds = manifest.descriptors();
        match self.exec(&manifest, &mut fds, |text| format!("serve {text}")) {
            Ok(failed) | Err(failed) => {
                // Those that are not open any more have no flag to be set.
                for fd in fds {
                    let _ = exec::keep_open(&[fd], false);
                }
                close(own);
                self.why(&manifest, failed)
            }
        }
    }

    /// In a child: becomes the next program on trial; gives back why that failed.
    pub(super) fn attempt(&self, plan: &WorkerPlan<'_>, channel: &Fd) -> String {
        let manifest = match self.manifest(plan.handover) {
            Ok(manifest) => manifest,
            Err(why) => return why,
        };
        let mut fds = manifest.trial_descriptors();
        fds.push(channel.raw());
        let begun = self.before.restore().and_then(|()| {
            self.exec(&manifest, &mut fds, |text| format!("try {text} {}", channel.raw()))
        });
        match begun {
            Ok(failed) | Err(failed) => self.why(&manifest, failed),
        }
    }

    fn exec(
        &self,
        manifest: &Manifest,
        fds: &mut Vec<i32>,
        value: impl FnOnce(i32) -> String,
    ) -> Result<Failed, Failed> {
        let text = exec::write_text(&manifest.encode())?;
        fds.push(text.raw());
        let failed = exec::keep_open(fds, true)
            .map(|()| exec::exec(&self.which(manifest), VARIABLE, &value(text.raw())));
        close(text);
        failed
    }

    /// The one on disk, or the one before this.
    fn which(&self, manifest: &Manifest) -> PathBuf {
        match &self.earlier {
            Some(earlier) if manifest.core.back == Some(true) => exec::path_of(earlier),
            Some(_) | None => self.program.clone(),
        }
    }

    fn why(&self, manifest: &Manifest, failed: Failed) -> String {
        failed.error(self.which(manifest).display()).to_string()
    }
}

/// What was opened before the master began.
pub(super) fn shell(
    config: &Config,
    bound: &Bound,
    operators: &Operators,
    (board, elders): (BoardPart, Vec<ElderPart>),
    facts: (&Mask, u64, u32, Mode),
) -> Shell {
    let (before, nofile, workers, mode) = facts;
    let wanted = config.addresses().iter().map(Address::to_string);
    let now = bound.addresses.iter().map(Address::to_string);
    let mut shell = Shell {
        board,
        elders,
        addresses: wanted.zip(now).collect(),
        blocked: before.blocked(),
        nofile,
        workers,
        mode: mode.name().to_owned(),
        ..Shell::default()
    };
    shell.files = bound.paths.iter().map(|(path, id)| file(path, *id)).collect();
    operators.save(&mut shell);
    shell
}

/// A file of ours, as it is written down.
pub(super) fn file(path: &Path, id: FileId) -> FilePart {
    FilePart { path: path.display().to_string(), device: id.device, inode: id.inode }
}

/// The signals that were blocked before the pool.
///
/// # Errors
///
/// A number that is no signal.
pub(super) fn blocked(shell: &Shell) -> Result<Mask, Error> {
    Mask::of(&shell.blocked).map_err(|failed| failed.error("signals"))
}

/// How connections reach workers: as it was when the program before ended, unless what is
/// configured has changed since it began.
pub(super) fn mode(manifest: &Manifest, configured: Mode) -> Mode {
    match manifest.core.mode.as_str() {
        _ if manifest.shell.mode != configured.name() => configured,
        "centralized" => Mode::Centralized,
        "shared" => Mode::Shared,
        _ => configured,
    }
}

/// Ends this process, whose program was only tried.
pub(super) fn leave(code: i32) -> ! {
    process::exit(code)
}
