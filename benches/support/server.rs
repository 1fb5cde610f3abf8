//! A server under measurement: a process group of our own, always killed and reaped.
#![expect(unsafe_code, reason = "a hook between fork and exec")]
#![expect(clippy::disallowed_methods, reason = "waits for a child to listen")]

use super::sys;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How a server is to serve; travels to self-started servers as words on their command line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) port: u16,
    /// The master accepts and passes on.
    pub(crate) centralized: bool,
    /// One request a connection. Only the floor must be told.
    pub(crate) close: bool,
    /// TCP_DEFER_ACCEPT.
    pub(crate) defer: bool,
}

impl Setup {
    /// This very program again, as the server of that name.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("/proc is mounted"));
        command.args(["serve", name, &self.port.to_string()]);
        let words =
            [("centralized", self.centralized), ("close", self.close), ("defer", self.defer)];
        command.args(words.iter().filter(|word| word.1).map(|word| word.0));
        command
    }

    /// What `command` wrote: the server's name and its setup.
    pub(crate) fn from_args() -> Option<(String, Self)> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let [serve, name, port, words @ ..] = args.as_slice() else { return None };
        let has = |word: &str| words.iter().any(|given| given == word);
        let (centralized, close, defer) = (has("centralized"), has("close"), has("defer"));
        let port = port.parse().ok()?;
        (serve == "serve").then(|| (name.clone(), Self { port, centralized, close, defer }))
    }
}

/// A server to measure: its name, and how to start it. `None`: it cannot serve that way.
#[derive(Clone, Copy)]
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) command: fn(&Setup) -> Option<Command>,
    /// Not ours: its answer need not be as long as ours.
    pub(crate) foreign: bool,
    pub(crate) workers: u32,
}

pub(crate) const FLOOR: Contender = Contender {
    name: "floor",
    command: |setup| Some(setup.command("floor")),
    foreign: false,
    workers: 1,
};

/// The engine: master and worker.
pub(crate) const ENGINE: Contender = Contender {
    name: "ringfort",
    command: |setup| Some(setup.command("engine")),
    foreign: false,
    workers: 1,
};

/// The engine with two workers that say who they are.
pub(crate) const ENGINE_PIDS: Contender = Contender {
    name: "ringfort",
    command: |setup| Some(setup.command("engine-pids")),
    foreign: false,
    workers: 2,
};

/// The engine's worker alone. It has no master, so it cannot serve centralized.
pub(crate) const WORKER: Contender = Contender {
    name: "worker",
    command: |setup| (!setup.centralized).then(|| setup.command("worker")),
    foreign: false,
    workers: 1,
};

/// The same with HTTP.
pub(crate) const WORKER_HTTP: Contender = Contender {
    name: "worker, http",
    command: |setup| (!setup.centralized).then(|| setup.command("worker-http")),
    foreign: false,
    workers: 1,
};

/// nginx with one worker, no log, no limit on requests.
pub(crate) const NGINX: Contender = Contender {
    name: "nginx",
    command: |setup| nginx(setup, 1, "Hello, World!"),
    foreign: true,
    workers: 1,
};

/// nginx with two workers that say who they are.
pub(crate) const NGINX_PIDS: Contender = Contender {
    name: "nginx",
    command: |setup| nginx(setup, 2, "worker $pid"),
    foreign: true,
    workers: 2,
};

/// Any server by its command line, from the environment: `SERVER='./my-server 127.0.0.1:{port}'`.
pub(crate) const OTHER: Contender =
    Contender { name: "$SERVER", command: other, foreign: true, workers: 1 };

fn nginx(setup: &Setup, workers: u32, body: &str) -> Option<Command> {
    let program = ["/usr/sbin/nginx", "/usr/bin/nginx"]
        .into_iter()
        .find(|p| fs::exists(p).is_ok_and(|is| is))?;
    if setup.centralized {
        return None;
    }
    let scratch = scratch();
    let path = scratch.display();
    // Else root's nginx would serve as nobody, who may not enter the scratch folder.
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let user = if root { "user root;" } else { "" };
    let config = format!(
        "{user} daemon off; worker_processes {workers}; pid {path}/pid; error_log /dev/null;
        events {{ worker_connections 16384; }}
        http {{
            access_log off; keepalive_requests 1000000000; keepalive_timeout 600;
            client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
            fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi;
            scgi_temp_path {path}/scgi;
            server {{
                listen 127.0.0.1:{} backlog=4096{};
                location / {{ default_type text/plain; return 200 \"{body}\"; }}
            }}
        }}",
        setup.port,
        if setup.defer { " deferred" } else { "" },
    );
    fs::create_dir_all(&scratch).and_then(|()| fs::write(scratch.join("conf"), config)).ok()?;
    let mut command = Command::new(program);
    command.arg("-p").arg(&scratch).arg("-c").arg("conf").arg("-e").arg("/dev/null");
    Some(command)
}

/// Files of the running server; removed with it.
fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("ringfort-bench-{}", std::process::id()))
}

fn other(setup: &Setup) -> Option<Command> {
    let line = std::env::var("SERVER").ok()?.replace("{port}", &setup.port.to_string());
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next()?);
    command.args(words);
    (!setup.centralized && !setup.defer).then_some(command)
}

/// Seconds that a server may live; then the bench, and with it the server, is ended by SIGALRM.
const LIFE_MAX: u32 = 900;

pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    /// Starts a server on a CPU and waits until it listens. `None`: it cannot serve that way.
    pub(crate) fn start(
        contender: Contender,
        mut setup: Setup,
        cpus: &[usize],
    ) -> Result<Option<Self>, String> {
        // Whatever happens to it, nothing here runs unbounded.
        sys::alarm(LIFE_MAX);
        setup.port = free_port().map_err(|error| error.to_string())?;
        let Some(mut command) = (contender.command)(&setup) else { return Ok(None) };
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        let cpus = cpus.to_vec();
        let hook = move || sys::pin(&cpus).and_then(|()| sys::die_with_parent());
        // SAFETY: the hook makes two system calls and allocates nothing.
        unsafe { command.pre_exec(hook) };
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let mut server = Self { child, port: setup.port };
        server.listens()?;
        Ok(Some(server))
    }

    fn listens(&mut self) -> Result<(), String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        for _ in 0..5000 {
            // A port nobody listens on can connect to itself.
            let connected = TcpStream::connect(address);
            if connected.is_ok_and(|stream| stream.local_addr().is_ok_and(|own| own != address)) {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended: {status}"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err("the server did not listen within 5 s".to_owned())
    }

    /// The process that was started: of a pool, its master.
    pub(crate) fn master(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// All its processes.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let group = self.master();
        let all = fs::read_dir("/proc").expect("/proc is mounted");
        let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| group_of(*pid) == Some(group)).collect()
    }

    /// Memory of all processes, in bytes: their share of what they have mapped (PSS).
    pub(crate) fn memory(&self) -> u64 {
        self.processes().into_iter().map(|pid| pss(pid).unwrap_or(0)).sum()
    }

    /// CPU time of the master, and of all processes together.
    pub(crate) fn cpu_time(&self) -> (Duration, Duration) {
        let of = |pid: &i32| sys::cpu_time(*pid).unwrap_or_default();
        let processes = self.processes(); // a slow walk, so before the clocks are read
        (of(&self.master()), processes.iter().map(of).sum())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        sys::kill_group(self.master());
        sys::alarm(0);
        let _absent = fs::remove_dir_all(scratch());
    }
}

fn group_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): the name in parentheses may contain anything; then state, parent, group.
    stat.rsplit_once(") ")?.1.split(' ').nth(2)?.parse().ok()
}

fn pss(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
