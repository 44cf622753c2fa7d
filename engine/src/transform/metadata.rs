//! What a module says about itself: the custom section `hookmill:metadata`, a JSON object with description, JSON Schema
//! of its settings, samples and limits. A stranger may have written it, so all of it is checked and bounded here.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::expect::{Expect, ExpectError};
use super::sections::{self, SectionError};
use super::settings::{MEMORY_BYTES, OUTPUT_BYTES, TIMEOUT};
use crate::model::{Event, size};
use crate::schema::{Objection, Schema, SchemaError};

/// Name of the custom section.
pub const SECTION: &str = "hookmill:metadata";

/// Longest section, in bytes.
pub const BYTES_MAX: usize = 256 << 10;

/// Longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 2000;

/// Most samples.
const SAMPLES_MAX: usize = 32;

/// Longest name of a sample, in characters.
const SAMPLE_NAME_CHARS_MAX: usize = 100;

/// What a module says about itself. What is here keeps to the rules.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// What it does, in a sentence or two; may be empty.
    pub description: String,
    /// JSON Schema of its settings.
    pub settings_schema: Option<Value>,
    /// Events to try it with.
    pub samples: Vec<Sample>,
    /// What counts where a pipeline file is silent.
    pub limits: Limits,
    schema: Option<Schema>,
}

/// An event to try a module with.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Unique within the module.
    pub name: String,
    /// A `CloudEvent` in structured form.
    pub event: Event,
    /// The settings that it is tried with; a table.
    pub settings: Value,
    /// What the module has to answer.
    pub expect: Option<Expect>,
}

/// Limits that suit a module; what is not there is left to the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// Of one call.
    pub timeout: Option<Duration>,
    /// Of one instance, in bytes.
    pub memory_bytes: Option<u64>,
    /// Of what one call returns, in bytes.
    pub output_bytes: Option<u64>,
}

/// What is wrong with a module's metadata.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The bytes are no module that could have a section.
    #[error("it can't be read: {0}")]
    Torn(String),
    /// Which one counts?
    #[error("it has two sections {SECTION}")]
    Twice,
    /// More than there may be.
    #[error("its section {SECTION} is {found} bytes, the most is {max}; leave out samples", max = size::text(BYTES_MAX as u64))]
    TooLarge {
        /// In bytes.
        found: usize,
    },
    /// No JSON, or not of this shape.
    #[error(
        "its metadata is not as it should be: {0}; the keys are description, settings, samples and limits"
    )]
    Shape(serde_json::Error),
    /// The description is too long.
    #[error(
        "its metadata has a description of {found} characters, the most is {DESCRIPTION_CHARS_MAX}; the rest belongs on a page"
    )]
    Description {
        /// In characters.
        found: usize,
    },
    /// The schema of the settings is none.
    #[error("its metadata has settings that are no schema: {0}")]
    Schema(SchemaError),
    /// More than there may be.
    #[error("its metadata has {found} samples, the most is {SAMPLES_MAX}")]
    SampleCount {
        /// How many.
        found: usize,
    },
    /// A sample that can't be used.
    #[error("its metadata has a sample {name:?} that can't be used: {problem}")]
    Sample {
        /// Its name, cut.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A limit that is none.
    #[error("its metadata has limits.{key} = {found:?}; give {allowed}")]
    Limit {
        /// Which.
        key: &'static str,
        /// What was found, cut.
        found: String,
        /// What may be.
        allowed: String,
    },
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    description: String,
    settings: Option<Value>,
    #[serde(default)]
    samples: Vec<RawSample>,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSample {
    name: String,
    event: Value,
    #[serde(default)]
    settings: Map<String, Value>,
    expect: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    timeout: Option<String>,
    memory: Option<String>,
    output: Option<String>,
}

/// What the module in these bytes says about itself, if it says anything. For components and core modules.
pub fn read(bytes: &[u8]) -> Result<Option<Metadata>, MetadataError> {
    section(bytes)?.map(Metadata::parse).transpose()
}

/// The same as it is written, unchecked.
pub(super) fn section(bytes: &[u8]) -> Result<Option<&[u8]>, MetadataError> {
    Ok(sections::find(bytes, SECTION)?)
}

/// The module with this metadata in it, in place of what it said before. `json` is checked by whoever made it a
/// [`Metadata`].
pub fn embed(bytes: &[u8], json: &[u8]) -> Result<Vec<u8>, MetadataError> {
    Ok(sections::put(bytes, SECTION, json)?)
}

impl From<SectionError> for MetadataError {
    fn from(error: SectionError) -> Self {
        match error {
            SectionError::NotWasm | SectionError::Torn(_) => Self::Torn(error.to_string()),
            SectionError::Twice => Self::Twice,
        }
    }
}

impl Metadata {
    /// Reads and checks the JSON of a section.
    pub fn parse(json: &[u8]) -> Result<Self, MetadataError> {
        if json.len() > BYTES_MAX {
            return Err(MetadataError::TooLarge { found: json.len() });
        }
        let raw: Raw = serde_json::from_slice(json).map_err(MetadataError::Shape)?;
        let found = raw.description.chars().count();
        if found > DESCRIPTION_CHARS_MAX {
            return Err(MetadataError::Description { found });
        }
        let compile = |value: &Value| Schema::untrusted(value, "settings").map_err(MetadataError::Schema);
        let schema = raw.settings.as_ref().map(compile).transpose()?;
        Ok(Self {
            description: raw.description,
            settings_schema: raw.settings,
            samples: samples(raw.samples)?,
            limits: raw.limits.check()?,
            schema,
        })
    }

    /// What the module's schema has against these settings.
    pub fn objections(&self, settings: &Value) -> Vec<Objection> {
        self.schema.as_ref().map(|schema| schema.objections(settings)).unwrap_or_default()
    }

    /// For a person's eyes and other programs: as it stands in the section, samples by their names.
    pub fn summary(&self) -> Value {
        #[derive(Serialize)]
        struct Summary<'a> {
            description: &'a str,
            settings: &'a Option<Value>,
            samples: Vec<&'a str>,
            limits: Value,
        }
        let samples = self.samples.iter().map(|sample| sample.name.as_str()).collect();
        let Self { description, settings_schema: settings, limits, .. } = self;
        serde_json::to_value(Summary { description, settings, samples, limits: limits.to_json() })
            .unwrap_or_default()
    }
}

fn samples(raw: Vec<RawSample>) -> Result<Vec<Sample>, MetadataError> {
    if raw.len() > SAMPLES_MAX {
        return Err(MetadataError::SampleCount { found: raw.len() });
    }
    let mut names = HashSet::new();
    raw.into_iter()
        .map(|raw| {
            let name: String = raw.name.chars().take(SAMPLE_NAME_CHARS_MAX).collect();
            let wrong = |problem: String| MetadataError::Sample { name: name.clone(), problem };
            if name.is_empty() || name.len() < raw.name.len() || name.contains(char::is_control) {
                return Err(wrong(format!(
                    "a name is one line of at most {SAMPLE_NAME_CHARS_MAX} characters"
                )));
            }
            if !names.insert(name.clone()) {
                return Err(wrong("another one has the same name".to_owned()));
            }
            let event = Event::from_structured(&Bytes::from(raw.event.to_string()))
                .map_err(|error| wrong(format!("event: {error}")))?;
            let expect = raw.expect.as_ref().map(Expect::parse).transpose();
            let expect = expect.map_err(|error: ExpectError| wrong(format!("expect: {error}")))?;
            Ok(Sample { name: name.clone(), event, settings: Value::Object(raw.settings), expect })
        })
        .collect()
}

impl RawLimits {
    fn check(self) -> Result<Limits, MetadataError> {
        let wrong = |key, found: &str, allowed| {
            let found = found.chars().take(40).collect();
            MetadataError::Limit { key, found, allowed }
        };
        let time = |text: &String| {
            let time = humantime::parse_duration(text).ok().filter(|time| TIMEOUT.contains(time));
            let (min, max) = (TIMEOUT.start(), TIMEOUT.end());
            time.ok_or_else(|| wrong("timeout", text, format!("a duration from {min:?} to {max:?}")))
        };
        let bytes = |key, text: &String, range: &std::ops::RangeInclusive<u64>| {
            let found = size::parse(text).filter(|bytes| range.contains(bytes));
            let (min, max) = (size::text(*range.start()), size::text(*range.end()));
            found.ok_or_else(|| wrong(key, text, format!("a size from {min} to {max}")))
        };
        Ok(Limits {
            timeout: self.timeout.as_ref().map(time).transpose()?,
            memory_bytes: self
                .memory
                .as_ref()
                .map(|text| bytes("memory", text, &MEMORY_BYTES))
                .transpose()?,
            output_bytes: self
                .output
                .as_ref()
                .map(|text| bytes("output", text, &OUTPUT_BYTES))
                .transpose()?,
        })
    }
}

impl Limits {
    fn to_json(self) -> Value {
        let time = self.timeout.map(|time| humantime::format_duration(time).to_string());
        let pairs = [
            ("timeout", time),
            ("memory", self.memory_bytes.map(size::text)),
            ("output", self.output_bytes.map(size::text)),
        ];
        let given = pairs.into_iter().filter_map(|(key, text)| Some((key.to_owned(), Value::String(text?))));
        Value::Object(given.collect())
    }
}
