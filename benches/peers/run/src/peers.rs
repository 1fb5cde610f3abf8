//! Who is measured: how each is started, which version it is, and what it cannot do.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a server is started: by its words, of which each `{port}` is the port.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    kind: Kind,
    /// It can hold connections back until the first byte has come.
    pub(crate) defers: bool,
    /// It can answer 100 KiB, and take an upload.
    pub(crate) has_bodies: bool,
}

enum Kind {
    /// A member of this workspace with these arguments, and whose version counts.
    Built(&'static str, &'static [&'static str], &'static str),
    Nginx,
    Haproxy,
    Node,
}

const fn built(
    name: &'static str,
    member: &'static str,
    arguments: &'static [&'static str],
    package: &'static str,
) -> Peer {
    Peer { name, kind: Kind::Built(member, arguments, package), defers: false, has_bodies: true }
}

pub(crate) const FLOOR: &str = "floor";
pub(crate) const OURS: &str = "ringfort";

pub(crate) const PEERS: [Peer; 13] = [
    Peer {
        defers: true,
        has_bodies: false,
        ..built(FLOOR, "peer-floor", &["serve", "floor", "{port}"], "io-uring")
    },
    Peer { defers: true, ..built(OURS, "peer-ringfort", &["{port}", "1"], "ringfort") },
    Peer {
        defers: true,
        ..built(
            "ringfort, centralized",
            "peer-ringfort",
            &["{port}", "1", "centralized"],
            "ringfort",
        )
    },
    built("hyper", "peer-hyper", &["{port}", "1"], "hyper"),
    built("axum", "peer-axum", &["{port}", "1"], "axum"),
    built("actix-web", "peer-actix", &["{port}", "1"], "actix-web"),
    built("ntex", "peer-ntex", &["{port}", "1"], "ntex"),
    built("may_minihttp", "peer-may", &["{port}", "1"], "may_minihttp"),
    built("monoio", "peer-monoio", &["{port}", "1"], "monoio"),
    built("compio", "peer-compio", &["{port}", "1"], "compio"),
    Peer { name: "nginx", kind: Kind::Nginx, defers: true, has_bodies: true },
    Peer { name: "HAProxy", kind: Kind::Haproxy, defers: true, has_bodies: false },
    Peer { name: "Node cluster", kind: Kind::Node, defers: false, has_bodies: true },
];

/// This folder of the repository.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Peer {
    /// The words that start it; files it needs go to `scratch`.
    pub(crate) fn words(
        &self,
        scratch: &Path,
        port: u16,
        defer: bool,
    ) -> Result<Vec<String>, String> {
        let words: Vec<String> = match &self.kind {
            Kind::Built(member, arguments, _) => {
                let program = env::current_exe().map_err(text)?.with_file_name(member);
                let program = there(&program).map_err(|why| format!("not built: {why}"))?;
                let defer = defer.then_some("defer");
                [program.as_str()]
                    .iter()
                    .chain(*arguments)
                    .copied()
                    .chain(defer)
                    .map(String::from)
                    .collect()
            }
            Kind::Nginx => {
                let word = if defer { "deferred" } else { "" };
                let config = filled("nginx.conf", scratch, port, word)?;
                fs::write(scratch.join("big"), [b'x'; 102_400]).map_err(text)?;
                let errors = scratch.join("nginx.err").display().to_string();
                // Else its worker would be nobody, who may not read the scratch folder.
                [program("nginx")?.as_str(), "-e", &errors, "-c", &config, "-g", "user root;"]
                    .map(String::from)
                    .into()
            }
            Kind::Haproxy => {
                let word = if defer { "defer-accept" } else { "" };
                let config = filled("haproxy.cfg", scratch, port, word)?;
                [program("haproxy")?.as_str(), "-f", &config].map(String::from).into()
            }
            Kind::Node => {
                let script = folder().join("cluster.js").display().to_string();
                [program("node")?.as_str(), &script, "{port}", "1"].map(String::from).into()
            }
        };
        Ok(words)
    }

    /// What was measured, as its own program or our lock file says.
    pub(crate) fn version(&self) -> Result<String, String> {
        match self.kind {
            Kind::Built(_, _, package) => {
                let lock = fs::read_to_string(folder().join("Cargo.lock")).map_err(text)?;
                let entry = format!("name = \"{package}\"\nversion = \"");
                let rest = lock.split_once(&entry).ok_or("not in Cargo.lock")?.1;
                let version = rest.split('"').next().unwrap_or_default();
                Ok(format!("{package} {version}"))
            }
            Kind::Nginx => first_line(&program("nginx")?, "-v"),
            Kind::Haproxy => first_line(&program("haproxy")?, "-v"),
            Kind::Node => {
                first_line(&program("node")?, "--version").map(|text| format!("Node {text}"))
            }
        }
    }

    /// What it answers to an upload of so many bytes.
    pub(crate) fn upload_answer(&self, bytes: usize) -> String {
        // nginx counts nothing.
        if matches!(self.kind, Kind::Nginx) { "0".to_owned() } else { bytes.to_string() }
    }
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

fn there(path: &Path) -> Result<String, String> {
    match fs::metadata(path) {
        Ok(_) => Ok(path.display().to_string()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// A program of the distribution.
fn program(name: &str) -> Result<String, String> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let mut paths = folders.iter().map(|folder| Path::new(folder).join(name));
    let found = paths.find_map(|path| there(&path).ok());
    found.ok_or_else(|| format!("not installed: apt-get install {name}"))
}

pub(crate) fn first_line(program: &str, argument: &str) -> Result<String, String> {
    let output = Command::new(program).arg(argument).output().map_err(text)?;
    let all = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&all).lines().next().unwrap_or_default().to_owned())
}

/// A configuration of this folder with its blanks filled in.
fn filled(name: &str, scratch: &Path, port: u16, defer: &str) -> Result<String, String> {
    let config = fs::read_to_string(folder().join(name)).map_err(text)?;
    let config = config
        .replace("PORT", &port.to_string())
        .replace("THREADS", "1")
        .replace("DEFER", defer)
        .replace("DIR", &scratch.display().to_string());
    let path = scratch.join(name);
    fs::write(&path, config).map_err(text)?;
    Ok(path.display().to_string())
}
