//! What the engine holds of JetStream: messages (and leases) whose tasks are not all settled yet.
//!
//! A hold is acknowledged when the last of its shares is settled, and never otherwise: a share that is dropped
//! unsettled leaves the message to be delivered again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::storing::Storing;
use super::under_way::Taken;
use crate::nats::Acker;

/// How often the server is told that a held message is still being worked on (`ack_wait` is 10 s).
pub const PROGRESS_EVERY: Duration = Duration::from_secs(3);

/// Everything held by one engine.
#[derive(Default)]
pub struct Holds {
    held: Mutex<HashMap<u64, (Acker, Instant)>>,
    next: AtomicU64,
}

impl Holds {
    /// Messages held now.
    pub fn count(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Tells the server of everything held for a while that it is being worked on.
    pub async fn progress(&self) {
        let now = Instant::now();
        let held: Vec<Acker> = {
            let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let old = held.values().filter(|(_, since)| now.duration_since(*since) > Duration::from_secs(1));
            old.map(|(acker, _)| acker.clone()).collect()
        };
        for acker in held {
            acker.progress().await;
        }
    }
}

/// What is to be done when everything is settled.
enum Release {
    Message(Acker),
    Lease {
        storing: Arc<Storing>,
        sequence: AtomicU64,
    },
    /// A task that lies in a lane until then.
    InLane {
        storing: Arc<Storing>,
        taken: Mutex<Option<Taken>>,
    },
    #[cfg(test)]
    Nothing,
}

struct Inner {
    unsettled: AtomicUsize,
    abandoned: AtomicBool,
    release: Release,
    id: u64,
    holds: Arc<Holds>,
    room: Mutex<Option<OwnedSemaphorePermit>>,
    /// Copies of the same work, settled with it.
    also: Mutex<Vec<Hold>>,
    /// Told when the message was acknowledged (a suspect's turn ends then).
    done: Mutex<Option<oneshot::Sender<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.holds.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// One share of a hold: belongs to one task.
pub struct Hold {
    inner: Arc<Inner>,
    settled: bool,
}

impl Hold {
    /// Holds a message; `room` is given back when it is acknowledged or let go.
    pub fn message(holds: &Arc<Holds>, acker: Acker, room: Option<OwnedSemaphorePermit>) -> Self {
        let id = holds.next.fetch_add(1, Ordering::Relaxed);
        let entry = (acker.clone(), Instant::now());
        holds.held.lock().unwrap_or_else(PoisonError::into_inner).insert(id, entry);
        Self::new(holds, id, Release::Message(acker), room)
    }

    /// Holds by a stored lease, which is deleted when everything is settled.
    pub fn lease(holds: &Arc<Holds>, storing: Arc<Storing>, sequence: u64) -> Self {
        let id = holds.next.fetch_add(1, Ordering::Relaxed);
        Self::new(holds, id, Release::Lease { storing, sequence: AtomicU64::new(sequence) }, None)
    }

    /// Holds a task of a lane, which is deleted there when everything is settled. Let go of, it is taken again.
    pub fn in_lane(holds: &Arc<Holds>, storing: Arc<Storing>, taken: Taken) -> Self {
        let id = holds.next.fetch_add(1, Ordering::Relaxed);
        let taken = Mutex::new(Some(taken));
        Self::new(holds, id, Release::InLane { storing, taken }, None)
    }

    /// Holds nothing.
    #[cfg(test)]
    pub fn nothing(holds: &Arc<Holds>) -> Self {
        Self::new(holds, 0, Release::Nothing, None)
    }

    /// Holds nothing, in this room.
    #[cfg(test)]
    pub fn in_room(holds: &Arc<Holds>, room: OwnedSemaphorePermit) -> Self {
        Self::new(holds, 0, Release::Nothing, Some(room))
    }

    fn new(holds: &Arc<Holds>, id: u64, release: Release, room: Option<OwnedSemaphorePermit>) -> Self {
        let inner = Inner {
            unsettled: AtomicUsize::new(1),
            abandoned: AtomicBool::new(false),
            release,
            id,
            holds: holds.clone(),
            room: Mutex::new(room),
            also: Mutex::default(),
            done: Mutex::new(None),
        };
        Self { inner: Arc::new(inner), settled: false }
    }

    /// Gives the room back before the end: for what waits in a line of its own.
    pub fn give_back_room(&self) {
        self.inner.room.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Told when the message has been acknowledged; dropped without a word when it was let go.
    pub fn on_done(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        *self.inner.done.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Settles `other` together with this hold.
    pub fn also(&self, other: Self) {
        self.inner.also.lock().unwrap_or_else(PoisonError::into_inner).push(other);
    }

    /// Puts the lease that this holds by off, if it holds by one: `put_off` is given its sequence and says the new one.
    pub async fn renew<F: Future<Output = Option<u64>>>(&self, put_off: impl FnOnce(u64) -> F) {
        if let Release::Lease { sequence, .. } = &self.inner.release
            && let Some(renewed) = put_off(sequence.load(Ordering::Acquire)).await
        {
            sequence.store(renewed, Ordering::Release);
        }
    }

    /// Another share, for another task of the same message.
    #[must_use]
    pub fn share(&self) -> Self {
        self.inner.unsettled.fetch_add(1, Ordering::AcqRel);
        Self { inner: self.inner.clone(), settled: false }
    }

    /// This share's task has its end, or its next state is stored. The last one acknowledges.
    pub async fn settle(mut self) {
        self.settled = true;
        if self.inner.unsettled.fetch_sub(1, Ordering::AcqRel) != 1
            || self.inner.abandoned.load(Ordering::Acquire)
        {
            return;
        }
        match &self.inner.release {
            Release::Message(acker) => acker.ack().await,
            Release::Lease { storing, sequence } => {
                storing.delete_lease(sequence.load(Ordering::Acquire)).await;
            }
            Release::InLane { storing, taken } => {
                let taken = taken.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(taken) = taken
                    && storing.remove_from_lane(taken.sequence).await
                {
                    taken.settled();
                }
            }
            #[cfg(test)]
            Release::Nothing => {}
        }
        let also = std::mem::take(&mut *self.inner.also.lock().unwrap_or_else(PoisonError::into_inner));
        for other in also {
            Box::pin(other.settle()).await;
        }
        let done = self.inner.done.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(done) = done {
            let _ = done.send(());
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.settled {
            self.inner.abandoned.store(true, Ordering::Release);
            self.inner.unsettled.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
