//! Which bytes and names the grammar of HTTP and of URIs allows. Pure.

use std::net::Ipv6Addr;

/// `uri-host [ ":" port ]` with a host (RFC 3986 §3.2.2 without its future addresses).
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    let port = if let Some(literal) = bytes.strip_prefix(b"[") {
        let end = literal.iter().position(|byte| *byte == b']');
        let Some((address, rest)) = end.and_then(|end| literal.split_at_checked(end)) else {
            return false;
        };
        let is_address = str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
        if !is_address {
            return false;
        }
        &rest[1..]
    } else {
        let end = reg_name_length(bytes);
        if end == 0 {
            return false;
        }
        &bytes[end..]
    };
    match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// How many bytes of a registered name or an IPv4 address `bytes` begin with.
fn reg_name_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        at += rest.iter().position(|b| !REG_NAME[usize::from(*b)]).unwrap_or(rest.len());
        match bytes[at..] {
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => at += 3,
            _ => return at,
        }
    }
}

/// `unreserved` or `sub-delims` of RFC 3986 §2. A table: every request asks it for its Host.
static REG_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x7f {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'=');
        byte += 1;
    }
    table
};

/// `tchar` of RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+'
        | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// What may stand in the value of a field (RFC 9110 §5.5): visible, space, tab, 8-bit.
pub(super) fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}
