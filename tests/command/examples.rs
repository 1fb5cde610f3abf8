//! The examples that say where they listen, asked as a client would.

use crate::support::{Client, Server};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An example of this build, which `cargo test` has made too.
fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name)
}

fn example(name: &str) -> Server {
    Server::spawn(Command::new(program(name)).arg("127.0.0.1:0"))
}

/// Each example is asked in this file, in the one of the worker kinds, or measured in the one of
/// comparisons.
#[test]
fn every_example_is_asked() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["tests/command/examples.rs", "tests/event/examples.rs", "tests/load/compare.rs"];
    let tests = files.map(|path| fs::read_to_string(root.join(path)).unwrap()).concat();
    for entry in fs::read_dir(root.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let started = [format!("example(\"{name}\")"), format!("program(\"{name}\")")];
        let started = started.iter().any(|call| tests.contains(call));
        let in_kinds = ["http", "lines", "start"]
            .iter()
            .any(|call| tests.contains(&format!("{call}(\"{name}\"")));
        assert!(started || in_kinds, "nobody starts examples/{name}.rs");
    }
}

#[test]
fn hello() {
    let server = example("hello");
    let reply = server.get("/");
    assert_eq!((reply.status, reply.body.as_str()), (200, "Hello, World!"));
    assert_eq!(server.stop().0, Some(0));
}

fn post(client: &mut Client, path: &str, body: &str) -> crate::support::Reply {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    client.send(head + body);
    client.reply()
}

#[test]
fn json() {
    let server = example("json");
    let mut client = server.connect();
    let reply = post(&mut client, "/greet", "{\"name\":\"Ada\"}");
    assert_eq!((reply.status, reply.body.as_str()), (200, "{\"greeting\":\"Ada\"}"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let reply = post(&mut client, "/greet", "{");
    assert!(reply.status == 400 && reply.body.starts_with("{\"error\":"), "{}", reply.body);
    assert_eq!(client.get("/greet").header("allow"), Some("POST"));
    assert_eq!(client.get("/").status, 404);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn state() {
    let server = example("state");
    let mut client = server.connect();
    for count in 1..=3 {
        let body = client.get("/").body;
        assert!(body.starts_with(&format!("request {count} of worker ")), "{body}");
    }
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn transfer() {
    let server = example("transfer");
    let mut client = server.connect();
    assert_eq!(post(&mut client, "/", &"x".repeat(100_000)).body, "100000 bytes\n");
    client.send("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(client.reply().body, "3 bytes\n");
    assert_eq!(client.get("/?mib=5").body.len(), 5 << 20);
    assert_eq!(server.stop().0, Some(0));
}

#[test]
fn unix() {
    let socket = std::env::temp_dir().join(format!("ringfort-unix-{}", std::process::id()));
    let mut command = Command::new(program("unix"));
    let server = Server::spawn(command.arg("127.0.0.1:0").arg(&socket));
    for mut client in [server.connect(), Client::new(UnixStream::connect(&socket).unwrap())] {
        assert_eq!(client.get("/a?b").body, "GET /a?b\n");
    }
    assert_eq!(server.stop().0, Some(0));
    assert!(!socket.exists(), "removed at the end");
}

#[test]
fn tested() {
    let server = example("tested");
    let mut client = server.connect();
    assert_eq!(post(&mut client, "/", "größer").body, "6");
    assert_eq!(client.get("/").status, 405);
    assert_eq!(server.stop().0, Some(0));
}

/// It measures, says what it saw, and fails by its exit code when a limit is not kept: on a machine
/// with something else to do it may not be.
#[cfg(feature = "load")]
#[test]
fn bench() {
    let output = Command::new(program("bench")).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!([Some(0), Some(3), Some(5)].contains(&output.status.code()), "{output:?}");
    assert!(text.contains("p99") && text.contains("requests/s of 500.0 offered"), "{text}");
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
