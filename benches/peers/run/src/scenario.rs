//! What is asked of each: seven ways to load a server, and one measurement of one of them.

use crate::peers::Peer;
use ringfort::load::{
    Arrivals, Expect, ExpectBody, Go, Pace, Plan, Reason, Report, Server, Template, Tree,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Hello,
    Big,
    Upload,
}

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) ask: Ask,
    pub(crate) defer: bool,
    connections: u32,
    pipeline: u32,
    /// One request a connection.
    close: bool,
    /// Requests a second, at random.
    rate: Option<f64>,
    /// Connections that were answered once and stay.
    pub(crate) idle: usize,
}

const PLAIN: Scenario = Scenario {
    name: "keep-alive",
    about: "64 connections, closed loop",
    ask: Ask::Hello,
    defer: false,
    connections: 64,
    pipeline: 1,
    close: false,
    rate: None,
    idle: 0,
};

pub(crate) const SCENARIOS: [Scenario; 8] = [
    PLAIN,
    Scenario {
        name: "pipelined",
        about: "64 connections, 16 requests at once",
        pipeline: 16,
        ..PLAIN
    },
    Scenario {
        name: "connection per request",
        about: "64 at a time, closed by the client",
        close: true,
        ..PLAIN
    },
    Scenario {
        name: "connection per request, deferred",
        about: "the same with TCP_DEFER_ACCEPT, where a server can",
        close: true,
        defer: true,
        ..PLAIN
    },
    Scenario {
        name: "paced",
        about: "64 connections, 5,000 requests a second at random; latency from when they were due",
        rate: Some(5_000.0),
        ..PLAIN
    },
    Scenario {
        name: "10,000 idle",
        about: "9,800 idle connections, 64 that ask 5,000 times a second; memory is what the idle added",
        rate: Some(5_000.0),
        idle: 9_800,
        ..PLAIN
    },
    Scenario {
        name: "100 KiB answers",
        about: "16 connections, closed loop",
        ask: Ask::Big,
        connections: 16,
        ..PLAIN
    },
    Scenario {
        name: "uploads of 100 KiB",
        about: "16 connections, closed loop; the answer is the count",
        ask: Ask::Upload,
        connections: 16,
        ..PLAIN
    },
];

const BODY: usize = 102_400;

/// What one server did in one round.
pub(crate) struct Sample {
    /// Microseconds of CPU for a request, of all processes, and of the client.
    pub(crate) cpu: f64,
    pub(crate) client_cpu: f64,
    pub(crate) rate: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) memory: u64,
    /// What there is against it.
    pub(crate) reasons: Vec<&'static str>,
}

impl Scenario {
    /// Why it can't be asked of this one.
    pub(crate) fn refused(&self, peer: &Peer) -> Option<&'static str> {
        if self.defer && !peer.defers {
            return Some("cannot defer");
        }
        (self.ask != Ask::Hello && !peer.has_bodies).then_some("serves no bodies of its own")
    }

    fn path(&self) -> &'static str {
        match self.ask {
            Ask::Hello => "/",
            Ask::Big => "/big",
            Ask::Upload => "/upload",
        }
    }

    fn want(&self, peer: &Peer) -> Vec<u8> {
        match self.ask {
            Ask::Hello => b"Hello, World!".to_vec(),
            Ask::Big => vec![b'x'; BODY],
            Ask::Upload => peer.upload_answer(BODY).into_bytes(),
        }
    }

    fn body(&self) -> Vec<u8> {
        if self.ask == Ask::Upload { vec![b'u'; BODY] } else { Vec::new() }
    }

    fn plan(&self, server: &Server, want: Vec<u8>, each: Duration) -> Result<Plan, String> {
        let url = server.url() + self.path().trim_start_matches('/');
        let mut plan = Plan::new(&url).map_err(|error| error.to_string())?;
        let method = if self.ask == Ask::Upload { "POST" } else { "GET" };
        let template = Template::build(plan.target(), method, &[], &self.body());
        plan = plan
            .request(template.map_err(|error| error.to_string())?)
            .connections(self.connections)
            .pipeline(self.pipeline)
            .warm_up(each.min(Duration::from_millis(300)))
            .duration(each)
            .cpus(&[CLIENT_CPU])
            .server_pid(server.pid())
            .expect(Expect { status: Some(200), body: ExpectBody::Exactly(want.into()) });
        if self.close {
            plan = plan.requests_per_connection(1);
        }
        if let Some(rate) = self.rate {
            plan = plan.pace(Pace::Open { arrivals: Arrivals::Poisson, from: rate, to: rate });
        }
        Ok(plan)
    }

    /// Starts the server, checks one answer, measures, ends it.
    pub(crate) fn measure(
        &self,
        peer: &Peer,
        scratch: &Path,
        each: Duration,
    ) -> Result<Sample, String> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| error.to_string())?.port();
        let words = peer.words(scratch, port, self.defer)?;
        let server = Server::command(&words, port, &[SERVER_CPU], &mut || Go::On)
            .map_err(|error| error.to_string())?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let want = self.want(peer);
        let got = ask(address, self.path(), &self.body())
            .map_err(|error| format!("its answer: {error}"))?;
        if got != want {
            let start = String::from_utf8_lossy(&got[..got.len().min(60)]).into_owned();
            return Err(format!("answers wrong: {} bytes, {start:?}", got.len()));
        }
        let before = memory(&server);
        let idle =
            idle(address, self.idle).map_err(|error| format!("idle connections: {error}"))?;
        let added = memory(&server).saturating_sub(before);
        let plan = self.plan(&server, want, each)?;
        let report = plan.run().map_err(|error| error.to_string())?;
        // The server first: its ports need not wait.
        drop((server, idle));
        if report.failed() > 0 {
            return Err(format!("{} requests failed: {}", report.failed(), report.text()));
        }
        let sample = Sample::of(&report);
        Ok(if self.idle > 0 { Sample { memory: added, ..sample } } else { sample })
    }
}

pub(crate) const SERVER_CPU: u32 = 0;
pub(crate) const CLIENT_CPU: u32 = 1;

impl Sample {
    fn of(report: &Report) -> Self {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        Self {
            cpu: report.server_cpu_per_reply().map_or(f64::NAN, micros),
            client_cpu: micros(report.client_cpu_per_reply()),
            rate: report.rate(),
            p50: micros(report.latency_at(0.5)),
            p99: micros(report.latency_at(0.99)),
            memory: report.server.map_or(0, |server| server.memory_bytes),
            reasons: report.reasons.iter().map(Reason::code).collect(),
        }
    }
}

fn memory(server: &Server) -> u64 {
    Tree::look(server.pid()).map_or(0, |tree| tree.memory_bytes())
}

/// Connections that were answered once and stay.
fn idle(address: SocketAddr, count: usize) -> std::io::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")?;
        if stream.read(&mut [0; 1024])? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        streams.push(stream);
    }
    Ok(streams)
}

/// One request on a connection of its own: the body of its answer, or the whole of it if its
/// status is not 200.
fn ask(address: SocketAddr, path: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let method = if body.is_empty() { "GET" } else { "POST" };
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 16 << 10]);
    loop {
        let read = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..read]);
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Ok(answer);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        if answer.len() >= end + 4 + length {
            return Ok(answer.split_off(end + 4));
        }
    }
}
