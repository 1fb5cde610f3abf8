//! Chunked bodies as tables, one function a class of attack, then properties. Each row is also
//! given in every cut.

use crate::config::Config;
use crate::http::body::{Body, BodyLimits};
use crate::http::broken::broken;
use crate::http::head::Framing;
use proptest::prelude::*;

/// `"content" used`, `"content" …` when more is needed, or `400`; whatever the pieces.
fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &BodyLimits) -> String {
    let mut body = Body::new(Framing::Chunked, limits);
    let mut content = Vec::new();
    let mut used = 0;
    for piece in pieces {
        let done = body.is_done();
        match body.decode(piece, &mut |bytes| content.extend_from_slice(bytes)) {
            Err(refusal) => return refusal.status.to_string(),
            Ok(decoded) => {
                assert!(decoded.done || decoded.used == piece.len(), "input left before the end");
                assert!(!done || decoded.used == 0, "input used after the end");
                assert_eq!(decoded.done, body.is_done());
                used += decoded.used;
            }
        }
    }
    let end = if body.is_done() { used.to_string() } else { "…".to_owned() };
    format!("\"{}\" {end}", content.escape_ascii())
}

#[track_caller]
fn check_cuts(bytes: &[u8], limits: &BodyLimits) -> String {
    let whole = decode([bytes], limits);
    assert_eq!(decode(bytes.chunks(1), limits), whole, "byte by byte");
    let all = bytes.len() < 400;
    for cut in (0..bytes.len()).filter(|cut| all || cut % 997 == 0 || cut + 9 > bytes.len()) {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(decode([first, second], limits), whole, "cut at {cut}");
    }
    whole
}

#[track_caller]
fn check_with(settings: &[(&str, &str)], body: impl AsRef<[u8]>, want: &str) {
    let mut config = Config::default();
    for (name, value) in settings {
        config.set(name, value).unwrap();
    }
    let bytes = body.as_ref();
    let got = check_cuts(bytes, &BodyLimits::from(&config));
    assert_eq!(got, want, "{}", bytes[..bytes.len().min(200)].escape_ascii());
}

#[track_caller]
fn check(body: impl AsRef<[u8]>, want: &str) {
    check_with(&[], body, want);
}

/// This chunk line, before five bytes of data and the end of the body.
#[track_caller]
fn check_line(line: &str, want: &str) {
    let body = format!("{line}\r\nhello\r\n0\r\n\r\n");
    let served = format!("\"hello\" {}", body.len());
    check(body, if want == "served" { &served } else { want });
}

/// These trailers, each with its line end.
#[track_caller]
fn check_trailers(lines: &str, want: &str) {
    let body = format!("1\r\na\r\n0\r\n{lines}\r\n");
    let served = format!("\"a\" {}", body.len());
    check(body, if want == "served" { &served } else { want });
}

#[test]
fn served() {
    check("0\r\n\r\n", "\"\" 5");
    check("5\r\nhello\r\n0\r\n\r\n", "\"hello\" 15");
    check("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /", "\"hello world\" 26");
    check("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "\"01234567890123456789\" 35");
    check("2\r\n\r\n\r\n0\r\n\r\n", "\"\\r\\n\" 12");
    check("00005\r\nhello\r\n000\r\n\r\n", "\"hello\" 21");
    check("", "\"\" …");
    check("5", "\"\" …");
    check("5\r\nhel", "\"hel\" …");
    check("5\r\nhello\r\n0\r\n", "\"hello\" …");
    check("5\r\nhello\r\n0\r\n\r", "\"hello\" …");
}

#[test]
fn chunk_grammar() {
    for line in [
        "",
        " 5",
        "\t5",
        "+5",
        "-5",
        "-0",
        "0x5",
        "x5",
        "5x",
        "5h",
        "5 ",
        "5\t",
        "5 5",
        "5_",
        "_5",
        "5.",
        "5,",
        "5\"",
        "5\0",
        "\x005",
        "\u{665}",
        "10000000000000000",
        "10000000000000005",
        "ffffffffffffffffff",
        "5\r",
        "\r5",
        "\r\n5",
        "5\n",
        "\n5",
        "5\u{b}",
        "5\u{c}",
        "5\u{a0}",
        "5\u{7f}",
        "0x",
        "g",
        ";",
        ";a=b",
        "5/a",
        "5:a",
    ] {
        check_line(line, "400");
    }
    // Bare line ends, and data of another length than announced.
    check("5\nhello\r\n0\r\n\r\n", "400");
    check("5\rhello\r\n0\r\n\r\n", "400");
    check("5\r\rhello\r\n0\r\n\r\n", "400");
    check("5\n\rhello\r\n0\r\n\r\n", "400");
    check("5\r\r\nhello\r\n0\r\n\r\n", "400");
    check("5\r\nhello\n0\r\n\r\n", "400");
    check("5\r\nhello\r0\r\n\r\n", "400");
    check("5\r\nhello0\r\n\r\n", "400");
    check("5\r\nhello!\r\n0\r\n\r\n", "400");
    check("5\r\nhello\r\r\n0\r\n\r\n", "400");
    check("5\r\nhello\r\n\r\n0\r\n\r\n", "400");
    check("5\r\nhell\r\n0\r\n\r\n", "400");
    check("5\r\nhello\r\n0\n\r\n", "400");
    check("5\r\nhello\r\n0\r\n\n", "400");
    check("5\r\nhello\r\n0\r\n\r\r\n", "400");
    check("5\r\nhello\r\n0\r\r\n", "400");
}

#[test]
fn extensions() {
    for line in [
        "5;a",
        "5;a=b",
        "5;a=\"b\"",
        "5;a=\"\"",
        "5;a=\"b;\\\"c\\\\ \t\u{e4}\"",
        "5;a;b;c=d",
        "5;a=\"b\";c",
        "5 ;a",
        "5\t; a",
        "5;a =b",
        "5;a= b",
        "5 ; a = \"b\" ; c",
        "5;a ;b",
        "5;!#$%&'*+-.^_`|~=~",
    ] {
        check_line(line, "served");
    }
    for line in [
        "5;",
        "5;;",
        "5;;a",
        "5;a;",
        "5; ",
        "5 ;",
        "5;a ",
        "5;a=",
        "5;a= ",
        "5;a=b ",
        "5;=b",
        "5;a==b",
        "5;a=b=c",
        "5;a b",
        "5;a=b c",
        "5;a=\"b",
        "5;a=\"b\\\"",
        "5;a=\"b\"c",
        "5;a=\"b\" ",
        "5;a=b\"c\"",
        "5;\"a\"=b",
        "5;a=\"b\0\"",
        "5;a=\"b\r\"",
        "5;a=\"b\n\"",
        "5;a=\"\\\r\"",
        "5;a=\"\\\n\"",
        "5;a=\"\\\0\"",
        "5;a=\"b\u{7f}\"",
        "5;a\0",
        "5;a\r",
        "5;a\n",
        "5;a=\r",
        "5;a=b\0",
        "5;a=b\rc",
        "5;a=b\nc",
        "5;\u{e4}",
        "5;a=\u{e4}",
        "5;a=(b)",
        "5;a,b",
        "5 a",
        "5;a=b\u{b}",
    ] {
        check_line(line, "400");
    }
    check("0;a=b\r\n\r\n", "\"\" 9");
    check("0;a=\"\r\n\r\n", "400");
}

#[test]
fn trailers() {
    check_trailers("", "served");
    check_trailers("A: b\r\n", "served");
    check_trailers("A:\r\nB:c\r\nC: \t d \t\r\nD: \u{e4}\"(\r\n", "served");
    // They are dropped, so what they claim does not matter.
    check_trailers("Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: y\r\n", "served");
    for lines in [
        "A\r\n",
        "A b: c\r\n",
        "A : b\r\n",
        ": b\r\n",
        " A: b\r\n",
        "\tA: b\r\n",
        "A: b\r\n c\r\n",
        "A: b\n",
        "A: b\r",
        "A: b\rc\r\n",
        "A: b\0\r\n",
        "A: b\u{7f}\r\n",
        "A\0: b\r\n",
        "A(: b\r\n",
        "\u{e4}: b\r\n",
        "\n",
        "\r",
        " \r\n",
        "A: b\r\r\n",
        "A:\nB: c\r\n",
    ] {
        check_trailers(lines, "400");
    }
    check("0\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "400");
}

#[test]
fn body_max() {
    let ten = [("body_max", "10")];
    check_with(&ten, "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", "\"helloworld\" 25");
    check_with(&ten, "5\r\nhello\r\n6\r\n", "413");
    check_with(&ten, "b\r\n", "413");
    check_with(&ten, "b;a=b\r", "\"\" …");
    check_with(&ten, "ffffffffffffffff\r\n", "413");
    check_with(&ten, "5\r\nhello\r\nffffffffffffffff\r\n", "413");
    check_with(&ten, "0000000000000000000a\r\n0123456789\r\n0\r\n\r\n", "\"0123456789\" 39");
    check_with(&[("body_max", "0")], "0\r\n\r\n", "\"\" 5");
    check_with(&[("body_max", "0")], "1\r\n", "413");
    check("a00000\r\n", "\"\" …");
    check("a00001\r\n", "413");
}

#[test]
fn chunk_line_max() {
    let line = |n: usize| format!("5;{}", "a".repeat(n - 2));
    check_line(&line(4096), "served");
    check_line(&line(4097), "400");
    check_line(&format!("{}5", "0".repeat(4095)), "served");
    check_line(&format!("{}5", "0".repeat(4096)), "400");
    check(format!("5;a=\"{}", "b".repeat(2 << 20)), "400");
    check_trailers(&format!("A:{}\r\n", "b".repeat(4094)), "served");
    check_trailers(&format!("A:{}\r\n", "b".repeat(4095)), "400");
    check_with(&[("chunk_line_max", "16")], "5;0123456789abcd\r\nhello\r\n", "\"hello\" …");
    check_with(&[("chunk_line_max", "16")], "5;0123456789abcde\r\n", "400");
}

#[test]
fn chunk_overhead_max() {
    let limit = [("chunk_overhead_max", "64")];
    // Eight bytes of extension a chunk.
    let chunks = |n: usize| "1;a=56789\r\na\r\n".repeat(n);
    check_with(&limit, chunks(8), &format!("\"{}\" …", "a".repeat(8)));
    check_with(&limit, chunks(9), "400");
    let trailers = |n: usize| format!("0\r\n{}\r\n", "A:345678\r\n".repeat(n));
    check_with(&limit, trailers(8), "\"\" 85");
    check_with(&limit, trailers(9), "400");
    check_with(&limit, chunks(4) + &trailers(4), "\"aaaa\" 101");
    check_with(&limit, chunks(5) + &trailers(4), "400");
    check("1;a=b\r\na\r\n".repeat(20_000), "400");
    check(format!("0\r\n{}\r\n", "A: b\r\n".repeat(20_000)), "400");
    check("0000001\r\na\r\n".repeat(20_000), "400");
    check("0;a=b\r\n\r\n".repeat(2), "\"\" 9");
}

#[test]
fn tiny_chunks_are_served() {
    let bytes = "1\r\na\r\n".repeat(20_000) + "0\r\n\r\n";
    check(&bytes, &format!("\"{}\" {}", "a".repeat(20_000), bytes.len()));
}

const SOUND: &[&str] = &[
    "5\r\nhello\r\n0\r\n\r\n",
    "1;a\r\n\n\r\nA;b=\"c\\\"d\" ; e\r\n0123456789\r\n00\r\nA: b\r\n\r\nGET",
    "3 ; x = y\r\na\r\n\r\n0;z\r\nA:\r\nB: \u{e4}\t\r\n\r\n",
];

const BREAKS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    "\0",
    ";",
    "=",
    "\"",
    "\\",
    "0",
    "1",
    "f",
    "g",
    "-",
    "\u{e4}",
    ";a",
    "=b",
    "\"\"",
    "A: b\r\n",
    "ffffffffffffffff",
    "0\r\n\r\n",
    "1\r\na\r\n",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn where_the_bytes_are_cut_does_not_matter(
        bytes in broken(SOUND, BREAKS),
        cuts in prop::collection::vec(1..8_usize, 1..40),
        body_max in 0..20_u64,
        line_max in 16..24_u64,
    ) {
        let mut config = Config::default();
        config.setters().chunk_line_max(line_max).unwrap().body_max(body_max).unwrap();
        let limits = BodyLimits::from(&config);
        let whole = check_cuts(&bytes, &limits);
        let mut rest = &bytes[..];
        let pieces = cuts.iter().cycle().map_while(|n| {
            let (piece, after) = rest.split_at((*n).min(rest.len()));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        });
        prop_assert_eq!(decode(pieces, &limits), whole);
    }

    #[test]
    fn a_plain_second_decoder_accepts_the_same(bytes in broken(SOUND, BREAKS)) {
        crate::fuzzing::chunk(&bytes);
    }
}
