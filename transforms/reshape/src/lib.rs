//! Builds a new JSON payload from pointers into the old one, attributes and constants. See
//! `docs/transforms/reshape.md`.

mod mapping;

use hookmill_transform::serde_json::{Map, Value};
use hookmill_transform::{Event, Failure, Transform, Verdict, export_transform};
use serde::Deserialize;

use crate::mapping::{Entry, Missing, RawEntry};

/// What the pipeline file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the new payload starts as.
    #[serde(default)]
    start: Start,
    /// The new payload: where, and what.
    data: Map<String, Value>,
    /// What happens where a source is not there, unless the entry says.
    #[serde(default)]
    missing: Missing,
    /// The schema of the new payload. The old one no longer describes it and is taken away.
    #[serde(default)]
    dataschema: Option<String>,
}

/// What the new payload starts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Start {
    /// Nothing.
    #[default]
    Empty,
    /// The payload as it came.
    Payload,
}

/// The transform.
#[derive(Debug)]
pub struct Reshape {
    start: Start,
    entries: Vec<Entry>,
    dataschema: Option<String>,
}

impl Transform for Reshape {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, String> {
        if settings.data.is_empty() {
            return Err(
                "data is empty; name at least one place, as in data = { \"/id\" = { from = \"/id\" } }"
                    .to_owned(),
            );
        }
        if settings.dataschema.as_deref() == Some("") {
            return Err("dataschema is empty; give a URI, or leave it out".to_owned());
        }
        let entry = |(place, raw): (&String, &Value)| {
            Entry::new(place, RawEntry::read(place, raw)?, settings.missing)
        };
        let entries = settings.data.iter().map(entry).collect::<Result<Vec<_>, String>>()?;
        mapping::no_place_inside_another(&entries)?;
        Ok(Self { start: settings.start, entries, dataschema: settings.dataschema })
    }

    fn apply(&mut self, mut event: Event) -> Result<Verdict, Failure> {
        let needs_payload = self.start == Start::Payload || self.entries.iter().any(Entry::reads_payload);
        let old: Value = if needs_payload { event.json()? } else { Value::Null };
        let mut new = match self.start {
            Start::Empty => Value::Object(Map::new()),
            Start::Payload => old.clone(),
        };
        for entry in &self.entries {
            entry.put(&event, &old, &mut new)?;
        }
        event.set_json(&new)?;
        event.dataschema.clone_from(&self.dataschema);
        Ok(event.into())
    }
}

export_transform!(Reshape, metadata = "../metadata.json");

#[cfg(test)]
mod tests;
