//! The application under attack: one path for each thing that a test wants of a worker.

use ringfort::http::{Handler, InvalidHeader, Request, Response, Upload};
use ringfort::io::Fd;
use ringfort::sys::scm;
use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The body of the answer that no attacker may get.
pub(crate) const MARKER: &str = "the marker was served";

/// What costs no memory to answer with.
static HUGE: [u8; 64 << 20] = [0; 64 << 20];

#[derive(Debug)]
pub(crate) struct App;

impl Handler for App {
    fn handle(&mut self, request: &Request<'_>, response: &mut Response) {
        let number = |name| request.query_value(name).and_then(|text| text.parse::<usize>().ok());
        match request.path() {
            "/marker" => response.text(MARKER),
            "/pid" => response.text(std::process::id().to_string()),
            "/big" => response.text(vec![b'b'; number("bytes").unwrap_or(0)]),
            "/huge" => {
                let bytes = number("bytes").unwrap_or(0).min(HUGE.len());
                response.bytes("application/octet-stream", &HUGE[..bytes]);
            }
            "/slow" => {
                let delay = Duration::from_millis(number("ms").unwrap_or(0) as u64);
                response.after(delay, |response| response.text("slow"));
            }
            "/panic" => panic!("this panic is part of the test"),
            "/split" => {
                if split(request, response).is_err() {
                    response.plain(500);
                }
            }
            "/channel" => {
                let what = request.query_value("say").unwrap_or_default();
                say(&what, number("bytes").unwrap_or(0));
                response.text("said");
            }
            _ => response.text(request.body().len().to_string()),
        }
    }

    fn upload(&mut self, head: &Request<'_>) -> Option<Box<dyn Upload>> {
        (head.path() == "/upload").then(|| Box::new(Count(0)) as Box<dyn Upload>)
    }
}

/// Counts a body, keeps none of it.
struct Count(u64);

impl Upload for Count {
    fn write(&mut self, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }

    fn finish(self: Box<Self>, response: &mut Response) {
        response.text(self.0.to_string());
    }
}

/// An application that puts what clients say into fields.
fn split(request: &Request<'_>, response: &mut Response) -> Result<(), InvalidHeader> {
    let value = |name, default| request.query_value(name).unwrap_or(default);
    let (name, value) = (value("name", "X-Name".into()), value("value", "x".into()));
    response.header(&name, &value)?.text("set");
    Ok(())
}

/// A worker gone mad: says something on its channel to the master, which it finds as any code in
/// its process could.
fn say(what: &str, bytes: usize) {
    let channel = Fd::new(channel());
    let text = match what {
        "json" => "{\"type\":".to_owned(),
        "garbage" => "\u{1}\u{2}\u{3}".to_owned(),
        "ready" => "{\"type\":\"worker_ready\",\"data\":{\"worker_id\":0}}".to_owned(),
        "shutdown" => "{\"type\":\"shutdown\",\"data\":{}}".to_owned(),
        "long" => format!("{{\"type\":\"worker_metrics\",\"x\":\"{}\"}}", "x".repeat(bytes)),
        "unknown" => "{\"type\":\"of tomorrow\"}".to_owned(),
        "metrics" | "descriptors" => "{\"type\":\"worker_metrics\"}".to_owned(),
        _ => panic!("nobody says {what}"),
    };
    let fds: &[&Fd] = if what == "descriptors" { &[&channel, &channel] } else { &[] };
    scm::send_message(&channel, text.as_bytes(), fds).expect("the master listens");
}

/// The only SEQPACKET socket of a worker.
fn channel() -> i32 {
    let table = fs::read_to_string("/proc/net/unix").expect("the table of Unix sockets");
    let inodes = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Type 5 is SOCK_SEQPACKET.
        (fields.get(4) == Some(&"0005")).then(|| format!("socket:[{}]", fields[6]))
    });
    let inodes: Vec<String> = inodes.collect();
    let mut found = fs::read_dir("/proc/self/fd").expect("our descriptors").filter_map(|entry| {
        let path = entry.ok()?.path();
        let link = fs::read_link(&path).ok()?;
        let is_channel = inodes.iter().any(|inode| link.as_os_str() == inode.as_str());
        is_channel.then(|| path.file_name()?.to_str()?.parse().ok())?
    });
    found.next().expect("a worker has a channel")
}

/// A factory that never comes back.
pub(crate) fn hang() {
    let (mut ours, _theirs) = UnixStream::pair().expect("a pair");
    let _ = ours.read(&mut [0]);
}
