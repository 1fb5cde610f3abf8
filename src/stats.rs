//! Every counter by name, unit and meaning: one table, from which the board takes its layout. Pure.
//!
//! A counter has one writer (the worker of the line, or the master) and only grows. Gauges are
//! differences of counters, so nothing can drift: open = adopted − closed.

/// What kind of end a connection had, for the ledger: accepted = served + refused + cut + open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It ended as it should: the peer or we closed between requests.
    Served,
    /// We would not serve what it asked, and told it so.
    Refused,
    /// It ended in the middle of something.
    Cut,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $unit:literal;)*) => {
        /// A counter of the board.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Counter { $($(#[doc = $doc])+ $name,)* }

        impl Counter {
            /// All of them, in the order of the board.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in metrics and reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it counts: connections, requests, bytes …
            #[must_use]
            pub const fn unit(self) -> &'static str {
                match self { $(Self::$name => $unit,)* }
            }

            /// What it means, as a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)* }
            }
        }
    };
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $class:ident, $text:literal;)*) => {
        /// Why a connection ended. Each has a counter of the same name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum CloseReason { $($(#[doc = $doc])+ $name,)* }

        impl CloseReason {
            /// All of them, in the order of the board.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in metrics, logs and reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// On which side of the ledger it stands.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }

            /// What it means, as a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)* }
            }
        }
    };
}

counters! {
    // Written by the worker of the line.
    /// Connections taken over from the master or accepted from the worker's own listener.
    Adopted = "adopted", "connections";
    /// Connections taken over from the master: what the master's copies wait for.
    Received = "received", "connections";
    /// Connections closed, for whatever reason.
    Closed = "closed", "connections";
    /// Requests whose head was read.
    Requests = "requests", "requests";
    /// Requests that were answered.
    Responses = "responses", "responses";
    /// Answers with a status of 400 to 499.
    ClientErrors = "client_errors", "responses";
    /// Answers with a status of 500 and more.
    ServerErrors = "server_errors", "responses";
    /// Handlers that panicked; each was answered with 500 if its head was not out yet.
    HandlerPanics = "handler_panics", "requests";
    /// Bytes received from clients.
    BytesIn = "bytes_in", "bytes";
    /// Bytes handed to the kernel for clients.
    BytesOut = "bytes_out", "bytes";
    /// Inline sends that did not take all bytes and were finished asynchronously.
    ShortSends = "short_sends", "sends";
    /// Receives that ended because no provided buffer was free; they were armed again.
    Starved = "starved", "receives";
    /// Times reading from a peer was paused because its answers were not read.
    ReadPauses = "read_pauses", "pauses";
    /// Times a connection was made to wait for the next pass so that others get their turn.
    FairnessYields = "fairness_yields", "yields";
    /// Accepts or receives of descriptors that failed for want of descriptors.
    OutOfFds = "out_of_fds", "failures";
    /// Requests answered with 429: their client was over `rate_limit`.
    RateLimited = "rate_limited", "requests";
    /// Lines of the access log that were dropped: the disk was too slow, or failed.
    AccessLogDropped = "access_log_dropped", "lines";
    /// Passes of the loop.
    Passes = "passes", "passes";
    /// Connections given back to the master in a drain, for another worker.
    HandedBack = "handed_back", "connections";
    // Written by the master.
    /// Connections given back by this worker that the master has taken.
    TakenBack = "taken_back", "connections";
    /// Connections handed over to this worker.
    HandedOver = "handed_over", "connections";
}

reasons! {
    /// The peer closed between requests.
    ClientClosed = Served, "client_closed";
    /// The peer asked for the close with its last request (or spoke HTTP/1.0).
    ClientAsked = Served, "client_asked";
    /// The handler asked for the close.
    HandlerAsked = Served, "handler_asked";
    /// No request came within the keep-alive timeout.
    IdleTimeout = Served, "idle_timeout";
    /// The connection had as many requests as one may have.
    RequestsMax = Served, "requests_max";
    /// Keep-alive is switched off.
    KeepAliveOff = Served, "keep_alive_off";
    /// The worker drains, and the answer is out.
    Drain = Served, "drain";
    /// 400: bad framing or syntax.
    BadRequest = Refused, "bad_request";
    /// 408: the head did not come in time.
    HeadTimeout = Refused, "head_timeout";
    /// 408: the body stopped coming.
    BodyTimeout = Refused, "body_timeout";
    /// 408: the body came too slowly.
    BodyTooSlow = Refused, "body_too_slow";
    /// 413: the body is larger than allowed.
    BodyTooLarge = Refused, "body_too_large";
    /// 414: the request line is longer than allowed.
    UriTooLong = Refused, "uri_too_long";
    /// 431: the head is larger, or has more fields, than allowed.
    HeadTooLarge = Refused, "head_too_large";
    /// 417: an expectation other than 100-continue.
    ExpectationFailed = Refused, "expectation_failed";
    /// 429: more requests than `rate_limit`, this one with a body that is not read.
    RateLimited = Refused, "rate_limited_body";
    /// 501: a transfer coding that is not chunked, or a method form we do not serve.
    NotImplemented = Refused, "not_implemented";
    /// 505: an HTTP version that is not 1.0 or 1.1.
    VersionUnsupported = Refused, "version_unsupported";
    /// The peer closed in the middle of a request.
    ClientAborted = Cut, "client_aborted";
    /// The peer reset the connection, or it broke.
    Reset = Cut, "reset";
    /// The peer did not read its answer in time.
    WriteTimeout = Cut, "write_timeout";
    /// The handler panicked.
    HandlerPanic = Cut, "handler_panic";
    /// The body of an answer could not be produced to its end.
    StreamFailed = Cut, "stream_failed";
    /// The drain deadline passed before the answer was out.
    DrainDeadline = Cut, "drain_deadline";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_counters_share_a_name_and_each_says_what_it_means() {
        let names: BTreeSet<_> = Counter::ALL
            .iter()
            .map(|c| (c.name(), c.meaning()))
            .chain(CloseReason::ALL.iter().map(|r| (r.name(), r.meaning())))
            .inspect(|(name, meaning)| assert!(meaning.ends_with('.'), "{name}: {meaning}"))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names.len(), Counter::ALL.len() + CloseReason::ALL.len());
    }
}
