//! What travels beside a passed descriptor: one JSON object, `{}` when there is nothing to say.
//! Pure.

use super::{Map, Value, WireError};

/// As JSON.
///
/// # Errors
///
/// More than `max` bytes.
pub fn encode(metadata: &Map<String, Value>, max: usize) -> Result<Vec<u8>, WireError> {
    let bytes = serde_json::to_vec(metadata).map_err(|error| WireError::Json(error.to_string()))?;
    match bytes.len() {
        bytes if bytes > max => Err(WireError::TooLarge { bytes, max }),
        _ => Ok(bytes),
    }
}

/// Reads JSON.
///
/// # Errors
///
/// Not JSON, or not an object.
pub fn parse(bytes: &[u8]) -> Result<Map<String, Value>, WireError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(WireError::Shape("metadata are a JSON object")),
        Err(error) => Err(WireError::Json(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::json;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        let got = match parse(text.as_bytes()) {
            Ok(object) => Value::Object(object).to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn metadata_are_one_object() {
        check("{}", "{}");
        check(
            r#"{"client_ip":"192.0.2.1","deep":{"list":[1,"é"]}}"#,
            r#"{"client_ip":"192.0.2.1","deep":{"list":[1,"é"]}}"#,
        );
        check("", "not JSON: EOF while parsing a value at line 1 column 0");
        check("[]", "metadata are a JSON object");
        check("{}\0", "not JSON: trailing characters at line 1 column 3");
        check("{\"a\":", "not JSON: EOF while parsing a value at line 1 column 5");
    }

    #[test]
    fn metadata_have_a_limit() {
        let Value::Object(object) = json!({"a": "bc"}) else { unreachable!() };
        assert_eq!(encode(&object, 10).unwrap(), br#"{"a":"bc"}"#);
        assert_eq!(encode(&object, 9), Err(WireError::TooLarge { bytes: 10, max: 9 }));
        assert_eq!(encode(&Map::new(), 2).unwrap(), b"{}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_metadata_or_an_error(data in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(object) = parse(&data) {
                prop_assert!(encode(&object, 1 << 20).is_ok());
            }
        }
    }
}
