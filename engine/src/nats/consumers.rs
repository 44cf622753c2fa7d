//! Consumers: the durable of a pipeline on its source, the durable on what is due, the passing ones of lanes.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, Info, pull};
use serde_json::json;

use super::consumer_fit::{Misfit, misfits};
use super::owner::Owner;
use super::{ApiError, Nats, api};
use crate::model::Timestamp;

/// What every consumer of the engine has: explicit acks, 10 s to acknowledge, no end of deliveries (the engine counts
/// attempts itself; a message that runs out of deliveries is stuck in a work queue for ever), no cap on what is held.
fn common(name: &str, filters: Vec<String>) -> pull::Config {
    let (filter_subject, filter_subjects) = match <[String; 1]>::try_from(filters) {
        Ok([one]) => (one, Vec::new()),
        Err(several) => (String::new(), several),
    };
    pull::Config {
        durable_name: Some(name.to_owned()),
        filter_subject,
        filter_subjects,
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(10),
        max_deliver: -1,
        max_ack_pending: -1,
        ..Default::default()
    }
}

/// What a request may find.
#[derive(Clone, Copy)]
enum Action {
    /// Anything: made or updated.
    Any,
    /// Nothing, or the very same.
    Create,
    /// A consumer.
    Update,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Create => "create",
            Self::Update => "update",
        }
    }
}

/// Where a new consumer starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAt {
    /// At the stream's first message.
    First,
    /// At the next message that is stored.
    New,
    /// At this stream sequence.
    Sequence(u64),
    /// At the first message stored at or after this time.
    Time(Timestamp),
}

impl From<StartAt> for DeliverPolicy {
    fn from(start: StartAt) -> Self {
        match start {
            StartAt::First => Self::All,
            StartAt::New => Self::New,
            StartAt::Sequence(start_sequence) => Self::ByStartSequence { start_sequence },
            StartAt::Time(time) => {
                let nanos = i128::from(time.unix_nanos());
                let start_time = time::OffsetDateTime::from_unix_timestamp_nanos(nanos);
                Self::ByStartTime { start_time: start_time.unwrap_or(time::OffsetDateTime::UNIX_EPOCH) }
            }
        }
    }
}

/// A consumer as the server knows it.
#[derive(Clone, Debug, Default)]
pub struct Consumer {
    /// Everything up to this stream sequence is acknowledged.
    pub floor: u64,
    /// What was delivered last has this stream sequence.
    pub delivered: u64,
    /// Messages not delivered yet.
    pub pending: u64,
    /// Messages delivered and not acknowledged.
    pub ack_pending: u64,
    /// Subjects that it takes; none: all.
    pub filters: Vec<String>,
    /// Whose it says it is.
    pub owner: Option<Owner>,
    /// What is wrong with it; the one that loses something first.
    pub misfits: Vec<Misfit>,
    /// Until when a person has paused it.
    pub(super) pause_until: Option<time::OffsetDateTime>,
    pub(super) metadata: HashMap<String, String>,
    pub(super) start: DeliverPolicy,
}

impl Consumer {
    /// Whether it began at this stream sequence.
    pub fn began_at(&self, sequence: u64) -> bool {
        matches!(self.start, DeliverPolicy::ByStartSequence { start_sequence } if start_sequence == sequence)
    }
}

impl From<Info> for Consumer {
    fn from(info: Info) -> Self {
        let misfits = misfits(&info);
        let one = Some(info.config.filter_subject).filter(|subject| !subject.is_empty());
        Self {
            filters: one.into_iter().chain(info.config.filter_subjects).collect(),
            floor: info.ack_floor.stream_sequence,
            delivered: info.delivered.stream_sequence,
            pending: info.num_pending,
            ack_pending: info.num_ack_pending as u64,
            start: info.config.deliver_policy,
            owner: Owner::named_in(&info.config.metadata),
            misfits,
            pause_until: info.config.pause_until,
            metadata: info.config.metadata,
        }
    }
}

impl Nats {
    /// What the server says of a consumer; `None` if there is none.
    pub async fn consumer(&self, stream: &str, name: &str) -> Result<Option<Consumer>, ApiError> {
        match api::<_, Info>(self, format!("CONSUMER.INFO.{stream}.{name}"), &json!({})).await {
            Ok(info) => Ok(Some(info.into())),
            Err(error) if error.is(ErrorCode::CONSUMER_NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a consumer of a work queue has nothing left to deliver while `filter` has messages.
    ///
    /// A server that was killed keeps what its consumers had acknowledged, but may have back the messages themselves:
    /// they lie below the consumer's floor, and it would never deliver them.
    pub async fn is_blind(&self, stream: &str, name: &str, filter: &str) -> Result<bool, ApiError> {
        let idle = async || {
            let state = self.consumer(stream, name).await?;
            Ok::<_, ApiError>(state.is_some_and(|state| state.pending == 0 && state.ack_pending == 0))
        };
        if !idle().await? {
            return Ok(false);
        }
        let there: u64 = self.counts(stream, filter).await?.values().sum();
        // Asked again: what was stored between the two questions is pending by now.
        Ok(there > 0 && idle().await?)
    }

    /// Deletes a consumer; one that is gone already is fine.
    pub async fn delete_consumer(&self, stream: &str, name: &str) -> Result<(), ApiError> {
        let answer: Result<serde_json::Value, ApiError> =
            api(self, format!("CONSUMER.DELETE.{stream}.{name}"), &json!({})).await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.is(ErrorCode::CONSUMER_NOT_FOUND) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the durable of a pipeline on its source stream. One that is there already, other than this would be, is an error:
    /// whose it is has to be looked at.
    pub async fn make_source_consumer(
        &self,
        stream: &str,
        name: &str,
        owner: &Owner,
        filters: Vec<String>,
        start: StartAt,
    ) -> Result<Consumer, ApiError> {
        let mut config = pull::Config { deliver_policy: start.into(), ..common(name, filters) };
        owner.write(&mut config.metadata);
        self.make_consumer(stream, name, &config, Action::Create).await
    }

    /// Brings the filters and the owner of a durable up to date; where it started is taken as it is. One that is gone stays so.
    pub async fn update_source_consumer(
        &self,
        stream: &str,
        name: &str,
        owner: &Owner,
        filters: Vec<String>,
        there: &Consumer,
    ) -> Result<Consumer, ApiError> {
        let metadata = there.metadata.clone();
        // A pause is a person's word: an update without it would end it.
        let (deliver_policy, pause_until) = (there.start, there.pause_until);
        let mut config = pull::Config { deliver_policy, metadata, pause_until, ..common(name, filters) };
        owner.write(&mut config.metadata);
        self.make_consumer(stream, name, &config, Action::Update).await
    }

    /// Makes or updates the durable on what is due.
    pub async fn make_due_consumer(
        &self,
        stream: &str,
        name: &str,
        filter: String,
    ) -> Result<Consumer, ApiError> {
        let pause_until = self.consumer(stream, name).await?.and_then(|there| there.pause_until);
        let config = pull::Config { pause_until, ..common(name, vec![filter]) };
        self.make_consumer(stream, name, &config, Action::Any).await
    }

    /// Makes or updates the consumer of a lane; the server removes it after a minute without use.
    pub async fn make_lane_consumer(
        &self,
        stream: &str,
        name: &str,
        filter: String,
    ) -> Result<Consumer, ApiError> {
        let config =
            pull::Config { inactive_threshold: Duration::from_secs(60), ..common(name, vec![filter]) };
        self.make_consumer(stream, name, &config, Action::Any).await
    }

    async fn make_consumer(
        &self,
        stream: &str,
        name: &str,
        config: &pull::Config,
        action: Action,
    ) -> Result<Consumer, ApiError> {
        let mut config = serde_json::to_value(config).expect("a consumer configuration is plain data");
        if let Some(fields) = config.as_object_mut() {
            fields.insert("name".to_owned(), json!(name));
        }
        let request = json!({ "stream_name": stream, "config": config, "action": action.as_str() });
        let info: Info = api(self, format!("CONSUMER.CREATE.{stream}.{name}"), &request).await?;
        Ok(info.into())
    }
}
