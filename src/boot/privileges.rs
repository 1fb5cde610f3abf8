//! What a worker gives up before it runs a line of the application: user, groups, new privileges,
//! CPUs.

use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::sys::privilege;

/// Whether the configuration can be obeyed; told before the first worker fails by it.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    if config.user().is_none() && config.group().is_none() {
        return Ok(());
    }
    let who = [config.user(), config.group()].map(|name| name.unwrap_or("-")).join(":");
    privilege::identity(config.user(), config.group()).map_err(|failed| failed.error(&who))?;
    if !privilege::is_root() {
        let context = format!("cannot let workers be {who}: only root can");
        return Err(Error::new(ErrorKind::PermissionDenied, context));
    }
    Ok(())
}

/// In the worker of this slot: gives up what the configuration says, for good.
pub(super) fn give_up(config: &Config, slot: u32) -> Result<(), String> {
    if config.pin_cpus() {
        let cpus = privilege::cpus().map_err(|failed| failed.error("pin_cpus").to_string())?;
        if let Some(cpu) = cpus.get(slot as usize % cpus.len().max(1)) {
            privilege::pin(*cpu).map_err(|failed| failed.error("pin_cpus").to_string())?;
        }
    }
    if config.user().is_some() || config.group().is_some() {
        let named = |failed: crate::sys::errno::Failed| failed.error("user").to_string();
        let identity = privilege::identity(config.user(), config.group()).map_err(named)?;
        privilege::become_somebody(&identity).map_err(named)?;
    }
    if config.no_new_privs() {
        privilege::no_new_privs().map_err(|failed| failed.error("no_new_privs").to_string())?;
    }
    Ok(())
}
