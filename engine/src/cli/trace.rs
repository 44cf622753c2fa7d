//! `hookmill trace`: where an event is now.

use super::args::{Global, TraceArgs};
use super::output::table;
use super::{Failure, assemble, output};
use crate::nats::trace::{self, EventView, Kind, Place, Traced, Wanted};
use crate::nats::{Prefix, Registry};

pub(crate) async fn trace(global: &Global, args: TraceArgs) -> Result<(), Failure> {
    let process = assemble::process(global)?;
    let nats = assemble::connect_to(&process, |prefix: &Prefix| vec![prefix.registry_stream()]).await?;
    let registry = Registry::open(&nats).await.map_err(|error| Failure::failed(&error))?;
    let wanted = Wanted { id: args.id, source: args.source, since: args.since };
    let traced = trace::trace(&nats, &registry, &wanted).await.map_err(|error| Failure::failed(&error))?;
    if traced.places.is_empty() {
        return Err(nowhere(&wanted, &traced));
    }
    if global.json {
        for place in &traced.places {
            output::line(serde_json::to_string(place).unwrap_or_default());
        }
    } else {
        output::text(text(&traced.places));
    }
    Ok(())
}

fn nowhere(wanted: &Wanted, traced: &Traced) -> Failure {
    let looked = traced.looked.iter().map(|(stream, from)| format!("{stream} from {from} on"));
    let looked: Vec<String> =
        ["waits, lanes and dead letters".to_owned()].into_iter().chain(looked).collect();
    let since = humantime::format_duration(wanted.since);
    Failure::Failed(format!(
        "no event with the id {:?} is in {}\n\
         hint: it was never published, or delivered or filtered more than {since} ago; --since looks further back",
        wanted.id,
        looked.join(", ")
    ))
}

/// The events of one id, one after the other, each with a line for every place.
fn text(places: &[Place]) -> String {
    let mut text = String::new();
    let mut events: Vec<&EventView> = Vec::new();
    for place in places {
        if !events.contains(&&place.event) {
            events.push(&place.event);
        }
    }
    for event in events {
        let lines: Vec<&Place> = places.iter().filter(|place| place.event == *event).collect();
        let rows: Vec<Vec<String>> = lines.iter().map(|place| row(place)).collect();
        text.extend([&event.id, " of ", &event.source, " (", &event.ty, ")\n"]);
        text.push_str(&table(
            &["WHERE", "LANE", "SINCE", "NEXT", "ATTEMPTS", "LAST ERROR", "MODULES"],
            &rows,
        ));
        if lines.iter().all(|place| place.kind == Kind::Source && place.state.as_deref() == Some("settled")) {
            text.push_str("nothing is left to do: for each subscription it was delivered or filtered\n");
        }
        text.push('\n');
    }
    text
}

fn row(place: &Place) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let lane = match (&place.pipeline, &place.subscription) {
        (Some(pipeline), Some(subscription)) => format!("{pipeline}/{subscription}"),
        (Some(pipeline), None) => pipeline.clone(),
        (None, _) => "-".to_owned(),
    };
    let (at, sequence) = (&place.stream, place.sequence);
    let state = place.state.clone().unwrap_or_default();
    let (place_name, next) = match place.kind {
        Kind::Source => (format!("{at} {sequence}"), in_source(place.state.as_deref())),
        Kind::Wait => (
            format!("wait {sequence}"),
            format!("at {}", or_dash(place.until.map(|until| until.to_string()))),
        ),
        Kind::Due => (format!("due {sequence}"), "now".to_owned()),
        Kind::Lane if state == "active" => (format!("lane {sequence}"), "in its turn".to_owned()),
        Kind::Lane => (format!("lane {sequence}"), format!("lane is {state}")),
        Kind::DeadLetter => (format!("dead letter {sequence}"), format!("{state}; redrive or discard it")),
    };
    vec![
        place_name,
        lane,
        place.since.to_string(),
        next,
        or_dash(place.attempts.map(|attempts| attempts.to_string())),
        or_dash(place.last_error.clone()),
        if place.modules.is_empty() { "-".to_owned() } else { place.modules.join(" ") },
    ]
}

fn in_source(state: Option<&str>) -> String {
    match state {
        Some("pending") => "not taken yet",
        Some("taken") => "taken, being worked on or just settled",
        Some(_) => "settled",
        None => "no pipeline takes it",
    }
    .to_owned()
}
