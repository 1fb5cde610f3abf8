//! Tables of attacks on where one request ends and the next begins.

use crate::app::MARKER;
use crate::catalogue::Target;
use crate::client::{get, post};

/// CL.TE and TE.CL (RFC 9112 §6.3).
pub(crate) fn length_and_coding(target: &mut Target) {
    for lines in [
        "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\ntransfer-encoding: CHUNKED\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 5\r\n",
    ] {
        target.check(post(lines, "0\r\n\r\nG"), 400);
    }
}

/// TE.TE: what one side takes for chunked and another does not.
pub(crate) fn hidden_codings(target: &mut Target) {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    for value in [
        "",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "chunked, chunked",
        "chunked, gzip",
        ",chunked",
        "chunked,",
        "\"chunked\"",
        "chunked;q=1",
        "chunked gzip",
        "chun\tked",
        "chunked\u{b}",
        "\u{b}chunked",
        "\u{c}chunked",
        "chunked\0",
        "chun\rked",
        "\rchunked",
        "\n chunked",
        "\r\n chunked",
        "chunked\r\n gzip",
        "ch\u{fc}nked",
        "\u{ff43}hunked",
        "chunked\u{7f}",
    ] {
        target.check(post(&format!("Transfer-Encoding: {value}\r\n"), body), 400);
    }
    for value in ["xchunked", "gzip", "gzip, chunked", "'chunked", "chunked-x"] {
        target.check(post(&format!("Transfer-Encoding: {value}\r\n"), body), 501);
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
        "Transfer_Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer Encoding: chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Tr\u{e4}nsfer-Encoding: chunked\r\n",
    ] {
        target.check(post(lines, body), 400);
    }
    let old = format!("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    target.check(old, 400);
}

pub(crate) fn lengths(target: &mut Target) {
    for value in [
        "",
        "+5",
        "-5",
        "-0",
        "0x5",
        "5a",
        "5,",
        "5, 5",
        "5,6",
        "5 5",
        "5;",
        "5.0",
        "5e0",
        "5_0",
        "\u{665}",
        "\u{ff15}",
        "five",
        "\"5\"",
        "5\0",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999999",
        "000000000000000000000000000005",
    ] {
        target.check(post(&format!("Content-Length: {value}\r\n"), "hello"), 400);
    }
    for value in ["9223372036854775807", "9223372036854775808", "18446744073709551615"] {
        target.check(post(&format!("Content-Length: {value}\r\n"), "hello"), 413);
    }
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length:\r\n",
        "Content_Length: 5\r\n",
        "Content-Length : 5\r\n",
        "Content-Length:\r\n 5\r\n",
        " Content-Length: 5\r\n",
    ] {
        target.check(post(lines, "hello"), 400);
    }
    let padded = post("Content-Length: \t5 \r\n", "hello");
    target.check_served(padded, &["200 5"]);
}

/// A chunked POST with this body, line ends and all.
fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

pub(crate) fn chunks(target: &mut Target) {
    for body in [
        "+5\r\n",
        "-5\r\n",
        "0x5\r\n",
        "5h\r\n",
        " 5\r\n",
        "\r\n5\r\n",
        "\r\n",
        ";\r\n",
        "5_0\r\n",
        "\u{665}\r\n",
        "10000000000000000\r\n",
        "10000000000000005\r\n",
        "fffffffffffffffff\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello",
        "5\r\rhello",
        "5\n\rhello",
        "5 x\r\n",
        "5\r\nhello!",
        "5\r\nhello!\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5;\r\n",
        "5;=x\r\n",
        "5;a=\r\n",
        "5;a=\"b\r\n",
        "5;a=\"b\n",
        "5;a=\"b\"c\r\n",
        "5;a=b=c\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a\rhello",
        "5;a=\"\0\"\r\n",
        "5;a\0\r\n",
        "5\0\r\n",
        "5;a b\r\n",
        "0\n\n",
        "0\r\n\n",
        "0\r\n\rX",
        "0\r\nX\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX: y\r\n z\r\n\r\n",
        "0\r\nX: \0\r\n\r\n",
        "0\r\nGET /marker HTTP/1.1\r\n\r\n",
    ] {
        target.check(chunked(body), 400);
    }
    for body in ["ffffffff\r\n", "7fffffffffffffff\r\n", "ffffffffffffffff\r\n", "a00001\r\n"] {
        target.check(chunked(body), 413);
    }
}

/// Extensions, trailers and tiny chunks are read, and nothing of them becomes a request.
pub(crate) fn served_chunks(target: &mut Target) {
    let tiny = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(20_000));
    target.check_served(chunked(&tiny), &["200 20000"]);
    for body in [
        "5\r\nhello\r\n0\r\n\r\n",
        "000005\r\nhello\r\n000\r\n\r\n",
        "5;a\r\nhello\r\n0;b=c\r\n\r\n",
        "5 ; a = \"b\\\"c\" ; d\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: gzip\r\nHost: y\r\n\r\n",
        "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ] {
        let bytes = [chunked(body), get("/marker")].concat();
        target.check_served(bytes, &["200 5", &format!("200 {MARKER}")]);
    }
}

/// CL.0 and 0.CL: a body is read whoever sends it, and whatever its method.
pub(crate) fn unexpected_bodies(target: &mut Target) {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = hidden.len();
    let marker = format!("200 {MARKER}");
    for method in ["GET", "DELETE", "POST", "PUT", "PATCH", "TRACE", "QUERY", "OPTIONS"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: x\r\n");
        let by_length = format!("{head}Content-Length: {length}\r\n\r\n{hidden}");
        let by_chunk =
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n");
        for request in [by_length, by_chunk] {
            let bytes = [request.into_bytes(), get("/marker")].concat();
            target.check_served(bytes, &[&format!("200 {length}"), &marker]);
        }
    }
    let asterisk =
        format!("OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{hidden}");
    let bytes = [asterisk.into_bytes(), get("/marker")].concat();
    target.check_served(bytes, &["204 ", &marker]);
    // A client that waits for 100 and one that does not.
    let expects = format!("Expect: 100-continue\r\nContent-Length: {length}\r\n");
    let bytes = [post(&expects, hidden), get("/marker")].concat();
    target.check_served(bytes, &[&format!("200 {length}"), &marker]);
    // A refused expectation: its body may come or not, so nothing can follow.
    let refused = format!("Expect: 200-ok\r\nContent-Length: {length}\r\n");
    target.check(post(&refused, hidden), 417);
    target.check(post("Expect: 100-continue, x\r\nContent-Length: 3\r\n", ""), 417);
    // A GET without a length has no body: what follows is a request.
    let bytes = [get("/"), get("/marker")].concat();
    target.check_served(bytes, &["200 0", &marker]);
}

/// Who asked for the close, or speaks HTTP/1.0, is answered once.
pub(crate) fn after_a_close(target: &mut Target) {
    for first in [
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Keep-Alive, CLOSE\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: x\r\nConnection:close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: x\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n",
    ] {
        let mut client = target.connect();
        let filler = vec![b'x'; 512 << 10];
        client.send([first.as_bytes(), &get("/marker"), &filler].concat());
        let answer = client.last_answer();
        assert_eq!((answer.status, answer.field("connection")), (200, Some("close")), "{first}");
        assert_eq!(answer.text(), "200 0", "{first}");
    }
}
