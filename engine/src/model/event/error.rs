//! Why a message is no event. Texts name the rule, the attribute and what was found; never the payload.

use std::fmt;

/// Bytes of an attribute's value, or of a name, that an error text shows at most.
pub const FOUND_BYTES_MAX: usize = 64;
/// Errors of one message that are named, each by itself.
const ERRORS_MAX: usize = 16;
/// Bytes of their texts together, unless one alone has more.
const TEXT_BYTES_MAX: usize = 1_536;

/// What was found instead, cut to [`FOUND_BYTES_MAX`] and shown in quotes with control characters escaped.
#[derive(Clone, PartialEq, Eq)]
pub struct Found(String);

impl Found {
    /// Keeps the beginning of `text`.
    pub fn new(text: &str) -> Self {
        if text.len() <= FOUND_BYTES_MAX {
            return Self(text.to_owned());
        }
        Self(format!("{}…", &text[..text.floor_char_boundary(FOUND_BYTES_MAX)]))
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

/// The place in a value from which on it is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The character, counted from 1.
    number: usize,
    /// What stands there; none: the value ends.
    character: Option<char>,
}

impl Place {
    /// The place of byte `at` of `value`.
    pub(super) fn of(value: &str, at: usize) -> Self {
        let at = value.floor_char_boundary(at);
        Self { number: value[..at].chars().count() + 1, character: value[at..].chars().next() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.character {
            Some(character) => write!(f, "{character:?} at character {}", self.number),
            None => write!(f, "it ends before character {}", self.number),
        }
    }
}

/// Everything that is wrong with a message, in the order in which it was found; never nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refusal {
    errors: Vec<EventError>,
    more: usize,
    /// Whether the tolerant reading would have taken it.
    pub(super) tolerant_takes_it: bool,
}

impl Refusal {
    /// Adds an error.
    pub(super) fn push(&mut self, error: EventError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        } else {
            self.more += 1;
        }
    }

    /// Adds an error, if there is one.
    pub(super) fn extend(&mut self, error: Option<EventError>) {
        if let Some(error) = error {
            self.push(error);
        }
    }

    /// The same for those who have no pipeline that could read otherwise.
    pub(super) fn without_hint(self) -> Self {
        Self { tolerant_takes_it: false, ..self }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The first of them, so many as are named.
    pub fn errors(&self) -> &[EventError] {
        &self.errors
    }
}

impl From<EventError> for Refusal {
    fn from(error: EventError) -> Self {
        Self { errors: vec![error], ..Self::default() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = 0;
        let mut said = 0;
        for error in &self.errors {
            let text = error.to_string();
            if said > 0 && bytes + text.len() > TEXT_BYTES_MAX {
                break;
            }
            if said > 0 {
                f.write_str("; ")?;
            }
            f.write_str(&text)?;
            bytes += text.len();
            said += 1;
        }
        let more = self.errors.len() - said + self.more;
        if more > 0 {
            write!(f, "; and {more} more")?;
        }
        if self.tolerant_takes_it {
            f.write_str("; this pipeline reads strictly, [source] reading = \"tolerant\" takes it")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// What was there in place of a mark.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Unmarked {
    /// The first `Content-Type`, or header that may be meant as one: its name and its value.
    pub(super) content_type: Option<(Found, Found)>,
    /// What the body looks like.
    pub(super) body: UnmarkedBody,
}

/// What the body of a message without a mark looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UnmarkedBody {
    /// Nothing of an event.
    #[default]
    Other,
    /// An event in structured mode.
    Event,
    /// An object with a `specversion` that is not at its top.
    Nested,
}

impl fmt::Display for Unmarked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a CloudEvent: there is neither a header ce-specversion nor a Content-Type of \
             application/cloudevents+json nor, without a Content-Type, a JSON object with specversion as the body",
        )?;
        if let Some((name, value)) = &self.content_type {
            write!(f, "; its header {} is {value}", name.0)?;
        }
        f.write_str(match self.body {
            UnmarkedBody::Other => "",
            UnmarkedBody::Event => {
                "; its body looks like a structured event, which takes the header \
                 Content-Type: application/cloudevents+json"
            }
            UnmarkedBody::Nested => "; its body has a specversion, but not at its top",
        })
    }
}

/// Why bytes and headers are no `CloudEvent`, or why parts make none. Sections are those of `CloudEvents` 1.0 (`spec.md`)
/// and of its JSON event format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EventError {
    /// Neither mode's mark is there.
    #[error("{0}")]
    NotMarked(Box<Unmarked>),
    /// A header of an attribute as another protocol's binding has it.
    #[error("header {header} is not taken: in NATS it is ce-{}", name.0)]
    Prefix {
        /// The header, as it was sent.
        header: Found,
        /// The attribute.
        name: Found,
    },
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
    #[error("{name} is not an attribute name: names are of a-z and 0-9{}", suggestion(.better.as_ref()))]
    Name {
        /// The name.
        name: Found,
        /// What it could be instead.
        better: Option<Found>,
    },
    /// A name that would be that of a required attribute or of the data, if it were folded.
    #[error("{name} is not {meant}: write {meant}, it is never guessed")]
    Meant {
        /// The name.
        name: Found,
        /// The attribute.
        meant: &'static str,
    },
    /// Two names that fold to one, both with values.
    #[error("{one} and {other} are one attribute in lower case, and have two values")]
    FoldedTwice {
        /// The first of them.
        one: Found,
        /// The other.
        other: Found,
    },
    /// A name that an extension can't have, because it means something else.
    #[error("{0} can't be an extension: the name is taken")]
    ReservedName(&'static str),
    /// A character that strings must not hold ("Type System").
    #[error("attribute {name} holds {what}{}", numbered(*.number))]
    Text {
        /// The attribute.
        name: Found,
        /// The character.
        what: BadCharacter,
        /// Its place, counted from 1, where that can be told.
        number: Option<usize>,
    },
    /// `source` is a URI-reference (RFC 3986, 4.1).
    #[error("source is {0}, which is not a URI-reference: {1}")]
    Source(Found, Wrong),
    /// `dataschema` is an absolute URI (RFC 3986, 4.3).
    #[error("dataschema is {0}, which is not an absolute URI: {1}")]
    DataSchema(Found, Wrong),
    /// An absolute URI has no fragment (RFC 3986, 4.3).
    #[error("dataschema is {0}: an absolute URI has no fragment")]
    DataSchemaFragment(Found),
    /// `time` follows RFC 3339, 5.6.
    #[error("time is {0}, which is not RFC 3339: {1}")]
    Time(Found, Wrong),
    /// `datacontenttype` follows RFC 2046.
    #[error("datacontenttype is {0}, which is not a media type: {1}")]
    ContentType(Found, Wrong),
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
    #[error("header {header} is {sent}: a % without two hexadecimal digits, {place}")]
    Percent {
        /// The header.
        header: Found,
        /// Its value.
        sent: Found,
        /// The `%`.
        place: Place,
    },
    /// A value decodes to bytes that are no UTF-8 (NATS binding, 3.1.3.2).
    #[error("header {header} is {sent}, which does not decode to UTF-8")]
    PercentUtf8 {
        /// The header.
        header: Found,
        /// Its value.
        sent: Found,
    },
    /// A quoted value doesn't end as one (RFC 7230, 3.2.6).
    #[error("header {header} is {sent}: an opening quote without its closing one")]
    Quote {
        /// The header.
        header: Found,
        /// Its value.
        sent: Found,
    },
    /// What is wrong with a value once it is decoded.
    #[error("{error} (decoded from header {header}, which is {sent})")]
    Decoded {
        /// The header.
        header: Found,
        /// Its value.
        sent: Found,
        /// What is wrong.
        error: Box<EventError>,
    },
    /// A stored event that this engine did not write.
    #[error("the stored event has {0}")]
    Stored(&'static str),
}

fn suggestion(better: Option<&Found>) -> String {
    better.map(|better| format!("; write {better}")).unwrap_or_default()
}

fn numbered(number: Option<usize>) -> String {
    number.map(|number| format!(" at character {number}")).unwrap_or_default()
}

/// What is wrong with a value that has a grammar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It breaks off, or has a character that can't be there.
    At(Place),
    /// It is written well, but there is no such day or time.
    NoSuchTime,
    /// A URI without a scheme.
    NoScheme,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(place) => place.fmt(f),
            Self::NoSuchTime => f.write_str("there is no such day or time"),
            Self::NoScheme => f.write_str("it has no scheme"),
        }
    }
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
