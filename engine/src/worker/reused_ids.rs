//! Events that come with the source and id of an earlier one and with other content. Under `webhook_id = "event"` receivers
//! that drop what they have seen lose them: so they are counted, and it is said once for each source.
//!
//! The table has a fixed size and forgets: what is counted is a sign of it, not all of it. It delays and changes nothing.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError, RwLock};

use crate::model::event::Data;
use crate::model::{Event, Name, Task, Value};
use crate::pipeline::Pipeline;
use crate::source::DeliveryIdFrom;

/// Parts of the table, each with a lock of its own, so that threads seldom meet.
const SHARDS: usize = 256;
/// Sets in a shard. An event's place in the table is a set.
const SETS: usize = 64;
/// Entries in a set; the one that was seen longest ago goes first.
const WAYS: usize = 4;
/// Sources that are named in the log; further ones are counted only.
const NAMED_MAX: usize = 256;
/// Most of a source that the log shows.
const SHOWN_BYTES_MAX: usize = 64;
/// Attributes that tell of one publish, not of the event: they are others when a publisher tries again (`CloudEvents`
/// Distributed Tracing extension).
const TRACING: [&str; 2] = ["traceparent", "tracestate"];

/// What is remembered of one event, by keyed hashes. All zero where nothing is: no event has that, but for one in 2^64.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Entry {
    /// Of pipeline, source and id.
    id: u64,
    /// Of everything else.
    content: u64,
}

type Shard = [[Entry; WAYS]; SETS];

/// What one engine remembers of the ids of events: 65,536 of them, in 1 MiB. All keys are random, and this process's own.
pub struct ReusedIds {
    /// Keys for what names an event. `SipHash`: nobody outside can make two events meet, and have one take the blame for
    /// the other.
    id_keys: RandomState,
    /// Keys for what an event holds, which may be a megabyte. A fast hash: who finds two contents that meet hides what is
    /// their own.
    content_keys: ahash::RandomState,
    shards: Box<[Mutex<Shard>]>,
    named: RwLock<HashSet<u64>>,
}

impl Default for ReusedIds {
    fn default() -> Self {
        let shard = |_| Mutex::new([[Entry::default(); WAYS]; SETS]);
        Self {
            id_keys: RandomState::new(),
            content_keys: ahash::RandomState::with_seeds(
                rand::random(),
                rand::random(),
                rand::random(),
                rand::random(),
            ),
            shards: (0..SHARDS).map(shard).collect(),
            named: RwLock::default(),
        }
    }
}

/// Whether the log names a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Naming {
    Now,
    /// And no further one.
    NowAsTheLast,
    No,
}

impl ReusedIds {
    /// Looks at an event that was admitted as `task`, among others. `again`: its message was delivered before.
    pub fn look(&self, pipeline: &Pipeline, task: &Task, again: bool) {
        if pipeline.source.webhook_id != DeliveryIdFrom::Event {
            return;
        }
        let Some(event) = task.event_now() else { return };
        if !self.is_reuse(&pipeline.name, event, again) {
            return;
        }
        pipeline.id_reused.increment(1);
        let naming = self.name(&pipeline.name, &event.source);
        if naming != Naming::No {
            tracing::warn!(
                pipeline = %pipeline.name, source = shown(&event.source),
                "events have other content than earlier ones with the same source and id, and get the same webhook-id: a receiver that drops what it has seen loses them; set webhook_id = \"message\" in [source]"
            );
        }
        if naming == Naming::NowAsTheLast {
            tracing::warn!(
                sources = NAMED_MAX,
                "too many sources give several events one id to name them all: further ones are counted only"
            );
        }
    }

    /// Remembers an event. True: one with its source and id was seen, and none with its content. What comes `again` was counted
    /// when it came first, by whichever engine.
    fn is_reuse(&self, pipeline: &Name, event: &Event, again: bool) -> bool {
        let id = self.id_keys.hash_one((pipeline.as_str(), &*event.source, &*event.id));
        let entry = Entry { id, content: self.content(event) };
        let [shard, set, ..] = id.to_le_bytes().map(usize::from);
        let mut shard = self.shards[shard % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        see(&mut shard[set % SETS], entry) && !again
    }

    /// The keyed hash of everything but source and id. Extensions come in any order: some clients send headers as a map
    /// gives them.
    fn content(&self, event: &Event) -> u64 {
        let Event {
            id: _,
            source: _,
            ty,
            subject,
            time,
            datacontenttype,
            dataschema,
            extensions,
            data,
            structured: _,
        } = event;
        let of_event = extensions.iter().filter(|(name, _)| !TRACING.contains(&name.as_str()));
        // Kinds have names: `1` and `true` are one number to the hash.
        let extensions = of_event.map(|(name, value)| match value {
            Value::Text(text) => self.content_keys.hash_one((name, "text", text)),
            Value::Integer(integer) => self.content_keys.hash_one((name, "integer", integer)),
            Value::Boolean(boolean) => self.content_keys.hash_one((name, "boolean", boolean)),
        });
        let extensions = extensions.fold(0_u64, u64::wrapping_add);
        let data = data.as_ref().map(Data::bytes);
        self.content_keys.hash_one((ty, subject, time, datacontenttype, dataschema, extensions, data))
    }

    /// Decides whether the log names `source`: once, and a bounded number of them in all.
    fn name(&self, pipeline: &Name, source: &str) -> Naming {
        let source = self.id_keys.hash_one((pipeline.as_str(), source));
        let is_known = |named: &HashSet<u64>| named.len() >= NAMED_MAX || named.contains(&source);
        // Nearly always: readers don't wait for one another.
        if is_known(&self.named.read().unwrap_or_else(PoisonError::into_inner)) {
            return Naming::No;
        }
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        if is_known(&named) {
            return Naming::No;
        }
        named.insert(source);
        if named.len() == NAMED_MAX { Naming::NowAsTheLast } else { Naming::Now }
    }
}

/// Puts an entry before all others of its set. True: its id was there, and not with its content.
fn see(set: &mut [Entry; WAYS], entry: Entry) -> bool {
    let same = set.iter().position(|known| *known == entry);
    let is_reuse = same.is_none() && set.iter().any(|known| known.id == entry.id);
    set[..=same.unwrap_or(WAYS - 1)].rotate_right(1);
    set[0] = entry;
    is_reuse
}

/// A source as the log shows it: the beginning of it, without what could be taken for something else.
fn shown(source: &str) -> String {
    source[..source.floor_char_boundary(SHOWN_BYTES_MAX)].escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline() -> Name {
        Name::new("p").unwrap()
    }

    fn event(id: &str, more: &str) -> Event {
        let text = format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t"{more}}}"#);
        Event::from_structured(&text.into()).unwrap()
    }

    fn entry(id: u64, content: u64) -> Entry {
        Entry { id, content }
    }

    #[test]
    fn an_id_with_other_content_is_found_and_with_the_same_content_is_not() {
        let ids = ReusedIds::default();
        let (one, two) = (event("1", r#","data":{"n":1}"#), event("1", r#","data":{"n":2}"#));
        let see = |event: &Event| ids.is_reuse(&pipeline(), event, false);
        assert_eq!([&one, &one, &two, &two, &one].map(see), [false, false, true, false, false]);
        assert!(see(&event("1", r#","data":{"n":3}"#)), "each of them is one");
        assert!(!see(&event("2", r#","data":{"n":2}"#)), "another id");
        assert!(
            !ids.is_reuse(&Name::new("q").unwrap(), &two, false),
            "another pipeline gives it another webhook-id"
        );
    }

    #[test]
    fn a_message_that_comes_again_is_remembered_and_not_counted() {
        let ids = ReusedIds::default();
        let of = |number: i32| event("1", &format!(r#","data":{number}"#));
        assert!(!ids.is_reuse(&pipeline(), &of(1), true));
        assert!(!ids.is_reuse(&pipeline(), &of(2), true), "it was counted when it came first");
        assert!(ids.is_reuse(&pipeline(), &of(3), false));
    }

    #[test]
    fn everything_that_a_receiver_would_lose_is_content() {
        let others = [
            r#","subject":"a""#,
            r#","time":"2026-01-01T00:00:00Z""#,
            r#","datacontenttype":"text/json""#,
            r#","dataschema":"https://example.com/schema""#,
            r#","region":"eu""#,
            r#","region":"1""#,
            r#","region":1"#,
            r#","region":true"#,
            r#","zone":"eu""#,
            r#","data":1"#,
            r#","data":null"#,
            r#","data":"""#,
            r#","data_base64":"MTI=""#,
        ];
        for (place, other) in others.iter().enumerate() {
            let ids = ReusedIds::default();
            assert!(!ids.is_reuse(&pipeline(), &event("1", ""), false));
            for before in &others[..place] {
                let (before, other) = (event("1", before), event("1", other));
                assert_ne!(ids.content(&before), ids.content(&other), "{before:?} {other:?}");
            }
            assert!(ids.is_reuse(&pipeline(), &event("1", other), false), "{other}");
        }
        let ids = ReusedIds::default();
        assert_ne!(ids.content(&event("1", "")), ids.content(&Event { ty: "u".into(), ..event("1", "") }));
    }

    #[test]
    fn neither_the_order_of_attributes_nor_the_trace_of_one_publish_is_content() {
        let ids = ReusedIds::default();
        let first = event("1", r#","a":"x","b":2,"traceparent":"00-ab-cd-01""#);
        let second = event("1", r#","traceparent":"00-ef-cd-01","tracestate":"k=v","b":2,"a":"x""#);
        assert_ne!(first.extensions, second.extensions);
        assert!(!ids.is_reuse(&pipeline(), &first, false));
        assert!(!ids.is_reuse(&pipeline(), &second, false));
    }

    #[test]
    fn a_set_forgets_what_was_seen_longest_ago() {
        let mut set = [Entry::default(); WAYS];
        for id in 1..=4 {
            assert!(!see(&mut set, entry(id, 0)));
        }
        assert_eq!(set, [4, 3, 2, 1].map(|id| entry(id, 0)));
        assert!(!see(&mut set, entry(1, 0)));
        assert_eq!(set, [1, 4, 3, 2].map(|id| entry(id, 0)), "it is seen again");
        assert!(!see(&mut set, entry(5, 0)));
        assert_eq!(set, [5, 1, 4, 3].map(|id| entry(id, 0)));
        assert!(!see(&mut set, entry(2, 9)), "forgotten");
        assert!(see(&mut set, entry(5, 9)));
        assert_eq!(set, [entry(5, 9), entry(2, 9), entry(5, 0), entry(1, 0)]);
    }

    #[test]
    fn the_table_has_one_size_however_many_events_there_are() {
        assert_eq!(SHARDS * SETS * WAYS, 65_536);
        let ids = ReusedIds::default();
        let bytes = |ids: &ReusedIds| size_of_val(&*ids.shards);
        let before = bytes(&ids);
        assert!((1024 * 1024..1024 * 1024 + 64 * SHARDS).contains(&before), "{before}");
        for number in 0..100_000 {
            assert!(!ids.is_reuse(&pipeline(), &event(&number.to_string(), ""), false));
        }
        assert_eq!(bytes(&ids), before);
        let used = ids.shards.iter().map(|shard| {
            let shard = shard.lock().unwrap();
            shard.iter().flatten().filter(|entry| **entry != Entry::default()).count()
        });
        assert!(used.sum::<usize>() > 60_000, "events are spread over all of it");
    }

    #[test]
    fn two_processes_have_other_hashes() {
        let (one, two) = (ReusedIds::default(), ReusedIds::default());
        assert_ne!(one.content(&event("1", "")), two.content(&event("1", "")));
        assert_ne!(one.id_keys.hash_one("1"), two.id_keys.hash_one("1"));
    }

    #[test]
    fn a_source_is_named_once_and_a_bounded_number_in_all() {
        let ids = ReusedIds::default();
        let name = |source: &str| ids.name(&pipeline(), source);
        assert_eq!((name("/a"), name("/a")), (Naming::Now, Naming::No));
        assert_eq!(ids.name(&Name::new("q").unwrap(), "/a"), Naming::Now);
        for number in 2..NAMED_MAX - 1 {
            assert_eq!(name(&number.to_string()), Naming::Now);
        }
        assert_eq!(
            (name("/last"), name("/more"), name("/a")),
            (Naming::NowAsTheLast, Naming::No, Naming::No)
        );
        assert_eq!(ids.named.read().unwrap().len(), NAMED_MAX);
    }

    #[test]
    fn a_source_is_shown_cut_and_escaped() {
        assert_eq!(shown("/shop"), "/shop");
        assert_eq!(shown(&"a".repeat(65)), "a".repeat(64));
        assert_eq!(shown(&format!("{}é", "a".repeat(63))), "a".repeat(63), "no half character");
        assert_eq!(shown("a\u{1b}[31m\n"), "a\\u{1b}[31m\\n");
    }
}
