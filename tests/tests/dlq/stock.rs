//! Many tasks at once, stored as an engine would have stored them.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use async_nats::HeaderMap;
use hookmill::model::event::Mends;
use hookmill::model::task::LastFault;
use hookmill::model::{
    DeliveryId, EventRef, Finished, Name, Reason, SourceRef, SplitPath, Task, TaskKey, Timestamp, Work,
};
use hookmill::nats::tasks::{self, Death, Encoded};
use hookmill_tests::events::{self, Message};

use crate::mill::Mill;

/// The task of order `number` for `pipeline`/`subscription`, finished and failed once.
fn task(pipeline: &str, subscription: &str, number: usize) -> Task {
    let name = |text| Name::new(text).expect("a name");
    let time = Timestamp::from_unix_seconds(1_795_000_000);
    let source = SourceRef { stream: "HOOKMILL_EVENTS".into(), sequence: number as u64, time };
    let (id, path) = (events::order_id(number), SplitPath::root());
    Task {
        key: TaskKey::derive(&source, &name(pipeline), subscription, &path),
        delivery_id: DeliveryId::derive(events::ORDER_SOURCE, &id, &name(pipeline), subscription, &path),
        pipeline: name(pipeline),
        subscription: Some(name(subscription)),
        work: Work::Deliver(
            Finished {
                content_type: Some("application/cloudevents+json".into()),
                headers: Vec::new(),
                body: events::order_json(number).into(),
            }
            .into(),
        ),
        source,
        event: EventRef {
            id,
            source: events::ORDER_SOURCE.into(),
            ty: events::ORDER_TYPE.into(),
            time: None,
            unverified: false,
        }
        .into(),
        path,
        steps: "e3b0c44298fc1c14".into(),
        subject: None,
        mends: Mends::default(),
        generation: 0,
        stores: 0,
        attempt: 1,
        first_attempt: Some(time),
        left: None,
        http: Vec::new(),
        modules: Vec::new(),
        traceparent: None,
        hops: 0,
        last: Some(LastFault { error: "the endpoint answered 503".into(), status: Some(503) }),
        fits: None,
    }
}

fn message(subject: String, (headers, payload): Encoded) -> Message {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(&*name, &*value);
    }
    Message { subject, headers: map, payload }
}

/// Puts dead letters of these orders into the stream, as `exhausted`.
pub async fn put_letters(mill: &Mill, numbers: RangeInclusive<usize>) {
    let death = Death { reason: Reason::Exhausted, error: "given up".into(), status: Some(503) };
    let letter = |number| {
        let encoded = tasks::encode_dead_letter(&task("orders", "hook", number), &death);
        message("hookmill.dlq.orders.hook.exhausted".to_owned(), encoded)
    };
    events::publish_all(&mill.jetstream, numbers.map(letter)).await;
}

/// Puts tasks of these orders for `old/hook` on `subject`: a lane's, or that of what is due.
pub async fn put_tasks(mill: &Mill, subject: &str, numbers: RangeInclusive<usize>) {
    let stored = |number| message(subject.to_owned(), tasks::encode(&task("old", "hook", number)));
    events::publish_all(&mill.jetstream, numbers.map(stored)).await;
}

/// Puts waits of these orders for `old/hook`, each of them due in an hour.
pub async fn put_waits(mill: &Mill, numbers: RangeInclusive<usize>) {
    let due = Timestamp::now().plus(std::time::Duration::from_hours(1));
    let wait = |number| {
        let task = task("old", "hook", number);
        let subject = format!("hookmill.wait.old.hook.{}", task.key);
        let wait = message(subject, tasks::encode(&task)).header("Nats-Schedule", &format!("@at {due}"));
        wait.header("Nats-Schedule-Target", "hookmill.due.old.hook")
    };
    events::publish_all(&mill.jetstream, numbers.map(wait)).await;
}

/// The ids of the deliveries of these orders to `old/hook`.
pub fn old_ids(numbers: RangeInclusive<usize>) -> HashSet<String> {
    numbers.map(|number| task("old", "hook", number).delivery_id.to_string()).collect()
}
