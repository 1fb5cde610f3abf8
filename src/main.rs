//! The `ringfort` command: arguments to a command, its end to an exit code.

mod cli;
mod log;

use cli::{Command, Settings, Usage};
use ringfort::{Error, ErrorKind};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1), std::env::vars_os(), read) {
        Ok(command) => command,
        Err(usage) => return complain(&usage, Usage::HINT, USAGE),
    };
    if let Command::Check(settings) | Command::Serve(settings) = &command
        && let Err(usage) = settings.verify()
    {
        return complain(&usage, Usage::HINT, USAGE);
    }
    let ended = match command {
        Command::Print(text) => print(&text),
        Command::Check(settings) => print(&cli::report(&settings)),
        Command::Demo(settings) => cli::demo::run(settings, reread),
        Command::Serve(settings) => cli::serve::run(settings, reread),
        #[cfg(feature = "load")]
        Command::Bench(bench) => match cli::bench_run::run(*bench, print) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error),
        },
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, error.hint(), code(error.kind())),
    }
}

/// The same command line, environment and file once more, for a reload.
fn reread() -> Result<Settings, Usage> {
    match cli::parse(std::env::args_os().skip(1), std::env::vars_os(), read)? {
        Command::Demo(settings) | Command::Serve(settings) => {
            settings.verify()?;
            Ok(settings)
        }
        Command::Print(_) | Command::Check(_) => Err(Usage::new("this command does not serve")),
        #[cfg(feature = "load")]
        Command::Bench(_) => Err(Usage::new("this command does not serve")),
    }
}

/// A file of settings. Bounded, so that a wrong path (a log, a device) does not fill memory.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::other("larger than 1 MiB: no file of settings"));
    }
    Ok(text)
}

/// To stdout. Who stops reading (`| head`) has seen what they wanted.
fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::System, format!("cannot write to stdout: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What went wrong and what to do, on stderr; if nobody can read it, the exit code still says it.
fn complain(error: &dyn std::error::Error, hint: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "ringfort: {error}\nhint: {hint}");
    ExitCode::from(code)
}

/// What scripts branch on; `ringfort --help` lists them.
fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Config => USAGE,
        ErrorKind::RingBlocked
        | ErrorKind::RingDisabled
        | ErrorKind::KernelTooOld
        | ErrorKind::MemoryLocked
        | ErrorKind::TooFewDescriptors => MACHINE_CANNOT,
        ErrorKind::AddressInUse
        | ErrorKind::AddressNotAvailable
        | ErrorKind::PermissionDenied
        | ErrorKind::Threads
        | ErrorKind::WorkersFailed
        | ErrorKind::Unclean
        | ErrorKind::System
        | _ => FAILED,
    }
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const MACHINE_CANNOT: u8 = 4;
const FILE_MAX: u64 = 1 << 20;
