//! The application under test: it answers with what a worker is allowed to do, boots badly when a
//! file says so, and has something to say to every signal.

use ringfort::http::{Request, Response};
use ringfort::{Config, Pool, SignalManager, UserSignal, WorkerInfo};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// What makes this program the application.
pub(crate) const FLAG: &str = "--application";

/// Serves; `options`: names and values.
pub(crate) fn run(options: impl Iterator<Item = String>) -> ExitCode {
    let (config, manners) = configure(options);
    match pool(config).try_serve_with(move |worker| boot(worker, &manners)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The options as a configuration, and the file that says how workers boot.
pub(crate) fn configure(mut options: impl Iterator<Item = String>) -> (Config, PathBuf) {
    let mut config = Config::default();
    let mut manners = PathBuf::new();
    while let (Some(flag), Some(value)) = (options.next(), options.next()) {
        let set = match flag.trim_start_matches('-') {
            "manners" => {
                manners = PathBuf::from(value);
                Ok(())
            }
            "addr" => config.add_address(&value),
            name => config.set(&name.replace('-', "_"), &value),
        };
        set.expect("a case knows its options");
    }
    (config, manners)
}

/// The pool of the application, with a banner, a log and signal handlers.
pub(crate) fn pool(config: Config) -> Pool {
    Pool::with_config(config)
        .on_started(|started| {
            let urls: Vec<String> =
                started.addresses.iter().map(|address| format!("http://{address}/")).collect();
            let health = started.health.as_ref().map(|at| format!("health {at}\n"));
            println!(
                "descriptors {:?}\n{}url      {}\n",
                started.descriptors,
                health.unwrap_or_default(),
                urls.join("\n         ")
            );
        })
        .on_event(|event| say(&event.to_string()))
        .signals(handlers())
}

fn handlers() -> SignalManager {
    let signals = SignalManager::new();
    let pid = std::process::id;
    let flags = signals.clone();
    signals.on_shutdown(move || {
        say(&format!("shutdown in {} flag {}", pid(), flags.is_shutdown_requested()));
    });
    let flags = signals.clone();
    signals.on_reload(move || say(&format!("reload flag {}", flags.is_reload_requested())));
    signals.on_master_user2(|number| say(&format!("master got {number}")));
    let unwanted = signals.on_master_user2(|_| say("master: never"));
    signals.unregister(unwanted);
    for name in ["first", "second"] {
        signals.on_worker(UserSignal::One, move |n| say(&format!("{name} in {} got {n}", pid())));
    }
    signals.on_worker(UserSignal::Two, move |n| say(&format!("worker {} got {n}", pid())));
    signals
}

/// How a worker boots is the text of the file of manners: `fail`, `hang`, `panic`, or
/// nothing.
pub(crate) fn boot(
    worker: &WorkerInfo,
    manners: &PathBuf,
) -> Result<impl FnMut(&Request<'_>, &mut Response) + use<>, String> {
    match fs::read_to_string(manners).unwrap_or_default().trim() {
        "fail" => return Err(format!("no database for slot {}", worker.slot())),
        "hang" => std::thread::park(),
        "panic" => panic!("no disk for slot {}", worker.slot()),
        _ => {}
    }
    Ok(|request: &Request<'_>, response: &mut Response| match request.path() {
        "/status" => response.text(fs::read_to_string("/proc/self/status").unwrap_or_default()),
        "/limits" => response.text(fs::read_to_string("/proc/self/limits").unwrap_or_default()),
        "/slow" => response.after(Duration::from_millis(600), |later| later.text("slow")),
        "/never" => response.after(Duration::from_secs(600), |later| later.text("never")),
        "/write" => {
            let path = request.query_value("path").unwrap_or_default();
            response.text(format!("{:?}", fs::write(&*path, "by a worker").map_err(|e| e.kind())));
        }
        "/crash" => std::process::abort(),
        #[expect(clippy::exit, clippy::disallowed_methods, reason = "an application may")]
        "/last-words" => {
            for line in ["one", "two", "three"] {
                eprintln!("last words: {line}");
            }
            std::process::exit(3);
        }
        _ => response.text("Hello, World!"),
    })
}

/// In one write, so that lines of several processes do not mix.
fn say(line: &str) {
    let mut err = std::io::stderr();
    err.write_all(format!("{line}\n").as_bytes()).expect("the test reads it");
}
