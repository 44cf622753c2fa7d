//! A `CloudEvents` 1.0 event: envelope parsed, data kept as the bytes that came.

use std::sync::OnceLock;

use bytes::Bytes;

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
}

/// One event. Cheap to share behind an `Arc`; equality looks at attributes and data, not at how it was encoded.
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
    /// RFC 2046 media type. None means JSON.
    pub datacontenttype: Option<String>,
    /// An absolute URI.
    pub dataschema: Option<String>,
    /// Names are lower-case letters and digits; no name twice.
    pub extensions: Vec<(String, Value)>,
    /// The payload.
    pub data: Option<Data>,
    /// The whole structured-mode JSON as it came, as long as nothing was changed: sent on byte for byte.
    pub structured: Option<Bytes>,
    /// The data as a JSON value, parsed at the first use and shared.
    json: OnceLock<Result<serde_json::Value, String>>,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        let attributes = |event: &Self| {
            let mut extensions = event.extensions.clone();
            extensions.sort_by(|left, right| left.0.cmp(&right.0));
            extensions
        };
        self.id == other.id
            && self.source == other.source
            && self.ty == other.ty
            && self.subject == other.subject
            && self.time == other.time
            && self.datacontenttype == other.datacontenttype
            && self.dataschema == other.dataschema
            && self.data == other.data
            && attributes(self) == attributes(other)
    }
}
