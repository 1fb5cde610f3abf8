//! The settings that are words, and not numbers. Pure.

/// How connections reach workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What this machine and these addresses are best served by; `Pool` says what it chose and why.
    #[default]
    Auto,
    /// One SO_REUSEPORT listener per worker slot; the kernel balances.
    Shared,
    /// The master accepts and hands each connection to the worker the balancer picks.
    Centralized,
}

impl Mode {
    /// Its name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Shared => "shared",
            Self::Centralized => "centralized",
        }
    }
}

/// Which worker the master picks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancing {
    /// The worker with the fewest connections, those in transit included.
    #[default]
    LeastConnections,
    /// One after the other.
    RoundRobin,
    /// In the proportion of weights, which can be changed while the pool runs.
    Weighted,
    /// The same client to the same worker, by its address.
    Sticky,
}

impl Balancing {
    /// All of them, with their names in settings.
    pub(super) const NAMES: [(Self, &'static str); 4] = [
        (Self::LeastConnections, "least-connections"),
        (Self::RoundRobin, "round-robin"),
        (Self::Weighted, "weighted"),
        (Self::Sticky, "sticky"),
    ];

    /// Its name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(known, _)| *known == self).map_or("", |(_, name)| name)
    }
}

/// How a line of the access log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessFormat {
    /// As Apache and nginx do: client, time, request line, status, bytes, referer, agent.
    #[default]
    Combined,
    /// One JSON object a line, with the duration in microseconds.
    Json,
}
