/// `httparse` for [`common::Bare`].
fn parse(bytes: &[u8]) -> Result<Option<common::Head>, ()> {
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
        Some("/") => common::Path::Hello,
        Some("/big") => common::Path::Big,
        Some("/upload") => common::Path::Upload,
        _ => common::Path::Other,
    };
    Ok(Some((length, close, path, body)))
}
