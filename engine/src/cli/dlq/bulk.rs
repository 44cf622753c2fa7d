//! Redriving and discarding many dead letters: read in batches, several at work at a time, at a rate if one is asked for.
//!
//! Each is stored and acknowledged where it goes before it is removed from where it was, so the command can be killed at
//! any moment and started again: what is done is gone from the dead letters, and at worst [`AT_ONCE`] of them are repeated,
//! with the same `webhook-id`.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::{Stream, TryStreamExt, stream};
use serde_json::json;

use super::{begin, chosen, confirmed, stopped};
use crate::cli::Failure;
use crate::cli::args::{Global, Pacing, Which};
use crate::cli::output::{self, chain};
use crate::cli::progress::{self, Progress};
use crate::lane::{Pace, Rate};
use crate::model::{Name, Timestamp};
use crate::nats::letters::{Letter, RedriveError, Take};
use crate::nats::{ApiError, Nats, Walk, WalkError};

/// Dead letters that are at work at the same time: this many stores and deletes are on their way to the server.
pub(super) const AT_ONCE: usize = 64;
/// A burst is what the rate allows in this part of a second: timers are no finer than a millisecond.
const BURSTS_A_SECOND: u32 = 20;
/// How often engines are told, at most, that their lanes are getting something.
const NUDGE_EVERY: Duration = Duration::from_secs(1);

/// Those that a walk meets, until it ends or `go_on` says no; no more than `rate` allows.
pub(super) fn paced(
    walk: Walk,
    rate: Option<Rate>,
    go_on: &Cell<bool>,
) -> impl Stream<Item = Result<Letter, WalkError>> {
    let pace =
        rate.map(|Rate { every, burst }| Pace::new(Rate { every, burst: burst.div_ceil(BURSTS_A_SECOND) }));
    stream::try_unfold((walk, pace), move |(mut walk, mut pace)| async move {
        if !go_on.get() {
            return Ok(None);
        }
        let Some(letter) = walk.next().await? else { return Ok(None) };
        if let Some(pace) = &mut pace {
            while let Err(wait) = pace.take(Timestamp::now()) {
                tokio::time::sleep(wait).await;
            }
        }
        Ok(Some((letter, (walk, pace))))
    })
}

/// The bar of a command, as long as there may be letters.
pub(super) async fn bar(walk: &Walk, global: &Global, what: &'static str) -> Result<Progress, Failure> {
    let total =
        if progress::is_shown(global.json) { Some(walk.count_max().await.map_err(stopped)?) } else { None };
    Ok(Progress::new(what, total))
}

/// Which engines have been told lately.
#[derive(Default)]
struct Nudges(Option<(Name, Instant)>);

impl Nudges {
    async fn tell(&mut self, nats: &Nats, letter: &Letter) {
        let Ok(pipeline) = Name::new(&letter.pipeline) else { return };
        let lately = |(told, at): &(Name, Instant)| *told == pipeline && at.elapsed() < NUDGE_EVERY;
        if !self.0.as_ref().is_some_and(lately) {
            nats.nudge_pipeline(&pipeline).await;
            self.0 = Some((pipeline, Instant::now()));
        }
    }
}

pub(super) async fn redrive(
    nats: &Nats,
    global: &Global,
    which: &Which,
    take: Take,
    pacing: &Pacing,
) -> Result<(), Failure> {
    chosen(which)?;
    let walk = begin(nats, which).await?;
    let mut bar = bar(&walk, global, "redriving").await?;
    let go_on = Cell::new(true);
    let work = |letter: Letter| async move {
        let done = nats.redrive(&letter, take).await;
        Ok::<_, WalkError>((letter, done))
    };
    let mut worked = std::pin::pin!(paced(walk, pacing.rate, &go_on).map_ok(work).try_buffered(AT_ONCE));
    let (mut done, mut failed, mut nudges) = (0_u64, 0_u64, Nudges::default());
    while let Some((letter, result)) = worked.try_next().await.map_err(stopped)? {
        let hopeless = result.as_ref().is_err_and(|error| !error.is_of_this_one());
        if hopeless && !go_on.replace(false) {
            // One of those that were on their way when the first met it.
            continue;
        }
        bar.step();
        match &result {
            Ok(()) => done += 1,
            Err(error) => {
                failed += 1;
                bar.say(&refused(&letter, error));
            }
        }
        if result.is_ok() {
            nudges.tell(nats, &letter).await;
        }
        if global.json {
            let (sequence, redriven) = (letter.stored.sequence, result.is_ok());
            let error = result.as_ref().err().map(|error| chain(error));
            bar.print(&json!({ "sequence": sequence, "redriven": redriven, "error": error }).to_string());
        }
    }
    nats.flush().await;
    let speed = bar.end();
    if !go_on.get() {
        output::say(
            "stopped there: the others stay in the dead letters; once that is mended, the same command goes on",
        );
    }
    output::say(format_args!("{done} redriven, {failed} can't be{speed}"));
    if failed == 0 { Ok(()) } else { Err(Failure::Said(1)) }
}

pub(super) fn refused(letter: &Letter, error: &RedriveError) -> String {
    let Letter { stored, pipeline, subscription, .. } = letter;
    format!(
        "error: dead letter {} ({pipeline}/{subscription}) is not redriven: {}",
        stored.sequence,
        chain(error)
    )
}

pub(super) async fn discard(
    nats: &Nats,
    global: &Global,
    which: &Which,
    yes: bool,
    pacing: &Pacing,
) -> Result<(), Failure> {
    chosen(which)?;
    let walk = begin(nats, which).await?;
    if pacing.dry_run || !yes {
        let mut looking = walk.again();
        let mut count = 0_u64;
        while let Some(letter) = looking.next().await.map_err(stopped)? {
            count += 1;
            if pacing.dry_run && global.json {
                output::line(json!({ "sequence": letter.stored.sequence, "discarded": false }));
            }
        }
        if pacing.dry_run || count == 0 {
            output::say(format_args!("{count} would be discarded"));
            return Ok(());
        }
        if !confirmed(count)? {
            output::say("nothing discarded");
            return Err(Failure::Said(1));
        }
    }
    let mut bar = bar(&walk, global, "discarding").await?;
    let go_on = Cell::new(true);
    let work = |letter: Letter| async move {
        let done: Result<(), ApiError> = nats.discard(&letter).await;
        Ok::<_, WalkError>((letter.stored.sequence, done))
    };
    let mut worked = std::pin::pin!(paced(walk, pacing.rate, &go_on).map_ok(work).try_buffered(AT_ONCE));
    let (mut done, mut refusal) = (0_u64, None);
    while let Some((sequence, result)) = worked.try_next().await.map_err(stopped)? {
        if let Err(error) = result {
            go_on.set(false);
            refusal.get_or_insert(error);
            continue;
        }
        done += 1;
        bar.step();
        if global.json {
            bar.print(&json!({ "sequence": sequence, "discarded": true }).to_string());
        }
    }
    output::say(format_args!("{done} discarded{}", bar.end()));
    refusal.map_or(Ok(()), |error| Err(Failure::failed(&error)))
}
