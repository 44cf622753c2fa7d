//! Binary mode of the NATS and HTTP protocol bindings: attributes in `ce-*` headers, the data as the body.

use std::borrow::Cow;

use bytes::Bytes;

use super::draft::{Draft, Scalar};
use super::error::{EventError, Found};
use super::percent::{self, DecodeError};
use super::{Data, Event, STRUCTURED_CONTENT_TYPE, envelope, media, rules};

/// What comes before an attribute's name in its header's name.
const PREFIX: &str = "ce-";
/// The attribute that a `Content-Type` beside `ce-*` headers stands for.
const CONTENT_TYPE: &str = "datacontenttype";

/// Whether the message is in structured mode: "the `Content-Type` header of `application/cloudevents` is present (matched
/// case-insensitively)" (NATS binding, 3). A batch or another event format is an error.
pub(super) fn is_structured(headers: &[(String, String)]) -> Result<bool, EventError> {
    const MARK: &str = "application/cloudevents";
    let Some(named) = header(headers, "content-type") else { return Ok(false) };
    let essence = media::essence(named);
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
    !says("content-type") && !says("ce-specversion") && envelope::has_specversion(body)
}

/// The event of a NATS message in binary mode. The content type is `ce-datacontenttype` by the binding; SDKs that write the
/// headers of HTTP have it as `Content-Type`, which counts if there is no other and it is one.
pub(super) fn from_nats(headers: &[(String, String)], body: &Bytes) -> Result<Event, EventError> {
    let mut draft = Draft::default();
    let mut marked = false;
    for (header, value) in headers {
        let Some(name) = attribute_name(header) else { continue };
        marked = true;
        let value = attribute_value(&name, value)?;
        draft.set(&name, Scalar::Text(value))?;
    }
    if !draft.has(CONTENT_TYPE)
        && let Some(named) = header(headers, "content-type").map(str::trim)
        && rules::value(CONTENT_TYPE, named).is_ok()
    {
        draft.set(CONTENT_TYPE, Scalar::Text(named.into()))?;
    }
    if !marked {
        return Err(if looks_structured(body) { EventError::LooksStructured } else { EventError::NotMarked });
    }
    let mut parts = draft.finish(EventError::MissingHeader)?;
    parts.data = (!body.is_empty()).then(|| body.clone());
    Ok(Event::of_checked(parts))
}

/// The attribute that a header is for. Headers' names have no case.
fn attribute_name(header: &str) -> Option<String> {
    let start = header.get(..PREFIX.len())?;
    start.eq_ignore_ascii_case(PREFIX).then(|| header[PREFIX.len()..].to_ascii_lowercase())
}

/// The value of a header. Some SDKs don't encode: a value that can't be decoded, or is none of this attribute once it is
/// decoded, is taken as it stands where that is one.
fn attribute_value<'a>(name: &str, value: &'a str) -> Result<Cow<'a, str>, EventError> {
    let raw = value.trim_matches([' ', '\t']);
    let is_valid_raw = || rules::value(name, raw).is_ok();
    match percent::decode(value) {
        // Nothing was encoded.
        Ok(Cow::Borrowed(decoded)) => Ok(Cow::Borrowed(decoded)),
        Ok(decoded) if rules::value(name, &decoded).is_ok() || !is_valid_raw() => Ok(decoded),
        Err(error) if !is_valid_raw() => Err(bad_value(name, error)),
        Ok(_) | Err(_) => Ok(Cow::Borrowed(raw)),
    }
}

fn bad_value(name: &str, error: DecodeError) -> EventError {
    let name = Found::new(&format!("{PREFIX}{name}"));
    match error {
        DecodeError::Percent => EventError::Percent(name),
        DecodeError::Utf8 => EventError::PercentUtf8(name),
        DecodeError::Quote => EventError::Quote(name),
    }
}

/// Whether a body without any mark is likely to be an event in structured mode, for the hint.
fn looks_structured(body: &[u8]) -> bool {
    const NAME: &[u8] = b"\"specversion\"";
    body.trim_ascii_start().starts_with(b"{") && body.windows(NAME.len()).any(|window| window == NAME)
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
