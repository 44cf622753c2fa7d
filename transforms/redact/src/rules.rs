//! The pointers as one tree, so that a payload is walked once and every pointer means the payload as it came.

use std::borrow::Cow;
use std::fmt;

use hookmill_transform::Pointer;
use hookmill_transform::serde_json::value::RawValue;
use hookmill_transform::serde_json::{self, Error};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// What happens to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Mask,
    Remove,
}

/// What covers a value.
#[derive(Debug)]
pub(crate) struct Mask {
    pub(crate) text: String,
    pub(crate) keep_last: usize,
}

/// A place in the payload: what happens to it, and what happens below it. The token `*` matches every name and index.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    action: Option<Action>,
    below: Vec<(String, Rules)>,
}

impl Rules {
    pub(crate) fn add(&mut self, tokens: &[String], action: Action) {
        let Some((token, rest)) = tokens.split_first() else {
            self.action = self.action.max(Some(action));
            return;
        };
        let index = self.below.iter().position(|(known, _)| known == token).unwrap_or_else(|| {
            self.below.push((token.clone(), Self::default()));
            self.below.len() - 1
        });
        self.below[index].1.add(rest, action);
    }

    /// The JSON text with the rules applied, all else as it came; none if nothing changed.
    pub(crate) fn apply(&self, json: &RawValue, mask: &Mask) -> Result<Option<String>, Error> {
        let mut out = String::with_capacity(json.get().len() + mask.text.len());
        let changed = write_below(&[self], json, mask, &mut out)?;
        Ok(changed.then_some(out))
    }
}

/// Writes a value below which rules apply. Whether anything changed.
fn write_below(here: &[&Rules], json: &RawValue, mask: &Mask, out: &mut String) -> Result<bool, Error> {
    if !json.get().starts_with(['{', '[']) {
        out.push_str(json.get());
        return Ok(false);
    }
    let mut deserializer = serde_json::Deserializer::from_str(json.get());
    Below { here, mask, out }.deserialize(&mut deserializer)
}

/// Goes through the members or the elements of one value, once; what no rule touches is copied as it came.
struct Below<'w> {
    here: &'w [&'w Rules],
    mask: &'w Mask,
    out: &'w mut String,
}

/// A member's name; borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for Below<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Below<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        let (mut changed, mut written) = (false, 0);
        self.out.push('{');
        while let Some((Name(name), value)) = members.next_entry::<Name<'de>, &RawValue>()? {
            let rules = matching(self.here, |token| token == name);
            let before = self.out.len();
            if written > 0 {
                self.out.push(',');
            }
            match &name {
                Cow::Borrowed(name) => self.out.extend(["\"", name, "\":"]),
                Cow::Owned(name) => {
                    self.out.push_str(&serde_json::to_string(name).map_err(A::Error::custom)?);
                    self.out.push(':');
                }
            }
            if write_one(&rules, value, self.mask, self.out, &mut changed).map_err(A::Error::custom)? {
                written += 1;
            } else {
                self.out.truncate(before);
            }
        }
        self.out.push('}');
        Ok(changed)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<bool, A::Error> {
        let (mut changed, mut written, mut index) = (false, 0, 0);
        self.out.push('[');
        while let Some(value) = elements.next_element::<&RawValue>()? {
            let rules = matching(self.here, |token| Pointer::index(token) == Some(index));
            index += 1;
            let before = self.out.len();
            if written > 0 {
                self.out.push(',');
            }
            if write_one(&rules, value, self.mask, self.out, &mut changed).map_err(A::Error::custom)? {
                written += 1;
            } else {
                self.out.truncate(before);
            }
        }
        self.out.push(']');
        Ok(changed)
    }
}

fn matching<'a>(here: &[&'a Rules], is_token: impl Fn(&str) -> bool) -> Vec<&'a Rules> {
    let below = here.iter().flat_map(|rules| &rules.below);
    below.filter(|(token, _)| token == "*" || is_token(token)).map(|(_, rules)| rules).collect()
}

/// Writes one value by the rules that meet it. Whether it stays.
fn write_one(
    rules: &[&Rules],
    value: &RawValue,
    mask: &Mask,
    out: &mut String,
    changed: &mut bool,
) -> Result<bool, Error> {
    match rules.iter().filter_map(|rules| rules.action).max() {
        Some(Action::Remove) => {
            *changed = true;
            return Ok(false);
        }
        Some(Action::Mask) => match covered(value.get(), mask)? {
            Some(covered) => {
                *changed = true;
                out.push_str(&covered);
            }
            None => out.push_str(value.get()),
        },
        None if rules.is_empty() => out.push_str(value.get()),
        None => *changed |= write_below(rules, value, mask, out)?,
    }
    Ok(true)
}

/// What covers a value, as JSON; none where it is covered already, or null.
fn covered(json: &str, mask: &Mask) -> Result<Option<String>, Error> {
    let tail = match json.as_bytes().first() {
        Some(b'n') => return Ok(None),
        // A text that is no text (half a surrogate pair) is covered whole.
        Some(b'"') => serde_json::from_str(json)
            .map_or_else(|_| String::new(), |text: String| tail(&text, mask.keep_last)),
        Some(b'-' | b'0'..=b'9') => tail(json, mask.keep_last),
        _ => String::new(),
    };
    let covered = serde_json::to_string(&format!("{}{tail}", mask.text))?;
    Ok((covered != json).then_some(covered))
}

/// The last characters, if more than as many again stay hidden.
fn tail(text: &str, keep_last: usize) -> String {
    let length = text.chars().count();
    if length <= keep_last.saturating_mul(2) {
        return String::new();
    }
    text.chars().skip(length - keep_last).collect()
}
