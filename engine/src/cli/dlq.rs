//! `hookmill dlq`: what could not be delivered, and what to do with it.

use std::io::{IsTerminal, Write};

use serde_json::json;

use super::args::{DlqCommand, Global, Which};
use super::output::table;
use super::{Failure, assemble};
use crate::model::{Timestamp, Work};
use crate::nats::Nats;
use crate::nats::letters::{Letter, Selection};

pub(crate) async fn dlq(global: &Global, command: DlqCommand) -> Result<(), Failure> {
    let process = assemble::process(global)?;
    let nats = assemble::connect(&process).await?;
    match command {
        DlqCommand::List(which) => list(&nats, global, &which).await,
        DlqCommand::Show(which) => show(&nats, global, &which).await,
        DlqCommand::Redrive { which, dry_run } => redrive(&nats, global, &which, dry_run).await,
        DlqCommand::Discard { which, dry_run, yes } => discard(&nats, global, &which, dry_run, yes).await,
    }
}

/// Walks through the dead letters that are meant, one at a time.
struct Walk<'n> {
    nats: &'n Nats,
    selection: Selection,
    before: Option<Timestamp>,
    from: u64,
}

impl<'n> Walk<'n> {
    fn new(nats: &'n Nats, which: &Which) -> Self {
        let selection = Selection {
            pipeline: which.pipeline.clone(),
            subscription: which.subscription.clone(),
            reason: which.reason,
            sequences: which.sequences.clone(),
        };
        let before = which.older_than.map(|age| Timestamp::now().minus(age));
        Self { nats, selection, before, from: 1 }
    }

    async fn next(&mut self) -> Result<Option<Letter>, Failure> {
        loop {
            let letter = self.nats.next_letter(&self.selection, self.from).await;
            let Some(letter) = letter.map_err(|error| Failure::failed(&error))? else { return Ok(None) };
            self.from = letter.stored.sequence + 1;
            let picked = self.selection.sequences.is_empty() || self.matches(&letter);
            if picked && self.before.is_none_or(|before| letter.stored.time <= before) {
                return Ok(Some(letter));
            }
        }
    }

    /// Picked by sequence, a dead letter still has to fulfil what else was asked for.
    fn matches(&self, letter: &Letter) -> bool {
        let is = |asked: &Option<String>, found: &str| asked.as_deref().is_none_or(|asked| asked == found);
        is(&self.selection.pipeline, &letter.pipeline)
            && is(&self.selection.subscription, &letter.subscription)
            && self.selection.reason.is_none_or(|reason| reason == letter.death.reason)
    }
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

fn as_json(letter: &Letter) -> serde_json::Value {
    let task = letter.task.as_ref().ok();
    json!({
        "sequence": letter.stored.sequence,
        "time": letter.stored.time.to_string(),
        "pipeline": letter.pipeline,
        "subscription": letter.subscription,
        "reason": letter.death.reason.as_str(),
        "error": letter.death.error,
        "status": letter.death.status,
        "attempts": task.map(|task| task.attempt),
        "first_attempt": task.and_then(|task| task.first_attempt).map(|time| time.to_string()),
        "delivery_id": task.map(|task| task.delivery_id.as_str()),
        "event": task.map(|task| json!({
            "id": task.event.id, "source": task.event.source, "type": task.event.ty
        })),
        "source": task.map(|task| json!({
            "stream": &*task.source.stream, "sequence": task.source.sequence
        })),
        "resume": task.map(|task| task.work.resume()),
        "bytes": letter.stored.body.len(),
    })
}

async fn list(nats: &Nats, global: &Global, which: &Which) -> Result<(), Failure> {
    let mut walk = Walk::new(nats, which);
    let mut rows = Vec::new();
    let mut count = 0_u64;
    while let Some(letter) = walk.next().await? {
        count += 1;
        if global.json {
            println!("{}", as_json(&letter));
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
    let mut walk = Walk::new(nats, which);
    let mut found = false;
    while let Some(letter) = walk.next().await? {
        found = true;
        let mut value = as_json(&letter);
        let headers: serde_json::Map<_, _> =
            letter.stored.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        value["headers"] = json!(headers);
        value["body"] = match std::str::from_utf8(&letter.stored.body) {
            Ok(text) => json!(text),
            Err(_) => json!({ "base64": data_encoding::BASE64.encode(&letter.stored.body) }),
        };
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
    let mut walk = Walk::new(nats, which);
    let (mut done, mut failed) = (0_u64, 0_u64);
    while let Some(letter) = walk.next().await? {
        let sequence = letter.stored.sequence;
        let result = if dry_run {
            dry(&letter)
        } else {
            nats.redrive(&letter).await.map_err(|error| super::output::chain(&error))
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
    let mut walk = Walk::new(nats, which);
    while let Some(letter) = walk.next().await? {
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
    let mut walk = Walk::new(nats, which);
    let mut done = 0_u64;
    while done < count {
        let Some(letter) = walk.next().await? else { break };
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
