//! What a slot has been through: its failures, and how long it stays empty. Pure: a snapshot.

use serde_json::{Value, json};
use std::time::Duration;

/// One slot, as it was when the master was asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SlotInfo {
    /// Its number.
    pub slot: u32,
    /// Boots that failed, ever.
    pub boot_failures: u64,
    /// Workers that ended by themselves after READY, ever.
    pub crashes: u64,
    /// Of both, how many without a healthy run between them.
    pub in_a_row: u32,
    /// How long it stays empty yet, because of them.
    pub back_off: Option<Duration>,
    /// The process of the last worker that ended by itself; 0: none has.
    pub last_pid: u32,
    /// How and why that ended.
    pub last_end: String,
    /// Its last panic, as far as that is known.
    pub last_panic: String,
    /// What it wrote last to standard error, if the master reads that.
    pub last_lines: Vec<String>,
}

impl SlotInfo {
    /// As a JSON object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "slot": self.slot,
            "boot_failures": self.boot_failures,
            "crashes": self.crashes,
            "in_a_row": self.in_a_row,
            "back_off": self.back_off.map(|left| left.as_secs_f64()),
            "last_pid": self.last_pid,
            "last_end": self.last_end,
            "last_panic": self.last_panic,
            "last_lines": self.last_lines,
        })
    }
}
