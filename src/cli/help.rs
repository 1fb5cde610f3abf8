//! The texts of `--help` and `--version`, made from the table of options. Pure.

use super::settings::{CHOICES, DEFAULT_ADDR};
use ringfort::Config;

/// `ringfort --version`.
pub(super) fn version() -> String {
    format!("ringfort {}\n", env!("CARGO_PKG_VERSION"))
}

/// `ringfort --help`.
pub(super) fn overview() -> String {
    format!(
        "\
ringfort: a pre-fork server engine for Linux on io_uring

Usage:
  ringfort                   a demo on http://{DEFAULT_ADDR}/
  ringfort serve [OPTIONS]   serve; stays in the foreground, its pid is the master's
  ringfort serve --check     validate, and say where every value came from
  ringfort serve --help      all options
  ringfort ctl SOCKET …      ask or command a running master; `ringfort ctl --help`
  ringfort bench URL         measure a server (bench --self: one of ours)
  ringfort bench --help      all options
  ringfort compare A B       is B slower than A? in turns; `ringfort compare --help`

Exit codes: 0 ok, 1 failed, 2 usage, 4 this machine cannot (io_uring, memory, descriptors);
bench, compare: 3 a gate was breached (B is worse), 5 the result is not valid, 130 interrupted
"
    )
}

/// `ringfort ctl --help`.
pub(super) fn ctl() -> String {
    let mut text = String::from(
        "\
Usage: ringfort ctl SOCKET COMMAND

SOCKET is what the server was given as --control. The answer is one JSON line on stdout; the exit
code is its `code`: 0 done, 1 failed and nothing has changed, 2 not understood.

",
    );
    for (command, about) in ringfort::admin::line::COMMANDS {
        text += &format!("  {command:<24}{about}\n");
    }
    text
}

/// `ringfort bench --help`.
#[cfg(feature = "load")]
pub(super) fn bench() -> String {
    BENCH.to_owned()
}

#[cfg(feature = "load")]
const BENCH: &str = "\
Usage: ringfort bench URL [OPTIONS]
       ringfort bench --self [OPTIONS]

URL: http://HOST[:PORT][/PATH], http://[IPv6]:PORT/, or unix:SOCKET[:/PATH].
Durations: 10s, 250ms, 2m (a bare number: seconds); counts: 64, 10k. No TLS, HTTP/2 or scripts.

How much:
  -c, --connections N            Connections over all threads. [64]
  -t, --threads N                Threads, each with a ring of its own. [1]
  -d, --duration T               How long to measure. [10s]
      --warmup T                 How long to ask before the clock starts. [1s]
  -R, --rate N | A:B             Open loop: so many requests a second, or rising from A to B.
                                 Latency then counts from when a request was due. [closed loop]
      --arrivals KIND            constant, or poisson: at random as many users are. [constant]
  -p, --pipeline N               Requests on their way on one connection. [1]
      --requests-per-connection N  Close after N replies and connect anew.
      --no-keepalive             The same with 1: a new connection for each request.
      --timeout T                Of a connect, and of a reply. [2s]

What to ask, and what must come back:
  -H, --header 'NAME: VALUE'     One more field; may be repeated.
  -m, --method NAME              [GET]
  -b, --body TEXT | @FILE
      --template FILE[=WEIGHT]   A request from a file (request line, fields, empty line, body).
                                 Repeat it for a mix: it rotates by weight, request by request.
      --expect-status N          Any other is an error. [any below 400]
      --expect-body TEXT | @FILE Any other is an error.
      --same-body                Every body must equal the first.

Both sides:
      --server-pid PID           Also show CPU, context switches and memory of PID and its children.
      --cpus LIST                Put the threads on these CPUs, such as 0,2-3.
      --self                     Fork a server of ours and measure that (3 s after 500 ms).
      --set NAME=VALUE           A setting of that server, as of `serve`; may be repeated.
      --compare NAME=A,B         Fork one for each value and measure them in turns.
      --rounds N                 How many turns. [5]

What to reach, and what to print:
      --slo pN=T                 Such as p99=5ms or max=1s; may be repeated.
      --max-error-rate PART      Such as 0.001 or 0.1%.
      --find-capacity            The highest rate that keeps all of these (-d: of one trial, [2s]).
      --precision PART           How exactly. [0.02]
      --format KIND              text, json, csv, md or html. [text]
  -o, --output FILE              Write there instead of to stdout.
      --quiet                    No live line on the terminal.
      --seed N                   Of poisson arrivals. [1]

Exit codes: 0 ok, 1 failed, 2 usage, 3 a gate was breached, 4 this machine cannot, 5 the result does
not describe the server (client-bound, connections missing, lagging …), 130 interrupted: the report
so far.
";

/// `ringfort compare --help`.
#[cfg(feature = "load")]
pub(super) fn compare() -> String {
    COMPARE.to_owned()
}

#[cfg(feature = "load")]
const COMPARE: &str = "\
Usage: ringfort compare A B [OPTIONS]

A and B: each a URL, or a command line in quotes that starts a server on 127.0.0.1, with {port}
where the port belongs; words are split at spaces, no shell. It is started anew for each turn, and
killed with its process group.

  ringfort compare './old 127.0.0.1:{port}' './new 127.0.0.1:{port}'

Each round measures A, A again, and B. There is a verdict only if nearly all rounds agree (by chance
in 1 of 2000) and the change exceeds the noise floor: what A differs from itself.

      --rounds N                 How many, 12 at least. [25]
  -d, --duration T               Of one measurement. [300ms]
      --warmup T                 Before it. [100ms]
      --format KIND              text, md or json. [text]

All else as of `ringfort bench --help`: connections, rate, requests, expectations, CPUs.

Exit codes: 0 B is not worse, 3 B is worse in a figure, 5 requests failed or connections are missing
(or the like), 1, 2, 4 and 130 as of bench.
";

/// `ringfort serve --help`.
pub(super) fn serve() -> String {
    let mut text = String::from(
        "\
Usage: ringfort serve [OPTIONS]

Each option is shown with its default. Durations: 250ms, 5s, 2m; sizes: 16384, 16k, 10m.
A flag goes over the environment (RINGFORT_HEAD_TIMEOUT; RINGFORT_ADDR takes a list with commas;
an empty variable says nothing), that over the file (TOML: head_timeout = \"5s\"), that over the
default.

  --config FILE
      Read settings from this file (also RINGFORT_CONFIG).
  --check
      Validate, print every setting with where it came from (a file that --config reads), and end.
",
    );
    let rows = Config::ROWS.iter().map(|row| (row.name, default_of(row.name), row.doc));
    let choices = CHOICES.iter().map(|(name, default, doc)| (*name, (*default).to_owned(), *doc));
    for (name, default, doc) in choices.chain(rows) {
        let default = if default.is_empty() { stands_for(name) } else { &default };
        text += &format!("  --{} {default}\n", name.replace('_', "-"));
        wrap(doc, &mut text);
    }
    text
}

/// What an option takes that has no default to show it by.
fn stands_for(name: &str) -> &'static str {
    match name {
        "weights" => "N,N",
        "trusted_proxies" => "NET,NET",
        "admin_address" => "ADDR",
        "user" | "group" => "NAME",
        "umask" => "MODE",
        "control" => "PATH",
        "root" => "DIR",
        _ => "FILE",
    }
}

fn default_of(name: &str) -> String {
    Config::default().get(name).unwrap_or_default()
}

/// Appends a sentence in lines of at most 96 columns, indented.
fn wrap(doc: &str, text: &mut String) {
    let mut column = 0;
    for word in doc.split_whitespace() {
        if column == 0 || column + 1 + word.len() > COLUMNS {
            text.push_str(if column == 0 { INDENT } else { "\n      " });
            column = INDENT.len();
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
}

const INDENT: &str = "      ";
const COLUMNS: usize = 96;
