//! Each balancer by tables, then by properties: fairness, never a worker without room, stability.

use super::*;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicU64;

const NOBODY: Client<'static> = Client::at(None);

fn weights(first: &[u32]) -> Weights {
    let words: Vec<AtomicU64> = (0..16).map(|_| AtomicU64::new(0)).collect();
    Weights::over(Vec::leak(words), first)
}

fn all() -> [Box<dyn Balancer>; 4] {
    [Balancing::LeastConnections, Balancing::RoundRobin, Balancing::Weighted, Balancing::Sticky]
        .map(|balancing| balancer(balancing, weights(&[3, 0, 1])))
}

/// One word a worker, `connections/active`, or `-` for one without room.
fn loads(text: &str) -> Vec<Load> {
    let load = |word: &str| match word.split_once('/') {
        None => Load::default(),
        Some((connections, active)) => Load {
            room: 100,
            connections: connections.parse().unwrap(),
            active: active.parse().unwrap(),
        },
    };
    text.split_whitespace().map(load).collect()
}

/// `want`: the picks in a row, the connections counted.
#[track_caller]
fn check(mut balancer: impl Balancer, text: &str, want: &str) {
    let mut loads = loads(text);
    let got: Vec<String> = want
        .split_whitespace()
        .map(|_| match balancer.pick(&NOBODY, &loads) {
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
    check(new(), "7/7", "0 0 0");
    check(new(), "- -", "- -");
    check(new(), "", "-");
}

#[test]
fn weighted() {
    let new = |first: &[u32]| Weighted::new(weights(first));
    check(new(&[1, 1, 1]), "9/0 0/0 0/0", "0 1 2 0 1 2");
    check(new(&[5, 1, 1]), "0/0 0/0 0/0", "0 0 1 0 2 0 0 0 0 1");
    check(new(&[0, 2, 1]), "0/0 0/0 0/0", "1 2 1 1 2 1");
    check(new(&[3, 1]), "- 0/0", "1 1 1");
    check(new(&[0, 0]), "0/0 0/0", "0 1 0 1");
    check(new(&[0, 1]), "0/0 -", "0 0");
    check(new(&[]), "- -", "- -");
    check(new(&[]), "", "-");
}

#[test]
fn a_weight_acts_from_the_next_pick_on() {
    let weights = weights(&[1, 1]);
    let mut balancer = Weighted::new(weights);
    let loads = loads("0/0 0/0");
    let mut share =
        |count| (0..count).filter(|_| balancer.pick(&NOBODY, &loads) == Some(0)).count();
    assert_eq!(share(100), 50);
    assert!(weights.set(0, 4));
    assert_eq!(share(100), 80);
    assert!(weights.set(0, 0));
    // What it was owed by then is not paid.
    assert_eq!(share(100), 0);
    assert!(!weights.set(16, 1), "no such slot");
    assert!(weights.set(1, u32::MAX));
    assert_eq!((weights.get(0), weights.get(1), weights.get(99)), (0, Weights::MAX, 1));
}

fn v4(number: u32) -> Client<'static> {
    Client::at(Some((Ipv4Addr::from_bits(number), 1).into()))
}

fn equal(count: usize) -> Vec<Load> {
    vec![Load { room: 1, ..Load::default() }; count]
}

#[test]
fn a_client_is_its_address_and_an_ipv6_host_all_its_addresses() {
    let worker = |text: &str, port: u16| {
        let ip: IpAddr = text.parse().unwrap();
        Sticky::default().pick(&Client::at(Some((ip, port).into())), &equal(1000)).unwrap()
    };
    assert_eq!(worker("192.0.2.7", 1000), worker("192.0.2.7", 2000));
    assert_ne!(worker("192.0.2.7", 1000), worker("192.0.2.8", 1000));
    assert_eq!(worker("192.0.2.7", 1), worker("::ffff:192.0.2.7", 1));
    assert_eq!(worker("2001:db8:1:2::1", 1), worker("2001:db8:1:2:ffff::9", 1));
    assert_ne!(worker("2001:db8:1:2::1", 1), worker("2001:db8:1:3::1", 1));
}

#[test]
fn clients_without_an_address_go_by_least_connections() {
    check(Sticky::default(), "3/0 1/0 2/0", "1 2 1 2");
}

#[test]
fn one_busy_client_overflows_to_its_second_worker() {
    let mut loads = vec![Load { room: u32::MAX, ..Load::default() }; 4];
    for _ in 0..1000 {
        let index = Sticky::default().pick(&v4(7), &loads).unwrap();
        loads[index].connections += 1;
    }
    let mut counts: Vec<u64> = loads.iter().map(|load| load.connections).collect();
    counts.sort_unstable();
    assert!(counts[3] <= 1000 * 5 / 16 + 1, "at most a quarter above the mean: {counts:?}");
    let mut few = vec![Load { room: u32::MAX, ..Load::default() }; 4];
    for _ in 0..Sticky::SLACK {
        let index = Sticky::default().pick(&v4(7), &few).unwrap();
        few[index].connections += 1;
    }
    assert_eq!(few.iter().filter(|load| load.connections > 0).count(), 1, "{few:?}");
}

#[test]
fn many_clients_spread_evenly() {
    let loads = equal(8);
    let mut given = [0_u32; 8];
    for client in 0..8000 {
        // Neighbours, as in one network.
        given[Sticky::default().pick(&v4(0x0a00_0000 + client), &loads).unwrap()] += 1;
    }
    assert!(given.iter().all(|count| (850..1150).contains(count)), "{given:?}");
}

fn any_loads() -> impl Strategy<Value = Vec<Load>> {
    let load = (0_u32..3, 0_u64..40, 0_u64..5).prop_map(|(room, connections, active)| Load {
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
        rounds in prop::collection::vec((any_loads(), any::<u32>()), 1..20),
    ) {
        for mut balancer in all() {
            for (loads, client) in &rounds {
                match balancer.pick(&v4(*client), loads) {
                    Some(index) => prop_assert!(loads[index].room > 0),
                    None => prop_assert!(loads.iter().all(|load| load.room == 0)),
                }
            }
        }
    }

    #[test]
    fn least_connections_levels(start in prop::collection::vec(0_u64..20, 1..8)) {
        let mut balancer = LeastConnections::default();
        let load = |connections| Load { room: u32::MAX, connections, active: 0 };
        let mut loads: Vec<Load> = start.into_iter().map(load).collect();
        for _ in 0..20 * loads.len() {
            let index = balancer.pick(&NOBODY, &loads).unwrap();
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
        let loads = equal(workers);
        let mut given = vec![0_usize; workers];
        for _ in 0..turns {
            given[balancer.pick(&NOBODY, &loads).unwrap()] += 1;
        }
        prop_assert!(given.iter().max().unwrap() - given.iter().min().unwrap() <= 1);
    }

    /// Each full cycle is exact, and in between nobody is ahead or behind by more than the number
    /// of workers.
    #[test]
    fn weighted_gives_each_its_share(first in prop::collection::vec(0_u32..20, 1..8)) {
        let sum: u32 = first.iter().sum();
        prop_assume!(sum > 0);
        let mut balancer = Weighted::new(weights(&first));
        let loads = equal(first.len());
        let mut given = vec![0_i64; first.len()];
        for turn in 1..=3 * i64::from(sum) {
            given[balancer.pick(&NOBODY, &loads).unwrap()] += 1;
            for (got, weight) in given.iter().zip(&first) {
                let off = (got * i64::from(sum) - turn * i64::from(*weight)).abs();
                let limit = i64::from(sum) * i64::try_from(first.len()).unwrap();
                prop_assert!(off < limit, "{given:?} of {first:?}");
                prop_assert!(turn % i64::from(sum) != 0 || off == 0, "{given:?} of {first:?}");
            }
        }
    }

    /// When a worker goes, its clients move and nobody else; when it comes back, they do.
    #[test]
    fn sticky_moves_only_the_clients_of_who_is_gone(
        workers in 2_usize..9,
        clients in prop::collection::vec(any::<u32>(), 1..50),
        gone in any::<prop::sample::Index>(),
    ) {
        let mut sticky = Sticky::default();
        let whole = equal(workers);
        let mut one_less = whole.clone();
        let gone = gone.index(workers);
        one_less[gone].room = 0;
        for client in clients {
            let client = v4(client);
            let home = sticky.pick(&client, &whole).unwrap();
            let now = sticky.pick(&client, &one_less).unwrap();
            prop_assert_eq!(now != home, home == gone);
            prop_assert_eq!(sticky.pick(&client, &whole), Some(home));
            sticky.on_worker_removed(gone);
        }
    }

    /// No worker gets a client by rank that has a quarter more than the mean.
    #[test]
    fn sticky_keeps_its_bound(
        clients in prop::collection::vec(0_u32..5, 1..400),
        workers in 1_usize..9,
    ) {
        let mut loads = vec![Load { room: u32::MAX, ..Load::default() }; workers];
        for (before, client) in (1_u64..).zip(clients) {
            let index = Sticky::default().pick(&v4(client), &loads).unwrap();
            let bound = (before * 5).div_ceil(workers as u64 * 4).max(Sticky::SLACK);
            loads[index].connections += 1;
            prop_assert!(loads[index].connections <= bound, "{loads:?}");
        }
    }

    /// The same inputs, the same picks: also after a reset.
    #[test]
    fn a_reset_forgets_everything(rounds in prop::collection::vec(any_loads(), 1..20)) {
        let mut twins = all();
        for (mut fresh, used) in all().into_iter().zip(&mut twins) {
            for loads in &rounds {
                used.pick(&NOBODY, loads);
            }
            used.reset();
            for loads in &rounds {
                prop_assert_eq!(fresh.pick(&NOBODY, loads), used.pick(&NOBODY, loads));
            }
        }
    }
}

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Diary(std::rc::Rc<std::cell::RefCell<Vec<String>>>);

impl Diary {
    fn note(&self, what: String) {
        self.0.borrow_mut().push(what);
    }
}

impl Balancer for Diary {
    fn pick(&mut self, client: &Client<'_>, _: &[Load]) -> Option<usize> {
        self.note(format!("pick for {:?}", client.address()));
        None
    }

    fn on_established(&mut self, worker: usize, count: u64) {
        self.note(format!("{worker}: {count} more"));
    }

    fn on_closed(&mut self, worker: usize, count: u64) {
        self.note(format!("{worker}: {count} closed"));
    }

    fn on_worker_removed(&mut self, worker: usize) {
        self.note(format!("{worker}: gone"));
    }

    fn reset(&mut self) {
        self.note("reset".to_owned());
    }
}

#[test]
fn a_balancer_hears_what_the_counters_say() {
    let diary = Diary::default();
    let mut guard = Guard::new(Box::new(diary.clone()));
    let seen = |line, opened, closed| Some(Seen { line, opened, closed });
    guard.reset();
    guard.watch(1, None);
    guard.watch(1, seen(4, 0, 0));
    guard.watch(1, seen(4, 5, 2));
    guard.watch(1, seen(4, 5, 2));
    guard.watch(1, seen(4, 6, 6));
    guard.watch(1, seen(7, 3, 1));
    guard.watch(1, None);
    guard.watch(1, None);
    assert_eq!(guard.pick(&v4(0x7f00_0001), &[]), None);
    let want = "reset, 1: 5 more, 1: 2 closed, 1: 1 more, 1: 4 closed, \
                1: gone, 1: 3 more, 1: 1 closed, 1: gone, pick for Some(127.0.0.1:1)";
    assert_eq!(diary.0.borrow().join(", "), want);
    assert!(!guard.take_panic());
}

#[test]
fn a_panic_anywhere_is_caught_once_and_least_connections_serve_on() {
    struct Panics;
    impl Balancer for Panics {
        fn pick(&mut self, _: &Client<'_>, _: &[Load]) -> Option<usize> {
            Some(0)
        }

        fn on_closed(&mut self, _: usize, _: u64) {
            panic!("the application's mistake")
        }
    }
    let mut guard = Guard::new(Box::new(Panics));
    let loads = loads("9/0 1/0");
    assert_eq!(guard.pick(&NOBODY, &loads), Some(0));
    guard.watch(0, Some(Seen { line: 0, opened: 1, closed: 1 }));
    assert!(guard.take_panic());
    assert!(!guard.take_panic());
    assert_eq!(guard.pick(&NOBODY, &loads), Some(1));
}

#[test]
fn a_pick_that_cannot_be_goes_to_the_least_loaded() {
    struct Lies(usize);
    impl Balancer for Lies {
        fn pick(&mut self, _: &Client<'_>, _: &[Load]) -> Option<usize> {
            Some(self.0)
        }
    }
    for lie in [0, 99] {
        assert_eq!(Guard::new(Box::new(Lies(lie))).pick(&NOBODY, &loads("- 9/0 1/0")), Some(2));
        assert_eq!(Guard::new(Box::new(Lies(lie))).pick(&NOBODY, &loads("- -")), None);
    }
}

/// Panics whenever it is asked, with what panics when it goes, and when it goes itself.
struct Bad;

impl Balancer for Bad {
    fn pick(&mut self, _: &Client<'_>, _: &[Load]) -> Option<usize> {
        std::panic::panic_any(Self);
    }

    fn name(&self) -> &'static str {
        "bad"
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("planned");
    }
}

#[test]
fn a_balancer_may_panic_even_when_it_goes() {
    let mut guard = Guard::new(Box::new(Bad));
    assert_eq!(guard.pick(&NOBODY, &loads("3/0 1/0")), Some(1));
    assert!(guard.take_panic());
    assert_eq!(guard.name(), "least-connections");
    // One that did not panic until the master ends.
    drop(Guard::new(Box::new(Bad)));
}
