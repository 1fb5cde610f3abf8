//! Whether a client needs the file it asks for, or which part of it (RFC 9110 §13, §14). Pure.

use super::date;
use super::request::Request;

/// What the server knows of a file.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// Its entity tag: strong, in quotes.
    pub etag: &'a str,
    /// When it was modified, in seconds since 1970.
    pub modified: u64,
    /// Its bytes.
    pub len: u64,
}

/// What the client says it has and wants: the values of the fields of these names.
#[derive(Clone, Debug, Default)]
pub struct Conditions<'a> {
    /// `If-Match`: all lines of it, which are one list.
    pub if_match: Vec<&'a [u8]>,
    /// `If-None-Match`, likewise.
    pub if_none_match: Vec<&'a [u8]>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<&'a [u8]>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<&'a [u8]>,
    /// `If-Range`.
    pub if_range: Option<&'a [u8]>,
    /// `Range`; it means something with GET only.
    pub range: Option<&'a [u8]>,
}

/// What to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 200, all of it.
    Whole,
    /// 206: from the first byte to the last one, both included.
    Part(u64, u64),
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client takes it for.
    PreconditionFailed,
    /// 416: it has no such part.
    Unsatisfiable,
}

impl<'a> Conditions<'a> {
    /// Those of a request.
    #[must_use]
    pub fn of(request: &Request<'a>) -> Self {
        let lines = |name: &str| {
            let lines = request.headers().filter(|(field, _)| field.eq_ignore_ascii_case(name));
            lines.map(|(_, value)| value).collect()
        };
        Self {
            if_match: lines("if-match"),
            if_none_match: lines("if-none-match"),
            if_unmodified_since: request.header("if-unmodified-since"),
            if_modified_since: request.header("if-modified-since"),
            if_range: request.header("if-range"),
            range: (request.method() == "GET").then(|| request.header("range")).flatten(),
        }
    }

    /// In the order of RFC 9110 §13.2.2. What cannot be read is ignored.
    #[must_use]
    pub fn judge(&self, file: &Validators<'_>) -> Verdict {
        // The file's own date places the two-digit years of RFC 850.
        let date = |field: Option<&[u8]>| date::parse(field?, file.modified);
        let unchanged = match (self.if_match.as_slice(), date(self.if_unmodified_since)) {
            ([], Some(since)) => file.modified <= since,
            ([], None) => true,
            (tags, _) => list(tags, file.etag, Comparison::Strong),
        };
        if !unchanged {
            return Verdict::PreconditionFailed;
        }
        let has_it = match (self.if_none_match.as_slice(), date(self.if_modified_since)) {
            ([], Some(since)) => file.modified <= since,
            ([], None) => false,
            (tags, _) => list(tags, file.etag, Comparison::Weak),
        };
        if has_it {
            return Verdict::NotModified;
        }
        match self.range {
            Some(range) if self.range_applies(file) => judge_range(range, file.len),
            _ => Verdict::Whole,
        }
    }

    /// RFC 9110 §13.1.5: the part is wanted only of the file that the client knows.
    fn range_applies(&self, file: &Validators<'_>) -> bool {
        match self.if_range {
            None => true,
            Some(tag) if tag.ends_with(b"\"") => tag == file.etag.as_bytes(),
            Some(since) => date::parse(since, file.modified) == Some(file.modified),
        }
    }
}

/// RFC 9110 §8.8.3.2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether these lists of entity tags, or `*`, have this one. No tag of ours has a comma in it.
fn list(lines: &[&[u8]], etag: &str, comparison: Comparison) -> bool {
    let tags = lines.iter().flat_map(|line| line.split(|byte| *byte == b','));
    tags.map(<[u8]>::trim_ascii).any(|tag| {
        let opaque = match comparison {
            Comparison::Strong => tag,
            Comparison::Weak => tag.strip_prefix(b"W/").unwrap_or(tag),
        };
        tag == b"*" || opaque == etag.as_bytes()
    })
}

/// One range of bytes (RFC 9110 §14.1.2). Several are allowed to be ignored, and are: they would
/// need a multipart answer that nobody asks for but to waste our time.
fn judge_range(range: &[u8], len: u64) -> Verdict {
    let bytes = range.split_at_checked(UNIT.len());
    let Some((_, range)) = bytes.filter(|(unit, _)| unit.eq_ignore_ascii_case(UNIT)) else {
        return Verdict::Whole;
    };
    let Some(dash) = range.iter().position(|byte| *byte == b'-') else { return Verdict::Whole };
    let (first, last) = (&range[..dash], &range[dash + 1..]);
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last),
        (Some(first), None) if last.is_empty() => (first, u64::MAX),
        (None, Some(0)) if first.is_empty() => return Verdict::Unsatisfiable,
        (None, Some(suffix)) if first.is_empty() => (len.saturating_sub(suffix), u64::MAX),
        _ => return Verdict::Whole,
    };
    if first < len { Verdict::Part(first, last.min(len - 1)) } else { Verdict::Unsatisfiable }
}

/// Digits and nothing else. What does not fit is beyond any file.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let append =
        |value: u64, digit: &u8| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, append))
}

const UNIT: &[u8] = b"bytes=";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::tests::with_head;
    use proptest::prelude::*;

    const FILE: Validators<'_> = Validators { etag: "\"a\"", modified: 784_111_777, len: 100 };
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const SOONER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    /// `fields`: lines of a head.
    #[track_caller]
    fn check(fields: &[&str], want: Verdict) {
        let lines = |name: &str| -> Vec<&[u8]> {
            let prefix = format!("{name}: ");
            let values = fields.iter().filter_map(|field| field.strip_prefix(&prefix));
            values.map(str::as_bytes).collect()
        };
        let value = |name: &str| lines(name).first().copied();
        let conditions = Conditions {
            if_match: lines("If-Match"),
            if_none_match: lines("If-None-Match"),
            if_unmodified_since: value("If-Unmodified-Since"),
            if_modified_since: value("If-Modified-Since"),
            if_range: value("If-Range"),
            range: value("Range"),
        };
        assert_eq!(conditions.judge(&FILE), want, "{fields:?}");
    }

    fn since(name: &str, date: &str) -> String {
        format!("{name}: {date}")
    }

    #[test]
    fn preconditions_in_their_order() {
        use Verdict::{NotModified, PreconditionFailed, Whole};
        check(&[], Whole);
        check(&["If-Match: \"a\""], Whole);
        check(&["If-Match: \"b\", \"a\""], Whole);
        check(&["If-Match: *"], Whole);
        check(&["If-Match: \"b\""], PreconditionFailed);
        check(&["If-Match: W/\"a\""], PreconditionFailed);
        check(&[&since("If-Unmodified-Since", THEN)], Whole);
        check(&[&since("If-Unmodified-Since", SOONER)], PreconditionFailed);
        check(&["If-Match: \"a\"", &since("If-Unmodified-Since", SOONER)], Whole);
        check(&["If-None-Match: \"a\""], NotModified);
        check(&["If-None-Match: W/\"a\""], NotModified);
        check(&["If-None-Match: \"b\",W/\"a\""], NotModified);
        check(&["If-None-Match: *"], NotModified);
        check(&["If-None-Match: \"b\""], Whole);
        check(&["If-None-Match: a"], Whole);
        check(&[&since("If-Modified-Since", THEN)], NotModified);
        check(&[&since("If-Modified-Since", LATER)], NotModified);
        check(&[&since("If-Modified-Since", SOONER)], Whole);
        check(&["If-Modified-Since: yesterday"], Whole);
        check(&["If-None-Match: \"b\"", &since("If-Modified-Since", THEN)], Whole);
        check(&["If-Match: \"b\"", "If-None-Match: \"a\""], PreconditionFailed);
        check(&["If-None-Match: \"a\"", "Range: bytes=0-0"], NotModified);
    }

    /// RFC 9110 §5.3: a list may stand in several lines.
    #[test]
    fn a_list_of_tags_in_several_lines() {
        use Verdict::{NotModified, PreconditionFailed, Whole};
        let judge = |fields: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let mut verdict = None;
            with_head(&head, |request| verdict = Some(Conditions::of(request).judge(&FILE)));
            verdict.unwrap()
        };
        assert_eq!(judge("If-Match: \"b\"\r\nif-match: \"c\", \"a\"\r\n"), Whole);
        assert_eq!(judge("If-Match: \"b\"\r\nIf-Match: \"c\"\r\n"), PreconditionFailed);
        assert_eq!(judge("If-None-Match: \"b\"\r\nX: y\r\nIf-None-Match: \"a\"\r\n"), NotModified);
        assert_eq!(judge("If-None-Match: \"b\"\r\nIf-None-Match: \"c\"\r\n"), Whole);
    }

    #[test]
    fn one_range_of_bytes() {
        use Verdict::{Part, Unsatisfiable, Whole};
        let range = |range: &str, want| check(&[&format!("Range: {range}")], want);
        range("bytes=0-0", Part(0, 0));
        range("bytes=0-", Part(0, 99));
        range("Bytes=10-19", Part(10, 19));
        range("bytes=99-99", Part(99, 99));
        range("bytes=99-1000", Part(99, 99));
        range("bytes=0-99999999999999999999999", Part(0, 99));
        range("bytes=-1", Part(99, 99));
        range("bytes=-100", Part(0, 99));
        range("bytes=-1000", Part(0, 99));
        range("bytes=100-", Unsatisfiable);
        range("bytes=99999999999999999999999-", Unsatisfiable);
        range("bytes=100-200", Unsatisfiable);
        range("bytes=-0", Unsatisfiable);
        for ignored in [
            "bytes=2-1",
            "bytes=-",
            "bytes=",
            "bytes",
            "",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=0x1-2",
            "bytes= 1-2",
            "bytes=1-2 ",
            "bytes=1--2",
            "bytes=0-0,2-2",
            "bytes=0-,-1",
            "lines=0-1",
        ] {
            range(ignored, Whole);
        }
    }

    #[test]
    fn a_range_of_the_file_that_the_client_knows() {
        use Verdict::{Part, Whole};
        let range = "Range: bytes=1-2";
        check(&[range, "If-Range: \"a\""], Part(1, 2));
        check(&[range, "If-Range: \"b\""], Whole);
        check(&[range, "If-Range: W/\"a\""], Whole);
        check(&[range, &since("If-Range", THEN)], Part(1, 2));
        check(&[range, &since("If-Range", LATER)], Whole);
        check(&[range, &since("If-Range", SOONER)], Whole);
        check(&[range, "If-Range: nonsense"], Whole);
        check(&["If-Range: \"a\""], Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_never_outside(range in "bytes=[0-9]{0,4}-[0-9]{0,4}", len in 0..2000_u64) {
            match judge_range(range.as_bytes(), len) {
                Verdict::Part(first, last) => prop_assert!(first <= last && last < len),
                Verdict::Whole | Verdict::Unsatisfiable => {}
                Verdict::NotModified | Verdict::PreconditionFailed => prop_assert!(false),
            }
        }
    }
}
