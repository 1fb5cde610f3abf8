//! Heads as tables, one function a class of attack or rule, then properties. Each row is also
//! given in every cut, and followed by more bytes.

use super::*;
use crate::http::broken::broken;
use crate::stats::CloseReason;
use proptest::prelude::*;

/// `GET / 1.1 none keep`, `incomplete`, or `400`.
fn show(outcome: &Result<Option<Head<'_>>, Refusal>) -> String {
    match outcome {
        Err(refusal) => refusal.status.to_string(),
        Ok(None) => "incomplete".to_owned(),
        Ok(Some(head)) => crate::fuzzing::describe(head),
    }
}

fn config(settings: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    for (name, value) in settings {
        config.set(name, value).unwrap();
    }
    config
}

fn verdict(bytes: &[u8], limits: &HeadLimits) -> String {
    show(&parse(bytes, &mut Storage::new(), limits))
}

/// The verdict of every prefix is the verdict of the whole, or that more is needed.
#[track_caller]
fn check_cuts(bytes: &[u8], limits: &HeadLimits) -> String {
    let whole = verdict(bytes, limits);
    let mut storage = Storage::new();
    let length = parse(bytes, &mut storage, limits).ok().flatten().map(|head| head.length);
    // All cuts of a short head; of a long one those near its end and every 61st.
    let all = bytes.len() < 600;
    for cut in (0..bytes.len()).filter(|cut| all || cut % 61 == 0 || cut + 9 > bytes.len()) {
        let part = verdict(&bytes[..cut], limits);
        let needs_more = length.is_none_or(|length| cut < length);
        let want = if needs_more && part == "incomplete" { "incomplete" } else { &whole };
        assert_eq!(part, want, "cut at {cut} of {}", bytes.escape_ascii());
    }
    if whole != "incomplete" {
        for more in ["\0", "\n", "GET / HTTP/1.1\r\n\r\n"] {
            let longer = [bytes, more.as_bytes()].concat();
            assert_eq!(verdict(&longer, limits), whole, "followed by {more:?}");
        }
    }
    whole
}

#[track_caller]
fn check(head: impl AsRef<[u8]>, want: &str) {
    check_with(&[], head, want);
}

#[track_caller]
fn check_with(settings: &[(&str, &str)], head: impl AsRef<[u8]>, want: &str) {
    let limits = HeadLimits::from(&config(settings));
    let bytes = head.as_ref();
    assert_eq!(check_cuts(bytes, &limits), want, "{}", bytes.escape_ascii());
}

/// A POST of HTTP/1.1 with these lines after Host, each with its line end.
#[track_caller]
fn check_fields(lines: &str, want: &str) {
    check(format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n"), want);
}

/// This request line, before `Host: x`.
#[track_caller]
fn check_line(line: &str, want: &str) {
    check(format!("{line}\r\nHost: x\r\n\r\n"), want);
}

#[test]
fn served() {
    check("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / 1.1 none keep");
    check("GET / HTTP/1.0\r\n\r\n", "GET / 1.0 none close");
    check_line("M-SEARCH /a?b=c HTTP/1.1", "M-SEARCH /a?b=c 1.1 none keep");
    check_line(
        "HEAD /%C3%A4//../\"<>\\^`{|}~ HTTP/1.1",
        "HEAD /%C3%A4//../\"<>\\^`{|}~ 1.1 none keep",
    );
    check_fields("A:\r\nB: \t \r\nC:d\t\r\nD: \u{e4}\r\n", "POST / 1.1 none keep");
    check_fields("Content-Length: 5\r\n", "POST / 1.1 5 keep");
    check_fields("content-length:0\r\n", "POST / 1.1 0 keep");
    check_fields("TRANSFER-ENCODING: Chunked\r\n", "POST / 1.1 chunked keep");
}

#[test]
fn incomplete() {
    check("", "incomplete");
    check("\r\n\r", "incomplete");
    check("G", "incomplete");
    check("GET / HTTP/1.1\r\nHost: x\r\n", "incomplete");
    check("GET / HTTP/1.1\r\nHost: x\r\n\r", "incomplete");
}

#[test]
fn cl_and_te() {
    check_fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "400");
    check_fields("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "400");
    check_fields("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "400");
    check_fields("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", "400");
}

#[test]
fn te_obfuscation() {
    for value in [
        "",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "chunked, chunked",
        "chunked, gzip",
        ",chunked",
        "chunked,",
        "chunked,,",
        "\"chunked\"",
        "chunked;q=1",
        "chunked ;",
        "chunked gzip",
        "chun\tked",
        "chunked\u{b}",
        "\u{b}chunked",
        "\u{c}chunked",
        "chunked\0",
        "chun\rked",
        "\rchunked",
        "chunked\r",
        "\n chunked",
        "\r\n chunked",
        "chunked\r\n gzip",
        "ch\u{fc}nked",
        "\u{ff43}hunked",
        "'chunked",
        "chunked\u{7f}",
    ] {
        let want = if value == "'chunked" { "501" } else { "400" };
        check_fields(&format!("Transfer-Encoding: {value}\r\n"), want);
    }
    check_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "400");
    check_fields("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "400");
    check_fields("Transfer_Encoding: chunked\r\n", "400");
    check_fields("Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", "400");
    check_fields("Transfer Encoding: chunked\r\n", "400");
    check_fields("Transfer-Encoding : chunked\r\n", "400");
    check_fields(" Transfer-Encoding: chunked\r\n", "400");
    check_fields("Transfer\u{2010}Encoding: chunked\r\n", "400");
    check_fields("Transfer-Encoding\r\n: chunked\r\n", "400");
    check_fields("X: y\nTransfer-Encoding: chunked\r\n", "400");
    check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "400");
    check("POST / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n", "400");
}

#[test]
fn te_unknown() {
    for value in ["gzip", "gzip, chunked", "gzip\t,\tchunked", "xchunked", "x, y", "chunke"] {
        check_fields(&format!("Transfer-Encoding: {value}\r\n"), "501");
    }
    check_fields("Transfer-Encodings: chunked\r\n", "POST / 1.1 none keep");
}

#[test]
fn cl_abuse() {
    for value in [
        "",
        "+5",
        "-5",
        "-0",
        "0x5",
        "5a",
        "5 5",
        "5,5",
        "5, 5",
        "5_0",
        "5.0",
        "5;",
        "\"5\"",
        "1e1",
        "\u{663}",
        "18446744073709551616",
        "18446744073709551621",
        "36893488147419103237",
        "99999999999999999999",
        "000000000000000000005",
        "5\0",
        "5\u{b}",
        "5\r",
        "\r5",
        "5\n",
        "five",
    ] {
        check_fields(&format!("Content-Length: {value}\r\n"), "400");
    }
    check_fields("Content-Length: 5\r\nContent-Length: 5\r\n", "400");
    check_fields("Content-Length: 5\r\ncontent-length: 6\r\n", "400");
    check_fields("Content_Length: 5\r\n", "400");
    check_fields("Content-Length : 5\r\n", "400");
    check_fields("Content-Length\t: 5\r\n", "400");
    check_fields("Content-Length: 5\r\n 6\r\n", "400");
    // Large is not malformed.
    check_fields("Content-Length: 9223372036854775808\r\n", "413");
    check_fields("Content-Length: 18446744073709551615\r\n", "413");
    check_fields("Content-Length: 005\r\n", "POST / 1.1 5 keep");
    check_fields("Content-Length: \t 5 \t\r\n", "POST / 1.1 5 keep");
}

#[test]
fn body_max() {
    check_fields("Content-Length: 10485760\r\n", "POST / 1.1 10485760 keep");
    check_fields("Content-Length: 10485761\r\n", "413");
    check_fields("Expect: 100-continue\r\nContent-Length: 10485761\r\n", "413");
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n";
    check_with(&[("body_max", "0")], head, "413");
}

#[test]
fn cl_0() {
    // A body on a method that has none by custom is framed like any other.
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        check(
            format!("{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 35\r\n\r\n"),
            &format!("{method} / 1.1 35 keep"),
        );
    }
}

#[test]
fn line_ends() {
    check("GET / HTTP/1.1\nHost: x\n\n", "400");
    check("GET / HTTP/1.1\nHost: x\r\n\r\n", "400");
    check("GET / HTTP/1.1\r\nHost: x\n\r\n", "400");
    check("GET / HTTP/1.1\r\nHost: x\r\n\n", "400");
    check("GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", "400");
    check("GET / HTTP/1.1\r\nHost: x\r\nA:\n\r\n", "400");
    check("GET / HTTP/1.1\r\nHost: x\r\nA: \nB: c\r\n\r\n", "400");
    check("GET / HTTP/1.0\n\r\n", "400");
    check("GET / HTTP/1.0\r\n\n", "400");
    check("GET / HTTP/1.0\n\n", "400");
    check("GET / HTTP/1.1\rHost: x\r\r", "400");
    check("GET / HTTP/1.1\n\rHost: x\n\r\n\r", "400");
    check("GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", "400");
    check("GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", "400");
    check("GET / HTTP/1.1\r\nHost: x\r\n\r\r\n", "400");
    check_fields("A: b\rC: d\r\n", "400");
    check_fields("A: b\r\n c\r\n", "400");
    check_fields("A: b\r\n\tc\r\n", "400");
    check_fields("A:\r\n b\r\n", "400");
    check_fields("A:\r\n\tb\r\n", "400");
    check_fields("A : b\r\n", "400");
    check_fields("A\t: b\r\n", "400");
    check_fields(" \r\n", "400");
    check_fields("\t\r\n", "400");
    check("GET / HTTP/1.1\r\n Host: x\r\n\r\n", "400");
    check("GET / HTTP/1.1\r\n\tHost: x\r\n\r\n", "400");
    check("GET / HTTP/1.1\r\n \r\nHost: x\r\n\r\n", "400");
}

#[test]
fn empty_lines_first() {
    let head = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    check(format!("\r\n{head}"), "GET / 1.1 none keep");
    check(format!("{}{head}", "\r\n".repeat(4)), "GET / 1.1 none keep");
    check(format!("{}{head}", "\r\n".repeat(5)), "400");
    check("\r\n".repeat(1 << 10), "400");
    check(format!("\n{head}"), "400");
    check(format!("\r\n\n{head}"), "400");
    check(format!("\r{head}"), "400");
    check(format!("\r\r\n{head}"), "400");
    check(format!(" {head}"), "400");
    check(format!(" \r\n{head}"), "400");
    let mut storage = Storage::new();
    let bytes = format!("\r\n\r\n{head}rest");
    let limits = HeadLimits::from(&Config::default());
    let head = parse(bytes.as_bytes(), &mut storage, &limits).unwrap().unwrap();
    assert_eq!(&bytes[head.length..], "rest");
}

#[test]
fn field_bytes() {
    for byte in 0..=u8::MAX {
        let with = |before: &str, after: &str| {
            [format!("GET / HTTP/1.1\r\nHost: x\r\n{before}").as_bytes(), &[byte], after.as_bytes()]
                .concat()
        };
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        let verdict = |served: bool| if served { "GET / 1.1 none keep" } else { "400" };
        check(with("A", "B: c\r\n\r\n"), verdict(is_token || byte == b':'));
        check(with("", ": c\r\n\r\n"), verdict(is_token));
        check(with("A: b", "c\r\n\r\n"), verdict(is_text));
        check(with("A: ", "\r\n\r\n"), verdict(is_text));
        check(with("A: 0123456789012345678901234567890123456789", "\r\n\r\n"), verdict(is_text));
    }
    check_fields(": b\r\n", "400");
    check_fields("A\r\n", "400");
    check_fields("A b: c\r\n", "400");
    check_fields("\u{e4}: b\r\n", "400");
}

fn with_host(value: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n")
}

#[test]
fn host_forms() {
    for value in [
        "",
        "x",
        "x:",
        "x:80",
        "example.com:8080",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:80",
        "[::ffff:1.2.3.4]",
        "a_b~c",
        "a!$&'()*+,;=",
        "%41",
        "a%2fb:1",
    ] {
        check(with_host(value), "GET / 1.1 none keep");
    }
}

#[test]
fn host() {
    for value in [
        "u@x",
        "u:p@x",
        "x/",
        "x/y",
        "/x",
        "x?y",
        "x#y",
        "x:8a",
        "x:-1",
        "x:+1",
        "x:80:80",
        ":80",
        ":",
        "x y",
        "x\ty",
        "x, y",
        "[",
        "]",
        "[]",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:a",
        "[g::1]",
        "[1.2.3.4]",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "x[",
        "x]",
        "http://x",
        "x\\y",
        "\"x\"",
        "<x>",
        "{x}",
        "x|y",
        "%",
        "%4",
        "%zz",
        "x\u{e4}",
        "x\0y",
    ] {
        check(with_host(value), "400");
    }
    check("GET / HTTP/1.1\r\n\r\n", "400");
    check("GET / HTTP/1.1\r\nHosts: x\r\n\r\n", "400");
    check("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "400");
    check("GET / HTTP/1.1\r\nHost: x\r\nhOST: y\r\n\r\n", "400");
    check("GET / HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n", "400");
    check("GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", "400");
    check("GET / HTTP/1.0\r\nHost: u@x\r\n\r\n", "400");
    check("GET http://x/ HTTP/1.1\r\n\r\n", "400");
    check("GET http://x/ HTTP/1.1\r\nHost: u@x\r\n\r\n", "400");
}

#[test]
fn request_line_whitespace() {
    for line in [
        "",
        " ",
        "GET",
        "GET ",
        "GET /",
        "GET / ",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET\u{b}/ HTTP/1.1",
        "GET /\u{c}HTTP/1.1",
        "GET\r/ HTTP/1.1",
        "GET / x HTTP/1.1",
        "GET /\u{a0}HTTP/1.1",
        "GET / HTTP/1.1 GET",
        "GET/ HTTP/1.1",
        "/ HTTP/1.1",
        "GET HTTP/1.1",
        " / HTTP/1.1",
    ] {
        check_line(line, "400");
    }
}

#[test]
fn version() {
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/1.9", "HTTP/0.9", "HTTP/3.0", "HTTP/9.1"] {
        check_line(&format!("GET / {version}"), "505");
    }
    for version in [
        "http/1.1",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/2",
        "HTTP/11.1",
        "HTTP/1.10",
        "HTTP/1.1.1",
        "HTTP/1,1",
        "HTTP 1.1",
        "HTTP/+1.1",
        "HTTP/ 1.1",
        "HTTPS/1.1",
        "HTTP/1.x",
        "HTTP/x.1",
        "HTTP",
        "ICY",
        "H",
        "\u{ff28}TTP/1.1",
    ] {
        check_line(&format!("GET / {version}"), "400");
    }
    check("GET /\r\n\r\n", "400");
    check("GET /\n", "400");
}

#[test]
fn target_bytes() {
    for byte in 0..=u8::MAX {
        let head = [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
        if byte.is_ascii_graphic() && byte != b'#' {
            check(head, &format!("GET /a{}b 1.1 none keep", char::from(byte)));
        } else {
            check(head, "400");
        }
    }
    check_line("GET /# HTTP/1.1", "400");
    check_line("GET /a?b#c HTTP/1.1", "400");
    check_line("GET /\u{e4} HTTP/1.1", "400");
    check_line(&format!("GET /{}\u{e4} HTTP/1.1", "a".repeat(100)), "400");
}

#[test]
fn target_form() {
    for line in [
        "GET http://x/ HTTP/1.1",
        "GET HTTP://x HTTP/1.1",
        "GET https://x:1/a?b HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "OPTIONS / HTTP/1.1",
        "OPTIONS http://x HTTP/1.1",
        "GET http://[::1]?q HTTP/1.1",
    ] {
        let (request, _) = line.rsplit_once(' ').unwrap();
        check_line(line, &format!("{request} 1.1 none keep"));
    }
    for line in [
        "GET * HTTP/1.1",
        "OPTIONS ** HTTP/1.1",
        "OPTIONS *?a HTTP/1.1",
        "GET x HTTP/1.1",
        "GET x/y HTTP/1.1",
        "GET x:80 HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET http:/x HTTP/1.1",
        "GET http:x HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http://u@x/ HTTP/1.1",
        "GET http://x:a/ HTTP/1.1",
        "GET ://x/ HTTP/1.1",
        "GET ftp://x/ HTTP/1.1",
        "GET //x://y HTTP/1.1x",
        "GET file:///etc HTTP/1.1",
        "GET \\ HTTP/1.1",
        "GET http://x\\y/ HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "CONNECT * HTTP/1.1x",
        "CONNECT http://x/ HTTP/1.1",
        "CONNECT u@x:1 HTTP/1.1",
    ] {
        check_line(line, "400");
    }
    check_line("CONNECT x:443 HTTP/1.1", "501");
    check_line("CONNECT [::1]:443 HTTP/1.1", "501");
    check_line("GET //x://y HTTP/1.1", "GET //x://y 1.1 none keep");
}

#[test]
fn method() {
    for method in ["get", "Get", "GEt", "post", "connect", "foo", "GETx"] {
        check_line(&format!("{method} / HTTP/1.1"), "501");
    }
    for byte in 0..=u8::MAX {
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let want = match byte {
            b'a'..=b'z' => "501".to_owned(),
            _ if is_token => format!("GE{}T / 1.1 none keep", char::from(byte)),
            _ => "400".to_owned(),
        };
        check([b"GE", &[byte][..], b"T / HTTP/1.1\r\nHost: x\r\n\r\n"].concat(), &want);
    }
}

#[test]
fn over_long() {
    let line = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(n - 14));
    check(line(8192), &format!("GET /{} 1.1 none keep", "a".repeat(8178)));
    check(line(8193), "414");
    check(line(100_000), "414");
    check("a".repeat(8193), "incomplete");
    check("a".repeat(8194), "414");
    check(format!("GET /{}", "a".repeat(20_000)), "414");
    // What comes first decides: an error within the limit, or the limit.
    check(format!("GET /{}\u{1}", "a".repeat(8000)), "400");
    check(format!("GET /{}\u{1}", "a".repeat(8200)), "414");
    check(format!("GET /{}\u{1}", "a".repeat(20_000)), "414");
    check(format!("get /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(8200)), "414");
    check(format!("GET /{} HTTP/2.0\r\nHost: x\r\n\r\n", "a".repeat(8200)), "414");
    check(format!("GET /{} HTTP/2.0\r\nHost: x\r\n\r\n", "a".repeat(8178)), "505");
    check(format!("GET /{} HTTP/1.1\n\n", "a".repeat(8200)), "414");
    check(format!("{}\r\nB\0", line(8193)), "414");

    let head = |n: usize| {
        let before = "GET / HTTP/1.1\r\nHost: x\r\nA: ";
        format!("{before}{}\r\n\r\n", "b".repeat(n - before.len() - 4))
    };
    check(head(16_384), "GET / 1.1 none keep");
    check(head(16_385), "431");
    check(head(1 << 20), "431");
    check(&head(16_385)[..16_383], "incomplete");
    check(&head(16_385)[..16_384], "431");
    check(format!("GET / HTTP/1.1\r\n{}", "a".repeat(20_000)), "431");
    check(format!("GET / HTTP/1.1\r\nA: {}\0", "a".repeat(16_000)), "400");
    check(format!("GET / HTTP/1.1\r\nA: {}\0", "a".repeat(17_000)), "431");

    let fields = |n: usize| {
        let more: String = (1..n).map(|i| format!("A{i}: b\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: x\r\n{more}\r\n")
    };
    check(fields(100), "GET / 1.1 none keep");
    check(fields(101), "431");
    check_with(&[("headers_max", "7")], fields(7), "GET / 1.1 none keep");
    check_with(&[("headers_max", "7")], fields(8), "431");
    check_with(&[("headers_max", "1000")], fields(1000), "GET / 1.1 none keep");
    check_with(&[("headers_max", "1000")], fields(1001), "431");
    // A request line that fills the head is too long a line, not too large a head.
    let small = [("head_max", "256"), ("request_line_max", "1m")];
    check_with(&small, "a".repeat(300), "414");
    check_with(
        &small,
        format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(238)),
        &format!("GET /{} 1.0 none close", "a".repeat(238)),
    );
    check_with(&small, format!("GET /{} HTTP/1.0\r\n\r\n", "a".repeat(239)), "414");
}

#[test]
fn other_protocols() {
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400");
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505");
    check("SSH-2.0-OpenSSH_9.6\r\n", "400");
    check("PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET / HTTP/1.1\r\n\r\n", "400");
    check("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "400");
    check("EHLO x\r\n", "400");
    check("{\"a\": 1}\r\n", "400");
    check([0; 100], "400");
    check([0xff; 100], "400");
}

#[test]
fn connection() {
    let with =
        |version: &str, lines: &str| format!("GET / HTTP/{version}\r\nHost: x\r\n{lines}\r\n");
    for (lines, old, new) in [
        ("", "close", "keep"),
        ("Connection: close\r\n", "close", "close"),
        ("connection: CLOSE\r\n", "close", "close"),
        ("Connection: keep-alive\r\n", "keep", "keep"),
        ("Connection: Keep-Alive\r\n", "keep", "keep"),
        ("Connection: upgrade, close\r\n", "close", "close"),
        ("Connection: close ,upgrade\r\n", "close", "close"),
        ("Connection: te\t,\tkeep-alive\r\n", "keep", "keep"),
        ("Connection: keep-alive, close\r\n", "close", "close"),
        ("Connection: te\r\nConnection: close\r\n", "close", "close"),
        ("Connection: keep-alive\r\nConnection: te\r\n", "keep", "keep"),
        ("Connection: close\r\nConnection: keep-alive\r\n", "close", "close"),
        ("Connection: ,,close,,\r\n", "close", "close"),
        ("Connection:\r\n", "close", "keep"),
        ("Connection: closed\r\n", "close", "keep"),
        ("Connection: \"close\"\r\n", "close", "keep"),
        ("Keep-Alive: timeout=5\r\n", "close", "keep"),
        ("Proxy-Connection: keep-alive\r\n", "close", "keep"),
    ] {
        check(with("1.0", lines), &format!("GET / 1.0 none {old}"));
        check(with("1.1", lines), &format!("GET / 1.1 none {new}"));
    }
}

#[test]
fn expect() {
    let with =
        |version: &str, lines: &str| format!("PUT / HTTP/{version}\r\nHost: x\r\n{lines}\r\n");
    let length = "Content-Length: 5\r\n";
    check(with("1.1", &format!("Expect: 100-continue\r\n{length}")), "PUT / 1.1 5 keep continue");
    check(with("1.1", &format!("EXPECT: 100-Continue\r\n{length}")), "PUT / 1.1 5 keep continue");
    let chunked = "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n";
    check(with("1.1", chunked), "PUT / 1.1 chunked keep continue");
    // Nobody waits to send nothing.
    check(with("1.1", "Expect: 100-continue\r\n"), "PUT / 1.1 none keep");
    check(with("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n"), "PUT / 1.1 0 keep");
    for value in [
        "",
        "200-ok",
        "100-continue, x",
        "x, 100-continue",
        "100",
        "100-continue;q=1",
        "100-continued",
    ] {
        check(with("1.1", &format!("Expect: {value}\r\n{length}")), "417");
        check(with("1.0", &format!("Expect: {value}\r\n{length}")), "PUT / 1.0 5 close");
    }
    check(with("1.1", &format!("Expect: 100-continue\r\nExpect: x\r\n{length}")), "417");
    check(with("1.0", &format!("Expect: 100-continue\r\n{length}")), "PUT / 1.0 5 close");
}

#[test]
fn accessors() {
    #[track_caller]
    fn check(target: &str, path: &str, query: Option<&str>, host: &str) {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        let bytes = format!("{method} {target} HTTP/1.1\r\nhost: h:1\r\nA: b\r\na: c\r\n\r\n");
        let mut storage = Storage::new();
        let limits = HeadLimits::from(&Config::default());
        let head = parse(bytes.as_bytes(), &mut storage, &limits).unwrap().unwrap();
        assert_eq!((head.path(), head.query(), head.host()), (path, query, Some(host)));
        assert_eq!(head.header("HOST"), Some(&b"h:1"[..]));
        assert_eq!(head.header("a"), Some(&b"b"[..]));
        assert_eq!(head.header("b"), None);
        let fields: Vec<_> = head.headers().collect();
        assert_eq!(fields, [("host", &b"h:1"[..]), ("A", b"b"), ("a", b"c")]);
        assert_eq!(head.length, bytes.len());
    }
    check("/", "/", None, "h:1");
    check("/a/b?c=d?e", "/a/b", Some("c=d?e"), "h:1");
    check("/?", "/", Some(""), "h:1");
    check("*", "*", None, "h:1");
    check("http://x", "/", None, "x");
    check("http://x:2?q", "/", Some("q"), "x:2");
    check("HTTPS://[::1]:2/a?b", "/a", Some("b"), "[::1]:2");
    check("/http://x/", "/http://x/", None, "h:1");
}

#[test]
fn the_first_rule_that_is_broken_decides() {
    let lines = "Transfer-Encoding: gzip\r\nExpect: x\r\n";
    check_fields(&format!("{lines}Host: x\r\n"), "400");
    check_fields(lines, "501");
    check_fields("Expect: x\r\nContent-Length: 99999999999\r\n", "417");
    assert_eq!(Refusal::BAD_REQUEST.reason, CloseReason::BadRequest);
}

/// Requests that are served, to be broken.
const SOUND: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "\r\nPOST /a?b HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhi",
    "PUT http://x:1/ HTTP/1.1\r\nHost: %41\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    "OPTIONS * HTTP/1.0\r\nConnection: te, keep-alive\r\nCookie: a=b; c=d\r\n\r\n",
    "DELETE /%20 HTTP/1.1\r\nAccept: */*\r\nHost:\r\nX-Y: \u{e4} z\t\r\n\r\n",
];

/// What breaks them.
const BREAKS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    "\0",
    ",",
    ";",
    "#",
    "*",
    "@",
    "%",
    "[",
    "]",
    "/",
    "?",
    "_",
    "-",
    "0",
    "9",
    "\u{7f}",
    "\u{e4}",
    "HTTP/1.0",
    "HTTP/1.1",
    "HTTP/2.0",
    "http://",
    "CONNECT ",
    "get",
    "\r\nHost: x",
    "\r\nHost: a b",
    "\r\nContent-Length: 5",
    "\r\nContent-Length: 99999999",
    "\r\nTransfer-Encoding: chunked",
    "\r\nTransfer-Encoding: gzip",
    "\r\nExpect: 100-continue",
    "\r\nExpect: x",
    "\r\nConnection: close",
    "\r\nConnection: keep-alive",
    "chunked",
    "identity",
    "\r\n\r\n",
    "\r\n x",
    "\r\nA:\r\n",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn where_the_bytes_are_cut_does_not_matter(
        bytes in broken(SOUND, BREAKS),
        head_max in 256..400_u64,
        line_max in 16..100_u64,
        headers_max in 1..5_u64,
    ) {
        let mut config = Config::default();
        check_cuts(&bytes, &HeadLimits::from(&config));
        config.setters().head_max(head_max).unwrap();
        config.setters().request_line_max(line_max).unwrap();
        config.setters().headers_max(headers_max).unwrap();
        check_cuts(&bytes, &HeadLimits::from(&config));
    }

    #[test]
    fn a_plain_second_parser_accepts_the_same(bytes in broken(SOUND, BREAKS)) {
        crate::fuzzing::head(&bytes);
    }
}
