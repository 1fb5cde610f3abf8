//! What happens to every request before its handler and after its answer: whose it is, whether that
//! client may make one more, and its line in the access log. Pure.

use super::access::{AccessLog, Entry};
use super::client::client;
use super::close::Refusal;
use super::connection::{Connection, Http};
use super::handler::Handler;
use super::head::{Framing, Head};
use super::rate::RateTable;
use super::serve::Facts;
use crate::config::Config;
use crate::io::Peer;
use crate::network::Network;
use crate::protocol::Cx;
use crate::stats::Counter;
use std::time::Duration;

/// What all connections of a worker share for this.
#[derive(Debug)]
pub(super) struct Front {
    /// For ever: a worker has one configuration.
    pub(super) proxies: &'static [Network],
    pub(super) log: Option<AccessLog>,
    pub(super) rate: Option<RateTable>,
}

impl Front {
    pub(super) fn new(config: &Config) -> Self {
        let log = config.access_log().map(|_| AccessLog::new(config.access_log_format()));
        Self { proxies: Vec::leak(config.trusted_proxies().to_vec()), log, rate: None }
    }
}

impl<H: Handler> Http<H> {
    /// Before the handler is asked. How long the client has to wait, if it is over its limit.
    pub(super) fn admit(
        &self,
        connection: &mut Connection,
        head: &Head<'_>,
        cx: &Cx<'_>,
    ) -> Option<Duration> {
        if self.front.rate.is_none() && self.front.log.is_none() {
            return None;
        }
        let peer = (cx.lookup)(cx.fd);
        let address = client(peer, self.front.proxies, head);
        if self.front.log.is_some() {
            connection.entry = Some(Box::new(Entry::of(head, address, cx.now)));
        }
        let rate = self.front.rate.as_ref().filter(|_| peer != Peer::Gone)?;
        rate.admit(address, cx.now.as_nanos()).err()
    }

    /// 429, with the whole seconds to wait (RFC 6585 §4). Its connection stays, unless a body that
    /// nobody will read follows. Returns how much of the input is used by that.
    pub(super) fn over_limit(
        &mut self,
        connection: &mut Connection,
        (head, input): (&Head<'_>, &[u8]),
        wait: Duration,
        cx: &mut Cx<'_>,
    ) -> usize {
        cx.stats.add(Counter::RateLimited, 1);
        let facts = Facts::of(head);
        self.response.plain(429);
        let seconds = wait.as_millis().div_ceil(1000).to_string();
        let added = self.response.header("Retry-After", &seconds).is_ok();
        debug_assert!(added, "digits may stand in a field");
        if let Framing::None | Framing::Length(0) = head.framing {
            connection.spend(head.length);
            self.respond(connection, facts, cx);
            return head.length;
        }
        self.write_last(connection, Refusal::RATE_LIMITED, facts.is_head, cx);
        input.len()
    }

    /// A request was answered with this status and so many bytes of body, if that is known.
    pub(super) fn note(
        &mut self,
        connection: &mut Connection,
        status: u16,
        bytes: Option<u64>,
        cx: &Cx<'_>,
    ) {
        if self.front.log.is_none() {
            return;
        }
        let entry = match connection.entry.take() {
            Some(entry) => entry,
            None => {
                let peer = (cx.lookup)(cx.fd).address();
                let address = peer.map(|peer| peer.ip().to_canonical());
                Box::new(Entry::unread(address, cx.now))
            }
        };
        if let Some(log) = &mut self.front.log
            && !log.write(&entry, status, bytes, cx.now)
        {
            cx.stats.add(Counter::AccessLogDropped, 1);
        }
    }
}
