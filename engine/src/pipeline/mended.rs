//! Counts and logs what the tolerant reading mends: each mend of each event is counted, and said once for each kind and source.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::model::event::{Found, Mend, Mends};
use crate::model::{Event, Name};
use crate::telemetry::metrics as names;

/// Pairs of mend and source that are remembered as said; behind them nothing more is said, only counted.
const SAID_MAX: usize = 1_000;

/// What is mended in one pipeline.
pub struct Mended {
    pipeline: Name,
    counters: [metrics::Counter; Mend::COUNT],
    said: Mutex<HashSet<(Mend, String)>>,
}

impl Mended {
    /// Nothing is mended yet.
    pub fn new(pipeline: &Name) -> Self {
        let mut mends = Mend::all();
        let counters = std::array::from_fn(|_| {
            let mend = mends.next().map_or("", Mend::as_str);
            metrics::counter!(names::EVENTS_MENDED, "pipeline" => pipeline.to_string(), "mend" => mend)
        });
        Self { pipeline: pipeline.clone(), counters, said: Mutex::default() }
    }

    /// Takes note of an event that was read.
    pub fn note(&self, event: &Event, mends: Mends) {
        for mend in mends.iter() {
            self.counters[mend as usize].increment(1);
            // No more of it than a text shows: memory has a bound too.
            let source = Found::new(&event.source).to_string();
            if let Some(last) = self.is_news(mend, &source) {
                tracing::info!(
                    pipeline = %self.pipeline, mend = mend.as_str(), source,
                    "an event was mended, as all others of this kind from this source are; docs/your-publisher.md says how"
                );
                if last {
                    tracing::info!(pipeline = %self.pipeline, "further mends of other sources are only counted");
                }
            }
        }
    }

    /// Whether this was not said before, and if so, whether it is the last that is.
    fn is_news(&self, mend: Mend, source: &str) -> Option<bool> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let full = said.len() >= SAID_MAX;
        let news = !full && said.insert((mend, source.to_owned()));
        news.then(|| said.len() >= SAID_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once_a_source_and_not_of_sources_without_end() {
        let mended = Mended::new(&Name::new("p").unwrap());
        assert_eq!(mended.is_news(Mend::NameCase, "/a"), Some(false));
        assert_eq!(mended.is_news(Mend::NameCase, "/a"), None);
        assert_eq!(mended.is_news(Mend::EmptyAttribute, "/a"), Some(false));
        assert_eq!(mended.is_news(Mend::NameCase, "/b"), Some(false));
        let said = (0..2 * SAID_MAX).filter_map(|n| mended.is_news(Mend::NameCase, &n.to_string()));
        assert_eq!(said.collect::<Vec<_>>().iter().filter(|last| **last).count(), 1);
        assert_eq!(mended.said.lock().unwrap().len(), SAID_MAX);
    }
}
