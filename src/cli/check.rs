//! What `--check` prints: every setting, its value, and where that came from. Pure.
//!
//! The text is a configuration file itself: `ringfort serve --check > ringfort.toml` keeps what
//! holds now.

use super::Settings;
use super::settings::{Place, names};

/// One line per setting.
pub(crate) fn report(settings: &Settings) -> String {
    let lines: Vec<(String, String)> = names()
        .map(|name| match assignment(settings, name) {
            Some(value) => (format!("{name} = {value}"), comment(settings, name)),
            None => (format!("# {name} is not set"), comment(settings, name)),
        })
        .collect();
    let width = lines.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    lines.iter().map(|(left, right)| format!("{left:width$}  # {right}\n")).collect()
}

fn comment(settings: &Settings, name: &str) -> String {
    Place(name, settings.source(name)).to_string()
}

/// The value as TOML; `None` if there is none.
fn assignment(settings: &Settings, name: &str) -> Option<String> {
    match name {
        "addr" => {
            let addresses = settings.config.addresses().iter();
            let list: Vec<String> = addresses.map(|a| quoted(&a.to_string())).collect();
            Some(format!("[{}]", list.join(", ")))
        }
        "root" => settings.root.as_ref().map(|root| quoted(&root.to_string_lossy())),
        // To name one would choose a mode too.
        "balancer" if !settings.config.balancer_is_chosen() => None,
        _ => {
            let value = settings.config.get(name).filter(|value| !value.is_empty())?;
            Some(bare_or_quoted(&value))
        }
    }
}

fn bare_or_quoted(value: &str) -> String {
    if value.bytes().all(|b| b.is_ascii_digit()) || value == "true" || value == "false" {
        return value.to_owned();
    }
    quoted(value)
}

/// A basic string of TOML 1.0.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => quoted += &format!("\\U{:08X}", u32::from(char)),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}
