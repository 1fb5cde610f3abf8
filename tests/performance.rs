//! The baselines of duyler/worker-pool's performance suite. They are very loose; what is measured
//! for real stands in `benches` and the README. In a program of its own, so that nobody else's
//! memory is counted.
#![expect(clippy::print_stdout, reason = "tests print what they measured")]

use ringfort::balancer::{Balancer, Client, LeastConnections, Load, RoundRobin};
use ringfort::channel::{Map, Message, MessageType};
use ringfort::io::{Fd, Instant};
use ringfort::master::ledger::Arrival;
use ringfort::master::pending::Pending;
use ringfort::sys::clock;
use std::time::Duration;

const CLIENT: Client<'static> = Client::at(None);

/// Runs it, which must be done in this time.
#[track_caller]
fn within(limit: Duration, what: &str, run: impl FnOnce()) {
    let start = clock::monotonic();
    run();
    let took = clock::monotonic().since(start);
    println!("{what}: {took:?}");
    assert!(took < limit, "{what} took {took:?}");
}

/// Runs it twice, and the second time this process's memory may grow by so much.
#[track_caller]
fn grows_by_less(bytes: u64, what: &str, mut run: impl FnMut()) {
    run();
    let before = resident();
    run();
    let growth = resident().saturating_sub(before);
    println!("{what}: {growth} bytes more");
    assert!(growth < bytes, "{what} grew by {growth} bytes");
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Picks so often, and counts where.
fn picks(mut balancer: impl Balancer, workers: usize, count: usize) -> Vec<u64> {
    let mut loads = vec![Load { room: u32::MAX, ..Load::default() }; workers];
    for _ in 0..count {
        let index = balancer.pick(&CLIENT, &loads).unwrap();
        loads[index].connections += 1;
    }
    balancer.reset();
    loads.iter().map(|load| load.connections).collect()
}

fn arrivals(pending: &mut Pending, count: i32) {
    for number in 0..count {
        let arrival =
            Arrival { fd: Fd::new(number), listener: 0, at: Instant::default(), carried: None };
        assert!(pending.push(arrival).is_none());
    }
    for number in 0..count {
        assert_eq!(pending.pop().map(|arrival| arrival.fd.raw()), Some(number), "in order");
    }
}

fn message(number: u64) -> Message {
    let mut data = Map::new();
    data.insert("number".to_owned(), number.into());
    Message::new(MessageType::WorkerMetrics, data, 1.5)
}

#[test]
fn their_baselines_are_far_away() {
    let second = Duration::from_secs(1);
    let half = second / 2;
    within(second, "10,000 picks of least connections over 16", || {
        assert_eq!(picks(LeastConnections::default(), 16, 10_000), [625; 16]);
    });
    within(second, "10,000 picks of round robin over 16", || {
        assert_eq!(picks(RoundRobin::default(), 16, 10_000), [625; 16]);
    });
    within(2 * second, "5,000 picks of least connections over 256", || {
        drop(picks(LeastConnections::default(), 256, 5_000));
    });
    within(half, "1,000 picks of round robin over 4", || {
        assert_eq!(picks(RoundRobin::default(), 4, 1_000), [250; 4]);
    });
    within(second, "1,000 picks and resets over 64", || {
        (0..1000).for_each(|_| drop(picks(LeastConnections::default(), 64, 1)));
    });
    let pending = |max| Pending::new(max, second);
    within(half, "100 wait and go", || arrivals(&mut pending(100), 100));
    within(half, "1,000 wait and go", || arrivals(&mut pending(1000), 1000));
    within(second, "500 cycles of 20", || {
        let mut pending = pending(20);
        (0..500).for_each(|_| arrivals(&mut pending, 20));
    });
    within(second / 10, "50 are too many", || {
        let mut pending = pending(1);
        let arrival = |number| Arrival {
            fd: Fd::new(number),
            listener: 0,
            at: Instant::default(),
            carried: None,
        };
        let refused = (0..51).filter(|number| pending.push(arrival(*number)).is_some()).count();
        assert_eq!(refused, 50);
    });
    grows_by_less(1 << 20, "50,000 picks", || drop(picks(LeastConnections::default(), 16, 50_000)));
    grows_by_less(2 << 20, "100 cycles of 50", || {
        let mut pending = pending(50);
        (0..100).for_each(|_| arrivals(&mut pending, 50));
    });
    grows_by_less(2 << 20, "10,000 messages and their way back", || {
        for number in 0..10_000 {
            let bytes = message(number).encode(1024).unwrap();
            assert_eq!(Message::parse(&bytes, 1024).unwrap(), message(number));
        }
    });
}
