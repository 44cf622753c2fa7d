//! Patterns over event types.

use std::fmt;

/// Which event types are meant: exact ones, or prefixes that end in `*`. None at all, or `*`, means every type.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TypePatterns(Vec<Pattern>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

/// Why a text is no pattern.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TypePatternError {
    /// Attributes of events are never empty.
    #[error("a type pattern is empty")]
    Empty,
    /// A `*` before the end.
    #[error("{0:?} has a * before its end")]
    StarInside(String),
}

impl TypePatterns {
    /// Every type.
    pub fn all() -> Self {
        Self::default()
    }

    /// Reads the patterns. A `*` may only stand at the end.
    pub fn new<T: AsRef<str>>(patterns: &[T]) -> Result<Self, TypePatternError> {
        patterns.iter().map(|pattern| Pattern::new(pattern.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `ty` is one of those meant. Case counts, as everywhere in `CloudEvents` types.
    pub fn matches(&self, ty: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.matches(ty))
    }

    /// Whether every type that `other` means is one of those meant here.
    pub fn include(&self, other: &Self) -> bool {
        let all =
            |patterns: &[Pattern]| patterns.is_empty() || patterns.contains(&Pattern::Prefix(String::new()));
        let covered = |one: &Pattern| match one {
            Pattern::Exact(text) => self.matches(text),
            Pattern::Prefix(start) => {
                let wider =
                    |own: &Pattern| matches!(own, Pattern::Prefix(own) if start.starts_with(own.as_str()));
                self.0.iter().any(wider)
            }
        };
        all(&self.0) || (!all(&other.0) && other.0.iter().all(covered))
    }

    /// Whether there is a type that is meant here and there.
    pub fn meet(&self, other: &Self) -> bool {
        self.0.is_empty()
            || other.0.is_empty()
            || self.0.iter().any(|one| other.0.iter().any(|two| one.meets(two)))
    }
}

impl Pattern {
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(text), pattern) | (pattern, Self::Exact(text)) => pattern.matches(text),
            (Self::Prefix(one), Self::Prefix(two)) => one.starts_with(two) || two.starts_with(one),
        }
    }

    fn new(text: &str) -> Result<Self, TypePatternError> {
        let (rest, prefix) = text.strip_suffix('*').map_or((text, false), |rest| (rest, true));
        if rest.contains('*') {
            Err(TypePatternError::StarInside(text.to_owned()))
        } else if prefix {
            Ok(Self::Prefix(rest.to_owned()))
        } else if rest.is_empty() {
            Err(TypePatternError::Empty)
        } else {
            Ok(Self::Exact(rest.to_owned()))
        }
    }

    fn matches(&self, ty: &str) -> bool {
        match self {
            Self::Exact(text) => ty == text,
            Self::Prefix(start) => ty.starts_with(start.as_str()),
        }
    }
}

impl fmt::Display for TypePatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("*");
        }
        for (place, pattern) in self.0.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            match pattern {
                Pattern::Exact(text) => write!(f, "{comma}{text}")?,
                Pattern::Prefix(start) => write!(f, "{comma}{start}*")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_exact_or_a_prefix() {
        let cases: &[(&[&str], &str, bool)] = &[
            (&[], "anything", true),
            (&["*"], "anything", true),
            (&["com.shop.order.created"], "com.shop.order.created", true),
            (&["com.shop.order.created"], "com.shop.order.created2", false),
            (&["com.shop.order.*"], "com.shop.order.created", true),
            (&["com.shop.order.*"], "com.shop.order.", true),
            (&["com.shop.order.*"], "com.shop.order", false),
            (&["a", "b*"], "bc", true),
            (&["A"], "a", false),
        ];
        for (patterns, ty, expected) in cases {
            assert_eq!(TypePatterns::new(patterns).unwrap().matches(ty), *expected, "{patterns:?} {ty}");
        }
    }

    #[test]
    fn patterns_include_one_another_or_meet() {
        let cases: &[(&[&str], &[&str], bool, bool)] = &[
            (&[], &["a"], true, true),
            (&["*"], &[], true, true),
            (&["a"], &[], false, true),
            (&["a.*"], &["a.b"], true, true),
            (&["a.b"], &["a.*"], false, true),
            (&["a.*", "b"], &["a.b.*", "b"], true, true),
            (&["a.*"], &["a.b", "c"], false, true),
            (&["a.*"], &["b.*"], false, false),
            (&["a"], &["b"], false, false),
        ];
        for (one, two, includes, meets) in cases {
            let (left, right) = (TypePatterns::new(one).unwrap(), TypePatterns::new(two).unwrap());
            assert_eq!(
                (left.include(&right), left.meet(&right), right.meet(&left)),
                (*includes, *meets, *meets),
                "{one:?} {two:?}"
            );
        }
    }

    #[test]
    fn a_star_inside_and_an_empty_pattern_are_refused() {
        assert_eq!(TypePatterns::new(&["a.*.c"]), Err(TypePatternError::StarInside("a.*.c".to_owned())));
        assert_eq!(TypePatterns::new(&["a**"]), Err(TypePatternError::StarInside("a**".to_owned())));
        assert_eq!(TypePatterns::new(&[""]), Err(TypePatternError::Empty));
        assert_eq!(TypePatterns::new(&["a", "b.*"]).unwrap().to_string(), "a, b.*");
    }
}
