//! Secrets, URLs and header values that can't be read, are nonsense, or come back: what the operator mends is no event's fault.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use hookmill_tests::engine::{LogLine, Said, built_program};
use hookmill_tests::{
    Endpoint, Engine, EngineOptions, NatsServer, PipelineFolder, behaviour, eventually, hookmill,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::retries::lane_command;
use crate::scene::{SOON, Scene, good, messages_in, retry, webhook};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB";
/// What must never be shown of a value, wherever it stands: it and parts of it.
const MARK: &str = "qX7JvWkPzL";

const SIGNED: &str = "sign = [{ file = \"hook.secret\" }]";

/// What the engine's gauge says of a misconfigured lane.
const MISCONFIGURED: f64 = 6.0;

async fn lane(scene: &Scene, subscription: &str) -> Result<Value, String> {
    let said = hookmill(&["status", "--json", "--nats", &scene.server.url()]).await;
    let lines = said.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut lanes = lines.filter(|line| line["kind"] == "lane" && line["subscription"] == subscription);
    lanes.find(|lane| lane["pipeline"] == "p").ok_or(said.stdout)
}

/// Waits until `status` shows the lane in this state.
async fn lane_is(scene: &Scene, subscription: &str, state: &str) -> Value {
    eventually(SOON, &format!("{subscription} is {state}"), || async {
        let lane = lane(scene, subscription).await?;
        if lane["state"] == state { Ok(lane) } else { Err(lane.to_string()) }
    })
    .await
}

async fn holds(scene: &Scene, subscription: &str, backlog: u64) -> Value {
    eventually(SOON, &format!("{subscription} holds {backlog}"), || async {
        let lane = lane(scene, subscription).await?;
        if lane["backlog"] == backlog { Ok(lane) } else { Err(lane.to_string()) }
    })
    .await
}

async fn nothing_died(scene: &Scene) {
    assert_eq!(messages_in(&scene.jetstream, "HOOKMILL_DLQ").await, 0, "dead letters");
}

fn many(name: &str, count: usize) -> impl Iterator<Item = hookmill_tests::events::Message> {
    let name = name.to_owned();
    (0..count).map(move |number| good(&format!("{name}-{number}")))
}

/// An engine whose last good values serve for so many milliseconds.
fn serving_on(server: &NatsServer, millis: u32) -> EngineOptions {
    Engine::run(server).env("HOOKMILL_TEST_LAST_GOOD_MS", &millis.to_string())
}

/// An engine that is started behind this command of a shell.
fn limited(server: &NatsServer, command: &str) -> EngineOptions {
    let (program, script) = (built_program(), format!("{command}; exec \"$0\" \"$@\""));
    let program = program.to_str().expect("a path of text");
    let run = ["-c", &script, program, "run", "--nats", &server.url(), "--listen", "127.0.0.1:0"];
    Engine::command(&run).arg("--egress-allow=127.0.0.0/8").program("/bin/sh")
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_as_far_as_it_may_be() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let folder = PipelineFolder::with("p", &webhook("all", &endpoint.url(), ""));
    let server = NatsServer::start().await;
    let options = limited(&server, "ulimit -S -n 128; ulimit -H -n 300");
    let scene = Scene::open_with(server, folder, options).await;
    let raised = |line: &LogLine| line.field("limit") == Some(&json!(300));
    scene.engine.wait_for_line("the limit is raised", SOON, raised).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", scene.engine.process_id()));
    // Where the system has no such file, the log alone says it.
    let limits = limits.unwrap_or_else(|_| "Max open files 300 300 files".to_owned());
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of files");
    assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["300", "300"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_few_open_files_an_endpoint_that_hangs_takes_nothing_from_one_that_is_healthy() {
    let hanging = Endpoint::start(behaviour::hang()).await;
    let healthy = Endpoint::start(behaviour::slow(Duration::from_millis(20))).await;
    let pipeline = [
        webhook("hangs", &hanging.url(), "concurrency = 200\ntimeout = \"5m\""),
        webhook("healthy", &healthy.url(), &format!("concurrency = 32\n{SIGNED}")),
    ]
    .concat();
    let folder = PipelineFolder::with("p", &pipeline);
    folder.write("hook.secret", format!("{OLD}\n"));
    let server = NatsServer::start().await;
    let options = limited(&server, "ulimit -n 128");
    let scene = Scene::open_with(server, folder, options).await;
    let shared = |line: &LogLine| line.field("limit") == Some(&json!(128));
    let line = scene.engine.wait_for_line("how many connections there may be", SOON, shared).await;
    assert_eq!((line.field("deliveries"), line.field("served")), (Some(&json!(64)), Some(&json!(16))));
    scene.publish(many("first", 200)).await;
    hanging.wait_for("it holds what it may have", SOON, |log| log.received() >= 16).await;
    // For long enough that the secret is read again and again meanwhile.
    let began = std::time::Instant::now();
    let mut published = 200;
    while published < 400 || began.elapsed() < Duration::from_secs(4) {
        scene.publish(many(&format!("more-{published}"), 20)).await;
        published += 20;
        healthy.wait_for_delivered(published, SOON).await;
    }
    assert!(healthy.requests().iter().all(|request| request.verify(OLD).is_ok()));
    assert_eq!(healthy.received(), published, "each of them once");
    let rests = |line: &LogLine| line.message() == "tasks rest in the lane for a moment";
    scene.engine.wait_for_line("what finds no room rests", SOON, rests).await;
    nothing_died(&scene).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", scene.engine.process_id()));
    let open = open.map_or(0, Iterator::count);
    assert!(open < 120, "{open} open files");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_is_gone_for_a_while_costs_no_event_anything() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let folder = PipelineFolder::with("p", &webhook("all", &endpoint.url(), SIGNED));
    let secret = folder.write("hook.secret", format!(" {OLD} \r\n"));
    let server = NatsServer::start().await;
    let options = serving_on(&server, 4_000);
    let scene = Scene::open_with(server, folder, options).await;
    scene.publish(many("before", 20)).await;
    endpoint.wait_for_delivered(20, SOON).await;

    // The last good value serves on, and that is said.
    std::fs::remove_file(&secret).expect("it is there");
    let serves_on = |line: &LogLine| line.message().contains("the last good one serves on");
    let mut published = 20;
    while !scene.engine.lines().iter().any(serves_on) {
        scene.publish(many(&format!("while-{published}"), 20)).await;
        published += 20;
        endpoint.wait_for_delivered(published, SOON).await;
    }
    assert!(endpoint.requests().iter().all(|request| request.verify(OLD).is_ok()));

    // Then the lane rests, as status, gauge and trace say.
    let resting = lane_is(&scene, "all", "misconfigured").await;
    let why = resting["why"].as_str().expect("a text");
    let expected = format!("sign: file {} can't be read: entity not found", secret.display());
    assert!(why.starts_with(&expected) && why.contains("goes on by itself"), "{why}");
    scene.publish(many("after", 20)).await;
    holds(&scene, "all", 20).await;
    eventually(SOON, "the gauge says so", || async {
        let state = scene.engine.metric("hookmill_lane_state", &["subscription=\"all\""]).await;
        if (state - MISCONFIGURED).abs() < 0.5 { Ok(()) } else { Err(state.to_string()) }
    })
    .await;
    let traced = hookmill(&["trace", "after-0", "--json", "--nats", &scene.server.url()]).await;
    let place = traced.stdout.lines().find(|line| line.contains("\"lane\"")).expect("it lies in the lane");
    let place: Value = serde_json::from_str(place).expect("JSON");
    assert_eq!(place["attempts"], 0, "{place}");

    // Resuming doesn't hide it, and a pause is not written over.
    lane_command(&scene, "resume").await;
    lane_is(&scene, "all", "misconfigured").await;
    lane_command(&scene, "pause").await;
    std::fs::write(&secret, "no base64!").expect("it can be written");
    let nonsense = |line: &LogLine| line.text.contains("the signing secret has no whsec_ prefix");
    scene.engine.wait_for_line("other words for it", SOON, nonsense).await;
    assert_eq!(lane(&scene, "all").await.expect("it is known")["state"], "paused");
    lane_command(&scene, "resume").await;
    lane_is(&scene, "all", "misconfigured").await;
    assert_eq!(endpoint.received(), published, "nothing was attempted meanwhile");

    scene.folder.write("hook.secret", NEW);
    endpoint.wait_for_delivered(published + 20, SOON).await;
    assert!(endpoint.requests()[published..].iter().all(|request| request.verify(NEW).is_ok()));
    lane_is(&scene, "all", "active").await;
    nothing_died(&scene).await;
    assert_eq!(endpoint.received(), published + 20);
}

/// Subscriptions of which each lacks something else.
fn lacking(url: &str) -> String {
    let header = "headers = { authorization = { env = \"BROKEN_HEADER\", prefix = \"Bearer \" } }";
    let with_url = |name: &str, url: &str| {
        format!("[[subscription]]\nname = \"{name}\"\n[subscription.deliver]\nurl = {url}\n")
    };
    [
        webhook("healthy", url, SIGNED),
        webhook("no-secret", url, "sign = [{ env = \"NOT_SET\" }]"),
        webhook("no-base64", url, "sign = [{ env = \"NO_BASE64\" }]"),
        webhook("url-safe", url, "sign = [{ env = \"URL_SAFE\" }]"),
        webhook("no-prefix", url, "sign = [{ env = \"NO_PREFIX\" }]"),
        webhook("short", url, "sign = [{ env = \"SHORT\" }]"),
        webhook("empty", url, "sign = [{ env = \"EMPTY\", prefix = \"whsec_\" }]"),
        webhook("no-file", url, "sign = [{ file = \"none.secret\" }]"),
        webhook("broken-header", url, header),
        with_url("no-url", "{ env = \"NOT_SET\" }"),
        with_url("other-url", "{ env = \"OTHER_URL\" }"),
    ]
    .concat()
}

/// What each of them says.
const LACKS: [(&str, &str); 10] = [
    (
        "no-secret",
        "sign: environment variable NOT_SET is not set; an engine sees another value once it is started again",
    ),
    ("no-base64", "sign (environment variable NO_BASE64): the signing secret is not base64"),
    ("url-safe", "sign (environment variable URL_SAFE): the signing secret is base64 for URLs"),
    (
        "no-prefix",
        "sign (environment variable NO_PREFIX): the signing secret has no whsec_ prefix and is not base64",
    ),
    ("short", "sign (environment variable SHORT): the signing secret holds 9 bytes"),
    ("empty", "sign: environment variable EMPTY is empty"),
    ("no-file", "/none.secret can't be read: entity not found; once the file is mended it goes on by itself"),
    (
        "broken-header",
        "headers.authorization (environment variable BROKEN_HEADER): the value has a character",
    ),
    ("no-url", "url: environment variable NOT_SET is not set"),
    ("other-url", "url (environment variable OTHER_URL): its scheme is neither https nor http"),
];

/// The environment of an engine that lacks them, by name and value.
const LACKING: [(&str, &str); 7] = [
    ("NO_BASE64", "whsec_qX7JvWkPzL!"),
    ("URL_SAFE", "whsec_qX7JvWkPzL-qX7JvWkPzL_qX7JvWkPzL-qX7"),
    ("NO_PREFIX", "qX7JvWkPzL!"),
    ("SHORT", "whsec_qX7JvWkPzLqX"),
    ("EMPTY", " "),
    ("BROKEN_HEADER", "qX7JvWkPzL\nx-evil: 1"),
    ("OTHER_URL", "qX7JvWkPzL:qX7JvWkPzL"),
];

/// Whether a text has a part of a value in it: four characters of the mark, which nothing else has.
fn shows_a_part(text: &str) -> bool {
    let (text, mark) = (text.to_lowercase(), MARK.to_lowercase());
    (0..=mark.len() - 4).any(|at| text.contains(&mark[at..at + 4])) || text.contains("x-evil")
}

#[tokio::test]
async fn what_lacks_a_value_at_start_rests_and_says_so_and_the_others_run() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let folder = PipelineFolder::with("p", &lacking(&endpoint.url()));
    folder.write("hook.secret", OLD);
    let server = NatsServer::start().await;
    let options =
        LACKING.iter().fold(Engine::run(&server), |options, (name, value)| options.env(name, value));
    let mut scene = Scene::open_with(server, folder, options).await;
    for (subscription, says) in LACKS {
        let said = |line: &LogLine| {
            line.message().starts_with("lane misconfigured")
                && line.field("subscription") == Some(&json!(subscription))
        };
        let line = scene.engine.wait_for_line(subscription, SOON, said).await;
        let why = line.field("why").and_then(Value::as_str).unwrap_or_default();
        assert!(why.contains(says), "{subscription}: {why}");
    }
    scene.publish([good("one"), good("two")]).await;
    endpoint.wait_for_delivered(2, SOON).await;
    for (subscription, says) in LACKS {
        let lane = holds(&scene, subscription, 2).await;
        let why = lane["why"].as_str().unwrap_or_default();
        assert!(lane["state"] == "misconfigured" && why.contains(says), "{lane}");
    }
    assert_eq!((endpoint.received(), messages_in(&scene.jetstream, "HOOKMILL_RETRIES").await), (2, 0));
    nothing_died(&scene).await;
    let url = scene.server.url();
    for arguments in [&["status"][..], &["lane", "list"], &["trace", "one"], &["dlq", "list"]] {
        let Said { stdout, stderr, .. } = hookmill(&[arguments, &["--nats", &url]].concat()).await;
        assert!(!shows_a_part(&stdout) && !shows_a_part(&stderr), "{arguments:?}: {stdout}{stderr}");
    }
    assert!(!shows_a_part(&scene.engine.metrics().await));
    let (_, lanes) = hookmill_tests::http::get(&scene.engine.url("/v1/lanes")).await.expect("it answers");
    assert!(lanes.contains("misconfigured") && !shows_a_part(&lanes), "{lanes}");
    let lines = scene.engine.lines();
    let shown: Vec<&LogLine> = lines.iter().filter(|line| shows_a_part(&line.text)).collect();
    assert!(shown.is_empty(), "{shown:#?}");

    // With all of it set, what waited goes out.
    scene.engine.terminate().await;
    let good_values =
        [("NOT_SET", OLD), ("NO_BASE64", OLD), ("URL_SAFE", OLD), ("NO_PREFIX", OLD), ("SHORT", OLD)];
    let more = [("EMPTY", &OLD[6..]), ("BROKEN_HEADER", "token\n"), ("OTHER_URL", &endpoint.url())];
    scene.folder.write("none.secret", OLD);
    scene.folder.write(
        "p.toml",
        lacking(&endpoint.url()).replace("url = { env = \"NOT_SET\" }", "url = { env = \"OTHER_URL\" }"),
    );
    let options = Engine::run(&scene.server).arg(scene.folder.path());
    let all = good_values.iter().chain(&more);
    scene.engine = all.fold(options, |options, (name, value)| options.env(name, value)).start().await;
    endpoint.wait_for_delivered(2 + 2 * LACKS.len(), SOON).await;
    for (subscription, _) in LACKS {
        lane_is(&scene, subscription, "active").await;
    }
    nothing_died(&scene).await;
}

async fn check(folder: &Path, arguments: &[&str]) -> Said {
    let mut command = hookmill_tests::process::bound_command(built_program());
    command.arg("check").arg(folder).args(arguments).envs(LACKING);
    hookmill_tests::engine::run_to_end("hookmill check", command).await
}

#[tokio::test]
async fn check_warns_of_what_is_not_there_and_takes_it_for_an_error_when_told() {
    let folder = PipelineFolder::with("p", &lacking("https://example.com/"));
    folder.write("hook.secret", OLD);
    let warned = check(folder.path(), &[]).await;
    assert_eq!(
        (warned.code, &*warned.stdout),
        (0, "1 pipeline, 11 subscriptions: no problems, 10 warnings\n"),
        "{warned:?}"
    );
    let refused = check(folder.path(), &["--references"]).await;
    assert_eq!((refused.code, &*refused.stdout), (2, ""), "{refused:?}");
    assert!(refused.stderr.ends_with("10 problems in 1 file\n"), "{refused:?}");
    for (_, says) in LACKS {
        assert!(warned.stderr.contains(says) && refused.stderr.contains(says), "{says}: {warned:?}");
    }
    assert_eq!(warned.stderr.matches("warning[E060]: ").count(), 10, "{warned:?}");
    assert_eq!(refused.stderr.matches("error[E060]: ").count(), 10, "{refused:?}");
    let json = check(folder.path(), &["--json"]).await;
    let lines: Vec<Value> =
        json.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let places: HashSet<(u64, &str)> = lines
        .iter()
        .map(|line| (line["line"].as_u64().unwrap_or(0), line["severity"].as_str().unwrap_or_default()))
        .collect();
    assert_eq!((places.len(), lines.len()), (10, 10), "each at its own line: {json:?}");
    assert!(places.iter().all(|(line, severity)| *line > 1 && *severity == "warning"), "{json:?}");
    for said in [&warned, &refused, &json] {
        assert!(!shows_a_part(&said.stdout) && !shows_a_part(&said.stderr), "{said:?}");
    }
}

#[tokio::test]
async fn each_engine_judges_by_its_own_files() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let pipeline = webhook("all", &endpoint.url(), "sign = [{ env = \"HOOK_SECRET\" }]");
    let scene = Scene::start(&pipeline).await;
    lane_is(&scene, "all", "misconfigured").await;
    scene.publish(many("first", 10)).await;
    holds(&scene, "all", 10).await;
    let able = Engine::run(&scene.server).arg(scene.folder.path()).env("HOOK_SECRET", OLD).start().await;
    endpoint.wait_for_delivered(10, SOON).await;
    scene.publish(many("second", 10)).await;
    endpoint.wait_for_delivered(20, SOON).await;
    assert_eq!(lane(&scene, "all").await.expect("it is known")["state"], "misconfigured", "by the other one");
    // Once the engine that lacks it is gone, its word is.
    scene.engine.terminate().await;
    lane_is(&scene, "all", "active").await;
    assert!(able.is_running());
    nothing_died(&scene).await;
}

#[tokio::test]
async fn files_that_are_loaded_again_are_resolved_anew_and_the_last_good_values_go_on() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let one = webhook("all", &endpoint.url(), SIGNED);
    let folder = PipelineFolder::with("p", &one);
    let secret = folder.write("hook.secret", OLD);
    let server = NatsServer::start().await;
    let options = serving_on(&server, 600_000);
    let scene = Scene::open_with(server, folder, options).await;
    scene.publish([good("one")]).await;
    endpoint.wait_for_delivered(1, SOON).await;
    std::fs::remove_file(&secret).expect("it is there");
    let more = webhook("more", &endpoint.url(), "sign = [{ file = \"more.secret\" }]");
    scene.folder.write("p.toml", one + &more);
    scene.engine.signal(Signal::SIGHUP);
    let said = |line: &LogLine| {
        line.message().starts_with("lane misconfigured") && line.field("subscription") == Some(&json!("more"))
    };
    scene.engine.wait_for_line("the new one lacks its secret", SOON, said).await;
    scene.publish([good("two")]).await;
    endpoint.wait_for_delivered(2, SOON).await;
    assert_eq!(endpoint.requests()[1].verify(OLD), Ok(()));
    holds(&scene, "more", 1).await;
    scene.folder.write("more.secret", NEW);
    endpoint.wait_for_delivered(3, SOON).await;
    assert_eq!(endpoint.requests()[2].verify(NEW), Ok(()));
    nothing_died(&scene).await;
}

#[tokio::test]
async fn what_waits_for_its_next_attempt_rests_with_the_attempts_that_it_has_had() {
    let endpoint = Endpoint::start(behaviour::always(503)).await;
    let deliver = webhook("all", &endpoint.url(), SIGNED) + &retry(&["3s"], "");
    let folder = PipelineFolder::with("p", &deliver);
    let secret = folder.write("hook.secret", OLD);
    let server = NatsServer::start().await;
    let options = serving_on(&server, 0);
    let scene = Scene::open_with(server, folder, options).await;
    scene.publish([good("one")]).await;
    endpoint.wait_for("the first attempt", SOON, |log| log.received() == 1).await;
    std::fs::remove_file(&secret).expect("it is there");
    lane_is(&scene, "all", "misconfigured").await;
    let held = holds(&scene, "all", 1).await;
    assert_eq!(held["waiting"], 0, "{held}");
    endpoint.behave(behaviour::always(200));
    scene.folder.write("hook.secret", OLD);
    endpoint.wait_for_delivered(1, SOON).await;
    assert_eq!(endpoint.received(), 2, "its second attempt is the last of its schedule");
    nothing_died(&scene).await;
}
