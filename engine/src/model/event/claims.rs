//! What a message that can't be read as an event says of itself, for the people who look for it. Nobody has checked it.

use bytes::Bytes;
use std::borrow::Cow;

use super::binding::attribute_name;
use super::draft::Scalar;
use super::{envelope, percent};

/// Bytes of each text that are kept.
const BYTES_MAX: usize = 256;

/// Texts from `ce-` headers, or else from a body that is a JSON object with `specversion` at its top; empty where there is
/// none. At most 256 bytes each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claims {
    /// `id`.
    pub id: String,
    /// `source`.
    pub source: String,
    /// `type`.
    pub ty: String,
}

impl Claims {
    /// What headers say, and, where there is one to look into, the body.
    pub fn of(headers: &[(String, String)], body: Option<&Bytes>) -> Self {
        let said = Self::of_headers(headers);
        match body {
            Some(body) if said == Self::default() => Self::of_body(body),
            _ => said,
        }
    }

    fn of_headers(headers: &[(String, String)]) -> Self {
        let mut said = Self::default();
        for (header, value) in headers {
            let Some(name) = attribute_name(header) else { continue };
            let value = percent::decode(value).unwrap_or(Cow::Borrowed(value));
            said.set(&name, &value);
        }
        said
    }

    fn of_body(body: &Bytes) -> Self {
        let mut said = Self::default();
        let body = envelope::without_mark(body);
        let Some(members) = std::str::from_utf8(&body).ok().and_then(|text| envelope::members(text).ok())
        else {
            return said;
        };
        if members.iter().any(|(name, _)| name == "specversion") {
            for (name, raw) in &members {
                if let Ok(Scalar::Text(text)) = envelope::scalar(name, raw.get()) {
                    said.set(name, &text);
                }
            }
        }
        said
    }

    /// The first text of each counts.
    fn set(&mut self, name: &str, text: &str) {
        let place = match name {
            "id" => &mut self.id,
            "source" => &mut self.source,
            "type" => &mut self.ty,
            _ => return,
        };
        if place.is_empty() {
            text[..text.floor_char_boundary(BYTES_MAX)].clone_into(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(headers: &[(&str, &str)], body: Option<&str>) -> (String, String, String) {
        let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let body = body.map(|body| Bytes::from(body.to_owned()));
        let Claims { id, source, ty } = Claims::of(&headers, body.as_ref());
        (id, source, ty)
    }

    fn texts(id: &str, source: &str, ty: &str) -> (String, String, String) {
        (id.to_owned(), source.to_owned(), ty.to_owned())
    }

    #[test]
    fn headers_are_believed_before_the_body_and_only_the_top_of_that() {
        let body = r#"{"specversion":"9","id":"b","source":7,"type":"t"}"#;
        assert_eq!(said(&[("CE-Id", "a%20b"), ("ce-type", "50%")], Some(body)), texts("a b", "", "50%"));
        assert_eq!(said(&[("x", "y")], Some(body)), texts("b", "", "t"));
        assert_eq!(said(&[], None), texts("", "", ""));
        let nested = r#"{"context":{"specversion":"1.0","id":"b"}}"#;
        for nothing in [nested, r#"{"id":"b"}"#, r#"{"specversion":"1.0","id":"b""#, "[]", ""] {
            assert_eq!(said(&[], Some(nothing)), texts("", "", ""), "{nothing}");
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let long = "ä".repeat(200);
        assert_eq!(said(&[("ce-id", &long), ("ce-id", "second")], None).0, "ä".repeat(128));
    }
}
