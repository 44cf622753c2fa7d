//! Binary mode of the NATS and HTTP protocol bindings: attributes in `ce-*` headers, the data as the body.

use bytes::Bytes;

use super::draft::{Draft, Scalar};
use super::error::{EventError, Found, Place, Unmarked, UnmarkedBody};
use super::percent::{self, DecodeError};
use super::{Data, Event, STRUCTURED_CONTENT_TYPE, envelope, media, rules};

/// What comes before an attribute's name in its header's name.
pub(super) const PREFIX: &str = "ce-";
/// The attribute that a `Content-Type` beside `ce-*` headers stands for.
pub(super) const CONTENT_TYPE: &str = "datacontenttype";
/// What other bindings put before an attribute's name: Kafka, AMQP and Camel.
const FOREIGN_PREFIXES: [&str; 5] =
    ["ce_", "cloudevents_", "cloudevents:", "cloudevents-", "camelcloudevent"];

/// Whether the message is in structured mode: "the `Content-Type` header of `application/cloudevents` is present (matched
/// case-insensitively)" (NATS binding, 3). A batch or another event format is an error.
pub(super) fn is_structured(headers: &[(String, String)]) -> Result<bool, EventError> {
    header(headers, "content-type").map_or(Ok(false), marks_structured)
}

/// Whether a content type is that of an event in structured mode.
pub(super) fn marks_structured(content_type: &str) -> Result<bool, EventError> {
    const MARK: &str = "application/cloudevents";
    let essence = media::essence(content_type);
    if !essence.get(..MARK.len()).is_some_and(|start| start.eq_ignore_ascii_case(MARK)) {
        return Ok(false);
    }
    let rest = essence[MARK.len()..].to_ascii_lowercase();
    match rest.as_str() {
        // In NATS the bare type means JSON: "the payload MUST be the JSON event format".
        "" | "+json" => Ok(true),
        batch if batch.starts_with("-batch") => Err(EventError::Batch),
        _ => Err(EventError::Format(Found::new(essence))),
    }
}

/// The first header of this name, case ignored.
pub(super) fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Whether a message that says nothing of its mode is in structured mode: there is neither a `Content-Type` nor a
/// `ce-specversion`, and the body is a JSON object with a member `specversion`. So official SDKs and `nats pub` publish
/// ("NATS server versions prior to 2.2 … MUST use structured mode": NATS binding, 1.3).
pub(super) fn is_structured_by_its_body(headers: &[(String, String)], body: &[u8]) -> bool {
    let says = |name| header(headers, name).is_some();
    !says("content-type")
        && !says("ce-specversion")
        && !is_marked_under_another_name(headers)
        && envelope::has_specversion(body)
}

/// Whether a header that may be meant as the content type marks an event: that is a breach, which only the tolerant reading
/// mends.
fn is_marked_under_another_name(headers: &[(String, String)]) -> bool {
    let marks = |value: &str| !matches!(marks_structured(value.trim_matches(['"', ' ', '\t'])), Ok(false));
    headers.iter().any(|(name, value)| is_content_type_name(name) && marks(value))
}

/// The event of a NATS message in binary mode. The content type is `ce-datacontenttype` by the binding; SDKs that write the
/// headers of HTTP have it as `Content-Type`, which counts if there is no other and it is one.
pub(super) fn from_nats(headers: &[(String, String)], body: &Bytes) -> Result<Event, EventError> {
    let mut draft = Draft::default();
    let mut marked = false;
    for (header, value) in headers {
        let Some(name) = attribute_name(header) else { continue };
        marked = true;
        let value = percent::decode(value).map_err(|error| not_decoded(header, value, error))?;
        draft.set(&name, Scalar::Text(value))?;
    }
    if !draft.has(CONTENT_TYPE)
        && let Some(named) = http_content_type(headers)
    {
        draft.set(CONTENT_TYPE, Scalar::Text(named.into()))?;
    }
    if !marked {
        return Err(EventError::NotMarked(Box::new(unmarked(headers, body))));
    }
    let mut parts = draft.finish(EventError::MissingHeader)?;
    parts.data = (!body.is_empty()).then(|| body.clone());
    Ok(Event::of_checked(parts))
}

/// The `Content-Type` beside `ce-*` headers, if it is a media type.
pub(super) fn http_content_type(headers: &[(String, String)]) -> Option<&str> {
    header(headers, "content-type").map(str::trim).filter(|named| rules::value(CONTENT_TYPE, named).is_ok())
}

/// The attribute that a header is for. Headers' names have no case.
pub(super) fn attribute_name(header: &str) -> Option<String> {
    let start = header.get(..PREFIX.len())?;
    start.eq_ignore_ascii_case(PREFIX).then(|| header[PREFIX.len()..].to_ascii_lowercase())
}

/// Why a header's value can't be decoded.
pub(super) fn not_decoded(header: &str, value: &str, error: DecodeError) -> EventError {
    let raw = value.trim_matches([' ', '\t']);
    let (header, sent) = (Found::new(header), Found::new(raw));
    match error {
        DecodeError::Percent(at) => {
            let quote = usize::from(raw.starts_with('"'));
            EventError::Percent { header, sent, place: Place::of(raw, at + quote) }
        }
        DecodeError::Utf8 => EventError::PercentUtf8 { header, sent },
        DecodeError::Quote => EventError::Quote { header, sent },
    }
}

/// What a message has in place of a mark.
pub(super) fn unmarked(headers: &[(String, String)], body: &[u8]) -> Unmarked {
    const NAME: &[u8] = b"\"specversion\"";
    let named = headers.iter().find(|(name, _)| is_content_type_name(name));
    let has_name = || body.windows(NAME.len()).any(|window| window == NAME);
    let body = match body.trim_ascii_start().first() {
        _ if envelope::has_specversion(body) => UnmarkedBody::Event,
        Some(b'{') if has_name() => UnmarkedBody::Nested,
        _ => UnmarkedBody::Other,
    };
    Unmarked { content_type: named.map(|(name, value)| (Found::new(name), Found::new(value))), body }
}

/// Whether a header is, or may be meant as, the content type.
pub(super) fn is_content_type_name(name: &str) -> bool {
    ["content-type", "contenttype", "content_type"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The first header that is an attribute's in another protocol's binding, and in none of NATS.
pub(super) fn foreign_prefix(headers: &[(String, String)]) -> Option<EventError> {
    headers.iter().find_map(|(header, _)| {
        let lower = header.to_ascii_lowercase();
        let name = FOREIGN_PREFIXES.iter().find_map(|prefix| lower.strip_prefix(prefix))?;
        // Camel's header of the version.
        let name = if name == "version" { "specversion" } else { name };
        let is_name = rules::CORE.contains(&name) || rules::extension_name(name).is_ok();
        is_name.then(|| EventError::Prefix { header: Found::new(header), name: Found::new(name) })
    })
}

/// The event as a NATS message in binary mode.
pub(super) fn to_nats(event: &Event) -> (Vec<(String, String)>, Bytes) {
    let mut headers = attribute_headers(event);
    if let Some(named) = content_type(event) {
        headers.push((format!("{PREFIX}datacontenttype"), percent::encode(named).into_owned()));
    }
    (headers, body(event))
}

/// The event as an HTTP message in binary mode: "a `ce-datacontenttype` HTTP header MUST NOT also be present" (3.1.1).
pub(super) fn to_http(event: &Event) -> (Option<String>, Vec<(String, String)>, Bytes) {
    (content_type(event).map(str::to_owned), attribute_headers(event), body(event))
}

fn body(event: &Event) -> Bytes {
    event.data.as_ref().map(|data| data.bytes().clone()).unwrap_or_default()
}

/// The content type, or the one that JSON data implies ("SHOULD be set explicitly", JSON event format, 3.1.2).
fn content_type(event: &Event) -> Option<&str> {
    let implied = matches!(event.data, Some(Data::Json(_))).then_some("application/json");
    event.datacontenttype.as_deref().or(implied)
}

/// All attributes but `datacontenttype`.
fn attribute_headers(event: &Event) -> Vec<(String, String)> {
    let header = |name: &str, value: &str| (format!("{PREFIX}{name}"), percent::encode(value).into_owned());
    let mut headers = vec![
        header("specversion", "1.0"),
        header("id", &event.id),
        header("source", &event.source),
        header("type", &event.ty),
    ];
    let optional = [("subject", &event.subject), ("time", &event.time), ("dataschema", &event.dataschema)];
    headers.extend(optional.iter().filter_map(|(name, value)| Some(header(name, value.as_deref()?))));
    headers.extend(event.extensions.iter().map(|(name, value)| header(name, &value.to_string())));
    headers
}

/// The header that marks structured mode.
pub(super) fn structured_header() -> (String, String) {
    ("Content-Type".to_owned(), STRUCTURED_CONTENT_TYPE.to_owned())
}
