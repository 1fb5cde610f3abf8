//! A server of ours, forked to be measured: in a process group of its own, on CPUs of its own.

use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::http::{Request, Response};
use crate::io::{Fd, Signal};
use crate::pool::Pool;
use crate::sys::{clock, cpu, process, socket};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A running server that answers every request with `Hello, World!`. Ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    pid: u32,
    pidfd: Option<Fd>,
    address: String,
}

/// How long it may take to drain.
const DRAIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

impl Server {
    /// Forks it; returns when it listens. `cpus`: where it may run; empty: anywhere. Call it before
    /// any thread is started: only a process with one thread may fork.
    ///
    /// # Errors
    ///
    /// More than one thread; whatever keeps the pool from starting.
    pub fn start(config: Config, cpus: &[u32]) -> Result<Self, Error> {
        Self::start_with(config, cpus, |_, response| response.text("Hello, World!"))
    }

    /// The same, with a handler of one's own.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn start_with(
        config: Config,
        cpus: &[u32],
        handler: impl FnMut(&Request<'_>, &mut Response) + 'static,
    ) -> Result<Self, Error> {
        let pair = UnixStream::pair();
        let (ours, theirs) = pair.map_err(|error| failed(format!("socketpair: {error}")))?;
        let parent = process::id();
        let forked = process::spawn(|| {
            // The handler must not run in the parent, and is called once here.
            match serve(config, cpus, parent, &theirs, handler) {
                Ok(()) => 0,
                Err(error) => {
                    // A parent that does not listen any more is gone.
                    let _ = writeln!(&theirs, "!{error}");
                    1
                }
            }
        })
        .map_err(process::SpawnError::error)?;
        drop(theirs);
        let (pid, pidfd) = (forked.pid, Some(forked.pidfd));
        let mut server = Self { pid, pidfd, address: String::new() };
        let mut line = String::new();
        // An error is an empty line too: the server is gone.
        let _ = BufReader::new(ours).read_line(&mut line);
        match line.trim_end() {
            "" => Err(failed("the server ended before it listened")),
            line => match line.strip_prefix('!') {
                Some(why) => Err(failed(format!("the server did not start: {why}"))),
                None => {
                    line.clone_into(&mut server.address);
                    Ok(server)
                }
            },
        }
    }

    /// Where it listens, for [`super::Plan::new`].
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Its master's; the workers are below it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it drain, and ends it if that takes more than 5 s.
    fn stop(&mut self) {
        let Some(pidfd) = self.pidfd.take() else { return };
        // Who cannot be signalled has ended.
        let _ = process::signal(&pidfd, Signal::Term);
        let mut deadline = clock::monotonic().after(DRAIN);
        while process::reap(&pidfd).is_none() {
            if clock::monotonic() > deadline {
                let _ = process::signal(&pidfd, Signal::Kill);
                deadline = clock::monotonic().after(DRAIN);
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
        socket::close(pidfd);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn failed(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::System, what)
}

fn serve(
    config: Config,
    cpus: &[u32],
    parent: u32,
    tell: &UnixStream,
    handler: impl FnMut(&Request<'_>, &mut Response) + 'static,
) -> Result<(), Error> {
    process::own_group();
    process::die_with(parent, Signal::Term).map_err(|failed| failed.error("follow the parent"))?;
    if !cpus.is_empty() {
        cpu::pin(cpus).map_err(|failed| failed.error(format!("run on CPUs {cpus:?}")))?;
    }
    let mut tell = Some(tell.try_clone().map_err(|error| failed(format!("descriptors: {error}")))?);
    Pool::with_config(config)
        .on_started(move |started| {
            if let (Some(mut tell), Some(address)) = (tell.take(), started.addresses.first()) {
                // A parent that does not listen any more is gone.
                let _ = writeln!(tell, "{address}");
            }
        })
        .serve(handler)
}
