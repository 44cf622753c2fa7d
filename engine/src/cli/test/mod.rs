//! `hookmill test`: the unit tests of whole pipelines. Nothing is sent, and a server is asked only for modules of the registry:
//! events go through `admit` and `advance` up to the finished request, which a recorder takes in place of the network.

mod compare;
mod diff;
mod junit;
mod outlet;
mod report;
mod stage;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::compare::{Mismatch, compare};
use self::outlet::Recorder;
use self::stage::Stage;
use super::args::{Global, TestArgs};
use super::steps::Strictness;
use super::{Failure, assemble};
use crate::config::suite::{Suite, check_names};
use crate::config::{self, Loaded, Problem};
use crate::model::{Clock, Name, Timestamp};
use crate::nats::Prefix;
use crate::transform::{Host, Isolation};

/// How one test went.
struct Done<'s> {
    suite: &'s Suite,
    name: &'s str,
    line: usize,
    took: Duration,
    /// None: it passed.
    mismatches: Vec<Mismatch>,
}

pub(crate) async fn test(global: &Global, args: TestArgs) -> Result<(), Failure> {
    let (suites, problems) = config::load_suites(&args.paths);
    let clock = Clock::at(Timestamp::now());
    let process = assemble::process(global)?;
    let prefix = Prefix::new(&process.nats.prefix);
    let loaded = pipelines(&suites, &prefix);
    let source = assemble::registry_for(&process, &loaded).await;
    let host = Host::with_clock(process.host, clock.clone()).map_err(|error| Failure::failed(&error))?;
    let prepared = assemble::prepare(&host, loaded, &source, Strictness::Strict).await;
    let problems = [problems, prepared.loaded.problems.clone(), unknown(&suites, &prepared.loaded)].concat();
    if !problems.is_empty() {
        return Err(assemble::say(&problems, global.json));
    }
    let stages = stages(prepared, &clock, &prefix);
    let chosen = |name: &str| args.filter.as_deref().is_none_or(|text| name.contains(text));
    let mut report = report::Report::new(global);
    let mut done = Vec::new();
    for suite in &suites {
        let Some(stage) = stages.get(&suite.pipeline) else { continue };
        for test in suite.tests.iter().filter(|test| chosen(&test.name)) {
            let began = Instant::now();
            let mismatches = compare(test, &stage.run(test).await);
            let (name, line) = (test.name.as_str(), test.line);
            let one = Done { suite, name, line, took: began.elapsed(), mismatches };
            report.show(&one);
            done.push(one);
        }
    }
    if done.is_empty() {
        let text = args.filter.unwrap_or_default();
        return Err(Failure::Usage(format!("no test has {text:?} in its name, so nothing was tested")));
    }
    if let Some(path) = &args.junit {
        std::fs::write(path, junit::page(&done)).map_err(|error| {
            Failure::Failed(format!("--junit {} can't be written: {error}", path.display()))
        })?;
    }
    let all: usize = suites.iter().map(|suite| suite.tests.len()).sum();
    report.sum_up(&done, all - done.len());
    if done.iter().all(|one| one.mismatches.is_empty()) { Ok(()) } else { Err(Failure::Said(1)) }
}

/// The pipelines of these tests. Each call of a step gets an instance of its own: what one test leaves in a guest must not
/// decide another.
fn pipelines(suites: &[Suite], prefix: &Prefix) -> Loaded {
    let files: Vec<PathBuf> = suites.iter().map(|suite| suite.pipeline.clone()).collect();
    let mut loaded = config::load(&files, prefix);
    let subscriptions = loaded.pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.subscriptions);
    for step in subscriptions.flat_map(|subscription| &mut subscription.steps) {
        step.transform.isolation = Isolation::Event;
    }
    loaded
}

/// Subscriptions that tests name and that aren't there.
fn unknown(suites: &[Suite], loaded: &Loaded) -> Vec<Problem> {
    let of_one = |suite: &Suite| {
        let pipeline = loaded.pipelines.iter().find(|pipeline| pipeline.file == suite.pipeline);
        let Some(pipeline) = pipeline else { return Vec::new() };
        let names: Vec<&Name> =
            pipeline.subscriptions.iter().map(|subscription| &subscription.name).collect();
        check_names(suite, &names)
    };
    suites.iter().flat_map(of_one).collect()
}

/// A stage for each pipeline, by its file.
fn stages(prepared: assemble::Prepared, clock: &Clock, prefix: &Prefix) -> HashMap<PathBuf, Stage> {
    let files: Vec<PathBuf> =
        prepared.loaded.pipelines.iter().map(|pipeline| pipeline.file.clone()).collect();
    let mut recorders: HashMap<Name, HashMap<Name, Recorder>> = HashMap::new();
    let pipelines = prepared.pipelines_into(|pipeline, subscription, target| {
        let recorder = Recorder::new();
        let target = outlet::target(target, prefix, &recorder);
        recorders.entry(pipeline.clone()).or_default().insert(subscription.clone(), recorder);
        target
    });
    let stage = |pipeline: crate::pipeline::Pipeline| {
        let recorders = recorders.remove(&pipeline.name).unwrap_or_default();
        Stage { pipeline, recorders, clock: clock.clone() }
    };
    files.into_iter().zip(pipelines.into_iter().map(stage)).collect()
}
