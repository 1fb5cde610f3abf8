//! What an application does on signals, in the master and in workers. Pure: the loops read signals
//! from a descriptor and call in between two passes, so a handler may do anything that does not
//! block.

use crate::panics::contained;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

/// A signal that is the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserSignal {
    /// SIGUSR1; of workers only, since it means reload to the master.
    One,
    /// SIGUSR2.
    Two,
}

impl UserSignal {
    /// Its number (signal(7), Linux on x86-64 and aarch64).
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::One => 10,
            Self::Two => 12,
        }
    }
}

/// One handler that was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandlerId(u64);

/// Handlers and flags. A clone is the same manager; a worker's is its own from its fork on.
///
/// Several handlers of one kind are called in the order of their registration, with the number of
/// the signal where there is one. A handler may register and unregister others. One that panics is
/// not called again.
#[derive(Clone, Default)]
pub struct SignalManager(Rc<Inner>);

#[derive(Default)]
struct Inner {
    shutdown: Cell<bool>,
    reload: Cell<bool>,
    next: Cell<u64>,
    rows: RefCell<Vec<Row>>,
}

#[derive(Clone)]
struct Row {
    id: HandlerId,
    when: When,
    call: Rc<RefCell<dyn FnMut(u32)>>,
}

/// What a handler waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Shutdown,
    Reload,
    InMaster(UserSignal),
    InWorker(UserSignal),
}

impl SignalManager {
    /// No handlers, no flags.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls this once when the pool begins to end (in the master), or the worker (in a worker).
    pub fn on_shutdown(&self, mut call: impl FnMut() + 'static) -> HandlerId {
        self.register(When::Shutdown, move |_| call())
    }

    /// Calls this in the master whenever a reload is asked for, before it begins.
    pub fn on_reload(&self, mut call: impl FnMut() + 'static) -> HandlerId {
        self.register(When::Reload, move |_| call())
    }

    /// Calls this in the master on USR2 (its USR1 is reload).
    pub fn on_master_user2(&self, call: impl FnMut(u32) + 'static) -> HandlerId {
        self.register(When::InMaster(UserSignal::Two), call)
    }

    /// Calls this in each worker that gets the signal.
    pub fn on_worker(&self, signal: UserSignal, call: impl FnMut(u32) + 'static) -> HandlerId {
        self.register(When::InWorker(signal), call)
    }

    fn register(&self, when: When, call: impl FnMut(u32) + 'static) -> HandlerId {
        let id = HandlerId(self.0.next.replace(self.0.next.get() + 1));
        self.0.rows.borrow_mut().push(Row { id, when, call: Rc::new(RefCell::new(call)) });
        id
    }

    /// Forgets a handler; `false` if it was forgotten before.
    pub fn unregister(&self, id: HandlerId) -> bool {
        let mut rows = self.0.rows.borrow_mut();
        let before = rows.len();
        rows.retain(|row| row.id != id);
        rows.len() < before
    }

    /// How many handlers there are.
    #[must_use]
    pub fn handlers(&self) -> usize {
        self.0.rows.borrow().len()
    }

    /// Whether this process is asked to end.
    #[must_use]
    pub fn is_shutdown_requested(&self) -> bool {
        self.0.shutdown.get()
    }

    /// Whether a reload was asked for since the flags were reset.
    #[must_use]
    pub fn is_reload_requested(&self) -> bool {
        self.0.reload.get()
    }

    /// Forgets the flags and keeps the handlers.
    pub fn reset_flags(&self) {
        self.0.shutdown.set(false);
        self.0.reload.set(false);
    }

    /// Forgets flags and handlers.
    pub fn reset(&self) {
        self.reset_flags();
        self.0.rows.borrow_mut().clear();
    }

    /// This process begins to end.
    pub(crate) fn shutdown(&self) {
        if !self.0.shutdown.replace(true) {
            self.call(When::Shutdown, 0);
        }
    }

    /// A reload was asked for.
    pub(crate) fn reload(&self) {
        self.0.reload.set(true);
        self.call(When::Reload, 0);
    }

    /// The master got this signal; whether anybody was told.
    pub(crate) fn in_master(&self, number: u32) -> bool {
        number == UserSignal::Two.number() && self.call(When::InMaster(UserSignal::Two), number) > 0
    }

    /// The worker got this signal.
    pub(crate) fn in_worker(&self, number: u32) {
        for signal in [UserSignal::One, UserSignal::Two] {
            if signal.number() == number {
                self.call(When::InWorker(signal), number);
            }
        }
    }

    /// Whoever registers or unregisters in a handler changes the next call, or a handler that has
    /// not had its turn in this one.
    fn call(&self, when: When, number: u32) -> usize {
        let now: Vec<Row> =
            self.0.rows.borrow().iter().filter(|row| row.when == when).cloned().collect();
        let mut called = 0;
        for row in now {
            if !self.0.rows.borrow().iter().any(|other| other.id == row.id) {
                continue;
            }
            called += 1;
            // Borrowed by a call of itself only: the application raised no signal that gets here.
            let Ok(mut call) = row.call.try_borrow_mut() else { continue };
            if contained(|| call(number)).is_err() {
                self.unregister(row.id);
            }
        }
        called
    }
}

impl fmt::Debug for SignalManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalManager")
            .field("shutdown", &self.0.shutdown)
            .field("reload", &self.0.reload)
            .field("handlers", &self.handlers())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager, and what its handlers have said.
    fn log() -> (SignalManager, Rc<RefCell<String>>) {
        (SignalManager::new(), Rc::default())
    }

    fn says(log: &Rc<RefCell<String>>, word: &'static str) -> impl FnMut(u32) + 'static {
        let log = log.clone();
        move |number| log.borrow_mut().push_str(&format!("{word}{number} "))
    }

    #[test]
    fn each_signal_calls_its_own_handlers_in_order() {
        let (manager, said) = log();
        manager.on_worker(UserSignal::One, says(&said, "a"));
        manager.on_worker(UserSignal::Two, says(&said, "b"));
        manager.on_worker(UserSignal::One, says(&said, "c"));
        manager.on_master_user2(says(&said, "m"));
        manager.in_worker(10);
        manager.in_worker(12);
        manager.in_worker(15);
        assert!(manager.in_master(12));
        assert!(!manager.in_master(10), "that is reload");
        assert_eq!(*said.borrow(), "a10 c10 b12 m12 ");
        assert!(!SignalManager::new().in_master(12));
    }

    #[test]
    fn unregistered_is_not_called_and_the_others_are() {
        let (manager, said) = log();
        let first = manager.on_worker(UserSignal::One, says(&said, "a"));
        manager.on_worker(UserSignal::One, says(&said, "b"));
        assert!(manager.unregister(first));
        assert!(!manager.unregister(first));
        manager.in_worker(10);
        assert_eq!(*said.borrow(), "b10 ");
    }

    #[test]
    fn flags_are_set_once_and_reset_without_the_handlers() {
        let (manager, said) = log();
        let mut shut = says(&said, "shutdown");
        let mut load = says(&said, "reload");
        manager.on_shutdown(move || shut(0));
        manager.on_reload(move || load(0));
        assert!(!manager.is_shutdown_requested() && !manager.is_reload_requested());
        manager.shutdown();
        manager.shutdown();
        manager.reload();
        manager.reload();
        assert!(manager.is_shutdown_requested() && manager.is_reload_requested());
        assert_eq!(*said.borrow(), "shutdown0 reload0 reload0 ");
        manager.reset_flags();
        assert!(!manager.is_shutdown_requested() && !manager.is_reload_requested());
        assert_eq!(manager.handlers(), 2);
        manager.reset();
        assert_eq!(manager.handlers(), 0);
    }

    #[test]
    fn a_handler_may_change_the_list_and_may_panic_once() {
        let (manager, said) = log();
        let same = manager.clone();
        let late = says(&said, "late");
        let mut late = Some(late);
        manager.on_worker(UserSignal::One, move |_| {
            same.on_worker(UserSignal::One, late.take().expect("called twice"));
        });
        manager.on_worker(UserSignal::One, says(&said, "b"));
        manager.in_worker(10);
        assert_eq!(*said.borrow(), "b10 ", "registered for the next time");
        manager.in_worker(10);
        assert_eq!(*said.borrow(), "b10 b10 late10 ", "who panicked is gone, the others go on");
        assert_eq!(manager.handlers(), 2);
    }
}
