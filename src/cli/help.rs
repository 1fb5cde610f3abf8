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

Exit codes: 0 ok, 1 failed, 2 usage, 4 this machine cannot (io_uring, memory, descriptors)
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
        let default = if default.is_empty() { "DIR" } else { &default };
        text += &format!("  --{} {default}\n", name.replace('_', "-"));
        wrap(doc, &mut text);
    }
    text
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
