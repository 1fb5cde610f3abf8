//! Every limit and timeout: unit, default, range, cost. A `Config` that exists is valid. Pure.
//!
//! One table makes the fields, the setters, the names on the command line, in the environment
//! (`RINGFORT_` and the name in capitals) and in a file. Durations are written `5s`, `250ms`, `2m`;
//! sizes `16384`, `16k`, `10m`.

mod choice;
mod error;
mod operation;
mod value;
mod weights;

use crate::io::Address;
use crate::network::Network;
pub use choice::{AccessFormat, Balancing, Mode};
pub use error::ConfigError;
use operation::Operation;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;
use value::{DAY, KIB, MIB, MILLI, Value, YEAR, bounded, secs};
use weights::{WEIGHT_MAX, show_weights, weight, wrong_weights};

/// One row of the table, as text: for `--help`, `--check` and the documentation.
#[derive(Clone, Copy, Debug)]
pub struct OptionRow {
    /// Its name in a file; on the command line with `-` for `_`.
    pub name: &'static str,
    /// What it does, with unit, cost and answer.
    pub doc: &'static str,
}

macro_rules! options {
    ($($(#[doc = $doc:literal])+
        $name:ident: $kind:ty = $default:expr, $low:expr, $high:expr;)*
    ) => {
        /// All settings of a pool. Made with [`Config::default`] and its setters, each of which
        /// checks its range.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            addresses: Vec<Address>,
            mode: Mode,
            balancing: Option<Balancing>,
            own_balancer: bool,
            weights: Vec<u32>,
            probe_path: String,
            trusted_proxies: Vec<Network>,
            access_log: Option<PathBuf>,
            access_log_format: AccessFormat,
            operation: Operation,
            $($name: $kind,)*
        }

        impl Default for Config {
            fn default() -> Self {
                Self {
                    addresses: Vec::new(),
                    mode: Mode::Auto,
                    balancing: None,
                    own_balancer: false,
                    weights: Vec::new(),
                    probe_path: "/".to_owned(),
                    trusted_proxies: Vec::new(),
                    access_log: None,
                    access_log_format: AccessFormat::Combined,
                    operation: Operation::default(),
                    $($name: $default,)*
                }
            }
        }

        impl Config {
            /// The table, in the order of the documentation.
            pub const ROWS: &'static [OptionRow] =
                &[$(OptionRow { name: stringify!($name), doc: concat!($($doc),+).trim_ascii() },)*];

            $(
                $(#[doc = $doc])+
                #[must_use]
                pub fn $name(&self) -> $kind {
                    self.$name
                }
            )*

            /// Sets an option of the table from text.
            ///
            /// # Errors
            ///
            /// An unknown name, a value of the wrong form, or one out of range.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
                match name {
                    $(stringify!($name) => {
                        let value = <$kind as Value>::parse(text).ok_or_else(|| ConfigError {
                            option: name.to_owned(),
                            value: text.to_owned(),
                            expected: <$kind as Value>::FORM.to_owned(),
                        })?;
                        self.$name = bounded(name, value, $low, $high)?;
                    })*
                    _ => return self.set_choice(name, text),
                }
                Ok(())
            }

            /// An option's value as text, in the form that [`Config::set`] reads.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<String> {
                match name {
                    $(stringify!($name) => Some(self.$name.show()),)*
                    "mode" => Some(self.mode.name().to_owned()),
                    "balancer" => Some(self.balancing().name().to_owned()),
                    "weights" => Some(show_weights(&self.weights)),
                    "probe_path" => Some(self.probe_path.clone()),
                    "trusted_proxies" => {
                        let all = self.trusted_proxies.iter().map(Network::to_string);
                        Some(all.collect::<Vec<_>>().join(","))
                    }
                    "access_log" => {
                        let path = self.access_log.as_deref().unwrap_or(Path::new(""));
                        Some(path.display().to_string())
                    }
                    "access_log_format" => Some(match self.access_log_format {
                        AccessFormat::Combined => "combined",
                        AccessFormat::Json => "json",
                    }.to_owned()),
                    _ => self.operation.get(name),
                }
            }
        }

        /// The typed setters.
        impl Setters<'_> {
            $(
                $(#[doc = $doc])+
                ///
                /// # Errors
                ///
                /// Out of range.
                pub fn $name(&mut self, value: $kind) -> Result<&mut Self, ConfigError> {
                    self.0.$name = bounded(stringify!($name), value, $low, $high)?;
                    Ok(self)
                }
            )*
        }
    };
}

/// The typed setters of a [`Config`]: `config.setters().head_timeout(…)?.backlog(…)?`.
#[derive(Debug)]
pub struct Setters<'a>(&'a mut Config);

options! {
    /// How many workers; 0: one per CPU that this process may use (affinity and cgroup quota). 0 to
    /// 1024.
    workers: u64 = 0, 0, 1024;
    /// Up to how many workers the pool can be scaled; 0: twice `workers`, and 16 at least. 0 to
    /// 1024.
    workers_max: u64 = 0, 0, 1024;
    /// How many CPUs to assume when they cannot be counted. 1 to 1024.
    fallback_cpus: u64 = 4, 1, 1024;
    /// The kernel's queue of arrivals per listener; net.core.somaxconn caps it. 1 to 65535.
    backlog: u64 = 4096, 1, 65_535;
    /// Connections a worker holds at a time. Each costs at most 256 bytes while idle. When all are
    /// full: pending, then 503.
    connections_max: u64 = 10_000, 1, 1_000_000;
    /// Connections that were accepted and wait for a worker; then accepting pauses, and what comes
    /// nevertheless: 503.
    pending_max: u64 = 1000, 1, 1_000_000;
    /// How long a connection waits for a worker; older: 503.
    pending_timeout: Duration = secs(5), MILLI, DAY;
    /// Bytes of a head; above: 431.
    head_max: u64 = 16 * KIB, 256, MIB;
    /// Bytes of a request line; above: 414.
    request_line_max: u64 = 8 * KIB, 16, MIB;
    /// Fields of a head; above: 431.
    headers_max: u64 = 100, 1, 1000;
    /// Bytes of a body; above: 413, before it is read. A whole body is held in memory.
    body_max: u64 = 10 * MIB, 0, 1 << 40;
    /// Bytes of one chunk line, extensions included; above: 400.
    chunk_line_max: u64 = 4 * KIB, 16, MIB;
    /// Bytes of all chunk extensions and trailers of a body; above: 400.
    chunk_overhead_max: u64 = 64 * KIB, 64, 64 * MIB;
    /// How long a head may take from its first byte (or from the accept); after: 408, or a silent
    /// close if nothing came.
    head_timeout: Duration = secs(10), MILLI, DAY;
    /// How long a body may stand still; after: 408.
    body_timeout: Duration = secs(30), MILLI, DAY;
    /// Bytes a second that a body must bring on average once twice its timeout has passed; slower:
    /// 408. 0: any.
    body_rate_min: u64 = 256, 0, MIB;
    /// How long from a request's first byte until its answer is ready; after: 408, or 503 when the
    /// handler still owes it. 0: no limit.
    request_timeout: Duration = Duration::ZERO, Duration::ZERO, DAY;
    /// How long a connection may idle between requests; after: closed.
    idle_timeout: Duration = secs(75), MILLI, DAY;
    /// How long a peer may leave an answer unread; after: cut.
    write_timeout: Duration = secs(30), MILLI, DAY;
    /// How long to read and drop what a peer still sends after its last answer (RFC 9112 §9.6).
    linger_timeout: Duration = secs(2), Duration::ZERO, secs(60);
    /// Bytes of answers held for one connection; above: its requests wait and reading pauses.
    output_max: u64 = MIB, KIB, 1 << 30;
    /// Requests of one connection; 0: no limit.
    requests_max: u64 = 0, 0, 1 << 40;
    /// Whether a connection may carry more than one request.
    keep_alive: bool = true, false, true;
    /// Whether a client that has ended its side of the connection still gets what an async handler
    /// owes it. If not, it is taken for gone and its future dropped: one that closes looks the same
    /// until it is written to. All other handlers, loops and tickets answer it in any case.
    half_close: bool = false, false, true;
    /// How long a drain may take; after: cut.
    drain_timeout: Duration = secs(30), Duration::ZERO, DAY;
    /// How long a pool that was told to drain still accepts, while it says that it is not ready:
    /// for load balancers that learn late.
    lame_duck: Duration = Duration::ZERO, Duration::ZERO, secs(3600);
    /// How many new workers of a reload boot at a time, beside the old ones. 1 to 1024.
    surge: u64 = 1, 1, 1024;
    /// Whether a new worker must answer a request below 500 before it takes over, and how long it
    /// may take; 0: it is not asked.
    probe_timeout: Duration = secs(5), Duration::ZERO, secs(3600);
    /// How many new workers of a reload serve on trial before the others are replaced. 0 to 1024.
    canary_workers: u64 = 0, 0, 1024;
    /// How long that trial takes.
    canary_time: Duration = secs(10), MILLI, secs(3600);
    /// How long the answers of those on trial may take, all but one of a hundred (p99), from the
    /// whole request to the head of its answer; longer: they are refused. 0: any time.
    canary_p99: Duration = Duration::ZERO, Duration::ZERO, DAY;
    /// How many times as long as those of the old workers, which serve at the same time, and 10 ms
    /// at least; 0: any. 0 to 1000.
    canary_slowdown: u64 = 3, 0, 1000;
    /// After how many requests a worker is replaced by a new one; each life draws up to a fifth
    /// more. 0: never.
    recycle_requests: u64 = 0, 0, 1 << 40;
    /// At which age a worker is replaced, drawn as above. 0: never.
    recycle_age: Duration = Duration::ZERO, Duration::ZERO, YEAR;
    /// With how many bytes resident (RSS) a worker is replaced, drawn as above. 0: never.
    recycle_rss: u64 = 0, 0, 1 << 46;
    /// The same for its share of memory (PSS): asking costs a walk over its pages twice a second.
    /// 0: never.
    recycle_pss: u64 = 0, 0, 1 << 46;
    /// How many workers are being replaced at a time by recycling, from the fork of the successor
    /// to the end of the old one. 1 to 1024.
    max_unavailable: u64 = 1, 1, 1024;
    /// How long a worker may take to say READY; after: killed and counted as a failed boot.
    boot_timeout: Duration = secs(10), MILLI, secs(3600);
    /// How long the slot of a worker that ended by itself stays empty at least; 0: filled at once
    /// the first time, then after 50 ms, doubling to 1 s.
    restart_delay: Duration = Duration::ZERO, Duration::ZERO, secs(3600);
    /// Whether a worker that ended by itself is replaced; if not, its slot stays empty until a
    /// command fills it (TTIN, `ringfort ctl scale`).
    auto_restart: bool = true, false, true;
    /// How long a worker may hang (stopped, or in a handler that does not return) until its
    /// successor serves, while anything waits for it. After a fifth of it, a second at most, others
    /// serve what it has not begun; then it is reported, aborted (ABRT, for a core dump), killed. A
    /// handler that may block for longer needs more. 0: never.
    watchdog_timeout: Duration = secs(5), Duration::ZERO, DAY;
    /// Bytes of one message between master and worker; above: its channel is closed and the worker
    /// replaced. At least 1024.
    message_max: u64 = MIB, 1024, 64 * MIB;
    /// How long the kernel holds a silent client back before we accept it (TCP_DEFER_ACCEPT), in
    /// whole seconds; 0: not at all.
    defer_accept: Duration = Duration::ZERO, Duration::ZERO, secs(60);
    /// Requests that a client (an address, or a /64 of IPv6; all of a Unix socket together, unless
    /// `trusted_proxies` names `unix`) may make in any `rate_window`, over all workers; above: 429
    /// with Retry-After. 0: any. Costs 8 bytes of shared memory times `rate_clients`.
    rate_limit: u64 = 0, 0, 100_000;
    /// The window of `rate_limit`.
    rate_window: Duration = secs(60), MILLI, DAY;
    /// Clients whose requests are counted at a time. With more of them, one that comes anew shares
    /// the count of the one that was quiet for longest.
    rate_clients: u64 = 10_000, 8, 1_000_000;
    /// Whether workers and what they start may never gain privileges by running a program
    /// (PR_SET_NO_NEW_PRIVS): set-user-id programs such as sudo then do not work for them.
    no_new_privs: bool = true, false, true;
    /// Whether the master reads what workers write to standard error, passes it on to its own and
    /// keeps the last 16 lines of each for its end. It is no terminal to them then, what the
    /// master's does not take at once is lost, and a worker waits that writes 1 MiB while the
    /// master is stopped.
    capture_stderr: bool = false, false, true;
    /// Whether USR2 to the master upgrades the program; if not, it is the application's.
    usr2_upgrade: bool = false, false, true;
    /// Whether each worker stays on one CPU: that of its slot, of those that the master may use.
    pin_cpus: bool = false, false, true;
}

impl Config {
    /// The typed setters.
    pub fn setters(&mut self) -> Setters<'_> {
        Setters(self)
    }

    /// Where to listen.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// How connections reach workers.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Which worker the master picks.
    #[must_use]
    pub fn balancing(&self) -> Balancing {
        self.balancing.unwrap_or_default()
    }

    /// Whether somebody chose a balancer.
    #[must_use]
    pub fn balancer_is_chosen(&self) -> bool {
        self.balancing.is_some() || self.own_balancer
    }

    /// The weights of the first slots, for [`Balancing::Weighted`].
    #[must_use]
    pub fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// What a new worker is asked for before it takes over.
    #[must_use]
    pub fn probe_path(&self) -> &str {
        &self.probe_path
    }

    /// Listens on one more address: `HOST:PORT`, `[IPv6]:PORT`, `unix:PATH`. A host name is looked
    /// up now.
    ///
    /// # Errors
    ///
    /// Not an address, or a host that is not found.
    pub fn add_address(&mut self, text: &str) -> Result<(), ConfigError> {
        let address = parse_address(text).ok_or_else(|| ConfigError {
            option: "addr".to_owned(),
            value: text.to_owned(),
            expected: "HOST:PORT, [IPv6]:PORT or unix:PATH".to_owned(),
        })?;
        self.addresses.push(address);
        Ok(())
    }

    /// Forgets all addresses.
    pub fn clear_addresses(&mut self) {
        self.addresses.clear();
    }

    /// Chooses the mode.
    pub fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// Chooses the balancer, and thereby centralized mode, if that is left open.
    pub fn set_balancing(&mut self, balancing: Balancing) {
        self.balancing = Some(balancing);
    }

    /// The application brings a balancer.
    /// Whether the application picks itself.
    pub(crate) const fn has_own_balancer(&self) -> bool {
        self.own_balancer
    }

    pub(crate) fn set_own_balancer(&mut self) {
        self.own_balancer = true;
    }

    /// Sets the weights of the first slots; all others weigh 1.
    ///
    /// # Errors
    ///
    /// More than there can be workers, or one above 1000000.
    pub fn set_weights(&mut self, weights: &[u32]) -> Result<(), ConfigError> {
        if weights.len() > 1024 || weights.iter().any(|weight| *weight > WEIGHT_MAX) {
            return Err(wrong_weights(&show_weights(weights)));
        }
        self.weights = weights.to_vec();
        Ok(())
    }

    /// Whose `X-Forwarded-For` is believed; [`Network::UNIX`] is whoever connects over a Unix
    /// socket.
    #[must_use]
    pub fn trusted_proxies(&self) -> &[Network] {
        &self.trusted_proxies
    }

    /// Believes the `X-Forwarded-For` of these peers, and of no others.
    pub fn set_trusted_proxies(&mut self, networks: Vec<Network>) {
        self.trusted_proxies = networks;
    }

    /// The file that requests are logged to.
    #[must_use]
    pub fn access_log(&self) -> Option<&Path> {
        self.access_log.as_deref()
    }

    /// How they are logged.
    #[must_use]
    pub fn access_log_format(&self) -> AccessFormat {
        self.access_log_format
    }

    /// Logs each request to this file, which every worker opens anew when it starts.
    pub fn set_access_log(&mut self, path: Option<PathBuf>, format: AccessFormat) {
        (self.access_log, self.access_log_format) = (path, format);
    }

    fn set_choice(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let wrong = |expected: &str| ConfigError {
            option: name.to_owned(),
            value: text.to_owned(),
            expected: expected.to_owned(),
        };
        match (name, text) {
            ("mode", "auto") => self.mode = Mode::Auto,
            ("mode", "shared") => self.mode = Mode::Shared,
            ("mode", "centralized") => self.mode = Mode::Centralized,
            ("probe_path", path) if path.starts_with('/') && path.bytes().all(is_target) => {
                path.clone_into(&mut self.probe_path);
            }
            ("probe_path", _) => return Err(wrong("a path such as /healthz")),
            ("mode", _) => return Err(wrong("auto, shared or centralized")),
            ("balancer", _) => {
                let known = Balancing::NAMES.iter().find(|(_, name)| *name == text);
                let expected = "least-connections, round-robin, weighted or sticky";
                self.set_balancing(known.ok_or_else(|| wrong(expected))?.0);
            }
            ("weights", "") => self.weights.clear(),
            ("weights", _) => {
                let weights: Option<Vec<u32>> = text.split(',').map(weight).collect();
                self.set_weights(&weights.ok_or_else(|| wrong_weights(text))?)?;
            }
            ("trusted_proxies", list) => {
                let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
                let networks: Result<_, ()> = names.map(str::parse).collect();
                self.trusted_proxies = networks.map_err(|()| {
                    wrong("networks such as 10.0.0.0/8,::1, nothing after the prefix; or unix")
                })?;
            }
            ("access_log", path) => {
                self.access_log = (!path.is_empty()).then(|| PathBuf::from(path));
            }
            ("access_log_format", "combined") => self.access_log_format = AccessFormat::Combined,
            ("access_log_format", "json") => self.access_log_format = AccessFormat::Json,
            ("access_log_format", _) => return Err(wrong("combined or json")),
            _ => {
                let set = self.operation.set(name, text);
                return set.unwrap_or_else(|| Err(wrong("the name of an option")));
            }
        }
        Ok(())
    }
}

/// What may stand in a request target without being escaped (RFC 9112 §3.2.1).
const fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// An address as text.
pub(crate) fn parse_address(text: &str) -> Option<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty()).then(|| Address::Unix(PathBuf::from(path)));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(Address::Tcp(address));
    }
    text.to_socket_addrs().ok()?.next().map(Address::Tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_reads_back_what_it_shows() {
        let mut config = Config::default();
        for row in Config::ROWS {
            let shown = config.get(row.name).unwrap();
            config.set(row.name, &shown).unwrap();
            assert!(row.doc.ends_with('.'), "{}: {}", row.name, row.doc);
        }
        assert_eq!(config, Config::default());
    }

    #[track_caller]
    fn check(name: &str, text: &str, want: Result<&str, &str>) {
        let mut config = Config::default();
        let got = config.set(name, text).map(|()| config.get(name).unwrap());
        match want {
            Ok(value) => assert_eq!(got.as_deref(), Ok(value)),
            Err(expected) => assert_eq!(got.unwrap_err().expected, expected),
        }
    }

    #[test]
    fn values_have_a_form_and_a_range() {
        check("workers", "1024", Ok("1024"));
        check("workers", "1025", Err("0 to 1024"));
        check("workers", "-1", Err("a number, or a size such as 16k or 10m"));
        check("workers", "+1", Err("a number, or a size such as 16k or 10m"));
        check("message_max", "1023", Err("1024 to 67108864"));
        check("body_max", "20m", Ok("20971520"));
        check("body_max", "99999999999999999999", Err("a number, or a size such as 16k or 10m"));
        check("head_timeout", "250ms", Ok("250ms"));
        check("head_timeout", "2m", Ok("120s"));
        check("head_timeout", "0", Err("1ms to 86400s"));
        check("head_timeout", "5", Err("a duration such as 5s, 250ms or 2m"));
        check("keep_alive", "false", Ok("false"));
        check("mode", "shared", Ok("shared"));
        check("mode", "both", Err("auto, shared or centralized"));
        check("balancer", "sticky", Ok("sticky"));
        check("balancer", "best", Err("least-connections, round-robin, weighted or sticky"));
        check("weights", "3,1,0", Ok("3,1,0"));
        let weights = "up to 1024 numbers of 0 to 1000000, such as 3,1,1";
        check("weights", "3,,1", Err(weights));
        check("weights", "1000001", Err(weights));
        check("weights", &vec!["1"; 1025].join(","), Err(weights));
        check("colour", "red", Err("the name of an option"));
    }

    #[test]
    fn addresses() {
        let mut config = Config::default();
        for text in ["127.0.0.1:0", "[::1]:8080", "unix:/tmp/x", "localhost:1"] {
            config.add_address(text).unwrap();
        }
        for text in ["", "unix:", "127.0.0.1", "127.0.0.1:99999", "[::1]"] {
            assert!(config.add_address(text).is_err(), "{text}");
        }
        assert_eq!(config.addresses().len(), 4);
    }
}
