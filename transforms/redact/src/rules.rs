//! The pointers as one tree, so that a payload is walked once and every pointer means the payload as it came.

use hookmill_transform::Pointer;
use hookmill_transform::serde_json::Value;

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

    /// Whether anything changed.
    pub(crate) fn apply(&self, document: &mut Value, mask: &Mask) -> bool {
        apply_below(&[self], document, mask)
    }
}

fn apply_below(here: &[&Rules], value: &mut Value, mask: &Mask) -> bool {
    let mut changed = false;
    match value {
        // `retain` and not `remove`, which would move the last member into the gap.
        Value::Object(members) => members.retain(|name, child| {
            let rules = matching(here, |token| token == name);
            apply_to(&rules, child, mask, &mut changed)
        }),
        Value::Array(elements) => {
            let mut index = 0;
            elements.retain_mut(|child| {
                let rules = matching(here, |token| Pointer::index(token) == Some(index));
                index += 1;
                apply_to(&rules, child, mask, &mut changed)
            });
        }
        _ => {}
    }
    changed
}

fn matching<'a>(here: &[&'a Rules], is_token: impl Fn(&str) -> bool) -> Vec<&'a Rules> {
    let below = here.iter().flat_map(|rules| &rules.below);
    below.filter(|(token, _)| token == "*" || is_token(token)).map(|(_, rules)| rules).collect()
}

/// Whether the value stays.
fn apply_to(rules: &[&Rules], value: &mut Value, mask: &Mask, changed: &mut bool) -> bool {
    match rules.iter().filter_map(|rules| rules.action).max() {
        Some(Action::Remove) => {
            *changed = true;
            return false;
        }
        Some(Action::Mask) => *changed |= cover(value, mask),
        None if rules.is_empty() => {}
        None => *changed |= apply_below(rules, value, mask),
    }
    true
}

fn cover(value: &mut Value, mask: &Mask) -> bool {
    let tail = match value {
        Value::Null => return false,
        Value::String(text) => tail(text, mask.keep_last),
        Value::Number(number) => tail(&number.to_string(), mask.keep_last),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    };
    let covered = Value::String(format!("{}{tail}", mask.text));
    let changed = *value != covered;
    *value = covered;
    changed
}

/// The last characters, if more than as many again stay hidden.
fn tail(text: &str, keep_last: usize) -> String {
    let length = text.chars().count();
    if length <= keep_last.saturating_mul(2) {
        return String::new();
    }
    text.chars().skip(length - keep_last).collect()
}
