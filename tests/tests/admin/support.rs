//! An engine with tokens, and questions to its admin API.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use hookmill_tests::http::{self, Answer};
use hookmill_tests::{Engine, PipelineFolder, behaviour};
use serde_json::Value;

use crate::mill::Mill;

/// The tokens of [`TOKENS`], each with one scope: name and value.
pub const ONE_SCOPE: [(&str, &str); 5] = [
    ("modules:read", "modules-read-0123456789"),
    ("modules:write", "modules-write-0123456789"),
    ("dlq:read", "dlq-read-0123456789"),
    ("dlq:write", "dlq-write-0123456789"),
    ("admin", ADMIN),
];
/// May do everything.
pub const ADMIN: &str = "admin-0123456789";
/// Reads and writes modules called `acme-…` and `shared`.
pub const ACME: &str = "acme-0123456789abcdef";

/// One token for each scope, and one for some modules. The rate is beyond what a test sends.
pub const TOKENS: &str = r#"
[admin]
rate = 100_000

[[token]]
name = "modules-read"
secret = { env = "T_MODULES_READ" }
scopes = ["modules:read"]

[[token]]
name = "modules-write"
secret = { env = "T_MODULES_WRITE" }
scopes = ["modules:write"]

[[token]]
name = "dlq-read"
secret = { env = "T_DLQ_READ" }
scopes = ["dlq:read"]

[[token]]
name = "dlq-write"
secret = { env = "T_DLQ_WRITE" }
scopes = ["dlq:write"]

[[token]]
name = "ops"
secret = { env = "T_ADMIN" }
scopes = ["admin"]

[[token]]
name = "acme"
secret = { file = "acme.token" }
scopes = ["modules:read", "modules:write"]
modules = ["acme-*", "shared"]
"#;

/// A running engine with the pipeline `orders`.
pub struct Site {
    pub mill: Mill,
    pub engine: Engine,
    /// With `hookmill.toml`.
    pub settings: PipelineFolder,
}

/// A question: method, path, and what goes with it.
pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub token: Option<&'a str>,
    pub headers: Vec<(&'a str, String)>,
    pub body: Bytes,
}

impl<'a> Ask<'a> {
    pub fn new(method: &'a str, path: &'a str) -> Self {
        Self { method, path, token: None, headers: Vec::new(), body: Bytes::new() }
    }

    pub fn token(self, token: &'a str) -> Self {
        Self { token: Some(token), ..self }
    }

    pub fn header(mut self, name: &'a str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn body(self, kind: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }.header("content-type", kind)
    }
}

/// What is answered as problem documents are.
pub trait Problems {
    /// The document, which has all its parts, this status and this code.
    fn problem(&self, status: u16, code: &str) -> Value;
    /// The document of a success with this status.
    fn good(&self, status: u16) -> Value;
}

impl Problems for Answer {
    #[track_caller]
    fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let document: Value = serde_json::from_slice(&self.body).expect("a problem is JSON");
        assert_eq!((self.status, document["code"].as_str()), (status, Some(code)), "{document}");
        assert_eq!(document["status"], status);
        assert_eq!(document["type"], format!("/docs#{code}"));
        for text in ["title", "detail", "instance"] {
            assert!(document[text].as_str().is_some_and(|text| !text.is_empty()), "{text} of {document}");
        }
        document
    }

    #[track_caller]
    fn good(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).expect("an answer is JSON")
    }
}

impl Site {
    /// With these lines in `hookmill.toml`; the variables of [`TOKENS`] are set.
    pub async fn start(settings: &str) -> Self {
        Self::of(Mill::new(behaviour::always(200), "", "").await, settings).await
    }

    /// The same with a mill of one's own.
    pub async fn of(mill: Mill, settings: &str) -> Self {
        let folder = PipelineFolder::new();
        let file = folder.write("hookmill.toml", settings);
        folder.write("acme.token", ACME);
        let mut options = mill.engine().arg("--config").arg(&file);
        for (scope, value) in ONE_SCOPE {
            let name = format!("T_{}", scope.to_ascii_uppercase().replace(':', "_"));
            options = options.env(&name, value);
        }
        let engine = options.start().await;
        Self { mill, engine, settings: folder }
    }

    /// Asks.
    pub async fn ask(&self, ask: Ask<'_>) -> Answer {
        send(&self.engine.url(ask.path), &ask).await
    }

    /// `GET` with the token that may do everything.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Ask::new("GET", path).token(ADMIN)).await
    }

    /// Uploads with the token that may do everything.
    pub async fn put(&self, module: &str, version: &str, bytes: Vec<u8>) -> Answer {
        let path = format!("/v1/modules/{module}/{version}");
        self.ask(Ask::new("PUT", &path).token(ADMIN).body("application/wasm", bytes)).await
    }
}

/// Asks at a URL.
pub async fn send(url: &str, ask: &Ask<'_>) -> Answer {
    let mut request = hyper::Request::builder().method(ask.method).uri(url);
    if let Some(token) = ask.token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in &ask.headers {
        request = request.header(*name, value);
    }
    http::answer(request, ask.body.clone()).await.expect("the engine answers")
}

/// A built guest.
pub fn guest(name: &str) -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout");
    checkout.join(format!("transforms/dist/{name}.wasm"))
}

/// The bytes of a built guest.
pub fn guest_bytes(name: &str) -> Vec<u8> {
    let path = guest(name);
    std::fs::read(&path).unwrap_or_else(|_| panic!("no {}: run make modules first", path.display()))
}

/// The guest `redact` with other bytes: a custom section more, which means nothing.
pub fn redact_variant(number: u8) -> Vec<u8> {
    let mut bytes = guest_bytes("redact");
    // Section 0, three bytes long: a name of one letter, and the number.
    bytes.extend([0, 3, 1, b'v', number]);
    bytes
}
