//! The application under test: it reads its options from a file, again at every reload, and its
//! manners from another whenever a worker boots.

use ringfort::http::{Request, Response};
use ringfort::{Config, Pool, WorkerInfo};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// What makes this program the application.
pub(crate) const FLAG: &str = "--reloaded-application";

/// Serves; the one option that it takes names the folder of its two files.
pub(crate) fn run(mut options: impl Iterator<Item = String>) -> ExitCode {
    let folder = PathBuf::from(options.nth(1).expect("--folder and a folder"));
    let again = folder.clone();
    let config = match read(&folder) {
        Ok(config) => config,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let ended = Pool::with_config(config)
        .on_started(|started| {
            let urls: Vec<String> =
                started.addresses.iter().map(|address| format!("http://{address}/")).collect();
            println!("url      {}\n", urls.join("\n         "));
        })
        .on_event(|event| eprintln!("{event}"))
        .on_reload(move || read(&again))
        .try_serve_with(move |worker| boot(worker, &folder));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The options: one a line, `name value`.
fn read(folder: &Path) -> Result<Config, String> {
    let text = fs::read_to_string(folder.join("options")).map_err(|error| error.to_string())?;
    let mut config = Config::default();
    config.add_address("127.0.0.1:0").map_err(|wrong| wrong.to_string())?;
    for line in text.lines() {
        match line.split_once(' ').ok_or_else(|| format!("{line:?}: no value"))? {
            ("panic", why) => panic!("{why}"),
            (name, value) => config.set(name, value).map_err(|wrong| wrong.to_string())?,
        }
    }
    Ok(config)
}

/// What is wrong with a worker is the text of the file: `fail`, `abort`, `hang` at boot; `500`,
/// `silent` when asked; nothing if the file is not there.
fn boot(
    worker: &WorkerInfo,
    folder: &Path,
) -> Result<impl FnMut(&Request<'_>, &mut Response) + use<>, String> {
    let manners = fs::read_to_string(folder.join("manners")).unwrap_or_default();
    // `1 fail`: only in that slot.
    let (slot, manners) = manners.trim().split_once(' ').unwrap_or_else(|| ("", manners.trim()));
    let concerned = slot.is_empty() || slot == worker.slot().to_string();
    let manners = if concerned { manners.to_owned() } else { String::new() };
    match manners.as_str() {
        "fail" => return Err(format!("no database for slot {}", worker.slot())),
        "abort" => std::process::abort(),
        "hang" => thread::park(),
        _ => {}
    }
    let (pid, epoch, slot) = (std::process::id(), worker.epoch(), worker.slot());
    let mut held: Vec<Vec<u8>> = Vec::new();
    Ok(move |request: &Request<'_>, response: &mut Response| {
        if manners == "500" {
            return response.status(500).text("as I was told");
        }
        // Its first request is the probe's, which never gets an answer in time.
        if manners == "silent" {
            return response.after(Duration::from_secs(60), |later| later.text("late"));
        }
        // Only real clients see this one: the probe asks for `/`.
        if manners == "later500" && request.path() != "/" {
            return response.status(500).text("on trial");
        }
        // The same, for these.
        let late = Duration::from_millis(50);
        if manners == "later-blocks" && request.path() != "/" {
            thread::park_timeout(late);
        } else if manners == "later-waits" && request.path() == "/echo" {
            let body = request.body().to_vec();
            let kind = "application/octet-stream";
            return response.after(late, move |later| later.bytes(kind, body));
        }
        match request.path() {
            "/who" => response.text(format!("{{\"pid\":{pid},\"epoch\":{epoch},\"slot\":{slot}}}")),
            "/echo" => response.bytes("application/octet-stream", request.body().to_vec()),
            "/slow" => response.after(Duration::from_millis(600), |later| later.text("slow")),
            "/never" => response.after(Duration::from_secs(600), |later| later.text("never")),
            "/crash" => std::process::abort(),
            "/eat" => {
                // Written to, so that it is resident.
                held.push(vec![7; 48 << 20]);
                response.text("eaten");
            }
            _ => response.text("Hello, World!"),
        }
    })
}
