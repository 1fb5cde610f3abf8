//! The same client to the same worker: rendezvous hashing by address, with a bound on the load.
//! Pure.

use super::{Balancer, Client, LeastConnections, Load};
use crate::config::Balancing;
use std::net::IpAddr;

/// A client's connections go to one worker, chosen by its address, so that what that worker keeps
/// (a session, a cache) is found again.
///
/// Each worker has a rank for each client (rendezvous hashing); the highest with room is taken. So
/// when a worker goes, only its clients move, and when it comes back, they do. A worker with a
/// quarter more connections than the mean (and at least [`Sticky::SLACK`]) is passed over for the
/// next in rank, so that one busy network cannot drown it.
///
/// The ports of a client do not matter; of an IPv6 address the first 64 bits do, since one host has
/// all that follow. Clients without an address (Unix sockets) go by least connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sticky {
    others: LeastConnections,
}

impl Sticky {
    /// So many connections a worker may have whatever the mean is.
    pub const SLACK: u64 = 8;

    /// Most connections of a worker that still takes a client by rank: a quarter above the mean of
    /// those with room, the connection to come included.
    fn bound(loads: &[Load]) -> u64 {
        let open = loads.iter().filter(|load| load.room > 0);
        let (count, total) =
            open.fold((0, 1), |(count, total), load| (count + 1, total + load.connections));
        (total * 5).div_ceil(count.max(1) * 4).max(Self::SLACK)
    }
}

impl Balancer for Sticky {
    fn pick(&mut self, client: &Client<'_>, loads: &[Load]) -> Option<usize> {
        let Some(address) = client.address() else { return self.others.pick(client, loads) };
        let (key, bound) = (key(address.ip()), Self::bound(loads));
        let fits = |load: &Load| load.room > 0 && load.connections < bound;
        // Somebody fits if anybody has room: not all can be above their mean.
        (0_u64..)
            .zip(0..loads.len())
            .filter(|&(_, index)| fits(&loads[index]))
            .max_by_key(|&(slot, _)| mix(key ^ mix(slot)))
            .map(|(_, index)| index)
    }

    fn reset(&mut self) {
        self.others.reset();
    }

    fn name(&self) -> &'static str {
        Balancing::Sticky.name()
    }
}

/// What of an address stands for its client.
fn key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// Spreads every bit over all (the finalizer of SplitMix64, Steele and others, OOPSLA 2014). The
/// same in every build, so that a client finds its worker after an upgrade too.
const fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}
