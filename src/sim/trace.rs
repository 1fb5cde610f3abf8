//! What happened, as text: hashed always, kept when asked. Pure.

use std::fmt::{self, Write};

/// One thing that happened.
#[derive(Clone, Debug)]
struct Row {
    at: u64,
    process: String,
    connection: Option<u32>,
    operation: String,
}

/// The run as text. Two runs with equal hashes did the same.
#[derive(Debug)]
pub struct Trace {
    hash: Fnv,
    /// `None`: only the hash is kept.
    rows: Option<Vec<Row>>,
}

impl Trace {
    /// An empty one. Rows cost time and memory: keep them to look at one run, not to search many.
    #[must_use]
    pub fn new(keep: bool) -> Self {
        Self { hash: Fnv::default(), rows: keep.then(Vec::new) }
    }

    /// Of everything so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.0
    }

    /// Something happened at `at` (nanoseconds), to a connection or to none.
    pub(super) fn note(
        &mut self,
        at: u64,
        process: &str,
        connection: Option<u32>,
        operation: fmt::Arguments<'_>,
    ) {
        let written = writeln!(self.hash, "{at} {process} {connection:?} {operation}");
        debug_assert!(written.is_ok(), "hashing cannot fail");
        if let Some(rows) = &mut self.rows {
            let operation = operation.to_string();
            rows.push(Row { at, process: process.to_owned(), connection, operation });
        }
    }

    /// The life of one connection as a table; empty if rows were not kept.
    #[must_use]
    pub fn life(&self, connection: u32) -> String {
        let mut table = String::from("| # | process | operation |\n|---|---|---|\n");
        let rows = self.rows.iter().flatten().filter(|row| row.connection == Some(connection));
        for (number, row) in rows.enumerate() {
            table += &format!("| {} | {} | {} |\n", number + 1, row.process, row.operation);
        }
        table
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in self.rows.iter().flatten() {
            write!(f, "{:>13.6} ms {:<12} ", row.at as f64 / 1e6, row.process)?;
            match row.connection {
                Some(connection) => writeln!(f, "#{connection:<3} {}", row.operation)?,
                None => writeln!(f, "     {}", row.operation)?,
            }
        }
        Ok(())
    }
}

/// FNV-1a, 64 bits: enough to tell two runs apart, and the same on every machine.
#[derive(Debug)]
pub(super) struct Fnv(pub(super) u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(super) fn eat(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.eat(text.as_bytes());
        Ok(())
    }
}
