//! The form in which events rest in our own streams: nothing gets lost, nothing grows.
//!
//! An event that came in structured mode and wasn't changed is kept as the bytes that came. Any other is kept as its
//! attributes, a JSON object at the beginning of the body, and right after them the data as it is: binary data isn't
//! blown up by base64, extensions keep their types, and attributes of any length find room (a server takes no more than
//! 64 KiB of headers).

use bytes::Bytes;

use super::binding::{header, structured_header};
use super::error::EventError;
use super::{Data, Event, STRUCTURED_CONTENT_TYPE, is_json, write};

/// The media type of the second form.
const CONTENT_TYPE: &str = "application/vnd.hookmill.event";
/// Bytes of the body that are attributes.
const ATTRIBUTES: &str = "Hookmill-Event-Attributes";
/// `json` or `binary`: what the rest of the body is. Without this header there is no data.
const DATA: &str = "Hookmill-Event-Data";

/// Headers and body from which [`read`] makes the same event.
pub(super) fn write(event: &Event) -> (Vec<(String, String)>, Bytes) {
    if let Some(structured) = &event.structured {
        return (vec![structured_header()], structured.clone());
    }
    let mut body = write::attributes(event);
    let mut headers = vec![
        ("Content-Type".to_owned(), CONTENT_TYPE.to_owned()),
        (ATTRIBUTES.to_owned(), body.len().to_string()),
    ];
    if let Some(data) = &event.data {
        let kind = if event.data_is_json() { "json" } else { "binary" };
        headers.push((DATA.to_owned(), kind.to_owned()));
        body.extend_from_slice(data.bytes());
    }
    (headers, body.into())
}

/// The most bytes of headers and body that [`write`] makes of the event: each character of an attribute may need an escape.
pub(super) fn bytes_max(event: &Event) -> usize {
    const ESCAPED: usize = 6;
    const AROUND: usize = 64;
    if let Some(structured) = &event.structured {
        return structured.len() + AROUND;
    }
    let core = [&event.subject, &event.time, &event.datacontenttype, &event.dataschema];
    let core = core.into_iter().flatten().chain([&event.id, &event.source, &event.ty]);
    let core: usize = core.map(|text| text.len() * ESCAPED + AROUND).sum();
    let extension = |(name, value): &(String, super::Value)| match value {
        super::Value::Text(text) => name.len() + text.len() * ESCAPED + AROUND,
        super::Value::Integer(_) | super::Value::Boolean(_) => name.len() + AROUND,
    };
    let extensions: usize = event.extensions.iter().map(extension).sum();
    let data = event.data.as_ref().map_or(0, |data| data.bytes().len());
    core + extensions + data + 4 * AROUND
}

/// The event that [`write`] has written.
pub(super) fn read(headers: &[(String, String)], body: &Bytes) -> Result<Event, EventError> {
    match header(headers, "content-type") {
        Some(STRUCTURED_CONTENT_TYPE) => return Event::from_structured(body),
        Some(CONTENT_TYPE) => {}
        _ => return Err(EventError::Stored("no known Content-Type")),
    }
    let length: Option<usize> = header(headers, ATTRIBUTES).and_then(|text| text.parse().ok());
    let length = length.filter(|length| *length <= body.len());
    let length = length.ok_or(EventError::Stored("no usable header Hookmill-Event-Attributes"))?;
    let mut event = Event::from_structured(&body.slice(..length))?;
    event.structured = None;
    event.data = data(header(headers, DATA), body.slice(length..))?;
    Ok(event)
}

fn data(kind: Option<&str>, bytes: Bytes) -> Result<Option<Data>, EventError> {
    match kind {
        Some("json") if is_json(&bytes) => Ok(Some(Data::Json(bytes))),
        Some("json") => Err(EventError::Stored("broken JSON data")),
        Some("binary") => Ok(Some(Data::Binary(bytes))),
        Some(_) => Err(EventError::Stored("no usable header Hookmill-Event-Data")),
        None if bytes.is_empty() => Ok(None),
        None => Err(EventError::Stored("data of no kind")),
    }
}
