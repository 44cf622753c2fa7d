//! Transforms in other languages, as a newcomer makes them: `module new`, `make`, `make test`, the registry, a pipeline,
//! a delivery. A program of its own, since compilers that take both cores would upset the tests that measure time.
//!
//! Everything that is needed has been fetched by `make peers` before; here every tool is told to stay offline.

mod project;
#[path = "../tests/scene.rs"]
#[expect(dead_code, reason = "the other test program uses all of it")]
mod scene;

use hookmill_tests::engine::{built_program, run_within};
use hookmill_tests::process::bound_command;
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, eventually, hookmill};
use serde_json::{Value, json};

use project::{MINUTES, Project};
use scene::{Scene, binary, event, retry, webhook};

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// A version of a project's module into the registry, through the admin API of a running engine.
async fn push(engine: &Engine, project: &Project, version: &str) {
    let (file, admin) = (project.module(), format!("http://{}", engine.address()));
    let file = file.to_str().expect("a path of text");
    let arguments =
        ["module", "push", file, "--name", project.name(), "--version", version, "--admin", &admin];
    let said = run_within("hookmill module push", command_of(&arguments), MINUTES).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.starts_with(&format!("{}@{version}  sha256:", project.name())), "{said:?}");
}

fn command_of(arguments: &[&str]) -> std::process::Command {
    let mut command = bound_command(built_program());
    command.args(arguments);
    command
}

/// An engine that takes the module, and then runs a pipeline whose only subscription has the step `NAME@1`; with the
/// endpoint that it delivers to.
async fn run(project: &Project, settings: &str) -> (Scene, Endpoint) {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let server = NatsServer::start().await;
    let plain = webhook("all", &endpoint.url(), "");
    let step = format!(
        "[[subscription.step]]\ntransform = \"{}@1\"\nsettings = {{ {settings} }}\ntimeout = \"20s\"\n",
        project.name()
    );
    let options = Engine::run(&server).patience(MINUTES);
    let mut scene = Scene::open_with(server, PipelineFolder::with("p", &plain), options).await;
    push(&scene.engine, project, "1.0.0").await;
    scene.folder.write("p.toml", plain + &step + &retry(&["100ms"], ""));
    scene.engine.terminate().await;
    scene.engine.restart().await;
    (scene, endpoint)
}

/// What all the projects that stamp orders do.
async fn stamps_orders(scene: &Scene, endpoint: &Endpoint) {
    let order = |id: &str, data: &str| event(id, "com.shop.order.created", &format!(",\"data\":{data}"));
    scene.publish([order("1", r#"{"total":9}"#), order("2", r#"{"total":9,"test":true}"#)]).await;
    endpoint.wait_for_delivered(1, MINUTES).await;
    let delivered = endpoint.requests()[0].json();
    assert_eq!((&delivered["id"], &delivered["region"]), (&json!("1"), &json!("eu")));
    assert_eq!(delivered["data"], json!({"total": 9}));
    scene.ends("all", "filtered", 1).await;
}

/// Waits until an engine says that it runs this version.
async fn version_in_use(server: &NatsServer, version: &str) {
    eventually(MINUTES, &format!("version {version} is in use"), || async {
        let said = hookmill(&["status", "--json", "--nats", &server.url()]).await;
        let wanted = format!("\"version\":\"{version}\"");
        if said.stdout.contains(&wanted) { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .await;
}

/// An event on which `apply` fails in a way that nobody thought of is tried again, and its dead letter says why.
async fn exception_is_retried(scene: &Scene, text: &str) {
    scene.publish([binary("null", "com.shop.order.created", JSON, "null")]).await;
    let letters = scene.letters(1).await;
    assert_eq!((letters[0].end(), letters[0].number("attempts")), (("all", "step_failed"), 2));
    let error = letters[0].error();
    assert!(error.contains("asks to try again") && error.contains(text), "{error}");
}

#[tokio::test]
async fn rust_from_a_new_project_to_a_delivery() {
    let project = Project::start("rust", "stamp-rust").await;
    let said = project.make("test").await;
    assert!(said.contains("an order is stamped") && said.contains("2 passed"), "{said}");
    let (scene, endpoint) = run(&project, "region = \"eu\"").await;
    stamps_orders(&scene, &endpoint).await;
}

#[tokio::test]
async fn javascript_from_a_new_project_to_a_delivery() {
    let project = Project::start("js", "stamp-js").await;
    let said = project.make("test").await;
    assert!(said.contains("sample \"an order is stamped\": replace, as expected"), "{said}");
    let (scene, endpoint) = run(&project, "region = \"eu\"").await;
    stamps_orders(&scene, &endpoint).await;
    exception_is_retried(&scene, "TypeError: can't access property \"test\", order is null (transform.js:")
        .await;
}

#[tokio::test]
async fn python_from_a_new_project_to_a_delivery() {
    let project = Project::start("python", "stamp-python").await;
    let said = project.make("test").await;
    assert!(said.contains("sample \"an order is stamped\": replace, as expected"), "{said}");
    let (scene, endpoint) = run(&project, "region = \"eu\"").await;
    stamps_orders(&scene, &endpoint).await;
    let text = "AttributeError: 'NoneType' object has no attribute 'get' (transform.py:";
    exception_is_retried(&scene, text).await;
}

#[tokio::test]
async fn go_from_a_new_project_to_a_delivery() {
    let project = Project::start("go", "stamp-go").await;
    let said = project.make("test").await;
    assert!(said.contains("sample \"an order is stamped\": replace, as expected"), "{said}");
    let (scene, endpoint) = run(&project, "region = \"eu\"").await;
    stamps_orders(&scene, &endpoint).await;
    let text = "panic: runtime error: invalid memory address or nil pointer dereference (transform.go:";
    exception_is_retried(&scene, text).await;
}

/// The second version is taken over while the engine runs.
#[tokio::test]
async fn webassembly_text_from_a_new_project_to_a_delivery_and_on_to_the_next_version() {
    let project = Project::start("wat", "with-data").await;
    project.make("test").await;
    let (scene, endpoint) = run(&project, "").await;
    scene.publish([event("1", "t", ",\"data\":1"), event("2", "t", "")]).await;
    endpoint.wait_for_delivered(1, MINUTES).await;
    scene.ends("all", "filtered", 1).await;

    // From `drop` to `retry`: the head of the file says what the bytes mean.
    project.change("transform.wat", r"\00\00\00\00\02\00\00\00\40", r"\01\00\00\00\01\00\00\00\40");
    let refused = project.try_to_make("test").await;
    assert!(
        refused.contains("-   \"drop\": \"no data\"") && refused.contains("+   \"retry\": \"no data\""),
        "{refused}"
    );
    project.change("metadata.json", r#"{ "drop": "no data" }"#, r#"{ "retry": "no data" }"#);
    project.make("test").await;
    push(&scene.engine, &project, "1.1.0").await;
    version_in_use(&scene.server, "1.1.0").await;
    scene.publish([event("3", "t", "")]).await;
    let letters = scene.letters(1).await;
    assert_eq!((letters[0].end(), letters[0].number("attempts")), (("all", "step_failed"), 2));
    assert!(letters[0].error().ends_with("asks to try again: no data"), "{}", letters[0].error());
}

#[test]
fn projects_name_the_versions_that_are_tested() {
    let read = |path: &str| std::fs::read_to_string(project::checkout().join(path)).expect("it can be read");
    let package =
        |path: &str| serde_json::from_str::<Value>(&read(path)).expect("JSON")["devDependencies"].clone();
    assert_eq!(package("transforms/templates/js/package.json"), package("tests/guests/package.json"));
    let ours = read("tests/guests/requirements.txt");
    let of_template = read("transforms/templates/python/requirements.txt");
    let makefile = read("transforms/templates/go/Makefile");
    let pinned = read("scripts/guest-tools.sh");
    let version = pinned.lines().find_map(|line| line.strip_prefix("wit_bindgen=")).expect("it is pinned");
    assert!(makefile.contains(&format!("wit-bindgen-cli --version {version} ")), "{version}");
    for line in of_template.lines().filter(|line| !line.starts_with('#')) {
        assert!(ours.contains(&format!("{line} ")), "{line} is not what the tests use");
    }
}
