use std::time::Duration;

use hookmill_tests::{Cable, Endpoint, Engine, behaviour, events};

use crate::mill::{LATER, Mill, delivery_ids, retry, unready};

async fn running(mill: &Mill) -> Engine {
    let engine = mill.engine().start().await;
    mill.publish(1..=20).await;
    mill.delivered(1..=20).await;
    engine
}

#[tokio::test]
async fn a_server_that_is_stopped_and_started_again_is_taken_from_again() {
    let mut mill = Mill::new(behaviour::always(200), "", "").await;
    let mut engine = running(&mill).await;
    mill.server.stop().await;
    unready(&engine, "no connection to NATS").await;
    mill.server.restart().await;
    engine.ready().await;
    mill.jetstream = mill.server.jetstream().await;
    mill.publish(21..=40).await;
    mill.delivered(1..=40).await;
    assert_eq!(
        mill.endpoint.log().repeats(),
        0,
        "what was settled before an orderly stop doesn't come again"
    );
}

#[tokio::test]
async fn a_server_that_is_killed_under_load_loses_nothing() {
    let mut mill = Mill::new(behaviour::slow(Duration::from_millis(20)), "", "").await;
    let mut engine = mill.engine().start().await;
    mill.publish(1..=1000).await;
    let some = |log: &hookmill_tests::endpoint::Log| log.delivered_ids() > 50;
    mill.endpoint.wait_for("some are delivered", LATER, some).await;
    mill.server.kill().await;
    unready(&engine, "no connection to NATS").await;
    mill.server.restart().await;
    engine.ready().await;
    mill.jetstream = mill.server.jetstream().await;
    mill.publish(1001..=1010).await;
    mill.delivered(1..=1010).await;
}

#[tokio::test]
async fn a_cut_connection_is_made_again_once_it_is_healed() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let cable = Cable::to(mill.server.address()).await;
    let mut engine = mill.engine_at(&cable.nats_url()).start().await;
    mill.publish(1..=10).await;
    mill.delivered(1..=10).await;
    cable.cut();
    unready(&engine, "no connection to NATS").await;
    mill.publish(11..=20).await;
    cable.heal();
    engine.ready().await;
    mill.delivered(1..=20).await;
    // Resets without a pause, one of them in the middle of a stream of messages.
    mill.publish(21..=520).await;
    cable.blink();
    mill.publish(521..=1020).await;
    cable.blink();
    mill.delivered(1..=1020).await;
}

#[tokio::test]
async fn a_connection_that_stands_still_is_noticed_by_its_missing_heartbeats() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let cable = Cable::to(mill.server.address()).await;
    let mut engine = mill.engine_at(&cable.nats_url()).start().await;
    cable.stall();
    // Longer than two heartbeats, far shorter than a ping that isn't answered.
    unready(&engine, "pull lost (Silence)").await;
    mill.publish(1..=20).await;
    cable.heal();
    engine.ready().await;
    mill.delivered(1..=20).await;
}

#[tokio::test]
async fn an_idle_durable_that_somebody_deletes_is_made_again_behind_its_floor() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let mut engine = running(&mill).await;
    mill.delete_durable().await;
    let again =
        |line: &hookmill_tests::engine::LogLine| line.message() == "source consumer is gone, making it again";
    engine.wait_for_line("the consumer is made again", LATER, again).await;
    engine.ready().await;
    mill.publish(21..=40).await;
    mill.delivered(1..=40).await;
}

#[tokio::test]
async fn a_durable_that_is_deleted_under_load_with_start_new_loses_nothing() {
    let mut mill = Mill::new(behaviour::always(200), "start = \"new\"", "").await;
    mill.endpoint = Endpoint::start_for_flood(behaviour::slow(Duration::from_millis(5))).await;
    mill.folder.write("orders.toml", crate::mill::orders(&mill.endpoint, "start = \"new\"", ""));
    mill.publish(9001..=9010).await;
    let mut engine = mill.engine().start().await;
    for round in 0..4 {
        let first = round * 1000 + 1;
        mill.publish(first..=first + 499).await;
        mill.delete_durable().await;
        mill.publish(first + 500..=first + 999).await;
        // So that the next round deletes a consumer that is there.
        hookmill_tests::eventually(LATER, "the durable is there again", || mill.durable()).await;
    }
    engine.ready().await;
    mill.delivered(1..=4000).await;
    assert!(mill.endpoint.log().delivered().is_disjoint(&delivery_ids(9001..=9010)));
}

/// A durable that is made again behind a floor from before brings back what was settled since.
#[tokio::test]
async fn what_was_answered_is_not_sent_again_when_its_message_comes_again() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let engine = mill.engine().start().await;
    // Usually one round; the floor may have been kept in the middle of it.
    for round in 1.. {
        assert!(round <= 20, "nothing comes again");
        mill.publish(round * 50 - 49..=round * 50).await;
        mill.delivered(1..=round * 50).await;
        mill.delete_durable().await;
        hookmill_tests::eventually(LATER, "the new durable has nothing left", || async {
            let state = mill.durable().await?;
            let left = (state.num_pending, state.num_ack_pending);
            if left == (0, 0) { Ok(()) } else { Err(format!("{left:?} left")) }
        })
        .await;
        let received = engine.metric("hookmill_events_received_total", &[]).await;
        if received > f64::from(u32::try_from(round * 50).expect("small")) {
            break;
        }
    }
    assert_eq!(mill.endpoint.log().repeats(), 0);
}

#[tokio::test]
async fn a_source_stream_that_is_made_anew_is_taken_from_its_beginning() {
    let mill = Mill::new(behaviour::always(200), "start = \"new\"", "").await;
    let mut engine = running(&mill).await;
    mill.jetstream.delete_stream("HOOKMILL_EVENTS").await.expect("the stream can be deleted");
    unready(&engine, "source stream HOOKMILL_EVENTS does not exist; make it with `hookmill init`").await;
    events::make_source_stream(&mill.jetstream).await;
    // Stored most likely before the engine is there: `start` counts only where nothing is known of an earlier run.
    mill.publish(21..=40).await;
    engine.ready().await;
    mill.delivered(1..=40).await;
}

#[tokio::test]
async fn a_deleted_consumer_of_due_tasks_is_made_again() {
    let mill = Mill::new(behaviour::fail_first(1, 503), "", &retry(3)).await;
    let mut engine = mill.engine().start().await;
    mill.publish(1..=10).await;
    mill.endpoint.wait_for("all have failed once", LATER, |log| log.received() >= 10).await;
    let retries = mill.jetstream.get_stream("HOOKMILL_RETRIES").await.expect("the stream is there");
    retries.delete_consumer("orders").await.expect("the consumer can be deleted");
    mill.delivered(1..=10).await;
    engine.ready().await;
    mill.holds("HOOKMILL_RETRIES", 0).await;
    assert_eq!(mill.endpoint.received(), 20);
}

#[tokio::test]
async fn two_messages_with_one_id_are_both_retried_and_both_delivered() {
    // Both have one webhook-id, so the endpoint counts their attempts together.
    let mill = Mill::new(behaviour::fail_first(4, 500), "", &retry(4)).await;
    let _engine = mill.engine().start().await;
    events::publish_all(&mill.jetstream, [events::structured(1), events::structured(1)]).await;
    mill.endpoint.wait_for("six attempts", LATER, |log| log.received() >= 6).await;
    mill.holds("HOOKMILL_RETRIES", 0).await;
    let requests = mill.endpoint.requests();
    let answered: Vec<_> = requests.iter().map(|request| request.answered).collect();
    assert_eq!(answered, [[Some(500); 4].as_slice(), &[Some(200); 2]].concat());
    assert_eq!(mill.endpoint.distinct_ids(), 1);
    assert_eq!(mill.stream_state("HOOKMILL_DLQ").await.expect("is there").messages, 0);
}
