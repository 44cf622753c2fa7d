//! `hookmill dlq redrive --dry-run`: what a redrive would do, and which messages that a pipeline as a whole has refused would
//! be read as events by today's rules.

use std::cell::Cell;
use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use serde_json::json;

use super::bulk::{AT_ONCE, bar, paced, refused};
use super::{begin, chosen, stopped};
use crate::cli::Failure;
use crate::cli::args::{Global, Which};
use crate::cli::output::{self, chain};
use crate::model::event::Reading;
use crate::model::{Event, Reason, SourceMessage, Task, Work};
use crate::nats::letters::{Letter, Take};
use crate::nats::registry::Revision;
use crate::nats::{Nats, Registry, WalkError};

/// What would become of the messages that were refused as no events.
#[derive(Default)]
struct Counts {
    read: u64,
    refused: u64,
    unknown: u64,
}

/// Whether a message is read as an event in this reading; none: it depends on the reading, and that is not known.
fn is_read(message: &SourceMessage, reading: Option<Reading>) -> Option<bool> {
    let in_reading = |reading| Event::parse(&message.headers, &message.body, reading).is_ok();
    match reading {
        Some(reading) => Some(in_reading(reading)),
        None if in_reading(Reading::Strict) => Some(true),
        None if in_reading(Reading::Tolerant) => None,
        None => Some(false),
    }
}

impl Counts {
    /// Judges a task by how its pipeline reads; none: it was not refused as no event.
    fn judge(
        &mut self,
        letter: &Letter,
        task: &Task,
        files: &BTreeMap<String, Revision>,
    ) -> Option<&'static str> {
        let Work::Source(message) = &task.work else { return None };
        if letter.death.reason != Reason::NotCloudEvent {
            return None;
        }
        let reading = files.get(&letter.pipeline).and_then(|file| file.reading);
        let (count, word) = match is_read(message, reading) {
            Some(true) => (&mut self.read, "yes"),
            Some(false) => (&mut self.refused, "no"),
            None => (&mut self.unknown, "unknown"),
        };
        *count += 1;
        Some(word)
    }

    fn say(&self) {
        let Self { read, refused, unknown } = self;
        if read + refused + unknown == 0 {
            return;
        }
        output::say(format_args!(
            "of those that were no events, {read} would now be read as such, {refused} would not"
        ));
        if *unknown > 0 {
            output::say(format_args!(
                "{unknown} depend on how their pipeline reads, which is not known: no engine of this version has run it"
            ));
        }
    }
}

/// The files in force. Who may not read them can look all the same: how pipelines read is not known then.
async fn readings(nats: &Nats) -> BTreeMap<String, Revision> {
    let asked = async { Registry::open(nats).await?.revisions(nats).await };
    match asked.await {
        Ok(files) => files,
        Err(error) => {
            output::say(format_args!("how pipelines read is not known: {}", chain(&error)));
            BTreeMap::new()
        }
    }
}

pub(super) async fn redrive(nats: &Nats, global: &Global, which: &Which, take: Take) -> Result<(), Failure> {
    chosen(which)?;
    let files = readings(nats).await;
    let walk = begin(nats, which).await?;
    let mut bar = bar(&walk, global, "looking").await?;
    let go_on = Cell::new(true);
    let work = |letter: Letter| async move {
        let revived = nats.revived(&letter, take).await;
        Ok::<_, WalkError>((letter, revived))
    };
    let mut worked = std::pin::pin!(paced(walk, None, &go_on).map_ok(work).try_buffered(AT_ONCE));
    let (mut done, mut failed, mut counts) = (0_u64, 0_u64, Counts::default());
    while let Some((letter, result)) = worked.try_next().await.map_err(stopped)? {
        let hopeless = result.as_ref().is_err_and(|error| !error.is_of_this_one());
        if hopeless && !go_on.replace(false) {
            continue;
        }
        bar.step();
        let is_event = match &result {
            Ok(task) => {
                done += 1;
                counts.judge(&letter, task, &files)
            }
            Err(error) => {
                failed += 1;
                bar.say(&refused(&letter, error));
                None
            }
        };
        if global.json {
            let (sequence, error) = (letter.stored.sequence, result.as_ref().err().map(|error| chain(error)));
            let line =
                json!({ "sequence": sequence, "redriven": false, "is_event": is_event, "error": error });
            bar.print(&line.to_string());
        }
    }
    let speed = bar.end();
    output::say(format_args!("{done} would be redriven, {failed} can't be{speed}"));
    counts.say();
    if failed == 0 { Ok(()) } else { Err(Failure::Said(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_is_not_known_counts_where_it_makes_a_difference() {
        let message = |members: &str| SourceMessage {
            headers: Vec::new(),
            body: format!("{{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\"{members}}}").into(),
        };
        let readings = [Some(Reading::Tolerant), Some(Reading::Strict), None];
        let told = |members: &str| readings.map(|reading| is_read(&message(members), reading));
        assert_eq!(told(r#","type":"t""#), [Some(true); 3]);
        assert_eq!(told(r#","type":"t","aB":1"#), [Some(true), Some(false), None]);
        assert_eq!(told(""), [Some(false); 3]);
    }
}
