//! Many lanes with a rate of their own: one pipeline of its own whose every event goes to each of them.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use super::clock::Clock;
use super::receivers::{PATIENT, TIMEOUT, order_number};
use super::silence::Request;
use crate::events::{self, Message};
use crate::judge::{source, subscription};
use crate::{Endpoint, Reply, Request as Received, behaviour};

/// The pipeline.
pub(super) const PIPELINE: &str = "many";
/// What one engine sends to one lane; two engines make 0.2 a second.
const RATE: &str = "6/m";
/// Seconds that both engines need for one event of each lane.
pub(super) const SECONDS_EACH: u64 = 5;
/// Numbers of their events begin here.
pub(super) const FIRST: usize = 900_000_000;
/// The subject of their events.
const SUBJECT: &str = "events.many.order";

/// Event `number`, which goes to all of them.
pub(super) fn event(number: usize) -> Message {
    events::structured(number).header("Nats-Msg-Id", &number.to_string()).on(SUBJECT)
}

/// `pipeline/subscription` of lane `number`.
pub(super) fn lane(number: usize) -> String {
    format!("{PIPELINE}/{}", name(number))
}

/// Its subscription.
pub(super) fn name(number: usize) -> String {
    format!("lane-{number}")
}

/// Their receiver.
pub(super) struct Many {
    endpoint: Endpoint,
    books: Arc<Mutex<Vec<Vec<Request>>>>,
}

impl Many {
    pub(super) async fn start(lanes: usize, clock: Clock) -> Self {
        let books = Arc::new(Mutex::new(vec![Vec::new(); lanes]));
        let taking = Arc::clone(&books);
        let decide = move |received: &Received| {
            let lane = received.target.rsplit_once('/').and_then(|(_, lane)| lane.parse().ok());
            let lane: usize = lane.expect("the path ends in the lane's number");
            let (number, at) = (order_number(&received.body), clock.now());
            taking.lock().expect("no holder panics")[lane].push(Request { at, number, taken: true });
            Reply::Status(200)
        };
        Self { endpoint: Endpoint::start_for_flood(behaviour::custom(decide)).await, books }
    }

    /// The pipeline file.
    pub(super) fn pipeline(&self) -> String {
        let lanes = self.books.lock().expect("no holder panics").len();
        let mut text = source(&format!("subjects = [\"{SUBJECT}\"]"));
        for lane in 0..lanes {
            let url = format!("{}/{lane}", self.endpoint.url());
            let deliver = format!("{TIMEOUT}\nrate = \"{RATE}\"");
            write!(text, "{}", subscription(&name(lane), &url, &deliver, PATIENT)).expect("memory takes it");
        }
        text
    }

    /// Keeps the endpoint's own log short.
    pub(super) fn forget(&self) {
        self.endpoint.forget();
    }

    /// The requests to each lane.
    pub(super) fn books(&self) -> Vec<Vec<Request>> {
        self.books.lock().expect("no holder panics").clone()
    }
}
