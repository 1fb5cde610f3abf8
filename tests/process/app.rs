//! The application under test where `ringfort serve` is too well-behaved: its handlers panic, abort
//! and hang, its workers do not come up. It takes the same options, and answers the same few paths.

use ringfort::http::{Request, Response};
use ringfort::{Config, Error, Pool, WorkerInfo};
use std::fs::File;
use std::os::fd::IntoRawFd;
use std::process::ExitCode;

/// What makes this program the application.
pub(crate) const FLAG: &str = "--bad-application";

/// What is bad about it, apart from its paths.
#[derive(Clone, Debug, Default)]
struct Bad {
    /// How a worker ends its boot: `fail`, `panic`, `abort`, `exit`, `hang`; else it comes up.
    boot: String,
    /// How many descriptors the first worker of slot 0 opens for nothing.
    leak: usize,
}

/// Serves; `options`: names and values.
pub(crate) fn run(options: impl Iterator<Item = String>) -> ExitCode {
    match serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bad: {error}\nhint: {}", error.hint());
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::unwrap_in_result, reason = "a case that gets its own options wrong fails")]
fn serve(mut options: impl Iterator<Item = String>) -> Result<(), Error> {
    let mut config = Config::default();
    let mut bad = Bad::default();
    while let (Some(flag), Some(value)) = (options.next(), options.next()) {
        let set = match flag.trim_start_matches('-') {
            "boot" => {
                bad.boot = value;
                Ok(())
            }
            "leak" => {
                bad.leak = value.parse().expect("a number");
                Ok(())
            }
            // Opened before the pool, and never closed: the workers' to use.
            "open" => {
                let _ = File::open(value).expect("it is there").into_raw_fd();
                Ok(())
            }
            "thread" => {
                let sleep = || std::thread::park();
                std::thread::Builder::new().spawn(sleep).expect("a thread");
                Ok(())
            }
            "addr" => config.add_address(&value),
            name => config.set(&name.replace('-', "_"), &value),
        };
        set.expect("a case knows its options");
    }
    Pool::with_config(config)
        .on_started(|started| {
            let urls: Vec<String> =
                started.addresses.iter().map(|address| format!("http://{address}/")).collect();
            println!("url      {}\n", urls.join("\n         "));
        })
        .on_event(|event| eprintln!("{event}"))
        .try_serve_with(move |worker| boot(worker, &bad))
}

/// A worker's handler, if its boot may end well.
fn boot(
    worker: &WorkerInfo,
    bad: &Bad,
) -> Result<impl FnMut(&Request<'_>, &mut Response) + use<>, String> {
    let leaks = worker.slot() == 0 && worker.generation() == 0;
    for _ in 0..if leaks { bad.leak } else { 0 } {
        let null = File::open("/dev/null").map_err(|error| error.to_string())?;
        let _ = null.into_raw_fd();
    }
    match bad.boot.as_str() {
        "fail" => return Err(format!("no database for slot {}", worker.slot())),
        "panic" => panic!("no database for slot {}", worker.slot()),
        "abort" => std::process::abort(),
        #[expect(clippy::exit, clippy::disallowed_methods, reason = "an application may")]
        "exit" => std::process::exit(7),
        "hang" => std::thread::park(),
        // Only the first life of each slot comes up.
        "once" if worker.generation() > 0 => return Err("once is enough".to_owned()),
        _ => {}
    }
    let pid = std::process::id();
    Ok(move |request: &Request<'_>, response: &mut Response| match request.path() {
        "/workers" => response.text(format!("{{\"pid\":{pid}}}")),
        "/panic" => panic!("as asked"),
        "/spin" => std::iter::repeat(()).for_each(|()| std::hint::spin_loop()),
        "/block" => std::iter::repeat(()).for_each(|()| std::thread::park()),
        "/abort" => std::process::abort(),
        #[expect(clippy::exit, clippy::disallowed_methods, reason = "an application may")]
        "/exit" => std::process::exit(7),
        _ => response.text("Hello, World!"),
    })
}
