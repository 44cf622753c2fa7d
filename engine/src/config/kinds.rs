//! Kinds of values that several settings share: numbers, durations, sizes, words, lists.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::report::Code;
use super::setting::{Context, Found, Kind};
use crate::lane::Rate;
use crate::model::{Name, TypePatterns, size};

/// Any text that isn't empty.
pub(super) struct Text;

impl Kind for Text {
    type Value = String;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<String> {
        let text = context.text(found, self.describe())?;
        if text.is_empty() {
            context.wrong(Code::OutOfRange, &found.span(), "is empty", self.describe());
            return None;
        }
        Some(text.to_owned())
    }

    fn describe(&self) -> String {
        "a string that is not empty".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// A name of a pipeline or a subscription.
pub(super) struct NameKind;

impl Kind for NameKind {
    type Value = Name;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Name> {
        let text = context.text(found, self.describe())?;
        let name = Name::new(text).ok();
        if name.is_none() {
            context.wrong(Code::BadName, &found.span(), format!("is {}", quoted(text)), self.describe());
        }
        name
    }

    fn describe(&self) -> String {
        "a name: 1 to 48 of a-z, 0-9 and -, neither starting nor ending with -".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$" })
    }
}

/// A duration with units.
pub(super) struct Time {
    pub(super) min: Duration,
    pub(super) max: Duration,
}

impl Kind for Time {
    type Value = Duration;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Duration> {
        let text = context.text(found, self.describe())?;
        let time = humantime::parse_duration(text).ok();
        let time = time.filter(|time| (self.min..=self.max).contains(time));
        if time.is_none() {
            context.wrong(Code::BadDuration, &found.span(), format!("is {}", quoted(text)), self.describe());
        }
        time
    }

    fn describe(&self) -> String {
        let text = |time| humantime::format_duration(time);
        format!("a duration from {} to {}, such as \"15s\"", text(self.min), text(self.max))
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": r"^(0|\s*[0-9][0-9a-zA-Zµ.\s]*[a-zA-Zµ]\s*)$" })
    }
}

/// Yes or no.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<bool> {
        let flag = found.get_ref().as_bool();
        if flag.is_none() {
            context.wrong_type(found, "true or false", self.describe());
        }
        flag
    }

    fn describe(&self) -> String {
        "true or false".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "boolean" })
    }
}

/// A number of bytes with its unit.
pub(super) struct Size {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Kind for Size {
    type Value = u64;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<u64> {
        let text = context.text(found, self.describe())?;
        let bytes = size::parse(text).filter(|bytes| (self.min..=self.max).contains(bytes));
        if bytes.is_none() {
            context.wrong(Code::BadSize, &found.span(), format!("is {}", quoted(text)), self.describe());
        }
        bytes
    }

    fn describe(&self) -> String {
        let (min, max) = (size::text(self.min), size::text(self.max));
        format!("a size from {min} to {max} in B, KiB, MiB or GiB, such as \"64MiB\"")
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" })
    }
}

/// So many in a time.
pub(super) struct Speed;

impl Kind for Speed {
    /// The time that one takes up, and how many come in a second, at least one.
    type Value = Rate;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Rate> {
        let text = context.text(found, self.describe())?;
        let rate = speed(text);
        if rate.is_none() {
            context.wrong(Code::OutOfRange, &found.span(), format!("is {}", quoted(text)), self.describe());
        }
        rate
    }

    fn describe(&self) -> String {
        "a number from 1 to 100000 and a time: \"100/s\", \"30/m\" or \"500/h\"".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[+]?[0-9]+/(s|m|h)$" })
    }
}

/// `100/s`: one takes 10 ms, a burst is what comes in a second.
pub fn speed(text: &str) -> Option<Rate> {
    let (count, unit) = text.split_once('/')?;
    let count: u32 = count.parse().ok().filter(|count| (1..=100_000).contains(count))?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    Some(Rate {
        every: Duration::from_secs(seconds) / count,
        burst: (count / u32::try_from(seconds).ok()?).max(1),
    })
}

/// A whole number.
pub(super) struct Whole {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Kind for Whole {
    type Value = u64;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<u64> {
        let Some(integer) = found.get_ref().as_integer() else {
            context.wrong_type(found, "an integer", self.describe());
            return None;
        };
        let number = i128::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| (self.min..=self.max).contains(number));
        if number.is_none() {
            context.wrong(Code::OutOfRange, &found.span(), format!("is {integer}"), self.describe());
        }
        number
    }

    fn describe(&self) -> String {
        format!("a whole number from {} to {}", self.min, self.max)
    }

    fn schema(&self) -> Json {
        json!({ "type": "integer", "minimum": self.min, "maximum": self.max })
    }
}

/// A number, whole or not.
pub(super) struct Number {
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Kind for Number {
    type Value = f64;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<f64> {
        let text = match (found.get_ref().as_float(), found.get_ref().as_integer()) {
            (Some(float), _) => float.as_str().to_owned(),
            (_, Some(integer)) if integer.radix() == 10 => integer.as_str().to_owned(),
            _ => {
                context.wrong_type(found, "a number", self.describe());
                return None;
            }
        };
        let number = text.parse::<f64>().ok().filter(|number| (self.min..=self.max).contains(number));
        if number.is_none() {
            context.wrong(Code::OutOfRange, &found.span(), format!("is {text}"), self.describe());
        }
        number
    }

    fn describe(&self) -> String {
        format!("a number from {} to {}", self.min, self.max)
    }

    fn schema(&self) -> Json {
        json!({ "type": "number", "minimum": self.min, "maximum": self.max })
    }
}

/// One of a few words.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + Sync> Kind for Choice<T> {
    type Value = T;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<T> {
        let text = context.text(found, self.describe())?;
        let chosen = self.0.iter().find(|(word, _)| *word == text);
        if chosen.is_none() {
            context.wrong(Code::NotAChoice, &found.span(), format!("is {}", quoted(text)), self.describe());
        }
        chosen.map(|(_, value)| *value)
    }

    fn describe(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        match words.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    fn schema(&self) -> Json {
        let words: Vec<&str> = self.0.iter().map(|(word, _)| *word).collect();
        json!({ "enum": words })
    }
}

/// A list; every item that is wrong is reported.
pub(super) struct List<K> {
    pub(super) item: K,
    pub(super) max: usize,
}

impl<K: Kind> Kind for List<K> {
    type Value = Vec<K::Value>;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Self::Value> {
        let Some(list) = found.get_ref().as_array() else {
            context.wrong_type(found, "a list", self.describe());
            return None;
        };
        if list.len() > self.max {
            context.wrong(
                Code::OutOfRange,
                &found.span(),
                format!("has {} items", list.len()),
                self.describe(),
            );
            return None;
        }
        // Collected before the check, so that one bad item doesn't hide the next.
        let items: Vec<_> = list.iter().map(|item| self.item.read(context, item)).collect();
        items.into_iter().collect()
    }

    fn describe(&self) -> String {
        format!("a list of at most {}, each {}", self.max, self.item.describe())
    }

    fn schema(&self) -> Json {
        json!({ "type": "array", "maxItems": self.max, "items": self.item.schema() })
    }
}

/// One pattern over event types.
struct TypePattern;

impl Kind for TypePattern {
    type Value = String;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<String> {
        let text = context.text(found, self.describe())?;
        if let Err(error) = TypePatterns::new(&[text]) {
            context.wrong(
                Code::BadTypePattern,
                &found.span(),
                format!("can't be used: {error}"),
                self.describe(),
            );
            return None;
        }
        Some(text.to_owned())
    }

    fn describe(&self) -> String {
        "an event type, exact or a prefix that ends in *".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[^*]*[*]?$", "minLength": 1 })
    }
}

/// Patterns over event types.
pub(super) struct Types;

const TYPES: List<TypePattern> = List { item: TypePattern, max: 1000 };

impl Kind for Types {
    type Value = TypePatterns;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<TypePatterns> {
        TypePatterns::new(&TYPES.read(context, found)?).ok()
    }

    fn describe(&self) -> String {
        TYPES.describe()
    }

    fn schema(&self) -> Json {
        TYPES.schema()
    }
}

/// A path, from the folder of the file that names it.
pub(super) struct FilePath;

impl Kind for FilePath {
    type Value = PathBuf;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<PathBuf> {
        Text.read(context, found).map(|text| context.file.folder.join(text))
    }

    fn describe(&self) -> String {
        "a path, from the folder of this file".to_owned()
    }

    fn schema(&self) -> Json {
        Text.schema()
    }
}

/// An address to listen on.
pub(super) struct Listen;

impl Kind for Listen {
    type Value = SocketAddr;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<SocketAddr> {
        let text = context.text(found, self.describe())?;
        let address = text.parse().ok();
        if address.is_none() {
            context.wrong(Code::BadAddress, &found.span(), format!("is {}", quoted(text)), self.describe());
        }
        address
    }

    fn describe(&self) -> String {
        "an IP address and a port, such as \"127.0.0.1:8470\"".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": ":[0-9]+$" })
    }
}

/// A text of a file, quoted and cut to what is good to read.
pub(super) fn quoted(text: &str) -> String {
    const LETTERS_MAX: usize = 60;
    let mut letters = text.chars();
    let start: String = letters.by_ref().take(LETTERS_MAX).collect();
    if letters.next().is_some() { format!("{start:?}…") } else { format!("{start:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_where_they_are_shown() {
        assert_eq!(quoted("a\"b"), r#""a\"b""#);
        assert_eq!(quoted(&"ä".repeat(61)).chars().count(), 63);
    }
}
