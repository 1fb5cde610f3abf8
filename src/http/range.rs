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
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<'a> {
    /// `If-Match`.
    pub if_match: Option<&'a [u8]>,
    /// `If-None-Match`.
    pub if_none_match: Option<&'a [u8]>,
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
        Self {
            if_match: request.header("if-match"),
            if_none_match: request.header("if-none-match"),
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
        let unchanged = match (self.if_match, date(self.if_unmodified_since)) {
            (Some(tags), _) => lists(tags, file.etag, Comparison::Strong),
            (None, Some(since)) => file.modified <= since,
            (None, None) => true,
        };
        if !unchanged {
            return Verdict::PreconditionFailed;
        }
        let has_it = match (self.if_none_match, date(self.if_modified_since)) {
            (Some(tags), _) => lists(tags, file.etag, Comparison::Weak),
            (None, Some(since)) => file.modified <= since,
            (None, None) => false,
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

/// Whether a list of entity tags, or `*`, has this one. No tag of ours has a comma in it.
fn lists(tags: &[u8], etag: &str, comparison: Comparison) -> bool {
    tags.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|tag| {
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
    use proptest::prelude::*;

    const FILE: Validators<'_> = Validators { etag: "\"a\"", modified: 784_111_777, len: 100 };
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const SOONER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    /// `fields`: lines of a head.
    #[track_caller]
    fn check(fields: &[&str], want: Verdict) {
        let value = |name: &str| {
            let prefix = format!("{name}: ");
            fields.iter().find_map(|field| field.strip_prefix(&prefix)).map(str::as_bytes)
        };
        let conditions = Conditions {
            if_match: value("If-Match"),
            if_none_match: value("If-None-Match"),
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
