//! What one subscription's trouble costs the others: an endpoint of ten that never answers, one that is slow and may have more at
//! once than the engine works on, and retries that wait.

#![expect(clippy::cast_precision_loss, reason = "counts are far below 2⁵²")]

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, Context};
use hookmill_tests::endpoint::behaviour;
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, events, eventually};

use crate::contest::{Figure, program};
use crate::pipelines::{SECRET, SECRET_VARIABLE, source};
use crate::sink::Sink;
use crate::steady::Arrivals;

/// The stream of the events that are measured.
const SOURCE: &str = "ORDERS";
/// The stream of the events that come to nothing.
const TROUBLE: &str = "TROUBLE";
/// Endpoints, and types of events.
const ENDPOINTS: usize = 10;
/// Longest time of one run, and of making the waits.
const RUN_MAX: Duration = Duration::from_mins(10);
/// Events that the engine works on at once, beside a slow endpoint.
const FEW_IN_FLIGHT: usize = 64;
/// How long the slow endpoint takes for an answer.
const SLOW: Duration = Duration::from_millis(500);
/// Events that come at a steady pace, so that it can be told how long each took. Every second one is for the slow endpoint, which
/// is more than it can take.
const STEADY: usize = 5_000;
/// Pause between them.
const STEADY_EVERY: Duration = Duration::from_millis(1);

async fn make_stream(jetstream: &Context, name: &str, subjects: &str) {
    let config = jetstream::stream::Config {
        name: name.into(),
        subjects: vec![subjects.into()],
        ..jetstream::stream::Config::default()
    };
    jetstream.create_stream(config).await.expect("the stream can be made");
}

/// The throughput of nine subscriptions out of ten, each with an endpoint and events of its own; the tenth one's endpoint
/// is as fast as theirs or never answers.
pub async fn nine_of_ten(events: usize, one_hangs: bool) -> Figure {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    make_stream(&jetstream, SOURCE, "events.>").await;
    events::publish_all(&jetstream, (0..events).map(typed)).await;
    let theirs = events - events / ENDPOINTS;
    let (sink, other) = (Sink::start(&[theirs / 10, theirs]), Sink::start(&[]));
    let hanging = Endpoint::start_for_flood(behaviour::hang()).await;
    let mut text = source(SOURCE);
    for number in 0..ENDPOINTS {
        let url = match number {
            0 if one_hangs => hanging.url(),
            0 => other.url(),
            _ => sink.url(),
        };
        text += &subscription(&format!("s{number}"), &kind(number), &url, "");
    }
    let folder = PipelineFolder::with("ten", &text);
    let engine = start(&server, &folder).await;
    let figure = timed(&sink, theirs).await;
    drop(engine);
    figure
}

/// A subscription beside one whose endpoint is slow, of ten events getting nine: its throughput, and the longest time from
/// publish to arrival of events that come at a steady pace after that. `concurrency`: what the slow one may have at once.
pub async fn beside_slow(events: usize, concurrency: usize, is_slow: bool) -> (Figure, Duration) {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    make_stream(&jetstream, SOURCE, "events.>").await;
    events::publish_all(&jetstream, (0..events).map(typed)).await;
    let (arrivals, other) = (Arrivals::start(), Sink::start(&[]));
    let slow = Endpoint::start_for_flood(behaviour::slow(SLOW)).await;
    let url = if is_slow { slow.url() } else { other.url() };
    let mut text =
        format!("[source]\nstream = \"{SOURCE}\"\nstart = \"all\"\nmax_in_flight = {FEW_IN_FLIGHT}\n");
    let more = format!("concurrency = {concurrency}");
    text += &subscription("slow", &kind(0), &url, &more);
    let others: Vec<String> = (1..ENDPOINTS).map(kind).collect();
    text += &subscription("healthy", &others.join("\", \""), &arrivals.url(), "format = \"binary\"");
    let folder = PipelineFolder::with("slow", &text);
    let engine = start(&server, &folder).await;
    let theirs = events - events.div_ceil(ENDPOINTS);
    let began = arrivals.reached((theirs / 10).max(1), RUN_MAX).await.expect("the events arrive in time");
    let ended = arrivals.reached(theirs, RUN_MAX).await.expect("the events arrive in time");
    let rate = (theirs - theirs / 10) as f64 / (ended - began).as_secs_f64();
    let longest = longest(&jetstream, &arrivals, events).await;
    drop(engine);
    (Figure { rate, cpu_micros: None }, longest)
}

/// The longest time from publish to arrival of events `first` and on, at a steady pace.
async fn longest(jetstream: &Context, arrivals: &Arrivals, first: usize) -> Duration {
    let before = first - first.div_ceil(ENDPOINTS);
    let mut pace = tokio::time::interval(STEADY_EVERY);
    let (mut published, mut acks) = (Vec::new(), Vec::new());
    for number in 0..STEADY {
        pace.tick().await;
        published.push(Instant::now());
        let events::Message { subject, headers, payload } = of_kind(first + number, &kind(number % 2));
        let ack = jetstream.publish_with_headers(subject, headers, payload).await;
        acks.push(ack.expect("the publish is sent").into_future());
    }
    for acked in futures_util::future::join_all(acks).await {
        acked.expect("the publish is acknowledged");
    }
    arrivals.reached(before + STEADY / 2, RUN_MAX).await.expect("the events arrive in time");
    let steady = arrivals.all().into_iter().filter(|arrival| arrival.order >= first);
    let took = steady.filter_map(|arrival| Some(arrival.at - *published.get(arrival.order - first)?));
    took.max().unwrap_or_default()
}

fn kind(number: usize) -> String {
    format!("com.shop.order.kind-{}", number % ENDPOINTS)
}

fn typed(number: usize) -> events::Message {
    of_kind(number, &kind(number))
}

fn of_kind(number: usize, kind: &str) -> events::Message {
    events::structured_message(events::order_json(number).replace(events::ORDER_TYPE, kind))
}

/// A server with orders, and with as many retries that wait as were asked for.
pub struct Waiting {
    server: NatsServer,
    events: usize,
    runs: usize,
}

impl Waiting {
    /// Starts the server, and lets so many deliveries fail once. Their next attempt is hours away.
    pub async fn new(events: usize, waits: usize) -> Self {
        let server = NatsServer::start().await;
        let jetstream = server.jetstream().await;
        make_stream(&jetstream, SOURCE, "events.>").await;
        make_stream(&jetstream, TROUBLE, "trouble.>").await;
        events::publish_all(&jetstream, (0..events).map(events::structured)).await;
        let trouble = (0..waits).map(|number| events::structured(number).on("trouble.order"));
        events::publish_all(&jetstream, trouble).await;
        let mut waiting = Self { server, events, runs: 0 };
        waiting.fail(&jetstream, waits).await;
        waiting
    }

    async fn fail(&mut self, jetstream: &Context, waits: usize) {
        let failing = Endpoint::start_for_flood(behaviour::always(503)).await;
        let (folder, _sink) = self.folder(&failing.url());
        let engine = start(&self.server, &folder).await;
        let wanted = waits as u64;
        eventually(RUN_MAX, "all of them wait", || async {
            let mut stream =
                jetstream.get_stream("HOOKMILL_RETRIES").await.map_err(|error| error.to_string())?;
            let messages = stream.info().await.map_err(|error| error.to_string())?.state.messages;
            if messages >= wanted { Ok(()) } else { Err(format!("{messages} of {wanted}")) }
        })
        .await;
        assert_eq!(engine.terminate().await, 0, "the engine ends as it should");
    }

    /// The throughput of a healthy subscription beside them.
    pub async fn run(&mut self) -> Figure {
        let failing = Endpoint::start_for_flood(behaviour::always(503)).await;
        let (folder, sink) = self.folder(&failing.url());
        let engine = start(&self.server, &folder).await;
        let figure = timed(&sink, self.events).await;
        assert_eq!(failing.received(), 0, "what waits is not tried");
        drop(engine);
        figure
    }

    /// The pipeline that is measured, under a new name each time, and the one whose deliveries fail.
    fn folder(&mut self, failing: &str) -> (PipelineFolder, Sink) {
        self.runs += 1;
        let sink = Sink::start(&[self.events / 10, self.events]);
        let healthy = source(SOURCE) + &subscription("orders", events::ORDER_TYPE, &sink.url(), "");
        let folder = PipelineFolder::with(&format!("healthy-{}", self.runs), &healthy);
        let never_open = "[subscription.retry]\nschedule = [\"6h\"]\n\
             [subscription.circuit]\nfailures = 100000\nfor = \"1day\"\n";
        let trouble = source(TROUBLE) + &subscription("orders", events::ORDER_TYPE, failing, never_open);
        folder.write("trouble.toml", trouble);
        (folder, sink)
    }
}

async fn start(server: &NatsServer, folder: &PipelineFolder) -> Engine {
    Engine::run(server).program(program()).env(SECRET_VARIABLE, SECRET).arg(folder.path()).start().await
}

/// Events a second from the first tenth on, which is for warming up.
async fn timed(sink: &Sink, events: usize) -> Figure {
    let timed = async {
        let began = sink.reached(0).await;
        let ended = sink.reached(1).await;
        (ended - began).as_secs_f64()
    };
    let seconds = tokio::time::timeout(RUN_MAX, timed).await.expect("the events arrive in time");
    Figure { rate: (events - events / 10) as f64 / seconds, cpu_micros: None }
}

fn subscription(name: &str, ty: &str, url: &str, more: &str) -> String {
    format!(
        "[[subscription]]\nname = \"{name}\"\ntypes = [\"{ty}\"]\n[subscription.deliver]\nurl = \"{url}\"\n\
         sign = [{{ env = \"{SECRET_VARIABLE}\" }}]\n{more}\n"
    )
}
