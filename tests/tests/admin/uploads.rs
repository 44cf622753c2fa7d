//! Modules on their way in: good ones, bad ones, too large, too slow, the same again; and what can be done with them then.

use std::time::Duration;

use hookmill_tests::http::Answer;
use hookmill_tests::{behaviour, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{ADMIN, Ask, Problems, Site, TOKENS, guest_bytes, redact_variant};
use crate::mill::{LATER, Mill};

fn digest(bytes: &[u8]) -> String {
    hookmill::model::Digest::of(bytes).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_stored_once_found_by_name_and_comes_back_byte_for_byte() {
    let site = Site::start(TOKENS).await;
    let bytes = redact_variant(1);
    let answer = site.put("redact", "1.4.2", bytes.clone()).await;
    let stored = answer.good(201);
    assert_eq!(answer.header("location"), Some("/v1/modules/redact/1.4.2"));
    assert_eq!((&stored["name"], &stored["version"]), (&json!("redact"), &json!("1.4.2")));
    assert_eq!((&stored["digest"], &stored["bytes"]), (&json!(digest(&bytes)), &json!(bytes.len())));
    assert_eq!((&stored["yanked"], &stored["uses"]), (&Value::Null, &json!([])));
    let names = |key: &str| stored[key].as_array().cloned().unwrap_or_default();
    assert!(names("exports").contains(&json!("hookmill:transform/handler@0.1.0")), "{stored}");
    assert!(!names("imports").is_empty() && stored["compile_ms"].is_u64(), "{stored}");

    let again = site.put("redact", "1.4.2", bytes.clone()).await.good(200);
    assert_eq!(again["stored"], stored["stored"]);
    let other = site.put("redact", "1.4.2", redact_variant(2)).await.problem(409, "E216");
    assert_eq!(other["digest"], digest(&bytes));
    site.put("redact", "1.4.10", redact_variant(2)).await.good(201);
    site.put("mask", "0.1.0-rc.1", redact_variant(3)).await.good(201);

    let shown = site.get("/v1/modules/redact/1.4.2").await.good(200);
    assert_eq!(shown, stored);
    let module = site.get("/v1/modules/redact").await.good(200);
    let versions: Vec<&Value> =
        module["versions"].as_array().expect("a list").iter().map(|one| &one["version"]).collect();
    assert_eq!(versions, ["1.4.10", "1.4.2"]);
    let first = site.get("/v1/modules?limit=1").await.good(200);
    assert_eq!((&first["modules"][0]["name"], &first["next"]), (&json!("mask"), &json!("mask")));
    let second = site.get("/v1/modules?limit=1&after=mask").await.good(200);
    assert_eq!((&second["modules"][0]["name"], &second["next"]), (&json!("redact"), &Value::Null));

    let wasm = site.get("/v1/modules/redact/1.4.2/wasm").await;
    assert_eq!((wasm.status, wasm.header("content-type")), (200, Some("application/wasm")));
    assert_eq!(wasm.header("etag"), Some(&*format!("\"{}\"", digest(&bytes))));
    assert_eq!(wasm.body, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_transform_is_refused_before_it_is_stored() {
    let site = Site::start(TOKENS).await;
    let component = |body: &str| wat::parse_str(format!("(component {body})")).expect("a component");
    let core = wat::parse_str("(module)").expect("a module");
    let precompiled = [b"\x7fELF".as_slice(), &[0; 200]].concat();
    let network = component(r#"(import "wasi:http/types@0.2.10" (instance))"#);
    for (bytes, status, said) in [
        (Vec::new(), 415, "is no WebAssembly"),
        (b"#!/bin/sh\n".to_vec(), 415, "is no WebAssembly"),
        (precompiled, 415, ""),
        (core, 422, "without the hookmill:transform contract"),
        (component(""), 422, "doesn't export hookmill:transform/handler@0.1.0"),
        (network, 422, "imports wasi:http/types@0.2.10"),
        (guest_bytes("redact")[..5000].to_vec(), 422, "doesn't compile"),
    ] {
        let problem = site.put("bad", "1.0.0", bytes).await.problem(status, "E052");
        let detail = problem["detail"].as_str().expect("text");
        assert!(detail.starts_with("module bad ") && detail.contains(said), "{detail}");
        assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
    }
    let put = |path: &'static str, kind: &'static str| {
        site.ask(Ask::new("PUT", path).token(ADMIN).body(kind, redact_variant(1)))
    };
    put("/v1/modules/bad/1.0.0", "text/plain").await.problem(415, "E211");
    for path in
        ["/v1/modules/Bad/1.0.0", "/v1/modules/bad/1.0", "/v1/modules/bad/1.0.0+7", "/v1/modules/bad/latest"]
    {
        put(path, "application/wasm").await.problem(400, "E208");
    }
    site.get("/v1/modules/bad").await.problem(404, "E218");
    let listed = site.get("/v1/modules").await.good(200);
    assert_eq!(listed["modules"], json!([]));
}

/// Sends a head and the beginning of a body over a connection of its own.
async fn begin(site: &Site, path: &str, more: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(site.engine.address()).await.expect("it takes connections");
    let head =
        format!("PUT {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).await.expect("it can be written");
    stream.write_all(body).await.expect("it can be written");
    stream
}

/// The whole answer on such a connection.
async fn answer(mut stream: TcpStream) -> Answer {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.expect("the connection is ended, not reset");
    let end = text.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
    let head = std::str::from_utf8(&text[..end]).expect("text");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers =
        headers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
    Answer { status, headers: headers.collect(), body: text[end..].to_vec().into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused_from_its_head_or_as_soon_as_it_is_too_much() {
    let site = Site::start(TOKENS).await;
    let announced = begin(&site, "/v1/modules/huge/1.0.0", "content-length: 100000000\r\n", b"").await;
    let problem = answer(announced).await.problem(413, "E209");
    assert_eq!(problem["detail"], "the module is larger than 64MiB, the most that is taken");

    // The same without a length, and with a client that goes on writing: it still gets to see the answer.
    let mut endless = begin(&site, "/v1/modules/huge/1.0.0", "transfer-encoding: chunked\r\n", b"").await;
    let piece = [b"100000\r\n".as_slice(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
    for _ in 0..66 {
        if endless.write_all(&piece).await.is_err() {
            break;
        }
    }
    answer(endless).await.problem(413, "E209");
    site.get("/v1/modules/huge").await.problem(404, "E218");

    let body = json!({ "why": "x".repeat(100_000) }).to_string();
    let ask = Ask::new("POST", "/v1/modules/huge/1.0.0/yank").token(ADMIN).body("application/json", body);
    site.ask(ask).await.problem(413, "E209");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_stop_hold_nobody_up_for_long_and_leave_nothing() {
    let site = Site::start(TOKENS).await;
    let whole = redact_variant(1);
    let length = format!("content-length: {}\r\n", whole.len());
    let half = &whole[..whole.len() / 2];
    // As many as are taken at once.
    let mut stalled = Vec::new();
    for _ in 0..3 {
        stalled.push(begin(&site, "/v1/modules/slow/1.0.0", &length, half).await);
    }
    let gone = begin(&site, "/v1/modules/slow/1.0.0", &length, half).await;
    drop(gone);
    eventually(LATER, "another upload finds a place", || async {
        match site.put("quick", "1.0.0", redact_variant(2)).await.status {
            200 | 201 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    for stream in stalled {
        let answered = tokio::time::timeout(LATER, answer(stream)).await.expect("it is answered");
        let problem = answered.problem(408, "E210");
        assert_eq!(problem["detail"], "the body did not go on within 15s");
    }
    site.get("/v1/modules/slow").await.problem(404, "E218");
    // One that is slow, but goes on, is fine.
    let mut slow =
        begin(&site, "/v1/modules/slow/1.0.0", &format!("connection: close\r\n{length}"), b"").await;
    for piece in whole.chunks(whole.len() / 4) {
        slow.write_all(piece).await.expect("it can be written");
        slow.flush().await.expect("it can be written");
    }
    answer(slow).await.good(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_in_use_can_be_yanked_and_not_deleted() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let site = Site::of(mill, TOKENS).await;
    site.put("redact", "1.0.0", redact_variant(1)).await.good(201);
    site.put("redact", "1.0.1", redact_variant(2)).await.good(201);
    let text = std::fs::read_to_string(site.mill.folder.path().join("orders.toml")).expect("the pipeline");
    let step = "[[subscription.step]]\ntransform = \"redact@1\"\nsettings = { remove = [\"/email\"] }\n";
    site.mill.folder.write("orders.toml", format!("{text}{step}"));
    let mut site = site;
    site.engine.restart().await;

    let shown = site.get("/v1/modules/redact/1.0.1").await.good(200);
    let used = &shown["uses"][0];
    let place = (&used["pipeline"], &used["subscription"], &used["step"], &used["reference"]);
    assert_eq!(place, (&json!("orders"), &json!("hook"), &json!(0), &json!("redact@1")), "{shown}");
    let delete = async |path: &str| site.ask(Ask::new("DELETE", path).token(ADMIN)).await;
    let problem = delete("/v1/modules/redact/1.0.1").await.problem(409, "E217");
    assert_eq!(problem["uses"][0]["pipeline"], "orders");

    let yank = async |body: &str| {
        let ask = Ask::new("POST", "/v1/modules/redact/1.0.1/yank").token(ADMIN);
        site.ask(ask.body("application/json", body.to_owned())).await
    };
    for bad in ["{}", "{\"why\":\"\"}", "{\"why\":\"a\\nb\"}", "{\"why\":1}", "{\"reason\":\"x\"}", "why", ""]
    {
        yank(bad).await.problem(400, "E208");
    }
    let yanked = yank("{\"why\":\"drops the last line\"}").await.good(200);
    assert_eq!(yanked["yanked"]["why"], "drops the last line");
    let again = yank("{\"why\":\"another reason\"}").await.good(200);
    assert_eq!(again["yanked"], yanked["yanked"], "what was yanked first stays");

    // The engine goes back to the version before, and then the yanked one can go.
    eventually(LATER, "the yanked version is deleted", || async {
        let answer = delete("/v1/modules/redact/1.0.1").await;
        if answer.status == 204 { Ok(()) } else { Err(String::from_utf8_lossy(&answer.body).into_owned()) }
    })
    .await;
    delete("/v1/modules/redact/1.0.1").await.problem(404, "E218");
    site.put("redact", "1.0.1", redact_variant(3)).await.problem(409, "E216");
    let used = site.get("/v1/modules/redact/1.0.0").await.good(200);
    assert_eq!(used["uses"].as_array().map(Vec::len), Some(1), "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_uploads_at_once_are_all_answered() {
    let site = Site::start(TOKENS).await;
    let uploads = (0..8_u8).map(|number| {
        let site = &site;
        async move { site.put("many", &format!("1.0.{number}"), redact_variant(number)).await.status }
    });
    let answers =
        tokio::time::timeout(Duration::from_secs(120), futures_util::future::join_all(uploads)).await;
    let answers = answers.expect("in time");
    assert!(answers.iter().all(|status| [201, 503].contains(status)), "{answers:?}");
    let stored = answers.iter().filter(|status| **status == 201).count();
    let listed = site.get("/v1/modules/many").await.good(200);
    assert_eq!(listed["versions"].as_array().map(Vec::len), Some(stored));
    assert!(stored >= 4, "{answers:?}");
}
