//! `hookmill dlq`: what could not be delivered, and what to do with it.

mod bulk;
mod trial;

use std::io::IsTerminal;

use super::args::{DlqCommand, Global, Which};
use super::output::table;
use super::{Failure, assemble, output};
use crate::model::{Task, Timestamp};
use crate::nats::letters::{Selection, Take};
use crate::nats::{Nats, Prefix, Walk, WalkError};

pub(crate) async fn dlq(global: &Global, command: DlqCommand) -> Result<(), Failure> {
    let process = assemble::process(global)?;
    let redrives = matches!(command, DlqCommand::Redrive { .. });
    let needed = |prefix: &Prefix| {
        if redrives { vec![prefix.dlq(), prefix.lanes()] } else { vec![prefix.dlq()] }
    };
    let nats = assemble::connect_to(&process, needed).await?;
    match command {
        DlqCommand::List(which) => list(&nats, global, &which).await,
        DlqCommand::Show(which) => show(&nats, global, &which).await,
        DlqCommand::Redrive { which, rerun, pacing } => {
            let take = if rerun { Take::Original } else { Take::Stored };
            if pacing.dry_run {
                trial::redrive(&nats, global, &which, take).await
            } else {
                bulk::redrive(&nats, global, &which, take, &pacing).await
            }
        }
        DlqCommand::Discard { which, yes, pacing } => {
            bulk::discard(&nats, global, &which, yes, &pacing).await
        }
    }
}

/// Those that are meant.
async fn begin(nats: &Nats, which: &Which) -> Result<Walk, Failure> {
    let selection = Selection {
        pipeline: which.pipeline.clone(),
        subscription: which.subscription.clone(),
        reason: which.reason,
        event: which.event.clone(),
        source: which.source.clone(),
        ty: which.ty.clone(),
        subject: which.subject.clone(),
        sequences: which.sequences.clone(),
    };
    let before = which.older_than.map(|age| Timestamp::now().minus(age));
    Walk::new(nats, selection, before).await.map_err(stopped)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn stopped(error: WalkError) -> Failure {
    Failure::failed(&error)
}

/// Changing commands want to know which: an empty selection is no "all".
fn chosen(which: &Which) -> Result<(), Failure> {
    let any = !which.sequences.is_empty()
        || which.pipeline.is_some()
        || which.subscription.is_some()
        || which.reason.is_some()
        || [&which.event, &which.source, &which.ty, &which.subject].into_iter().any(Option::is_some)
        || which.older_than.is_some()
        || which.all;
    if any {
        return Ok(());
    }
    let text = "which ones? give sequences, --pipeline, --subscription, --reason, --event, --source, --type, --subject or \
                --older-than, or --all";
    Err(Failure::Usage(text.to_owned()))
}

async fn list(nats: &Nats, global: &Global, which: &Which) -> Result<(), Failure> {
    let mut walk = begin(nats, which).await?;
    let mut rows = Vec::new();
    let mut count = 0_u64;
    while let Some(letter) = walk.next().await.map_err(stopped)? {
        count += 1;
        if global.json {
            output::line(letter.summary());
            if output::is_lost() {
                return Ok(());
            }
            continue;
        }
        let event = letter.task.as_ref().map_or_else(ToString::to_string, whose);
        rows.push(vec![
            letter.stored.sequence.to_string(),
            letter.stored.time.to_string(),
            format!("{}/{}", letter.pipeline, letter.subscription),
            letter.death.reason.to_string(),
            event,
            letter.death.error.clone(),
        ]);
        // Bounded memory: long lists are printed in pieces.
        if rows.len() == 1_000 {
            output::text(table(&["SEQ", "TIME", "LANE", "REASON", "EVENT", "ERROR"], &rows));
            rows.clear();
        }
        if output::is_lost() {
            return Ok(());
        }
    }
    if !rows.is_empty() {
        output::text(table(&["SEQ", "TIME", "LANE", "REASON", "EVENT", "ERROR"], &rows));
    }
    if !global.json {
        output::say(format_args!("{count} dead letter{}", if count == 1 { "" } else { "s" }));
    }
    Ok(())
}

/// The id of a letter's event, and the subject where that is kept. What nobody has checked has a question mark.
fn whose(task: &Task) -> String {
    let id = &task.event.id;
    let id = match (id.is_empty(), task.event.unverified) {
        (true, _) => String::new(),
        (false, true) => format!("{id}?"),
        (false, false) => id.clone(),
    };
    let subject = task.subject.as_deref().map(|subject| format!("on {subject}"));
    let parts: Vec<String> = [Some(id).filter(|id| !id.is_empty()), subject].into_iter().flatten().collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(" ") }
}

async fn show(nats: &Nats, global: &Global, which: &Which) -> Result<(), Failure> {
    let mut walk = begin(nats, which).await?;
    let mut found = false;
    while let Some(letter) = walk.next().await.map_err(stopped)? {
        found = true;
        let value = letter.put_together(nats).await;
        if global.json {
            output::line(value);
        } else {
            output::line(serde_json::to_string_pretty(&value).unwrap_or_default());
        }
        if output::is_lost() {
            break;
        }
    }
    if found {
        Ok(())
    } else {
        Err(Failure::Failed("no such dead letter; `hookmill dlq list` shows them".to_owned()))
    }
}

fn confirmed(count: u64) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{count} dead letters would be lost for good; say --yes to mean it"
        )));
    }
    output::ask(format_args!("{count} dead letters will be lost for good. Discard them? [y/N] "));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Failure::failed(&error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
