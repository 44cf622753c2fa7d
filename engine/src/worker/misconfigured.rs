//! Lanes whose subscriptions refer to what has no usable value: they rest, and go on by themselves when it is mended. So do,
//! for a moment, those that the process has no file descriptors left for. No event has a part in either.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Engine;
use super::lane::{Differs, Lane};
use super::running::Ticket;
use crate::model::{Code, Fault, Findings, Name, Task, Timestamp};
use crate::nats::registry::{GONE_AFTER, LaneMode, LaneRecord, RecordChange, RegistryError};

/// What the gauge of the state shows for it.
pub(super) const GAUGE: u8 = 6;

/// How often lanes that wait to be mended are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Every so many looks all lanes are looked at, also those of which nothing is known to be wrong.
const ALL_EVERY: u32 = 5;
/// Longest text of what is wrong with a lane, in bytes.
const WHY_BYTES_MAX: usize = 1024;

impl Engine {
    /// Looks at the references of all lanes before anything is taken, and says what is wrong.
    pub(super) async fn look_at_references(self: &Arc<Self>) {
        self.look(self.all_lanes().cloned().collect(), true).await;
    }

    /// Looks at them again and again.
    pub(super) async fn follow_references(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for look in (0..ALL_EVERY).cycle() {
            ticks.tick().await;
            let all = look == ALL_EVERY - 1;
            let lanes = self.all_lanes().filter(|lane| all || lane.waits_for_mending());
            self.look(lanes.cloned().collect(), false).await;
            if all {
                self.agree_with_registry().await;
            }
        }
    }

    /// Puts a task that could not be attempted into its lane, as it was.
    pub(super) async fn hold(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        task: Task,
        fault: &Fault,
        ticket: Ticket,
        lease: Option<u64>,
    ) {
        if fault.code == Code::OutOfFiles {
            if lane.set_out_of_files(true) {
                let (pipeline, subscription) = (&lane.pipeline.name, &lane.subscription.name);
                tracing::warn!(%pipeline, %subscription, error = fault.detail, "tasks rest in the lane for a moment");
            }
        } else {
            self.look(vec![lane.clone()], false).await;
        }
        self.store_in_lane(lane, task, ticket, lease).await;
    }

    /// Looks at the references of these lanes, which reads files. `again`: says also what is no news.
    async fn look(self: &Arc<Self>, lanes: Vec<Arc<Lane>>, again: bool) {
        if lanes.is_empty() {
            return;
        }
        let look = move || {
            let now = Timestamp::now();
            let look = |lane: Arc<Lane>| (lane.subscription.look_at_references(now), lane);
            lanes.into_iter().map(look).collect::<Vec<_>>()
        };
        let Ok(looked) = tokio::task::spawn_blocking(look).await else { return };
        for (Findings { wrong, served_on }, lane) in looked {
            lane.set_out_of_files(false);
            let (pipeline, subscription) = (&lane.pipeline.name, &lane.subscription.name);
            if lane.set_served_on(!served_on.is_empty()) && !served_on.is_empty() {
                let why = Findings::joined(&served_on);
                tracing::warn!(
                    %pipeline, %subscription, why,
                    "a reference has no usable value, the last good one serves on for ten minutes"
                );
            }
            let why = (!wrong.is_empty()).then(|| cut(Findings::joined(&wrong)));
            let news = lane.set_misconfigured(why.clone());
            match why {
                Some(why) if news || again => tracing::error!(
                    %pipeline, %subscription, why,
                    "lane misconfigured: a reference has no usable value, tasks wait in the lane until it is mended"
                ),
                None if news => {
                    tracing::info!(%pipeline, %subscription, "lane goes on, its references are mended");
                }
                Some(_) | None => {}
            }
            if news {
                let engine = self.clone();
                self.tracker.spawn(async move { engine.say_in_registry(&lane).await });
            }
        }
    }

    /// Keeps the state for people to see, or takes back what this engine has said.
    pub(super) async fn say_in_registry(&self, lane: &Lane) {
        if let Err(error) = self.agree(lane, |engine| engine == self.id).await {
            tracing::debug!(%error, "the state of a lane was not kept");
        }
    }

    /// Makes up for what was not said, and takes back what engines have said that are gone.
    async fn agree_with_registry(&self) {
        let mut said: HashMap<&Name, Vec<(&Arc<Lane>, String)>> = HashMap::new();
        for lane in self.all_lanes() {
            match lane.differs() {
                Some(Differs::Unsaid) => self.say_in_registry(lane).await,
                Some(Differs::SaidBy(engine)) => {
                    said.entry(&lane.pipeline.name).or_default().push((lane, engine));
                }
                None => {}
            }
        }
        for (pipeline, said) in said {
            let Ok(signs) = self.registry.signs(pipeline).await else { continue };
            let now = Timestamp::now();
            let lives = |engine: &str| {
                engine != self.id
                    && signs.iter().any(|sign| sign.engine == engine && now.since(sign.at) < GONE_AFTER)
            };
            for (lane, engine) in said {
                if !lives(&engine)
                    && let Err(error) = self.agree(lane, |by| by == engine).await
                {
                    tracing::debug!(%error, "the state of a lane was not cleared");
                }
            }
        }
    }

    /// Makes a lane's record say what this engine knows, by compare-and-set. What a person has said stays, and what an engine
    /// has said of which `ours` is not true.
    async fn agree(
        &self,
        lane: &Lane,
        ours: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<(), RegistryError> {
        let said = |there: Option<&LaneRecord>| {
            let by = there.map(|record| record.engine.as_deref().unwrap_or_default());
            match wanted(lane.misconfigured(), there, by.is_some_and(&ours)) {
                Wanted::Nothing => RecordChange::Leave,
                Wanted::Removed => RecordChange::Remove,
                Wanted::Said(why) => {
                    let engine = Some(self.id.clone());
                    RecordChange::Write(LaneRecord {
                        engine,
                        ..LaneRecord::new(LaneMode::Misconfigured, why)
                    })
                }
            }
        };
        // What this engine has just said is its own: asked once more, it is right as it is.
        self.change_record(lane, said).await.map(|_| ())
    }
}

/// What has to become of a lane's record.
#[derive(PartialEq, Eq, Debug)]
enum Wanted {
    Nothing,
    Said(String),
    Removed,
}

/// `misconfigured` is what this engine knows; `ours`: what is there may be changed.
fn wanted(misconfigured: Option<String>, there: Option<&LaneRecord>, ours: bool) -> Wanted {
    let state = there.map_or(LaneMode::Active, |record| record.state);
    match (misconfigured, state) {
        (Some(why), LaneMode::Active | LaneMode::Open) => Wanted::Said(why),
        (Some(why), LaneMode::Misconfigured) if ours && there.is_some_and(|there| there.why != why) => {
            Wanted::Said(why)
        }
        (None, LaneMode::Misconfigured) if ours => Wanted::Removed,
        _ => Wanted::Nothing,
    }
}

fn cut(mut why: String) -> String {
    if why.len() > WHY_BYTES_MAX {
        why.truncate(why.floor_char_boundary(WHY_BYTES_MAX - 3));
        why.push('…');
    }
    why
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::super::lane::{Entry, Plan};
    use super::*;
    use crate::deliver::publish::{Message, Outlet, Publisher, Settings};
    use crate::filter::Filter;
    use crate::lane::circuit;
    use crate::lane::retry::{Jitter, Policy};
    use crate::model::SubjectTemplate;
    use crate::nats::{Prefix, StoreError};
    use crate::pipeline::{Pipeline, Subscription, SubscriptionParts, Target};
    use crate::source::{DeliveryIdFrom, Start};
    use crate::validate::Validator;

    struct Nowhere;

    impl Outlet for Nowhere {
        fn publish(&self, _: Message) -> BoxFuture<'_, Result<(), StoreError>> {
            unreachable!("nothing is attempted")
        }
    }

    /// A lane whose circuit opens at the first failure.
    fn lane() -> Lane {
        let subject = SubjectTemplate::parse("out.all").unwrap();
        let settings = Settings { subject, timeout: Duration::from_secs(1) };
        let circuit =
            circuit::Settings { failures: 1, failing_for: Duration::ZERO, ..circuit::Settings::default() };
        let name = |text| Name::new(text).unwrap();
        let subscription = Subscription::new(SubscriptionParts {
            name: name("a"),
            filter: Filter::new(crate::filter::Settings::default()),
            steps: Vec::new(),
            target: Target::Publish(Publisher::new(settings, Prefix::new(&name("hookmill")), Nowhere)),
            retry: Policy { schedule: Vec::new(), jitter: Jitter::Share(0.0), max_age: None },
            concurrency: 4,
            rate: None,
            circuit,
            timeout: Duration::from_secs(1),
        });
        let source = crate::source::Settings {
            stream: "S".into(),
            subjects: Vec::new(),
            start: Start::New,
            max_in_flight: 1,
            reading: crate::model::event::Reading::Tolerant,
            webhook_id: DeliveryIdFrom::Event,
        };
        let validator = Validator::new(crate::validate::Settings::default());
        let pipeline = Arc::new(Pipeline::new(name("p"), "r".into(), source, validator, vec![subscription]));
        let subscription = pipeline.subscriptions()[0].clone();
        Lane::new(pipeline, subscription)
    }

    const WHY: &str = "sign: environment variable X is not set";

    #[test]
    fn a_misconfigured_lane_rests_like_a_paused_one_and_the_time_expires_nothing() {
        let (lane, now) = (lane(), Timestamp::from_unix_seconds(100));
        assert!(lane.failed(now, now, "down", None));
        assert!(matches!(lane.plan(), Plan::Probe { .. }));
        assert!(
            lane.set_misconfigured(Some(WHY.to_owned())) && !lane.set_misconfigured(Some(WHY.to_owned()))
        );
        // With a plan to probe, what has waited for long would be dead-lettered first.
        assert_eq!(
            (lane.entry(), lane.plan(), lane.gauge(), lane.moves()),
            (Entry::Store, Plan::Rest, GAUGE, false)
        );
        lane.set_record(None, now, now);
        assert_eq!((lane.plan(), lane.differs()), (Plan::Rest, Some(Differs::Unsaid)), "it was resumed");
        lane.set_record(Some(&LaneRecord::new(LaneMode::Paused, "by hand")), now, now);
        assert_eq!((lane.gauge(), lane.differs()), (3, None));
        assert!(lane.set_misconfigured(None));
        assert_eq!(lane.plan(), Plan::Rest, "the pause stays");
        lane.set_record(None, now, now);
        assert!(matches!(lane.plan(), Plan::Drain(_)) && lane.entry() == Entry::Wait);
    }

    #[test]
    fn what_another_engine_lacks_stops_only_that_one() {
        let lane = lane();
        let engine = Some("other".to_owned());
        let record = LaneRecord { engine, ..LaneRecord::new(LaneMode::Misconfigured, WHY) };
        let now = Timestamp::from_unix_seconds(100);
        lane.restore(&record, now, now);
        lane.set_record(Some(&record), now, now);
        assert_eq!((lane.entry(), lane.gauge()), (Entry::Wait, 0));
        assert_eq!(lane.differs(), Some(Differs::SaidBy("other".to_owned())));
    }

    #[test]
    fn a_lane_without_descriptors_rests_and_is_not_taken_for_full() {
        let lane = lane();
        assert!(lane.set_out_of_files(true) && !lane.set_out_of_files(true));
        assert_eq!((lane.entry(), lane.plan(), lane.moves()), (Entry::Store, Plan::Rest, true));
        assert!(lane.waits_for_mending() && lane.set_out_of_files(false));
        assert_eq!(lane.entry(), Entry::Wait);
    }

    #[test]
    fn what_a_person_or_another_engine_has_said_stays() {
        let record = |state| LaneRecord::new(state, "kept");
        let now = |misconfigured: Option<&str>, state: LaneMode, ours| {
            wanted(misconfigured.map(str::to_owned), Some(&record(state)), ours)
        };
        let said = Wanted::Said("new".to_owned());
        assert_eq!(wanted(Some("new".to_owned()), None, false), said);
        assert_eq!(now(Some("new"), LaneMode::Open, false), said, "it rests, whatever its circuit has seen");
        assert_eq!(now(Some("new"), LaneMode::Misconfigured, true), said);
        assert_eq!(now(Some("kept"), LaneMode::Misconfigured, true), Wanted::Nothing);
        assert_eq!(now(None, LaneMode::Misconfigured, true), Wanted::Removed);
        for misconfigured in [None, Some("new")] {
            assert_eq!(now(misconfigured, LaneMode::Misconfigured, false), Wanted::Nothing);
            for state in [LaneMode::Paused, LaneMode::Disabled, LaneMode::Unreadable, LaneMode::Unknown] {
                assert_eq!(now(misconfigured, state, true), Wanted::Nothing, "{state:?}");
            }
        }
        assert_eq!(
            (wanted(None, None, true), now(None, LaneMode::Open, true)),
            (Wanted::Nothing, Wanted::Nothing)
        );
    }
}
