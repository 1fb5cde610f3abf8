//! Every setting with its value and where that came from: flag over environment over file over
//! default. Pure.

use super::Usage;
use ringfort::Config;
use ringfort::ipc::manifest;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// Where the command listens when nobody says where: loopback, so that nothing is exposed by
/// accident.
pub(crate) const DEFAULT_ADDR: &str = "127.0.0.1:8080";

/// The settings that are not rows of [`Config::ROWS`], and what they do.
pub(super) const CHOICES: [(&str, &str, &str); 15] = [
    (
        "addr",
        DEFAULT_ADDR,
        "Where to listen: HOST:PORT, [IPv6]:PORT or unix:PATH; port 0: any free one. Repeat it to listen on several.",
    ),
    (
        "mode",
        "auto",
        "How connections reach workers: shared (one listener per worker, the kernel balances), centralized (the master accepts and hands over), or auto: centralized when a balancer is chosen.",
    ),
    (
        "balancer",
        "least-connections",
        "Which worker the master picks: least-connections, round-robin, weighted (see weights) or sticky (the same client to the same worker, by its address).",
    ),
    (
        "weights",
        "",
        "The shares of the workers for the weighted balancer, such as 3,1,1; who is not named weighs 1. 0: only when nobody else has room.",
    ),
    (
        "probe_path",
        "/",
        "What a new worker is asked for before it takes over; 500 and more ends the reload.",
    ),
    (
        "trusted_proxies",
        "",
        "Whose X-Forwarded-For is believed: networks, 10.0.0.0/8,::1; unix. Nobody's by default.",
    ),
    (
        "access_log",
        "",
        "Log each request to this file. Workers open it anew when they start; a line that does not fit because the disk is too slow is dropped and counted.",
    ),
    ("access_log_format", "combined", "How a request is logged: combined or json."),
    (
        "control",
        "",
        "Listen for `ringfort ctl` on this Unix path, for root and this user only. `@name`: an abstract socket.",
    ),
    (
        "admin_address",
        "",
        "Answer /livez, /readyz, /metrics and a status page here: HOST:PORT or unix:PATH. Anybody who reaches it may read.",
    ),
    (
        "pid_file",
        "",
        "Keep the master's number in this file. A second master is refused; the file of one that is gone is replaced.",
    ),
    (
        "user",
        "",
        "Bind as the present user (root), then let workers be this one, by name or number.",
    ),
    ("group", "", "Let workers be of this group, by name or number, instead of their user's own."),
    ("umask", "", "Which permissions new files do not get, in octal: 027."),
    ("root", "", "Serve the files of this directory under every path that is not one of ours."),
];

/// Whether a name as on the command line (with `-`) is that of a setting.
pub(super) fn is_option(flag: &str) -> bool {
    !flag.contains('_') && is_setting(&flag.replace('-', "_"))
}

fn is_setting(name: &str) -> bool {
    names().any(|known| known == name)
}

/// All settings, in the order of the documentation.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let choices = CHOICES.iter().map(|(name, ..)| *name);
    choices.chain(Config::ROWS.iter().map(|row| row.name))
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody said anything.
    Default,
    /// A line of the file.
    File(PathBuf, usize),
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

/// One setting as somebody gave it.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) name: String,
    /// One, but for `addr`.
    pub(super) values: Vec<OsString>,
    pub(super) source: Source,
}

impl Given {
    fn wrong(&self, value: &OsStr, expected: &str) -> Usage {
        Usage::new(format!("{}: {value:?}: expected {expected}", Place(&self.name, &self.source)))
    }
}

/// A setting and where it stands: `--workers`, `RINGFORT_WORKERS`, `"x.toml" line 3, workers`.
pub(super) struct Place<'a>(pub(super) &'a str, pub(super) &'a Source);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Source::Default => f.write_str("default"),
            Source::File(path, line) => write!(f, "{path:?} line {line}, {}", self.0),
            Source::Environment => write!(f, "{PREFIX}{}", self.0.to_ascii_uppercase()),
            Source::Flag => write!(f, "--{}", self.0.replace('_', "-")),
        }
    }
}

/// All that the command was told, valid and complete.
#[derive(Debug, PartialEq)]
pub(crate) struct Settings {
    /// What the pool takes.
    pub(crate) config: Config,
    /// The directory whose files are served.
    pub(crate) root: Option<PathBuf>,
    /// Who said so; what is not in here is a default.
    sources: BTreeMap<String, Source>,
}

impl Settings {
    /// Lays flags over the environment over the file over the defaults. `config`: the file that a
    /// flag names; otherwise `RINGFORT_CONFIG` may name it.
    pub(super) fn layered(
        env: impl IntoIterator<Item = (OsString, OsString)>,
        flags: Vec<Given>,
        config: Option<PathBuf>,
        read: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, Usage> {
        let (mut environment, mut file) = (environment(env)?, config);
        if let Some(at) = environment.iter().position(|given| given.name == CONFIG) {
            let named = environment.remove(at).values.into_iter().next().map(PathBuf::from);
            file = file.or(named);
        }
        let mut layers = Vec::new();
        if let Some(path) = file {
            let text = read(&path)
                .map_err(|error| Usage::new(format!("cannot read {path:?}: {error}")))?;
            layers = in_file(&path, &text)?;
        }
        layers.extend(environment);
        layers.extend(flags);
        let mut settings = Self { config: Config::default(), root: None, sources: BTreeMap::new() };
        for given in layers {
            settings.set(&given)?;
        }
        if settings.config.addresses().is_empty() {
            let added = settings.config.add_address(DEFAULT_ADDR);
            added.map_err(|error| Usage::new(error.to_string()))?;
        }
        Ok(settings)
    }

    /// Checks what only this machine knows.
    pub(crate) fn verify(&self) -> Result<(), Usage> {
        let Some(root) = &self.root else { return Ok(()) };
        let place = Place("root", self.source("root"));
        let wrong = |why: &dyn fmt::Display| Usage::new(format!("{place}: {root:?}: {why}"));
        std::fs::read_dir(root).map(drop).map_err(|error| wrong(&error))
    }

    /// Where a setting's value came from.
    pub(super) fn source(&self, name: &str) -> &Source {
        self.sources.get(name).unwrap_or(&Source::Default)
    }

    fn set(&mut self, given: &Given) -> Result<(), Usage> {
        match given.name.as_str() {
            "addr" => {
                self.config.clear_addresses();
                for value in &given.values {
                    let added = self.config.add_address(text(given, value)?);
                    added.map_err(|error| given.wrong(value, &error.expected))?;
                }
            }
            "root" => {
                let directory = given.values.last().filter(|value| !value.is_empty());
                let missing = || given.wrong(OsStr::new(""), "a directory");
                self.root = Some(directory.ok_or_else(missing)?.into());
            }
            name => {
                for value in &given.values {
                    let set = self.config.set(name, text(given, value)?);
                    set.map_err(|error| given.wrong(value, &error.expected))?;
                }
            }
        }
        self.sources.insert(given.name.clone(), given.source.clone());
        Ok(())
    }
}

fn text<'a>(given: &Given, value: &'a OsStr) -> Result<&'a str, Usage> {
    value.to_str().ok_or_else(|| given.wrong(value, "text in UTF-8"))
}

/// The settings among the variables. An empty variable says nothing; an unknown name is a typing
/// error that must not pass silently.
fn environment(env: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Vec<Given>, Usage> {
    let mut layer = Vec::new();
    for (variable, value) in env {
        // Where the program before this one, in an upgrade, says what it hands over.
        if variable == manifest::VARIABLE {
            continue;
        }
        let Some(name) = variable.to_str().and_then(|v| v.strip_prefix(PREFIX)) else { continue };
        let known = name.to_ascii_lowercase();
        if known.to_ascii_uppercase() != name || !(known == CONFIG || is_setting(&known)) {
            return Err(Usage::new(format!("{PREFIX}{name}: no such option")));
        }
        if value.is_empty() {
            continue;
        }
        let source = Source::Environment;
        let mut given = Given { name: known, values: Vec::new(), source };
        given.values = match value.to_str() {
            Some(list) if given.name == "addr" => list.split(',').map(OsString::from).collect(),
            _ => vec![value],
        };
        layer.push(given);
    }
    Ok(layer)
}

fn in_file(path: &Path, text: &str) -> Result<Vec<Given>, Usage> {
    let line_of = |offset: usize| 1 + text[..offset].matches('\n').count();
    let table = DeTable::parse(text).map_err(|error| {
        let line = line_of(error.span().map_or(0, |span| span.start.min(text.len())));
        Usage::new(format!("{path:?} line {line}: {}", error.message()))
    })?;
    let mut layer = Vec::new();
    for (key, value) in table.get_ref() {
        let source = Source::File(path.to_owned(), line_of(key.span().start));
        let name = key.get_ref().to_string();
        if !is_setting(&name) {
            return Err(Usage::new(format!("{}: no such option", Place(&name, &source))));
        }
        let values = values(&name, value.get_ref());
        let given = Given { name, values: values.unwrap_or_default(), source };
        if given.values.is_empty() {
            let shown = OsStr::new(&text[value.span()]);
            return Err(given.wrong(shown, "a text, a number, true or false (a list for addr)"));
        }
        layer.push(given);
    }
    Ok(layer)
}

/// Only `addr` may be a list.
fn values(name: &str, value: &DeValue<'_>) -> Option<Vec<OsString>> {
    match value.as_array() {
        Some(list) if name == "addr" => list.iter().map(|item| scalar(item.get_ref())).collect(),
        Some(_) => None,
        None => Some(vec![scalar(value)?]),
    }
}

fn scalar(value: &DeValue<'_>) -> Option<OsString> {
    match value {
        DeValue::String(text) => Some(text.as_ref().into()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().into()),
        DeValue::Boolean(value) => Some(value.to_string().into()),
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    }
}

const PREFIX: &str = "RINGFORT_";
const CONFIG: &str = "config";
