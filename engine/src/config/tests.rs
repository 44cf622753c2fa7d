//! The examples of mistakes, the pages, and what a good file becomes.

use std::time::Duration;

use super::checked::{OnError, Target};
use super::*;
use crate::deliver::{self, Format};
use crate::lane::retry::{Jitter, Policy};
use crate::model::event::Document;
use crate::model::{Reference, Scope, SecretRef, Timestamp};
use crate::source::{self, DeliveryIdFrom, Start};
use crate::validate::Unknown;
use crate::{egress, transform};

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn blessing() -> bool {
    std::env::var_os("HOOKMILL_BLESS").is_some()
}

/// Compares with a file of the repository, or rewrites it.
pub(super) fn same_as_file(path: &Path, text: &str) -> Result<(), String> {
    if blessing() {
        std::fs::write(path, text).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    if there == text {
        return Ok(());
    }
    Err(format!("{} should be:\n{text}\nbut is:\n{there}\nHOOKMILL_BLESS=1 rewrites it\n", path.display()))
}

/// Loads a text as `pipelines/orders.toml` of a folder that has a module and a schema.
fn load_text(text: &str) -> Loaded {
    load_named("orders.toml", text)
}

fn load_named(name: &str, text: &str) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let pipelines = folder.path().join("pipelines");
    std::fs::create_dir_all(&pipelines).unwrap();
    std::fs::create_dir_all(folder.path().join("schemas/events")).unwrap();
    std::fs::write(folder.path().join("schemas/events/order.schema.json"), r#"{"$id": "urn:order"}"#)
        .unwrap();
    std::fs::write(pipelines.join("module.wasm"), "\0asm").unwrap();
    std::fs::write(pipelines.join(name), text).unwrap();
    load(&[pipelines.join(name)], &Prefix::default())
}

fn only(text: &str) -> Pipeline {
    let mut loaded = load_text(text);
    assert_eq!(loaded.problems, [], "no problem is found");
    loaded.pipelines.pop().unwrap()
}

/// `CODE line:column key` of each problem.
fn found(loaded: &Loaded) -> Vec<String> {
    let line =
        |problem: &Problem| format!("{} {}:{} {}", problem.code, problem.line, problem.column, problem.key);
    loaded.problems.iter().map(line).collect()
}

#[test]
fn each_mistake_gets_exactly_its_message() {
    let root = root();
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("pipelines/invalid"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        // A folder is a mistake that takes several files.
        .filter(|path| path.extension().map_or(path.with_extension("txt").is_file(), |end| end == "toml"))
        .collect();
    files.sort();
    assert!(files.len() >= 25, "{} mistakes", files.len());
    assert!(files.iter().any(|path| path.is_dir()), "one of several files");
    let mut wrong = Vec::new();
    for file in &files {
        let loaded = load(std::slice::from_ref(file), &Prefix::default());
        assert!(!loaded.problems.is_empty(), "{} has no problem", file.display());
        let alone = loaded.pipelines.is_empty() || file.is_dir();
        assert!(alone, "{} is taken all the same", file.display());
        let texts: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
        let text = format!("{}\n", texts.join("\n")).replace(&format!("{}/", root.display()), "");
        wrong.extend(same_as_file(&file.with_extension("txt"), &text).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn mistakes_in_test_files_get_exactly_their_messages() {
    let root = root();
    let (suites, problems) = load_suites(&[root.join("pipelines/invalid/tests")]);
    let names = |suite: &suite::Suite| {
        let loaded = load(std::slice::from_ref(&suite.pipeline), &Prefix::default());
        let names: Vec<&Name> = loaded
            .pipelines
            .iter()
            .flat_map(|pipeline| &pipeline.subscriptions)
            .map(|sub| &sub.name)
            .collect();
        suite::check_names(suite, &names)
    };
    let problems: Vec<Problem> = suites.iter().flat_map(names).chain(problems).collect();
    let mut wrong = Vec::new();
    let entries = std::fs::read_dir(root.join("pipelines/invalid/tests")).unwrap();
    let files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let suites: Vec<_> =
        files.iter().filter(|path| path.to_string_lossy().ends_with(suite::ENDING)).collect();
    assert!(suites.len() >= 6, "{suites:?}");
    for path in suites {
        let file = path.display().to_string();
        let of_file = problems.iter().filter(|problem| problem.file == file).map(ToString::to_string);
        let text = format!("{}\n", of_file.collect::<Vec<_>>().join("\n"));
        let text = text.replace(&format!("{}/", root.display()), "");
        wrong.extend(same_as_file(&path.with_extension("txt"), &text).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_code_of_a_pipeline_file_has_an_example() {
    let folder = root().join("pipelines/invalid");
    let entries = [std::fs::read_dir(&folder).unwrap(), std::fs::read_dir(folder.join("tests")).unwrap()];
    let texts: String = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    // Of folders, of hookmill.toml, and of modules that were loaded or asked for.
    let elsewhere = [
        Code::NoFiles,
        Code::BadAddress,
        Code::ModuleInvalid,
        Code::SettingsRefused,
        Code::SettingsSchema,
        Code::RegistryUnreachable,
        Code::ModuleUnknown,
        Code::ReferenceUnusable,
        Code::ShareTooSmall,
    ];
    // From E200 on they are answers of the admin API.
    let of_files = Code::ALL.iter().filter(|code| code.as_str() < "E200");
    let missing: Vec<_> = of_files
        .filter(|code| !elsewhere.contains(code) && !texts.contains(&format!("error[{code}]")))
        .collect();
    assert!(missing.is_empty(), "no example in pipelines/invalid has {missing:?}");
}

#[test]
fn the_pages_are_up_to_date() {
    let root = root();
    same_as_file(&root.join("docs/pipeline-reference.md"), &reference_page()).unwrap();
    same_as_file(&root.join("docs/errors.md"), &errors_page()).unwrap();
}

#[test]
fn codes_are_numbered_upwards_and_none_twice() {
    let numbers: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert!(numbers.is_sorted_by(|left, right| left < right), "{numbers:?}");
}

#[test]
fn the_sample_of_the_reference_is_a_good_pipeline() {
    let pipeline = only(reference::SAMPLE);
    assert_eq!(pipeline.name.as_str(), "orders");
    assert_eq!(pipeline.source.subjects, ["events.shop.>"]);
    assert_eq!(pipeline.validate.unknown, Unknown::Accept);
    let [rule] = pipeline.validate.rules.as_slice() else { panic!("one rule") };
    assert_eq!(
        (rule.label.as_str(), rule.id.as_deref()),
        ("../schemas/events/order.schema.json", Some("urn:order"))
    );
    let [warehouse, analytics] = pipeline.subscriptions.as_slice() else { panic!("two subscriptions") };
    assert!(warehouse.filter.types.matches("com.shop.order.created"));
    assert!(!warehouse.filter.matches.as_ref().unwrap().accepts(&(&serde_json::json!({"total": 9})).into()));
    let Target::Deliver(deliver) = &warehouse.target else { panic!("a webhook") };
    let token = SecretRef::Env { name: "WAREHOUSE_TOKEN".to_owned(), prefix: "Bearer ".to_owned() };
    let plain = |text: &str| SecretRef::Plain(text.to_owned());
    assert_eq!(deliver.url, plain("https://warehouse.example.com/hooks"));
    assert_eq!(deliver.headers, [("authorization".to_owned(), token), ("x-shop".to_owned(), plain("eu"))]);
    assert_eq!(deliver.sign.len(), 1);
    assert_eq!(deliver.give_up_on, [400, 422]);
    assert_eq!(warehouse.retry.schedule.len(), 3);
    let Target::Publish(publish) = &analytics.target else { panic!("a publish") };
    assert_eq!(publish.subject.to_string(), "analytics.{type}");
}

#[test]
fn the_schemas_of_the_examples_take_good_data_and_refuse_bad() {
    let check = |name: &str, data: &str| {
        let path = root().join("schemas/events").join(name);
        let schema = crate::schema::Schema::compile(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
        let refusal = schema.check(&Document::parse(data.as_bytes()).unwrap()).err();
        refusal.map(|refusal| format!("{} {}", refusal.pointer, refusal.keyword))
    };
    let order =
        r#"{"id": "ord_1", "total": 12.5, "currency": "EUR", "items": [{"sku": "a", "quantity": 1}]}"#;
    assert_eq!(check("order.schema.json", order), None);
    assert_eq!(check("order.schema.json", &order.replace("12.5", "-1")).as_deref(), Some("/total minimum"));
    let payment =
        r#"{"id": "pay_1", "order": "ord_1", "amount": 12.5, "currency": "EUR", "status": "captured"}"#;
    assert_eq!(check("payment.schema.json", payment), None);
    assert_eq!(
        check("payment.schema.json", &payment.replace("EUR", "euro")).as_deref(),
        Some("/currency pattern")
    );
}

const SMALL: &str = "[[subscription]]\nname = \"a\"\n[subscription.deliver]\nurl = \"https://example.com\"\n";

#[test]
fn what_is_left_out_has_its_default() {
    let pipeline = only(SMALL);
    let expected = source::Settings {
        stream: "HOOKMILL_EVENTS".into(),
        subjects: vec![],
        start: Start::New,
        max_in_flight: 2048,
        reading: crate::model::event::Reading::Tolerant,
        webhook_id: DeliveryIdFrom::Event,
    };
    assert_eq!((pipeline.name.as_str(), pipeline.source), ("orders", expected));
    let [subscription] = pipeline.subscriptions.as_slice() else { panic!("one subscription") };
    assert!(subscription.filter.types.matches("anything") && subscription.filter.matches.is_none());
    assert_eq!((subscription.steps.len(), subscription.concurrency), (0, 64));
    let hours = [2, 5, 10, 14, 20, 24].map(|hours| hours * 3600);
    let schedule: Vec<u64> = [5, 300, 1800].into_iter().chain(hours).collect();
    let schedule: Vec<Duration> = schedule.into_iter().map(Duration::from_secs).collect();
    let hour = Duration::from_hours(1);
    let retry = Policy { schedule, jitter: Jitter::Share(0.2), max_age: None };
    assert_eq!(retry, Policy::default());
    assert_eq!(subscription.retry, retry);
    let deliver = deliver::Settings {
        url: SecretRef::Plain("https://example.com".to_owned()),
        format: Format::Structured,
        headers: vec![],
        sign: vec![],
        timeout: Duration::from_secs(15),
        give_up_on: vec![],
        retry_on: None,
        retry_after_max: hour,
        reach: egress::Policy::default(),
    };
    assert_eq!(subscription.target, Target::Deliver(deliver));
}

#[test]
fn a_step_is_read_with_its_settings_and_where_they_stand() {
    let step = "[[subscription.step]]\ntransform = \"./module.wasm\"\n";
    let pipeline = only(&format!(
        "{SMALL}{step}settings = {{ remove = [\"/email\"], n = 1, x = 1.5, t = 2026-01-01 }}\n"
    ));
    let step = &pipeline.subscriptions[0].steps[0];
    let settings = serde_json::json!({"remove": ["/email"], "n": 1, "x": 1.5, "t": "2026-01-01"});
    let unset = transform::Unset { timeout: true, memory: true, output: true };
    let owner = "orders/a".into();
    assert_eq!(
        step.transform,
        transform::Settings { settings, owner, unset, ..transform::Settings::default() }
    );
    assert_eq!(step.settings_places.of("/remove/0"), Some((7, 24)));
    assert_eq!(step.settings_places.of("/n/deeper"), Some((7, 35)));
    assert_eq!(step.settings_line, 7);
    assert!(matches!(&step.reference, Reference::File(path) if path.ends_with("pipelines/./module.wasm")));
    assert_eq!(step.written, "./module.wasm");
    assert_eq!(step.on_error, OnError::DeadLetter);
}

#[test]
fn a_step_may_name_a_module_of_the_registry_in_every_form() {
    let digest = format!("redact@sha256:{}", "0".repeat(64));
    for written in ["redact@1", "redact@1.4", "redact@1.4.2", "redact@1.4.2-rc.1", &digest] {
        let pipeline = only(&format!("{SMALL}[[subscription.step]]\ntransform = \"{written}\"\n"));
        let step = &pipeline.subscriptions[0].steps[0];
        assert_eq!((step.reference.to_string().as_str(), step.written.as_str()), (written, written));
    }
}

#[test]
fn retries_are_listed_or_computed() {
    let retry =
        |text: &str| only(&format!("{SMALL}[subscription.retry]\n{text}")).subscriptions.remove(0).retry;
    let seconds = |retry: &Policy| retry.schedule.iter().map(Duration::as_secs).collect::<Vec<_>>();
    assert_eq!(seconds(&retry("schedule = []")), [0_u64; 0]);
    assert_eq!(seconds(&retry("attempts = 1")), [0_u64; 0]);
    assert_eq!(
        seconds(&retry("attempts = 5\ninitial = \"2s\"\nmultiplier = 3\nmax = \"30s\"")),
        [2, 6, 18, 30]
    );
    assert_eq!(seconds(&retry("initial = \"1s\"")), [1, 2, 4, 8, 16, 32, 64]);
    let statuses = |text: &str| {
        let pipeline = only(&format!("{SMALL}[subscription.retry]\n{text}"));
        let [subscription] = pipeline.subscriptions.as_slice() else { panic!("one subscription") };
        let Target::Deliver(deliver) = &subscription.target else { panic!("a webhook") };
        deliver.retry_on.clone()
    };
    assert_eq!(statuses("retry_on = []"), Some(vec![]));
    assert_eq!(statuses("retry_on = [429, 503]\ngive_up_on = [400]"), Some(vec![429, 503]));
    assert_eq!(retry("max_age = \"90m\"").max_age, Some(Duration::from_mins(90)));
    assert_eq!(retry("jitter = \"full\"").jitter, Jitter::Full);
    assert_eq!(retry("jitter = 1").jitter, Jitter::Share(1.0));
}

#[test]
fn a_start_is_a_word_or_a_time() {
    let start = |text: &str| only(&format!("[source]\nstart = {text}\n{SMALL}")).source.start;
    let time = Start::Time(Timestamp::parse("2026-11-24T03:00:00Z").unwrap());
    assert_eq!(start("\"all\""), Start::All);
    assert_eq!(start("2026-11-24T03:00:00Z"), time);
    assert_eq!(start("\"2026-11-24T04:00:00+01:00\""), time);
}

#[test]
fn every_problem_of_a_file_is_reported_in_one_run() {
    let loaded = load_text(
        "names = \"x\"\n[source]\nmax_in_flight = 0\nstart = \"soon\"\n[[subscription]]\ntypes = [\"a*b\", 1]\n\
         [subscription.deliver]\nurl = \"ftp://x\"\ntimeout = \"0s\"\nallow = [\"10.1.0.0/33\", \"10.1.2.3/16\"]\n",
    );
    let expected = [
        "E010 1:1 names",
        "E023 3:17 source.max_in_flight",
        "E033 4:9 source.start",
        "E011 5:1 subscription.name",
        "E030 6:10 subscription.types",
        "E012 6:17 subscription.types",
        "E025 8:7 deliver.url",
        "E021 9:11 deliver.timeout",
        "E029 10:10 deliver.allow",
        "E029 10:25 deliver.allow",
    ];
    assert_eq!(found(&loaded), expected);
}

#[test]
fn a_file_that_never_ends_is_read_to_the_bound() {
    let loaded = load(&[PathBuf::from("/dev/zero")], &Prefix::default());
    let said: Vec<_> =
        loaded.problems.iter().map(|problem| (problem.code, &*problem.message, &*problem.hint)).collect();
    assert_eq!(
        said,
        [(Code::Unreadable, "the file is longer than 16 MiB", "split it into several pipelines")]
    );
}

#[test]
fn a_file_that_is_no_toml_keeps_no_other_from_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.toml", "name = \n[source\n");
    write("b.toml", SMALL);
    write("c.toml", &format!("name = \"b\"\n{SMALL}"));
    write("d.toml", "subscription = 1\n");
    write("b.test.toml", "nonsense");
    write("notes.md", "nonsense");
    std::fs::create_dir(folder.path().join("below")).unwrap();
    write("below/e.toml", "nonsense");
    let loaded = load(
        &[folder.path().to_owned(), folder.path().join("b.toml"), folder.path().join("gone.toml")],
        &Prefix::default(),
    );
    assert_eq!(loaded.pipelines.len(), 1);
    let file =
        |problem: &Problem| Path::new(&problem.file).file_name().unwrap().to_string_lossy().into_owned();
    let found: Vec<_> =
        loaded.problems.iter().map(|problem| format!("{} {}", problem.code, file(problem))).collect();
    assert_eq!(found, ["E003 a.toml", "E003 a.toml", "E015 c.toml", "E012 d.toml", "E001 gone.toml"]);
}

#[test]
fn an_empty_folder_is_a_problem() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(load(&[folder.path().to_owned()], &Prefix::default()).problems[0].code, Code::NoFiles);
}

#[test]
fn the_revision_follows_the_bytes_of_the_file() {
    let (one, other) = (only(SMALL).revision, only(&format!("{SMALL}# a comment\n")).revision);
    assert_eq!(one.len(), 64);
    assert_ne!(one, other);
}

#[test]
fn no_message_shows_what_may_be_secret() {
    let text = "[[subscription]]\nname = \"a\"\n[subscription.deliver]\nurl = \"https://me:hunter2@example.com\"\n\
                sign = [\"whsec_hunter2\"]\nheaders = { authorization = \"hunter2\\n\", x = { env = \"A\", file = \"hunter2\" } }\n";
    let loaded = load_text(text);
    assert_eq!(loaded.problems.len(), 4, "{:?}", loaded.problems);
    for problem in &loaded.problems {
        assert!(!format!("{problem:?}").contains("hunter2"), "{problem}");
    }
}

fn process(text: &str) -> Result<Process, Vec<Problem>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hookmill.toml");
    std::fs::write(&path, text).unwrap();
    load_process(Some(&path))
}

#[test]
fn no_process_file_at_all_works() {
    let defaults = Process::default();
    assert_eq!(defaults.listen.to_string(), "127.0.0.1:8470");
    assert_eq!(defaults.nats.url, "nats://127.0.0.1:4222");
    assert_eq!(defaults.nats.prefix.as_str(), "hookmill");
    assert_eq!(defaults.nats.connect_timeout, Duration::from_secs(30));
    assert_eq!((defaults.nats.replicas, defaults.nats.token.is_none()), (1, true));
    assert_eq!((defaults.limits.lane, defaults.limits.waiting), (1_000_000, 1_000_000));
    assert_eq!(format!("{:?}", process("").unwrap()), format!("{defaults:?}"));
    let settings = crate::nats::Settings::for_url("nats://127.0.0.1:4222");
    assert_eq!(format!("{:?}", defaults.nats), format!("{settings:?}"));
}

#[test]
fn a_process_file_is_read_whole() {
    let text = "listen = \"[::1]:9000\"\n[nats]\nurl = [\"nats://a:4222\", \"tls://b\"]\nprefix = \"mill\"\nreplicas = 3\n\
                user = \"u\"\npassword = { env = \"P\" }\nca = \"ca.pem\"\ncert = \"c.pem\"\nkey = \"k.pem\"\n\
                [egress]\nallow = [\"127.0.0.1\", \"*.Example.com:443\"]\ndeny = [\"10.0.0.0/8\", \":25\"]\nca = \"roots.pem\"\nsystem_roots = false\ntls_min = \"1.3\"\nproxy = \"http://p:3128\"\nproxy_user = \"me\"\nproxy_password = { env = \"P\" }\n[limits]\nlane = 5\nmemory = \"1GiB\"\n";
    let process = process(text).unwrap();
    assert_eq!(process.nats.url, "nats://a:4222,tls://b");
    assert!(process.nats.user.is_some() && process.nats.password.is_some());
    assert!(process.nats.cert.is_some() && process.nats.ca.is_some());
    let texts = |rules: &[egress::Rule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&process.egress.policy.allow), ["127.0.0.1/32", "*.example.com:443"]);
    assert_eq!(texts(&process.egress.policy.deny), ["10.0.0.0/8", ":25"]);
    assert!(process.egress.ca.is_some_and(|path| path.ends_with("roots.pem")));
    assert_eq!((process.egress.system_roots, process.egress.tls_min), (false, egress::TlsVersion::Tls13));
    let proxy = process.egress.proxy.unwrap();
    assert_eq!((&*proxy.host, proxy.port, proxy.credentials.is_some()), ("p", 3128, true));
    assert_eq!((process.limits.lane, process.host.memory_bytes), (5, 1 << 30));
}

#[test]
fn tokens_and_the_admin_section_are_read() {
    let text = "[admin]\ncert = \"c.pem\"\nkey = \"k.pem\"\nrate = 7\n\
                [[token]]\nname = \"ci\"\nsecret = { env = \"CI_TOKEN\" }\nscopes = [\"modules:read\", \"modules:write\"]\n\
                modules = [\"acme-*\", \"redact\"]\n\
                [[token]]\nname = \"ops\"\nsecret = { file = \"ops.token\" }\nscopes = [\"admin\"]\n";
    let process = process(text).unwrap();
    let (cert, key) = process.admin.certificate.unwrap();
    assert!(cert.ends_with("c.pem") && key.ends_with("k.pem"));
    assert_eq!((process.admin.rate, Process::default().admin.rate), (7, 50));
    let [ci, ops] = &process.tokens[..] else { panic!("{:?}", process.tokens) };
    assert_eq!((ci.name.as_str(), &*ci.scopes), ("ci", &[Scope::ModulesRead, Scope::ModulesWrite][..]));
    let patterns: Vec<String> = ci.modules.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(patterns, ["acme-*", "redact"]);
    assert_eq!((&*ops.scopes, &ops.modules), (&[Scope::Admin][..], &None));
}

#[test]
fn mistakes_in_tokens_are_found() {
    let text = "[admin]\ncert = \"c.pem\"\nrate = 0\n\
                [[token]]\nname = \"a\"\nsecret = \"hunter2\"\nscopes = [\"modules\"]\n\
                [[token]]\nname = \"a\"\nsecret = { env = \"A\" }\nscopes = []\n\
                [[token]]\nname = \"b\"\nsecret = { env = \"B\" }\nscopes = [\"admin\"]\nmodules = [\"x\"]\n\
                [[token]]\nname = \"c\"\nsecret = { env = \"C\" }\nscopes = [\"modules:read\"]\nmodules = [\"X\"]\n\
                [[token]]\nname = \"d\"\nsecret = { env = \"D\" }\nscopes = [\"dlq:read\"]\nmodules = []\n\
                [[token]]\n";
    let problems = process(text).unwrap_err();
    assert!(problems.iter().all(|problem| !format!("{problem:?}").contains("hunter2")));
    let expected = [
        "E014 2:8 admin.cert",
        "E023 3:8 admin.rate",
        "E028 6:10 token.secret",
        "E024 7:11 token.scopes",
        "E015 9:8 token.name",
        "E023 11:10 token.scopes",
        "E014 16:11 token.modules",
        "E020 21:12 token.modules",
        "E014 26:11 token.modules",
        "E011 27:1 token.name",
        "E011 27:1 token.secret",
        "E011 27:1 token.scopes",
    ];
    assert_eq!(found(&Loaded { problems, ..Loaded::default() }), expected);
}

#[test]
fn problems_of_the_process_file_are_reported_together() {
    let text = "listen = \"localhost\"\nproxy = 1\n[nats]\nurl = \"http://x\"\ntoken = \"hunter2\"\nuser = \"u\"\ncert = \"c.pem\"\n\
                [egress]\nproxy = \"http://me:hunter2@p\"\nproxy_user = \"me\"\nsystem_roots = false\ntls_min = \"1.1\"\n[ingest]\n";
    let problems = process(text).unwrap_err();
    assert!(problems.iter().all(|problem| !format!("{problem:?}").contains("hunter2")));
    let expected = [
        "E034 1:10 listen",
        "E010 2:1 proxy",
        "E025 4:7 nats.url",
        "E028 5:9 nats.token",
        "E014 5:9 nats.token",
        "E014 6:8 nats.user",
        "E014 7:8 nats.cert",
        "E025 9:9 egress.proxy",
        "E014 10:14 egress.proxy_user",
        "E014 11:16 egress.system_roots",
        "E024 12:11 egress.tls_min",
        "E013 13:2 ingest",
    ];
    assert_eq!(found(&Loaded { problems, ..Loaded::default() }), expected);
}
