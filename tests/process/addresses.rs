//! Where a pool listens: both families, Unix paths, free ports, several at once, and not where
//! somebody else does.

use crate::client::{Client, PATIENCE};
use crate::harness::Case;
use crate::server::{Server, command, connect_unix, folder, port_is_free, socket_of};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("addresses::shared::several_at_once", || several("shared")),
    ("addresses::centralized::several_at_once", || several("centralized")),
    ("addresses::a_unix_path_that_nobody_listens_on_is_taken_over", stale),
    ("addresses::a_unix_path_that_somebody_listens_on_is_not", live),
    ("addresses::shared::a_second_instance_is_refused", || second_instance("shared")),
    ("addresses::centralized::a_second_instance_is_refused", || second_instance("centralized")),
];

/// IPv4, IPv6 and a Unix path, each with a free place of its own.
fn several(mode: &str) {
    let path = folder().join("socket");
    let addresses = format!("--addr 127.0.0.1:0 --addr [::1]:0 --addr unix:{}", path.display());
    let options = format!("{addresses} --mode {mode} --workers 2");
    let server = Server::launch(&mut command(&options));
    server.await_ready(2);
    let sockets: Vec<_> = server.urls().iter().filter_map(|url| socket_of(url)).collect();
    assert!(sockets[0].is_ipv4() && sockets[1].is_ipv6(), "{sockets:?}");
    assert!(sockets.iter().all(|socket| socket.port() > 0), "{sockets:?}");
    for _ in 0..8 {
        for socket in &sockets {
            check(Client::new(TcpStream::connect(socket).unwrap()));
        }
        check(connect_unix(&path));
    }
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!path.exists(), "it unlinks what it made");
    sockets.iter().for_each(|socket| port_is_free(*socket, Duration::ZERO));
}

fn check(mut client: Client) {
    assert_eq!(client.get("/plaintext").unwrap().text(), "Hello, World!");
}

fn unix(path: &Path) -> String {
    format!("--workers 2 --addr unix:{}", path.display())
}

fn stale() {
    let path = folder().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a listener leaves its path behind");
    let server = Server::launch(&mut command(&unix(&path)));
    check(connect_unix(&path));
    assert_eq!(server.stop().0, Some(0));
    assert!(!path.exists());
}

fn live() {
    let path = folder().join("socket");
    let first = Server::launch(&mut command(&unix(&path)));
    check_refused(&unix(&path));
    check(connect_unix(&path));
    assert_eq!(first.stop().0, Some(0));
    // What is no socket stays what it is.
    std::fs::write(&path, "a file").unwrap();
    let mut second = Server::begin(&mut command(&unix(&path)));
    assert_eq!(second.exit_code(PATIENCE), Some(1), "{}", second.log());
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
}

fn check_refused(options: &str) {
    let mut second = Server::begin(&mut command(options));
    assert_eq!(second.exit_code(PATIENCE), Some(1), "{}", second.log());
    assert!(second.log().contains("[address_in_use]"), "{}", second.log());
}

fn second_instance(mode: &str) {
    let first = Server::start(&format!("--mode {mode} --workers 2"));
    first.await_ready(2);
    let mut known = first.connect();
    known.get("/plaintext").unwrap();
    for other in ["shared", "centralized"] {
        check_refused(&format!("--addr {} --mode {other}", first.address()));
    }
    assert_eq!(known.get("/plaintext").unwrap().status, 200);
    for _ in 0..16 {
        check(first.connect());
    }
    assert_eq!(first.stop().0, Some(0));
}
