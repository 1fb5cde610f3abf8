//! Real HTTP over real sockets: every method, framing and way to ask, bodies compared.

use crate::client::{Client, PATIENCE};
use crate::harness::Case;
use crate::load::{Clients, go_on_for, under_load};
use crate::server::{Server, command, connect_unix, folder};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

pub(crate) const CASES: &[Case] = &[
    ("traffic::shared::every_way_to_ask", || every_way("shared")),
    ("traffic::centralized::every_way_to_ask", || every_way("centralized")),
    ("traffic::shared::load_has_no_errors", || load("shared")),
    ("traffic::centralized::load_has_no_errors", || load("centralized")),
    ("traffic::shared::curl", || curl("shared")),
    ("traffic::centralized::curl", || curl("centralized")),
    ("traffic::curl_over_a_unix_path", curl_over_unix),
    ("traffic::every_worker_serves", every_worker),
];

/// As `/big` has it.
fn big() -> Vec<u8> {
    let line = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n";
    line.iter().copied().cycle().take(102_400).collect()
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn every_way(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    // Several connections side by side, each through everything: keep-alive is part of it.
    let mut clients: Vec<Client> = (0..6).map(|_| server.connect()).collect();
    for client in &mut clients {
        plain(client);
        lengths(client);
        chunked(client);
        continued(client);
        pipelined(client);
    }
    for mut client in clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!(client.reply().unwrap().header("connection"), Some("close"));
        assert!(client.is_closed());
    }
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("accepted=6 served=6 refused=0 cut=0 open=0"), "{log}");
}

fn plain(client: &mut Client) {
    let reply = client.get("/").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "Hello, World!"));
    assert_eq!(reply.header("content-type"), Some("text/plain"));
    assert!(reply.header("date").is_some_and(|date| date.ends_with(" GMT")), "{reply:?}");
    assert_eq!(client.get("/big").unwrap().body, big());
    assert_eq!(client.get("/stream").unwrap().text().lines().count(), 5);
    assert_eq!(client.get("/nowhere").unwrap().status, 404);
    client.send("HEAD /big HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let reply = client.head().unwrap();
    assert_eq!((reply.status, reply.header("content-length")), (200, Some("102400")));
    client.send("GET /baseline11?a=3&b=-5 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(client.reply().unwrap().text(), "-2");
}

fn lengths(client: &mut Client) {
    for length in [0, 1, 4095, 4096, 4097, 100_000] {
        let body = noise(length);
        let head = format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        client.send(head).unwrap();
        client.send(&body).unwrap();
        assert_eq!(client.reply().unwrap().body, body, "{length} bytes");
    }
}

fn chunked(client: &mut Client) {
    let body = noise(300_000);
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for piece in body.chunks(70_001) {
        client.send(format!("{:X};name=value\r\n", piece.len())).unwrap();
        client.send(piece).unwrap();
        client.send("\r\n").unwrap();
    }
    client.send("0\r\nTrailer: read\r\n\r\n").unwrap();
    assert_eq!(client.reply().unwrap().body, body);
    client.send("POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    client.send("5\r\n12345\r\n3\r\n678\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.reply().unwrap().text(), "8");
}

fn continued(client: &mut Client) {
    let head =
        "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    client.send(head).unwrap();
    assert_eq!(client.head().unwrap().status, 100);
    client.send("body").unwrap();
    assert_eq!(client.reply().unwrap().text(), "body");
}

/// Answers come in the order of the requests, whoever is ready first.
fn pipelined(client: &mut Client) {
    let mut requests = String::new();
    for number in 0..32 {
        let path = if number % 8 == 3 { "/slow?ms=5".to_owned() } else { sum(number) };
        requests += &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    client.send(requests).unwrap();
    for number in 0..32 {
        let want = if number % 8 == 3 { "5 ms later\n".to_owned() } else { number.to_string() };
        assert_eq!(client.reply().unwrap().text(), want);
    }
}

fn sum(number: u32) -> String {
    format!("/baseline11?a={number}&b=0")
}

fn load(mode: &str) {
    let server = Server::start(&format!("--mode {mode} --workers 2"));
    server.await_ready(2);
    let clients = Clients { steady: 16, short: 4 };
    let ((), tally) = under_load(server.address(), clients, || {
        go_on_for(Duration::from_millis(500));
    });
    println!("answered={} on {} connections", tally.answered, tally.connected);
    tally.is_clean();
    assert!(tally.closed.is_empty(), "{tally:?}");
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    let books = format!("accepted={0} served={0} refused=0 cut=0 open=0", tally.connected);
    assert!(log.contains(&books), "{tally:?} {log}");
}

/// Runs curl. The gate needs it, so that a machine without it fails here.
fn run_curl(arguments: &[&str]) -> Output {
    let limit = PATIENCE.as_secs().to_string();
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", &limit]).args(arguments);
    command.output().expect("curl is installed")
}

/// What curl got, when it was content.
#[track_caller]
fn ok(arguments: &[&str]) -> Vec<u8> {
    let output = run_curl(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {arguments:?}: {complaint}");
    output.stdout
}

fn curl(mode: &str) {
    let root = folder();
    let page = noise(50_000);
    fs::write(root.join("page.bin"), &page).unwrap();
    let options = format!("--mode {mode} --workers 2 --root {}", root.display());
    let server = Server::start(&options);
    server.await_ready(2);
    let base = server.urls()[0].trim_end_matches('/').to_owned();
    let url = |path: &str| format!("{base}{path}");

    // Keep-alive: two transfers, one connection.
    let counts = ok(&["-w", "%{num_connects}", &url("/plaintext"), &url("/plaintext")]);
    assert_eq!(counts, b"Hello, World!1Hello, World!0");
    assert_eq!(ok(&[&url("/big")]), big());
    assert_eq!(
        ok(&["-w", "%{http_code} %header{content-length}", "-I", "-o", "/dev/null", &url("/big")]),
        b"200 102400"
    );
    assert_eq!(ok(&["-N", &url("/stream")]).split(|byte| *byte == b'\n').count(), 6);
    uploads(&root, &url);
    ranges(&url, &page);
    browser(&url);
}

fn uploads(root: &Path, url: &dyn Fn(&str) -> String) {
    let small = noise(200_000);
    let path = root.join("small");
    fs::write(&path, &small).unwrap();
    let at = |path: &Path| format!("@{}", path.display());
    let chunked = ["-H", "Transfer-Encoding: chunked", "--data-binary", &at(&path)];
    assert_eq!(ok(&[&chunked[..], &[&url("/echo")]].concat()), small);
    let expect = ["-H", "Expect: 100-continue", "--data-binary", &at(&path)];
    assert_eq!(ok(&[&expect[..], &[&url("/echo")]].concat()), small);
    let whole = root.join("whole");
    fs::write(&whole, vec![b'x'; 10 << 20]).unwrap();
    let upload = ["-T", &whole.display().to_string(), &url("/upload")];
    assert_eq!(ok(&upload), b"10485760");
    // Refused before it is read, with curl asking first and without.
    let large = root.join("large");
    fs::write(&large, vec![b'x'; 20 << 20]).unwrap();
    for ask in ["Expect: 100-continue", "Expect:"] {
        let got = run_curl(&[
            "-w",
            " %{http_code}",
            "-H",
            ask,
            "--data-binary",
            &at(&large),
            &url("/echo"),
        ]);
        let (text, complaint) = (String::from_utf8_lossy(&got.stdout), &got.stderr);
        assert!(text.ends_with(" 413"), "{ask}: {text:?} {}", String::from_utf8_lossy(complaint));
    }
}

fn ranges(url: &dyn Fn(&str) -> String, page: &[u8]) {
    let at = url("/page.bin");
    assert_eq!(ok(&[&at]), page);
    assert_eq!(ok(&["-r", "100-199", &at]), page[100..200]);
    assert_eq!(ok(&["-r", "-7", &at]), page[page.len() - 7..]);
    let code = |arguments: &[&str]| {
        let all = [&["-w", "%{http_code}", "-o", "/dev/null"], arguments, &[&at]].concat();
        String::from_utf8(ok(&all)).expect("a number")
    };
    assert_eq!(code(&["-r", "0-9"]), "206");
    assert_eq!(code(&["-r", "60000-"]), "416");
    let etag = String::from_utf8(ok(&["-o", "/dev/null", "-w", "%header{etag}", &at])).unwrap();
    assert_eq!(code(&["-H", &format!("If-None-Match: {etag}")]), "304");
    assert_eq!(code(&["--path-as-is", "--request-target", "/../../etc/passwd"]), "404");
}

/// What a browser sends today: many fields, long values, quoted words.
fn browser(url: &dyn Fn(&str) -> String) {
    let fields = [
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
        "Accept-Language: de,en-US;q=0.7,en;q=0.3",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "DNT: 1",
        "Sec-GPC: 1",
        "Connection: keep-alive, Upgrade-Insecure-Requests",
        "Upgrade-Insecure-Requests: 1",
        "Sec-Fetch-Dest: document",
        "Sec-Fetch-Mode: navigate",
        "Sec-Fetch-Site: none",
        "Sec-Fetch-User: ?1",
        "sec-ch-ua: \"Not)A;Brand\";v=\"8\", \"Chromium\";v=\"138\"",
        "sec-ch-ua-mobile: ?0",
        "Priority: u=0, i",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
        "Referer: http://example.com/a?b=c&d=%20e",
    ];
    let cookie = format!("Cookie: session={}; theme=dark", "c".repeat(3000));
    let mut arguments: Vec<&str> = fields.iter().flat_map(|field| ["-H", field]).collect();
    let at = url("/plaintext");
    arguments.extend(["-H", &cookie, &at, &at]);
    assert_eq!(ok(&arguments), b"Hello, World!Hello, World!");
}

fn curl_over_unix() {
    let path = folder().join("socket");
    let text = path.display().to_string();
    let server = Server::launch(&mut command(&format!("--addr unix:{text} --workers 2")));
    server.await_ready(2);
    assert_eq!(ok(&["--unix-socket", &text, "http://localhost/big"]), big());
    let mut client = connect_unix(&path);
    plain(&mut client);
    pipelined(&mut client);
}

/// In centralized mode the balancer spreads connections evenly; the kernel's hash does not, but
/// leaves nobody out.
fn every_worker() {
    for (mode, most) in [("shared", 40), ("centralized", 16)] {
        let server = Server::start(&format!("--mode {mode} --workers 4"));
        server.await_ready(4);
        let mut clients: Vec<Client> = (0..64).map(|_| server.connect()).collect();
        let pids = clients.iter_mut().map(|client| client.get("/workers").unwrap().pid());
        let pids: Vec<u32> = pids.collect();
        for worker in server.workers() {
            let share = pids.iter().filter(|pid| **pid == worker).count();
            assert!((1..=most).contains(&share), "{mode}: {share} of 64 on {worker}");
        }
    }
}
