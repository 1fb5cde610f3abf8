//! The pid file: one master at a time, a stale one replaced, a stranger's left alone.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::raw;
use crate::server::{Server, command, folder, gone};
use std::fs;

pub(crate) const CASES: &[Case] = &[
    ("p17_pid_file", lives_as_long_as_its_master),
    ("a_second_master_is_refused", second),
    ("the_file_of_a_killed_master_is_replaced", killed),
    ("a_strangers_file_is_left", stranger),
    ("a_file_that_is_no_pid_file_is_left", precious),
];

fn lives_as_long_as_its_master() {
    let path = folder().join("pid");
    let mut server = Server::start(&format!("--pid-file {}", path.display()));
    assert_eq!(fs::read_to_string(&path).expect("written"), format!("{}\n", server.pid()));
    raw::signal(server.pid(), libc::SIGTERM);
    assert_eq!(server.exit_code(PATIENCE), Some(0));
    assert!(!path.exists());
}

fn second() {
    let path = folder().join("pid");
    let options = format!("--addr 127.0.0.1:0 --pid-file {}", path.display());
    let first = Server::launch(&mut command(&options));
    let mut second = Server::begin(&mut command(&options));
    assert_eq!(second.exit_code(PATIENCE), Some(1));
    let holder = format!("another master holds it: {}", first.pid());
    assert!(second.log().contains(&holder), "{}", second.log());
    assert_eq!(fs::read_to_string(&path).expect("kept"), format!("{}\n", first.pid()));
    assert_eq!(first.stop().0, Some(0));
}

fn killed() {
    let path = folder().join("pid");
    let options = format!("--addr 127.0.0.1:0 --workers 1 --pid-file {}", path.display());
    let mut first = Server::launch(&mut command(&options));
    first.await_ready(1);
    let workers = first.workers();
    raw::signal(first.pid(), libc::SIGKILL);
    assert_eq!(first.exit_code(PATIENCE), None);
    gone(&workers, PATIENCE);
    assert!(path.exists());
    let second = Server::launch(&mut command(&options));
    assert_eq!(fs::read_to_string(&path).expect("written"), format!("{}\n", second.pid()));
    assert_eq!(second.stop().0, Some(0));
    assert!(!path.exists());
}

fn stranger() {
    let path = folder().join("pid");
    let server = Server::start(&format!("--pid-file {}", path.display()));
    fs::remove_file(&path).expect("there");
    fs::write(&path, "somebody else's").expect("our folder");
    assert_eq!(server.stop().0, Some(0));
    assert_eq!(fs::read_to_string(&path).expect("kept"), "somebody else's");
}

/// Named by mistake.
fn precious() {
    let path = folder().join("precious");
    fs::write(&path, "precious").expect("our folder");
    let options = format!("--addr 127.0.0.1:0 --pid-file {}", path.display());
    let mut server = Server::begin(&mut command(&options));
    assert_eq!(server.exit_code(PATIENCE), Some(2));
    assert!(server.log().contains("holds something else than a number"), "{}", server.log());
    assert_eq!(fs::read_to_string(&path).expect("kept"), "precious");
}
