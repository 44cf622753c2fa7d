//! What has to be done beside the work: progress acks, counts and gauges, finding lanes, following the registry.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use metrics::gauge;

use super::held::PROGRESS_EVERY;
use super::lane::{Differs, Lane};
use super::{Engine, FLOOR_EVERY};
use crate::model::{EventRef, Name, Timestamp};
use crate::nats::streams::DLQ_AGE;
use crate::pipeline::{Arrival, Pipeline};
use crate::telemetry::metrics as names;

/// How long before their removal dead letters are spoken of.
const AGES_OUT_SOON: Duration = Duration::from_secs(3 * 86_400);

/// Pause before something that is followed, and was lost, is followed again.
const FOLLOW_AGAIN: Duration = Duration::from_secs(1);

impl Engine {
    /// Starts everything of this file.
    pub(super) fn keep_house(self: &Arc<Self>) {
        self.keep_going_to_the_end("progress of what is held", |engine| async move {
            loop {
                tokio::time::sleep(PROGRESS_EVERY).await;
                engine.holds.progress().await;
            }
        });
        // To the end as well: what is under way at shutdown is this process's own until its end.
        self.keep_going_to_the_end("sign of life", |engine| async move { engine.keep_process_sign().await });
        self.keep_going("owners of lanes", |engine| async move {
            loop {
                engine.follow_owners().await;
                tokio::time::sleep(FOLLOW_AGAIN).await;
            }
        });
        self.keep_going(
            "why a store is refused",
            |engine| async move { engine.storing.look_into_it().await },
        );
        self.keep_going("lanes and counts", |engine| async move {
            let mut blind = HashSet::new();
            loop {
                engine.count().await;
                engine.find_lanes().await;
                blind = engine.see_what_is_due(&blind).await;
                engine.compare_clocks().await;
                tokio::time::sleep(FLOOR_EVERY).await;
            }
        });
        self.keep_going("references", Self::follow_references);
        self.keep_going("overdue waits", |engine| async move {
            let mut from = 1;
            loop {
                from = engine.wake_the_overdue(from).await;
                tokio::time::sleep(FLOOR_EVERY).await;
            }
        });
        self.keep_going("records of lanes", |engine| async move {
            loop {
                engine.follow_registry().await;
                tokio::time::sleep(FOLLOW_AGAIN).await;
            }
        });
        for pipeline in self.pipelines.clone() {
            self.keep_going("nudges", move |engine| {
                let pipeline = pipeline.clone();
                async move {
                    loop {
                        engine.follow_nudges(&pipeline).await;
                        tokio::time::sleep(FOLLOW_AGAIN).await;
                    }
                }
            });
        }
    }

    /// Gauges, and how many tasks wait.
    async fn count(&self) {
        gauge!(names::IN_FLIGHT).set(as_gauge(self.holds.count() as u64));
        let prefix = self.nats.prefix();
        if let Ok(waiting) = self.nats.stream_messages(&prefix.retries()).await {
            self.waiting.store(waiting, Ordering::Relaxed);
            gauge!(names::WAITING).set(as_gauge(waiting));
        }
        if let Ok(dead) = self.nats.stream_messages(&prefix.dlq()).await {
            gauge!(names::DEAD_LETTERS).set(as_gauge(dead));
        }
        self.watch_oldest_dead_letter().await;
        for lane in self.all_lanes() {
            gauge!(names::LANE_STATE, &lane_labels(lane)).set(f64::from(lane.gauge()));
        }
    }

    /// Dead letters are kept for a time only: says so while there is still time.
    async fn watch_oldest_dead_letter(&self) {
        let (stream, subjects) = (self.nats.prefix().dlq(), self.nats.prefix().dlq_subjects());
        let Ok(oldest) = self.nats.next_on(&stream, &subjects, 1).await else { return };
        let age = oldest.map_or(Duration::ZERO, |oldest| Timestamp::now().since(oldest.time));
        gauge!(names::DEAD_LETTERS_OLDEST).set(age.as_secs_f64());
        let soon = age > DLQ_AGE.saturating_sub(AGES_OUT_SOON);
        if soon && !self.ages_out.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "dead letters will be removed within 3 days because of their age; `hookmill dlq list --older-than 27d` shows them"
            );
        } else if !soon {
            self.ages_out.store(false, Ordering::Relaxed);
        }
    }

    /// A consumer of due tasks that doesn't see what lies there, twice in a row, is deleted: the pull makes it anew.
    /// Returns the pipelines with such a one.
    async fn see_what_is_due(&self, before: &HashSet<Name>) -> HashSet<Name> {
        let stream = self.nats.prefix().retries();
        let mut blind = HashSet::new();
        for pipeline in &self.pipelines {
            let (name, filter) = (pipeline.name.as_str(), self.nats.prefix().due_all(&pipeline.name));
            if !matches!(self.nats.is_blind(&stream, name, &filter).await, Ok(true)) {
                continue;
            }
            if !before.contains(&pipeline.name) {
                blind.insert(pipeline.name.clone());
                continue;
            }
            tracing::warn!(
                pipeline = name,
                "the consumer of due tasks doesn't see what is due, making it anew"
            );
            if let Err(error) = self.nats.delete_consumer(&stream, name).await {
                tracing::debug!(%error, "the consumer of due tasks is not deleted yet");
            }
        }
        blind
    }

    /// Asks the stream which lanes have something in them; those that were direct begin to spill.
    async fn find_lanes(self: &Arc<Self>) {
        for pipeline in self.pipelines.clone() {
            self.find_lanes_of(&pipeline).await;
        }
    }

    async fn find_lanes_of(self: &Arc<Self>, pipeline: &Arc<Pipeline>) {
        let prefix = self.nats.prefix();
        let counts = self.nats.counts(&prefix.lanes(), &prefix.lane_all(pipeline.name.as_str())).await;
        let Ok(counts) = counts else { return };
        for lane in self.all_lanes().filter(|lane| lane.pipeline.name == pipeline.name) {
            let (subscription, labels) = (&lane.subscription.name, lane_labels(lane));
            let subject = prefix.lane(pipeline.name.as_str(), subscription.as_str());
            // A lane that has been drained is in no answer any more.
            let count = counts.get(&subject).copied().unwrap_or(0);
            gauge!(names::LANE_BACKLOG, &labels).set(as_gauge(count));
            if count == 0 && lane.is_unreadable() {
                self.readable_again(&pipeline.name, subscription.as_str()).await;
            }
        }
        if !counts.contains_key(&prefix.lane(pipeline.name.as_str(), "_")) {
            self.whole_readable_again(&pipeline.name).await;
        }
        for (subject, count) in counts {
            let Some((_, token)) = prefix.parts(&subject) else { continue };
            if token == "_" {
                // They fan out by the file in force, or a subscription that only that one has would miss them.
                if self.is_in_force(&pipeline.name) {
                    self.drain_whole(pipeline);
                }
                continue;
            }
            let lane = Name::new(token).ok().and_then(|name| self.lane_named(&pipeline.name, &name));
            if let Some(lane) = lane.filter(|_| count > 0) {
                self.begin_to_spill(&lane);
            }
        }
    }

    pub(super) fn begin_to_spill(self: &Arc<Self>, lane: &Arc<Lane>) {
        if lane.spill() {
            self.drain_lane(lane.clone());
        }
    }

    /// Tells other engines that a lane of this pipeline got something.
    pub(super) async fn nudge(&self, pipeline: &Name) {
        let subject = self.nats.prefix().nudge(pipeline);
        // Lost nudges are made up for by the look every few seconds.
        let _ = self.nats.nudge(subject).await;
    }

    async fn follow_nudges(self: &Arc<Self>, pipeline: &Arc<Pipeline>) {
        let Ok(mut nudges) = self.nats.nudges(self.nats.prefix().nudge(&pipeline.name)).await else { return };
        while nudges.next().await.is_some() {
            self.find_lanes_of(pipeline).await;
            // Many at once are one.
            tokio::time::sleep(Duration::from_millis(250)).await;
            while nudges.next().now_or_never().flatten().is_some() {}
        }
    }

    async fn follow_registry(self: &Arc<Self>) {
        let Ok(changes) = self.registry.watch_lanes().await else { return };
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = changes.next().await {
            let (Ok(pipeline), Ok(subscription)) =
                (Name::new(&change.pipeline), Name::new(&change.subscription))
            else {
                continue;
            };
            if let Some(lane) = self.lane_named(&pipeline, &subscription) {
                let record = change.record.as_ref();
                if let Some(held) = lane.set_record(record, Timestamp::now(), Timestamp::steady()) {
                    self.left_alone(&lane, held);
                }
                // Whoever resumes a lane is told again what it lacks.
                if lane.differs() == Some(Differs::Unsaid) {
                    self.say_in_registry(&lane).await;
                }
            }
        }
    }

    /// Keeps the floor of a pipeline as it is now.
    pub(super) async fn keep_floor(&self, pipeline: &Pipeline) {
        if let Ok(place) = crate::source::find(&self.nats, &pipeline.name, &pipeline.source).await {
            let _ = place.look(&self.nats, &self.registry, &pipeline.name, &pipeline.source).await;
        }
    }

    /// Tells onlookers of an event that a subscription's `match` refused.
    pub(super) fn saw_filtered(
        &self,
        pipeline: &Pipeline,
        subscription: &Name,
        arrival: Arrival<'_>,
        about: &Arc<EventRef>,
    ) {
        let Some(onlooker) = &self.onlooker else { return };
        let message = crate::model::SourceMessage { headers: Vec::new(), body: bytes::Bytes::new() };
        let mut task = pipeline.whole(message, arrival, about.clone());
        task.subscription = Some(subscription.clone());
        let next = crate::model::Next::Filtered(crate::model::Filtered::Filter);
        onlooker(&super::Seen { task: &task, next: &next, at: Timestamp::now() });
    }
}

fn lane_labels(lane: &Lane) -> [(&'static str, String); 2] {
    [("pipeline", lane.pipeline.name.to_string()), ("subscription", lane.subscription.name.to_string())]
}

fn as_gauge(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    let value = count as f64;
    value
}
