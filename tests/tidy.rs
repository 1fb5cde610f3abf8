//! The rules of the project that a machine can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const LINES_MAX: usize = 500;
const COLUMNS_MAX: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            walk(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// All Rust files below the folders, as (path relative to the root, text), in a fixed order.
fn files(folders: &[&str]) -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for folder in folders {
        walk(&root().join(folder), &mut paths);
    }
    paths.sort();
    let relative = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    paths.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

fn sources() -> Vec<(String, String)> {
    files(&["src"])
}

fn everything() -> Vec<(String, String)> {
    files(&["src", "tests", "benches", "examples", "fuzz/fuzz_targets"])
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests") || path.starts_with("tests")
}

/// The part of a file before its own tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

/// Lines of code: comments, also those of documentation, do not name what they talk of.
fn code(text: &str) -> impl Iterator<Item = &str> {
    without_tests(text).lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

#[track_caller]
fn none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent = everything().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    none("the first line is `//! what it is`", silent.map(|(path, _)| path).collect());
}

#[test]
fn files_and_lines_are_short() {
    let mut found = Vec::new();
    for (path, text) in everything() {
        let lines = without_tests(&text).lines().count();
        if path.starts_with("src") && !is_test_file(&path) && lines > LINES_MAX {
            found.push(format!("{path}: {lines} lines: split it by idea"));
        }
        for (number, line) in (1..).zip(text.lines()) {
            // A long literal cannot be broken.
            if line.chars().count() > COLUMNS_MAX && !line.contains('"') {
                found.push(format!("{path}:{number}: {} columns", line.chars().count()));
            }
        }
    }
    none("files and lines are short", found);
}

#[test]
fn unsafe_lives_in_sys() {
    let found = sources()
        .into_iter()
        .filter(|(path, text)| {
            !path.starts_with("src/sys/")
                && code(text).any(|line| line.contains("unsafe {") || line.contains("unsafe fn"))
        })
        .map(|(path, _)| path);
    none("unsafe only in src/sys", found.collect());
}

#[test]
fn nothing_is_left_open() {
    // Spelled so that this file does not contain them.
    let marks = [["FIX", "ME"], ["TO", "DO:"], ["X", "XX"], ["#[ign", "ore"]].map(|p| p.concat());
    let macros = ["todo", "unimplemented"].map(|name| format!("{name}!("));
    let mut found = Vec::new();
    for (path, text) in everything() {
        for (number, line) in (1..).zip(text.lines()) {
            if marks.iter().chain(&macros).any(|mark| line.contains(mark)) {
                found.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    none("nothing is left open", found);
}

/// Which folder or file of `src` a path belongs to: `http` for `src/http/head.rs`.
fn part(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Who may import whom (the map in ARCHITECTURE.md). `None`: everything.
fn arrows(part: &str) -> Option<&'static [&'static str]> {
    Some(match part {
        "io" | "error" | "panics" | "stats" | "network" | "signals" => &[],
        "protocol" => &["io", "stats", "ipc"],
        "config" => &["io", "network"],
        "event" => &["io", "master", "stats"],
        "http" => &["protocol", "io", "config", "stats", "network"],
        "ipc" => &["io", "config", "stats"],
        "worker" => &["io", "ipc", "protocol", "config", "stats", "signals"],
        "admin" => &["io", "config", "stats", "http", "master"],
        "master" => {
            &["io", "ipc", "protocol", "config", "stats", "event", "http", "admin", "signals"]
        }
        "sys" => &["io"],
        // The threads and the forked server are wiring, as `boot` is; the loop itself (`run`) sees
        // only `io`.
        "load" => &["io", "http", "config", "stats", "sys", "system", "pool"],
        _ => return None,
    })
}

#[test]
fn imports_follow_the_arrows() {
    let mut found = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test_file(path)) {
        let own = part(&path).to_owned();
        for line in code(&text) {
            for import in line.match_indices("crate::").map(|(at, _)| &line[at + 7..]) {
                let to: String =
                    import.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let module = to.chars().next().is_some_and(char::is_lowercase);
                let allowed = match arrows(&own) {
                    // A macro's name is no module.
                    Some(arrows) => {
                        let for_all = ["error", "panics"].contains(&to.as_str());
                        to == own || for_all || arrows.contains(&to.as_str())
                    }
                    None => own != "sim" || to != "sys",
                };
                if module && !allowed {
                    found.push(format!("{path}: {own} imports {to}: {line}"));
                }
            }
        }
    }
    none("imports follow the arrows", found);
}

#[test]
fn each_dependency_has_one_door() {
    let doors: &[(&str, &[&str])] = &[
        ("io_uring", &["src/sys/"]),
        ("libc", &["src/sys/"]),
        ("slab", &["src/worker/slots.rs"]),
        ("httparse", &["src/http/", "src/load/reply.rs"]),
        (
            "serde_json",
            &["src/ipc/", "src/admin/", "src/cli/", "src/http/response", "src/load/report"],
        ),
        ("crossbeam_queue", &["src/server/mailbox.rs"]),
        ("hdrhistogram", &["src/load/"]),
        ("plotters", &["src/load/report/"]),
        ("lexopt", &["src/cli/"]),
        ("toml", &["src/cli/"]),
    ];
    let mut found = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test_file(path)) {
        for (name, allowed) in doors {
            let named = code(&text).any(|line| {
                line.contains(&format!("{name}::")) && !line.contains(&format!("::{name}::"))
            });
            if named && !allowed.iter().any(|door| path.starts_with(door)) {
                found.push(format!("{path} names {name}"));
            }
        }
    }
    none("each dependency is named behind its one door", found);
}

#[test]
fn a_library_user_gets_thirteen_crates() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--no-default-features", "--edges", "normal", "--prefix", "none"])
        .args(["--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "ringfort")
        .collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!crates.is_empty(), "cargo tree said nothing: {errors}");
    assert!(crates.len() <= 13, "{} crates: {crates:?}", crates.len());
}

#[test]
fn every_close_reason_has_a_test() {
    let own_tests = |text: &str| text.split_once("#[cfg(test)]").map(|(_, t)| t.to_owned());
    let tests: String = everything()
        .into_iter()
        .filter_map(|(path, text)| if is_test_file(&path) { Some(text) } else { own_tests(&text) })
        .collect();
    let tested = |reason: &ringfort::stats::CloseReason| {
        tests.contains(&format!("{reason:?}")) || tests.contains(&format!("\"{}\"", reason.name()))
    };
    let missing = ringfort::stats::CloseReason::ALL.iter().filter(|reason| !tested(reason));
    none("every close reason has a test", missing.map(|reason| format!("{reason:?}")).collect());
    let sources: String = sources()
        .into_iter()
        .filter(|(path, _)| !is_test_file(path))
        .map(|(_, text)| without_tests(&text).to_owned())
        .collect();
    let produced = |reason: &ringfort::stats::CloseReason| {
        sources.contains(&format!("CloseReason::{reason:?}"))
    };
    let idle = ringfort::stats::CloseReason::ALL.iter().filter(|reason| !produced(reason));
    none("every close reason is produced", idle.map(|reason| format!("{reason:?}")).collect());
}
