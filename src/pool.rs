//! What an application builds and runs: a pool of workers behind one or more addresses.

mod info;

pub use info::{WorkerInfo, WorkerStatus};

use crate::boot;
use crate::config::{Config, ConfigError, Mode, Setters};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::handle::{self, Handle};
use crate::http::{Handler, Outcome, Request, Response};
use crate::io::{Address, Fd};
use crate::ipc::board::Build;
use crate::ipc::mail::MasterMail;
use crate::master::balancer::{Balancer, Weights};
use crate::panics::contained;
use crate::protocol::Protocol;
use crate::server::raw::RawHandler;
use crate::server::tasks::AsyncHandler;
use crate::server::{EventDriven, Job, born};
use crate::signals::SignalManager;
use crate::sys::{shm, socket};
use std::fmt;

/// A server to be: addresses, workers, limits. `serve` makes this process its master.
///
/// ```no_run
/// use ringfort::Pool;
///
/// fn main() -> Result<(), ringfort::Error> {
///     Pool::bind("127.0.0.1:8080")
///         .workers(0) // 0: every CPU this cgroup may use
///         .serve(|_req, res| res.text("Hello, World!")) // blocks until shutdown
/// }
/// ```
#[must_use = "a pool does nothing until it serves"]
pub struct Pool {
    config: Config,
    wrong: Option<ConfigError>,
    hooks: Hooks,
}

/// What of the application runs in the master. None of it may block.
pub(crate) struct Hooks {
    pub(crate) balancer: Option<Box<dyn Balancer>>,
    pub(crate) mail: Option<MasterMail>,
    pub(crate) started: Box<dyn FnMut(&Started)>,
    pub(crate) event: Box<dyn FnMut(&Event)>,
    pub(crate) reload: Option<boot::Hook>,
    pub(crate) calls: SignalManager,
    /// A control listener that was made before.
    pub(crate) control: Option<Fd>,
    /// Descriptors that are open already and that no worker gets.
    pub(crate) private: Vec<i32>,
    /// The board of another build; for tests.
    pub(crate) build: Option<Build>,
    /// Whether a new program of this process would come here again: not if another one forked it.
    pub(crate) upgradable: bool,
}

/// A configuration that was read anew.
#[derive(Debug)]
pub struct Reread {
    /// All of it.
    pub config: Config,
    /// Settings of the application's own that have changed and that only a restart applies, by
    /// name: they are said in the answer to the reload.
    pub restart: Vec<String>,
}

impl From<Config> for Reread {
    fn from(config: Config) -> Self {
        Self { config, restart: Vec::new() }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool that listens on `HOST:PORT`, `[IPv6]:PORT` or `unix:PATH`; port 0 takes a free one.
    pub fn bind(address: &str) -> Self {
        Self::with_config(Config::default()).and_bind(address)
    }

    /// A pool with settings made elsewhere.
    pub fn with_config(config: Config) -> Self {
        let hooks = Hooks {
            balancer: None,
            mail: None,
            started: Box::new(|_| {}),
            event: Box::new(|_| {}),
            reload: None,
            calls: SignalManager::new(),
            control: None,
            private: Vec::new(),
            build: None,
            upgradable: true,
        };
        Self { config, wrong: None, hooks }
    }

    /// Listens on one more address.
    pub fn and_bind(self, address: &str) -> Self {
        self.change(|config| config.add_address(address))
    }

    /// How many workers; 0: one per CPU that this process may use.
    pub fn workers(self, count: u32) -> Self {
        self.limits(|set| set.workers(u64::from(count)).map(drop))
    }

    /// How connections reach workers.
    pub fn mode(self, mode: Mode) -> Self {
        self.change(|config| {
            config.set_mode(mode);
            Ok(())
        })
    }

    /// Which worker the master picks: one of [`crate::balancer`], or your own. Selects centralized
    /// mode, unless another mode is asked for.
    pub fn balancer(mut self, balancer: impl Balancer + 'static) -> Self {
        self.hooks.balancer = Some(Box::new(balancer));
        self.config.set_own_balancer();
        self
    }

    /// Sets limits and timeouts:
    ///
    /// ```
    /// use std::time::Duration;
    /// ringfort::Pool::bind("127.0.0.1:0").limits(|set| {
    ///     set.head_timeout(Duration::from_secs(5))?.body_max(1 << 20)?;
    ///     Ok(())
    /// });
    /// ```
    pub fn limits(self, set: impl FnOnce(&mut Setters<'_>) -> Result<(), ConfigError>) -> Self {
        self.change(|config| set(&mut config.setters()))
    }

    /// Counts on a board as another build would lay it out. For tests of upgrades.
    #[doc(hidden)]
    pub fn board_of(mut self, build: Build) -> Self {
        self.hooks.build = Some(build);
        self
    }

    fn change(mut self, change: impl FnOnce(&mut Config) -> Result<(), ConfigError>) -> Self {
        // The first mistake is the one to report.
        let result = change(&mut self.config);
        self.wrong = self.wrong.take().or_else(|| result.err());
        self
    }

    /// Gives the pool messages of the application's own between master and workers: JSON, up to
    /// `message_max` bytes each, on a stream beside each worker's channel. Workers find their end
    /// with [`WorkerInfo::mail`].
    ///
    /// ```no_run
    /// use ringfort::Pool;
    /// use ringfort::channel::{Map, MasterMail, Message};
    /// use ringfort::http::{Request, Response};
    ///
    /// fn main() -> Result<(), ringfort::Error> {
    ///     let mail = MasterMail::new();
    ///     let copy = mail.clone();
    ///     // Runs in the master: what one worker says, all hear.
    ///     mail.on_message(move |_slot, message| drop(copy.broadcast(&message)));
    ///     Pool::bind("127.0.0.1:8080").messages(&mail).serve_with(|worker| {
    ///         let mail = worker.mail();
    ///         mail.on_message(|message| eprintln!("{:?}", message.data));
    ///         move |_req: &Request<'_>, res: &mut Response| {
    ///             let told = mail.send(&Message::worker_metrics(Map::new(), 0.0));
    ///             res.text(format!("{told:?}"));
    ///         }
    ///     })
    /// }
    /// ```
    pub fn messages(mut self, mail: &MasterMail) -> Self {
        self.hooks.mail = Some(mail.clone());
        self
    }

    /// Calls this once the pool listens, before the first worker is forked. Must not block.
    pub fn on_started(mut self, started: impl FnMut(&Started) + 'static) -> Self {
        self.hooks.started = Box::new(started);
        self
    }

    /// Calls this in the master for everything that happens. Must not block. A panic is caught.
    pub fn on_event(mut self, mut event: impl FnMut(&Event) + 'static) -> Self {
        self.hooks.event = Box::new(move |what| {
            let _ = contained(|| event(what));
        });
        self
    }

    /// Reads the configuration anew, for a reload (HUP, USR1). It is called in a throw-away child
    /// of the master: an error, a panic or a crash there ends the reload, and the pool serves on.
    /// What has changed reaches the new workers; what only a restart can change is said.
    ///
    /// Without it a reload makes new workers with the same configuration: their handlers are made
    /// anew, with whatever those read.
    pub fn on_reload<R: Into<Reread>, E: fmt::Display>(
        mut self,
        mut reread: impl FnMut() -> Result<R, E> + 'static,
    ) -> Self {
        let hook = move || reread().map(Into::into).map_err(|error| error.to_string());
        self.hooks.reload = Some(Box::new(hook));
        self
    }

    /// What the application does on signals. The caller may keep a clone.
    pub fn signals(mut self, signals: SignalManager) -> Self {
        self.hooks.calls = signals;
        self
    }

    /// Serves with one function; blocks until TERM, INT or QUIT, and until what runs has finished.
    ///
    /// The handler is what it is at this moment in every worker: each has its own copy of the
    /// process's memory. For state made after the fork use [`Pool::serve_with`].
    ///
    /// # Errors
    ///
    /// A wrong setting, an address that cannot be listened on, a machine without a usable
    /// io_uring, more than one thread in this process, workers that never came up.
    pub fn serve<F, R>(self, handler: F) -> Result<(), Error>
    where
        F: FnMut(&Request<'_>, &mut Response) -> R + 'static,
        R: Outcome,
    {
        let mut handler = Some(handler);
        // Only a worker calls this, and a worker calls it once: the master's own copy stays.
        self.run(move |_| handler.take().map(born::handler).ok_or(TAKEN))
    }

    /// Serves with a handler that each worker makes for itself after the fork: connections to a
    /// database, caches, threads.
    ///
    /// # Errors
    ///
    /// As [`Pool::serve`].
    pub fn serve_with<H: Handler + 'static>(
        self,
        mut factory: impl FnMut(&WorkerInfo) -> H + 'static,
    ) -> Result<(), Error> {
        self.run(move |info| Ok::<_, &str>(born::handler(factory(info))))
    }

    /// As [`Pool::serve_with`], for a factory that can fail: the worker then reports why and ends,
    /// and is started again with back-off; when no worker ever comes up, the pool ends with the
    /// reasons.
    ///
    /// # Errors
    ///
    /// As [`Pool::serve`].
    pub fn try_serve_with<H: Handler + 'static, E: fmt::Display>(
        self,
        mut factory: impl FnMut(&WorkerInfo) -> Result<H, E> + 'static,
    ) -> Result<(), Error> {
        self.run(move |info| factory(info).map(born::handler))
    }

    /// As [`Pool::serve`], in a process of its own: forks the master, returns when it listens, and
    /// gives back what it is asked and commanded by. The pool outlives the handle, and this
    /// process: `stop` it. Call it before any thread is started.
    ///
    /// # Errors
    ///
    /// As [`Pool::serve`], but for workers that never come up: [`Handle::wait`] says so, and why.
    pub fn spawn<F, R>(self, handler: F) -> Result<Handle, Error>
    where
        F: FnMut(&Request<'_>, &mut Response) -> R + 'static,
        R: Outcome + 'static,
    {
        let mut handler = Some(handler);
        self.try_spawn_with(move |_| handler.take().ok_or(TAKEN))
    }

    /// As [`Pool::try_serve_with`], in a process of its own; see [`Pool::spawn`].
    ///
    /// # Errors
    ///
    /// As [`Pool::spawn`].
    pub fn try_spawn_with<H: Handler + 'static, E: fmt::Display + 'static>(
        self,
        factory: impl FnMut(&WorkerInfo) -> Result<H, E> + 'static,
    ) -> Result<Handle, Error> {
        self.spawn_as(|pool| pool.try_serve_with(factory))
    }

    /// Any other kind of worker in a process of its own; see [`Pool::spawn`]:
    /// `pool.spawn_as(|pool| pool.run_workers(application))`.
    ///
    /// # Errors
    ///
    /// As [`Pool::spawn`].
    pub fn spawn_as(
        self,
        serve: impl FnOnce(Self) -> Result<(), Error> + 'static,
    ) -> Result<Handle, Error> {
        let control = self.config.control().map(|path| path.display().to_string());
        let serve = move |lent: Option<Fd>, reporter: handle::Reporter| {
            let mut pool = self;
            let mut started = std::mem::replace(&mut pool.hooks.started, Box::new(|_| {}));
            pool.hooks.private = reporter.descriptors();
            pool.hooks.private.extend(lent.as_ref().map(Fd::raw));
            pool.hooks.control = lent;
            pool.hooks.upgradable = false;
            pool.hooks.started = Box::new(move |facts| {
                started(facts);
                reporter.started(facts);
            });
            serve(pool)
        };
        handle::spawn(control, Box::new(serve))
    }

    /// Serves with a loop of the application's own in each worker: see [`crate::server`].
    ///
    /// # Errors
    ///
    /// As [`Pool::serve`].
    pub fn run_workers(self, application: impl EventDriven + 'static) -> Result<(), Error> {
        let mut application = Some(application);
        self.run(move |_| application.take().map(born::event_driven).ok_or(TAKEN))
    }

    /// Serves with a future for each request: see [`crate::server::tasks`]. `factory` runs in each
    /// worker after the fork.
    ///
    /// # Errors
    ///
    /// As [`Pool::serve`].
    pub fn serve_async<F: AsyncHandler + 'static>(
        self,
        mut factory: impl FnMut(&WorkerInfo) -> F + 'static,
    ) -> Result<(), Error> {
        self.run(move |info| Ok::<_, &str>(born::tasks(factory(info))))
    }

    /// Gives each connection away as an owned socket: see [`crate::server::raw`]. Each worker has
    /// so many threads (1 to 1,024), each a copy of the handler, and holds no more connections than
    /// that; what comes meanwhile goes to other workers or waits (`pending_timeout`).
    ///
    /// # Errors
    ///
    /// As [`Pool::serve`]; a number of threads out of range.
    pub fn serve_raw(self, threads: u32, handler: impl RawHandler + Clone) -> Result<(), Error> {
        if !(1..=1024).contains(&threads) {
            return Err(Error::new(ErrorKind::Config, "threads: expected 1 to 1024"));
        }
        let pool = self.limits(|set| set.connections_max(u64::from(threads)).map(drop));
        pool.run(move |_| Ok::<_, &str>(born::raw(threads as usize, handler.clone())))
    }

    /// Serves a protocol of the application's own on the worker's transport (slots, buffers,
    /// timers, back-pressure, drain): see [`crate::protocol`]. `factory` runs in each worker after
    /// the fork. A panic of a protocol ends its worker, which is replaced.
    ///
    /// # Errors
    ///
    /// As [`Pool::serve`].
    pub fn serve_protocol<P: Protocol + 'static>(
        self,
        mut factory: impl FnMut(&WorkerInfo) -> P + 'static,
    ) -> Result<(), Error> {
        self.run(move |info| Ok::<_, &str>(born::protocol(factory(info))))
    }

    fn run<E: fmt::Display>(
        self,
        factory: impl FnMut(&WorkerInfo) -> Result<Job, E> + 'static,
    ) -> Result<(), Error> {
        if let Some(wrong) = self.wrong {
            return Err(wrong.into());
        }
        boot::run(self.config, self.hooks, factory)
    }
}

/// Nobody sees it: a worker asks its factory once.
const TAKEN: &str = "the handler is taken";

impl Weights {
    /// Weights for a [`Weighted`](crate::balancer::Weighted) balancer, in memory that all processes
    /// of the pool share: the first slots get these, all others 1. Make them before the pool
    /// starts.
    ///
    /// # Errors
    ///
    /// Out of descriptors or memory.
    pub fn new(first: &[u32]) -> Result<Self, Error> {
        let made = shm::create(Self::SLOTS_MAX).map_err(|failed| failed.error("the weights"))?;
        socket::close(made.fd);
        Ok(Self::over(made.words, first))
    }
}

/// What the pool is, once it listens.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where it listens, with the ports it got.
    pub addresses: Vec<Address>,
    /// The mode in use; never `Auto`.
    pub mode: Mode,
    /// Why that mode.
    pub mode_reason: String,
    /// How many workers.
    pub workers: u32,
    /// Why that many.
    pub workers_reason: String,
    /// Connections a worker may hold, after what RLIMIT_NOFILE allows.
    pub connections_max: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Where health is answered, with the port that it got.
    pub health: Option<Address>,
    /// RLIMIT_NOFILE before and after it was raised.
    pub descriptors: (u64, u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mistake_is_reported() {
        let error = Pool::bind("nowhere").workers(5000).serve(|_, res| res.text("")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}
