//! Schemas that strangers wrote: what a module says about its settings. Compiling one and asking it takes a bounded
//! time and amount of memory, whatever it says.
//!
//! References are what would make that unbounded: one that leads back to itself has no end, and a chain of definitions
//! that each name the next one twice doubles with every link. So they may only lead to a place in the schema itself,
//! in no circle, and what they stand for is counted as often as it is named.

use std::collections::HashMap;

use serde_json::Value;

/// Most values in the schema once every reference is replaced by what it leads to.
const VALUES_MAX: usize = 20_000;

/// Most references that lead on from one to the next, and most levels of nesting.
const DEPTH_MAX: usize = 128;

/// Most regular expressions.
const PATTERNS_MAX: usize = 64;

/// Largest compiled regular expression, in bytes.
pub(super) const PATTERN_BYTES_MAX: usize = 256 << 10;

/// What is wrong and where: a JSON pointer into the schema.
pub(super) type Wrong = (String, String);

/// Nothing if the schema keeps to the rules.
pub(super) fn check(schema: &Value) -> Result<(), Wrong> {
    let mut count = Count { root: schema, sizes: HashMap::new(), patterns: 0 };
    let values = count.values(schema, "", 0)?;
    if values > VALUES_MAX {
        let said = format!("with its references followed it has {values} values, the most is {VALUES_MAX}");
        return Err((String::new(), said));
    }
    Ok(())
}

struct Count<'a> {
    root: &'a Value,
    /// Values at the end of a reference; `None` while they are being counted.
    sizes: HashMap<&'a str, Option<usize>>,
    patterns: usize,
}

impl<'a> Count<'a> {
    fn values(&mut self, value: &'a Value, at: &str, depth: usize) -> Result<usize, Wrong> {
        if depth > DEPTH_MAX {
            return Err((at.to_owned(), format!("it is nested more than {DEPTH_MAX} levels deep")));
        }
        match value {
            Value::Object(members) => {
                let mut sum = 1_usize;
                for (key, member) in members {
                    let here = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                    let more = match (key.as_str(), member) {
                        ("$ref", Value::String(target)) => self.referred(target, &here, depth)?,
                        (keyword, Value::String(_)) if forbidden(keyword, at) => {
                            return Err((here, format!("{keyword} is not allowed in a settings schema")));
                        }
                        _ => self.values(member, &here, depth + 1)?,
                    };
                    self.count_patterns(key, member, &here)?;
                    sum = sum.saturating_add(more);
                }
                Ok(sum)
            }
            Value::Array(items) => {
                let mut sum = 1_usize;
                for (index, item) in items.iter().enumerate() {
                    sum = sum.saturating_add(self.values(item, &format!("{at}/{index}"), depth + 1)?);
                }
                Ok(sum)
            }
            _ => Ok(1),
        }
    }

    fn referred(&mut self, target: &'a str, at: &str, depth: usize) -> Result<usize, Wrong> {
        let wrong = |said: &str| Err((at.to_owned(), said.to_owned()));
        let Some(pointer) = target.strip_prefix('#') else {
            return wrong("a settings schema can only refer to itself, as in \"#/$defs/name\"");
        };
        match self.sizes.get(target) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => return wrong("it leads back to itself; a settings schema can't be recursive"),
            None => {}
        }
        let Some(found) = self.root.pointer(pointer) else {
            return wrong("nothing is there");
        };
        self.sizes.insert(target, None);
        let size = self.values(found, pointer, depth + 1)?;
        self.sizes.insert(target, Some(size));
        Ok(size)
    }

    fn count_patterns(&mut self, key: &str, member: &Value, at: &str) -> Result<(), Wrong> {
        self.patterns += match (key, member) {
            ("pattern", Value::String(_)) => 1,
            ("patternProperties", Value::Object(patterns)) => patterns.len(),
            _ => 0,
        };
        if self.patterns > PATTERNS_MAX {
            return Err((at.to_owned(), format!("it has more than {PATTERNS_MAX} regular expressions")));
        }
        Ok(())
    }
}

/// Keywords by which a reference could mean something else than it seems to. `$id` is fine at the root.
fn forbidden(keyword: &str, at: &str) -> bool {
    let always = ["$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$anchor"];
    always.contains(&keyword) || (keyword == "$id" && !at.is_empty())
}
