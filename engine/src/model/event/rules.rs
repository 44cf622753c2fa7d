//! The rules that attributes follow (`CloudEvents` 1.0, "Context Attributes"): one place for what is parsed and for what
//! is built.

use fluent_uri::{Uri, UriRef};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::{BadCharacter, EventError, Found};
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
    UriRef::parse(value).map(|_| ()).map_err(|_| EventError::Source(Found::new(value)))
}

fn data_schema(value: &str) -> Result<(), EventError> {
    filled("dataschema", value)?;
    match Uri::parse(value) {
        Ok(uri) if !uri.has_fragment() => Ok(()),
        Ok(_) => Err(EventError::DataSchemaFragment(Found::new(value))),
        Err(_) => Err(EventError::DataSchema(Found::new(value))),
    }
}

fn content_type(value: &str) -> Result<(), EventError> {
    filled("datacontenttype", value)?;
    if media::is_media_type(value) { Ok(()) } else { Err(EventError::ContentType(Found::new(value))) }
}

fn time(value: &str) -> Result<(), EventError> {
    filled("time", value)?;
    // The parser lets any byte stand between date and time; the grammar of RFC 3339 has a T there.
    let separated = matches!(value.as_bytes().get(10), Some(b'T' | b't'));
    if separated && OffsetDateTime::parse(value, &Rfc3339).is_ok() {
        Ok(())
    } else {
        Err(EventError::Time(Found::new(value)))
    }
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
        Err(EventError::Name(Found::new(name)))
    }
}

/// Refuses control characters and noncharacters ("Type System", String).
fn text(name: &str, value: &str) -> Result<(), EventError> {
    if value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    match value.chars().find_map(bad_character) {
        Some(what) => Err(EventError::Text { name: Found::new(name), what }),
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
            assert_eq!(time(bad), Err(EventError::Time(Found::new(bad))), "{bad}");
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
            assert_eq!(source(bad), Err(EventError::Source(Found::new(bad))), "{bad}");
        }
        assert_eq!(data_schema("urn:x:y"), Ok(()));
        assert_eq!(data_schema("https://example.com/s?v=1"), Ok(()));
        assert!(matches!(data_schema("/schema"), Err(EventError::DataSchema(_))));
        assert!(matches!(data_schema("https://example.com/s#v"), Err(EventError::DataSchemaFragment(_))));
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
