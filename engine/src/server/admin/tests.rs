//! The document of the API, and what the routes say without anything behind them.

use serde_json::Value;

use super::dlq::WholeLetter;
use super::*;
use crate::model::{EventRef, SourceMessage, SourceRef, SplitPath, Task, TaskKey, Timestamp, Work};

#[test]
fn accept_is_read_as_http_says() {
    let judge = |accept: &[&str], offer| {
        let values = accept.iter().map(|value| (ACCEPT, value.parse().unwrap()));
        acceptable(&values.collect(), offer).is_ok()
    };
    for fine in [
        &[][..],
        &["*/*"],
        &["application/json"],
        &["text/html, application/json;q=0.5"],
        &["text/html", "application/*"],
        &["APPLICATION/JSON"],
    ] {
        assert!(judge(fine, "application/json"), "{fine:?}");
    }
    for other in [
        &["text/html"][..],
        &["application/xml, text/*"],
        &["application/json;q=0"],
        &["application/wasm"],
        &[""],
    ] {
        assert!(!judge(other, "application/json"), "{other:?}");
    }
    assert!(judge(&["application/wasm"], "application/wasm"));
}

fn made() -> OpenApi {
    let mut document = openapi::base();
    let mut paths = utoipa::openapi::path::Paths::new();
    let (schemas, listing, _): UtoipaMethodRouter<App> = routes!(modules::list);
    document.components.get_or_insert_default().schemas.extend(schemas);
    paths.merge(listing);
    openapi::describe_guard(&mut paths, Scope::ModulesRead);
    document.paths.merge(paths);
    document
}

#[test]
fn a_guard_stands_in_the_document() {
    let document = serde_json::to_value(made()).unwrap();
    let operation = &document["paths"]["/v1/modules"]["get"];
    assert_eq!(operation["security"], serde_json::json!([{ "token": ["modules:read"] }]));
    assert!(operation["description"].as_str().unwrap().ends_with("Needs the scope `modules:read`."));
    let reference = &operation["responses"]["401"]["content"]["application/problem+json"]["schema"]["$ref"];
    assert_eq!(reference, "#/components/schemas/Problem");
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn what_is_said_of_a_dead_letter_is_what_the_document_says() {
    let pipeline = crate::model::Name::new("orders").unwrap();
    let source = SourceRef { stream: "S".into(), sequence: 7, time: Timestamp::from_unix_nanos(1) };
    let message = SourceMessage { headers: Vec::new(), body: bytes::Bytes::from_static(b"x") };
    let path = SplitPath::root();
    let task = Task {
        key: TaskKey::derive(&source, &pipeline, "a", &path),
        delivery_id: crate::model::DeliveryId::derive("/s", "1", &pipeline, "a", &path),
        subscription: None,
        pipeline: pipeline.clone(),
        work: Work::Source(message),
        source,
        event: EventRef {
            id: "1".into(),
            source: "/s".into(),
            ty: "t".into(),
            time: None,
            unverified: false,
        }
        .into(),
        path,
        steps: "abc".into(),
        subject: None,
        mends: crate::model::event::Mends::NONE,
        generation: 0,
        stores: 0,
        attempt: 3,
        first_attempt: Some(Timestamp::from_unix_nanos(5)),
        left: None,
        http: Vec::new(),
        modules: vec!["redact@1.4.2".into()],
        traceparent: None,
        hops: 0,
        fits: None,
        last: None,
    };
    let death = crate::nats::tasks::Death {
        reason: crate::model::Reason::Gone,
        error: "gone".into(),
        status: Some(410),
    };
    let (headers, body) = crate::nats::tasks::encode_dead_letter(&task, &death);
    let stored = crate::nats::Stored {
        subject: "hookmill.dlq.orders.a.gone".into(),
        sequence: 9,
        time: Timestamp::from_unix_nanos(9),
        headers,
        body,
    };
    let letter = crate::nats::letters::Letter {
        stored,
        pipeline: "orders".into(),
        subscription: "a".into(),
        death,
        parts: None,
        task: Ok(task),
    };
    let whole: WholeLetter = serde_json::from_value(letter.whole()).unwrap();
    let _: super::dlq::DeadLetter = serde_json::from_value(letter.summary()).unwrap();
    assert_eq!(whole.body, Value::from("x"));
}

#[test]
fn the_page_shows_operations_bodies_and_codes() {
    let page = page::render(&made());
    for part in [
        "<span class=\"method\">GET</span> /v1/modules</code>",
        "<a href=\"#schema-ModuleList\">ModuleList</a>",
        "id=\"schema-VersionSummary\"",
        "<tr id=\"E218\">",
        "<code>limit</code><td>query",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    assert!(
        !page.contains("<script") && !page.contains("http://") && !page.contains("https://"),
        "nothing is fetched"
    );
}
