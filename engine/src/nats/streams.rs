//! The engine's own streams and bucket: read first, only what is missing is created. And what a source stream is like.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{ErrorCode, kv};
use serde_json::json;

use super::{ApiError, Nats, api, fit};
use crate::model::Timestamp;

/// How long dead letters are kept.
pub const DLQ_AGE: Duration = Duration::from_secs(30 * 86_400);

/// Why the streams can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StreamsError {
    /// JetStream does not answer or refuses.
    #[error("stream {stream} can't be {verb}")]
    Api {
        /// Which.
        stream: String,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        #[source]
        source: ApiError,
    },
    /// Its subjects are taken.
    #[error(
        "stream {stream} can't be made: {others} takes {subjects} already, and each subject belongs to one stream; {mend}"
    )]
    Overlap {
        /// Which.
        stream: String,
        /// Who takes them.
        others: String,
        /// What it would take.
        subjects: String,
        /// What to do.
        mend: &'static str,
    },
    /// The bucket can't be made.
    #[error("the key-value bucket {bucket} can't be made")]
    Bucket {
        /// Which.
        bucket: String,
        /// Why not.
        #[source]
        source: async_nats::Error,
    },
    /// The server takes no messages that are large enough.
    #[error(
        "the server takes messages of at most {have} bytes (max_payload), and Hookmill needs at least {MAX_PAYLOAD_MIN}: \
         64 KiB for the headers of a stored task, the rest for events; raise max_payload in nats-server's configuration \
         (its default is 1MB) and load it again"
    )]
    MaxPayload {
        /// The server's limit.
        have: usize,
    },
    /// A stream that is there is not as it has to be.
    #[error("stream {stream} is there, but {what}; {mend}")]
    Unfit {
        /// Which.
        stream: String,
        /// What is wrong with it.
        what: String,
        /// How to mend it.
        mend: String,
    },
}

/// The least `max_payload` of a server, in bytes: room for a task's headers, and as much for its event.
pub const MAX_PAYLOAD_MIN: usize = 128 * 1024;

impl StreamsError {
    /// Whether it may be otherwise in a moment.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Api { source, .. } => source.is_passing(),
            Self::Overlap { .. } | Self::Bucket { .. } | Self::MaxPayload { .. } | Self::Unfit { .. } => {
                false
            }
        }
    }
}

/// What the engine needs to know of a source stream.
#[derive(Clone, Debug)]
pub struct SourceStream {
    /// Its name.
    pub name: String,
    /// When it was made, as the server writes it.
    pub created: String,
    /// Its last sequence.
    pub last_sequence: u64,
    /// Its first sequence.
    pub first_sequence: u64,
    /// Its retention: `limits`, `interest` or `workqueue`.
    pub retention: Retention,
    /// How long it keeps messages; `None`: for ever.
    pub max_age: Option<Duration>,
    /// Whether old messages make room for new ones when a limit is reached.
    pub discards_old: bool,
    /// Whether its consumers are forced to go away when unused.
    pub forces_inactive_threshold: bool,
    /// Its replicas.
    pub replicas: usize,
    /// The subjects that it takes; none: it is filled from elsewhere as well, or changes subjects, so they don't tell.
    pub subjects: Option<Vec<String>>,
}

/// Retention policies of JetStream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retention {
    /// Kept until a limit is reached.
    Limits,
    /// Kept until every consumer has it.
    Interest,
    /// Kept until one consumer has it.
    WorkQueue,
}

impl Nats {
    /// The configuration and state of a stream; `None` if there is none.
    pub(super) async fn stream_info(
        &self,
        stream: &str,
    ) -> Result<Option<async_nats::jetstream::stream::Info>, StreamsError> {
        match api(self, format!("STREAM.INFO.{stream}"), &json!({})).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.is(ErrorCode::STREAM_NOT_FOUND) => Ok(None),
            Err(source) => Err(StreamsError::Api { stream: stream.to_owned(), verb: "read", source }),
        }
    }

    /// A source stream; `None` if there is none.
    pub async fn source_stream(&self, stream: &str) -> Result<Option<SourceStream>, StreamsError> {
        let Some(info) = self.stream_info(stream).await? else { return Ok(None) };
        let config = info.config;
        let limits = config.consumer_limits.map(|limits| limits.inactive_threshold);
        let filled_otherwise =
            config.mirror.is_some() || config.sources.as_ref().is_some_and(|sources| !sources.is_empty());
        let takes_by_subjects_alone = !filled_otherwise && config.subject_transform.is_none();
        Ok(Some(SourceStream {
            name: stream.to_owned(),
            created: Timestamp::from_unix_nanos(info.created.unix_timestamp_nanos().try_into().unwrap_or(0))
                .to_string(),
            last_sequence: info.state.last_sequence,
            first_sequence: info.state.first_sequence,
            retention: match config.retention {
                RetentionPolicy::Limits => Retention::Limits,
                RetentionPolicy::Interest => Retention::Interest,
                RetentionPolicy::WorkQueue => Retention::WorkQueue,
            },
            max_age: Some(config.max_age).filter(|age| !age.is_zero()),
            discards_old: config.discard == DiscardPolicy::Old
                && (config.max_messages > 0 || config.max_bytes > 0 || config.max_messages_per_subject > 0),
            forces_inactive_threshold: limits.is_some_and(|limit| !limit.is_zero()),
            replicas: config.num_replicas,
            subjects: takes_by_subjects_alone.then_some(config.subjects),
        }))
    }

    /// Those of these streams that are not there.
    pub async fn missing(&self, streams: Vec<String>) -> Result<Vec<String>, StreamsError> {
        let mut missing = Vec::new();
        for stream in streams {
            if self.stream_info(&stream).await?.is_none() {
                missing.push(stream);
            }
        }
        Ok(missing)
    }

    /// The last sequence of a stream; 0 if it has none.
    pub async fn last_sequence(&self, stream: &str) -> Result<u64, StreamsError> {
        Ok(self.stream_info(stream).await?.map_or(0, |info| info.state.last_sequence))
    }

    /// Messages in a stream.
    pub async fn stream_messages(&self, stream: &str) -> Result<u64, StreamsError> {
        Ok(self.stream_info(stream).await?.map_or(0, |info| info.state.messages))
    }

    /// Makes what is missing of the engine's streams and bucket, and refuses what is there but unfit.
    pub async fn ensure_streams(&self, lane_messages_max: u64) -> Result<(), StreamsError> {
        let max_payload = self.max_payload();
        if max_payload < MAX_PAYLOAD_MIN {
            return Err(StreamsError::MaxPayload { have: max_payload });
        }
        let whole = |config: &Config| fit::whole_messages(config, max_payload);
        self.fitting(retries(self), |config| fit::retries(config).and_then(|()| whole(config))).await?;
        let lanes = lanes(self, lane_messages_max);
        self.fitting(lanes, |config| fit::lanes(config).and_then(|()| whole(config))).await?;
        self.let_lanes_be_read_in_batches().await;
        self.fitting(dead_letters(self), fit::dead_letters).await?;
        self.ensure_bucket().await
    }

    /// Lanes are read in batches where their stream allows direct gets. One that an older version has made doesn't: that is
    /// changed, and nothing else of it. Where it may not be, lanes are read one task at a time.
    async fn let_lanes_be_read_in_batches(&self) {
        let stream = self.prefix().lanes();
        let changed = async {
            let mut info: serde_json::Value = api(self, format!("STREAM.INFO.{stream}"), &json!({})).await?;
            if info["config"]["allow_direct"] == true {
                return Ok(());
            }
            // As the server says it, so that what this client doesn't know is kept.
            info["config"]["allow_direct"] = true.into();
            let _: serde_json::Value = api(self, format!("STREAM.UPDATE.{stream}"), &info["config"]).await?;
            tracing::info!(stream, "the stream of lanes allows direct gets from now on");
            Ok::<_, ApiError>(())
        };
        if let Err(error) = changed.await {
            tracing::warn!(
                stream,
                error = crate::model::fault::chain(&error),
                "the stream of lanes doesn't allow direct gets, so lanes are read one task at a time; `nats stream edit --allow-direct` changes that"
            );
        }
    }

    async fn fitting(
        &self,
        config: Config,
        fits: impl Fn(&Config) -> Result<(), StreamsError>,
    ) -> Result<(), StreamsError> {
        let subjects = config.subjects.clone();
        // In a box: configurations are large, and futures that hold them are moved whole.
        let there = Box::pin(self.ensure(config)).await?;
        fits(&there)?;
        fit::takes_its_own(&there, &subjects)
    }

    /// Whether the key-value bucket can be read, as far as that depends on JetStream: asked of its stream's leader, because
    /// what a cluster without one still answers means nothing. A bucket that is not there can be asked for.
    pub async fn answers(&self) -> Result<(), ApiError> {
        match self.at(&self.prefix().registry_stream(), 1).await {
            Err(error) if error.is_passing() || error.code().is_none() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Makes the default source stream if it is missing.
    pub async fn ensure_events_stream(&self) -> Result<(), StreamsError> {
        let config = Config {
            name: self.prefix().events(),
            subjects: self
                .prefix()
                .events_subjects(&self.prefix().events())
                .iter()
                .map(|&one| one.to_owned())
                .collect(),
            storage: StorageType::File,
            num_replicas: self.replicas(),
            ..Default::default()
        };
        self.ensure(config).await.map(|_| ())
    }

    /// The time by the clock of the server that leads the stream.
    pub async fn server_time(&self, stream: &str) -> Result<Timestamp, ApiError> {
        #[derive(serde::Deserialize)]
        struct Told {
            ts: Timestamp,
        }
        let told: Told = api(self, format!("STREAM.INFO.{stream}"), &json!({})).await?;
        Ok(told.ts)
    }

    pub(super) async fn ensure(&self, config: Config) -> Result<Config, StreamsError> {
        let stream = config.name.clone();
        if let Some(info) = self.stream_info(&stream).await? {
            return Ok(info.config);
        }
        let made: Result<async_nats::jetstream::stream::Info, ApiError> =
            api(self, format!("STREAM.CREATE.{stream}"), &config).await;
        match made {
            Ok(info) => {
                tracing::info!(stream, "stream made");
                Ok(info.config)
            }
            // Somebody else was quicker, with other settings: those are in force.
            Err(error) if error.is(ErrorCode::STREAM_NAME_EXIST) => {
                Ok(self.stream_info(&stream).await?.map_or(config, |info| info.config))
            }
            Err(error) if error.is(ErrorCode::STREAM_SUBJECT_OVERLAP) => {
                Err(self.overlap(stream, &config.subjects).await)
            }
            Err(source) => Err(StreamsError::Api { stream, verb: "made", source }),
        }
    }

    /// Says which streams take the subjects of one that can't be made.
    async fn overlap(&self, stream: String, subjects: &[String]) -> StreamsError {
        #[derive(serde::Deserialize)]
        struct Names {
            #[serde(default)]
            streams: Option<Vec<String>>,
        }
        let mut others = Vec::new();
        for subject in subjects {
            match api::<_, Names>(self, "STREAM.NAMES".to_owned(), &json!({ "subject": subject })).await {
                Ok(names) => others.extend(names.streams.unwrap_or_default()),
                Err(source) => return StreamsError::Api { stream, verb: "made", source },
            }
        }
        others.sort();
        others.dedup();
        let mend = if stream == self.prefix().events() {
            "name that one in `[source] stream`: an engine makes all else itself when it starts"
        } else {
            "take them out of it, or choose another [nats] prefix"
        };
        StreamsError::Overlap { stream, others: others.join(", "), subjects: subjects.join(", "), mend }
    }

    pub(super) async fn ensure_bucket(&self) -> Result<(), StreamsError> {
        let (bucket, stream) = (self.prefix().registry(), self.prefix().registry_stream());
        if self.stream_info(&stream).await?.is_some() {
            return Ok(());
        }
        let config = kv::Config {
            bucket: bucket.clone(),
            history: 1,
            num_replicas: self.replicas(),
            ..Default::default()
        };
        match self.jetstream().create_key_value(config).await {
            Ok(_) => Ok(()),
            // Somebody else was quicker, or nobody answers: then the question says so.
            Err(_) if self.stream_info(&stream).await?.is_some() => Ok(()),
            Err(source) => Err(StreamsError::Bucket { bucket, source: source.into() }),
        }
    }
}

/// Waits and what is due. A stream with schedules can't refuse when it is full: any limit on it deletes waits without
/// a word, so it has none, and the engine counts instead.
fn retries(nats: &Nats) -> Config {
    Config {
        name: nats.prefix().retries(),
        subjects: nats.prefix().retries_subjects().into(),
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        num_replicas: nats.replicas(),
        allow_message_schedules: true,
        allow_direct: false,
        ..Default::default()
    }
}

fn lanes(nats: &Nats, lane_messages_max: u64) -> Config {
    Config {
        name: nats.prefix().lanes(),
        subjects: vec![nats.prefix().lanes_subjects()],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        num_replicas: nats.replicas(),
        max_consumers: 100_000,
        discard: DiscardPolicy::New,
        discard_new_per_subject: true,
        max_messages_per_subject: i64::try_from(lane_messages_max).unwrap_or(i64::MAX),
        allow_direct: true,
        ..Default::default()
    }
}

fn dead_letters(nats: &Nats) -> Config {
    Config {
        name: nats.prefix().dlq(),
        subjects: vec![nats.prefix().dlq_subjects()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: nats.replicas(),
        discard: DiscardPolicy::New,
        max_age: DLQ_AGE,
        allow_direct: true,
        ..Default::default()
    }
}

impl Nats {
    /// How many messages a stream lets one subject hold; `None`: no limit.
    pub async fn messages_per_subject_max(&self, stream: &str) -> Result<Option<u64>, StreamsError> {
        let info = self.stream_info(stream).await?;
        Ok(info
            .and_then(|info| u64::try_from(info.config.max_messages_per_subject).ok())
            .filter(|max| *max > 0))
    }
}
