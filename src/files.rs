//! Static files for handlers: paths, types, conditions and ranges, never outside of one folder.

mod cache;

use crate::error::Error;
use crate::http::range::{Conditions, Validators, Verdict};
use crate::http::{FileBody, Request, Response, date, percent_decode};
use crate::io::{Bytes, Errno};
use crate::sys::clock;
use crate::sys::file::{open_beneath, open_root};
use cache::{Cache, Kept};
use std::cell::RefCell;
use std::fmt::Write;
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// A folder whose files are served. No path leads out of it: not by `..`, not by a symbolic link
/// (links that stay inside are followed). Files whose name begins with a dot are served like any
/// others.
///
/// ```no_run
/// # fn main() -> Result<(), ringfort::Error> {
/// let files = ringfort::Files::open("public")?;
/// # use ringfort::http::{Request, Response};
/// # fn serve(_: impl FnMut(&Request<'_>, &mut Response)) {}
/// # serve(
/// move |request, response| files.respond(request, response)
/// # );
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Files {
    root: OwnedFd,
    cache: RefCell<Cache>,
    /// The value of Cache-Control, if there is one.
    control: String,
}

impl Files {
    /// Opens the folder. It stays the one that was opened, whatever becomes of its name.
    ///
    /// # Errors
    ///
    /// There is none, it is none, or it may not be searched.
    pub fn open(root: impl AsRef<Path>) -> Result<Self, Error> {
        let root = root.as_ref();
        let wanted = || format!("serve the folder {}", root.display());
        let root = open_root(root).map_err(|failed| failed.error(wanted()))?;
        Ok(Self { root, cache: RefCell::default(), control: String::new() })
    }

    /// Keeps files of up to 256 KiB in memory, so many bytes in all (in each worker); a change of a
    /// file shows within a second. Default: 0, none.
    #[must_use]
    pub fn cached(mut self, bytes: usize) -> Self {
        self.cache = RefCell::new(Cache::new(bytes));
        self
    }

    /// Lets clients keep what they got for so long without asking again (Cache-Control: max-age,
    /// RFC 9111 §5.2.2.1), in whole seconds. Default: they ask each time, and are told 304.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.control = format!("max-age={}", age.as_secs());
        self
    }

    /// Answers with the file that the path of the request names: GET and HEAD, conditional requests
    /// and one range (RFC 9110 §13, §14). A folder answers with its `index.html`. 404 for anything
    /// that is not a regular file in the folder.
    pub fn respond(&self, request: &Request<'_>, response: &mut Response) {
        self.answer(request, response, None);
    }

    /// As [`Files::respond`], and has browsers save the file under this name instead of showing it
    /// (Content-Disposition, RFC 6266).
    pub fn download(&self, request: &Request<'_>, response: &mut Response, name: &str) {
        self.answer(request, response, Some(&attachment(name)));
    }

    fn answer(&self, request: &Request<'_>, response: &mut Response, disposition: Option<&str>) {
        if !matches!(request.method(), "GET" | "HEAD") {
            plain(response, 405, &[("Allow", "GET, HEAD")]);
            return;
        }
        let Some(mut path) = relative(request.path()) else { return plain(response, 404, &[]) };
        if path.is_empty() || path.ends_with(b"/") {
            path.extend_from_slice(b"index.html");
        }
        let now = clock::monotonic();
        let kept = self.cache.borrow_mut().get(&path, now);
        if let Some(kept) = kept {
            return self.send_kept(request, response, &kept, (content_type(&path), disposition));
        }
        match self.look_up(&path) {
            Ok((file, metadata)) if metadata.is_file() => {
                let about = (content_type(&path), disposition);
                if self.cache.borrow().takes(metadata.len())
                    && let Some(kept) = read(&file, &metadata)
                {
                    self.send_kept(request, response, &kept, about);
                    return self.cache.borrow_mut().put(path, kept, now);
                }
                let (modified, etag) = validators(&metadata);
                let of = Validators { etag: &etag, modified, len: metadata.len() };
                if let Some((offset, len)) = self.send(request, response, &of, about) {
                    response.file(FileBody { file: file.into(), offset, len });
                }
            }
            Ok((_, metadata)) if metadata.is_dir() => redirect(request, response),
            Err(Errno::Denied) => plain(response, 403, &[]),
            Err(Errno::NoFds | Errno::NoBuffers) => plain(response, 503, &[("Retry-After", "1")]),
            Ok(_) | Err(_) => plain(response, 404, &[]),
        }
    }

    fn send_kept(
        &self,
        request: &Request<'_>,
        response: &mut Response,
        kept: &Kept,
        (content_type, disposition): (&'static str, Option<&str>),
    ) {
        let len = kept.bytes.len();
        let of = Validators { etag: &kept.etag, modified: kept.modified, len: len as u64 };
        let part = self.send(request, response, &of, (content_type, disposition));
        let Some((offset, part)) = part else { return };
        let in_memory = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(len);
        if part == len as u64 {
            response.bytes(content_type, Bytes::Shared(kept.bytes.clone()));
        } else {
            let range = in_memory(offset)..in_memory(offset + part);
            response.bytes(content_type, kept.bytes[range].to_vec());
        }
    }

    /// Status and fields. `Some`: where the body begins in the file, and its length.
    fn send(
        &self,
        request: &Request<'_>,
        response: &mut Response,
        of: &Validators<'_>,
        (content_type, disposition): (&'static str, Option<&str>),
    ) -> Option<(u64, u64)> {
        let len = of.len;
        let last_modified = date::format(of.modified);
        let last_modified = str::from_utf8(&last_modified).unwrap_or_default();
        let verdict = Conditions::of(request).judge(of);
        let (status, offset, part) = match verdict {
            Verdict::Whole => (200, 0, len),
            Verdict::Part(first, last) => (206, first, last - first + 1),
            Verdict::NotModified => (304, 0, 0),
            Verdict::PreconditionFailed => {
                plain(response, 412, &[]);
                return None;
            }
            Verdict::Unsatisfiable => {
                plain(response, 416, &[("Content-Range", &format!("bytes */{len}"))]);
                return None;
            }
        };
        response.status(status);
        fields(response, &[("ETag", of.etag), ("Last-Modified", last_modified)]);
        if !self.control.is_empty() {
            fields(response, &[("Cache-Control", &self.control)]);
        }
        if verdict == Verdict::NotModified {
            return None;
        }
        fields(response, &[("Content-Type", content_type), ("Accept-Ranges", "bytes")]);
        if let Verdict::Part(first, last) = verdict {
            fields(response, &[("Content-Range", &format!("bytes {first}-{last}/{len}"))]);
        }
        if let Some(disposition) = disposition {
            fields(response, &[("Content-Disposition", disposition)]);
        }
        Some((offset, part))
    }

    fn look_up(&self, path: &[u8]) -> Result<(File, Metadata), Errno> {
        let file = open_beneath(self.root.as_fd(), path)?;
        let metadata = file.metadata().map_err(|_| Errno::Gone)?;
        Ok((file, metadata))
    }
}

/// The path of a target as one relative to the root; `None` for one that would climb.
fn relative(path: &str) -> Option<Vec<u8>> {
    let path = percent_decode(path.as_bytes());
    let path = path.strip_prefix(b"/")?;
    let climbs = path.split(|byte| *byte == b'/').any(|segment| segment == b"..");
    (!climbs).then(|| path.to_vec())
}

/// When it was last modified, in seconds since 1970, and its ETag.
fn validators(metadata: &Metadata) -> (u64, String) {
    // What was modified before 1970 was modified then.
    let modified = u64::try_from(metadata.mtime()).unwrap_or(0);
    (modified, format!("\"{modified:x}-{:x}-{:x}\"", metadata.mtime_nsec(), metadata.len()))
}

/// All of a file, unless it changed meanwhile: then it is sent from the disk, as any large one.
fn read(file: &File, metadata: &Metadata) -> Option<Kept> {
    let mut bytes = vec![0; usize::try_from(metadata.len()).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let after = file.metadata().ok()?;
    let (modified, etag) = validators(metadata);
    (validators(&after) == (modified, etag.clone())).then(|| Kept {
        etag,
        modified,
        bytes: bytes.into(),
    })
}

/// The field for a file of this name. Old clients get it in ASCII, others in full (RFC 6266 §4.3).
fn attachment(name: &str) -> String {
    let plain = |char: char| match char {
        ' '..='~' if !matches!(char, '"' | '\\' | '%' | '/') => char,
        _ => '_',
    };
    let mut field = format!("attachment; filename=\"{}\"", name.replace(|c| plain(c) != c, "_"));
    if name.chars().any(|char| plain(char) != char) {
        field.push_str("; filename*=UTF-8\'\'");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                field.push(char::from(byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(field, "%{byte:02X}");
            }
        }
    }
    field
}

/// A folder without the slash at its end: relative links in its index would lead astray.
fn redirect(request: &Request<'_>, response: &mut Response) {
    let path = request.path();
    if path.starts_with("//") {
        // It would name another host.
        return plain(response, 404, &[]);
    }
    let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
    plain(response, 301, &[("Location", &format!("{path}/{query}"))]);
}

fn plain(response: &mut Response, status: u16, with: &[(&str, &str)]) {
    response.plain(status);
    fields(response, with);
}

fn fields(response: &mut Response, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        let added = response.header(name, value).is_ok();
        // Names and formats are ours, and a target has no control characters.
        debug_assert!(added, "{name}: {value}");
    }
}

/// By the extension of the name, as browsers expect it.
fn content_type(path: &[u8]) -> &'static str {
    let extension = path.rsplit(|byte| *byte == b'/').next().and_then(|name| {
        let dot = name.iter().rposition(|byte| *byte == b'.')?;
        str::from_utf8(&name[dot + 1..]).ok()
    });
    let extension = extension.unwrap_or_default();
    let found = TYPES.iter().find(|(known, _)| extension.eq_ignore_ascii_case(known));
    found.map_or("application/octet-stream", |(_, content_type)| content_type)
}

const TYPES: [(&str, &str); 32] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("webmanifest", "application/manifest+json"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("xml", "text/xml; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/vnd.microsoft.icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("mp3", "audio/mpeg"),
    ("ogg", "audio/ogg"),
    ("wav", "audio/wav"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("pdf", "application/pdf"),
    ("wasm", "application/wasm"),
    ("zip", "application/zip"),
];

#[cfg(test)]
mod tests;
