//! Each stage of an event's life alone, with the same order of 1 KiB everywhere.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use hookmill::deliver::signature::{self, Key};
use hookmill::deliver::{Endpoint, Format, Settings as Delivery};
use hookmill::egress;
use hookmill::model::event::{Mends, Reading};
use hookmill::model::{
    DeliveryId, Event, EventRef, Name, SecretRef, SourceRef, SplitPath, Task, TaskKey, Timestamp, Work,
};
use hookmill::nats::tasks;
use hookmill::schema::Schema;
use hookmill::transform::{Compiler, Host, HostSettings, Isolation, Settings, Step};
use hookmill_benches::pipelines::{REDACT, SCHEMA, SECRET};
use hookmill_tests::events;
use tokio::runtime::Runtime;

fn order() -> Event {
    Event::from_structured(&Bytes::from(events::order_json(1))).expect("an order is an event")
}

fn pairs(message: &events::Message) -> Vec<(String, String)> {
    let values =
        |(name, values): (_, &Vec<async_nats::HeaderValue>)| (format!("{name}"), values[0].to_string());
    message.headers.iter().map(|(name, list)| values((name, list))).collect()
}

fn parse(bench: &mut Criterion) {
    for (name, message) in [("structured", events::structured(1)), ("binary", events::binary(1))] {
        let headers = pairs(&message);
        bench.bench_function(&format!("parse/{name}"), |bench| {
            bench.iter(|| Event::parse(black_box(&headers), black_box(&message.payload), Reading::Tolerant));
        });
    }
}

fn schema(bench: &mut Criterion) {
    let schema = Schema::compile(SCHEMA, Path::new("order.schema.json")).expect("a schema");
    let event = order();
    let document = event.document().expect("the data is JSON");
    bench.bench_function("schema/check", |bench| bench.iter(|| schema.check(black_box(&document))));
    bench.bench_function("schema/parse the data", |bench| bench.iter(|| black_box(&event).document()));
}

fn step(runtime: &Runtime, module: &str, settings: &str, isolation: Isolation) -> Step {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../transforms/dist").join(module);
    let bytes = std::fs::read(path).expect("the guests are built: run make setup first");
    let mut host = HostSettings::default();
    // Trusted with this process: it is our own.
    host.compile.by = Compiler::ThisProcess;
    let host = Host::new(host).expect("a host");
    let module = host.load(module, &bytes).expect("a module");
    let settings = serde_json::from_str(settings).expect("settings are JSON");
    let settings = Settings { settings, isolation, ..Settings::default() };
    runtime.block_on(Step::new(host, module, settings)).expect("a step")
}

fn transform(bench: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let keep = r#"{"mode": "keep"}"#;
    for (name, module, settings, isolation) in [
        ("keep", "hostile.wasm", keep, Isolation::Instance),
        ("redact", "redact.wasm", REDACT, Isolation::Instance),
        ("redact, fresh instance", "redact.wasm", REDACT, Isolation::Event),
    ] {
        let step = step(&runtime, module, settings, isolation);
        let event = order();
        bench.bench_function(&format!("transform/{name}"), |bench| {
            bench
                .to_async(&runtime)
                .iter(|| async { step.apply(black_box(&event)).await.expect("a verdict") });
        });
    }
}

fn deliver(bench: &mut Criterion) {
    let key = [Key::parse(SECRET).expect("a key")];
    let body = Bytes::from(events::order_json(1));
    let id = "msg_abcdefghijklmnopqrstuvwxyz";
    bench.bench_function("deliver/sign", |bench| {
        bench.iter(|| signature::sign(black_box(&key), id, 1_777_888_999, black_box(&body)));
    });
    let client = egress::Client::new(egress::ClientSettings::default()).expect("a client");
    for (name, format) in [("structured", Format::Structured), ("binary", Format::Binary)] {
        let settings = Delivery {
            url: SecretRef::Plain("http://127.0.0.1:1/".into()),
            format,
            headers: Vec::new(),
            sign: Vec::new(),
            timeout: Duration::from_secs(15),
            give_up_on: Vec::new(),
            retry_on: None,
            retry_after_max: Duration::from_hours(1),
            reach: egress::Policy::default(),
        };
        let endpoint = Endpoint::new(settings, &client);
        // As a transform leaves it: the bytes that came are gone.
        let mut event = order();
        event.structured = None;
        bench.bench_function(&format!("deliver/render {name}"), |bench| {
            bench.iter(|| endpoint.render(black_box(&event), &[]));
        });
    }
}

fn task() -> Task {
    let (pipeline, subscription) = (Name::new("orders").expect("a name"), Name::new("sink").expect("a name"));
    let (event, path) = (Arc::new(order()), SplitPath::root());
    let source =
        SourceRef { stream: "HOOKMILL_EVENTS".into(), sequence: 7, time: Timestamp::from_unix_seconds(9) };
    Task {
        key: TaskKey::derive(&source, &pipeline, subscription.as_str(), &path),
        delivery_id: DeliveryId::derive(&event.source, &event.id, &pipeline, subscription.as_str(), &path),
        event: Arc::new(EventRef {
            id: event.id.clone(),
            source: event.source.clone(),
            ty: event.ty.clone(),
            time: None,
            unverified: false,
        }),
        pipeline,
        subscription: Some(subscription),
        work: Work::Step(0, event.clone()),
        source,
        path,
        steps: "0011223344556677".into(),
        subject: None,
        mends: Mends::default(),
        generation: 0,
        stores: 0,
        attempt: 1,
        first_attempt: Some(Timestamp::from_unix_seconds(10)),
        left: None,
        http: Vec::new(),
        modules: Vec::new(),
        traceparent: None,
        hops: 0,
        last: None,
        fits: None,
    }
}

fn store(bench: &mut Criterion) {
    let task = task();
    bench.bench_function("task/identities", |bench| {
        bench.iter(|| {
            let (pipeline, path) = (black_box(&task.pipeline), SplitPath::root());
            let key = TaskKey::derive(black_box(&task.source), pipeline, "sink", &path);
            (key, DeliveryId::derive(&task.event.source, &task.event.id, pipeline, "sink", &path))
        });
    });
    bench.bench_function("task/encode", |bench| bench.iter(|| tasks::encode(black_box(&task))));
    let (headers, body) = tasks::encode(&task);
    bench.bench_function("task/decode", |bench| {
        bench.iter(|| {
            tasks::decode(&task.pipeline, task.subscription.as_ref(), black_box(&headers), black_box(&body))
        });
    });
}

criterion_group!(stages, parse, schema, transform, deliver, store);
criterion_main!(stages);
