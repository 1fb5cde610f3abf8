//! A control or application message: JSON `{"type", "data", "timestamp"}`. Pure.

use super::WireError;
use serde_json::{Map, Value};
use std::time::Duration;

/// Most bytes of a message on the channel between master and worker.
pub const CONTROL_MAX: usize = 1024;

/// Most bytes of the one message that is longer: the options that a throw-away child has read.
pub const CONFIG_MAX: usize = 64 * 1024;

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageType {
    /// `connection_closed` {connection_id}: an application's worker closed a connection.
    ConnectionClosed,
    /// `worker_ready` {worker_id}: ring, channel and listeners are armed.
    WorkerReady,
    /// `worker_full` {worker_id}: it has no room and leaves its listeners alone; the board says
    /// until when.
    WorkerFull,
    /// `worker_short` {worker_id}: it had no descriptors for all of a handoff; of that it has what
    /// the board says, and of those to come it takes none until `resume`.
    WorkerShort,
    /// `worker_failed` {reason}: the worker could not come up and exits.
    WorkerFailed,
    /// `worker_metrics` {…}: numbers of an application's own.
    WorkerMetrics,
    /// `worker_draining` {worker_id}: it was told to drain, and not by the master.
    WorkerDraining,
    /// `config_read` {settings, restart}: what a throw-away child found in the configuration.
    ConfigRead,
    /// `shutdown` {drain_ms, hand_back}: finish what runs, take nothing new, exit.
    Shutdown,
    /// `resume`: what comes after this is taken again.
    Resume,
    /// `serve`: a successor reads its listeners from now on.
    Serve,
    /// `ping`: turn; that alone is the answer.
    Ping,
    /// `reload`.
    Reload,
    /// A type that this build does not know: kept, never fatal.
    Other(String),
}

impl MessageType {
    /// Its word on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::ConnectionClosed => "connection_closed",
            Self::WorkerReady => "worker_ready",
            Self::WorkerFull => "worker_full",
            Self::WorkerShort => "worker_short",
            Self::WorkerDraining => "worker_draining",
            Self::WorkerFailed => "worker_failed",
            Self::WorkerMetrics => "worker_metrics",
            Self::ConfigRead => "config_read",
            Self::Shutdown => "shutdown",
            Self::Resume => "resume",
            Self::Serve => "serve",
            Self::Ping => "ping",
            Self::Reload => "reload",
            Self::Other(name) => name,
        }
    }

    /// The type of a word; an unknown one is kept.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "connection_closed" => Self::ConnectionClosed,
            "worker_ready" => Self::WorkerReady,
            "worker_full" => Self::WorkerFull,
            "worker_short" => Self::WorkerShort,
            "worker_draining" => Self::WorkerDraining,
            "worker_failed" => Self::WorkerFailed,
            "worker_metrics" => Self::WorkerMetrics,
            "config_read" => Self::ConfigRead,
            "shutdown" => Self::Shutdown,
            "resume" => Self::Resume,
            "serve" => Self::Serve,
            "ping" => Self::Ping,
            "reload" => Self::Reload,
            _ => Self::Other(name.to_owned()),
        }
    }
}

/// What a `config_read` says: options with their values, and the names of what takes a restart.
pub type ConfigRead = (Vec<(String, String)>, Vec<String>);

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What it is about.
    pub kind: MessageType,
    /// What it says.
    pub data: Map<String, Value>,
    /// When it was made, in seconds since 1970; 0 when the sender did not say. A finite number:
    /// another is not sent.
    pub timestamp: f64,
}

impl Message {
    /// A message of any type. `timestamp`: seconds since 1970.
    #[must_use]
    pub const fn new(kind: MessageType, data: Map<String, Value>, timestamp: f64) -> Self {
        Self { kind, data, timestamp }
    }

    /// The worker of this slot serves.
    #[must_use]
    pub fn worker_ready(slot: u32, timestamp: f64) -> Self {
        Self::one(MessageType::WorkerReady, "worker_id", slot.into(), timestamp)
    }

    /// The worker of this slot has no room for more connections.
    #[must_use]
    pub fn worker_full(slot: u32, timestamp: f64) -> Self {
        Self::one(MessageType::WorkerFull, "worker_id", slot.into(), timestamp)
    }

    /// The worker of this slot had no descriptors for all that it was handed.
    #[must_use]
    pub fn worker_short(slot: u32, timestamp: f64) -> Self {
        Self::one(MessageType::WorkerShort, "worker_id", slot.into(), timestamp)
    }

    /// The worker could not come up. A long reason is cut so that the message stays below
    /// [`CONTROL_MAX`].
    #[must_use]
    pub fn worker_failed(reason: &str, timestamp: f64) -> Self {
        let reason = cut(reason, CONTROL_MAX - 128);
        Self::one(MessageType::WorkerFailed, "reason", reason.into(), timestamp)
    }

    /// The worker of this slot drains, and the master did not ask for it.
    #[must_use]
    pub fn worker_draining(slot: u32, timestamp: f64) -> Self {
        Self::one(MessageType::WorkerDraining, "worker_id", slot.into(), timestamp)
    }

    /// Finish what runs, for at most `drain`, then exit. `hand_back`: somebody else goes on, so
    /// that connections are handed back instead of closed.
    #[must_use]
    pub fn shutdown(drain: Duration, hand_back: bool, timestamp: f64) -> Self {
        let millis = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
        let mut message = Self::one(MessageType::Shutdown, "drain_ms", millis.into(), timestamp);
        message.data.insert("hand_back".to_owned(), hand_back.into());
        message
    }

    /// What comes after this is taken again.
    #[must_use]
    pub fn resume(timestamp: f64) -> Self {
        Self::new(MessageType::Resume, Map::new(), timestamp)
    }

    /// A successor reads its listeners from now on.
    #[must_use]
    pub fn serve(timestamp: f64) -> Self {
        Self::new(MessageType::Serve, Map::new(), timestamp)
    }

    /// Turn; that alone is the answer.
    #[must_use]
    pub fn ping(timestamp: f64) -> Self {
        Self::new(MessageType::Ping, Map::new(), timestamp)
    }

    /// The options that differ from those the pool began with, by name and value, and what only a
    /// restart can change.
    #[must_use]
    pub fn config_read(settings: &[(String, String)], restart: &[String], timestamp: f64) -> Self {
        let text = |(name, value): &(String, String)| (name.clone(), value.as_str().into());
        let settings: Map<String, Value> = settings.iter().map(text).collect();
        let mut message =
            Self::one(MessageType::ConfigRead, "settings", Value::Object(settings), timestamp);
        let restart = restart.iter().map(|name| name.as_str().into()).collect();
        message.data.insert("restart".to_owned(), Value::Array(restart));
        message
    }

    /// An application's worker closed a connection.
    #[must_use]
    pub fn connection_closed(connection: u64, timestamp: f64) -> Self {
        Self::one(MessageType::ConnectionClosed, "connection_id", connection.into(), timestamp)
    }

    /// Numbers of an application's own.
    #[must_use]
    pub const fn worker_metrics(data: Map<String, Value>, timestamp: f64) -> Self {
        Self::new(MessageType::WorkerMetrics, data, timestamp)
    }

    /// Load anew.
    #[must_use]
    pub fn reload(timestamp: f64) -> Self {
        Self::new(MessageType::Reload, Map::new(), timestamp)
    }

    /// `worker_id` of a `worker_ready`, `worker_full` or `worker_draining`.
    #[must_use]
    pub fn slot(&self) -> Option<u32> {
        u32::try_from(self.data.get("worker_id")?.as_u64()?).ok()
    }

    /// `reason` of a `worker_failed`.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.data.get("reason")?.as_str()
    }

    /// `drain_ms` of a `shutdown`.
    #[must_use]
    pub fn drain(&self) -> Option<Duration> {
        self.data.get("drain_ms")?.as_u64().map(Duration::from_millis)
    }

    /// `hand_back` of a `shutdown`.
    #[must_use]
    pub fn hands_back(&self) -> bool {
        self.data.get("hand_back").and_then(Value::as_bool).unwrap_or(false)
    }

    /// `settings` and `restart` of a `config_read`.
    #[must_use]
    pub fn config(&self) -> Option<ConfigRead> {
        let settings = self.data.get("settings")?.as_object()?;
        let pair = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.into()));
        let restart = self.data.get("restart")?.as_array()?;
        let text = |value: &Value| Some(value.as_str()?.to_owned());
        Some((
            settings.iter().filter_map(pair).collect(),
            restart.iter().filter_map(text).collect(),
        ))
    }

    /// As JSON.
    ///
    /// # Errors
    ///
    /// More than `max` bytes; a timestamp that is no finite number.
    pub fn encode(&self, max: usize) -> Result<Vec<u8>, WireError> {
        if !self.timestamp.is_finite() {
            // JSON would have null for it, and whoever reads that 0.
            return Err(WireError::Shape("`timestamp` must be a finite number"));
        }
        let mut object = Map::new();
        object.insert("type".to_owned(), self.kind.name().into());
        object.insert("data".to_owned(), Value::Object(self.data.clone()));
        object.insert("timestamp".to_owned(), self.timestamp.into());
        let bytes = Value::Object(object).to_string().into_bytes();
        bounded(&bytes, max)?;
        Ok(bytes)
    }

    /// Reads JSON. `data` may be missing: it is empty then.
    ///
    /// # Errors
    ///
    /// No bytes, more than `max`, not JSON (or deeper than 128 levels), not an object, `type`
    /// missing or no text, `data` no object, `timestamp` no number.
    pub fn parse(bytes: &[u8], max: usize) -> Result<Self, WireError> {
        bounded(bytes, max)?;
        let value = serde_json::from_slice(bytes).map_err(|e| WireError::Json(e.to_string()))?;
        let Value::Object(mut object) = value else {
            return Err(WireError::Shape("a message is a JSON object"));
        };
        let kind = match object.get("type") {
            Some(Value::String(name)) => MessageType::from_name(name),
            _ => return Err(WireError::Shape("`type` must be there, and be a text")),
        };
        let data = match object.remove("data") {
            Some(Value::Object(data)) => data,
            None | Some(Value::Null) => Map::new(),
            // How PHP writes an empty map.
            Some(Value::Array(list)) if list.is_empty() => Map::new(),
            Some(_) => return Err(WireError::Shape("`data` must be an object")),
        };
        let timestamp = match object.get("timestamp") {
            None | Some(Value::Null) => 0.0,
            Some(Value::Number(number)) => number.as_f64().unwrap_or(0.0),
            Some(_) => return Err(WireError::Shape("`timestamp` must be a number")),
        };
        Ok(Self { kind, data, timestamp })
    }

    fn one(kind: MessageType, name: &str, value: Value, timestamp: f64) -> Self {
        let mut data = Map::new();
        data.insert(name.to_owned(), value);
        Self::new(kind, data, timestamp)
    }
}

fn bounded(bytes: &[u8], max: usize) -> Result<(), WireError> {
    match bytes.len() {
        0 => Err(WireError::Empty),
        bytes if bytes > max => Err(WireError::TooLarge { bytes, max }),
        _ => Ok(()),
    }
}

/// The beginning of a text that takes at most `max` bytes as JSON.
fn cut(text: &str, max: usize) -> &str {
    let mut bytes = 0;
    for (at, char) in text.char_indices() {
        bytes += match char {
            '"' | '\\' => 2,
            char if char.is_ascii_control() => 6,
            char => char.len_utf8(),
        };
        if bytes > max {
            return &text[..at];
        }
    }
    text
}

/// For the fuzzer: any bytes are a message or an error, and a message survives the way back.
pub fn fuzz(data: &[u8]) {
    let Ok(message) = Message::parse(data, 1 << 16) else { return };
    // Numbers may come out longer than they went in: 1e300.
    let bytes = message.encode(1 << 24).expect("a message that was read can be written");
    let again = Message::parse(&bytes, 1 << 24).expect("what we wrote, we read");
    assert_eq!(again.kind, message.kind);
    assert_eq!(again.data.len(), message.data.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `want`: type, data and timestamp as JSON, or the error's text.
    #[track_caller]
    fn check(text: &str, want: &str) {
        let got = match Message::parse(text.as_bytes(), 256) {
            Ok(m) => format!("{} {} {}", m.kind.name(), Value::Object(m.data), m.timestamp),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn parse() {
        check(r#"{"type":"reload","data":{"a":1},"timestamp":1.5}"#, r#"reload {"a":1} 1.5"#);
        check(r#"{"type":"reload"}"#, "reload {} 0");
        check(r#"{"type":"reload","data":null,"timestamp":null}"#, "reload {} 0");
        check(r#"{"type":"reload","data":[],"timestamp":7}"#, "reload {} 7");
        check(r#"{"type":"of tomorrow","extra":0}"#, "of tomorrow {} 0");
        check("", "a message without a byte");
        check(&"[".repeat(257), "257 bytes; at most 256 may be");
        check(&"[".repeat(256), "not JSON: recursion limit exceeded at line 1 column 128");
        check("{", "not JSON: EOF while parsing an object at line 1 column 1");
        check("{} {}", "not JSON: trailing characters at line 1 column 4");
        check("[]", "a message is a JSON object");
        check("{}", "`type` must be there, and be a text");
        check(r#"{"type":1}"#, "`type` must be there, and be a text");
        check(r#"{"type":"reload","data":[1]}"#, "`data` must be an object");
        check(r#"{"type":"reload","timestamp":"now"}"#, "`timestamp` must be a number");
    }

    #[test]
    fn the_words_are_fixed() {
        let words = [
            (MessageType::ConnectionClosed, "connection_closed"),
            (MessageType::WorkerReady, "worker_ready"),
            (MessageType::WorkerFull, "worker_full"),
            (MessageType::WorkerShort, "worker_short"),
            (MessageType::Resume, "resume"),
            (MessageType::WorkerDraining, "worker_draining"),
            (MessageType::WorkerFailed, "worker_failed"),
            (MessageType::WorkerMetrics, "worker_metrics"),
            (MessageType::ConfigRead, "config_read"),
            (MessageType::Serve, "serve"),
            (MessageType::Ping, "ping"),
            (MessageType::Shutdown, "shutdown"),
            (MessageType::Reload, "reload"),
            (MessageType::Other("x".to_owned()), "x"),
        ];
        for (kind, word) in words {
            assert_eq!(kind.name(), word);
            assert_eq!(MessageType::from_name(word), kind);
        }
    }

    #[test]
    fn what_a_typed_message_says_is_read_back() {
        let through = |message: Message| {
            let bytes = message.encode(CONTROL_MAX).unwrap();
            assert_eq!(bytes[0], b'{', "told from a handoff by its first byte");
            let back = Message::parse(&bytes, CONTROL_MAX).unwrap();
            assert_eq!(back, message);
            back
        };
        assert_eq!(through(Message::worker_ready(7, 1.5)).slot(), Some(7));
        assert_eq!(through(Message::worker_full(7, 1.5)).slot(), Some(7));
        assert_eq!(through(Message::worker_draining(7, 1.5)).slot(), Some(7));
        assert_eq!(through(Message::worker_failed("no ring", 1.5)).reason(), Some("no ring"));
        let drain = Duration::from_millis(1500);
        assert_eq!(through(Message::shutdown(drain, false, 1.5)).drain(), Some(drain));
        assert!(through(Message::shutdown(drain, true, 1.5)).hands_back());
        assert!(!through(Message::shutdown(drain, false, 1.5)).hands_back());
        let settings = vec![("head_max".to_owned(), "8192".to_owned())];
        let restart = vec!["backlog".to_owned()];
        let read = through(Message::config_read(&settings, &restart, 1.5));
        assert_eq!(read.config(), Some((settings, restart)));
        assert_eq!(through(Message::connection_closed(9, 1.5)).data["connection_id"], 9);
        assert_eq!(through(Message::reload(1.5)).slot(), None);
        assert_eq!(through(Message::worker_metrics(Map::new(), 0.5)).timestamp, 0.5);
    }

    #[test]
    fn hostile_payloads_are_kept_verbatim_or_refused() {
        let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for text in [
            "<script>alert(1)</script>",
            "'; DROP TABLE workers; --",
            "a\0b\r\n\u{1b}[31m",
            "größer 漢字 🦀",
            &"x".repeat(100_000),
        ] {
            let mut data = Map::new();
            data.insert(text.to_owned(), text.into());
            let sent = Message::worker_metrics(data, 1.5);
            let bytes = sent.encode(1 << 20).unwrap();
            assert_eq!(Message::parse(&bytes, 1 << 20), Ok(sent));
        }
        let nested = |depth| {
            let text = format!(r#"{{"type":"reload","data":{{"a":{}}}}}"#, deep(depth));
            Message::parse(text.as_bytes(), 1 << 20)
        };
        assert!(nested(50).is_ok());
        assert!(matches!(nested(100_000), Err(WireError::Json(_))), "and no stack is overrun");
        for text in ["1", "true", "\"text\"", "[1]", "null", "\0", "{\"type\":\"a\"}\0"] {
            assert!(Message::parse(text.as_bytes(), 1 << 20).is_err(), "{text}");
        }
    }

    #[test]
    fn a_timestamp_that_is_no_number_is_refused() {
        let want = WireError::Shape("`timestamp` must be a finite number");
        for timestamp in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Message::reload(timestamp).encode(CONTROL_MAX), Err(want.clone()));
        }
        for text in ["1e999", "-1e999", "NaN", "Infinity"] {
            let text = format!(r#"{{"type":"reload","timestamp":{text}}}"#);
            let refused = Message::parse(text.as_bytes(), CONTROL_MAX);
            assert!(matches!(refused, Err(WireError::Json(_))), "{text}: {refused:?}");
        }
        let most = Message::reload(f64::MAX);
        assert_eq!(Message::parse(&most.encode(CONTROL_MAX).unwrap(), CONTROL_MAX), Ok(most));
    }

    #[test]
    fn a_message_above_the_limit_is_not_written() {
        let message = Message::reload(0.0);
        let bytes = message.encode(CONTROL_MAX).unwrap().len();
        assert!(message.encode(bytes).is_ok());
        let want = WireError::TooLarge { bytes, max: bytes - 1 };
        assert_eq!(message.encode(bytes - 1), Err(want));
    }

    proptest! {
        #[test]
        fn any_reason_fits_a_control_message(reason in any::<String>(), times in 1_usize..2000) {
            let reason = reason.repeat(times);
            let message = Message::worker_failed(&reason, 1_753_000_000.123_456);
            let bytes = message.encode(CONTROL_MAX).unwrap();
            let back = Message::parse(&bytes, CONTROL_MAX).unwrap();
            prop_assert!(reason.starts_with(back.reason().unwrap()));
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(data in prop::collection::vec(any::<u8>(), 0..200)) {
            fuzz(&data);
        }

        #[test]
        fn almost_json_too(text in r#"[{]"(type|data|timestamp)":["\[{}0-9eE+.,: a-z\\]{0,80}"#) {
            fuzz(text.as_bytes());
        }
    }
}
