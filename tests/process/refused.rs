//! Starts that are refused, with a reason and an exit code that a script can tell apart.

use crate::client::PATIENCE;
use crate::harness::Case;
use crate::own;
use crate::server::{SERVER, Server, bad_command, command, limited};
use std::process::Command;

pub(crate) const CASES: &[Case] = &[
    ("refused::a_process_with_a_second_thread", second_thread),
    ("refused::a_machine_whose_filter_blocks_io_uring", blocked),
    ("refused::more_connections_than_descriptors", descriptors),
    ("refused::an_address_of_another_machine", || {
        check("address_not_available", 1, &mut command("--addr 192.0.2.1:8080"));
    }),
];

/// It ends with this code, names the error, and says what to do.
#[track_caller]
fn check(word: &str, code: i32, command: &mut Command) {
    let mut server = Server::begin(command);
    assert_eq!(server.exit_code(PATIENCE), Some(code), "{}", server.log());
    let log = server.log();
    assert!(log.contains(&format!("[{word}]")) && log.contains("hint: "), "{log}");
}

fn second_thread() {
    check("threads", 1, &mut bad_command("--thread yes --addr 127.0.0.1:0"));
}

/// The filter is this process's from here on, and its children's.
fn blocked() {
    own::forbid(libc::SYS_io_uring_setup, libc::EPERM);
    check("ring_blocked", 4, &mut command("--addr 127.0.0.1:0"));
}

fn descriptors() {
    let options = "--addr 127.0.0.1:0 --connections-max 1000";
    let line = format!("{SERVER} serve {options}");
    check("too_few_descriptors", 4, &mut limited(100, &line));
}
