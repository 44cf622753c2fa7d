//! The bounds of what a guest returns, and the rules of its HTTP headers. Attributes have theirs in the event model.

use super::bindings::hookmill::transform::types::{EventResult, Header, Output, ValueResult};
use super::convert::Problem;
use crate::model::size;

/// Most HTTP headers of one output.
const HEADERS_MAX: usize = 64;

/// Most bytes of the headers of one output, names and values.
const HEADERS_BYTES_MAX: usize = 16 << 10;

/// Most events that one becomes.
const SPLIT_MAX: usize = 1024;

/// Headers that the engine sets or that belong to the connection (RFC 9110, 7.6.1). A `-` at the end is a prefix.
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
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-",
    "tracestate",
];

/// No more than [`SPLIT_MAX`].
pub(super) fn split_count(found: usize) -> Result<(), Problem> {
    if found > SPLIT_MAX { Err(Problem::SplitCount { found, max: SPLIT_MAX }) } else { Ok(()) }
}

/// All outputs together, names and values of headers and attributes and the data.
pub(super) fn total_size(outputs: &[Output], max: u64) -> Result<(), Problem> {
    let found = outputs
        .iter()
        .map(|output| event_bytes(&output.event) + header_bytes(&output.headers))
        .sum::<usize>();
    let found = found as u64;
    if found > max { Err(Problem::Size { found, max: size::text(max) }) } else { Ok(()) }
}

/// Names are lower-case tokens (RFC 9110, 5.6.2) and not reserved, values are printable ASCII.
pub(super) fn headers(headers: &[Header]) -> Result<(), Problem> {
    if headers.len() > HEADERS_MAX {
        return Err(Problem::HeaderCount { found: headers.len(), max: HEADERS_MAX });
    }
    let bytes = header_bytes(headers);
    if bytes > HEADERS_BYTES_MAX {
        return Err(Problem::HeaderBytes { found: bytes, max: HEADERS_BYTES_MAX });
    }
    headers.iter().try_for_each(|header| match header_problem(header) {
        None => Ok(()),
        Some(what) => Err(Problem::Header { name: shown(&header.name), what }),
    })
}

fn header_problem(header: &Header) -> Option<&'static str> {
    let token =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let printable = |byte: u8| matches!(byte, b' '..=b'~');
    if header.name.is_empty() || !header.name.bytes().all(token) {
        Some("is not a header name: names are lower-case letters, digits and !#$%&'*+-.^_`|~")
    } else if is_reserved(&header.name) {
        Some("is reserved: a transform can't set it")
    } else if !header.value.bytes().all(printable) {
        Some("has a value with a control character or one beyond ASCII")
    } else {
        None
    }
}

fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|rule| if rule.ends_with('-') { name.starts_with(rule) } else { name == *rule })
}

/// A name as an error text shows it.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

fn header_bytes(headers: &[Header]) -> usize {
    headers.iter().map(|header| header.name.len() + header.value.len()).sum()
}

fn event_bytes(event: &EventResult) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let value = |value: &ValueResult| match value {
        ValueResult::Text(text) => text.len(),
        ValueResult::Integer(_) => 4,
        ValueResult::Boolean(_) => 1,
    };
    let optional = [&event.subject, &event.time, &event.datacontenttype, &event.dataschema];
    event.id.len()
        + event.source.len()
        + event.type_.len()
        + optional.into_iter().map(text).sum::<usize>()
        + event.extensions.iter().map(|it| it.name.len() + value(&it.value)).sum::<usize>()
        + event.data.as_ref().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<(), String> {
        headers(&[Header { name: name.into(), value: value.into() }]).map_err(|problem| problem.to_string())
    }

    #[test]
    fn headers_that_others_set_are_reserved() {
        let reserved = [
            "webhook-id",
            "webhook-signature",
            "ce-id",
            "host",
            "content-type",
            "content-length",
            "transfer-encoding",
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "upgrade",
            "proxy-authorization",
            "traceparent",
        ];
        for name in reserved {
            assert_eq!(one(name, "x"), Err(format!("header {name:?} is reserved: a transform can't set it")));
        }
        for name in ["x-region", "authorization", "webhook", "hosts", "x-host", "user-agent", "ce"] {
            assert_eq!(one(name, "x"), Ok(()), "{name}");
        }
    }

    #[test]
    fn no_header_can_smuggle_another() {
        for name in ["", "X-Up", "a b", "a:b", "a\r\nb", "ä", "a\0"] {
            assert!(one(name, "x").unwrap_err().contains("is not a header name"), "{name:?}");
        }
        for value in ["a\r\nwebhook-id: x", "a\n", "\0", "\t", "ä", "\u{7f}"] {
            assert_eq!(
                one("x-a", value),
                Err("header \"x-a\" has a value with a control character or one beyond ASCII".into()),
                "{value:?}"
            );
        }
        assert_eq!(one("x-a", ""), Ok(()));
        assert_eq!(one("x-a", "a b; c=\"d\""), Ok(()));
    }

    #[test]
    fn headers_are_bounded_in_number_and_size() {
        let many = |count: usize, size: usize| {
            let header = |n| Header { name: format!("x-{n:02}"), value: "v".repeat(size) };
            headers(&(0..count).map(header).collect::<Vec<_>>()).map_err(|problem| problem.to_string())
        };
        assert_eq!(many(64, 1), Ok(()));
        assert_eq!(many(65, 1), Err("it sets 65 headers, the most is 64".into()));
        assert_eq!(many(1, (16 << 10) - 4), Ok(()));
        assert_eq!(many(1, (16 << 10) - 3), Err("its headers are 16385 bytes, the most is 16384".into()));
    }

    #[test]
    fn a_split_is_bounded() {
        assert!(split_count(1024).is_ok());
        assert_eq!(
            split_count(1025).unwrap_err().to_string(),
            "it splits into 1025 events, the most is 1024"
        );
    }
}
