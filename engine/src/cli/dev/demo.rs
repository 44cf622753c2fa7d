//! `hookmill dev --demo`: plays the example from beginning to end and checks that every event has its end.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::args::{DevArgs, Global, Mode};
use super::super::output::{self, table};
use super::super::reload::ProcessFile;
use super::super::steps::{Source, Strictness};
use super::super::{Failure, assemble, listen, publish};
use super::nats_server::NatsServer;
use super::{clock, line};
use crate::config::{self, checked};
use crate::deliver::signature::Key;
use crate::model::{Next, TypePatterns};
use crate::nats::letters::Selection;
use crate::nats::{Modules, Nats, Walk};
use crate::server::receiver::{Received, Receiver, Settings, Signature};
use crate::worker::{Onlooker, Seen};

/// Where the example's endpoints are.
const PORTS: [u16; 3] = [8471, 8472, 8473];
/// The subject that the example's events are published on.
const SUBJECT: &str = "events.shop.orders";
/// By then every event has its end.
const DEADLINE: Duration = Duration::from_secs(60);
/// What happens that may wait to be shown.
const SHOWN_MAX: usize = 4_096;

/// One thing that happened, as the table counts it.
enum Happened {
    Received(Received),
    Ended { subscription: Option<String>, end: End, line: String },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Filtered,
    Published,
    None,
}

pub(super) async fn play(global: &Global, args: &DevArgs) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::failed(error);
    let root = args.paths.paths.first().cloned().unwrap_or_default();
    let mut process = assemble::process(global)?;
    let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
    let server = NatsServer::start(folder.path(), None).await?;
    process.nats.url = server.url().to_owned();
    let nats = assemble::connect(&process).await?;
    nats.ensure_events_stream().await.map_err(|error| failed(&error))?;
    output::line(format_args!("nats-server at {}, in a temporary folder", server.url()));

    let (happened, mut happening) = mpsc::channel(SHOWN_MAX);
    let stop = CancellationToken::new();
    let mut receivers = receivers(&root, &happened, &stop).await?;
    let loaded = config::load(&args.paths.paths, nats.prefix());
    let source = Source::Open(Modules::look(&nats));
    let host = assemble::host(&process)?;
    let prepared = assemble::prepare(&host, loaded, &source, Strictness::Lenient).await;
    if !prepared.loaded.problems.is_empty() {
        return Err(assemble::say(&prepared.loaded.problems, global.json));
    }
    let pipelines: Vec<checked::Pipeline> = prepared.loaded.pipelines.clone();
    let files = super::files(args, &process, nats.clone(), host, ProcessFile::of(global))?;
    let loaded = prepared.pipelines(&nats, &files.client);
    let engine = files.start(loaded, Some(onlooker(happened))).await.map_err(|error| failed(&error))?;
    engine.ready().await;
    output::line(format_args!("pipelines: {}", names(&pipelines)));

    let published = publish_all(&nats, &root).await?;
    let mut ledger = Ledger::new(&pipelines, published);
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    let complete = loop {
        tokio::select! {
            one = happening.recv() => if let Some(one) = one { ledger.take(one) },
            _ = tick.tick() => {
                ledger.read_streams(&nats).await?;
                if ledger.adds_up() && engine.held() == 0 {
                    break true;
                }
            }
            () = tokio::time::sleep_until(deadline) => break false,
        }
    };
    engine.shut_down(Duration::from_secs(5)).await;
    stop.cancel();
    receivers.abort_all();
    output::line(format_args!("\n{}", ledger.table()));
    server.stop().await;
    if complete {
        output::line("every event has its end: delivered, filtered or dead-lettered; none is missing");
        return Ok(());
    }
    Err(Failure::Failed(
        "some events have no end after a minute; the table says where they are missing".to_owned(),
    ))
}

fn names(pipelines: &[checked::Pipeline]) -> String {
    let names = pipelines.iter().map(|pipeline| {
        let subscriptions: Vec<&str> = pipeline.subscriptions.iter().map(|one| one.name.as_str()).collect();
        format!("{} ({})", pipeline.name, subscriptions.join(", "))
    });
    names.collect::<Vec<_>>().join("; ")
}

/// Three receivers: one healthy, one failing twice for each webhook, one always.
async fn receivers(
    root: &Path,
    happened: &mpsc::Sender<Happened>,
    stop: &CancellationToken,
) -> Result<tokio::task::JoinSet<()>, Failure> {
    let secret = std::fs::read_to_string(root.join("demo.secret")).map_err(|error| {
        Failure::Usage(format!(
            "{}: {error}; the demo plays the examples of a checkout",
            root.join("demo.secret").display()
        ))
    })?;
    let mut tasks = tokio::task::JoinSet::new();
    let behaviours = [
        (StatusCode::OK, 0, "healthy"),
        (StatusCode::OK, 2, "fails twice for each webhook"),
        (StatusCode::INTERNAL_SERVER_ERROR, 0, "always fails"),
    ];
    for (port, (status, fail, what)) in PORTS.into_iter().zip(behaviours) {
        let key = Key::parse(secret.trim()).map_err(|error| Failure::failed(&error))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let settings = Settings { address, keys: vec![key], status, fail };
        let (receiver, mut received) = Receiver::bind(settings).await.map_err(|error| {
            Failure::Failed(format!(
                "{}; the demo needs port {port}: stop what listens there",
                super::super::output::chain(&error)
            ))
        })?;
        output::line(format_args!("endpoint at http://{address}: {what}"));
        tasks.spawn(receiver.serve(stop.clone()));
        let happened = happened.clone();
        tasks.spawn(async move {
            while let Some(one) = received.recv().await {
                if happened.send(Happened::Received(one)).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(tasks)
}

/// Tells the table of ends that no receiver sees.
fn onlooker(happened: mpsc::Sender<Happened>) -> Onlooker {
    std::sync::Arc::new(move |seen: &Seen<'_>| {
        let end = match seen.next {
            Next::Delivered { status: None } => End::Published,
            Next::Filtered(_) => End::Filtered,
            // The receivers show these.
            Next::Delivered { status: Some(_) } => return,
            Next::Wait(_, _, fault) if fault.status.is_some() => return,
            Next::Onward(_) | Next::Wait(..) | Next::DeadLetter(..) | Next::Held(..) | Next::Split(_) => {
                End::None
            }
        };
        let subscription = seen.task.subscription.as_ref().map(ToString::to_string);
        let _ = happened.try_send(Happened::Ended { subscription, end, line: line(seen) });
    })
}

/// Publishes the sample events, structured and binary in turn, and one message that is no event. What was published:
/// the types of the events, and how many messages in all.
async fn publish_all(nats: &Nats, root: &Path) -> Result<(Vec<String>, usize), Failure> {
    let (items, errors) = publish::read(&root.join("events").join("orders.ndjson"))?;
    if let Some(error) = errors.first() {
        return Err(Failure::Usage(error.clone()));
    }
    output::line(format_args!(
        "publishing {} events on {SUBJECT}, and one message that is no event\n",
        items.len()
    ));
    let mut types = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let mode = if index % 2 == 0 { Mode::Structured } else { Mode::Binary };
        let (headers, body) = publish::message(&item.event, mode);
        nats.store(SUBJECT.to_owned(), headers, body).await.map_err(|error| Failure::failed(&error))?;
        types.push(item.event.ty);
    }
    let stray = nats.store(SUBJECT.to_owned(), Vec::new(), Bytes::from_static(b"hello")).await;
    stray.map_err(|error| Failure::failed(&error))?;
    let messages = types.len() + 1;
    Ok((types, messages))
}

/// What happened to the events of one subscription.
#[derive(Default)]
struct Row {
    types: TypePatterns,
    events: usize,
    delivered: HashSet<String>,
    published: usize,
    filtered: usize,
    dead: usize,
}

impl Row {
    fn ends(&self) -> usize {
        self.delivered.len() + self.published + self.filtered + self.dead
    }
}

struct Ledger {
    types: Vec<String>,
    messages: usize,
    rows: BTreeMap<String, Row>,
    refused: usize,
}

impl Ledger {
    fn new(pipelines: &[checked::Pipeline], (types, messages): (Vec<String>, usize)) -> Self {
        let mut rows = BTreeMap::new();
        for subscription in pipelines.iter().flat_map(|pipeline| &pipeline.subscriptions) {
            let row = Row { types: subscription.filter.types.clone(), ..Row::default() };
            rows.insert(subscription.name.to_string(), row);
        }
        Self { types, messages, rows, refused: 0 }
    }

    fn take(&mut self, one: Happened) {
        match one {
            Happened::Received(received) => {
                output::line(shown(&received));
                let row = self.rows.get_mut(received.path.trim_start_matches('/'));
                let taken = received.status.is_success() && received.signature == Signature::Verified;
                if let Some(row) = row.filter(|_| taken) {
                    row.delivered.insert(received.id);
                }
            }
            Happened::Ended { subscription, end, line } => {
                output::line(line);
                let Some(row) = subscription.and_then(|name| self.rows.get_mut(&name)) else { return };
                match end {
                    End::Filtered => row.filtered += 1,
                    End::Published => row.published += 1,
                    End::None => {}
                }
            }
        }
    }

    /// Dead letters are counted where they rest.
    async fn read_streams(&mut self, nats: &Nats) -> Result<(), Failure> {
        self.rows.values_mut().for_each(|row| row.dead = 0);
        self.refused = 0;
        let mut refused_types = Vec::new();
        let walk = Walk::new(nats, Selection::default(), None).await;
        let mut walk = walk.map_err(|error| Failure::failed(&error))?;
        while let Some(letter) = walk.next().await.map_err(|error| Failure::failed(&error))? {
            if letter.subscription == "_" {
                self.refused += 1;
                refused_types.extend(
                    letter.task.ok().filter(|task| !task.event.unverified).map(|task| task.event.ty.clone()),
                );
            } else if let Some(row) = self.rows.get_mut(&letter.subscription) {
                row.dead += 1;
            }
        }
        for row in self.rows.values_mut() {
            let wanted = |types: &[String]| types.iter().filter(|ty| row.types.matches(ty)).count();
            row.events = wanted(&self.types) - wanted(&refused_types).min(wanted(&self.types));
        }
        Ok(())
    }

    fn adds_up(&self) -> bool {
        self.rows.values().all(|row| row.events == row.ends())
    }

    fn table(&self) -> String {
        let mut rows = Vec::new();
        for (name, row) in &self.rows {
            let sum = if row.events == row.ends() { "yes" } else { "NO" };
            let delivered = row.delivered.len() + row.published;
            let numbers = [row.events, delivered, row.filtered, row.dead].map(|number| number.to_string());
            rows.push(std::iter::once(name.clone()).chain(numbers).chain([sum.to_owned()]).collect());
        }
        let header = ["SUBSCRIPTION", "EVENTS", "DELIVERED", "FILTERED", "DEAD-LETTERED", "ADDS UP"];
        let refused = self.refused;
        let (messages, taken) = (self.messages, self.messages - refused.min(self.messages));
        format!(
            "{messages} messages published: {taken} taken, {refused} dead-lettered for the pipeline as a whole\n\n{}",
            table(&header, &rows)
        )
    }
}

fn shown(received: &Received) -> String {
    let Received { at, event_id, path, times, status, signature, .. } = received;
    let subscription = path.trim_start_matches('/');
    let (status, signature) = (status.as_u16(), listen::said(*signature));
    format!(
        "{}  {event_id:18} {subscription:14} attempt {times}  answered {status}  signature {signature}",
        clock(*at)
    )
}
