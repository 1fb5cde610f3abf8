//! How many requests a client may make in any window of time, counted over all workers. Pure: the
//! memory comes from outside.
//!
//! A client's row holds the times of its last requests, as many as the limit allows: one more is
//! allowed when the oldest of them is older than the window. So the limit is exact, in every window
//! and not only in aligned ones, and the time to wait is known to the nanosecond.
//!
//! Rows are shared by all workers and changed without locks: a worker that dies in the middle of a
//! change leaves a row that the next one completes. A row costs 8 bytes times the limit. Rows stand
//! in sets of 8; a client whose set is taken by others gets the row that was not used for
//! longest, with what is written in it. So when there are more clients than rows, a newcomer may be
//! refused too early and the one that it displaced begins anew; who is at its limit and goes on
//! asking keeps its row, and no row ever admits more than the limit.

use crate::network::number;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Rows a client may have: the width of its set.
const WAYS: usize = 8;

/// The table. Made before the fork: all workers have the same keys for hashing.
#[derive(Clone, Debug)]
pub struct RateTable {
    words: &'static [AtomicU64],
    limit: usize,
    window: u64,
    hasher: RandomState,
}

impl RateTable {
    /// Words of memory that so many clients take, each with so many requests in a window.
    #[must_use]
    pub const fn words(clients: usize, limit: usize) -> usize {
        clients.next_multiple_of(WAYS) * (ROW_HEAD + limit)
    }

    /// A table over zeroed memory of [`RateTable::words`] words or more, for a limit above 0.
    #[must_use]
    pub fn new(words: &'static [AtomicU64], limit: usize, window: Duration) -> Self {
        assert!(limit > 0 && words.len() >= Self::words(1, limit), "no room for a row");
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        Self { words, limit, window, hasher: RandomState::new() }
    }

    /// Counts a request of this client, at this time of a clock that all workers share. Clients in
    /// one /64 of IPv6 are one, and so are those without an address, of Unix sockets.
    ///
    /// # Errors
    ///
    /// The limit is reached: how long until the next request is allowed.
    pub fn admit(&self, client: Option<IpAddr>, now: u64) -> Result<(), Duration> {
        let network = client.map(|client| match client.to_canonical() {
            IpAddr::V4(_) => number(client),
            IpAddr::V6(_) => number(client) & !u128::from(u64::MAX),
        });
        // Zero marks a free row, and a clock may begin there.
        let key = self.hasher.hash_one(network).max(1);
        let now = now.max(1);
        let row = self.row(key, now);
        loop {
            match row.take(now, self.window) {
                Taken::Yes => return Ok(()),
                Taken::No(wait) => return Err(Duration::from_nanos(wait)),
                Taken::Again => {}
            }
        }
    }

    fn row(&self, key: u64, now: u64) -> Row<'_> {
        let size = ROW_HEAD + self.limit;
        let sets = self.words.len() / (size * WAYS);
        // Fewer sets than a `usize` can tell.
        let set = usize::try_from(key % sets as u64).unwrap_or(0) * WAYS;
        let rows = (set..set + WAYS).map(|at| Row(&self.words[at * size..(at + 1) * size]));
        loop {
            if let Some(row) = rows.clone().find(|row| row.key() == key) {
                return row;
            }
            let idle = |row: &Row<'_>| now.saturating_sub(row.newest());
            let Some(row) = rows.clone().max_by_key(idle) else { continue };
            let before = row.key();
            let taken =
                row.0[0].compare_exchange(before, key, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                return row;
            }
        }
    }
}

/// Words of a row before its times: the key, and how many requests were counted in it.
const ROW_HEAD: usize = 2;

struct Row<'a>(&'a [AtomicU64]);

enum Taken {
    Yes,
    No(u64),
    /// Somebody else changed the row meanwhile.
    Again,
}

impl Row<'_> {
    fn key(&self) -> u64 {
        self.0[0].load(Ordering::Relaxed)
    }

    fn time(&self, count: u64) -> &AtomicU64 {
        let times = &self.0[ROW_HEAD..];
        // The remainder is below a length.
        &times[usize::try_from(count % times.len() as u64).unwrap_or(0)]
    }

    fn newest(&self) -> u64 {
        let count = self.0[1].load(Ordering::Acquire);
        count.checked_sub(1).map_or(0, |last| self.time(last).load(Ordering::Acquire))
    }

    fn take(&self, now: u64, window: u64) -> Taken {
        let count = &self.0[1];
        let seen = count.load(Ordering::Acquire);
        let place = self.time(seen);
        let oldest = place.load(Ordering::Acquire);
        let age = now.saturating_sub(oldest);
        let is_full = oldest != 0 && age < window;
        if is_full {
            // The oldest cannot be younger than the one after it, unless somebody wrote its time
            // and has not counted it (with a limit of 1 it is the only one, and right as it is).
            let next = self.time(seen.wrapping_add(1)).load(Ordering::Acquire);
            let unfinished = oldest > next || count.load(Ordering::Acquire) != seen;
            if !unfinished {
                return Taken::No(window - age);
            }
        } else if place.compare_exchange(oldest, now, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.step(seen);
            return Taken::Yes;
        }
        self.step(seen);
        Taken::Again
    }

    fn step(&self, seen: u64) {
        let count = &self.0[1];
        let _ = count.compare_exchange(seen, seen + 1, Ordering::AcqRel, Ordering::Acquire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn memory(words: usize) -> &'static [AtomicU64] {
        Vec::leak((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn table(clients: usize, limit: usize, window: u64) -> RateTable {
        let words = RateTable::words(clients, limit);
        RateTable::new(memory(words), limit, Duration::from_nanos(window))
    }

    fn v4(number: u32) -> Option<IpAddr> {
        Some(Ipv4Addr::from_bits(number).into())
    }

    proptest! {
        /// One client, against a list of all its requests.
        #[test]
        fn exact_in_every_window(
            limit in 1_usize..6,
            steps in prop::collection::vec(0_u64..40, 1..200),
        ) {
            let table = table(1, limit, 100);
            let mut counted = VecDeque::new();
            let mut now = 1;
            for step in steps {
                now += step;
                let got = table.admit(v4(1), now);
                while counted.front().is_some_and(|at| now - at >= 100) {
                    counted.pop_front();
                }
                match counted.front() {
                    Some(oldest) if counted.len() == limit => {
                        prop_assert_eq!(got, Err(Duration::from_nanos(100 - (now - oldest))));
                    }
                    _ => {
                        prop_assert_eq!(got, Ok(()));
                        counted.push_back(now);
                    }
                }
            }
        }

        /// Any number of clients in a table that is too small for them.
        #[test]
        fn a_full_table_admits_no_more_than_its_rows_do(
            steps in prop::collection::vec((0_u32..40, 0_u64..9), 1..400),
        ) {
            let table = table(8, 3, 100);
            let mut counted = VecDeque::new();
            let mut now = 1;
            for (client, step) in steps {
                now += step;
                if table.admit(v4(client), now).is_ok() {
                    counted.push_back(now);
                }
                while counted.front().is_some_and(|at| now - at >= 100) {
                    counted.pop_front();
                }
                prop_assert!(counted.len() <= 8 * 3);
            }
        }

        /// A client that goes on asking is not pushed out by others that ask once each.
        #[test]
        fn who_is_at_its_limit_stays_there(
            strangers in prop::collection::vec(2_u32..9999, 1..200),
        ) {
            let table = table(8, 3, 1000);
            let admitted = strangers.iter().zip(1_u64..).filter(|&(&stranger, now)| {
                let _ = table.admit(v4(stranger), now);
                table.admit(v4(1), now).is_ok()
            });
            prop_assert!(admitted.count() <= 3);
        }
    }

    #[test]
    fn workers_count_together() {
        for limit in [1, 7, 500] {
            let table = table(64, limit, u64::MAX);
            let admitted: usize = std::thread::scope(|scope| {
                let ask = |worker: u64| {
                    let table = table.clone();
                    // Their clocks differ by a little, as those of passes do.
                    (0..400).filter(|&n| table.admit(v4(7), n + worker).is_ok()).count()
                };
                let workers: Vec<_> = (1..5).map(|w| scope.spawn(move || ask(w))).collect();
                workers.into_iter().map(|worker| worker.join().unwrap()).sum()
            });
            assert_eq!(admitted, limit);
        }
    }

    #[test]
    fn a_change_that_a_dead_worker_left_unfinished_is_completed() {
        let table = table(1, 2, 100);
        assert_eq!(table.admit(v4(1), 10), Ok(()));
        let row = table.row(table.hasher.hash_one(v4(1).map(number)).max(1), 10);
        // It wrote its time, and died before it counted.
        row.time(1).store(20, Ordering::Relaxed);
        assert_eq!(table.admit(v4(1), 30), Err(Duration::from_nanos(80)));
        assert_eq!(table.admit(v4(1), 110), Ok(()));
        assert_eq!(table.admit(v4(1), 111), Err(Duration::from_nanos(9)));
    }

    #[test]
    fn who_is_one_client() {
        let same = |one: Option<IpAddr>, other: Option<IpAddr>| {
            let table = table(64, 1, 100);
            table.admit(one, 1).unwrap();
            table.admit(other, 1).is_err()
        };
        let v6 = |text: &str| Some(IpAddr::from(text.parse::<Ipv6Addr>().unwrap()));
        assert!(same(v4(1), v4(1)));
        assert!(!same(v4(1), v4(2)));
        assert!(same(v4(1), v6("::ffff:0.0.0.1")));
        assert!(same(v6("2001:db8::1"), v6("2001:db8::ffff:1")), "one /64");
        assert!(!same(v6("2001:db8::1"), v6("2001:db8:0:1::1")));
        assert!(same(None, None), "all of a Unix socket");
        assert!(!same(None, v6("::")));
    }
}
