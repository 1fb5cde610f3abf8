//! Which worker gets the next connection: the trait, and two of its four users. Pure.

mod guard;
mod sticky;
mod weighted;

use crate::config::Balancing;
use crate::io::{Fd, Peer};
#[doc(hidden)]
pub use guard::{Guard, Seen};
use std::fmt;
use std::net::SocketAddr;
pub use sticky::Sticky;
pub use weighted::{Weighted, Weights};

/// What the master knows of a worker when it picks. A worker is known by its slot: the index in the
/// list of loads, the same for the process that follows when one dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections it could take now. 0: not ready, full, or without credits; not to be picked.
    pub room: u32,
    /// Connections it has, those in transit to it included.
    pub connections: u64,
    /// Requests it is answering now.
    pub active: u64,
}

/// Who connects. The address is looked up only when a balancer asks: that is a system call.
#[derive(Clone, Copy)]
pub struct Client<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    Known(Option<SocketAddr>),
    Connection(&'a Fd, fn(&Fd) -> Peer),
}

impl<'a> Client<'a> {
    /// The client at the other end of a connection.
    #[must_use]
    pub(crate) fn of(connection: &'a Fd, lookup: fn(&Fd) -> Peer) -> Self {
        Self(Source::Connection(connection, lookup))
    }

    /// A client at this address, or at none (a Unix socket): for the tests of a balancer.
    #[must_use]
    pub const fn at(address: Option<SocketAddr>) -> Self {
        Self(Source::Known(address))
    }

    /// Its address; `None` on a Unix socket, or when it has gone.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self.0 {
            Source::Known(address) => address,
            Source::Connection(connection, lookup) => lookup(connection).address(),
        }
    }
}

impl fmt::Debug for Client<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// Picks a worker for each connection that the master hands over. It lives in the master, as long
/// as that, and may keep state.
///
/// ```
/// use ringfort::balancer::{Balancer, Client, Load};
///
/// /// Everything to the first worker that has room.
/// struct First;
///
/// impl Balancer for First {
///     fn pick(&mut self, _client: &Client<'_>, loads: &[Load]) -> Option<usize> {
///         loads.iter().position(|load| load.room > 0)
///     }
/// }
///
/// ringfort::Pool::bind("127.0.0.1:0").balancer(First);
/// ```
///
/// A mistake in it stops nothing: a pick without room, or out of range, goes to the worker with the
/// fewest connections; a panic is caught, told as an event, and least connections serve on.
pub trait Balancer {
    /// The index of a worker with [`Load::room`] above 0; `None` when no worker has room, or to let
    /// the connection (and all behind it) wait. It is counted in `loads` before the next call.
    fn pick(&mut self, client: &Client<'_>, loads: &[Load]) -> Option<usize>;

    /// So many connections more are with this worker: handed over, or accepted by itself. Told at
    /// the next pass of the master, from the counters; no message is sent.
    fn on_established(&mut self, worker: usize, count: u64) {
        let _ = (worker, count);
    }

    /// This worker has closed so many of its connections. Told at the next pass of the master.
    fn on_closed(&mut self, worker: usize, count: u64) {
        let _ = (worker, count);
    }

    /// The process of this slot takes nothing any more: it died, or drains. Its connections are
    /// forgotten here, and [`Balancer::on_closed`] does not tell of them. Another process follows
    /// in the slot, mostly.
    fn on_worker_removed(&mut self, worker: usize) {
        let _ = worker;
    }

    /// Forget everything: before the first pick, and when all workers are other ones.
    fn reset(&mut self) {}

    /// What operators see as `balancer`.
    fn name(&self) -> &'static str {
        "own"
    }
}

impl<B: Balancer + ?Sized> Balancer for Box<B> {
    fn pick(&mut self, client: &Client<'_>, loads: &[Load]) -> Option<usize> {
        (**self).pick(client, loads)
    }

    fn on_established(&mut self, worker: usize, count: u64) {
        (**self).on_established(worker, count);
    }

    fn on_closed(&mut self, worker: usize, count: u64) {
        (**self).on_closed(worker, count);
    }

    fn on_worker_removed(&mut self, worker: usize) {
        (**self).on_worker_removed(worker);
    }

    fn reset(&mut self) {
        (**self).reset();
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }
}

/// The balancer of a configuration; `weights` are what [`Weighted`] goes by.
#[must_use]
pub fn balancer(balancing: Balancing, weights: Weights) -> Box<dyn Balancer> {
    match balancing {
        Balancing::LeastConnections => Box::new(LeastConnections::default()),
        Balancing::RoundRobin => Box::new(RoundRobin::default()),
        Balancing::Weighted => Box::new(Weighted::new(weights)),
        Balancing::Sticky => Box::new(Sticky::default()),
    }
}

/// The fewest connections; of those the fewest active requests; of those the next in turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastConnections {
    next: usize,
}

impl Balancer for LeastConnections {
    fn pick(&mut self, _: &Client<'_>, loads: &[Load]) -> Option<usize> {
        let index = in_turn(self.next, loads)
            .min_by_key(|&index| (loads[index].connections, loads[index].active))?;
        self.next = index + 1;
        Some(index)
    }

    fn reset(&mut self) {
        self.next = 0;
    }

    fn name(&self) -> &'static str {
        Balancing::LeastConnections.name()
    }
}

/// One after the other; who has no room is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin {
    next: usize,
}

impl Balancer for RoundRobin {
    fn pick(&mut self, _: &Client<'_>, loads: &[Load]) -> Option<usize> {
        let index = in_turn(self.next, loads).next()?;
        self.next = index + 1;
        Some(index)
    }

    fn reset(&mut self) {
        self.next = 0;
    }

    fn name(&self) -> &'static str {
        Balancing::RoundRobin.name()
    }
}

/// Those with room, from this index on and once around.
fn in_turn(next: usize, loads: &[Load]) -> impl Iterator<Item = usize> {
    let count = loads.len();
    (0..count).map(move |step| (next + step) % count).filter(|&index| loads[index].room > 0)
}

#[cfg(test)]
mod tests;
