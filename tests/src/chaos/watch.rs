//! Whether JetStream answers its API, asked all the time on a connection of its own: a fault of the server is over when it does.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::clock::Clock;
use super::silence::Span;

/// Pause between two questions.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Longest wait for the end of a fault.
const AWAY_MAX: Duration = Duration::from_mins(2);
/// The question.
const QUESTION: &str = "$JS.API.STREAM.INFO.HOOKMILL_EVENTS";

/// What is known of the answers.
#[derive(Default)]
struct Answers {
    /// When the last question that was answered was asked, and when the answer came.
    last: Option<Span>,
    /// Stretches without an answer that were longer than [`ANSWER_MAX`].
    outages: Vec<Span>,
}

/// The running watch. Dropping it ends it.
pub(super) struct ApiWatch {
    answers: Arc<Mutex<Answers>>,
    clock: Clock,
    // Held for its drop.
    _tasks: JoinSet<()>,
}

impl ApiWatch {
    pub(super) async fn start(url: &str, clock: Clock) -> Self {
        let client = connect(url).await;
        let answers = Arc::<Mutex<Answers>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(ask(client, clock, Arc::clone(&answers)));
        Self { answers, clock, _tasks: tasks }
    }

    /// Waits for the answer to a question that was asked at `moment` or later, and says when it came.
    pub(super) async fn answered_since(&self, moment: Duration) -> Duration {
        while self.clock.now() < moment + AWAY_MAX {
            if let Some(last) = lock(&self.answers).last.filter(|last| last.from >= moment) {
                return last.to;
            }
            sleep(ASK_EVERY / 2).await;
        }
        self.clock.now()
    }

    /// Stretches without an answer so far.
    pub(super) fn outages(&self) -> Vec<Span> {
        lock(&self.answers).outages.clone()
    }
}

/// A connection that is made again at once, whenever the server is back.
pub(super) async fn connect(url: &str) -> Client {
    let options = ConnectOptions::new().reconnect_delay_callback(|_| ASK_EVERY).ping_interval(ANSWER_MAX);
    options.connect(url).await.expect("a running server takes connections")
}

fn lock(answers: &Mutex<Answers>) -> MutexGuard<'_, Answers> {
    answers.lock().expect("no holder panics")
}

async fn ask(client: Client, clock: Clock, answers: Arc<Mutex<Answers>>) {
    loop {
        let asked = clock.now();
        let answer = timeout(ANSWER_MAX, client.request(QUESTION, bytes::Bytes::new())).await;
        // An error is an answer as well, but none of a stream that is there.
        let is_state = |body: &[u8]| body.windows(7).any(|window| window == b"\"state\"");
        if answer.is_ok_and(|answer| answer.is_ok_and(|message| is_state(&message.payload))) {
            let mut answers = lock(&answers);
            let now = clock.now();
            let before = answers.last.map_or(asked, |last| last.to);
            if now.saturating_sub(before) > ANSWER_MAX {
                answers.outages.push(Span { from: before, to: now });
            }
            answers.last = Some(Span { from: asked, to: now });
        }
        sleep(ASK_EVERY).await;
    }
}
