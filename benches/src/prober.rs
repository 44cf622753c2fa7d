//! How fast JetStream answers its API while an engine works: asked on a connection of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Client;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::gaps::percentile;

/// Pause between two questions, whether the first has been answered or not.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The question.
const QUESTION: &str = "$JS.API.STREAM.INFO.HOOKMILL_LANES";

/// The answers so far; none: there was none in time.
type Answers = Arc<Mutex<Vec<Option<Duration>>>>;

/// The running prober. Dropping it ends it.
#[derive(Debug)]
pub struct Prober {
    answers: Answers,
    // Held for its drop.
    _tasks: JoinSet<()>,
}

impl Prober {
    /// Begins to ask.
    pub async fn start(nats: &str) -> Self {
        let client = async_nats::connect(nats).await.expect("nats-server takes connections");
        let answers = Answers::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(ask(client, Arc::clone(&answers)));
        Self { answers, _tasks: tasks }
    }

    /// What was answered so far.
    pub fn latency(&self) -> Latency {
        Latency::of(&self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How long answers took. A question without one counts as the longest wait.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Questions.
    pub asked: usize,
    /// Questions that were not answered in time.
    pub timed_out: usize,
    /// Half of the answers came faster.
    pub half: Duration,
    /// 99 of 100 did.
    pub most_of: Duration,
    /// The slowest.
    pub most: Duration,
}

impl Latency {
    fn of(answers: &[Option<Duration>]) -> Self {
        let mut times: Vec<Duration> = answers.iter().map(|time| time.unwrap_or(ANSWER_MAX)).collect();
        times.sort_unstable();
        let [half, most_of, most] = [0.5, 0.99, 1.0].map(|share| percentile(&times, share));
        let timed_out = answers.iter().filter(|time| time.is_none()).count();
        Self { asked: answers.len(), timed_out, half, most_of, most }
    }
}

async fn ask(client: Client, answers: Answers) {
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    loop {
        ticks.tick().await;
        let (client, answers) = (client.clone(), Arc::clone(&answers));
        under_way.spawn(async move {
            let asked = Instant::now();
            let answer = timeout(ANSWER_MAX, client.request(QUESTION, bytes::Bytes::new())).await;
            let time = matches!(answer, Ok(Ok(_))).then(|| asked.elapsed());
            answers.lock().unwrap_or_else(PoisonError::into_inner).push(time);
        });
        while under_way.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_without_an_answer_is_the_slowest() {
        let answers: Vec<_> =
            (1..=99).map(|millis| Some(Duration::from_millis(millis))).chain([None]).collect();
        let latency = Latency::of(&answers);
        assert_eq!((latency.asked, latency.timed_out), (100, 1));
        assert_eq!((latency.half, latency.most), (Duration::from_millis(51), ANSWER_MAX));
        assert_eq!(latency.most_of, Duration::from_millis(99));
    }
}
