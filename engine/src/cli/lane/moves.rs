//! `hookmill lane adopt` and `dead-letter`: what a lane holds whose subscription is gone.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::TryStreamExt;
use serde_json::json;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::output::{self, chain};
use crate::cli::progress::{self, Progress};
use crate::nats::orphans::{self, Fate, Held, LaneName, MoveError};
use crate::nats::{Nats, Registry};

pub(super) fn lane_name(text: &str) -> Result<LaneName, Failure> {
    LaneName::parse(text).ok_or_else(|| no_lane(text))
}

pub(super) fn no_lane(text: &str) -> Failure {
    Failure::Usage(format!(
        "{text:?} is no lane; write PIPELINE/SUBSCRIPTION, as `hookmill lane list` shows them"
    ))
}

/// Moves all that `from` holds, task by task: stored where it goes, then removed.
pub(super) async fn relocate(
    nats: &Nats,
    registry: &Registry,
    global: &Global,
    from: &LaneName,
    fate: &Fate,
    dry_run: bool,
) -> Result<(), Failure> {
    orphans::may_move(nats, registry, from, fate).await.map_err(|error| {
        let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        Failure::Failed(format!("{}{hint}", chain(&error)))
    })?;
    let total = if progress::is_shown(global.json) {
        Some(orphans::holds(nats, from).await.map_err(|error| Failure::failed(&error))?)
    } else {
        None
    };
    let mut bar = Progress::new(if dry_run { "looking" } else { "moving" }, total);
    let go_on = AtomicBool::new(true);
    let mut worked = std::pin::pin!(orphans::moves(nats, from, fate, &go_on, dry_run));
    let (mut done, mut left) = (0_u64, 0_u64);
    while let Some((held, result)) = worked.try_next().await.map_err(|error| Failure::failed(&error))? {
        bar.step();
        match &result {
            Ok(()) => done += 1,
            Err(error) => {
                left += 1;
                bar.say(&format!(
                    "error: {} {} of {from} stays: {}",
                    held.stream,
                    held.stored.sequence,
                    chain(error)
                ));
            }
        }
        if global.json {
            bar.print(&line(&held, result.as_ref().err(), dry_run));
        }
    }
    if let Fate::Adopted(into) = fate
        && done > 0
        && !dry_run
    {
        nats.nudge_pipeline(&into.pipeline).await;
        nats.flush().await;
    }
    let speed = bar.end();
    if !go_on.load(Ordering::Relaxed) {
        output::say(
            "stopped there: the rest stays where it is; once that is mended, the same command goes on",
        );
    }
    let verb = match (fate, dry_run) {
        (Fate::Adopted(_), false) => "adopted",
        (Fate::Adopted(_), true) => "would be adopted",
        (Fate::DeadLettered, false) => "dead-lettered",
        (Fate::DeadLettered, true) => "would be dead-lettered",
    };
    output::say(format_args!("{done} {verb}, {left} can't be{speed}"));
    if left == 0 { Ok(()) } else { Err(Failure::Said(1)) }
}

fn line(held: &Held, error: Option<&MoveError>, dry_run: bool) -> String {
    let Held { stream, stored } = held;
    let moved = error.is_none() && !dry_run;
    let error = error.map(|error| chain(error));
    json!({ "stream": stream, "sequence": stored.sequence, "moved": moved, "error": error }).to_string()
}
