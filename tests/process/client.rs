//! A client that says exactly what a case wants and reads answers as RFC 9112 frames them.
//! Everything is bounded by [`PATIENCE`].

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long anything may take before a case fails. Not a delay: nothing takes this long when all is
/// well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// One connection.
#[derive(Debug)]
pub(crate) struct Client(BufReader<TcpStream>);

/// One answer, with its body decoded.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Status line and fields.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// Over a connected stream socket of any family.
    pub(crate) fn new(stream: impl Into<OwnedFd>) -> Self {
        // Only calls that every stream socket knows are made on it.
        let stream = TcpStream::from(stream.into());
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream().write_all(bytes.as_ref())
    }

    /// The stream under it.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }

    /// Asks for a path, and goes on without the answer.
    pub(crate) fn ask(&mut self, path: &str) -> io::Result<()> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.ask(path)?;
        self.reply()
    }

    /// The next answer.
    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let mut reply = self.head()?;
        reply.body = if let Some(length) = reply.header("content-length") {
            let length = length.parse().map_err(|_| invalid("a Content-Length"))?;
            self.exactly(length)?
        } else if reply.header("transfer-encoding") == Some("chunked") {
            self.chunks()?
        } else if reply.status < 200 || reply.status == 204 || reply.status == 304 {
            Vec::new()
        } else {
            self.rest()?
        };
        Ok(reply)
    }

    /// The next answer's head alone: of an answer to HEAD there is no more.
    pub(crate) fn head(&mut self) -> io::Result<Reply> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(match head.as_str() {
                    "" => Error::new(ErrorKind::ConnectionAborted, "closed before an answer"),
                    _ => Error::new(ErrorKind::UnexpectedEof, "closed within a head"),
                });
            }
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| invalid("a status line"))?;
        Ok(Reply { status, head, body: Vec::new() })
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim_end(), 16);
            let length = length.map_err(|_| invalid("a chunk line"))?;
            body.append(&mut self.exactly(length)?);
            if self.exactly(2)? != b"\r\n" {
                return Err(invalid("the end of a chunk"));
            }
            if length == 0 {
                return Ok(body);
            }
        }
    }

    /// All bytes until the server closes.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Whether the server has nothing more to say, and says it by a close or a reset.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.0.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Whether nothing arrives for so long: neither a byte nor an end.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        self.0.get_mut().set_read_timeout(Some(time)).expect("a timeout that is not zero");
        let silent = matches!(self.0.fill_buf(), Err(e) if e.kind() == ErrorKind::WouldBlock);
        self.0.get_mut().set_read_timeout(Some(PATIENCE)).expect("as before");
        silent
    }
}

impl Reply {
    /// The value of a field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Of an answer to `/workers`: the process that gave it.
    pub(crate) fn pid(&self) -> u32 {
        let text = self.text();
        let after = text.split("\"pid\":").nth(1).unwrap_or_else(|| panic!("no pid: {text}"));
        after.split([',', '}']).next().and_then(|pid| pid.parse().ok()).expect("a number")
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not {what}"))
}
