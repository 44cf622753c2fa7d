//! `hookmill module test`: a module in the engine's own sandbox, on events of the author's or on its own samples.

mod bench;
mod show;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value};

use super::super::args::Global;
use super::super::{Failure, assemble, output, publish};
use super::annotate;
use crate::model::Event;
use crate::transform::{Expect, Host, Module, Outcome, Seen, Settings, Step, Unset, Watch};

/// `module test`.
#[derive(Args, Debug)]
pub(crate) struct TestArgs {
    /// The module: a component, or a core module built with wit-bindgen
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// CloudEvents: a JSON object, an array of them, or one a line; - is standard input (repeatable)
    /// [default: the module's own samples]
    #[arg(long, value_name = "FILE")]
    event: Vec<PathBuf>,
    /// Settings for these events: a JSON or TOML file, or JSON as in '{"region": "eu"}' [default: {}]
    #[arg(long, value_name = "FILE|JSON", requires = "event")]
    settings: Option<String>,
    /// What becomes of each event, in their order: a JSON file, or JSON as in '"keep"' (repeatable)
    #[arg(long, value_name = "FILE|JSON", requires = "event")]
    expect: Vec<String>,
    /// Measure calls a second, p50 and p99 of each event
    #[arg(long)]
    bench: bool,
}

/// An event to try, and what should come of it.
struct Case {
    name: String,
    event: Event,
    settings: Value,
    expect: Option<Expect>,
}

/// What came of it.
struct Tried {
    name: String,
    outcome: Outcome,
    took: Duration,
    seen: Seen,
    /// What was expected, in the form of [`Outcome::to_json`].
    wanted: Option<Value>,
    bench: Option<bench::Figures>,
}

impl Tried {
    fn is_fine(&self) -> bool {
        match &self.wanted {
            Some(wanted) => *wanted == self.outcome.to_json(),
            None => self.outcome.is_verdict(),
        }
    }
}

pub(super) async fn test(global: &Global, args: &TestArgs) -> Result<(), Failure> {
    let process = assemble::process(global)?;
    let host = assemble::host(&process)?;
    let bytes = annotate::read_module(&args.file)?;
    let size = bytes.len();
    let name = args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let started = Instant::now();
    let module = host.load_in_background(&name, bytes.into()).await;
    let module = module.map_err(|error| Failure::Usage(output::chain(&error)))?;
    let cases = if args.event.is_empty() { samples(&module)? } else { given(args)? };
    show::module(global.json, &args.file, size, started.elapsed(), &module);
    let count = cases.len();
    let mut failed = 0;
    for case in cases {
        let result = run(&host, &module, case, args.bench).await?;
        failed += usize::from(!result.is_fine());
        show::result(global.json, &result, !args.event.is_empty());
    }
    if failed > 0 {
        output::say(format_args!("{failed} of {count} failed"));
        return Err(Failure::Said(1));
    }
    Ok(())
}

fn samples(module: &Module) -> Result<Vec<Case>, Failure> {
    let samples = module.metadata().map(|metadata| metadata.samples.as_slice()).unwrap_or_default();
    if samples.is_empty() {
        let text = "the module has no samples of its own: give --event FILE, or put samples into it";
        return Err(Failure::Usage(text.to_owned()));
    }
    let case = |sample: &crate::transform::Sample| Case {
        name: format!("sample {:?}", sample.name),
        event: sample.event.clone(),
        settings: sample.settings.clone(),
        expect: sample.expect.clone(),
    };
    Ok(samples.iter().map(case).collect())
}

fn given(args: &TestArgs) -> Result<Vec<Case>, Failure> {
    let mut items = Vec::new();
    for file in &args.event {
        let (found, errors) = publish::read(file)?;
        if !errors.is_empty() {
            return Err(Failure::Usage(errors.join("\n")));
        }
        items.extend(found);
    }
    let settings = match &args.settings {
        None => Value::Object(Map::new()),
        Some(text) => value("--settings", text)?,
    };
    if !settings.is_object() {
        return Err(Failure::Usage("--settings is no table, as in '{\"region\": \"eu\"}'".to_owned()));
    }
    let expected = expectations(&args.expect)?;
    if !expected.is_empty() && expected.len() != items.len() {
        let text =
            format!("--expect says what becomes of {} events, but there are {}", expected.len(), items.len());
        return Err(Failure::Usage(text));
    }
    let mut expected = expected.into_iter();
    let cases = items.into_iter().map(|item| Case {
        name: item.place,
        event: item.event,
        settings: settings.clone(),
        expect: expected.next(),
    });
    Ok(cases.collect())
}

/// One value each, or a list of them.
fn expectations(texts: &[String]) -> Result<Vec<Expect>, Failure> {
    let mut all = Vec::new();
    for text in texts {
        match value("--expect", text)? {
            Value::Array(list) => all.extend(list),
            one => all.push(one),
        }
    }
    let parse = |value: &Value| {
        Expect::parse(value).map_err(|error| Failure::Usage(format!("--expect: {error}; found {value}")))
    };
    all.iter().map(parse).collect()
}

/// JSON itself, or the file that holds it.
fn value(option: &str, text: &str) -> Result<Value, Failure> {
    if text.trim_start().starts_with(['{', '[', '"']) {
        let wrong = |error| Failure::Usage(format!("{option} is not JSON: {error}"));
        return serde_json::from_str(text).map_err(wrong);
    }
    annotate::read_value(Path::new(text))
}

async fn run(host: &Arc<Host>, module: &Module, case: Case, bench: bool) -> Result<Tried, Failure> {
    let Case { name, event, settings, expect } = case;
    if let Some(metadata) = module.metadata() {
        let objections: Vec<String> =
            metadata.objections(&settings).iter().map(ToString::to_string).collect();
        if !objections.is_empty() {
            let text = format!("{name}: the module's schema refuses the settings: {}", objections.join("; "));
            return Err(Failure::Usage(text));
        }
    }
    // Nobody has set any limit: those of the module count, as in a pipeline file that is silent.
    let unset = Unset { timeout: true, memory: true, output: true };
    let settings = Settings { settings, unset, ..Settings::default() };
    let watch = Watch::default();
    let step = Step::watched(Arc::clone(host), module.clone(), settings, watch.clone()).await;
    let step = step.map_err(|error| {
        let printed = watch.take().printed;
        let more = if printed.is_empty() { String::new() } else { format!("\nit printed:\n{printed}") };
        Failure::Usage(format!("{name}: {}{more}", output::chain(&error)))
    })?;
    let trial = step.try_out(&event).await;
    let seen = watch.take();
    let wanted = expect.map(|expect| expect.wanted(&event, &trial.outcome)).transpose();
    let wanted = wanted.map_err(|error| Failure::Usage(format!("{name}: {error}")))?;
    let bench = if bench { Some(bench::measure(&step, &event, &watch).await) } else { None };
    Ok(Tried { name, outcome: trial.outcome, took: trial.took, seen, wanted, bench })
}
