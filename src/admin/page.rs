//! Health, metrics and the status page over HTTP: which path, and the whole answer. Pure.

use super::View;
use super::prometheus;
use std::fmt::Write;

/// What a visitor asked for over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/`: for people.
    Status,
    /// `/livez`: the master's loop turns.
    Live,
    /// `/readyz`: a worker serves, and the pool does not drain.
    Ready,
    /// `/metrics`: for Prometheus.
    Metrics,
    /// No such path.
    Unknown,
}

impl Page {
    /// Of a request's path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path {
            "/" => Self::Status,
            "/livez" => Self::Live,
            "/readyz" => Self::Ready,
            "/metrics" => Self::Metrics,
            _ => Self::Unknown,
        }
    }

    /// The whole answer. `with_body`: not for HEAD.
    #[must_use]
    pub fn answer(self, ready: bool, with_body: bool, view: impl FnOnce() -> View) -> Vec<u8> {
        match self {
            Self::Status => answer(200, HTML, &html(&view()), with_body),
            Self::Live => answer(200, PLAIN, "live\n", with_body),
            Self::Ready if ready => answer(200, PLAIN, "ready\n", with_body),
            Self::Ready => answer(503, PLAIN, "not ready\n", with_body),
            Self::Metrics => answer(200, METRICS, &prometheus::text(&view()), with_body),
            Self::Unknown => refusal(404, with_body),
        }
    }
}

/// A whole answer that refuses.
#[must_use]
pub(super) fn refusal(status: u16, with_body: bool) -> Vec<u8> {
    answer(status, PLAIN, &format!("{}\n", reason(status)), with_body)
}

fn answer(status: u16, kind: &str, body: &str, with_body: bool) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        reason(status),
        body.len()
    );
    if with_body {
        text.push_str(body);
    }
    text.into_bytes()
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        503 => "Service Unavailable",
        _ => "Bad Request",
    }
}

fn html(view: &View) -> String {
    let report = &view.report;
    let sum = |counts: &std::collections::BTreeMap<&str, u64>| counts.values().sum::<u64>();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>ringfort</title>\n\
         <style>body{{font:15px/1.5 system-ui,sans-serif;margin:2em}}td,th{{padding:0 1.5em 0 0;\
         text-align:right}}</style>\n<h1>ringfort {}</h1>\n<p>{}, {} mode, master {}, up {:.0?}, \
         epoch {}, listens on {}\n<p>accepted {} = served {} + refused {} + cut {} + open {}; \
         {} waiting for a worker\n<table>\n<tr><th>slot<th>pid<th>state<th>epoch<th>connections\
         <th>requests<th>memory KiB<th>up<th>idle\n",
        env!("CARGO_PKG_VERSION"),
        view.phase,
        view.architecture(),
        view.pid,
        view.uptime,
        view.epoch,
        escape(&view.addresses.join(", ")),
        report.accepted,
        report.served,
        sum(&report.refused),
        sum(&report.cut),
        report.open,
        view.pending,
    );
    for worker in &view.workers {
        // Writing to a text cannot fail.
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{:.0?}<td>{:.0?}",
            worker.worker_id,
            worker.pid,
            worker.state.name(),
            worker.epoch,
            worker.connections,
            worker.total_requests,
            worker.memory_usage >> 10,
            worker.uptime(),
            worker.idle_time(),
        );
    }
    page.push_str("</table>\n");
    page
}

/// A Unix path may hold anything.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    /// The status, and the beginning of the body.
    #[track_caller]
    fn check(path: &str, ready: bool, with_body: bool, status: &str, begins: &str) {
        let bytes = Page::of(path).answer(ready, with_body, View::example);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        assert!(body.starts_with(begins), "{path}: {body}");
        let length = head.split("Content-Length: ").nth(1).unwrap().split('\r').next().unwrap();
        let length: usize = length.parse().unwrap();
        assert_eq!(body.len(), if with_body { length } else { 0 });
        assert!(length > 0);
    }

    #[test]
    fn pages() {
        check("/livez", false, true, "200 OK", "live");
        check("/readyz", true, true, "200 OK", "ready");
        check("/readyz", false, true, "503 Service Unavailable", "not ready");
        check("/readyz", false, false, "503 Service Unavailable", "");
        check("/metrics", true, true, "200 OK", "# HELP ringfort_up ");
        check("/", true, true, "200 OK", "<!doctype html>");
        check("/", true, false, "200 OK", "");
        check("/nowhere", true, true, "404 Not Found", "Not Found");
        check("/livez/", true, true, "404 Not Found", "Not Found");
    }

    #[test]
    fn an_address_is_text_on_the_page() {
        let mut view = View::example();
        view.addresses = vec!["unix:/tmp/<b>&".to_owned()];
        assert!(html(&view).contains("unix:/tmp/&lt;b>&amp;"));
    }
}
