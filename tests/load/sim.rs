//! The client and the server's worker, both on the simulated kernel: time is exact there, so that
//! every figure can be worked out by hand.

use ringfort::config::Config;
use ringfort::http::{Handler, Http, Request, Response};
use ringfort::io::{Address, Completion, Instant};
use ringfort::ipc::board::Board;
use ringfort::load::run::{Client, Job, Phase, References};
use ringfort::load::{Arrivals, Capacity, Failure, Latency, Pace, Plan, Tally, Template, Trial};
use ringfort::signals::SignalManager;
use ringfort::sim::{FaultPlan, Kernel, Sizes, Stepper, World};
use ringfort::worker::{Parts, Worker};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Answers `Hello`, the request of this number after this time.
struct App {
    count: u64,
    delay: Box<Delay>,
    clock: Rc<Cell<Instant>>,
}

/// Of the request of this number, at this time.
type Delay = dyn Fn(u64, Instant) -> Duration;

impl Handler for App {
    fn handle(&mut self, _: &Request<'_>, response: &mut Response) {
        let delay = (self.delay)(self.count, self.clock.get());
        self.count += 1;
        if delay.is_zero() {
            response.text("Hello");
        } else {
            response.after(delay, |later| later.text("Hello"));
        }
    }
}

struct WorkerLoop(Worker<Kernel, Http<App>>);

impl Stepper for WorkerLoop {
    fn turn(&mut self, done: &mut Vec<Completion>) -> Option<Instant> {
        self.0.turn(done)
    }

    fn wait(&mut self, deadline: Option<Instant>, done: &mut Vec<Completion>) {
        self.0.wait(deadline, done);
    }

    fn exit(&mut self) -> Option<i32> {
        None
    }
}

struct ClientLoop {
    client: Option<Client<Kernel>>,
    /// It is stopped so long after it began.
    stop: Option<Duration>,
    begin: Option<Instant>,
    clock: Rc<Cell<Instant>>,
    result: Rc<RefCell<Option<Tally>>>,
}

impl Stepper for ClientLoop {
    fn turn(&mut self, done: &mut Vec<Completion>) -> Option<Instant> {
        let Some(client) = &mut self.client else { return None };
        let deadline = client.turn(done);
        self.clock.set(client.now());
        if client.is_waiting() {
            self.begin = Some(client.now());
            client.begin(client.now());
            return client.turn(done);
        }
        let stop = self.begin.zip(self.stop).map(|(begin, stop)| begin.after(stop));
        if stop.is_some_and(|stop| stop <= client.now()) {
            self.stop = None;
            client.stop();
            return client.turn(done);
        }
        deadline
    }

    fn wait(&mut self, deadline: Option<Instant>, done: &mut Vec<Completion>) {
        self.client.as_mut().expect("it has not ended").wait(deadline, done);
    }

    fn exit(&mut self) -> Option<i32> {
        let is_over = self.client.as_ref()?.phase() == Phase::Done;
        is_over.then(|| {
            *self.result.borrow_mut() = self.client.take().map(Client::into_tally);
            0
        })
    }
}

fn job(pace: Pace, connections: u32) -> Job {
    let target = Plan::new("http://sim/").unwrap().target().clone();
    let templates = [Template::build(&target, "GET", &[], &[]).unwrap()];
    Job {
        address: Address::Unix("any".into()),
        references: References::new(&templates),
        templates: templates.into(),
        share: (0, 1),
        connections,
        pipeline: 1,
        requests_per_connection: None,
        pace,
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        seed: 1,
    }
}

fn constant(rate: f64) -> Pace {
    Pace::Open { arrivals: Arrivals::Constant, from: rate, to: rate }
}

#[track_caller]
fn run(seed: u64, faults: FaultPlan, job: Job, delay: fn(u64) -> Duration) -> Tally {
    run_until(seed, faults, job, None, move |count, _| delay(count))
}

#[track_caller]
fn run_until(
    seed: u64,
    faults: FaultPlan,
    job: Job,
    stop: Option<Duration>,
    delay: impl Fn(u64, Instant) -> Duration + 'static,
) -> Tally {
    let mut world = World::new(seed, faults, Sizes::default(), false);
    let memory = (0..Board::words(1)).map(|_| AtomicU64::new(0)).collect();
    let board = Board::create(Vec::leak(memory), 1);
    let (server, kernel) = world.process("worker");
    let (channel, _master) = world.channel(server);
    let listeners = vec![(0, world.listener(server))];
    let (line, signals, access_log) = (board.line(0), None, None);
    let (waits, calls) = (false, SignalManager::new());
    let parts = Parts { slot: 0, channel, signals, calls, access_log, listeners, waits, line };
    let config = Config::default();
    let clock = Rc::new(Cell::new(Instant::from_nanos(0)));
    let app = App { count: 0, delay: Box::new(delay), clock: Rc::clone(&clock) };
    let worker = Worker::new(kernel, Http::new(app, &config), parts, &config);
    world.start(server, Box::new(WorkerLoop(worker)));
    let (client, kernel) = world.process("client");
    let result = Rc::new(RefCell::new(None));
    let client_of = Some(Client::new(kernel, job));
    let result_of = Rc::clone(&result);
    let stepper = ClientLoop { client: client_of, stop, begin: None, clock, result: result_of };
    world.start(client, Box::new(stepper));
    let ended = world.run_until(|_| result.borrow().is_some());
    assert!(ended.unwrap_or_else(|violation| panic!("seed {seed}: {violation}")));
    result.take().unwrap()
}

fn millis(latency: &Latency, quantile: f64) -> u64 {
    latency.value_at_quantile(quantile) / 1_000_000
}

/// How many took at least so long.
fn slow(latency: &Latency, millis: u64) -> u64 {
    latency.len() - latency.count_between(0, millis * 1_000_000)
}

#[test]
fn one_request_in_a_hundred_takes_20_ms() {
    let delay = |count: u64| Duration::from_millis(if count % 100 == 99 { 20 } else { 0 });
    let tally = run(1, FaultPlan::NONE, job(constant(1000.0), 8), delay);
    assert_eq!((tally.requests, tally.answered), (2000, 2000));
    for latency in [&tally.service, &tally.response] {
        assert_eq!(slow(latency, 19), 20, "1 in 100 of 2,000");
        // The 1,980th of 2,000 is the last fast one.
        for (quantile, want) in [(0.5, 0), (0.98, 0), (0.99, 0), (0.9905, 20), (0.999, 20)] {
            assert_eq!(millis(latency, quantile), want, "{quantile}");
        }
        assert_eq!(millis(latency, 1.0), 20);
    }
    assert!(millis(&tally.lag, 1.0) == 0);
}

/// Four connections are stuck for 500 ms; what is due meanwhile waits. Of 2,000 requests 500 come
/// in those 500 ms, and wait 500, 499, 498 … ms: so 200, the slowest tenth, take 300 ms and more,
/// and 100 take 400 and more. Who only looks at what was sent sees four slow requests.
#[test]
fn a_stop_of_500_ms_shows_as_it_must() {
    let delay = |count: u64| match count {
        1000..1004 => Duration::from_millis(1500 - count),
        _ => Duration::ZERO,
    };
    let tally = run(2, FaultPlan::NONE, job(constant(1000.0), 4), delay);
    assert_eq!((tally.requests, tally.answered), (2000, 2000));
    let near = |got: u64, want: u64| assert!(got.abs_diff(want) <= want / 20, "{got} for {want}");
    near(slow(&tally.response, 400), 100);
    near(slow(&tally.response, 300), 200);
    near(millis(&tally.response, 0.90), 300);
    near(millis(&tally.response, 0.95), 400);
    near(millis(&tally.response, 1.0), 500);
    assert_eq!(slow(&tally.service, 100), 4);
    assert_eq!(millis(&tally.lag, 1.0), 0, "the client itself was never late");
}

#[test]
fn a_closed_loop_asks_as_often_as_it_is_answered() {
    let tally = run(3, FaultPlan::NONE, job(Pace::Closed, 4), |_| Duration::from_millis(10));
    // Four connections, an answer each 10 ms and a bit, for two seconds.
    assert!((760..=800).contains(&tally.requests), "{}", tally.requests);
    assert_eq!(tally.answered, tally.requests);
    assert_eq!(millis(&tally.service, 0.5), 10);
}

#[test]
fn what_is_late_at_the_end_has_failed() {
    // One connection, and the first answer takes longer than the run and the timeout together.
    let job = Job { timeout: Duration::from_millis(500), ..job(constant(100.0), 1) };
    let tally = run(4, FaultPlan::NONE, job, |_| Duration::from_secs(60));
    assert_eq!((tally.requests, tally.answered), (200, 0));
    let (timeouts, unsent) =
        (tally.failures.get(Failure::Timeout), tally.failures.get(Failure::Unsent));
    assert_eq!(timeouts + unsent, 200);
    assert!((3..=5).contains(&timeouts), "one each 500 ms, and what the tick adds: {timeouts}");
    assert_eq!(tally.response.len(), 200, "they are latencies too");
    assert!(millis(&tally.response, 1.0) >= 2000);
    let failures: Vec<u64> = tally.seconds.iter().map(|second| second.failures).collect();
    assert_eq!(failures, [100, 100], "each counts in the second in which it was due");
}

/// A request was due each millisecond; the server stops at the 500th, and Ctrl-C comes at 1.5 s.
/// A thousand had to wait: 999, 998, 997 … ms.
#[test]
fn an_interrupt_does_not_hide_what_waits() {
    let delay = |count, _| Duration::from_secs(if count < 500 { 0 } else { 60 });
    let job = Job { timeout: Duration::from_secs(5), ..job(constant(1000.0), 4) };
    let stop = Some(Duration::from_millis(1500));
    let tally = run_until(5, FaultPlan::NONE, job, stop, delay);
    let near = |got: u64, want: u64| assert!(got.abs_diff(want) <= want / 20, "{got} for {want}");
    assert_eq!(tally.answered, 500);
    assert_eq!(tally.requests, tally.answered + tally.unfinished);
    assert_eq!(tally.failures.total(ringfort::load::Of::Request), 0);
    near(tally.unfinished, 1000);
    assert_eq!(tally.response.len(), tally.requests);
    near(slow(&tally.response, 500), 500);
    near(millis(&tally.response, 1.0), 1000);
    assert_eq!(slow(&tally.service, 900), 4, "of what was sent only four show it");
    assert_eq!(tally.seconds.len(), 2);
}

/// Before the clock starts there is nothing to count.
#[test]
fn an_interrupt_in_the_warm_up_counts_nothing() {
    let job = Job { warm_up: Duration::from_secs(1), ..job(constant(1000.0), 4) };
    let stop = Some(Duration::from_millis(500));
    let tally = run_until(6, FaultPlan::NONE, job, stop, |_, _| Duration::from_secs(60));
    assert_eq!((tally.requests, tally.unfinished, tally.replies), (0, 0, 0));
    assert_eq!((tally.seconds.len(), tally.connections.opened), (0, 4));
}

/// One request at a time, 2 ms each: 500 a second, and what comes faster waits on 64 connections.
/// Those hold a backlog of 64 requests, and that is no capacity.
#[test]
fn find_capacity_finds_the_ceiling_of_a_server_with_many_connections() {
    let mut capacity = Capacity::new(150.0, 0.02);
    while let Some(rate) = capacity.next() {
        let free = Cell::new(Instant::from_nanos(0));
        let one_by_one = move |_, now: Instant| {
            let done = free.get().max(now).after(Duration::from_millis(2));
            free.set(done);
            done.since(now)
        };
        let job = Job { timeout: Duration::from_secs(60), ..job(constant(rate), 64) };
        let tally = run_until(7, FaultPlan::NONE, job, None, one_by_one);
        assert_eq!(tally.answered, tally.requests, "at {rate}");
        let held = tally.second_half.is_kept_up_with(Arrivals::Constant);
        capacity.tell(if held { Trial::Held } else { Trial::Broken });
    }
    let found = capacity.found().unwrap();
    assert!((475.0..=525.0).contains(&found), "{found} for 500");
}

/// Whatever the kernel does, every request has exactly one fate and every connection comes back.
#[test]
fn every_seed_balances() {
    let seeds = std::env::var("LOAD_SEEDS").map_or(60, |count| count.parse().unwrap());
    for seed in 0..seeds {
        let mut prng = ringfort::sim::Prng::new(seed);
        let mut faults = FaultPlan::swarm(&mut prng);
        // A load generator without descriptors cannot go on, and says so; here it should.
        faults.no_fds = ringfort::sim::Ratio::NEVER;
        let pace = if seed % 2 == 0 { Pace::Closed } else { constant(400.0) };
        let job = Job {
            pipeline: 1 + u32::try_from(seed % 3).unwrap(),
            requests_per_connection: (seed % 5 == 0).then_some(3),
            ..job(pace, 5)
        };
        let tally = run(seed, faults, job, |count| Duration::from_millis(5 + count % 7));
        let failed = tally.failures.total(ringfort::load::Of::Request);
        assert_eq!(tally.requests, tally.answered + failed, "seed {seed}");
        assert!(tally.answered > 100, "seed {seed}: {tally:?}");
    }
}
