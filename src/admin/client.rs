//! The other side of the control socket: one line out, one JSON line back. Blocks, with a bound.

use super::process::ProcessInfo;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

/// Bytes of an answer; status takes about 300 a worker.
const ANSWER_MAX: u64 = 16 << 20;

/// What the master said.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Whether it was done.
    pub ok: bool,
    /// With which code a command that only passes it on exits.
    pub code: u8,
    /// How it ended, as a sentence.
    pub text: String,
    /// The whole line, its end not included.
    pub line: String,
    /// The same, read.
    pub json: Value,
}

impl Reply {
    /// The workers in an answer to `status`.
    #[must_use]
    pub fn workers(&self) -> Vec<ProcessInfo> {
        let list = self.json.get("workers").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(ProcessInfo::from_json).collect()
    }
}

/// Asks the master behind a control socket. `address`: a path, or `@` and an abstract name;
/// `patience`: how long the master may stay silent.
///
/// # Errors
///
/// Nobody listens there, it did not answer in time, or not as a master does.
pub fn ask(address: &str, line: &str, patience: Duration) -> io::Result<Reply> {
    let mut stream = match address.strip_prefix('@') {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => UnixStream::connect(address)?,
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let gone = |error: io::Error| {
        let ends = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        if ends.contains(&error.kind()) { Ok(0) } else { Err(error) }
    };
    // Who is turned away may find the other end closed before it has said anything.
    stream.write_all(format!("{line}\n").as_bytes()).map(|()| 0).or_else(gone)?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_MAX)).read_line(&mut answer).or_else(gone)?;
    reply(&answer).ok_or_else(|| {
        let what = match answer.as_str() {
            "" => "the master closed without an answer: it turned us away, or ended",
            _ => "the answer is none of a master's",
        };
        io::Error::new(io::ErrorKind::InvalidData, what)
    })
}

fn reply(line: &str) -> Option<Reply> {
    let line = line.strip_suffix('\n')?;
    let json: Value = serde_json::from_str(line).ok()?;
    let code = u8::try_from(json.get("code")?.as_u64()?).ok()?;
    let (ok, text) = (json.get("ok")?.as_bool()?, json.get("text")?.as_str()?.to_owned());
    Some(Reply { ok, code, text, line: line.to_owned(), json })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{View, json};

    #[test]
    fn what_the_master_says_is_read_back() {
        let view = View::example();
        let reply = reply(&json::status(&view)).unwrap();
        assert_eq!((reply.ok, reply.code, reply.text.as_str()), (true, 0, "running"));
        assert_eq!(reply.workers(), view.workers);
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for line in ["", "\n", "{}\n", "{\"ok\":true,\"code\":0,\"text\":\"cut\"}", "[]\n", "x\n"] {
            assert_eq!(reply(line), None, "{line:?}");
        }
        assert_eq!(reply("{\"ok\":true,\"code\":256,\"text\":\"\"}\n"), None);
    }
}
