//! What was answered 2xx not long ago, so that it is not sent again while its end can't be recorded.
//!
//! An end that is not recorded (NATS away, an acknowledgement lost, a full disk) brings the task back. This engine then
//! settles it without sending. It remembers in memory alone: after a crash, or in another engine, it is a repeat.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Task, Timestamp};

/// How long an answer is remembered.
const REMEMBERED_FOR: Duration = Duration::from_mins(10);
/// Most answers remembered; the oldest goes first.
const REMEMBERED_MAX: usize = 262_144;

/// Task key and generation.
type Id = ([u8; 26], u64);

/// The answers of one engine.
#[derive(Default)]
pub struct Answered {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    at: HashMap<Id, Timestamp>,
    oldest_first: VecDeque<(Id, Timestamp)>,
}

fn id(task: &Task) -> Option<Id> {
    Some((task.key.as_str().as_bytes().try_into().ok()?, task.generation))
}

impl Answered {
    /// `task` was answered 2xx at `now`.
    pub fn remember(&self, task: &Task, now: Timestamp) {
        let Some(id) = id(task) else { return };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.forget_old(now);
        if inner.at.insert(id, now).is_none() {
            inner.oldest_first.push_back((id, now));
        }
    }

    /// Whether `task` was answered 2xx not long before `now`.
    pub fn remembers(&self, task: &Task, now: Timestamp) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let at = id(task).and_then(|id| inner.at.get(&id));
        at.is_some_and(|at| now.since(*at) < REMEMBERED_FOR)
    }
}

impl Inner {
    fn forget_old(&mut self, now: Timestamp) {
        while let Some((id, at)) = self.oldest_first.front().copied() {
            if self.oldest_first.len() < REMEMBERED_MAX && now.since(at) < REMEMBERED_FOR {
                return;
            }
            self.oldest_first.pop_front();
            self.at.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::running::tests::task;

    #[test]
    fn an_answer_is_remembered_for_ten_minutes_and_its_generation_alone() {
        let answered = Answered::default();
        let at = Timestamp::from_unix_seconds;
        let redriven = Task { generation: 1, ..task() };
        answered.remember(&task(), at(0));
        assert!(answered.remembers(&task(), at(599)));
        assert!(!answered.remembers(&redriven, at(1)));
        assert!(!answered.remembers(&task(), at(600)));
    }

    #[test]
    fn the_oldest_answers_make_room() {
        let answered = Answered::default();
        let now = Timestamp::from_unix_seconds(1);
        let generation = |generation| Task { generation, ..task() };
        let most = REMEMBERED_MAX as u64;
        for number in 0..=most {
            answered.remember(&generation(number), now);
        }
        assert!(!answered.remembers(&generation(0), now));
        assert!(answered.remembers(&generation(1), now));
        assert!(answered.remembers(&generation(most), now));
        let inner = answered.inner.lock().unwrap();
        assert_eq!((inner.at.len(), inner.oldest_first.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }
}
