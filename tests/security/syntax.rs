//! Tables of attacks on the syntax of heads, and on what is said in answers.

use crate::app::MARKER;
use crate::catalogue::Target;
use crate::client::{get, post};

pub(crate) fn line_ends(target: &mut Target) {
    for head in [
        "GET / HTTP/1.1\nHost: x\n\n",
        "GET / HTTP/1.1\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: y\nZ: z\r\n\r\n",
        "GET / HTTP/1.1\rHost: x\r\r",
        "GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\r\n",
        "GET / HTTP/1.1\n\rHost: x\n\r\n\r",
        "GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\ty\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z: z\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        "GET / HTTP/1.1\r\n\tHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n \r\n\r\n",
        " \r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\rGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        target.check(head, 400);
    }
    let bytes = [b"\r\n\r\n".to_vec(), get("/marker")].concat();
    target.check_served(bytes, &[&format!("200 {MARKER}")]);
}

pub(crate) fn field_bytes(target: &mut Target) {
    for byte in (0..32).filter(|byte| *byte != b'\t').chain([127]) {
        let mut head = b"GET / HTTP/1.1\r\nHost: x\r\nX: a".to_vec();
        head.push(byte);
        head.extend(b"b\r\n\r\n");
        target.check(head, 400);
    }
    for byte in (0..=255_u8).filter(|byte| !is_token(*byte)) {
        let mut head = b"GET / HTTP/1.1\r\nHost: x\r\nX".to_vec();
        head.push(byte);
        // A colon ends the name; nothing is wrong with that.
        head.extend(if byte == b':' { "\0y\r\n\r\n" } else { ": y\r\n\r\n" }.bytes());
        target.check(head, 400);
    }
    for line in [": x", "X", "X y: z", "X : y", "X\t: y", "(x): y", "\"x\": y", "X\0: y"] {
        target.check(format!("GET / HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n"), 400);
    }
    let bytes = b"GET /marker HTTP/1.1\r\nHost: x\r\nX: a\tb\xe4\xff\r\n!#$%&'*+-.^_`|~: \r\n\r\n";
    target.check_served(bytes, &[&format!("200 {MARKER}")]);
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(crate) fn hosts(target: &mut Target) {
    target.check("GET / HTTP/1.1\r\n\r\n", 400);
    target.check("GET / HTTP/1.1\r\nX: y\r\n\r\n", 400);
    for lines in [
        "Host: x\r\nHost: x",
        "Host: x\r\nhost: y",
        "Host: x\r\nHost:",
        "Host: user@x",
        "Host: x/y",
        "Host: x?y",
        "Host: x#y",
        "Host: http://x",
        "Host: x:port",
        "Host: x:80:80",
        "Host: x:-1",
        "Host: x y",
        "Host: x, y",
        "Host: [::1",
        "Host: ::1]",
        "Host: []",
        "Host: x[0]",
        "Host: x\\y",
        "Host: x\u{e4}",
        "Host: x\0",
        "Host: <x>",
        "Host : x",
    ] {
        target.check(format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n"), 400);
    }
    for host in ["", "x", "x:", "x:80", "127.0.0.1:1", "[::1]:80", "a-b_c.example", "%41"] {
        let head = format!("GET /marker HTTP/1.1\r\nHost: {host}\r\n\r\n");
        target.check_served(head, &[&format!("200 {MARKER}")]);
    }
}

pub(crate) fn request_lines(target: &mut Target) {
    for line in [
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET /\u{b}HTTP/1.1",
        "GET\u{c}/ HTTP/1.1",
        "GET / x HTTP/1.1",
        "GET /\u{a0}HTTP/1.1",
        "GET /",
        "GET",
        "GET / ",
        "GET / HTTP",
        "GET / HTTP/",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/11",
        "GET / HTTP/1.1x",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/+1.1",
        "GET / HTTP/1,1",
        "GET / HTTP 1.1",
        "GET / http/1.1",
        "GET / HTTPS/1.1",
        "GET / XTTP/1.1",
        "GET /#x HTTP/1.1",
        "GET /x#y HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\u{e4} HTTP/1.1",
        "GET /\u{ff0f} HTTP/1.1",
        "GET x HTTP/1.1",
        "GET ?x HTTP/1.1",
        "GET * HTTP/1.1",
        "POST * HTTP/1.1",
        "GET x:80 HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "CONNECT http://x/ HTTP/1.1",
        "OPTIONS *x HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http:/x HTTP/1.1",
        "GET http://user@x/ HTTP/1.1",
        "GET http://x:y/ HTTP/1.1",
        "GET ftp://x/ HTTP/1.1",
        "GET file:///etc/passwd HTTP/1.1",
        "G(T / HTTP/1.1",
        "G\0T / HTTP/1.1",
        "G\u{e4}T / HTTP/1.1",
        "\u{feff}GET / HTTP/1.1",
        "GET: / HTTP/1.1",
    ] {
        target.check(format!("{line}\r\nHost: x\r\n\r\n"), 400);
    }
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9"] {
        target.check(format!("GET / {version}\r\nHost: x\r\n\r\n"), 505);
    }
    for line in ["get / HTTP/1.1", "Get / HTTP/1.1", "CONNECT x HTTP/1.1", "CONNECT x:443 HTTP/1.1"]
    {
        target.check(format!("{line}\r\nHost: x\r\n\r\n"), 501);
    }
    // HTTP/0.9 ends after its line.
    target.check("GET /\r\n", 400);
    for target_of in ["/marker", "/marker?a=%00", "http://y/marker", "HTTPS://y:1/marker?b"] {
        let head = format!("GET {target_of} HTTP/1.1\r\nHost: x\r\n\r\n");
        target.check_served(head, &[&format!("200 {MARKER}")]);
    }
}

/// Endless parts of heads: answered at the limit.
pub(crate) fn over_long(target: &mut Target) {
    let long = "x".repeat(1 << 20);
    target.check(format!("GET /{long}"), 414);
    target.check(format!("GET /?{long}"), 414);
    target.check(format!("GET http://x/{long}"), 414);
    target.check("X".repeat(1 << 20), 414);
    target.check(format!("GET / HTTP/1.1\r\nHost: {long}"), 431);
    target.check(format!("GET / HTTP/1.1\r\nHost: x\r\n{long}"), 431);
    target.check(format!("GET / HTTP/1.1\r\nHost: x\r\nX: {long}"), 431);
    target.check(format!("GET / HTTP/1.1\r\nHost: x\r\n{}", "X: y\r\n".repeat(100_000)), 431);
    target.check(format!("GET / HTTP/1.1\r\nHost: x\r\nX:{}", " ".repeat(1 << 20)), 431);
    target.check(post("Transfer-Encoding: chunked\r\n", &format!("1;{long}")), 400);
    target.check(post("Transfer-Encoding: chunked\r\n", &format!("1;a=\"{long}")), 400);
    target.check(post("Transfer-Encoding: chunked\r\n", &"0".repeat(1 << 20)), 400);
    target.check(post("Transfer-Encoding: chunked\r\n", &format!("0\r\nX: {long}")), 400);
    let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(20_000));
    target.check(post("Transfer-Encoding: chunked\r\n", &trailers), 400);
    let extensions = "1;a=b\r\nx\r\n".repeat(20_000);
    target.check(post("Transfer-Encoding: chunked\r\n", &extensions), 400);
}

pub(crate) fn other_protocols(target: &mut Target) {
    // TLS 1.3: a record that holds a ClientHello.
    let mut hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
    hello.extend((0..500).map(|number: u16| u8::try_from(number % 251).unwrap_or(0)));
    target.check(hello, 400);
    target.check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\u{12}\u{4}\0\0\0\0\0", 505);
    for greeting in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\n\r\n\0\r\nQUIT\n\u{21}\u{11}\0\u{c}",
        "EHLO x\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "\u{3}\0\0\u{13}\u{e}\u{e0}\0\0\0\0\0\u{1}\0\u{8}\0\u{3}\0\0\0",
        "stats\r\n",
        "\0",
        "{}\r\n",
        "<?xml version=\"1.0\"?>\r\n",
        "RTSP / RTSP/1.0\r\n\r\n",
        "OPTIONS sip:x SIP/2.0\r\n\r\n",
    ] {
        target.check(greeting, 400);
    }
    target.check("\r\n".repeat(1 << 19), 400);
    target.check("\n".repeat(1 << 20), 400);
    target.check("\0".repeat(1 << 20), 400);
    target.check(noise(1 << 20), 400);
}

/// Bytes without order, the same in each run. None of them begins like a method.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8 | 0x80
    };
    (0..bytes).map(next).collect()
}

/// What a client says becomes no field of an answer.
pub(crate) fn splitting(target: &mut Target) {
    let refused = "500 Internal Server Error";
    for query in [
        "value=a%0d%0aSet-Cookie:%20b",
        "value=a%0aSet-Cookie:%20b",
        "value=a%0dSet-Cookie:%20b",
        "value=%0d%0a%0d%0aHTTP/1.1%20200%20OK",
        "value=%00",
        "value=%7f",
        "name=a%0d%0ab",
        "name=a:b",
        "name=a%20b",
        "name=",
        "name=Content-Length",
        "name=transfer-encoding&value=chunked",
        "name=Connection&value=keep-alive",
        "name=Date",
        "name=Content-Type&value=a%0d%0aX:%20y",
    ] {
        let bytes = [get(&format!("/split?{query}")), get("/marker")].concat();
        target.check_served(bytes, &[refused, &format!("200 {MARKER}")]);
    }
    target.check_served(get("/split?value=a%09b%C3%A4"), &["200 set"]);
    // A target is not decoded on the way.
    target.check_served(get("/%0d%0aX:%20y"), &["200 0"]);
}
