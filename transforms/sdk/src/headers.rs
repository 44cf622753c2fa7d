//! Which HTTP headers a transform may set for a delivery.

use std::fmt;

/// Set by the engine, or about the connection (RFC 9110, section 7.6.1). A `-` at the end is a prefix.
const RESERVED: [&str; 18] = [
    "accept-encoding",
    "ce-",
    "connection",
    "content-",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-",
];

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The name is empty or has a character that RFC 9110 (section 5.6.2) doesn't allow.
    Name,
    /// The engine sets this one itself, or it is about the connection.
    Reserved,
    /// The value has something other than printable ASCII characters, such as a line break.
    Value,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "is no header name (letters, digits and !#$%&'*+-.^_`|~)",
            Self::Reserved => "is reserved: a transform can't set it",
            Self::Value => "has a value with a control character or one beyond ASCII",
        })
    }
}

impl std::error::Error for HeaderError {}

/// Checks a header that is to go with a delivery, by the rules of the engine, which checks again. Case doesn't matter:
/// [`Output::header`](crate::Output::header) makes names lower-case.
pub fn check_header(name: &str, value: &str) -> Result<(), HeaderError> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(HeaderError::Name);
    }
    let name = name.to_ascii_lowercase();
    if RESERVED.iter().any(|rule| if rule.ends_with('-') { name.starts_with(rule) } else { name == *rule }) {
        return Err(HeaderError::Reserved);
    }
    if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(HeaderError::Value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_would_break_or_forge_a_delivery_are_refused() {
        for (name, value, expected) in [
            ("x-shop", "eu west", Ok(())),
            ("", "v", Err(HeaderError::Name)),
            ("x shop", "v", Err(HeaderError::Name)),
            ("x:y", "v", Err(HeaderError::Name)),
            ("Webhook-Id", "v", Err(HeaderError::Reserved)),
            ("CE-id", "v", Err(HeaderError::Reserved)),
            ("content-length", "0", Err(HeaderError::Reserved)),
            ("Host", "v", Err(HeaderError::Reserved)),
            ("traceparent", "v", Err(HeaderError::Reserved)),
            ("x-shop", "a\r\nx-evil: 1", Err(HeaderError::Value)),
            ("x-shop", "süd", Err(HeaderError::Value)),
        ] {
            assert_eq!(check_header(name, value), expected, "{name}: {value:?}");
        }
    }
}
