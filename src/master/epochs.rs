//! Which settings each epoch runs with, and which of them a reload can change. Pure.

use crate::config::{Config, Mode};
use std::collections::BTreeMap;

/// What the workers of an epoch run with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The options that differ from those the pool began with: name and value.
    pub options: Vec<(String, String)>,
    /// How connections reach workers; never `Auto`.
    pub mode: Mode,
    /// How they did when the pool began.
    pub first_mode: Mode,
}

impl Settings {
    /// The value of an option, if it differs from the one the pool began with.
    fn get(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The same with options that were read anew. A mode that was changed while the pool ran stays,
    /// unless what is configured has changed too.
    #[must_use]
    pub fn reread(&self, options: Vec<(String, String)>) -> Self {
        let new = Self { options, mode: self.mode, first_mode: self.first_mode };
        let mode = match new.get("mode") {
            named if named == self.get("mode") => self.mode,
            Some("centralized") => Mode::Centralized,
            Some(_) => Mode::Shared,
            None => self.first_mode,
        };
        Self { mode, ..new }
    }

    /// The whole configuration.
    ///
    /// # Errors
    ///
    /// An option that is none, or a value that it does not take.
    pub fn config(&self, base: &Config) -> Result<Config, String> {
        let mut config = base.clone();
        for (name, value) in &self.options {
            config.set(name, value).map_err(|wrong| wrong.to_string())?;
        }
        Ok(config)
    }

    /// The options that differ between the two, by name.
    #[must_use]
    pub fn changed(&self, other: &Self) -> Vec<String> {
        let names = self.options.iter().chain(&other.options).map(|(name, _)| name);
        let mut changed: Vec<String> =
            names.filter(|name| self.get(name) != other.get(name)).cloned().collect();
        if self.mode != other.mode {
            changed.push("mode".to_owned());
        }
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}

/// The options that only a restart can change: listeners, the master's ring, the board and the
/// memory that workers share are made once. So is `addr`, which is no row of the table.
pub const RESTART: [&str; 13] = [
    "admin_address",
    "backlog",
    "capture_stderr",
    "control",
    "defer_accept",
    "fallback_cpus",
    "message_max",
    "pid_file",
    "rate_clients",
    "rate_limit",
    "rate_window",
    "umask",
    "workers_max",
];

/// The settings of all epochs that may be wanted again.
#[derive(Debug)]
pub struct Epochs {
    current: u32,
    previous: Option<u32>,
    last: u32,
    settings: BTreeMap<u32, Settings>,
}

impl Epochs {
    /// The first epoch: what the pool began with.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        let settings = Settings { options: Vec::new(), mode, first_mode: mode };
        Self { current: 0, previous: None, last: 0, settings: BTreeMap::from([(0, settings)]) }
    }

    /// The epochs of a pool that an earlier program of this process began: this one serves.
    #[must_use]
    pub fn resumed(current: u32, mode: Mode, first_mode: Mode) -> Self {
        let settings = Settings { options: Vec::new(), mode, first_mode };
        let settings = BTreeMap::from([(current, settings)]);
        Self { current, previous: None, last: current, settings }
    }

    /// The epoch that serves.
    #[must_use]
    pub const fn current(&self) -> u32 {
        self.current
    }

    /// The settings of an epoch; those of the present one if it is not known any more.
    #[must_use]
    pub fn settings(&self, epoch: u32) -> &Settings {
        let found = self.settings.get(&epoch).or_else(|| self.settings.get(&self.current));
        found.expect("the present epoch has settings")
    }

    /// The settings before the last change, if there was one.
    #[must_use]
    pub fn before(&self) -> Option<&Settings> {
        self.settings.get(&self.previous?)
    }

    /// A new epoch on trial: it is current once it is committed.
    pub fn begin(&mut self, settings: Settings) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.settings.insert(self.last, settings);
        self.last
    }

    /// What an epoch on trial really runs with.
    pub fn replace(&mut self, epoch: u32, settings: Settings) {
        self.settings.insert(epoch, settings);
    }

    /// This one serves from now on.
    pub fn commit(&mut self, epoch: u32) {
        if epoch != self.current {
            self.previous = Some(self.current);
            self.current = epoch;
        }
        self.prune();
    }

    /// The settings before the last change were another program's.
    pub fn forget_before(&mut self) {
        self.previous = None;
        self.prune();
    }

    /// This one is given up.
    pub fn drop(&mut self, epoch: u32) {
        if epoch != self.current {
            self.settings.remove(&epoch);
        }
    }

    fn prune(&mut self) {
        let (current, previous) = (self.current, self.previous);
        self.settings.retain(|&epoch, _| epoch == current || Some(epoch) == previous);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<(String, String)> {
        let pair = |word: &str| word.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned()));
        text.split_whitespace().filter_map(pair).collect()
    }

    /// `live`: the mode that somebody switched to; `text`: what is read anew.
    #[track_caller]
    fn check(before: &str, live: Mode, text: &str, want: Mode) {
        let first_mode = Mode::Shared;
        let settings = Settings { options: options(before), mode: live, first_mode };
        assert_eq!(settings.reread(options(text)).mode, want, "{before} {live:?} {text}");
    }

    #[test]
    fn a_mode_that_was_switched_stays_until_the_configured_one_changes() {
        check("", Mode::Shared, "", Mode::Shared);
        check("", Mode::Centralized, "", Mode::Centralized);
        check("", Mode::Shared, "mode=centralized", Mode::Centralized);
        check("mode=centralized", Mode::Shared, "mode=centralized", Mode::Shared);
        check("mode=centralized", Mode::Centralized, "", Mode::Shared);
    }

    #[test]
    fn what_changed_is_named_and_an_epoch_can_come_back() {
        let mut epochs = Epochs::new(Mode::Shared);
        let first = epochs.settings(0).clone();
        assert_eq!(epochs.before(), None);
        let second = first.reread(options("head_max=8k mode=centralized"));
        assert_eq!(second.changed(&first), ["head_max", "mode"]);
        assert_eq!(first.changed(&second), ["head_max", "mode"]);
        let epoch = epochs.begin(second.clone());
        assert_eq!((epochs.current(), epochs.settings(epoch)), (0, &second));
        epochs.commit(epoch);
        assert_eq!((epochs.current(), epochs.before()), (epoch, Some(&first)));
        let failed = epochs.begin(first.clone());
        epochs.drop(failed);
        assert_eq!(epochs.settings(failed), &second, "unknown: the present one");
        let back = epochs.begin(epochs.before().unwrap().clone());
        epochs.commit(back);
        assert_eq!((epochs.settings(back), epochs.before()), (&first, Some(&second)));
    }

    #[test]
    fn what_takes_a_restart_exists() {
        for name in RESTART {
            assert!(Config::default().get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_hundred_epochs_leave_two_settings() {
        let mut epochs = Epochs::new(Mode::Shared);
        for _ in 0..100 {
            let epoch = epochs.begin(epochs.settings(epochs.current()).clone());
            epochs.commit(epoch);
        }
        assert_eq!(epochs.settings.len(), 2);
    }

    #[test]
    fn options_make_a_configuration_or_say_why_not() {
        let settings = Epochs::new(Mode::Shared).settings(0).reread(options("head_max=8k"));
        assert_eq!(settings.config(&Config::default()).unwrap().head_max(), 8192);
        let wrong = settings.reread(options("head_max=1"));
        assert!(wrong.config(&Config::default()).unwrap_err().starts_with("head_max"));
    }
}
