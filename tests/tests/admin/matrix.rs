//! Who may do what: each operation with no token, a wrong one, and one of each scope.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::support::{ACME, ADMIN, Ask, ONE_SCOPE, Problems, Site, TOKENS, redact_variant};

/// An operation, a request for it, and what is answered to who may.
struct Case {
    operation: &'static str,
    path: &'static str,
    body: &'static str,
    scope: &'static str,
    /// Status, and the code of the problem if it is one.
    allowed: (u16, &'static str),
}

const fn case(
    operation: &'static str,
    path: &'static str,
    body: &'static str,
    scope: &'static str,
    allowed: (u16, &'static str),
) -> Case {
    Case { operation, path, body, scope, allowed }
}

const OPERATIONS: [Case; 17] = [
    case("GET /v1/modules", "/v1/modules", "", "modules:read", (200, "")),
    case("GET /v1/modules/{name}", "/v1/modules/none", "", "modules:read", (404, "E218")),
    case("GET /v1/modules/{name}/{version}", "/v1/modules/none/1.0.0", "", "modules:read", (404, "E218")),
    case(
        "GET /v1/modules/{name}/{version}/wasm",
        "/v1/modules/none/1.0.0/wasm",
        "",
        "modules:read",
        (404, "E218"),
    ),
    case("PUT /v1/modules/{name}/{version}", "/v1/modules/none/1.0.0", "{}", "modules:write", (415, "E211")),
    case(
        "POST /v1/modules/{name}/{version}/yank",
        "/v1/modules/none/1.0.0/yank",
        r#"{"why":"x"}"#,
        "modules:write",
        (404, "E218"),
    ),
    case("DELETE /v1/modules/{name}/{version}", "/v1/modules/none/1.0.0", "", "modules:write", (404, "E218")),
    case("GET /v1/dlq", "/v1/dlq", "", "dlq:read", (200, "")),
    case("GET /v1/dlq/{seq}", "/v1/dlq/999", "", "dlq:read", (404, "E219")),
    case("POST /v1/dlq/{seq}/redrive", "/v1/dlq/999/redrive", "", "dlq:write", (404, "E219")),
    case("DELETE /v1/dlq/{seq}", "/v1/dlq/999", "", "dlq:write", (404, "E219")),
    case("GET /v1/lanes", "/v1/lanes", "", "dlq:read", (200, "")),
    case(
        "POST /v1/lanes/{pipeline}/{subscription}/pause",
        "/v1/lanes/orders/hook/pause",
        "",
        "admin",
        (200, ""),
    ),
    case(
        "POST /v1/lanes/{pipeline}/{subscription}/resume",
        "/v1/lanes/orders/hook/resume",
        "",
        "admin",
        (200, ""),
    ),
    case(
        "POST /v1/lanes/{pipeline}/{subscription}/adopt",
        "/v1/lanes/orders/hook/adopt",
        r#"{"into":"orders/other"}"#,
        "admin",
        (409, "E222"),
    ),
    case(
        "POST /v1/lanes/{pipeline}/{subscription}/dead-letter",
        "/v1/lanes/orders/hook/dead-letter",
        "",
        "admin",
        (409, "E222"),
    ),
    case("GET /v1/trace/{event}", "/v1/trace/none", "", "dlq:read", (200, "")),
];

impl Case {
    async fn ask(&self, site: &Site, token: Option<&str>) -> hookmill_tests::http::Answer {
        let method = self.operation.split(' ').next().expect("a method");
        let ask = Ask { token, ..Ask::new(method, self.path) };
        let ask = if self.body.is_empty() { ask } else { ask.body("application/json", self.body) };
        site.ask(ask).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_operation_is_open_to_its_scope_and_to_admin_and_to_nobody_else() {
    let site = Site::start(TOKENS).await;
    for case in &OPERATIONS {
        let none = case.ask(&site, None).await;
        none.problem(401, "E201");
        assert_eq!(none.header("www-authenticate"), Some("Bearer realm=\"hookmill\""), "{}", case.operation);
        let wrong = case.ask(&site, Some("wrong-0123456789-wrong")).await;
        wrong.problem(401, "E201");
        let challenge = wrong.header("www-authenticate");
        assert_eq!(challenge, Some("Bearer realm=\"hookmill\", error=\"invalid_token\""));
        for (scope, token) in ONE_SCOPE {
            let answer = case.ask(&site, Some(token)).await;
            if scope == case.scope || scope == "admin" {
                match case.allowed {
                    (status, "") => drop(answer.good(status)),
                    (status, code) => drop(answer.problem(status, code)),
                }
                continue;
            }
            let problem = answer.problem(403, "E202");
            assert_eq!(problem["scope"], case.scope, "{} with {scope}", case.operation);
            let detail = problem["detail"].as_str().expect("text");
            assert!(detail.ends_with(&format!("lacks the scope {}", case.scope)), "{detail}");
            assert!(!detail.contains(token) && !problem.to_string().contains("0123456789"), "{problem}");
            let challenge = answer.header("www-authenticate").expect("RFC 6750, 3.1");
            assert!(challenge.ends_with(&format!("scope=\"{}\"", case.scope)), "{challenge}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_above_is_the_document_and_the_document_needs_no_token() {
    let site = Site::start(TOKENS).await;
    let document = site.ask(Ask::new("GET", "/v1/openapi.json")).await.good(200);
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("an object") {
        for (method, operation) in item.as_object().expect("an object") {
            let scope = &operation["security"][0]["token"][0];
            described.insert((
                format!("{} {path}", method.to_uppercase()),
                scope.as_str().expect("text").to_owned(),
            ));
        }
    }
    let table: BTreeSet<_> =
        OPERATIONS.iter().map(|case| (case.operation.to_owned(), case.scope.to_owned())).collect();
    assert_eq!(described, table);
    for open in ["/healthz", "/readyz", "/metrics", "/docs"] {
        assert_eq!(site.ask(Ask::new("GET", open)).await.status, 200, "{open}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_some_modules_meets_no_others() {
    let site = Site::start(TOKENS).await;
    for module in ["acme-redact", "shared", "other"] {
        site.put(module, "1.0.0", redact_variant(1)).await.good(201);
    }
    let acme = async |method, path: &str, body: &'static str| {
        let ask = Ask::new(method, path).token(ACME);
        site.ask(if body.is_empty() { ask } else { ask.body("application/json", body) }).await
    };
    let listed = acme("GET", "/v1/modules", "").await.good(200);
    let names: Vec<&Value> =
        listed["modules"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["acme-redact", "shared"]);
    for (method, path, body) in [
        ("GET", "/v1/modules/other", ""),
        ("GET", "/v1/modules/other/1.0.0", ""),
        ("GET", "/v1/modules/other/1.0.0/wasm", ""),
        ("PUT", "/v1/modules/other/1.0.1", "{}"),
        ("POST", "/v1/modules/other/1.0.0/yank", r#"{"why":"x"}"#),
        ("DELETE", "/v1/modules/other/1.0.0", ""),
        ("GET", "/v1/modules/acme", ""),
    ] {
        let problem = acme(method, path, body).await.problem(403, "E203");
        assert_eq!(problem["hint"], "it is for acme-*, shared", "{method} {path}");
    }
    acme("GET", "/v1/modules/acme-redact/1.0.0", "").await.good(200);
    acme("POST", "/v1/modules/shared/1.0.0/yank", r#"{"why":"x"}"#).await.good(200);
    assert_eq!(acme("DELETE", "/v1/modules/shared/1.0.0", "").await.status, 204);
    acme("GET", "/v1/dlq", "").await.problem(403, "E202");
    let all = site.get("/v1/modules").await.good(200);
    assert_eq!(all["modules"].as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_file_changes_with_the_file() {
    let site = Site::start(TOKENS).await;
    site.ask(Ask::new("GET", "/v1/modules").token(ACME)).await.good(200);
    let fresh = "acme-fresh-0123456789";
    site.settings.write("acme.token", fresh);
    let soon = std::time::Duration::from_secs(20);
    hookmill_tests::eventually(soon, "the new token is known and the old one is not", || async {
        let old = site.ask(Ask::new("GET", "/v1/modules").token(ACME)).await.status;
        let new = site.ask(Ask::new("GET", "/v1/modules").token(fresh)).await.status;
        if (old, new) == (401, 200) { Ok(()) } else { Err(format!("{old} {new}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_go_on_and_others_are_not_touched() {
    let site = Site::start(&TOKENS.replace("rate = 100_000", "rate = 1")).await;
    let list = async |token| site.ask(Ask { token, ..Ask::new("GET", "/v1/modules") }).await;
    for token in [Some(ADMIN), None] {
        let mut answers = Vec::new();
        for _ in 0..6 {
            answers.push(list(token).await);
        }
        let refused = answers.iter().find(|answer| answer.status == 429).expect("two a second and no more");
        let problem = refused.problem(429, "E212");
        assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("Retry-After")), "{problem}");
        let wait: u64 = refused.header("retry-after").and_then(|wait| wait.parse().ok()).expect("seconds");
        assert!((1..=2).contains(&wait), "{wait}");
    }
    list(Some(ACME)).await.good(200);
    for _ in 0..10 {
        assert_eq!(site.ask(Ask::new("GET", "/healthz")).await.status, 200, "health is not counted");
    }
    assert_eq!(json!(list(Some(ACME)).await.status), 200);
}
