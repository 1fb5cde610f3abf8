//! An answer as a test reads it. Pure.

/// One answer, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its header fields, in order.
    pub headers: Vec<(String, String)>,
    /// Its body, without the chunked coding.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first field of this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.headers.iter().find(same).map(|(_, value)| value.as_str())
    }

    /// The body as text; what is no UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The next whole answer in these bytes, and its length; interim answers are skipped.
    /// `ended`: no more bytes will come, so a body without a length is whole.
    pub(super) fn read(bytes: &[u8], head_only: bool, ended: bool) -> Option<(Self, usize)> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let fields = lines.filter_map(|line| line.split_once(": "));
        let headers = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut reply = Self { status, headers, body: Vec::new() };
        let rest = &bytes[end..];
        if (100..200).contains(&status) {
            let (reply, length) = Self::read(rest, head_only, ended)?;
            return Some((reply, end + length));
        }
        if head_only || matches!(status, 204 | 304) {
            return Some((reply, end));
        }
        let (body, length) =
            match (reply.header("transfer-encoding"), reply.header("content-length")) {
                (Some(_), _) => unchunk(rest)?,
                (None, Some(length)) => {
                    let length = length.parse().ok()?;
                    (rest.get(..length)?.to_vec(), length)
                }
                (None, None) if ended => (rest.to_vec(), rest.len()),
                (None, None) => return None,
            };
        reply.body = body;
        Some((reply, end + length))
    }
}

/// The content of a chunked body, and how many bytes it took.
fn unchunk(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        at += line + 2;
        if size == 0 {
            // Our own answers have no trailers: an empty line follows.
            return (bytes.get(at..at + 2)? == b"\r\n").then_some((body, at + 2));
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size + 2;
        bytes.get(..at)?;
    }
}

#[cfg(feature = "http")]
impl TryFrom<Reply> for ::http::Response<Vec<u8>> {
    type Error = ::http::Error;

    fn try_from(reply: Reply) -> Result<Self, ::http::Error> {
        let begun = ::http::Response::builder().status(reply.status);
        let fields = reply.headers.iter();
        fields.fold(begun, |so_far, (name, value)| so_far.header(name, value)).body(reply.body)
    }
}
