//! Two engines and one server, with subscriptions that each need another stream of the engine's; the course of a fault;
//! and the books.

use std::time::Duration;

use async_nats::jetstream::Context;
use hookmill_tests::judge::{self, Ends, dead_letters, ends, subscription};
use hookmill_tests::{Endpoint, Engine, PipelineFolder, behaviour, events, eventually, http};
use tokio::time::Instant;

/// Longest wait for what takes a moment.
pub const SOON: Duration = Duration::from_secs(40);
/// Longest wait until everything has come to its end. A wait that the server could not fire is found after half a minute.
pub const LATER: Duration = Duration::from_mins(3);
/// How long it is watched that nothing happens. An engine that went on would deliver some thirty events meanwhile.
const WATCHED: Duration = Duration::from_secs(6);

/// Orders before the fault, and those that meet it.
const BEFORE: usize = 10;
const ORDERS: usize = 40;
/// Events of the other pipeline.
const OTHERS: usize = 250;

/// Where everything takes place.
pub struct Stage {
    // Held for its drop: the engines' files.
    _folder: PipelineFolder,
    /// One lives through the fault, the other is killed in the middle of it.
    pub engines: [Engine; 2],
    /// Fails once for each event, so that a wait has to be stored.
    waits: Endpoint,
    /// Has one slot and is slow, so that events have to be stored in its lane.
    lanes: Endpoint,
    /// Refuses for good, so that dead letters have to be stored.
    letters: Endpoint,
    /// Of another pipeline: needs no store at all, but takes a moment for each event, one at a time.
    other: Endpoint,
    orders: Vec<u64>,
    /// How many of the orders have a dead letter that was deleted.
    forgotten: usize,
    others: Vec<u64>,
}

/// What is expected of a fault.
pub struct Expected<'e> {
    /// Each of these is part of what `/readyz` says.
    pub readyz: &'e [&'e str],
    /// No event of `orders` can come to all its ends meanwhile, and JetStream can be asked: so nothing of it may be
    /// acknowledged.
    pub nothing_settled: Option<&'e Context>,
    /// The source can still be taken from and acknowledged: so the pipeline that needs no store has to go on.
    pub others_go_on: bool,
}

impl Stage {
    /// Starts two engines at `nats_url`; `settings` are lines of `hookmill.toml`.
    pub async fn start(nats_url: &str, jetstream: &Context, settings: &str) -> Self {
        let waits = Endpoint::start(behaviour::fail_first(1, 503)).await;
        let lanes = Endpoint::start(behaviour::slow(Duration::from_millis(150))).await;
        let letters = Endpoint::start(behaviour::always(400)).await;
        let other = Endpoint::start(behaviour::slow(Duration::from_millis(200))).await;
        let again = format!("schedule = [{}]\njitter = 0.0", ["\"1s\""; 30].join(", "));
        let orders = [
            "[source]\nstart = \"all\"\nsubjects = [\"events.com.>\"]\nmax_in_flight = 64\n".to_owned(),
            subscription("waits", &waits.url(), "", &again),
            subscription("lanes", &lanes.url(), "concurrency = 1", &again),
            subscription("letters", &letters.url(), "", "give_up_on = [400]"),
        ];
        let others =
            "[source]\nstart = \"all\"\nsubjects = [\"events.other.>\"]\nmax_in_flight = 1\n".to_owned();
        let folder = PipelineFolder::with("pipelines/orders", &orders.concat());
        folder.write("pipelines/other.toml", others + &subscription("other", &other.url(), "", &again));
        let config = folder.write("hookmill.toml", settings);
        let options =
            Engine::run_at(nats_url).arg(folder.path().join("pipelines")).arg("--config").arg(config);
        let engines = [options.clone().start().await, options.start().await];
        let (orders, others) = (Vec::new(), Vec::new());
        let mut stage =
            Self { _folder: folder, engines, waits, lanes, letters, other, orders, forgotten: 0, others };
        stage.publish_orders(jetstream, BEFORE).await;
        stage.all_ended(jetstream).await;
        stage
    }

    async fn publish_orders(&mut self, jetstream: &Context, count: usize) {
        let from = self.orders.len();
        let orders = (from..from + count).map(events::structured);
        self.orders.extend(events::publish_all(jetstream, orders).await);
    }

    /// Publishes what is to meet the fault, while no engine takes it.
    pub async fn fill(&mut self, jetstream: &Context) {
        for engine in &self.engines {
            engine.pause().await;
        }
        self.publish_orders(jetstream, ORDERS).await;
        let others = (0..OTHERS).map(|number| events::structured(number).on("events.other.x"));
        self.others = events::publish_all(jetstream, others).await;
    }

    /// The engines meet the fault: both say why they take nothing more of the orders, and do as they say. One of them is killed with all
    /// that it holds.
    pub async fn suffer(&self, expected: &Expected<'_>) {
        self.engines.iter().for_each(Engine::resume);
        for engine in &self.engines {
            not_ready(engine, expected.readyz).await;
        }
        let before = self.other.received();
        assert!(before < OTHERS - 10, "{before} of {OTHERS} came before the fault was seen: too slow a test");
        let until = Instant::now() + WATCHED;
        while Instant::now() < until {
            for engine in &self.engines {
                let (status, text) = http::get(&engine.url("/readyz")).await.expect("it answers");
                assert_eq!(status, 503, "it is ready in the middle of the fault: {text}");
            }
            if let Some(jetstream) = expected.nothing_settled {
                let (pending, held) = judge::unsettled(jetstream).await.expect("can be asked");
                let open = usize::try_from(pending).expect("few") + held;
                assert_eq!(open, ORDERS, "acknowledged without being stored");
                assert!(held <= 2 * 64, "{held} are held by two engines with room for 64 each");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let meanwhile = self.other.received() - before;
        if expected.others_go_on {
            assert!(
                meanwhile >= 5,
                "only {meanwhile} events of a pipeline that needs no store came meanwhile"
            );
        }
        self.engines[1].kill().await;
    }

    /// After it was mended: the engine that lived through it goes on by itself, and nothing is lost, not even what the
    /// killed one held.
    pub async fn recover(&mut self, jetstream: &Context) {
        self.other.wait_for_delivered(OTHERS, LATER).await;
        self.all_ended(jetstream).await;
        let ready = http::get(&self.engines[0].url("/readyz")).await;
        assert_eq!(ready, Ok((200, "ready\n".to_owned())));
        // What came first has not been forgotten, and what comes now takes its way.
        self.engines[1].restart().await;
        self.publish_orders(jetstream, BEFORE).await;
        self.all_ended(jetstream).await;
    }

    /// Waits until every event has an end for each subscription, and compares the books.
    async fn all_ended(&self, jetstream: &Context) {
        let missing = || async {
            let books = self.books(jetstream).await;
            let missing: usize = books.iter().map(|(_, ends)| ends.missing.len()).sum();
            if missing == 0 { Ok(()) } else { Err(format!("{missing} ends are missing")) }
        };
        eventually(LATER, "every event has come to its ends", missing).await;
        judge::at_rest(jetstream, LATER).await;
        for (name, ends) in self.books(jetstream).await {
            assert_eq!(ends.missing.len(), 0, "{name}: {ends:?}");
            let wrong = if name == "letters" { ends.delivered } else { ends.dead };
            assert_eq!(wrong, 0, "{name}: {ends:?}");
            println!(
                "{name}: {} delivered, {} dead letters, {} repeats",
                ends.delivered, ends.dead, ends.extra
            );
        }
    }

    /// How the events of each subscription have ended so far.
    async fn books(&self, jetstream: &Context) -> [(&'static str, Ends); 4] {
        let letters = dead_letters(jetstream).await;
        let ends = |name, endpoint, sequences| (name, ends(name, endpoint, &letters, sequences));
        [
            ends("waits", &self.waits, &self.orders),
            ends("lanes", &self.lanes, &self.orders),
            ends("letters", &self.letters, &self.orders[self.forgotten..]),
            ends("other", &self.other, &self.others),
        ]
    }

    /// Somebody deletes the dead letters: these orders have no end any more that could be found.
    pub fn forget_dead_orders(&mut self) {
        self.forgotten = BEFORE;
    }
}

/// Waits until an engine is not ready and says all of this.
pub async fn not_ready(engine: &Engine, because: &[&str]) {
    let url = engine.url("/readyz");
    let said = eventually(SOON, &format!("the engine is not ready because of {because:?}"), || async {
        match http::get(&url).await? {
            (503, body) if because.iter().all(|why| body.contains(why)) => Ok(body),
            (status, body) => Err(format!("{status} {body}")),
        }
    })
    .await;
    println!("/readyz: {said}");
}
