//! The control socket: every command, by the command-line client and as a line.

use crate::app;
use crate::client::PATIENCE;
use crate::harness::Case;
use crate::raw;
use crate::server::{SERVER, Server, eventually, folder};
use ringfort::admin::client::{Reply, ask};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

pub(crate) const CASES: &[Case] = &[
    ("every_command_has_one_json_line_and_its_exit_code", every_command),
    ("p17_status_command", p17_status_command),
    ("metrics_have_the_keys_of_the_original_in_both_modes", metrics),
    ("the_socket_is_the_owners_alone_and_goes_with_its_pool", the_socket),
    ("a_command_in_a_drain_is_answered", in_a_drain),
    ("stop_by_control_is_at_once", stop),
    ("a_failed_reload_says_why", failed_reload),
];

/// A pool of the application with a control socket.
pub(crate) struct Pool {
    pub(crate) server: Server,
    pub(crate) control: String,
    pub(crate) manners: PathBuf,
}

impl Pool {
    pub(crate) fn start(workers: usize, options: &str) -> Self {
        let pool = Self::begin(workers, options);
        pool.server.await_ready(workers);
        pool
    }

    /// The same, whether workers come up or not.
    pub(crate) fn begin(workers: usize, options: &str) -> Self {
        let folder = folder();
        let (control, manners) = (folder.join("control"), folder.join("manners"));
        let mut command = Command::new(std::env::current_exe().expect("our path"));
        command
            .args([app::FLAG, "--addr", "127.0.0.1:0", "--workers", &workers.to_string()])
            .args(["--control", control.to_str().expect("text")])
            .args(["--manners", manners.to_str().expect("text")])
            .args(options.split_whitespace())
            .env_clear();
        let server = Server::launch(&mut command);
        Self { server, control: control.display().to_string(), manners }
    }

    pub(crate) fn ask(&self, line: &str) -> Reply {
        ask(&self.control, line, 3 * PATIENCE).expect("the master answers")
    }

    /// Asks by `ringfort ctl`: its exit code and its line.
    fn ctl(&self, line: &str) -> (Option<i32>, String) {
        let mut command = Command::new(SERVER);
        command.arg("ctl").arg(&self.control).args(line.split_whitespace()).env_clear();
        let output = command.output().expect("the program is built");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    }

    /// Waits until the pool is seen like this.
    #[track_caller]
    pub(crate) fn await_status(&self, what: &str, is: impl Fn(&Reply) -> bool) -> Reply {
        eventually(what, 3 * PATIENCE, || Some(self.ask("status")).filter(|reply| is(reply)))
    }
}

fn every_command() {
    let pool = Pool::start(2, "");
    for (line, code, words) in [
        ("status", 0, "\"what\":\"status\""),
        ("ledger", 0, "\"balances\":true"),
        ("metrics", 0, "\"total_workers\":2"),
        ("dump", 0, "line 0 slot 0"),
        ("reload", 0, "\"epoch\":1"),
        ("scale 3", 0, "\"workers\":3"),
        ("scale -1", 0, "\"workers\":2"),
        ("recycle 1", 0, "\"what\":\"recycle\""),
        ("recycle 7", 1, "\"ok\":false"),
        ("mode centralized", 0, "\"what\":\"mode\""),
        ("rollback", 0, "\"what\":\"rollback\""),
        ("drain", 0, "\"draining\""),
    ] {
        let (got, text) = pool.ctl(line);
        assert_eq!(got, Some(code), "{line}: {text}\n{}", pool.server.log());
        assert!(text.contains(words), "{line}: {text}");
        assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
        assert!(text.starts_with('{') && text.ends_with("}\n"), "{text}");
    }
    let mut server = pool.server;
    assert_eq!(server.exit_code(PATIENCE), Some(0));
    // Nobody is there any more, and what is no command needs nobody.
    let ctl = |line: &str| {
        let mut command = Command::new(SERVER);
        command.arg("ctl").arg(&pool.control).args(line.split_whitespace()).env_clear();
        command.output().expect("the program is built").status.code()
    };
    assert_eq!((ctl("status"), ctl("stop now")), (Some(1), Some(2)));
}

/// Theirs: nobody could ask how the pool is.
fn p17_status_command() {
    let pool = Pool::start(2, "");
    let mut client = pool.server.connect();
    assert_eq!(client.get("/").expect("an answer").status, 200);
    let status = pool.await_status("a busy worker", |status| {
        status.workers().iter().any(|worker| worker.state.name() == "busy")
    });
    let workers = status.workers();
    let pids: Vec<u32> = workers.iter().map(|worker| worker.pid).collect();
    assert_eq!(pids, pool.server.workers());
    assert_eq!(workers.iter().map(|worker| worker.connections).sum::<u64>(), 1);
    assert_eq!(workers.iter().map(|worker| worker.total_requests).sum::<u64>(), 1);
    assert!(workers.iter().all(|worker| worker.is_alive() && worker.memory_usage > 4096));
    assert_eq!(status.json["pid"], pool.server.pid());
    assert_eq!(status.json["addresses"][0], pool.server.address().to_string());
}

fn metrics() {
    for (mode, name) in [("shared", "shared_socket"), ("centralized", "centralized")] {
        let pool = Pool::start(2, &format!("--mode {mode}"));
        for _ in 0..5 {
            pool.server.connect().get("/").expect("an answer");
        }
        let seen = eventually("closed connections", PATIENCE, || {
            let metrics = pool.ask("metrics").json;
            (metrics["open_connections"] == 0 && metrics["total_requests"] == 5).then_some(metrics)
        });
        assert_eq!(seen["architecture"], name);
        for (key, want) in [
            ("total_workers", 2),
            ("active_workers", 2),
            ("alive_workers", 2),
            ("total_connections", 5),
            ("queue_size", 0),
        ] {
            assert_eq!(seen[key], want, "{mode} {key}: {seen}");
        }
        assert_eq!(seen["is_running"], true);
        // They outlive the workers that counted them.
        let before = pool.server.workers();
        assert!(pool.ask("recycle").ok);
        pool.await_status("other workers", |status| {
            status.workers().iter().all(|worker| !before.contains(&worker.pid))
        });
        let later = pool.ask("metrics").json;
        assert!(later["total_requests"].as_u64() >= Some(5), "{later}");
        assert!(later["total_connections"].as_u64() >= Some(5), "{later}");
        assert!(pool.ask("ledger").ok);
    }
}

fn the_socket() {
    let pool = Pool::start(1, "");
    let meta = fs::symlink_metadata(&pool.control).expect("it is there");
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let control = PathBuf::from(&pool.control);
    assert!(control.exists());
    let mut server = pool.server;
    raw::signal(server.pid(), libc::SIGTERM);
    assert_eq!(server.exit_code(PATIENCE), Some(0));
    assert!(!control.exists(), "removed at the end");
}

fn in_a_drain() {
    let pool = Pool::start(1, "");
    let mut client = pool.server.connect();
    client.ask("/slow").expect("sent");
    pool.await_status("the request", |status| status.json["total_requests"] == 1);
    assert!(pool.ask("drain").ok);
    let status = pool.ask("status");
    assert_eq!(status.text, "draining");
    assert_eq!(status.json["is_running"], false);
    let reload = pool.ask("reload");
    assert!(!reload.ok && reload.code == 1, "{}", reload.line);
    assert_eq!(client.reply().expect("the answer").text(), "slow");
    let mut server = pool.server;
    assert_eq!(server.exit_code(PATIENCE), Some(0));
}

fn stop() {
    let pool = Pool::start(1, "");
    let mut client = pool.server.connect();
    client.ask("/never").expect("sent");
    pool.await_status("the request", |status| status.json["total_requests"] == 1);
    assert!(pool.ask("stop").ok);
    let mut server = pool.server;
    assert_eq!(server.exit_code(PATIENCE), Some(1), "a connection was cut");
}

fn failed_reload() {
    let pool = Pool::start(1, "");
    let before = pool.server.workers();
    fs::write(&pool.manners, "fail").expect("our folder");
    let reload = pool.ask("reload");
    assert_eq!((reload.ok, reload.code), (false, 1));
    assert!(reload.text.contains("no database for slot 0"), "{}", reload.line);
    assert_eq!(pool.server.workers(), before);
}
