//! A server of ours, forked to be measured: in a process group of its own, on CPUs of its own.

use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::http::{Request, Response};
use crate::io::{Fd, Signal};
use crate::load::Go;
use crate::pool::Pool;
use crate::sys::{clock, cpu, process, signal, socket};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A running server: one of ours, or any program. Ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    pid: u32,
    pidfd: Option<Fd>,
    address: String,
    /// It is any program: its whole group is killed.
    foreign: bool,
}

/// How long it may take to drain.
const DRAIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How long a program may take until it listens.
const BOOT: Duration = Duration::from_secs(10);

impl Server {
    /// Forks one of ours, which answers all with `Hello, World!`; returns when it listens. `cpus`:
    /// where it may run; empty: anywhere. Call it before any thread is started: only a process with
    /// one thread may fork.
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
        // The handler must not run in the parent, and is called once there.
        let (mut server, line) = Self::fork(cpus, |tell| serve(config, tell, handler))?;
        if line.is_empty() {
            return Err(failed("the server ended before it listened"));
        }
        server.address = line;
        Ok(server)
    }

    /// Starts any program as a server; returns when something listens on this port of 127.0.0.1, a
    /// free one if it is 0. Each `{port}` among the words becomes its number. What it prints is
    /// dropped. In the end it is killed, with all that is in its group. `watch` is asked while it
    /// boots, some hundred times a second.
    ///
    /// # Errors
    ///
    /// More than one thread; no such program; it ends, or does not listen within 10 s, or `watch`
    /// says [`Go::Stop`] before: nothing of its group is left then.
    pub fn command(
        words: &[String],
        port: u16,
        cpus: &[u32],
        watch: &mut dyn FnMut() -> Go,
    ) -> Result<Self, Error> {
        let port = free_port(port).map_err(|error| failed(format!("a free port: {error}")))?;
        let mut words = words.iter().map(|word| word.replace("{port}", &port.to_string()));
        let program = words.next().ok_or_else(|| failed("no command"))?;
        let mut command = Command::new(&program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let run = |_: &UnixStream| {
            signal::unblock_all().map_err(|failed| failed.error("unblock signals"))?;
            Err(failed(format!("{program}: {}", command.exec())))
        };
        let (mut server, _) = Self::fork(cpus, run)?;
        server.foreign = true;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        server.address = address.to_string();
        server.await_listening(address, watch)?;
        Ok(server)
    }

    /// Forks; answers what the child told, until it said a line or closed its end.
    fn fork(
        cpus: &[u32],
        run: impl FnOnce(&UnixStream) -> Result<(), Error>,
    ) -> Result<(Self, String), Error> {
        let pair = UnixStream::pair();
        let (ours, theirs) = pair.map_err(|error| failed(format!("socketpair: {error}")))?;
        let parent = process::id();
        await_last_thread();
        let forked = process::spawn(|| match child(cpus, parent).and_then(|()| run(&theirs)) {
            Ok(()) => 0,
            Err(error) => {
                // A parent that does not listen any more is gone.
                let _ = writeln!(&theirs, "!{error}");
                1
            }
        })
        .map_err(process::SpawnError::error)?;
        drop(theirs);
        let (pid, pidfd) = (forked.pid, Some(forked.pidfd));
        let server = Self { pid, pidfd, address: String::new(), foreign: false };
        let mut line = String::new();
        // An error is an empty line too: the server is gone.
        let _ = BufReader::new(ours).read_line(&mut line);
        match line.trim_end().strip_prefix('!') {
            Some(why) => Err(failed(format!("the server did not start: {why}"))),
            None => Ok((server, line.trim_end().to_owned())),
        }
    }

    fn await_listening(
        &mut self,
        address: SocketAddr,
        watch: &mut dyn FnMut() -> Go,
    ) -> Result<(), Error> {
        let deadline = clock::monotonic().after(BOOT);
        loop {
            // A port nobody listens on can connect to itself.
            let connected = TcpStream::connect(address);
            if connected.is_ok_and(|stream| stream.local_addr().is_ok_and(|own| own != address)) {
                return Ok(());
            }
            if let Some(exit) = self.pidfd.as_ref().and_then(process::reap) {
                self.pidfd.take().into_iter().for_each(socket::close);
                // What it started may go on without it.
                process::kill_group(self.pid);
                return Err(failed(format!("the server ended before it listened: {exit:?}")));
            }
            if clock::monotonic() > deadline {
                return Err(failed(format!("the server did not listen on {address} in {BOOT:?}")));
            }
            if watch() == Go::Stop {
                return Err(failed("it was stopped before it listened"));
            }
            std::thread::park_timeout(LOOK_AGAIN);
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
        if self.foreign {
            process::kill_group(self.pid);
        }
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

/// A thread that was joined is still listed for a moment, and would forbid the fork. Threads that
/// stay are what the fork's error is for.
fn await_last_thread() {
    let deadline = clock::monotonic().after(Duration::from_millis(500));
    while process::threads().is_ok_and(|count| count > 1) && clock::monotonic() < deadline {
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

fn free_port(wanted: u16) -> io::Result<u16> {
    match wanted {
        0 => Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port()),
        port => Ok(port),
    }
}

fn child(cpus: &[u32], parent: u32) -> Result<(), Error> {
    process::own_group();
    process::die_with(parent, Signal::Term).map_err(|failed| failed.error("follow the parent"))?;
    if !cpus.is_empty() {
        cpu::pin(cpus).map_err(|failed| failed.error(format!("run on CPUs {cpus:?}")))?;
    }
    Ok(())
}

fn serve(
    config: Config,
    tell: &UnixStream,
    handler: impl FnMut(&Request<'_>, &mut Response) + 'static,
) -> Result<(), Error> {
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
