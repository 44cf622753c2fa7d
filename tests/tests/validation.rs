//! Schemas: what they refuse, how the dead letter says it, and schemas that are none.

use hookmill_tests::{Endpoint, NatsServer, PipelineFolder, behaviour, hookmill};

use crate::scene::{SOON, Scene, event, event_id, good, webhook};

fn schemas(rules: &[(&str, &str)]) -> String {
    let rule = |(types, file): &(&str, &str)| format!("[[validate.schema]]\n{types}\nfile = \"{file}\"\n");
    rules.iter().map(rule).collect()
}

#[tokio::test]
async fn a_refusal_names_schema_place_and_keyword_and_never_the_value() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let rules = schemas(&[("types = [\"order.*\"]", "schemas/order.json")]);
    let folder = PipelineFolder::with("p", &(rules + &webhook("all", &endpoint.url(), "")));
    let schema = r#"{"type": "object", "required": ["id"], "additionalProperties": false,
        "properties": {"id": {"pattern": "^ord_"}, "lines": {"items": {"properties": {"n": {"maximum": 9}}}}}}"#;
    folder.write("schemas/order.json", schema);
    let scene = Scene::open(NatsServer::start().await, folder).await;
    let cases = [
        (r#","data":{}"#, "the data: required"),
        (r#","data":{"id":"SECRET-1"}"#, "/id: pattern"),
        (r#","data":{"id":"ord_1","lines":[{"n":1},{"n":48151623}]}"#, "/lines/1/n: maximum"),
        (r#","data":{"id":"ord_1","SECRET-2":1}"#, "the data: additionalProperties"),
        (r#","data":"SECRET-3""#, "the data: type"),
        ("", "the event: "),
        (r#","datacontenttype":"text/plain","data":"SECRET-4""#, "the event: "),
    ];
    for (number, (data, _)) in cases.iter().enumerate() {
        let fine = event(&format!("fine-{number}"), "order.new", r#","data":{"id":"ord_2"}"#);
        scene.publish([event(&format!("bad-{number}"), "order.new", data), fine]).await;
    }
    scene.publish([good("uncovered")]).await;
    endpoint.wait_for_delivered(cases.len() + 1, SOON).await;
    let letters = scene.letters(cases.len() as u64).await;
    for (number, (_, expected)) in cases.iter().enumerate() {
        let id = format!("bad-{number}");
        let letter = letters.iter().find(|letter| letter.0["event"]["id"] == *id);
        let letter = letter.unwrap_or_else(|| panic!("no dead letter for {id}: {letters:#?}"));
        assert_eq!(letter.end(), ("_", "schema"));
        let expected = format!("schema schemas/order.json refuses {expected}");
        assert!(letter.error().starts_with(&expected), "{:?} should start {expected:?}", letter.error());
        assert!(!letter.error().contains("SECRET") && !letter.error().contains("48151623"));
        assert_eq!(letter.0["event"]["type"], "order.new");
    }
    let log = scene.engine.lines();
    assert!(!log.iter().any(|line| line.text.contains("SECRET") || line.text.contains("48151623")));
    assert!(endpoint.requests().iter().all(|request| !event_id(request).starts_with("bad")));
    scene.quiet().await;
}

#[tokio::test]
async fn where_unknown_types_are_rejected_a_dataschema_still_finds_its_schema() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let rules = schemas(&[("types = [\"order.*\"]", "order.json"), ("types = [\"never\"]", "by-id.json")]);
    let pipeline =
        format!("[validate]\nunknown = \"reject\"\n{rules}{}", webhook("all", &endpoint.url(), ""));
    let folder = PipelineFolder::with("p", &pipeline);
    folder.write("order.json", r#"{"$id": "https://example.com/order", "required": ["id"]}"#);
    folder.write("by-id.json", r#"{"$id": "https://example.com/by-id", "required": ["b"]}"#);
    let scene = Scene::open(NatsServer::start().await, folder).await;
    let named = |id, schema: &str, data: &str| {
        event(id, "other", &format!(r#","dataschema":"https://example.com/{schema}","data":{data}"#))
    };
    scene
        .publish([
            event("order", "order.new", r#","data":{"id":1}"#),
            event("unknown", "other", r#","data":{"id":1}"#),
            named("fits", "by-id", r#"{"b":1}"#),
            named("refused", "by-id", "{}"),
            named("no-such", "by-nothing", r#"{"b":1}"#),
            event("last", "order.new", r#","data":{"id":2}"#),
        ])
        .await;
    endpoint.wait_for_delivered(3, SOON).await;
    let letters = scene.letters(3).await;
    let found =
        |id: &str| letters.iter().find(|letter| letter.0["event"]["id"] == *id).expect("a dead letter");
    assert_eq!(found("unknown").end(), ("_", "unknown_type"));
    assert_eq!(found("no-such").end(), ("_", "unknown_type"));
    assert!(found("unknown").error().contains("type other"), "{}", found("unknown").error());
    assert_eq!(found("refused").end(), ("_", "schema"));
    assert_eq!(found("refused").error(), "schema by-id.json refuses the data: required");
}

/// Each draft has a keyword that the others read otherwise or not at all.
#[tokio::test]
async fn a_schema_is_read_in_the_draft_that_it_names() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let rules = schemas(&[
        ("types = [\"seven\"]", "7.json"),
        ("types = [\"nineteen\"]", "2019.json"),
        ("types = [\"twenty\"]", "2020.json"),
        ("types = [\"unnamed\"]", "unnamed.json"),
    ]);
    let folder = PipelineFolder::with("p", &(rules + &webhook("all", &endpoint.url(), "")));
    let seven = r#"{"$schema": "http://json-schema.org/draft-07/schema#",
        "dependentRequired": {"a": ["no"]}, "items": [{"type": "integer"}], "dependencies": {"a": ["b"]}}"#;
    folder.write("7.json", seven);
    let nineteen = r#"{"$schema": "https://json-schema.org/draft/2019-09/schema",
        "dependentRequired": {"a": ["b"]}, "items": [{"type": "integer"}], "prefixItems": [{"type": "string"}]}"#;
    folder.write("2019.json", nineteen);
    let twenty = r#""dependentRequired": {"a": ["b"]}, "prefixItems": [{"type": "integer"}]}"#;
    folder.write(
        "2020.json",
        format!(r#"{{"$schema": "https://json-schema.org/draft/2020-12/schema", {twenty}"#),
    );
    folder.write("unnamed.json", format!("{{{twenty}"));
    let scene = Scene::open(NatsServer::start().await, folder).await;
    let types = ["seven", "nineteen", "twenty", "unnamed"];
    for ty in types {
        for (name, data) in
            [("b", r#"{"a":1,"b":1}"#), ("no-b", r#"{"a":1}"#), ("int", "[1]"), ("text", r#"["x"]"#)]
        {
            scene.publish([event(&format!("{ty}/{name}"), ty, &format!(r#","data":{data}"#))]).await;
        }
    }
    endpoint.wait_for_delivered(8, SOON).await;
    let letters = scene.letters(8).await;
    for ty in types {
        for (name, place) in [("no-b", "the data: required"), ("text", "/0: type")] {
            let id = format!("{ty}/{name}");
            let letter = letters.iter().find(|letter| letter.0["event"]["id"] == *id);
            let letter = letter.unwrap_or_else(|| panic!("no dead letter for {id}"));
            assert!(letter.error().ends_with(&format!("refuses {place}")), "{id}: {}", letter.error());
        }
    }
}

#[tokio::test]
async fn a_schema_that_is_no_schema_is_refused_before_anything_runs() {
    let broken = [
        ("type.json", r#"{"type": "objct"}"#, "is not a JSON Schema"),
        ("json.json", "{\"type\": ", "is not JSON"),
        ("list.json", "[1, 2]", "is not a JSON Schema"),
        ("pattern.json", r#"{"pattern": "("}"#, "is not a JSON Schema"),
        ("remote.json", r#"{"$ref": "https://127.0.0.1:1/x.json"}"#, "can't be followed"),
        ("outside.json", r#"{"$ref": "../../../etc/passwd"}"#, "can't be followed"),
        ("draft.json", r#"{"$schema": "https://example.com/mine"}"#, "$schema that is not known"),
    ];
    let rules: String = broken.iter().map(|(file, ..)| schemas(&[("types = [\"a\"]", file)])).collect();
    let folder = PipelineFolder::with("p", &(rules + &webhook("all", "https://example.com", "")));
    for (file, text, _) in broken {
        folder.write(file, text);
    }
    let path = folder.path().to_str().expect("a path of text");
    let check = hookmill(&["check", path]).await;
    // Nobody listens there: it must not come as far as connecting.
    let run = hookmill(&["run", path, "--nats", "nats://127.0.0.1:1", "--listen", "127.0.0.1:0"]).await;
    for said in [check, run] {
        assert_eq!(said.code, 2, "{}", said.stderr);
        for (number, (file, _, expected)) in broken.iter().enumerate() {
            let line = format!("p.toml:{}: ", number * 3 + 3);
            let about = said.stderr.lines().find(|text| text.contains(&line));
            let about = about.unwrap_or_else(|| panic!("nothing about {line} in\n{}", said.stderr));
            assert!(about.contains(file) && about.contains(expected), "{about}");
        }
    }
}
