//! `hookmill publish`: CloudEvents from files into JetStream, with acks.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;
use serde_json::value::RawValue;

use super::args::{Global, Mode, PublishArgs};
use super::{Failure, assemble, output};
use crate::model::Event;
use crate::model::event::STRUCTURED_CONTENT_TYPE;
use crate::model::text::without_byte_order_mark;
use crate::nats::{Nats, Prefix};

/// Publishes that wait for their ack at once.
const IN_FLIGHT: usize = 256;

/// One event of a file.
pub(crate) struct Item {
    /// Where it stands, for errors.
    pub(crate) place: String,
    /// The event.
    pub(crate) event: Event,
}

pub(crate) async fn publish(global: &Global, args: PublishArgs) -> Result<(), Failure> {
    let mut items = Vec::new();
    let mut problems = 0;
    for file in &args.files {
        let (found, errors) = read(file)?;
        items.extend(found);
        problems += errors.len();
        for error in &errors {
            output::say(format_args!("error: {error}"));
        }
    }
    if problems > 0 {
        return Err(Failure::Usage(format!("nothing published: {problems} of the events can't be read")));
    }
    let process = assemble::process(global)?;
    if let Some(subject) = &args.subject
        && Prefix::new(&process.nats.prefix).is_own_subject(subject)
    {
        let mend = "events go to subjects of a source stream";
        return Err(Failure::Usage(format!("--subject {subject} is a subject of the engine's own; {mend}")));
    }
    let nats = assemble::connect(&process).await?;
    let count = items.len();
    let sent = stream::iter(items.into_iter().map(|item| send(&nats, &args, global.json, item)));
    let mut sent = std::pin::pin!(sent.buffered(IN_FLIGHT));
    let mut stored = 0;
    while let Some(one) = sent.next().await {
        if one.is_err() {
            output::say(format_args!("{stored} of {count} published; the others may be published or not"));
        }
        one?;
        stored += 1;
    }
    output::say(format_args!("{count} published"));
    Ok(())
}

async fn send(nats: &Nats, args: &PublishArgs, as_json: bool, item: Item) -> Result<(), Failure> {
    let subject = args.subject.clone().unwrap_or_else(|| format!("events.{}", item.event.ty));
    let (headers, body) = message(&item.event, args.mode);
    let sequence = nats.store(subject.clone(), headers, body).await;
    let sequence = sequence.map_err(|error| {
        let mend = "`hookmill init` makes a stream that takes events.>";
        Failure::Failed(format!("{}: not published to {subject}: {error}; {mend}", item.place))
    })?;
    if as_json {
        output::line(json!({ "id": item.event.id, "subject": subject, "sequence": sequence }));
    }
    Ok(())
}

/// The message of an event in this mode.
pub(crate) fn message(event: &Event, mode: Mode) -> (Vec<(String, String)>, Bytes) {
    match mode {
        Mode::Structured => {
            let headers = vec![("Content-Type".to_owned(), STRUCTURED_CONTENT_TYPE.to_owned())];
            (headers, event.to_structured())
        }
        Mode::Binary => event.to_nats_binary(),
    }
}

/// The events of a file (`-`: standard input): one JSON object, an array of them, or one a line.
pub(crate) fn read(path: &Path) -> Result<(Vec<Item>, Vec<String>), Failure> {
    let mut text = String::new();
    let label =
        if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() };
    let got = if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::read_to_string(path).map(|read| {
            text = read;
            text.len()
        })
    };
    got.map_err(|error| Failure::Usage(format!("{label} can't be read: {error}")))?;
    Ok(parse(&label, without_byte_order_mark(&text)))
}

fn parse(label: &str, text: &str) -> (Vec<Item>, Vec<String>) {
    let (mut items, mut errors) = (Vec::new(), Vec::new());
    let mut take =
        |place: String, raw: &str| match Event::from_structured_or_all(&Bytes::from(raw.trim().to_owned())) {
            Ok(event) => items.push(Item { place, event }),
            Err(error) => errors.push(format!("{place}: {error}")),
        };
    if text.trim_start().starts_with('[') {
        match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(list) => {
                for (index, raw) in list.iter().enumerate() {
                    take(format!("{label}: event {}", index + 1), raw.get());
                }
            }
            Err(error) => errors.push(format!("{label}: {error}")),
        }
        return (items, errors);
    }
    if serde_json::from_str::<&RawValue>(text).is_ok() {
        take(format!("{label}:1"), text);
        return (items, errors);
    }
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        take(format!("{label}:{}", index + 1), line);
    }
    (items, errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;

    #[test]
    fn objects_arrays_and_lines_are_read_and_errors_name_their_place() {
        assert_eq!(parse("f", ONE).0.len(), 1);
        assert_eq!(parse("f", &format!("[{ONE},\n{ONE}]")).0.len(), 2);
        let (items, errors) = parse("f", &format!("{ONE}\n\n{{}}\n{ONE}\n"));
        assert_eq!(items.len(), 2);
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("f:3: "), "{errors:?}");
        assert_eq!(parse("f", "").0.len(), 0);
    }
}
