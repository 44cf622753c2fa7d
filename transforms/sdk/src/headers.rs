//! Which HTTP headers a transform may set for a delivery.

use std::fmt;

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The name is empty or has a character that RFC 9110 (section 5.6.2) doesn't allow.
    Name,
    /// The engine sets this one itself, or it is about the connection.
    Reserved,
    /// The value has a control character, such as a line break.
    Value,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name => "is no header name (letters, digits and !#$%&'*+-.^_`|~)",
            Self::Reserved => {
                "can't be set by a transform (nor can webhook-*, ce-*, host, connection, content-*, transfer-encoding)"
            }
            Self::Value => "has a value with a control character, such as a line break",
        })
    }
}

impl std::error::Error for HeaderError {}

/// Checks a header that is to go with a delivery, by the rules of the engine, which checks again.
pub fn check_header(name: &str, value: &str) -> Result<(), HeaderError> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(HeaderError::Name);
    }
    let name = name.to_ascii_lowercase();
    let prefixes = ["webhook-", "ce-", "content-"];
    let names = ["host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
    if prefixes.iter().any(|prefix| name.starts_with(prefix)) || names.contains(&name.as_str()) {
        return Err(HeaderError::Reserved);
    }
    if value.chars().any(|character| character.is_control() && character != '\t') {
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
            ("x-shop", "a\r\nx-evil: 1", Err(HeaderError::Value)),
        ] {
            assert_eq!(check_header(name, value), expected, "{name}: {value:?}");
        }
    }
}
