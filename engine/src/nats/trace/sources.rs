//! The places in source streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{EventRef, Kind, Origin, Place, TraceError, Wanted};
use crate::model::event::{Claims, Mends, Reading};
use crate::model::{Event, Name, Timestamp};
use crate::nats::consumers::Consumer;
use crate::nats::history::History;
use crate::nats::registry::Floor;
use crate::nats::standing::{Standing, Taker, standing};
use crate::nats::streams::SourceStream;
use crate::nats::{ApiError, Nats, Registry, Stored};

/// How a source stream was looked through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Looked {
    /// The stream.
    pub stream: String,
    /// The first sequence that it had.
    pub first: u64,
    /// The first that was looked at.
    pub from: u64,
    /// Messages there that are no `CloudEvents`, and don't say an id either.
    pub unread: u64,
}

/// A source stream, and the pipelines that take from it.
pub(super) struct Source {
    stream: SourceStream,
    takers: BTreeMap<Name, Taker>,
    readings: BTreeMap<Name, Reading>,
    /// Where the look began; behind the end if nothing was looked through.
    from: u64,
    unread: u64,
    found: BTreeMap<u64, Found>,
}

/// A message that was found.
struct Found {
    stored: Stored,
    event: EventRef,
    mends: Mends,
}

/// The source streams of all pipelines that have ever taken from one, and those that are not there. What each pipeline has
/// settled is asked here, before anything else is looked at.
pub(super) async fn all(nats: &Nats, registry: &Registry) -> Result<(Vec<Source>, Vec<String>), TraceError> {
    let floors = registry.floors(nats).await?;
    let mut histories = registry.histories(nats).await?;
    let files = registry.revisions(nats).await?;
    let reading = |name: &Name| Some((name.clone(), files.get(name.as_str())?.reading?));
    let (mut sources, mut missing) = (Vec::new(), Vec::new());
    let streams: BTreeSet<&str> = floors.values().map(|floor| floor.stream.as_str()).collect();
    for name in streams {
        let Some(stream) = nats.source_stream(name).await? else {
            missing.push(name.to_owned());
            continue;
        };
        let mut takers = BTreeMap::new();
        for (pipeline, floor) in floors.iter().filter(|(_, floor)| floor.stream == name) {
            let Ok(pipeline) = Name::new(pipeline) else { continue };
            let history = histories.remove(pipeline.as_str());
            let taker = taker(nats, &stream, &pipeline, floor, history).await?;
            takers.insert(pipeline, taker);
        }
        let from = stream.last_sequence + 1;
        let readings = takers.keys().filter_map(reading).collect();
        sources.push(Source { stream, takers, readings, from, unread: 0, found: BTreeMap::new() });
    }
    Ok((sources, missing))
}

async fn taker(
    nats: &Nats,
    stream: &SourceStream,
    pipeline: &Name,
    floor: &Floor,
    history: Option<History>,
) -> Result<Taker, ApiError> {
    let consumer = own_consumer(nats, stream, pipeline).await?;
    let kept = if floor.created == stream.created { floor.sequence } else { 0 };
    let settled = consumer.as_ref().map_or(kept, |consumer| consumer.floor);
    let history = history.filter(|history| history.is_of(stream));
    Ok(Taker { consumer, settled, history })
}

/// The consumer of a pipeline. One that says that it is another's tells nothing of this one.
async fn own_consumer(
    nats: &Nats,
    stream: &SourceStream,
    pipeline: &Name,
) -> Result<Option<Consumer>, ApiError> {
    let consumer = nats.consumer(&stream.name, &nats.prefix().source_consumer(pipeline)).await?;
    let us = nats.owner_of(pipeline);
    Ok(consumer.filter(|consumer| consumer.owner.as_ref().is_none_or(|owner| *owner == us)))
}

impl Source {
    /// Looks through the time that is wanted, and what lies before a consumer.
    pub(super) async fn look_through(&mut self, nats: &Nats, wanted: &Wanted) -> Result<(), ApiError> {
        let name = self.stream.name.clone();
        let since = Timestamp::now().minus(wanted.since);
        let (first, last) = (self.stream.first_sequence.max(1), self.stream.last_sequence);
        let consumers = self.takers.values().filter_map(|taker| taker.consumer.as_ref());
        let unsettled = consumers.map(|consumer| consumer.floor + 1).min();
        let from = nats.sequence_at(&name, first, last, since).await?;
        self.from = from.min(unsettled.unwrap_or(from)).max(first);
        self.look(nats, wanted, self.from, last).await
    }

    /// Looks at messages of this stream that were not looked through.
    pub(super) async fn look_at(
        &mut self,
        nats: &Nats,
        wanted: &Wanted,
        origins: impl Iterator<Item = &Origin>,
    ) -> Result<(), ApiError> {
        let ours = origins.filter(|origin| origin.stream == self.stream.name);
        let sequences: BTreeSet<u64> = ours.map(|origin| origin.sequence).collect();
        for sequence in sequences.range(..self.from).copied() {
            self.look(nats, wanted, sequence, sequence).await?;
        }
        Ok(())
    }

    async fn look(&mut self, nats: &Nats, wanted: &Wanted, first: u64, last: u64) -> Result<(), ApiError> {
        let unread = AtomicU64::new(0);
        // The tolerant reading takes whatever any pipeline takes.
        let picked = |stored: Stored| {
            let parsed = Event::parse(&stored.headers, &stored.body, Reading::Tolerant);
            let (is_wanted, event, mends) = if let Ok((event, mends)) = parsed {
                (wanted.is(&event.id, &event.source), EventRef::of(&event), mends)
            } else {
                let event = EventRef::claimed(Claims::of(&stored.headers, Some(&stored.body)));
                unread.fetch_add(u64::from(event.id.is_empty()), Ordering::Relaxed);
                (wanted.is_about(&event), event, Mends::NONE)
            };
            is_wanted.then_some((stored.sequence, Found { stored, event, mends }))
        };
        self.found.extend(nats.scan(&self.stream.name, first, last, picked).await?);
        self.unread += unread.into_inner();
        Ok(())
    }

    /// The messages that were found.
    pub(super) fn origins(&self) -> impl Iterator<Item = Origin> {
        self.found.keys().map(|sequence| self.origin(*sequence))
    }

    fn origin(&self, sequence: u64) -> Origin {
        Origin { stream: self.stream.name.clone(), sequence }
    }

    /// Each message that was found, once for each pipeline that has to do with it.
    pub(super) async fn places(&mut self, nats: &Nats) -> Result<Vec<Place>, ApiError> {
        if !self.found.is_empty() {
            for (pipeline, taker) in &mut self.takers {
                taker.consumer = own_consumer(nats, &self.stream, pipeline).await?;
            }
        }
        let mut places = Vec::new();
        for (sequence, Found { stored, event, mends }) in &self.found {
            let origin = self.origin(*sequence);
            let place = Place::of(Kind::Source, &self.stream.name, stored, event, origin);
            let place = Place { mends: mends.names(), ..place };
            let stands = |taker| standing(*sequence, &stored.subject, taker);
            let standings = self.takers.iter().map(|(pipeline, taker)| (pipeline, stands(taker)));
            let before = places.len();
            for (pipeline, standing) in standings.filter(|(_, standing)| *standing != Standing::NotItsSubject)
            {
                let reading = self.readings.get(pipeline).copied();
                let pipeline = Some(pipeline.to_string());
                places.push(Place { pipeline, reading, ..in_state(&place, standing) });
            }
            if places.len() == before {
                places.push(in_state(&place, Standing::NotItsSubject));
            }
        }
        Ok(places)
    }

    /// How it was looked through.
    pub(super) fn looked(self) -> Looked {
        let first = self.stream.first_sequence.max(1);
        Looked { stream: self.stream.name, first, from: self.from, unread: self.unread }
    }
}

fn in_state(place: &Place, standing: Standing) -> Place {
    let why = standing.why().map(|why| why.to_string());
    Place { state: Some(standing.as_str().to_owned()), why, ..place.clone() }
}
