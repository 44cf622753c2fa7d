//! The settings of `[subscription.deliver]`, and the checks of what may stand in them.

use std::time::Duration;

use http::HeaderName;

use crate::egress;
use crate::model::SecretRef;

/// How an event becomes an HTTP body (`CloudEvents` HTTP protocol binding, section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// The whole event as `application/cloudevents+json`.
    #[default]
    Structured,
    /// Attributes as `ce-*` headers, the data as the body.
    Binary,
    /// The data alone.
    Data,
}

/// Where and how a subscription's events are delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The endpoint; [`super::check_url`] says what is usable.
    pub url: SecretRef,
    /// The form of the body.
    pub format: Format,
    /// Further headers, checked by [`check_header_name`] and (if plain) [`check_header_value`].
    pub headers: Vec<(String, SecretRef)>,
    /// Signing secrets: one signature for each.
    pub sign: Vec<SecretRef>,
    /// Bounds one attempt as a whole.
    pub timeout: Duration,
    /// Statuses that end in a dead letter at once.
    pub give_up_on: Vec<u16>,
    /// The only statuses that are tried again; `None`: all that nothing else ends.
    pub retry_on: Option<Vec<u16>>,
    /// Longest time that a `Retry-After` is obeyed for.
    pub retry_after_max: Duration,
    /// What this endpoint may and may not reach, beside the rules of the process.
    pub reach: egress::Policy,
}

/// Why a header can't be configured.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// Not a token (RFC 9110, section 5.1).
    #[error("{0:?} is not a header name; use letters, digits and -")]
    NotName(String),
    /// The engine sets it itself.
    #[error("{0} is set by the engine; leave it out")]
    Reserved(String),
    /// It is about one connection, not about the request.
    #[error("{0} governs the connection and can't be set; leave it out")]
    Connection(String),
    /// CR, LF, another control character or something outside of ASCII.
    #[error("the value has a character at byte {0} that HTTP headers can't carry; use printable ASCII")]
    NotValue(usize),
}

/// Headers that belong to one connection (RFC 9110, section 7.6.1) or change how the message is read.
const OF_THE_CONNECTION: [&str; 9] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Headers that the engine sets itself, beside those that start with one of [`RESERVED_PREFIXES`].
const RESERVED: [&str; 4] = ["accept-encoding", "host", "traceparent", "tracestate"];

/// Starts of the names of headers that the engine sets itself.
const RESERVED_PREFIXES: [&str; 3] = ["webhook-", "ce-", "content-"];

/// Whether a subscription, or a step, may set this header. Case is ignored.
pub fn check_header_name(name: &str) -> Result<(), HeaderError> {
    header_name(name).map(drop)
}

/// The name, if it may be set.
pub(super) fn header_name(name: &str) -> Result<HeaderName, HeaderError> {
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(HeaderError::NotName(name.chars().take(64).collect()));
    };
    let lower = parsed.as_str();
    if OF_THE_CONNECTION.contains(&lower) {
        return Err(HeaderError::Connection(lower.to_owned()));
    }
    if RESERVED.contains(&lower) || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        return Err(HeaderError::Reserved(lower.to_owned()));
    }
    Ok(parsed)
}

/// Whether a text can be a header's value: printable ASCII, spaces and tabs.
pub fn check_header_value(value: &str) -> Result<(), HeaderError> {
    let usable = |byte: u8| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic();
    match value.bytes().position(|byte| !usable(byte)) {
        Some(at) => Err(HeaderError::NotValue(at)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_and_connection_headers_are_refused_in_any_case() {
        for name in [
            "webhook-id",
            "Webhook-Signature",
            "WEBHOOK-TIMESTAMP",
            "webhook-anything",
            "ce-id",
            "CE-Type",
            "ce-",
            "host",
            "Host",
            "content-type",
            "Content-Length",
            "content-encoding",
            "accept-encoding",
            "traceparent",
            "tracestate",
        ] {
            assert_eq!(check_header_name(name), Err(HeaderError::Reserved(name.to_lowercase())), "{name}");
        }
        for name in [
            "transfer-encoding",
            "Connection",
            "upgrade",
            "TE",
            "trailer",
            "expect",
            "keep-alive",
            "proxy-connection",
        ] {
            assert_eq!(check_header_name(name), Err(HeaderError::Connection(name.to_lowercase())), "{name}");
        }
        for name in ["", " ", "x y", "x:y", "x\r\ny", "ä", "x\0", "(x)", "webhook-id ", "x\u{2028}"] {
            assert!(matches!(check_header_name(name), Err(HeaderError::NotName(_))), "{name:?}");
        }
        for name in
            ["authorization", "x-shop", "X-Shop", "user-agent", "x_y", "cookie", "contents", "cex", "hosts"]
        {
            assert_eq!(check_header_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn values_carry_no_line_breaks() {
        for (value, at) in
            [("a\r\nb: c", 1), ("\n", 0), ("a\0", 1), ("ab\u{7f}", 2), ("ä", 0), ("a\x1b[0m", 1)]
        {
            assert_eq!(check_header_value(value), Err(HeaderError::NotValue(at)), "{value:?}");
        }
        for value in ["", "Bearer abc", "a\tb", "~!@#$%^&*()"] {
            assert_eq!(check_header_value(value), Ok(()), "{value:?}");
        }
    }

    #[test]
    fn what_is_wrong_says_how_to_mend_it() {
        let says = |name| check_header_name(name).expect_err(name).to_string();
        assert_eq!(says("Webhook-Id"), "webhook-id is set by the engine; leave it out");
        assert_eq!(says("upgrade"), "upgrade governs the connection and can't be set; leave it out");
        assert_eq!(says("x y"), "\"x y\" is not a header name; use letters, digits and -");
        let value = check_header_value("a\nb").expect_err("a line break").to_string();
        assert_eq!(
            value,
            "the value has a character at byte 1 that HTTP headers can't carry; use printable ASCII"
        );
    }
}
