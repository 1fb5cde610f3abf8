//! A running server and a client that says exactly the bytes a test wants. Everything is bounded by
//! [`PATIENCE`]; the server is stopped, by its pid, when the value goes.

use ringfort::sys::clock;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long anything may take before a test fails. Not a delay: nothing waits this long when all is
/// well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A `ringfort serve` on a free port of loopback.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Stdout, after the banner; it ends when the last of the server's processes has.
    stdout: BufReader<UnixStream>,
    stderr: BufReader<UnixStream>,
    /// What it said of itself.
    pub(crate) banner: String,
    /// Where it listens first.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts it and reads its banner. `options`: flags by blanks.
    pub(crate) fn start(options: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringfort"));
        command.args(["serve", "--addr", "127.0.0.1:0"]).args(options.split_whitespace());
        Self::spawn(command.env_clear())
    }

    /// Starts a command whose banner has a line `url http://…`.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let (stderr, err) = pair();
        Self::spawn_on(command, stderr, err.into())
    }

    /// As [`Server::spawn`], with its log going somewhere of the test's own.
    pub(crate) fn spawn_with_log(mut command: Command, log: impl Into<Stdio>) -> Self {
        let (stderr, _) = pair();
        Self::spawn_on(&mut command, stderr, log.into())
    }

    fn spawn_on(command: &mut Command, stderr: UnixStream, err: Stdio) -> Self {
        let (stdout, out) = pair();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        // The command holds the other ends until it is given new ones.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (stdout, banner) = (BufReader::new(stdout), String::new());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let stderr = BufReader::new(stderr);
        let mut server = Self { child, stdout, stderr, banner, address };
        while !server.banner.ends_with("\n\n") {
            if server.stdout.read_line(&mut server.banner).unwrap() == 0 {
                panic!("no banner: {}{}", server.banner, text(&mut server.stderr));
            }
        }
        let url = server.banner.split("http://").nth(1).unwrap();
        server.address = url.split('/').next().unwrap().parse().unwrap();
        server
    }

    /// The master's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes of the workers that run now.
    pub(crate) fn worker_pids(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let pids = std::fs::read_to_string(path).unwrap();
        pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Waits until so many workers run.
    pub(crate) fn await_workers(&self, count: usize) -> Vec<u32> {
        let began = Stopwatch::start();
        loop {
            let pids = self.worker_pids();
            if pids.len() == count {
                return pids;
            }
            assert!(began.elapsed() < PATIENCE, "{pids:?}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Sends a signal to the master or one of its workers.
    pub(crate) fn signal(&self, signal: &str, pid: u32) {
        assert!(pid == self.pid() || self.worker_pids().contains(&pid), "{pid} is not ours");
        let sent = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Opens a connection.
    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).unwrap();
        stream.set_nodelay(true).unwrap();
        Client::new(stream)
    }

    /// One request on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.connect().get(path)
    }

    /// Waits for all of its processes to end: exit code, and what it logged.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        self.stdout.read_to_string(&mut String::new()).expect("ends in time");
        let log = text(&mut self.stderr);
        (self.child.wait().unwrap().code(), log)
    }

    /// Asks it to stop and waits for it: exit code, and what it logged.
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        self.signal("-TERM", self.pid());
        self.ended()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A dead master ends its workers.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pair() -> (UnixStream, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    (ours, theirs.into())
}

fn text(stream: &mut impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("ends in time");
    text
}

/// For a server that cannot say when it listens.
pub(crate) fn connect_when_it_listens(address: SocketAddr) -> Client {
    let began = Stopwatch::start();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return Client::new(stream),
            Err(error) => assert!(began.elapsed() < PATIENCE, "{address}: {error}"),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    /// Over a connected stream socket of any family.
    pub(crate) fn new(stream: impl Into<OwnedFd>) -> Self {
        // Only calls that every stream socket knows are made on it.
        let stream = TcpStream::from(stream.into());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends these bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends these bytes; an error if the server is gone, or reads no more.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref())
    }

    /// One request and its answer.
    pub(crate) fn get(&mut self, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        self.reply()
    }

    /// The next answer, with a body by Content-Length.
    pub(crate) fn reply(&mut self) -> Reply {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.0.read_line(&mut head).unwrap();
            assert!(read > 0, "closed in the middle of a head: {head:?}");
        }
        let length = header(&head, "content-length").map_or(0, |value| value.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head, body: String::from_utf8_lossy(&body).into_owned() }
    }

    /// All bytes until the server closes; a reset ends them too.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                panic!("not closed: {error}");
            }
            Ok(_) | Err(_) => rest,
        }
    }

    /// Whether nothing arrives for so long: neither a byte nor an end.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.0.get_mut().set_read_timeout(Some(time)).unwrap();
        let silent = self.0.fill_buf().is_err();
        self.0.get_mut().set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: u16,
    /// Status line and fields.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: String,
}

impl Reply {
    /// The value of a field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Real time, on the real kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(ringfort::io::Instant);

impl Stopwatch {
    /// From now on.
    pub(crate) fn start() -> Self {
        Self(clock::monotonic())
    }

    /// Since the start.
    pub(crate) fn elapsed(self) -> Duration {
        clock::monotonic().since(self.0)
    }
}
