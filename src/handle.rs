//! A pool that runs in a process of its own: ask it, command it, wait for it.

use crate::admin::client::{Reply, ask};
use crate::admin::{ProcessInfo, line};
use crate::boot;
use crate::error::{Error, ErrorKind};
use crate::io::{Address, Exit, Fd};
use crate::pool::Started;
use crate::sys::{clock, owned, process, socket};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long the master may take over a command that it answers at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take over one that replaces workers.
const LONG_PATIENCE: Duration = Duration::from_secs(3600);

/// The master of a pool, from outside: a process to wait for and a control socket to ask. It can be
/// used from several threads at a time. Dropping it leaves the pool running.
pub struct Handle {
    control: String,
    started: Vec<Address>,
    /// `None`: the master is no child of this process.
    child: Option<Child>,
}

struct Child {
    pid: u32,
    pidfd: Fd,
    /// What it says, until it has ended.
    words: Mutex<Words>,
}

/// What a master tells its parent: that it serves and where, and at its end how that was. A word
/// ends with two zero bytes; its parts are zero bytes apart.
struct Words {
    stream: UnixStream,
    heard: Vec<u8>,
    ended: Option<Result<(), Error>>,
}

impl Handle {
    /// The pool behind a control socket (`control`), from any process that may.
    ///
    /// # Errors
    ///
    /// Nobody answers there.
    pub fn connect(control: &str) -> Result<Self, Error> {
        let handle = Self { control: control.to_owned(), started: Vec::new(), child: None };
        handle.ask("status").map(|_| handle)
    }

    /// The master's process, if this process forked it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(|child| child.pid)
    }

    /// Where the pool listens, with the ports it got; empty for a pool that was connected to.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.started
    }

    /// Where to connect to for control; `@` begins an abstract name.
    #[must_use]
    pub fn control(&self) -> &str {
        &self.control
    }

    /// Sends one line of the control language, and waits for its end.
    ///
    /// # Errors
    ///
    /// The master is gone, or did not answer in time.
    pub fn ask(&self, line: &str) -> Result<Reply, Error> {
        let word = line.split_ascii_whitespace().next().unwrap_or("");
        let long = line::is_long(word);
        let patience = if long { LONG_PATIENCE } else { PATIENCE };
        ask(&self.control, line, patience).map_err(|error| {
            Error::new(ErrorKind::System, format!("control socket {}: {error}", self.control))
        })
    }

    fn command(&self, line: &str) -> Result<Reply, Error> {
        let reply = self.ask(line)?;
        if reply.ok {
            return Ok(reply);
        }
        Err(Error::new(ErrorKind::System, format!("{line}: {}", reply.text)))
    }

    /// Drains the pool and waits for its end; one that has ended already is no error. Of a pool
    /// that was connected to it only begins the drain.
    ///
    /// # Errors
    ///
    /// `Unclean`: connections were cut, or workers had to be killed.
    pub fn stop(&self) -> Result<(), Error> {
        match self.command("drain") {
            Err(error) if self.is_running() => Err(error),
            Ok(_) | Err(_) => self.wait(),
        }
    }

    /// Replaces all workers by new ones, as a transaction; waits for its end.
    ///
    /// # Errors
    ///
    /// Why nothing has changed.
    pub fn reload(&self) -> Result<Reply, Error> {
        self.command("reload")
    }

    /// Whether the master runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match &self.child {
            Some(child) => child.poll().is_none(),
            None => self.ask("status").is_ok(),
        }
    }

    /// All numbers: the original's keys for both modes, and ours.
    ///
    /// # Errors
    ///
    /// As [`Handle::ask`].
    pub fn metrics(&self) -> Result<Reply, Error> {
        self.command("metrics")
    }

    /// Who picks workers: the name of one of [`balancer`](crate::balancer), or of one of your own;
    /// `kernel` in shared mode, where the master picks only when it stands in for a worker, and for
    /// Unix sockets.
    ///
    /// # Errors
    ///
    /// As [`Handle::ask`].
    pub fn balancer(&self) -> Result<String, Error> {
        let metrics = self.metrics()?;
        Ok(metrics.json["balancer"].as_str().unwrap_or_default().to_owned())
    }

    /// Every worker process, and every slot without one.
    ///
    /// # Errors
    ///
    /// As [`Handle::ask`].
    pub fn workers(&self) -> Result<Vec<ProcessInfo>, Error> {
        Ok(self.command("status")?.workers())
    }

    /// Those by slot; of a slot that has an old and a new one, the new one.
    ///
    /// # Errors
    ///
    /// As [`Handle::ask`].
    pub fn workers_by_id(&self) -> Result<BTreeMap<u32, ProcessInfo>, Error> {
        Ok(self.workers()?.into_iter().map(|worker| (worker.worker_id, worker)).collect())
    }

    /// How many worker processes exist.
    ///
    /// # Errors
    ///
    /// As [`Handle::ask`].
    pub fn worker_count(&self) -> Result<usize, Error> {
        Ok(self.workers()?.iter().filter(|worker| worker.is_alive()).count())
    }

    /// Waits until the master has ended; returns at once for a pool that was connected to.
    ///
    /// # Errors
    ///
    /// What [`Pool::serve`](crate::Pool::serve) would have answered: `WorkersFailed` with the
    /// reason that workers gave, `Unclean` when it did not end as it should.
    pub fn wait(&self) -> Result<(), Error> {
        self.child.as_ref().map_or(Ok(()), Child::wait)
    }
}

impl Child {
    fn poll(&self) -> Option<Result<(), Error>> {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.ended.is_none() {
            words.ended = process::reap(&self.pidfd).map(|exit| words.last(exit));
        }
        words.ended.clone()
    }

    fn wait(&self) -> Result<(), Error> {
        loop {
            if let Some(ended) = self.poll() {
                return ended;
            }
            process::await_readable(&self.pidfd);
        }
    }

    /// As a number alone.
    fn exit(&self) -> Exit {
        loop {
            if let Some(exit) = process::reap(&self.pidfd) {
                return exit;
            }
            process::await_readable(&self.pidfd);
        }
    }
}

impl Words {
    /// How a master that has ended had meant to, if it came to say so.
    fn last(&mut self, exit: Exit) -> Result<(), Error> {
        // It has ended: all that it said is here, whoever else may hold its end open.
        let all_here = self.stream.set_nonblocking(true);
        let word = all_here.ok().and_then(|()| self.next());
        let parts = word.as_deref().map(split).unwrap_or_default();
        // Where nobody else knows: this process ignores SIGCHLD, or waits for any child.
        let says_so = exit == process::UNKNOWN && parts == [DONE];
        if exit == Exit::Code(0) || says_so {
            return Ok(());
        }
        let unsaid = || Error::new(ErrorKind::Unclean, how(exit));
        Err(told(&parts).unwrap_or_else(unsaid).with("exit", exit))
    }

    /// The next word; `None`: it says no more.
    fn next(&mut self) -> Option<String> {
        let mut piece = [0; 4096];
        loop {
            if let Some(at) = self.heard.windows(2).position(|two| two == END) {
                let rest = self.heard.split_off(at + END.len());
                let word = std::mem::replace(&mut self.heard, rest);
                return Some(String::from_utf8_lossy(&word[..at]).into_owned());
            }
            match self.stream.read(&mut piece) {
                Ok(count) if count > 0 && self.heard.len() < WORD_MAX => {
                    self.heard.extend_from_slice(&piece[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }
}

fn split(word: &str) -> Vec<&str> {
    word.split('\0').collect()
}

/// All that is known of a master that said nothing at its end.
fn how(exit: Exit) -> String {
    if exit == process::UNKNOWN {
        return "the master ended, and had no time to say how; SIGCHLD is ignored, or somebody else \
                waits for children"
            .to_owned();
    }
    format!("the master ended with {exit}")
}

/// The error that a word tells of.
fn told(parts: &[&str]) -> Option<Error> {
    let [code, what] = parts else { return None };
    Some(Error::new(ErrorKind::from_code(code)?, *what))
}

/// What it says when it listens; addresses follow.
const OK: &str = "ok";
/// What it says at a clean end.
const DONE: &str = "done";
/// What ends a word.
const END: &[u8; 2] = b"\0\0";
/// Bytes of a word at most: more addresses than a configuration file can name.
const WORD_MAX: usize = 4 << 20;

impl Drop for Child {
    fn drop(&mut self) {
        socket::close(std::mem::replace(&mut self.pidfd, Fd::new(-1)));
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("control", &self.control)
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}

/// What the master of [`spawn`] runs: given its control listener and who is to learn how it began.
pub(crate) type Serve = Box<dyn FnOnce(Option<Fd>, Reporter) -> Result<(), Error>>;

/// Tells the parent how the pool began, and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(Rc<UnixStream>);

impl Reporter {
    fn new(stream: UnixStream) -> Self {
        Self(Rc::new(stream))
    }

    /// What it holds open.
    pub(crate) fn descriptors(&self) -> Vec<i32> {
        vec![self.0.as_raw_fd()]
    }

    /// It serves, there.
    pub(crate) fn started(&self, started: &Started) {
        let addresses = started.addresses.iter().map(Address::to_string);
        self.say([OK.to_owned()].into_iter().chain(addresses));
    }

    fn ended(&self, result: &Result<(), Error>) {
        match result {
            Ok(()) => self.say([DONE.to_owned()]),
            Err(error) => self.say([error.code().to_owned(), error.what().replace('\0', " ")]),
        }
    }

    fn say(&self, parts: impl IntoIterator<Item = String>) {
        let mut word = parts.into_iter().collect::<Vec<_>>().join("\0").into_bytes();
        word.extend_from_slice(END);
        // A parent that is gone needs no report.
        let _ = (&*self.0).write_all(&word);
    }
}

/// Forks the master, and waits until it listens or says why it can't. `control`: a listener's path
/// that the configuration names; without it an abstract one is made.
pub(crate) fn spawn(control: Option<String>, serve: Serve) -> Result<Handle, Error> {
    let failed = |failed: crate::sys::errno::Failed| failed.error("spawn");
    let (ours, theirs) = UnixStream::pair()
        .map_err(|error| Error::new(ErrorKind::System, format!("spawn: {error}")))?;
    let (lent, control) = match control {
        Some(control) => (None, control),
        None => {
            let name = format!("ringfort-{}-{}", process::id(), clock::monotonic().as_nanos());
            let fd = boot::abstract_listener(&name).map_err(failed)?;
            (Some(fd), format!("@{name}"))
        }
    };
    let lent_raw = lent.as_ref().map(Fd::raw);
    let (ours_raw, theirs_raw) = (ours.as_raw_fd(), theirs.as_raw_fd());
    let forked = process::spawn(move || {
        socket::close(Fd::new(ours_raw));
        let reporter = Reporter::new(UnixStream::from(owned::own(Fd::new(theirs_raw))));
        let result = serve(lent_raw.map(Fd::new), reporter.clone());
        reporter.ended(&result);
        i32::from(result.is_err())
    });
    drop(theirs);
    if let Some(fd) = lent {
        socket::close(fd);
    }
    let mut words = Words { stream: ours, heard: Vec::new(), ended: None };
    let first = words.next();
    let parts = first.as_deref().map(split).unwrap_or_default();
    // One that ended before it could be watched, while SIGCHLD is ignored, has said why.
    let forked = forked.map_err(|error| told(&parts).unwrap_or_else(|| error.error()))?;
    let child = Child { pid: forked.pid, pidfd: forked.pidfd, words: Mutex::new(words) };
    let [OK, addresses @ ..] = parts.as_slice() else {
        let exit = child.exit();
        let unsaid = || Error::new(ErrorKind::System, how(exit));
        return Err(told(&parts).unwrap_or_else(unsaid).with("exit", exit));
    };
    let started = addresses.iter().filter_map(|text| crate::config::parse_address(text)).collect();
    Ok(Handle { control, started, child: Some(child) })
}
