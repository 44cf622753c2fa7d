//! Whether the engine may take more: closed while something can't be stored.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::nats::StoreError;

/// Stops intake while stores are refused, and says why.
pub struct Gate {
    inner: Mutex<Inner>,
    open: watch::Sender<bool>,
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

impl Default for Gate {
    fn default() -> Self {
        Self { inner: Mutex::default(), open: watch::Sender::new(true) }
    }
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
        let Trouble { what, stream, why, .. } = &trouble;
        if inner.stuck.is_empty() {
            tracing::warn!(
                what,
                stream,
                why,
                "can't reach or write a stream, intake stops until it is mended"
            );
        } else {
            tracing::debug!(what, stream, why, "can't reach or write a stream");
        }
        inner.next += 1;
        let id = inner.next;
        inner.stuck.insert(id, trouble);
        self.open.send_replace(false);
        Stuck { gate: self, id }
    }

    /// Why intake is stopped, if it is: the first that got stuck, and what was found about it.
    pub fn why(&self) -> Option<String> {
        let inner = self.inner();
        let Trouble { what, why, .. } = inner.stuck.values().next()?;
        let found = inner.found.as_ref().map(|found| format!("; {found}")).unwrap_or_default();
        Some(format!("intake is stopped: {what}: {why}{found}"))
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

    /// Whether intake may go on.
    pub fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Waits until intake may go on.
    pub async fn opened(&self) {
        // The sender lives as long as `self`, so this can't fail.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }

    /// Waits until intake is stopped.
    pub async fn closed(&self) {
        let _ = self.open.subscribe().wait_for(|open| !*open).await;
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
            self.gate.open.send_replace(true);
            tracing::info!("what could not be stored is stored, intake goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(why: &str) -> Trouble {
        let (stream, subject) = ("S".to_owned(), Some("s".to_owned()));
        Trouble { what: "a wait can't be stored", stream, subject, why: why.to_owned(), store: None }
    }

    #[test]
    fn it_is_open_again_when_the_last_one_got_through_and_what_was_found_is_forgotten() {
        let gate = Gate::default();
        gate.find(Some("too late".to_owned()));
        assert_eq!((gate.is_open(), gate.why()), (true, None));
        let (first, second) = (gate.stick(trouble("one")), gate.stick(trouble("two")));
        assert_eq!(gate.why().unwrap(), "intake is stopped: a wait can't be stored: one");
        gate.find(Some("a look".to_owned()));
        assert_eq!(gate.why().unwrap(), "intake is stopped: a wait can't be stored: one; a look");
        drop(first);
        assert_eq!((gate.is_open(), gate.first()), (false, Some(trouble("two"))));
        drop(second);
        assert_eq!((gate.is_open(), gate.why()), (true, None));
        let _third = gate.stick(trouble("three"));
        assert_eq!(gate.why().unwrap(), "intake is stopped: a wait can't be stored: three");
    }
}
