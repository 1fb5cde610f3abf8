//! `/livez`, `/readyz`, `/metrics` and the status page, on their own address and on the control
//! socket.

use crate::client::{Client, PATIENCE, Reply};
use crate::control::Pool;
use crate::harness::Case;
use crate::server::{connect_unix, eventually};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

pub(crate) const CASES: &[Case] = &[
    ("p17_health_endpoints", endpoints),
    ("h12_prometheus_shows_what_clients_did", prometheus),
    ("without_a_worker_it_is_live_and_not_ready", not_ready),
    ("from_the_first_moment_of_a_drain_it_is_not_ready", lame_duck),
    ("a_health_address_takes_no_commands", no_commands),
    ("health_visitors_do_not_keep_operators_out", many),
    ("a_health_address_in_use_is_a_refusal", in_use),
];

/// Where the pool answers health.
fn address(pool: &Pool) -> SocketAddr {
    let out = pool.server.output();
    let line = out.lines().find_map(|line| line.strip_prefix("health ")).expect("a health line");
    line.parse().expect("an address")
}

fn get(pool: &Pool, path: &str) -> Reply {
    let stream = TcpStream::connect(address(pool)).expect("it listens");
    let mut client = Client::new(stream);
    let reply = client.get(path).expect("an answer");
    assert!(client.is_closed(), "one answer a connection");
    reply
}

fn endpoints() {
    let pool = Pool::start(2, "--admin-address 127.0.0.1:0");
    for (path, status, words) in [
        ("/livez", 200, "live\n"),
        ("/readyz", 200, "ready\n"),
        ("/metrics", 200, "ringfort_workers{state=\"ready\"} 2\n"),
        ("/", 200, "<td>ready<td>"),
        ("/nowhere", 404, "Not Found"),
    ] {
        let reply = get(&pool, path);
        assert_eq!(reply.status, status, "{path}");
        assert!(reply.text().contains(words), "{path}: {}", reply.text());
        // The same by the control socket.
        let again = connect_unix(Path::new(&pool.control)).get(path).expect("an answer");
        assert_eq!(again.status, status, "{path}");
    }
}

fn prometheus() {
    let pool = Pool::start(2, "--admin-address 127.0.0.1:0");
    for _ in 0..7 {
        pool.server.connect().get("/").expect("an answer");
    }
    let want = [
        "ringfort_connections_accepted_total 7\n",
        "ringfort_connections_served_total 7\n",
        "ringfort_requests_total 7\n",
        "ringfort_responses_total 7\n",
        "ringfort_open_connections 0\n",
    ];
    eventually("the numbers", PATIENCE, || {
        let text = get(&pool, "/metrics").text();
        want.iter().all(|line| text.contains(line)).then_some(())
    });
}

fn not_ready() {
    let pool = Pool::begin(1, "--admin-address 127.0.0.1:0 --boot-timeout 3600s");
    pool.server.await_ready(1);
    fs::write(&pool.manners, "hang").expect("our folder");
    let pid = pool.server.workers()[0];
    crate::raw::signal(pid, libc::SIGKILL);
    eventually("not ready", PATIENCE, || (get(&pool, "/readyz").status == 503).then_some(()));
    assert_eq!(get(&pool, "/livez").status, 200);
    // The next one boots for ever: a starting worker is no ready one.
    pool.await_status("a starting worker", |status| {
        status.workers().iter().any(|worker| worker.state.name() == "starting" && worker.pid > 0)
    });
    assert_eq!(get(&pool, "/readyz").status, 503);
    assert!(pool.ask("stop").ok);
    let mut server = pool.server;
    server.exit_code(PATIENCE);
}

fn lame_duck() {
    let pool = Pool::start(1, "--admin-address 127.0.0.1:0 --lame-duck 600s");
    assert!(pool.ask("drain").ok);
    assert_eq!(get(&pool, "/readyz").status, 503);
    assert_eq!(get(&pool, "/livez").status, 200);
    assert_eq!(pool.server.connect().get("/").expect("still accepted").status, 200);
    assert!(pool.ask("stop").ok);
}

fn no_commands() {
    let pool = Pool::start(1, "--admin-address 127.0.0.1:0");
    let mut client = Client::new(TcpStream::connect(address(&pool)).expect("it listens"));
    client.send("stop\n\n").expect("sent");
    assert_eq!(client.reply().expect("an answer").status, 400);
    assert!(pool.ask("status").ok, "it runs on");
}

fn many() {
    let pool = Pool::start(1, "--admin-address 127.0.0.1:0");
    let at = address(&pool);
    let idle: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(at).expect("it listens")).collect();
    assert!(pool.ask("status").ok);
    assert_eq!(get(&pool, "/livez").status, 200);
    drop(idle);
}

fn in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("bound");
    let options = format!("--addr 127.0.0.1:0 --admin-address {at}");
    let mut server = crate::server::Server::begin(&mut crate::server::command(&options));
    assert_eq!(server.exit_code(PATIENCE), Some(1));
    assert!(server.log().contains("[address_in_use]"), "{}", server.log());
}
