//! `hookmill module test` and `annotate`, and what `check` says by what a module says about itself.

use std::path::{Path, PathBuf};

use hookmill_tests::engine::Said;
use hookmill_tests::{PipelineFolder, hookmill};
use serde_json::{Value, json};

use super::text;
use crate::mill::json_lines;

const ORDER: &str =
    r#"{"specversion":"1.0","id":"1","source":"/shop","type":"order","data":{"email":"a@b.c","n":1}}"#;

pub(super) fn built(module: &str) -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout");
    let path = checkout.join(format!("transforms/dist/{module}.wasm"));
    assert!(path.is_file(), "no {}: run make modules first", path.display());
    path
}

async fn test(module: &Path, arguments: &[&str]) -> Said {
    hookmill(&[&["module", "test", text(module)], arguments].concat()).await
}

#[tokio::test]
async fn the_stock_modules_do_what_their_samples_say() {
    for module in ["redact", "reshape", "route"] {
        let said = test(&built(module), &["--json"]).await;
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
        let lines = json_lines(&said);
        assert!(lines[0]["metadata"]["settings"]["properties"].is_object(), "{}", lines[0]);
        assert!(!lines[0]["metadata"]["description"].as_str().unwrap_or_default().is_empty());
        assert!(lines.len() > 2, "{module} has at least two samples");
        for line in &lines[1..] {
            assert_eq!((&line["ok"], line["expected"].is_null()), (&json!(true), false), "{line}");
        }
    }
}

#[tokio::test]
async fn an_event_of_ones_own_is_shown_and_held_against_what_is_expected() {
    let folder = PipelineFolder::new();
    let event = folder.write("order.json", ORDER);
    let settings = folder.write("settings.toml", "remove = [\"/email\"]\n");
    let redact = built("redact");
    let given = ["--event", text(&event), "--settings", text(&settings)];
    let said = test(&redact, &given).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.stdout.contains("order.json:1: replace; ") && said.stdout.contains("\"n\": 1"),
        "{}",
        said.stdout
    );
    let expecting = |expect: &'static str| [&given[..], &["--expect", expect]].concat();
    let said = test(&redact, &expecting(r#"{"replace": {"data": {"n": 1}}}"#)).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("replace, as expected"), "{}", said.stdout);
    let said = test(&redact, &expecting(r#"{"replace": {"data": {"n": 2}}}"#)).await;
    assert_eq!((said.code, said.stderr.as_str()), (1, "1 of 1 failed\n"), "{said:?}");
    let shown: Vec<&str> = said.stdout.lines().map(str::trim).collect();
    assert!(shown.contains(&"-       \"n\": 2") && shown.contains(&"+       \"n\": 1"), "{}", said.stdout);
    let said = test(&redact, &expecting("\"keep\"")).await;
    assert_eq!(said.code, 1, "{said:?}");
}

#[tokio::test]
async fn what_ends_without_a_verdict_has_failed_unless_it_was_expected() {
    let folder = PipelineFolder::new();
    let event = folder.write("order.json", ORDER);
    let hostile = built("hostile");
    for (mode, word, expect) in
        [("trap", "trap", "\"trap\""), ("spin", "timeout", "\"timeout\""), ("empty_id", "trap", "\"trap\"")]
    {
        let settings = format!("{{\"mode\": \"{mode}\"}}");
        let given = ["--event", text(&event), "--settings", &settings, "--json"];
        let said = test(&hostile, &given).await;
        assert_eq!(said.code, 1, "{said:?}");
        let outcome = &json_lines(&said)[1]["outcome"];
        assert!(outcome[word].is_string(), "{outcome}");
        let said = test(&hostile, &[&given[..], &["--expect", expect]].concat()).await;
        assert_eq!(said.code, 0, "{said:?}");
    }
}

#[tokio::test]
async fn wrong_use_of_module_test_is_2_and_says_what_is_wrong() {
    let folder = PipelineFolder::new();
    let event = folder.write("order.json", ORDER);
    let event = text(&event);
    let no_module = folder.write("no.wasm", "#!/bin/sh\n");
    let redact = built("redact");
    for (module, arguments, says) in [
        (&built("hostile"), &[][..], "no samples of its own"),
        (&no_module, &[][..], "is no WebAssembly"),
        (&folder.path().join("none.wasm"), &[][..], "can't be read"),
        (&redact, &["--settings", "{}"][..], "--event"),
        (&redact, &["--event", "none.json"][..], "none.json can't be read"),
        (&redact, &["--event", event, "--settings", "{"][..], "--settings is not JSON"),
        (&redact, &["--event", event, "--settings", "[]"][..], "--settings is no table"),
        (&redact, &["--event", event, "--settings", "{\"remov\": []}"][..], "/remov: is unknown"),
        (
            &redact,
            &["--event", event, "--settings", "{\"mask\": [\"x\"]}"][..],
            "refuses its settings: mask[0]",
        ),
        (
            &redact,
            &["--event", event, "--expect", "[\"keep\", \"keep\"]"][..],
            "of 2 events, but there are 1",
        ),
        (&redact, &["--event", event, "--expect", "\"kept\""][..], "--expect: write \"keep\""),
    ] {
        let said = test(module, arguments).await;
        assert_eq!(said.code, 2, "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(says), "{arguments:?}: {}", said.stderr);
    }
}

#[tokio::test]
async fn a_bench_counts_and_sorts_its_calls() {
    let folder = PipelineFolder::new();
    let event = folder.write("order.json", ORDER);
    let settings = r#"{"remove": ["/email"]}"#;
    let said =
        test(&built("redact"), &["--event", text(&event), "--settings", settings, "--bench", "--json"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let bench = &json_lines(&said)[1]["bench"];
    let figure = |name: &str| bench[name].as_f64().unwrap_or_else(|| panic!("no {name} in {bench}"));
    assert!(
        figure("calls") > 10.0 && figure("per_second") > 1.0 && figure("memory_bytes") > 65536.0,
        "{bench}"
    );
    assert!(
        figure("p50_microseconds") > 0.0 && figure("p50_microseconds") <= figure("p99_microseconds"),
        "{bench}"
    );
    assert!(figure("p99_microseconds") <= figure("max_microseconds") && figure("broken") < 0.5, "{bench}");
}

async fn annotate(module: &Path, metadata: &Path, output: &Path) -> Said {
    hookmill(&["module", "annotate", text(module), "--metadata", text(metadata), "-o", text(output)]).await
}

#[tokio::test]
async fn metadata_is_put_into_a_module_from_json_or_toml_in_place_of_what_was_there() {
    let folder = PipelineFolder::new();
    let module = folder.write("m.wasm", std::fs::read(built("redact")).expect("it is built"));
    let json = folder.write("meta.json", r#"{"description": "one", "limits": {"memory": "8MiB"}}"#);
    let toml = folder.write(
        "meta.toml",
        "description = \"two\"\n[[samples]]\nname = \"a\"\nevent = { specversion = \"1.0\", id = \"1\", source = \"/s\", \
                 type = \"t\" }\nsettings = { remove = [\"/a\"] }\nexpect = \"keep\"\n",
    );
    for (metadata, description) in [(&json, "one"), (&toml, "two")] {
        let said = annotate(&module, metadata, &module).await;
        assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{said:?}");
        let said = test(
            &module,
            &[
                "--json",
                "--event",
                text(&folder.write("e.json", ORDER)),
                "--settings",
                r#"{"remove":["/a"]}"#,
            ],
        )
        .await;
        assert_eq!(json_lines(&said)[0]["metadata"]["description"], description, "{said:?}");
    }
    let said = test(&module, &[]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains("sample \"a\": keep, as expected"), "{}", said.stdout);

    let before = std::fs::read(&module).expect("it is there");
    let wrong = folder.write("wrong.toml", "descripton = \"three\"\n");
    let torn = folder.write("torn.toml", "description = \n");
    for (metadata, says) in [(&wrong, "unknown field `descripton`"), (&torn, "torn.toml:1: not TOML")] {
        let said = annotate(&module, metadata, &module).await;
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stderr.contains(says), "{}", said.stderr);
        assert_eq!(std::fs::read(&module).expect("it is there"), before);
    }
    let said = annotate(&json, &json, &module).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("the file is no WebAssembly"), "{}", said.stderr);
}

#[tokio::test]
async fn check_holds_settings_against_the_modules_schema_at_their_lines() {
    let pipeline = "[[subscription]]\nname = \"a\"\n[subscription.deliver]\nurl = \"https://example.com\"\n\
                    [[subscription.step]]\ntransform = \"./redact.wasm\"\n[subscription.step.settings]\n\
                    remove = [\n  \"/email\",\n  7,\n]\nkeep_last = -1\nmaks = [\"/card\"]\n";
    let folder = PipelineFolder::with("p", pipeline);
    folder.write("redact.wasm", std::fs::read(built("redact")).expect("it is built"));
    let said = hookmill(&["check", "--json", text(folder.path())]).await;
    assert_eq!(said.code, 2, "{said:?}");
    let problems = json_lines(&said);
    let mut found: Vec<(u64, &str, &Value)> = problems
        .iter()
        .map(|problem| {
            assert_eq!(problem["code"], "E059", "{problem}");
            (
                problem["line"].as_u64().unwrap_or(0),
                problem["key"].as_str().unwrap_or_default(),
                &problem["message"],
            )
        })
        .collect();
    found.sort_by_key(|(line, ..)| *line);
    let places: Vec<_> = found.iter().map(|(line, key, _)| (*line, *key)).collect();
    let expected =
        [(10, "step.settings.remove.1"), (12, "step.settings.keep_last"), (13, "step.settings.maks")];
    assert_eq!(places, expected, "{found:?}");
}

#[tokio::test]
async fn a_project_is_made_once_and_only_under_a_good_name() {
    let folder = PipelineFolder::new();
    let project = folder.path().join("stamp");
    let project = text(&project);
    let new = |name: &'static str, more: Vec<String>| async move {
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        hookmill(&[&["module", "new", "--lang", "js", name], &more[..]].concat()).await
    };
    let into = vec!["--folder".to_owned(), project.to_owned()];
    let said = new("stamp", into.clone()).await;
    assert_eq!(said.code, 0, "{said:?}");
    let said = new("stamp", into).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("is there already, with something in it"), "{}", said.stderr);
    for bad in ["Stamp", "1stamp", "stamp_x", "../stamp"] {
        let said = new(bad, Vec::new()).await;
        assert_eq!(said.code, 2, "{bad}: {said:?}");
        assert!(said.stderr.contains("is no name for a module"), "{}", said.stderr);
    }
}
