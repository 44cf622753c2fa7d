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
    Below { here, mask, out, changed: false }.deserialize(&mut deserializer)
}

/// Goes through the members or the elements of one value, once; what no rule touches is copied as it came.
struct Below<'w> {
    here: &'w [&'w Rules],
    mask: &'w Mask,
    out: &'w mut String,
    changed: bool,
}

/// A member's name; borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl Below<'_> {
    /// Writes the next member, or the next element (which has no name), by the rules that meet it.
    fn write_next(
        &mut self,
        name: Option<&Cow<'_, str>>,
        rules: &[&Rules],
        value: &RawValue,
    ) -> Result<(), Error> {
        let action = rules.iter().filter_map(|rules| rules.action).max();
        if action == Some(Action::Remove) {
            self.changed = true;
            return Ok(());
        }
        // No value that was written ends like this.
        if !self.out.ends_with(['{', '[']) {
            self.out.push(',');
        }
        match name {
            Some(Cow::Borrowed(name)) => self.out.extend(["\"", name, "\":"]),
            Some(Cow::Owned(name)) => self.out.extend([&serde_json::to_string(name)?, ":"]),
            None => {}
        }
        if action == Some(Action::Mask) {
            let covered = covered(value.get(), self.mask)?;
            self.changed |= covered.is_some();
            self.out.push_str(covered.as_deref().unwrap_or(value.get()));
        } else if rules.is_empty() {
            self.out.push_str(value.get());
        } else {
            self.changed |= write_below(rules, value, self.mask, self.out)?;
        }
        Ok(())
    }
}

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

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<bool, A::Error> {
        self.out.push('{');
        while let Some((Name(name), value)) = members.next_entry::<Name<'de>, &RawValue>()? {
            let rules = matching(self.here, |token| token == name);
            self.write_next(Some(&name), &rules, value).map_err(A::Error::custom)?;
        }
        self.out.push('}');
        Ok(self.changed)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<bool, A::Error> {
        self.out.push('[');
        let mut index = 0;
        while let Some(value) = elements.next_element::<&RawValue>()? {
            let rules = matching(self.here, |token| Pointer::index(token) == Some(index));
            self.write_next(None, &rules, value).map_err(A::Error::custom)?;
            index += 1;
        }
        self.out.push(']');
        Ok(self.changed)
    }
}

fn matching<'a>(here: &[&'a Rules], is_token: impl Fn(&str) -> bool) -> Vec<&'a Rules> {
    let below = here.iter().flat_map(|rules| &rules.below);
    below.filter(|(token, _)| token == "*" || is_token(token)).map(|(_, rules)| rules).collect()
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
