//! Whether a pipeline may take more: its intake is stopped while something of it can't be stored. The others go on until they
//! meet the same refusal.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::nats::StoreError;

/// Stops intake while stores are refused, and says why.
#[derive(Default)]
pub struct Gate {
    inner: Mutex<Inner>,
    /// Told of each change.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Inner {
    stuck: BTreeMap<u64, Trouble>,
    next: u64,
    /// What a look at the stream of the first one has shown.
    found: Option<String>,
}

/// What is refused, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trouble {
    /// The pipeline whose it is; none: all pipelines are held up.
    pub pipeline: Option<String>,
    /// What can't be done.
    pub what: &'static str,
    /// The stream that refuses.
    pub stream: String,
    /// The subject of what should be stored; none: something should be read.
    pub subject: Option<String>,
    /// Why not.
    pub why: String,
    /// The same as data, for a store.
    pub store: Option<StoreError>,
}

/// A store that is stuck; intake goes on when the last one is dropped.
pub struct Stuck<'g> {
    gate: &'g Gate,
    id: u64,
}

impl Gate {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a store that is refused. The first one is said in the log, not each of those that it holds up.
    pub fn stick(&self, trouble: Trouble) -> Stuck<'_> {
        let mut inner = self.inner();
        let Trouble { pipeline, what, stream, why, .. } = &trouble;
        let said = inner.stuck.values().any(|stuck| stuck.pipeline.is_none() || stuck.pipeline == *pipeline);
        if said {
            tracing::debug!(pipeline, what, stream, why, "can't reach or write a stream");
        } else {
            tracing::warn!(
                pipeline,
                what,
                stream,
                why,
                "can't reach or write a stream, intake stops until it is mended"
            );
        }
        inner.next += 1;
        let id = inner.next;
        inner.stuck.insert(id, trouble);
        drop(inner);
        self.changed.send_replace(());
        Stuck { gate: self, id }
    }

    /// Where intake is stopped and why, a line each: the first that got stuck of each pipeline, and what was found about the very
    /// first.
    pub fn why(&self) -> Vec<String> {
        let inner = self.inner();
        let mut stopped: BTreeMap<&Option<String>, String> = BTreeMap::new();
        let mut found = inner.found.as_ref().map(|found| format!("; {found}")).unwrap_or_default();
        for Trouble { pipeline, what, why, .. } in inner.stuck.values() {
            let found = std::mem::take(&mut found);
            let of = pipeline.as_ref().map(|pipeline| format!("pipeline {pipeline}: ")).unwrap_or_default();
            let line = || format!("{of}intake is stopped: {what}: {why}{found}");
            stopped.entry(pipeline).or_insert_with(line);
        }
        stopped.into_values().collect()
    }

    /// The first that got stuck.
    pub fn first(&self) -> Option<Trouble> {
        self.inner().stuck.values().next().cloned()
    }

    /// Notes what a look at the stream has shown; for nothing if all goes on by now.
    pub fn find(&self, found: Option<String>) {
        let mut inner = self.inner();
        if inner.stuck.is_empty() || inner.found == found {
            return;
        }
        if let Some(found) = &found {
            tracing::warn!(found, "why a stream does not store");
        }
        inner.found = found;
    }

    /// Whether the intake of a pipeline may go on.
    pub fn is_open(&self, pipeline: &str) -> bool {
        let holds_up = |stuck: &Trouble| stuck.pipeline.as_ref().is_none_or(|stuck| stuck == pipeline);
        !self.inner().stuck.values().any(holds_up)
    }

    /// Waits until the intake of a pipeline may go on.
    pub async fn opened(&self, pipeline: &str) {
        self.until(|| self.is_open(pipeline)).await;
    }

    /// Waits until something is stuck.
    pub async fn closed(&self) {
        self.until(|| !self.inner().stuck.is_empty()).await;
    }

    /// Looks again at each change. Never with the channel's lock held: who tells of a change may have ours.
    async fn until(&self, there: impl Fn() -> bool) {
        let mut changed = self.changed.subscribe();
        while !there() {
            // The sender lives as long as `self`, so this can't fail.
            let _ = changed.changed().await;
        }
    }
}

impl Stuck<'_> {
    /// It is still stuck, by now for this reason.
    pub fn still(&self, trouble: Trouble) {
        self.gate.inner().stuck.insert(self.id, trouble);
    }
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        let mut inner = self.gate.inner();
        inner.stuck.remove(&self.id);
        if inner.stuck.is_empty() {
            inner.found = None;
            tracing::info!("what could not be stored is stored, intake goes on");
        }
        drop(inner);
        self.gate.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(pipeline: Option<&str>, why: &str) -> Trouble {
        let (pipeline, stream) = (pipeline.map(str::to_owned), "S".to_owned());
        let (what, subject) = ("a wait can't be stored", Some("s".to_owned()));
        Trouble { pipeline, what, stream, subject, why: why.to_owned(), store: None }
    }

    #[test]
    fn it_is_open_again_when_the_last_one_got_through_and_what_was_found_is_forgotten() {
        let gate = Gate::default();
        gate.find(Some("too late".to_owned()));
        assert_eq!((gate.is_open("p"), gate.why()), (true, vec![]));
        let (first, second) = (gate.stick(trouble(None, "one")), gate.stick(trouble(None, "two")));
        assert_eq!(gate.why(), ["intake is stopped: a wait can't be stored: one"]);
        gate.find(Some("a look".to_owned()));
        assert_eq!(gate.why(), ["intake is stopped: a wait can't be stored: one; a look"]);
        drop(first);
        assert_eq!((gate.is_open("p"), gate.first()), (false, Some(trouble(None, "two"))));
        drop(second);
        assert_eq!((gate.is_open("p"), gate.why()), (true, vec![]));
        let _third = gate.stick(trouble(None, "three"));
        assert_eq!(gate.why(), ["intake is stopped: a wait can't be stored: three"]);
    }

    #[tokio::test]
    async fn what_is_stuck_in_one_pipeline_stops_that_one_alone() {
        let gate = Gate::default();
        let one = gate.stick(trouble(Some("p"), "one"));
        let two = gate.stick(trouble(Some("q"), "two"));
        let _more = gate.stick(trouble(Some("q"), "three"));
        assert_eq!((gate.is_open("p"), gate.is_open("q"), gate.is_open("r")), (false, false, true));
        let said = [
            "pipeline p: intake is stopped: a wait can't be stored: one",
            "pipeline q: intake is stopped: a wait can't be stored: two",
        ];
        assert_eq!(gate.why(), said);
        let mut opened = std::pin::pin!(gate.opened("p"));
        assert!(futures_util::poll!(&mut opened).is_pending());
        drop(two);
        assert!(futures_util::poll!(&mut opened).is_pending());
        drop(one);
        opened.await;
        assert!(!gate.is_open("q"));
        let all = gate.stick(trouble(None, "all"));
        assert!(!gate.is_open("r"));
        drop(all);
        assert!(gate.is_open("r"));
    }

    /// Those that wait look at the gate at each change, while others close and open it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn who_waits_and_who_changes_never_stand_still_together() {
        let gate = std::sync::Arc::new(Gate::default());
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..8 {
            let gate = gate.clone();
            tasks.spawn(async move {
                for _ in 0..2_000 {
                    if number % 2 == 0 {
                        drop(gate.stick(trouble(Some("p"), "x")));
                    } else {
                        gate.opened("p").await;
                    }
                }
            });
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("nobody waits for ever");
    }
}
