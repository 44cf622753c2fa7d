//! Pulling into the room that there is, and handing pull and room on to the engine that takes over.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Engine;
use super::health::Part;
use crate::model::Name;
use crate::nats::pull::Lost;
use crate::nats::{Delivered, Nats, Pull, PullEvent};

/// Most messages asked for at once.
const BATCH: usize = 512;
/// Least messages asked for at once while others are on their way: each request costs the server about as much as a
/// message does.
const BITE: usize = 64;
/// Longest wait for room for a bite, where less than that is free.
const BITE_WAIT: Duration = Duration::from_millis(1);

/// What an engine takes messages of a pipeline from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Origin {
    /// Its source.
    Source,
    /// What is due.
    Due,
}

/// What engines leave to those that take over, by pipeline.
pub(super) type Left = HashMap<(Name, Origin), Taking>;

/// A pull, and room for what it brings.
pub(super) struct Taking {
    most: usize,
    room: Room,
    /// Room for what is asked for.
    reserved: Option<OwnedSemaphorePermit>,
    pull: Option<Pull>,
    /// Cuts of the connection whose messages were looked at.
    pub(super) cuts: u64,
}

impl Taking {
    /// Room for `most` messages, and no pull yet. What an earlier engine has left is gone on with: what was on its way to it
    /// comes here.
    pub(super) fn of(left: Option<Self>, most: usize, cuts: u64) -> Self {
        let mut new = Self { most, room: Room::new(most), reserved: None, pull: None, cuts };
        match left {
            Some(left) if left.most == most => left,
            Some(left) => {
                let asked = left.pull.as_ref().map_or(0, Pull::asked);
                new.room.reserve(&mut new.reserved, asked);
                Self { pull: left.pull, cuts: left.cuts, ..new }
            }
            None => new,
        }
    }

    /// Opens a pull from a consumer, unless there is one. False: it can't be opened.
    pub(super) async fn open(&mut self, nats: &Nats, stream: &str, consumer: &str) -> bool {
        if self.pull.as_ref().is_some_and(|pull| pull.is_from(stream, consumer)) {
            return true;
        }
        self.give_up();
        self.pull = Pull::open(nats, stream, consumer).await.ok();
        self.pull.is_some()
    }

    /// Ends the pull. What is on its way comes again, to whoever asks then.
    pub(super) fn give_up(&mut self) {
        self.pull = None;
        self.reserved = None;
    }
}

impl Engine {
    /// Pulls into the room that there is until the pull is lost (`Some`) or the engine stops (`None`). Never asks for more than
    /// there is room for: what lies in a client's buffer is held by nobody and would come again.
    ///
    /// A pull that is out is taken for one that works, unless one was lost just now: then something has to be heard first.
    pub(super) async fn pump(
        &self,
        taking: &mut Taking,
        (part, lost_before): (Part<'_>, bool),
        mut take: impl FnMut(Delivered, OwnedSemaphorePermit),
    ) -> Option<Lost> {
        let Taking { room, reserved, pull: Some(pull), .. } = taking else { return Some(Lost::Closed) };
        let pipeline = part.pipeline();
        let mut works = false;
        let mut set_works = || {
            if !std::mem::replace(&mut works, true) {
                self.health.set(part, None);
            }
        };
        if pull.asked() > 0 && !lost_before {
            set_works();
        }
        loop {
            let asked = pull.asked();
            if asked < BATCH / 2 && self.storing.gate.is_open(pipeline) {
                room.reserve(reserved, BATCH);
                let have = reserved.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
                let more = have.saturating_sub(asked);
                if more >= room.bite || (more > 0 && asked == 0) {
                    if !pull.ask(more).await {
                        return Some(Lost::Closed);
                    }
                    if !lost_before {
                        set_works();
                    }
                }
            }
            if pull.asked() == 0 {
                let wait = async {
                    self.storing.gate.opened(pipeline).await;
                    room.wait().await
                };
                // Room of which nothing is left is none: with it this would turn without ever waiting.
                let usable = |have: &OwnedSemaphorePermit| {
                    have.num_permits() > 0 && self.storing.gate.is_open(pipeline)
                };
                *reserved = match reserved.take().filter(usable) {
                    Some(have) => Some(have),
                    None => self.unless_stopped(wait).await?,
                };
                continue;
            }
            let event = self.unless_stopped(pull.next()).await?;
            match event {
                PullEvent::Message(delivered) => {
                    // One beyond what was asked for (of a request given up before, or of an engine with more room) has no
                    // room of its own.
                    let Some(permit) = reserved.as_mut().and_then(|reserved| reserved.split(1)) else {
                        delivered.acker.nak().await;
                        continue;
                    };
                    take(delivered, permit);
                }
                PullEvent::Alive | PullEvent::Ended(_) => {}
                PullEvent::Lost(lost) => return Some(lost),
            }
            set_works();
        }
    }

    /// This engine has stopped: another one may go on with what it was taking from.
    pub(super) fn leave(&self, pipeline: &Name, origin: Origin, taking: Taking) {
        if self.hands_over.load(Ordering::Acquire) {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            left.insert((pipeline.clone(), origin), taking);
        }
    }
}

/// Room for what is on its way and for what is worked on.
struct Room {
    free: Arc<Semaphore>,
    /// Least to ask for at once.
    bite: usize,
}

impl Room {
    fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), bite: BITE.min(most / 4).max(1) }
    }

    /// Adds room for up to `most` to what is reserved.
    fn reserve(&self, reserved: &mut Option<OwnedSemaphorePermit>, most: usize) {
        let have = reserved.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let want = most.saturating_sub(have).min(self.free.available_permits());
        let Ok(want) = u32::try_from(want) else { return };
        if want == 0 {
            return;
        }
        let Ok(more) = self.free.clone().try_acquire_many_owned(want) else { return };
        match reserved {
            Some(reserved) => reserved.merge(more),
            None => *reserved = Some(more),
        }
    }

    /// Waits for room: for a bite, but not for long, then for one.
    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        let bite = u32::try_from(self.bite).unwrap_or(1);
        match timeout(BITE_WAIT, self.free.clone().acquire_many_owned(bite)).await {
            Ok(bite) => bite.ok(),
            Err(_) => self.free.clone().acquire_owned().await.ok(),
        }
    }
}
