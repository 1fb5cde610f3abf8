//! What a request that we will not serve is answered with, and what it is counted as. Pure.

use crate::stats::CloseReason;

/// A request is refused: answer with this status, close the connection, count it under this reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer.
    pub status: u16,
    /// What the close is counted as.
    pub reason: CloseReason,
}

impl Refusal {
    /// 400: bad framing or syntax.
    pub const BAD_REQUEST: Self = Self::new(400, CloseReason::BadRequest);
    /// 408: the head did not come in time.
    pub const HEAD_TIMEOUT: Self = Self::new(408, CloseReason::HeadTimeout);
    /// 408: the body stopped coming.
    pub const BODY_TIMEOUT: Self = Self::new(408, CloseReason::BodyTimeout);
    /// 408: the body came too slowly.
    pub const BODY_TOO_SLOW: Self = Self::new(408, CloseReason::BodyTooSlow);
    /// 413: the body is larger than `body_max`.
    pub const BODY_TOO_LARGE: Self = Self::new(413, CloseReason::BodyTooLarge);
    /// 414: the request line is longer than `request_line_max`.
    pub const URI_TOO_LONG: Self = Self::new(414, CloseReason::UriTooLong);
    /// 417: an expectation other than 100-continue.
    pub const EXPECTATION_FAILED: Self = Self::new(417, CloseReason::ExpectationFailed);
    /// 429: over `rate_limit`, and a body follows.
    pub const RATE_LIMITED: Self = Self::new(429, CloseReason::RateLimited);
    /// 431: the head is larger than `head_max`, or has more than `headers_max` fields.
    pub const HEAD_TOO_LARGE: Self = Self::new(431, CloseReason::HeadTooLarge);
    /// 501: a transfer coding or a method that we do not implement.
    pub const NOT_IMPLEMENTED: Self = Self::new(501, CloseReason::NotImplemented);
    /// 505: an HTTP version that is neither 1.0 nor 1.1.
    pub const VERSION_UNSUPPORTED: Self = Self::new(505, CloseReason::VersionUnsupported);

    const fn new(status: u16, reason: CloseReason) -> Self {
        Self { status, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Class;

    #[test]
    fn a_refusal_stands_on_the_refused_side_and_its_reason_names_its_status() {
        for refusal in [
            Refusal::BAD_REQUEST,
            Refusal::HEAD_TIMEOUT,
            Refusal::BODY_TIMEOUT,
            Refusal::BODY_TOO_SLOW,
            Refusal::BODY_TOO_LARGE,
            Refusal::URI_TOO_LONG,
            Refusal::EXPECTATION_FAILED,
            Refusal::RATE_LIMITED,
            Refusal::HEAD_TOO_LARGE,
            Refusal::NOT_IMPLEMENTED,
            Refusal::VERSION_UNSUPPORTED,
        ] {
            assert_eq!(refusal.reason.class(), Class::Refused);
            assert!(refusal.reason.meaning().starts_with(&refusal.status.to_string()));
        }
    }
}
