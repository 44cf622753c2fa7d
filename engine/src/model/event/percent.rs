//! Percent-encoding of header values, the same in the NATS and the HTTP binding of `CloudEvents` (3.1.3.2 in both).

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// Space, double quote, percent and all that isn't printable ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Why a header value can't be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// A `%` is not followed by two hexadecimal digits: the byte where it is, of the value without blanks and quotes around.
    #[error("a % is not followed by two hexadecimal digits")]
    Percent(usize),
    /// The bytes are no UTF-8.
    #[error("the value does not decode to UTF-8")]
    Utf8,
    /// A quoted value has no end, or something after it.
    #[error("an opening quote has no closing one at the end")]
    Quote,
}

/// `value` as a header carries it: printable ASCII without spaces and quotes.
pub fn encode(value: &str) -> Cow<'_, str> {
    utf8_percent_encode(value, ENCODED).into()
}

/// The value that a header carries: white space around it is dropped, a quoted string is taken out of its quotes (older
/// producers wrote those), then one round of percent-decoding.
pub fn decode(header: &str) -> Result<Cow<'_, str>, DecodeError> {
    let trimmed = header.trim_matches([' ', '\t']);
    let unquoted =
        if trimmed.starts_with('"') { Cow::Owned(unquote(trimmed)?) } else { Cow::Borrowed(trimmed) };
    if !unquoted.contains('%') {
        return Ok(unquoted);
    }
    String::from_utf8(decoded_bytes(&unquoted)?).map(Cow::Owned).map_err(|_| DecodeError::Utf8)
}

fn decoded_bytes(text: &str) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let at = text.len() - bytes.len() - 1;
            let mut digit = || bytes.next().and_then(hex_digit).ok_or(DecodeError::Percent(at));
            out.push((digit()? << 4) | digit()?);
        } else {
            out.push(byte);
        }
    }
    Ok(out)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The text within a quoted string (RFC 7230, 3.2.6), its backslash escapes resolved.
fn unquote(quoted: &str) -> Result<String, DecodeError> {
    let mut out = String::with_capacity(quoted.len());
    let mut characters = quoted[1..].chars();
    loop {
        match characters.next() {
            Some('"') if characters.as_str().is_empty() => return Ok(out),
            Some('\\') => out.push(characters.next().ok_or(DecodeError::Quote)?),
            None | Some('"') => return Err(DecodeError::Quote),
            Some(character) => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_binding_encodes_as_it_says() {
        let text = "Euro € 😀";
        assert_eq!(encode(text), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(decode("Euro%20%E2%82%AC%20%F0%9F%98%80").as_deref(), Ok(text));
    }

    #[test]
    fn what_need_not_be_encoded_is_left_alone() {
        let plain = "!#$&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~";
        assert!(matches!(encode(plain), Cow::Borrowed(_)));
        assert_eq!(encode("a \"b\"%\u{7f}\n"), "a%20%22b%22%25%7F%0A");
    }

    #[test]
    fn decoding_takes_what_others_write() {
        for (header, value) in [
            ("  a b\t", "a b"),
            ("%41%62%c3%a4", "Abä"),
            ("%2541", "%41"),
            (r#""a \"quoted\" \\ %20""#, "a \"quoted\" \\  "),
            (r#"in"side"#, "in\"side"),
            ("käse", "käse"),
            ("", ""),
            ("\"\"", ""),
        ] {
            assert_eq!(decode(header).as_deref(), Ok(value), "{header}");
        }
    }

    #[test]
    fn broken_values_are_refused() {
        for (header, error) in [
            ("%C0%A0", DecodeError::Utf8),
            ("%ff", DecodeError::Utf8),
            ("50%", DecodeError::Percent(2)),
            ("50%2", DecodeError::Percent(2)),
            ("%zz", DecodeError::Percent(0)),
            ("%+1", DecodeError::Percent(0)),
            ("\"open", DecodeError::Quote),
            ("\"a\"b", DecodeError::Quote),
            ("\"a\\", DecodeError::Quote),
            ("\"", DecodeError::Quote),
        ] {
            assert_eq!(decode(header), Err(error), "{header}");
        }
    }
}
