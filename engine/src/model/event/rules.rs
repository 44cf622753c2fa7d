//! The rules that attributes follow (`CloudEvents` 1.0, "Context Attributes"): one place for what is parsed and for what
//! is built.

use fluent_uri::{Uri, UriRef};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::{BadCharacter, EventError, Found, Place, Wrong};
use super::{EventParts, Value, media};

/// The attributes that the spec defines, and how they are spelled everywhere.
pub(super) const CORE: [&str; 8] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];

/// Checks everything but the data.
pub(super) fn check(parts: &EventParts) -> Result<(), EventError> {
    for (name, text) in [("id", &parts.id), ("source", &parts.source), ("type", &parts.ty)] {
        value(name, text)?;
    }
    let optional = [
        ("subject", &parts.subject),
        ("time", &parts.time),
        ("datacontenttype", &parts.datacontenttype),
        ("dataschema", &parts.dataschema),
    ];
    for (name, text) in optional {
        text.as_deref().map_or(Ok(()), |text| value(name, text))?;
    }
    for (name, value) in &parts.extensions {
        extension_name(name)?;
        if let Value::Text(value) = value {
            text(name, value)?;
        }
    }
    distinct(parts.extensions.iter().map(|(name, _)| name.as_str()))
}

/// Checks the text of one attribute.
pub(super) fn value(name: &str, value: &str) -> Result<(), EventError> {
    match name {
        "id" => filled("id", value).and_then(|()| text(name, value)),
        "source" => source(value),
        "type" => filled("type", value).and_then(|()| text(name, value)),
        "subject" => filled("subject", value).and_then(|()| text(name, value)),
        "time" => time(value),
        "datacontenttype" => content_type(value),
        "dataschema" => data_schema(value),
        _ => text(name, value),
    }
}

fn filled(name: &'static str, value: &str) -> Result<(), EventError> {
    if value.is_empty() { Err(EventError::Empty(name)) } else { Ok(()) }
}

fn source(value: &str) -> Result<(), EventError> {
    filled("source", value)?;
    UriRef::parse(value)
        .map(|_| ())
        .map_err(|error| EventError::Source(Found::new(value), Wrong::At(Place::of(value, error.index()))))
}

/// An absolute URI; a fragment behind it is let through. [`no_fragment`] doesn't.
fn data_schema(value: &str) -> Result<(), EventError> {
    filled("dataschema", value)?;
    let refused = |wrong| EventError::DataSchema(Found::new(value), wrong);
    if !has_scheme(value) {
        return Err(refused(Wrong::NoScheme));
    }
    Uri::parse(value).map(|_| ()).map_err(|error| refused(Wrong::At(Place::of(value, error.index()))))
}

/// Whether a URI begins with a scheme (RFC 3986, 3.1).
pub(super) fn has_scheme(value: &str) -> bool {
    let Some((scheme, _)) = value.split_once(':') else { return false };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(allowed)
}

/// Whether a valid URI has a fragment.
pub(super) fn has_fragment(uri: &str) -> bool {
    uri.contains('#')
}

/// Refuses the fragment of a `dataschema` that is valid else.
pub(super) fn no_fragment(value: &str) -> Result<(), EventError> {
    if has_fragment(value) { Err(EventError::DataSchemaFragment(Found::new(value))) } else { Ok(()) }
}

fn content_type(value: &str) -> Result<(), EventError> {
    filled("datacontenttype", value)?;
    media::check(value)
        .map_err(|at| EventError::ContentType(Found::new(value), Wrong::At(Place::of(value, at))))
}

fn time(value: &str) -> Result<(), EventError> {
    filled("time", value)?;
    // The parser lets any byte stand between date and time; the grammar of RFC 3339 has a T there.
    let separated = matches!(value.as_bytes().get(10), Some(b'T' | b't'));
    if separated && OffsetDateTime::parse(value, &Rfc3339).is_ok() {
        return Ok(());
    }
    let wrong = time_breaks_at(value).map_or(Wrong::NoSuchTime, |at| Wrong::At(Place::of(value, at)));
    Err(EventError::Time(Found::new(value), wrong))
}

/// The byte at which a text leaves the grammar of RFC 3339, 5.6; none: it doesn't.
fn time_breaks_at(value: &str) -> Option<usize> {
    const MOMENT: &[u8] = b"0000-00-00T00:00:00";
    const OFFSET: &[u8] = b"00:00";
    let bytes = value.as_bytes();
    let fits = |pattern: u8, byte: u8| match pattern {
        b'0' => byte.is_ascii_digit(),
        pattern => byte.eq_ignore_ascii_case(&pattern),
    };
    let breaks = |from: usize, pattern: &[u8]| {
        let differs = |(place, wanted): (usize, &u8)| {
            let found = bytes.get(from + place).copied();
            (!found.is_some_and(|byte| fits(*wanted, byte))).then_some(from + place)
        };
        pattern.iter().enumerate().find_map(differs)
    };
    if let Some(at) = breaks(0, MOMENT) {
        return Some(at);
    }
    let mut at = MOMENT.len();
    if bytes.get(at) == Some(&b'.') {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        at += 1 + digits;
        if digits == 0 {
            return Some(at);
        }
    }
    let end = match bytes.get(at) {
        Some(b'Z' | b'z') => at + 1,
        Some(b'+' | b'-') => {
            if let Some(at) = breaks(at + 1, OFFSET) {
                return Some(at);
            }
            at + 1 + OFFSET.len()
        }
        _ => return Some(at),
    };
    (end < bytes.len()).then_some(end)
}

/// Refuses what no attribute's name is, and the names that an extension can't have.
pub(super) fn extension_name(name: &str) -> Result<(), EventError> {
    let mut taken = CORE.iter().chain(&["data", "data_base64"]);
    if let Some(taken) = taken.find(|taken| **taken == name) {
        return Err(EventError::ReservedName(taken));
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !name.is_empty() && name.bytes().all(allowed) {
        Ok(())
    } else {
        let better: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let better = better.to_ascii_lowercase();
        let taken = CORE.contains(&&*better) || better == "data" || better.is_empty();
        let better = (!taken).then(|| Found::new(&better));
        Err(EventError::Name { name: Found::new(name), better })
    }
}

/// Refuses control characters and noncharacters ("Type System", String).
fn text(name: &str, value: &str) -> Result<(), EventError> {
    if value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    let found = value.chars().enumerate().find_map(|(at, one)| Some((at, bad_character(one)?)));
    match found {
        Some((at, what)) => Err(EventError::Text { name: Found::new(name), what, number: Some(at + 1) }),
        None => Ok(()),
    }
}

fn bad_character(character: char) -> Option<BadCharacter> {
    let code = u32::from(character);
    if character.is_control() {
        Some(BadCharacter::Control(character))
    } else if matches!(code, 0xFDD0..=0xFDEF) || code & 0xFFFE == 0xFFFE {
        Some(BadCharacter::Noncharacter(character))
    } else {
        None
    }
}

/// Names up to which comparing each with each is the quickest way to find one that is there twice.
const COMPARED_PAIRWISE_MAX: usize = 16;

/// Refuses a name that is there twice.
pub(super) fn distinct<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Result<(), EventError> {
    let twice = if names.clone().count() <= COMPARED_PAIRWISE_MAX {
        let mut rest = names;
        loop {
            match rest.next() {
                Some(name) if rest.clone().any(|other| other == name) => break Some(name),
                Some(_) => {}
                None => break None,
            }
        }
    } else {
        let mut sorted: Vec<&str> = names.collect();
        sorted.sort_unstable();
        sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    };
    twice.map_or(Ok(()), |name| Err(EventError::Duplicate(Found::new(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_follow_rfc_3339() {
        for good in [
            "2018-04-05T17:31:00Z",
            "2018-04-05t17:31:00.123456789012z",
            "1990-12-31T23:59:60Z",
            "1937-01-01T12:00:27.87+00:20",
            "2020-02-29T00:00:00-00:00",
        ] {
            assert_eq!(time(good), Ok(()), "{good}");
        }
        for bad in [
            "2018-04-05 17:31:00Z",
            "2018-04-05T17:31:00",
            "2018-04-05",
            "2018-02-30T00:00:00Z",
            "2018-04-05T24:00:00Z",
            "2018-04-05T17:31Z",
            "2018-04-05T17:31:00.Z",
            "2018-04-05T17:31:00+0100",
            "18-04-05T17:31:00Z",
            " 2018-04-05T17:31:00Z",
            "2018-04-05T17:31:00Z ",
            "1522949460",
            "2018-04-05T12:00:60Z",
        ] {
            assert!(matches!(time(bad), Err(EventError::Time(..))), "{bad}");
        }
    }

    #[test]
    fn the_place_at_which_a_time_breaks_is_named() {
        for (bad, at) in [
            ("", Some(0)),
            ("yesterday", Some(0)),
            ("2018-04-05 17:31:00Z", Some(10)),
            ("2018-04-05T17:31:00", Some(19)),
            ("2018-04-05T17:31:00.Z", Some(20)),
            ("2018-04-05T17:31:00.5", Some(21)),
            ("2018-04-05T17:31:00+0100", Some(22)),
            ("1900-01-01T00:00:00+00:19:32", Some(25)),
            ("2018-04-05T17:31:00Z ", Some(20)),
            ("2018-04-05T17:31:00é", Some(19)),
            ("2018-02-30T00:00:00Z", None),
            ("2018-04-05T24:00:00Z", None),
        ] {
            assert_eq!(time_breaks_at(bad), at, "{bad}");
        }
    }

    #[test]
    fn sources_are_uri_references_and_schemas_absolute_uris() {
        for good in [
            "https://github.com/cloudevents",
            "mailto:cncf-wg-serverless@lists.cncf.io",
            "urn:uuid:6e8bc430",
            "/cloudevents/spec/pull/123",
            "1-555-123-4567",
            "//host/path",
            "?query",
            "#fragment",
            "a%20b",
            "http://[::1]:80/",
        ] {
            assert_eq!(source(good), Ok(()), "{good}");
        }
        for bad in ["a b", "/käse", "100%", "1:2", "http://[::1", "/\\", "a\"b", "<a>", "{a}"] {
            assert!(matches!(source(bad), Err(EventError::Source(..))), "{bad}");
        }
        assert_eq!(data_schema("urn:x:y"), Ok(()));
        assert_eq!(data_schema("https://example.com/s?v=1"), Ok(()));
        for relative in ["/schema", "#", "s.json#/a:b", "1:2", "my schema"] {
            let said = data_schema(relative);
            assert!(matches!(said, Err(EventError::DataSchema(_, Wrong::NoScheme))), "{relative}");
        }
        assert!(matches!(data_schema("urn:x y"), Err(EventError::DataSchema(_, Wrong::At(_)))));
        let with_fragment = "https://example.com/s#v";
        assert_eq!(data_schema(with_fragment), Ok(()), "the engine's own rules allow it");
        assert!(matches!(no_fragment(with_fragment), Err(EventError::DataSchemaFragment(_))));
    }

    #[test]
    fn strings_hold_no_control_characters_and_no_noncharacters() {
        for bad in [
            '\0',
            '\n',
            '\u{1f}',
            '\u{7f}',
            '\u{80}',
            '\u{9f}',
            '\u{fdd0}',
            '\u{fdef}',
            '\u{ffff}',
            '\u{1fffe}',
            '\u{10ffff}',
        ] {
            assert!(text("x", &format!("a{bad}b")).is_err(), "{bad:?}");
        }
        for good in [' ', '~', '\u{a0}', '\u{fdcf}', '\u{fdf0}', '\u{fffd}', '\u{1f600}', '\u{10fffd}'] {
            assert_eq!(text("x", &format!("a{good}b")), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn a_name_that_is_there_twice_is_found_among_few_and_many() {
        for count in [2, 16, 17, 1000] {
            let mut names: Vec<String> = (0..count).map(|n| format!("x{n}")).collect();
            assert_eq!(distinct(names.iter().map(String::as_str)), Ok(()));
            names.push("x0".to_owned());
            let found = distinct(names.iter().map(String::as_str));
            assert_eq!(found, Err(EventError::Duplicate(Found::new("x0"))));
        }
    }
}
