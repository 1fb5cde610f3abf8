//! What the table of workers asks for, and what a death means. Pure.

use super::Role;
use crate::event::KillReason;
use crate::io::Purpose;
use std::time::Duration;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fork a worker; then say `spawned` or `spawn_refused`.
    Spawn {
        /// For which slot.
        slot: u32,
        /// How often that was filled before.
        generation: u32,
        /// On which line of the board.
        line: u32,
        /// Of which epoch.
        epoch: u32,
        /// What for.
        purpose: Purpose,
    },
    /// Kill this life.
    Kill {
        /// Its line.
        line: u32,
        /// Why.
        reason: KillReason,
        /// Whether it was not killed before: a KILL is repeated until the process is reaped.
        first: bool,
    },
}

/// What a death means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Which slot is empty now.
    pub slot: u32,
    /// From fork to the end.
    pub uptime: Duration,
    /// Whether we had asked for it.
    pub asked: bool,
    /// Why the master had killed it, if it had.
    pub killed: Option<KillReason>,
    /// The watchdog had aborted it, when its loop had not turned for so long.
    pub quiet: Option<Duration>,
    /// Whether it never was ready.
    pub booting: bool,
    /// When the next one is spawned, if one is.
    pub delay: Option<Duration>,
    /// What it was to the slot.
    pub role: Role,
}
