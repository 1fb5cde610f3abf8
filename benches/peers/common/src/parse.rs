//! Heads by httparse, for [`crate::Bare`].

/// One head, if it is whole.
pub fn parse(bytes: &[u8]) -> Result<Option<crate::Head>, ()> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut fields);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(()),
    };
    let (mut close, mut body) = (false, 0);
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("content-length") {
            body = str::from_utf8(field.value).ok().and_then(|text| text.parse().ok()).ok_or(())?;
        } else if field.name.eq_ignore_ascii_case("connection") {
            close = field.value.eq_ignore_ascii_case(b"close");
        }
    }
    let path = match request.path {
        Some("/") => crate::Path::Hello,
        Some("/big") => crate::Path::Big,
        Some("/upload") => crate::Path::Upload,
        _ => crate::Path::Other,
    };
    Ok(Some((length, close, path, body)))
}
