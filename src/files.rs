//! Static files for handlers: paths, types, conditions and ranges, never outside of one folder.

use crate::error::Error;
use crate::http::range::{Conditions, Validators, Verdict};
use crate::http::{FileBody, Request, Response, date, percent_decode};
use crate::io::Errno;
use crate::sys::file::{open_beneath, open_root};
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
        Ok(Self { root: open_root(root).map_err(|failed| failed.error(wanted()))? })
    }

    /// Answers with the file that the path of the request names: GET and HEAD, conditional requests
    /// and one range (RFC 9110 §13, §14). A folder answers with its `index.html`. 404 for anything
    /// that is not a regular file in the folder.
    pub fn respond(&self, request: &Request<'_>, response: &mut Response) {
        if !matches!(request.method(), "GET" | "HEAD") {
            plain(response, 405, &[("Allow", "GET, HEAD")]);
            return;
        }
        let Some(mut path) = relative(request.path()) else { return plain(response, 404, &[]) };
        if path.is_empty() || path.ends_with(b"/") {
            path.extend_from_slice(b"index.html");
        }
        match self.look_up(&path) {
            Ok((file, metadata)) if metadata.is_file() => {
                send(request, response, file, &metadata, content_type(&path));
            }
            Ok((_, metadata)) if metadata.is_dir() => redirect(request, response),
            Err(Errno::Denied) => plain(response, 403, &[]),
            Err(Errno::NoFds | Errno::NoBuffers) => plain(response, 503, &[("Retry-After", "1")]),
            Ok(_) | Err(_) => plain(response, 404, &[]),
        }
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

fn send(
    request: &Request<'_>,
    response: &mut Response,
    file: File,
    metadata: &Metadata,
    content_type: &str,
) {
    let len = metadata.len();
    // What was modified before 1970 was modified then.
    let modified = u64::try_from(metadata.mtime()).unwrap_or(0);
    let etag = format!("\"{modified:x}-{:x}-{len:x}\"", metadata.mtime_nsec());
    let last_modified = date::format(modified);
    let last_modified = str::from_utf8(&last_modified).unwrap_or_default();
    let verdict = Conditions::of(request).judge(&Validators { etag: &etag, modified, len });
    let (status, offset, part) = match verdict {
        Verdict::Whole => (200, 0, len),
        Verdict::Part(first, last) => (206, first, last - first + 1),
        Verdict::NotModified => (304, 0, 0),
        Verdict::PreconditionFailed => return plain(response, 412, &[]),
        Verdict::Unsatisfiable => {
            return plain(response, 416, &[("Content-Range", &format!("bytes */{len}"))]);
        }
    };
    response.status(status);
    fields(response, &[("ETag", &etag), ("Last-Modified", last_modified)]);
    if verdict == Verdict::NotModified {
        return;
    }
    fields(response, &[("Content-Type", content_type), ("Accept-Ranges", "bytes")]);
    if let Verdict::Part(first, last) = verdict {
        fields(response, &[("Content-Range", &format!("bytes {first}-{last}/{len}"))]);
    }
    response.file(FileBody { file: file.into(), offset, len: part });
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
