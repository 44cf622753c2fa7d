//! Which engine uses which module: records beside the engines' signs of life.
//!
//! An engine writes its record when it has loaded and whenever something changes. It counts as long as the engine's
//! sign of life does; ages are told by the server's clock alone.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::{Digest, Name, Reference, Version};
use crate::nats::bucket::Bucket;
use crate::nats::registry::GONE_AFTER;
use crate::nats::{ApiError, Nats, StoreError};

/// Most steps in one record, so that it fits into a message however large a pipeline is.
const STEPS_MAX: usize = 2000;

/// A module in use by a step of a running engine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Use {
    /// The pipeline.
    pub pipeline: Name,
    /// The subscription.
    pub subscription: Name,
    /// The step, counted from 0.
    pub step: u16,
    /// The engine.
    pub engine: String,
    /// As the pipeline file writes it.
    pub reference: String,
    /// The version in use; none for a file.
    pub version: Option<Version>,
    /// The bytes in use.
    pub digest: Digest,
    /// Why the engine doesn't use what the reference means now; none if it does.
    pub last_error: Option<String>,
}

impl Use {
    /// The module's name in the registry; none for a file.
    pub fn name(&self) -> Option<Name> {
        Reference::parse(&self.reference).ok().and_then(|reference| reference.name().cloned())
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipeline, subscription, step, engine, reference, .. } = self;
        write!(f, "{pipeline}/{subscription} step {step} ({reference}) in engine {engine}")
    }
}

/// An engine that is alive.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Alive {
    /// The pipeline that it runs.
    pub pipeline: Name,
    /// Its id.
    pub engine: String,
    /// The hash of the pipeline's file, as it has loaded it.
    pub revision: String,
    /// How long ago it renewed its sign of life, by the server's clock.
    pub age: Duration,
}

/// One module as an engine uses it, and where.
#[derive(Serialize, Deserialize)]
struct Kept {
    reference: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// Subscriptions and their steps.
    steps: Vec<(Name, u16)>,
}

impl Kept {
    fn uses(self, pipeline: &Name, engine: &str) -> impl Iterator<Item = Use> + use<> {
        let Self { reference, version, digest, last_error, steps } = self;
        let (pipeline, engine) = (pipeline.clone(), engine.to_owned());
        steps.into_iter().map(move |(subscription, step)| Use {
            pipeline: pipeline.clone(),
            subscription,
            step,
            engine: engine.clone(),
            reference: reference.clone(),
            version: version.clone(),
            digest: digest.clone(),
            last_error: last_error.clone(),
        })
    }
}

/// Reads and writes these records.
pub(super) struct Uses {
    nats: Nats,
    bucket: Bucket,
}

impl Uses {
    pub(super) fn new(nats: &Nats) -> Self {
        Self { nats: nats.clone(), bucket: Bucket::new(nats, &nats.prefix().registry()) }
    }

    /// Engines that are alive, in order.
    pub(super) async fn alive(&self) -> Result<Vec<Alive>, ApiError> {
        let entries = self.bucket.read_all("engine.>").await?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.nats.server_time(self.bucket.stream()).await?;
        let alive = entries.into_iter().filter_map(|entry| {
            let (pipeline, engine) = entry.key.strip_prefix("engine.")?.split_once('.')?;
            let age = now.since(entry.time);
            let revision = serde_json::from_slice(&entry.body).ok()?;
            let alive =
                Alive { pipeline: Name::new(pipeline).ok()?, engine: engine.to_owned(), revision, age };
            (age < GONE_AFTER).then_some(alive)
        });
        let mut alive: Vec<Alive> = alive.collect();
        alive.sort();
        Ok(alive)
    }

    /// What engines that are alive use, in order.
    pub(super) async fn read(&self) -> Result<Vec<Use>, ApiError> {
        let entries = self.bucket.read_all("uses.>").await?;
        let alive: HashSet<(Name, String)> =
            self.alive().await?.into_iter().map(|alive| (alive.pipeline, alive.engine)).collect();
        let mut uses = Vec::new();
        for entry in entries {
            let mut tokens = entry.key.split('.').skip(1);
            let (Some(pipeline), Some(engine)) = (tokens.next(), tokens.next()) else { continue };
            let Ok(pipeline) = Name::new(pipeline) else { continue };
            // A newer engine may write more than is known here, but not less.
            let Ok(kept) = serde_json::from_slice::<Vec<Kept>>(&entry.body) else { continue };
            if alive.contains(&(pipeline.clone(), engine.to_owned())) {
                uses.extend(kept.into_iter().flat_map(|kept| kept.uses(&pipeline, engine)));
            }
        }
        uses.sort();
        Ok(uses)
    }

    /// Writes what one engine uses in one pipeline, over what it wrote before.
    pub(super) async fn write(&self, pipeline: &Name, engine: &str, uses: &[Use]) -> Result<(), StoreError> {
        for (part, uses) in parts(uses).into_iter().enumerate() {
            let body = serde_json::to_vec(&uses).map_err(|error| StoreError::Refused(error.to_string()))?;
            self.bucket.put(&format!("uses.{pipeline}.{engine}.{part}"), Bytes::from(body)).await?;
        }
        Ok(())
    }
}

/// The records of an engine's uses. The number of them depends on nothing but the number of steps.
fn parts(uses: &[Use]) -> Vec<Vec<Kept>> {
    let part = |uses: &[Use]| {
        let mut by_module: BTreeMap<_, Vec<(Name, u16)>> = BTreeMap::new();
        for one in uses {
            let module = (&one.reference, &one.version, &one.digest, &one.last_error);
            by_module.entry(module).or_default().push((one.subscription.clone(), one.step));
        }
        let kept = by_module.into_iter().map(|((reference, version, digest, last_error), steps)| Kept {
            reference: reference.clone(),
            version: version.clone(),
            digest: digest.clone(),
            last_error: last_error.clone(),
            steps,
        });
        kept.collect()
    };
    uses.chunks(STEPS_MAX).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(subscription: &str, step: u16, last_error: Option<&str>) -> Use {
        Use {
            pipeline: Name::new("p").unwrap(),
            subscription: Name::new(subscription).unwrap(),
            step,
            engine: "e".to_owned(),
            reference: "redact@1".to_owned(),
            version: Some(Version::parse("1.4.2").unwrap()),
            digest: Digest::of(b"x"),
            last_error: last_error.map(str::to_owned),
        }
    }

    #[test]
    fn uses_are_kept_by_module_and_read_back() {
        let uses = [one("a", 0, None), one("a", 1, None), one("b", 0, Some("it traps")), one("c", 0, None)];
        let parts = parts(&uses);
        assert_eq!((parts.len(), parts[0].len()), (1, 2));
        let json = serde_json::to_vec(&parts[0]).unwrap();
        let kept: Vec<Kept> = serde_json::from_slice(&json).unwrap();
        let mut back: Vec<Use> =
            kept.into_iter().flat_map(|kept| kept.uses(&Name::new("p").unwrap(), "e")).collect();
        back.sort();
        assert_eq!(back, uses);
        assert_eq!(uses[0].name(), Name::new("redact").ok());
    }

    #[test]
    fn many_steps_are_kept_in_several_records() {
        let uses: Vec<Use> = (0..4001).map(|step| one("a", step, None)).collect();
        assert_eq!(parts(&uses).len(), 3);
    }
}
