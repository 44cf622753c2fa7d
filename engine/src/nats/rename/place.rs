//! The place of a pipeline in its source under its old and its new name: floor and durable.

use super::{Rename, RenameError, step};
use crate::model::Name;
use crate::nats::consumers::{Consumer, StartAt};
use crate::nats::owner::{self, Claim, NotOurs};
use crate::nats::registry::{Floor, Renaming};
use crate::nats::streams::{Retention, SourceStream};

impl Rename<'_> {
    /// Somebody else's durable, or one made by hand, would be deleted.
    pub(super) async fn new_durable_is_free(&self) -> Result<(), RenameError> {
        let Some(floor) = self.registry.floor(self.from).await? else { return Ok(()) };
        let new = self.nats.prefix().source_consumer(self.to);
        if self.nats.source_stream(&floor.stream).await?.is_none() {
            return Ok(());
        }
        self.may_be_replaced(&floor.stream, self.nats.consumer(&floor.stream, &new).await?.as_ref(), false)
    }

    /// Whether what has the name of the new durable is this pipeline's; `begun`: one that doesn't say so may have been made by
    /// an earlier run.
    fn may_be_replaced(
        &self,
        stream: &str,
        there: Option<&Consumer>,
        begun: bool,
    ) -> Result<(), RenameError> {
        let Some(there) = there else { return Ok(()) };
        match owner::claim(there, &self.nats.owner_of(self.to), begun) {
            Claim::Ours | Claim::ToBeWritten => Ok(()),
            Claim::Foreign(owner) => {
                let (name, stream) = (self.to.clone(), stream.to_owned());
                let consumer = self.nats.prefix().source_consumer(self.to);
                Err(RenameError::NotOurs { name, source: NotOurs { consumer, stream, owner } })
            }
        }
    }

    /// The durable of a name whose place is `floor`; none, too, where what has its name is somebody else's.
    async fn durable(
        &self,
        source: &SourceStream,
        name: &Name,
        floor: &Floor,
    ) -> Result<Option<Consumer>, RenameError> {
        let there = self.nats.consumer(&source.name, &self.nats.prefix().source_consumer(name)).await?;
        let us = self.nats.owner_of(name);
        let is_ours = |there: &Consumer| {
            !matches!(owner::claim(there, &us, owner::is_in(Some(floor), source)), Claim::Foreign(_))
        };
        Ok(there.filter(is_ours))
    }

    /// What was settled above the floor is known to nobody but the old durable: it would come again, under other ids.
    pub(super) async fn all_is_settled(&self) -> Result<(), RenameError> {
        let Some(floor) = self.registry.floor(self.from).await? else { return Ok(()) };
        let there = match self.nats.source_stream(&floor.stream).await? {
            Some(source) => self.durable(&source, self.from, &floor).await?,
            None => None,
        };
        match there.filter(|there| there.ack_pending > 0) {
            Some(there) => Err(RenameError::Unsettled {
                count: there.ack_pending,
                stream: floor.stream,
                pipeline: self.from.clone(),
                from: there.floor + 1,
            }),
            None => Ok(()),
        }
    }

    /// Finds out where the new name goes on in the source, and notes it: nothing that an engine leaves under either name from now
    /// on changes that.
    pub(super) async fn note_place(&self) -> Result<Renaming, RenameError> {
        let mut floor = self.registry.floor(self.from).await?;
        let (mut history, _) = self.registry.history(self.from).await?;
        if let Some(floor) = &mut floor {
            let source = self.nats.source_stream(&floor.stream).await?;
            let there = match &source {
                Some(source) => self.durable(source, self.from, floor).await?,
                None => None,
            };
            if let (Some(source), Some(there)) = (source, there) {
                // The floor is kept every few seconds; the durable knows better. It is on the stream that is there now; that
                // one may have been made anew since the floor was kept.
                let kept = if source.created == floor.created { floor.sequence } else { 0 };
                floor.created.clone_from(&source.created);
                floor.sequence = kept.max(there.floor);
                // The durable of the new name looks again at what lies behind the floor, with the same subjects.
                let (after, last) = (floor.sequence, there.delivered);
                let own = history.filter(|history| history.is_of(&source));
                history = own.map(|own| own.seen(&there).made_again(after, last, &there.filters));
            }
        }
        let (from, to) = (self.from.to_string(), self.to.to_string());
        let renaming = Renaming { from, to, floor, history };
        if renaming.floor.is_some() {
            self.registry.put_renaming(&renaming).await?;
            step();
        }
        Ok(renaming)
    }

    /// The floor, and the durable where the stream has to know of one all the time.
    pub(super) async fn carry_place(&self, renaming: &Renaming) -> Result<(), RenameError> {
        let Some(floor) = &renaming.floor else { return Ok(()) };
        if self.registry.floor(self.to).await?.as_ref() != Some(floor) {
            self.registry.put_floor(self.to, floor).await?;
            step();
        }
        self.carry_history(renaming).await?;
        let (prefix, stream) = (self.nats.prefix(), &floor.stream);
        let (old, new) = (prefix.source_consumer(self.from), prefix.source_consumer(self.to));
        if let Some(source) = self.nats.source_stream(stream).await?
            && let Some(there) = self.durable(&source, self.from, floor).await?
        {
            // A stream that keeps messages for consumers alone would drop them in between. A work queue keeps them anyway,
            // and has no second consumer for the same subjects.
            if source.retention != Retention::WorkQueue {
                let next = floor.sequence.saturating_add(1);
                let made = self.nats.consumer(stream, &new).await?;
                let owner = self.nats.owner_of(self.to);
                self.may_be_replaced(stream, made.as_ref(), true)?;
                if made.is_none_or(|made| !made.began_at(next)) {
                    // One that began elsewhere can't be made to begin here; where there is none, nothing is deleted.
                    self.nats.delete_consumer(stream, &new).await?;
                    let start = StartAt::Sequence(next);
                    self.nats.make_source_consumer(stream, &new, &owner, there.filters, start).await?;
                    step();
                }
            }
            self.nats.delete_consumer(stream, &old).await?;
            step();
        }
        if self.registry.floor(self.from).await?.is_some() {
            self.registry.clear_floor(self.from).await?;
            step();
        }
        if self.registry.history(self.from).await?.0.is_some() {
            self.registry.clear_history(self.from).await?;
            step();
        }
        Ok(())
    }

    /// The way through the source, as it was noted: what an engine has left under the new name knows nothing of the old one.
    async fn carry_history(&self, renaming: &Renaming) -> Result<(), RenameError> {
        let (there, revision) = self.registry.history(self.to).await?;
        if there == renaming.history {
            return Ok(());
        }
        match &renaming.history {
            Some(history) => self.registry.put_history(self.to, history, revision).await?,
            None => self.registry.clear_history(self.to).await?,
        }
        step();
        Ok(())
    }
}
