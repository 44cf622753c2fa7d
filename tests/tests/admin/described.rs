//! What the router itself says, and the description of the API.

use std::collections::BTreeSet;

use serde_json::Value;

use super::support::{ADMIN, Ask, Problems, Site, TOKENS};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_router_refuses_is_a_problem_document_too() {
    let site = Site::start(TOKENS).await;
    for path in ["/", "/v1", "/v1/", "/v1/nothing", "/v2/modules", "/v1/modules/a/1.0.0/more", "/docs/"] {
        let problem = site.get(path).await.problem(404, "E205");
        assert_eq!(problem["instance"], path);
    }
    for (method, path, allow) in [
        ("POST", "/v1/modules", "GET,HEAD"),
        ("PATCH", "/v1/modules/a/1.0.0", "DELETE,GET,HEAD,PUT"),
        ("GET", "/v1/dlq/1/redrive", "POST"),
        ("DELETE", "/healthz", "GET,HEAD"),
    ] {
        let answer = site.ask(Ask::new(method, path).token(ADMIN)).await;
        answer.problem(405, "E206");
        let mut allowed: Vec<&str> = answer.header("allow").unwrap_or_default().split(',').collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(","), allow, "{method} {path}");
    }
    for (path, accept) in [("/v1/modules", "text/html"), ("/v1/modules/a/1.0.0/wasm", "application/json")] {
        site.ask(Ask::new("GET", path).token(ADMIN).header("accept", accept)).await.problem(406, "E207");
    }
    let problem = site.get("/v1/modules?limt=3").await.problem(400, "E208");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("limt")), "{problem}");
    assert_eq!(problem["instance"], "/v1/modules", "parameters may hold what is nobody's business");
}

/// Every `$ref` of a document.
fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_openapi_3_1_whole_in_itself_and_the_page_shows_all_of_it() {
    let site = Site::start(TOKENS).await;
    let document = site.ask(Ask::new("GET", "/v1/openapi.json")).await.good(200);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.contains("#/components/schemas/Problem"), "{found:?}");
    for reference in &found {
        let pointer = reference.strip_prefix('#').expect("it stays within the document");
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let page = site.ask(Ask::new("GET", "/docs")).await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(
        page.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'"))
    );
    let page = String::from_utf8(page.body.to_vec()).expect("text");
    let (mut operations, mut ids) = (0, BTreeSet::new());
    for (path, item) in document["paths"].as_object().expect("an object") {
        for (method, operation) in item.as_object().expect("an object") {
            operations += 1;
            let heading = format!("<span class=\"method\">{}</span> {path}</code>", method.to_uppercase());
            assert!(page.contains(&heading), "{method} {path} is not on the page");
            assert!(
                ids.insert(operation["operationId"].as_str().expect("an id")),
                "{method} {path}: id used twice"
            );
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let name = parameter["name"].as_str().expect("a name");
                let in_path = path.contains(&format!("{{{name}}}"));
                assert_eq!(parameter["in"], if in_path { "path" } else { "query" }, "{method} {path} {name}");
            }
            for status in ["400", "401", "403", "429", "503"] {
                assert!(
                    operation["responses"][status]["content"]["application/problem+json"].is_object(),
                    "{method} {path}"
                );
            }
        }
    }
    assert_eq!(operations, 17);
    for schema in document["components"]["schemas"].as_object().expect("an object").keys() {
        assert!(page.contains(&format!("id=\"schema-{schema}\"")), "{schema} is not on the page");
    }
    for link in page.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(page.contains(&format!("id=\"{link}\"")), "#{link} leads nowhere");
    }
}
