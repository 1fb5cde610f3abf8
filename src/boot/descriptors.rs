//! RLIMIT_NOFILE: raised as far as allowed, and what has to fit under it.

use super::SPARE_FDS;
use crate::admin::DOOR_RESERVE;
use crate::config::{Config, Mode};
use crate::error::{Error, ErrorKind};
use crate::io::Address;
use crate::master::{FDS_PER_WORKER, FDS_SPARE};
use crate::sys::process;

/// Raises RLIMIT_NOFILE as far as allowed. The default of `connections_max` yields to the limit; a
/// number that somebody chose does not, and is refused by the probe if it does not fit.
pub(super) fn fit(config: &mut Config) -> Result<(u64, u64), Error> {
    let (before, limit) =
        process::raise_nofile().map_err(|failed| failed.error("RLIMIT_NOFILE"))?;
    let room = limit.saturating_sub(SPARE_FDS);
    let default = Config::default().connections_max();
    if config.connections_max() != default || default <= room || room == 0 {
        return Ok((before, limit));
    }
    config.setters().connections_max(room)?;
    Ok((before, limit))
}

/// Whether the master, whose limit was raised, has descriptors for so many workers.
///
/// # Errors
///
/// It has not; how many it has them for.
pub(super) fn check(config: &Config, mode: Mode, workers: u32, mail: bool) -> Result<(), Error> {
    let open = process::open_fds().map_err(|failed| failed.error("/proc"))?.len();
    let tcp = config.addresses().iter().filter(|address| matches!(address, Address::Tcp(_)));
    let groups = if mode == Mode::Shared { tcp.count() } else { 0 };
    let doors = [config.control().is_some(), config.admin_address().is_some()];
    let doors = doors.iter().filter(|door| **door).count();
    let fixed = open
        + OWN
        + doors * (1 + DOOR_RESERVE)
        + usize::from(config.pid_file().is_some())
        + (config.addresses().len() - groups)
        + FDS_SPARE;
    let each = FDS_PER_WORKER + usize::from(mail) + groups;
    let limit = process::nofile_max().map_err(|failed| failed.error("RLIMIT_NOFILE"))?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let fits = limit.saturating_sub(fixed) / each;
    if fits >= workers as usize {
        return Ok(());
    }
    let context = format!(
        "the master has {limit} descriptors (RLIMIT_NOFILE): they suffice for {fits} workers, not \
         for {workers}"
    );
    Err(Error::new(ErrorKind::TooFewDescriptors, context))
}

/// Ring, board, signals and the reserve for refusals.
const OWN: usize = 4;
