//! A pool that runs in a process of its own: ask it, command it, wait for it.

use crate::admin::client::{Reply, ask};
use crate::admin::{ProcessInfo, line};
use crate::boot;
use crate::error::{Error, ErrorKind};
use crate::io::{Address, Exit, Fd};
use crate::pool::Started;
use crate::sys::{clock, owned, process, socket};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Mutex;
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
    ended: Mutex<Option<Exit>>,
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

    /// Who picks a worker for what the master accepts: the name of one of
    /// [`balancer`](crate::balancer), or what an application's own calls itself.
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
    /// `Unclean`: it did not end as it should.
    pub fn wait(&self) -> Result<(), Error> {
        let Some(child) = &self.child else { return Ok(()) };
        let exit = child.wait();
        if exit == Exit::Code(0) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unclean, format!("the master ended with {exit}")))
    }
}

impl Child {
    fn poll(&self) -> Option<Exit> {
        let mut ended = self.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if ended.is_none() {
            *ended = process::reap(&self.pidfd);
        }
        *ended
    }

    fn wait(&self) -> Exit {
        loop {
            if let Some(exit) = self.poll() {
                return exit;
            }
            process::await_readable(&self.pidfd);
        }
    }
}

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

/// Tells the parent, once, how the pool began.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(Rc<RefCell<Option<UnixStream>>>);

impl Reporter {
    fn new(stream: UnixStream) -> Self {
        Self(Rc::new(RefCell::new(Some(stream))))
    }

    /// What it holds open.
    pub(crate) fn descriptors(&self) -> Vec<i32> {
        self.0.borrow().iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// It serves, there.
    pub(crate) fn started(&self, started: &Started) {
        let addresses: Vec<String> = started.addresses.iter().map(Address::to_string).collect();
        self.say(&format!("ok\n{}", addresses.join("\n")));
    }

    fn failed(&self, error: &Error) {
        self.say(&format!("{}\n{}", error.code(), error.what()));
    }

    fn say(&self, text: &str) {
        if let Some(mut stream) = self.0.borrow_mut().take() {
            // A parent that is gone needs no report.
            let _ = stream.write_all(text.as_bytes());
        }
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
        match serve(lent_raw.map(Fd::new), reporter.clone()) {
            Ok(()) => 0,
            Err(error) => {
                reporter.failed(&error);
                1
            }
        }
    });
    drop(theirs);
    if let Some(fd) = lent {
        socket::close(fd);
    }
    let forked = forked.map_err(|error| error.error())?;
    let child = Child { pid: forked.pid, pidfd: forked.pidfd, ended: Mutex::new(None) };
    let started = begun(ours, &child)?;
    Ok(Handle { control, started, child: Some(child) })
}

/// What the master says of its beginning.
fn begun(mut ours: UnixStream, child: &Child) -> Result<Vec<Address>, Error> {
    let mut said = [0; 4096];
    let mut length = 0;
    // One message; what follows it is the last word of a master that fails later.
    while length == 0 {
        match ours.read(&mut said[length..]) {
            Ok(0) | Err(_) => break,
            Ok(count) => length += count,
        }
    }
    let text = String::from_utf8_lossy(&said[..length]).into_owned();
    let (word, rest) = text.split_once('\n').unwrap_or((&text, ""));
    if word == "ok" {
        return Ok(rest.lines().filter_map(crate::config::parse_address).collect());
    }
    let exit = child.wait();
    let kind = ErrorKind::from_code(word).unwrap_or(ErrorKind::System);
    let context =
        if rest.is_empty() { format!("the master ended with {exit}") } else { rest.into() };
    Err(Error::new(kind, context))
}
