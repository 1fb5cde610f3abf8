//! What the command says of itself once it serves: where, how, how much, and what to try. Pure.

use ringfort::Config;
use ringfort::io::Address;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is only known at run time.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    /// The settings, for the limits.
    pub(super) config: &'a Config,
    /// Where it listens, with the ports that port 0 became.
    pub(super) addresses: &'a [Address],
    /// Which mode, and why.
    pub(super) mode: String,
    /// How many workers, and why that many.
    pub(super) workers: String,
    /// Connections a worker may hold, after what RLIMIT_NOFILE allows.
    pub(super) connections_max: u64,
    /// What it runs on: `io_uring, Linux 6.18.1`.
    pub(super) engine: String,
    /// The master's process.
    pub(super) pid: u32,
    /// Where health is answered.
    pub(super) health: Option<&'a Address>,
    /// RLIMIT_NOFILE before and after it was raised.
    pub(super) descriptors: (u64, u64),
}

/// The banner: one fact a line, names to the left.
pub(super) fn banner(facts: &Facts<'_>) -> String {
    let mut lines = Vec::new();
    lines.extend(facts.addresses.iter().map(|address| ("url", url(address))));
    lines.push(("mode", facts.mode.clone()));
    lines.push(("workers", facts.workers.clone()));
    lines.push(("engine", facts.engine.clone()));
    lines.extend(limits(facts).map(|limit| ("limits", limit)));
    let (before, after) = facts.descriptors;
    if before < after {
        lines.push(("limits", format!("{after} descriptors, raised from {before}")));
    }
    lines.extend(facts.health.map(|at| ("health", format!("{}/readyz", base(at)))));
    if let Some(path) = facts.config.control() {
        lines.push(("control", format!("ringfort ctl {} status", path.display())));
    }
    lines.push(("pid", format!("{} (the master)", facts.pid)));
    lines.push(("stop", stop(facts)));
    if let Some(address) = facts.addresses.first() {
        let curl = |(options, path): &(&str, &str)| ("try", curl(address, options, path));
        lines.extend(TRIES.iter().map(curl));
    }
    let mut text = format!("ringfort {}\n", env!("CARGO_PKG_VERSION"));
    let mut above = "";
    for (name, value) in &lines {
        let shown = if *name == above { "" } else { *name };
        text += &format!("{shown:<9}{value}\n");
        above = name;
    }
    text.push('\n');
    text
}

fn url(address: &Address) -> String {
    match address {
        Address::Tcp(at) if at.ip().is_unspecified() => {
            format!("{}/ (listens on {at}: every address of this machine)", base(address))
        }
        Address::Tcp(_) => format!("{}/", base(address)),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn curl(address: &Address, options: &str, path: &str) -> String {
    let socket = match address {
        Address::Tcp(_) => String::new(),
        Address::Unix(path) => format!("--unix-socket {} ", path.display()),
    };
    let blank = if options.is_empty() { "" } else { " " };
    format!("curl {socket}{options}{blank}{}{path}", base(address))
}

/// A URL that reaches it from this machine: 0.0.0.0 and [::] are places to listen, not to go to.
fn base(address: &Address) -> String {
    match address {
        Address::Tcp(at) => {
            let mut at = *at;
            match at.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => at.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => at.set_ip(Ipv6Addr::LOCALHOST.into()),
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
            format!("http://{at}")
        }
        Address::Unix(_) => "http://localhost".to_owned(),
    }
}

fn limits(facts: &Facts<'_>) -> [String; 2] {
    let config = facts.config;
    let get = |name| config.get(name).unwrap_or_default();
    [
        format!(
            "{} connections a worker, backlog {}, {} pending for {}",
            facts.connections_max,
            get("backlog"),
            get("pending_max"),
            get("pending_timeout"),
        ),
        format!(
            "head {} in {}, body {}, idle {}",
            size(config.head_max()),
            get("head_timeout"),
            size(config.body_max()),
            get("idle_timeout"),
        ),
    ]
}

fn stop(facts: &Facts<'_>) -> String {
    let drain = facts.config.get("drain_timeout").unwrap_or_default();
    format!(
        "Ctrl-C or `kill {}`: finishes what runs, {drain} at most; a second time: at once",
        facts.pid
    )
}

fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = UNITS.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{bytes} B"), |(unit, name)| format!("{} {name}", bytes / unit))
}

/// Options of curl and a path.
const TRIES: [(&str, &str); 3] = [("-i", "/json"), ("-d hello", "/echo"), ("-N", "/stream")];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(addresses: &[&str]) -> String {
        let mut config = Config::default();
        for address in addresses {
            config.add_address(address).unwrap();
        }
        banner(&Facts {
            config: &config,
            addresses: config.addresses(),
            mode: "shared: one listener per worker, the kernel balances".to_owned(),
            workers: "2: one per CPU".to_owned(),
            engine: "io_uring, Linux 6.18.1".to_owned(),
            pid: 42,
            health: None,
            descriptors: (1024, 1024),
            connections_max: 10_000,
        })
    }

    #[test]
    fn a_banner() {
        let want = "\
ringfort 0.1.0
url      http://127.0.0.1:8080/
         http://[::1]:1/ (listens on [::]:1: every address of this machine)
mode     shared: one listener per worker, the kernel balances
workers  2: one per CPU
engine   io_uring, Linux 6.18.1
limits   10000 connections a worker, backlog 4096, 1000 pending for 5s
         head 16 KiB in 10s, body 10 MiB, idle 75s
pid      42 (the master)
stop     Ctrl-C or `kill 42`: finishes what runs, 30s at most; a second time: at once
try      curl -i http://127.0.0.1:8080/json
         curl -d hello http://127.0.0.1:8080/echo
         curl -N http://127.0.0.1:8080/stream

";
        assert_eq!(shown(&["127.0.0.1:8080", "[::]:1"]), want);
    }

    #[test]
    fn a_unix_socket_is_reached_by_its_path() {
        let text = shown(&["unix:/run/x"]);
        assert!(text.contains("\nurl      unix:/run/x\n"), "{text}");
        assert!(text.contains("curl --unix-socket /run/x -i http://localhost/json\n"), "{text}");
    }

    #[test]
    fn sizes() {
        assert_eq!([size(0), size(1000), size(1 << 20)], ["0 B", "1000 B", "1 MiB"]);
    }
}
