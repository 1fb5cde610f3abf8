//! Every input in `fuzz/corpus` again, through the same functions that the fuzzer calls.

use ringfort::fuzzing::TARGETS;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn listing(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

#[test]
fn all_inputs_that_were_kept_pass() {
    for (name, target) in TARGETS {
        let inputs = listing(&format!("corpus/{name}"));
        assert!(inputs.len() >= 8, "{name} has no corpus");
        for path in inputs {
            println!("{}", path.display());
            target(&fs::read(&path).unwrap());
        }
    }
}

#[test]
fn a_target_is_a_function_a_program_and_a_corpus() {
    let stems = |folder| -> BTreeSet<String> {
        listing(folder).iter().map(|p| p.file_stem().unwrap().to_str().unwrap().into()).collect()
    };
    let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("corpus"), names);
}
