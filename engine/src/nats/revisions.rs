//! The record of the file of a pipeline that is in force.

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::event::Reading;

/// Which file of a pipeline is in force, and which engine said so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revision {
    /// Hash of the pipeline's file.
    pub hash: String,
    /// The engine that loaded it last.
    pub engine: String,
    /// The subscriptions that it has; none where they were too many to be said, or the engine was of an older version.
    #[serde(default)]
    pub subscriptions: Option<Vec<String>>,
    /// How it reads its source; none where the engine was of an older version, or reads in a way that this one doesn't know.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub reading: Option<Reading>,
}

/// A reading that this version knows: a record of a newer one stays readable.
fn if_known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Reading>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_force_is_known_whatever_version_has_put_it_there() {
        let record = |reading: &str| {
            let text = format!("{{\"hash\":\"h\",\"engine\":\"e\"{reading}}}");
            serde_json::from_str::<Revision>(&text).unwrap().reading
        };
        assert_eq!(record(""), None);
        assert_eq!(record(",\"reading\":\"strict\""), Some(Reading::Strict));
        assert_eq!(record(",\"reading\":\"of a newer version\",\"more\":1"), None);
        let revision = Revision { hash: "h".into(), engine: "e".into(), subscriptions: None, reading: None };
        assert!(!serde_json::to_string(&revision).unwrap().contains("reading"));
    }
}
