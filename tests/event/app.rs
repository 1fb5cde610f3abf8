//! The applications under test, one for each kind of worker.
#![expect(unsafe_code, reason = "poll(2), as an event loop that is not ours would call it")]

use crate::protocols::Shout;
use ringfort::http::{Handler, OwnedRequest, Response};
use ringfort::server::raw::{Metadata, Socket};
use ringfort::server::tasks::{Call, Sender, sleep};
use ringfort::server::{Pending, RequestId, Server, Ticket};
use ringfort::{Config, Error, Pool};
use std::cell::Cell;
use std::fs::File;
use std::future::poll_fn;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::panic_any;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

/// What makes this program an application.
pub(crate) const FLAG: &str = "--application";

/// Serves; `options`: `--kind` and names and values of the pool's.
pub(crate) fn run(options: impl Iterator<Item = String>) -> ExitCode {
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("application: {error}\nhint: {}", error.hint());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::unwrap_in_result, reason = "a case that gets its own options wrong fails")]
fn serve(mut options: impl Iterator<Item = String>) -> Result<(), Error> {
    let mut config = Config::default();
    let (mut kind, mut threads) = (String::new(), 1);
    while let (Some(flag), Some(value)) = (options.next(), options.next()) {
        let set = match flag.trim_start_matches('-') {
            "kind" => {
                kind = value;
                Ok(())
            }
            "threads" => {
                threads = value.parse().expect("a number");
                Ok(())
            }
            "addr" => config.add_address(&value),
            name => config.set(&name.replace('-', "_"), &value),
        };
        set.expect("a case knows its options");
    }
    let pool = Pool::with_config(config)
        .on_started(|started| println!("url      http://{}/\n", started.addresses[0]))
        .on_event(|event| eprintln!("{event}"));
    match kind.as_str() {
        "loop" => pool.run_workers(plain_loop),
        "poll" => pool.run_workers(poll_loop),
        "edge" => pool.run_workers(edge_loop),
        "one" => pool.run_workers(one_loop),
        "slow" => pool.run_workers(slow_loop),
        "late" => pool.run_workers(late_loop),
        "polling" => pool.run_workers(polling_loop),
        "stubborn" => pool.run_workers(stubborn_loop),
        "short" => pool.run_workers(short_loop),
        "async" => pool.serve_async(|_| {
            let shared = Rc::new(Shared::default());
            move |call| answer(call, Rc::clone(&shared))
        }),
        "raw" => pool.serve_raw(threads, handle),
        "handler" => pool.serve_with(|_| Unwritten),
        "protocol" => pool.serve_protocol(|_| Shout),
        _ => panic!("no kind is named {kind:?}"),
    }
}

/// A handler that says nothing of its own.
struct Unwritten;

impl Handler for Unwritten {}

/// What the loops do with requests.
#[derive(Default)]
struct Answers {
    worker_id: u32,
    held: Vec<RequestId>,
    kept: Vec<Ticket>,
    /// Tickets that were ever taken.
    tickets: usize,
    gone: usize,
}

/// How often the application's loop was begun in this process.
static RUNS: AtomicU32 = AtomicU32::new(0);

impl Answers {
    fn of(worker_id: u32) -> Self {
        RUNS.fetch_add(1, Ordering::SeqCst);
        Self { worker_id, ..Self::default() }
    }

    fn take(&mut self, server: &mut Server, request: Pending) {
        let id = request.id();
        let text = match request.path() {
            "/hold" => return self.held.push(id),
            "/release" => {
                let count = self.held.len();
                // The last first: the order between connections is ours.
                for (number, held) in self.held.drain(..).rev().enumerate() {
                    let answered = server.respond(held, move |r| r.text(format!("held {number}")));
                    self.gone += usize::from(answered.is_err());
                }
                format!("released {count}, gone {}", self.gone)
            }
            "/thread" | "/lost" | "/dies" | "/after" => {
                self.tickets += 1;
                return take_ticket(server, request);
            }
            "/keep" => {
                self.tickets += 1;
                return self.kept.extend(server.ticket(id));
            }
            "/tickets" => self.tickets.to_string(),
            "/drop" => format!("dropped {}", self.kept.drain(..).count()),
            "/ticket-panic" => {
                return server.ticket(id).expect("owed").answer(|_| panic!("as asked"));
            }
            "/twice" => {
                let first = server.respond(id, |response| response.text("first"));
                let second = server.respond(id, |response| response.text("second"));
                assert!(first.is_ok() && second.is_err(), "{first:?} {second:?}");
                return;
            }
            "/both" => {
                let ticket = server.ticket(id).expect("it is owed");
                assert!(server.respond(id, |response| response.text("loop")).is_err());
                assert!(server.ticket(id).is_err());
                return ticket.answer(|response| response.text("ticket"));
            }
            "/panic" => {
                let _ = server.respond(id, |_| panic!("as asked"));
                return;
            }
            "/add" => return add(server, id),
            "/add-bad" => add_bad(server),
            "/add-late" => {
                // Longer than a head may take.
                thread::park_timeout(Duration::from_millis(400));
                return add(server, id);
            }
            "/stop" => {
                server.stop();
                "stopping".to_owned()
            }
            "/pid" => format!("{{\"pid\":{}}}", std::process::id()),
            "/id" => format!("{} {}", self.worker_id, RUNS.load(Ordering::SeqCst)),
            "/pending" => format!("{} {}", server.has_pending_response(), self.held.len()),
            "/peer" => format!("{:?}", server.peer(id).map(|peer| peer.ip())),
            _ => format!("{} {} {}", request.method(), request.target(), request.body().len()),
        };
        self.gone += usize::from(server.respond(id, move |r| r.text(text)).is_err());
    }
}

fn take_ticket(server: &mut Server, request: Pending) {
    let ticket = server.ticket(request.id()).expect("it is owed");
    let request: OwnedRequest = request.into_request();
    spawn(move || match request.path() {
        "/thread" => ticket.answer(move |response| response.text("from a thread")),
        "/lost" => drop(ticket),
        // Long after whoever asked.
        "/after" => {
            thread::park_timeout(Duration::from_millis(300));
            ticket.answer(|response| response.text("after"));
        }
        _ => panic!("with the ticket in its hand: {ticket:?}"),
    });
}

/// A connection that was not accepted by the pool: a request over it, answered by this same worker,
/// answers the request that asked for it.
fn add(server: &mut Server, id: RequestId) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    server.add_connection(theirs);
    let ticket = server.ticket(id).expect("it is owed");
    spawn(move || {
        let mut stream = BufReader::new(ours);
        let ask = b"GET /added HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.get_mut().write_all(ask).expect("it is served");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it is answered");
        let body = text.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned();
        ticket.answer(move |response| response.text(body));
    });
}

/// What is no connection, or none any more: none of it harms.
fn add_bad(server: &mut Server) -> String {
    server.add_connection(File::open("/dev/null").expect("it is there"));
    server.add_connection(TcpListener::bind("127.0.0.1:0").expect("a port"));
    server.add_connection(UdpSocket::bind("127.0.0.1:0").expect("a port"));
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    drop(ours);
    server.add_connection(theirs);
    "added".to_owned()
}

fn plain_loop(worker_id: u32, server: &mut Server) {
    let mut answers = Answers::of(worker_id);
    while server.wait(None) {
        while let Some(request) = server.next_request() {
            answers.take(server, request);
        }
    }
}

/// The same over the descriptor alone, as an event loop sees it: no timeout, no other wake-up.
fn poll_loop(worker_id: u32, server: &mut Server) {
    let mut answers = Answers::of(worker_id);
    let notify = server.notify_fd().expect("a descriptor").as_raw_fd();
    while !server.is_done() {
        let mut watched = libc::pollfd { fd: notify, events: libc::POLLIN, revents: 0 };
        // SAFETY: reads and fills one local.
        let _ = unsafe { libc::poll(&raw mut watched, 1, -1) };
        let mut late = Vec::new();
        while let Some(request) = server.next_request() {
            if request.path() == "/late" {
                late.push(request.id());
            } else {
                answers.take(server, request);
            }
        }
        // After the loop was told that there is nothing more to do, and without asking again.
        for id in late {
            let _ = server.respond(id, |response| response.text("late"));
        }
    }
}

/// The same with epoll, edge triggered: each edge is seen once.
fn edge_loop(worker_id: u32, server: &mut Server) {
    let mut answers = Answers::of(worker_id);
    let notify = server.notify_fd().expect("a descriptor").as_raw_fd();
    // SAFETY: no pointers.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let events = (libc::EPOLLIN | libc::EPOLLET).cast_unsigned();
    let mut event = libc::epoll_event { events, u64: 0 };
    // SAFETY: reads a local.
    let added = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, notify, &raw mut event) };
    assert_eq!(added, 0);
    while !server.is_done() {
        // SAFETY: fills a local.
        let _ = unsafe { libc::epoll_wait(epoll, &raw mut event, 1, -1) };
        while let Some(request) = server.next_request() {
            answers.take(server, request);
        }
    }
}

/// Takes one request each time the descriptor is readable, and never asks for more.
fn one_loop(worker_id: u32, server: &mut Server) {
    let mut answers = Answers::of(worker_id);
    let notify = server.notify_fd().expect("a descriptor").as_raw_fd();
    while !server.is_done() {
        let mut watched = libc::pollfd { fd: notify, events: libc::POLLIN, revents: 0 };
        // SAFETY: reads and fills one local.
        let _ = unsafe { libc::poll(&raw mut watched, 1, -1) };
        if let Some(request) = server.next_request() {
            answers.take(server, request);
        }
    }
}

/// Works for each request, one a `wait`.
fn slow_loop(_: u32, server: &mut Server) {
    while server.wait(None) {
        if let Some(request) = server.next_request() {
            thread::park_timeout(Duration::from_millis(50));
            let _ = server.respond(request.id(), |response| response.text("slow"));
        }
    }
}

/// Takes no request before the drain, and says then how often it was woken until then.
fn late_loop(_: u32, server: &mut Server) {
    let mut waits = 0;
    while server.wait(Some(Duration::from_millis(50))) {
        waits += 1;
        if !server.is_draining() {
            continue;
        }
        while let Some(request) = server.next_request() {
            let _ = server.respond(request.id(), move |response| response.text(waits.to_string()));
        }
    }
}

/// Does not hear that it is to end.
#[expect(clippy::infinite_loop, reason = "what is tested is who does not end")]
fn stubborn_loop(worker_id: u32, server: &mut Server) {
    let mut answers = Answers::of(worker_id);
    loop {
        let _ = server.wait(Some(Duration::from_millis(1)));
        if let Some(request) = server.next_request() {
            answers.take(server, request);
        }
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Theirs: asks again and again. It still ends when the worker has drained.
fn polling_loop(worker_id: u32, server: &mut Server) {
    let mut answers = Answers::of(worker_id);
    while !server.is_done() {
        if server.has_request()
            && let Some(request) = server.next_request()
        {
            answers.take(server, request);
        }
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Leaves its loop in the middle of it.
fn short_loop(worker_id: u32, server: &mut Server) {
    let mut answers = Answers::of(worker_id);
    while server.wait(None) {
        while let Some(request) = server.next_request() {
            let leaves = request.path() == "/leave";
            if leaves {
                return;
            }
            answers.take(server, request);
        }
    }
}

/// What the futures of a worker share.
#[derive(Default)]
struct Shared {
    cancelled: Cell<u32>,
    read: Cell<usize>,
    gate: Mutex<Option<Waker>>,
    open: Cell<bool>,
}

/// Counts a future that was dropped before its end.
struct Guard(Rc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.cancelled.set(self.0.cancelled.get() + 1);
    }
}

/// Panics when it goes.
struct BadDrop;

impl Drop for BadDrop {
    fn drop(&mut self) {
        panic!("as asked");
    }
}

async fn answer(mut call: Call, shared: Rc<Shared>) -> Result<Response, String> {
    let mut response = Response::new();
    match call.path() {
        "/never" => {
            let _guard = Guard(shared);
            std::future::pending::<()>().await;
        }
        "/cancelled" => response.text(shared.cancelled.get().to_string()),
        "/read" => response.text(shared.read.get().to_string()),
        "/sleep" => {
            let asked = call.query_value("ms").and_then(|text| text.parse().ok());
            sleep(Duration::from_millis(asked.unwrap_or(0))).await;
            response.text(format!("slept{}", call.query_value("name").unwrap_or_default()));
        }
        "/thread" => {
            from_a_thread().await;
            response.text("woken by a thread");
        }
        "/wait" | "/yield" | "/open" => gate(&call, &shared, &mut response).await,
        "/error" => return Err("the password is hunter2".to_owned()),
        "/panic" => panic!("the password is hunter2"),
        "/panic-twice" => panic_any(BadDrop),
        "/panic-later" => {
            sleep(Duration::from_millis(1)).await;
            panic!("the password is hunter2");
        }
        "/body" | "/unread" | "/slow-body" => read_body(&mut call, &shared, &mut response).await,
        "/stream" => response.stream(call.stream(|sender| produce(sender, 3))),
        "/large" => response.stream(call.stream(|sender| produce(sender, 40_000))),
        "/stream-panic" => response.stream(call.stream(|mut sender: Sender| async move {
            sender.send("begin\n").await;
            sleep(Duration::from_millis(1)).await;
            if true {
                panic!("the password is hunter2");
            }
        })),
        "/bad-drop" => {
            let _bad = BadDrop;
            std::future::pending::<()>().await;
        }
        "/endless" => response.stream(call.stream(move |mut sender: Sender| async move {
            let _guard = Guard(shared);
            sender.send("begin\n").await;
            std::future::pending::<()>().await;
        })),
        "/broken" => response.stream(call.stream(|mut sender: Sender| async move {
            sender.send("begin\n").await;
            Err::<(), _>("the password is hunter2")
        })),
        "/peer" => response.text(format!("{:?}", call.peer().map(|peer| peer.ip()))),
        path => response.text(format!("async {path}")),
    }
    Ok(response)
}

/// One future of the worker lets others through.
async fn gate(call: &Call, shared: &Shared, response: &mut Response) {
    match call.path() {
        // Is woken.
        "/wait" => {
            poll_fn(|context| {
                if shared.open.get() {
                    return Poll::Ready(());
                }
                *shared.gate.lock().expect("no panic") = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
            response.text("let through");
        }
        // Gives way again and again.
        "/yield" => {
            poll_fn(|context| {
                context.waker().wake_by_ref();
                if shared.open.get() { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            response.text("gave way");
        }
        _ => {
            shared.open.set(true);
            if let Some(waker) = shared.gate.lock().expect("no panic").take() {
                waker.wake();
            }
            response.text("open");
        }
    }
}

async fn read_body(call: &mut Call, shared: &Shared, response: &mut Response) {
    match call.path() {
        "/body" => {
            let whole = call.body().whole().await;
            response.text(whole);
        }
        "/unread" => response.text("without a look at it"),
        // Reads nothing until it is let through.
        "/slow-body" => {
            while !shared.open.get() {
                sleep(Duration::from_millis(5)).await;
            }
            while let Some(bytes) = call.body().next().await {
                shared.read.set(shared.read.get() + bytes.len());
            }
            response.text(shared.read.get().to_string());
        }
        _ => {}
    }
}

async fn produce(mut sender: Sender, lines: u32) {
    for number in 0..lines {
        sender.send(format!("line {number}\n")).await;
        if number < 3 {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Ready when another thread has said so.
async fn from_a_thread() {
    let done = Arc::new(AtomicBool::new(false));
    let mut thread = None;
    poll_fn(|context| {
        if done.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        let (done, waker) = (Arc::clone(&done), context.waker().clone());
        thread.get_or_insert_with(|| {
            spawn(move || {
                done.store(true, Ordering::SeqCst);
                waker.wake();
            });
        });
        Poll::Pending
    })
    .await;
}

fn hang() -> ! {
    loop {
        thread::park();
    }
}

/// A thread of a worker: it may have some.
fn spawn(work: impl FnOnce() + Send + 'static) {
    let _ = thread::Builder::new().spawn(work).expect("a thread");
}

/// The callback: a line in, a line out.
fn handle(socket: Socket, metadata: &Metadata) {
    let mut socket = BufReader::new(socket);
    let mut line = String::new();
    if socket.read_line(&mut line).is_err() {
        return;
    }
    let text = match line.trim_end() {
        "hang" => {
            let _ = socket.get_mut().write_all(b"hanging\n");
            hang()
        }
        "panic" => panic!("as asked"),
        "panic-twice" => panic_any(BadDrop),
        // Until the peer says so.
        "wait" => {
            let _ = socket.get_mut().write_all(b"waiting\n");
            line.clear();
            let _ = socket.read_line(&mut line);
            format!("waited for {}", line.trim_end())
        }
        _ => format!(
            "worker {} client {:?} port {} local {:?} age {}",
            metadata.worker_id,
            metadata.client_ip(),
            metadata.peer.map_or(0, |peer| peer.port()),
            metadata.local.as_ref().map(ToString::to_string),
            metadata.accepted_at.elapsed().map_or(0, |age| age.as_secs()),
        ),
    };
    let _ = socket.get_mut().write_all(format!("{text}\n").as_bytes());
}
