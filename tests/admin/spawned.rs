//! `Pool::spawn` and its handle: from this process, from a thread, from another process.
#![expect(unsafe_code, reason = "a case ignores a signal by a system call")]

use crate::app::{self, boot, configure};
use crate::client::{Client, PATIENCE};
use crate::harness::Case;
use crate::server::{eventually, folder};
use ringfort::balancer::{self, Balancer, Load};
use ringfort::io::Address;
use ringfort::server::{Server, raw};
use ringfort::{ErrorKind, Handle, Pool, ProcessState};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

pub(crate) const CASES: &[Case] = &[
    ("spawn_returns_when_it_listens_and_stop_waits", spawn_and_stop),
    ("a_pool_that_cannot_listen_says_why", cannot_listen),
    ("workers_that_never_come_up_end_the_master_and_the_handle_says_why", never_up),
    ("all_addresses_are_told_however_many", many_addresses),
    ("who_ignores_the_ends_of_children_learns_how_its_pool_ended", nobody_reaps),
    ("metrics_and_reload_from_another_thread", from_a_thread),
    ("a_handle_by_its_socket_alone", by_socket),
    ("who_balances_is_told", who_balances_is_told),
    ("a_spawned_pool_refuses_an_upgrade_and_says_why", no_upgrade),
    ("every_kind_of_worker_can_be_spawned", every_kind_of_worker_can_be_spawned),
    ("p1_all_six_states_and_the_numbers_of_processes_are_true", all_states),
];

fn options(more: &str) -> impl Iterator<Item = String> {
    let line = format!("--addr 127.0.0.1:0 {more}");
    line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// The application's pool in a process of its own, and its file of manners.
fn spawn(more: &str) -> (Handle, PathBuf) {
    let manners = folder().join("manners");
    let (config, _) = configure(options(more));
    let file = manners.clone();
    let handle = app::pool(config).try_spawn_with(move |worker| boot(worker, &file));
    (handle.expect("it listens"), manners)
}

fn address(handle: &Handle) -> SocketAddr {
    let tcp = |address: &Address| match address {
        Address::Tcp(at) => Some(*at),
        Address::Unix(_) => None,
    };
    handle.addresses().iter().find_map(tcp).expect("it listens on TCP")
}

fn connect(handle: &Handle) -> Client {
    Client::new(TcpStream::connect(address(handle)).expect("it listens"))
}

fn spawn_and_stop() {
    let handle = Pool::bind("127.0.0.1:0").workers(2).spawn(|_, res| res.text("spawned"));
    let handle = handle.expect("it listens");
    assert_ne!(handle.pid(), Some(std::process::id()));
    assert!(handle.is_running());
    assert_eq!(connect(&handle).get("/").expect("an answer").text(), "spawned");
    handle.stop().expect("a clean end");
    assert!(!handle.is_running());
    handle.stop().expect("once more is no error");
    handle.wait().expect("the same end");
    assert!(TcpStream::connect(address(&handle)).is_err(), "the port is free");
    assert!(handle.metrics().is_err());
}

fn cannot_listen() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("bound").to_string();
    let error = Pool::bind(&at).spawn(|_, res| res.text("")).expect_err("it is taken");
    assert_eq!(error.kind(), ErrorKind::AddressInUse);
    assert!(error.to_string().contains(&at), "{error}");
    let error = Pool::bind("nowhere").spawn(|_, res| res.text("")).expect_err("no address");
    assert_eq!(error.kind(), ErrorKind::Config);
}

fn never_up() {
    let manners = folder().join("manners");
    fs::write(&manners, "fail").expect("our folder");
    let (config, _) = configure(options("--workers 1"));
    let handle = app::pool(config).try_spawn_with(move |worker| boot(worker, &manners));
    let handle = handle.expect("it listens");
    let error = handle.wait().expect_err("no worker");
    assert_eq!(error.kind(), ErrorKind::WorkersFailed);
    assert!(error.what().contains("no database for slot 0"), "{error}");
    assert_eq!(error.context(), [("exit", "exit code 1".to_owned())]);
    assert_eq!(handle.stop().expect_err("as before"), error);
}

/// Far more than a read of a pipe brings.
fn many_addresses() {
    let folder = folder();
    let path = |number: u32| folder.join(format!("{number:060}"));
    let first = format!("unix:{}", path(0).display());
    let pool = (1..100).fold(Pool::bind(&first), |pool, number| {
        pool.and_bind(&format!("unix:{}", path(number).display()))
    });
    let handle = pool.workers(1).spawn(|_, res| res.text("here")).expect("it listens");
    let want: Vec<Address> = (0..100).map(|number| Address::Unix(path(number))).collect();
    assert_eq!(handle.addresses(), want);
    let last = UnixStream::connect(path(99)).expect("it listens");
    assert_eq!(Client::new(last).get("/").expect("an answer").text(), "here");
    handle.stop().expect("a clean end");
}

/// The kernel reaps the master then, and nobody but itself can say how it ended.
fn nobody_reaps() {
    // SAFETY: no pointers, and no handler.
    assert_ne!(unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) }, libc::SIG_ERR);
    let handle = Pool::bind("127.0.0.1:0").workers(2).spawn(|_, res| res.text("spawned"));
    let handle = handle.expect("it listens");
    assert_eq!(connect(&handle).get("/").expect("an answer").text(), "spawned");
    handle.stop().expect("a clean end");
    assert!(!handle.is_running());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("bound").to_string();
    let error = Pool::bind(&at).spawn(|_, res| res.text("")).expect_err("it is taken");
    assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}");
    // One that has no time for its last word.
    let handle = Pool::bind("127.0.0.1:0").workers(1).spawn(|_, res| res.text("spawned"));
    let handle = handle.expect("it listens");
    let workers = handle.workers().expect("an answer");
    crate::raw::signal(handle.pid().expect("our child"), libc::SIGKILL);
    let error = handle.wait().expect_err("killed");
    assert_eq!(error.kind(), ErrorKind::Unclean);
    assert!(error.what().contains("SIGCHLD is ignored"), "{error}");
    // Its worker may take a second to follow it.
    let lives = |pid: u32| fs::exists(format!("/proc/{pid}")).unwrap_or(false);
    let gone = || (!workers.iter().any(|worker| lives(worker.pid))).then_some(());
    eventually("the end of its worker", PATIENCE, gone);
}

fn from_a_thread() {
    let (handle, manners) = spawn("--workers 2");
    let before = handle.workers().expect("an answer");
    let work = || {
        for _ in 0..20 {
            assert!(handle.metrics().expect("an answer").ok);
            assert_eq!(handle.workers_by_id().expect("an answer").len(), 2);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
        assert_eq!(handle.reload().expect("a reload").json["epoch"], 1);
    });
    let after = eventually("new workers alone", PATIENCE, || {
        handle.workers().ok().filter(|workers| workers.iter().all(|worker| worker.epoch == 1))
    });
    assert!(after.iter().all(|new| before.iter().all(|old| old.pid != new.pid)));
    assert_eq!(handle.worker_count().expect("an answer"), 2);
    fs::write(&manners, "fail").expect("our folder");
    let error = handle.reload().expect_err("no database");
    assert!(error.to_string().contains("no database"), "{error}");
    handle.stop().expect("a clean end");
}

fn by_socket() {
    let (owner, _) = spawn("--workers 1");
    let other = Handle::connect(owner.control()).expect("the same user");
    assert!(other.is_running() && other.pid().is_none());
    assert_eq!(
        other.metrics().expect("an answer").json["pid"].as_u64(),
        owner.pid().map(u64::from)
    );
    other.stop().expect("the drain begins");
    owner.wait().expect("a clean end");
    assert!(!other.is_running());
    assert!(Handle::connect(owner.control()).is_err());
}

/// Its process began in the middle of another program: a new one would not come there.
fn no_upgrade() {
    let (owner, _) = spawn("--workers 2");
    let mut client = connect(&owner);
    assert_eq!(client.get("/").expect("an answer").status, 200);
    let pids = |handle: &Handle| {
        let workers = handle.workers().expect("an answer");
        workers.iter().map(|worker| worker.pid).collect::<Vec<_>>()
    };
    let before = pids(&owner);
    let other = Handle::connect(owner.control()).expect("the same user");
    for handle in [&owner, &other] {
        let reply = handle.ask("upgrade").expect("an answer");
        assert!(!reply.ok && reply.code == 1, "{}", reply.line);
        assert!(reply.text.contains("began as another program's child"), "{}", reply.line);
    }
    assert_eq!(pids(&owner), before);
    assert_eq!(client.get("/").expect("the same connection").status, 200);
    owner.stop().expect("a clean end");
}

/// Waits until a worker of this slot is in this state.
#[track_caller]
fn await_state(handle: &Handle, slot: u32, state: ProcessState) -> ringfort::ProcessInfo {
    eventually(state.name(), 3 * PATIENCE, || {
        let workers = handle.workers().ok()?;
        workers.into_iter().find(|worker| (worker.worker_id, worker.state) == (slot, state))
    })
}

fn all_states() {
    let (handle, manners) = spawn("--workers 1 --drain-timeout 600s --boot-timeout 600s");
    let ready = await_state(&handle, 0, ProcessState::Ready);
    assert!(ready.is_alive() && ready.pid > 0);
    assert_eq!((ready.connections, ready.total_requests), (0, 0));
    // Busy, with an activity of now.
    let mut client = connect(&handle);
    assert_eq!(client.get("/").expect("an answer").status, 200);
    let busy = await_state(&handle, 0, ProcessState::Busy);
    assert_eq!((busy.pid, busy.connections, busy.total_requests), (ready.pid, 1, 1));
    assert!(busy.last_activity_at >= ready.last_activity_at);
    assert!(busy.uptime() >= busy.idle_time());
    client.ask("/never").expect("sent");
    eventually("its second request", PATIENCE, || {
        (await_state(&handle, 0, ProcessState::Busy).total_requests == 2).then_some(())
    });
    // Starting: the next worker of the slot never comes up.
    fs::write(&manners, "hang").expect("our folder");
    crate::raw::signal(ready.pid, libc::SIGTERM);
    let stopping = await_state(&handle, 0, ProcessState::Stopping);
    assert_eq!(stopping.pid, ready.pid);
    let starting = await_state(&handle, 0, ProcessState::Starting);
    // Failed: it dies, and so does every other, each time a little later.
    fs::write(&manners, "fail").expect("our folder");
    crate::raw::signal(starting.pid, libc::SIGKILL);
    let failed = await_state(&handle, 0, ProcessState::Failed);
    assert!(!failed.is_alive());
    // Stopped: nobody is to fill the slot.
    fs::write(&manners, "").expect("our folder");
    eventually("a ready one again", 3 * PATIENCE, || {
        let serves = |worker: &ringfort::ProcessInfo| {
            worker.state == ProcessState::Ready || worker.state == ProcessState::Busy
        };
        handle.workers().ok().filter(|workers| workers.iter().any(serves))
    });
    assert!(handle.ask("scale 2").expect("an answer").ok);
    assert!(handle.ask("scale 1").expect("an answer").ok);
    let stopped = await_state(&handle, 1, ProcessState::Stopped);
    assert!(!stopped.is_alive());
    assert!(handle.ask("stop").expect("an answer").ok);
    assert!(handle.wait().is_err(), "a connection was cut");
}

/// To the first, until it is asked once too often.
struct First(u32);

/// Whoever drops a balancer that has panicked must not panic with it.
impl Drop for First {
    fn drop(&mut self) {
        assert!(self.0 > 0, "dropped, as asked");
    }
}

impl Balancer for First {
    fn pick(&mut self, _: &balancer::Client<'_>, loads: &[Load]) -> Option<usize> {
        assert!(self.0 > 0, "asked too often");
        self.0 -= 1;
        loads.iter().position(|load| load.room > 0)
    }

    fn name(&self) -> &'static str {
        "first"
    }
}

fn who_balances_is_told() {
    for name in ["least-connections", "round-robin", "weighted", "sticky"] {
        let (handle, _) = spawn(&format!("--workers 1 --balancer {name}"));
        assert_eq!(handle.balancer().expect("an answer"), name);
        handle.stop().expect("a clean end");
    }
    let (handle, _) = spawn("--workers 2 --mode shared");
    assert_eq!(handle.balancer().expect("an answer"), "kernel");
    handle.stop().expect("a clean end");
    let pool = Pool::bind("127.0.0.1:0").workers(2).balancer(First(3));
    let handle = pool.spawn(|_, res| res.text("")).expect("it listens");
    assert_eq!(handle.balancer().expect("an answer"), "first");
    // A panic ends its time, and nobody's connection.
    for _ in 0..5 {
        assert_eq!(connect(&handle).get("/").expect("an answer").status, 200);
    }
    assert_eq!(handle.balancer().expect("an answer"), "least-connections");
    handle.stop().expect("a clean end");
    assert!(handle.balancer().is_err(), "nobody is there");
}

fn every_kind_of_worker_can_be_spawned() {
    let application = |_: u32, server: &mut Server| {
        while server.wait(None) {
            while let Some(request) = server.next_request() {
                let _ = server.respond(request.id(), |response| response.text("loop"));
            }
        }
    };
    let pool = Pool::bind("127.0.0.1:0").workers(2);
    let handle = pool.spawn_as(move |pool| pool.run_workers(application)).expect("it listens");
    assert_eq!(connect(&handle).get("/").expect("an answer").text(), "loop");
    let before = handle.workers().expect("an answer");
    assert_eq!(handle.reload().expect("a reload").json["epoch"], 1);
    assert_eq!(connect(&handle).get("/").expect("an answer").text(), "loop");
    assert!(handle.workers().expect("an answer").iter().any(|new| new.pid != before[0].pid));
    handle.stop().expect("a clean end");
    // A mistake is told as by `serve`.
    let error = Pool::bind("127.0.0.1:0")
        .spawn_as(|pool| pool.serve_raw(0, |_: raw::Socket, _: &raw::Metadata| {}));
    assert_eq!(error.expect_err("no thread").kind(), ErrorKind::Config);
}
