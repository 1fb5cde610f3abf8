//! The command: arguments, environment and file in, a [`Command`] out. Pure.

mod app;
mod banner;
#[cfg(feature = "load")]
mod bench;
#[cfg(feature = "load")]
pub(crate) mod bench_run;
mod check;
#[cfg(feature = "load")]
mod compare;
pub(crate) mod ctl;
pub(crate) mod demo;
mod help;
pub(crate) mod serve;
mod settings;

pub(crate) use check::report;
pub(crate) use ctl::Ctl;
pub(crate) use settings::Settings;

use lexopt::Arg::{Long, Short, Value};
use settings::{Given, Source};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    /// Print this and end: help or the version.
    Print(String),
    /// Print every setting and where it came from.
    Check(Settings),
    /// Without arguments: show what it can do, on loopback.
    Demo(Settings),
    /// Serve.
    Serve(Settings),
    /// Ask or command a running master.
    Ctl(Ctl),
    /// Measure a server.
    #[cfg(feature = "load")]
    Bench(Box<bench::Bench>),
}

/// What is wrong with the command line, the environment or the file. One line, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    what: String,
}

impl Usage {
    pub(crate) const CODE: &str = "usage";
    pub(crate) const HINT: &str =
        "`ringfort serve --help` and `ringfort bench --help` list every option and its default";

    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.what, Self::CODE)
    }
}

impl std::error::Error for Usage {}

impl From<lexopt::Error> for Usage {
    fn from(error: lexopt::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Reads the command line (without the program's name).
///
/// `env`: the environment; only names that begin with `RINGFORT_` count. `read`: a file's text.
pub(crate) fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    read: impl Fn(&Path) -> io::Result<String>,
) -> Result<Command, Usage> {
    let mut parser = lexopt::Parser::from_args(args);
    let line = match parser.next()? {
        None => return Ok(Command::Demo(Settings::layered(env, Vec::new(), None, read)?)),
        Some(Short('h') | Long("help")) => return Ok(Command::Print(help::overview())),
        Some(Short('V') | Long("version")) => return Ok(Command::Print(help::version())),
        Some(Value(word)) if word == "serve" => serve(parser)?,
        Some(Value(word)) if word == "ctl" => return ctl(parser),
        #[cfg(feature = "load")]
        Some(Value(word)) if word == "bench" => {
            return Ok(match bench::parse(parser)? {
                bench::Line::Help => Command::Print(help::bench()),
                bench::Line::Run(bench) => Command::Bench(bench),
            });
        }
        #[cfg(feature = "load")]
        Some(Value(word)) if word == "compare" => {
            return Ok(match bench::parse_compare(parser)? {
                bench::Line::Help => Command::Print(help::compare()),
                bench::Line::Run(bench) => Command::Bench(bench),
            });
        }
        Some(Value(word)) => return Err(Usage::new(format!("no such command: {word:?}"))),
        Some(Long(name)) if settings::is_option(name) => {
            return Err(Usage::new(format!("write `ringfort serve --{name} …`")));
        }
        Some(other) => return Err(other.unexpected().into()),
    };
    if line.help {
        return Ok(Command::Print(help::serve()));
    }
    let settings = Settings::layered(env, line.flags, line.config, read)?;
    Ok(if line.check { Command::Check(settings) } else { Command::Serve(settings) })
}

/// `-` begins no option here: `scale -1`.
fn ctl(mut parser: lexopt::Parser) -> Result<Command, Usage> {
    let mut words = Vec::new();
    for word in parser.raw_args()? {
        words.push(word.into_string().map_err(|word| Usage::new(format!("no text: {word:?}")))?);
    }
    if words.iter().any(|word| word == "--help" || word == "-h") {
        return Ok(Command::Print(help::ctl()));
    }
    let mut words = words.into_iter();
    let socket = words.next().ok_or_else(|| Usage::new("ringfort ctl SOCKET COMMAND"))?;
    let line = words.collect::<Vec<_>>().join(" ");
    // What the master would refuse is refused here, without one.
    ringfort::admin::line::parse(line.as_bytes()).map_err(Usage::new)?;
    Ok(Command::Ctl(Ctl { socket, line }))
}

#[derive(Default)]
struct ServeLine {
    help: bool,
    check: bool,
    config: Option<PathBuf>,
    flags: Vec<Given>,
}

fn serve(mut parser: lexopt::Parser) -> Result<ServeLine, Usage> {
    let mut line = ServeLine::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => line.help = true,
            Long("check") => line.check = true,
            Long("config") => line.config = Some(parser.value()?.into()),
            Long(flag) if settings::is_option(flag) => {
                let name = flag.replace('-', "_");
                let value = parser.value()?;
                line.add(name, value);
            }
            other @ (Short(_) | Long(_) | Value(_)) => return Err(other.unexpected().into()),
        }
    }
    Ok(line)
}

impl ServeLine {
    /// `--addr` adds up; of any other option given twice, the last holds.
    fn add(&mut self, name: String, value: OsString) {
        if let Some(given) = self.flags.iter_mut().find(|g| g.name == "addr" && g.name == name) {
            given.values.push(value);
        } else {
            self.flags.push(Given { name, values: vec![value], source: Source::Flag });
        }
    }
}

#[cfg(test)]
mod tests;
