//! Files as a client gets them.

use super::*;
use crate::fuzzing::script::Script;
use crate::stats::{CloseReason, Counter};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process;
use std::time::{Duration, SystemTime};

/// A folder of its own, with a file outside of the root beside it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringfort-files-{name}-{}", process::id()));
        fs::create_dir_all(path.join("root/sub")).unwrap();
        fs::write(path.join("secret"), "secret").unwrap();
        let folder = Self(path);
        for (name, text) in [
            ("a.txt", "0123456789"),
            ("index.html", "<p>"),
            ("sub/index.html", "<b>"),
            ("empty", ""),
            ("é 1.CSS", "*"),
        ] {
            folder.write(name, text);
        }
        folder
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.root().join(name);
        fs::write(&path, text).unwrap();
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        File::options().append(true).open(path).unwrap().set_modified(then).unwrap();
    }

    /// A connection to a server of this folder.
    fn script(&self) -> Script<impl FnMut(&Request<'_>, &mut Response) + use<>> {
        let files = Files::open(self.root()).unwrap();
        let handler =
            move |request: &Request<'_>, response: &mut Response| files.respond(request, response);
        Script::new(handler, &[])
    }

    /// What the client reads: without Date, and `V|` for the validators.
    fn get(&self, target: &str, fields: &str) -> String {
        self.ask("GET", target, fields)
    }

    fn ask(&self, method: &str, target: &str, fields: &str) -> String {
        let mut script = self.script();
        script.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(script.close(), None);
        let text = script.text().replacen("D|", "", 1);
        let Some(start) = text.find("ETag: ") else { return text };
        let date = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT|";
        let end = text.find(date).unwrap() + date.len();
        text[..start].to_owned() + "V|" + &text[end..]
    }

    #[track_caller]
    fn check(&self, target: &str, fields: &str, want: &str) {
        assert_eq!(self.get(target, fields), want, "{target} {fields}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const MISSING: &str = "404 Not Found|T|Content-Length: 9||Not Found";
const A: &str = "200 OK|T|Content-Length: 10|V|Accept-Ranges: bytes||0123456789";

#[test]
fn files_have_a_path_and_a_type() {
    let folder = Folder::new("path");
    let html = |text: &str| {
        let kind = "Content-Type: text/html; charset=utf-8";
        format!("200 OK|{kind}|Content-Length: 3|V|Accept-Ranges: bytes||{text}")
    };
    folder.check("/a.txt", "", A);
    folder.check("/a.txt?x=y", "", A);
    folder.check("/./a.txt", "", A);
    folder.check("/%61.t%78t", "", A);
    folder.check("/", "", &html("<p>"));
    folder.check("/sub/", "", &html("<b>"));
    folder.check("/sub%2findex.html", "", &html("<b>"));
    folder.check("/empty", "", "200 OK|O|Content-Length: 0|V|Accept-Ranges: bytes||");
    let css = "Content-Type: text/css; charset=utf-8";
    let css = format!("200 OK|{css}|Content-Length: 1|V|Accept-Ranges: bytes||*");
    folder.check("/%c3%A9%201.CSS", "", &css);
    let moved = |to: &str| {
        format!("301 Moved Permanently|T|Content-Length: 17|Location: {to}||Moved Permanently")
    };
    folder.check("/sub", "", &moved("/sub/"));
    folder.check("/sub?x=y", "", &moved("/sub/?x=y"));
}

#[test]
fn what_is_not_a_file_in_the_folder_is_missing() {
    let folder = Folder::new("missing");
    symlink("../secret", folder.root().join("outside")).unwrap();
    symlink("a.txt", folder.root().join("inside.txt")).unwrap();
    symlink("/dev", folder.root().join("dev")).unwrap();
    folder.check("/inside.txt", "", A);
    for target in [
        "/none",
        "/a.txt/",
        "/a.txt/b",
        "/a.txt%00",
        "/%00",
        "/A.TXT",
        "/outside",
        "/dev/null",
        "/dev",
        "/../secret",
        "/..%2fsecret",
        "/%2e%2e/secret",
        "/sub/../../secret",
        "/sub/..",
        "/sub/../a.txt",
        "//sub",
        "//a.txt",
        "/%2fetc/hostname",
        "/a.txt%",
    ] {
        folder.check(target, "", MISSING);
    }
}

#[test]
fn other_methods_are_named_the_right_ones() {
    let folder = Folder::new("method");
    let want = "405 Method Not Allowed|T|Content-Length: 18|Allow: GET, HEAD||Method Not Allowed";
    assert_eq!(folder.ask("POST", "/a.txt", ""), want);
    assert_eq!(folder.ask("DELETE", "/none", ""), want);
    let head = "200 OK|T|Content-Length: 10|V|Accept-Ranges: bytes||";
    assert_eq!(folder.ask("HEAD", "/a.txt", ""), head);
    assert_eq!(folder.ask("HEAD", "/a.txt", "Range: bytes=1-2\r\n"), head);
}

#[test]
fn conditions_and_ranges() {
    let folder = Folder::new("range");
    let part = |range: &str, text: &str| {
        let length = text.len();
        let range = format!("Content-Range: bytes {range}/10");
        format!(
            "206 Partial Content|T|Content-Length: {length}|V|Accept-Ranges: bytes|{range}||{text}"
        )
    };
    folder.check("/a.txt", "Range: bytes=2-4\r\n", &part("2-4", "234"));
    folder.check("/a.txt", "Range: bytes=8-\r\n", &part("8-9", "89"));
    folder.check("/a.txt", "Range: bytes=-1\r\n", &part("9-9", "9"));
    folder.check("/a.txt", "Range: bytes=0-0,2-2\r\n", A);
    folder.check("/a.txt", "Range: bytes=2-4\r\nIf-Range: \"other\"\r\n", A);
    let body = "Range Not Satisfiable";
    let want = format!("416 {body}|T|Content-Length: 21|Content-Range: bytes */10||{body}");
    folder.check("/a.txt", "Range: bytes=10-\r\n", &want);
    folder.check("/empty", "Range: bytes=0-\r\n", &want.replace("/10", "/0"));
    let since = "Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    folder.check("/a.txt", &format!("If-Modified-Since: {since}"), "304 Not Modified|V||");
    let body = "Precondition Failed";
    let want = format!("412 {body}|T|Content-Length: 19||{body}");
    folder.check("/a.txt", "If-Match: \"other\"\r\n", &want);
}

#[test]
fn an_entity_tag_is_that_of_the_content() {
    let folder = Folder::new("etag");
    let mut script = folder.script();
    script.send("GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    let text = script.text();
    let etag = text.split_once("ETag: ").unwrap().1.split_once('|').unwrap().0.to_owned();
    let condition = format!("If-None-Match: \"x\", {etag}\r\n");
    folder.check("/a.txt", &condition, "304 Not Modified|V||");
    folder.write("a.txt", "0123456789+");
    assert!(folder.get("/a.txt", &condition).starts_with("200 OK"));
}

#[test]
fn a_large_file_comes_piece_by_piece_and_is_closed() {
    let folder = Folder::new("large");
    let large: Vec<u8> = (0..200_000_u32).map(|at| at.to_le_bytes()[at as usize % 4]).collect();
    folder.write("large", &large);
    let mut script = folder.script();
    let get = "GET /large HTTP/1.1\r\nHost: a\r\n\r\n";
    script.receive(get);
    assert_eq!(script.next.read_file, Some((0, 64 << 10)));
    assert!(script.output.is_empty(), "the head waits for the first bytes");
    // The wish stands while other input comes.
    script.receive(get);
    assert_eq!(script.next.read_file, Some((0, 64 << 10)));
    script.run();
    for _ in 0..2 {
        let body = script.output.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        assert!(script.output[body..].starts_with(&large));
        script.output.drain(..body + large.len());
    }
    assert_eq!((script.output.len(), script.closed_files), (0, 2));
    // A client that goes away in the middle costs no descriptor either.
    script.receive(get);
    script.hang_up();
    assert_eq!(script.closed_files, 3);
}

#[test]
fn a_file_that_shrinks_is_not_taken_for_whole() {
    let folder = Folder::new("shrink");
    folder.write("a.txt", "x".repeat(100_000));
    let mut script = folder.script();
    script.reads = false;
    script.send("GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(script.line.get(Counter::Responses), 1);
    folder.write("a.txt", "x");
    script.reads = true;
    script.run();
    assert_eq!(script.close().map(|close| close.reason), Some(CloseReason::StreamFailed));
    assert_eq!(script.closed_files, 1);
    // Nothing was sent yet: then the client can be told.
    let mut script = folder.script();
    script.receive("GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n");
    folder.write("a.txt", "");
    script.run();
    let body = "Internal Server Error";
    assert_eq!(script.text(), format!("500 {body}|D|T|Content-Length: {}||{body}", body.len()));
    assert_eq!((script.close(), script.closed_files), (None, 1));
}

#[test]
fn a_folder_must_be_there() {
    let folder = Folder::new("open");
    let path = folder.0.join("none");
    let error = Files::open(&path).unwrap_err().to_string();
    let want = format!("cannot serve the folder {}: open: No such file", path.display());
    assert!(error.starts_with(&want), "{error}");
}

#[test]
fn a_cached_file_is_sent_from_memory_and_a_change_shows() {
    let folder = Folder::new("cached");
    let files = Files::open(folder.root()).unwrap().cached(1 << 20);
    let handler = move |request: &Request<'_>, response: &mut Response| {
        files.respond(request, response);
    };
    let mut script = Script::new(handler, &[]);
    let mut ask = |target: &str, fields: &str| {
        script.output.clear();
        script.receive(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(script.next.read_file, None, "nothing is read while it is sent");
        script.run();
        script.text()
    };
    let text = ask("/a.txt", "");
    assert!(text.starts_with("200 OK|") && text.ends_with("||0123456789"), "{text}");
    let etag = text.split("ETag: ").nth(1).unwrap().split('|').next().unwrap().to_owned();
    assert!(ask("/a.txt", &format!("If-None-Match: {etag}\r\n")).starts_with("304 "));
    assert!(ask("/a.txt", "Range: bytes=2-3\r\n").ends_with("||23"));
    assert!(ask("/a.txt", "Range: bytes=99-\r\n").starts_with("416 "));
    folder.write("a.txt", "changed");
    let began = clock::monotonic();
    while !ask("/a.txt", "").ends_with("||changed") {
        assert!(clock::monotonic().since(began) < Duration::from_secs(20), "never seen");
    }
}

#[test]
fn what_clients_may_keep_and_what_they_save() {
    let folder = Folder::new("fields");
    let files = Files::open(folder.root()).unwrap().max_age(Duration::from_secs(3600));
    let handler = move |request: &Request<'_>, response: &mut Response| match request.query() {
        Some(name) => files.download(request, response, name),
        None => files.respond(request, response),
    };
    let mut script = Script::new(handler, &[]);
    let mut ask = |target: &str| {
        script.output.clear();
        script.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        script.text()
    };
    let text = ask("/a.txt");
    assert!(text.contains("|Cache-Control: max-age=3600|"), "{text}");
    assert!(!text.contains("Content-Disposition"), "{text}");
    let saved = ask("/a.txt?b.txt");
    assert!(saved.contains("|Content-Disposition: attachment; filename=\"b.txt\"|"), "{saved}");
}

#[test]
fn names_of_downloads() {
    assert_eq!(attachment("a b.txt"), "attachment; filename=\"a b.txt\"");
    assert_eq!(
        attachment("é\"\r\n.txt"),
        "attachment; filename=\"____.txt\"; filename*=UTF-8''%C3%A9%22%0D%0A.txt",
    );
}
