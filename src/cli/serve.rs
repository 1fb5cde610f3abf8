//! Serving: a pool with the settings, the handler, a banner on stdout and log lines on stderr.

use super::app::{App, Front};
use super::banner::{Facts, banner};
use super::{Settings, Usage};
use crate::log;
use ringfort::event::Event;
use ringfort::sys::clock;
use ringfort::{Config, Error, Mode, Pool, Reread, Started};
use std::io::{self, Write};
use std::path::PathBuf;

/// `ringfort serve`: blocks until it was stopped and has drained.
pub(crate) fn run(settings: Settings, again: Again) -> Result<(), Error> {
    serve(settings, Front::Hello, again)
}

/// How the settings are read once more.
pub(crate) type Again = fn() -> Result<Settings, Usage>;

/// The pool of `serve` and of the demo.
pub(super) fn serve(settings: Settings, front: Front, again: Again) -> Result<(), Error> {
    let Settings { config, root, .. } = settings;
    let shown = config.clone();
    let served = root.clone();
    // std's own message waits for who reads stderr; a worker must not.
    std::panic::set_hook(Box::new(|panic| {
        let pid = std::process::id();
        log::line(clock::unix_time(), "error", format_args!("process {pid} {panic}"));
    }));
    let ended = Pool::with_config(config)
        .on_started(move |started| say(&banner(&facts(&shown, started))))
        .on_event(on_event)
        .on_reload(move || again().map(|settings| reread(settings, served.as_ref())))
        .try_serve_with(move |worker| App::new(front, worker, root.as_deref()));
    log::end(clock::unix_time());
    ended
}

fn reread(settings: Settings, served: Option<&PathBuf>) -> Reread {
    let Settings { config, root, .. } = settings;
    let restart = if root.as_ref() == served { Vec::new() } else { vec!["root".to_owned()] };
    Reread { config, restart }
}

fn on_event(event: &Event) {
    log::line(clock::unix_time(), event.level().name(), format_args!("{event}"));
}

/// A banner that nobody reads is no reason not to serve.
fn say(text: &str) {
    let mut stdout = io::stdout();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn facts<'a>(config: &'a Config, started: &'a Started) -> Facts<'a> {
    let mode = match started.mode {
        Mode::Auto => "auto",
        Mode::Shared => "shared (one listener per worker)",
        Mode::Centralized => "centralized (the master accepts and hands over)",
    };
    Facts {
        config,
        addresses: &started.addresses,
        mode: format!("{mode}: {}", started.mode_reason),
        workers: format!("{}: {}", started.workers, started.workers_reason),
        connections_max: started.connections_max,
        engine: format!("io_uring, Linux {}", started.kernel),
        pid: std::process::id(),
        health: started.health.as_ref(),
        descriptors: started.descriptors,
    }
}
