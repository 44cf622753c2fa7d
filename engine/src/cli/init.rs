//! `hookmill init`: all streams, the default source among them, the bucket and the store of modules.

use super::args::Global;
use super::{Failure, assemble, output};
use crate::nats::Modules;

pub(crate) async fn init(global: &Global) -> Result<(), Failure> {
    let process = assemble::process(global)?;
    let nats = assemble::connect_led(&process).await?;
    nats.ensure_events_stream().await.map_err(|error| Failure::failed(&error))?;
    nats.ensure_streams(process.limits.lane).await.map_err(|error| Failure::failed(&error))?;
    Modules::open(&nats).await.map_err(|error| Failure::failed(&error))?;
    let prefix = nats.prefix();
    let own = [prefix.retries(), prefix.lanes(), prefix.dlq(), prefix.registry(), prefix.modules()];
    for stream in std::iter::once(prefix.events()).chain(own) {
        if global.json {
            output::line(serde_json::json!({ "stream": stream }));
        } else {
            output::line(stream);
        }
    }
    Ok(())
}
