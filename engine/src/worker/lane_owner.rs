//! Which process drains a lane: one at a time. It says so in the lane's record, renews its own sign of life, and leaves its
//! lanes alone when it can't; a process whose sign stands still is gone, and its lanes are taken over.
//!
//! No clocks of two machines are compared: a sign stands still by the watch of who looks, and how old one is that is seen for
//! the first time by the server's. A process is sure of its lanes for a shorter time
//! after its last renewal than others wait before they take over, so two never drain one lane at a time; should one
//! stand still between the two (stopped, swapped out), tasks that it goes on with then are repeats.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::Engine;
use super::lane::Lane;
use super::under_way::{Taken, UnderWay};
use crate::model::Name;
use crate::model::fault::chain;
use crate::nats::Registry;
use crate::nats::lane_owners::{LaneOwner, OwnerEntry};
use crate::nats::registry::RegistryError;

/// How often a process renews its sign of life and looks at those of others.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How long after its last renewal a process is sure of its lanes.
const SURE_FOR: Duration = Duration::from_secs(6);
/// A process whose sign stands still for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// The sign of one that is gone is removed after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);
/// Owners in a row that died with tasks of a lane under way: from then on its first tasks are suspects.
const DEATHS_SUSPICIOUS: u32 = 3;
/// Tasks of a lane that may be under way beside those that have a slot: what is about to be removed.
const WINDOW_MORE: usize = 64;

/// This process, as others know it, and what it knows of them. One for all engines of a process.
pub(super) struct Process {
    pub(super) id: String,
    seen: Mutex<Seen>,
    /// Held by who looks, so that many that need a fresh look share one.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Seen {
    /// When the request of the last renewal was sent.
    renewed: Option<Instant>,
    /// When the last look began.
    looked: Option<Instant>,
    /// Why it could not be renewed last time.
    why_not: Option<String>,
    /// The signs of others, each with when it was seen to change.
    others: HashMap<String, (u64, Instant)>,
}

/// Signs of processes: a number that grows with each renewal, and how old it is by the server's clock, where it was asked.
type Signs = HashMap<String, (u64, Duration)>;

/// How another process stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Alive,
    /// Its sign stands still: it was killed, or is cut off.
    Dead,
    /// It has no sign: it has taken it away itself, or was dead for long.
    Absent,
}

impl Process {
    pub(super) fn new() -> Self {
        let id = format!("{:016x}", rand::random::<u64>());
        Self { id, seen: Mutex::default(), looking: tokio::sync::Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what it owns is its own at `now`.
    fn is_sure(&self, now: Instant) -> bool {
        self.seen().renewed.is_some_and(|renewed| now.duration_since(renewed) < SURE_FOR)
    }

    /// Takes in the signs as they were at a look that began at `began`. One that is new to us has stood still for as long as
    /// the server says. True: somebody is gone since the last look.
    fn saw(&self, signs: &Signs, began: Instant) -> bool {
        let mut seen = self.seen();
        let before = seen.others.len();
        seen.others.retain(|process, _| signs.contains_key(process));
        let mut news = seen.others.len() < before;
        for (process, (renewal, age)) in signs.iter().filter(|(process, _)| **process != self.id) {
            let stood = began.checked_sub(*age).unwrap_or(began);
            let (known, since) = seen.others.entry(process.clone()).or_insert((*renewal, stood));
            if known != renewal {
                (*known, *since) = (*renewal, began);
            }
            let still = began.duration_since(*since);
            news |= still >= GONE_AFTER && still < GONE_AFTER + 2 * RENEW_EVERY;
        }
        seen.looked = Some(began);
        news
    }

    /// How a process stands, if the last look is no older than `not_before`.
    fn standing(&self, process: &str, not_before: Instant, now: Instant) -> Option<Standing> {
        let seen = self.seen();
        match seen.others.get(process) {
            Some((_, since)) if now.duration_since(*since) >= GONE_AFTER => Some(Standing::Dead),
            Some(_) => Some(Standing::Alive),
            None => seen.looked.filter(|looked| *looked >= not_before).map(|_| Standing::Absent),
        }
    }

    /// Processes whose sign nobody needs any more.
    fn forgotten(&self, now: Instant) -> Vec<String> {
        let seen = self.seen();
        let old = seen.others.iter().filter(|(_, (_, since))| now.duration_since(*since) >= FORGOTTEN_AFTER);
        old.map(|(process, _)| process.clone()).collect()
    }

    /// Renews its own sign.
    async fn renew(&self, registry: &Registry) {
        let began = Instant::now();
        let renewed = registry.renew_process(&self.id).await;
        let mut seen = self.seen();
        match renewed {
            Ok(()) => (seen.renewed, seen.why_not) = (Some(began), None),
            Err(error) => seen.why_not = Some(chain(&error)),
        }
    }

    /// Why this process leaves its lanes alone, if it has to.
    pub(super) fn trouble(&self, now: Instant) -> Option<String> {
        let unsure = !self.is_sure(now);
        let why = self.seen().why_not.clone().filter(|_| unsure)?;
        Some(format!("lanes are not worked off: this engine can't say that it is alive: {why}"))
    }

    /// Looks at the signs of others, unless somebody else has done so since `not_before`. True: somebody is gone.
    async fn look(&self, registry: &Registry, not_before: Instant) -> Result<bool, RegistryError> {
        let _looking = self.looking.lock().await;
        if self.seen().looked.is_some_and(|looked| looked >= not_before) {
            return Ok(false);
        }
        let began = Instant::now();
        let signs = registry.processes().await?;
        let is_new = |process: &String| *process != self.id && !self.seen().others.contains_key(process);
        let now = if signs.keys().any(is_new) { Some(registry.server_time().await?) } else { None };
        let signs = signs.into_iter().map(|(process, (renewal, at))| {
            let age = now.map_or(Duration::ZERO, |now| now.since(at));
            (process, (renewal, age))
        });
        Ok(self.saw(&signs.collect(), began))
    }
}

/// What this process knows of a lane's owner.
#[derive(Default)]
pub(super) struct Ownership {
    inner: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// None: it has to be asked for.
    entry: Option<(OwnerEntry, Instant)>,
    /// Tasks that the owner before may have begun and that were not taken since.
    unproven: u64,
    /// The last of them that was taken.
    unproven_to: u64,
}

/// What is shared by all versions of a lane, and by the engines of a process.
#[derive(Default)]
pub(super) struct Drained {
    /// Held by the one drain of the lane.
    pub(super) turn: tokio::sync::Mutex<()>,
    pub(super) owner: Ownership,
    pub(super) under_way: Arc<UnderWay>,
}

/// What a task that was taken from a lane may have behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Past {
    /// It may have been begun before: whether it waits already has to be asked.
    pub(super) again: bool,
    /// It may be what ended its owners.
    pub(super) suspect: bool,
}

impl Ownership {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was said of the owner, and when that was learnt.
    fn entry(&self) -> Option<(OwnerEntry, Instant)> {
        self.known().entry.clone()
    }

    /// Told by whoever reads or writes the record. An older word than what is known says nothing.
    pub(super) fn learn(&self, entry: OwnerEntry) -> bool {
        let mut known = self.known();
        if known
            .entry
            .as_ref()
            .is_some_and(|(known, _)| known.revision >= entry.revision && entry.revision > 0)
        {
            return false;
        }
        known.entry = Some((entry, Instant::now()));
        true
    }

    /// What is known may be old: to be asked for again.
    pub(super) fn forget(&self) {
        self.known().entry = None;
    }

    /// Forgets an owner that is somebody else.
    pub(super) fn forget_others(&self, process: &str) {
        let mut known = self.known();
        if known
            .entry
            .as_ref()
            .is_none_or(|(entry, _)| entry.owner.as_ref().is_none_or(|owner| owner.process != process))
        {
            known.entry = None;
        }
    }

    /// Whether somebody owns the lane, as far as is known.
    pub(super) fn is_owned(&self) -> bool {
        self.known().entry.as_ref().is_some_and(|(entry, _)| entry.owner.is_some())
    }

    fn owned_by(&self, process: &str) -> Option<(LaneOwner, u64)> {
        let (entry, _) = self.entry()?;
        entry.owner.filter(|owner| owner.process == process).map(|owner| (owner, entry.revision))
    }

    /// The past of a task that is taken now.
    pub(super) fn past(&self, taken: &Taken) -> Past {
        let mut known = self.known();
        let unproven = known.unproven > 0;
        if unproven {
            known.unproven -= 1;
            known.unproven_to = taken.sequence;
        }
        let deaths = known.entry.as_ref().and_then(|(entry, _)| Some(entry.owner.as_ref()?.deaths));
        let suspect = unproven && deaths.is_some_and(|deaths| deaths >= DEATHS_SUSPICIOUS);
        Past { again: unproven || taken.again, suspect }
    }

    /// Whether this owner has outlived all that may have ended the others.
    fn is_proven(&self, lowest_under_way: Option<u64>) -> bool {
        let known = self.known();
        known.unproven == 0 && lowest_under_way.is_none_or(|lowest| lowest > known.unproven_to)
    }
}

/// Most tasks of a lane that one owner has under way at once.
pub(super) fn window(lane: &Lane) -> usize {
    lane.subscription.concurrency + WINDOW_MORE
}

/// Who owns a lane that was `owner`'s, and how many of its tasks that one may have begun.
fn taken_over(owner: Option<&LaneOwner>, standing: Standing, process: &str, window: u64) -> (LaneOwner, u64) {
    let (deaths, unproven) = match (owner, standing) {
        (None, _) => (0, 0),
        (Some(owner), Standing::Dead) => (owner.deaths.saturating_add(1), owner.window),
        (Some(owner), Standing::Absent | Standing::Alive) => (owner.deaths, owner.window),
    };
    (LaneOwner { process: process.to_owned(), deaths, window: window.max(unproven) }, unproven)
}

impl Engine {
    /// Says again and again that this process is alive, and looks who else is.
    pub(super) async fn keep_process_sign(&self) {
        loop {
            let now = Instant::now();
            self.process.renew(&self.registry).await;
            match self.process.look(&self.registry, now).await {
                Ok(true) => self.all_lanes().for_each(|lane| lane.changed.notify_waiters()),
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "signs of life of other processes can't be read"),
            }
            for process in self.process.forgotten(Instant::now()) {
                if let Err(error) = self.registry.retire_process(&process).await {
                    tracing::debug!(%error, "the sign of life of a process that is gone stays behind");
                }
            }
            tokio::time::sleep_until(now + RENEW_EVERY).await;
        }
    }

    /// Follows who owns which lane.
    pub(super) async fn follow_owners(&self) {
        let Ok(changes) = self.registry.watch_owners().await else { return };
        let mut changes = std::pin::pin!(changes);
        while let Some(change) = changes.next().await {
            let names = (Name::new(&change.pipeline), Name::new(&change.subscription));
            let (Ok(pipeline), Ok(subscription)) = names else { continue };
            if let Some(lane) = self.lane_named(&pipeline, &subscription)
                && lane.drained.owner.learn(change.entry)
            {
                lane.changed.notify_waiters();
            }
        }
    }

    /// Whether this process is the owner of a lane now, without asking.
    pub(super) fn owns(&self, lane: &Lane) -> bool {
        self.process.is_sure(Instant::now()) && lane.drained.owner.owned_by(&self.process.id).is_some()
    }

    /// Makes this process the owner of a lane, unless another one is that lives.
    pub(super) async fn own(&self, lane: &Lane) -> Result<bool, RegistryError> {
        if !self.process.is_sure(Instant::now()) {
            return Ok(false);
        }
        let owner = &lane.drained.owner;
        if owner.owned_by(&self.process.id).is_some() {
            return Ok(true);
        }
        let turn = self.turns.take().await;
        let owned = self.take_lane_over(lane).await;
        turn.answered();
        owned
    }

    async fn take_lane_over(&self, lane: &Lane) -> Result<bool, RegistryError> {
        let (owner, name) = (&lane.drained.owner, lane_name(lane));
        if owner.entry().is_none() {
            owner.learn(self.registry.lane_owner(name.0, name.1).await?);
        }
        let Some((entry, learnt)) = owner.entry() else { return Ok(false) };
        let standing = match &entry.owner {
            None => Standing::Absent,
            Some(other) if other.process == self.process.id => return Ok(true),
            Some(other) => self.standing(&other.process, learnt).await?,
        };
        if standing == Standing::Alive {
            return Ok(false);
        }
        let window = window(lane) as u64;
        let (ours, unproven) = taken_over(entry.owner.as_ref(), standing, &self.process.id, window);
        let Some(revision) = self.registry.own_lane(name, &ours, entry.revision).await? else {
            // Somebody else was quicker, or what was known is old.
            owner.forget();
            return Ok(false);
        };
        if let Some(before) = &entry.owner {
            let (pipeline, subscription) = name;
            tracing::info!(pipeline, subscription, from = before.process, ?standing, "lane taken over");
        }
        let mut known = owner.known();
        (known.unproven, known.unproven_to) = (unproven, 0);
        known.entry = Some((OwnerEntry { owner: Some(ours), revision }, Instant::now()));
        Ok(true)
    }

    async fn standing(&self, process: &str, learnt: Instant) -> Result<Standing, RegistryError> {
        if let Some(standing) = self.process.standing(process, learnt, Instant::now()) {
            return Ok(standing);
        }
        self.process.look(&self.registry, learnt).await?;
        Ok(self.process.standing(process, learnt, Instant::now()).unwrap_or(Standing::Alive))
    }

    /// Lets others drain a lane. Nothing of it may be under way.
    pub(super) async fn give_up_lane(&self, lane: &Lane) {
        let owner = &lane.drained.owner;
        let Some((_, revision)) = owner.owned_by(&self.process.id) else { return };
        let name = lane_name(lane);
        match self.registry.free_lane(name, revision).await {
            Ok(Some(revision)) => {
                owner.learn(OwnerEntry { owner: None, revision });
            }
            Ok(None) => owner.forget(),
            Err(error) => {
                tracing::debug!(%error, "a lane was not given up");
                owner.forget();
            }
        }
    }

    /// Counts no deaths any more once what may have caused them is behind.
    pub(super) async fn prove(&self, lane: &Lane) {
        let owner = &lane.drained.owner;
        let Some((ours, revision)) = owner.owned_by(&self.process.id) else { return };
        if ours.deaths == 0 || !owner.is_proven(lane.drained.under_way.lowest()) {
            return;
        }
        let ours = LaneOwner { deaths: 0, window: window(lane) as u64, ..ours };
        match self.registry.own_lane(lane_name(lane), &ours, revision).await {
            Ok(Some(revision)) => {
                owner.learn(OwnerEntry { owner: Some(ours), revision });
            }
            Ok(None) => owner.forget(),
            Err(error) => tracing::debug!(%error, "that a lane's owner lives was not noted"),
        }
    }

    /// Takes this process's sign of life away: others drain what it has drained.
    pub(super) async fn retire_process(&self) {
        if let Err(error) = self.registry.retire_process(&self.process.id).await {
            tracing::debug!(%error, "sign of life of this process stays behind");
        }
    }
}

fn lane_name(lane: &Lane) -> (&str, &str) {
    (lane.pipeline.name.as_str(), lane.subscription.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs(of: &[(&str, u64)]) -> Signs {
        of.iter().map(|(process, renewal)| ((*process).to_owned(), (*renewal, Duration::ZERO))).collect()
    }

    fn owner(process: &str, deaths: u32) -> LaneOwner {
        LaneOwner { process: process.to_owned(), deaths, window: 10 }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_sure_of_a_lane_and_who_takes_it_over_are_never_two() {
        assert!(SURE_FOR + RENEW_EVERY < GONE_AFTER);
        let (ours, began) = (Process::new(), Instant::now());
        ours.saw(&signs(&[("other", 1)]), began);
        let standing = |at| ours.standing("other", began, at);
        assert_eq!(standing(began + SURE_FOR), Some(Standing::Alive));
        assert_eq!(standing(began + GONE_AFTER), Some(Standing::Dead));
        ours.saw(&signs(&[("other", 2)]), began + RENEW_EVERY);
        assert_eq!(standing(began + GONE_AFTER), Some(Standing::Alive), "renewed");
        assert!(ours.saw(&signs(&[]), began + 2 * RENEW_EVERY), "it has gone");
        assert_eq!(standing(began + GONE_AFTER), Some(Standing::Absent));
        let old = [("before".to_owned(), (5, GONE_AFTER))].into();
        tokio::time::advance(GONE_AFTER).await;
        ours.saw(&old, Instant::now());
        let before = ours.standing("before", began, Instant::now());
        assert_eq!(before, Some(Standing::Dead), "it stood still before we came");
        assert!(!ours.is_sure(began), "nothing before the first renewal");
        ours.seen().renewed = Some(began);
        assert!(ours.is_sure(began + SURE_FOR / 2) && !ours.is_sure(began + SURE_FOR));
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_that_nobody_has_looked_for_is_not_absent() {
        let (ours, began) = (Process::new(), Instant::now());
        ours.saw(&signs(&[]), began);
        let later = began + Duration::from_secs(1);
        assert_eq!(ours.standing("new", later, later), None, "it may have come since the look");
        ours.saw(&signs(&[]), later);
        assert_eq!(ours.standing("new", later, later), Some(Standing::Absent));
    }

    #[test]
    fn only_an_owner_that_died_counts_and_what_it_had_begun_is_asked_about() {
        let over = |from: Option<&LaneOwner>, standing| {
            let (ours, unproven) = taken_over(from, standing, "me", 5);
            (ours.deaths, ours.window, unproven)
        };
        assert_eq!(over(None, Standing::Absent), (0, 5, 0));
        assert_eq!(over(Some(&owner("a", 2)), Standing::Dead), (3, 10, 10));
        assert_eq!(over(Some(&owner("a", 2)), Standing::Absent), (2, 10, 10), "it ended in good order");
    }

    #[test]
    fn the_first_tasks_after_three_deaths_are_suspects_and_then_no_more() {
        let ownership = Ownership::default();
        let under_way = Arc::<UnderWay>::default();
        ownership.learn(OwnerEntry { owner: Some(owner("me", 3)), revision: 7 });
        ownership.known().unproven = 2;
        let pasts: Vec<_> =
            (1..=3).map(|sequence| ownership.past(&under_way.take(sequence).unwrap()).suspect).collect();
        assert_eq!(pasts, [true, true, false]);
        assert!(!ownership.is_proven(Some(2)) && ownership.is_proven(Some(3)) && ownership.is_proven(None));
    }

    #[test]
    fn an_older_word_on_the_owner_says_nothing() {
        let ownership = Ownership::default();
        assert!(ownership.learn(OwnerEntry { owner: Some(owner("me", 0)), revision: 7 }));
        assert!(!ownership.learn(OwnerEntry { owner: None, revision: 6 }));
        assert!(ownership.owned_by("me").is_some());
        assert!(ownership.learn(OwnerEntry { owner: None, revision: 8 }));
        assert!(ownership.owned_by("me").is_none());
    }
}
