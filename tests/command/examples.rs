//! The examples that say where they listen, asked as a client would.

use crate::support::Server;
use std::process::Command;

/// An example of this build, which `cargo test` has made too.
fn example(name: &str) -> Server {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples");
    Server::spawn(Command::new(folder.join(name)).arg("127.0.0.1:0"))
}

#[test]
fn headers() {
    let server = example("headers");
    let mut client = server.connect();
    let reply = client.get("/");
    assert_eq!((reply.status, reply.body.as_str()), (200, "Hello, World!"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    client.send("OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n");
    let reply = client.reply();
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-methods"), Some("GET, POST"));
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn balancer() {
    let server = example("balancer");
    // A worker that comes up later catches up.
    let mut said = std::collections::BTreeSet::new();
    for asked in 0.. {
        assert!(asked < 10_000, "only {said:?} are picked");
        said.insert(server.connect().get("/").body);
        if said.len() == 2 {
            break;
        }
    }
    assert_eq!(said.into_iter().collect::<Vec<_>>(), ["worker 0\n", "worker 1\n"]);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn messages() {
    let server = example("messages");
    let mut client = server.connect();
    let mut before = 0;
    // What the master says comes between two requests, sooner or later.
    for asked in 0_u64.. {
        assert!(asked < 10_000, "no worker hears of {before} visits");
        let said = client.get("/").body;
        before = said.split(' ').next().unwrap().parse().unwrap();
        assert!(said.ends_with("told: true\n") && before <= asked, "{said}");
        if before >= 10 {
            break;
        }
    }
    assert_eq!(server.stop().0, Some(0));
}
