//! Another name for everything that is kept of a pipeline: its place in the source, states of lanes, tasks that wait, are
//! due or lie in lanes, and dead letters.
//!
//! Each message is stored under the new name before it is removed under the old one, and stays what it was: task key,
//! delivery id, generation, attempts. No engine runs the pipeline meanwhile (a note in the bucket keeps them from it). What
//! waits is parked under the new name, without a schedule, until nothing is left under the old one: a wait that fires
//! in the meantime would be there twice. A rename that was killed is finished by running it again, from any point.

mod contents;
mod error;
mod place;

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::bucket::{expected_sequence, rollup};
use super::modules::Alive;
use super::registry::{LaneRecord, RecordChange, Renaming};
use super::{Modules, Nats, Prefix, Registry, StoreError, Stored, tasks};
use crate::model::{Name, Timestamp, WaitThere};
pub use contents::{Contents, contents};
pub use error::RenameError;

/// Messages that are moved at the same time; of one lane or kind of dead letter one at a time, so that it is known which was
/// the last.
const AT_ONCE: usize = 16;
/// How often a store is tried whose outcome the server does not tell.
const TRIES_MAX: u32 = 5;
/// Between these.
const PAUSE: Duration = Duration::from_millis(100);
/// What a parked wait's schedule was; `due`: it has fired.
const PARKED: &str = "Hookmill-Parked";
const DUE: &str = "due";

/// How far a rename has got.
enum Stage {
    /// Nothing is done.
    New,
    /// It may be anywhere.
    Begun(Renaming),
    /// All is done but for the note under the old name.
    Done,
}

/// A rename under way.
pub struct Rename<'r> {
    nats: &'r Nats,
    registry: &'r Registry,
    from: &'r Name,
    to: &'r Name,
}

impl<'r> Rename<'r> {
    /// Looks whether it can be done; changes nothing. `repeat`: what an engine has taken and not settled is taken again.
    pub async fn check(
        nats: &'r Nats,
        registry: &'r Registry,
        (from, to): (&'r Name, &'r Name),
        repeat: bool,
    ) -> Result<Self, RenameError> {
        let rename = Self { nats, registry, from, to };
        if from == to {
            return Err(RenameError::SameName(from.clone()));
        }
        match rename.stage().await? {
            Stage::New => {
                rename.new_name_is_free().await?;
                rename.new_durable_is_free().await?;
                if contents(nats, registry, from).await? == Contents::default() {
                    return Err(RenameError::Unknown(from.clone()));
                }
            }
            Stage::Begun(_) => {}
            Stage::Done => return Ok(rename),
        }
        rename.nobody_runs_it().await?;
        if !repeat {
            rename.all_is_settled().await?;
        }
        Ok(rename)
    }

    /// How far earlier runs have got.
    async fn stage(&self) -> Result<Stage, RenameError> {
        let ours = async |name: &Name| match self.registry.renaming(name).await? {
            Some(Renaming { from, to, .. }) if from != self.from.as_str() || to != self.to.as_str() => {
                Err(RenameError::Other { from, to })
            }
            note => Ok(note),
        };
        // Written under the new name first, and removed there first.
        Ok(match (ours(self.from).await?, ours(self.to).await?) {
            (Some(note), Some(_)) => Stage::Begun(note),
            (Some(_), None) => Stage::Done,
            (None, _) => Stage::New,
        })
    }

    async fn new_name_is_free(&self) -> Result<(), RenameError> {
        let there = contents(self.nats, self.registry, self.to).await?;
        if there == Contents::default() {
            return Ok(());
        }
        Err(RenameError::Taken { name: self.to.clone(), contents: there })
    }

    async fn nobody_runs_it(&self) -> Result<(), RenameError> {
        let engines = Modules::look(self.nats).engines().await?;
        let found = engines.into_iter().find(|alive| [self.from, self.to].contains(&&alive.pipeline));
        match found {
            Some(Alive { pipeline, engine, age, .. }) => {
                Err(RenameError::Running { engine, pipeline, age: age.as_secs() })
            }
            None => Ok(()),
        }
    }

    /// Does it, or what is left of it. Says what was moved by this run.
    pub async fn run(self) -> Result<Contents, RenameError> {
        let renaming = match self.stage().await? {
            Stage::New => self.begin().await?,
            Stage::Begun(note) => {
                self.nobody_runs_it().await?;
                // What has no floor was not found out yet.
                if note.floor.is_some() { note } else { self.note_place().await? }
            }
            Stage::Done => {
                self.registry.clear_renaming(self.from).await?;
                return Ok(Contents::default());
            }
        };
        self.carry_place(&renaming).await?;
        let lane_states = self.carry_states().await?;
        let (waits, due) = self.park_all().await?;
        let prefix = self.nats.prefix();
        let lane_tasks = self.carry_all(&prefix.lanes(), &prefix.lane_all(self.from.as_str())).await?;
        let letters = prefix.dead_letter(self.from.as_str(), "*", "*");
        // The parts before the letters that name them.
        self.carry_all(&prefix.dlq(), &Prefix::parts_of(&letters)).await?;
        let dead_letters = self.carry_all(&prefix.dlq(), &letters).await?;
        self.release_all().await?;
        // Once more: an engine that was about to start when the note was written may have left a place under either name.
        self.carry_place(&renaming).await?;
        self.forget_the_old_name().await?;
        self.registry.clear_renaming(self.to).await?;
        step();
        self.registry.clear_renaming(self.from).await?;
        Ok(Contents { floor: renaming.floor, lane_states, lane_tasks, waits, due, dead_letters })
    }

    /// Writes the note, and takes it back where somebody was quicker: an engine says first that it lives, and then looks for the
    /// note, so one of the two sees the other.
    async fn begin(&self) -> Result<Renaming, RenameError> {
        let (from, to) = (self.from.to_string(), self.to.to_string());
        self.registry.put_renaming(&Renaming { from, to, floor: None, history: None }).await?;
        step();
        let alone = async {
            self.nobody_runs_it().await?;
            self.new_name_is_free().await
        };
        if let Err(error) = alone.await {
            // Under the old name first: alone there, it would say that all is done.
            self.registry.clear_renaming(self.from).await?;
            self.registry.clear_renaming(self.to).await?;
            return Err(error);
        }
        self.note_place().await
    }

    async fn carry_states(&self) -> Result<u64, RenameError> {
        let states = self.registry.lanes(self.nats).await?;
        let mut carried = 0;
        for ((pipeline, subscription), record) in &states {
            if pipeline == self.from.as_str() {
                let same = |there: Option<&LaneRecord>| match there {
                    Some(there) if there == record => RecordChange::Leave,
                    Some(_) | None => RecordChange::Write(record.clone()),
                };
                if states.get(&(self.to.to_string(), subscription.clone())) != Some(record) {
                    self.registry.change_lane(self.to.as_str(), subscription, same).await?;
                    step();
                }
                let gone = |there: Option<&LaneRecord>| match there {
                    Some(_) => RecordChange::Remove,
                    None => RecordChange::Leave,
                };
                self.registry.change_lane(pipeline, subscription, gone).await?;
                step();
                carried += 1;
            }
        }
        Ok(carried)
    }

    /// Parks what waits and what is due, until there is nothing under the old name: a wait may fire while it is looked at.
    async fn park_all(&self) -> Result<(u64, u64), RenameError> {
        let (prefix, from) = (self.nats.prefix(), self.from.as_str());
        let retries = prefix.retries();
        let (mut waits, mut due) = (0, 0);
        loop {
            let (seen, parked) = self.park_each(&retries, &prefix.wait_all(from, "*")).await?;
            let (fired, parked_due) = self.park_each(&retries, &prefix.due_of(from, "*")).await?;
            waits += parked;
            due += parked_due;
            if seen + fired == 0 {
                return Ok((waits, due));
            }
        }
    }

    /// How many there were, and how many of them were not parked yet.
    async fn park_each(&self, retries: &str, filter: &str) -> Result<(u64, u64), RenameError> {
        let each = self.each(retries, filter).map_ok(|stored| self.park(retries, stored));
        let parked = each.try_buffer_unordered(AT_ONCE);
        parked.try_fold((0, 0), async |(seen, parked), new| Ok((seen + 1, parked + u64::from(new)))).await
    }

    /// All messages of a stream on some subjects, as far as there are any now.
    fn each<'s>(
        &'s self,
        stream: &'s str,
        filter: &'s str,
    ) -> impl futures_util::Stream<Item = Result<Stored, RenameError>> + 's {
        stream::try_unfold(1, move |from| async move {
            let next = self.nats.next_on(stream, filter, from).await?;
            Ok(next.map(|next| {
                let from = next.sequence + 1;
                (next, from)
            }))
        })
    }

    /// Stores one under the new name, where it does not fire, and removes it. False: it was there already.
    async fn park(&self, retries: &str, stored: Stored) -> Result<bool, RenameError> {
        let prefix = self.nats.prefix();
        let Some((_, subscription)) = prefix.parts(&stored.subject) else { return Ok(false) };
        let schedule = stored.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(tasks::SCHEDULE));
        // A wait keeps the last token of its subject; what is due says itself what it was.
        let key = match &schedule {
            Some(_) => stored.subject.rsplit('.').next().map(str::to_owned),
            None => tasks::key(&stored.headers),
        };
        // One that can't be read is not compared with others.
        let key = key.unwrap_or_else(|| format!("at-{}", stored.sequence));
        let subject = prefix.wait_named(self.to.as_str(), subscription, &key);
        let mut headers = without_nats(&stored.headers);
        headers.push(rollup());
        headers.push((PARKED.to_owned(), schedule.map_or_else(|| DUE.to_owned(), |(_, at)| at.clone())));
        // Of the states of one task that are parked the furthest one is kept.
        let is_there = |there: Option<&Stored>| {
            let Some(there) = there.and_then(|there| tasks::progress(&there.headers)) else { return false };
            let own = tasks::progress(&stored.headers);
            own.is_none_or(|own| matches!(own.meets(&there), WaitThere::Same | WaitThere::Ahead))
        };
        let (_, new) = self.store_behind(retries, &subject, headers, &stored, 0, is_there).await?;
        if new {
            step();
        }
        self.nats.delete(retries, stored.sequence).await?;
        step();
        Ok(new)
    }

    /// Stores a message on a subject whose last one has the sequence `last`, unless what is there now says that it need not be.
    /// The sequence of the last one then, and whether it was stored by this.
    async fn store_behind(
        &self,
        stream: &str,
        subject: &str,
        headers: Vec<(String, String)>,
        stored: &Stored,
        mut last: u64,
        is_done: impl Fn(Option<&Stored>) -> bool,
    ) -> Result<(u64, bool), RenameError> {
        let mut tries = 0;
        loop {
            let mut headers = headers.clone();
            headers.push((expected_sequence(), last.to_string()));
            match self.nats.store(subject.to_owned(), headers, stored.body.clone()).await {
                Ok(sequence) => return Ok((sequence, true)),
                Err(StoreError::WrongLast | StoreError::Unknown) if tries < TRIES_MAX => tries += 1,
                Err(source) => return Err(RenameError::Store { subject: subject.to_owned(), source }),
            }
            // It may have been stored though the answer was lost.
            let there = self.nats.last_on(stream, subject).await?;
            last = there.as_ref().map_or(0, |there| there.sequence);
            if is_done(there.as_ref()) {
                return Ok((last, false));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Moves all messages of a stream on some subjects; those of one subject in their order.
    async fn carry_all(&self, stream: &str, filter: &str) -> Result<u64, RenameError> {
        let subjects = self.nats.counts(stream, filter).await?;
        let carry = |subject: String| async move { self.carry_subject(stream, &subject).await };
        stream::iter(subjects.into_keys())
            .map(carry)
            .buffer_unordered(AT_ONCE)
            .try_fold(0, async |carried, new| Ok(carried + new))
            .await
    }

    async fn carry_subject(&self, stream: &str, subject: &str) -> Result<u64, RenameError> {
        let Some(target) = self.nats.prefix().renamed(subject, self.to) else { return Ok(0) };
        // An earlier run may have been killed between storing one and removing it: then it is the last one there.
        let mut last = self.nats.last_on(stream, &target).await?;
        let mut end = last.as_ref().map_or(0, |last| last.sequence);
        let (mut carried, mut from) = (0, 1);
        while let Some(stored) = self.nats.next_on(stream, subject, from).await? {
            if !last.take().is_some_and(|last| same(&last, &stored)) {
                let is_there = |there: Option<&Stored>| there.is_some_and(|there| same(there, &stored));
                let headers = without_nats(&stored.headers);
                (end, _) = self.store_behind(stream, &target, headers, &stored, end, is_there).await?;
                step();
            }
            self.nats.delete(stream, stored.sequence).await?;
            step();
            carried += 1;
            from = stored.sequence + 1;
        }
        Ok(carried)
    }

    /// Gives what is parked its schedule back: from then on it fires.
    async fn release_all(&self) -> Result<(), RenameError> {
        let retries = self.nats.prefix().retries();
        let filter = self.nats.prefix().wait_all(self.to.as_str(), "*");
        let each = self.each(&retries, &filter).map_ok(|stored| self.release(&retries, stored));
        each.try_buffer_unordered(AT_ONCE).try_for_each(async |()| Ok(())).await
    }

    async fn release(&self, retries: &str, stored: Stored) -> Result<(), RenameError> {
        let Some((_, parked)) = stored.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(PARKED))
        else {
            return Ok(());
        };
        let prefix = self.nats.prefix();
        let Some((_, subscription)) = prefix.parts(&stored.subject) else { return Ok(()) };
        let at = if parked == DUE { format!("@at {}", Timestamp::now()) } else { parked.clone() };
        let mut headers = without_nats(&stored.headers);
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case(PARKED));
        headers.push(rollup());
        headers.push((tasks::SCHEDULE.to_owned(), at));
        headers.push((tasks::SCHEDULE_TARGET.to_owned(), prefix.due_of(self.to.as_str(), subscription)));
        // Released by a try whose answer was lost: it may have fired by now.
        let is_released =
            |there: Option<&Stored>| there.is_none_or(|there| there.sequence != stored.sequence);
        let (subject, last) = (&stored.subject, stored.sequence);
        self.store_behind(retries, subject, headers, &stored, last, is_released).await?;
        step();
        Ok(())
    }

    async fn forget_the_old_name(&self) -> Result<(), RenameError> {
        for sign in self.registry.signs(self.from).await? {
            self.registry.retire(self.from, &sign.engine).await?;
        }
        self.registry.forget_owners(self.from).await?;
        if self.registry.revision(self.from).await?.is_some() {
            self.registry.clear_revision(self.from).await?;
            step();
        }
        self.nats.delete_consumer(&self.nats.prefix().retries(), self.from.as_str()).await?;
        Ok(())
    }
}

/// Whether a wait rests without a schedule until a rename is finished.
pub fn is_parked(stored: &Stored) -> bool {
    stored.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(PARKED))
}

/// Headers without those that the server acts on.
fn without_nats(headers: &[(String, String)]) -> Vec<(String, String)> {
    let kept = headers.iter().filter(|(name, _)| !name.to_ascii_lowercase().starts_with("nats-"));
    kept.cloned().collect()
}

/// Whether two messages are the same but for where they lie.
fn same(one: &Stored, two: &Stored) -> bool {
    let headers = |stored: &Stored| {
        let mut headers = without_nats(&stored.headers);
        headers.sort();
        headers
    };
    one.body == two.body && headers(one) == headers(two)
}

/// In builds for tests, with `HOOKMILL_TEST_ABORT_STEP`: the end of the process after so many changes.
#[cfg(debug_assertions)]
fn step() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static STEPS: AtomicUsize = AtomicUsize::new(0);
    let made = STEPS.fetch_add(1, Ordering::Relaxed) + 1;
    let last = std::env::var("HOOKMILL_TEST_ABORT_STEP").ok().and_then(|text| text.parse().ok());
    if last.is_some_and(|last: usize| made >= last) {
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
fn step() {}
