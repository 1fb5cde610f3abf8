//! The language of the control socket: one line in. Pure.

use crate::config::Mode;
use crate::master::command::Command;

/// Bytes of a line, its end not counted; longer: refused.
pub const LINE_MAX: usize = 256;

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// How the pool and its workers are.
    Status,
    /// What became of all connections.
    Ledger,
    /// Every number.
    Metrics,
    /// The master acts.
    Order(Command),
}

/// All commands, as the help shows them.
pub const COMMANDS: [(&str, &str); 12] = [
    ("status", "the pool and each worker"),
    ("ledger", "what became of all connections"),
    ("metrics", "every number"),
    ("dump", "what every part of the master and every worker does"),
    ("reload", "replace all workers by new ones, or change nothing"),
    ("upgrade", "replace the program by the one on disk, or change nothing"),
    (
        "rollback",
        "go back to the settings before the last reload, or the program before an upgrade",
    ),
    ("scale N", "so many workers; +N or -N: so many more or less; 0: drain them all"),
    ("recycle [SLOT]", "replace the worker of a slot, or all, one by one"),
    ("mode shared|centralized", "change how connections reach workers"),
    ("drain", "finish what runs, then exit"),
    ("stop", "exit now"),
];

/// Whether a command is answered only when workers have been replaced.
#[must_use]
pub fn is_long(command: &str) -> bool {
    ["reload", "upgrade", "rollback", "scale", "recycle", "mode"].contains(&command)
}

/// Reads a line, without its end.
///
/// # Errors
///
/// What is wrong with it, as a sentence.
pub fn parse(line: &[u8]) -> Result<Request, String> {
    let text = std::str::from_utf8(line).map_err(|_| "a line of UTF-8 is expected".to_owned())?;
    let mut words = text.split_ascii_whitespace();
    let command = words.next().ok_or("an empty line; `status` is a beginning")?;
    let argument = words.next();
    if words.next().is_some() {
        return Err(format!("{}: too many words", text.escape_debug()));
    }
    let order = match (command, argument) {
        ("status", None) => return Ok(Request::Status),
        ("ledger", None) => return Ok(Request::Ledger),
        ("metrics", None) => return Ok(Request::Metrics),
        ("dump", None) => Command::Dump,
        ("reload", None) => Command::Reload,
        ("upgrade", None) => Command::Upgrade,
        ("rollback", None) => Command::Rollback,
        ("drain", None) => Command::Drain,
        ("stop", None) => Command::Stop,
        ("recycle", None) => Command::Recycle(None),
        ("recycle", Some(slot)) => Command::Recycle(Some(number(slot).ok_or("recycle [SLOT]")?)),
        ("scale", Some(count)) => scale(count).ok_or("scale N, +N or -N; N up to 1024")?,
        ("mode", Some("shared")) => Command::SetMode(Mode::Shared),
        ("mode", Some("centralized")) => Command::SetMode(Mode::Centralized),
        ("scale", None) => return Err("scale N, +N or -N; N up to 1024".to_owned()),
        ("mode", _) => return Err("mode shared, or mode centralized".to_owned()),
        (known, Some(_)) if COMMANDS.iter().any(|(name, _)| *name == known) => {
            return Err(format!("{known} takes no argument"));
        }
        (other, _) => return Err(format!("{}: no such command", other.escape_debug())),
    };
    Ok(Request::Order(order))
}

/// A command that can wait for its turn, as the line that asks for it.
#[must_use]
pub fn line(command: Command) -> Option<String> {
    match command {
        Command::Reload => Some("reload".to_owned()),
        Command::ScaleBy(by) => Some(format!("scale {:+}", by.clamp(-1024, 1024))),
        Command::ScaleTo(count) => Some(format!("scale {}", count.min(1024))),
        Command::DrainWorkers => Some("scale 0".to_owned()),
        Command::Rollback
        | Command::Recycle(_)
        | Command::Upgrade
        | Command::SetMode(_)
        | Command::Drain
        | Command::Stop
        | Command::Reap
        | Command::Dump
        | Command::Ignore(_) => None,
    }
}

fn scale(text: &str) -> Option<Command> {
    let by = |digits| number(digits).and_then(|count| i32::try_from(count).ok());
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(more), _) => by(more).map(Command::ScaleBy),
        (_, Some(less)) => by(less).map(|count| Command::ScaleBy(-count)),
        (None, None) => match number(text)? {
            0 => Some(Command::DrainWorkers),
            count => Some(Command::ScaleTo(count)),
        },
    }
}

/// Up to 1024, as there are workers.
fn number(digits: &str) -> Option<u32> {
    if !(1..=4).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value = digits.bytes().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    (value <= 1024).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(line: &str, want: &str) {
        let got = match parse(line.as_bytes()) {
            Ok(Request::Order(command)) => format!("{command:?}"),
            Ok(other) => format!("{other:?}"),
            Err(why) => format!("! {why}"),
        };
        assert_eq!(got, want, "{line:?}");
    }

    #[test]
    fn the_language() {
        check("status", "Status");
        check(" status\t", "Status");
        check("ledger", "Ledger");
        check("metrics", "Metrics");
        check("dump", "Dump");
        check("reload", "Reload");
        check("upgrade", "Upgrade");
        check("rollback", "Rollback");
        check("drain", "Drain");
        check("stop", "Stop");
        check("scale 3", "ScaleTo(3)");
        check("scale +3", "ScaleBy(3)");
        check("scale -1", "ScaleBy(-1)");
        check("scale 0", "DrainWorkers");
        check("recycle", "Recycle(None)");
        check("recycle 0", "Recycle(Some(0))");
        check("mode shared", "SetMode(Shared)");
        check("mode centralized", "SetMode(Centralized)");
    }

    #[test]
    fn what_it_does_not_understand_it_says() {
        check("", "! an empty line; `status` is a beginning");
        check("STATUS", "! STATUS: no such command");
        check("stop now", "! stop takes no argument");
        check("stop right now", "! stop right now: too many words");
        check("scale", "! scale N, +N or -N; N up to 1024");
        for wrong in ["1025", "-", "+", "--1", "1.5", "0x1", "00001", "99999999999", "٣"] {
            check(&format!("scale {wrong}"), "! scale N, +N or -N; N up to 1024");
        }
        check("recycle -1", "! recycle [SLOT]");
        check("mode both", "! mode shared, or mode centralized");
        check("mode", "! mode shared, or mode centralized");
        check("\u{1b}[2J", "! \\u{1b}[2J: no such command");
        assert!(parse(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn the_help_names_every_command() {
        for (usage, _) in COMMANDS {
            let line = usage.replace(" N", " 1").replace(" [SLOT]", "");
            let line = line.replace("|centralized", "");
            assert!(parse(line.as_bytes()).is_ok(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_a_reason_of_one_line(
            line in prop::collection::vec(any::<u8>(), 0..LINE_MAX),
        ) {
            if let Err(why) = parse(&line) {
                prop_assert!(!why.is_empty() && !why.contains('\n'));
            }
        }
    }
}
