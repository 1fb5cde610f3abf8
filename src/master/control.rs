//! Operators and health checks, answered between two passes: what they ask becomes a view or a
//! command, what a command ends in becomes their answer.

use super::Master;
use super::answer::{Answer, Asker, Field};
use super::command::Command;
use super::ends::End;
use super::picture::Picture;
use super::workers::{Life, State};
use crate::admin::line::Request;
use crate::admin::{self, ProcessInfo, ProcessState, Question, SlotInfo, View, Visitors, json};
use crate::config::Mode;
use crate::io::{Completion, Instant, Io, Kind, Processes};
use crate::stats::Counter;
use std::collections::BTreeMap;
use std::time::Duration;

/// The master's side of `admin`.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) visitors: Visitors,
    facts: admin::Parts,
    pub(super) began: Option<Instant>,
    /// Bytes resident by process, and when they were read: a system call each.
    memory: BTreeMap<u32, u64>,
    memory_at: Option<Instant>,
}

impl Control {
    pub(super) fn new(mut facts: admin::Parts) -> Self {
        let visitors = Visitors::of(&mut facts);
        Self { visitors, facts, began: None, memory: BTreeMap::new(), memory_at: None }
    }

    /// Whether this process can become another program.
    pub(super) const fn is_upgradable(&self) -> bool {
        self.facts.upgradable
    }

    /// Where the pool listens.
    pub(super) fn addresses(&self) -> &[String] {
        &self.facts.addresses
    }

    /// Whether it was one before.
    pub(super) const fn has_earlier(&self) -> bool {
        self.facts.earlier
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.visitors.next_deadline()
    }
}

impl<I: Io + Processes> Master<I> {
    pub(super) fn on_visit(&mut self, completion: Completion, now: Instant) {
        let visitors = &mut self.control.visitors;
        if completion.token.kind == Kind::Knock {
            visitors.on_knock(&mut self.io, &completion, now);
        } else if completion.token.kind == Kind::Ask {
            visitors.on_ask(&mut self.io, completion, now);
        } else {
            visitors.on_tell(&mut self.io, &completion);
        }
    }

    /// Answers what was asked, and passes on what commands have ended in.
    pub(super) fn attend(&mut self, now: Instant) {
        self.control.began.get_or_insert(now);
        self.control.visitors.expire(&mut self.io, now);
        while let Some((asker, question)) = self.control.visitors.poll() {
            match question {
                Question::Line(Request::Order(command)) => {
                    self.on_command(command, Some(asker), now);
                }
                Question::Line(request) => {
                    let line = self.said(request, now);
                    self.control.visitors.tell(&mut self.io, asker, line.into_bytes(), now);
                }
                Question::Page(page, with_body) => {
                    let bytes = page.answer(self.is_ready(), with_body, || self.view(now));
                    self.control.visitors.tell(&mut self.io, asker, bytes, now);
                }
            }
        }
        self.tell_answers(now);
        self.accepting.closed += self.control.visitors.take_closed();
        self.control.visitors.arm(&mut self.io);
    }

    pub(super) fn tell_answers(&mut self, now: Instant) {
        for (asker, answer) in std::mem::take(&mut self.answers) {
            #[cfg(test)]
            self.told.push((asker, answer.clone()));
            let line = json::answer(&answer).into_bytes();
            self.control.visitors.tell(&mut self.io, asker, line, now);
        }
    }

    /// Tells the application what is asked for.
    pub(super) fn notify(&self, command: Command) {
        if matches!(command, Command::Drain | Command::Stop) {
            self.calls.shutdown();
        } else if command == Command::Reload {
            self.calls.reload();
        }
    }

    /// Whether all visitors have left and every door is closed.
    pub(super) fn see_off(&mut self, now: Instant) -> bool {
        self.control.visitors.end(&mut self.io, now)
    }

    fn said(&mut self, request: Request, now: Instant) -> String {
        match request {
            Request::Status => json::status(&self.view(now)),
            Request::Metrics | Request::Order(_) => json::metrics(&self.view(now)),
            Request::Ledger => json::ledger(&self.report()),
        }
    }

    fn view(&mut self, now: Instant) -> View {
        self.read_memory(now);
        let living = self.processes.keys().map(|&line| self.board.line(line));
        View {
            pid: std::process::id(),
            uptime: self.control.began.map_or(Duration::ZERO, |began| now.since(began)),
            phase: if self.phase.is_draining() { "draining" } else { "running" },
            ready: self.is_ready(),
            mode: self.mode(),
            balancer: match self.mode() {
                Mode::Shared => KERNEL,
                Mode::Centralized | Mode::Auto => self.balancer.name(),
            },
            epoch: self.ops.epochs.current(),
            slots: u32::try_from(self.workers.active().count()).unwrap_or(u32::MAX),
            addresses: self.control.facts.addresses.clone(),
            descriptors: self.control.facts.descriptors,
            pending: self.pending.len() as u64,
            workers: self.process_infos(now),
            restarts: self.slot_infos(now),
            restart_storm: self.intensity.look(self.workers.active().count(), now),
            ends: self.ends.classes().clone(),
            report: self.report(),
            counters: self.ledger.counters(living),
            strangers: self.control.visitors.strangers(),
        }
    }

    fn mode(&self) -> Mode {
        self.ops.epochs.settings(self.ops.epochs.current()).mode
    }

    fn read_memory(&mut self, now: Instant) {
        if self.control.memory_at.is_some_and(|at| now < at.after(MEMORY_AGE)) {
            return;
        }
        self.control.memory_at = Some(now);
        self.control.memory.clear();
        for process in self.processes.values() {
            if let Some(bytes) = self.io.memory(process.pid(), false) {
                self.control.memory.insert(process.pid(), bytes);
            }
        }
    }

    /// Every worker process, and every slot without one.
    fn process_infos(&self, now: Instant) -> Vec<ProcessInfo> {
        let unix = self.stamp();
        let lives =
            self.workers.lives().map(|(line, life)| self.process_info(line, life, unix, now));
        let mut all: Vec<ProcessInfo> = lives.collect();
        for (slot, state) in self.workers.vacancies() {
            // Of a slot whose successors fail, the worker before may still finish what it has.
            let fills = |info: &ProcessInfo| {
                let leaves = info.state == ProcessState::Stopping && state == ProcessState::Failed;
                info.worker_id == slot && info.pid > 0 && !leaves
            };
            if !all.iter().any(fills) {
                all.push(ProcessInfo { state, started_at: 0.0, ..ProcessInfo::new(slot, 0, unix) });
            }
        }
        all.sort_by_key(|info| (info.worker_id, info.pid == 0, info.generation));
        all
    }

    fn slot_infos(&self, now: Instant) -> Vec<SlotInfo> {
        let slots = self.workers.restarts().map(|(slot, restarts, next)| {
            let (boot_failures, crashes) = restarts.ever();
            let in_a_row = restarts.in_a_row();
            let back_off = next.filter(|_| in_a_row > 0).map(|at| at.since(now));
            let last = self.ends.last(slot);
            let text = |text: fn(&End) -> &String| last.map(text).cloned().unwrap_or_default();
            SlotInfo {
                slot,
                boot_failures,
                crashes,
                in_a_row,
                back_off,
                last_pid: last.map_or(0, |end| end.pid),
                last_end: text(|end| &end.why),
                last_panic: text(|end| &end.panic),
                last_lines: last.map(|end| end.lines.clone()).unwrap_or_default(),
            }
        });
        slots.collect()
    }

    fn process_info(&self, line: u32, life: &Life, unix: f64, now: Instant) -> ProcessInfo {
        let board = self.board.line(line);
        let process = self.processes.get(&line);
        let pid = process.map_or(0, |process| process.pid());
        let connections = self.load(line);
        let state = match life.state {
            State::Booting => ProcessState::Starting,
            State::Ready | State::Full { .. } if connections > 0 => ProcessState::Busy,
            State::Ready | State::Full { .. } => ProcessState::Ready,
            State::Draining | State::Killed => ProcessState::Stopping,
            State::Dead if life.asked => ProcessState::Stopped,
            State::Dead => ProcessState::Failed,
        };
        let ago = |at: Instant| unix - now.since(at).as_secs_f64();
        let active = Instant::from_nanos(board.activity()).max(life.born);
        ProcessInfo {
            state,
            generation: board.generation(),
            epoch: life.epoch,
            connections,
            total_requests: board.get(Counter::Requests),
            started_at: ago(life.born),
            last_activity_at: ago(active),
            memory_usage: self.control.memory.get(&pid).copied().unwrap_or(0),
            as_of: unix,
            alive: life.state != State::Dead,
            ..ProcessInfo::new(life.slot, pid, unix)
        }
    }

    /// Connections of a life, in transit or open.
    fn load(&self, line: u32) -> u64 {
        let board = self.board.line(line);
        let passing = self.processes.get(&line).map_or(0, |process| process.passing() as u64);
        let handed = self.ledger.handed(line) + passing;
        handed.saturating_sub(board.get(Counter::Received)) + board.open()
    }

    /// What every part of the master and every worker does.
    pub(super) fn dump(&mut self, asker: Option<Asker>, now: Instant) {
        let lines: Vec<u32> = self.workers.lives().map(|(line, _)| line).collect();
        let pictures: BTreeMap<u32, Picture> =
            lines.into_iter().map(|line| (line, self.picture(line, now))).collect();
        let workers = self.workers.lives().map(|(line, life)| {
            let board = self.board.line(line);
            let counters: Vec<String> = Counter::ALL
                .iter()
                .filter(|counter| board.get(**counter) > 0)
                .map(|counter| format!("{}={}", counter.name(), board.get(*counter)))
                .collect();
            format!(
                "line {line} slot {} pid {} {:?} {:?}, says {:?}: {}: {}",
                life.slot,
                self.processes.get(&line).map_or(0, |process| process.pid()),
                life.role,
                life.state,
                board.state(),
                pictures.get(&line).cloned().unwrap_or_default(),
                counters.join(" ")
            )
        });
        let workers = Field::List(workers.collect());
        let answer = Answer::done("dump", format!("{:?}", self.phase))
            .with("workers", workers)
            .with("pending", Field::Number(self.pending.len() as u64))
            .with("master", Field::Text(format!("{self:?}")));
        self.answer(asker, answer);
    }
}

/// Who picks workers in shared mode.
const KERNEL: &str = "kernel";
/// How old a reading of memory may be: a scraper that asks often costs no more.
const MEMORY_AGE: Duration = Duration::from_secs(1);
