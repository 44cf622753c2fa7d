//! Attributes one by one, as they come out of JSON members or headers, on their way to become an event.

use std::borrow::Cow;

use super::error::{EventError, Found, Kind};
use super::{EventParts, Value, rules};

/// An attribute's value as it came.
pub(super) enum Scalar<'a> {
    Null,
    Text(Cow<'a, str>),
    Integer(i32),
    Boolean(bool),
}

impl Scalar<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Null => Kind::Null,
            Self::Text(_) => Kind::Text,
            Self::Integer(_) => Kind::Number,
            Self::Boolean(_) => Kind::Boolean,
        }
    }
}

/// What has come so far. Each attribute may come once, null counting as one ("treated as unset", but there).
#[derive(Default)]
pub(super) struct Draft<'a> {
    core: [Option<Cow<'a, str>>; rules::CORE.len()],
    /// One bit for each of `core` that has come, be it null.
    seen: u8,
    extensions: Vec<(String, Value)>,
    nulls: Vec<String>,
}

impl<'a> Draft<'a> {
    /// Takes an attribute the spec defines, or an extension.
    pub(super) fn set(&mut self, name: &str, value: Scalar<'a>) -> Result<(), EventError> {
        match rules::CORE.iter().position(|core| *core == name) {
            Some(place) => self.set_core(place, value),
            None => self.set_extension(name, value),
        }
    }

    /// Whether an attribute that the spec defines has come.
    pub(super) fn has(&self, name: &str) -> bool {
        rules::CORE.iter().position(|core| *core == name).is_some_and(|place| self.seen & (1 << place) != 0)
    }

    fn set_core(&mut self, place: usize, value: Scalar<'a>) -> Result<(), EventError> {
        let name = rules::CORE[place];
        if self.seen & (1 << place) != 0 {
            return Err(EventError::Duplicate(Found::new(name)));
        }
        self.seen |= 1 << place;
        match value {
            Scalar::Null => Ok(()),
            Scalar::Text(text) => {
                self.core[place] = Some(text);
                Ok(())
            }
            other => Err(EventError::NotString { name, found: other.kind() }),
        }
    }

    fn set_extension(&mut self, name: &str, value: Scalar<'a>) -> Result<(), EventError> {
        let value = match value {
            Scalar::Null => {
                rules::extension_name(name)?;
                self.nulls.push(name.to_owned());
                return Ok(());
            }
            Scalar::Text(text) => Value::Text(text.into_owned()),
            Scalar::Integer(integer) => Value::Integer(integer),
            Scalar::Boolean(boolean) => Value::Boolean(boolean),
        };
        self.extensions.push((name.to_owned(), value));
        Ok(())
    }

    /// The checked attributes; the data is still to come. `missing` says how a required one that isn't there is called.
    pub(super) fn finish(self, missing: fn(&'static str) -> EventError) -> Result<EventParts, EventError> {
        if !self.nulls.is_empty() {
            let names = self.extensions.iter().map(|(name, _)| name).chain(&self.nulls);
            rules::distinct(names.map(String::as_str))?;
        }
        let [specversion, id, source, ty, subject, time, datacontenttype, dataschema] = self.core;
        match specversion.as_deref() {
            Some("1.0") => {}
            Some("") => return Err(EventError::Empty("specversion")),
            Some(other) => return Err(EventError::Specversion(Found::new(other))),
            None => return Err(missing("specversion")),
        }
        let required =
            |name, value: Option<Cow<'_, str>>| value.map(Cow::into_owned).ok_or_else(|| missing(name));
        let parts = EventParts {
            id: required("id", id)?,
            source: required("source", source)?,
            ty: required("type", ty)?,
            subject: subject.map(Cow::into_owned),
            time: time.map(Cow::into_owned),
            datacontenttype: datacontenttype.map(Cow::into_owned),
            dataschema: dataschema.map(Cow::into_owned),
            extensions: self.extensions,
            data: None,
        };
        rules::check(&parts)?;
        Ok(parts)
    }
}
