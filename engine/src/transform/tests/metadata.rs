//! What a module says about itself, what is refused of it, and what of it counts.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::metadata::{self, BYTES_MAX, Limits, Metadata, MetadataError};
use super::super::testing::{Guest, event, host, parts};
use super::super::{Expect, Module, ModuleError, Outcome, Settings, Step, Unset, Watch};

const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order","data":{"total":12}}"#;

fn parse(json: &Value) -> Result<Metadata, String> {
    Metadata::parse(json.to_string().as_bytes()).map_err(|error| error.to_string())
}

fn sample(name: &str, more: &Value) -> Value {
    let mut sample = json!({"name": name, "event": serde_json::from_str::<Value>(EVENT).unwrap()});
    sample.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    sample
}

/// A module with this in its section.
fn with(guest: &Guest, json: &Value) -> Result<Module, ModuleError> {
    host().load("m", &metadata::embed(&guest.core(), json.to_string().as_bytes()).unwrap())
}

#[test]
fn everything_in_the_section_is_read() {
    let json = json!({
        "description": "Does it.",
        "settings": {"required": ["a"]},
        "samples": [sample("one", &json!({"settings": {"a": 1}, "expect": "keep"})), sample("two", &json!({}))],
        "limits": {"timeout": "250ms", "memory": "64MiB", "output": "1MiB"},
    });
    let module = with(&Guest::keep(), &json).unwrap();
    let found = module.metadata().unwrap();
    assert_eq!(found.description, "Does it.");
    assert_eq!(found.settings_schema, Some(json!({"required": ["a"]})));
    assert_eq!(found.objections(&json!({})).len(), 1);
    assert_eq!(found.objections(&json!({"a": 2})), []);
    let names: Vec<_> = found.samples.iter().map(|sample| sample.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!((&found.samples[0].settings, &found.samples[1].settings), (&json!({"a": 1}), &json!({})));
    assert_eq!(found.samples[0].expect, Some(Expect::Word("keep")));
    let limits = Limits {
        timeout: Some(Duration::from_millis(250)),
        memory_bytes: Some(64 << 20),
        output_bytes: Some(1 << 20),
    };
    assert_eq!(found.limits, limits);
    let mut summary = json;
    summary["samples"] = json!(["one", "two"]);
    assert_eq!(found.summary(), summary);
}

#[test]
fn a_module_needs_no_metadata_and_metadata_needs_nothing_in_it() {
    assert!(host().load("m", &Guest::keep().core()).unwrap().metadata().is_none());
    let found = parse(&json!({})).unwrap();
    assert_eq!((found.description.as_str(), found.samples.len(), found.limits), ("", 0, Limits::default()));
    assert_eq!(found.objections(&json!({"any": "thing"})), []);
}

#[test]
fn a_component_keeps_the_section_of_the_core_module_in_it() {
    let core = metadata::embed(&Guest::keep().core(), br#"{"description":"inside"}"#).unwrap();
    let component = wit_component::ComponentEncoder::default().module(&core).unwrap().encode().unwrap();
    assert_eq!(metadata::read(&component).unwrap().unwrap().description, "inside");
    let annotated = metadata::embed(&component, br#"{"description":"outside"}"#).unwrap();
    assert_eq!(host().load("m", &annotated).unwrap().metadata().unwrap().description, "outside");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let long = "x".repeat(2001);
    for (json, said) in [
        (json!({"descripton": ""}), "unknown field `descripton`"),
        (json!({"description": long}), "a description of 2001 characters, the most is 2000"),
        (json!({"settings": {"type": "objekt"}}), "settings is not a JSON Schema: at /type"),
        (json!({"settings": {"$ref": "#"}}), "it leads back to itself"),
        (json!({"samples": vec![sample("a", &json!({})); 33]}), "33 samples, the most is 32"),
        (
            json!({"samples": [sample("a", &json!({})), sample("a", &json!({}))]}),
            "another one has the same name",
        ),
        (json!({"samples": [sample("a\nb", &json!({}))]}), "a name is one line of at most 100 characters"),
        (
            json!({"samples": [{"name": "a", "event": {"id": "1"}}]}),
            "sample \"a\" that can't be used: event: ",
        ),
        (
            json!({"samples": [sample("a", &json!({"expect": "kept"}))]}),
            "sample \"a\" that can't be used: expect: ",
        ),
        (json!({"samples": [sample("a", &json!({"expects": "keep"}))]}), "unknown field `expects`"),
        (json!({"samples": [sample("a", &json!({"settings": []}))]}), "expected a map"),
        (json!({"limits": {"timeout": "2m"}}), "limits.timeout = \"2m\"; give a duration from 1ms to 60s"),
        (json!({"limits": {"memory": "1B"}}), "limits.memory = \"1B\"; give a size from 1MiB to 4GiB"),
        (json!({"limits": {"output": "1"}}), "limits.output = \"1\"; give a size from 1KiB to 64MiB"),
        (json!([]), "its metadata is not as it should be"),
    ] {
        let error = parse(&json).unwrap_err();
        assert!(error.contains(said), "{json}: {error}");
    }
    let error = Metadata::parse(&vec![b' '; BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(error, MetadataError::TooLarge { .. }), "{error}");
    let error = with(&Guest::keep(), &json!({"limits": {"timeout": "1"}})).unwrap_err().to_string();
    assert!(error.starts_with("module m: its metadata has limits.timeout = \"1\""), "{error}");
}

#[tokio::test]
async fn limits_count_where_nobody_has_set_any() {
    let spin = Guest::keep().apply("(loop $l (br $l))");
    let host = host();
    let bytes = metadata::embed(&spin.core(), br#"{"limits": {"timeout": "20ms"}}"#).unwrap();
    let module = host.load("m", &bytes).unwrap();
    let settings = |timeout: bool| Settings {
        timeout: Duration::from_millis(300),
        unset: Unset { timeout, ..Unset::default() },
        ..Settings::default()
    };
    for (unset, said) in [(true, "20ms"), (false, "300ms")] {
        let step = Step::new(Arc::clone(&host), module.clone(), settings(unset)).await.unwrap();
        let fault = step.apply(&event()).await.unwrap_err();
        assert!(fault.detail.ends_with(&format!("the call took longer than {said}")), "{}", fault.detail);
    }
}

async fn outcome(guest: &Guest) -> Outcome {
    let host = host();
    let module = host.load("m", &guest.core()).unwrap();
    let step = Step::new(host, module, super::super::testing::patient()).await.unwrap();
    step.try_out(&event()).await.outcome
}

#[tokio::test]
async fn what_is_expected_is_told_from_what_is_not() {
    let mut changed = parts();
    changed.extensions.push(("region".to_owned(), crate::model::Value::Text("eu".to_owned())));
    changed.data = Some(r#"{"total":13}"#.into());
    let headers = json!({"x-a": "b"});
    let replace = Guest::replace(&changed, &[("x-a", "b")]);
    let whole = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "order", "region": "eu",
        "data": {"total": 13}});
    let part = json!({"region": "eu", "data": {"total": 13}});
    let split = json!({"split": [{"event": {"id": "1-0"}}, {"event": {"id": "1-1", "subject": null}}]});
    for (guest, right, wrong) in [
        (&Guest::keep(), json!("keep"), json!("drop")),
        (&Guest::drop("why"), json!({"drop": "why"}), json!({"drop": "else"})),
        (&Guest::drop("why"), json!("drop"), json!("keep")),
        (&Guest::rejected("why"), json!({"rejected": "why"}), json!("retry")),
        (&Guest::retry("why"), json!("retry"), json!({"retry": "who"})),
        (&Guest::keep().apply("unreachable"), json!("trap"), json!("timeout")),
        (&replace, json!({"replace": part, "headers": headers}), json!({"replace": part})),
        (&replace, json!({"replace": whole, "headers": {"X-A": "b"}}), json!({"replace": {"region": "eu"}})),
        (&Guest::replace(&changed, &[]), whole, json!({"replace": {"region": "us", "data": {"total": 13}}})),
        (&Guest::split(&parts(), 2), split, json!({"split": []})),
    ] {
        let found = outcome(guest).await;
        let wanted = |json: &Value| Expect::parse(json).unwrap().wanted(&event(), &found).unwrap();
        assert_eq!(wanted(&right), found.to_json());
        assert_ne!(wanted(&wrong), found.to_json(), "{wrong}");
    }
}

#[test]
fn an_expectation_that_nothing_can_meet_is_refused() {
    for json in [
        json!("kept"),
        json!({"keep": "x"}),
        json!({"drop": "a", "retry": "b"}),
        json!({"replace": 1}),
        json!({"replace": {}, "header": {}}),
        json!({"replace": {}, "headers": {"a": 1}}),
        json!({"split": [1]}),
        json!(1),
    ] {
        assert!(Expect::parse(&json).is_err(), "{json}");
    }
    let impossible = Expect::parse(&json!({"replace": {"id": ""}})).unwrap();
    let outcome = Outcome::Retry(String::new());
    assert!(impossible.wanted(&event(), &outcome).unwrap_err().to_string().contains("no such event can be"));
}

#[tokio::test]
async fn who_looks_on_sees_log_memory_and_start() {
    let host = host();
    let guest = Guest::keep()
        .apply("(call $log (i32.const 1) (i32.const 64) (i32.const 3))")
        .more(r#"(data (i32.const 64) "abc")"#);
    let module = host.load("m", &guest.core()).unwrap();
    let watch = Watch::default();
    let settings = super::super::testing::patient();
    let step = Step::watched(host, module, settings, watch.clone()).await.unwrap();
    let seen = watch.take();
    assert!(seen.setup.is_some());
    assert!(step.try_out(&event()).await.outcome.is_verdict());
    let seen = watch.take();
    assert_eq!(seen.log, [("info", "abc".to_owned())]);
    assert!(seen.memory_bytes >= 65536 && seen.setup.is_none(), "{seen:?}");
    assert_eq!(watch.take().log, []);
}
