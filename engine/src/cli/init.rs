//! `hookmill init`: all streams, the default source among them.

use super::args::Global;
use super::{Failure, assemble};

pub(crate) async fn init(global: &Global) -> Result<(), Failure> {
    let process = assemble::process(global)?;
    let nats = assemble::connect(&process).await?;
    nats.ensure_events_stream().await.map_err(|error| Failure::failed(&error))?;
    nats.ensure_streams(process.limits.lane).await.map_err(|error| Failure::failed(&error))?;
    let prefix = nats.prefix();
    for stream in [prefix.events(), prefix.retries(), prefix.lanes(), prefix.dlq(), prefix.registry()] {
        if global.json {
            println!("{}", serde_json::json!({ "stream": stream }));
        } else {
            println!("{stream}");
        }
    }
    Ok(())
}
