//! When a rule applies.

use std::cell::OnceCell;
use std::cmp::Ordering;

use hookmill_transform::serde_json::{Number, Value};
use hookmill_transform::{Attribute, Event, Failure, Pointer};
use serde::{Deserialize, Deserializer};

use crate::number;

/// An event, with its payload parsed when the first condition asks for it.
pub(crate) struct View<'a> {
    event: &'a Event,
    payload: OnceCell<Result<Value, Failure>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(event: &'a Event) -> Self {
        Self { event, payload: OnceCell::new() }
    }

    fn payload(&self) -> Result<&Value, Failure> {
        // No data at all is no mistake: nothing is where any pointer points.
        let read = || if self.event.data.is_some() { self.event.json() } else { Ok(Value::Null) };
        self.payload.get_or_init(read).as_ref().map_err(Clone::clone)
    }
}

/// A condition as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawCondition {
    all: Option<Vec<RawCondition>>,
    any: Option<Vec<RawCondition>>,
    not: Option<Box<RawCondition>>,
    pointer: Option<Pointer>,
    attribute: Option<String>,
    exists: Option<bool>,
    #[serde(deserialize_with = "given")]
    equals: Option<Value>,
    #[serde(deserialize_with = "given")]
    not_equals: Option<Value>,
    one_of: Option<Vec<Value>>,
    less_than: Option<Number>,
    at_most: Option<Number>,
    greater_than: Option<Number>,
    at_least: Option<Number>,
    prefix: Option<String>,
}

/// So that a null that is written is a value, and not the absence of one.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A condition that can't be wrong.
#[derive(Debug)]
pub(crate) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    /// Each of the tests holds for what is there.
    Tests(Place, Vec<Test>),
}

/// What is looked at.
#[derive(Debug)]
pub(crate) enum Place {
    Payload(Pointer),
    Attribute(String),
}

#[derive(Debug)]
pub(crate) enum Test {
    Exists(bool),
    Equals(Value),
    NotEquals(Value),
    OneOf(Vec<Value>),
    LessThan(Number),
    AtMost(Number),
    GreaterThan(Number),
    AtLeast(Number),
    Prefix(String),
}

impl RawCondition {
    /// The error starts with what stands between the condition's name and the text.
    pub(crate) fn check(mut self) -> Result<Condition, String> {
        let tests = self.tests();
        let list = |name: &str, conditions: Vec<Self>| {
            if conditions.is_empty() {
                return Err(format!(".{name}: is empty; give at least one condition"));
            }
            let check = |(index, condition): (usize, Self)| {
                condition.check().map_err(|error| format!(".{name}[{index}]{error}"))
            };
            conditions.into_iter().enumerate().map(check).collect::<Result<Vec<_>, _>>()
        };
        let some_test = !tests.is_empty();
        match (self.all, self.any, self.not, self.pointer, self.attribute) {
            (Some(all), None, None, None, None) if !some_test => Ok(Condition::All(list("all", all)?)),
            (None, Some(any), None, None, None) if !some_test => Ok(Condition::Any(list("any", any)?)),
            (None, None, Some(not), None, None) if !some_test => {
                Ok(Condition::Not(Box::new(not.check().map_err(|error| format!(".not{error}"))?)))
            }
            (None, None, None, Some(_), None) | (None, None, None, None, Some(_)) if !some_test => {
                Err(format!(": tests nothing; give one of {TESTS}"))
            }
            (None, None, None, Some(pointer), None) => Ok(Condition::Tests(Place::Payload(pointer), tests)),
            (None, None, None, None, Some(name)) if is_attribute_name(&name) => {
                Ok(Condition::Tests(Place::Attribute(name), tests))
            }
            (None, None, None, None, Some(name)) => Err(format!(
                ".attribute: \"{name}\" is no attribute's name (lower-case letters and digits)"
            )),
            _ => Err(": needs exactly one of pointer, attribute, all, any and not; the tests go with the first two"
                .to_owned()),
        }
    }

    fn tests(&mut self) -> Vec<Test> {
        [
            self.exists.take().map(Test::Exists),
            self.equals.take().map(Test::Equals),
            self.not_equals.take().map(Test::NotEquals),
            self.one_of.take().map(Test::OneOf),
            self.less_than.take().map(Test::LessThan),
            self.at_most.take().map(Test::AtMost),
            self.greater_than.take().map(Test::GreaterThan),
            self.at_least.take().map(Test::AtLeast),
            self.prefix.take().map(Test::Prefix),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

const TESTS: &str =
    "exists, equals, not_equals, one_of, less_than, at_most, greater_than, at_least and prefix";

impl Condition {
    pub(crate) fn holds(&self, view: &View) -> Result<bool, Failure> {
        match self {
            Self::All(conditions) => {
                conditions.iter().try_fold(true, |holds, condition| Ok(holds && condition.holds(view)?))
            }
            Self::Any(conditions) => {
                conditions.iter().try_fold(false, |holds, condition| Ok(holds || condition.holds(view)?))
            }
            Self::Not(condition) => Ok(!condition.holds(view)?),
            Self::Tests(Place::Payload(pointer), tests) => {
                let found = pointer.get(view.payload()?).filter(|_| view.event.data.is_some());
                Ok(tests.iter().all(|test| test.holds(found)))
            }
            Self::Tests(Place::Attribute(name), tests) => {
                let found = view.event.attribute(name).map(|attribute| match attribute {
                    Attribute::Text(text) => Value::String(text),
                    Attribute::Integer(integer) => Value::from(integer),
                    Attribute::Boolean(boolean) => Value::Bool(boolean),
                });
                Ok(tests.iter().all(|test| test.holds(found.as_ref())))
            }
        }
    }
}

impl Test {
    fn holds(&self, found: Option<&Value>) -> bool {
        let compared = |limit: &Number, is: fn(Ordering) -> bool| matches!(found, Some(Value::Number(number)) if is(number::compare(number, limit)));
        match self {
            Self::Exists(exists) => found.is_some() == *exists,
            Self::Equals(value) => found.is_some_and(|found| equal(found, value)),
            Self::NotEquals(value) => !found.is_some_and(|found| equal(found, value)),
            Self::OneOf(values) => found.is_some_and(|found| values.iter().any(|value| equal(found, value))),
            Self::LessThan(limit) => compared(limit, Ordering::is_lt),
            Self::AtMost(limit) => compared(limit, Ordering::is_le),
            Self::GreaterThan(limit) => compared(limit, Ordering::is_gt),
            Self::AtLeast(limit) => compared(limit, Ordering::is_ge),
            Self::Prefix(prefix) => {
                found.and_then(Value::as_str).is_some_and(|text| text.starts_with(prefix))
            }
        }
    }
}

/// As JSON Schema has it (core, section 4.2.2): 1 and 1.0 are equal, and so are objects whatever their order.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => number::compare(left, right).is_eq(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            let same = |(name, value)| right.get::<String>(name).is_some_and(|other| equal(value, other));
            left.len() == right.len() && left.iter().all(same)
        }
        _ => left == right,
    }
}

fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}
