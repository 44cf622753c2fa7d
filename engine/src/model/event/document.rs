//! Data as a tree that borrows from its JSON text: what schemas are held against. Made for one look: members lie in a
//! row instead of a map, and texts without escapes are slices of what came.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::Event;
use super::envelope::MemberName;

/// A JSON value. Numbers that fit neither 64-bit integers nor doubles lose precision here; the data itself never does.
#[derive(Clone, PartialEq, Debug)]
pub enum Document<'t> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(Cow<'t, str>),
    /// An array.
    Array(Vec<Document<'t>>),
    /// An object, its members in the order of their names; of a name that comes twice the last value counts.
    Object(Vec<(Cow<'t, str>, Document<'t>)>),
}

impl<'t> Document<'t> {
    /// Reads a JSON text of at most 128 levels.
    pub fn parse(json: &'t [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The same as a value of its own.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(boolean) => Value::Bool(*boolean),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone().into_owned()),
            Self::Array(elements) => elements.iter().map(Self::to_value).collect(),
            Self::Object(members) => {
                let member =
                    |(name, value): &(Cow<'_, str>, Self)| (name.clone().into_owned(), value.to_value());
                Value::Object(members.iter().map(member).collect())
            }
        }
    }

    fn object(mut members: Vec<(Cow<'t, str>, Self)>) -> Self {
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        members.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        Self::Object(members)
    }
}

/// The value of a member; `members` are in the order of their names.
pub(crate) fn find<'m, 't>(
    members: &'m [(Cow<'t, str>, Document<'t>)],
    name: &str,
) -> Option<&'m Document<'t>> {
    let place = members.binary_search_by(|(have, _)| (**have).cmp(name)).ok()?;
    Some(&members[place].1)
}

impl<'t> From<&'t Value> for Document<'t> {
    fn from(value: &'t Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(boolean) => Self::Boolean(*boolean),
            Value::Number(number) => Self::Number(number.clone()),
            Value::String(text) => Self::Text(text.as_str().into()),
            Value::Array(elements) => Self::Array(elements.iter().map(Self::from).collect()),
            Value::Object(members) => Self::object(
                members.iter().map(|(name, value)| (name.as_str().into(), value.into())).collect(),
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Document<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Document<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Document<'de>, E> {
        Ok(Document::Null)
    }

    fn visit_bool<E>(self, boolean: bool) -> Result<Document<'de>, E> {
        Ok(Document::Boolean(boolean))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Document<'de>, E> {
        Ok(Document::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Document<'de>, E> {
        Ok(Document::Number(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Document<'de>, E> {
        Number::from_f64(number).map(Document::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Document<'de>, E> {
        Ok(Document::Text(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Document<'de>, E> {
        Ok(Document::Text(text.to_owned().into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Document<'de>, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element()? {
            array.push(element);
        }
        Ok(Document::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Document<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some((MemberName(name), value)) = members.next_entry()? {
            object.push((name, value));
        }
        Ok(Document::object(object))
    }
}

/// Why an event's data is no JSON value to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoDocument {
    /// There is no data, or it is of another kind: whatever asks for JSON doesn't mean this event.
    NotJson(String),
    /// It is said to be JSON and can't be read, or not by this engine: nothing can be said about it.
    Unreadable(String),
}

impl NoDocument {
    /// One line for people.
    pub fn why(&self) -> &str {
        match self {
            Self::NotJson(why) | Self::Unreadable(why) => why,
        }
    }
}

/// The data of one event, read at the first use and then shared by all that want it.
#[derive(Debug)]
pub struct ParsedData<'e> {
    event: &'e Event,
    document: OnceCell<Result<Document<'e>, NoDocument>>,
}

impl<'e> ParsedData<'e> {
    /// Reads nothing yet.
    pub fn new(event: &'e Event) -> Self {
        Self { event, document: OnceCell::new() }
    }

    /// The event.
    pub fn event(&self) -> &'e Event {
        self.event
    }

    /// Its data as JSON; else why there is none.
    pub fn document(&self) -> Result<&Document<'e>, &NoDocument> {
        self.document.get_or_init(|| self.event.document()).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_serde_json_reads_it() {
        for text in [
            "null",
            " [true, false, 1, -1, 18446744073709551615, 1.5, 1e3, 123456789012345678901234567890] ",
            r#"{"b":{"d":1,"c":[]},"a":"x\u00fc\n","":{}, "a\"b":0}"#,
            r#"{"a":1,"b":2,"a":3,"a":{"b":1,"b":2}}"#,
        ] {
            let expected: Value = serde_json::from_str(text).unwrap();
            let document = Document::parse(text.as_bytes()).unwrap();
            assert_eq!(document.to_value(), expected);
            assert_eq!(document, Document::from(&expected));
        }
        for wrong in ["", "{", "[1,]", "1 2", r#"{"a"}"#, r#""\ud800""#, "1e999", "\"\u{1}\""] {
            let expected = serde_json::from_str::<Value>(wrong).unwrap_err().to_string();
            assert_eq!(Document::parse(wrong.as_bytes()).unwrap_err().to_string(), expected);
        }
        let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
        assert!(Document::parse(deep.as_bytes()).unwrap_err().to_string().starts_with("recursion limit"));
    }

    #[test]
    fn a_member_is_found_among_many_and_texts_without_escapes_are_borrowed() {
        let members: Vec<String> =
            (0..100).rev().map(|number| format!("\"n{number}\":\"t{number}\"")).collect();
        let text = format!("{{{}}}", members.join(","));
        let Document::Object(members) = &Document::parse(text.as_bytes()).unwrap() else {
            panic!("an object")
        };
        for number in 0..100 {
            let found = find(members, &format!("n{number}"));
            assert!(
                matches!(found, Some(Document::Text(Cow::Borrowed(text))) if *text == format!("t{number}"))
            );
        }
        assert_eq!(find(members, "n100"), None);
    }
}
