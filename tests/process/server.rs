//! A server of a process of its own: its addresses, workers, log and end.

use crate::client::{Client, PATIENCE};
use crate::own;
use crate::raw;
use ringfort::io::Instant;
use ringfort::sys::clock;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// A running server. It is killed, by its pid, when the value goes; a dead master ends its workers.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    ended: Option<ExitStatus>,
    addresses: Vec<String>,
}

impl Server {
    /// `ringfort serve` on a free port of loopback. `options`: flags by blanks.
    pub(crate) fn start(options: &str) -> Self {
        Self::launch(&mut command(&format!("--addr 127.0.0.1:0 {options}")))
    }

    /// The same with this program's own application, whose handlers can be bad (`app`).
    pub(crate) fn bad(options: &str) -> Self {
        Self::launch(&mut bad_command(&format!("--addr 127.0.0.1:0 {options}")))
    }

    /// Starts it and reads where it listens.
    pub(crate) fn launch(command: &mut Command) -> Self {
        let mut server = Self::begin(command);
        let banner = eventually("a banner", PATIENCE, || {
            let banner = server.output();
            let ended = server.has_ended();
            assert!(ended.is_none(), "no banner: {banner}{}", server.log());
            banner.contains("\n\n").then_some(banner)
        });
        // The command and applications say `url` first, examples only the address.
        let is_first = |line: &str| line.starts_with("url ") || line.starts_with("http://");
        let urls = banner
            .lines()
            .skip_while(|line| !is_first(line))
            .take_while(|line| is_first(line) || line.starts_with(' '));
        let address = |line: &str| line.trim_start_matches("url").trim().to_owned();
        server.addresses = urls.map(address).collect();
        server
    }

    /// Starts it, whatever becomes of it.
    pub(crate) fn begin(command: &mut Command) -> Self {
        let folder = folder();
        let file = |name| Stdio::from(File::create(folder.join(name)).expect("a file"));
        let command = command.stdin(Stdio::null()).stdout(file("out")).stderr(file("log"));
        // Workers of a dead master are ours to reap: the harness wants none left.
        own::adopt_orphans();
        let child = command.spawn().expect("the program is built");
        Self { child, folder, ended: None, addresses: Vec::new() }
    }

    /// The master's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes of its workers, in the order of their birth.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let pids = fs::read_to_string(path).unwrap_or_default();
        pids.split_whitespace().map(|pid| pid.parse().expect("a number")).collect()
    }

    /// Waits until so many workers have said READY since the start.
    pub(crate) fn await_ready(&self, count: usize) {
        eventually("workers that are ready", PATIENCE, || {
            (self.log().matches("worker ready").count() >= count).then_some(())
        });
    }

    /// Where it listens, as its banner has it: `http://127.0.0.1:1234/`, `unix:/path`.
    pub(crate) fn urls(&self) -> &[String] {
        &self.addresses
    }

    /// Its first TCP address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses.iter().find_map(|url| socket_of(url)).expect("it listens on TCP")
    }

    /// A connection to its first address.
    pub(crate) fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address()).expect("it listens"))
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).expect("its file is there")
    }

    /// Everything it has printed so far.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.folder.join("out")).expect("its file is there")
    }

    /// Waits for a line of its log that holds this text.
    pub(crate) fn await_log(&self, text: &str) -> String {
        eventually(text, PATIENCE, || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    fn has_ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("it is our child");
        }
        self.ended
    }

    /// Waits for the master's end: its exit code.
    pub(crate) fn exit_code(&mut self, within: Duration) -> Option<i32> {
        let ended = eventually("the end of the server", within, || self.has_ended());
        ended.code()
    }

    /// Asks it to stop, and waits for its end: exit code and log.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        raw::signal(self.pid(), libc::SIGTERM);
        let code = self.exit_code(PATIENCE);
        (code, self.log())
    }

    /// What it said of all its connections at its end.
    pub(crate) fn books(&self) -> Books {
        Books(self.await_log("drained: "))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("the server said:\n{}{}", self.output(), self.log());
        }
        let workers = self.workers();
        // A stopped process obeys SIGKILL too.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !thread::panicking() {
            gone(&workers, PATIENCE);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The line `drained: accepted=1 served=1 …`.
#[derive(Debug)]
pub(crate) struct Books(String);

impl Books {
    /// A number of the line; 0 if it is left out, as those are that count nothing.
    pub(crate) fn get(&self, name: &str) -> u64 {
        let value = self.0.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.map_or(0, |value| value.parse().expect("a number"))
    }

    /// accepted = served + refused + cut + open.
    #[track_caller]
    pub(crate) fn check(&self) {
        let sum: u64 = ["served", "refused", "cut", "open"].map(|name| self.get(name)).iter().sum();
        assert_eq!(self.get("accepted"), sum, "{}", self.0);
    }
}

/// `ringfort serve` with these options, and nothing of our environment.
pub(crate) fn command(options: &str) -> Command {
    let mut command = Command::new(SERVER);
    command.arg("serve").args(options.split_whitespace()).env_clear();
    command
}

/// A command line with a limit of descriptors, hard and soft.
pub(crate) fn limited(descriptors: u32, line: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("ulimit -n {descriptors}; exec {line}")]).env_clear();
    command
}

/// This program's own application.
pub(crate) fn bad_command(options: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our path"));
    command.arg(crate::app::FLAG).args(options.split_whitespace()).env_clear();
    command
}

/// The socket address of `http://127.0.0.1:1234/`.
pub(crate) fn socket_of(url: &str) -> Option<SocketAddr> {
    url.strip_prefix("http://")?.split('/').next()?.parse().ok()
}

/// A connection to a Unix path.
pub(crate) fn connect_unix(path: &Path) -> Client {
    Client::new(UnixStream::connect(path).expect("it listens"))
}

/// Waits until these workers have ended and are reaped: by their master, or by us if it is gone.
pub(crate) fn gone(pids: &[u32], within: Duration) {
    eventually("the end of the workers", within, || {
        pids.iter().for_each(|pid| raw::reap(*pid));
        let exists = |pid: &u32| Path::new(&format!("/proc/{pid}")).exists();
        (!pids.iter().any(exists)).then_some(())
    });
}

/// The state of a process: `R`, `S`, `T` …; `None` when it has ended, reaped or not.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.rsplit(')').next()?.trim_start().chars().next()?;
    (!matches!(state, 'Z' | 'X')).then_some(state)
}

/// Stops a process, and waits until it has stopped.
pub(crate) fn pause(pid: u32) {
    raw::signal(pid, libc::SIGSTOP);
    eventually("a stop", PATIENCE, || (state(pid) == Some('T')).then_some(()));
}

/// Waits until the port can be listened on by somebody else.
pub(crate) fn port_is_free(address: SocketAddr, within: Duration) {
    eventually("a free port", within, || TcpListener::bind(address).ok());
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let began = Stopwatch::start();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Real time, on the real kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(clock::monotonic())
    }

    pub(crate) fn elapsed(self) -> Duration {
        clock::monotonic().since(self.0)
    }
}

/// A folder of this process's own.
pub(crate) fn folder() -> PathBuf {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join(std::process::id().to_string());
    let free = (0..1000).map(|number| own.join(number.to_string())).find(|path| !path.exists());
    let free = free.expect("a case has a few servers");
    fs::create_dir_all(&free).expect("cargo made its parent");
    free
}

/// The command under test.
pub(crate) const SERVER: &str = env!("CARGO_BIN_EXE_ringfort");
