//! `hookmill lane`: what waits where, pausing and resuming it, and what becomes of it when its subscription is gone.

mod moves;

use serde_json::json;

use super::args::{Global, LaneCommand};
use super::output::table;
use super::{Failure, assemble, output};
use crate::config;
use crate::model::Name;
use crate::nats::lanes::{self, Files, Known, LaneView};
use crate::nats::orphans::{Fate, LaneName};
use crate::nats::{Nats, Prefix, Registry};

pub(crate) async fn lane(global: &Global, command: LaneCommand) -> Result<(), Failure> {
    let process = assemble::process(global)?;
    let (holdings, letters) = match command {
        LaneCommand::List(_) | LaneCommand::Adopt { .. } => (true, false),
        LaneCommand::DeadLetter { .. } => (true, true),
        LaneCommand::Pause { .. } | LaneCommand::Resume { .. } => (false, false),
    };
    let needed = |prefix: &Prefix| {
        let mut needed = vec![prefix.registry_stream()];
        needed.extend(holdings.then(|| [prefix.lanes(), prefix.retries()]).into_iter().flatten());
        needed.extend(letters.then(|| prefix.dlq()));
        needed
    };
    let nats = assemble::connect_to(&process, needed).await?;
    let registry = Registry::open(&nats).await.map_err(|error| Failure::failed(&error))?;
    match command {
        LaneCommand::List(paths) => {
            let loaded = config::load(&paths.paths, nats.prefix());
            // What a file with problems holds isn't known: its lanes would be taken for orphans without a word.
            loaded.problems.iter().for_each(output::say);
            let known = known(&loaded);
            list(&nats, &registry, global, &known).await
        }
        LaneCommand::Pause { lane } => {
            let (pipeline, subscription) = parts(&lane)?;
            let paused = lanes::pause(&registry, &pipeline, &subscription, "paused by hand").await;
            paused.map_err(|error| Failure::failed(&error))
        }
        LaneCommand::Resume { lane } => {
            let (pipeline, subscription) = parts(&lane)?;
            let resumed = lanes::resume(&registry, &pipeline, &subscription).await;
            resumed.map_err(|error| Failure::failed(&error))
        }
        LaneCommand::Adopt { lane, into, dry_run } => {
            let (from, fate) = (moves::lane_name(&lane)?, Fate::Adopted(moves::lane_name(&into)?));
            moves::relocate(&nats, &registry, global, &from, &fate, dry_run).await
        }
        LaneCommand::DeadLetter { lane, dry_run } => {
            let (from, fate) = (moves::lane_name(&lane)?, Fate::DeadLettered);
            moves::relocate(&nats, &registry, global, &from, &fate, dry_run).await
        }
    }
}

fn parts(lane: &str) -> Result<(Name, Name), Failure> {
    let LaneName { pipeline, subscription } = moves::lane_name(lane)?;
    Ok((pipeline, subscription.ok_or_else(|| moves::no_lane(lane))?))
}

fn known(loaded: &config::Loaded) -> Known {
    let mut known = Known { files: Files::Named, ..Known::default() };
    for pipeline in &loaded.pipelines {
        known.lanes.insert((pipeline.name.to_string(), "_".to_owned()));
        for subscription in &pipeline.subscriptions {
            known.lanes.insert((pipeline.name.to_string(), subscription.name.to_string()));
        }
    }
    known
}

async fn list(nats: &Nats, registry: &Registry, global: &Global, known: &Known) -> Result<(), Failure> {
    let lanes = lanes::view(nats, registry, known).await.map_err(|error| Failure::failed(&error))?;
    let mut lines = Vec::new();
    for lane in lanes {
        if global.json {
            output::line(json!(lane));
        } else {
            let LaneView { pipeline, subscription, state, why, backlog, waiting, .. } = lane;
            let lane = format!("{pipeline}/{subscription}");
            lines.push(vec![lane, state.to_owned(), backlog.to_string(), waiting.to_string(), why]);
        }
    }
    if !global.json {
        output::text(table(&["LANE", "STATE", "BACKLOG", "WAITING", "WHY"], &lines));
    }
    Ok(())
}
