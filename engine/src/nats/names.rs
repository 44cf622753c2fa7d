//! Names of streams, subjects, buckets and consumers under one prefix.

use crate::model::{Name, Task};

/// The prefix of everything the engine makes: `hookmill` unless `[nats] prefix` says otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prefix {
    subject: String,
    stream: String,
}

/// First token of subjects that no pipeline publishes to, whatever the prefix is: those of an engine without one of its own.
const DEFAULT: &str = "hookmill";

impl Default for Prefix {
    /// The one where nothing else is said.
    fn default() -> Self {
        Self { subject: DEFAULT.to_owned(), stream: DEFAULT.to_ascii_uppercase() }
    }
}

impl Prefix {
    /// From a name; streams get it in upper case with `_` for `-`.
    pub fn new(name: &Name) -> Self {
        let stream = name.as_str().to_ascii_uppercase().replace('-', "_");
        Self { subject: name.as_str().to_owned(), stream }
    }

    /// The prefix as it was given.
    pub fn as_str(&self) -> &str {
        &self.subject
    }

    /// The default source stream.
    pub fn events(&self) -> String {
        format!("{}_EVENTS", self.stream)
    }

    /// The stream of waits and due tasks.
    pub fn retries(&self) -> String {
        format!("{}_RETRIES", self.stream)
    }

    /// The stream of lanes.
    pub fn lanes(&self) -> String {
        format!("{}_LANES", self.stream)
    }

    /// The dead-letter stream.
    pub fn dlq(&self) -> String {
        format!("{}_DLQ", self.stream)
    }

    /// The key-value bucket.
    pub fn registry(&self) -> String {
        format!("{}_REGISTRY", self.stream)
    }

    /// The object store of modules.
    pub fn modules(&self) -> String {
        format!("{}_MODULES", self.stream)
    }

    /// The stream behind the key-value bucket.
    pub fn registry_stream(&self) -> String {
        format!("KV_{}", self.registry())
    }

    /// The stream behind the object store of modules.
    pub fn modules_stream(&self) -> String {
        format!("OBJ_{}", self.modules())
    }

    /// The engine's own streams: no sources.
    pub fn own_streams(&self) -> [String; 5] {
        [self.retries(), self.lanes(), self.dlq(), self.registry_stream(), self.modules_stream()]
    }

    /// Whether a stream is one of them.
    pub fn is_own_stream(&self, stream: &str) -> bool {
        self.own_streams().iter().any(|own| own == stream)
    }

    /// First tokens of subjects that belong to engines: no targets.
    pub fn own_tokens(&self) -> [&str; 2] {
        [&self.subject, DEFAULT]
    }

    /// Whether a subject belongs to engines.
    pub fn is_own_subject(&self, subject: &str) -> bool {
        self.own_tokens().iter().any(|token| subject.split('.').next() == Some(token))
    }

    /// Subjects that the default source stream takes, whichever prefix made it.
    pub fn events_subjects(&self, stream: &str) -> &'static [&'static str] {
        if stream == self.events() || stream == "HOOKMILL_EVENTS" { &["events.>"] } else { &[] }
    }

    /// Subjects of the stream of waits.
    pub fn retries_subjects(&self) -> [String; 2] {
        [format!("{}.wait.>", self.subject), format!("{}.due.>", self.subject)]
    }

    /// Subjects of the lanes stream.
    pub fn lanes_subjects(&self) -> String {
        format!("{}.lane.>", self.subject)
    }

    /// Subjects of the dead-letter stream.
    pub fn dlq_subjects(&self) -> String {
        format!("{}.dlq.>", self.subject)
    }

    /// Where a task waits.
    pub fn wait(&self, task: &Task) -> String {
        format!("{}.wait.{}.{}.{}", self.subject, task.pipeline, task.subscription_token(), task.key)
    }

    /// Where a wait goes when it is due.
    pub fn due(&self, task: &Task) -> String {
        format!("{}.due.{}.{}", self.subject, task.pipeline, task.subscription_token())
    }

    /// Everything due in a pipeline.
    pub fn due_all(&self, pipeline: &Name) -> String {
        format!("{}.due.{pipeline}.>", self.subject)
    }

    /// Everything due of a subscription; `*` for all.
    pub fn due_of(&self, pipeline: &str, subscription: &str) -> String {
        format!("{}.due.{pipeline}.{subscription}", self.subject)
    }

    /// Everything that waits in a pipeline.
    pub fn wait_all(&self, pipeline: &str, subscription: &str) -> String {
        format!("{}.wait.{pipeline}.{subscription}.>", self.subject)
    }

    /// Where a task with this key waits.
    pub fn wait_named(&self, pipeline: &str, subscription: &str, key: &str) -> String {
        format!("{}.wait.{pipeline}.{subscription}.{key}", self.subject)
    }

    /// The subject that a pipeline of another name has in place of this one.
    pub fn renamed(&self, subject: &str, pipeline: &Name) -> Option<String> {
        let rest = subject.strip_prefix(self.subject.as_str())?.strip_prefix('.')?;
        let (kind, rest) = rest.split_once('.')?;
        let (_, rest) = rest.split_once('.')?;
        Some(format!("{}.{kind}.{pipeline}.{rest}", self.subject))
    }

    /// A lane.
    pub fn lane(&self, pipeline: &str, subscription: &str) -> String {
        format!("{}.lane.{pipeline}.{subscription}", self.subject)
    }

    /// All lanes of a pipeline.
    pub fn lane_all(&self, pipeline: &str) -> String {
        format!("{}.lane.{pipeline}.*", self.subject)
    }

    /// A dead letter's subject.
    pub fn dead_letter(&self, pipeline: &str, subscription: &str, reason: &str) -> String {
        format!("{}.dlq.{pipeline}.{subscription}.{reason}", self.subject)
    }

    /// A part (from 0) of a dead letter that fits into no message.
    pub fn part(letter_subject: &str, id: &str, part: usize) -> String {
        format!("{letter_subject}.part.{id}.{part}")
    }

    /// All parts of the letters on these subjects.
    pub fn parts_of(letter_subjects: &str) -> String {
        format!("{letter_subjects}.part.>")
    }

    /// Where engines tell one another that a lane got something.
    pub fn nudge(&self, pipeline: &Name) -> String {
        format!("{}.nudge.{pipeline}", self.subject)
    }

    /// The durable of a pipeline on its source stream. Other prefixes may give the same name there: whose it is, it says
    /// itself (`owner.rs`).
    pub fn source_consumer(&self, pipeline: &Name) -> String {
        format!("{}-{pipeline}", self.subject)
    }

    /// The consumer of a lane.
    pub fn lane_consumer(pipeline: &Name, subscription: &str) -> String {
        format!("{pipeline}_{subscription}")
    }

    /// Pipeline and subscription of a subject of a lane, a wait or a dead letter.
    pub fn parts<'s>(&self, subject: &'s str) -> Option<(&'s str, &'s str)> {
        let rest = subject.strip_prefix(self.subject.as_str())?.strip_prefix('.')?;
        let mut tokens = rest.split('.').skip(1);
        Some((tokens.next()?, tokens.next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_upper_case_and_subjects_are_not() {
        let prefix = Prefix::new(&Name::new("my-mill").unwrap());
        assert_eq!(prefix.retries(), "MY_MILL_RETRIES");
        assert_eq!(prefix.lane("p", "s"), "my-mill.lane.p.s");
        assert_eq!(prefix.parts("my-mill.dlq.p.s.gone"), Some(("p", "s")));
        assert_eq!(prefix.parts("other.dlq.p.s.gone"), None);
        let other = Name::new("q").unwrap();
        assert_eq!(prefix.renamed("my-mill.dlq.p.s.gone", &other).as_deref(), Some("my-mill.dlq.q.s.gone"));
        assert_eq!(prefix.renamed("other.dlq.p.s.gone", &other), None);
    }

    #[test]
    fn what_is_the_engines_own_is_known_by_its_name() {
        let prefix = Prefix::new(&Name::new("my-mill").unwrap());
        for own in
            ["MY_MILL_RETRIES", "MY_MILL_LANES", "MY_MILL_DLQ", "KV_MY_MILL_REGISTRY", "OBJ_MY_MILL_MODULES"]
        {
            assert!(prefix.is_own_stream(own), "{own}");
        }
        for other in ["MY_MILL_EVENTS", "HOOKMILL_DLQ", "KV_OTHER", "ORDERS"] {
            assert!(!prefix.is_own_stream(other), "{other}");
        }
        for own in ["my-mill.wait.x", "hookmill.dlq.x", "my-mill"] {
            assert!(prefix.is_own_subject(own), "{own}");
        }
        for other in ["my-mills.x", "events.my-mill", "x"] {
            assert!(!prefix.is_own_subject(other), "{other}");
        }
        assert_eq!(Prefix::default(), Prefix::new(&Name::new("hookmill").unwrap()));
    }
}
