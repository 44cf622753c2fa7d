//! What commands say when JetStream does not answer.

use std::time::{Duration, Instant};

use hookmill_tests::{NatsCluster, NatsServer, PipelineFolder, events, eventually, hookmill};

/// A question has 5 s for its answer. What a command asks before that one may have some of it.
const BOUND: Duration = Duration::from_secs(30);

/// Runs `hookmill` with these arguments and this server: it has to end with 1 within the bound, with an error that says this.
async fn fails(nats_url: &str, arguments: &[&str], because: &[&str]) {
    let begun = Instant::now();
    let said = hookmill(&[arguments, &["--nats", nats_url]].concat()).await;
    let took = begun.elapsed();
    println!("{arguments:?} after {took:?}: {}", said.stderr);
    assert_eq!((said.code, &*said.stdout), (1, ""), "{arguments:?}: {said:?}");
    assert!(said.stderr.contains("error: "), "{arguments:?}: {}", said.stderr);
    assert!(because.iter().any(|why| said.stderr.contains(why)), "{arguments:?}: {}", said.stderr);
    assert!(took < BOUND, "{arguments:?} took {took:?}");
}

const COMMANDS: [&[&str]; 7] = [
    &["status"],
    &["lane", "list"],
    &["lane", "pause", "p/s"],
    &["dlq", "list"],
    &["dlq", "redrive", "--all"],
    &["dlq", "discard", "--all", "--yes"],
    &["init"],
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_say_clearly_and_soon_that_a_cluster_has_no_leader() {
    let mut cluster = NatsCluster::start(3).await;
    let folder = PipelineFolder::new();
    let settings = folder.write("hookmill.toml", "[nats]\nreplicas = 3\n");
    let settings = settings.to_str().expect("a path of text");
    let url = cluster.url();
    eventually(NatsCluster::LEADER_MAX, "the cluster has a leader", || async {
        let made = hookmill(&["init", "--nats", &url, "--config", settings]).await;
        if made.code == 0 { Ok(()) } else { Err(made.stderr) }
    })
    .await;
    cluster.kill(1).await;
    cluster.kill(2).await;
    let because =
        ["JetStream does not answer; ", "too few servers of its cluster run", "its stream has no leader"];
    let url = cluster.server(0).url();
    eventually(NatsCluster::LEADER_MAX, "the server that is left has noticed", || async {
        let said = hookmill(&["status", "--nats", &url]).await;
        if said.code == 1 { Ok(()) } else { Err(said.stdout) }
    })
    .await;
    for command in COMMANDS {
        fails(&url, command, &because).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_say_clearly_and_soon_that_a_server_hangs() {
    let server = NatsServer::start().await;
    events::make_source_stream(&server.jetstream().await).await;
    let folder = PipelineFolder::new();
    let settings = folder.write("hookmill.toml", "[nats]\nconnect_timeout = \"2s\"\n");
    let settings = settings.to_str().expect("a path of text");
    server.pause().await;
    let because = format!("no NATS server answers at {} (waited 2s)", server.url());
    for command in COMMANDS {
        let begun = Instant::now();
        fails(&server.url(), &[command, &["--config", settings]].concat(), &[&because]).await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{command:?} took {:?}", begun.elapsed());
    }
}
