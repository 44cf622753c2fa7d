//! JSON pointers (RFC 6901).

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value;

/// A JSON pointer (RFC 6901): `/customer/email`, `/items/0`; `~1` stands for `/` in a name and `~0` for `~`. The empty
/// pointer is the whole document. Comes out of settings as it is; a malformed one is an error there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer {
    tokens: Vec<String>,
}

/// Why a text is no JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointerError {
    /// It doesn't start with a slash.
    Start(String),
    /// A tilde without 0 or 1 behind it.
    Escape(String),
}

impl fmt::Display for PointerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(text) => {
                write!(f, "\"{text}\" is no JSON pointer: it must start with /, as in \"/{text}\"")
            }
            Self::Escape(text) => {
                write!(f, "\"{text}\" is no JSON pointer: ~ is written ~0 in a name, and / is written ~1")
            }
        }
    }
}

impl std::error::Error for PointerError {}

impl Pointer {
    /// The names and indices on the way, unescaped.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The value it points at.
    pub fn get<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.tokens.iter().try_fold(document, |value, token| match value {
            Value::Object(members) => members.get(token),
            Value::Array(elements) => elements.get(Self::index(token)?),
            _ => None,
        })
    }

    /// Puts a value there. Objects on the way are made where nothing is, or null; in an array that is there already the
    /// token is an index, or `-` for one more. False, and nothing changed, where something else is in the way.
    pub fn set(&self, document: &mut Value, value: Value) -> bool {
        match Self::place(&self.tokens, document) {
            Some(place) => {
                *place = value;
                true
            }
            None => false,
        }
    }

    /// An array index as RFC 6901 (section 4) has it: no sign, no leading zero.
    pub fn index(token: &str) -> Option<usize> {
        let canonical = token == "0" || token.starts_with(|first: char| ('1'..='9').contains(&first));
        if canonical { token.parse().ok() } else { None }
    }

    fn place<'a>(tokens: &[String], value: &'a mut Value) -> Option<&'a mut Value> {
        let Some((token, rest)) = tokens.split_first() else { return Some(value) };
        if !Self::passable(tokens, value) {
            return None;
        }
        if value.is_null() {
            *value = Value::Object(serde_json::Map::new());
        }
        let next = match value {
            Value::Object(members) => members.entry(token.as_str()).or_insert(Value::Null),
            Value::Array(elements) => {
                if token == "-" {
                    elements.push(Value::Null);
                }
                let last = elements.len().checked_sub(1)?;
                elements.get_mut(if token == "-" { last } else { Self::index(token)? })?
            }
            _ => return None,
        };
        Self::place(rest, next)
    }

    /// Whether a value can be put there, looked at before anything is changed.
    fn passable(tokens: &[String], value: &Value) -> bool {
        let Some((token, rest)) = tokens.split_first() else { return true };
        match value {
            Value::Null => true,
            Value::Object(members) => members.get(token).is_none_or(|next| Self::passable(rest, next)),
            Value::Array(_) if token == "-" => true,
            Value::Array(elements) => Self::index(token)
                .and_then(|index| elements.get(index))
                .is_some_and(|next| Self::passable(rest, next)),
            _ => false,
        }
    }
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        let Some(rest) = text.strip_prefix('/') else {
            return if text.is_empty() {
                Ok(Self { tokens: Vec::new() })
            } else {
                Err(PointerError::Start(text.into()))
            };
        };
        let unescape = |token: &str| {
            let well_formed = token.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
            well_formed.then(|| token.replace("~1", "/").replace("~0", "~"))
        };
        let tokens = rest.split('/').map(unescape).collect::<Option<_>>();
        tokens.map(|tokens| Self { tokens }).ok_or_else(|| PointerError::Escape(text.into()))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tokens.iter().try_for_each(|token| write!(f, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

impl<'de> Deserialize<'de> for Pointer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointer(text: &str) -> Pointer {
        text.parse().unwrap()
    }

    #[test]
    fn the_examples_of_rfc_6901_resolve() {
        let document = json!({
            "foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8
        });
        for (text, expected) in [
            ("", document.clone()),
            ("/foo", json!(["bar", "baz"])),
            ("/foo/0", json!("bar")),
            ("/", json!(0)),
            ("/a~1b", json!(1)),
            ("/c%d", json!(2)),
            ("/e^f", json!(3)),
            ("/g|h", json!(4)),
            ("/i\\j", json!(5)),
            ("/k\"l", json!(6)),
            ("/ ", json!(7)),
            ("/m~0n", json!(8)),
        ] {
            assert_eq!(pointer(text).get(&document), Some(&expected), "{text}");
            assert_eq!(pointer(text).to_string(), text);
        }
        for text in ["/foo/2", "/foo/00", "/foo/+1", "/foo/-", "/none", "/a~1b/c"] {
            assert_eq!(pointer(text).get(&document), None, "{text}");
        }
        assert_eq!(pointer("/~01").tokens(), ["~1"]);
    }

    #[test]
    fn what_is_no_pointer_is_told_how_to_become_one() {
        let error = |text: &str| text.parse::<Pointer>().unwrap_err().to_string();
        assert_eq!(error("email"), "\"email\" is no JSON pointer: it must start with /, as in \"/email\"");
        assert_eq!(
            error("/a~2"),
            "\"/a~2\" is no JSON pointer: ~ is written ~0 in a name, and / is written ~1"
        );
        assert_eq!(
            error("/a~"),
            "\"/a~\" is no JSON pointer: ~ is written ~0 in a name, and / is written ~1"
        );
    }

    #[test]
    fn setting_makes_objects_on_the_way_and_stops_where_something_is_in_it() {
        let mut document = json!({"list": [{"a": 1}], "text": "x", "none": null});
        assert!(pointer("/new/deep").set(&mut document, json!(1)));
        assert!(pointer("/list/0/a").set(&mut document, json!(2)));
        assert!(pointer("/list/-").set(&mut document, json!(3)));
        assert!(pointer("/none/b").set(&mut document, json!(4)));
        let before = json!({"list": [{"a": 2}, 3], "text": "x", "none": {"b": 4}, "new": {"deep": 1}});
        assert_eq!(document, before);
        for text in ["/text/a", "/list/7", "/list/x"] {
            assert!(!pointer(text).set(&mut document, json!(0)), "{text}");
        }
        assert_eq!(document, before);
        assert!(pointer("").set(&mut document, json!(1)));
        assert_eq!(document, json!(1));
    }
}
