//! What the tests of the registry have in common.

use bytes::Bytes;
use hookmill::model::{Name, Reference, Version};
use hookmill::nats::modules::{Put, Record};
use hookmill::nats::{Modules, Nats, Settings};
use hookmill_tests::{Endpoint, NatsServer, eventually, hookmill, stamp};
use serde_json::Value;

use crate::scene::{SOON, Scene, good, webhook};

/// A connection as the engine makes it.
pub async fn connect(server: &NatsServer) -> Nats {
    Nats::connect(&Settings::for_url(server.url())).await.expect("a running server takes connections")
}

/// The registry on a connection of its own.
pub async fn open(server: &NatsServer) -> Modules {
    Modules::open(&connect(server).await).await.expect("the registry can be opened")
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub fn version(text: &str) -> Version {
    Version::parse(text).expect("a version")
}

pub fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("a reference")
}

/// Stores a version that isn't there yet.
pub async fn put(modules: &Modules, module: &str, at: &str, bytes: impl Into<Bytes>) -> Record {
    match modules.put(&name(module), &version(at), bytes.into(), Value::Null).await {
        Ok(Put::Created(record)) => record,
        other => panic!("{module}@{at} is not stored: {other:?}"),
    }
}

/// `name@version` of what a reference means, or what is said of it.
pub async fn resolved(modules: &Modules, text: &str) -> String {
    match modules.resolve(&reference(text)).await {
        Ok(record) => format!("{}@{}", record.name, record.version),
        Err(error) => error.to_string(),
    }
}

/// A pipeline `p` with one subscription, `shop`, whose one step runs `transform`; `more` are further lines of the step.
pub fn pipeline(endpoint: &Endpoint, transform: &str, more: &str) -> String {
    webhook("shop", &endpoint.url(), "")
        + &format!("[[subscription.step]]\ntransform = \"{transform}\"\n{more}\n")
}

/// Publishes one event and waits for it; the version that its request is stamped with.
pub async fn stamped(scene: &Scene, endpoint: &Endpoint, id: &str) -> String {
    let before = endpoint.log().received();
    scene.publish([good(id)]).await;
    endpoint.wait_for("one more request", SOON, |log| log.received() > before).await;
    endpoint.requests().last().expect("one came").header(stamp::HEADER).to_owned()
}

/// What `hookmill status --json` says of the modules in use.
pub async fn uses(server: &NatsServer) -> Vec<Value> {
    let said = hookmill(&["status", "--json", "--nats", &server.url()]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let lines = said.stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON"));
    lines.filter(|line: &Value| line["kind"] == "module").collect()
}

/// Waits until status says of the one module in use what is wanted: its version, and whether there is an error.
pub async fn runs(server: &NatsServer, version: &str, error: Option<&str>) {
    let what = format!("status says version {version} and {error:?}");
    eventually(SOON, &what, || async {
        let uses = uses(server).await;
        let [one] = &uses[..] else { return Err(format!("{uses:?}")) };
        let said = one["last_error"].as_str();
        let fits = match (error, said) {
            (None, None) => true,
            (Some(error), Some(said)) => said.contains(error),
            _ => false,
        };
        if one["version"] == version && fits { Ok(()) } else { Err(one.to_string()) }
    })
    .await;
}
