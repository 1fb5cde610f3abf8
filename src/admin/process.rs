//! One worker process as the master knows it. Pure: a snapshot.

use serde_json::{Map, Value};
use std::time::Duration;

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProcessState {
    /// Forked and not ready yet, or about to be forked.
    Starting,
    /// Serves, and has no connection now.
    Ready,
    /// Serves, and has connections.
    Busy,
    /// Finishes what runs and takes nothing new, or was killed and is not reaped yet.
    Stopping,
    /// Ended because it was asked to; its slot is empty.
    Stopped,
    /// Ended, or did not come up, and nobody had asked for that; its slot waits for the next one.
    Failed,
}

impl ProcessState {
    /// All six.
    pub const ALL: [Self; 6] =
        [Self::Starting, Self::Ready, Self::Busy, Self::Stopping, Self::Stopped, Self::Failed];

    /// Its word in JSON and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// The state of a word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// One worker, as it was when the master was asked. Each `with_…` gives a changed copy.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessInfo {
    /// Its slot: 0 to workers − 1.
    pub worker_id: u32,
    /// Its process; 0 if the slot is empty.
    pub pid: u32,
    /// Where it is in its life.
    pub state: ProcessState,
    /// How often its slot was filled before.
    pub generation: u32,
    /// Which reload it belongs to.
    pub epoch: u32,
    /// Connections open now, those in transit to it included.
    pub connections: u64,
    /// Requests read since its birth.
    pub total_requests: u64,
    /// When it was forked, in seconds since 1970; 0 if the slot is empty.
    pub started_at: f64,
    /// When a connection or a request last came, in seconds since 1970; its birth if none did.
    pub last_activity_at: f64,
    /// Bytes resident; 0 where the kernel does not say.
    pub memory_usage: u64,
    /// When the master was asked, in seconds since 1970: what the ages count up to.
    pub as_of: f64,
    /// Whether the process exists: by its pidfd, so never a stranger that got the same number.
    pub alive: bool,
}

impl ProcessInfo {
    /// A process that has just been born.
    #[must_use]
    pub const fn new(worker_id: u32, pid: u32, now: f64) -> Self {
        Self {
            worker_id,
            pid,
            state: ProcessState::Starting,
            generation: 0,
            epoch: 0,
            connections: 0,
            total_requests: 0,
            started_at: now,
            last_activity_at: now,
            memory_usage: 0,
            as_of: now,
            alive: pid > 0,
        }
    }

    /// Since its birth.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        since(self.started_at, self.as_of)
    }

    /// Since its last activity.
    #[must_use]
    pub fn idle_time(&self) -> Duration {
        since(self.last_activity_at, self.as_of)
    }

    /// Whether the process existed when the master was asked.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        self.alive && self.pid > 0
    }

    /// In another state; no activity.
    #[must_use]
    pub fn with_state(&self, state: ProcessState) -> Self {
        Self { state, ..self.clone() }
    }

    /// With so many connections, which is an activity.
    #[must_use]
    pub fn with_connections(&self, connections: u64, now: f64) -> Self {
        Self { connections, ..self.active(now) }
    }

    /// With one request more, which is an activity.
    #[must_use]
    pub fn with_incremented_requests(&self, now: f64) -> Self {
        Self { total_requests: self.total_requests.saturating_add(1), ..self.active(now) }
    }

    /// With so much memory; seen now.
    #[must_use]
    pub fn with_memory_usage(&self, memory_usage: u64, now: f64) -> Self {
        Self { memory_usage, ..self.active(now) }
    }

    fn active(&self, now: f64) -> Self {
        Self { last_activity_at: now, as_of: now, ..self.clone() }
    }

    /// As a JSON object: the original's keys, and ours.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| drop(object.insert(name.to_owned(), value));
        put("worker_id", self.worker_id.into());
        put("pid", self.pid.into());
        put("state", self.state.name().into());
        put("generation", self.generation.into());
        put("epoch", self.epoch.into());
        put("connections", self.connections.into());
        put("total_requests", self.total_requests.into());
        put("started_at", self.started_at.into());
        put("last_activity_at", self.last_activity_at.into());
        put("memory_usage", self.memory_usage.into());
        put("uptime", self.uptime().as_secs_f64().into());
        put("idle_time", self.idle_time().as_secs_f64().into());
        put("is_alive", self.is_alive().into());
        Value::Object(object)
    }

    /// The reverse of [`ProcessInfo::to_json`]; `None` if it is none.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        let small = |name: &str| number(name).and_then(|number| u32::try_from(number).ok());
        let time = |name: &str| value.get(name).and_then(Value::as_f64);
        let started_at = time("started_at")?;
        Some(Self {
            worker_id: small("worker_id")?,
            pid: small("pid")?,
            state: ProcessState::from_name(value.get("state")?.as_str()?)?,
            generation: small("generation")?,
            epoch: small("epoch")?,
            connections: number("connections")?,
            total_requests: number("total_requests")?,
            started_at,
            last_activity_at: time("last_activity_at")?,
            memory_usage: number("memory_usage")?,
            as_of: started_at + time("uptime")?,
            alive: value.get("is_alive")?.as_bool()?,
        })
    }
}

/// Clocks may go back; an age does not.
fn since(earlier: f64, now: f64) -> Duration {
    Duration::try_from_secs_f64(now - earlier).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_changes_what_it_says_and_nothing_else() {
        let born = ProcessInfo::new(3, 77, 100.0);
        let busy = born.with_state(ProcessState::Busy);
        assert_eq!((busy.state, busy.last_activity_at), (ProcessState::Busy, 100.0));
        let more = busy.with_incremented_requests(101.0).with_connections(2, 102.0);
        let more = more.with_memory_usage(4096, 104.0);
        assert_eq!((more.total_requests, more.connections, more.memory_usage), (1, 2, 4096));
        assert_eq!((more.uptime(), more.idle_time()), (Duration::from_secs(4), Duration::ZERO));
        assert_eq!(born, ProcessInfo::new(3, 77, 100.0), "the original is as it was");
    }

    #[test]
    fn json_has_the_original_keys_and_comes_back() {
        let info = ProcessInfo { as_of: 107.5, ..ProcessInfo::new(3, 77, 100.0) };
        let json = info.to_json();
        for key in [
            "worker_id",
            "pid",
            "state",
            "connections",
            "total_requests",
            "started_at",
            "last_activity_at",
            "memory_usage",
            "uptime",
            "idle_time",
            "is_alive",
        ] {
            assert!(json.get(key).is_some(), "{key}");
        }
        assert_eq!(json["uptime"], 7.5);
        assert_eq!(ProcessInfo::from_json(&json), Some(info));
        assert_eq!(ProcessInfo::from_json(&Value::Null), None);
    }

    #[test]
    fn an_empty_slot_is_not_alive_and_a_clock_that_goes_back_makes_no_age() {
        assert!(!ProcessInfo::new(0, 0, 5.0).is_alive());
        assert!(ProcessInfo::new(0, 1, 5.0).is_alive());
        let back = ProcessInfo { as_of: 4.0, ..ProcessInfo::new(0, 1, 5.0) };
        assert_eq!(back.uptime(), Duration::ZERO);
    }

    #[test]
    fn six_states_have_six_words() {
        for state in ProcessState::ALL {
            assert_eq!(ProcessState::from_name(state.name()), Some(state));
        }
        assert_eq!(ProcessState::from_name("dead"), None);
    }
}
