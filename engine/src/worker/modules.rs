//! Modules while the engine runs: following what moving references mean, swapping, and saying what is in use.
//!
//! A swap happens between two calls of a step: whatever runs ends with the module that it began with. Everything that
//! can fail (fetching, compiling, the module's samples, its `configure`) comes before it, beside the events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use metrics::counter;
use tokio::time::Instant;

use super::Engine;
use crate::model::fault::chain;
use crate::model::{Digest, Name, Reference, Version};
use crate::nats::StoreError;
use crate::nats::modules::{Record, ResolveError, Use};
use crate::pipeline::{FitError, Fitted, Loader, Pipeline, Step};
use crate::telemetry::metrics as names;

/// How often it is looked without being told of a change, and what is in use is said again.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// When a module that was not put to use is tried again: at first, then twice as long, at most.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(600);
/// Most versions that are tried for one step in one look.
pub const TRIES_MAX: usize = 5;
/// How long a burst of uploads is waited for: many at once are one.
const SETTLE: Duration = Duration::from_millis(20);

/// A step of a pipeline of this engine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Place {
    pipeline: Name,
    subscription: Name,
    step: usize,
}

/// A module that was tried in a place and not put to use.
struct Refusal {
    error: String,
    again: Instant,
    wait: Duration,
}

/// What is remembered from one look to the next.
#[derive(Default)]
struct Refusals(HashMap<(Place, Digest), Refusal>);

impl Refusals {
    /// The error, while it is not yet time to try again.
    fn standing(&self, place: &Place, digest: &Digest, now: Instant) -> Option<&str> {
        let refusal = self.0.get(&(place.clone(), digest.clone()))?;
        (now < refusal.again).then_some(refusal.error.as_str())
    }

    /// Notes one; whether its error is news.
    fn note(&mut self, place: &Place, digest: &Digest, error: String, now: Instant) -> bool {
        let key = (place.clone(), digest.clone());
        let before = self.0.get(&key);
        let wait = before.map_or(AGAIN_AFTER, |before| (before.wait * 2).min(AGAIN_AFTER_MAX));
        let news = before.is_none_or(|before| before.error != error);
        self.0.insert(key, Refusal { error, again: now + wait, wait });
        news
    }

    /// Forgets what a place may not come to use any more.
    fn keep(&mut self, place: &Place, candidates: &[Record]) {
        self.0.retain(|(of, digest), _| {
            of != place || candidates.iter().any(|record| record.digest == *digest)
        });
    }
}

/// What to do about a step.
#[derive(PartialEq, Debug)]
enum Choice<'r> {
    /// It runs the best there is.
    Stay,
    /// It runs the right bytes, which have another version now.
    Relabel(&'r Record),
    /// This may take its place.
    Try(&'r Record),
}

/// Chooses among what a reference may mean, best first, for a step that runs `now`. What was refused is passed over;
/// what runs is never left for anything that is less than it.
fn choose<'r>(
    now: (&Digest, Option<&Version>),
    candidates: &'r [Record],
    refused: impl Fn(&Digest) -> bool,
) -> Choice<'r> {
    for record in candidates {
        if record.digest == *now.0 {
            let same = now.1 == Some(&record.version);
            return if same { Choice::Stay } else { Choice::Relabel(record) };
        }
        if !refused(&record.digest) {
            return Choice::Try(record);
        }
    }
    Choice::Stay
}

/// What a reference may mean, asked once in a look.
type Meanings = HashMap<Reference, Result<Vec<Record>, ResolveError>>;

impl Engine {
    /// Follows moving references and says what is in use, until the engine stops.
    pub(super) async fn follow_modules(self: Arc<Self>) {
        let mut refusals = Refusals::default();
        if self.pipelines.iter().all(|pipeline| places(pipeline).next().is_none()) {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                self.say_all_uses().await;
            }
        }
        loop {
            let Ok(mut changes) = self.modules.watch().await else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            loop {
                match tokio::time::timeout(LOOK_EVERY, changes.next()).await {
                    Ok(None) => break,
                    Ok(Some(())) => {
                        tokio::time::sleep(SETTLE).await;
                        while changes.next().now_or_never().flatten().is_some() {}
                        self.look_at_modules(&mut refusals, false).await;
                    }
                    Err(_) => self.look_at_modules(&mut refusals, true).await,
                }
            }
        }
    }

    /// One look at every step that has its module from the registry; `say`: what is in use is said in any case.
    async fn look_at_modules(&self, refusals: &mut Refusals, say: bool) {
        let mut meanings = Meanings::new();
        let mut loader: Option<Loader> = None;
        for pipeline in &self.pipelines {
            let mut news = say;
            for (place, step) in places(pipeline) {
                let reference = &step.wanted.reference;
                if !meanings.contains_key(reference) {
                    let asked = self.modules.candidates(reference).await;
                    meanings.insert(reference.clone(), asked);
                }
                news |= match &meanings[reference] {
                    Ok(candidates) => {
                        let loader = &*loader.get_or_insert_with(|| Loader::new(step.host()));
                        self.look_at_step(&place, step, candidates, refusals, loader).await
                    }
                    Err(error) => trouble(&place, step, error),
                };
                if let Err(error) = &meanings[reference]
                    && matches!(error, ResolveError::Registry(_))
                {
                    // Each further question may take as long to fail.
                    self.say_uses(pipeline).await;
                    return;
                }
            }
            if news {
                self.say_uses(pipeline).await;
            }
        }
    }

    /// Puts the best module of the candidates in a step's place. Whether there is anything new to say of the step.
    async fn look_at_step(
        &self,
        place: &Place,
        step: &Step,
        candidates: &[Record],
        refusals: &mut Refusals,
        loader: &Loader,
    ) -> bool {
        refusals.keep(place, candidates);
        let (now, mut news) = (Instant::now(), false);
        for _ in 0..TRIES_MAX {
            let fitted = step.fitted();
            let refused = |digest: &Digest| refusals.standing(place, digest, now).is_some();
            let record = match choose((&fitted.digest, fitted.version.as_ref()), candidates, refused) {
                Choice::Stay => break,
                Choice::Relabel(record) => {
                    put(place, step, &fitted, fitted.relabelled(record));
                    news = true;
                    break;
                }
                Choice::Try(record) => record,
            };
            match loader.fit(&self.modules, record, &step.wanted.settings).await {
                Ok(better) => {
                    refusals.0.remove(&(place.clone(), record.digest.clone()));
                    put(place, step, &fitted, better);
                    news = true;
                    break;
                }
                Err(error) => {
                    count(place, kind(&error));
                    let text = format!("{}@{} is not used: {}", record.name, record.version, chain(&*error));
                    if refusals.note(place, &record.digest, text.clone(), now) {
                        let Place { pipeline, subscription, step } = place;
                        tracing::warn!(%pipeline, %subscription, step, runs = fitted.label(), error = text, "a module is not swapped, what ran before goes on");
                    }
                }
            }
        }
        // What is better than the one that runs now was refused.
        let runs = step.fitted().digest.clone();
        let mut better = candidates.iter().take_while(|record| record.digest != runs);
        let why = better.find_map(|record| refusals.standing(place, &record.digest, now));
        step.set_trouble(why.map(str::to_owned)) || news
    }

    /// What the engine uses in a pipeline.
    fn uses(&self, pipeline: &Pipeline) -> Vec<Use> {
        let steps = pipeline.subscriptions().iter().flat_map(|subscription| {
            subscription.steps.iter().zip(0_u16..).map(move |(step, at)| (subscription, step, at))
        });
        let uses = steps.map(|(subscription, step, at)| {
            let fitted = step.fitted();
            Use {
                pipeline: pipeline.name.clone(),
                subscription: subscription.name.clone(),
                step: at,
                engine: self.id.clone(),
                reference: step.wanted.written.clone(),
                version: fitted.version.clone(),
                digest: fitted.digest.clone(),
                last_error: step.trouble(),
            }
        });
        uses.collect()
    }

    /// Says what is in use in a pipeline, for `hookmill status` and so that nobody deletes it. Said again at the next
    /// look if it can't be stored.
    pub(super) async fn say_uses(&self, pipeline: &Pipeline) {
        if let Err(error) = self.store_uses(pipeline).await {
            tracing::debug!(pipeline = %pipeline.name, %error, "what is in use is not kept");
        }
    }

    /// The same, telling whether it is stored.
    pub(super) async fn store_uses(&self, pipeline: &Pipeline) -> Result<(), StoreError> {
        self.modules.say_uses(&pipeline.name, &self.id, &self.uses(pipeline)).await
    }

    async fn say_all_uses(&self) {
        for pipeline in &self.pipelines {
            self.say_uses(pipeline).await;
        }
    }
}

/// The steps of a pipeline that have their modules from the registry.
fn places(pipeline: &Pipeline) -> impl Iterator<Item = (Place, &Step)> {
    pipeline.subscriptions().iter().flat_map(|subscription| {
        let steps = subscription.steps.iter().enumerate();
        let steps = steps.filter(|(_, step)| step.wanted.reference.name().is_some());
        steps.map(|(at, step)| {
            let (pipeline, subscription) = (pipeline.name.clone(), subscription.name.clone());
            (Place { pipeline, subscription, step: at }, step)
        })
    })
}

/// A reference means nothing any more, or nobody can say what it means. What runs goes on; a restart would fail, so it
/// is said. Whether it is news.
fn trouble(place: &Place, step: &Step, error: &ResolveError) -> bool {
    let text = format!("{}; the engine goes on with what it has and could not start again", chain(error));
    let news = step.set_trouble(Some(text));
    if news {
        let Place { pipeline, subscription, step: at } = place;
        let (runs, error) = (step.fitted(), chain(error));
        tracing::warn!(%pipeline, %subscription, step = at, runs = runs.label(), error, "the registry has nothing for a reference in use, what ran before goes on");
        count(place, "unresolved");
    }
    news
}

fn put(place: &Place, step: &Step, before: &Fitted, after: Fitted) {
    let Place { pipeline, subscription, step: at } = place;
    tracing::info!(%pipeline, %subscription, step = at, from = before.label(), to = after.label(), "module swapped");
    step.swap(after);
    count(place, "swapped");
}

fn count(place: &Place, result: &'static str) {
    let labels = [
        ("pipeline", place.pipeline.to_string()),
        ("subscription", place.subscription.to_string()),
        ("step", place.step.to_string()),
        ("result", result.to_owned()),
    ];
    counter!(names::MODULE_SWAPS, &labels).increment(1);
}

/// What went wrong, as the metric names it.
fn kind(error: &FitError) -> &'static str {
    match error {
        FitError::Missing(_) | FitError::Unreadable { .. } | FitError::Registry(_) => "unreadable",
        FitError::Module(_) => "invalid",
        FitError::Sample { .. } => "sample",
        FitError::Schema(_) | FitError::Settings(_) => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn record(version: &str, bytes: &str) -> Record {
        Record {
            name: Name::new("m").unwrap(),
            version: Version::parse(version).unwrap(),
            digest: Digest::of(bytes.as_bytes()),
            bytes: 1,
            stored: Timestamp::from_unix_seconds(1),
            yanked: None,
            about: serde_json::Value::Null,
        }
    }

    /// What is done by a step that runs version `now` with the bytes of its name, when some are refused.
    fn chosen(now: &str, candidates: &[Record], refused: &[&str]) -> String {
        let digest = Digest::of(now.as_bytes());
        let version = Version::parse(now).ok();
        let refused: Vec<Digest> = refused.iter().map(|bytes| Digest::of(bytes.as_bytes())).collect();
        match choose((&digest, version.as_ref()), candidates, |digest| refused.contains(digest)) {
            Choice::Stay => "stay".to_owned(),
            Choice::Relabel(record) => format!("relabel {}", record.version),
            Choice::Try(record) => format!("try {}", record.version),
        }
    }

    #[test]
    fn the_newest_that_is_not_refused_is_tried_and_what_runs_is_never_left_for_less() {
        let all = ["1.3.0", "1.2.0", "1.1.0"].map(|version| record(version, version));
        assert_eq!(chosen("1.3.0", &all, &[]), "stay");
        assert_eq!(chosen("1.2.0", &all, &[]), "try 1.3.0");
        assert_eq!(chosen("1.2.0", &all, &["1.3.0"]), "stay");
        // What runs was yanked or deleted.
        assert_eq!(chosen("1.4.0", &all, &[]), "try 1.3.0");
        assert_eq!(chosen("1.4.0", &all, &["1.3.0"]), "try 1.2.0");
        assert_eq!(chosen("1.4.0", &all, &["1.3.0", "1.2.0", "1.1.0"]), "stay");
        // The same bytes under another version.
        assert_eq!(chosen("1.2.0", &[record("1.5.0", "1.2.0")], &[]), "relabel 1.5.0");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_module_is_tried_again_ever_more_seldom() {
        let place =
            Place { pipeline: Name::new("p").unwrap(), subscription: Name::new("s").unwrap(), step: 0 };
        let (mut refusals, digest) = (Refusals::default(), Digest::of(b"x"));
        let mut waits = Vec::new();
        for round in 0..7 {
            let now = Instant::now();
            assert_eq!(refusals.standing(&place, &digest, now), None);
            assert_eq!(refusals.note(&place, &digest, "no".to_owned(), now), round == 0, "news once");
            let mut waited = 0;
            while refusals.standing(&place, &digest, Instant::now()).is_some() {
                tokio::time::advance(Duration::from_secs(30)).await;
                waited += 30;
            }
            waits.push(waited);
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
        refusals.keep(&place, &[record("1.0.0", "y")]);
        assert!(refusals.0.is_empty(), "what can't be chosen any more is forgotten");
    }
}
