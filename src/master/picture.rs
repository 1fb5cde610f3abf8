//! What a worker is at, put together from the board and the kernel. Pure.

use crate::io::{RunState, Usage};
use crate::ipc::board::{Line, Stage, Stages};
use crate::stats::Counter;
use std::fmt;
use std::time::Duration;

/// One look at one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Since its loop turned last.
    pub quiet: Duration,
    /// What its process does, and how long it was on a CPU; `None`: the kernel does not say.
    pub usage: Option<Usage>,
    /// Where in the kernel it is; empty if that is not known, or it is not in the kernel.
    pub place: String,
    /// The request in its handler; empty if none is.
    pub handles: String,
    /// Its connections.
    pub open: u64,
    /// Its requests that are not answered.
    pub active: u64,
    /// Where its connections stood at the end of its last pass.
    pub stages: Stages,
    /// Connections on their way to it.
    pub transit: u64,
    /// Whether arrivals wait in its listeners' queues.
    pub arrivals: bool,
}

impl Picture {
    /// What the board says.
    #[must_use]
    pub fn of(line: &Line) -> Self {
        let requests = line.get(Counter::Requests);
        Self {
            handles: line.in_handler(),
            open: line.open(),
            active: requests.saturating_sub(line.get(Counter::Responses)),
            stages: line.stages(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.usage.map_or(RunState::Waiting, |usage| usage.state).name();
        let cpu = self.usage.map_or(Duration::ZERO, |usage| usage.cpu);
        write!(
            f,
            "{state} for {:.1} s, cpu={cpu:?} open={} active={}",
            self.quiet.as_secs_f64(),
            self.open,
            self.active
        )?;
        for (name, stage) in [
            ("idle", Stage::Idle),
            ("reading", Stage::Reading),
            ("answering", Stage::Answering),
            ("writing", Stage::Writing),
        ] {
            write!(f, " {name}={}", self.stages.at(stage))?;
        }
        write!(f, " transit={} arrivals={}", self.transit, self.arrivals)?;
        if !self.handles.is_empty() {
            write!(f, ", handles {}", self.handles.escape_debug())?;
        }
        if !self.place.is_empty() {
            write!(f, ", in the kernel: {}", self.place.escape_debug())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_one_line_whatever_a_client_sent() {
        let line = Line::detached();
        line.add(Counter::Adopted, 3);
        line.add(Counter::Requests, 2);
        line.add(Counter::Responses, 1);
        line.set_stages(Stages([2, 1, 0, 0]));
        line.handling("GET", "/a\nb\u{1b}?q");
        let mut picture = Picture::of(&line);
        assert_eq!(
            picture.to_string(),
            "blocked for 0.0 s, cpu=0ns open=3 active=1 idle=2 reading=1 answering=0 writing=0 \
             transit=0 arrivals=false, handles GET /a\\nb\\u{1b}"
        );
        line.handled();
        picture = Picture {
            quiet: Duration::from_millis(2040),
            usage: Some(Usage { state: RunState::Stopped, cpu: Duration::from_secs(1) }),
            place: "do_signal_stop".to_owned(),
            transit: 4,
            arrivals: true,
            ..Picture::of(&line)
        };
        let says = picture.to_string();
        assert!(says.starts_with("stopped for 2.0 s, cpu=1s open=3"), "{says}");
        assert!(says.ends_with("transit=4 arrivals=true, in the kernel: do_signal_stop"), "{says}");
    }
}
