//! `ringfort bench`: its command line, in wrk's spelling where wrk has one. Pure.

use super::Usage;
use lexopt::Arg::{Long, Short, Value};
use ringfort::load::paired::ROUNDS_MIN;
use ringfort::load::{Arrivals, Gates, Slo};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// All that the command line said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bench {
    pub(crate) url: Option<String>,
    pub(super) threads: Option<u32>,
    pub(super) connections: Option<u32>,
    pub(super) duration: Option<Duration>,
    pub(super) warm_up: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) pipeline: Option<u32>,
    pub(super) requests_per_connection: Option<u64>,
    /// Requests a second, at the start and at the end.
    pub(super) rate: Option<(f64, f64)>,
    pub(super) arrivals: Option<Arrivals>,
    pub(super) method: Option<String>,
    pub(super) fields: Vec<String>,
    pub(super) body: Option<Content>,
    /// Files with requests, and their weights.
    pub(super) templates: Vec<(PathBuf, u32)>,
    pub(super) expect_status: Option<u16>,
    pub(super) expect_body: Option<Content>,
    pub(super) same_body: bool,
    pub(super) server_pid: Option<u32>,
    pub(super) cpus: Vec<u32>,
    pub(super) seed: Option<u64>,
    pub(super) gates: Gates,
    pub(super) format: Format,
    pub(super) output: Option<PathBuf>,
    pub(super) quiet: bool,
    pub(super) find_capacity: bool,
    pub(super) precision: Option<f64>,
    /// Measure a server of ours, forked for it.
    pub(super) own: bool,
    /// Its settings.
    pub(super) set: Vec<(String, String)>,
    /// A setting of it with the values to compare.
    pub(super) compare: Option<(String, Vec<String>)>,
    pub(super) rounds: Option<u32>,
    /// The two of `ringfort compare`: URLs or command lines.
    pub(super) sides: Vec<String>,
}

/// Bytes from the command line or from a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Text(String),
    File(PathBuf),
}

/// How the report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
    Csv,
    Markdown,
    Html,
}

/// What came of reading it.
pub(super) enum Line {
    Help,
    Run(Box<Bench>),
}

pub(super) fn parse(parser: lexopt::Parser) -> Result<Line, Usage> {
    let Some((mut bench, words)) = read(parser)? else { return Ok(Line::Help) };
    let mut words = words.into_iter();
    bench.url = words.next();
    if words.next().is_some() {
        return Err(Usage::new("one URL at a time"));
    }
    bench.check()?;
    Ok(Line::Run(Box::new(bench)))
}

/// `ringfort compare A B`: the same options, but for those that bring or watch a server.
pub(super) fn parse_compare(parser: lexopt::Parser) -> Result<Line, Usage> {
    let Some((mut bench, words)) = read(parser)? else { return Ok(Line::Help) };
    let wrong = |what: &str| Err(Usage::new(what));
    bench.sides = words;
    if bench.sides.len() != 2 {
        return wrong("expected two servers, A and B, each a URL or a command line in quotes");
    }
    if bench.own || bench.compare.is_some() || bench.find_capacity || bench.server_pid.is_some() {
        return wrong("compare: --self, --compare, --find-capacity and --server-pid are of bench");
    }
    if bench.gates != Gates::default() {
        return wrong("compare: B's limit is A: no --slo, no --max-error-rate");
    }
    let few = u32::try_from(ROUNDS_MIN).unwrap_or(u32::MAX);
    if bench.rounds.is_some_and(|rounds| rounds < few) {
        return Err(Usage::new(format!("--rounds: fewer than {few} can show nothing")));
    }
    if !matches!(bench.format, Format::Text | Format::Markdown | Format::Json) {
        return wrong("compare: --format text, md or json");
    }
    // Only so that `check` finds a target.
    bench.url = bench.sides.first().cloned();
    bench.check()?;
    bench.url = None;
    Ok(Line::Run(Box::new(bench)))
}

/// All options, and the words between them; `None`: help is asked for.
fn read(mut parser: lexopt::Parser) -> Result<Option<(Bench, Vec<String>)>, Usage> {
    let (mut bench, mut words) = (Bench::default(), Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Value(word) => words.push(text("URL", &word)?.to_owned()),
            Short('t') => bench.option("threads", &parser.value()?)?,
            Short('c') => bench.option("connections", &parser.value()?)?,
            Short('d') => bench.option("duration", &parser.value()?)?,
            Short('R') => bench.option("rate", &parser.value()?)?,
            Short('H') => bench.option("header", &parser.value()?)?,
            Short('m') => bench.option("method", &parser.value()?)?,
            Short('b') => bench.option("body", &parser.value()?)?,
            Short('p') => bench.option("pipeline", &parser.value()?)?,
            Short('o') => bench.option("output", &parser.value()?)?,
            // wrk's, which ask for what is always shown.
            Short('L' | 'U') | Long("latency" | "u_latency") => {}
            Long(name) => {
                let name = name.to_owned();
                if !bench.switch(&name) {
                    let value = parser.value()?;
                    bench.option(&name, &value)?;
                }
            }
            other @ Short(_) => return Err(other.unexpected().into()),
        }
    }
    Ok(Some((bench, words)))
}

impl Bench {
    /// An option without a value.
    fn switch(&mut self, name: &str) -> bool {
        match name {
            "no-keepalive" => self.requests_per_connection = Some(1),
            "same-body" => self.same_body = true,
            "quiet" => self.quiet = true,
            "find-capacity" => self.find_capacity = true,
            "self" => self.own = true,
            _ => return false,
        }
        true
    }

    /// An option with a value.
    fn option(&mut self, name: &str, value: &OsString) -> Result<(), Usage> {
        if let "output" | "template" = name {
            return self.path(name, value);
        }
        let value = text(name, value)?;
        match name {
            "threads" => self.threads = Some(number(name, value)?),
            "connections" => self.connections = Some(number(name, value)?),
            "duration" => self.duration = Some(duration(name, value)?),
            "warmup" => self.warm_up = Some(duration(name, value)?),
            "timeout" => self.timeout = Some(duration(name, value)?),
            "pipeline" => self.pipeline = Some(number(name, value)?),
            "requests-per-connection" => {
                self.requests_per_connection = Some(number(name, value)?);
            }
            "rate" => self.rate = Some(rate(value)?),
            "arrivals" => self.arrivals = Some(arrivals(value)?),
            "method" => self.method = Some(value.to_owned()),
            "header" => self.fields.push(value.to_owned()),
            "body" => self.body = Some(content(value)),
            "expect-status" => self.expect_status = Some(number(name, value)?),
            "expect-body" => self.expect_body = Some(content(value)),
            "server-pid" => self.server_pid = Some(number(name, value)?),
            "cpus" => self.cpus = list(name, value)?,
            "seed" => self.seed = Some(number(name, value)?),
            "slo" => self.gates.slo.push(slo(value)?),
            "max-error-rate" => self.gates.error_rate_max = Some(ratio(name, value)?),
            "format" => self.format = format(value)?,
            "precision" => self.precision = Some(ratio(name, value)?),
            "set" => self.set.push(pair(name, value)?),
            "compare" => self.compare = Some(variants(value)?),
            "rounds" => self.rounds = Some(number(name, value)?),
            other => return Err(Usage::new(format!("invalid option '--{other}'"))),
        }
        Ok(())
    }

    fn path(&mut self, name: &str, value: &OsString) -> Result<(), Usage> {
        if name == "output" {
            self.output = Some(value.into());
            return Ok(());
        }
        let (path, weight) = match value.to_str().and_then(|value| value.rsplit_once('=')) {
            Some((path, weight)) => (PathBuf::from(path), number(name, weight)?),
            None => (PathBuf::from(value), 1),
        };
        self.templates.push((path, weight));
        Ok(())
    }

    /// What does not go together.
    fn check(&mut self) -> Result<(), Usage> {
        let wrong = |what: &str| Err(Usage::new(what));
        self.own |= self.compare.is_some();
        match (&self.url, self.own) {
            (None, false) => return wrong("expected a URL, or --self"),
            (Some(_), true) => return wrong("--self and --compare bring their own server: no URL"),
            _ => {}
        }
        if self.own && self.server_pid.is_some() {
            return wrong("--server-pid: the pid of --self is known");
        }
        if !self.set.is_empty() && !self.own {
            return wrong("--set is for the server of --self");
        }
        if self.find_capacity && self.gates == Gates::default() {
            return wrong("--find-capacity needs a gate: --slo p99=5ms");
        }
        if self.find_capacity && self.compare.is_some() {
            return wrong("--find-capacity and --compare: one at a time");
        }
        if self.arrivals.is_some() && self.rate.is_none() && !self.find_capacity {
            return wrong("--arrivals needs a rate: -R 1000");
        }
        let parts = self.method.is_some() || self.body.is_some() || !self.fields.is_empty();
        if parts && !self.templates.is_empty() {
            return wrong("--template: method, header and body stand in the file");
        }
        if self.same_body && self.expect_body.is_some() {
            return wrong("--same-body and --expect-body: one of them");
        }
        Ok(())
    }
}

fn text<'a>(name: &str, value: &'a OsString) -> Result<&'a str, Usage> {
    value.to_str().ok_or_else(|| wrong(name, "…", "text in UTF-8"))
}

fn wrong(name: &str, value: &str, expected: &str) -> Usage {
    Usage::new(format!("--{name}: {value:?}: expected {expected}"))
}

/// Digits, with wrk's `k`, `m` and `g` for thousands, millions and more.
fn number<T: TryFrom<u64>>(name: &str, value: &str) -> Result<T, Usage> {
    let (digits, unit) = match value.as_bytes().last() {
        Some(b'k' | b'K') => (&value[..value.len() - 1], 1_000),
        Some(b'm' | b'M') => (&value[..value.len() - 1], 1_000_000),
        Some(b'g' | b'G') => (&value[..value.len() - 1], 1_000_000_000),
        _ => (value, 1),
    };
    let is_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count = is_digits.then(|| digits.parse::<u64>().ok()?.checked_mul(unit)).flatten();
    let count = count.and_then(|count| T::try_from(count).ok());
    count.ok_or_else(|| wrong(name, value, "a number, such as 64 or 10k"))
}

/// `10s`, `500ms`, `20us`, `2m`, `1h`; without a unit: seconds, as wrk has it.
fn duration(name: &str, value: &str) -> Result<Duration, Usage> {
    let end = value.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(value.len());
    let (count, unit) = value.split_at(end);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let seconds = float(count).map(|count| count * scale);
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| wrong(name, value, "a duration, such as 10s, 250ms or 2m"))
}

/// Digits with a point or without.
fn float(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (plain && text.bytes().any(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn rate(value: &str) -> Result<(f64, f64), Usage> {
    let one = |text: &str| {
        let (digits, unit) = match text.as_bytes().last() {
            Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
            Some(b'm' | b'M') => (&text[..text.len() - 1], 1e6),
            _ => (text, 1.0),
        };
        Some(float(digits)? * unit)
    };
    let (from, to) = value.split_once(':').unwrap_or((value, value));
    let rate = one(from).zip(one(to)).filter(|(from, to)| from + to > 0.0);
    rate.ok_or_else(|| wrong("rate", value, "requests a second, such as 5000, 2k or 1k:10k"))
}

fn arrivals(value: &str) -> Result<Arrivals, Usage> {
    match value {
        "constant" => Ok(Arrivals::Constant),
        "poisson" => Ok(Arrivals::Poisson),
        _ => Err(wrong("arrivals", value, "constant or poisson")),
    }
}

fn content(value: &str) -> Content {
    match value.strip_prefix('@') {
        Some(path) => Content::File(path.into()),
        None => Content::Text(value.to_owned()),
    }
}

/// `0,2-3`.
fn list(name: &str, value: &str) -> Result<Vec<u32>, Usage> {
    let mut all = Vec::new();
    for part in value.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (number(name, first)?, number(name, last)?);
        if first > last || last > 8191 {
            return Err(wrong(name, value, "CPUs, such as 0,2-3"));
        }
        all.extend(first..=last);
    }
    Ok(all)
}

/// `p99=5ms`, `p99.9=20ms`, `max=1s`.
fn slo(value: &str) -> Result<Slo, Usage> {
    let wrong = || wrong("slo", value, "a percentile and its limit, such as p99=5ms or max=1s");
    let (name, limit) = value.split_once('=').ok_or_else(wrong)?;
    let quantile = match name.strip_prefix('p') {
        // 99.9 has no exact form: what is meant has at most six places.
        Some(part) => float(part).map(|percent| (percent * 1e6).round() / 1e8),
        None => (name == "max").then_some(1.0),
    };
    let quantile = quantile.filter(|quantile| (0.0..=1.0).contains(quantile)).ok_or_else(wrong)?;
    Ok(Slo { quantile, max: duration("slo", limit)? })
}

/// `0.001` or `0.1%`.
fn ratio(name: &str, value: &str) -> Result<f64, Usage> {
    let ratio = match value.strip_suffix('%') {
        Some(percent) => float(percent).map(|percent| percent / 100.0),
        None => float(value),
    };
    let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| wrong(name, value, "a part, such as 0.01 or 1%"))
}

fn format(value: &str) -> Result<Format, Usage> {
    Ok(match value {
        "text" => Format::Text,
        "json" => Format::Json,
        "csv" => Format::Csv,
        "md" => Format::Markdown,
        "html" => Format::Html,
        _ => return Err(wrong("format", value, "text, json, csv, md or html")),
    })
}

fn pair(name: &str, value: &str) -> Result<(String, String), Usage> {
    let (key, value) = value.split_once('=').ok_or_else(|| wrong(name, value, "NAME=VALUE"))?;
    Ok((key.replace('-', "_"), value.to_owned()))
}

/// `mode=shared,centralized`.
fn variants(value: &str) -> Result<(String, Vec<String>), Usage> {
    let (key, values) = pair("compare", value)?;
    let values: Vec<String> = values.split(',').map(String::from).collect();
    if values.len() < 2 {
        return Err(wrong("compare", value, "two values or more, such as mode=shared,centralized"));
    }
    Ok((key, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Bench, Usage> {
        let parser = lexopt::Parser::from_args(line.split_whitespace().map(OsString::from));
        match parse(parser)? {
            Line::Run(bench) => Ok(*bench),
            Line::Help => panic!("help"),
        }
    }

    #[test]
    fn wrk_spellings_work_unchanged() {
        let got =
            read("-t2 -c100 -d30s -R2000 -H Accept:x --latency --timeout 5 http://h/").unwrap();
        let want = Bench {
            url: Some("http://h/".to_owned()),
            threads: Some(2),
            connections: Some(100),
            duration: Some(Duration::from_secs(30)),
            rate: Some((2000.0, 2000.0)),
            fields: vec!["Accept:x".to_owned()],
            timeout: Some(Duration::from_secs(5)),
            ..Bench::default()
        };
        assert_eq!(got, want);
        assert_eq!(read("-c10k h").unwrap().connections, Some(10_000));
        assert_eq!(read("-d 90 h").unwrap().duration, Some(Duration::from_secs(90)));
        assert_eq!(read("-L -U h").unwrap().url.as_deref(), Some("h"));
    }

    #[test]
    fn our_own_options() {
        let got = read(
            "h -m POST -b @f --expect-body ok --expect-status 201 -R 1k:2.5k --arrivals poisson \
             --slo p99.9=20ms --slo max=1s --max-error-rate 0.1% --cpus 0,2-3 --format json -p 16 \
             --warmup 250ms --no-keepalive --quiet --seed 7 --server-pid 9 -o out",
        )
        .unwrap();
        assert_eq!(got.body, Some(Content::File("f".into())));
        assert_eq!(got.expect_body, Some(Content::Text("ok".to_owned())));
        assert_eq!(got.rate, Some((1000.0, 2500.0)));
        assert_eq!(got.arrivals, Some(Arrivals::Poisson));
        let slo = |quantile, millis| Slo { quantile, max: Duration::from_millis(millis) };
        assert_eq!(got.gates.slo, [slo(0.999, 20), slo(1.0, 1000)]);
        assert_eq!(got.gates.error_rate_max, Some(0.001));
        assert_eq!(got.cpus, [0, 2, 3]);
        assert_eq!((got.format, got.pipeline), (Format::Json, Some(16)));
        assert_eq!(got.warm_up, Some(Duration::from_millis(250)));
        assert_eq!(got.requests_per_connection, Some(1));
        let got = read("h --template a=3 --template b").unwrap();
        assert_eq!(got.templates, [("a".into(), 3), ("b".into(), 1)]);
        let got = read("--compare mode=shared,centralized --set idle-x=1").unwrap();
        let values = vec!["shared".to_owned(), "centralized".to_owned()];
        assert_eq!(got.compare, Some(("mode".to_owned(), values)));
        assert_eq!(got.set, [("idle_x".to_owned(), "1".to_owned())]);
    }

    #[track_caller]
    fn check(line: &str, want: &str) {
        assert_eq!(read(line).unwrap_err().to_string(), format!("{want} [usage]"));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        check("", "expected a URL, or --self");
        check("a b", "one URL at a time");
        check("a --self", "--self and --compare bring their own server: no URL");
        check("--self --server-pid 1", "--server-pid: the pid of --self is known");
        check("h --set a=b", "--set is for the server of --self");
        check("h --find-capacity", "--find-capacity needs a gate: --slo p99=5ms");
        check("h --arrivals poisson", "--arrivals needs a rate: -R 1000");
        check("h --template f -m GET", "--template: method, header and body stand in the file");
        check("h --same-body --expect-body x", "--same-body and --expect-body: one of them");
        check("h -c x", "--connections: \"x\": expected a number, such as 64 or 10k");
        check("h -c +5", "--connections: \"+5\": expected a number, such as 64 or 10k");
        check("h -d 5y", "--duration: \"5y\": expected a duration, such as 10s, 250ms or 2m");
        check("h -R 0", "--rate: \"0\": expected requests a second, such as 5000, 2k or 1k:10k");
        check("h --arrivals x", "--arrivals: \"x\": expected constant or poisson");
        check(
            "h --slo p200=1s",
            "--slo: \"p200=1s\": expected a percentile and its limit, such as p99=5ms or max=1s",
        );
        check(
            "h --max-error-rate 2",
            "--max-error-rate: \"2\": expected a part, such as 0.01 or 1%",
        );
        check("h --format x", "--format: \"x\": expected text, json, csv, md or html");
        check("h --cpus 3-1", "--cpus: \"3-1\": expected CPUs, such as 0,2-3");
        check(
            "--compare mode=x",
            "--compare: \"mode=x\": expected two values or more, such as mode=shared,centralized",
        );
        check("h --colour x", "invalid option '--colour'");
        check("h -s x.lua", "invalid option '-s'");
    }

    fn compare(line: &str) -> Result<Bench, Usage> {
        let parser = lexopt::Parser::from_args(line.split(';').map(OsString::from));
        match parse_compare(parser)? {
            Line::Run(bench) => Ok(*bench),
            Line::Help => panic!("help"),
        }
    }

    #[test]
    fn two_sides_are_compared() {
        let got = compare("./a {port};http://h/;--rounds;12;-c8").unwrap();
        assert_eq!(got.sides, ["./a {port}", "http://h/"]);
        assert_eq!((got.url, got.rounds, got.connections), (None, Some(12), Some(8)));
        for (line, want) in [
            ("a", "expected two servers, A and B, each a URL or a command line in quotes"),
            ("a;b;c", "expected two servers, A and B, each a URL or a command line in quotes"),
            ("a;b;--rounds;11", "--rounds: fewer than 12 can show nothing"),
            ("a;b;--slo;p99=1s", "compare: B's limit is A: no --slo, no --max-error-rate"),
            ("a;b;--format;csv", "compare: --format text, md or json"),
            (
                "a;b;--self",
                "compare: --self, --compare, --find-capacity and --server-pid are of bench",
            ),
        ] {
            assert_eq!(compare(line).unwrap_err().to_string(), format!("{want} [usage]"));
        }
    }
}
