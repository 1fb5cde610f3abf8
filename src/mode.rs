//! How connections reach workers: which way is recommended for a pool, why, and how the two differ.

use crate::config::{Config, Mode};
use crate::io::Address;
use crate::system::SystemInfo;
use std::fmt;

/// Which mode a pool takes, and why. `Display` gives both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recommendation {
    /// Never [`Mode::Auto`].
    pub mode: Mode,
    /// As a sentence.
    pub reason: &'static str,
}

impl fmt::Display for Recommendation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.mode.name(), self.reason)
    }
}

/// What [`Mode::Auto`] means for these settings on this machine; a mode that was asked for stays,
/// where it is possible.
///
/// ```
/// use ringfort::{Config, Mode, SystemInfo, recommended};
///
/// let mut config = Config::default();
/// config.add_address("127.0.0.1:8080")?;
/// let system = SystemInfo::get(4);
/// assert_eq!(recommended(&config, &system).mode, Mode::Shared);
/// config.set("balancer", "sticky")?;
/// assert_eq!(recommended(&config, &system).mode, Mode::Centralized);
/// # Ok::<(), ringfort::ConfigError>(())
/// ```
#[must_use]
pub fn recommended(config: &Config, system: &SystemInfo) -> Recommendation {
    let tcp = config.addresses().iter().any(|address| matches!(address, Address::Tcp(_)));
    let workers = match config.workers() {
        0 => u64::from(system.cpus.usable),
        count => count,
    };
    let centralized = |reason| Recommendation { mode: Mode::Centralized, reason };
    let shared = |reason| Recommendation { mode: Mode::Shared, reason };
    match config.mode() {
        Mode::Centralized => centralized("as asked"),
        Mode::Shared | Mode::Auto if !tcp && !config.addresses().is_empty() => {
            centralized("a Unix socket has one queue, so the master accepts")
        }
        Mode::Shared | Mode::Auto if !system.supports_reuse_port() => {
            centralized("this kernel has no SO_REUSEPORT")
        }
        Mode::Shared if config.balancer_is_chosen() => {
            shared("as asked; the balancer picks only where the master stands in for a worker")
        }
        Mode::Shared => shared("as asked"),
        Mode::Auto if config.balancer_is_chosen() => {
            centralized("a balancer was chosen, and only the master can ask it")
        }
        Mode::Auto if workers == 1 => shared("one worker: nothing to balance"),
        Mode::Auto => shared("the kernel balances, at the least cost a connection"),
    }
}

/// One mode, in comparison with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Which.
    pub mode: Mode,
    /// Who accepts, and how a connection reaches its worker.
    pub architecture: &'static str,
    /// Who chooses the worker, and by what.
    pub load_balancing: &'static str,
    /// What it needs of the system.
    pub requirements: &'static str,
    /// Where it runs.
    pub platforms: &'static str,
    /// What there is to understand.
    pub complexity: &'static str,
    /// When to take it.
    pub use_case: &'static str,
    /// What a connection with one request costs, as measured (README, "Numbers").
    pub cost: &'static str,
}

/// Both modes, side by side: shared socket first.
#[must_use]
pub const fn comparison() -> [Comparison; 2] {
    [
        Comparison {
            mode: Mode::Shared,
            architecture: "one SO_REUSEPORT listener a worker slot; each worker accepts its own",
            load_balancing: "the kernel, by a hash of the addresses; blind to load",
            requirements: "SO_REUSEPORT, TCP",
            platforms: "Linux 6.1 or newer",
            complexity: "no process between client and worker",
            use_case: "many short connections, even work, the least cost",
            cost: "23.5 µs",
        },
        Comparison {
            mode: Mode::Centralized,
            architecture: "the master accepts, queues and hands over (SCM_RIGHTS)",
            load_balancing: "a balancer that knows every worker's load; replaceable",
            requirements: "passing of descriptors over Unix sockets",
            platforms: "Linux 6.1 or newer",
            complexity: "a queue with limits, a balancer, a handover that survives deaths",
            use_case: "few long connections, uneven work, sticky clients, Unix sockets",
            cost: "38.0 µs",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Balancing;

    #[track_caller]
    fn check(address: &str, settings: &[(&str, &str)], want: &str) {
        let mut config = Config::default();
        config.add_address(address).unwrap();
        for (name, value) in settings {
            config.set(name, value).unwrap();
        }
        assert_eq!(recommended(&config, &SystemInfo::get(4)).to_string(), want);
    }

    #[test]
    fn auto_becomes_what_the_settings_allow() {
        const TCP: &str = "127.0.0.1:0";
        const UNIX: &str = "unix:/run/x";
        let least = "the kernel balances, at the least cost a connection";
        check(TCP, &[("workers", "1")], "shared: one worker: nothing to balance");
        check(TCP, &[("workers", "4")], &format!("shared: {least}"));
        check(TCP, &[("mode", "shared")], "shared: as asked");
        check(TCP, &[("mode", "centralized")], "centralized: as asked");
        let unix = "centralized: a Unix socket has one queue, so the master accepts";
        check(UNIX, &[("mode", "shared")], unix);
        check(UNIX, &[], unix);
        let chosen = "centralized: a balancer was chosen, and only the master can ask it";
        for balancer in ["least-connections", "round-robin", "weighted", "sticky"] {
            check(TCP, &[("balancer", balancer), ("workers", "4")], chosen);
        }
        check(
            TCP,
            &[("balancer", "sticky"), ("mode", "shared")],
            "shared: as asked; the balancer picks only where the master stands in for a worker",
        );
    }

    #[test]
    fn a_balancer_of_the_application_selects_centralized_mode_too() {
        let mut config = Config::default();
        config.add_address("127.0.0.1:0").unwrap();
        config.set_own_balancer();
        assert_eq!(recommended(&config, &SystemInfo::get(4)).mode, Mode::Centralized);
        assert_eq!(config.balancing(), Balancing::LeastConnections);
    }

    /// The recommendation rests on a measurement: the comparison shows the number that the README
    /// has, and shared socket is the cheaper one.
    #[test]
    fn the_costs_are_those_of_the_readme() {
        let readme = include_str!("../README.md");
        let [shared, centralized] = comparison();
        let row = |name: &str, cost: &str| {
            let row = readme.lines().find(|line| line.starts_with(name)).expect("it has the row");
            assert!(row.contains(&format!("| {cost} |")), "{row}");
        };
        row("| connection per request, shared socket |", shared.cost);
        row("| the same, centralized |", centralized.cost);
        let number = |cost: &str| cost.split(' ').next().unwrap().parse::<f64>().unwrap();
        assert!(number(shared.cost) < number(centralized.cost));
    }
}
