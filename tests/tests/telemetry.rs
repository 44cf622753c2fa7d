//! What metrics say, where no other test looks at them in passing.

use std::time::Duration;

use hookmill::model::Timestamp;
use hookmill_tests::events::structured_message;
use hookmill_tests::{Engine, behaviour, events, eventually};

use crate::mill::{LATER, Mill, retry};

/// How many events were delivered, and the sum of their ages in seconds.
async fn ages(engine: &Engine, count: f64) -> f64 {
    eventually(LATER, &format!("{count} events are counted"), || async {
        let found = engine.metric("hookmill_event_age_seconds_count", &[]).await;
        if (found - count).abs() < 0.5 { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    engine.metric("hookmill_event_age_seconds_sum", &[]).await
}

#[tokio::test]
async fn an_event_is_as_old_as_its_own_time_says_unless_that_is_yet_to_come() {
    const HOUR: Duration = Duration::from_hours(1);
    // Each is delivered at its second attempt, from storage.
    let mill = Mill::new(behaviour::fail_first(1, 503), "", &retry(2)).await;
    let engine = mill.engine().start().await;
    let now = Timestamp::now();
    let mut sum = 0.0;
    for (number, (time, expected)) in
        [(Some(now.minus(HOUR)), 3600.0), (Some(now.plus(HOUR)), 0.0), (None, 0.0)].into_iter().enumerate()
    {
        let time = time.map(|time| format!(",\"time\":\"{time}\"")).unwrap_or_default();
        let event = format!(r#"{{"specversion":"1.0","id":"{number}","source":"/s","type":"t"{time}}}"#);
        events::publish_all(&mill.jetstream, [structured_message(event)]).await;
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let seen = ages(&engine, (number + 1) as f64).await;
        let age = seen - sum;
        assert!((expected..expected + 120.0).contains(&age), "event {number} is {age} s old");
        sum = seen;
    }
}
