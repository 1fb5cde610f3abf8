//! A whole run: threads with a ring each, the common start, the watching, the sum.

use super::plan::Plan;
use super::report::{Machine, Report, Sample};
use super::run::{Client, Job, Phase, References};
use super::tally::{Failure, Of, Tally};
use super::usage::{Tree, Usage};
use crate::error::{Error, ErrorKind};
use crate::io::{Address, Completion, Connects, Instant, Io};
use crate::sys::ring::{Ring, RingSettings};
use crate::sys::{clock, cpu, probe, process};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How a run goes, for who watches it.
#[derive(Clone, Copy, Debug)]
pub struct Live {
    /// Where the slowest thread stands.
    pub phase: Phase,
    /// Since this phase began.
    pub elapsed: Duration,
    /// Connections open now.
    pub open: u64,
    /// Right replies so far.
    pub replies: u64,
    /// Failed requests and connects so far.
    pub failures: u64,
}

/// What a watcher wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// Carry on.
    On,
    /// End now, with the report so far.
    Stop,
}

/// What a thread and the one that watches know of each other.
#[derive(Debug, Default)]
struct Shared {
    /// When all begin, in nanoseconds of the clock; 0: not yet.
    begin: AtomicU64,
    stop: AtomicBool,
    threads: Vec<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    phase: AtomicU8,
    open: AtomicU64,
    replies: AtomicU64,
    failures: AtomicU64,
}

/// What one thread brings home.
#[derive(Debug)]
struct Share {
    tally: Tally,
    /// Over the measured time.
    usage: Usage,
    measured: Duration,
}

impl Plan {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// A setting out of its range; a machine without io_uring; no connection at all.
    pub fn run(self) -> Result<Report, Error> {
        self.run_watched(&mut |_| Go::On)
    }

    /// Runs it, and tells ten times a second how it goes.
    ///
    /// # Errors
    ///
    /// As [`Plan::run`].
    pub fn run_watched(self, watch: &mut dyn FnMut(&Live) -> Go) -> Result<Report, Error> {
        let plan = self.check()?;
        process::raise_nofile().map_err(|failed| failed.error("RLIMIT_NOFILE"))?;
        probe::check(u64::from(plan.connections) + SPARE_FDS)?;
        let jobs = plan.jobs()?;
        let shared = Shared {
            threads: jobs.iter().map(|_| Progress::default()).collect(),
            ..Shared::default()
        };
        let watcher = thread::current();
        let (shares, watched) = thread::scope(|scope| {
            let mut handles = Vec::new();
            for (index, job) in jobs.into_iter().enumerate() {
                let (shared, plan, watcher) = (&shared, &plan, watcher.clone());
                let run = move || {
                    let ended = run_thread(job, index, plan, shared);
                    shared.threads[index].phase.store(Phase::Done as u8, Ordering::Release);
                    watcher.unpark();
                    ended
                };
                let name = format!("load-{index}");
                // The fork of a server of ours, if there was one, has happened by now.
                match thread::Builder::new().name(name).spawn_scoped(scope, run) {
                    Ok(handle) => handles.push(handle),
                    Err(error) => {
                        shared.stop.store(true, Ordering::Release);
                        return (Err(system(format!("cannot start a thread: {error}"))), None);
                    }
                }
            }
            let watched = Watch::new(&plan, &shared).run(watch);
            let mut shares = Vec::new();
            for handle in handles {
                match handle.join() {
                    Ok(share) => shares.push(share),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            (shares.into_iter().collect::<Result<Vec<Share>, Error>>(), Some(watched))
        });
        let shares = shares?;
        let Some(watched) = watched else { return Err(system("no thread was started")) };
        plan.report(&shares, watched)
    }

    fn jobs(&self) -> Result<Vec<Job>, Error> {
        let address = reachable(self.target.addresses()?, self.timeout)
            .ok_or_else(|| system(format!("no address of {}", self.url)))?;
        let templates: std::sync::Arc<[_]> = self.templates.clone().into();
        let references = References::new(&templates);
        let job = |index: u32| Job {
            address: address.clone(),
            templates: templates.clone(),
            references: references.clone(),
            share: (index, self.threads),
            // The first ones take what is left over.
            connections: self.connections / self.threads
                + u32::from(index < self.connections % self.threads),
            pipeline: self.pipeline,
            requests_per_connection: self.requests_per_connection,
            pace: self.pace,
            warm_up: self.warm_up,
            duration: self.duration,
            timeout: self.timeout,
            seed: self.seed,
        };
        Ok((0..self.threads).map(job).collect())
    }

    fn report(self, shares: &[Share], watched: Watched) -> Result<Report, Error> {
        let mut tally = Tally::default();
        shares.iter().for_each(|share| tally.add(&share.tally));
        if tally.connections.opened == 0 && !watched.stopped {
            return Err(no_connection(&self, &tally));
        }
        let measured = shares.iter().map(|share| share.measured).max().unwrap_or_default();
        let busy = |share: &Share| {
            if measured.is_zero() {
                return 0.0;
            }
            (share.usage.cpu + share.usage.wait).as_secs_f64() / measured.as_secs_f64().max(1e-9)
        };
        let mut client = shares.iter().map(|share| share.usage).fold(Usage::default(), Usage::plus);
        (client.memory_bytes, client.processes) = (Usage::own_memory(), 1);
        Ok(Report::new(
            &self,
            tally,
            measured,
            shares.iter().map(busy).fold(0.0, f64::max),
            client,
            watched,
        ))
    }
}

/// Of several addresses of a name the first that takes a connection, as every client does: a server
/// on `localhost` may listen on 127.0.0.1 only, and ::1 comes first. If none does, the first: the
/// run says why.
fn reachable(addresses: Vec<Address>, timeout: Duration) -> Option<Address> {
    let takes_one = |address: &Address| match address {
        Address::Tcp(address) => TcpStream::connect_timeout(address, timeout).is_ok(),
        Address::Unix(_) => true,
    };
    let taken = match addresses.len() {
        0 | 1 => None,
        _ => addresses.iter().position(takes_one),
    };
    addresses.into_iter().nth(taken.unwrap_or(0))
}

fn no_connection(plan: &Plan, tally: &Tally) -> Error {
    let failures = Failure::ALL.iter().filter(|failure| failure.of() != Of::Request);
    let seen: Vec<&str> = failures
        .filter(|failure| tally.failures.get(**failure) > 0)
        .map(|failure| failure.name())
        .collect();
    let why = if seen.is_empty() { "no answer".to_owned() } else { seen.join(", ") };
    system(format!("no connection to {} within {:?}: {why}", plan.url, plan.timeout))
}

fn system(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::System, what)
}

/// What was seen from outside of the threads.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) stopped: bool,
    pub(super) machine: Machine,
    pub(super) started_unix: u64,
    /// Over the measured time.
    pub(super) server: Option<Usage>,
    pub(super) samples: Vec<Sample>,
}

/// Watches the threads: starts the clock when all are ready, samples CPU time once a second, asks
/// who watches whether to go on.
struct Watch<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    phase: Phase,
    since: Instant,
    /// At the start of the measured time.
    server_first: Option<Tree>,
    last: Option<Look>,
    watched: Watched,
}

/// One look at the CPU time of both sides.
struct Look {
    at: Instant,
    client: Tree,
    server: Option<Tree>,
}

impl<'a> Watch<'a> {
    fn new(plan: &'a Plan, shared: &'a Shared) -> Self {
        let machine = Machine::look();
        let started_unix = clock::unix_time();
        let watched = Watched { machine, started_unix, ..Watched::default() };
        let (phase, since) = (Phase::Connecting, clock::monotonic());
        Self { plan, shared, phase, since, server_first: None, last: None, watched }
    }

    fn run(mut self, watch: &mut dyn FnMut(&Live) -> Go) -> Watched {
        let mut told = clock::monotonic();
        loop {
            let live = self.look();
            if live.phase == Phase::Done {
                return self.watched;
            }
            let now = clock::monotonic();
            if now.since(told) >= PERIOD {
                told = now;
                if !self.watched.stopped && watch(&live) == Go::Stop {
                    self.watched.stopped = true;
                    self.shared.stop.store(true, Ordering::Release);
                }
            }
            self.sample(now);
            thread::park_timeout(if self.phase < Phase::Measuring { SOON } else { PERIOD / 4 });
        }
    }

    fn look(&mut self) -> Live {
        let threads = &self.shared.threads;
        let sum = |counter: fn(&Progress) -> &AtomicU64| {
            threads.iter().map(|thread| counter(thread).load(Ordering::Relaxed)).sum()
        };
        let phases = threads.iter().map(|thread| thread.phase.load(Ordering::Acquire));
        let phase = PHASES[usize::from(phases.min().unwrap_or(0))];
        let now = clock::monotonic();
        let open = sum(|thread| &thread.open);
        if phase == Phase::Ready && self.shared.begin.load(Ordering::Relaxed) == 0 {
            if open == 0 {
                self.shared.stop.store(true, Ordering::Release); // there is nothing to measure
            } else {
                self.shared.begin.store(now.after(SOON).as_nanos(), Ordering::Release);
            }
        }
        if phase != self.phase {
            (self.phase, self.since) = (phase, now);
            match phase {
                Phase::Measuring => {
                    self.last = Some(self.usages(now));
                    self.server_first = self.plan.server_pid.and_then(Tree::look);
                }
                Phase::Draining | Phase::Closing | Phase::Done => self.end_server(),
                Phase::Connecting | Phase::Ready | Phase::WarmUp => {}
            }
        }
        Live {
            phase,
            elapsed: now.since(self.since),
            open,
            replies: sum(|thread| &thread.replies),
            failures: sum(|thread| &thread.failures),
        }
    }

    fn end_server(&mut self) {
        let Some(first) = self.server_first.take() else { return };
        self.watched.server = self.plan.server_pid.and_then(Tree::look).map(|now| {
            let memory_bytes = now.memory_bytes();
            Usage { memory_bytes, ..now.since(&first) }
        });
    }

    fn usages(&self, at: Instant) -> Look {
        let client = Tree::own();
        let server = self.plan.server_pid.and_then(Tree::look);
        Look { at, client, server }
    }

    fn sample(&mut self, now: Instant) {
        let second = Duration::from_secs(1);
        let Some(last) = self.last.take_if(|last| now.since(last.at) >= second) else { return };
        if self.phase != Phase::Measuring {
            return;
        }
        let look = self.usages(now);
        let time = look.at.since(last.at);
        let both = look.server.as_ref().zip(last.server.as_ref());
        let server = both.map(|(now, before)| now.since(before).cores(time));
        self.watched.samples.push(Sample {
            at: now.since(self.since),
            client_cores: look.client.since(&last.client).cores(time),
            server_cores: server,
        });
        self.last = Some(look);
    }
}

fn run_thread(job: Job, index: usize, plan: &Plan, shared: &Shared) -> Result<Share, Error> {
    if !plan.cpus.is_empty() {
        let cpu = plan.cpus[index % plan.cpus.len()];
        cpu::pin(&[cpu]).map_err(|failed| failed.error(format!("run on CPU {cpu}")))?;
    }
    // Without it an open loop only lags up to 50 µs more, and says so.
    let _ = cpu::exact_timers();
    let ring = Ring::new(RingSettings::CLIENT)
        .map_err(|errno| system(format!("cannot make a ring: {errno}")))?;
    Ok(drive(Client::new(ring, job), shared, &shared.threads[index]))
}

/// Turns until the client is done.
fn drive<I: Io + Connects>(mut client: Client<I>, shared: &Shared, progress: &Progress) -> Share {
    let mut done: Vec<Completion> = Vec::new();
    let (mut phase, mut publish_at) = (Phase::Connecting, client.now());
    let (mut first, mut usage) = (None, None);
    loop {
        let mut deadline = client.turn(&mut done);
        if client.phase() != phase {
            phase = client.phase();
            publish_at = client.now();
            match phase {
                Phase::Measuring => first = Some(Usage::of_thread()),
                Phase::Draining | Phase::Closing if usage.is_none() => {
                    usage = first.map(|first| Usage::of_thread() - first);
                }
                Phase::Done => break,
                Phase::Connecting
                | Phase::Ready
                | Phase::WarmUp
                | Phase::Draining
                | Phase::Closing => {}
            }
        }
        if client.now() >= publish_at {
            progress.publish(&client);
            publish_at = client.now().after(PERIOD / 2);
            if shared.stop.load(Ordering::Acquire) && phase < Phase::Closing {
                client.stop();
                continue;
            }
        }
        let begin = shared.begin.load(Ordering::Acquire);
        if client.is_waiting() && begin != 0 {
            client.begin(Instant::from_nanos(begin));
            continue;
        }
        let limit = client.now().after(if phase == Phase::Ready { SOON } else { PERIOD / 2 });
        deadline = Some(deadline.map_or(limit, |deadline| deadline.min(limit)));
        client.wait(deadline, &mut done);
    }
    let measured = client.measured();
    Share { tally: client.into_tally(), usage: usage.unwrap_or_default(), measured }
}

impl Progress {
    fn publish<I: Io + Connects>(&self, client: &Client<I>) {
        let tally = client.tally();
        self.open.store(client.open() as u64, Ordering::Relaxed);
        self.replies.store(tally.replies, Ordering::Relaxed);
        let failures =
            [Of::Connect, Of::Request, Of::Connection].map(|of| tally.failures.total(of));
        self.failures.store(failures.iter().sum(), Ordering::Relaxed);
        self.phase.store(client.phase() as u8, Ordering::Release);
    }
}

const PHASES: [Phase; 7] = [
    Phase::Connecting,
    Phase::Ready,
    Phase::WarmUp,
    Phase::Measuring,
    Phase::Draining,
    Phase::Closing,
    Phase::Done,
];
/// How often the watcher is told.
const PERIOD: Duration = Duration::from_millis(100);
/// How soon a thread sees that all begin.
const SOON: Duration = Duration::from_millis(2);
/// Descriptors besides the connections: rings, standard streams, /proc.
const SPARE_FDS: u64 = 320;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

    #[test]
    fn of_several_addresses_the_first_that_takes_a_connection() {
        let both = |port: u16| {
            let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            [six, SocketAddr::from((Ipv4Addr::LOCALHOST, port))].map(Address::Tcp)
        };
        let pick = |addresses: &[Address]| reachable(addresses.to_vec(), Duration::from_secs(5));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let [six, four] = both(listener.local_addr().unwrap().port());
        assert_eq!(pick(&[six.clone(), four.clone()]), Some(four.clone()));
        assert_eq!(pick(&[four.clone(), six.clone()]), Some(four.clone()));
        assert_eq!(pick(std::slice::from_ref(&six)), Some(six.clone()), "the run says why");
        drop(listener);
        assert_eq!(pick(&[six.clone(), four]), Some(six));
    }
}
