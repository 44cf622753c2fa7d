//! One place of the new payload, and what comes there.

use hookmill_transform::serde_json::{self, Value};
use hookmill_transform::{Attribute, Event, Failure, Pointer};
use serde::Deserialize;

/// What happens where a source is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Missing {
    /// The event is rejected.
    #[default]
    Reject,
    /// The place gets null.
    Null,
    /// The place is left out.
    Omit,
}

/// An entry as it is written: `{ from = "/id" }`, `{ attribute = "subject" }` or `{ value = 1 }`.
#[derive(Debug, Default)]
pub(crate) struct RawEntry {
    from: Option<Pointer>,
    attribute: Option<String>,
    value: Option<Value>,
    default: Option<Value>,
    missing: Option<Missing>,
}

impl RawEntry {
    /// By hand and not derived, since a `value` that is null is not the same as none.
    pub(crate) fn read(place: &str, raw: &Value) -> Result<Self, String> {
        let wrong = |text: String| format!("data.\"{place}\"{text}");
        let Value::Object(fields) = raw else {
            return Err(wrong(
                ": is no table; write { from = \"/pointer\" }, { attribute = \"name\" } or { value = … }"
                    .into(),
            ));
        };
        let mut entry = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "from" => entry.from = Some(read(name, value).map_err(wrong)?),
                "attribute" => entry.attribute = Some(read(name, value).map_err(wrong)?),
                "missing" => entry.missing = Some(read(name, value).map_err(wrong)?),
                "value" => entry.value = Some(value.clone()),
                "default" => entry.default = Some(value.clone()),
                _ => {
                    let known = "`from`, `attribute`, `value`, `default`, `missing`";
                    return Err(wrong(format!(".{name}: unknown field `{name}`, expected one of {known}")));
                }
            }
        }
        Ok(entry)
    }
}

fn read<'de, T: Deserialize<'de>>(name: &str, value: &'de Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error: serde_json::Error| format!(".{name}: {error}"))
}

/// Where a value comes from.
#[derive(Debug)]
enum Source {
    Payload(Pointer),
    Attribute(String),
    Constant(Value),
}

/// What comes where the source is not there.
#[derive(Debug)]
enum Absent {
    Reject,
    Omit,
    Put(Value),
}

/// An entry that can't be wrong.
#[derive(Debug)]
pub(crate) struct Entry {
    place: Pointer,
    source: Source,
    absent: Absent,
}

impl Entry {
    pub(crate) fn new(place: &str, raw: RawEntry, missing: Missing) -> Result<Self, String> {
        let wrong = |text: &str| format!("data.\"{place}\": {text}");
        let source = match (raw.from, raw.attribute, raw.value) {
            (Some(pointer), None, None) => Source::Payload(pointer),
            (None, Some(name), None) if is_attribute_name(&name) => Source::Attribute(name),
            (None, Some(name), None) => {
                let text =
                    format!("attribute \"{name}\" is no attribute's name (lower-case letters and digits)");
                return Err(wrong(&text));
            }
            (None, None, Some(value)) => Source::Constant(value),
            _ => return Err(wrong("has not exactly one of from, attribute and value")),
        };
        let absent = match (raw.default, raw.missing) {
            (Some(_), Some(_)) => return Err(wrong("has both default and missing; one of them is enough")),
            (Some(_), None) | (None, Some(_)) if matches!(source, Source::Constant(_)) => {
                return Err(wrong("has a value, which is never missing; take default and missing away"));
            }
            (Some(default), None) => Absent::Put(default),
            (None, own) => match own.unwrap_or(missing) {
                Missing::Reject => Absent::Reject,
                Missing::Null => Absent::Put(Value::Null),
                Missing::Omit => Absent::Omit,
            },
        };
        let place = place.parse().map_err(|error| format!("data: {error}"))?;
        Ok(Self { place, source, absent })
    }

    pub(crate) fn reads_payload(&self) -> bool {
        matches!(self.source, Source::Payload(_))
    }

    /// Puts the value into the new payload.
    pub(crate) fn put(&self, event: &Event, old: &Value, new: &mut Value) -> Result<(), Failure> {
        let found = match &self.source {
            Source::Payload(pointer) => pointer.get(old).cloned(),
            Source::Attribute(name) => event.attribute(name).map(attribute_value),
            Source::Constant(value) => Some(value.clone()),
        };
        let value = match (found, &self.absent) {
            (Some(value), _) => value,
            (None, Absent::Put(value)) => value.clone(),
            (None, Absent::Omit) => return Ok(()),
            (None, Absent::Reject) => return Err(self.nothing_there()),
        };
        if self.place.set(new, value) {
            return Ok(());
        }
        Err(Failure::Rejected(format!(
            "the payload has no room for {}: something else is on the way",
            self.place
        )))
    }

    fn nothing_there(&self) -> Failure {
        Failure::Rejected(match &self.source {
            Source::Payload(pointer) => {
                format!("the payload has nothing at {pointer}, which {} needs", self.place)
            }
            Source::Attribute(name) => {
                format!("the event has no attribute {name}, which {} needs", self.place)
            }
            Source::Constant(_) => unreachable!("a constant is always there"),
        })
    }
}

/// Two places of which one lies inside the other: which of them wins would depend on their order.
pub(crate) fn no_place_inside_another(entries: &[Entry]) -> Result<(), String> {
    let mut places: Vec<&Pointer> = entries.iter().map(|entry| &entry.place).collect();
    places.sort();
    // What lies inside a place follows it at once in this order.
    match places.windows(2).find(|pair| pair[1].tokens().starts_with(pair[0].tokens())) {
        Some(pair) => {
            Err(format!("data: \"{}\" lies inside \"{}\"; give only one of them", pair[1], pair[0]))
        }
        None => Ok(()),
    }
}

fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn attribute_value(attribute: Attribute) -> Value {
    match attribute {
        Attribute::Text(text) => Value::String(text),
        Attribute::Integer(integer) => Value::from(integer),
        Attribute::Boolean(boolean) => Value::Bool(boolean),
    }
}
