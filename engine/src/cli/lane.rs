//! `hookmill lane`: what waits where, and pausing and resuming it.

use std::collections::{BTreeMap, HashSet};

use serde_json::json;

use super::args::{Global, LaneCommand};
use super::output::table;
use super::{Failure, assemble};
use crate::config;
use crate::model::{Name, Timestamp};
use crate::nats::registry::{LaneMode, LaneRecord};
use crate::nats::{Nats, Registry};

pub(crate) async fn lane(global: &Global, command: LaneCommand) -> Result<(), Failure> {
    let process = assemble::process(global)?;
    let nats = assemble::connect(&process).await?;
    let registry = Registry::open(&nats).await.map_err(|error| Failure::failed(&error))?;
    match command {
        LaneCommand::List(paths) => {
            let loaded = config::load(&paths.paths);
            // What a file with problems holds isn't known: its lanes would be taken for orphans without a word.
            loaded.problems.iter().for_each(|problem| eprintln!("{problem}"));
            let known = known(&loaded);
            list(&nats, &registry, global, &known).await
        }
        LaneCommand::Pause { lane } => {
            let (pipeline, subscription) = parts(&lane)?;
            let why = "paused by hand".to_owned();
            let record = LaneRecord { state: LaneMode::Paused, why, since: Timestamp::now().unix_nanos() };
            let put = registry.put_lane(pipeline.as_str(), subscription.as_str(), &record).await;
            put.map_err(|error| Failure::failed(&error))
        }
        LaneCommand::Resume { lane } => {
            let (pipeline, subscription) = parts(&lane)?;
            let cleared = registry.clear_lane(pipeline.as_str(), subscription.as_str()).await;
            cleared.map_err(|error| Failure::failed(&error))
        }
    }
}

fn parts(lane: &str) -> Result<(Name, Name), Failure> {
    let usage = || {
        Failure::Usage(format!(
            "{lane:?} is no lane; write PIPELINE/SUBSCRIPTION, as `hookmill lane list` shows them"
        ))
    };
    let (pipeline, subscription) = lane.split_once('/').ok_or_else(usage)?;
    Ok((Name::new(pipeline).map_err(|_| usage())?, Name::new(subscription).map_err(|_| usage())?))
}

fn known(loaded: &config::Loaded) -> HashSet<(String, String)> {
    let mut known = HashSet::new();
    for pipeline in &loaded.pipelines {
        known.insert((pipeline.name.to_string(), "_".to_owned()));
        for subscription in &pipeline.subscriptions {
            known.insert((pipeline.name.to_string(), subscription.name.to_string()));
        }
    }
    known
}

#[derive(Default)]
struct Row {
    backlog: u64,
    waiting: u64,
}

async fn list(
    nats: &Nats,
    registry: &Registry,
    global: &Global,
    known: &HashSet<(String, String)>,
) -> Result<(), Failure> {
    let prefix = nats.prefix();
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for lane in known.iter().filter(|(_, subscription)| subscription != "_") {
        rows.entry(lane.clone()).or_default();
    }
    let of = |subject: &str| prefix.parts(subject).map(|(one, two)| (one.to_owned(), two.to_owned()));
    let lanes =
        nats.counts(&prefix.lanes(), &prefix.lane_all("*")).await.map_err(|error| Failure::failed(&error))?;
    for (subject, count) in lanes {
        let Some(lane) = of(&subject) else { continue };
        rows.entry(lane).or_default().backlog += count;
    }
    // What is due and taken by nobody (its pipeline is gone) waits as well.
    for filter in [prefix.wait_all("*", "*"), prefix.due_of("*", "*")] {
        let waits = nats.counts(&prefix.retries(), &filter).await;
        for (subject, count) in waits.map_err(|error| Failure::failed(&error))? {
            let Some(lane) = of(&subject) else { continue };
            rows.entry(lane).or_default().waiting += count;
        }
    }
    let mut lines = Vec::new();
    for ((pipeline, subscription), row) in rows {
        let record =
            registry.lane(&pipeline, &subscription).await.map_err(|error| Failure::failed(&error))?;
        let orphaned = !known.contains(&(pipeline.clone(), subscription.clone()));
        let (state, why) = match record {
            _ if orphaned => ("orphaned".to_owned(), "no loaded pipeline file has it".to_owned()),
            None => ("active".to_owned(), String::new()),
            Some(record) => {
                let state = match record.state {
                    LaneMode::Active => "active",
                    LaneMode::Open => "open",
                    LaneMode::Paused => "paused",
                    LaneMode::Disabled => "disabled",
                };
                (state.to_owned(), record.why)
            }
        };
        if global.json {
            println!(
                "{}",
                json!({
                    "pipeline": pipeline, "subscription": subscription, "state": state, "why": why,
                    "backlog": row.backlog, "waiting": row.waiting
                })
            );
        } else {
            let lane = format!("{pipeline}/{subscription}");
            lines.push(vec![lane, state, row.backlog.to_string(), row.waiting.to_string(), why]);
        }
    }
    if !global.json {
        print!("{}", table(&["LANE", "STATE", "BACKLOG", "WAITING", "WHY"], &lines));
    }
    Ok(())
}
