//! A request that outlives the bytes it came in, and may go to another thread. Pure.

use super::head::Version;
use super::request::{Request, query_value};
use std::borrow::Cow;
use std::ops::Range;

/// A copy of a request.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    /// Method, target, and all fields, back to back.
    text: Vec<u8>,
    method: usize,
    target: usize,
    path: Range<usize>,
    query: Option<Range<usize>>,
    host: Option<String>,
    /// Where the name and the value of each field end.
    fields: Vec<(u32, u32)>,
    version: Version,
    body: Vec<u8>,
}

impl From<&Request<'_>> for OwnedRequest {
    fn from(request: &Request<'_>) -> Self {
        let (method, target) = (request.method(), request.target());
        let mut text = Vec::with_capacity(512);
        text.extend_from_slice(method.as_bytes());
        text.extend_from_slice(target.as_bytes());
        let mut fields = Vec::with_capacity(request.headers().len());
        let end = |text: &Vec<u8>| u32::try_from(text.len()).unwrap_or(u32::MAX);
        for (name, value) in request.headers() {
            text.extend_from_slice(name.as_bytes());
            let name_end = end(&text);
            text.extend_from_slice(value);
            fields.push((name_end, end(&text)));
        }
        // The path ends the target, or the query and its mark do.
        let query = request.query();
        let target_end = method.len() + target.len();
        let path_end = target_end - query.map_or(0, |query| query.len() + 1);
        let path = request.path();
        let path_start = path_end.saturating_sub(path.len());
        // A URL without a path has the path `/`, which does not stand in it.
        let own = path_start >= method.len() && text[path_start..path_end] == *path.as_bytes();
        Self {
            path: if own { path_start..path_end } else { 0..0 },
            query: query.map(|query| target_end - query.len()..target_end),
            host: request.host().map(str::to_owned),
            method: method.len(),
            target: target_end,
            fields,
            version: request.version(),
            body: request.body().to_vec(),
            text,
        }
    }
}

impl OwnedRequest {
    /// `GET`, `POST` …, as sent: methods are case-sensitive.
    #[must_use]
    pub fn method(&self) -> &str {
        self.str(0..self.method)
    }

    /// The target as sent: path and query, or a whole URL from a client that takes us for a proxy.
    #[must_use]
    pub fn target(&self) -> &str {
        self.str(self.method..self.target)
    }

    /// The path of the target, still percent-encoded; never empty.
    #[must_use]
    pub fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { self.str(self.path.clone()) }
    }

    /// What follows the first `?`, still percent-encoded.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        Some(self.str(self.query.clone()?))
    }

    /// The first value of this name in the query, decoded as forms encode it.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        query_value(self.query()?, name)
    }

    /// HTTP/1.0 or 1.1.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Name and port of the server that the client means.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// The value of the first field of this name, whatever its case. It may hold bytes over 127.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields in the order they came.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.fields.iter().enumerate().map(|(index, (name_end, value_end))| {
            let start = match index.checked_sub(1) {
                Some(before) => self.fields[before].1 as usize,
                None => self.target,
            };
            let (name_end, value_end) = (*name_end as usize, *value_end as usize);
            (self.str(start..name_end), &self.text[name_end..value_end])
        })
    }

    /// The whole body; empty when there is none, or when it is streamed.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Takes the body out.
    pub fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    /// Names and targets were text when the head was parsed, so they still are.
    fn str(&self, range: Range<usize>) -> &str {
        self.text.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::tests::with_request;

    #[track_caller]
    fn check(target: &str) {
        with_request(target, |request| {
            let owned = OwnedRequest::from(request);
            assert_eq!(owned.method(), request.method());
            assert_eq!(owned.target(), request.target());
            assert_eq!(owned.path(), request.path(), "{target}");
            assert_eq!(owned.query(), request.query(), "{target}");
            assert_eq!(owned.host(), request.host());
            assert_eq!(owned.version(), request.version());
            assert_eq!(owned.header("x"), request.header("x"));
            assert!(owned.headers().eq(request.headers()));
            assert_eq!(owned.body(), request.body());
            assert_eq!(owned.query_value("a"), request.query_value("a"));
        });
    }

    #[test]
    fn a_copy_says_what_the_original_said() {
        for target in ["/", "/a/b", "/?", "/a?", "/a?a=1&b", "/a?b?c", "/x/x?x=/x", "//"] {
            check(target);
        }
        for target in ["http://h", "http://h/", "http://h?a=1", "http://h/p?a=%20", "http://h:80/h"]
        {
            check(target);
        }
    }
}
