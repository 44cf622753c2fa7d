//! Without tokens: only who is on this machine, and means to ask it.

use hookmill_tests::{Engine, behaviour};

use super::support::{Ask, Problems, Site};
use crate::mill::{Mill, SOON};

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_this_machine_may_look_the_engines_user_do_everything_and_pages_and_proxies_nothing() {
    let site = Site::start("").await;
    site.ask(Ask::new("GET", "/v1/modules")).await.good(200);
    for (method, path) in [
        ("POST", "/v1/lanes/orders/hook/pause"),
        ("POST", "/v1/dlq/1/redrive"),
        ("DELETE", "/v1/modules/redact/1.0.0"),
        ("GET", "/v1/dlq/1"),
    ] {
        for ask in [Ask::new(method, path), Ask::new(method, path).token("whatever-0123456789")] {
            let problem = site.ask(ask).await.problem(401, "E201");
            assert!(
                problem["detail"].as_str().is_some_and(|detail| detail.contains("has made at its start")),
                "{problem}"
            );
        }
    }
    let problem = site.ask(Ask::new("POST", "/v1/lanes/orders/hook/pause")).await.problem(401, "E201");
    let hint = problem["hint"].as_str().expect("a hint");
    let file =
        hint.split_whitespace().find(|word| word.contains("/hookmill/admin-")).expect("it names the file");
    let token = std::fs::read_to_string(file).expect("this user can read it");
    site.ask(Ask::new("POST", "/v1/lanes/orders/hook/pause").token(&token)).await.good(200);
    site.ask(Ask::new("GET", "/v1/modules").token("whatever-0123456789")).await.good(200);
    let own = format!("http://{}", site.engine.address());
    site.ask(Ask::new("GET", "/v1/modules").header("origin", &own)).await.good(200);
    for (name, value, why) in [
        ("host", "rebound.example", "asks for a host that is not the loopback"),
        ("origin", "https://evil.example", "comes from a page of another site"),
        ("origin", "null", "comes from a page of another site"),
        ("sec-fetch-site", "cross-site", "comes from a page of another site"),
        ("x-forwarded-for", "192.0.2.1", "came through a proxy"),
    ] {
        for path in ["/v1/modules", "/v1/lanes", "/v1/openapi.json", "/docs"] {
            let answer = site.ask(Ask::new("GET", path).header(name, value)).await;
            let problem = answer.problem(403, "E204");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{problem}");
        }
        for open in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(site.ask(Ask::new("GET", open).header(name, value)).await.status, 200, "{open}");
        }
    }
    let lanes = site.ask(Ask::new("GET", "/v1/lanes")).await.good(200);
    assert_eq!(lanes["lanes"][0]["state"], "paused", "{lanes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_others_reach_is_warned_about() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let token = "[[token]]\nname = \"ops\"\nsecret = { env = \"T\" }\nscopes = [\"admin\"]\n";
    for (listen, settings, warning) in [
        ("0.0.0.0:0", "", Some("because hookmill.toml has no [[token]]")),
        ("0.0.0.0:0", token, Some("readable on their way")),
        ("127.0.0.1:0", "", None),
    ] {
        let settings = mill.folder.write("settings/hookmill.toml", settings);
        let url = mill.server.url();
        let engine = Engine::command(&["run", "--nats", &url, "--listen", listen])
            .arg(mill.folder.path())
            .arg("--config")
            .arg(settings)
            .env("T", "token-0123456789abcdef")
            .spawn();
        engine
            .wait_for_line("that it is served", SOON, |line| {
                line.field("address").is_some() && line.message().ends_with("are served")
            })
            .await;
        let warned = engine.lines().into_iter().find(|line| line.message().contains("the admin API"));
        let said = warned.map(|line| line.message().to_owned()).filter(|text| !text.ends_with("are served"));
        assert_eq!(said.is_some(), warning.is_some(), "{listen}: {said:?}");
        assert!(said.unwrap_or_default().contains(warning.unwrap_or_default()));
        assert!(
            !engine.lines().iter().any(|line| line.text.contains("0123456789abcdef")),
            "no token is logged"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_can_not_be_used_end_the_start() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let token = |name: &str| {
        format!("[[token]]\nname = \"{name}\"\nsecret = {{ env = \"T_{name}\" }}\nscopes = [\"admin\"]\n")
    };
    for (settings, said) in [
        (token("none"), "error: token none has no value: environment variable T_none is not set"),
        (token("short"), "error: token short is shorter than 16 characters"),
        (token("one") + &token("two"), "error: tokens one and two have the same value"),
    ] {
        let file = mill.folder.write("settings/hookmill.toml", settings);
        let same = "same-0123456789abcdef";
        let engine = mill.engine().arg("--config").arg(file);
        let engine = engine.env("T_short", "fifteen-letters").env("T_one", same).env("T_two", same).spawn();
        let found = |line: &hookmill_tests::engine::LogLine| line.text.starts_with(said);
        engine.wait_for_line(said, SOON, found).await;
        assert_eq!(engine.wait().await, 2);
    }
}
