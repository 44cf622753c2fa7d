//! What people do meanwhile: they pause lanes and resume them, and see to the endpoints that are gone or away now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Settings;
use super::clock::Clock;
use super::many;
use super::receivers::{PROBED_WITHIN, Script, Switches};
use super::silence::{STOP_AFTER, Stop};
use super::watch::connect;
use crate::hookmill;

/// Pause before a command that failed is given again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Pause between two looks at a lane's record.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Subscriptions that are paused now and then. Not the healthy one: by it the harness tells that events flow.
const PAUSED: [Script; 5] = [Script::Slow, Script::Flaky, Script::Busy, Script::Rated, Script::Signed];

/// Everybody who has something to do; `Stop`s are what they have done.
pub(super) struct People {
    tasks: JoinSet<Vec<Stop>>,
    leave: Arc<AtomicBool>,
}

impl People {
    /// `is_gone`: whether the endpoint of [`Script::Gone`] answers 410.
    pub(super) async fn start(settings: &Settings, url: &str, clock: Clock, switches: Arc<Switches>) -> Self {
        let leave = Arc::<AtomicBool>::default();
        let person = |number: u64| Person {
            url: url.to_owned(),
            clock,
            rng: StdRng::seed_from_u64(settings.seed ^ (number << 40)),
            leave: Arc::clone(&leave),
            stops: Vec::new(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(person(1).pauses(PAUSED.map(lane).to_vec()));
        if settings.lanes > 0 {
            tasks.spawn(person(3).pauses((0..settings.lanes).map(many::lane).collect()));
        }
        let jetstream = jetstream::new(connect(url).await);
        tasks.spawn(person(2).sees_to_the_gone_one(jetstream, Arc::clone(&switches)));
        tasks.spawn(person(4).sees_to_the_one_away(switches));
        Self { tasks, leave }
    }

    /// Waits until all lanes are resumed; what was stopped, and when.
    pub(super) async fn leave(self) -> Vec<Stop> {
        self.leave.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.concat()
    }
}

struct Person {
    url: String,
    clock: Clock,
    rng: StdRng,
    leave: Arc<AtomicBool>,
    stops: Vec<Stop>,
}

impl Person {
    fn leaves(&self) -> bool {
        self.leave.load(Ordering::Relaxed)
    }

    /// Waits so long, or until it is time to leave.
    async fn waits(&self, time: Duration) {
        let until = self.clock.now() + time;
        while self.clock.now() < until && !self.leaves() {
            sleep(LOOK_EVERY).await;
        }
    }

    fn a_while(&mut self, millis: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(millis))
    }

    /// Pauses one of these lanes after the other for a while.
    async fn pauses(mut self, lanes: Vec<String>) -> Vec<Stop> {
        loop {
            let time = self.a_while(1_000..5_000);
            self.waits(time).await;
            if self.leaves() {
                return self.stops;
            }
            let lane = lanes[self.rng.random_range(0..lanes.len())].clone();
            let asked = self.clock.now();
            let is_paused = self.says("pause", &lane).await;
            let holds = is_paused.then(|| self.clock.now());
            let time = STOP_AFTER + self.a_while(3_000..12_000);
            self.waits(time).await;
            self.resumes(lane, asked, holds).await;
        }
    }

    /// Lets the endpoint be gone now and then, and mends it and resumes its lane when that is disabled.
    async fn sees_to_the_gone_one(
        mut self,
        jetstream: jetstream::Context,
        switches: Arc<Switches>,
    ) -> Vec<Stop> {
        let lane = lane(Script::Gone);
        loop {
            let works_until = self.clock.now() + self.a_while(6_000..15_000);
            while self.clock.now() < works_until && !self.leaves() {
                let looked = self.clock.now();
                self.waits(LOOK_EVERY).await;
                // An engine that stood still has come to a 410 of the last time only now.
                if is_disabled(&jetstream).await {
                    self.resumes(lane.clone(), looked, None).await;
                }
            }
            if self.leaves() {
                return self.stops;
            }
            let asked = self.clock.now();
            switches.gone.store(true, Ordering::Relaxed);
            let mut holds = None;
            while holds.is_none() && !self.leaves() {
                sleep(LOOK_EVERY).await;
                holds = is_disabled(&jetstream).await.then(|| self.clock.now());
            }
            switches.gone.store(false, Ordering::Relaxed);
            let time = STOP_AFTER + self.a_while(2_000..8_000);
            self.waits(time).await;
            self.resumes(lane.clone(), asked, holds).await;
        }
    }

    /// Breaks the endpoint now and then, and mends it. That is no stop: engines find out by themselves, and go on when it is back.
    async fn sees_to_the_one_away(mut self, switches: Arc<Switches>) -> Vec<Stop> {
        loop {
            let time = self.a_while(6_000..20_000);
            self.waits(time).await;
            if self.leaves() {
                return self.stops;
            }
            let asked = self.clock.now();
            switches.away.store(true, Ordering::Relaxed);
            let time = self.a_while(12_000..18_000);
            self.waits(time).await;
            switches.away.store(false, Ordering::Relaxed);
            let end_asked = self.clock.now();
            let ended = end_asked + PROBED_WITHIN;
            self.stops.push(Stop { lane: lane(Script::Away), asked, holds: None, end_asked, ended });
        }
    }

    async fn resumes(&mut self, lane: String, asked: Duration, holds: Option<Duration>) {
        let end_asked = self.clock.now();
        while !self.says("resume", &lane).await {
            sleep(AGAIN_AFTER).await;
        }
        self.stops.push(Stop { lane, asked, holds, end_asked, ended: self.clock.now() });
    }

    async fn says(&self, what: &str, lane: &str) -> bool {
        hookmill(&["lane", what, lane, "--nats", &self.url]).await.code == 0
    }
}

/// `pipeline/subscription` of a script.
pub(super) fn lane(script: Script) -> String {
    format!("orders/{}", script.name())
}

/// Whether the registry says that the lane of the endpoint that is gone is disabled.
async fn is_disabled(jetstream: &jetstream::Context) -> bool {
    let key = format!("lane.orders.{}", Script::Gone.name());
    let entry = async { jetstream.get_key_value("HOOKMILL_REGISTRY").await.ok()?.get(key).await.ok()? };
    let Some(record) = entry.await else { return false };
    serde_json::from_slice::<serde_json::Value>(&record).is_ok_and(|record| record["state"] == "disabled")
}
