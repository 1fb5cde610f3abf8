//! One step of the world: who acts next, what strikes, and what must hold afterwards.

use super::exec::Exec;
use super::kernel::{Kernel, Killed, ProcessId};
use super::proc::{ABORTED, KILLED, Phase, SIGTERM};
use super::{Loop, Next, Ratio, Violation, World};
use crate::io::Exit;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Who can act.
#[derive(Clone, Copy)]
enum Actor {
    Process(ProcessId),
    Boot(ProcessId),
    Dying(ProcessId),
    Client(usize),
}

const STEP_NS_MAX: u64 = 20_000;
const STOP_NS_MAX: u64 = 6_000_000_000;
const DOOM_CALLS_MAX: u64 = 60;
/// A run that takes more is not getting anywhere.
const STEPS_MAX: u64 = 2_000_000;
/// A process that turns so often in so short a time is not waiting for anything.
const SPIN_TURNS: u32 = 2_500;
const SPIN_NS: u64 = 100_000_000;
const EXIT_BOOT_FAILED: i32 = 3;

impl World {
    /// One step; `Ok(false)`: nothing is left to happen.
    pub(super) fn step(&mut self) -> Result<bool, Violation> {
        let Some(actor) = self.next_actor() else { return Ok(false) };
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(Violation(format!("no end after {STEPS_MAX} steps")));
        }
        self.strike();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.act(actor)));
        match outcome {
            Ok(result) => result?,
            Err(payload) => self.unwound(actor, &*payload)?,
        }
        let mut state = self.state.borrow_mut();
        state.now += self.chance.range(1, STEP_NS_MAX);
        if self.drain_at.is_none() && !self.gave_up {
            state.check_backlogs(self.backlog_ns_max)?;
        }
        if state.lost > 0 && !self.gave_up {
            return Err(Violation("a listener ended with arrivals in its queue".to_owned()));
        }
        state.check_files(self.clients.iter().filter_map(|client| client.stream))?;
        Ok(true)
    }

    /// One of those that can act now; if there is none, time jumps to when there is.
    fn next_actor(&mut self) -> Option<Actor> {
        let mut state = self.state.borrow_mut();
        let mut due: Vec<(u64, Actor)> = Vec::new();
        for (pid, process) in state.processes.iter().enumerate() {
            match process.phase {
                Phase::Dying { until, .. } => {
                    let at = process.ring.due().map_or(until, |at| at.min(until));
                    due.push((at, Actor::Dying(pid)));
                }
                Phase::Running => {
                    let Some(found) = self.loops.get(&pid) else { continue };
                    let at = match found.next {
                        Next::WakeUp => {
                            process.ring.due().into_iter().chain(process.deadline).min()
                        }
                        Next::Turn | Next::Wait => Some(0),
                    };
                    due.extend(at.map(|at| (at.max(process.stopped_until), Actor::Process(pid))));
                }
                Phase::Gone(_) => {}
            }
        }
        due.extend(state.boots.iter().map(|boot| (boot.at, Actor::Boot(boot.pid))));
        let clients = self.clients.iter().enumerate();
        due.extend(
            clients.filter_map(|(at, client)| Some((client.due(&state)?, Actor::Client(at)))),
        );
        let soonest = due.iter().map(|(at, _)| *at).min()?;
        state.now = state.now.max(soonest);
        due.retain(|(at, _)| *at <= state.now);
        Some(due[self.chance.index(due.len())].1)
    }

    /// Kills, stops or drains a worker, at times: between two steps, or in one of its next system
    /// calls.
    fn strike(&mut self) {
        let mut state = self.state.borrow_mut();
        let killed = self.chance.chance(state.faults.worker_killed);
        let stopped = !killed && self.chance.chance(state.faults.worker_stopped);
        let drained = !killed && !stopped && self.chance.chance(state.faults.worker_drained);
        if !killed && !stopped && !drained {
            return;
        }
        let is_worker = |pid: &ProcessId| {
            state.processes[*pid].line.is_some() && state.processes[*pid].exit().is_none()
        };
        let workers: Vec<ProcessId> = (0..state.processes.len()).filter(is_worker).collect();
        if workers.is_empty() {
            return;
        }
        let victim = workers[self.chance.index(workers.len())];
        if drained {
            state.note(victim, None, format_args!("told to drain"));
            // A worker that is not up yet, or on its way out, does not hear it.
            state.notify(victim, SIGTERM.unsigned_abs());
        } else if stopped {
            state.note(victim, None, format_args!("stopped"));
            state.processes[victim].stopped_until = state.now + self.chance.range(1, STOP_NS_MAX);
        } else if self.chance.chance(Ratio::new(1, 2)) {
            state.end(victim, KILLED);
        } else {
            state.doom = Some((victim, self.chance.range(0, DOOM_CALLS_MAX)));
        }
    }

    fn act(&mut self, actor: Actor) -> Result<(), Violation> {
        match actor {
            Actor::Process(pid) => self.run_process(pid),
            Actor::Boot(pid) => {
                self.boot(pid);
                Ok(())
            }
            Actor::Dying(pid) => {
                self.loops.remove(&pid);
                self.state.borrow_mut().run_dying(pid);
                Ok(())
            }
            Actor::Client(at) => {
                let mut state = self.state.borrow_mut();
                let client = &mut self.clients[at];
                let listeners = state.listeners.clone();
                match client.step(&mut state, &listeners, self.drain_at) {
                    Err(_) if self.gave_up => {
                        client.leave(&mut state);
                        Ok(())
                    }
                    result => Ok(result?),
                }
            }
        }
    }

    /// A turn, or the wait after it, or the end of a sleep.
    fn run_process(&mut self, pid: ProcessId) -> Result<(), Violation> {
        if self.state.borrow().processes[pid].exit().is_some() {
            return Ok(()); // the step before this one killed it
        }
        if self.state.borrow().processes[pid].aborted {
            self.state.borrow_mut().end(pid, ABORTED);
            return Ok(());
        }
        Kernel::run_as(&self.state, pid);
        let Loop { stepper, done, deadline, next, turns } =
            self.loops.get_mut(&pid).expect("only what has a loop acts");
        if *next != Next::Turn {
            self.state.borrow_mut().processes[pid].woken = *next == Next::WakeUp;
            stepper.wait(*deadline, done);
            let state = self.state.borrow();
            let passed = state.processes[pid].deadline.is_some_and(|at| at <= state.now);
            *next = if done.is_empty() && !passed { Next::WakeUp } else { Next::Turn };
            if *next == Next::WakeUp {
                state.check_sleeper(pid)?;
            }
            return Ok(());
        }
        let now = self.state.borrow().now;
        *turns = if now - turns.0 < SPIN_NS { (turns.0, turns.1 + 1) } else { (now, 1) };
        assert!(turns.1 < SPIN_TURNS, "it spins");
        *deadline = stepper.turn(done);
        assert!(done.is_empty(), "a turn handles all that is done");
        *next = Next::Wait;
        let exit = stepper.exit();
        let mut state = self.state.borrow_mut();
        if let Some(line) = state.line(pid) {
            state.check_ledger(pid, line)?;
        } else {
            state.lose_revocations();
        }
        if let Some(code) = exit {
            let left = state.streams(pid);
            state.end(pid, Exit::Code(code));
            if left > 0 {
                return Err(Violation(format!("process {pid} exits with {left} connections")));
            }
        }
        Ok(())
    }

    fn boot(&mut self, pid: ProcessId) {
        let mut state = self.state.borrow_mut();
        let Some(at) = state.boots.iter().position(|boot| boot.pid == pid) else { return };
        let boot = state.boots.swap_remove(at);
        if self.chance.chance(state.faults.boot_fails) {
            return state.end(pid, Exit::Code(EXIT_BOOT_FAILED));
        }
        drop(state);
        let stepper = (self.spawner)(Kernel::new(&self.state, pid), boot);
        self.start(pid, stepper);
    }

    /// A process was killed in a system call, or somebody's assertion failed.
    fn unwound(&mut self, actor: Actor, payload: &(dyn Any + Send)) -> Result<(), Violation> {
        let mut state = self.state.borrow_mut();
        if payload.is::<Killed>()
            && let Some((pid, _)) = state.doom.take()
        {
            state.end(pid, KILLED);
            return Ok(());
        }
        if let (Some(Exec(text)), Actor::Process(pid)) = (payload.downcast_ref(), actor) {
            drop(state);
            return self.exec(pid, text);
        }
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let who = match actor {
            Actor::Process(pid) | Actor::Boot(pid) | Actor::Dying(pid) => {
                state.processes[pid].name.clone()
            }
            Actor::Client(_) => "client".to_owned(),
        };
        Err(Violation(format!("{who} panics: {}", text.unwrap_or("with something unprintable"))))
    }
}
