//! What `hookmill status` says of lanes.

use hookmill_tests::engine::LogLine;
use hookmill_tests::{Cable, Endpoint, behaviour, eventually, hookmill};
use serde_json::{Value, json};

use crate::retries::{lane_command, lanes_hold};
use crate::scene::{SOON, Scene, good, retry, webhook};

/// The line of lane `p/<subscription>` in `status --json`.
async fn status_of(scene: &Scene, subscription: &str) -> Result<Value, String> {
    let said = hookmill(&["status", "--json", "--nats", &scene.server.url()]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let lines = said.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut lanes = lines.filter(|line| line["kind"] == "lane" && line["pipeline"] == "p");
    lanes.find(|lane| lane["subscription"] == subscription).ok_or(said.stdout)
}

#[tokio::test]
async fn status_says_of_each_lane_how_it_stands_and_why() {
    let endpoint = Endpoint::start(behaviour::always(503)).await;
    let circuit =
        "[subscription.circuit]\nfailures = 3\nfor = \"100ms\"\nprobe = \"1s\"\nprobe_max = \"1h\"\n";
    let other = webhook("other", &endpoint.url(), "").replace("name", "types = [\"none\"]\nname");
    let pipeline =
        webhook("all", &endpoint.url(), "") + &retry(&["100ms", "100ms", "1h", "1h"], "") + circuit + &other;
    let scene = Scene::start(&pipeline).await;
    let idle = status_of(&scene, "other").await.expect("it is known");
    assert_eq!(
        (&idle["state"], &idle["backlog"], &idle["oldest"]),
        (&json!("active"), &json!(0), &Value::Null)
    );
    scene.publish([good("opens")]).await;
    let opened = |line: &LogLine| line.message().starts_with("circuit opened");
    scene.engine.wait_for_line("the circuit opens", SOON, opened).await;
    scene.publish((0..5).map(|number| good(&number.to_string()))).await;
    // Probed at 1 s, then 2 s and 4 s later: what is shown moves on with each.
    let probe = async |after: Option<&str>| {
        eventually(SOON, "the next probe is shown", || async {
            let lane = status_of(&scene, "all").await?;
            match lane["next_probe"].as_str() {
                Some(at) if after.is_none_or(|after| at > after) && lane["backlog"].as_u64() > Some(0) => {
                    Ok(lane)
                }
                _ => Err(lane.to_string()),
            }
        })
        .await
    };
    let first = probe(None).await;
    let seen = first["next_probe"].as_str().expect("a time").to_owned();
    let later = probe(Some(&seen)).await;
    assert_eq!(
        (&later["state"], &later["last_error"]),
        (&json!("open"), &json!("the endpoint answered 503"))
    );
    assert_eq!(later["why"], "the endpoint answered 503");
    assert!(later["oldest"].is_string() && later["waiting"].as_u64() >= Some(1), "{later}");

    // A pause is never written over by a probe, and shows no probe to come.
    lane_command(&scene, "pause").await;
    let paused = status_of(&scene, "all").await.expect("it is known");
    assert_eq!((&paused["state"], &paused["next_probe"]), (&json!("paused"), &Value::Null));
    endpoint.behave(behaviour::always(200));
    lane_command(&scene, "resume").await;
    endpoint.wait_for_delivered(5, SOON).await;
    eventually(SOON, "the lane is active again", || async {
        let lane = status_of(&scene, "all").await?;
        if lane["state"] == "active" && lane["backlog"] == 0 { Ok(()) } else { Err(lane.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_lane_whose_subscription_is_gone_is_reported_by_the_file_in_force() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let mut scene = Scene::start(&webhook("all", &endpoint.url(), "")).await;
    lane_command(&scene, "pause").await;
    scene.publish((0..3).map(|number| good(&number.to_string()))).await;
    lanes_hold(&scene, 3).await;
    let paused = status_of(&scene, "all").await.expect("it is known");
    assert_eq!((&paused["state"], &paused["backlog"]), (&json!("paused"), &json!(3)));
    scene.engine.terminate().await;
    scene.folder.write("p.toml", webhook("new", &endpoint.url(), ""));
    scene.engine = hookmill_tests::Engine::run(&scene.server).arg(scene.folder.path()).start().await;
    let gone = status_of(&scene, "all").await.expect("something is in it");
    assert_eq!((&gone["state"], &gone["why"]), (&json!("orphaned"), &json!("no file in force has it")));
    assert_eq!(gone["backlog"], 3);
    assert_eq!(status_of(&scene, "new").await.expect("it is known")["state"], "active");
}

/// That it is active says of a lane that nothing stops it, not that somebody works on it.
#[tokio::test]
async fn status_says_no_more_of_engines_and_lanes_than_what_is_noted() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let mut scene = Scene::start(&webhook("all", &endpoint.url(), "")).await;
    let text = async |scene: &Scene| hookmill(&["status", "--nats", &scene.server.url()]).await.stdout;
    let empty = "\n1 lane is empty, and nothing is noted that stops it\n";
    let runs = text(&scene).await;
    assert!(runs.starts_with("PIPELINE") && runs.ends_with(empty), "{runs}");
    scene.engine.terminate().await;
    assert_eq!(text(&scene).await, format!("no engine shows a sign of life\n{empty}"));
    // One that is killed is shown for a while, with the time of its last sign.
    scene.engine = hookmill_tests::Engine::run(&scene.server).arg(scene.folder.path()).start().await;
    scene.engine.kill().await;
    let killed = text(&scene).await;
    assert!(killed.contains("RENEWED") && killed.contains(" s ago"), "{killed}");
}

/// Bytes that `hookmill status` sends to the server about a pipeline with so many subscriptions, each of them paused.
async fn asked(subscriptions: usize) -> u64 {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let name = |number: usize| format!("s{number}");
    let one = |number| webhook(&name(number), &endpoint.url(), "");
    let scene = Scene::start(&(0..subscriptions).map(one).collect::<String>()).await;
    let bucket = scene.jetstream.get_key_value("HOOKMILL_REGISTRY").await.expect("the engine has made it");
    for number in 0..subscriptions {
        let record = json!({ "state": "paused", "why": "by hand", "since": 1 }).to_string();
        bucket.put(format!("lane.p.{}", name(number)), record.into()).await.expect("it is stored");
    }
    let cable = Cable::to(scene.server.address()).await;
    let said = hookmill(&["status", "--json", "--nats", &cable.nats_url()]).await;
    let paused = |line: &&str| line.contains("\"kind\":\"lane\"") && line.contains("\"state\":\"paused\"");
    assert_eq!((said.code, said.stdout.lines().filter(paused).count()), (0, subscriptions), "{said:?}");
    cable.bytes_up()
}

#[tokio::test]
async fn the_questions_to_the_server_dont_grow_with_the_number_of_lanes() {
    let (one, many) = (asked(1).await, asked(300).await);
    assert!(many < one + 5_000, "{many} bytes for 300 lanes, {one} for one");
}
