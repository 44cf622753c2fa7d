//! The JSON event format, written: for events that came in another form or were changed.

use bytes::Bytes;
use data_encoding::BASE64;

use super::{Data, Event, Value, media};

/// Bytes that names, quotes and commas of the attributes take, about.
const PUNCTUATION_BYTES: usize = 256;

/// The event as one JSON object: attributes first, then `data` or `data_base64`.
pub(super) fn structured(event: &Event) -> Bytes {
    let length = event.data.as_ref().map_or(0, |data| data.bytes().len());
    let mut out = Vec::with_capacity(PUNCTUATION_BYTES + length + length / 3);
    open_with_attributes(&mut out, event);
    match &event.data {
        None => {}
        Some(Data::Json(bytes)) => member(&mut out, "data", |out| out.extend_from_slice(bytes)),
        Some(Data::Binary(bytes)) => match as_text(event.datacontenttype.as_deref(), bytes) {
            Some(text) => member(&mut out, "data", |out| string(out, text)),
            None => member(&mut out, "data_base64", |out| string(out, &BASE64.encode(bytes))),
        },
    }
    out.push(b'}');
    out.into()
}

/// The attributes alone, as a JSON object.
pub(super) fn attributes(event: &Event) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * PUNCTUATION_BYTES);
    open_with_attributes(&mut out, event);
    out.push(b'}');
    out
}

fn open_with_attributes(out: &mut Vec<u8>, event: &Event) {
    out.extend_from_slice(b"{\"specversion\":\"1.0\"");
    let core = [
        ("id", Some(&event.id)),
        ("source", Some(&event.source)),
        ("type", Some(&event.ty)),
        ("subject", event.subject.as_ref()),
        ("time", event.time.as_ref()),
        ("datacontenttype", event.datacontenttype.as_ref()),
        ("dataschema", event.dataschema.as_ref()),
    ];
    for (name, value) in core {
        if let Some(value) = value {
            member(out, name, |out| string(out, value));
        }
    }
    for (name, value) in &event.extensions {
        member(out, name, |out| match value {
            Value::Text(text) => string(out, text),
            Value::Integer(_) | Value::Boolean(_) => out.extend_from_slice(value.to_string().as_bytes()),
        });
    }
}

/// A further member. Names are checked: none needs an escape.
fn member(out: &mut Vec<u8>, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    value(out);
}

fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a string to memory does not fail");
}

/// The text that data of a content type stands for, if it is text by name and its bytes read back as the same.
fn as_text<'a>(datacontenttype: Option<&str>, bytes: &'a [u8]) -> Option<&'a str> {
    let named = datacontenttype.filter(|named| media::is_text(named) && !media::is_json(Some(named)))?;
    let readable = !media::has_foreign_charset(named) || bytes.is_ascii();
    std::str::from_utf8(bytes).ok().filter(|_| readable)
}
