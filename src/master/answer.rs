//! What the master says to who asked it for something: one answer a command. Pure.

/// Who waits for an answer: one request of one control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker(pub u64);

/// The end of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// With which code the client that asked exits: 0 done, 1 failed and nothing changed.
    pub code: u8,
    /// Which command this answers.
    pub what: &'static str,
    /// How it ended, as a sentence.
    pub text: String,
    /// More about it, by name.
    pub fields: Vec<(&'static str, Field)>,
}

/// A value in an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
    /// Several texts.
    List(Vec<String>),
}

impl Answer {
    /// It was done.
    #[must_use]
    pub fn done(what: &'static str, text: impl Into<String>) -> Self {
        Self { ok: true, code: 0, what, text: text.into(), fields: Vec::new() }
    }

    /// It could not be done, and nothing has changed.
    #[must_use]
    pub fn failed(what: &'static str, text: impl Into<String>) -> Self {
        Self { ok: false, code: 1, what, text: text.into(), fields: Vec::new() }
    }

    /// Says one thing more.
    #[must_use]
    pub fn with(mut self, name: &'static str, field: Field) -> Self {
        self.fields.push((name, field));
        self
    }
}
