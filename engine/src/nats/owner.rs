//! Whose a source consumer is: prefix and pipeline, said in the consumer's own metadata. Its name alone doesn't tell: the
//! durables of pipeline `a-b` under the prefix `mill` and of pipeline `b` under `mill-a` have the same.
//!
//! Metadata has no compare-and-set. Of two engines that take over the same old consumer in the same moment the last one owns it,
//! and the other finds that out when it looks at its place again.

use std::collections::HashMap;
use std::fmt;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::consumers::Consumer;
use super::registry::{Floor, RegistryError};
use super::streams::SourceStream;
use super::{ApiError, NO_STREAM, Nats, Registry};
use crate::model::Name;

/// Consumers that are asked for at the same time.
const AT_ONCE: usize = 16;
/// Keys of the metadata.
const PREFIX: &str = "hookmill-prefix";
const PIPELINE: &str = "hookmill-pipeline";

/// The pipeline that a source consumer works for, and the prefix under which it is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The prefix.
    pub prefix: String,
    /// The pipeline.
    pub pipeline: String,
}

impl Owner {
    /// The owner that a consumer names; none: it was made by hand, or by an older version.
    pub(super) fn named_in(metadata: &HashMap<String, String>) -> Option<Self> {
        let said = |key| metadata.get(key).cloned();
        Some(Self { prefix: said(PREFIX)?, pipeline: said(PIPELINE)? })
    }

    /// Names this owner beside whatever else is said there. What the server says itself is left to it.
    pub(super) fn write(&self, metadata: &mut HashMap<String, String>) {
        metadata.retain(|key, _| !key.starts_with("_nats."));
        metadata.insert(PREFIX.to_owned(), self.prefix.clone());
        metadata.insert(PIPELINE.to_owned(), self.pipeline.clone());
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pipeline {} of prefix {}", self.pipeline, self.prefix)
    }
}

/// What a consumer with the name of a pipeline's durable is to that pipeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claim {
    /// The pipeline's own, and says so.
    Ours,
    /// The pipeline's own from before consumers said whose they are: the bucket of this prefix keeps a place in that stream.
    ToBeWritten,
    /// Somebody else's; none: it doesn't say whose, and nothing speaks for this pipeline.
    Foreign(Option<Owner>),
}

/// Decides that; `keeps_place`: whether the bucket keeps a place of the pipeline in the very stream of the consumer.
pub fn claim(there: &Consumer, us: &Owner, keeps_place: bool) -> Claim {
    match &there.owner {
        Some(owner) if owner == us => Claim::Ours,
        None if keeps_place => Claim::ToBeWritten,
        other => Claim::Foreign(other.clone()),
    }
}

/// Whether a floor is a place in this very stream, not in one of its name that was there before.
pub fn is_in(floor: Option<&Floor>, stream: &SourceStream) -> bool {
    floor.is_some_and(|floor| floor.stream == stream.name && floor.created == stream.created)
}

/// Why a consumer is left alone, and how to go on without it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct NotOurs {
    /// The consumer.
    pub consumer: String,
    /// Its stream.
    pub stream: String,
    /// Whose it is, if that is said.
    pub owner: Option<Owner>,
}

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { consumer, stream, owner } = self;
        let other = "give this pipeline another name, or this engine another [nats] prefix";
        match owner {
            Some(owner) => write!(
                f,
                "consumer {consumer} on {stream} belongs to {owner}, and each of the two would get a part of the events only; {other}"
            ),
            None => write!(
                f,
                "consumer {consumer} on {stream} doesn't say whose it is, and nothing is kept that says it is this pipeline's; \
                 if nobody uses it, delete it with `nats consumer rm {stream} {consumer}`; else {other}"
            ),
        }
    }
}

impl Nats {
    /// The owner of the durable of a pipeline that this engine runs.
    pub fn owner_of(&self, pipeline: &Name) -> Owner {
        Owner { prefix: self.prefix().as_str().to_owned(), pipeline: pipeline.to_string() }
    }
}

/// The consumer by which a pipeline takes from its source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceView {
    /// The pipeline.
    pub pipeline: String,
    /// Its source.
    pub stream: String,
    /// The consumer's name.
    pub consumer: String,
    /// `ours`, `unclaimed` (it names no owner: of an older version until an engine takes from it, or made by hand), `foreign`, or `missing`.
    pub state: &'static str,
    /// Whose it is, if that is said.
    pub owner: Option<Owner>,
}

impl SourceView {
    fn new(nats: &Nats, pipeline: &Name, floor: Floor, there: Option<&Consumer>) -> Self {
        let owner = there.and_then(|there| there.owner.clone());
        let us = nats.owner_of(pipeline);
        let state = match (there, &owner) {
            (None, _) => "missing",
            (Some(_), None) => "unclaimed",
            (Some(_), Some(owner)) if *owner == us => "ours",
            (Some(_), Some(_)) => "foreign",
        };
        let consumer = nats.prefix().source_consumer(pipeline);
        Self { pipeline: pipeline.to_string(), stream: floor.stream, consumer, state, owner }
    }

    /// What is wrong with it, and how to mend it.
    pub fn trouble(&self) -> Option<NotOurs> {
        let not_ours = || NotOurs {
            consumer: self.consumer.clone(),
            stream: self.stream.clone(),
            owner: self.owner.clone(),
        };
        (self.state == "foreign").then(not_ours)
    }
}

/// The consumers of all pipelines of this prefix that have ever taken from a source.
pub async fn sources(nats: &Nats, registry: &Registry) -> Result<Vec<SourceView>, RegistryError> {
    let floors = registry.floors(nats).await?;
    let named = floors.into_iter().filter_map(|(name, floor)| Some((Name::new(&name).ok()?, floor)));
    let look = |(pipeline, floor): (Name, Floor)| async move {
        let there = match nats.consumer(&floor.stream, &nats.prefix().source_consumer(&pipeline)).await {
            Err(error) if error.code() == Some(NO_STREAM) => None,
            there => there?,
        };
        Ok::<_, ApiError>(SourceView::new(nats, &pipeline, floor, there.as_ref()))
    };
    stream::iter(named).map(look).buffered(AT_ONCE).try_collect().await.map_err(RegistryError::unread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::Prefix;

    fn owner(prefix: &str, pipeline: &str) -> Owner {
        Owner { prefix: prefix.to_owned(), pipeline: pipeline.to_owned() }
    }

    #[test]
    fn a_name_that_two_prefixes_share_belongs_to_whom_its_consumer_names() {
        let name = |text| Name::new(text).unwrap();
        let durable = |prefix, pipeline| Prefix::new(&name(prefix)).source_consumer(&name(pipeline));
        assert_eq!(durable("mill", "a-b"), durable("mill-a", "b"));
        let (one, two) = (owner("mill", "a-b"), owner("mill-a", "b"));
        let of = |owner: Option<&Owner>| Consumer { owner: owner.cloned(), ..Consumer::default() };
        for keeps_place in [false, true] {
            assert_eq!(claim(&of(Some(&one)), &one, keeps_place), Claim::Ours);
            assert_eq!(claim(&of(Some(&one)), &two, keeps_place), Claim::Foreign(Some(one.clone())));
        }
        assert_eq!(claim(&of(None), &one, true), Claim::ToBeWritten);
        assert_eq!(claim(&of(None), &one, false), Claim::Foreign(None));
    }

    #[test]
    fn the_owner_is_written_beside_what_others_have_said() {
        let said = [("_nats.ver", "2.14.0"), ("team", "shop"), (PREFIX, "old")];
        let mut metadata: HashMap<String, String> =
            said.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(Owner::named_in(&metadata), None, "half of it says nothing");
        owner("mill", "orders").write(&mut metadata);
        assert_eq!(Owner::named_in(&metadata), Some(owner("mill", "orders")));
        assert_eq!(metadata.get("team").map(String::as_str), Some("shop"));
        assert_eq!(metadata.len(), 3, "the server's own keys are left to it");
    }
}
