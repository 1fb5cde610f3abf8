//! A whole pool on the simulated kernel: the real master and workers, their clients and everything
//! that can go wrong, in one thread, from one seed.

use crate::config::{Config, Mode};
use crate::event::Event;
use crate::http::{Handler, Http};
use crate::io::{Completion, Instant, Purpose};
use crate::ipc::board::Board;
use crate::master::balancer::{Balancer, LeastConnections};
use crate::master::{Master, MasterListener, Parts, Report};
use crate::signals::SignalManager;
use crate::sim::{Answered, FaultPlan, Kernel, ProcessId, Ratio, Sizes, Stepper, Violation, World};
use crate::worker::{self, Worker};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The time of the simulated machine.
#[derive(Clone, Debug)]
pub struct Clock(Rc<Cell<Instant>>);

impl Clock {
    /// Since the machine was started.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.get().since(Instant::default())
    }
}

/// What a simulated worker is told when its handler is made.
#[derive(Clone, Debug)]
pub struct SimulatedWorker {
    /// Which slot it fills.
    pub slot: u32,
    /// How often the slot was filled before.
    pub generation: u32,
    /// What time it is.
    pub clock: Clock,
}

/// A pool for a test. Every request that is asked is answered, or the test hears why not; a worker
/// may be killed at any moment, and the promises of the engine are checked after every step.
///
/// ```
/// use ringfort::testing::SimulatedPool;
///
/// // 2 workers, everything else drawn from the seed 7.
/// let mut pool = SimulatedPool::new(7, 2, |worker| {
///     let slot = worker.slot;
///     move |req: &ringfort::http::Request<'_>, res: &mut ringfort::http::Response| {
///         res.text(format!("{} by {slot}", req.path()));
///     }
/// });
/// pool.kill_workers();
/// for number in 0..20 {
///     pool.ask(&format!("/{number}"));
/// }
/// let answers = pool.run().unwrap();
/// assert_eq!(answers.len(), 20);
/// assert!(answers.iter().all(|answer| answer.status == 200));
/// ```
pub struct SimulatedPool {
    world: World,
    master: ProcessId,
    up: Rc<Cell<bool>>,
    clock: Rc<Cell<Instant>>,
    report: Rc<RefCell<Option<Report>>>,
    faults: FaultPlan,
    asked: usize,
}

struct MasterLoop {
    master: Master<Kernel>,
    report: Rc<RefCell<Option<Report>>>,
}

impl Stepper for MasterLoop {
    fn turn(&mut self, done: &mut Vec<Completion>) -> Option<Instant> {
        let deadline = self.master.turn(done);
        let report = self.master.report();
        assert!(report.balances(), "the ledger does not balance: {report:?}");
        deadline
    }

    fn wait(&mut self, deadline: Option<Instant>, done: &mut Vec<Completion>) {
        self.master.wait(deadline, done);
    }

    fn exit(&mut self) -> Option<i32> {
        self.master.is_done().then(|| {
            *self.report.borrow_mut() = Some(self.master.report());
            0
        })
    }
}

impl SimulatedPool {
    /// A pool in centralized mode with the default configuration and least connections.
    #[must_use]
    pub fn new<H: Handler + 'static>(
        seed: u64,
        workers: u32,
        factory: impl FnMut(&SimulatedWorker) -> H + 'static,
    ) -> Self {
        Self::with(seed, workers, &Config::default(), LeastConnections::default(), factory)
    }

    /// A pool with this configuration (its addresses do not matter) and this balancer.
    /// Shared-socket mode if the configuration asks for it.
    #[must_use]
    pub fn with<H: Handler + 'static>(
        seed: u64,
        workers: u32,
        config: &Config,
        balancer: impl Balancer + 'static,
        factory: impl FnMut(&SimulatedWorker) -> H + 'static,
    ) -> Self {
        let mut world = World::new(seed, FaultPlan::NONE, Sizes::default(), false);
        let lines = workers * 3;
        let memory = (0..Board::words(lines)).map(|_| AtomicU64::new(0)).collect();
        let board = Board::create(Vec::leak(memory), lines);
        let (master, kernel) = world.process("master");
        let shared = config.mode() == Mode::Shared;
        let slots = if shared { (0..workers).map(Some).collect() } else { vec![None] };
        let listener = |slot| MasterListener { address: 0, slot, fd: world.listener(master) };
        let listeners = slots.into_iter().map(listener).collect();
        let (up, report) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(None)));
        let is_up = Rc::clone(&up);
        let parts = Parts {
            listeners,
            signals: world.signals(master),
            board,
            workers,
            workers_max: workers,
            mode: if shared { Mode::Shared } else { Mode::Centralized },
            groups: vec![0],
            balancer: Box::new(balancer),
            pid1: false,
            seed,
            calls: SignalManager::new(),
            admin: crate::admin::Parts::default(),
            events: Box::new(move |event| {
                is_up.set(is_up.get() || matches!(event, Event::WorkerReady { .. }));
            }),
        };
        let master_loop =
            MasterLoop { master: Master::new(kernel, parts, config), report: Rc::clone(&report) };
        world.start(master, Box::new(master_loop));
        let clock = Rc::new(Cell::new(Instant::default()));
        run_workers(&mut world, board, config.clone(), Clock(Rc::clone(&clock)), factory);
        Self { world, master, up, clock, report, faults: FaultPlan::NONE, asked: 0 }
    }

    /// What goes wrong from the first request on, besides what always may.
    pub fn faults(&mut self, faults: FaultPlan) {
        self.faults = faults;
    }

    /// Workers are killed at random moments; who had asked them asks again.
    pub fn kill_workers(&mut self) {
        self.faults.worker_killed = Ratio::new(1, 200);
    }

    /// A client asks for this, at once.
    pub fn ask(&mut self, target: &str) {
        self.ask_at(Duration::ZERO, target, b"", None);
    }

    /// A client at this address sends this body (none: GET, else POST), so long after the pool is
    /// up. It opens a connection of its own, and asks again if its worker dies.
    pub fn ask_at(&mut self, after: Duration, target: &str, body: &[u8], from: Option<SocketAddr>) {
        let at = Instant::default().after(STARTED).after(after);
        self.world.ask(target, body, from, at);
        self.asked += 1;
    }

    /// Runs until everybody is answered, then drains the pool. The answers come in the order in
    /// which they were asked.
    ///
    /// # Errors
    ///
    /// What the engine did wrong, or a client that was never answered.
    pub fn run(mut self) -> Result<Vec<Answered>, Violation> {
        let up = Rc::clone(&self.up);
        self.run_until("a worker serves", |_| up.get())?;
        self.world.set_faults(self.faults.clone());
        self.run_until("everybody is answered", World::clients_done)?;
        let answers = self.world.take_answers();
        if answers.len() != self.asked {
            return Err(Violation::from(format!("{} answers to {}", answers.len(), self.asked)));
        }
        self.world.set_faults(FaultPlan::NONE);
        self.world.signal(self.master, SIGTERM);
        self.world.run_until(|_| false)?;
        self.world.check_empty()?;
        match self.report.take() {
            Some(report) if report.open == 0 => Ok(answers),
            report => Err(Violation::from(format!("the pool did not drain: {report:?}"))),
        }
    }

    fn run_until(
        &mut self,
        what: &str,
        mut enough: impl FnMut(&World) -> bool,
    ) -> Result<(), Violation> {
        let clock = Rc::clone(&self.clock);
        let done = self.world.run_until(|world| {
            clock.set(world.now());
            enough(world)
        })?;
        let quiet = || Violation::from(format!("nothing happens any more before {what}"));
        if done { Ok(()) } else { Err(quiet()) }
    }
}

fn run_workers<H: Handler + 'static>(
    world: &mut World,
    board: Board,
    config: Config,
    clock: Clock,
    mut factory: impl FnMut(&SimulatedWorker) -> H + 'static,
) {
    world.workers(
        board,
        Box::new(move |kernel, boot| {
            let (slot, generation) = (boot.slot, boot.generation);
            let handler = factory(&SimulatedWorker { slot, generation, clock: clock.clone() });
            let parts = worker::Parts {
                slot,
                channel: boot.channel,
                signals: Some(boot.signals),
                listeners: boot.listeners,
                waits: boot.purpose == Purpose::Succeed,
                line: board.line(boot.line),
                access_log: None,
                calls: SignalManager::new(),
            };
            Box::new(Worker::new(kernel, Http::new(handler, &config), parts, &config))
        }),
    );
}

impl fmt::Debug for SimulatedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedPool").field("asked", &self.asked).finish_non_exhaustive()
    }
}

const SIGTERM: u32 = 15;
/// When clients begin, on a machine whose clock begins at one second: by then workers are up.
const STARTED: Duration = Duration::from_secs(2);
