//! Reading the configuration anew, in a throw-away child: what differs, and what of it a reload can
//! change.

use super::descriptors;
use crate::config::{Config, Mode};
use crate::io::Fd;
use crate::ipc::message::{CONFIG_MAX, Message};
use crate::master::epochs::RESTART;
use crate::mode::recommended;
use crate::pool::Reread;
use crate::sys::{clock, scm};
use crate::system::SystemInfo;

/// How an application reads its configuration again.
pub(crate) type Hook = Box<dyn FnMut() -> Result<Reread, String>>;

/// What the pool began with.
pub(super) struct Base {
    pub(super) config: Config,
    pub(super) mode: Mode,
}

/// The options that are no rows of the table; `mode` is compared as it was resolved.
const CHOICES: [&str; 12] = [
    "balancer",
    "weights",
    "probe_path",
    "trusted_proxies",
    "access_log",
    "access_log_format",
    "control",
    "admin_address",
    "pid_file",
    "user",
    "group",
    "umask",
];

/// The options that differ, and the names of those that take a restart.
type Difference = (Vec<(String, String)>, Vec<String>);

/// What the throw-away child does: reads, compares, says what it found. Gives back its exit code.
///
/// # Errors
///
/// Why the configuration is not usable.
pub(super) fn check(hook: &mut Option<Hook>, base: &Base, channel: &Fd) -> Result<(), String> {
    // Without a hook nothing can have changed but what the application reads by itself.
    let (options, restart) = match hook {
        Some(hook) => differences(hook()?, base)?,
        None => (Vec::new(), Vec::new()),
    };
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double exactly")]
    let stamp = clock::unix_time() as f64;
    let message = Message::config_read(&options, &restart, stamp);
    let bytes = message.encode(CONFIG_MAX).map_err(|error| error.to_string())?;
    scm::send_message(channel, &bytes, &[]).map_err(|errno| errno.to_string())?;
    Ok(())
}

fn differences(reread: Reread, base: &Base) -> Result<Difference, String> {
    let Reread { mut config, mut restart } = reread;
    descriptors::fit(&mut config).map_err(|error| error.to_string())?;
    if base.config.has_own_balancer() {
        config.set_own_balancer();
    }
    let system = SystemInfo::read(u32::try_from(config.fallback_cpus()).unwrap_or(1));
    let workers = match u32::try_from(config.workers()) {
        Ok(count) if count > 0 => count,
        _ => system.cpus.usable,
    };
    let mut options = Vec::new();
    let rows = Config::ROWS.iter().map(|row| row.name);
    for name in rows.chain(CHOICES) {
        let (Some(value), Some(before)) = (config.get(name), base.config.get(name)) else {
            continue;
        };
        if value == before {
            continue;
        }
        match name {
            // The weights are in memory that is made once.
            "balancer" | "weights" => restart.push(name.to_owned()),
            _ if RESTART.contains(&name) => restart.push(name.to_owned()),
            "workers" => options.push((name.to_owned(), workers.to_string())),
            _ => options.push((name.to_owned(), value)),
        }
    }
    if config.addresses() != base.config.addresses() {
        restart.push("addr".to_owned());
    }
    let mode = recommended(&config, &system).mode;
    if mode != base.mode {
        let name = if mode == Mode::Shared { "shared" } else { "centralized" };
        options.push(("mode".to_owned(), name.to_owned()));
    }
    Ok((options, restart))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(options: &str) -> Config {
        let mut config = Config::default();
        config.add_address("127.0.0.1:80").unwrap();
        for option in options.split_whitespace() {
            let (name, value) = option.split_once('=').unwrap();
            config.set(name, value).unwrap();
        }
        config
    }

    /// `want`: the options to apply, a bar, what takes a restart.
    #[track_caller]
    fn check(before: &str, after: &str, want: &str) {
        let base = Base { config: config(before), mode: Mode::Shared };
        let (options, restart) = differences(config(after).into(), &base).unwrap();
        let options: Vec<String> = options.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(format!("{} | {}", options.join(" "), restart.join(" ")), want);
    }

    #[test]
    fn what_a_reload_changes_and_what_it_cannot() {
        check("", "", " | ");
        check("head_max=8k", "head_max=8k", " | ");
        check("", "head_max=8k probe_path=/up", "head_max=8192 probe_path=/up | ");
        check("head_max=8k", "", "head_max=16384 | ");
        check("workers=2", "workers=4 backlog=100", "workers=4 | backlog");
        check("", "mode=centralized message_max=2048", "mode=centralized | message_max");
        check("", "mode=shared", " | ");
        check("", "balancer=round-robin", "mode=centralized | balancer");
        check("", "weights=3,1", " | weights");
    }

    #[test]
    fn another_address_takes_a_restart() {
        let base = Base { config: config(""), mode: Mode::Shared };
        let mut other = config("");
        other.add_address("127.0.0.1:81").unwrap();
        assert_eq!(differences(other.into(), &base).unwrap().1, ["addr"]);
    }
}
