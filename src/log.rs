//! The command's log lines: one event a line on stderr, never waiting for who reads them.

use ringfort::http::date::civil;
use ringfort::sys::log::{own_terminal, write_now};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Writes a line: when, how bad, what. `unix`: seconds since 1970. A line that stderr does not take
/// at once is dropped and counted; the next that goes through is preceded by how many those were.
pub(crate) fn line(unix: u64, level: &str, what: fmt::Arguments<'_>) {
    STDERR.line(unix, level, what, to_stderr);
}

/// At the end: says how many lines were dropped since the last that went through.
pub(crate) fn end(unix: u64) {
    STDERR.confess(unix, to_stderr);
}

fn to_stderr(bytes: &[u8]) -> usize {
    match &*TERMINAL {
        Some(terminal) => write_now(terminal.as_fd(), bytes),
        None => write_now(io::stderr().as_fd(), bytes),
    }
}

static TERMINAL: LazyLock<Option<OwnedFd>> = LazyLock::new(|| own_terminal(io::stderr().as_fd()));

static STDERR: Log = Log::new();

/// What happened to earlier lines.
struct Log {
    dropped: AtomicU64,
    /// The last line went out in part: the next begins on a line of its own.
    torn: AtomicBool,
}

impl Log {
    const fn new() -> Self {
        Self { dropped: AtomicU64::new(0), torn: AtomicBool::new(false) }
    }

    fn line(
        &self,
        unix: u64,
        level: &str,
        what: fmt::Arguments<'_>,
        sink: impl Fn(&[u8]) -> usize,
    ) {
        self.confess(unix, &sink);
        if !self.put(&text(unix, level, what), sink) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn confess(&self, unix: u64, sink: impl Fn(&[u8]) -> usize) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped == 0 {
            return;
        }
        let what = format_args!("log lines dropped: {dropped}; stderr took no more");
        if self.put(&text(unix, "warn", what), sink) {
            self.dropped.fetch_sub(dropped, Ordering::Relaxed);
        }
    }

    fn put(&self, line: &str, sink: impl Fn(&[u8]) -> usize) -> bool {
        if self.torn.load(Ordering::Relaxed) && sink(b"\n") == 0 {
            return false;
        }
        let wrote = sink(line.as_bytes());
        self.torn.store(wrote > 0 && wrote < line.len(), Ordering::Relaxed);
        wrote == line.len()
    }
}

/// The line with its newline: one, whatever `what` holds, and at most PIPE_BUF bytes, so that a
/// pipe takes it whole (pipe(7)).
fn text(unix: u64, level: &str, what: fmt::Arguments<'_>) -> String {
    let mut line = format!("{} {level:5} {what}", Utc(unix)).replace(char::is_control, " ");
    if line.len() >= PIPE_BUF {
        let end = (0..PIPE_BUF - CUT.len()).rev().find(|&at| line.is_char_boundary(at));
        line.truncate(end.unwrap_or(0));
        line.push_str(CUT);
    }
    line.push('\n');
    line
}

/// A time as RFC 3339 writes it: `2026-01-31T23:59:59Z`.
struct Utc(u64);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0 / 86_400, self.0 % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

const PIPE_BUF: usize = 4096;
const CUT: &str = " … (cut)";

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// `room`: how many bytes each write takes, `-` for all.
    #[track_caller]
    fn check(room: &str, want: &str) {
        let (log, out, room) = (Log::new(), RefCell::new(Vec::new()), room.split(' '));
        let room = RefCell::new(room);
        let sink = |bytes: &[u8]| {
            let take = room.borrow_mut().next().and_then(|n| n.parse().ok()).unwrap_or(bytes.len());
            out.borrow_mut().extend_from_slice(&bytes[..take]);
            take
        };
        for name in ["a", "b", "c", "d"] {
            log.line(0, "info", format_args!("{name}"), sink);
        }
        log.confess(0, sink);
        let text = String::from_utf8(out.take()).unwrap();
        let short = text.replace("1970-01-01T00:00:00Z ", "").replace("; stderr took no more", "");
        assert_eq!(short.replace('\n', "|"), want);
    }

    #[test]
    fn lines_are_whole_or_counted() {
        check("-", "info  a|info  b|info  c|info  d|");
        check("- 0", "info  a|warn  log lines dropped: 1|info  c|info  d|");
        check("- 0 0 0 0 0", "info  a|warn  log lines dropped: 3|");
        check("- 0 0 0 - -", "info  a|warn  log lines dropped: 2|info  d|");
        check("- - - 0", "info  a|info  b|info  c|warn  log lines dropped: 1|");
        check("24", "inf|warn  log lines dropped: 1|info  b|info  c|info  d|");
    }

    #[test]
    fn a_long_line_is_cut_to_what_a_pipe_takes_whole() {
        for length in 4060..4100 {
            let what = "ä".repeat(length / 2) + &"x".repeat(length % 2);
            let line = text(0, "info", format_args!("{what}"));
            assert!(line.len() <= PIPE_BUF && line.ends_with('\n'));
            assert_eq!(line.contains(CUT), line.len() < 27 + length + 1, "{length}");
        }
    }

    #[test]
    fn a_line_is_one_line() {
        let line = text(0, "info", format_args!("a\nb\r\u{1b}[2Jc"));
        assert_eq!(line, "1970-01-01T00:00:00Z info  a b  [2Jc\n");
    }

    #[test]
    fn time() {
        let utc = |unix: u64| Utc(unix).to_string();
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(utc(1_767_225_599), "2025-12-31T23:59:59Z");
    }
}
