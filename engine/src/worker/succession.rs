//! One engine takes over from another in the same process, with other files. The old one takes nothing more, what it has
//! begun comes to its end by the old files; pulls, slots, circuits and what was answered go on in the new one.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use metrics::gauge;

use super::intake::PAUSE;
use super::taking::Left;
use super::{Engine, Kept, Lanes, StartError};
use crate::model::{Name, Timestamp};
use crate::pipeline::Pipeline;
use crate::telemetry::metrics as names;

/// How long it is waited for what takes messages to hand its pulls over. It does so at once, unless NATS is away: then they are
/// built anew.
const INTAKE_END_MAX: Duration = Duration::from_secs(2);

/// An engine that can take over from another one: everything that may be refused has been tried.
pub struct Successor {
    old: Arc<Engine>,
    pipelines: Vec<Arc<Pipeline>>,
    /// Lanes that the old engine doesn't have.
    lanes: Lanes,
}

impl Engine {
    /// Verifies the sources of other pipelines. This engine goes on as it was, whatever comes of it.
    pub async fn successor(self: &Arc<Self>, pipelines: Vec<Arc<Pipeline>>) -> Result<Successor, StartError> {
        let mut lanes = Lanes::new();
        let takes = super::sources_examined(&self.nats, &self.registry, &pipelines).await?;
        super::loops::refuse(&pipelines, &takes)?;
        for pipeline in &pipelines {
            let known = self.lanes.get(&pipeline.name);
            let is_new = |name: &&Name| known.is_none_or(|known| !known.contains_key(*name));
            let new = pipeline.subscriptions().iter().map(|subscription| &subscription.name).filter(is_new);
            let room = known.and_then(|known| known.values().next()).map(|lane| Arc::clone(&lane.room));
            let room = room.unwrap_or_default();
            let new = super::lanes_anew(&self.registry, pipeline, new, &room).await?;
            lanes.insert(pipeline.name.clone(), new);
        }
        Ok(Successor { old: self.clone(), pipelines, lanes })
    }

    /// Puts the files into force, again and again until NATS has taken them, then lets the others go and begins.
    async fn take_over(self: Arc<Self>, old: Arc<Self>, left: Left) {
        let mut pause = PAUSE.0;
        for pipeline in &self.pipelines {
            while let Err(error) = self.put_into_force(pipeline).await {
                tracing::warn!(pipeline = %pipeline.name, error = crate::model::fault::chain(&error), "a file that was loaded is not in force yet");
                self.pause(&mut pause).await;
                if self.stop.is_cancelled() {
                    return;
                }
            }
        }
        old.retire().await;
        old.clear_gauges(&self);
        self.look_at_references().await;
        self.begin(left);
        self.keep_house();
        for lane in self.all_lanes().filter(|lane| lane.is_spilling()) {
            // The old engine's drain has ended.
            self.drain_lane(lane.clone());
        }
    }

    /// Ends when everything that this engine has begun has come to its end, or `cut_off` does.
    async fn come_to_its_end(self: Arc<Self>, kept: Vec<Name>, cut_off: tokio_util::sync::CancellationToken) {
        tokio::select! {
            () = self.tracker.wait() => {}
            () = cut_off.cancelled() => {}
        }
        self.give_up_lanes_without_heir().await;
        self.cut_off.cancel();
        // The floors of the others are kept by who takes them now: this engine may have had them from another stream.
        let gone = self.pipelines.iter().filter(|pipeline| !kept.contains(&pipeline.name));
        self.nats.flush().await;
        for pipeline in gone {
            self.keep_floor(pipeline).await;
        }
        tracing::debug!(engine = self.id, "what the engine before had begun has come to its end");
    }

    /// Lets others drain the lanes that are in no file of this process any more.
    async fn give_up_lanes_without_heir(&self) {
        let Some(heir) = self.successor.get().and_then(std::sync::Weak::upgrade) else { return };
        for lane in self.all_lanes().filter(|lane| heir.heir_of(lane).is_none()) {
            self.give_up_lane(lane).await;
        }
    }

    /// What the gauges say of files and lanes that are no longer there.
    fn clear_gauges(&self, new: &Self) {
        for pipeline in &self.pipelines {
            let now = new.pipelines.iter().find(|other| other.name == pipeline.name);
            if now.is_none_or(|now| now.revision != pipeline.revision) {
                let revision = pipeline.revision.to_string();
                let labels = [("pipeline", pipeline.name.to_string()), ("revision", revision)];
                gauge!(names::CONFIG_INFO, &labels).set(0.0);
            }
        }
        for lane in self.all_lanes() {
            let (pipeline, subscription) = (&lane.pipeline.name, &lane.subscription.name);
            if new.lane_named(pipeline, subscription).is_none() {
                let labels = [("pipeline", pipeline.to_string()), ("subscription", subscription.to_string())];
                gauge!(names::LANE_STATE, &labels).set(0.0);
                gauge!(names::LANE_BACKLOG, &labels).set(0.0);
            }
        }
    }
}

impl Successor {
    /// Takes over: from now on nothing is taken by the old files. Not to be dropped half way.
    pub async fn take_over(self) -> Arc<Engine> {
        let Self { old, pipelines, mut lanes } = self;
        old.hands_over.store(true, Ordering::Release);
        old.stop.cancel();
        old.intake.close();
        if tokio::time::timeout(INTAKE_END_MAX, old.intake.wait()).await.is_err() {
            tracing::debug!("pulls are built anew, the old ones were not handed over in time");
        }
        let left = std::mem::take(&mut *old.left.lock().unwrap_or_else(PoisonError::into_inner));
        let now = Timestamp::steady();
        for pipeline in &pipelines {
            let of_pipeline = lanes.entry(pipeline.name.clone()).or_default();
            for subscription in pipeline.subscriptions() {
                let Some(lane) = old.lane_named(&pipeline.name, &subscription.name) else { continue };
                let shrink = |shrinking| drop(old.house.spawn(shrinking));
                let lane = lane.succeeded_by(pipeline.clone(), subscription.clone(), now, shrink);
                of_pipeline.insert(subscription.name.clone(), Arc::new(lane));
            }
        }
        let kept = Kept {
            nats: old.nats.clone(),
            registry: old.registry.clone(),
            limits: old.limits,
            onlooker: old.onlooker.clone(),
            gate: old.storing.gate.clone(),
            holds: old.holds.clone(),
            running: old.running.clone(),
            process: old.process.clone(),
            turns: old.turns.clone(),
            answered: old.answered.clone(),
            reused_ids: old.reused_ids.clone(),
            suspects: old.suspects.clone(),
            waiting: old.waiting.load(Ordering::Relaxed),
            ages_out: old.ages_out.load(Ordering::Relaxed),
        };
        let new = Engine::of(kept, pipelines, lanes);
        let _ = old.successor.set(Arc::downgrade(&new));
        old.tracker.close();
        let kept = new.pipelines.iter().map(|pipeline| pipeline.name.clone()).collect();
        new.tracker.spawn(old.clone().come_to_its_end(kept, new.cut_off.clone()));
        new.tracker.spawn(new.clone().take_over(old, left));
        new
    }
}
