//! References to the registry in pipeline files: what `check` and the start say of those that can't be used.

use bytes::Bytes;
use hookmill::model::Digest;
use hookmill_tests::stamp::{Stamp, stamp};
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, hookmill};
use serde_json::Value;

use super::support::{name, open, pipeline, put, runs, stamped, version};
use crate::scene::{SOON, Scene};

const WRONG: &str = r#"
[[subscription]]
name = "shop"
[subscription.deliver]
url = "https://example.com/hooks"
[[subscription.step]]
transform = "stamp@2"
[[subscription.step]]
transform = "stmp@1"
[[subscription.step]]
transform = "stamp@1"
"#;

/// Code, line and message of each problem.
fn problems(stdout: &str) -> Vec<(String, u64, String)> {
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    lines
        .map(|line| (text(&line["code"]), line["line"].as_u64().expect("a line"), text(&line["message"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_at_each_line_what_the_registry_does_not_have() {
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    put(&modules, "stamp", "1.0.0", stamp("one")).await;
    let folder = PipelineFolder::with("p", WRONG);
    let path = folder.path().display().to_string();
    let said = hookmill(&["check", &path, "--json", "--nats", &server.url()]).await;
    assert_eq!(said.code, 2, "{said:?}");
    let found = problems(&said.stdout);
    assert_eq!(
        found,
        [
            (
                "E056".to_owned(),
                7,
                "step.transform can't be used: no version of module stamp fits stamp@2; there is 1.0.0"
                    .to_owned()
            ),
            (
                "E056".to_owned(),
                9,
                "step.transform can't be used: there is no module stmp in the registry; did you mean stamp?"
                    .to_owned()
            ),
        ]
    );
    // The start says the same, and starts nothing.
    let said = hookmill(&["run", &path, "--nats", &server.url()]).await;
    assert_eq!((said.code, said.stderr.matches("error[E056]").count()), (2, 2), "{said:?}");

    let folder =
        PipelineFolder::with("p", &WRONG.replace("stamp@2", "stamp@1.0").replace("stmp@1", "stamp@1.0.0"));
    let path = folder.path().display().to_string();
    let said = hookmill(&["check", &path, "--nats", &server.url()]).await;
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (0, "1 pipeline, 1 subscription: no problems\n"),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_makes_nothing_on_the_server() {
    let server = NatsServer::start().await;
    let folder = PipelineFolder::with("p", WRONG);
    let path = folder.path().display().to_string();
    let said = hookmill(&["check", &path, "--nats", &server.url()]).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("there is no module stamp in the registry, which is empty"), "{said:?}");
    let status = hookmill(&["status", "--nats", &server.url()]).await;
    assert_eq!((status.code, status.stdout.as_str()), (0, "no engine shows a sign of life\n"), "{status:?}");
    let streams = server.jetstream().await.query_account().await.expect("it answers").streams;
    assert_eq!(streams, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_files_are_checked_and_references_are_a_problem() {
    let mut server = NatsServer::start().await;
    let url = server.url();
    server.kill().await;
    let folder = PipelineFolder::with("p", WRONG);
    let path = folder.path().display().to_string();
    let said = hookmill(&["check", &path, "--json", "--nats", &url]).await;
    assert_eq!(said.code, 2, "{said:?}");
    let found = problems(&said.stdout);
    assert_eq!(
        found.iter().map(|(code, line, _)| (code.as_str(), *line)).collect::<Vec<_>>(),
        [("E055", 7), ("E055", 9), ("E055", 11)]
    );
    let begin = format!(
        "step.transform can't be used: the registry of modules can't be asked: no NATS server answers at {url}"
    );
    assert!(found[0].2.starts_with(&begin), "{found:?}");

    let file =
        WRONG.replace("stamp@2", "./s.wasm").replace("stmp@1", "./s.wasm").replace("stamp@1", "./s.wasm");
    folder.write("p.toml", file);
    folder.write("s.wasm", stamp("one"));
    let said = hookmill(&["check", &path, "--nats", &url]).await;
    assert_eq!(said.code, 0, "no server is needed for files: {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pins_mean_the_same_for_ever_and_a_yanked_one_is_used_with_a_warning() {
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    put(&modules, "stamp", "1.0.0", stamp("one")).await;
    put(&modules, "stamp", "1.1.0", stamp("two")).await;
    modules.yank(&name("stamp"), &version("1.0.0"), "it is old").await.expect("it is there");
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let folder = PipelineFolder::with("p", &pipeline(&endpoint, "stamp@1.0.0", ""));
    let scene = Scene::open(server, folder).await;
    let warned = |line: &hookmill_tests::engine::LogLine| line.text.contains("yanked version");
    let line = scene.engine.wait_for_line("a warning", SOON, warned).await;
    assert!(line.text.contains("it is old"), "{line:?}");
    assert_eq!(stamped(&scene, &endpoint, "a").await, "one");
    runs(&scene.server, "1.0.0", None).await;

    let by_digest = format!("stamp@{}", Digest::of(&stamp("two")));
    scene.folder.write("p.toml", pipeline(&endpoint, &by_digest, ""));
    let Scene { server, jetstream, folder, mut engine } = scene;
    engine.restart().await;
    let scene = Scene { server, jetstream, folder, engine };
    assert_eq!(stamped(&scene, &endpoint, "b").await, "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_starts_with_the_newest_version_that_works_and_says_so() {
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    put(&modules, "stamp", "1.0.0", stamp("one")).await;
    put(&modules, "stamp", "1.1.0", stamp("two")).await;
    put(&modules, "stamp", "1.2.0", Stamp { version: "three", refuses: true, ..Stamp::fine() }.module())
        .await;
    put(&modules, "stamp", "1.3.0", Bytes::from_static(b"no module at all")).await;
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let folder = PipelineFolder::with("p", &pipeline(&endpoint, "stamp@1", ""));
    let path = folder.path().display().to_string();
    // Before anything runs it is a problem.
    let said = hookmill(&["check", &path, "--nats", &server.url()]).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("error[E052]") && said.stderr.contains("is no WebAssembly"), "{said:?}");
    let scene = Scene::open(server, folder).await;
    assert_eq!(stamped(&scene, &endpoint, "a").await, "two");
    runs(&scene.server, "1.1.0", Some("stamp@1.3.0 is not used: module stamp is no WebAssembly")).await;

    // With nothing that works there is no start.
    modules.yank(&name("stamp"), &version("1.1.0"), "x").await.expect("it is there");
    modules.yank(&name("stamp"), &version("1.0.0"), "x").await.expect("it is there");
    let engine = Engine::run(&scene.server).arg(scene.folder.path()).spawn();
    let line = engine.wait_for_line("why not", SOON, |line| line.text.contains("error[E052]")).await;
    assert!(
        line.text.contains("p.toml:7: step.transform can't be used: module stamp is no WebAssembly"),
        "{line:?}"
    );
    assert_eq!(engine.wait().await, 2);
}
