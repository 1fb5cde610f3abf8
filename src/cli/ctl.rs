//! `ringfort ctl SOCKET COMMAND…`: one line to the master, its one JSON line to stdout, its code.

use ringfort::admin::client::ask;
use ringfort::admin::line;
use std::io;
use std::time::Duration;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ctl {
    /// The control socket: a path, or `@` and an abstract name.
    pub(crate) socket: String,
    /// One line of the control language.
    pub(crate) line: String,
}

/// Asks, and gives back what the master said and with which code to end.
///
/// # Errors
///
/// Nobody answered.
pub(crate) fn run(ctl: &Ctl) -> io::Result<(String, u8)> {
    let word = ctl.line.split(' ').next().unwrap_or("");
    let patience = if line::is_long(word) { LONG } else { SHORT };
    let reply = ask(&ctl.socket, &ctl.line, patience)?;
    Ok((format!("{}\n", reply.line), reply.code))
}

const SHORT: Duration = Duration::from_secs(10);
/// A reload waits for boots, a canary and drains.
const LONG: Duration = Duration::from_secs(3600);
