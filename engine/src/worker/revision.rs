//! Several engines and one file in force: an engine whose file is not in force stops taking from the source, and takes
//! over when those that have it are gone.
//!
//! No clocks are compared: the last writer is in force, and an engine is gone when its sign of life has not changed for
//! a while by our own watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::health::Part;
use super::{Engine, StartError};
use crate::model::{Name, Timestamp};
use crate::nats::Registry;
use crate::nats::registry::{GONE_AFTER, RegistryError, Renaming, Revision, Sign};
use crate::pipeline::Pipeline;

/// How often an engine renews its sign of life.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// Whether a pipeline's file, as this engine has it, is in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Force {
    /// It is.
    Ours,
    /// Another file is.
    Other {
        /// Its hash.
        hash: String,
        /// The record that says so: it grows each time that a file is put into force.
        record: u64,
        /// Since when we know.
        since: Timestamp,
    },
}

/// What this engine has seen of the others, by its own watch.
#[derive(Default)]
struct Watch {
    seen: HashMap<String, (u64, Instant)>,
}

impl Watch {
    /// Takes in the signs as they are at `now`; whether anyone with `hash` is alive.
    fn alive(&mut self, signs: &[Sign], hash: &str, now: Instant) -> bool {
        for sign in signs {
            let seen = self.seen.entry(sign.engine.clone()).or_insert((sign.renewal, now));
            if seen.0 != sign.renewal {
                *seen = (sign.renewal, now);
            }
        }
        let fresh = |sign: &&Sign| {
            self.seen.get(&sign.engine).is_some_and(|(_, since)| now.duration_since(*since) < GONE_AFTER)
        };
        signs.iter().filter(fresh).any(|sign| sign.hash == hash)
    }

    /// Engines whose sign has stood still for long: what they left behind can go.
    fn gone(&mut self, signs: &[Sign], now: Instant) -> Vec<String> {
        self.alive(signs, "", now);
        let gone = self.seen.extract_if(|_, (_, since)| now.duration_since(*since) >= GONE_AFTER);
        gone.map(|(engine, _)| engine).collect()
    }
}

/// How long an engine that has put its file into force waits for those that have another one to stop taking.
const YIELD_MAX: Duration = Duration::from_secs(5);
/// How often it looks whether they have.
const YIELD_LOOK_EVERY: Duration = Duration::from_millis(50);
/// An engine that has not renewed its sign of life for so long takes nothing: it is not waited for.
const SILENT_AFTER: Duration = Duration::from_secs(12);

/// Most bytes of names of subscriptions that are said with a revision, so that it fits into a message.
const NAMES_BYTES_MAX: usize = 256 * 1024;

/// Whether a pipeline may be run: not while it is being renamed.
pub(super) async fn has_a_name(registry: &Registry, pipeline: &Name) -> Result<(), StartError> {
    match registry.renaming(pipeline).await? {
        Some(Renaming { from, to, .. }) => Err(StartError::Renaming { pipeline: pipeline.clone(), from, to }),
        None => Ok(()),
    }
}

impl Engine {
    /// Puts our file of a pipeline into force: done at load. What the engine uses is said before the sign of life that makes it
    /// count.
    pub(super) async fn put_into_force(&self, pipeline: &Pipeline) -> Result<(), StartError> {
        self.store_uses(pipeline).await.map_err(StartError::Uses)?;
        self.registry.renew(&pipeline.name, &self.id, &pipeline.revision).await?;
        // Behind the sign of life: who renames looks for that behind its own note.
        if let Err(error) = has_a_name(&self.registry, &pipeline.name).await {
            self.registry.retire(&pipeline.name, &self.id).await?;
            return Err(error);
        }
        Ok(self.put_revision(pipeline).await?)
    }

    async fn put_revision(&self, pipeline: &Pipeline) -> Result<(), RegistryError> {
        let names: Vec<String> =
            pipeline.subscriptions().iter().map(|subscription| subscription.name.to_string()).collect();
        let fits = names.iter().map(|name| name.len() + 3).sum::<usize>() <= NAMES_BYTES_MAX;
        let revision = Revision {
            hash: pipeline.revision.to_string(),
            engine: self.id.clone(),
            subscriptions: fits.then_some(names),
            reading: Some(pipeline.source.reading),
        };
        self.registry.put_revision(&pipeline.name, &revision).await
    }

    /// Waits until the engines that have another file of the pipeline don't take from its source any more: what is published
    /// from then on goes by our file. Not for long: one that doesn't answer has been killed, or is cut off.
    pub(super) async fn others_yield(&self, pipeline: &Pipeline) {
        let deadline = Instant::now() + YIELD_MAX;
        loop {
            match self.who_has_not_yielded(pipeline).await {
                Ok(engines) if engines.is_empty() => return,
                Ok(engines) if Instant::now() > deadline => {
                    let engines = engines.join(", ");
                    return tracing::warn!(
                        pipeline = %pipeline.name, engines,
                        "engines with another file don't answer; what they still take goes by theirs"
                    );
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "not known whether others still take from the source");
                    if Instant::now() > deadline {
                        return;
                    }
                }
            }
            tokio::time::sleep(YIELD_LOOK_EVERY).await;
        }
    }

    async fn who_has_not_yielded(&self, pipeline: &Pipeline) -> Result<Vec<String>, RegistryError> {
        let Some((revision, record)) = self.registry.revision(&pipeline.name).await? else {
            return Ok(Vec::new());
        };
        let mut waited_for = Vec::new();
        let is_ours = *revision.hash == *pipeline.revision;
        let signs = if is_ours { self.registry.signs(&pipeline.name).await? } else { Vec::new() };
        let signs: Vec<Sign> = signs.into_iter().filter(|sign| *sign.hash != *pipeline.revision).collect();
        if signs.is_empty() {
            return Ok(waited_for);
        }
        let now = self.nats.server_time(&self.nats.prefix().registry_stream()).await;
        let now = now.map_err(RegistryError::unread)?;
        for sign in signs.into_iter().filter(|sign| now.since(sign.at) < SILENT_AFTER) {
            let yielded = self.registry.yielded(&pipeline.name, &sign.engine).await?;
            if yielded.is_none_or(|yielded| yielded < record) {
                waited_for.push(sign.engine);
            }
        }
        Ok(waited_for)
    }

    /// Whether our file of the pipeline is in force, as far as we know.
    pub(super) fn is_in_force(&self, pipeline: &Name) -> bool {
        self.forces.get(pipeline).is_some_and(|force| *force.borrow() == Force::Ours)
    }

    /// Follows which file is in force, and renews our sign of life, until the engine stops.
    pub(super) async fn follow_revision(self: Arc<Self>, pipeline: Arc<Pipeline>) {
        let Some(force) = self.forces.get(&pipeline.name) else { return };
        let mut others = Watch::default();
        let mut renewed = Instant::now();
        loop {
            let Ok(changes) = self.registry.watch_revision(&pipeline.name).await else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let mut changes = std::pin::pin!(changes);
            loop {
                tokio::select! {
                    change = changes.next() => if change.is_none() { break },
                    () = tokio::time::sleep_until(renewed + RENEW_EVERY) => {
                        renewed = Instant::now();
                        self.tidy(&pipeline, &mut others).await;
                        let kept = self.registry.renew(&pipeline.name, &self.id, &pipeline.revision).await;
                        if let Err(error) = kept {
                            tracing::debug!(%error, "sign of life not renewed");
                        }
                    }
                }
                if let Err(error) = self.judge(&pipeline, force, &mut others).await {
                    tracing::debug!(%error, "the revision in force can't be read, the last known one counts");
                }
            }
        }
    }

    /// Removes the signs of engines that are gone.
    async fn tidy(&self, pipeline: &Pipeline, others: &mut Watch) {
        let Ok(signs) = self.registry.signs(&pipeline.name).await else { return };
        for engine in others.gone(&signs, Instant::now()) {
            let _ = self.registry.retire(&pipeline.name, &engine).await;
        }
    }

    async fn judge(
        &self,
        pipeline: &Pipeline,
        force: &watch::Sender<Force>,
        others: &mut Watch,
    ) -> Result<(), RegistryError> {
        let in_force = self.registry.revision(&pipeline.name).await?;
        let in_force = in_force.map(|(revision, record)| (revision.hash, record));
        let Some((hash, record)) = in_force.filter(|(hash, _)| **hash != *pipeline.revision) else {
            force.send_if_modified(|now| std::mem::replace(now, Force::Ours) != Force::Ours);
            return Ok(());
        };
        let signs = self.registry.signs(&pipeline.name).await?;
        if !others.alive(&signs, &hash, Instant::now()) {
            tracing::warn!(pipeline = %pipeline.name, gone = hash, "no engine has the file in force any more, taking over");
            self.put_revision(pipeline).await?;
            force.send_replace(Force::Ours);
            return Ok(());
        }
        force.send_if_modified(|now| {
            let since = match now {
                Force::Other { hash: known, record: seen, .. } if *known == hash && *seen == record => return false,
                // Said by one more engine.
                Force::Other { hash: known, since, .. } if *known == hash => *since,
                Force::Ours | Force::Other { .. } => {
                    tracing::warn!(pipeline = %pipeline.name, in_force = hash, ours = %pipeline.revision, "another file of this pipeline is in force, no new messages are taken");
                    Timestamp::now()
                }
            };
            *now = Force::Other { hash: hash.clone(), record, since };
            true
        });
        Ok(())
    }

    /// Waits until our file of the pipeline is in force. Until then this engine doesn't take from the source, and says so to
    /// those that wait for it.
    pub(super) async fn in_force(&self, pipeline: &Pipeline, force: &mut watch::Receiver<Force>) {
        loop {
            let now = force.borrow_and_update().clone();
            let Force::Other { hash, record, since } = now else { return };
            let trouble = format!(
                "revision {hash} of its file is in force since {since}, not ours ({})",
                pipeline.revision
            );
            self.health.set(Part::Source(&pipeline.name), Some(trouble));
            if let Err(error) = self.registry.put_yielded(&pipeline.name, &self.id, record).await {
                tracing::debug!(%error, "others are not told that this engine has stopped taking");
            }
            if force.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Waits until another file is in force.
pub(super) async fn overruled(force: &mut watch::Receiver<Force>) {
    // The sender lives as long as the engine.
    let _ = force.wait_for(|now| *now != Force::Ours).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(engine: &str, hash: &str, renewal: u64) -> Sign {
        let at = Timestamp::default();
        Sign { engine: engine.to_owned(), hash: hash.to_owned(), renewal, at }
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_is_gone_when_its_sign_stands_still_by_our_own_watch() {
        let mut watch = Watch::default();
        assert!(watch.alive(&[sign("a", "new", 1)], "new", Instant::now()));
        assert!(!watch.alive(&[sign("a", "new", 1)], "other", Instant::now()));
        tokio::time::advance(GONE_AFTER.saturating_sub(Duration::from_secs(1))).await;
        assert!(watch.alive(&[sign("a", "new", 2)], "new", Instant::now()), "renewed");
        tokio::time::advance(GONE_AFTER.saturating_sub(Duration::from_secs(1))).await;
        assert!(watch.alive(&[sign("a", "new", 2)], "new", Instant::now()));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!watch.alive(&[sign("a", "new", 2)], "new", Instant::now()), "stood still");
        assert!(!watch.alive(&[], "new", Instant::now()), "retired");
        assert_eq!(watch.gone(&[sign("a", "new", 2)], Instant::now()), ["a"]);
        assert!(watch.gone(&[sign("a", "new", 3)], Instant::now()).is_empty(), "back again");
    }
}
