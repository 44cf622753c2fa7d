//! Reading a lane: ahead, in answers as large as the lane can use soon, past what is under way.

use std::sync::Arc;
use std::time::Duration;

use super::lane::Lane;
use super::turns::Turns;
use super::under_way::{Taken, UnderWay};
use crate::nats::{ApiError, Nats, Reader, Stored};

/// How long one answer should last where a rate bounds the lane.
const LASTS: Duration = Duration::from_secs(4);
/// Fewest and most tasks of an answer.
const ANSWER_MIN: usize = 4;
const ANSWER_MAX: usize = 128;
/// Bytes that are read ahead for all lanes together, about.
const AHEAD_BYTES: usize = 64 << 20;
/// Fewest bytes of an answer: it holds one task at the least.
const ANSWER_BYTES_MIN: usize = 8 << 10;
/// A turn that was waited for so long says that they are scarce: the next answer has to last longer. One that came so soon
/// says the opposite.
const SCARCE: Duration = Duration::from_millis(500);
const PLENTY: Duration = Duration::from_millis(50);

/// A place in a lane.
pub(super) struct Cursor {
    reader: Reader,
    nats: Nats,
    stream: String,
    subject: String,
    under_way: Arc<UnderWay>,
    /// How much larger answers are than the lane would need if turns came at once.
    larger: usize,
    /// Cuts of the connection by the last look at the lane's beginning: a server that was killed can have back what was
    /// removed.
    cuts: u64,
}

impl Cursor {
    /// At the lane's beginning.
    pub(super) fn new(nats: &Nats, lane: &Lane) -> Self {
        let stream = nats.prefix().lanes();
        let subject = nats.prefix().lane(lane.pipeline.name.as_str(), lane.subscription.name.as_str());
        let reader = Reader::new(nats, stream.clone(), subject.clone(), 1);
        let under_way = Arc::clone(&lane.drained.under_way);
        Self { reader, nats: nats.clone(), stream, subject, under_way, larger: 1, cuts: nats.cuts() }
    }

    /// The next task that is not under way; none: there is none now behind the last one. `together`: lanes that read ahead.
    pub(super) async fn next(
        &mut self,
        lane: &Lane,
        turns: &Turns,
        together: usize,
    ) -> Result<Option<(Stored, Taken)>, ApiError> {
        self.look_again();
        loop {
            let next = if self.reader.must_ask() {
                let turn = turns.take().await;
                self.larger = larger(self.larger, turn.waited);
                let tasks = (answer(lane) * self.larger).min(ANSWER_MAX);
                self.reader.set_answer(tasks, (AHEAD_BYTES / together.max(1)).max(ANSWER_BYTES_MIN));
                let next = self.reader.next().await;
                turn.answered();
                next?
            } else {
                self.reader.next().await?
            };
            let Some(stored) = next else { return Ok(None) };
            if let Some(taken) = self.under_way.take(stored.sequence) {
                return Ok(Some((stored, taken)));
            }
        }
    }

    /// Goes back to what was abandoned, and to the beginning after a cut of the connection.
    fn look_again(&mut self) {
        let cuts = self.nats.cuts();
        if cuts != self.cuts {
            self.cuts = cuts;
            self.reader.go_to(1);
        }
        if let Some(abandoned) = self.under_way.take_abandoned() {
            self.reader.go_to(abandoned.min(self.reader.at()));
        }
    }

    /// Whether nothing lies in the lane, by its leader. What lies before the cursor is gone back to.
    pub(super) async fn is_empty(&mut self, turns: &Turns) -> Result<bool, ApiError> {
        if self.under_way.count() > 0 {
            return Ok(false);
        }
        let turn = turns.take().await;
        let head = self.nats.next_on(&self.stream, &self.subject, 1).await;
        turn.answered();
        let Some(head) = head? else { return Ok(true) };
        self.reader.go_to(head.sequence.min(self.reader.at()));
        Ok(false)
    }
}

/// Tasks that an answer should hold: what the rate lets go in a few seconds, or twice what the slots take.
fn answer(lane: &Lane) -> usize {
    let most = match lane.subscription.rate {
        Some(rate) => {
            usize::try_from(LASTS.as_nanos().div_ceil(rate.every.as_nanos().max(1))).unwrap_or(ANSWER_MAX)
        }
        None => lane.subscription.concurrency,
    };
    most.clamp(ANSWER_MIN, ANSWER_MAX)
}

/// How much larger the next answer is, by how long its turn was waited for.
fn larger(before: usize, waited: Duration) -> usize {
    if waited >= SCARCE {
        (before * 2).min(ANSWER_MAX)
    } else if waited < PLENTY {
        1
    } else {
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_grow_while_turns_are_scarce() {
        let waits = [600, 600, 100, 600, 10].map(Duration::from_millis);
        let mut size = 1;
        let sizes = waits.map(|waited| {
            size = larger(size, waited);
            size
        });
        assert_eq!(sizes, [2, 4, 4, 8, 1]);
        assert_eq!(larger(ANSWER_MAX, SCARCE), ANSWER_MAX);
    }
}
