//! The parts that run for every request or connection, each alone, in nanoseconds.
//!
//! `cargo bench --bench micro [-- NAME…]`. `exchange` is all that HTTP adds to a request on top of
//! the worker's loop, so it bounds the pipelined ratio of `engine`.

use criterion::{Criterion, Throughput};
use ringfort::balancer::{Client, Load, Weights, balancer};
use ringfort::config::{Balancing, Config};
use ringfort::http::body::{Body, BodyLimits};
use ringfort::http::date::Date;
use ringfort::http::head::{self, Framing, HeadLimits, Storage};
use ringfort::http::{Http, Request, Response};
use ringfort::io::{Fd, Instant, Kind, Peer, Token};
use ringfort::ipc::board::Line;
use ringfort::ipc::handoff::Handoff;
use ringfort::protocol::{Cx, Out, Protocol};
use ringfort::stats::Counter;
use ringfort::worker::Slots;
use ringfort::worker::timers::{Timer, Timers};
use std::hint::black_box;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let parts =
        [heads, chunks, responses, exchanges, tokens, slots, timers, board, handoffs, balancers];
    for part in parts {
        part(&mut criterion);
    }
    criterion.final_summary();
}

/// What wrk sends, what the TechEmpower benchmark sends, what a browser sends.
const HEADS: [(&str, &str); 3] = [
    ("wrk", "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"),
    (
        "techempower",
        "GET /json HTTP/1.1\r\nHost: tfb-server:8080\r\nAccept: application/json,text/html;q=0.9,\
         application/xhtml+xml;q=0.9,application/xml;q=0.8,*/*;q=0.7\r\nConnection: keep-alive\r\n\r\n",
    ),
    (
        "browser",
        "GET /docs/index.html?page=2 HTTP/1.1\r\nHost: www.example.org\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
         Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8\r\n\
         Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
         Referer: https://www.example.org/docs/\r\nConnection: keep-alive\r\n\
         Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
         Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\n\
         Sec-Fetch-Site: same-origin\r\nPriority: u=0, i\r\n\r\n",
    ),
];

fn heads(criterion: &mut Criterion) {
    let limits = HeadLimits::from(&Config::default());
    let mut group = criterion.benchmark_group("head");
    for (name, text) in HEADS {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut storage = Storage::new();
                let head = head::parse(black_box(text.as_bytes()), &mut storage, &limits);
                head.is_ok_and(|head| head.is_some_and(|head| head.keep_alive))
            });
        });
    }
    group.finish();
}

fn chunks(criterion: &mut Criterion) {
    let limits = BodyLimits::from(&Config::default());
    let mut group = criterion.benchmark_group("chunk");
    for size in [16, 1024, 16_384] {
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        let body = chunk.repeat(65_536 / size) + "0\r\n\r\n";
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("64k-by-{size}"), |bencher| {
            bencher.iter(|| {
                let mut content = 0;
                let mut machine = Body::new(Framing::Chunked, &limits);
                let decoded =
                    machine.decode(black_box(body.as_bytes()), &mut |piece| content += piece.len());
                assert!(decoded.is_ok_and(|decoded| decoded.done));
                content
            });
        });
    }
    group.finish();
}

fn responses(criterion: &mut Criterion) {
    let date = Date::new(1_700_000_000);
    let mut response = Response::new();
    response.text("Hello, World!");
    let mut buffer = Vec::with_capacity(1024);
    criterion.bench_function("response/write", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            black_box(&response).write_last(&date, &mut buffer);
            buffer.len()
        });
    });
}

/// All of HTTP for 16 pipelined requests, from the received bytes to the answers in the arena.
fn exchanges(criterion: &mut Criterion) {
    let hello = |_: &Request<'_>, response: &mut Response| response.text("Hello, World!");
    let mut http = Http::new(hello, &Config::default());
    let now = Instant::from_nanos(1);
    let (mut connection, _) = http.open(now, None);
    let (stats, fd) = (Line::detached(), Fd::new(-1));
    let (mut buffer, mut body) = (Vec::with_capacity(65_536), None);
    let mut group = criterion.benchmark_group("exchange");
    for (name, text) in HEADS {
        let bytes = text.repeat(16);
        group.throughput(Throughput::Elements(16));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                buffer.clear();
                let out = Out::new(&mut buffer, &mut body, 0, 1 << 20);
                let token = Token::new(Kind::Recv, 0, 0);
                let mut cx = Cx { now, out, stats: &stats, token, fd: &fd, lookup: |_| Peer::Gone };
                let next = http.receive(&mut connection, black_box(bytes.as_bytes()), &mut cx);
                assert!(next.close.is_none(), "served, and open");
                buffer.len()
            });
        });
    }
    group.finish();
}

fn tokens(criterion: &mut Criterion) {
    let token = Token::new(Kind::Recv, 7, 3);
    criterion.bench_function("token/encode-decode", |bencher| {
        bencher.iter(|| Token::decode(black_box(token.encode())));
    });
}

/// A table of 10,000, as a worker holds it: the cost is memory, so the order is scattered.
fn slots(criterion: &mut Criterion) {
    let mut slots = Slots::with_capacity(10_000);
    let mut keys: Vec<_> = (0..10_000_u64).map(|value| slots.insert([value; 24])).collect();
    let scattered = |step: usize| step * 7919 % 10_000;
    let mut step = 0;
    criterion.bench_function("slots/find", |bencher| {
        bencher.iter(|| {
            step += 1;
            slots.get_mut(keys[scattered(step)]).map(|value| value[0] += 1)
        });
    });
    criterion.bench_function("slots/remove-insert", |bencher| {
        bencher.iter(|| {
            step += 1;
            let key = &mut keys[scattered(step)];
            let value = slots.remove(*key).unwrap_or([0; 24]);
            *key = slots.insert(value);
        });
    });
}

/// What a request moves: a deadline that is put off again and again.
fn timers(criterion: &mut Criterion) {
    let mut slots = Slots::with_capacity(1);
    let key = slots.insert(());
    let mut now = Instant::from_nanos(1);
    let (mut timers, mut timer) = (Timers::new(now), Timer::default());
    criterion.bench_function("timers/put-off", |bencher| {
        bencher.iter(|| {
            now = now.after(Duration::from_nanos(500));
            let deadline = now.after(Duration::from_secs(75));
            timers.set(key, &mut timer, Some(black_box(deadline)), false);
        });
    });
}

fn board(criterion: &mut Criterion) {
    let line = Line::detached();
    criterion.bench_function("board/add", |bencher| {
        bencher.iter(|| black_box(line).add(Counter::Adopted, 1));
    });
}

fn handoffs(criterion: &mut Criterion) {
    let mut bytes = Vec::new();
    criterion.bench_function("handoff/encode-decode-32", |bencher| {
        bencher.iter(|| {
            let mut handoff = Handoff::new(7);
            while !handoff.is_full() {
                handoff.push(black_box(1), None);
            }
            bytes.clear();
            handoff.encode(&mut bytes);
            Handoff::decode(&bytes).is_ok_and(|handoff| handoff.sequence == 7)
        });
    });
}

fn balancers(criterion: &mut Criterion) {
    let client = Client::at(Some(([192, 0, 2, 7], 1).into()));
    let loads: Vec<Load> =
        (0..64).map(|index| Load { room: 100, connections: index * 31 % 64, active: 0 }).collect();
    for (name, balancing) in [
        ("balancer/least-connections-64", Balancing::LeastConnections),
        ("balancer/round-robin-64", Balancing::RoundRobin),
        ("balancer/weighted-64", Balancing::Weighted),
        ("balancer/sticky-64", Balancing::Sticky),
    ] {
        let mut balancer = balancer(balancing, Weights::default());
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| balancer.pick(&client, black_box(&loads)));
        });
    }
}
