//! The application under test: its version is the length of the file that it was started from. It
//! reads its options and its manners from files, as an application that can be replaced does.

use ringfort::channel::{MasterMail, Message};
use ringfort::http::{Request, Response};
use ringfort::ipc::board::{Build, Names};
use ringfort::{Config, Pool, WorkerInfo};
use std::fs;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// What makes this program the application.
pub(crate) const FLAG: &str = "--upgraded-application";

/// Serves; the one option that it takes names the folder of its two files.
pub(crate) fn run(mut options: impl Iterator<Item = String>) -> ExitCode {
    let folder = PathBuf::from(options.nth(1).expect("--folder and a folder"));
    let config = match read(&folder) {
        Ok(config) => config,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    match manners(&folder).as_str() {
        "exit" => return ExitCode::from(9),
        "hang" => thread::park(),
        _ => {}
    }
    let build = fs::read_to_string(folder.join("build")).unwrap_or_default();
    let mail = MasterMail::new();
    let copy = mail.clone();
    mail.on_message(move |_, message| drop(copy.broadcast(&message)));
    let ended = Pool::with_config(config)
        .board_of(board(&build))
        .on_started(|started| {
            let urls: Vec<String> =
                started.addresses.iter().map(|address| format!("http://{address}/")).collect();
            println!("url      {}\n", urls.join("\n         "));
        })
        .on_event(|event| eprintln!("{event}"))
        .messages(&mail)
        .try_serve_with(move |worker| boot(worker, &folder));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// How this program's board counts: `other` has a counter more, one less, another order and another
/// word for one reason to close; `poor` calls a counter otherwise that the books need.
fn board(build: &str) -> Build {
    let mut build_of = Build::default();
    let Build { laid_out, called } = &mut build_of;
    let rename = |names: &mut Vec<String>, before: &str, after: &str| {
        let name = names.iter_mut().find(|name| *name == before);
        after.clone_into(name.expect("it is in our table"));
    };
    match build {
        "other" => {
            laid_out.counters.retain(|name| name != "passes");
            laid_out.counters.insert(1, "of_the_other".to_owned());
            laid_out.counters.reverse();
            laid_out.reasons.reverse();
            *called = Names { ..laid_out.clone() };
            rename(&mut called.reasons, "client_asked", "as_it_wished");
        }
        "poor" => rename(&mut called.counters, "responses", "answers"),
        _ => {}
    }
    build_of
}

/// The options: one a line, `name value`.
fn read(folder: &Path) -> Result<Config, String> {
    let text = fs::read_to_string(folder.join("options")).map_err(|error| error.to_string())?;
    let mut config = Config::default();
    for line in text.lines() {
        match line.split_once(' ').ok_or_else(|| format!("{line:?}: no value"))? {
            ("addr", address) => config.add_address(address).map_err(|wrong| wrong.to_string())?,
            (name, value) => config.set(name, value).map_err(|wrong| wrong.to_string())?,
        }
    }
    Ok(config)
}

/// What is wrong: `exit`, `hang` before it serves; `fail`, `abort`, `stuck` in a worker's boot;
/// `500`, `silent` when asked; nothing if the file is not there. After `real`: only with workers of
/// the pool, not of a trial; after `last`: only with those of slot 1.
fn manners(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("manners")).unwrap_or_default();
    text.trim().to_owned()
}

fn boot(
    worker: &WorkerInfo,
    folder: &Path,
) -> Result<impl FnMut(&Request<'_>, &mut Response) + use<>, String> {
    let mut manners = manners(folder);
    if let Some(real) = manners.strip_prefix("real ") {
        let master = fs::read_to_string(folder.join("pid")).unwrap_or_default();
        let is_real = master.trim() == parent_id().to_string();
        manners = if is_real { real.to_owned() } else { String::new() };
    }
    if let Some(last) = manners.strip_prefix("last ") {
        manners = if worker.slot() == 1 { last.to_owned() } else { String::new() };
    }
    match manners.as_str() {
        "fail" => return Err(format!("no database for slot {}", worker.slot())),
        "abort" => std::process::abort(),
        "stuck" => thread::park(),
        _ => {}
    }
    let version = fs::metadata("/proc/self/exe").map_err(|error| error.to_string())?.len();
    let (pid, epoch, slot) = (std::process::id(), worker.epoch(), worker.slot());
    let mail = worker.mail();
    let heard = std::rc::Rc::new(std::cell::Cell::new(0_u64));
    let hears = heard.clone();
    mail.on_message(move |_| hears.set(hears.get() + 1));
    Ok(move |request: &Request<'_>, response: &mut Response| {
        if manners == "500" {
            return response.status(500).text("as I was told");
        }
        if manners == "silent" {
            return response.after(Duration::from_secs(60), |later| later.text("late"));
        }
        match request.path() {
            "/who" => response.text(format!(
                "{{\"pid\":{pid},\"version\":{version},\"epoch\":{epoch},\"slot\":{slot}}}"
            )),
            "/echo" => response.bytes("application/octet-stream", request.body().to_vec()),
            "/slow" => response.after(Duration::from_millis(1500), |later| later.text("slow")),
            "/say" => {
                let told = mail.send(&Message::worker_metrics(Default::default(), 0.0));
                response.text(format!("{}", told.is_ok()));
            }
            "/heard" => response.text(heard.get().to_string()),
            _ => response.text("Hello, World!"),
        }
    })
}
