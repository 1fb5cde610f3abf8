//! The pool as the master sees it at one moment: what status, metrics and pages are made of. Pure.

use super::process::{ProcessInfo, ProcessState};
use super::slot::SlotInfo;
use crate::config::Mode;
use crate::master::Report;
use crate::stats::Counter;
use std::collections::BTreeMap;
use std::time::Duration;

/// One moment.
#[derive(Clone, Debug)]
pub struct View {
    /// The master's process.
    pub pid: u32,
    /// Since the master began.
    pub uptime: Duration,
    /// `running` or `draining`.
    pub phase: &'static str,
    /// Whether it is worth sending connections here.
    pub ready: bool,
    /// How connections reach workers.
    pub mode: Mode,
    /// Who picks a worker.
    pub balancer: &'static str,
    /// Which reload the pool is at.
    pub epoch: u32,
    /// How many slots are to be filled.
    pub slots: u32,
    /// Where the pool listens.
    pub addresses: Vec<String>,
    /// RLIMIT_NOFILE before and after it was raised.
    pub descriptors: (u64, u64),
    /// Connections that wait for a worker.
    pub pending: u64,
    /// Every worker process, and every slot without one.
    pub workers: Vec<ProcessInfo>,
    /// Every slot.
    pub restarts: Vec<SlotInfo>,
    /// Whether workers end more often than one a slot, and one, in ten seconds.
    pub restart_storm: bool,
    /// Workers that ended, by class.
    pub ends: BTreeMap<&'static str, u64>,
    /// What became of all connections.
    pub report: Report,
    /// Each counter of [`Counter::ALL`], over all workers that live or lived.
    pub counters: Vec<u64>,
    /// Control and health connections that were turned away.
    pub strangers: u64,
}

impl View {
    /// The name of the mode, as the original says it.
    #[must_use]
    pub const fn architecture(&self) -> &'static str {
        match self.mode {
            Mode::Shared => "shared_socket",
            Mode::Centralized | Mode::Auto => "centralized",
        }
    }

    /// Workers that serve.
    #[must_use]
    pub fn serving(&self) -> u64 {
        self.in_state(ProcessState::Ready) + self.in_state(ProcessState::Busy)
    }

    /// Worker processes that exist.
    #[must_use]
    pub fn alive(&self) -> u64 {
        self.workers.iter().filter(|worker| worker.is_alive()).count() as u64
    }

    /// Workers in this state.
    #[must_use]
    pub fn in_state(&self, state: ProcessState) -> u64 {
        self.workers.iter().filter(|worker| worker.state == state).count() as u64
    }

    /// A counter over all workers.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(counter as usize).copied().unwrap_or(0)
    }
}

#[cfg(test)]
impl View {
    /// A small pool.
    pub(crate) fn example() -> Self {
        let worker = |slot, state| ProcessInfo {
            state,
            connections: 2,
            total_requests: 5,
            as_of: 103.0,
            ..ProcessInfo::new(slot, 41 + slot, 100.0)
        };
        let mut counters = vec![0; Counter::ALL.len()];
        counters[Counter::Requests as usize] = 10;
        let mut report = Report { accepted: 9, served: 4, open: 4, ..Report::default() };
        report.refused.insert("pending_max", 1);
        Self {
            pid: 40,
            uptime: Duration::from_millis(3500),
            phase: "running",
            ready: true,
            mode: Mode::Shared,
            balancer: "kernel",
            epoch: 1,
            slots: 2,
            addresses: vec!["127.0.0.1:80".to_owned()],
            descriptors: (1024, 4096),
            pending: 0,
            workers: vec![worker(0, ProcessState::Busy), worker(1, ProcessState::Starting)],
            restarts: vec![SlotInfo {
                slot: 1,
                boot_failures: 2,
                crashes: 1,
                in_a_row: 3,
                back_off: Some(Duration::from_millis(250)),
                last_pid: 39,
                last_end: "exit code 3".to_owned(),
                last_panic: String::new(),
                last_lines: Vec::new(),
            }],
            restart_storm: true,
            ends: BTreeMap::from([("exit_code", 3)]),
            report,
            counters,
            strangers: 0,
        }
    }
}
