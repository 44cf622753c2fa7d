//! `hookmill dev`: an own nats-server, pipelines loaded and watched, deliveries shown as they happen.

mod demo;
mod nats_server;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::nats_server::NatsServer;
use super::args::{DevArgs, Global};
use super::reload::{self, Files, News, ProcessFile, Reloading};
use super::run::Signals;
use super::serving::{Serving, Taken};
use super::{Failure, assemble, output};
use crate::config::Process;
use crate::model::{Filtered, Next, Timestamp};
use crate::nats::Nats;
use crate::server::Current;
use crate::telemetry::metrics;
use crate::transform::Host;
use crate::worker::{Limits, Seen};

/// How long running attempts may take to end when it is stopped.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

pub(crate) async fn dev(global: &Global, args: DevArgs) -> Result<(), Failure> {
    if args.demo {
        return demo::play(global, &args).await;
    }
    let mut signals = Signals::new().map_err(|error| Failure::failed(&error))?;
    let metrics = metrics::install();
    let file = ProcessFile::of(global);
    let mut process = assemble::process(global)?;
    let settings = Serving::settings(&process)?;
    let host = assemble::host(&process)?;
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from(".hookmill"));
    let server = NatsServer::start(&folder, Some(4222)).await?;
    process.nats.url = server.url().to_owned();
    let nats = assemble::connect(&process).await?;
    nats.ensure_events_stream().await.map_err(|error| Failure::failed(&error))?;
    nats.ensure_streams(process.limits.lane).await.map_err(|error| Failure::failed(&error))?;
    let taken = if args.listen.is_some() { Taken::Fail } else { Taken::Another };
    let serving = Serving::bind(&process, settings, args.listen, taken).await?;
    let (current, admin, listener) = (Current::default(), serving.url(), serving.address());
    let (api, served) = serving.begin(current.clone(), metrics, CancellationToken::new());
    api.open(&nats, &host).await?;
    output::line(format_args!("nats-server at {} keeps its events in {}", server.url(), folder.display()));
    output::line(format_args!("health, metrics and admin API at {admin}"));
    let files = files(&args, &process, nats, host, file)?;
    files.client.never_reach(listener);
    tokio::select! {
        ended = load_until_stopped(&args, files, current, &mut signals, server.url()) => {
            if ended.is_ok() {
                server.stop().await;
            }
            ended
        }
        () = served => Err(Failure::Failed("health, metrics and admin API can't be served any more".to_owned())),
    }
}

async fn load_until_stopped(
    args: &DevArgs,
    files: Files,
    current: Current,
    signals: &mut Signals,
    url: &str,
) -> Result<(), Failure> {
    let mut watch = reload::watch(&args.paths.paths)?;
    let pipelines = loop {
        // Compiling may take a while.
        let loaded = tokio::select! {
            loaded = files.pipelines(Some(&mut watch)) => loaded,
            () = signals.next() => return Ok(()),
        };
        if let Ok(pipelines) = loaded {
            break pipelines;
        }
        output::say("waiting for the files to change");
        tokio::select! {
            () = watch.changed() => output::line("files changed, loading them again"),
            () = signals.next() => return Ok(()),
        }
    };
    let engine =
        files.start(pipelines, Some(Arc::new(show))).await.map_err(|error| Failure::failed(&error))?;
    let mut reloading = Reloading::new(files, Some(watch), engine, current);
    reloading.tell(Box::new(|news| match news {
        News::Ready => invite(args, url),
        News::Changed => output::line("files changed, loading them again"),
        News::Loaded => output::line("ready with the files as they are now"),
        News::Refused => output::line("the files have problems, what was loaded before goes on"),
    }));
    reloading.until_stopped(signals, || {}).await;
    tokio::select! {
        () = reloading.engine().shut_down(DRAIN_DEADLINE) => Ok(()),
        () = signals.next() => Err(Failure::Said(130)),
    }
}

/// Loopback may be reached in `dev`: that is where one's own endpoints are.
fn files(
    args: &DevArgs,
    process: &Process,
    nats: Nats,
    host: Arc<Host>,
    file: ProcessFile,
) -> Result<Files, Failure> {
    let loopback = ["127.0.0.0/8", "::1"].iter().filter_map(|net| net.parse().ok());
    let client = assemble::client(process, loopback.collect())?;
    let limits = Limits { lane: process.limits.lane, waiting: process.limits.waiting };
    Ok(Files { paths: args.paths.paths.clone(), nats, host, client, limits, json: false, process: file })
}

fn invite(args: &DevArgs, url: &str) {
    let folder = args.paths.paths.first().map(|path| path.display().to_string()).unwrap_or_default();
    let to = if url.ends_with(":4222") { String::new() } else { format!(" --nats {url}") };
    output::line("ready; in other terminals, say");
    output::line("  hookmill listen --port 8471                        to receive webhooks");
    let sample = std::path::Path::new(&folder).join("events/orders.ndjson");
    if sample.is_file() {
        output::line(format_args!(
            "  hookmill publish{to} {} --subject events.shop.orders",
            sample.display()
        ));
    } else {
        output::line(format_args!(
            "  hookmill publish{to} FILE --subject SUBJECT          to publish CloudEvents (JSON, one a line)"
        ));
    }
    output::line("changes of the files are taken up at once; stop with Ctrl-C");
}

fn show(seen: &Seen<'_>) {
    output::line(line(seen));
}

/// One outcome as a line: time, event, subscription, attempt, what became of it.
fn line(seen: &Seen<'_>) -> String {
    let task = seen.task;
    let attempt = task.attempt + 1;
    let outcome = match seen.next {
        Next::Delivered { status: Some(status) } => format!("attempt {attempt}  delivered ({status})"),
        Next::Delivered { status: None } => format!("attempt {attempt}  published"),
        Next::Filtered(Filtered::Filter) => "filtered: match says no".to_owned(),
        Next::Filtered(Filtered::Dropped(why)) => format!("filtered: dropped by a step: {why}"),
        Next::Filtered(Filtered::EmptySplit) => "filtered: split into nothing".to_owned(),
        Next::Filtered(Filtered::OnError(why)) => format!("filtered: a failing step drops it: {why}"),
        Next::Onward(_) => format!("attempt {attempt}  goes on"),
        Next::Wait(_, due, fault) => {
            let wait = due.since(Timestamp::now());
            format!("attempt {attempt}  failed: {fault}; again in {:.1} s", wait.as_secs_f64())
        }
        Next::Held(_, fault) => format!("held: {fault}"),
        Next::DeadLetter(_, fault) if task.subscription.is_none() => format!("dead-lettered: {fault}"),
        Next::DeadLetter(_, fault) => format!("attempt {attempt}  dead-lettered: {fault}"),
        Next::Split(outputs) => format!("split into {}", outputs.len()),
    };
    let subscription = task.subscription.as_ref().map_or("(all)", |name| name.as_str());
    // What nobody has checked is shown with the dead letter alone.
    let id = if task.event.unverified { "?" } else { task.event.id.as_str() };
    format!("{}  {id:18} {subscription:14} {outcome}", clock(seen.at))
}

/// The time of day, in milliseconds.
fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    let time = text.split_once('T').map_or(text.as_str(), |(_, time)| time);
    let mut time = time.trim_end_matches('Z').to_owned();
    time.truncate(12);
    time
}
