//! Media types, as far as an event has to know them (RFC 2045, 5.1 and RFC 2046).

/// Refuses what is no media type, with any number of parameters: the byte at which it stops being one.
pub(super) fn check(text: &str) -> Result<(), usize> {
    let mut cursor = Cursor { text: text.as_bytes(), at: 0 };
    cursor.blanks();
    cursor.token()?;
    cursor.byte(b'/')?;
    cursor.token()?;
    loop {
        cursor.blanks();
        if cursor.at == text.len() {
            return Ok(());
        }
        cursor.byte(b';')?;
        cursor.blanks();
        cursor.token()?;
        cursor.byte(b'=')?;
        cursor.value()?;
    }
}

/// A place in a text; each step says where it fails.
struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn byte(&mut self, wanted: u8) -> Result<(), usize> {
        if self.peek() != Some(wanted) {
            return Err(self.at);
        }
        self.at += 1;
        Ok(())
    }

    fn token(&mut self) -> Result<(), usize> {
        let from = self.at;
        while self.peek().is_some_and(is_token_byte) {
            self.at += 1;
        }
        if self.at == from { Err(from) } else { Ok(()) }
    }

    /// A token or a quoted string.
    fn value(&mut self) -> Result<(), usize> {
        if self.peek() != Some(b'"') {
            return self.token();
        }
        let mut escaped = false;
        loop {
            self.at += 1;
            match self.peek() {
                Some(b' '..=b'~') if escaped => escaped = false,
                Some(b'\\') => escaped = true,
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b' '..=b'~') => {}
                _ => return Err(self.at),
            }
        }
    }
}

/// RFC 2045: printable ASCII but space and the `tspecials`.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The media type without its parameters.
pub(super) fn essence(text: &str) -> &str {
    trim(text.split(';').next().unwrap_or(text))
}

/// Whether a `datacontenttype` declares JSON: `*/json` or `*/*+json`, parameters and case ignored; none at all does,
/// too (JSON event format, 3.1.1).
pub(super) fn is_json(datacontenttype: Option<&str>) -> bool {
    let Some(text) = datacontenttype else { return true };
    let subtype = essence(text).split_once('/').map_or("", |(_, subtype)| subtype);
    let suffix = subtype.len().checked_sub(5).and_then(|at| subtype.get(at..));
    subtype.eq_ignore_ascii_case("json") || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
}

/// Whether data of this type is text by its very name, so that JSON may carry it as a string: `text/*` and XML.
pub(super) fn is_text(datacontenttype: &str) -> bool {
    let lower = essence(datacontenttype).to_ascii_lowercase();
    lower.starts_with("text/") || lower.ends_with("/xml") || lower.ends_with("+xml")
}

/// Whether the type names a `charset` other than UTF-8 and its subset ASCII.
pub(super) fn has_foreign_charset(datacontenttype: &str) -> bool {
    let parameters = datacontenttype.split(';').skip(1);
    let named = parameters.filter_map(|parameter| parameter.split_once('='));
    let mut charsets = named.filter(|(name, _)| trim(name).eq_ignore_ascii_case("charset"));
    charsets.any(|(_, value)| {
        let value = trim(value).trim_matches('"');
        !["utf-8", "utf8", "us-ascii"].iter().any(|ours| value.eq_ignore_ascii_case(ours))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_follow_rfc_2045() {
        let good = [
            "application/json",
            "text/plain; charset=utf-8",
            "TEXT/Plain;CharSet=\"utf-8\" ; format=flowed",
            "application/vnd.apache.thrift.binary",
            "a/b; q=\"x\\\"; y=\\\\\"",
            "image/svg+xml",
        ];
        for text in good {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        let bad = [
            ("", 0),
            ("json", 4),
            ("/json", 0),
            ("text/", 5),
            ("text/a/b", 6),
            ("text /plain", 4),
            ("text/plain;", 11),
            ("text/plain; x", 13),
            ("text/plain; x=", 14),
            ("text/plain; =y", 12),
            ("text/plain; x=\"y", 16),
            ("text/plain; x=y z", 16),
            ("text/plain, text/html", 10),
            ("text/plän", 7),
            ("text/plain; x=\"ä\"", 15),
            ("(a)/b", 0),
        ];
        for (text, at) in bad {
            assert_eq!(check(text), Err(at), "{text}");
        }
    }

    #[test]
    fn json_is_told_by_subtype_and_suffix_alone() {
        let json = ["application/json", "text/JSON; charset=utf-8", "application/vnd.x+JSON", "a/+json"];
        for text in json {
            assert!(is_json(Some(text)), "{text}");
        }
        assert!(is_json(None));
        for text in
            ["application/jsonx", "json/plain", "application/json-seq", "text/plain; a=b/json", "a/é+jso"]
        {
            assert!(!is_json(Some(text)), "{text}");
        }
    }

    #[test]
    fn only_a_charset_other_than_utf_8_is_foreign() {
        for text in ["text/plain", "text/plain; charset=UTF-8", "text/plain;x=y;CHARSET=\"us-ascii\""] {
            assert!(!has_foreign_charset(text), "{text}");
        }
        assert!(has_foreign_charset("text/plain; charset=iso-8859-1"));
    }
}
