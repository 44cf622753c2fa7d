//! A message that is not a valid event, looked at as a whole: what the tolerant reading mends of it, and everything that is
//! wrong with it.
//!
//! A valid event never comes here, so nothing here can change one, and nothing here has to be quick. What is mended goes
//! through the same rules as everything else.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;

use super::binding::{self, CONTENT_TYPE};
use super::draft::Scalar;
use super::error::{EventError, Found, Refusal};
use super::reading::{Mend, Mends, Reading};
use super::{Event, EventParts, Value, envelope, percent, rules};

/// Names that no other spelling is taken for: what they stand for is never guessed.
const NEVER_FOLDED: [&str; 6] = ["id", "source", "type", "specversion", "data", "data_base64"];
/// What every event has.
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];

/// The event of a message, of which `error` is known to be wrong, or else everything that is.
pub(super) fn examine(
    headers: &[(String, String)],
    body: &Bytes,
    reading: Reading,
    error: &EventError,
) -> Result<(Event, Mends), Refusal> {
    let mended = |reading| match read(headers, body, reading) {
        // Nothing wrong and nothing mended can't be: what is known to be wrong counts then.
        Ok((_, mends)) if mends.is_empty() => Err(Refusal::from(error.clone())),
        result => result,
    };
    let result = mended(reading);
    match (result, reading) {
        (Err(mut refusal), Reading::Strict) => {
            refusal.tolerant_takes_it = mended(Reading::Tolerant).is_ok();
            Err(refusal)
        }
        (result, _) => result,
    }
}

fn read(headers: &[(String, String)], body: &Bytes, reading: Reading) -> Result<(Event, Mends), Refusal> {
    let mut message = Message { reading, mends: Mends::NONE, refusal: Refusal::default() };
    let event = if message.is_structured(headers, body)? {
        message.structured(body)?
    } else {
        message.binary(headers, body)
    };
    match event {
        Some(event) if message.refusal.is_empty() => Ok((event, message.mends)),
        _ => Err(message.refusal),
    }
}

/// An attribute as it was sent.
struct Sent<'a> {
    spelled: Cow<'a, str>,
    /// None: what is wrong with it has been noted.
    value: Option<Scalar<'a>>,
}

/// Attributes by their names, in the order in which they came.
#[derive(Default)]
struct Attributes<'a> {
    all: Vec<(String, Sent<'a>)>,
    places: HashMap<String, usize>,
}

/// What is found out about one message.
struct Message {
    reading: Reading,
    mends: Mends,
    refusal: Refusal,
}

impl Message {
    fn is_tolerant(&self) -> bool {
        self.reading == Reading::Tolerant
    }

    /// The value, or else none, and a note of what is wrong.
    fn note<T>(&mut self, result: Result<T, EventError>) -> Option<T> {
        result.map_err(|error| self.refusal.push(error)).ok()
    }

    fn is_structured(&mut self, headers: &[(String, String)], body: &Bytes) -> Result<bool, Refusal> {
        if binding::is_structured(headers)? || binding::is_structured_by_its_body(headers, body) {
            return Ok(true);
        }
        let is_binary = binding::header(headers, "ce-specversion").is_some();
        if is_binary || !self.is_tolerant() { Ok(false) } else { Ok(self.is_marked_oddly(headers)?) }
    }

    /// Whether a `Content-Type` in quotes, under another name, or behind others marks the message.
    fn is_marked_oddly(&mut self, headers: &[(String, String)]) -> Result<bool, EventError> {
        let mut seen = false;
        for (name, value) in headers.iter().filter(|(name, _)| binding::is_content_type_name(name)) {
            let is_own_name = name.eq_ignore_ascii_case("content-type");
            let value = value.trim();
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            if binding::marks_structured(quoted.unwrap_or(value))? {
                let odd = [
                    (quoted.is_some(), Mend::ContentTypeQuoted),
                    (!is_own_name, Mend::ContentTypeName),
                    (is_own_name && seen, Mend::ContentTypeSecond),
                ];
                odd.iter().filter(|(is, _)| *is).for_each(|(_, mend)| self.mends.add(*mend));
                return Ok(true);
            }
            seen |= is_own_name;
        }
        Ok(false)
    }

    fn structured(&mut self, body: &Bytes) -> Result<Option<Event>, Refusal> {
        let body = envelope::without_mark(body);
        let text = std::str::from_utf8(&body).map_err(|error| EventError::NotUtf8(error.valid_up_to()))?;
        let (mut data, mut base64) = (None, None);
        let mut attributes = Attributes::default();
        for (name, raw) in envelope::members(text)? {
            match &*name {
                "data" => drop(self.note(envelope::once("data", &mut data, raw.get()))),
                "data_base64" => drop(self.note(envelope::once("data_base64", &mut base64, raw.get()))),
                _ => {
                    let value = self.note(envelope::scalar(&name, raw.get()));
                    self.take(&mut attributes, Sent { spelled: name, value });
                }
            }
        }
        let parts = self.parts(attributes, EventError::MissingAttribute);
        let data = self.note(envelope::payload(parts.datacontenttype.as_deref(), data, base64, &body));
        let Some(data) = data.filter(|_| self.refusal.is_empty()) else { return Ok(None) };
        let mut event = Event::of_checked(parts);
        event.data = data;
        event.structured = (!self.mends.change_attributes()).then(|| body.clone());
        Ok(Some(event))
    }

    fn binary(&mut self, headers: &[(String, String)], body: &Bytes) -> Option<Event> {
        let mut attributes = Attributes::default();
        let mut marked = false;
        for (header, value) in headers {
            let Some(name) = binding::attribute_name(header) else { continue };
            marked = true;
            let value = self.header_value(header, &name, value);
            self.take(&mut attributes, Sent { spelled: name.into(), value: value.map(Scalar::Text) });
        }
        if !marked {
            self.refusal.push(EventError::NotMarked(Box::new(binding::unmarked(headers, body))));
            self.refusal.extend(binding::foreign_prefix(headers));
            return None;
        }
        if !attributes.places.contains_key(CONTENT_TYPE)
            && let Some(named) = binding::http_content_type(headers)
        {
            let value = Some(Scalar::Text(named.into()));
            self.take(&mut attributes, Sent { spelled: CONTENT_TYPE.into(), value });
        }
        let mut parts = self.parts(attributes, EventError::MissingHeader);
        if !self.refusal.is_empty() {
            self.refusal.extend(binding::foreign_prefix(headers));
            return None;
        }
        parts.data = (!body.is_empty()).then(|| body.clone());
        Some(Event::of_checked(parts))
    }

    /// The value of a header: decoded, or, where the tolerant reading may, as it stands.
    fn header_value<'a>(&mut self, header: &str, name: &str, value: &'a str) -> Option<Cow<'a, str>> {
        let raw = value.trim_matches([' ', '\t']);
        let decoded = percent::decode(value);
        let is_fine = |decoded: &Cow<'_, str>| self.value(name, decoded).is_ok();
        if decoded.as_ref().is_ok_and(is_fine) {
            return decoded.ok();
        }
        if self.is_tolerant() && decoded.as_deref() != Ok(raw) && rules::value(name, raw).is_ok() {
            self.mends.add(Mend::HeaderUndecoded);
            return Some(Cow::Borrowed(raw));
        }
        let error = match decoded {
            Err(error) => binding::not_decoded(header, value, error),
            Ok(decoded) => {
                let Err(error) = self.value(name, &decoded) else { return Some(decoded) };
                if decoded == raw {
                    error
                } else {
                    let (header, sent, error) = (Found::new(header), Found::new(raw), Box::new(error));
                    EventError::Decoded { header, sent, error }
                }
            }
        };
        self.refusal.push(error);
        None
    }

    /// Puts an attribute under its name. Of two names that fold to one a null gives way.
    fn take<'a>(&mut self, attributes: &mut Attributes<'a>, sent: Sent<'a>) {
        let Some(name) = self.name(&sent.spelled) else { return };
        let place = match attributes.places.entry(name.clone()) {
            Entry::Vacant(place) => {
                place.insert(attributes.all.len());
                return attributes.all.push((name, sent));
            }
            Entry::Occupied(place) => *place.get(),
        };
        let there = &mut attributes.all[place].1;
        if there.spelled == sent.spelled {
            return self.refusal.push(EventError::Duplicate(Found::new(&name)));
        }
        match (&there.value, &sent.value) {
            (_, Some(Scalar::Null)) => self.mends.add(Mend::NullBesideValue),
            (Some(Scalar::Null), _) => {
                self.mends.add(Mend::NullBesideValue);
                *there = sent;
            }
            (None, _) | (_, None) => {}
            (Some(_), Some(_)) => {
                let (one, other) = (Found::new(&there.spelled), Found::new(&sent.spelled));
                self.refusal.push(EventError::FoldedTwice { one, other });
            }
        }
    }

    /// The name of the attribute that is spelled so, if it is one.
    fn name(&mut self, spelled: &str) -> Option<String> {
        let lower = spelled.to_ascii_lowercase();
        let is_name = rules::CORE.contains(&spelled) || rules::extension_name(spelled).is_ok();
        if is_name {
            return Some(lower);
        }
        if let Some(meant) = NEVER_FOLDED.iter().find(|meant| **meant == lower && **meant != spelled) {
            self.refusal.push(EventError::Meant { name: Found::new(spelled), meant });
            return None;
        }
        let folds = rules::CORE.contains(&&*lower) || rules::extension_name(&lower).is_ok();
        if self.is_tolerant() && folds {
            self.mends.add(Mend::NameCase);
            return Some(lower);
        }
        let wrong = rules::extension_name(spelled);
        self.note(wrong);
        None
    }

    /// The parts of an event without its data, as far as nothing is wrong with them.
    fn parts(&mut self, attributes: Attributes<'_>, missing: fn(&'static str) -> EventError) -> EventParts {
        let mut parts = EventParts::default();
        let is_there = |name: &str| {
            let place = attributes.places.get(name).map(|place| &attributes.all[*place].1.value);
            place.is_some_and(|value| !matches!(value, Some(Scalar::Null)))
        };
        for name in REQUIRED.into_iter().filter(|name| !is_there(name)) {
            self.refusal.push(missing(name));
        }
        for (name, sent) in attributes.all {
            let Some(value) = sent.value else { continue };
            match (rules::CORE.iter().find(|core| **core == name), value) {
                (_, Scalar::Null) => {}
                (Some(core), Scalar::Text(text)) => self.core(&mut parts, core, text),
                (Some(name), other) => {
                    self.refusal.push(EventError::NotString { name, found: other.kind() });
                }
                (None, Scalar::Text(text)) => {
                    if self.note(rules::value(&name, &text)).is_some() {
                        parts.extensions.push((name, Value::Text(text.into_owned())));
                    }
                }
                (None, Scalar::Integer(integer)) => parts.extensions.push((name, Value::Integer(integer))),
                (None, Scalar::Boolean(boolean)) => parts.extensions.push((name, Value::Boolean(boolean))),
            }
        }
        parts
    }

    /// Sets an attribute of the spec, if it is one, or is left out, or has to be named.
    fn core(&mut self, parts: &mut EventParts, name: &'static str, text: Cow<'_, str>) {
        match self.value(name, &text) {
            Err(error) => return self.refusal.push(error),
            Ok(Some(Mend::DataschemaFragment)) => self.mends.add(Mend::DataschemaFragment),
            Ok(Some(left_out)) => return self.mends.add(left_out),
            Ok(None) => {}
        }
        let text = text.into_owned();
        match name {
            "id" => parts.id = text,
            "source" => parts.source = text,
            "type" => parts.ty = text,
            "subject" => parts.subject = Some(text),
            "time" => parts.time = Some(text),
            "datacontenttype" => parts.datacontenttype = Some(text),
            "dataschema" => parts.dataschema = Some(text),
            _ => {}
        }
    }

    /// What has to be mended of a value for it to be this attribute's; nothing, or else what is wrong.
    fn value(&self, name: &str, text: &str) -> Result<Option<Mend>, EventError> {
        match name {
            "specversion" if text.is_empty() => return Err(EventError::Empty("specversion")),
            "specversion" if text != "1.0" => return Err(EventError::Specversion(Found::new(text))),
            "subject" | "time" | "datacontenttype" | "dataschema"
                if self.is_tolerant() && text.is_empty() =>
            {
                return Ok(Some(Mend::EmptyAttribute));
            }
            "dataschema" if self.is_tolerant() && !rules::has_scheme(text) => {
                return Ok(Some(Mend::DataschemaRelative));
            }
            _ => rules::value(name, text)?,
        }
        if name != "dataschema" || !rules::has_fragment(text) {
            return Ok(None);
        }
        if self.is_tolerant() {
            return Ok(Some(Mend::DataschemaFragment));
        }
        rules::no_fragment(text).map(|()| None)
    }
}
