//! Media types, as far as an event has to know them (RFC 2045, 5.1 and RFC 2046).

/// Whether `text` is a media type with any number of parameters.
pub(super) fn is_media_type(text: &str) -> bool {
    let (essence, parameters) =
        text.split_once(';').map_or((text, None), |(left, right)| (left, Some(right)));
    let Some((kind, subtype)) = trim(essence).split_once('/') else { return false };
    is_token(kind) && is_token(subtype) && parameters.is_none_or(are_parameters)
}

/// Whether `text`, which follows a semicolon, is `name=value`, and so on after further semicolons.
fn are_parameters(text: &str) -> bool {
    let mut rest = text;
    loop {
        let Some((name, value)) = trim(rest).split_once('=') else { return false };
        let Some(end) = value_length(value) else { return false };
        if !is_token(name) {
            return false;
        }
        let after = trim(&value[end..]);
        match after.strip_prefix(';') {
            Some(next) => rest = next,
            None => return after.is_empty(),
        }
    }
}

/// Bytes of the token or quoted string that `text` starts with.
fn value_length(text: &str) -> Option<usize> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(text.len());
        return (end > 0).then_some(end);
    };
    let mut escaped = false;
    for (place, byte) in quoted.bytes().enumerate() {
        match byte {
            _ if !matches!(byte, b' '..=b'~') => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(place + 2),
            _ => {}
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
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
            assert!(is_media_type(text), "{text}");
        }
        let bad = [
            "",
            "json",
            "/json",
            "text/",
            "text/a/b",
            "text /plain",
            "text/plain;",
            "text/plain; x",
            "text/plain; x=",
            "text/plain; =y",
            "text/plain; x=\"y",
            "text/plain; x=y z",
            "text/plain, text/html",
            "text/plän",
            "text/plain; x=\"ä\"",
            "(a)/b",
        ];
        for text in bad {
            assert!(!is_media_type(text), "{text}");
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
