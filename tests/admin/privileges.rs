//! What workers give up: user and groups for good, new privileges, CPUs; umask; limits raised.
//! Run as root.

use crate::client::PATIENCE;
use crate::control::Pool;
use crate::harness::Case;
use crate::raw;
use crate::server::{Server, command, eventually, folder, gone, limited};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

pub(crate) const CASES: &[Case] = &[
    ("p17_user_and_group_are_dropped_in_workers_alone", dropped),
    ("groups_go_too_and_cannot_be_regained", groups),
    ("an_unknown_user_is_refused_at_start", unknown),
    ("only_root_can_drop", not_root),
    ("a_worker_of_another_user_ends_with_its_master", orphans),
    ("the_access_log_is_opened_as_root", access_log),
    ("no_new_privs_holds_unless_it_is_switched_off", no_new_privs),
    ("umask_shapes_new_files", umask),
    ("p17_workers_stay_on_their_cpus", pinned),
    ("descriptors_are_raised_and_reported", descriptors),
];

/// A field of the `/proc/PID/status` that a worker sees of itself.
fn field(pool: &Pool, name: &str) -> String {
    let text = pool.server.connect().get("/status").expect("an answer").text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name}: {text}")).trim().to_owned()
}

fn of_process(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.expect("a field").trim().to_owned()
}

fn dropped() {
    let pool = Pool::start(2, "--user nobody --group nogroup");
    assert_eq!(field(&pool, "Uid"), "65534\t65534\t65534\t65534");
    assert_eq!(field(&pool, "Gid"), "65534\t65534\t65534\t65534");
    assert_eq!(of_process(pool.server.pid(), "Uid"), "0\t0\t0\t0", "the master stays");
    // Everything goes on as before: a reload, and an end.
    assert!(pool.ask("reload").ok);
    assert_eq!(field(&pool, "Uid"), "65534\t65534\t65534\t65534");
    assert_eq!(pool.server.stop().0, Some(0));
}

fn groups() {
    let pool = Pool::start(1, "--user 4321 --group 8765");
    assert_eq!(field(&pool, "Uid"), "4321\t4321\t4321\t4321");
    assert_eq!(field(&pool, "Groups"), "8765");
    // No capability is left with which it could be undone.
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&pool, set), "0000000000000000", "{set}");
    }
    // What root alone may write, it may not.
    let path = folder().join("roots");
    fs::write(&path, "root").expect("our folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
    let ask = format!("/write?path={}", path.display());
    let said = pool.server.connect().get(&ask).expect("an answer").text();
    assert_eq!(said, "Err(PermissionDenied)");
}

fn unknown() {
    for options in ["--user no-such-user", "--user nobody --group no-such-group"] {
        let line = format!("--addr 127.0.0.1:0 {options}");
        let mut server = Server::begin(&mut command(&line));
        assert_eq!(server.exit_code(PATIENCE), Some(1), "{options}");
        assert!(server.log().contains("no-such-"), "{}", server.log());
    }
}

fn not_root() {
    use std::os::unix::process::CommandExt;
    let copy = std::env::temp_dir().join(format!("ringfort-root-{}", std::process::id()));
    fs::copy(crate::server::SERVER, &copy).expect("room");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("ours");
    let mut command = Command::new(&copy);
    command.args(["serve", "--addr", "127.0.0.1:0", "--user", "daemon"]).current_dir("/");
    let output = command.uid(65_534).gid(65_534).env_clear().output().expect("it starts");
    fs::remove_file(copy).expect("ours");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("only root can") && said.contains("[permission_denied]"), "{said}");
}

fn orphans() {
    let mut pool = Pool::start(2, "--user nobody");
    let workers = pool.server.workers();
    raw::signal(pool.server.pid(), libc::SIGKILL);
    assert_eq!(pool.server.exit_code(PATIENCE), None);
    gone(&workers, PATIENCE);
}

fn access_log() {
    let folder = folder();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("ours");
    let path = folder.join("access");
    let pool = Pool::start(1, &format!("--user nobody --access-log {}", path.display()));
    assert_eq!(pool.server.connect().get("/").expect("an answer").status, 200);
    eventually("a line", PATIENCE, || {
        fs::read_to_string(&path).ok().filter(|text| text.contains("GET / HTTP/1.1"))
    });
    assert_eq!(fs::metadata(&path).expect("written").uid(), 0);
}

fn no_new_privs() {
    let pool = Pool::start(1, "");
    assert_eq!(field(&pool, "NoNewPrivs"), "1");
    assert_eq!(of_process(pool.server.pid(), "NoNewPrivs"), "0");
    let pool = Pool::start(1, "--no-new-privs false");
    assert_eq!(field(&pool, "NoNewPrivs"), "0");
}

fn umask() {
    let mode = |path: &std::path::Path| {
        fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o777
    };
    for (mask, socket, file) in [("077", 0o700, 0o600), ("007", 0o770, 0o660)] {
        let folder = folder();
        let (socket_path, file_path) = (folder.join("socket"), folder.join("file"));
        let options = format!("--umask {mask} --addr unix:{}", socket_path.display());
        let pool = Pool::start(1, &options);
        assert_eq!(mode(&socket_path), socket, "{mask}");
        let ask = format!("/write?path={}", file_path.display());
        assert_eq!(pool.server.connect().get(&ask).expect("an answer").text(), "Ok(())");
        assert_eq!(mode(&file_path), file, "{mask}");
        assert_eq!(fs::metadata(&pool.control).expect("there").permissions().mode() & 0o777, 0o600);
    }
}

fn pinned() {
    let allowed = of_process(std::process::id(), "Cpus_allowed_list");
    let pool = Pool::start(3, "--pin-cpus true");
    let status = pool.ask("status");
    let lists: Vec<String> =
        status.workers().iter().map(|worker| of_process(worker.pid, "Cpus_allowed_list")).collect();
    assert!(lists.iter().all(|list| list.parse::<u32>().is_ok()), "{lists:?} of {allowed}");
    assert_eq!(of_process(pool.server.pid(), "Cpus_allowed_list"), allowed, "the master is free");
    let mut different = lists.clone();
    different.sort();
    different.dedup();
    let cpus = ringfort::sys::process::affinity().expect("counted");
    assert_eq!(different.len(), 3.min(cpus as usize), "{lists:?}");
    // And without it they may use all.
    let pool = Pool::start(1, "");
    assert_eq!(field(&pool, "Cpus_allowed_list"), allowed);
}

fn descriptors() {
    let exe = std::env::current_exe().expect("our path");
    let line = format!("{} {} --addr 127.0.0.1:0 --workers 1", exe.display(), crate::app::FLAG);
    let control = folder().join("control");
    let line = format!("{line} --control {}", control.display());
    // The soft limit is below the hard one.
    let mut command = limited(4096, &format!("sh -c 'ulimit -Sn 256; exec {line}'"));
    let server = Server::launch(&mut command);
    server.await_ready(1);
    assert!(server.output().contains("descriptors (256, 4096)"), "{}", server.output());
    let path = control.to_str().expect("text");
    let status = ringfort::admin::client::ask(path, "status", PATIENCE).expect("an answer");
    assert_eq!(status.json["descriptors"]["before"], 256);
    assert_eq!(status.json["descriptors"]["limit"], 4096);
    let limits = server.connect().get("/limits").expect("an answer").text();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    assert!(line.contains(" 4096 "), "{line}");
}
