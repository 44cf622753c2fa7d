//! JSON Schemas of the files, for editors: made from the same definitions as the reference page.
//!
//! Draft 7, because that is what Taplo and the editors that use it understand. A schema sees one file and no other, so it takes
//! some that `hookmill check` refuses; it refuses none that `check` takes.

use serde_json::{Map, Value as Json, json};

use super::keys::PIPELINE;
use super::process::PROCESS;
use super::setting::{Absent, Place, Row, Section};
use super::suite::SUITE;

/// `schemas/pipeline.schema.json`.
pub fn pipeline_schema() -> String {
    page("A Hookmill pipeline", &PIPELINE)
}

/// `schemas/hookmill.schema.json`.
pub fn process_schema() -> String {
    page("Settings of the Hookmill process", &PROCESS)
}

/// `schemas/test.schema.json`.
pub fn test_schema() -> String {
    page("Tests of a Hookmill pipeline", &SUITE)
}

fn page(title: &str, root: &'static Section) -> String {
    let mut schema = table(root);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["$comment"] = json!(
        "Generated from engine/src/config. Rewrite it with: HOOKMILL_BLESS=1 cargo test -p hookmill --lib config::"
    );
    schema["title"] = json!(title);
    let text = serde_json::to_string_pretty(&sorted(&schema)).unwrap_or_default();
    format!("{text}\n")
}

/// A table and what may stand in it.
fn table(section: &'static Section) -> Json {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for about in section.keys {
        let key = about.key();
        let schema = match about.row() {
            // Unknown to editors as well, until it is there.
            Row::Later(_) => continue,
            Row::Setting { kind, mut schema, absent, about } => {
                schema["description"] = json!(format!("{about}\n\n{}{kind}.", default_text(absent)));
                match absent {
                    Absent::Missing => required.push(key),
                    Absent::Default(text) => schema["default"] = value(text),
                    Absent::Nothing(_) => {}
                }
                schema
            }
            Row::Section { section, place: Place::One } => table(section),
            Row::Section { section, place: Place::Many } => {
                json!({ "type": "array", "items": table(section), "description": section.about })
            }
            Row::Section { section, place: Place::Named } => named(section),
        };
        properties.insert(key.to_owned(), schema);
    }
    let mut schema = json!({
        "type": "object", "description": section.about, "properties": properties, "additionalProperties": false
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    rules(section, &mut schema);
    schema
}

fn default_text(absent: Absent) -> String {
    match absent {
        Absent::Missing => "Required: ".to_owned(),
        Absent::Default(text) => format!("Default `{text}`: "),
        Absent::Nothing(meaning) => format!("Left out: {meaning}. Else "),
    }
}

/// A default, which is written as TOML.
fn value(text: &str) -> Json {
    let table: Result<toml::Table, _> = toml::from_str(&format!("value = {text}"));
    let value = table.ok().and_then(|mut table| table.remove("value"));
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_default()
}

/// What `expect` holds: ends by subscription, lists of them after a split, or `rejected`.
fn named(section: &'static Section) -> Json {
    let end = table(section);
    let reasons = &end["properties"]["dead_lettered"]["enum"];
    let list = json!({ "type": "array", "minItems": 1, "items": end });
    let ends = json!({ "anyOf": [end, list] });
    json!({
        "type": "object", "description": section.about, "minProperties": 1, "additionalProperties": ends,
        "properties": { "rejected": { "anyOf": [{ "enum": reasons }, ends] } }
    })
}

/// What holds between the keys of a table.
fn rules(section: &'static Section, schema: &mut Json) {
    let one_of = |keys: &[&str]| -> Json { keys.iter().map(|key| json!({ "required": [key] })).collect() };
    match section.header {
        "" if section.keys.iter().any(|about| about.key() == "subscription") => {
            schema["required"] = json!(["subscription"]);
            schema["properties"]["subscription"]["minItems"] = json!(1);
        }
        "" if section.keys.iter().any(|about| about.key() == "test") => {
            schema["required"] = json!(["test"]);
            schema["properties"]["test"]["minItems"] = json!(1);
        }
        "[[subscription]]" => schema["oneOf"] = one_of(&["deliver", "publish"]),
        "[subscription.retry]" => {
            let others = json!({ "not": { "anyOf": one_of(&["attempts", "initial", "multiplier", "max"]) } });
            schema["dependencies"] = json!({ "schedule": others });
        }
        "[subscription.deliver]" => schema["dependencies"] = json!({ "burst": ["rate"] }),
        "[egress]" => {
            let alone =
                json!({ "properties": { "system_roots": { "const": false } }, "required": ["system_roots"] });
            schema["if"] = alone;
            schema["then"] = json!({ "required": ["ca"] });
            schema["dependencies"] =
                json!({ "proxy_user": ["proxy", "proxy_password"], "proxy_password": ["proxy_user"] });
        }
        "[admin]" => schema["dependencies"] = json!({ "cert": ["key"], "key": ["cert"] }),
        "[nats]" => {
            schema["dependencies"] =
                json!({ "user": ["password"], "password": ["user"], "cert": ["key"], "key": ["cert"] });
            let two = [["credentials", "user"], ["credentials", "token"], ["user", "token"]];
            let two: Vec<Json> = two.iter().map(|both| json!({ "required": both })).collect();
            schema["not"] = json!({ "anyOf": two });
        }
        "[[test]]" => {
            schema["oneOf"] = one_of(&["event", "event_file"]);
            if let Some(required) = schema["required"].as_array_mut() {
                required.push(json!("expect"));
            }
        }
        "[test.expect.<subscription>]" => {
            schema["oneOf"] = one_of(&["delivered", "filtered", "dead_lettered", "unmatched"]);
            schema["dependencies"] = json!({ "error": ["dead_lettered"] });
            let delivered = schema["properties"]["delivered"].take();
            schema["properties"]["delivered"] = json!({ "anyOf": [{ "const": true }, delivered] });
        }
        _ => {}
    }
}

/// Members in order, whatever order this build keeps them in.
fn sorted(json: &Json) -> Json {
    match json {
        Json::Array(items) => items.iter().map(sorted).collect(),
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            members.into_iter().map(|(name, value)| (name.clone(), sorted(value))).collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => json.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::reference::SAMPLE;
    use super::super::tests::{root, same_as_file};
    use super::*;
    use crate::schema::Schema;

    fn compiled(text: &str) -> Schema {
        Schema::from_value(&serde_json::from_str(text).unwrap(), "generated").unwrap()
    }

    /// As editors see a file: times are strings.
    fn as_json(value: toml::Value) -> Json {
        match value {
            toml::Value::Datetime(time) => json!(time.to_string()),
            toml::Value::Array(items) => items.into_iter().map(as_json).collect(),
            toml::Value::Table(table) => {
                table.into_iter().map(|(key, value)| (key, as_json(value))).collect()
            }
            other => serde_json::to_value(other).unwrap(),
        }
    }

    fn read(text: &str) -> Option<Json> {
        toml::from_str::<toml::Table>(text).ok().map(|table| as_json(toml::Value::Table(table)))
    }

    fn files(folder: &Path, fits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> =
            all.filter(|path| fits(&path.file_name().unwrap().to_string_lossy())).collect();
        files.sort();
        files
    }

    fn is_pipeline(name: &str) -> bool {
        Path::new(name).extension().is_some_and(|end| end == "toml") && !name.ends_with(".test.toml")
    }

    fn takes(schema: &Schema, text: &str) -> Result<(), String> {
        let json = read(text).ok_or("no TOML")?;
        schema.check(&(&json).into()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn the_schemas_are_up_to_date() {
        let folder = root().join("schemas");
        for (name, text) in
            [("pipeline", pipeline_schema()), ("hookmill", process_schema()), ("test", test_schema())]
        {
            same_as_file(&folder.join(format!("{name}.schema.json")), &text).unwrap();
        }
    }

    #[test]
    fn every_default_is_something_that_its_schema_takes() {
        let mut count = 0;
        for section in [&PIPELINE, &PROCESS, &SUITE].into_iter().flat_map(Section::all) {
            for about in section.keys {
                let Row::Setting { schema, absent: Absent::Default(text), .. } = about.row() else {
                    continue;
                };
                let default = value(text);
                let schema = Schema::from_value(&schema, "kind").unwrap();
                assert!(schema.accepts(&(&default).into()), "{} {}: {default}", section.header, about.key());
                count += 1;
            }
        }
        assert!(count > 20, "{count} defaults");
    }

    #[test]
    fn good_files_are_taken() {
        let (pipeline, process, suite) =
            (compiled(&pipeline_schema()), compiled(&process_schema()), compiled(&test_schema()));
        let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(takes(&pipeline, SAMPLE), Ok(()));
        for file in files(&root().join("pipelines"), is_pipeline) {
            assert_eq!(takes(&pipeline, &read(&file)), Ok(()), "{}", file.display());
        }
        for file in files(&root().join("pipelines"), |name| name.ends_with(".test.toml")) {
            assert_eq!(takes(&suite, &read(&file)), Ok(()), "{}", file.display());
        }
        let first = |page: &str| {
            let page = read(&root().join(page));
            page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap().to_owned()
        };
        assert_eq!(takes(&pipeline, &first("README.md")), Ok(()));
        assert_eq!(takes(&suite, &first("docs/testing-pipelines.md")), Ok(()));
        let sample = first("docs/running.md");
        assert_eq!(takes(&process, &sample), Ok(()));
        assert_eq!(takes(&process, &sample.replace("# ca =", "ca =").replace("# token", "token")), Ok(()));
        assert_eq!(takes(&process, ""), Ok(()));
    }

    /// Mistakes that lie in other files, or between values, or in the form of the file.
    const BEYOND_SCHEMAS: [&str; 18] = [
        "17-", "18-", "20-", "36-", "37-", "40-", "41-", "42-", "43-", "44-", "45-", "46-", "49-", "54-",
        "64-", "65-", "66-", "67-",
    ];

    #[test]
    fn mistakes_are_refused_as_far_as_a_schema_can_see_them() {
        let schema = compiled(&pipeline_schema());
        let mut seen = 0;
        let mut wrong = Vec::new();
        for file in files(&root().join("pipelines/invalid"), is_pipeline) {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            let beyond = BEYOND_SCHEMAS.iter().any(|number| name.starts_with(number));
            let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
            // What is no TOML is refused by every editor.
            let refused = takes(&schema, &text).is_err();
            seen += u32::from(refused);
            if refused == beyond {
                wrong.push(format!("{name} is {}", if refused { "refused" } else { "taken" }));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(seen >= 25, "{seen} of the mistakes are seen");
    }

    #[test]
    fn mistakes_of_test_files_are_refused_as_well() {
        let schema = compiled(&test_schema());
        let test = |more: &str| format!("[[test]]\nname = \"a\"\nevent = {{}}\n{more}");
        for good in [
            "expect = { a = { delivered = true } }",
            "expect = { a = { delivered = { headers = { x = true, y = \"1\" }, body = 1 } }, b = { filtered = true } }",
            "expect = { a = [{ unmatched = true }, { dead_lettered = \"gone\", error = \"410\" }] }",
            "expect = { rejected = \"schema\" }\nnow = 2026-01-01T00:00:00Z",
        ] {
            assert_eq!(takes(&schema, &test(good)), Ok(()), "{good}");
        }
        for bad in [
            "",
            "expect = {}",
            "expect = { rejected = \"bad luck\" }",
            "expect = { a = \"delivered\" }",
            "expect = { a = {} }",
            "expect = { a = { delivered = true, filtered = true } }",
            "expect = { a = { delivered = false } }",
            "expect = { a = { delivered = true, error = \"x\" } }",
            "expect = { a = { delivered = { bdy = 1 } } }",
            "expect = { a = [] }",
            "event_file = \"b\"\nexpect = { rejected = \"schema\" }",
            "mode = \"loud\"\nexpect = { rejected = \"schema\" }",
            "answers = { a = 99 }\nexpect = { rejected = \"schema\" }",
        ] {
            assert!(takes(&schema, &test(bad)).is_err(), "{bad}");
        }
    }
}
