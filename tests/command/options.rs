//! Every option acts: for each row of the table of limits, what a client sees of it on the running
//! server.

use crate::support::{Client, PATIENCE, Server, Stopwatch};
use ringfort::Config;
use serde_json::Value;
use std::net::TcpStream;
use std::time::Duration;

const HELLO: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Each option with its proof, in the order of the table.
const PROOFS: &[(&str, fn())] = &[
    ("workers", workers),
    ("backlog", backlog),
    ("connections_max", connections_max),
    ("pending_max", pending_max),
    ("pending_timeout", pending_timeout),
    ("head_max", head_max),
    ("request_line_max", request_line_max),
    ("headers_max", headers_max),
    ("body_max", body_max),
    ("chunk_line_max", chunk_line_max),
    ("chunk_overhead_max", chunk_overhead_max),
    ("head_timeout", head_timeout),
    ("body_timeout", body_timeout),
    ("body_rate_min", body_rate_min),
    ("request_timeout", request_timeout),
    ("idle_timeout", idle_timeout),
    ("write_timeout", write_timeout),
    ("linger_timeout", linger_timeout),
    ("output_max", output_max),
    ("requests_max", requests_max),
    ("keep_alive", keep_alive),
    ("drain_timeout", drain_timeout),
    ("defer_accept", defer_accept),
    ("rate_limit", rate_limit),
    ("rate_window", rate_window),
    ("rate_clients", rate_clients),
    ("restart_delay", restart_delay),
    ("auto_restart", auto_restart),
    ("no_new_privs", no_new_privs),
    ("pin_cpus", pin_cpus),
];

/// Options whose effect no client of `ringfort serve` can bring about. Their proofs are next to the
/// code that obeys them.
const ELSEWHERE: [&str; 20] = [
    // tests/upgrade: it takes a program that is replaced.
    "usr2_upgrade",
    // src/master/tests.rs: no worker of the command takes longer than the shortest time that can
    // be set.
    "boot_timeout",
    // src/system/tests.rs: the CPUs of a process can be counted wherever tests run.
    "fallback_cpus",
    // tests/process/messages: what an application says is longer.
    "message_max",
    // tests/event/tasks: it takes an async handler.
    "half_close",
    // tests/process: a worker must hang.
    "watchdog_timeout",
    // tests/reload: they act when new workers take over from old ones, or when the pool ends.
    "workers_max",
    "lame_duck",
    "surge",
    "probe_timeout",
    "canary_workers",
    "canary_time",
    // tests/admin: a worker must end by itself.
    "capture_stderr",
    "canary_p99",
    "canary_slowdown",
    "recycle_requests",
    "recycle_age",
    "recycle_rss",
    "recycle_pss",
    "max_unavailable",
];

#[test]
fn every_option_has_a_proof() {
    let proven = PROOFS.iter().map(|(name, _)| *name);
    let mut proven: Vec<&str> = proven.chain(ELSEWHERE).collect();
    let mut rows: Vec<&str> = Config::ROWS.iter().map(|row| row.name).collect();
    proven.sort_unstable();
    rows.sort_unstable();
    assert_eq!(proven, rows);
}

/// A request whose answer has this status, and whether the server closes after it.
#[track_caller]
fn answers(options: &str, request: &str, want: u16, closes: bool) {
    let server = Server::start(options);
    let mut client = server.connect();
    client.send(request);
    let reply = client.reply();
    assert_eq!(reply.status, want, "{options}: {reply:?}");
    assert_eq!(reply.header("connection") == Some("close"), closes, "{options}: {reply:?}");
    if closes {
        assert_eq!(client.rest(), b"");
    } else {
        assert_eq!(client.get("/").status, 200);
    }
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

fn chunked(body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

fn sized(length: usize) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn workers() {
    let server = Server::start("--workers 3");
    assert!(server.banner.contains("\nworkers  3"), "{}", server.banner);
    let workers = await_workers(&mut server.connect(), |workers| workers.len() == 3);
    let slots: Vec<&Value> = workers.iter().map(|worker| &worker["slot"]).collect();
    assert_eq!(slots, [0, 1, 2]);
    assert_eq!(server.worker_pids().len(), 3);
}

#[test]
fn head_max() {
    let field = format!("X: {}\r\n", "x".repeat(300));
    answers("--head-max 256", &get("/", &field), 431, true);
    answers("--head-max 512", &get("/", &field), 200, false);
}

#[test]
fn request_line_max() {
    let path = format!("/{}", "x".repeat(64));
    answers("--request-line-max 64", &get(&path, ""), 414, true);
    answers("--request-line-max 128", &get(&path, ""), 404, false);
}

#[test]
fn headers_max() {
    answers("--headers-max 2", &get("/", "A: 1\r\nB: 2\r\n"), 431, true);
    answers("--headers-max 3", &get("/", "A: 1\r\nB: 2\r\n"), 200, false);
}

#[test]
fn body_max() {
    answers("--body-max 4", &sized(5), 413, true);
    answers("--body-max 4", &chunked("5\r\nhello\r\n0\r\n\r\n"), 413, true);
    answers("--body-max 5", &(sized(5) + "hello"), 200, false);
}

#[test]
fn chunk_line_max() {
    let body = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(30));
    answers("--chunk-line-max 16", &chunked(&body), 400, true);
    answers("--chunk-line-max 64", &chunked(&body), 200, false);
}

#[test]
fn chunk_overhead_max() {
    let body = "1;a=567\r\nx\r\n".repeat(20) + "0\r\n\r\n";
    answers("--chunk-overhead-max 64", &chunked(&body), 400, true);
    answers("--chunk-overhead-max 1k", &chunked(&body), 200, false);
}

/// A connection that says only `bytes` is answered with `want` after `low` and long before
/// [`PATIENCE`].
#[track_caller]
fn runs_out(options: &str, bytes: &str, low: Duration, want: u16) {
    let server = Server::start(options);
    // A first answer, so that the time of the boot is not measured.
    server.get("/");
    let mut client = server.connect();
    let began = Stopwatch::start();
    client.send(bytes);
    assert_eq!(client.reply().status, want, "{options}");
    let took = began.elapsed();
    assert!(took >= low, "{options}: after {took:?}");
    assert!(took < low + SLACK, "{options}: after {took:?}");
}

const QUICK: Duration = Duration::from_millis(300);

/// How much later than its limit something may happen on a busy machine.
const SLACK: Duration = Duration::from_secs(4);

#[test]
fn head_timeout() {
    runs_out("--head-timeout 300ms", "GET / HTTP/1.1\r\nHost:", QUICK, 408);
    // Who has said nothing is told nothing: an answer could meet a request on its way.
    let server = Server::start("--head-timeout 300ms");
    server.get("/");
    let began = Stopwatch::start();
    assert_eq!(server.connect().rest(), b"");
    let took = began.elapsed();
    assert!(took >= QUICK && took < QUICK + SLACK, "after {took:?}");
}

#[test]
fn body_timeout() {
    runs_out("--body-timeout 300ms", &(sized(5) + "hell"), QUICK, 408);
}

#[test]
fn body_rate_min() {
    // Never idle for the body's timeout, and still too slow.
    let trickle = |options: &str| {
        let server = Server::start(options);
        let mut client = server.connect();
        client.send(sized(1000));
        let began = Stopwatch::start();
        while began.elapsed() < Duration::from_secs(3) && client.is_silent_for(QUICK / 3) {
            client.send("x");
        }
        client
    };
    let mut slow = trickle("--body-timeout 500ms --body-rate-min 1m");
    assert_eq!(slow.reply().status, 408);
    let mut fast_enough = trickle("--body-timeout 500ms --body-rate-min 1");
    assert!(fast_enough.is_silent_for(Duration::from_millis(1)), "still taken");
}

#[test]
fn request_timeout() {
    runs_out("--request-timeout 300ms", &get("/slow?ms=20000", ""), QUICK, 503);
    answers("--request-timeout 10s", &get("/slow?ms=50", ""), 200, false);
}

#[test]
fn idle_timeout() {
    let server = Server::start("--idle-timeout 300ms");
    let mut client = server.connect();
    assert_eq!(client.get("/").status, 200);
    let began = Stopwatch::start();
    assert_eq!(client.rest(), b"");
    let took = began.elapsed();
    assert!(took >= QUICK / 2 && took < QUICK + SLACK, "after {took:?}");
}

#[test]
fn write_timeout() {
    let server = Server::start("--write-timeout 300ms --workers 1");
    let mut client = server.connect();
    // It is counted from here on: before, that none is open would say nothing.
    assert_eq!(client.get("/").status, 200);
    // More than any socket buffer takes.
    let wanted = 400;
    let _ = client.try_send(get("/big", "").repeat(wanted));
    // The connection is over when the only other one is ours.
    await_connections(&mut server.connect(), 1);
    assert!(client.rest().len() < wanted * 102_400);
}

/// Asks until so many connections are open, the asking one included.
#[track_caller]
fn await_connections(asking: &mut Client, want: u64) {
    let open = |worker: &Value| worker["connections"].as_u64().unwrap();
    await_workers(asking, |workers| workers.iter().map(open).sum::<u64>() == want);
}

/// Asks until the list of workers is as wanted.
#[track_caller]
fn await_workers(asking: &mut Client, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let began = Stopwatch::start();
    loop {
        let said: Value = serde_json::from_str(&asking.get("/workers").body).unwrap();
        let workers = said["workers"].as_array().unwrap();
        if wanted(workers) {
            return workers.clone();
        }
        assert!(began.elapsed() < PATIENCE, "{said}");
        assert_eq!(asking.get("/slow?ms=20").status, 200);
    }
}

#[test]
fn linger_timeout() {
    // Refused before its body came, and goes on sending.
    let sends_for = |options: &str| {
        let server = Server::start(&format!("{options} --body-max 1"));
        let mut client = server.connect();
        client.send(sized(1 << 30));
        assert_eq!(client.reply().status, 413);
        let began = Stopwatch::start();
        while began.elapsed() < Duration::from_secs(2) && client.try_send([b'x'; 64]).is_ok() {
            client.is_silent_for(Duration::from_millis(10));
        }
        began.elapsed()
    };
    let (short, long) = (sends_for("--linger-timeout 0"), sends_for("--linger-timeout 30s"));
    assert!(short < Duration::from_secs(1), "read for {short:?}");
    assert!(long >= Duration::from_secs(2), "read for {long:?}");
}

#[test]
fn requests_max() {
    let server = Server::start("--requests-max 2");
    let mut client = server.connect();
    assert_eq!(client.get("/").header("connection"), None);
    assert_eq!(client.get("/").header("connection"), Some("close"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn keep_alive() {
    answers("--keep-alive false", HELLO, 200, true);
    answers("--keep-alive true", HELLO, 200, false);
}

/// A connection that a worker holds: its first request was answered.
fn held(server: &Server) -> Client {
    let mut client = server.connect();
    assert_eq!(client.get("/").status, 200);
    client
}

const FULL: &str = "--mode centralized --workers 1 --connections-max 1";

#[test]
fn connections_max() {
    let options = "--workers 1 --connections-max 2";
    let server = Server::start(&format!("{options} --mode centralized --pending-timeout 1s"));
    let (_first, second) = (held(&server), held(&server));
    assert_eq!(server.get("/").status, 503);
    // Its end reaches the worker before the next arrival is too old.
    drop(second);
    assert_eq!(server.get("/").status, 200);

    // The master reads the listener of a full worker.
    let server = Server::start(&format!("{options} --mode shared --pending-timeout 1s"));
    let (_first, _second) = (held(&server), held(&server));
    assert_eq!(server.get("/").status, 503);
    let server = Server::start(&format!("{options} --mode shared --pending-timeout 60s"));
    let (_first, second) = (held(&server), held(&server));
    let mut third = server.connect();
    third.send(HELLO);
    assert!(third.is_silent_for(QUICK));
    drop(second);
    assert_eq!(third.reply().status, 200);
}

#[test]
fn pending_timeout() {
    let server = Server::start(&format!("{FULL} --pending-timeout 300ms"));
    let _first = held(&server);
    let began = Stopwatch::start();
    assert_eq!(server.get("/").status, 503);
    let took = began.elapsed();
    assert!(took >= QUICK && took < QUICK + SLACK, "after {took:?}");
}

#[test]
fn pending_max() {
    // Arrivals of one pass: those above the limit are refused at once, not when they are too old.
    let refused = |max: &str| {
        let options = format!("{FULL} --pending-max {max} --pending-timeout 60s");
        let server = Server::start(&options);
        let first = held(&server);
        server.signal("-STOP", server.pid());
        let mut arrivals: Vec<Client> = (0..8).map(|_| server.connect()).collect();
        server.signal("-CONT", server.pid());
        let wait = Duration::from_millis(500);
        let refused = arrivals.iter_mut().map(|client| !client.is_silent_for(wait));
        let refused = refused.filter(|refused| *refused).count();
        for client in &mut arrivals {
            // One that was refused may be gone.
            let _ = client.try_send(get("/", "Connection: close\r\n"));
        }
        drop(first);
        let answers = arrivals.iter_mut().map(Client::rest);
        (refused, answers.filter(|answer| answer.starts_with(b"HTTP/1.1 200")).count())
    };
    assert_eq!(refused("3"), (5, 3));
    assert_eq!(refused("8"), (0, 8));
}

#[test]
fn output_max() {
    // Answers above the limit wait until those before have left: more passes for as many answers.
    let passes = |options: &str| {
        let server = Server::start(&format!("--workers 1 {options}"));
        let mut client = server.connect();
        let before = counter(&mut client, "passes");
        client.send(HELLO.repeat(1000));
        for _ in 0..1000 {
            assert_eq!(client.reply().body, "Hello, World!");
        }
        counter(&mut client, "passes") - before
    };
    let (few, many) = (passes("--output-max 1m"), passes("--output-max 1k"));
    // An answer has some 120 bytes.
    assert!(few < 100 && many > 100, "{few} and {many}");
}

/// A counter of the only worker.
fn counter(client: &mut Client, name: &str) -> u64 {
    let said: Value = serde_json::from_str(&client.get("/workers").body).unwrap();
    said["workers"][0]["counters"][name].as_u64().unwrap()
}

#[test]
fn drain_timeout() {
    let server = Server::start("--drain-timeout 300ms");
    let mut client = server.connect();
    client.send(get("/slow?ms=60000", ""));
    // The request is in its handler when another one of its worker is answered.
    assert!(client.is_silent_for(QUICK));
    let began = Stopwatch::start();
    let (code, log) = server.stop();
    let took = began.elapsed();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("[unclean]"), "{log}");
    assert!(took >= QUICK && took < QUICK + SLACK, "after {took:?}");
    let server = Server::start("--drain-timeout 60s");
    let mut client = server.connect();
    client.send(get("/slow?ms=500", ""));
    assert!(client.is_silent_for(QUICK / 3));
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(client.reply().status, 200);
}

#[test]
fn backlog() {
    // Nobody accepts while all of its processes stand still: the kernel's queue is what remains.
    let server = Server::start("--workers 1 --backlog 3");
    server.get("/");
    let pids: Vec<u32> = server.worker_pids().into_iter().chain([server.pid()]).collect();
    for pid in &pids {
        server.signal("-STOP", *pid);
    }
    let wait = Duration::from_millis(500);
    let connect = |_| TcpStream::connect_timeout(&server.address, wait);
    let queued: Vec<TcpStream> = (0..8).map_while(|at| connect(at).ok()).collect();
    for pid in pids.iter().rev() {
        server.signal("-CONT", *pid);
    }
    // listen(2): the queue holds one more than it was told.
    assert_eq!(queued.len(), 4);
}

#[test]
fn defer_accept() {
    // Linux hands a silent connection over only after this time, so its head has not begun.
    let silent = |options: &str| {
        let server = Server::start(&format!("{options} --head-timeout 200ms"));
        server.get("/");
        server.connect().is_silent_for(Duration::from_millis(700))
    };
    assert!(!silent("--defer-accept 0"), "accepted at once, so its head ran out of time");
    assert!(silent("--defer-accept 3s"));
}

/// The statuses of so many requests, each on a connection of its own.
fn statuses(server: &Server, count: usize, fields: &str) -> Vec<u16> {
    let ask = || {
        let mut client = server.connect();
        client.send(get("/", fields));
        client.reply().status
    };
    (0..count).map(|_| ask()).collect()
}

#[test]
fn rate_limit() {
    for mode in ["shared", "centralized"] {
        // All workers count together, and stop at the same request.
        let server = Server::start(&format!("--workers 3 --mode {mode} --rate-limit 30"));
        let got = statuses(&server, 40, "");
        assert_eq!(got, [[200; 10], [200; 10], [200; 10], [429; 10]].concat(), "{mode}");
        let mut client = server.connect();
        client.send(get("/", "").repeat(2));
        let (first, second) = (client.reply(), client.reply());
        assert_eq!((first.status, second.status), (429, 429), "its connection stays");
        let wait: u64 = first.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
        // What follows is a body that nobody wants.
        client.send(sized(5));
        assert_eq!(client.reply().header("connection"), Some("close"));
        assert_eq!(client.rest(), b"");
        let ends = server.stop().1;
        let reason = "rate_limited_body";
        assert!(ends.contains(&format!("{reason}=1")), "{ends}");
    }
}

#[test]
fn rate_window() {
    let server = Server::start("--rate-limit 1 --rate-window 300ms");
    let mut client = server.connect();
    let began = Stopwatch::start();
    assert_eq!(client.get("/").status, 200);
    while client.get("/").status == 429 {
        assert!(began.elapsed() < SLACK);
    }
    assert!(began.elapsed() >= QUICK);
}

#[test]
fn rate_clients() {
    // So many that the ninth shares with one of them; which one, is not known from outside.
    let options = "--rate-limit 1 --rate-clients 8 --trusted-proxies 127.0.0.1";
    let server = Server::start(options);
    let of =
        |client: u32| statuses(&server, 1, &format!("X-Forwarded-For: 10.0.0.{client}\r\n"))[0];
    let first: Vec<u16> = (0..9).map(of).collect();
    assert_eq!(first, [200, 200, 200, 200, 200, 200, 200, 200, 429]);
}

#[test]
fn trusted_proxies() {
    let forwarded = |client: &str| format!("X-Forwarded-For: 192.0.2.7, {client}\r\n");
    let believed = Server::start("--rate-limit 1 --trusted-proxies 127.0.0.0/8");
    for (client, want) in [("203.0.113.1", 200), ("203.0.113.2", 200), ("203.0.113.1", 429)] {
        assert_eq!(statuses(&believed, 1, &forwarded(client)), [want], "{client}");
    }
    let nobody = Server::start("--rate-limit 1");
    assert_eq!(statuses(&nobody, 1, &forwarded("203.0.113.1")), [200]);
    assert_eq!(statuses(&nobody, 1, &forwarded("203.0.113.2")), [429]);
}

/// Whoever connects over a Unix socket has no address: all share one count, unless they are trusted
/// to say whom they serve.
#[test]
fn trusted_proxies_of_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("ringfort-trusted-{}", std::process::id()));
    let of = |trusted: &str, clients: [&str; 3]| {
        let log = path.with_extension("log");
        let options = format!("--rate-limit 1 --addr unix:{}", path.display());
        let server = Server::start(&format!("{options} --access-log {} {trusted}", log.display()));
        let statuses = clients.map(|client| {
            let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
            let mut connection = Client::new(stream);
            connection.send(get("/", client));
            connection.reply().status
        });
        // The bucket of those without an address is none of TCP's.
        assert_eq!(server.get("/").status, 200);
        assert_eq!(server.stop().0, Some(0));
        let text = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(log).unwrap();
        let mut names: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().0).collect();
        names.sort_unstable();
        (statuses, names.join(" "))
    };
    let [one, other] = [1, 2].map(|last| format!("X-Forwarded-For: 203.0.113.{last}\r\n"));
    let clients = [one.as_str(), &other, &one];
    assert_eq!(of("", clients), ([200, 429, 429], "- - - 127.0.0.1".to_owned()));
    let named = "127.0.0.1 203.0.113.1 203.0.113.1 203.0.113.2".to_owned();
    assert_eq!(of("--trusted-proxies unix", clients), ([200, 200, 429], named));
    let silent = ["", "", &one];
    let partly = "- - 127.0.0.1 203.0.113.1".to_owned();
    assert_eq!(of("--trusted-proxies ::1,unix", silent), ([200, 429, 200], partly));
}

/// Theirs: there was none.
#[test]
fn p17_an_access_log() {
    let path = std::env::temp_dir().join(format!("ringfort-access-{}", std::process::id()));
    let path = path.to_str().unwrap();
    let logged = |options: &str| {
        let server = Server::start(&format!("{options} --workers 2 --access-log {path}"));
        let mut client = server.connect();
        client.send(get("/?a=\"", "User-Agent: me\r\nReferer: there\r\n"));
        assert_eq!(client.reply().status, 200);
        client.send("nonsense\r\n\r\n");
        assert_eq!(client.reply().status, 400);
        for _ in 0..100 {
            assert_eq!(server.get("/nowhere").status, 404);
        }
        assert_eq!(server.stop().0, Some(0));
        let text = std::fs::read_to_string(path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(text.lines().count(), 102, "a line each, and none is lost by the end");
        text
    };
    let combined = logged("");
    // Two workers write, in any order.
    let line = combined.lines().find(|line| line.contains("there")).unwrap();
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.contains("\"GET /?a=\\\" HTTP/1.1\" 200 "), "{line}");
    assert!(line.ends_with(" \"there\" \"me\""), "{line}");
    assert!(combined.contains(" \"-\" 400 "), "{combined}");
    let json = logged("--access-log-format json");
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line["user_agent"] == "me").count(), 1);
    assert_eq!(lines.iter().filter(|line| line["status"] == 404).count(), 100);
}

#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let server = Server::start("--workers 1 --access-log /dev/full");
    let mut client = server.connect();
    let began = Stopwatch::start();
    while counter(&mut client, "access_log_dropped") == 0 {
        assert!(began.elapsed() < PATIENCE);
    }
    assert_eq!(server.stop().0, Some(0));
}

/// A reader that is there and does not read costs lines; one that is not there is named at once.
#[test]
fn an_access_log_is_not_waited_for() {
    let path = std::env::temp_dir().join(format!("ringfort-fifo-{}", std::process::id()));
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let options = format!("--workers 1 --drain-timeout 600s --access-log {}", path.display());
    let server = Server::start(&options);
    let (_, log) = server.stop();
    assert!(log.contains("the access log"), "{log}");
    let reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let server = Server::start(&options);
    let mut client = server.connect();
    let began = Stopwatch::start();
    while counter(&mut client, "access_log_dropped") == 0 {
        assert!(began.elapsed() < PATIENCE);
    }
    assert_eq!(server.stop().0, Some(0));
    drop(reader);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn addr() {
    let path = std::env::temp_dir().join(format!("ringfort-options-{}", std::process::id()));
    let server = Server::start(&format!("--addr [::1]:0 --addr unix:{}", path.display()));
    assert_eq!(server.get("/").status, 200);
    let sixth = server.banner.split("http://[::1]:").nth(1).unwrap().split('/').next().unwrap();
    let stream = TcpStream::connect(("::1", sixth.parse().unwrap())).unwrap();
    assert_eq!(Client::new(stream).get("/").status, 200);
    let stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    assert_eq!(Client::new(stream).get("/").status, 200);
    assert_eq!(server.stop().0, Some(0));
    assert!(!path.exists(), "the socket's file is gone");
}

#[test]
fn root() {
    let root = std::env::temp_dir().join(format!("ringfort-root-{}", std::process::id()));
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("a.txt"), "a file").unwrap();
    let server = Server::start(&format!("--root {}", root.display()));
    let replies = ["/a.txt", "/b.txt", "/../Cargo.toml", "/"].map(|path| server.get(path));
    std::fs::remove_dir_all(&root).unwrap();
    let got = replies.each_ref().map(|reply| (reply.status, reply.body.as_str()));
    assert_eq!(got[0], (200, "a file"));
    assert_eq!(got[1].0, 404);
    assert!([400, 404].contains(&got[2].0), "{got:?}");
    assert_eq!(got[3], (200, "Hello, World!"));
    assert_eq!(Server::start("").get("/a.txt").status, 404);
}

/// The slot that answered.
fn served_by(client: &mut Client) -> Value {
    let said: Value = serde_json::from_str(&client.get("/workers").body).unwrap();
    said["served_by"].clone()
}

#[test]
fn balancer() {
    // One worker is busy. Least connections choose the other every time, round robin takes turns.
    let turns = |name: &str| {
        let mode = "--mode centralized --workers 2";
        let server = Server::start(&format!("{mode} --balancer {name}"));
        let mut held = server.connect();
        await_workers(&mut held, |workers| workers.len() == 2);
        let busy = served_by(&mut held);
        let mut others = Vec::new();
        for _ in 0..6 {
            await_connections(&mut held, 1);
            others.push(served_by(&mut server.connect()) == busy);
        }
        others.into_iter().filter(|at_busy| *at_busy).count()
    };
    assert_eq!(turns("least-connections"), 0);
    assert_eq!(turns("round-robin"), 3);
}

/// The slots that 8 connections of one client land in, one after the other. A balancer selects
/// centralized mode by itself.
fn slots(options: &str) -> Vec<u64> {
    let server = Server::start(&format!("--workers 2 {options}"));
    assert!(server.banner.contains("\nmode     centralized"), "{}", server.banner);
    await_workers(&mut server.connect(), |workers| workers.len() == 2);
    (0..8).map(|_| served_by(&mut server.connect()).as_u64().unwrap()).collect()
}

#[test]
fn weights() {
    assert_eq!(slots("--balancer weighted --weights 0,1"), [1; 8]);
    let shared = slots("--balancer weighted --weights 1,3");
    assert_eq!(shared.iter().sum::<u64>(), 6, "three of four: {shared:?}");
}

#[test]
fn sticky() {
    let slots = slots("--balancer sticky");
    assert!(slots.iter().all(|slot| *slot == slots[0]), "{slots:?}");
}

#[test]
fn mode() {
    // With the master standing still, a worker goes on accepting only if it has a listener.
    let served = |mode: &str| {
        let server = Server::start(&format!("--workers 1 --mode {mode}"));
        assert!(server.banner.contains(&format!("\nmode     {mode}")), "{}", server.banner);
        server.get("/");
        server.signal("-STOP", server.pid());
        let mut client = server.connect();
        client.send(HELLO);
        let silent = client.is_silent_for(Duration::from_secs(1));
        server.signal("-CONT", server.pid());
        assert_eq!(client.reply().status, 200);
        !silent
    };
    assert!(served("shared"));
    assert!(!served("centralized"));
}

/// A field of /proc/PID/status of the first worker.
fn field_of_worker(options: &str, name: &str) -> String {
    let server = Server::start(&format!("--workers 1 {options}"));
    await_workers(&mut server.connect(), |workers| workers.len() == 1);
    let path = format!("/proc/{}/status", server.worker_pids()[0]);
    let status = std::fs::read_to_string(path).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap().trim().to_owned()
}

#[test]
fn no_new_privs() {
    assert_eq!(field_of_worker("", "NoNewPrivs"), "1");
    assert_eq!(field_of_worker("--no-new-privs false", "NoNewPrivs"), "0");
}

#[test]
fn pin_cpus() {
    let cpus = |options| field_of_worker(options, "Cpus_allowed_list");
    assert!(cpus("--pin-cpus true").parse::<u32>().is_ok(), "one CPU");
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(ours.contains(&format!("Cpus_allowed_list:\t{}\n", cpus(""))), "all of ours");
}

/// How long the slot of a killed worker stays empty.
fn empty_for(options: &str) -> Duration {
    let server = Server::start(options);
    let killed = server.await_workers(1);
    let began = Stopwatch::start();
    server.signal("-KILL", killed[0]);
    loop {
        let now = server.worker_pids();
        if now.iter().any(|pid| !killed.contains(pid)) {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "nobody follows {killed:?}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn restart_delay() {
    let waited = empty_for("--workers 1 --restart-delay 700ms");
    assert!(waited >= Duration::from_millis(700), "{waited:?}");
    let at_once = empty_for("--workers 1");
    assert!(at_once < Duration::from_millis(500), "{at_once:?}");
}

/// Without a worker, and without hope for one, whoever comes is told at once.
#[test]
fn auto_restart() {
    let server = Server::start("--workers 2 --auto-restart false --pending-timeout 60s");
    for left in [1, 0] {
        server.signal("-KILL", server.await_workers(left + 1)[0]);
        server.await_workers(left);
        let reply = server.get("/");
        let want = if left > 0 { (200, None) } else { (503, Some("1")) };
        assert_eq!((reply.status, reply.header("retry-after")), want, "{reply:?}");
    }
    assert!(server.worker_pids().is_empty());
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
}
