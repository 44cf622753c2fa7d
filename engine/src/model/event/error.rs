//! Why a message is no event. Texts name the rule, the attribute and what was found; never the payload.

use std::fmt;

/// Characters of an attribute's value that an error text shows at most.
pub const FOUND_CHARS_MAX: usize = 64;

/// What was found instead, cut to [`FOUND_CHARS_MAX`] and shown in quotes with control characters escaped.
#[derive(Clone, PartialEq, Eq)]
pub struct Found(String);

impl Found {
    /// Keeps the beginning of `text`.
    pub(super) fn new(text: &str) -> Self {
        match text.char_indices().nth(FOUND_CHARS_MAX) {
            Some((end, _)) => Self(format!("{}…", &text[..end])),
            None => Self(text.to_owned()),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why bytes and headers are no `CloudEvent`, or why parts make none. Sections are those of `CloudEvents` 1.0 (`spec.md`)
/// and of its JSON event format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EventError {
    /// Neither mode's mark is there.
    #[error(
        "not a CloudEvent: there is neither a header ce-specversion nor a Content-Type of \
         application/cloudevents+json nor, without a Content-Type, a JSON object with specversion as the body"
    )]
    NotMarked,
    /// The body would be an event in structured mode if only it was marked as one.
    #[error(
        "not marked as a CloudEvent: the body looks like a structured event, which takes the header \
         Content-Type: application/cloudevents+json"
    )]
    LooksStructured,
    /// Batches have no place in NATS (NATS binding, 1.3).
    #[error("a batch of events is not supported: publish each event as a message of its own")]
    Batch,
    /// Some other event format.
    #[error("event format {0} is not supported: only application/cloudevents+json is")]
    Format(Found),
    /// Structured mode is UTF-8 (NATS binding, 3).
    #[error("the event is not UTF-8: byte {0} is invalid")]
    NotUtf8(usize),
    /// The body is no JSON text. Holds what and where, which is all that the JSON parser says.
    #[error("the event is not JSON: {0}")]
    NotJson(String),
    /// JSON, but no object.
    #[error("the event is {0}, not a JSON object")]
    NotObject(Kind),
    /// Each attribute may be there once only ("Context Attributes").
    #[error("{0} is there more than once")]
    Duplicate(Found),
    /// A required attribute is not there, or null.
    #[error("attribute {0} is missing")]
    MissingAttribute(&'static str),
    /// A required attribute's header is not there.
    #[error("header ce-{0} is missing")]
    MissingHeader(&'static str),
    /// A version that isn't 1.0.
    #[error("specversion is {0}: only \"1.0\" is supported")]
    Specversion(Found),
    /// "MUST be a non-empty string".
    #[error("attribute {0} is empty")]
    Empty(&'static str),
    /// An attribute that the spec defines has to be a string in JSON (JSON format, 2.2).
    #[error("attribute {name} is {found}, not a string")]
    NotString {
        /// The attribute.
        name: &'static str,
        /// What it is.
        found: Kind,
    },
    /// Values are strings, integers and booleans (JSON format, 2.2).
    #[error("extension {name} is {found}: only strings, integers and booleans are allowed")]
    NotScalar {
        /// The extension.
        name: Found,
        /// What it is.
        found: Kind,
    },
    /// "Only the integer component optionally prefixed with a minus sign is permitted" (JSON format, 2.2).
    #[error("extension {name} is {found}: numbers have neither fraction nor exponent")]
    NotInteger {
        /// The extension.
        name: Found,
        /// The number as it was written.
        found: Found,
    },
    /// Integers are signed and have 32 bits ("Type System").
    #[error("extension {name} is {found}: integers go from -2147483648 to 2147483647")]
    IntegerRange {
        /// The extension.
        name: Found,
        /// The number as it was written.
        found: Found,
    },
    /// "Naming Conventions".
    #[error("{0} is not an attribute name: names are of a-z and 0-9")]
    Name(Found),
    /// A name that an extension can't have, because it means something else.
    #[error("{0} can't be an extension: the name is taken")]
    ReservedName(&'static str),
    /// A character that strings must not hold ("Type System").
    #[error("attribute {name} holds {what}")]
    Text {
        /// The attribute.
        name: Found,
        /// The character.
        what: BadCharacter,
    },
    /// `source` is a URI-reference (RFC 3986, 4.1).
    #[error("source is {0}, which is not a URI-reference")]
    Source(Found),
    /// `dataschema` is an absolute URI (RFC 3986, 4.3).
    #[error("dataschema is {0}, which is not an absolute URI")]
    DataSchema(Found),
    /// An absolute URI has no fragment (RFC 3986, 4.3).
    #[error("dataschema is {0}: an absolute URI has no fragment")]
    DataSchemaFragment(Found),
    /// `time` follows RFC 3339, 5.6.
    #[error("time is {0}, which is not RFC 3339")]
    Time(Found),
    /// `datacontenttype` follows RFC 2046.
    #[error("datacontenttype is {0}, which is not a media type")]
    ContentType(Found),
    /// `data` and `data_base64` exclude one another (JSON format, 3.1.1).
    #[error("data and data_base64 are both there")]
    BothData,
    /// `data_base64` is a string.
    #[error("data_base64 is {0}, not a string")]
    Base64Kind(Kind),
    /// RFC 4648, section 4, with padding.
    #[error("data_base64 is not base64")]
    Base64,
    /// `data` is a string that no bytes stand for.
    #[error("data is a string with an unpaired surrogate")]
    DataText,
    /// A value's percent-encoding is broken (NATS binding, 3.1.3.2).
    #[error("header {0} has a % without two hexadecimal digits")]
    Percent(Found),
    /// A value decodes to bytes that are no UTF-8 (NATS binding, 3.1.3.2).
    #[error("header {0} does not decode to UTF-8")]
    PercentUtf8(Found),
    /// A quoted value doesn't end as one (RFC 7230, 3.2.6).
    #[error("header {0} has an opening quote without its closing one")]
    Quote(Found),
    /// A stored event that this engine did not write.
    #[error("the stored event has {0}")]
    Stored(&'static str),
}

/// A kind of JSON value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number.
    Number,
    /// A string.
    Text,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// The kind of a valid JSON text that starts with a character of the value.
    pub(super) fn of(raw: &str) -> Self {
        match raw.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'"') => Self::Text,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            _ => Self::Number,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}

/// A character that no attribute may hold ("Type System", String).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadCharacter {
    /// U+0000 to U+001F and U+007F to U+009F.
    Control(char),
    /// U+FDD0 to U+FDEF and the last two of each plane.
    Noncharacter(char),
    /// Half of a surrogate pair, as only an escape in JSON can write it.
    Surrogate,
}

impl fmt::Display for BadCharacter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(c) => write!(f, "the control character U+{:04X}", u32::from(*c)),
            Self::Noncharacter(c) => write!(f, "the noncharacter U+{:04X}", u32::from(*c)),
            Self::Surrogate => f.write_str("an unpaired surrogate"),
        }
    }
}
