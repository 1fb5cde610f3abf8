//! Which worker gets the next connection. Pure.

use crate::config::Balancing;

/// What the master knows of a worker when it picks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections it could take now. 0: not ready, full, or without credits; not to be picked.
    pub room: u32,
    /// Connections it has, those in transit to it included.
    pub connections: u64,
    /// Requests it is answering now.
    pub active: u64,
}

/// Picks a worker. One life of a master, one balancer: it may keep state.
pub trait Balancer {
    /// The index of a worker with [`Load::room`] above 0; `None` when no worker has room. The
    /// connection is counted in `loads` before the next call.
    ///
    /// A pick without room, or out of range, is replaced by the worker with the fewest connections.
    /// A panic is caught, and the least connections serve on.
    fn pick(&mut self, loads: &[Load]) -> Option<usize>;
}

/// The balancer of a configuration.
#[must_use]
pub fn balancer(balancing: Balancing) -> Box<dyn Balancer> {
    match balancing {
        Balancing::LeastConnections => Box::new(LeastConnections::default()),
        Balancing::RoundRobin => Box::new(RoundRobin::default()),
    }
}

/// The fewest connections; of those the fewest active requests; of those the next in turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastConnections {
    next: usize,
}

impl Balancer for LeastConnections {
    fn pick(&mut self, loads: &[Load]) -> Option<usize> {
        let count = loads.len();
        let index = (0..count)
            .map(|step| (self.next + step) % count)
            .filter(|&index| loads[index].room > 0)
            .min_by_key(|&index| (loads[index].connections, loads[index].active))?;
        self.next = index + 1;
        Some(index)
    }
}

/// One after the other; who has no room is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin {
    next: usize,
}

impl Balancer for RoundRobin {
    fn pick(&mut self, loads: &[Load]) -> Option<usize> {
        let count = loads.len();
        let index = (0..count)
            .map(|step| (self.next + step) % count)
            .find(|&index| loads[index].room > 0)?;
        self.next = index + 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `loads`: one word a worker, `connections/active`, or `-` for one without room; `want`: the
    /// picks in a row, the connections counted.
    #[track_caller]
    fn check(mut balancer: impl Balancer, loads: &str, want: &str) {
        let mut loads: Vec<Load> = loads
            .split_whitespace()
            .map(|word| match word.split_once('/') {
                None => Load::default(),
                Some((connections, active)) => Load {
                    room: 100,
                    connections: connections.parse().unwrap(),
                    active: active.parse().unwrap(),
                },
            })
            .collect();
        let got: Vec<String> = want
            .split_whitespace()
            .map(|_| match balancer.pick(&loads) {
                None => "-".to_owned(),
                Some(index) => {
                    loads[index].connections += 1;
                    index.to_string()
                }
            })
            .collect();
        assert_eq!(got.join(" "), want);
    }

    #[test]
    fn least_connections() {
        let new = LeastConnections::default;
        check(new(), "3/0 1/0 2/0", "1 2 1 2");
        check(new(), "0/2 0/1 0/3", "1 0 2 1");
        check(new(), "0/0 0/0 0/0", "0 1 2 0 1 2");
        check(new(), "- 9/9 -", "1 1 1");
        check(new(), "- -", "- -");
        check(new(), "", "-");
    }

    #[test]
    fn round_robin() {
        let new = RoundRobin::default;
        check(new(), "3/0 1/0 2/0", "0 1 2 0");
        check(new(), "0/0 - 5/5", "0 2 0 2");
        check(new(), "- -", "- -");
        check(new(), "", "-");
    }

    fn any_loads() -> impl Strategy<Value = Vec<Load>> {
        let load = (0_u32..3, 0_u64..5, 0_u64..5).prop_map(|(room, connections, active)| Load {
            room,
            connections,
            active,
        });
        prop::collection::vec(load, 0..8)
    }

    proptest! {
        /// Whatever the loads and however often they change between picks.
        #[test]
        fn never_a_worker_without_room_and_never_none_while_one_has_room(
            rounds in prop::collection::vec(any_loads(), 1..20),
        ) {
            for mut balancer in [
                balancer(Balancing::LeastConnections),
                balancer(Balancing::RoundRobin),
            ] {
                for loads in &rounds {
                    match balancer.pick(loads) {
                        Some(index) => prop_assert!(loads[index].room > 0),
                        None => prop_assert!(loads.iter().all(|load| load.room == 0)),
                    }
                }
            }
        }

        #[test]
        fn least_connections_levels(start in prop::collection::vec(0_u64..20, 1..8)) {
            let mut balancer = LeastConnections::default();
            let mut loads: Vec<Load> = start
                .iter()
                .map(|&connections| Load { room: u32::MAX, connections, active: 0 })
                .collect();
            for _ in 0..20 * loads.len() {
                let index = balancer.pick(&loads).unwrap();
                prop_assert_eq!(
                    Some(loads[index].connections),
                    loads.iter().map(|load| load.connections).min()
                );
                loads[index].connections += 1;
            }
            let counts = loads.iter().map(|load| load.connections);
            prop_assert!(counts.clone().max().unwrap() - counts.min().unwrap() <= 1);
        }

        #[test]
        fn round_robin_gives_each_its_turn(workers in 1_usize..9, turns in 1_usize..100) {
            let mut balancer = RoundRobin::default();
            let loads = vec![Load { room: 1, ..Load::default() }; workers];
            let mut given = vec![0_usize; workers];
            for _ in 0..turns {
                given[balancer.pick(&loads).unwrap()] += 1;
            }
            prop_assert!(given.iter().max().unwrap() - given.iter().min().unwrap() <= 1);
        }
    }
}
