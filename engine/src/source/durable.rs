//! Finding, making and changing the durable of a pipeline. What is kept of it is written around that: the note of a change before
//! it is made, the beginning after it.

use super::{Filters, Place, Settings, SourceError, start_at};
use crate::model::Name;
use crate::nats::consumers::{Consumer, StartAt};
use crate::nats::history::{History, are_same};
use crate::nats::owner::{self, Claim, NotOurs};
use crate::nats::registry::{Floor, RegistryError};
use crate::nats::streams::SourceStream;
use crate::nats::{ApiError, CONSUMER_EXISTS, Nats, Registry};

/// The durable of a pipeline on a stream that is there.
pub(super) struct Durable<'e> {
    pub(super) nats: &'e Nats,
    pub(super) registry: &'e Registry,
    pub(super) pipeline: &'e Name,
    pub(super) settings: &'e Settings,
    pub(super) stream: &'e SourceStream,
    pub(super) place: &'e Place,
}

impl Durable<'_> {
    /// Finds or makes it, with its floor and what is kept of its way.
    pub(super) async fn ensure(&self, subjects: Filters) -> Result<(), SourceError> {
        let floor = self.registry.floor(self.pipeline).await.map_err(self.unkept())?;
        let floor = floor.as_ref();
        let there = match self.find(floor).await? {
            Some(there) => there,
            None => match self.make(floor).await? {
                Some(there) => there,
                None => return Ok(()),
            },
        };
        if subjects == Filters::Update {
            self.update(&there).await?;
        }
        Ok(())
    }

    async fn find(&self, floor: Option<&Floor>) -> Result<Option<Consumer>, SourceError> {
        let there = self.nats.consumer(&self.stream.name, &self.place.consumer).await;
        there.map_err(self.failed("read"))?.map(|there| self.own(floor, there)).transpose()
    }

    /// Makes it. One that somebody has made meanwhile is what there is then.
    async fn make(&self, floor: Option<&Floor>) -> Result<Option<Consumer>, SourceError> {
        let Self { nats, pipeline, stream, settings, .. } = self;
        let start = start_at(settings, stream, floor);
        if floor.is_some() {
            tracing::warn!(%pipeline, stream = stream.name, ?start, "source consumer is gone, making it again");
        }
        let goes_on = owner::is_in(floor, stream);
        if goes_on {
            self.note_made_again(start).await?;
        }
        let (owner, filters) = (nats.owner_of(pipeline), settings.subjects.clone());
        let made = nats.make_source_consumer(&stream.name, &self.place.consumer, &owner, filters, start);
        match made.await {
            Ok(made) => {
                self.put_floor(made.floor).await?;
                if !goes_on {
                    // After the floor: with a record there is always one.
                    let first = made.floor.saturating_add(1);
                    self.note(|kept| History::begun(stream, kept.as_ref(), floor, first, &settings.subjects))
                        .await?;
                }
                Ok(None)
            }
            // By an engine with another file of this pipeline, or by somebody who means another one.
            Err(error) if error.code() == Some(CONSUMER_EXISTS) => self.find(floor).await,
            Err(error) => Err(self.failed("made")(error)),
        }
    }

    /// Before a lost one is made again: how far that one may have been is known only now that it is gone.
    async fn note_made_again(&self, start: StartAt) -> Result<(), SourceError> {
        let Self { stream, settings, .. } = self;
        let last = self.nats.last_sequence(&stream.name).await;
        let last = last.map_err(|source| SourceError::Stream { pipeline: self.pipeline.clone(), source })?;
        let after = match start {
            StartAt::Sequence(sequence) => sequence.saturating_sub(1),
            StartAt::First | StartAt::New | StartAt::Time(_) => 0,
        };
        self.note(|kept| match kept.filter(|kept| kept.is_of(stream)) {
            Some(kept) => kept.made_again(after, last, &settings.subjects),
            None => History::from_now(stream, after, last.saturating_add(1), &settings.subjects),
        })
        .await
    }

    /// Brings it up to date with the file.
    async fn update(&self, there: &Consumer) -> Result<(), SourceError> {
        let Self { nats, pipeline, stream, settings, place, .. } = self;
        let known = |kept: Option<History>, there: &Consumer| {
            let next = there.delivered.saturating_add(1);
            let kept = kept.filter(|kept| kept.is_of(stream));
            kept.unwrap_or_else(|| History::from_now(stream, 0, next, &there.filters))
        };
        self.note(|kept| known(kept, there).to_be_changed(there, &settings.subjects)).await?;
        let (owner, filters) = (nats.owner_of(pipeline), settings.subjects.clone());
        let updated = nats.update_source_consumer(&stream.name, &place.consumer, &owner, filters, there);
        let state = updated.await.map_err(self.failed("updated"))?;
        self.put_floor(state.floor).await?;
        if !are_same(&there.filters, &settings.subjects) {
            // The answer to an update may show the consumer as it was long before.
            let now = nats.consumer(&stream.name, &place.consumer).await.map_err(self.failed("read"))?;
            if let Some(now) = now {
                self.note(|kept| known(kept, &now).seen(&now)).await?;
            }
        }
        Ok(())
    }

    /// The consumer that has the name of the pipeline's durable, if it is that.
    fn own(&self, floor: Option<&Floor>, there: Consumer) -> Result<Consumer, SourceError> {
        let us = self.nats.owner_of(self.pipeline);
        match owner::claim(&there, &us, owner::is_in(floor, self.stream)) {
            Claim::Ours | Claim::ToBeWritten => Ok(there),
            Claim::Foreign(owner) => {
                let (consumer, stream) = (self.place.consumer.clone(), self.stream.name.clone());
                let source = NotOurs { consumer, stream, owner };
                Err(SourceError::NotOurs { pipeline: self.pipeline.clone(), source })
            }
        }
    }

    async fn put_floor(&self, sequence: u64) -> Result<(), SourceError> {
        let floor = self.place.floor(sequence);
        self.registry.put_floor(self.pipeline, &floor).await.map_err(self.unkept())
    }

    async fn note(&self, change: impl Fn(Option<History>) -> History) -> Result<(), SourceError> {
        self.registry.note(self.pipeline, change).await.map_err(self.unkept())
    }

    fn failed(&self, verb: &'static str) -> impl Fn(ApiError) -> SourceError + use<> {
        let (pipeline, stream) = (self.pipeline.clone(), self.stream.name.clone());
        let consumer = self.place.consumer.clone();
        move |source| SourceError::Consumer {
            pipeline: pipeline.clone(),
            stream: stream.clone(),
            consumer: consumer.clone(),
            verb,
            source,
        }
    }

    fn unkept(&self) -> impl Fn(RegistryError) -> SourceError + use<> {
        let pipeline = self.pipeline.clone();
        move |source| SourceError::Floor { pipeline: pipeline.clone(), source }
    }
}
