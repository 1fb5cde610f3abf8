//! The page "coming from duyler/worker-pool" names tests that exist, and every known defect has one
//! that begins with its number.

use std::fs;
use std::path::{Path, PathBuf};

fn page() -> String {
    fs::read_to_string("src/coming_from.md").unwrap()
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// All Rust sources in one, but this file.
fn sources() -> String {
    let mut paths = Vec::new();
    for folder in ["src", "tests", "examples"] {
        walk(Path::new(folder), &mut paths);
    }
    let others = paths.iter().filter(|path| !path.ends_with("coming_from.rs"));
    others.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// The cells of each row of the page's tables, heads and rules left out.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let lines = page.lines().filter(|line| line.starts_with("| "));
    let rows =
        lines.map(|line| line.trim_matches('|').split(" |").map(str::trim).collect::<Vec<&str>>());
    rows.filter(|row| !["tests", "test"].contains(row.last().expect("a row has cells"))).collect()
}

/// What stands in backticks and looks like the name of a test.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_page_names_exists() {
    let (page, sources) = (page(), sources());
    let rows = rows(&page);
    assert!(rows.len() > 150, "{} rows", rows.len());
    let exists = |name: &str| {
        sources.contains(&format!("fn {name}(")) || sources.contains(&format!("\"{name}\","))
    };
    let missing: Vec<&str> = rows
        .iter()
        .flat_map(|row| names(row.last().expect("a row has cells")))
        .filter(|name| !exists(name) && !["listen", "connect"].contains(name))
        .collect();
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
    let unproven = |row: &&Vec<&str>| names(row.last().expect("a row has cells")).next().is_none();
    let unproven: Vec<_> = rows.iter().filter(unproven).collect();
    assert!(unproven.is_empty(), "rows without a test: {unproven:#?}");
}

#[test]
fn every_known_defect_has_a_test_that_begins_with_its_number() {
    let (page, sources) = (page(), sources());
    let defects = (1..=20).map(|n| format!("p{n}")).chain((1..=15).map(|n| format!("h{n}")));
    for defect in defects {
        let row = format!("| {} |", defect.to_uppercase());
        assert!(page.lines().any(|line| line.starts_with(&row)), "the page has no {defect}");
        assert!(sources.contains(&format!("fn {defect}_")), "{defect} has no test");
    }
}
