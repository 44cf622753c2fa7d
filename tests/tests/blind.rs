//! What a killed server has back below the floor of a consumer: a work queue that its consumer would never empty.

use std::path::Path;

use hookmill_tests::{behaviour, eventually};

use crate::mill::{LATER, Mill};

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("the folder can be made");
    for entry in std::fs::read_dir(from).expect("the folder can be read").flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("the file can be copied");
    }
}

/// Everything that a lane holds is settled; then the server has it back, and its consumer's floor as well.
#[tokio::test]
async fn a_lane_is_emptied_though_its_consumer_does_not_see_what_lies_there() {
    let mut mill = Mill::new(behaviour::always(200), "", "").await;
    let mut engine = mill.engine().start().await;
    assert_eq!(mill.command(&["lane", "pause", "orders/hook"]).await.code, 0);
    eventually(LATER, "the engine knows of the pause", || async {
        let state = engine.metric("hookmill_lane_state", &[]).await;
        if state > 2.5 { Ok(()) } else { Err(state.to_string()) }
    })
    .await;
    mill.publish(1..=10).await;
    mill.holds("HOOKMILL_LANES", 10).await;
    let messages = mill.server.messages_folder("HOOKMILL_LANES");
    let kept = tempfile::tempdir().expect("a temporary folder");
    mill.server.stop().await;
    copy(&messages, kept.path());
    mill.server.restart().await;
    mill.jetstream = mill.server.jetstream().await;
    engine.ready().await;
    assert_eq!(mill.command(&["lane", "resume", "orders/hook"]).await.code, 0);
    mill.delivered(1..=10).await;
    mill.holds("HOOKMILL_LANES", 0).await;
    mill.server.stop().await;
    copy(kept.path(), &messages);
    mill.server.restart().await;
    mill.jetstream = mill.server.jetstream().await;
    mill.holds("HOOKMILL_LANES", 10).await;
    engine.ready().await;
    mill.publish(11..=20).await;
    mill.delivered(1..=20).await;
    mill.holds("HOOKMILL_LANES", 0).await;
    assert_eq!(mill.endpoint.log().repeats(), 0, "what was answered is not sent again");
}
