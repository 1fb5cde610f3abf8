//! On the real kernel: rates, delays that are known, new connections, mixes, and a client that is
//! itself the limit. What can be exact is exact in the simulator; here nothing may be missed, and
//! what a slow machine adds is allowed.

use crate::server::{Server, answer, read_request, serve, spawn};
use ringfort::load::{
    Arrivals, Capacity, Failure, Gates, Go, Latency, Pace, Plan, Report, Slo, Template,
};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

fn open(rate: f64) -> Pace {
    Pace::Open { arrivals: Arrivals::Constant, from: rate, to: rate }
}

fn plan(url: &str) -> Plan {
    Plan::new(url).unwrap().connections(16).warm_up(Duration::ZERO).timeout(Duration::from_secs(10))
}

fn slower_than(latency: &Latency, millis: u64) -> u64 {
    latency.len() - latency.count_between(0, millis * 1_000_000)
}

pub(crate) fn pause(millis: u64) {
    let until = ringfort::sys::clock::monotonic().after(Duration::from_millis(millis));
    while ringfort::sys::clock::monotonic() < until {
        thread::park_timeout(until.since(ringfort::sys::clock::monotonic()));
    }
}

#[test]
fn one_request_in_a_hundred_takes_20_ms() {
    let count = AtomicU64::new(0);
    let server = Server::start(move |_, mut stream| {
        while read_request(&mut stream) {
            if count.fetch_add(1, Ordering::Relaxed) % 100 == 99 {
                pause(20);
            }
            if !answer(&mut stream, "Hello") {
                return;
            }
        }
    });
    let report = plan(&server.url()).pace(open(500.0)).duration(Duration::from_secs(2));
    let report = report.run().unwrap();
    assert_eq!((report.tally.requests, report.tally.answered), (1000, 1000), "{}", report.text());
    for latency in [&report.tally.service, &report.tally.response] {
        // 10 of 1,000, and what the machine itself holds up.
        assert!(slower_than(latency, 19) >= 10, "{}", report.text());
        assert!(latency.value_at_quantile(0.9905) >= 19_900_000, "{}", report.text());
        assert!(latency.value_at_quantile(0.5) < 20_000_000, "{}", report.text());
    }
}

#[test]
fn a_stop_of_500_ms_shows_as_it_must() {
    // All four connections stop at once: whoever comes while `until` lies ahead waits for it.
    let (count, until) = (AtomicU64::new(0), AtomicU64::new(0));
    let server = Server::start(move |_, mut stream| {
        while read_request(&mut stream) {
            let now = ringfort::sys::clock::monotonic().as_nanos();
            if count.fetch_add(1, Ordering::SeqCst) == 500 {
                until.store(now + 500_000_000, Ordering::SeqCst);
            }
            pause(until.load(Ordering::SeqCst).saturating_sub(now) / 1_000_000);
            if !answer(&mut stream, "Hello") {
                return;
            }
        }
    });
    let report = plan(&server.url()).connections(4).pace(open(1000.0));
    let report = report.duration(Duration::from_secs(2)).run().unwrap();
    assert_eq!((report.tally.requests, report.tally.answered), (2000, 2000), "{}", report.text());
    // 500 come in the stop: 400 of them wait for 100 ms and more, 200 for 300 ms and more.
    let response = &report.tally.response;
    assert!(slower_than(response, 99) >= 395, "{}", report.text());
    assert!(slower_than(response, 298) >= 196, "{}", report.text());
    assert!(response.max() >= 495_000_000, "{}", report.text());
    // Who looks only at what was sent sees almost nothing of it.
    assert!(slower_than(&report.tally.service, 298) <= 20, "{}", report.text());
}

#[test]
fn a_ramp_and_random_arrivals_offer_what_they_say() {
    let server = Server::start(|_, stream| serve(stream));
    let ramp = Pace::Open { arrivals: Arrivals::Constant, from: 100.0, to: 500.0 };
    let report = plan(&server.url()).threads(2).pace(ramp).duration(Duration::from_secs(1));
    let report = report.run().unwrap();
    assert!((299..=301).contains(&report.tally.requests), "{}", report.text());
    assert_eq!(report.tally.answered, report.tally.requests);
    let random = Pace::Open { arrivals: Arrivals::Poisson, from: 400.0, to: 400.0 };
    let report = plan(&server.url()).pace(random).duration(Duration::from_secs(1)).run().unwrap();
    // Six deviations of 20 to each side.
    assert!((280..=520).contains(&report.tally.requests), "{}", report.text());
}

#[test]
fn each_request_has_a_connection_of_its_own() {
    let (connections, sources) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (count, other) = (Arc::clone(&connections), Arc::clone(&sources));
    let server = Server::start(move |_, mut stream| {
        count.fetch_add(1, Ordering::SeqCst);
        let peer = stream.peer_addr().unwrap().ip().to_string();
        other.fetch_add(u64::from(peer != "127.0.0.1"), Ordering::SeqCst);
        // The last ones are opened, and nothing is left to ask.
        if !(read_request(&mut stream) && answer(&mut stream, "Hello")) {
            return;
        }
        // It is the client that closes.
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
    let report = plan(&server.url()).connections(2).requests_per_connection(1);
    let report = report.pace(open(100.0)).duration(Duration::from_millis(500)).run().unwrap();
    drop(server);
    assert_eq!((report.tally.requests, report.tally.answered), (50, 50), "{}", report.text());
    let seen = connections.load(Ordering::SeqCst);
    assert!((50..=52).contains(&seen), "{seen} connections, {}", report.text());
    assert!(sources.load(Ordering::SeqCst) >= seen - 2, "the source addresses rotate");
    assert_eq!(report.tally.failures.total(ringfort::load::Of::Connect), 0);
}

#[test]
fn a_mix_rotates_by_weight_request_by_request() {
    let uploads = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&uploads);
    let server =
        Server::start(
            move |_, mut stream| {
                while read_head(&mut stream, &count) && answer(&mut stream, "Hello") {}
            },
        );
    let plan = plan(&server.url()).connections(1).pipeline(2);
    let get = Template::from_file(plan.target(), b"GET /a HTTP/1.1\n\n").unwrap();
    let post = Template::from_file(plan.target(), b"POST /b HTTP/1.1\n\nbody").unwrap();
    let plan = plan.request(Template { weight: 3, ..get }).request(post);
    let report = plan.pace(open(400.0)).duration(Duration::from_millis(500)).run().unwrap();
    assert_eq!((report.tally.requests, report.tally.answered), (200, 200), "{}", report.text());
    assert_eq!(uploads.load(Ordering::SeqCst), 50, "one in four");
}

/// Counts those with a body of four bytes.
fn read_head(stream: &mut std::net::TcpStream, uploads: &AtomicU64) -> bool {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            Ok(_) | Err(_) => return false,
        }
    }
    if request.starts_with(b"POST /b ") {
        let mut body = [0; 4];
        stream.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"body");
        uploads.fetch_add(1, Ordering::SeqCst);
    }
    true
}

#[test]
fn over_a_unix_socket_and_over_ipv6() {
    let path = std::env::temp_dir().join(format!("ringfort-load-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let server = spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
            let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            if stream.write_all(reply).is_err() {
                break;
            }
        }
    });
    let url = format!("http://unix:{}:/x", path.display());
    let report = plan(&url).connections(1).duration(Duration::from_millis(100)).run().unwrap();
    std::fs::remove_file(&path).unwrap();
    server.join().unwrap();
    assert!(report.tally.answered > 0, "{}", report.text());
    assert_eq!(report.failed(), 0, "{}", report.text());

    let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = spawn(move || serve(listener.accept().unwrap().0));
    let report = plan(&url).connections(1).duration(Duration::from_millis(100)).run().unwrap();
    server.join().unwrap();
    assert!(report.tally.answered > 0, "{}", report.text());
}

#[test]
fn large_bodies_go_up_and_down_whole() {
    const SIZE: usize = 700_000;
    let server = Server::start(|_, mut stream| {
        let mut body = vec![0; SIZE];
        while read_request(&mut stream) {
            stream.read_exact(&mut body).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    });
    let body: Vec<u8> = (0..SIZE).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let plan = plan(&server.url()).connections(2).duration(Duration::from_millis(300));
    let template = Template::build(plan.target(), "POST", &[], &body).unwrap();
    let body = ringfort::load::ExpectBody::Exactly(body.into());
    let plan = plan.expect(ringfort::load::Expect { status: Some(200), body });
    let report = plan.request(template).run().unwrap();
    assert!(report.tally.answered > 0, "{}", report.text());
    assert_eq!(report.failed(), 0, "{}", report.text());
}

/// Starved: the client's only CPU is shared with sixteen threads that never sleep, so that each
/// reply is there long before the client has its turn, however slow the server is.
#[test]
fn a_client_that_gets_no_cpu_is_caught() {
    let allowed = ringfort::sys::cpu::allowed();
    let (first, cpu) = (allowed[0], allowed[allowed.len() - 1]);
    // The server stays away from that CPU, if there is another.
    let server = Server::start(move |_, stream| {
        ringfort::sys::cpu::pin(&[first]).unwrap();
        serve(stream);
    });
    let over = Arc::new(AtomicBool::new(false));
    let hog = |over: Arc<AtomicBool>| {
        spawn(move || {
            ringfort::sys::cpu::pin(&[cpu]).unwrap();
            while !over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        })
    };
    let hogs: Vec<_> = (0..16).map(|_| hog(Arc::clone(&over))).collect();
    let plan = plan(&server.url()).connections(64).cpus(&[cpu]).duration(Duration::from_secs(1));
    let report = plan.run().unwrap();
    over.store(true, Ordering::Relaxed);
    hogs.into_iter().for_each(|hog| hog.join().unwrap());
    let codes: Vec<&str> = report.reasons.iter().map(ringfort::load::Reason::code).collect();
    assert_eq!(codes, ["client_bound"], "{}", report.text());
    assert_eq!(report.exit_code(), Report::EXIT_INVALID);
}

/// One connection, and each answer takes 10 ms: more than 100 a second cannot be.
#[test]
fn find_capacity_finds_a_known_ceiling() {
    let server = Server::start(|_, mut stream| {
        while read_request(&mut stream) {
            pause(10);
            if !answer(&mut stream, "Hello") {
                return;
            }
        }
    });
    let slo = Slo { quantile: 0.5, max: Duration::from_millis(100) };
    let gates = Gates { slo: vec![slo], error_rate_max: None };
    let plan = plan(&server.url()).connections(1).gates(gates);
    let plan = plan.duration(Duration::from_secs(1)).timeout(Duration::from_millis(200));
    let found = plan.find_capacity(Capacity::new(20.0, 0.1), &mut |_| Go::On).unwrap();
    let best = found.best.expect("20 a second hold");
    let rate = best.offered().unwrap();
    assert!((40.0..=125.0).contains(&rate), "{rate}: {}", best.text());
    assert!(found.limit.unwrap().offered().unwrap() > rate);
}

/// One answer at a time, 2 ms each, over 64 connections: more than 500 a second cannot be, whatever
/// the connections hold. (How much less depends on the machine.)
#[test]
fn find_capacity_does_not_take_a_backlog_for_capacity() {
    let turn = std::sync::Mutex::new(());
    let server = Server::start(move |_, mut stream| {
        while read_request(&mut stream) {
            let mine = turn.lock().unwrap();
            pause(2);
            drop(mine);
            if !answer(&mut stream, "Hello") {
                return;
            }
        }
    });
    let slo = Slo { quantile: 0.5, max: Duration::from_secs(30) };
    let gates = Gates { slo: vec![slo], error_rate_max: None };
    let plan = plan(&server.url()).connections(64).gates(gates);
    let plan = plan.duration(Duration::from_millis(600)).timeout(Duration::from_secs(30));
    let found = plan.find_capacity(Capacity::new(120.0, 0.05), &mut |_| Go::On).unwrap();
    let best = found.best.expect("120 a second hold");
    let rate = best.offered().unwrap();
    assert!(rate <= 525.0, "{rate}: {}", best.text());
}

#[test]
fn a_run_can_be_stopped_with_what_there_is() {
    let server = Server::start(|_, stream| serve(stream));
    let plan = plan(&server.url()).duration(Duration::from_secs(600));
    let mut watch = |live: &ringfort::load::Live| {
        if live.replies > 0 { Go::Stop } else { Go::On }
    };
    let report = plan.run_watched(&mut watch).unwrap();
    assert!(report.interrupted && report.tally.answered > 0, "{}", report.text());
    assert!(!report.is_valid(), "{}", report.text());
    assert_eq!(report.tally.requests, report.tally.answered + report.tally.unfinished);
    assert_eq!(report.failed(), 0, "what was on its way has not failed: {}", report.text());
    assert_eq!(report.exit_code(), Report::EXIT_INTERRUPTED);
    assert!(report.measured < Duration::from_secs(600));
    assert_eq!(report.tally.failures.get(Failure::Timeout), 0);
}
