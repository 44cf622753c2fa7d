//! `hookmill pipeline rename`: what is kept of a pipeline gets another name.

use serde_json::json;

use super::args::{Global, PipelineCommand};
use super::{Failure, assemble, output};
use crate::model::Name;
use crate::nats::rename::{Contents, Rename, RenameError, contents};
use crate::nats::{Prefix, Registry};

pub(crate) async fn pipeline(global: &Global, command: PipelineCommand) -> Result<(), Failure> {
    let PipelineCommand::Rename { old, new, dry_run, repeat } = command;
    let process = assemble::process(global)?;
    let needed =
        |prefix: &Prefix| vec![prefix.registry_stream(), prefix.retries(), prefix.lanes(), prefix.dlq()];
    let nats = assemble::connect_to(&process, needed).await?;
    let registry = Registry::open(&nats).await.map_err(|error| Failure::failed(&error))?;
    let rename = Rename::check(&nats, &registry, (&old, &new), repeat).await.map_err(failure)?;
    if dry_run {
        let there = contents(&nats, &registry, &old).await.map_err(failure)?;
        say(global, &old, &new, &there, dry_run);
        return Ok(());
    }
    let moved = rename.run().await.map_err(failure)?;
    say(global, &old, &new, &moved, dry_run);
    output::say(format_args!("give the pipeline's file the name {new} before an engine is started with it"));
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failure(error: RenameError) -> Failure {
    let text = output::chain(&error);
    if matches!(error, RenameError::SameName(_)) { Failure::Usage(text) } else { Failure::Failed(text) }
}

fn say(global: &Global, old: &Name, new: &Name, moved: &Contents, dry_run: bool) {
    if global.json {
        let mut line = json!(moved);
        line["old"] = json!(old.as_str());
        line["new"] = json!(new.as_str());
        line["dry_run"] = json!(dry_run);
        output::line(line);
    } else {
        let verb = if dry_run { "would be renamed" } else { "renamed" };
        output::line(format_args!("{old} {verb} to {new}: {moved}"));
    }
}
