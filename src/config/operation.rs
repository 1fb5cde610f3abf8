//! Settings around the pool: control and health, pid file, what workers may do. Pure.

use super::{Config, ConfigError, parse_address};
use crate::io::Address;
use std::path::{Path, PathBuf};

/// The settings that are texts, and not rows of the table of limits.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Operation {
    control: Option<PathBuf>,
    admin_address: Option<Address>,
    pid_file: Option<PathBuf>,
    user: Option<String>,
    group: Option<String>,
    umask: Option<u32>,
}

impl Operation {
    /// Sets one from text; an empty one unsets it. `None`: no such setting.
    pub(super) fn set(&mut self, name: &str, text: &str) -> Option<Result<(), ConfigError>> {
        let given = (!text.is_empty()).then_some(text);
        let path = given.map(PathBuf::from);
        match name {
            "control" => self.control = path,
            "pid_file" => self.pid_file = path,
            "user" => self.user = given.map(str::to_owned),
            "group" => self.group = given.map(str::to_owned),
            "admin_address" => match given.map(parse_address) {
                Some(None) => return Some(wrong(name, text, "HOST:PORT or unix:PATH")),
                address => self.admin_address = address.flatten(),
            },
            "umask" => match given.map(octal) {
                Some(None) => return Some(wrong(name, text, "three or four octal digits: 027")),
                mask => self.umask = mask.flatten(),
            },
            _ => return None,
        }
        Some(Ok(()))
    }

    /// One as text, as it can be set. `None`: no such setting.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let path = |path: &Option<PathBuf>| {
            path.as_ref().map_or_else(String::new, |path| path.display().to_string())
        };
        Some(match name {
            "control" => path(&self.control),
            "pid_file" => path(&self.pid_file),
            "user" => self.user.clone().unwrap_or_default(),
            "group" => self.group.clone().unwrap_or_default(),
            "admin_address" => {
                self.admin_address.as_ref().map_or_else(String::new, Address::to_string)
            }
            "umask" => self.umask.map_or_else(String::new, |mask| format!("{mask:03o}")),
            _ => return None,
        })
    }
}

impl Config {
    /// Where operators ask and command: the path of a Unix socket.
    #[must_use]
    pub fn control(&self) -> Option<&Path> {
        self.operation.control.as_deref()
    }

    /// Where `/livez`, `/readyz`, `/metrics` and the status page are answered.
    #[must_use]
    pub fn admin_address(&self) -> Option<&Address> {
        self.operation.admin_address.as_ref()
    }

    /// The file that holds the master's number while it runs.
    #[must_use]
    pub fn pid_file(&self) -> Option<&Path> {
        self.operation.pid_file.as_deref()
    }

    /// Which user workers become, by name or number.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.operation.user.as_deref()
    }

    /// Which group workers become; without it their user's own.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.operation.group.as_deref()
    }

    /// Which permissions new files of the pool do not get.
    #[must_use]
    pub fn umask(&self) -> Option<u32> {
        self.operation.umask
    }
}

fn wrong(name: &str, value: &str, expected: &str) -> Result<(), ConfigError> {
    Err(ConfigError {
        option: name.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    })
}

fn octal(digits: &str) -> Option<u32> {
    let whole = (3..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    u32::from_str_radix(digits, 8).ok().filter(|mask| whole && *mask <= 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read back, or what was expected.
    #[track_caller]
    fn check(name: &str, text: &str, want: &str) {
        let mut operation = Operation::default();
        let got = match operation.set(name, text) {
            Some(Ok(())) => operation.get(name).unwrap(),
            Some(Err(error)) => error.expected,
            None => "no such setting".to_owned(),
        };
        assert_eq!(got, want, "{name} = {text:?}");
    }

    #[test]
    fn texts_are_read_back_and_an_empty_one_unsets() {
        check("control", "/run/x.sock", "/run/x.sock");
        check("pid_file", "/run/x.pid", "/run/x.pid");
        check("user", "www-data", "www-data");
        check("group", "33", "33");
        check("admin_address", "127.0.0.1:9090", "127.0.0.1:9090");
        check("admin_address", "unix:/run/health", "unix:/run/health");
        check("admin_address", "9090", "HOST:PORT or unix:PATH");
        check("umask", "027", "027");
        check("umask", "0027", "027");
        for umask in ["27", "0888", "01777", "+27", "-27", "0x1f"] {
            check("umask", umask, "three or four octal digits: 027");
        }
        check("colour", "red", "no such setting");
        for name in ["control", "pid_file", "user", "group", "admin_address", "umask"] {
            check(name, "", "");
        }
    }
}
