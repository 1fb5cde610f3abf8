//! The access log: one line a request, in the combined format or as JSON. Pure: the worker writes
//! what is collected here, once a pass.

use super::date;
use super::head::{Head, Version};
use crate::config::AccessFormat;
use crate::io::Instant;
use std::fmt::Write;
use std::net::IpAddr;

/// Lines that wait for the disk, in bytes; what comes beyond is dropped, and counted.
pub(super) const HELD_MAX: usize = 1 << 20;

/// The lines of one worker.
#[derive(Debug)]
pub(super) struct AccessLog {
    format: AccessFormat,
    unix: u64,
    lines: String,
}

/// What a request will say in its line, once its status is known.
#[derive(Debug)]
pub(super) struct Entry {
    client: Option<IpAddr>,
    begun: Instant,
    /// Empty when there was no head that could be read.
    method: String,
    target: String,
    version: Version,
    referer: String,
    agent: String,
}

impl Entry {
    pub(super) fn of(head: &Head<'_>, client: Option<IpAddr>, begun: Instant) -> Self {
        let field = |name| String::from_utf8_lossy(head.header(name).unwrap_or(b"")).into_owned();
        Self {
            client,
            begun,
            method: head.method.to_owned(),
            target: head.target.to_owned(),
            version: head.version,
            referer: field("referer"),
            agent: field("user-agent"),
        }
    }

    /// Of what could not be read as a request.
    pub(super) fn unread(client: Option<IpAddr>, begun: Instant) -> Self {
        let none = String::new;
        let version = Version::Http11;
        let (method, target, referer, agent) = (none(), none(), none(), none());
        Self { client, begun, method, target, version, referer, agent }
    }
}

impl AccessLog {
    pub(super) const fn new(format: AccessFormat) -> Self {
        Self { format, unix: 0, lines: String::new() }
    }

    pub(super) const fn tick(&mut self, unix: u64) {
        self.unix = unix;
    }

    /// The lines so far, for who writes and then clears them.
    pub(super) const fn lines(&mut self) -> &mut String {
        &mut self.lines
    }

    /// A request is answered. `bytes`: of the body; `None` when only its end will tell. `false`:
    /// there was no room for its line.
    pub(super) fn write(
        &mut self,
        entry: &Entry,
        status: u16,
        bytes: Option<u64>,
        now: Instant,
    ) -> bool {
        let before = self.lines.len();
        // Writing to a string cannot fail.
        let _ = match self.format {
            AccessFormat::Combined => self.combined(entry, status, bytes),
            AccessFormat::Json => self.json(entry, status, bytes, now),
        };
        if self.lines.len() > HELD_MAX {
            self.lines.truncate(before);
            return false;
        }
        true
    }

    /// As Apache and nginx write it: client, time, request line, status, bytes, referer, agent.
    fn combined(&mut self, entry: &Entry, status: u16, bytes: Option<u64>) -> std::fmt::Result {
        let client = entry.client.map_or_else(|| "-".to_owned(), |client| client.to_string());
        let date = date::format(self.unix);
        let date = str::from_utf8(&date).unwrap_or_default();
        let out = &mut self.lines;
        // "Sun, 06 Nov 1994 08:49:37 GMT" holds all parts of "06/Nov/1994:08:49:37 +0000".
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        write!(out, "{client} - - [{day}/{month}/{year}:{time} +0000] \"")?;
        if entry.method.is_empty() {
            out.push('-');
        } else {
            quoted(out, &entry.method);
            out.push(' ');
            quoted(out, &entry.target);
            write!(out, " {}", entry.version.name())?;
        }
        write!(out, "\" {status} ")?;
        match bytes {
            Some(bytes) => write!(out, "{bytes}")?,
            None => out.push('-'),
        }
        for text in [&entry.referer, &entry.agent] {
            out.push_str(" \"");
            quoted(out, if text.is_empty() { "-" } else { text });
            out.push('"');
        }
        out.push('\n');
        Ok(())
    }

    fn json(
        &mut self,
        entry: &Entry,
        status: u16,
        bytes: Option<u64>,
        now: Instant,
    ) -> std::fmt::Result {
        let out = &mut self.lines;
        write!(out, "{{\"time\":{},\"client\":", self.unix)?;
        match entry.client {
            Some(client) => write!(out, "\"{client}\"")?,
            None => out.push_str("null"),
        }
        let version = entry.version.name();
        for (name, text) in [
            ("method", entry.method.as_str()),
            ("target", &entry.target),
            ("version", version),
            ("referer", &entry.referer),
            ("user_agent", &entry.agent),
        ] {
            write!(out, ",\"{name}\":\"")?;
            escaped(out, text);
            out.push('"');
        }
        write!(out, ",\"status\":{status},\"bytes\":")?;
        match bytes {
            Some(bytes) => write!(out, "{bytes}")?,
            None => out.push_str("null"),
        }
        let micros = now.since(entry.begun).as_micros();
        writeln!(out, ",\"duration_us\":{micros}}}")
    }
}

/// What a peer wrote cannot end its quotes or its line.
fn quoted(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char.is_control() => {
                let _ = write!(out, "\\x{:02X}", u32::from(char));
            }
            char => out.push(char),
        }
    }
}

/// As a JSON string takes it (RFC 8259 §7).
fn escaped(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            char => out.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn entry(target: &str, agent: &str) -> Entry {
        Entry {
            client: Some("203.0.113.9".parse().unwrap()),
            begun: Instant::default(),
            method: "GET".to_owned(),
            target: target.to_owned(),
            version: Version::Http11,
            referer: String::new(),
            agent: agent.to_owned(),
        }
    }

    fn line(format: AccessFormat, entry: &Entry, bytes: Option<u64>) -> String {
        let mut log = AccessLog::new(format);
        log.tick(784_111_777);
        let now = Instant::default().after(Duration::from_micros(1500));
        assert!(log.write(entry, 200, bytes, now));
        log.lines
    }

    #[test]
    fn combined() {
        assert_eq!(
            line(AccessFormat::Combined, &entry("/a?b=\"", "curl \\ \u{7}"), Some(12)),
            "203.0.113.9 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=\\\" HTTP/1.1\" 200 12 \
             \"-\" \"curl \\\\ \\x07\"\n",
        );
        let unix = Entry { client: None, ..entry("/", "") };
        assert_eq!(
            line(AccessFormat::Combined, &unix, None),
            "- - - [06/Nov/1994:08:49:37 +0000] \"GET / HTTP/1.1\" 200 - \"-\" \"-\"\n",
        );
    }

    #[test]
    fn json() {
        assert_eq!(
            line(AccessFormat::Json, &entry("/", "x"), Some(12)),
            "{\"time\":784111777,\"client\":\"203.0.113.9\",\"method\":\"GET\",\"target\":\"/\",\
             \"version\":\"HTTP/1.1\",\"referer\":\"\",\"user_agent\":\"x\",\"status\":200,\
             \"bytes\":12,\"duration_us\":1500}\n",
        );
    }

    proptest! {
        #[test]
        fn whatever_a_peer_writes_is_one_line(text in any::<String>()) {
            let combined = line(AccessFormat::Combined, &entry(&text, &text), None);
            prop_assert_eq!(combined.lines().count(), 1);
            let json = line(AccessFormat::Json, &entry(&text, &text), None);
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read["target"].as_str(), Some(text.as_str()));
            prop_assert_eq!(read["user_agent"].as_str(), Some(text.as_str()));
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let mut log = AccessLog::new(AccessFormat::Json);
        let big = entry(&"x".repeat(HELD_MAX / 2), "");
        let mut write = || log.write(&big, 200, None, Instant::default());
        assert_eq!([write(), write(), write()], [true, false, false]);
        assert_eq!(log.lines.lines().count(), 1);
    }
}
