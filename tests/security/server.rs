//! The server under test: a forked pool, its events, its counters, its end.

use crate::app::{self, App};
use crate::client::Client;
use crate::raw;
use ringfort::io::{Address, Exit, Fd, Instant, Signal};
use ringfort::ipc::board::Board;
use ringfort::stats::{CloseReason, Counter};
use ringfort::sys::process::{self, Forked};
use ringfort::sys::{clock, shm, socket};
use ringfort::{Config, Pool};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How long anything may take that is to happen soon.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What a pool is started with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan<'a> {
    /// Options by name, as [`Config::set`] takes them.
    pub settings: &'a [(&'a str, &'a str)],
    /// So many factories of slot 0 hang, one after the other.
    pub hangs: u32,
    /// RLIMIT_NOFILE of the pool.
    pub descriptors: Option<u64>,
}

/// A pool that runs.
pub(crate) struct Server {
    pub port: u16,
    master: Forked,
    events: UnixStream,
    /// All that the master said so far, one event a line.
    log: String,
    /// How much of it was asked for by [`Server::event`].
    seen: usize,
    board: Board,
    ended: bool,
}

/// Options that every test starts from: one worker, and no patience.
const BASE: [(&str, &str); 2] = [("workers", "1"), ("drain_timeout", "2s")];

static MODE: OnceLock<(&str, &str)> = OnceLock::new();

/// This case runs in centralized mode; the default is shared.
pub(crate) fn centralized() {
    MODE.set(("mode", "centralized")).expect("one case a process");
}

impl Server {
    /// Starts a pool with these options; on return its workers are ready.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        Self::with(Plan { settings, ..Plan::default() })
    }

    pub(crate) fn with(plan: Plan<'_>) -> Self {
        let mut config = Config::default();
        for (name, value) in BASE.iter().chain(MODE.get()).chain(plan.settings) {
            config.set(name, value).expect("a valid option");
        }
        config.add_address("127.0.0.1:0").expect("an address");
        let workers = usize::try_from(config.workers()).expect("a small number");
        let (events, theirs) = UnixStream::pair().expect("a pair");
        events.set_read_timeout(Some(Duration::from_millis(1))).expect("a timeout");
        let master = process::spawn(|| serve(plan, config, &theirs)).expect("one thread");
        drop(theirs);
        let (log, seen) = (String::new(), 0);
        // Until it says where it listens and has its board, it is not to be used.
        let words = (0..Board::words(0)).map(|_| AtomicU64::new(0)).collect();
        let board = Board::create(Vec::leak(words), 0);
        let mut server = Self { port: 0, master, events, log, seen, board, ended: false };
        let listening = server.event("listening:");
        let port = listening.rsplit(':').next().and_then(|port| port.parse().ok());
        server.port = port.expect("a TCP address");
        if plan.hangs == 0 {
            (0..workers).for_each(|_| drop(server.event("worker ready")));
        }
        server.board = server.find_board();
        server
    }

    /// The shared page, seen through a descriptor of the master, once it is laid out.
    fn find_board(&self) -> Board {
        let mut found = None;
        self.eventually_quiet("a board", || {
            let descriptors = self.descriptors(self.master.pid);
            let link = descriptors.iter().find(|(_, link)| link.contains("ringfort-board"));
            found = link.and_then(|(path, _)| map_board(path));
            found.is_some()
        });
        found.expect("just found")
    }

    fn descriptors(&self, pid: u32) -> Vec<(String, String)> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let link = fs::read_link(entry.path()).ok()?;
                Some((entry.path().display().to_string(), link.display().to_string()))
            })
            .collect()
    }

    /// Waits for the next event whose line contains the text.
    #[track_caller]
    pub(crate) fn event(&mut self, text: &str) -> String {
        let end = clock::monotonic().after(SOON);
        loop {
            while let Some(length) = self.log[self.seen..].find('\n') {
                let line = self.log[self.seen..][..length].to_owned();
                self.seen += length + 1;
                if line.contains(text) {
                    return line;
                }
            }
            let is_open = self.listen();
            let is_late = clock::monotonic() > end;
            assert!(is_open && !is_late, "no {text:?} among the events:\n{}", self.log);
        }
    }

    /// Reads what the master has to say, for a millisecond at most; `false` at its end.
    fn listen(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.events.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.log.push_str(std::str::from_utf8(&bytes[..count]).expect("text"));
                true
            }
            Err(error) => {
                let kinds = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted];
                assert!(kinds.contains(&error.kind()), "{error}");
                true
            }
        }
    }

    /// Waits until it is so.
    #[track_caller]
    pub(crate) fn eventually(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let end = clock::monotonic().after(SOON);
        while !is_so(self) {
            self.listen();
            let late = clock::monotonic() > end;
            assert!(!late, "not {what} within {SOON:?}\n{}\n{}", self.counters(), self.log);
        }
    }

    /// The same, while nobody listens to the master.
    #[track_caller]
    fn eventually_quiet(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let end = clock::monotonic().after(SOON);
        while !is_so() {
            assert!(clock::monotonic() < end, "not {what} within {SOON:?}");
            std::thread::yield_now();
        }
    }

    /// A counter, over all workers.
    pub(crate) fn count(&self, counter: Counter) -> u64 {
        (0..self.board.lines()).map(|line| self.board.line(line).get(counter)).sum()
    }

    /// How many connections ended for this reason, over all workers.
    pub(crate) fn closed(&self, reason: CloseReason) -> u64 {
        (0..self.board.lines()).map(|line| self.board.line(line).closed_for(reason)).sum()
    }

    /// Connections that are open in workers.
    pub(crate) fn open(&self) -> u64 {
        (0..self.board.lines()).map(|line| self.board.line(line).open()).sum()
    }

    /// Waits until so many connections have ended for this reason, and no other way of closing
    /// was counted in their place.
    #[track_caller]
    pub(crate) fn expect_closed(&mut self, reason: CloseReason, count: u64) {
        let what = format!("{} = {count}", reason.name());
        self.eventually(&what, |server| server.closed(reason) >= count);
        assert_eq!(self.closed(reason), count, "{what}\n{}", self.counters());
    }

    /// All counters that are not zero.
    pub(crate) fn counters(&self) -> String {
        let counters = Counter::ALL.iter().map(|&counter| (counter.name(), self.count(counter)));
        let reasons = CloseReason::ALL.iter().map(|&reason| (reason.name(), self.closed(reason)));
        let shown = counters.chain(reasons).filter(|(_, count)| *count > 0);
        shown.map(|(name, count)| format!("{name}={count} ")).collect()
    }

    /// The processes of the workers, in order.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let master = self.master.pid;
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
        let children = children.expect("the master lives");
        let mut pids: Vec<u32> =
            children.split_whitespace().map(|pid| pid.parse().expect("a number")).collect();
        pids.sort_unstable();
        pids
    }

    /// What the pool holds: descriptors and resident bytes, of master and workers.
    pub(crate) fn holds(&self) -> (usize, u64) {
        let pids = self.workers().into_iter().chain([self.master.pid]);
        pids.fold((0, 0), |(fds, bytes), pid| {
            (fds + self.descriptors(pid).len(), bytes + resident(pid))
        })
    }

    /// What the pool holds at rest: what is made once has been made, and no connection is open.
    pub(crate) fn rest(&mut self) -> (usize, u64) {
        let (fds, _) = self.holds();
        (0..WARM_UP).for_each(|_| self.serves());
        self.eventually("quiet", |server| server.open() == 0 && server.holds().0 == fds);
        self.holds()
    }

    /// CPU time of the master so far, in ticks of a hundredth of a second (proc_pid_stat(5)).
    pub(crate) fn master_ticks(&self) -> u64 {
        let stat = self.master_stat();
        let fields: Vec<&str> = stat.split_whitespace().collect();
        fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum()
    }

    /// What proc_pid_stat(5) says after the name: the state first.
    fn master_stat(&self) -> String {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.master.pid));
        stat.expect("the master lives").rsplit(") ").next().expect("a state").to_owned()
    }

    /// Stops the master until [`Server::thaw`]: what arrives meanwhile waits in the kernel.
    pub(crate) fn freeze(&self) {
        process::signal_number(&self.master.pidfd, libc::SIGSTOP).expect("it lives");
        self.eventually_quiet("stopped", || self.master_stat().starts_with('T'));
    }

    pub(crate) fn thaw(&self) {
        process::signal_number(&self.master.pidfd, libc::SIGCONT).expect("it lives");
    }

    /// Asks for the drain.
    pub(crate) fn terminate(&self) {
        process::signal(&self.master.pidfd, Signal::Term).expect("it lives");
    }

    /// Drains the pool; the books of the master, which balance, and the code 0.
    #[track_caller]
    pub(crate) fn stop(self) -> Books {
        self.terminate();
        self.wait(0)
    }

    /// Waits for the end of a pool that drains already, with this code.
    #[track_caller]
    pub(crate) fn wait(mut self, code: i32) -> Books {
        let line = self.event("drained: ");
        let books = Books::read(&line);
        let mut exit = None;
        self.eventually("ended", |server| {
            exit = process::reap(&server.master.pidfd);
            exit.is_some()
        });
        self.ended = true;
        assert_eq!(exit, Some(Exit::Code(code)), "{}", self.log);
        books
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.ended {
            // The case has failed. Its workers drain by themselves when their master is gone.
            let _ = process::signal(&self.master.pidfd, Signal::Kill);
        }
    }
}

/// The last line of a pool, as numbers.
#[derive(Debug)]
pub(crate) struct Books(BTreeMap<String, u64>);

impl Books {
    #[track_caller]
    fn read(line: &str) -> Self {
        let pairs = line.split_whitespace().filter_map(|word| word.split_once('='));
        let pairs = pairs.map(|(name, count)| (name.to_owned(), count.parse().expect("a count")));
        let books = Self(pairs.collect());
        let ends = ["served", "refused", "cut", "open"].map(|name| books.get(name));
        assert_eq!(books.get("accepted"), ends.iter().sum::<u64>(), "{line}");
        assert_eq!(books.get("open"), 0, "{line}");
        books
    }

    /// 0 for what is not mentioned.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// The forked child: a pool, until it is told to drain.
fn serve(plan: Plan<'_>, config: Config, events: &UnixStream) -> i32 {
    if let Some(count) = plan.descriptors {
        raw::limit_descriptors(count);
    }
    let say = |events: &UnixStream, line: String| {
        let mut events = events;
        // A case that has failed does not listen any more.
        let _ = events.write_all(format!("{line}\n").as_bytes());
    };
    let (started, happened) = (events.try_clone(), events.try_clone());
    let (started, happened) = (started.expect("a copy"), happened.expect("a copy"));
    let pool = Pool::with_config(config)
        .on_started(move |pool| {
            let Address::Tcp(address) = &pool.addresses[0] else { panic!("a TCP address") };
            say(&started, format!("listening: {address}"));
        })
        .on_event(move |event| say(&happened, event.to_string()));
    let hangs = plan.hangs;
    let result = pool.try_serve_with(move |info| {
        if info.slot() == 0 && info.generation() < hangs {
            app::hang();
        }
        Ok::<_, String>(App)
    });
    if let Err(error) = &result {
        say(events, format!("failed: {error}"));
    }
    i32::from(result.is_err())
}

fn map_board(path: &str) -> Option<Board> {
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    let fd = Fd::new(file.into_raw_fd());
    let words = shm::open(&fd);
    socket::close(fd);
    Board::open(words.ok()?)
}

fn resident(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE
}

const PAGE: u64 = 4096;
/// Connections that a pool has served before it is measured.
pub(crate) const WARM_UP: u64 = 20;

/// A moment, to measure from.
pub(crate) fn now() -> Instant {
    clock::monotonic()
}

/// How long ago that was.
pub(crate) fn since(moment: Instant) -> Duration {
    clock::monotonic().since(moment)
}

impl Server {
    /// A new connection.
    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.port)
    }

    /// Whether an ordinary client is served.
    #[track_caller]
    pub(crate) fn serves(&self) {
        let mut client = self.connect();
        client.get("/marker");
        assert_eq!(client.answer().text(), format!("200 {}", app::MARKER));
    }
}
