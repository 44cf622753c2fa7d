use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream;
use hookmill_tests::engine::Said;
use hookmill_tests::{Cable, NatsServer, PipelineFolder, behaviour, events, hookmill};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::mill::{Mill, command};

/// Far less than the 30 s for which a server that stays away is waited for.
const AT_ONCE: Duration = Duration::from_secs(15);

const PIPELINE: &str =
    "[[subscription]]\nname = \"hook\"\n[subscription.deliver]\nurl = \"https://example.com\"\n";

/// `hookmill run` on a folder, which fails at once.
async fn refused(nats_url: &str, folder: &PipelineFolder, more: &[&str]) -> Said {
    let path = folder.path().to_str().expect("a path of text");
    let arguments = ["run", path, "--nats", nats_url, "--listen", "127.0.0.1:0"];
    let begun = Instant::now();
    let said = hookmill(&[&arguments[..], more].concat()).await;
    assert!(begun.elapsed() < AT_ONCE, "{said:?}");
    assert_eq!(said.stdout, "", "{said:?}");
    said
}

/// The last line of stderr, which begins with `error: `, of a run that ended with 1.
fn error(said: &Said) -> &str {
    assert_eq!(said.code, 1, "{said:?}");
    let last = said.stderr.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or_else(|| panic!("{said:?}"))
}

/// Says `info` to each client and answers its pings: enough of a NATS server to connect to.
async fn false_server(info: &'static str) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut clients = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            clients.spawn(async move {
                let _ = client.write_all(format!("INFO {info}\r\n").as_bytes()).await;
                let mut buffer = vec![0; 4096];
                while let Ok(1..) = client.read(&mut buffer).await {
                    let _ = client.write_all(b"PONG\r\n").await;
                }
            });
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn a_server_that_stays_away_is_an_error_after_connect_timeout() {
    let server = NatsServer::start().await;
    let cable = Cable::to(server.address()).await;
    cable.cut();
    let folder = PipelineFolder::with("orders", PIPELINE);
    let settings = folder.write("settings/hookmill.toml", "[nats]\nconnect_timeout = \"1s\"\n");
    let settings = settings.to_str().expect("a path of text");
    let begun = Instant::now();
    let said = refused(&cable.nats_url(), &folder, &["--config", settings]).await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let expected = format!(
        "no NATS server answers at {} (waited 1s); start one with `nats-server -js`, or give its address with --nats or NATS_URL: ",
        cable.nats_url()
    );
    assert!(error(&said).starts_with(&expected), "{said:?}");
    assert!(cable.refused() > 1, "it tries again meanwhile");
}

#[tokio::test]
async fn wrong_credentials_are_an_error_at_once() {
    let server = NatsServer::options().user("mill", "right").start().await;
    let folder = PipelineFolder::with("orders", PIPELINE);
    let password = |text: &str| {
        let path = folder.write("settings/password", text);
        let settings = format!("[nats]\nuser = \"mill\"\npassword = {{ file = {path:?} }}\n");
        folder.write("settings/hookmill.toml", settings).display().to_string()
    };
    let settings = password("wrong");
    let said = refused(&server.url(), &folder, &["--config", &settings]).await;
    let expected = format!(
        "the NATS server at {} refuses the credentials; see [nats] credentials, user, password and token in hookmill.toml",
        server.url()
    );
    assert_eq!(error(&said), expected);
    assert!(!said.stderr.contains("wrong"), "{said:?}");
    // In the URL as well, and never shown.
    let url = server.url().replace("nats://", "nats://mill:wrong@");
    let said = refused(&url, &folder, &[]).await;
    assert_eq!(error(&said), expected);
    let url = server.url().replace("nats://", "nats://mill:right@");
    let said = hookmill(&["init", "--nats", &url]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let settings = password("right");
    let said = hookmill(&["init", "--nats", &server.url(), "--config", &settings]).await;
    assert_eq!(said.code, 0, "{said:?}");
}

#[tokio::test]
async fn a_missing_source_stream_is_an_error_that_names_the_command_that_makes_it() {
    let server = NatsServer::start().await;
    let folder = PipelineFolder::with("orders", PIPELINE);
    let said = refused(&server.url(), &folder, &[]).await;
    let expected = "pipeline orders: source stream HOOKMILL_EVENTS does not exist; make it with `hookmill init`, \
                    or name another in [source] stream";
    assert_eq!(error(&said), expected);

    folder.write("orders.toml", format!("[source]\nstream = \"ORDERS\"\n{PIPELINE}"));
    let said = refused(&server.url(), &folder, &[]).await;
    assert!(
        error(&said).contains("ORDERS does not exist; make it with `nats stream add ORDERS --subjects"),
        "{said:?}"
    );
}

#[tokio::test]
async fn an_old_server_is_an_error_at_once() {
    let info = r#"{"server_id":"X","server_name":"old","version":"2.12.8","proto":1,"host":"127.0.0.1","port":4222,"headers":true,"jetstream":true,"max_payload":1048576}"#;
    let (address, _server) = false_server(info).await;
    let said = refused(&format!("nats://{address}"), &PipelineFolder::with("orders", PIPELINE), &[]).await;
    let expected = format!(
        "the NATS server at nats://{address} is version 2.12.8; hookmill needs 2.14.0 or newer, because older ones lose \
         or leak scheduled messages; upgrade the server"
    );
    assert_eq!(error(&said), expected);
}

#[tokio::test]
async fn a_server_without_jetstream_is_an_error_at_once() {
    let info = r#"{"server_id":"X","server_name":"bare","version":"2.15.1","proto":1,"host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576}"#;
    let (address, _server) = false_server(info).await;
    let said = refused(&format!("nats://{address}"), &PipelineFolder::with("orders", PIPELINE), &[]).await;
    let expected = format!(
        "the NATS server at nats://{address} has JetStream switched off; start it with `nats-server -js`"
    );
    assert_eq!(error(&said), expected);
}

#[tokio::test]
async fn an_account_without_jetstream_is_an_error_at_once() {
    let accounts = "accounts {\n  A { jetstream: enabled, users: [{ user: a, password: a }] }\n  \
                    B { users: [{ user: b, password: b }] }\n}\nno_auth_user: a";
    let server = NatsServer::options().extra(accounts).start().await;
    let url = server.url().replace("nats://", "nats://b:b@");
    let said = refused(&url, &PipelineFolder::with("orders", PIPELINE), &[]).await;
    assert!(error(&said).to_lowercase().contains("jetstream not enabled for account"), "{said:?}");
}

#[tokio::test]
async fn a_stream_of_retries_with_a_limit_is_refused() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let config = stream::Config {
        name: "HOOKMILL_RETRIES".into(),
        subjects: vec!["hookmill.wait.>".into(), "hookmill.due.>".into()],
        retention: stream::RetentionPolicy::WorkQueue,
        allow_message_schedules: true,
        max_messages: 1000,
        ..stream::Config::default()
    };
    mill.jetstream.create_stream(config).await.expect("the stream can be made");
    let said = refused(&mill.server.url(), &mill.folder, &[]).await;
    let expected = "stream HOOKMILL_RETRIES is there, but it has a limit (messages, bytes, messages a subject or age), \
                    and a limit on it deletes waiting retries; mend it with `nats stream edit HOOKMILL_RETRIES \
                    --max-msgs=-1 --max-bytes=-1 --max-msgs-per-subject=-1 --max-age=0s`";
    assert_eq!(error(&said), expected);
}

#[tokio::test]
async fn streams_that_would_drop_tasks_or_dead_letters_are_refused_until_they_are_mended() {
    use stream::{DiscardPolicy, RetentionPolicy};
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let url = mill.server.url();
    let base = |name: &str, subjects: &str, retention| stream::Config {
        name: name.into(),
        subjects: vec![subjects.into()],
        retention,
        ..stream::Config::default()
    };
    let lanes = || base("HOOKMILL_LANES", "hookmill.lane.>", RetentionPolicy::WorkQueue);
    let letters = || base("HOOKMILL_DLQ", "hookmill.dlq.>", RetentionPolicy::Limits);
    let drops = "it drops the oldest messages to make room for new ones";
    let ages = "it has a maximum age, which deletes tasks that wait in their lanes";
    let (new, old) = (DiscardPolicy::New, DiscardPolicy::Old);
    // What is there, why it is refused, the flags that mend it, and what they make of it.
    let cases = [
        (
            stream::Config { discard: old, max_messages: 10, ..lanes() },
            drops,
            "--discard=new",
            stream::Config { discard: new, max_messages: 10, ..lanes() },
        ),
        (
            stream::Config { discard: new, max_messages_per_subject: 10, ..lanes() },
            drops,
            "--discard=new --discard-per-subject",
            stream::Config {
                discard: new,
                discard_new_per_subject: true,
                max_messages_per_subject: 10,
                ..lanes()
            },
        ),
        (
            stream::Config { discard: new, max_age: Duration::from_secs(3600), ..lanes() },
            ages,
            "--max-age=0s",
            stream::Config { discard: new, ..lanes() },
        ),
        (
            stream::Config { discard: old, max_bytes: 1_000_000, ..letters() },
            drops,
            "--discard=new",
            stream::Config { discard: new, max_bytes: 1_000_000, ..letters() },
        ),
    ];
    for (config, why, flags, mended) in cases {
        let name = config.name.clone();
        // An engine of an earlier case has made its own.
        let _ = mill.jetstream.delete_stream(&name).await;
        mill.jetstream.create_stream(config).await.expect("the stream can be made");
        let said = refused(&url, &mill.folder, &[]).await;
        let expected =
            format!("stream {name} is there, but {why}; mend it with `nats stream edit {name} {flags}`");
        assert_eq!(error(&said), expected);
        mill.jetstream.update_stream(mended).await.expect("the stream can be mended so");
        assert_eq!(mill.engine().start().await.terminate().await, 0);
    }
    mill.jetstream.delete_stream("HOOKMILL_LANES").await.expect("the stream can be deleted");
    let interest = base("HOOKMILL_LANES", "hookmill.lane.>", RetentionPolicy::Interest);
    mill.jetstream.create_stream(interest).await.expect("the stream can be made");
    let said = refused(&url, &mill.folder, &[]).await;
    assert!(error(&said).contains("its retention is not work queue"), "{said:?}");
    assert!(error(&said).ends_with("delete it with `nats stream rm HOOKMILL_LANES`: it will be made anew"));
    let said = mill.command(&["init"]).await;
    assert_eq!((said.code, error(&said)), (1, error(&refused(&url, &mill.folder, &[]).await)));
}

#[tokio::test]
async fn a_source_stream_that_forgets_idle_consumers_is_refused() {
    let server = NatsServer::start().await;
    let config = stream::Config {
        name: "HOOKMILL_EVENTS".into(),
        subjects: vec!["events.>".into()],
        consumer_limits: Some(stream::ConsumerLimits {
            inactive_threshold: Duration::from_secs(60),
            max_ack_pending: 0,
        }),
        ..stream::Config::default()
    };
    server.jetstream().await.create_stream(config).await.expect("the stream can be made");
    let said = refused(&server.url(), &PipelineFolder::with("orders", PIPELINE), &[]).await;
    let expected = "pipeline orders: source stream HOOKMILL_EVENTS forces an inactive_threshold on its consumers, so the \
                    pipeline's place in it would be forgotten; take consumer_limits.inactive_threshold off the stream";
    assert_eq!(error(&said), expected);
}

#[tokio::test]
async fn an_address_in_use_is_an_error_before_anything_is_made() {
    let server = NatsServer::start().await;
    events::make_source_stream(&server.jetstream().await).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let taken = taken.local_addr().map(|address| (address, taken)).expect("bound");
    let folder = PipelineFolder::with("orders", PIPELINE);
    let path = folder.path().to_str().expect("a path of text");
    let said = command(&server, &["run", path, "--listen", &taken.0.to_string()]).await;
    let expected = format!(
        "can't listen on {} for health, metrics and admin API; choose another with --listen (port 0: any free one): Address already in use",
        taken.0
    );
    assert!(error(&said).starts_with(&expected), "{said:?}");
    let made = server.jetstream().await.get_stream("HOOKMILL_RETRIES").await;
    assert!(made.is_err(), "nothing is made by an engine that can't run");
}
