//! Figures of an earlier run to hold new ones against, as criterion has it: `--save-baseline NAME`
//! and `--baseline NAME`. One file a bench and name, below `target/baselines`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Default)]
pub(crate) struct Baseline {
    save: Option<PathBuf>,
    old: Option<BTreeMap<String, Vec<f64>>>,
    new: RefCell<BTreeMap<String, Vec<f64>>>,
}

impl Baseline {
    /// Takes the two options and their values out of the arguments.
    pub(crate) fn take(args: &mut Vec<String>) -> Result<Self, String> {
        let save = option(args, "--save-baseline")?;
        let old = match option(args, "--baseline")? {
            Some(name) => Some(read(&path(&name)?)?),
            None => None,
        };
        Ok(Self { save: save.as_deref().map(path).transpose()?, old, ..Self::default() })
    }

    /// Notes a figure, round by round, and says how its median has changed: `~` within the spread
    /// of either run; nothing without a baseline.
    pub(crate) fn figure(&self, name: &str, values: &[f64]) -> String {
        self.new.borrow_mut().insert(name.to_owned(), values.to_vec());
        let Some(old) = &self.old else { return String::new() };
        let Some(old) = old.get(name).filter(|old| !old.is_empty()) else { return "new".into() };
        let (median, least, most) = super::rounds::spread(values.iter().copied());
        let (before, low, high) = super::rounds::spread(old.iter().copied());
        let mark = if least > high || most < low { "" } else { "~" };
        format!("{mark}{:+.1}%", 100.0 * (median / before - 1.0))
    }

    /// Writes what was noted, if that was asked for. A part of a bench leaves the other figures of
    /// that name as they were.
    pub(crate) fn write(&self, is_part: bool) -> Result<(), String> {
        let Some(path) = &self.save else { return Ok(()) };
        let mut all = match is_part && path.exists() {
            true => read(path)?,
            false => BTreeMap::new(),
        };
        all.append(&mut self.new.borrow_mut());
        if all.is_empty() {
            return Ok(());
        }
        let line = |(name, values): (&String, &Vec<f64>)| {
            let values: Vec<String> = values.iter().map(f64::to_string).collect();
            format!("{name}\t{}\n", values.join(" "))
        };
        let text: String = all.iter().map(line).collect();
        let folder = path.parent().unwrap_or(path);
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, text));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// The value behind an option, and both taken out.
fn option(args: &mut Vec<String>, name: &str) -> Result<Option<String>, String> {
    let Some(at) = args.iter().position(|arg| arg == name) else { return Ok(None) };
    if at + 1 >= args.len() {
        return Err(format!("{name} NAME"));
    }
    let value = args.drain(at..at + 2).nth(1);
    match value.as_deref() {
        Some("") | None => Err(format!("{name} NAME")),
        Some(text) if text.contains(['/', '.']) => Err(format!("{name} {text}: a plain name")),
        Some(_) => Ok(value),
    }
}

/// `target/baselines/BENCH/NAME`.
fn path(name: &str) -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    // target/release/deps/BENCH-HASH
    let target = program.ancestors().nth(3).ok_or("no target folder")?;
    let bench = program.file_name().and_then(|name| name.to_str()).unwrap_or("bench");
    let bench = bench.rsplit_once('-').map_or(bench, |(bench, _hash)| bench);
    Ok(target.join("baselines").join(bench).join(name))
}

fn read(path: &Path) -> Result<BTreeMap<String, Vec<f64>>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let line = |line: &str| {
        let (name, values) = line.split_once('\t')?;
        let values = values.split(' ').map(|value| value.parse().ok()).collect::<Option<_>>()?;
        Some((name.to_owned(), values))
    };
    let all: Option<_> = text.lines().map(line).collect();
    all.ok_or_else(|| format!("{}: not a baseline", path.display()))
}
