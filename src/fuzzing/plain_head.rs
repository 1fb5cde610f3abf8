//! A second parser for heads: slow, plain, by splitting text, sharing no code with the first.
//! It only says which heads are served, and as what. Pure.

/// As `super::describe`. `None`: refused, or not complete.
pub(super) fn parse(bytes: &[u8]) -> Option<String> {
    // One char a byte, so that text functions work on all of them.
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let mut text = text.as_str();
    for _ in 0..4 {
        text = text.strip_prefix("\r\n").unwrap_or(text);
    }
    let head = text.split_once("\r\n\r\n")?.0;
    let mut lines = head.split("\r\n");
    let parts: Vec<&str> = lines.next()?.split(' ').collect();
    let [method, target, version] = parts[..] else { return None };
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let is_clean = value.chars().all(|c| c == '\t' || !c.is_ascii_control());
        if !is_token(name) || !is_clean {
            return None;
        }
        fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])));
    }
    if fields.len() > 100 {
        return None;
    }
    let values = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value).collect()
    };
    let is_new = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return None,
    };
    let is_odd = fields.iter().any(|(name, _)| {
        name.contains('_')
            && ["content-length", "transfer-encoding"].contains(&name.replace('_', "-").as_str())
    });
    if is_odd || !is_method(method) || !is_target(method, target) || !hosts(&values("host"), is_new)
    {
        return None;
    }
    let framing = framing(&values("content-length"), &values("transfer-encoding"), is_new)?;
    let expected = values("expect");
    if is_new && expected.iter().any(|value| !value.eq_ignore_ascii_case("100-continue")) {
        return None;
    }
    let waits = is_new && !expected.is_empty() && framing != "none" && framing != "0";
    let options: Vec<String> = values("connection")
        .iter()
        .flat_map(|value| value.split(','))
        .map(|option| option.trim_matches([' ', '\t']).to_ascii_lowercase())
        .collect();
    let has = |wanted: &str| options.iter().any(|option| option == wanted);
    let after = if !has("close") && (is_new || has("keep-alive")) { "keep" } else { "close" };
    let expects = if waits { " continue" } else { "" };
    Some(format!("{method} {target} {} {framing} {after}{expects}", &version[5..]))
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_graphic() && !"\"(),/:;<=>?@[\\]{}".contains(c))
}

fn is_method(text: &str) -> bool {
    is_token(text) && text == text.to_ascii_uppercase() && text != "CONNECT"
}

fn is_target(method: &str, target: &str) -> bool {
    if !target.chars().all(|c| c.is_ascii_graphic() && c != '#') {
        return false;
    }
    let lower = target.to_ascii_lowercase();
    let rest = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    if let Some(rest) = rest {
        let authority = rest.split(['/', '?']).next().unwrap_or("");
        return is_authority(authority);
    }
    target.starts_with('/') || (method == "OPTIONS" && target == "*")
}

fn hosts(values: &[&str], is_new: bool) -> bool {
    match values {
        [] => !is_new,
        [value] => value.is_empty() || is_authority(value),
        _ => false,
    }
}

fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(at) if !text.ends_with(']') => (&text[..at], &text[at + 1..]),
        _ => (text, ""),
    };
    if !port.chars().all(|c| c.is_ascii_digit()) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let mut pieces = host.split('%');
    let is_plain = |text: &str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c))
    };
    let first = pieces.next().unwrap_or("");
    let encoded = |piece: &str| {
        piece.len() >= 2
            && piece.is_ascii()
            && piece[..2].chars().all(|c| c.is_ascii_hexdigit())
            && is_plain(&piece[2..])
    };
    !host.is_empty() && is_plain(first) && pieces.all(encoded)
}

fn framing(lengths: &[&str], codings: &[&str], is_new: bool) -> Option<String> {
    match (lengths, codings) {
        ([], []) => Some("none".to_owned()),
        ([], [coding]) => {
            (is_new && coding.eq_ignore_ascii_case("chunked")).then(|| "chunked".to_owned())
        }
        ([length], []) => {
            let is_number = !length.is_empty() && length.chars().all(|c| c.is_ascii_digit());
            let value: u64 = length.parse().ok()?;
            (is_number && length.len() <= 20 && value <= 10 << 20).then(|| value.to_string())
        }
        _ => None,
    }
}
