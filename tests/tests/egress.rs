//! `[egress]` of the process and the rules of a subscription, through the front door. Each rule, certificate and spelling is
//! tested beside the client, in `engine/src/egress/tests`.

use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, hookmill};

use crate::scene::{Letter, SOON, Scene, good, webhook};

/// An engine whose process has these lines of `[egress]`.
async fn scene(pipeline: &str, egress: &str) -> Scene {
    let (server, folder) = (NatsServer::start().await, PipelineFolder::with("p", pipeline));
    let settings = folder.write("process/hookmill.toml", format!("[egress]\n{egress}\n"));
    let options = Engine::command(&["run", "--nats", &server.url(), "--listen", "127.0.0.1:0"]);
    let options = options.arg("--config").arg(settings).env("HOOKMILL_TEST_PROXY_PASSWORD", "zzSECRETzz");
    Scene::open_with(server, folder, options).await
}

fn port(endpoint: &Endpoint) -> String {
    endpoint.url().split(['/', ':']).nth(4).expect("a port").to_owned()
}

#[tokio::test]
async fn rules_of_the_process_and_of_a_subscription_hold_together() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let port = port(&endpoint);
    let named = format!("http://localhost:{port}/hooks");
    let pipeline = [
        webhook("named", &named, ""),
        webhook("literal", &endpoint.url(), ""),
        webhook("allowed", &endpoint.url(), &format!("allow = [\"127.0.0.0/8:{port}\"]")),
        webhook("other-port", &endpoint.url(), "allow = [\"127.0.0.0/8:1\"]"),
        webhook("denied", &named, "deny = [\"localhost\"]"),
        webhook("denied-for-all", "https://hooks.corp.example/", "allow = [\"*.corp.example\"]"),
    ]
    .concat();
    let egress = format!("allow = [\"localhost:{port}\"]\ndeny = [\"*.corp.example\"]");
    let scene = scene(&pipeline, &egress).await;
    scene.publish([good("one")]).await;
    endpoint.wait_for_delivered(2, SOON).await;
    let letters = scene.letters(4).await;
    let mut said: Vec<_> = letters.iter().map(|letter| (letter.end(), letter.error())).collect();
    said.sort_unstable();
    let range = "127.0.0.1 is refused: 127.0.0.1: it is a loopback address and `allow` does not name it";
    let expected = [
        (("denied", "egress"), "localhost is refused: `deny` has localhost"),
        (("denied-for-all", "egress"), "hooks.corp.example is refused: `deny` has *.corp.example"),
        (("literal", "egress"), range),
        (("other-port", "egress"), range),
    ];
    assert_eq!(said, expected);
    assert!(letters.iter().all(|letter: &Letter| letter.number("attempts") == 1));
    assert_eq!(endpoint.received(), 2);
    scene.quiet().await;
}

#[tokio::test]
async fn deliveries_go_through_the_proxy_that_the_process_names() {
    let proxy = Endpoint::start(behaviour::always(200)).await;
    let pipeline = [
        webhook("plain", "http://hooks.example/hook", "allow = [\"hooks.example\"]"),
        webhook("literal", "http://10.0.0.1/", "allow = [\"hooks.example\"]"),
    ]
    .concat();
    let egress = format!(
        "proxy = \"http://127.0.0.1:{}\"\nproxy_user = \"me\"\nproxy_password = {{ env = \"HOOKMILL_TEST_PROXY_PASSWORD\" }}",
        port(&proxy)
    );
    let scene = scene(&pipeline, &egress).await;
    scene.publish([good("one")]).await;
    proxy.wait_for_delivered(1, SOON).await;
    let request = &proxy.requests()[0];
    assert_eq!(request.header("host"), "hooks.example");
    assert_eq!(request.header("proxy-authorization"), "Basic bWU6enpTRUNSRVR6eg==");
    assert_eq!(scene.letters(1).await[0].end(), ("literal", "egress"));
    assert!(!scene.engine.lines().iter().any(|line| line.text.contains("zzSECRETzz")));
    scene.quiet().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_settings_is_said_before_anything_else() {
    let folder = PipelineFolder::with("p", &webhook("all", "https://hooks.example/", ""));
    folder.write("process/empty.pem", "");
    for (lines, says) in [
        ("ca = \"missing.pem\"", "[egress] ca: "),
        ("ca = \"empty.pem\"", "holds no certificate"),
        (
            "proxy = \"http://p\"\nproxy_user = \"me\"\nproxy_password = { env = \"HOOKMILL_TEST_NO_SUCH\" }",
            "environment variable HOOKMILL_TEST_NO_SUCH is not set",
        ),
        ("system_roots = false", "egress.system_roots is false and there is no ca"),
        ("allow = [\":443\"]", "which is a port alone"),
    ] {
        let settings = folder.write("process/hookmill.toml", format!("[egress]\n{lines}\n"));
        let settings = settings.to_str().expect("a path of text");
        let pipelines = folder.path().to_str().expect("a path of text");
        // Nobody listens there, and nobody has to.
        let said = hookmill(&["run", "--nats", "nats://127.0.0.1:1", "--config", settings, pipelines]).await;
        assert_eq!(said.code, 2, "{lines}: {said:?}");
        assert!(said.stderr.contains(says), "{lines}: {said:?}");
    }
}

/// An event is no way to tell the engine what to do, whatever its operator allows.
#[tokio::test]
async fn a_delivery_to_the_engines_own_address_is_refused() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    let own = free.expect("a free port");
    let pipeline = [
        webhook("pause", &format!("http://{own}/v1/lanes/p/other/pause"), ""),
        webhook("named", &format!("http://localhost:{}/healthz", own.port()), ""),
    ]
    .concat();
    let (server, folder) = (NatsServer::start().await, PipelineFolder::with("p", &pipeline));
    let options = Engine::command(&["run", "--nats", &server.url(), "--listen", &own.to_string()]);
    let options =
        options.arg("--egress-allow=127.0.0.0/8").arg("--egress-allow=::1").arg("--egress-allow=localhost");
    let scene = Scene::open_with(server, folder, options).await;
    scene.publish([good("one")]).await;
    for letter in scene.letters(2).await {
        assert_eq!(letter.reason(), "egress");
        assert!(letter.error().contains("this engine listens there itself"), "{}", letter.error());
    }
    scene.quiet().await;
}
