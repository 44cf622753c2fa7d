//! A `CloudEvents` 1.0 event: envelope parsed and checked, data kept as the bytes that came.
//!
//! | file | what it knows |
//! | --- | --- |
//! | `envelope` | the JSON event format: structured mode in |
//! | `write` | the JSON event format: structured mode out |
//! | `document` | the data as a tree that schemas are held against |
//! | `binding` | binary mode of the NATS and HTTP protocol bindings |
//! | `stored` | the lossless form in which events rest in our own streams |
//! | `draft`, `rules`, `media` | attributes as they come in, and the rules that they follow |
//! | `reading`, `examine` | strict and tolerant reading, and what is mended; all that is wrong with a message at once |
//! | `claims` | what a message that can't be read says of itself |
//! | `percent` | header values |
//! | `error` | what can be wrong |

mod binding;
mod claims;
mod document;
mod draft;
mod envelope;
mod error;
mod examine;
mod media;
pub mod percent;
mod reading;
mod rules;
mod stored;
#[cfg(test)]
mod tests;
mod write;

use bytes::Bytes;
use serde_json::value::RawValue;

pub use claims::Claims;
pub(crate) use document::find;
pub use document::{Document, NoDocument, ParsedData};
pub use error::{
    BadCharacter, EventError, FOUND_BYTES_MAX, Found, Kind, Place, Refusal, Unmarked, UnmarkedBody, Wrong,
};
pub use reading::{Mend, Mends, Reading};

/// The media type of an event in structured mode.
pub const STRUCTURED_CONTENT_TYPE: &str = "application/cloudevents+json";

/// An extension attribute's value. Timestamps, URIs and binary are text (`CloudEvents` spec, "Type System").
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// String, URI, URI-reference, Timestamp, or Binary as base64.
    Text(String),
    /// Integer.
    Integer(i32),
    /// Boolean.
    Boolean(bool),
}

impl std::fmt::Display for Value {
    /// The canonical string-encoding ("Type System").
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(integer) => integer.fmt(f),
            Self::Boolean(boolean) => boolean.fmt(f),
        }
    }
}

/// The event's data, as the bytes that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Data {
    /// A JSON text (what the spec calls a JSON value), byte for byte.
    Json(Bytes),
    /// Anything else: text or binary.
    Binary(Bytes),
}

impl Data {
    /// The bytes, whatever they are.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes,
        }
    }

    /// What bytes of this content type are: JSON if the type (or its absence) says so and they really are.
    pub fn classify(datacontenttype: Option<&str>, bytes: Bytes) -> Self {
        let text = envelope::without_mark(&bytes);
        if media::is_json(datacontenttype) && is_json(&text) { Self::Json(text) } else { Self::Binary(bytes) }
    }
}

/// Whether the bytes are one JSON text. Looks only, keeps no level of nesting on the stack.
fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(bytes).is_ok()
}

/// One event. Cheap to share behind an `Arc`; equality looks at attributes and data, not at how it was encoded.
///
/// Whatever comes from [`Event::parse`], [`Event::build`] and their kind keeps all rules of the spec. Who writes into the
/// fields answers for that, and sets `structured` to `None`.
#[derive(Clone, Debug)]
pub struct Event {
    /// Never empty.
    pub id: String,
    /// Never empty; a URI-reference.
    pub source: String,
    /// `type`. Never empty.
    pub ty: String,
    /// Never empty if there.
    pub subject: Option<String>,
    /// RFC 3339, as it came.
    pub time: Option<String>,
    /// RFC 2046 media type. None means JSON where the data is [`Data::Json`], else that nothing is known.
    pub datacontenttype: Option<String>,
    /// An absolute URI. A fragment behind it is let through everywhere but in a strict reading: official SDKs write it.
    pub dataschema: Option<String>,
    /// Names are lower-case letters and digits; no name twice.
    pub extensions: Vec<(String, Value)>,
    /// The payload.
    pub data: Option<Data>,
    /// The whole structured-mode JSON as it came, as long as nothing was changed: sent on byte for byte.
    pub structured: Option<Bytes>,
}

/// What an event is built from: the same as its fields, unchecked.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(missing_docs, reason = "each is the field of `Event` of the same name")]
pub struct EventParts {
    pub id: String,
    pub source: String,
    pub ty: String,
    pub subject: Option<String>,
    pub time: Option<String>,
    pub datacontenttype: Option<String>,
    pub dataschema: Option<String>,
    pub extensions: Vec<(String, Value)>,
    /// Bytes; whether they are JSON is found out ([`Data::classify`]).
    pub data: Option<Bytes>,
}

impl From<&Event> for EventParts {
    fn from(event: &Event) -> Self {
        Self {
            id: event.id.clone(),
            source: event.source.clone(),
            ty: event.ty.clone(),
            subject: event.subject.clone(),
            time: event.time.clone(),
            datacontenttype: event.datacontenttype.clone(),
            dataschema: event.dataschema.clone(),
            extensions: event.extensions.clone(),
            data: event.data.as_ref().map(|data| data.bytes().clone()),
        }
    }
}

impl Event {
    /// The most bytes that it takes where it is stored.
    pub fn stored_bytes_max(&self) -> usize {
        stored::bytes_max(self)
    }

    /// The event of a NATS message: structured if its `Content-Type` says so, or its body where no header says anything; else
    /// in binary mode (NATS protocol binding, 3). A valid one is the same in both readings, and costs no more in the tolerant
    /// one; everything that is wrong with another is named at once.
    pub fn parse(
        headers: &[(String, String)],
        body: &Bytes,
        reading: Reading,
    ) -> Result<(Self, Mends), Refusal> {
        match Self::parse_valid(headers, body) {
            Ok(event) => Ok((event, Mends::NONE)),
            Err(error) => examine::examine(headers, body, reading, &error),
        }
    }

    /// The same of a message that breaks no rule.
    fn parse_valid(headers: &[(String, String)], body: &Bytes) -> Result<Self, EventError> {
        let structured =
            binding::is_structured(headers)? || binding::is_structured_by_its_body(headers, body);
        let event =
            if structured { Self::from_structured(body)? } else { binding::from_nats(headers, body)? };
        event.dataschema.as_deref().map_or(Ok(()), rules::no_fragment)?;
        Ok(event)
    }

    /// The event of a JSON text in the JSON event format, by the engine's own rules: those of the spec, but for a fragment in
    /// `dataschema`. Reads the envelope; `data` stays a slice of `body`, however deeply it is nested.
    pub fn from_structured(body: &Bytes) -> Result<Self, EventError> {
        envelope::parse(body)
    }

    /// The same, and else everything that is wrong with it at once.
    pub fn from_structured_or_all(body: &Bytes) -> Result<Self, Refusal> {
        Self::from_structured(body).map_err(|error| {
            let headers = [binding::structured_header()];
            let refusal = examine::examine(&headers, body, Reading::Strict, &error);
            refusal.map_or_else(Refusal::without_hint, |_| Refusal::from(error))
        })
    }

    /// The event in the JSON event format: the bytes that came if nothing was changed.
    pub fn to_structured(&self) -> Bytes {
        self.structured.clone().unwrap_or_else(|| write::structured(self))
    }

    /// The event as a NATS message in binary mode: `ce-*` headers, percent-encoded, and the data. Headers are text, so
    /// extensions that are integers or booleans come back as their string-encoding, no data and empty data are the same,
    /// and JSON data without a content type gets the one that it implies (JSON event format, 3.1.2).
    pub fn to_nats_binary(&self) -> (Vec<(String, String)>, Bytes) {
        binding::to_nats(self)
    }

    /// The event as an HTTP message in binary mode (HTTP protocol binding, 3.1): its `Content-Type`, the other `ce-*`
    /// headers, percent-encoded, and the data.
    pub fn to_http_binary(&self) -> (Option<String>, Vec<(String, String)>, Bytes) {
        binding::to_http(self)
    }

    /// The event as it is kept in our own streams: headers and body, lossless, no larger than what came or the attributes
    /// and the data.
    pub fn to_stored(&self) -> (Vec<(String, String)>, Bytes) {
        stored::write(self)
    }

    /// The event that [`Event::to_stored`] has written; other headers beside its own do no harm.
    pub fn from_stored(headers: &[(String, String)], body: &Bytes) -> Result<Self, EventError> {
        stored::read(headers, body)
    }

    /// An event of these parts, which are checked by all rules of the spec.
    pub fn build(parts: EventParts) -> Result<Self, EventError> {
        rules::check(&parts)?;
        Ok(Self::of_checked(parts))
    }

    /// The event that became of this one: [`Event::build`], but data that wasn't touched stays what it was (JSON or not),
    /// and if nothing at all was, it is the same event with the same bytes.
    pub fn changed(&self, parts: EventParts) -> Result<Self, EventError> {
        let same_type = parts.datacontenttype == self.datacontenttype;
        let same_data = same_type && parts.data.as_ref() == self.data.as_ref().map(Data::bytes);
        let mut event = Self::build(parts)?;
        if same_data {
            event.data.clone_from(&self.data);
        }
        Ok(if event == *self { self.clone() } else { event })
    }

    /// An event of parts that are known to keep the rules.
    fn of_checked(parts: EventParts) -> Self {
        let data = parts.data.map(|bytes| Data::classify(parts.datacontenttype.as_deref(), bytes));
        Self {
            id: parts.id,
            source: parts.source,
            ty: parts.ty,
            subject: parts.subject,
            time: parts.time,
            datacontenttype: parts.datacontenttype,
            dataschema: parts.dataschema,
            extensions: parts.extensions,
            data,
            structured: None,
        }
    }

    /// Whether the data is JSON, as its content type says.
    pub fn data_is_json(&self) -> bool {
        matches!(self.data, Some(Data::Json(_)))
    }

    /// The data as a JSON value, else why there is none. Reads it anew each time; a [`ParsedData`] does so once.
    pub fn document(&self) -> Result<Document<'_>, NoDocument> {
        match &self.data {
            None => Err(NoDocument::NotJson("the event has no data".to_owned())),
            Some(Data::Binary(_)) => Err(match self.datacontenttype.as_deref() {
                Some(named) if media::is_json(Some(named)) => {
                    NoDocument::Unreadable("the data is not valid JSON".to_owned())
                }
                Some(named) => {
                    let named = Found::new(media::essence(named));
                    NoDocument::NotJson(format!("the data is {named}, not JSON"))
                }
                None => NoDocument::NotJson("the data is binary, not JSON".to_owned()),
            }),
            // What the parser says names place and kind, never the text itself.
            Some(Data::Json(bytes)) => Document::parse(bytes)
                .map_err(|error| NoDocument::Unreadable(format!("the data can't be read as JSON: {error}"))),
        }
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        let same_extensions = || {
            let there = |extension| other.extensions.contains(extension);
            self.extensions.len() == other.extensions.len() && self.extensions.iter().all(there)
        };
        self.id == other.id
            && self.source == other.source
            && self.ty == other.ty
            && self.subject == other.subject
            && self.time == other.time
            && self.datacontenttype == other.datacontenttype
            && self.dataschema == other.dataschema
            && self.data == other.data
            && same_extensions()
    }
}
