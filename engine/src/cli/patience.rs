//! Waiting at start for a JetStream that can't answer yet: its server has just come up, or its cluster has no leader.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::Failure;
use super::output::chain;

/// Pause before it is asked again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Asks until there is an answer, for as long as `patience`, and tells each time why there is none. An error that is not
/// passing ends it at once.
pub(crate) async fn patiently<T, E: std::error::Error>(
    patience: Duration,
    tell: &(dyn Fn(&str) + Send + Sync),
    passing: impl Fn(&E) -> bool,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, Failure> {
    let until = Instant::now() + patience;
    let mut last: Option<String> = None;
    let mut pause = PAUSE.0;
    loop {
        match timeout_at(until, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if !passing(&error) => return Err(Failure::failed(&error)),
            Ok(Err(error)) => {
                let why = chain(&error);
                tell(&why);
                if last.as_ref() != Some(&why) {
                    tracing::warn!(why, patience = ?patience, "waiting for JetStream");
                    last = Some(why);
                }
            }
            // What was asked last has no answer at all.
            Err(_) => {}
        }
        if Instant::now() >= until {
            let why = last.as_deref().unwrap_or("it does not answer");
            return Err(Failure::Failed(format!(
                "JetStream is not ready (waited {patience:?}): {why}\n\
                 hint: look at the log of nats-server, and start the servers of its cluster that are down; \
                 [nats] connect_timeout says how long to wait"
            )));
        }
        sleep_until(until.min(Instant::now() + pause)).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, thiserror::Error)]
    enum Trouble {
        #[error("no leader")]
        Passing,
        #[error("wrong")]
        Lasting,
    }

    async fn asked(answers: &[Result<u8, Trouble>]) -> (Result<u8, String>, usize, Duration) {
        let (begun, mut count) = (Instant::now(), 0);
        let asked = patiently(
            Duration::from_secs(10),
            &|_| {},
            |error| *error == Trouble::Passing,
            async || {
                count += 1;
                match answers.get(count - 1) {
                    Some(Ok(answer)) => Ok(*answer),
                    Some(Err(Trouble::Lasting)) => Err(Trouble::Lasting),
                    Some(Err(Trouble::Passing)) => Err(Trouble::Passing),
                    None => std::future::pending().await,
                }
            },
        );
        let result = asked.await.map_err(|failure| match failure {
            Failure::Failed(text) => text,
            other => format!("{other:?}"),
        });
        (result, count, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_waited_for_and_nothing_else() {
        let (result, count, _) = asked(&[Err(Trouble::Passing), Err(Trouble::Passing), Ok(7)]).await;
        assert_eq!((result, count), (Ok(7), 3));
        let (result, count, took) = asked(&[Err(Trouble::Passing), Err(Trouble::Lasting)]).await;
        assert_eq!((result, count), (Err("wrong".to_owned()), 2));
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn patience_has_an_end_also_where_nobody_answers() {
        for (answers, why) in [(vec![], "it does not answer"), (vec![Err(Trouble::Passing)], "no leader")] {
            let (result, count, took) = asked(&answers).await;
            let text = result.unwrap_err();
            assert!(
                text.starts_with(&format!("JetStream is not ready (waited 10s): {why}\nhint: ")),
                "{text}"
            );
            assert_eq!((count, took.as_secs()), (answers.len() + 1, 10));
        }
    }
}
