//! A client that says any bytes and reads answers strictly.

use crate::server::SOON;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub stream: TcpStream,
    /// Received, and not taken by [`Client::answer`] yet.
    held: Vec<u8>,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// `200 body`.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.body))
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self::over(TcpStream::connect_timeout(&address, SOON).expect("the port is open"))
    }

    /// Over a connection that was made by other means.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        stream.set_write_timeout(Some(SOON)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        Self { stream, held: Vec::new() }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server still reads");
    }

    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) {
        self.send(get(target));
    }

    /// The next answer. The connection must hold one, whole.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        loop {
            if let Some((answer, length)) = parse(&self.held) {
                self.held.drain(..length);
                return answer;
            }
            let count = self.read().expect("an answer, and no reset");
            assert!(count > 0, "no whole answer: {}", self.held.escape_ascii());
        }
    }

    /// All answers until the server closes, which it does soon and without a reset.
    #[track_caller]
    pub(crate) fn last_answers(&mut self) -> Vec<Answer> {
        while self.read().expect("a close, and no reset") > 0 {}
        let mut answers = Vec::new();
        while let Some((answer, length)) = parse(&self.held) {
            self.held.drain(..length);
            answers.push(answer);
        }
        let rest = &self.held[..self.held.len().min(200)];
        assert!(rest.is_empty(), "half an answer: {}", rest.escape_ascii());
        answers
    }

    /// The only answer until the close.
    #[track_caller]
    pub(crate) fn last_answer(&mut self) -> Answer {
        let mut answers = self.last_answers();
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// Reads once.
    pub(crate) fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(count) => {
                    self.held.extend_from_slice(&bytes[..count]);
                    return Ok(count);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends no more.
    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).expect("it is open");
    }
}

/// A request without a body.
pub(crate) fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes()
}

/// A POST with these lines after Host, each with its line end, and this body.
pub(crate) fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}").into_bytes()
}

/// The answer that the bytes begin with, and its length. Panics at what is no answer of ours.
#[track_caller]
fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head is text").to_owned();
    let digits = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let Some(Ok(status)) = digits.map(str::parse::<u16>) else { panic!("no status: {head}") };
    let mut answer = Answer { status, head, body: Vec::new() };
    let length = match answer.field("content-length") {
        Some(length) => length.parse::<usize>().expect("a length"),
        None if status == 100 || status == 204 => 0,
        None => panic!("no length: {}", answer.head),
    };
    answer.body = bytes.get(end..end + length)?.to_vec();
    Some((answer, end + length))
}
