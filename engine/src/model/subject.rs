//! NATS subjects: patterns that a source takes, and templates that a publish fills in.

use std::collections::HashSet;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Event;

/// Longest subject or template, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 256;

/// Everything outside `[A-Za-z0-9_-]`; dots are decided one by one.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// Why a text is no subject.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SubjectError {
    /// Nothing at all, or nothing between two dots.
    #[error("it has an empty token")]
    Empty,
    /// Blanks and control characters break the NATS protocol.
    #[error("it has a blank or a control character")]
    Blank,
    /// More than [`SUBJECT_BYTES_MAX`].
    #[error("it is longer than {SUBJECT_BYTES_MAX} bytes")]
    Long,
    /// `*` beside other characters, or `>` anywhere but alone at the end.
    #[error("* stands for one whole token, and > for all that follow, at the end")]
    Wildcard,
    /// A publish goes to one subject.
    #[error("it has a wildcard, and a publish goes to one subject")]
    WildcardInPublish,
    /// `$SYS`, `$JS` and their like belong to the server.
    #[error("subjects that start with $ belong to the server")]
    Reserved,
    /// A brace without its partner.
    #[error("it has a brace without its partner")]
    Brace,
    /// `{…}` names no attribute.
    #[error("{{{0}}} is no attribute of an event")]
    Attribute(String),
}

/// Checks a subject as a source takes it: tokens between dots, `*` for one token, `>` for the rest.
pub fn check_pattern(subject: &str) -> Result<(), SubjectError> {
    check_text(subject)?;
    let tokens: Vec<&str> = subject.split('.').collect();
    for (place, token) in tokens.iter().enumerate() {
        let last = place + 1 == tokens.len();
        let fine = match *token {
            "*" => true,
            ">" => last,
            other => !other.contains(['*', '>']),
        };
        if !fine {
            return Err(SubjectError::Wildcard);
        }
    }
    Ok(())
}

/// Whether a pattern takes a subject.
pub fn takes(pattern: &str, subject: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), found.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

/// Whether there is a subject that both patterns take.
pub fn overlap(one: &str, two: &str) -> bool {
    meet(&steps_of(one), &steps_of(two))
}

/// A pattern as a text with gaps.
fn steps_of(pattern: &str) -> Vec<Step> {
    let tokens = pattern.split('.').enumerate().flat_map(|(place, token)| {
        let dot = (place > 0).then_some(Step::Char('.'));
        let inner = match token {
            "*" => vec![Step::AnyInToken, Step::More(true)],
            ">" => vec![Step::Any, Step::More(false)],
            other => other.chars().map(Step::Char).collect(),
        };
        dot.into_iter().chain(inner)
    });
    tokens.collect()
}

fn check_text(subject: &str) -> Result<(), SubjectError> {
    if subject.len() > SUBJECT_BYTES_MAX {
        return Err(SubjectError::Long);
    }
    if subject.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(SubjectError::Blank);
    }
    if subject.split('.').any(str::is_empty) { Err(SubjectError::Empty) } else { Ok(()) }
}

/// An attribute that a template may name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each is the attribute of its name")]
pub enum Attribute {
    Id,
    Source,
    Type,
    Subject,
    Time,
    DataContentType,
    DataSchema,
}

impl Attribute {
    /// Every attribute by its name.
    pub const ALL: [(&'static str, Self); 7] = [
        ("id", Self::Id),
        ("source", Self::Source),
        ("type", Self::Type),
        ("subject", Self::Subject),
        ("time", Self::Time),
        ("datacontenttype", Self::DataContentType),
        ("dataschema", Self::DataSchema),
    ];

    fn of(self, event: &Event) -> Option<&str> {
        match self {
            Self::Id => Some(&event.id),
            Self::Source => Some(&event.source),
            Self::Type => Some(&event.ty),
            Self::Subject => event.subject.as_deref(),
            Self::Time => event.time.as_deref(),
            Self::DataContentType => event.datacontenttype.as_deref(),
            Self::DataSchema => event.dataschema.as_deref(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Attribute(Attribute),
}

/// A subject to publish to, with attributes of the event filled in: `analytics.{type}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubjectTemplate {
    text: String,
    parts: Vec<Part>,
}

impl SubjectTemplate {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, SubjectError> {
        check_text(text)?;
        if text.contains(['*', '>']) {
            return Err(SubjectError::WildcardInPublish);
        }
        if text.starts_with('$') {
            return Err(SubjectError::Reserved);
        }
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, inside)) = rest.split_once('{') {
            let (name, after) = inside.split_once('}').ok_or(SubjectError::Brace)?;
            let known = Attribute::ALL.iter().find(|(known, _)| *known == name);
            let (_, attribute) = known.ok_or_else(|| SubjectError::Attribute(name.to_owned()))?;
            parts.extend([Part::Text(before.to_owned()), Part::Attribute(*attribute)]);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        let stray = |part: &Part| matches!(part, Part::Text(text) if text.contains('}'));
        if parts.iter().any(stray) {
            return Err(SubjectError::Brace);
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The subject for this event. Values are percent-encoded outside `[A-Za-z0-9_.-]`, and so is a dot that would
    /// leave an empty token; an attribute that the event doesn't have becomes `_`.
    pub fn render(&self, event: &Event) -> String {
        let mut subject = String::with_capacity(self.text.len() + 32);
        for part in &self.parts {
            match part {
                Part::Text(text) => subject.push_str(text),
                Part::Attribute(attribute) => encode(attribute.of(event).unwrap_or("_"), &mut subject),
            }
        }
        subject
    }

    /// Whether any event at all can make this a subject that `pattern` takes.
    pub fn can_match(&self, pattern: &str) -> bool {
        if !self.begins_like(pattern) {
            return false;
        }
        let mine = self.parts.iter().flat_map(|part| match part {
            Part::Text(text) => text.chars().map(Step::Char).collect(),
            Part::Attribute(_) => vec![Step::Any, Step::More(false)],
        });
        meet(&mine.collect::<Vec<_>>(), &steps_of(pattern))
    }

    /// Whether every event makes this a subject that `pattern` takes. No where that is not sure: an attribute stands for one
    /// token or more.
    pub fn always_matches(&self, pattern: &str) -> bool {
        if !self.begins_like(pattern) {
            return false;
        }
        let mine: Vec<&str> = self.text.split('.').collect();
        let theirs: Vec<&str> = pattern.split('.').collect();
        for (place, token) in theirs.iter().enumerate() {
            let (rest, left) = (&theirs[place..], mine.len().saturating_sub(place));
            // More tokens than are written only go into the end of it.
            if let [wild @ .., ">"] = rest
                && wild.iter().all(|token| *token == "*")
            {
                return left >= rest.len();
            }
            let Some(own) = mine.get(place) else { return false };
            let fits = !own.contains('{') && (*token == "*" || token == own);
            if !fits {
                return false;
            }
        }
        mine.len() == theirs.len()
    }

    /// Whether the text before the first attribute and the one before the first wildcard go together: tells nearly all pairs apart
    /// without a walk.
    fn begins_like(&self, pattern: &str) -> bool {
        let mine = self.text.split('{').next().unwrap_or_default();
        let theirs = pattern.split(['*', '>']).next().unwrap_or_default();
        let length = mine.len().min(theirs.len());
        mine.as_bytes()[..length] == theirs.as_bytes()[..length]
    }
}

impl fmt::Display for SubjectTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn encode(value: &str, out: &mut String) {
    let mut tokens = value.split('.').peekable();
    let mut open = false;
    while let Some(token) = tokens.next() {
        out.extend(utf8_percent_encode(token, ENCODED));
        open = (open || !token.is_empty()) && !token.is_empty();
        if let Some(next) = tokens.peek() {
            out.push_str(if open && !next.is_empty() { "." } else { "%2E" });
            open = true;
        }
    }
}

/// One step of a text with gaps, for asking whether two of them have a text in common.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Step {
    Char(char),
    /// One character.
    Any,
    /// One character that is no dot.
    AnyInToken,
    /// Any number of characters; true: but no dot.
    More(bool),
}

impl Step {
    /// The only character it takes, or else whether it takes a dot.
    fn takes(self) -> Result<char, bool> {
        match self {
            Self::Char(letter) => Ok(letter),
            Self::Any | Self::More(false) => Err(true),
            Self::AnyInToken | Self::More(true) => Err(false),
        }
    }

    fn meets(self, other: Self) -> bool {
        match (self.takes(), other.takes()) {
            (Ok(left), Ok(right)) => left == right,
            (Ok(letter), Err(dot)) | (Err(dot), Ok(letter)) => dot || letter != '.',
            (Err(_), Err(_)) => true,
        }
    }
}

/// Whether two such texts have one in common: a walk over the pairs of places that can be reached.
fn meet(left: &[Step], right: &[Step]) -> bool {
    let (mut open, mut seen) = (vec![(0, 0)], HashSet::new());
    while let Some((i, j)) = open.pop() {
        if i == left.len() && j == right.len() {
            return true;
        }
        if !seen.insert((i, j)) {
            continue;
        }
        let (mine, theirs) = (left.get(i).copied(), right.get(j).copied());
        let (repeats_mine, repeats_theirs) =
            (matches!(mine, Some(Step::More(_))), matches!(theirs, Some(Step::More(_))));
        if repeats_mine {
            open.push((i + 1, j));
        }
        if repeats_theirs {
            open.push((i, j + 1));
        }
        if let (Some(mine), Some(theirs)) = (mine, theirs)
            && mine.meets(theirs)
        {
            open.push((i + usize::from(!repeats_mine), j + usize::from(!repeats_theirs)));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_what_its_tokens_say() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*", "a", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
            ("a", "a.b", false),
        ] {
            assert_eq!(takes(pattern, subject), expected, "{pattern} and {subject}");
        }
    }

    #[test]
    fn patterns_are_tokens_with_wildcards_in_their_places() {
        for good in ["events.>", "events.*.created", "a", ">", "events.shop-1._x"] {
            assert_eq!(check_pattern(good), Ok(()), "{good}");
        }
        let cases = [
            ("", SubjectError::Empty),
            ("a..b", SubjectError::Empty),
            ("a b", SubjectError::Blank),
            ("a.>.b", SubjectError::Wildcard),
            ("a*", SubjectError::Wildcard),
        ];
        for (bad, error) in cases {
            assert_eq!(check_pattern(bad), Err(error), "{bad}");
        }
        assert_eq!(check_pattern(&"x".repeat(257)), Err(SubjectError::Long));
    }

    #[test]
    fn a_template_names_attributes_and_nothing_else() {
        let cases = [
            ("a.{typ}", SubjectError::Attribute("typ".to_owned())),
            ("a.{type", SubjectError::Brace),
            ("a.type}", SubjectError::Brace),
            ("a.*", SubjectError::WildcardInPublish),
            ("$JS.API", SubjectError::Reserved),
        ];
        for (bad, error) in cases {
            assert_eq!(SubjectTemplate::parse(bad), Err(error), "{bad}");
        }
        assert!(SubjectTemplate::parse("analytics.{type}.{source}").is_ok());
    }

    #[test]
    fn values_can_neither_break_a_subject_nor_leave_it_empty() {
        let encoded = |value: &str| {
            let mut out = String::new();
            encode(value, &mut out);
            out
        };
        assert_eq!(encoded("com.shop.order"), "com.shop.order");
        assert_eq!(encoded("/orders/1 >*"), "%2Forders%2F1%20%3E%2A");
        for value in [".a", "a.", "a..b", ".", "..", "..."] {
            let out = encoded(value);
            assert!(!out.is_empty() && out.split('.').all(|token| !token.is_empty()), "{value} -> {out}");
        }
    }

    #[test]
    fn what_every_event_makes_is_sure() {
        let cases = [
            ("events.copy", "events.>", true),
            ("events.{type}", "events.>", true),
            ("events.{type}", "events.*.>", false),
            ("events.{type}.x", "events.*.>", true),
            ("events.{type}.x", "events.*.*.>", false),
            ("events.{type}", "events.*", false),
            ("events.a{type}", "events.*", false),
            ("{type}", ">", true),
            ("{type}", "events.>", false),
            ("events.a", "events.*", true),
            ("events.a.b", "events.*", false),
            ("events", "events.>", false),
            ("events.a.b", "events.*.b", true),
            ("events.a", "events.a", true),
            ("events.a", "events.a.b", false),
        ];
        for (template, pattern, expected) in cases {
            let parsed = SubjectTemplate::parse(template).unwrap();
            assert_eq!(parsed.always_matches(pattern), expected, "{template} against {pattern}");
            assert!(!expected || parsed.can_match(pattern), "{template} against {pattern}");
        }
    }

    #[test]
    fn patterns_overlap_where_a_subject_fits_both() {
        for (one, two, expected) in [
            ("a.>", "a.b", true),
            ("a.*", "*.b", true),
            ("a.*.c", "a.b", false),
            ("a.>", "b.>", false),
            (">", "*", true),
        ] {
            assert_eq!((overlap(one, two), overlap(two, one)), (expected, expected), "{one} and {two}");
        }
    }

    #[test]
    fn a_template_that_its_own_source_could_take_is_seen() {
        let cases = [
            ("events.copy", "events.>", true),
            ("analytics.{type}", "events.>", false),
            ("events", "events.>", false),
            ("{type}", "events.>", true),
            ("{type}.x", "events.*", true),
            ("{type}.x", "events.*.y", false),
            ("{type}.x", "events.*.x", true),
            ("a{type}", "ab.c", true),
            ("a.{id}", "*", false),
            ("a.{id}", "*.*.*", true),
            ("a.b", "*.*", true),
            ("a.b.c", "*.*", false),
        ];
        for (template, pattern, expected) in cases {
            let parsed = SubjectTemplate::parse(template).unwrap();
            assert_eq!(parsed.can_match(pattern), expected, "{template} against {pattern}");
        }
    }
}
