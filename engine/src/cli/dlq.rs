//! `hookmill dlq`: what could not be delivered, and what to do with it.

use std::io::{IsTerminal, Write};

use serde_json::json;

use super::args::{DlqCommand, Global, Which};
use super::output::table;
use super::{Failure, assemble};
use crate::model::{Timestamp, Work};
use crate::nats::letters::{Letter, RedriveError, Selection};
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
        DlqCommand::Redrive { which, dry_run } => redrive(&nats, global, &which, dry_run).await,
        DlqCommand::Discard { which, dry_run, yes } => discard(&nats, global, &which, dry_run, yes).await,
    }
}

/// Those that are meant.
async fn begin(nats: &Nats, which: &Which) -> Result<Walk, Failure> {
    let selection = Selection {
        pipeline: which.pipeline.clone(),
        subscription: which.subscription.clone(),
        reason: which.reason,
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
        || which.older_than.is_some()
        || which.all;
    if any {
        return Ok(());
    }
    let text = "which ones? give sequences, --pipeline, --subscription, --reason or --older-than, or --all";
    Err(Failure::Usage(text.to_owned()))
}

async fn list(nats: &Nats, global: &Global, which: &Which) -> Result<(), Failure> {
    let mut walk = begin(nats, which).await?;
    let mut rows = Vec::new();
    let mut count = 0_u64;
    while let Some(letter) = walk.next().await.map_err(stopped)? {
        count += 1;
        if global.json {
            println!("{}", letter.summary());
            continue;
        }
        let event = letter.task.as_ref().map_or_else(ToString::to_string, |task| task.event.id.clone());
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
            print!("{}", table(&["SEQ", "TIME", "LANE", "REASON", "EVENT", "ERROR"], &rows));
            rows.clear();
        }
    }
    if !rows.is_empty() {
        print!("{}", table(&["SEQ", "TIME", "LANE", "REASON", "EVENT", "ERROR"], &rows));
    }
    if !global.json {
        eprintln!("{count} dead letter{}", if count == 1 { "" } else { "s" });
    }
    Ok(())
}

async fn show(nats: &Nats, global: &Global, which: &Which) -> Result<(), Failure> {
    let mut walk = begin(nats, which).await?;
    let mut found = false;
    while let Some(letter) = walk.next().await.map_err(stopped)? {
        found = true;
        let value = letter.whole();
        if global.json {
            println!("{value}");
        } else {
            println!("{}", serde_json::to_string_pretty(&value).unwrap_or_default());
        }
    }
    if found {
        Ok(())
    } else {
        Err(Failure::Failed("no such dead letter; `hookmill dlq list` shows them".to_owned()))
    }
}

async fn redrive(nats: &Nats, global: &Global, which: &Which, dry_run: bool) -> Result<(), Failure> {
    chosen(which)?;
    let mut walk = begin(nats, which).await?;
    let (mut done, mut failed) = (0_u64, 0_u64);
    while let Some(letter) = walk.next().await.map_err(stopped)? {
        let sequence = letter.stored.sequence;
        let mut full = false;
        let result = if dry_run {
            dry(&letter)
        } else {
            nats.redrive(&letter).await.map_err(|error| {
                full = matches!(error, RedriveError::Store(_));
                super::output::chain(&error)
            })
        };
        match &result {
            Ok(()) => done += 1,
            Err(why) => {
                failed += 1;
                eprintln!(
                    "error: dead letter {sequence} ({}/{}) is not redriven: {why}",
                    letter.pipeline, letter.subscription
                );
            }
        }
        if global.json {
            println!(
                "{}",
                json!({ "sequence": sequence, "redriven": result.is_ok() && !dry_run, "error": result.err() })
            );
        }
        if full {
            eprintln!("stopped there: the others stay in the dead letters; try again once the lane has room");
            break;
        }
    }
    let verb = if dry_run { "would be redriven" } else { "redriven" };
    eprintln!("{done} {verb}, {failed} can't be");
    if failed == 0 { Ok(()) } else { Err(Failure::Said(1)) }
}

/// What a dry run can tell beforehand.
fn dry(letter: &Letter) -> Result<(), String> {
    match &letter.task {
        Err(error) => Err(error.to_string()),
        Ok(task) => match &task.work {
            Work::Source(message) if message.body.is_empty() && message.headers.is_empty() => {
                Err("only a reference to it is stored".to_owned())
            }
            _ => Ok(()),
        },
    }
}

async fn discard(
    nats: &Nats,
    global: &Global,
    which: &Which,
    dry_run: bool,
    yes: bool,
) -> Result<(), Failure> {
    chosen(which)?;
    let mut count = 0_u64;
    let mut walk = begin(nats, which).await?;
    while let Some(letter) = walk.next().await.map_err(stopped)? {
        count += 1;
        if dry_run && global.json {
            println!("{}", json!({ "sequence": letter.stored.sequence, "discarded": false }));
        }
    }
    if dry_run || count == 0 {
        eprintln!("{count} would be discarded");
        return Ok(());
    }
    if !yes && !confirmed(count)? {
        eprintln!("nothing discarded");
        return Err(Failure::Said(1));
    }
    let mut walk = begin(nats, which).await?;
    let mut done = 0_u64;
    while done < count {
        let Some(letter) = walk.next().await.map_err(stopped)? else { break };
        nats.discard(&letter).await.map_err(|error| Failure::failed(&error))?;
        done += 1;
        if global.json {
            println!("{}", json!({ "sequence": letter.stored.sequence, "discarded": true }));
        }
    }
    eprintln!("{done} discarded");
    Ok(())
}

fn confirmed(count: u64) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{count} dead letters would be lost for good; say --yes to mean it"
        )));
    }
    eprint!("{count} dead letters will be lost for good. Discard them? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|error| Failure::failed(&error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
