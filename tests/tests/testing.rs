//! `hookmill test`: unit tests of pipelines. Only that of the registry starts a server.

use std::path::Path;

use hookmill::model::{DeliveryId, Name, SplitPath};
use hookmill_tests::engine::{Said, built_program, run_to_end};
use hookmill_tests::process::bound_command;
use hookmill_tests::{Endpoint, NatsServer, PipelineFolder, behaviour, hookmill, signature};
use serde_json::{Value, json};

use crate::mill::json_lines;
use crate::registry::support;
use crate::scene::{folder_with_modules, retry, step, webhook};

/// What `docs/testing-pipelines.md` says stands for every signing secret.
const PLACEHOLDER: &str = "whsec_aG9va21pbGwtdGVzdC1wbGFjZWhvbGRlci1zZWNyZXQ=";

const EVENT: &str =
    r#"event = '{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"total":12}}'"#;

/// `[[test]]` with this name, the event above and these further lines.
fn case(name: &str, more: &str) -> String {
    format!("[[test]]\nname = \"{name}\"\n{EVENT}\n{more}\n")
}

/// The pipeline `p` with the built guests and these tests.
fn folder(pipeline: &str, tests: &str) -> PipelineFolder {
    let folder = folder_with_modules(pipeline);
    folder.write("p.test.toml", tests);
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

async fn run(folder: &PipelineFolder, more: &[&str]) -> Said {
    hookmill(&[&["test", text(folder.path())], more].concat()).await
}

/// What each test that failed says, as `place: message`.
async fn failures(folder: &PipelineFolder) -> Vec<Vec<String>> {
    let said = run(folder, &["--json"]).await;
    assert!(said.code < 2, "{said:?}");
    let one = |failure: &Value| {
        let text = |key: &str| failure[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("subscription"), text("message"))
    };
    let lines = json_lines(&said);
    let all = lines.iter().map(|line| line["failures"].as_array().expect("a list"));
    let all: Vec<Vec<String>> = all.map(|failures| failures.iter().map(one).collect()).collect();
    assert_eq!(said.code == 0, all.iter().all(Vec::is_empty), "{all:?}");
    all
}

async fn pass(pipeline: &str, tests: &str) {
    let folder = folder(pipeline, tests);
    let failures = failures(&folder).await;
    assert!(failures.iter().all(Vec::is_empty), "{failures:#?}");
}

#[tokio::test]
async fn the_tests_of_the_examples_pass() {
    let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the checkout").join("pipelines");
    let said = hookmill(&["test", text(&pipelines)]).await;
    assert_eq!((said.code, &*said.stderr), (0, ""), "{said:?}");
    let last = said.stdout.lines().last().unwrap_or_default();
    assert!(last.ends_with(" passed, 0 failed") && !last.starts_with("0 "), "{last}");
}

#[tokio::test]
async fn tests_that_pass_are_a_line_and_tests_that_fail_show_the_difference() {
    let tests = [
        case("it is delivered", "expect = { all = { delivered = { data = { total = 12.0 } } } }"),
        case("it is not", "expect = { all = { filtered = true } }"),
        case(
            "the total is another",
            "expect = { all = { delivered = { data = { total = 13 }, headers = { x-shop = \"us\" } } } }",
        ),
    ];
    let folder =
        folder(&webhook("all", "https://a.example/", "headers = { x-shop = \"eu\" }"), &tests.concat());
    let file = folder.path().join("p.test.toml").display().to_string();
    let said = run(&folder, &[]).await;
    let expected = format!(
        "{file}
  ok    it is delivered
  FAIL  it is not (line 6)
        all: expected filtered, but it is delivered to https://a.example/
  FAIL  the total is another (line 10)
        all: header x-shop is \"eu\", expected \"us\"
        all: its data is not as expected (- expected, + found)
            {{
          -   \"total\": 13
          +   \"total\": 12
            }}
3 tests: 1 passed, 2 failed
"
    );
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (1, &*expected, ""));

    let said = run(&folder, &["--json"]).await;
    assert_eq!((said.code, &*said.stderr), (1, ""));
    let lines = json_lines(&said);
    let keys: Vec<&str> = lines[0].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["failures", "file", "line", "name", "passed", "seconds"]);
    assert_eq!((&lines[0]["passed"], &lines[0]["failures"]), (&json!(true), &json!([])));
    let failure = json!({ "subscription": "all", "diff": null,
        "message": "expected filtered, but it is delivered to https://a.example/" });
    assert_eq!((&lines[1]["line"], &lines[1]["failures"]), (&json!(6), &json!([failure])));

    let said = run(&folder, &["--filter", "is de"]).await;
    let expected = format!("{file}\n  ok    it is delivered\n1 test: 1 passed, 0 failed, 2 left out\n");
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (0, &*expected, ""));
    let said = run(&folder, &["--filter", "no such"]).await;
    let expected = "error: no test has \"no such\" in its name, so nothing was tested\n";
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (2, "", expected));
}

#[tokio::test]
async fn a_junit_file_holds_every_test() {
    let tests = [
        case("fine & <well>", "expect = { all = { delivered = true } }"),
        case("an \\\"end\\\" & no other", "expect = { all = { delivered = { body = \"<a>&\" } } }"),
    ];
    let folder = folder(&webhook("all", "https://a.example/", ""), &tests.concat());
    let file = folder.path().join("junit.xml");
    let said = run(&folder, &["--junit", text(&file)]).await;
    assert_eq!(said.code, 1, "{said:?}");
    let written = std::fs::read_to_string(&file).expect("the file is written");
    let page = roxmltree::Document::parse(&written).expect("it is XML");
    let named = |name| page.descendants().filter(move |node| node.has_tag_name(name));
    let suites: Vec<_> = named("testsuite").collect();
    assert_eq!(suites.len(), 1);
    assert_eq!([suites[0].attribute("tests"), suites[0].attribute("failures")], [Some("2"), Some("1")]);
    let names: Vec<_> = named("testcase").filter_map(|case| case.attribute("name")).collect();
    assert_eq!(names, ["fine & <well>", "an \"end\" & no other"]);
    let failed: Vec<_> = named("failure").collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].attribute("message"), Some("all: its body is not as expected"));
    assert!(failed[0].text().is_some_and(|text| text.contains("- \"<a>&\"")), "{written}");
    let said = run(&folder, &["--junit", "/nowhere/junit.xml"]).await;
    assert_eq!(said.code, 1);
    assert!(said.stderr.starts_with("error: --junit /nowhere/junit.xml can't be written: "), "{said:?}");
}

#[tokio::test]
async fn wrong_files_are_reported_as_check_does_and_nothing_is_tested() {
    let folder = folder(
        &webhook("all", "https://a.example/", ""),
        &case("a", "expect = { al = { delivered = true } }"),
    );
    let said = run(&folder, &[]).await;
    let file = folder.path().join("p.test.toml").display().to_string();
    let pipeline = folder.path().join("p.toml").display().to_string();
    let expected = format!(
        "error[E072]: {file}:4: test.expect.al is no subscription of {pipeline}\nhint: did you mean all?\n"
    );
    assert_eq!((said.code, &*said.stdout, &*said.stderr), (2, "", &*expected));
    let said = run(&folder, &["--json"]).await;
    let problems = json_lines(&said);
    assert_eq!((said.code, problems.len(), &problems[0]["code"]), (2, 1, &json!("E072")));

    // Of the pipeline, its modules and their settings as well.
    let broken = webhook("all", "ftp://a.example/", "") + &step("hostile", "mode = \"dance\"", "");
    folder.write("p.toml", &broken);
    let said = run(&folder, &[]).await;
    assert_eq!(said.code, 2);
    assert!(said.stderr.starts_with(&format!("error[E025]: {pipeline}:4: ")), "{said:?}");
    folder.write("p.toml", broken.replace("ftp", "https"));
    let said = run(&folder, &[]).await;
    assert!(
        said.stderr.contains("error[E054]: ") && said.stderr.contains("unknown variant `dance`"),
        "{said:?}"
    );

    let other = PipelineFolder::with("orders", &webhook("all", "https://a.example/", ""));
    let said = run(&other, &[]).await;
    assert_eq!(said.code, 2);
    assert!(
        said.stderr.contains("error[E002]") && said.stderr.contains("no test file is in this folder"),
        "{said:?}"
    );
    let said = hookmill(&["test", text(&other.path().join("orders.toml"))]).await;
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("orders.test.toml: the file can't be read"), "{said:?}");
}

#[tokio::test]
async fn files_are_named_one_by_one_as_well() {
    let folder = folder(
        &webhook("all", "https://a.example/", ""),
        &case("one", "expect = { all = { delivered = true } }"),
    );
    folder.write("q.toml", webhook("all", "https://a.example/", ""));
    folder.write("q.test.toml", case("another", "expect = { all = { filtered = true } }"));
    for path in ["p.toml", "p.test.toml"] {
        let said = hookmill(&["test", text(&folder.path().join(path))]).await;
        assert_eq!(
            (said.code, said.stdout.lines().last()),
            (0, Some("1 test: 1 passed, 0 failed")),
            "{said:?}"
        );
    }
    let said = run(&folder, &[]).await;
    assert_eq!((said.code, said.stdout.lines().last()), (1, Some("2 tests: 1 passed, 1 failed")));
    let checked = hookmill(&["check", text(folder.path())]).await;
    assert_eq!((checked.code, &*checked.stdout), (0, "2 pipelines, 2 subscriptions: no problems\n"));
}

#[tokio::test]
async fn what_is_delivered_is_the_request_as_it_would_be_sent_and_nothing_is_sent() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let url = endpoint.url();
    let more =
        "sign = [{ env = \"HOOKMILL_NOT_SET\" }]\nallow = [\"127.0.0.0/8\"]\nheaders = { x-shop = \"eu\" }";
    let pipeline = webhook("all", &url, more)
        + "[[subscription]]\nname = \"bare\"\n[subscription.deliver]\nurl = { env = \"HOOKMILL_NOT_SET\" }\nformat = \"data\"\n"
        + "[[subscription]]\nname = \"onward\"\n[subscription.publish]\nsubject = \"else.{type}\"\n";
    let body = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"total":12}}"#;
    let name = Name::new("p").expect("a name");
    let id = DeliveryId::derive("/s", "1", &name, "all", &SplitPath::root());
    let signature =
        signature::sign(PLACEHOLDER, id.as_str(), 1_795_507_210, body.as_bytes()).expect("a secret");
    let expect = format!(
        "now = 2026-11-24T08:00:10Z
[test.expect.all.delivered]
url = \"{url}\"
body = '{body}'
attributes = {{ id = \"1\", subject = false, specversion = \"1.0\" }}
headers = {{ content-type = \"application/cloudevents+json\", webhook-id = \"{id}\", webhook-timestamp = \"1795507210\", webhook-signature = \"{signature}\", X-Shop = \"eu\", authorization = false }}
[test.expect.bare.delivered]
url = \"https://hookmill-not-set.example/\"
body = {{ total = 12 }}
data = {{ total = 12 }}
headers = {{ webhook-signature = false, content-type = \"application/json\" }}
[test.expect.onward.delivered]
subject = \"else.t\"
headers = {{ Content-Type = \"application/cloudevents+json\", hookmill-hops = \"1\" }}
includes = {{ total = 12 }}
"
    );
    pass(&pipeline, &case("as it is sent", &expect)).await;
    assert_eq!(endpoint.received(), 0, "nothing is sent");

    let wrong = folder(
        &pipeline,
        &case(
            "a",
            "expect = { all = { delivered = { subject = \"x\", url = \"y\" } }, onward = { delivered = { url = \"y\" } } }",
        ),
    );
    let expected = [
        format!("all: its url is {url:?}, expected \"y\""),
        "all: its subject has none, expected \"x\"".to_owned(),
        "onward: its url has none, expected \"y\"".to_owned(),
    ];
    assert_eq!(failures(&wrong).await, [expected]);
}

#[tokio::test]
async fn a_secret_that_is_set_is_neither_used_nor_shown() {
    let pipeline = webhook(
        "all",
        "https://a.example/",
        "headers = { authorization = { env = \"SHOP_TOKEN\", prefix = \"Bearer \" } }",
    );
    let folder = folder(
        &pipeline,
        &case("a", "expect = { all = { delivered = { headers = { authorization = \"none\" } } } }"),
    );
    let mut command = bound_command(built_program());
    command.args(["test", text(folder.path())]).env("SHOP_TOKEN", "hunter2");
    let said = run_to_end("hookmill", command).await;
    let shown = "all: header authorization is \"Bearer <SHOP_TOKEN>\", expected \"none\"";
    assert!(said.code == 1 && said.stdout.contains(shown), "{said:?}");
    assert!(!said.stdout.contains("hunter2") && !said.stderr.contains("hunter2"), "{said:?}");
}

#[tokio::test]
async fn every_end_can_be_expected_and_is_told_from_the_others() {
    let hostile = |name: &str, mode: &str, more: &str| {
        webhook(name, "https://a.example/", "") + &step("hostile", &format!("mode = \"{mode}\""), more)
    };
    let wanting = |name: &str, what: &str| {
        let deliver = "[subscription.deliver]";
        webhook(name, "https://a.example/", "").replace(deliver, &format!("{what}\n{deliver}"))
    };
    let pipeline = [
        wanting("typed", "types = [\"other\"]"),
        wanting("matched", "match = { required = [\"none\"] }"),
        hostile("dropped", "drop", ""),
        hostile("rejected", "reject", ""),
        hostile("lenient", "reject", "on_error = \"drop\""),
        hostile("skipped", "reject", "on_error = \"skip\""),
        hostile("again", "retry", ""),
        webhook("nothing", "https://a.example/", "") + &step("hostile", "mode = \"split\", count = 0", ""),
        webhook("given-up", "https://a.example/", "") + &retry(&["1s"], "give_up_on = [422]"),
        webhook("gone", "https://a.example/", ""),
        webhook("slow", "https://a.example/", "") + &retry(&["1h", "24h"], ""),
    ]
    .concat();
    let expected = [
        ("typed", "unmatched = true"),
        ("matched", "filtered = \"match\""),
        ("dropped", "filtered = \"as the settings say\""),
        ("rejected", "dead_lettered = \"rejected\", error = \"rejects the event: as the settings say\""),
        ("lenient", "filtered = \"module hostile rejects the event: as the settings say\""),
        ("skipped", "delivered = { data = { total = 12 } }"),
        ("again", "dead_lettered = \"step_failed\", error = \"asks to try again\""),
        ("nothing", "filtered = \"empty split\""),
        ("given-up", "dead_lettered = \"given_up\", error = \"422\""),
        ("gone", "dead_lettered = \"gone\""),
        ("slow", "dead_lettered = \"exhausted\", error = \"503\""),
    ];
    let answers = "answers = { given-up = 422, gone = 410, slow = 503 }\n";
    let line = |all: String, (name, end): &(&str, &str)| all + &format!("{name} = {{ {end} }}\n");
    let all = expected.iter().fold(String::new(), line);
    pass(&pipeline, &case("as it is", &format!("{answers}[test.expect]\n{all}"))).await;

    // Each is expected of the next one as well, which ends in another way.
    let mut tests = String::new();
    for (at, (name, _)) in expected.iter().enumerate() {
        let (_, end) = expected[(at + 1) % expected.len()];
        tests += &case(name, &format!("{answers}expect = {{ {name} = {{ {end} }} }}"));
    }
    let failures = failures(&folder(&pipeline, &tests)).await;
    assert_eq!(failures.len(), expected.len());
    for ((name, _), failures) in expected.iter().zip(failures) {
        assert!(
            failures.len() == 1 && failures[0].starts_with(&format!("{name}: expected ")),
            "{failures:?}"
        );
    }
}

#[tokio::test]
async fn a_split_has_an_end_for_each_output_in_order() {
    let pipeline =
        webhook("all", "https://a.example/", "") + &step("hostile", "mode = \"split\", count = 3", "");
    let end =
        |part: u32| format!("[[test.expect.all]]\ndelivered = {{ attributes = {{ part = {part} }} }}\n");
    pass(&pipeline, &case("all three", &(end(0) + &end(1) + &end(2)))).await;
    let tests = case("two", &(end(0) + &end(1))) + &case("wrong", &(end(0) + &end(2) + &end(2)));
    let url = "delivered to https://a.example/";
    let expected = [
        vec![format!("all: expected delivered; delivered, but it is {url}; {url}; {url}")],
        vec!["all[1]: attribute part is \"1\", expected \"2\"".to_owned()],
    ];
    assert_eq!(failures(&folder(&pipeline, &tests)).await, expected);
}

#[tokio::test]
async fn the_pipeline_as_a_whole_can_refuse_an_event() {
    let schema =
        "[validate]\nunknown = \"reject\"\n[[validate.schema]]\ntypes = [\"t\"]\nfile = \"total.json\"\n";
    let pipeline = schema.to_owned() + &webhook("all", "https://a.example/", "");
    let event = |text: &str, expect: &str| {
        format!("[[test]]\nname = '{text}'\nevent = '{text}'\nexpect = {{ {expect} }}\n")
    };
    let tests = [
        case("good", "expect = { all = { delivered = true } }"),
        event(
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{}}"#,
            "rejected = \"schema\"",
        ),
        event(r#"{"specversion":"1.0","id":"1","source":"/s","type":"u"}"#, "rejected = \"unknown_type\""),
        event("no event", "rejected = \"not_cloudevent\""),
        case("taken", "expect = { rejected = \"schema\" }"),
        event(r#"{"id":"1"}"#, "rejected = \"schema\""),
        event(r#"{"id":"2"}"#, "all = { delivered = true }"),
    ];
    let folder = folder(&pipeline, &tests.concat());
    folder.write("total.json", r#"{"required": ["total"]}"#);
    let failures = failures(&folder).await;
    assert!(failures[..4].iter().all(Vec::is_empty), "{failures:?}");
    assert_eq!(failures[4], [": expected rejected as schema, but the pipeline takes the event"]);
    assert!(
        failures[5][0].starts_with(": expected rejected as schema, but it is rejected as not_cloudevent: ")
    );
    assert!(
        failures[6][0].starts_with(": the pipeline rejects the event as not_cloudevent: "),
        "{failures:?}"
    );
}

#[tokio::test]
async fn events_come_from_files_and_in_binary_mode() {
    let pipeline = webhook("all", "https://a.example/", "format = \"binary\"");
    let tests = "[[test]]\nname = \"a file\"\nevent_file = \"events/one.json\"\nmode = \"binary\"\n\
                 [test.expect.all.delivered]\nbody = \"plain text\"\n\
                 headers = { ce-id = \"ä 1\", ce-flag = \"true\", content-type = \"text/plain\" }\n"
        .replace("ä 1", "%C3%A4%201");
    let folder = folder(
        &pipeline,
        &(tests + "attributes = { id = \"ä 1\", flag = true, datacontenttype = \"text/plain\" }\n"),
    );
    folder.write(
        "events/one.json",
        r#"{"specversion":"1.0","id":"ä 1","source":"/s","type":"t","flag":true,"datacontenttype":"text/plain","data":"plain text"}"#,
    );
    assert_eq!(failures(&folder).await, [[""; 0]]);
}

#[tokio::test]
async fn time_stands_still_and_no_test_sees_what_another_has_left() {
    let pipeline = webhook("clock", "https://a.example/", "")
        + &step("hostile", "mode = \"clock\"", "")
        + &webhook("counter", "https://a.example/", "")
        + &step("hostile", "mode = \"sleepless_counter\"", "");
    let expect = "now = \"2026-11-24T08:00:10.5Z\"\nexpect = { clock = { delivered = { attributes = { now = \"1795507210500\" } } }, \
                  counter = { delivered = { attributes = { calls = 1 } } } }";
    pass(&pipeline, &(case("first", expect) + &case("second", expect))).await;
}

#[tokio::test]
async fn modules_of_the_registry_are_fetched_from_there() {
    let server = NatsServer::start().await;
    let modules = support::open(&server).await;
    let step = step("redact", "remove = [\"/total\"]", "").replace("./redact.wasm", "redact@1");
    let folder = folder(
        &(webhook("all", "https://a.example/", "") + &step),
        &case("a", "expect = { all = { delivered = { data = {} } } }"),
    );
    let bytes = std::fs::read(folder.path().join("redact.wasm")).expect("the folder has it");
    support::put(&modules, "redact", "1.0.0", bytes).await;
    let said = run(&folder, &["--nats", &server.url()]).await;
    assert_eq!((said.code, &*said.stderr), (0, ""), "{said:?}");
    let said = run(&folder, &["--nats", "nats://127.0.0.1:1"]).await;
    assert_eq!((said.code, &*said.stdout), (2, ""));
    let expected = format!(
        "error[E055]: {}:7: step.transform can't be used: the registry of modules can't be asked",
        folder.path().join("p.toml").display()
    );
    assert!(said.stderr.starts_with(&expected), "{said:?}");
}
