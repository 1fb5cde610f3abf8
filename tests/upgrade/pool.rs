//! The application as a running server, from a file that can be replaced.

use crate::app::FLAG;
use crate::client::{Client, PATIENCE};
use crate::server::{Server, eventually, folder};
use ringfort::admin::client::{Reply, ask};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A running server of ours.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) server: Server,
    folder: PathBuf,
    versions: usize,
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
        let path = folder.display();
        let all = format!(
            "addr 127.0.0.1:0\nworkers {workers}\ncontrol {path}/control\npid_file {path}/pid\n\
             {options}"
        );
        write(&folder, "options", &all);
        fs::copy(std::env::current_exe().expect("our path"), folder.join("app")).expect("room");
        let mut command = Command::new(folder.join("app"));
        let command = command.args([FLAG, "--folder", &path.to_string()]).env_clear();
        let server = Server::launch(command.env("KEPT", "so it is"));
        server.await_ready(workers);
        Self { server, folder, versions: 0 }
    }

    /// How programs and workers that begin from now on behave.
    pub(crate) fn set_manners(&self, manners: &str) {
        write(&self.folder, "manners", manners);
    }

    /// How programs that begin from now on count.
    pub(crate) fn set_build(&self, build: &str) {
        write(&self.folder, "build", build);
    }

    pub(crate) fn set_options(&self, options: &str) {
        let path = self.folder.display();
        let all = format!("control {path}/control\npid_file {path}/pid\n{options}");
        write(&self.folder, "options", &all);
    }

    /// Puts another version of the program where the old one was: a byte longer.
    pub(crate) fn install(&mut self) -> u64 {
        self.versions += 1;
        let new = self.folder.join("app.new");
        fs::copy(std::env::current_exe().expect("our path"), &new).expect("room");
        let mut file = OpenOptions::new().append(true).open(&new).expect("our own file");
        file.write_all(&vec![0; self.versions]).expect("room");
        // A file that somebody writes cannot be executed.
        drop(file);
        fs::rename(&new, self.folder.join("app")).expect("our own folder");
        fs::metadata(self.folder.join("app")).expect("just made").len()
    }

    /// Puts a script there.
    pub(crate) fn install_script(&self, script: &str) {
        write(&self.folder, "app.sh", &format!("#!/bin/sh\n{script}\n"));
        let new = self.folder.join("app.sh");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("our own file");
        fs::rename(new, self.folder.join("app")).expect("our own folder");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn control(&self) -> String {
        self.folder.join("control").display().to_string()
    }

    /// Sends a line to the control socket, and waits for its answer.
    pub(crate) fn ctl(&self, line: &str) -> Reply {
        ask(&self.control(), line, 3 * PATIENCE).expect("an answer")
    }

    /// Upgrades, and wants it to succeed.
    #[track_caller]
    pub(crate) fn upgrade(&self) -> Reply {
        let reply = self.ctl("upgrade");
        assert!(reply.ok && reply.code == 0, "{}\n{}", reply.line, self.log());
        reply
    }

    /// Asks who answers, over a connection of its own.
    pub(crate) fn who(&self) -> String {
        self.connect().get("/who").expect("somebody serves").text()
    }

    /// The version that answers.
    pub(crate) fn version(&self) -> u64 {
        let who = self.who();
        let after = who.split("\"version\":").nth(1).expect("our own format");
        after.split(',').next().and_then(|text| text.parse().ok()).expect("a number")
    }

    /// Waits until so many worker processes are left.
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

fn write(folder: &Path, name: &str, text: &str) {
    // Whole or not at all: a program may be reading it.
    let new = folder.join(format!("{name}.new"));
    fs::write(&new, text).expect("our own folder");
    fs::rename(new, folder.join(name)).expect("our own folder");
}
