//! The bodies of the fuzz targets: any input, and what must hold. Pure.
//!
//! `fuzz/` calls them with what a fuzzer makes up, `tests/fuzz_corpus.rs` with the inputs that
//! were kept.

mod connection;
mod plain_chunk;
mod plain_head;
pub mod script;

use crate::config::Config;
use crate::http::body::{Body, BodyLimits};
use crate::http::close::Refusal;
use crate::http::head::{Framing, Head, HeadLimits, Storage, Version, parse};
pub use crate::ipc::frame::fuzz as frame;
pub use crate::ipc::message::fuzz as message;
pub use connection::connection;
use std::sync::LazyLock;

/// What a target is.
pub type Target = fn(&[u8]);

/// All targets, by the name of their folder in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("head", head),
    ("chunk", chunk),
    ("connection", connection),
    ("frame", frame),
    ("message", message),
];

/// A head is refused, incomplete or served, wherever it is cut, and a plain parser serves the same.
pub fn head(data: &[u8]) {
    for limits in head_limits() {
        head_in_all_cuts(data, limits);
    }
    if data.len() <= PLAIN_MAX {
        let [limits, _] = head_limits();
        let mut storage = Storage::new();
        let served = parse(data, &mut storage, limits).ok().flatten().map(|head| describe(&head));
        assert_eq!(served, plain_head::parse(data), "{}", data.escape_ascii());
    }
}

/// A chunked body gives the same content and end wherever it is cut, and so it does with a plain
/// decoder.
pub fn chunk(data: &[u8]) {
    for limits in body_limits() {
        chunk_in_all_cuts(data, limits);
    }
    if data.len() <= PLAIN_MAX {
        let [limits, _] = body_limits();
        let decoded = decode(&mut [data].into_iter(), limits);
        let complete = (decoded.end == Ok(true)).then_some((decoded.content, decoded.used));
        assert_eq!(complete, plain_chunk::decode(data), "{}", data.escape_ascii());
    }
}

/// `GET / 1.1 none keep`: method, target, version, framing, what follows, and `continue`.
#[must_use]
pub fn describe(head: &Head<'_>) -> String {
    let version = if head.version == Version::Http11 { "1.1" } else { "1.0" };
    let framing = match head.framing {
        Framing::None => "none".to_owned(),
        Framing::Length(length) => length.to_string(),
        Framing::Chunked => "chunked".to_owned(),
    };
    let after = if head.keep_alive { "keep" } else { "close" };
    let expects = if head.expects_continue { " continue" } else { "" };
    format!("{} {} {version} {framing} {after}{expects}", head.method, head.target)
}

fn head_in_all_cuts(data: &[u8], limits: &HeadLimits) {
    let verdict = |bytes: &[u8]| {
        let mut storage = Storage::new();
        let head = parse(bytes, &mut storage, limits)?;
        Ok::<_, Refusal>(head.map(|head| (head.length, head.framing, head.keep_alive)))
    };
    let whole = verdict(data);
    for cut in cuts(data) {
        let part = verdict(&data[..cut]);
        let may_wait = !matches!(whole, Ok(Some((length, ..))) if cut >= length);
        assert!(part == whole || (part == Ok(None) && may_wait), "{part:?} at {cut}: {whole:?}");
    }
}

fn chunk_in_all_cuts(data: &[u8], limits: &BodyLimits) {
    let whole = decode(&mut [data].into_iter(), limits);
    for cut in cuts(data) {
        let (first, second) = data.split_at(cut);
        let cut = decode(&mut [first, second].into_iter(), limits);
        assert_eq!((cut.content, cut.end), (whole.content.clone(), whole.end));
    }
    let single = decode(&mut data.chunks(1), limits);
    assert_eq!((single.content, single.end), (whole.content, whole.end));
}

struct Decoded {
    content: Vec<u8>,
    used: usize,
    /// Whether the body is complete.
    end: Result<bool, Refusal>,
}

fn decode(pieces: &mut dyn Iterator<Item = &[u8]>, limits: &BodyLimits) -> Decoded {
    let mut body = Body::new(Framing::Chunked, limits);
    let mut decoded = Decoded { content: Vec::new(), used: 0, end: Ok(false) };
    for piece in pieces {
        match body.decode(piece, &mut |bytes| decoded.content.extend_from_slice(bytes)) {
            Ok(step) => decoded.used += step.used,
            Err(refusal) => return Decoded { end: Err(refusal), ..decoded },
        }
    }
    decoded.end = Ok(body.is_done());
    decoded
}

/// Some sixteen places of an input, others for another input.
fn cuts(data: &[u8]) -> impl Iterator<Item = usize> + use<> {
    let step = data.len() / 16 + 1;
    let first = data.iter().fold(0, |sum, byte| sum ^ usize::from(*byte)) % step;
    (first..data.len()).step_by(step)
}

/// The default limits, and some that short inputs reach.
fn configs() -> [Config; 2] {
    let mut narrow = Config::default();
    for (name, value) in [
        ("head_max", "256"),
        ("request_line_max", "40"),
        ("headers_max", "3"),
        ("body_max", "20"),
        ("chunk_line_max", "16"),
        ("chunk_overhead_max", "64"),
    ] {
        narrow.set(name, value).expect("within its range");
    }
    [Config::default(), narrow]
}

fn head_limits() -> &'static [HeadLimits; 2] {
    static LIMITS: LazyLock<[HeadLimits; 2]> =
        LazyLock::new(|| configs().each_ref().map(HeadLimits::from));
    &LIMITS
}

fn body_limits() -> &'static [BodyLimits; 2] {
    static LIMITS: LazyLock<[BodyLimits; 2]> =
        LazyLock::new(|| configs().each_ref().map(BodyLimits::from));
    &LIMITS
}

/// Longer inputs meet limits, which the plain parsers do not know.
const PLAIN_MAX: usize = 4096;
