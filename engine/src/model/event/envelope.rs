//! The JSON event format, read: the envelope's members are looked at, `data` stays the slice of the body that it is.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::draft::{Draft, Scalar};
use super::error::{BadCharacter, EventError, Found, Kind};
use super::{Data, Event, media, rules};

/// What some programs put before a text in UTF-8. JSON has none ("MUST NOT add a byte order mark", RFC 8259, 8.1), and
/// readers may skip it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A text without the byte order mark before it.
pub(super) fn without_mark(body: &Bytes) -> Bytes {
    if body.starts_with(BYTE_ORDER_MARK) { body.slice(BYTE_ORDER_MARK.len()..) } else { body.clone() }
}

/// Whether a body is a JSON object with a member `specversion`, or begins like one and is cut off or broken behind it.
pub(super) fn has_specversion(body: &[u8]) -> bool {
    const NAME: &[u8] = b"\"specversion\"";
    let text = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body).trim_ascii_start();
    if !text.starts_with(b"{") || !text.windows(NAME.len()).any(|window| window == NAME) {
        return false;
    }
    let members = std::str::from_utf8(text).ok().and_then(|text| members(text).ok());
    members.is_none_or(|members| members.iter().any(|(name, _)| name == "specversion"))
}

/// Parses an event in structured mode.
pub(super) fn parse(body: &Bytes) -> Result<Event, EventError> {
    let body = &without_mark(body);
    let text = std::str::from_utf8(body).map_err(|error| EventError::NotUtf8(error.valid_up_to()))?;
    let mut draft = Draft::default();
    let (mut data, mut base64) = (None, None);
    for (name, raw) in members(text)? {
        match &*name {
            "data" => once("data", &mut data, raw.get())?,
            "data_base64" => once("data_base64", &mut base64, raw.get())?,
            _ => draft.set(&name, scalar(&name, raw.get())?)?,
        }
    }
    let mut event = Event::of_checked(draft.finish(EventError::MissingAttribute)?);
    event.data = payload(event.datacontenttype.as_deref(), data, base64, body)?;
    event.structured = Some(body.clone());
    Ok(event)
}

/// The names and values of the object that `text` is, in order.
pub(super) fn members(text: &str) -> Result<Vec<(Cow<'_, str>, &RawValue)>, EventError> {
    let not_json = |error: serde_json::Error| EventError::NotJson(error.to_string());
    let value = text.trim_start_matches([' ', '\t', '\r', '\n']);
    if !value.starts_with('{') {
        let _: &RawValue = serde_json::from_str(text).map_err(not_json)?;
        return Err(EventError::NotObject(Kind::of(value)));
    }
    let mut parser = serde_json::Deserializer::from_str(text);
    let members = parser.deserialize_map(Members).map_err(not_json)?;
    parser.end().map_err(not_json)?;
    Ok(members)
}

pub(super) fn once<'a>(name: &str, place: &mut Option<&'a str>, raw: &'a str) -> Result<(), EventError> {
    match place.replace(raw) {
        Some(_) => Err(EventError::Duplicate(Found::new(name))),
        None => Ok(()),
    }
}

/// An attribute's value (JSON event format, 2.2).
pub(super) fn scalar<'a>(name: &str, raw: &'a str) -> Result<Scalar<'a>, EventError> {
    match Kind::of(raw) {
        Kind::Null => Ok(Scalar::Null),
        Kind::Boolean => Ok(Scalar::Boolean(raw == "true")),
        Kind::Text => unescape(raw).map(Scalar::Text).ok_or_else(|| EventError::Text {
            name: Found::new(name),
            what: BadCharacter::Surrogate,
            number: None,
        }),
        Kind::Number => number(name, raw).map(Scalar::Integer),
        found @ (Kind::Array | Kind::Object) => Err(not_scalar(name, found)),
    }
}

fn not_scalar(name: &str, found: Kind) -> EventError {
    match rules::CORE.iter().find(|core| **core == name) {
        Some(name) => EventError::NotString { name, found },
        None => EventError::NotScalar { name: Found::new(name), found },
    }
}

fn number(name: &str, raw: &str) -> Result<i32, EventError> {
    if let Ok(integer) = raw.parse() {
        return Ok(integer);
    }
    if rules::CORE.contains(&name) {
        return Err(not_scalar(name, Kind::Number));
    }
    let (name, found) = (Found::new(name), Found::new(raw));
    let whole = raw.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
    Err(if whole { EventError::IntegerRange { name, found } } else { EventError::NotInteger { name, found } })
}

/// The text of a valid JSON string; `None` if it has an unpaired surrogate, the one thing that is valid and no text.
fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    if raw.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(&raw[1..raw.len() - 1]))
    }
}

/// The data (JSON event format, 3.1.2). A `data_base64` of null counts as unset; a `data` of null is data.
pub(super) fn payload(
    datacontenttype: Option<&str>,
    data: Option<&str>,
    base64: Option<&str>,
    body: &Bytes,
) -> Result<Option<Data>, EventError> {
    match (data, base64.filter(|raw| *raw != "null")) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(EventError::BothData),
        (Some(raw), None) => from_json(datacontenttype, raw, body).map(Some),
        (None, Some(raw)) => from_base64(datacontenttype, raw).map(Some),
    }
}

/// With a content type that isn't JSON, a string stands for the text in it; anything else is taken as the JSON it is.
fn from_json(datacontenttype: Option<&str>, raw: &str, body: &Bytes) -> Result<Data, EventError> {
    if media::is_json(datacontenttype) || Kind::of(raw) != Kind::Text {
        return Ok(Data::Json(body.slice_ref(raw.as_bytes())));
    }
    Ok(Data::Binary(match unescape(raw).ok_or(EventError::DataText)? {
        Cow::Borrowed(text) => body.slice_ref(text.as_bytes()),
        Cow::Owned(text) => text.into(),
    }))
}

/// "The deserializer MAY further interpret this binary data according to the `datacontenttype`": JSON that is called JSON
/// is JSON, so that it makes no difference in which mode an event came. Without a content type it "MUST NOT make an
/// assumption of JSON-formatted data".
fn from_base64(datacontenttype: Option<&str>, raw: &str) -> Result<Data, EventError> {
    if Kind::of(raw) != Kind::Text {
        return Err(EventError::Base64Kind(Kind::of(raw)));
    }
    let text = unescape(raw).ok_or(EventError::Base64)?;
    let bytes = Bytes::from(BASE64.decode(text.as_bytes()).map_err(|_| EventError::Base64)?);
    Ok(if datacontenttype.is_some() { Data::classify(datacontenttype, bytes) } else { Data::Binary(bytes) })
}

/// Collects an object's members without reading their values.
struct Members;

/// Members that an event commonly has, at most.
const MEMBERS_EXPECTED: usize = 16;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(MEMBERS_EXPECTED);
        while let Some((MemberName(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(members)
    }
}

/// A member's name, borrowed unless it has escapes.
#[derive(serde::Deserialize)]
pub(super) struct MemberName<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);
