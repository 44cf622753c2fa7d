//! The compiler's own tests, and the official suite.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn compile_in(folder: &tempfile::TempDir, name: &str) -> Result<Schema, SchemaError> {
    let path = folder.path().join(name);
    Schema::compile(&std::fs::read_to_string(&path).unwrap(), &path)
}

fn message(folder: &tempfile::TempDir, name: &str) -> String {
    let real = folder.path().canonicalize().unwrap();
    let text = compile_in(folder, name).expect_err("the schema is refused").to_string();
    text.replace(&real.display().to_string(), "DIR").replace(&folder.path().display().to_string(), "DIR")
}

#[test]
fn a_refusal_names_pointer_and_keyword_and_not_the_value() {
    let schema = json!({"properties": {"card": {"items": {"maxLength": 3}}}, "required": ["id"]});
    let schema = Schema::from_value(&schema, "order.schema.json").unwrap();
    let refusal = schema.check(&(&json!({"id": 1, "card": ["a", "4111-secret"]})).into()).unwrap_err();
    assert_eq!(refusal.to_string(), "schema order.schema.json refuses /card/1: maxLength");
    let refusal = schema.check(&(&json!({})).into()).unwrap_err();
    assert_eq!(refusal.to_string(), "schema order.schema.json refuses the data: required");
    assert!(schema.accepts(&(&json!({"id": 1})).into()));
    assert!(!schema.accepts(&(&json!({})).into()));
}

#[test]
fn references_lead_to_files_beside_the_schema_whatever_its_id_is() {
    let money = r#"{"$id": "https://example.com/schemas/parts/money.json", "$ref": "cents.json"}"#;
    let files = folder(&[
        ("plain.json", r#"{"properties": {"total": {"$ref": "parts/cents.json"}}}"#),
        (
            "with-id.json",
            r#"{"$id": "https://example.com/schemas/order", "properties": {"total": {"$ref": "parts/money.json"}}}"#,
        ),
        (
            "relative-id.json",
            r#"{"$id": "relative-id.json", "properties": {"total": {"$ref": "./parts/cents.json#/$defs/c"}}}"#,
        ),
        ("parts/money.json", money),
        ("parts/cents.json", r##"{"$ref": "#/$defs/c", "$defs": {"c": {"type": "integer"}}}"##),
    ]);
    for name in ["plain.json", "with-id.json", "relative-id.json"] {
        let schema = compile_in(&files, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(schema.check(&(&json!({"total": 1})).into()).is_ok(), "{name}");
        let refusal = schema.check(&(&json!({"total": "x"})).into()).unwrap_err();
        assert_eq!((refusal.pointer.as_str(), refusal.keyword.as_str()), ("/total", "type"), "{name}");
    }
}

#[test]
fn nothing_is_fetched_and_nothing_outside_the_folder_is_read() {
    let files = folder(&[
        ("in/http.json", r#"{"properties": {"a": {"$ref": "https://example.com/money.json"}}}"#),
        ("in/up.json", r#"{"properties": {"a": {"$ref": "../money.json"}}}"#),
        ("in/gone.json", r#"{"properties": {"a": {"$ref": "gone-file.json"}}}"#),
        ("in/file.json", r#"{"properties": {"a": {"$ref": "file:///etc/hostname"}}}"#),
        ("in/link.json", r#"{"properties": {"a": {"$ref": "linked.json"}}}"#),
        ("money.json", "{}"),
    ]);
    std::os::unix::fs::symlink(files.path().join("money.json"), files.path().join("in/linked.json")).unwrap();
    let tail = "is not in the schema's folder, and nothing is fetched: put the file there and refer to it by its name";
    let head = |name| format!("DIR/in/{name} has a reference that can't be followed: at /properties/a/$ref:");
    let expect =
        |name, what| assert_eq!(message(&files, &format!("in/{name}")), format!("{} {what}", head(name)));
    expect("http.json", format!("https://example.com/money.json {tail}"));
    expect("up.json", format!("file://DIR/money.json {tail}"));
    expect("gone.json", "DIR/in/gone-file.json can't be read: entity not found".to_owned());
    expect("file.json", format!("file:///etc/hostname {tail}"));
    expect("link.json", format!("file://DIR/in/linked.json {tail}"));
}

#[test]
fn what_is_no_schema_is_refused_at_its_place() {
    let files = folder(&[
        ("torn.json", "{\n  \"type\": }"),
        ("type.json", r#"{"properties": {"total": {"type": "nubmer"}}}"#),
        ("nowhere.json", r##"{"properties": {"total": {"$ref": "#/$defs/none"}}}"##),
        ("old.json", r#"{"$schema": "http://json-schema.org/draft-04/schema#"}"#),
        ("made-up.json", r#"{"$schema": "https://example.com/my-own"}"#),
        ("list.json", "[]"),
        ("look.json", r#"{"pattern": "(?=a)b"}"#),
        ("outer.json", r#"{"$ref": "inner.json"}"#),
        ("inner.json", r#"{"minLength": "x"}"#),
    ]);
    let cases = [
        ("torn.json", "DIR/torn.json is not JSON: line 2, column 11: expected value"),
        (
            "type.json",
            "DIR/type.json is not a JSON Schema: at /properties/total/type: \"nubmer\" can't stand there",
        ),
        (
            "nowhere.json",
            "DIR/nowhere.json has a reference that can't be followed: at /properties/total/$ref: nothing is found at #/$defs/none",
        ),
        (
            "old.json",
            "DIR/old.json has a $schema that is not known: http://json-schema.org/draft-04/schema#; known are drafts 2020-12, 2019-09 and 7",
        ),
        (
            "made-up.json",
            "DIR/made-up.json has a $schema that is not known: https://example.com/my-own; known are drafts 2020-12, 2019-09 and 7",
        ),
        (
            "list.json",
            "DIR/list.json is not a JSON Schema: at the root: [] is not of types \"boolean\", \"object\"",
        ),
        ("look.json", "DIR/look.json is not a JSON Schema: at /pattern: \"(?=a)b\" is not a \"regex\""),
        (
            "outer.json",
            "DIR/inner.json is not a JSON Schema: at /minLength: \"x\" is not of type \"integer\"",
        ),
    ];
    for (name, expected) in cases {
        assert_eq!(message(&files, name), expected);
    }
}

#[test]
fn a_chain_of_files_has_an_end() {
    let names: Vec<String> = (0..FILES_MAX + 3).map(|place| format!("{place}.json")).collect();
    let files: Vec<(String, String)> = names
        .iter()
        .enumerate()
        .map(|(place, name)| (name.clone(), format!(r#"{{"$ref": "{}.json"}}"#, place + 1)))
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let text = message(&folder(&files), "0.json");
    assert!(text.contains("refers to more than 64 files"), "{text}");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let large = format!("{{{}}}", " ".repeat(usize::try_from(FILE_BYTES_MAX).unwrap()));
    let files = folder(&[("a.json", r#"{"$ref": "large.json"}"#), ("large.json", &large)]);
    let text = message(&files, "a.json");
    assert!(text.ends_with("DIR/large.json is larger than 1048576 bytes"), "{text}");
}

#[test]
fn a_schema_that_refers_to_itself_without_end_comes_to_one() {
    let schema = Schema::from_value(&json!({"$ref": "#"}), "loop").unwrap();
    assert!(schema.check(&(&json!({"a": 1})).into()).is_ok());
}

#[test]
fn a_pattern_that_would_send_others_backtracking_takes_no_time() {
    let schema = Schema::from_value(&json!({"pattern": "^(a+)+$"}), "evil").unwrap();
    let started = std::time::Instant::now();
    assert!(schema.check(&(&json!(format!("{}!", "a".repeat(100_000)))).into()).is_err());
    assert!(started.elapsed().as_secs() < 5);
}

// ---- the official suite ----

/// `(part of the test's name, why it may fail)`. Only optional tests may stand here.
const MAY_FAIL: &[(&str, &str)] = &[
    (
        "optional/format/idn-hostname.json",
        "needs the crate's `idna` feature: tables for names, for a format nobody here uses",
    ),
    ("optional/format/idn-email.json", "the same"),
];

/// Hands out the suite's remote files under the address they are written for.
struct Remotes(BTreeMap<String, Value>);

impl Retrieve for Remotes {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        self.0.get(uri.as_str()).cloned().ok_or_else(|| format!("no such remote: {uri}").into())
    }
}

fn suite() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/json-schema")
}

fn json_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(json_files(&path));
        } else if path.extension().is_some_and(|end| end == "json") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn remotes() -> Arc<Remotes> {
    let root = suite().join("remotes");
    let uri = |path: &Path| format!("http://localhost:1234/{}", path.strip_prefix(&root).unwrap().display());
    Arc::new(Remotes(json_files(&root).iter().map(|path| (uri(path), read(path))).collect()))
}

struct Shared(Arc<Remotes>);

impl Retrieve for Shared {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        self.0.retrieve(uri)
    }
}

/// Runs one file; returns how many tests it has and the names of those that fail.
fn run_file(path: &Path, draft: Draft, remotes: &Arc<Remotes>) -> (usize, Vec<String>) {
    let name = path.strip_prefix(suite().join("tests")).unwrap().display().to_string();
    let formats = name.contains("optional/format/");
    let (mut count, mut failed) = (0, Vec::new());
    for group in read(path).as_array().unwrap() {
        let shared = Shared(remotes.clone());
        let built = Schema::build(&group["schema"], name.clone(), None, |options| {
            let options = options.with_retriever(shared);
            // A schema that names its own meta-schema is taken at its word.
            let own = group["schema"].get("$schema").is_some();
            let options = if own { options } else { options.with_draft(draft) };
            if formats { options.should_validate_formats(true) } else { options }
        });
        for test in group["tests"].as_array().unwrap() {
            count += 1;
            let valid = built.as_ref().map(|schema| schema.check(&(&test["data"]).into()).is_ok());
            if valid != Ok(test["valid"].as_bool().unwrap()) {
                let text = |value: &Value| value["description"].as_str().unwrap().to_owned();
                let why = built.as_ref().err().map(|error| format!(" ({error})")).unwrap_or_default();
                failed.push(format!("{name}: {}: {}{why}", text(group), text(test)));
            }
        }
    }
    (count, failed)
}

#[test]
fn the_official_suite_passes() {
    let remotes = remotes();
    let (mut wrong, mut unused): (Vec<String>, BTreeSet<&str>) =
        (Vec::new(), MAY_FAIL.iter().map(|(part, _)| *part).collect());
    let drafts = [
        ("draft2020-12", Draft::Draft202012),
        ("draft2019-09", Draft::Draft201909),
        ("draft7", Draft::Draft7),
    ];
    for (draft_folder, draft) in drafts {
        for optional in [false, true] {
            let (mut total, mut allowed) = (0, 0);
            for path in json_files(&suite().join("tests").join(draft_folder)) {
                if path.display().to_string().contains("/optional/") != optional {
                    continue;
                }
                let (count, failed) = run_file(&path, draft, &remotes);
                total += count;
                for name in failed {
                    match MAY_FAIL.iter().find(|(part, _)| optional && name.contains(part)) {
                        Some((part, _)) => {
                            allowed += 1;
                            unused.remove(part);
                        }
                        None => wrong.push(name),
                    }
                }
            }
            let kind = if optional { "optional" } else { "required" };
            println!("{draft_folder} {kind}: {total} tests, {allowed} allowed to fail");
            assert!(total > 500, "{draft_folder} {kind} is there");
        }
    }
    assert!(wrong.is_empty(), "{} tests fail:\n{}", wrong.len(), wrong.join("\n"));
    assert!(unused.is_empty(), "these no longer fail: {unused:?}");
}

fn untrusted(schema: &Value) -> Result<Schema, String> {
    Schema::untrusted(schema, "settings").map_err(|error| error.to_string())
}

#[test]
fn a_strangers_schema_may_refer_to_itself_but_not_run_in_a_circle() {
    let shared = json!({"$id": "urn:x", "$defs": {"p": {"type": "string", "pattern": "^/"}},
        "properties": {"a": {"$ref": "#/$defs/p"}, "b": {"items": {"$ref": "#/$defs/p"}}, "$ref": {"const": 1}}});
    let schema = untrusted(&shared).unwrap();
    assert!(schema.accepts(&(&json!({"a": "/x", "b": ["/y"]})).into()));
    assert!(!schema.accepts(&(&json!({"a": "x"})).into()));
    let doubling = |links: usize| {
        let both = |next: usize| json!({"$ref": format!("#/$defs/{next}")});
        let defs =
            (0..links).map(|link| (link.to_string(), json!({"allOf": [both(link + 1), both(link + 1)]})));
        let mut defs: serde_json::Map<_, _> = defs.collect();
        defs.insert(links.to_string(), json!(true));
        json!({"$defs": defs, "$ref": "#/$defs/0"})
    };
    assert!(untrusted(&doubling(8)).is_ok());
    for (schema, said) in [
        (json!({"$ref": "#"}), "at /$ref: it leads back to itself; a settings schema can't be recursive"),
        (
            json!({"$defs": {"a": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}),
            "it leads back to itself",
        ),
        (doubling(40), "values, the most is 20000"),
        (json!({"$ref": "other.json"}), "can only refer to itself"),
        (json!({"$ref": "#/$defs/none"}), "at /$ref: nothing is there"),
        (json!({"items": {"$dynamicRef": "#a"}}), "at /items/$dynamicRef: $dynamicRef is not allowed"),
        (json!({"items": {"$id": "urn:other"}}), "at /items/$id: $id is not allowed"),
        (json!({"pattern": "(a{1000}){1000}"}), "settings is not a JSON Schema: at /pattern"),
        (json!({"type": "texst"}), "settings is not a JSON Schema: at /type"),
    ] {
        let error = untrusted(&schema).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_strangers_schema_has_few_patterns_and_levels() {
    let patterns = |count: usize| json!({"allOf": vec![json!({"pattern": "a"}); count]});
    assert!(untrusted(&patterns(64)).is_ok());
    assert!(untrusted(&patterns(65)).unwrap_err().contains("more than 64 regular expressions"));
    let deep = (0..200).fold(json!(true), |inner, _| json!({"not": inner}));
    assert!(untrusted(&deep).unwrap_err().contains("more than 128 levels"));
}

#[test]
fn all_objections_are_listed_and_unknown_members_stand_at_their_own_place() {
    let schema = untrusted(&json!({"required": ["b"], "additionalProperties": false,
        "properties": {"a": {"type": "array", "items": {"type": "string"}}, "b": {"enum": ["x", "y"]}}}))
    .unwrap();
    let mut found: Vec<_> =
        schema.objections(&json!({"a": ["", 2], "c/d": 1})).iter().map(ToString::to_string).collect();
    found.sort();
    assert_eq!(
        found,
        ["\"b\" is a required property", "/a/1: 2 is not of type \"string\"", "/c~1d: is unknown"]
    );
    let many = vec![json!(1); 100];
    assert_eq!(schema.objections(&json!({"a": many, "b": "x"})).len(), 20);
    assert_eq!(schema.objections(&json!({"b": "x"})), []);
}

#[test]
fn the_digest_follows_the_schema_and_what_it_refers_to_and_not_where_it_lies() {
    let compiled = |part: &str, comment: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("part.json"), part).unwrap();
        let path = folder.path().join("whole.json");
        let text = format!(r#"{{"$comment":"{comment}","properties":{{"a":{{"$ref":"part.json"}}}}}}"#);
        *Schema::compile(&text, &path).unwrap().digest()
    };
    let digest = compiled(r#"{"type":"string"}"#, "x");
    assert_eq!(digest, compiled(r#"{"type":"string"}"#, "x"), "another folder");
    assert_ne!(digest, compiled(r#"{"type":"number"}"#, "x"), "what it refers to");
    assert_ne!(digest, compiled(r#"{"type":"string"}"#, "y"), "itself");
}
