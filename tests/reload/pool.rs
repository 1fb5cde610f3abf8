//! The application as a running server, with its two files.

use crate::client::{Client, PATIENCE, Reply};
use crate::raw;
use crate::server::{Server, bad_command, eventually, folder};
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

/// A running server of ours.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) server: Server,
    folder: PathBuf,
    /// Commands whose end has been awaited.
    ended: usize,
}

impl Deref for Pool {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Pool {
    /// Starts it with these options, `name value` a line, and waits until its workers are ready.
    pub(crate) fn start(options: &str, workers: usize) -> Self {
        let folder = folder();
        let path = folder.display().to_string();
        write(&folder, "options", &format!("workers {workers}\n{options}"));
        let server = Server::launch(&mut bad_command(&format!("--folder {path}")));
        server.await_ready(workers);
        Self { server, folder, ended: 0 }
    }

    /// What the next reload will read.
    pub(crate) fn set_options(&self, options: &str) {
        write(&self.folder, "options", options);
    }

    /// How workers that boot from now on behave.
    pub(crate) fn set_manners(&self, manners: &str) {
        write(&self.folder, "manners", manners);
    }

    pub(crate) fn signal(&self, signal: i32) {
        raw::signal(self.pid(), signal);
    }

    /// Sends a signal, and waits for the end of what it asks for: the line of the log.
    pub(crate) fn command(&mut self, signal: i32, what: &str) -> String {
        self.signal(signal);
        self.await_end(what)
    }

    /// Waits until one more command of this name has ended.
    pub(crate) fn await_end(&mut self, what: &str) -> String {
        let (done, failed) = (format!("{what} done: "), format!("{what} failed: "));
        let line = eventually(what, 3 * PATIENCE, || {
            let log = self.server.log();
            // The last line may be half written.
            let whole = log.rfind('\n').map_or("", |end| &log[..end]);
            let mut ends = whole.lines().filter(|line| is_end(line));
            ends.nth(self.ended).map(str::to_owned)
        });
        self.ended += 1;
        assert!(line.contains(&done) || line.contains(&failed), "{line}");
        line
    }

    /// Reloads, and wants it to succeed.
    #[track_caller]
    pub(crate) fn reload(&mut self) -> String {
        let line = self.command(libc::SIGHUP, "reload");
        assert!(line.contains("reload done: "), "{line}\n{}", self.log());
        line
    }

    /// Asks who answers, over a connection of its own.
    pub(crate) fn who(&self) -> Reply {
        self.connect().get("/who").expect("somebody serves")
    }

    /// Workers that are alive and no throw-away children.
    pub(crate) fn await_workers(&self, count: usize) -> Vec<u32> {
        eventually("so many workers", 3 * PATIENCE, || {
            let workers = self.workers();
            (workers.len() == count).then_some(workers)
        })
    }

    /// A client that has an answer already, over a connection that stays open.
    pub(crate) fn client(&self) -> Client {
        let mut client = self.connect();
        assert_eq!(client.get("/").expect("an answer").status, 200);
        client
    }
}

fn is_end(line: &str) -> bool {
    let names = ["reload", "rollback", "scale", "recycle", "mode"];
    names.iter().any(|name| {
        line.starts_with(&format!("{name} done: ")) || line.starts_with(&format!("{name} failed: "))
    })
}

fn write(folder: &std::path::Path, name: &str, text: &str) {
    // Whole or not at all: a worker may be reading it.
    let new = folder.join(format!("{name}.new"));
    fs::write(&new, text).expect("our own folder");
    fs::rename(new, folder.join(name)).expect("our own folder");
}
