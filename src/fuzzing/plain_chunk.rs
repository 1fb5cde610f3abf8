//! A second decoder for chunked bodies: whole input, by splitting text, without limits. Pure.

/// The content, and how many bytes of the input are the body's. `None`: refused, or not complete.
pub(super) fn decode(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let line_end = |from: usize| {
        bytes[from..].windows(2).position(|pair| pair == b"\r\n").map(|end| from + end)
    };
    let text = |from: usize, to: usize| bytes[from..to].iter().map(|b| char::from(*b)).collect();
    let mut content = Vec::new();
    let mut at = 0;
    loop {
        let end = line_end(at)?;
        let line: String = text(at, end);
        let digits = line.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(line.len());
        let size = usize::from_str_radix(&line[..digits], 16).ok()?;
        if !are_extensions(&line[digits..]) {
            return None;
        }
        at = end + 2;
        if size == 0 {
            break;
        }
        content.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at += size;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    loop {
        let end = line_end(at)?;
        let line: String = text(at, end);
        at = end + 2;
        if line.is_empty() {
            return Some((content, at));
        }
        let (name, value) = line.split_once(':')?;
        let is_clean = value.chars().all(|c| c == '\t' || !(c < ' ' || c == '\u{7f}'));
        if !is_token(name) || !is_clean {
            return None;
        }
    }
}

fn is_token(text: &str) -> bool {
    let is_tchar = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(is_tchar)
}

/// `*( BWS ";" BWS name [ BWS "=" BWS value ] )`
fn are_extensions(text: &str) -> bool {
    let blank = [' ', '\t'];
    let mut rest = text;
    while !rest.is_empty() {
        let Some(after) = rest.trim_start_matches(blank).strip_prefix(';') else { return false };
        let after = after.trim_start_matches(blank);
        let end = after.find([' ', '\t', ';', '=']).unwrap_or(after.len());
        if !is_token(&after[..end]) {
            return false;
        }
        rest = &after[end..];
        let Some(value) = rest.trim_start_matches(blank).strip_prefix('=') else { continue };
        let value = value.trim_start_matches(blank);
        let end = match value.strip_prefix('"') {
            Some(quoted) => match quoted_length(quoted) {
                Some(end) => end + 1,
                None => return false,
            },
            None => {
                let end = value.find([' ', '\t', ';']).unwrap_or(value.len());
                if !is_token(&value[..end]) {
                    return false;
                }
                end
            }
        };
        rest = &value[end..];
    }
    true
}

/// Where a quoted string ends, after its opening quote.
fn quoted_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if (c < ' ' && c != '\t') || c == '\u{7f}' {
            return None;
        }
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}
