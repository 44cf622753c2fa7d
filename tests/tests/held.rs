//! What an engine holds of its source, and for how long.

use std::time::Duration;

use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, events};

/// An attempt may take a second before its lease is stored; the rest is for a busy machine.
const A_MOMENT: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_hanging_attempt_holds_its_source_message_only_until_its_lease_is_stored() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    events::make_source_stream(&jetstream).await;
    let slow = Endpoint::start(behaviour::hang()).await;
    let fast = Endpoint::start(behaviour::always(200)).await;
    let pipelines = PipelineFolder::with("held", &pipeline(&slow.url(), &fast.url()));
    let _engine = Engine::run(&server).arg(pipelines.path()).start().await;

    let hanging = r#"{"specversion":"1.0","id":"1","source":"/test","type":"slow"}"#;
    events::publish_all(&jetstream, [events::structured_message(hanging)]).await;
    slow.wait_for("the hanging request", A_MOMENT, |log| log.received() == 1).await;
    events::publish_all(&jetstream, [events::structured(2)]).await;
    fast.wait_for_delivered(1, A_MOMENT).await;
}

/// Room for one message, and an endpoint that may hang for much longer than the test waits.
fn pipeline(slow: &str, fast: &str) -> String {
    format!(
        r#"
[source]
start = "all"
max_in_flight = 1

[[subscription]]
name = "slow"
types = ["slow"]
[subscription.deliver]
url = "{slow}"
timeout = "5m"

[[subscription]]
name = "fast"
types = ["com.shop.*"]
[subscription.deliver]
url = "{fast}"
"#
    )
}
