//! Wiring: listeners, signals, the board, fork, which process keeps which descriptor, which kernel.

mod descriptors;
mod opened;
mod operators;
mod privileges;
mod reread;
mod trial;
mod upgrade;

pub(crate) use operators::abstract_listener;
pub(crate) use reread::Hook;

use crate::config::{Balancing, Config, Mode};
use crate::error::{Error, ErrorKind};
use crate::http::rate::RateTable;
use crate::http::{Http, Request, Response};
use crate::io::{Address, Errno, Fd, Purpose, Signal, WorkerPlan};
use crate::ipc::board::{Board, Line};
use crate::ipc::mail::WorkerMail;
use crate::ipc::manifest::Manifest;
use crate::ipc::message::{CONFIG_MAX, CONTROL_MAX, Message};
use crate::master::balancer::{Balancer, Weights};
use crate::master::{Master, MasterListener, balancer};
use crate::mode::{Recommendation, recommended};
use crate::pool::{Hooks, Started, WorkerInfo};
use crate::server::{Born, Job};
use crate::signals::SignalManager;
use crate::sys::errno::Failed;
use crate::sys::ring::{Ring, RingSettings};
use crate::sys::socket::{self, FileId, Options};
use crate::sys::{clock, file, parent, probe, process, scm, shm, signal};
use crate::system::SystemInfo;
use crate::worker;
use opened::Opened;
use operators::Operators;
use reread::Base;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use upgrade::{Arrived, Next};

/// A worker whose application could not be made ends with this code.
const EXIT_BOOT_FAILED: i32 = 3;

/// What the master reads from its signal descriptor.
const MASTER_SIGNALS: [i32; 10] = [
    signal::HUP,
    signal::INT,
    signal::QUIT,
    signal::TERM,
    signal::USR1,
    signal::USR2,
    signal::CHLD,
    signal::WINCH,
    signal::TTIN,
    signal::TTOU,
];

/// Descriptors a worker needs besides its connections.
const SPARE_FDS: u64 = 64;

/// Lines of the board a slot: its worker, a successor, two of older epochs, one not yet buried.
const LINES_PER_SLOT: u32 = 5;
/// Up to how many workers a small pool can be scaled when nobody says.
const WORKERS_MAX: u32 = 16;

/// A worker that looks ends by itself.
const _: () = assert!(parent::GRACE.as_millis() > worker::drain::ORPHAN.as_millis());

/// The budget of an idle connection (README, "Limits"): its slot holds everything.
const _: () = assert!(worker::slot_bytes::<Http<fn(&Request<'_>, &mut Response)>>() <= 256);

/// Becomes the master of a pool; returns when it has drained. It may also find that it is the next
/// program of a master that runs already: then it takes over, or is only tried.
pub(crate) fn run<E: fmt::Display>(
    config: Config,
    hooks: Hooks,
    factory: impl FnMut(&WorkerInfo) -> Result<Job, E> + 'static,
) -> Result<(), Error> {
    match upgrade::arrived()? {
        None => serve(config, hooks, factory, None),
        Some(Arrived::TakeOver(manifest)) => serve(config, hooks, factory, Some(*manifest)),
        Some(Arrived::Trial(manifest, channel)) => {
            trial::run(manifest, &channel, config, hooks, factory)
        }
    }
}

fn serve<E: fmt::Display>(
    mut config: Config,
    mut hooks: Hooks,
    factory: impl FnMut(&WorkerInfo) -> Result<Job, E> + 'static,
    mut before: Option<Manifest>,
) -> Result<(), Error> {
    may_fork(&config)?;
    let mut inherited = process::open_fds().map_err(|failed| failed.error("/proc"))?;
    let passed = before.as_ref().map_or_else(Vec::new, Manifest::descriptors);
    inherited.retain(|fd| !hooks.private.contains(fd) && !passed.contains(fd));
    let system = SystemInfo::get(u32::try_from(config.fallback_cpus()).unwrap_or(1));
    let (workers, workers_reason) = how_many(&config, &system);
    let descriptors = descriptors::fit(&mut config)?;
    probe::check(config.connections_max() + SPARE_FDS)?;
    let Recommendation { mode: first_mode, reason: mode_reason } = recommended(&config, &system);
    let build = hooks.build.take().unwrap_or_default();
    let mut opened = match &mut before {
        Some(before) => Opened::taken_over(before, &config, workers, build)?,
        None => Opened::fresh(&config, &mut hooks, first_mode, workers, build)?,
    };
    let before = before.as_ref();
    let programs = (hooks.upgradable, before.is_some_and(|b| b.shell.program.is_some()));
    let mode = before.map_or(first_mode, |before| upgrade::mode(before, first_mode));
    let descriptors = (before.map_or(descriptors.0, |b| b.shell.nofile), descriptors.1);
    let next = opened.next(&config, descriptors.0, workers, first_mode)?;
    let mut ring = master_ring()?;
    (hooks.started)(&Started {
        addresses: opened.bound.addresses.clone(),
        mode,
        mode_reason: mode_reason.to_owned(),
        workers,
        workers_reason,
        connections_max: config.connections_max(),
        kernel: system.kernel_release,
        health: opened.operators.health.clone(),
        descriptors,
    });
    let next = Rc::new(next);
    let launching = Launching {
        base: Base { config: config.clone(), mode: first_mode },
        board: opened.board,
        inherited,
        death: Signal::Term,
        next: Some(Rc::clone(&next)),
    };
    ring.set_launch(launch(launching, factory, hooks.reload.take(), hooks.calls.clone())?);
    ring.capture(config.capture_stderr());
    ring.set_listen(listen(opened.bound.addresses.clone(), &config));
    ring.set_replace(Box::new(move |core| next.replace(core)));
    let mail = hooks.mail.take();
    let mut parts = opened.parts(&config, hooks, workers, mode)?;
    parts.admin = opened.operators.parts(&opened.bound.addresses, descriptors, programs);
    let mut master = Master::new(ring, parts, &config);
    if let Some(before) = before {
        let resized = Some(workers).filter(|workers| *workers != before.shell.workers);
        let unknown = upgrade::unknown(before);
        let taken = master.take_over(&before.core, mode, first_mode, resized, unknown);
        taken.map_err(|why| upgrade::refused(&why))?;
    }
    if let Some(mail) = mail {
        master = master.with_mail(mail);
    }
    let result = master.run();
    opened.close()?;
    let report = result?;
    if report.is_clean() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unclean, format!("the pool did not end cleanly: {report}")))
}

/// How many workers, and why so many.
fn how_many(config: &Config, system: &SystemInfo) -> (u32, String) {
    match u32::try_from(config.workers()) {
        Ok(count) if count > 0 => (count, "as asked".to_owned()),
        _ => (system.cpus.usable, format!("one per CPU: {}", system.cpus)),
    }
}

fn may_fork(config: &Config) -> Result<(), Error> {
    if process::threads().map_err(|failed| failed.error("/proc"))? > 1 {
        let context = "this process has more than one thread and would fork";
        return Err(Error::new(ErrorKind::Threads, context));
    }
    if config.addresses().is_empty() {
        return Err(Error::new(ErrorKind::Config, "no address to listen on"));
    }
    privileges::check(config)
}

fn master_ring() -> Result<Ring, Error> {
    let settings = RingSettings { message_bytes: CONFIG_MAX, ..RingSettings::MASTER };
    Ring::new(settings).map_err(|errno| {
        Error::new(ErrorKind::System, format!("cannot make the master's ring: {errno}"))
    })
}

/// Up to how many workers the pool can be scaled.
fn workers_max(config: &Config, workers: u32) -> u32 {
    match u32::try_from(config.workers_max()) {
        Ok(0) | Err(_) => workers.saturating_mul(2).max(WORKERS_MAX),
        Ok(max) => max.max(workers),
    }
}

/// Makes one more listener in the group of an address.
fn listen(addresses: Vec<Address>, config: &Config) -> crate::sys::ring::Listen {
    let options = Options { reuse_port: true, ..options(config) };
    Box::new(move |address| {
        let address = addresses.get(usize::from(address)).ok_or(Errno::Gone)?;
        socket::listen(address, options).map_err(Failed::errno)
    })
}

fn options(config: &Config) -> Options {
    Options {
        backlog: u32::try_from(config.backlog()).unwrap_or(u32::MAX),
        reuse_port: false,
        defer_accept: config.defer_accept(),
    }
}

fn configured_balancer(config: &Config) -> Result<Box<dyn Balancer>, Error> {
    let weights = match config.balancing() {
        Balancing::Weighted => Weights::new(config.weights())?,
        Balancing::LeastConnections | Balancing::RoundRobin | Balancing::Sticky => {
            Weights::default()
        }
    };
    Ok(balancer::balancer(config.balancing(), weights))
}

/// All listeners of a pool, and what must be unlinked at its end.
struct Bound {
    addresses: Vec<Address>,
    listeners: Vec<MasterListener>,
    paths: Vec<(PathBuf, FileId)>,
}

impl Bound {
    fn listen(config: &Config, mode: Mode, workers: u32) -> Result<Self, Error> {
        let options = options(config);
        let mut bound = Self { addresses: Vec::new(), listeners: Vec::new(), paths: Vec::new() };
        for (address, wanted) in (0..).zip(config.addresses()) {
            let cannot = |failed: Failed| failed.error(wanted);
            match (wanted, mode) {
                (Address::Tcp(socket), _) => {
                    // A group of one can grow when the mode is switched.
                    let slots = if mode == Mode::Shared { workers as usize } else { 1 };
                    let group = socket::group(*socket, slots, options).map_err(cannot)?;
                    bound.keep(group, address, mode == Mode::Shared).map_err(cannot)?;
                }
                (Address::Unix(path), _) => {
                    let fd = socket::listen(wanted, options).map_err(cannot)?;
                    bound.paths.extend(FileId::of(path).map(|id| (path.clone(), id)));
                    bound.keep(vec![fd], address, false).map_err(cannot)?;
                }
            }
        }
        Ok(bound)
    }

    /// The addresses that can have a listener a slot.
    fn groups(&self) -> Vec<u16> {
        let tcp = |(index, address)| matches!(address, &Address::Tcp(_)).then_some(index);
        (0..).zip(&self.addresses).filter_map(tcp).collect()
    }

    fn keep(&mut self, fds: Vec<Fd>, address: u16, a_slot_each: bool) -> Result<(), Failed> {
        if let Some(first) = fds.first() {
            self.addresses.push(socket::local_address(first)?);
        }
        let listeners = (0..).zip(fds).map(|(slot, fd)| MasterListener {
            address,
            slot: a_slot_each.then_some(slot),
            fd,
        });
        self.listeners.extend(listeners);
        Ok(())
    }
}

/// What a forked child needs of its parent.
struct Launching {
    base: Base,
    board: Board,
    /// Descriptors that the application had open before the pool was made.
    inherited: Vec<i32>,
    /// What it gets when its parent dies.
    death: Signal,
    /// How the process becomes the next program; a trial doesn't.
    next: Option<Rc<Next>>,
}

/// What a forked child does: keep what is its own, make a ring and a handler, serve, end.
fn launch<E: fmt::Display>(
    launching: Launching,
    mut factory: impl FnMut(&WorkerInfo) -> Result<Job, E> + 'static,
    mut hook: Option<Hook>,
    calls: SignalManager,
) -> Result<crate::sys::ring::Launch, Error> {
    let Launching { base, board, inherited, death, next } = launching;
    let rate = rate_table(&base.config)?;
    let master = process::id();
    Ok(Box::new(move |plan: &WorkerPlan<'_>, channel: Fd| {
        if plan.purpose == Purpose::Upgrade {
            return boot_failed(&channel, &try_next(next.as_deref(), master, plan, &channel));
        }
        let line = board.line(plan.line);
        let listeners: Vec<(u16, Fd)> =
            plan.listeners.iter().map(|(address, fd)| (*address, Fd::new(fd.raw()))).collect();
        let mail = plan.mail.map(|fd| Fd::new(fd.raw()));
        let own = listeners.iter().map(|(_, fd)| fd).chain([&channel]).chain(&mail);
        let own: Vec<&Fd> = own.collect();
        if let Err(failed) = process::close_all_but(&inherited, &own) {
            return boot_failed(&channel, &failed.error("descriptors").to_string());
        }
        // A boot that hangs looks at no signal.
        let signals = go_with(master, Signal::Kill).and_then(|()| {
            signal::become_worker().map_err(|failed| failed.error("signals").to_string())
        });
        let signals = match signals {
            Ok(signals) => signals,
            Err(why) => return boot_failed(&channel, &why),
        };
        if plan.purpose == Purpose::Check {
            return match reread::check(&mut hook, &base, &channel) {
                Ok(()) => 0,
                Err(why) => boot_failed(&channel, &why),
            };
        }
        let (config, access_log) = match settle(&base.config, plan, master) {
            Ok(settled) => settled,
            Err(why) => return boot_failed(&channel, &why),
        };
        let ring = match Ring::new(RingSettings::WORKER) {
            Ok(ring) => ring,
            Err(errno) => return boot_failed(&channel, &format!("io_uring: {errno}")),
        };
        let messages = match &mail {
            Some(_) => {
                WorkerMail::connected(usize::try_from(config.message_max()).unwrap_or(usize::MAX))
            }
            None => WorkerMail::default(),
        };
        note_panics(line);
        let info = WorkerInfo::new(plan, board, messages.clone());
        // From then on it looks, and finishes what runs.
        let made = factory(&info).map_err(|error| error.to_string());
        let job = match made.and_then(|job| go_with(master, death).map(|()| job)) {
            Ok(job) => job,
            Err(why) => return boot_failed(&channel, &why),
        };
        let (slot, waits) = (plan.slot, plan.purpose == Purpose::Succeed);
        let (signals, calls) = (Some(signals), calls.clone());
        let parts =
            worker::Parts { slot, channel, signals, calls, listeners, waits, line, access_log };
        let control = Fd::new(parts.channel.raw());
        let mail = mail.map(|fd| (fd, messages));
        let born = Born { ring, parts, config, rate: rate.clone(), mail };
        match job(born) {
            Ok(()) => 0,
            Err(failed) => boot_failed(&control, &failed.error("the worker").to_string()),
        }
    }))
}

/// The kernel tells this worker that its master has died, by this signal; in the end by KILL.
fn go_with(master: u32, signal: Signal) -> Result<(), String> {
    // What is to end on TERM may not come to look.
    let asked = match signal {
        Signal::Term => parent::drain_with(master),
        Signal::Abort | Signal::Kill => process::die_with(master, signal),
    };
    match asked {
        Ok(true) => Ok(()),
        Ok(false) => Err("the master is gone".to_owned()),
        Err(failed) => Err(failed.error("signals").to_string()),
    }
}

/// Becomes the next program, on trial; gives back why that failed.
fn try_next(next: Option<&Next>, master: u32, plan: &WorkerPlan<'_>, channel: &Fd) -> String {
    match (go_with(master, Signal::Kill), next) {
        (Err(why), _) => why,
        (Ok(()), Some(next)) => next.attempt(plan, channel),
        (Ok(()), None) => "this is only a trial".to_owned(),
    }
}

/// What a worker runs with, and its access log; gives up what it should.
fn settle(
    base: &Config,
    plan: &WorkerPlan<'_>,
    master: u32,
) -> Result<(Config, Option<Fd>), String> {
    let mut config = base.clone();
    for (name, value) in plan.settings {
        config.set(name, value).map_err(|wrong| wrong.to_string())?;
    }
    // Opened as who binds ports: its folder need not be the worker's.
    let access_log = config.access_log().map(file::open_log).transpose();
    let access_log = access_log.map_err(|f| f.error("the access log").to_string())?;
    privileges::give_up(&config, plan.slot)?;
    // The parent-death signal goes with a change of user: it is set again.
    go_with(master, Signal::Kill)?;
    Ok((config, access_log))
}

/// The master finds a worker's last panic on the board, however the worker ends.
fn note_panics(line: Line) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        line.note(&panic.to_string());
        before(panic);
    }));
}

/// Memory that all workers count the requests of clients in.
fn rate_table(config: &Config) -> Result<Option<RateTable>, Error> {
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let (limit, clients) = (count(config.rate_limit()), count(config.rate_clients()));
    if limit == 0 {
        return Ok(None);
    }
    let memory = shm::create(RateTable::words(clients, limit))
        .map_err(|failed| failed.error("rate_limit"))?;
    socket::close(memory.fd);
    Ok(Some(RateTable::new(memory.words, limit, config.rate_window())))
}

fn boot_failed(channel: &Fd, reason: &str) -> i32 {
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double exactly")]
    let stamp = clock::unix_time() as f64;
    if let Ok(bytes) = Message::worker_failed(reason, stamp).encode(CONTROL_MAX) {
        // A master that cannot be told still sees the exit code.
        let _ = scm::send_message(channel, &bytes, &[]);
    }
    EXIT_BOOT_FAILED
}
