//! A pipeline's way through its source stream: where it began, and which subjects it took when. By this it can be told long
//! afterwards what became of a message that its consumer has passed.
//!
//! What it doesn't know it calls unknown. A change is noted before the server is asked to make it, so that a process that dies in
//! between leaves a change of unknown place behind, never one that is missing.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::consumers::Consumer;
use super::registry::{Floor, RegistryError, written};
use super::streams::SourceStream;
use super::{Nats, Registry};
use crate::model::{Name, subject};

/// Changes of subjects that are kept; what was before them is unknown.
const CHANGES_MAX: usize = 64;
/// Bytes of a record as it is stored, well below what a server has to take.
const BYTES_MAX: usize = 64 * 1024;

/// The record of a pipeline.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct History {
    /// The stream's name.
    pub stream: String,
    /// When the stream was made: a stream made anew starts its sequences again.
    pub created: String,
    /// The first sequence that the pipeline takes; none: it began before anything was kept.
    pub first: Option<u64>,
    /// Its subjects one after the other, the oldest first.
    spans: Vec<Span>,
}

/// Subjects, and the messages that they were held against.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Span {
    /// None up to this sequence.
    after: u64,
    /// All from this sequence on, until the next subjects; none: it is not known yet whether these hold.
    from: Option<u64>,
    /// The subjects; empty: all. None: not known.
    subjects: Option<Vec<String>>,
}

/// What the record says of a message that the consumer has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passed {
    /// The pipeline took it.
    Taken,
    /// It was there before the pipeline began.
    BeforeStart,
    /// Its subject was none of the pipeline's.
    OtherSubject,
    /// It was passed about when the subjects were changed, and those before and after differ on it.
    AtAChange,
    /// Nothing is kept of that time.
    NotKept,
}

impl Span {
    fn takes(&self, subject: &str) -> Option<bool> {
        self.subjects.as_deref().map(|subjects| takes(subjects, subject))
    }
}

/// Whether a consumer with these subjects takes a message; without any it takes all.
pub fn takes(subjects: &[String], subject: &str) -> bool {
    subjects.is_empty() || subjects.iter().any(|filter| subject::takes(filter, subject))
}

/// Whether two lists of subjects are the same, in whatever order.
pub fn are_same(one: &[String], two: &[String]) -> bool {
    let sorted = |subjects: &[String]| {
        let mut subjects = subjects.to_vec();
        subjects.sort();
        subjects
    };
    sorted(one) == sorted(two)
}

impl History {
    /// The record of a durable that was made just now and takes from `first` on. `kept` and `floor` are what was kept before: a
    /// pipeline that has taken from another stream may have taken from this one earlier still.
    pub fn begun(
        stream: &SourceStream,
        kept: Option<&Self>,
        floor: Option<&Floor>,
        first: u64,
        subjects: &[String],
    ) -> Self {
        let other = |name: &str, created: &str| name == stream.name && created != stream.created;
        let is_new = kept.is_none_or(|kept| other(&kept.stream, &kept.created))
            && floor.is_none_or(|floor| other(&floor.stream, &floor.created));
        if !is_new {
            return Self::from_now(stream, 0, first, subjects);
        }
        let subjects = Some(subjects.to_vec());
        let spans = vec![Span { after: first.saturating_sub(1), from: Some(first), subjects }];
        Self { stream: stream.name.clone(), created: stream.created.clone(), first: Some(first), spans }
    }

    /// The record of a durable of which nothing is kept: these subjects are held against messages behind `after`, and they
    /// alone from `from` on.
    pub fn from_now(stream: &SourceStream, after: u64, from: u64, subjects: &[String]) -> Self {
        let unknown = Span { after: 0, from: Some(0), subjects: None };
        let now = Span { after, from: Some(from), subjects: Some(subjects.to_vec()) };
        let spans = vec![unknown, now];
        Self { stream: stream.name.clone(), created: stream.created.clone(), first: None, spans }.bounded()
    }

    /// Whether it is about this very stream.
    pub fn is_of(&self, stream: &SourceStream) -> bool {
        self.stream == stream.name && self.created == stream.created
    }

    /// The record after a look at the consumer: a change that has happened gets its place, one that nobody has noted leaves
    /// unknown what was since the last one, and a server that has forgotten how far the consumer was looks at messages again.
    #[must_use]
    pub fn seen(mut self, there: &Consumer) -> Self {
        let next = there.delivered.saturating_add(1);
        if self.first.is_some_and(|first| next < first) {
            self.first = Some(next);
        }
        let Some(last) = self.spans.last_mut() else { return self };
        if last.subjects.as_deref().is_some_and(|subjects| are_same(subjects, &there.filters)) {
            last.from = last.from.or(Some(next));
            last.after = last.after.min(there.delivered);
            return self;
        }
        let after = last.after.min(there.delivered);
        match last.from {
            Some(_) => last.subjects = None,
            None => last.from = Some(next),
        }
        self.spans.push(Span { after, from: Some(next), subjects: Some(there.filters.clone()) });
        self.bounded()
    }

    /// The record before the subjects of a consumer are changed.
    #[must_use]
    pub fn to_be_changed(self, there: &Consumer, subjects: &[String]) -> Self {
        let mut history = self.seen(there);
        if !are_same(&there.filters, subjects) {
            let subjects = Some(subjects.to_vec());
            history.spans.push(Span { after: there.delivered, from: None, subjects });
        }
        history.bounded()
    }

    /// The record before a lost consumer is made again: it looks again at what lies behind `after`, and the one that is gone has
    /// looked at nothing behind `last`.
    #[must_use]
    pub fn made_again(mut self, after: u64, last: u64, subjects: &[String]) -> Self {
        let from = Some(last.saturating_add(1));
        match self.spans.last_mut() {
            Some(span) if span.subjects.as_deref().is_some_and(|kept| are_same(kept, subjects)) => {
                span.after = span.after.min(after);
                span.from = span.from.or(from);
            }
            other => {
                if let Some(span) = other {
                    span.from = span.from.or(from);
                }
                self.spans.push(Span { after, from, subjects: Some(subjects.to_vec()) });
            }
        }
        self.bounded()
    }

    /// What became of a message that the consumer has passed.
    pub fn judge(&self, sequence: u64, subject: &str) -> Passed {
        if self.first.is_some_and(|first| sequence < first) {
            let began_with = self.spans.first().and_then(|span| span.takes(subject));
            return if began_with == Some(false) { Passed::OtherSubject } else { Passed::BeforeStart };
        }
        let mut said = None;
        for (number, span) in self.spans.iter().enumerate() {
            let next = self.spans.get(number + 1).and_then(|next| next.from);
            if sequence <= span.after || next.is_some_and(|next| next <= sequence) {
                continue;
            }
            match (span.takes(subject), said) {
                (None, _) => return Passed::NotKept,
                (Some(takes), Some(before)) if takes != before => return Passed::AtAChange,
                (takes, _) => said = takes,
            }
        }
        match said {
            Some(true) => Passed::Taken,
            Some(false) => Passed::OtherSubject,
            None => Passed::NotKept,
        }
    }

    /// Without the oldest changes, if there are too many.
    fn bounded(mut self) -> Self {
        let is_large = |history: &Self| {
            let bytes = serde_json::to_vec(history).map_or(usize::MAX, |bytes| bytes.len());
            history.spans.len() > CHANGES_MAX + 1 || bytes > BYTES_MAX
        };
        while is_large(&self) {
            if self.spans.len() > 1 {
                self.spans.remove(0);
            }
            let Some(oldest) = self.spans.first_mut() else { break };
            *oldest = Span { after: 0, from: Some(0), subjects: None };
            if self.spans.len() == 1 {
                break;
            }
        }
        self
    }
}

impl Registry {
    /// The record of a pipeline's way, and the revision by which it is changed. One that can't be read is none.
    pub async fn history(&self, pipeline: &Name) -> Result<(Option<History>, u64), RegistryError> {
        let read_now = self.bucket().read(&key(pipeline)).await;
        let (entry, revision) = read_now.map_err(RegistryError::Asked)?;
        Ok((entry.and_then(|entry| serde_json::from_slice(&entry.body).ok()), revision))
    }

    /// Keeps it, if nobody else has changed it since `revision`.
    pub async fn put_history(
        &self,
        pipeline: &Name,
        history: &History,
        revision: u64,
    ) -> Result<(), RegistryError> {
        let bytes = Bytes::from(serde_json::to_vec(history).map_err(written)?);
        self.bucket().write(&key(pipeline), bytes, revision).await.map(|_| ()).map_err(RegistryError::Stored)
    }

    /// Forgets it.
    pub async fn clear_history(&self, pipeline: &Name) -> Result<(), RegistryError> {
        self.clear(key(pipeline)).await
    }

    /// The records of all pipelines that have one which can be read.
    pub async fn histories(&self, nats: &Nats) -> Result<BTreeMap<String, History>, RegistryError> {
        let records: BTreeMap<String, serde_json::Value> = self.all(nats, "history.").await?;
        let parsed =
            records.into_iter().map(|(name, record)| Some((name, serde_json::from_value(record).ok()?)));
        Ok(parsed.flatten().collect())
    }

    /// Changes the record of a pipeline, as often as somebody else does so at the same time; nothing where the change leaves it as
    /// it is.
    pub async fn note(
        &self,
        pipeline: &Name,
        change: impl Fn(Option<History>) -> History,
    ) -> Result<(), RegistryError> {
        let mut tries = 1;
        loop {
            let (kept, revision) = self.history(pipeline).await?;
            let next = change(kept.clone());
            if kept.as_ref() == Some(&next) {
                return Ok(());
            }
            match self.put_history(pipeline, &next, revision).await {
                Err(error) if tries < NOTES_MAX && is_to_be_tried(&error) => tries += 1,
                done => return done,
            }
        }
    }
}

/// How often it is tried to change a record that others change too.
const NOTES_MAX: u32 = 5;

fn is_to_be_tried(error: &RegistryError) -> bool {
    use super::StoreError::{Unknown, WrongLast};
    matches!(error.refusal(), Some(WrongLast | Unknown))
}

fn key(pipeline: &Name) -> String {
    format!("history.{pipeline}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::streams::Retention;

    fn stream(created: &str) -> SourceStream {
        SourceStream {
            name: "S".into(),
            created: created.into(),
            last_sequence: 100,
            first_sequence: 1,
            retention: Retention::Limits,
            max_age: None,
            discards_old: false,
            forces_inactive_threshold: false,
            replicas: 1,
            subjects: None,
        }
    }

    fn list(subjects: &str) -> Vec<String> {
        subjects.split_whitespace().map(str::to_owned).collect()
    }

    fn consumer(delivered: u64, subjects: &str) -> Consumer {
        Consumer { delivered, filters: list(subjects), ..Consumer::default() }
    }

    /// Began at 10 with `a`.
    fn begun() -> History {
        History::begun(&stream("now"), None, None, 10, &list("a"))
    }

    #[track_caller]
    fn says(history: &History, cases: &[(u64, &str, Passed)]) {
        for (sequence, subject, passed) in cases {
            assert_eq!(history.judge(*sequence, subject), *passed, "{subject} at {sequence} of {history:?}");
        }
    }

    use Passed::{AtAChange, BeforeStart, NotKept, OtherSubject, Taken};

    #[test]
    fn what_was_there_before_the_beginning_was_never_taken() {
        says(
            &begun(),
            &[(9, "a", BeforeStart), (9, "b", OtherSubject), (10, "a", Taken), (10, "b", OtherSubject)],
        );
        let all = History::begun(&stream("now"), None, None, 10, &[]);
        says(&all, &[(9, "b", BeforeStart), (10, "b", Taken)]);
    }

    #[test]
    fn a_pipeline_that_may_have_been_there_before_has_no_beginning() {
        let floor = |stream: &str, created: &str| Floor {
            stream: stream.into(),
            created: created.into(),
            sequence: 3,
        };
        let first = |kept: Option<&History>, floor: Option<Floor>| {
            History::begun(&stream("now"), kept, floor.as_ref(), 10, &list("a")).first
        };
        assert_eq!(first(None, Some(floor("S", "before"))), Some(10), "the stream was made anew");
        assert_eq!(first(None, Some(floor("T", "now"))), None);
        assert_eq!(first(Some(&begun()), None), None, "its floor was lost, its record was not");
        let elsewhere = History { stream: "T".into(), ..begun() };
        assert_eq!(first(Some(&elsewhere), None), None);
        let history = History::begun(&stream("now"), Some(&elsewhere), None, 10, &list("a"));
        says(&history, &[(9, "a", NotKept), (10, "a", Taken), (10, "b", OtherSubject)]);
    }

    #[test]
    fn a_change_counts_from_where_the_server_has_made_it() {
        let noted = begun().to_be_changed(&consumer(20, "a"), &list("a b"));
        // Nobody knows yet whether it was made.
        says(
            &noted,
            &[(20, "b", OtherSubject), (21, "a", Taken), (21, "b", AtAChange), (999, "b", AtAChange)],
        );
        let widened = noted.seen(&consumer(25, "a b"));
        says(
            &widened,
            &[
                (20, "a", Taken),
                (20, "b", OtherSubject),
                (21, "a", Taken),
                (25, "b", AtAChange),
                (25, "c", OtherSubject),
                (26, "b", Taken),
            ],
        );
        let narrowed = widened.to_be_changed(&consumer(30, "b a"), &list("b")).seen(&consumer(30, "b"));
        says(
            &narrowed,
            &[(30, "a", Taken), (31, "a", OtherSubject), (31, "b", Taken), (20, "b", OtherSubject)],
        );
        assert_eq!(narrowed.clone().to_be_changed(&consumer(40, "b"), &list("b")), narrowed);
    }

    #[test]
    fn a_change_that_was_noted_and_never_made_leaves_only_its_time_open() {
        let noted = begun().to_be_changed(&consumer(20, "a"), &list("b"));
        let given_up = noted.to_be_changed(&consumer(25, "a"), &list("a"));
        says(&given_up, &[(20, "a", Taken), (22, "a", AtAChange), (26, "a", Taken), (26, "b", OtherSubject)]);
    }

    #[test]
    fn what_somebody_else_has_changed_is_unknown_since_the_last_change_that_was_noted() {
        let widened = begun().to_be_changed(&consumer(20, "a"), &list("a b")).seen(&consumer(20, "a b"));
        let surprised = widened.seen(&consumer(40, "c"));
        says(
            &surprised,
            &[
                (20, "a", Taken),
                (20, "b", OtherSubject),
                (21, "a", NotKept),
                (40, "c", NotKept),
                (41, "c", Taken),
                (41, "a", OtherSubject),
            ],
        );
    }

    #[test]
    fn a_server_that_has_forgotten_how_far_it_was_looks_again_by_todays_subjects() {
        let widened = begun().to_be_changed(&consumer(20, "a"), &list("a b")).seen(&consumer(20, "a b"));
        let back = widened.seen(&consumer(14, "a b"));
        says(&back, &[(14, "b", OtherSubject), (15, "b", AtAChange), (15, "a", Taken), (21, "b", Taken)]);
        assert_eq!(begun().seen(&consumer(4, "a")).first, Some(5));
    }

    #[test]
    fn a_lost_durable_that_is_made_again_behind_its_floor_has_begun_where_it_began() {
        let again = begun().made_again(15, 30, &list("a"));
        assert_eq!(again, begun());
        let with_others = begun().made_again(15, 30, &list("b"));
        says(
            &with_others,
            &[
                (9, "a", BeforeStart),
                (15, "a", Taken),
                (16, "a", AtAChange),
                (30, "b", AtAChange),
                (31, "b", Taken),
                (31, "a", OtherSubject),
            ],
        );
        // One that was noted and not made is not open any more either.
        let noted = begun().to_be_changed(&consumer(20, "a"), &list("b")).made_again(15, 30, &list("c"));
        says(
            &noted,
            &[(31, "a", OtherSubject), (31, "b", OtherSubject), (31, "c", Taken), (25, "c", AtAChange)],
        );
    }

    #[test]
    fn nothing_is_known_of_the_time_before_the_first_record() {
        let history = History::from_now(&stream("now"), 0, 21, &list("a"));
        says(&history, &[(1, "a", NotKept), (20, "b", NotKept), (21, "a", Taken), (21, "b", OtherSubject)]);
        let changed = history.to_be_changed(&consumer(20, "a"), &list("b")).seen(&consumer(20, "b"));
        says(&changed, &[(20, "b", NotKept), (21, "b", Taken), (21, "a", OtherSubject)]);
    }

    #[test]
    fn what_is_kept_has_a_bound_and_what_is_older_is_unknown() {
        let mut history = begun();
        for change in 1..=100_u64 {
            let (delivered, subject) = (change * 10 + 10, format!("s{change}"));
            let before = history.spans.last().and_then(|span| span.subjects.clone()).unwrap_or_default();
            let there = Consumer { delivered, filters: before, ..Consumer::default() };
            history = history.to_be_changed(&there, std::slice::from_ref(&subject));
            history = history.seen(&Consumer { filters: vec![subject], ..there });
        }
        assert_eq!(history.spans.len(), CHANGES_MAX + 1);
        says(
            &history,
            &[
                (9, "a", BeforeStart),
                (20, "a", NotKept),
                (380, "s36", NotKept),
                (381, "s37", Taken),
                (1011, "s100", Taken),
                (1011, "s99", OtherSubject),
            ],
        );
        let long: Vec<String> = (0..300).map(|number| format!("{number:0200}")).collect();
        let large = (0..10).fold(begun(), |history, number| {
            let there = Consumer { delivered: 50, filters: list("a"), ..Consumer::default() };
            history.to_be_changed(&there, &[long.clone(), vec![number.to_string()]].concat())
        });
        assert!(serde_json::to_vec(&large).unwrap().len() <= BYTES_MAX);
        let too_large = vec![long.concat(), long.concat()];
        let nothing = History::from_now(&stream("now"), 0, 1, &too_large);
        says(&nothing, &[(5, "a", NotKept)]);
        assert!(serde_json::to_vec(&nothing).unwrap().len() <= BYTES_MAX);
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let text =
            r#"{"stream":"S","created":"now","first":10,"spans":[{"after":9,"from":10,"subjects":["a"]}]}"#;
        assert_eq!(serde_json::to_string(&begun()).unwrap(), text);
        assert_eq!(serde_json::from_str::<History>(text).unwrap(), begun());
        assert!(begun().is_of(&stream("now")) && !begun().is_of(&stream("later")));
    }
}
