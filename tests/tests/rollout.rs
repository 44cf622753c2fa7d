//! Two engines with different files of one pipeline, side by side.

use std::time::Duration;

use hookmill_tests::behaviour::always;
use hookmill_tests::endpoint::Endpoint;
use hookmill_tests::engine::Engine;
use hookmill_tests::events::{make_source_stream, publish_all, publish_each, structured};
use hookmill_tests::eventually::eventually;
use hookmill_tests::folder::PipelineFolder;
use hookmill_tests::http;
use hookmill_tests::nats_server::NatsServer;

use crate::mill::delivery_ids_of;

const DEADLINE: Duration = Duration::from_secs(30);

fn subscription(name: &str, endpoint: &Endpoint) -> String {
    let url = endpoint.url();
    format!(
        "[[subscription]]\nname = \"{name}\"\n[subscription.deliver]\nurl = \"{url}\"\nallow = [\"127.0.0.0/8\"]\n"
    )
}

async fn readiness(engine: &Engine) -> (u16, String) {
    http::get(&engine.url("/readyz")).await.unwrap_or((0, String::new()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_a_roll_out_reaches_the_subscription_that_only_the_new_file_has() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    make_source_stream(&jetstream).await;
    let (kept, added) = (Endpoint::start(always(200)).await, Endpoint::start(always(200)).await);
    let old_file = PipelineFolder::with("orders", &subscription("kept", &kept));
    let both = subscription("kept", &kept) + &subscription("added", &added);
    let new_file = PipelineFolder::with("orders", &both);

    let old = Engine::run(&server).arg(old_file.path()).start().await;
    publish_all(&jetstream, (0..50).map(structured)).await;
    kept.wait_for_delivered(50, DEADLINE).await;

    let new = Engine::run(&server).arg(new_file.path()).start().await;
    eventually(DEADLINE, "the engine with the old file says that another is in force", async || {
        let (status, text) = readiness(&old).await;
        if status == 503 && text.contains("revision") { Ok(()) } else { Err(format!("{status}: {text}")) }
    })
    .await;
    publish_all(&jetstream, (50..250).map(structured)).await;
    kept.wait_for_delivered(250, DEADLINE).await;
    added.wait_for_delivered(200, DEADLINE).await;

    // The new engine goes for good: the old one takes over, with its own file.
    assert_eq!(new.terminate().await, 0);
    eventually(DEADLINE, "the engine with the old file takes over", async || {
        let (status, text) = readiness(&old).await;
        if status == 200 { Ok(()) } else { Err(format!("{status}: {text}")) }
    })
    .await;
    publish_all(&jetstream, (250..300).map(structured)).await;
    kept.wait_for_delivered(300, DEADLINE).await;
    assert_eq!(old.terminate().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_engine_with_the_new_file_is_ready_nothing_goes_by_the_old_one_however_busy_that_is() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    make_source_stream(&jetstream).await;
    let (kept, added) = (Endpoint::start(always(200)).await, Endpoint::start(always(200)).await);
    let narrow = "[source]\nsubjects = [\"events.com.>\"]\n".to_owned() + &subscription("kept", &kept);
    let old_file = PipelineFolder::with("orders", &narrow);
    // The new file takes more subjects, by the same durable.
    let wide = "[source]\nsubjects = [\"events.com.>\", \"events.org.>\"]\n".to_owned();
    let both = wide + &subscription("kept", &kept) + &subscription("added", &added);
    let new_file = PipelineFolder::with("orders", &both);
    let old = Engine::run(&server).arg(old_file.path()).start().await;

    let (stop, told) = tokio::sync::watch::channel(false);
    let busy = jetstream.clone();
    let mut publisher = tokio::task::JoinSet::new();
    publisher.spawn(async move {
        let (mut published, mut pace) = (0, tokio::time::interval(Duration::from_millis(25)));
        while !*told.borrow() {
            pace.tick().await;
            let elsewhere = |number| structured(number).on("events.org.shop");
            let orders = (published..published + 40).map(structured);
            let orders = orders.chain((published + 40..published + 50).map(elsewhere)).collect();
            publish_each(busy.clone(), orders).await;
            published += 50;
        }
        published
    });
    kept.wait_for_delivered(200, DEADLINE).await;
    let new = Engine::run(&server).arg(new_file.path()).start().await;
    // From here on. What is on other subjects was waiting for a file that takes it from the beginning.
    publish_all(&jetstream, (1_000_000..1_000_500).map(structured)).await;
    stop.send(true).expect("the publisher listens");
    let published =
        publisher.join_next().await.expect("it was started").expect("every publish is acknowledged");

    let marked = delivery_ids_of("orders", "added", 1_000_000..1_000_500);
    added
        .wait_for("all that came once it was ready", DEADLINE, |log| marked.is_subset(log.delivered()))
        .await;
    let before = (0..published).filter(|number| number % 50 < 40);
    let all = delivery_ids_of("orders", "kept", before.chain(1_000_000..1_000_500));
    kept.wait_for("all of it, by either file", DEADLINE, |log| all.is_subset(log.delivered())).await;
    assert_eq!(old.terminate().await, 0);
    assert_eq!(new.terminate().await, 0);
}

/// The same pipeline file, and another schema beside it.
#[tokio::test(flavor = "multi_thread")]
async fn engines_whose_schemas_differ_have_different_files() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    make_source_stream(&jetstream).await;
    let endpoint = Endpoint::start(always(200)).await;
    let text = "[[validate.schema]]\ntypes = [\"*\"]\nfile = \"order.schema.json\"\n".to_owned()
        + &subscription("kept", &endpoint);
    let folder = |schema: &str| {
        let folder = PipelineFolder::with("orders", &text);
        folder.write("order.schema.json", schema);
        folder
    };
    let (lenient, strict) = (folder("true"), folder(r#"{ "required": ["what no order has"] }"#));
    let old = Engine::run(&server).arg(lenient.path()).start().await;
    publish_all(&jetstream, (0..20).map(structured)).await;
    endpoint.wait_for_delivered(20, DEADLINE).await;

    let _new = Engine::run(&server).arg(strict.path()).start().await;
    eventually(DEADLINE, "the engine with the old schema says that another is in force", async || {
        let (status, text) = readiness(&old).await;
        if status == 503 && text.contains("revision") { Ok(()) } else { Err(format!("{status}: {text}")) }
    })
    .await;
    publish_all(&jetstream, (20..60).map(structured)).await;
    eventually(DEADLINE, "all that came since is judged by the new schema", async || {
        let dead = hookmill_tests::judge::messages(&jetstream, "HOOKMILL_DLQ").await?;
        if dead == 40 { Ok(()) } else { Err(format!("{dead} dead letters")) }
    })
    .await;
    assert_eq!(endpoint.log().delivered_ids(), 20);
}
