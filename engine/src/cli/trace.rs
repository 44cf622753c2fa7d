//! `hookmill trace`: where an event is now.

use super::args::{Global, TraceArgs};
use super::output::{plain, table};
use super::{Failure, assemble, output};
use crate::model::event::Reading;
use crate::nats::standing::Standing;
use crate::nats::trace::{self, EventView, Kind, Place, Traced, Wanted};
use crate::nats::{Prefix, Registry};

pub(crate) async fn trace(global: &Global, args: TraceArgs) -> Result<(), Failure> {
    let process = assemble::process(global)?;
    let nats = assemble::connect_to(&process, |prefix: &Prefix| vec![prefix.registry_stream()]).await?;
    let registry = Registry::open(&nats).await.map_err(|error| Failure::failed(&error))?;
    let wanted = Wanted { id: args.id, source: args.source, since: args.since };
    let traced = trace::trace(&nats, &registry, &wanted).await.map_err(|error| Failure::failed(&error))?;
    if traced.places.is_empty() {
        return Err(Failure::Failed(nowhere(&wanted, &traced)));
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

/// What is said where nothing was found: where it was looked for, and all that may be the reason.
fn nowhere(wanted: &Wanted, traced: &Traced) -> String {
    let Traced { looked, missing, .. } = traced;
    let places = looked.iter().map(|looked| format!("{} from {} on", looked.stream, looked.from));
    let places: Vec<String> =
        ["waits, lanes and dead letters".to_owned()].into_iter().chain(places).collect();
    let (id, source) = (&wanted.id, wanted.source.as_ref());
    let source = source.map(|source| format!(" and the source {source:?}")).unwrap_or_default();
    let mut reasons = vec![
        "it may not have been published, or under another id or source, or to a stream that no pipeline takes from"
            .to_owned(),
        "it may have left its stream: by age, by a limit, by hand, or out of a work queue once it was settled"
            .to_owned(),
    ];
    if looked.iter().any(|looked| looked.from > looked.first) {
        let since = humantime::format_duration(wanted.since);
        reasons.push(format!("it may lie further back than {since}: --since looks there"));
    }
    for looked in looked.iter().filter(|looked| looked.unread > 0) {
        reasons.push(format!(
            "{} of the messages in {} can't be read as CloudEvents and say no id: \
             `hookmill dlq list --reason not_cloudevent` has those that were dead-lettered",
            looked.unread, looked.stream
        ));
    }
    if !missing.is_empty() {
        reasons.push(format!("not looked at, because there is no such stream: {}", missing.join(", ")));
    }
    format!(
        "no event with the id {id:?}{source} was found in {}\nhint: {}",
        places.join(", "),
        reasons.join("\nhint: ")
    )
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
        let EventView { id, source, ty, unverified } = event;
        let doubt = if *unverified { ", says a message that can't be read as an event" } else { "" };
        text.push_str(&plain(&format!("{id} of {source} ({ty}){doubt}")));
        text.push('\n');
        text.push_str(&table(
            &["WHERE", "LANE", "SINCE", "NEXT", "ATTEMPTS", "LAST ERROR", "MODULES"],
            &rows,
        ));
        text.extend(lines.iter().filter_map(|place| mended(place)));
        if is_done(&lines, places) {
            text.push_str(if *unverified { DONE_UNREAD } else { DONE });
        }
        text.push('\n');
    }
    text
}

/// What is said of an event of which nothing is left but its message.
const DONE: &str = "nothing is left to do: each subscription that wanted it has delivered it or filtered it out, or has left a task \
                    or a dead letter that is gone since\n";

/// The same of a message that is no event.
const DONE_UNREAD: &str = "nothing is left to do: today it is no event, and what it became, a dead letter of its pipeline or \
                           anything else under other rules, is gone since\n";

/// What was mended of an event, or would be; nothing where it is valid.
fn mended(place: &Place) -> Option<String> {
    if place.mends.is_empty() {
        return None;
    }
    let (mends, page) = (place.mends.join(", "), "docs/your-publisher.md says how");
    let pipeline = place.pipeline.as_deref()?;
    Some(match (place.kind, place.reading) {
        (Kind::Source, Some(Reading::Tolerant)) => format!("{pipeline} mends it: {mends}; {page}\n"),
        (Kind::Source, Some(Reading::Strict)) => {
            format!(
                "{pipeline} reads strictly now, and refuses what the tolerant reading mends: {mends}; {page}\n"
            )
        }
        (Kind::Source, None) => format!(
            "it is not known how {pipeline} reads; the tolerant reading mends {mends}, the strict one refuses it; {page}\n"
        ),
        (Kind::Wait | Kind::Due | Kind::Lane | Kind::DeadLetter, _) => {
            format!("mended when it was admitted to {pipeline}: {mends}; {page}\n")
        }
    })
}

/// Whether these lines of one event are all settled, some pipeline has taken it, and nothing that was made of it is anywhere.
fn is_done(lines: &[&Place], places: &[Place]) -> bool {
    let state = |place: &Place, wanted: Standing| place.state.as_deref() == Some(wanted.as_str());
    let is_over = |place: &Place| {
        let over = state(place, Standing::Settled) || state(place, Standing::BeforeStart);
        place.kind == Kind::Source && over
    };
    let of_these = |place: &&Place| lines.iter().any(|line| line.origin == place.origin);
    lines.iter().all(|line| is_over(line))
        && lines.iter().any(|line| state(line, Standing::Settled))
        && places.iter().filter(of_these).all(is_over)
}

fn row(place: &Place) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let lane = match (&place.pipeline, &place.subscription) {
        (Some(pipeline), Some(subscription)) => format!("{pipeline}/{subscription}"),
        (Some(pipeline), None) => pipeline.clone(),
        (None, _) => "-".to_owned(),
    };
    let (at, sequence) = (&place.stream, place.sequence);
    let name = match place.kind {
        Kind::Source => format!("{at} {sequence}"),
        Kind::Wait => format!("wait {sequence}"),
        Kind::Due => format!("due {sequence}"),
        Kind::Lane => format!("lane {sequence}"),
        Kind::DeadLetter => format!("dead letter {sequence}"),
    };
    vec![
        name,
        lane,
        place.since.to_string(),
        next(place),
        or_dash(place.attempts.map(|attempts| attempts.to_string())),
        or_dash(place.last_error.clone()),
        if place.modules.is_empty() { "-".to_owned() } else { place.modules.join(" ") },
    ]
}

/// What comes next, as far as it is known.
fn next(place: &Place) -> String {
    let state = place.state.as_deref();
    match place.kind {
        Kind::Source => in_source(state, place.why.as_deref()),
        Kind::Wait => match place.until {
            Some(until) => format!("due at {until}"),
            None if state == Some("parked") => "when the rename of its pipeline is finished".to_owned(),
            None => "not known: its schedule can't be read".to_owned(),
        },
        Kind::Due => "when an engine has room for it".to_owned(),
        Kind::Lane => match state.unwrap_or_default() {
            "active" => "in its turn, when an engine has room for it".to_owned(),
            state => format!("lane is {state}"),
        },
        Kind::DeadLetter => match state {
            Some(reason) => format!("{reason}; redrive or discard it"),
            None => {
                "dead for a reason that a newer version has coined; upgrade to see it in the list".to_owned()
            }
        },
    }
}

fn in_source(state: Option<&str>, why: Option<&str>) -> String {
    let said = |wanted: Standing| state == Some(wanted.as_str());
    if said(Standing::Pending) {
        "will be taken in its turn".to_owned()
    } else if said(Standing::Taken) {
        "taken: being worked on, settled by now, or taken again soon".to_owned()
    } else if said(Standing::Settled) {
        "settled".to_owned()
    } else if said(Standing::BeforeStart) {
        "never taken: it was there before the pipeline began".to_owned()
    } else if said(Standing::NotItsSubject) {
        "taken by no pipeline of this stream: its subject is none of theirs, or was none at its turn"
            .to_owned()
    } else {
        format!("not known: {}", why.unwrap_or("of a newer version"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Timestamp;
    use crate::nats::trace::{Looked, Origin};

    fn place(kind: Kind, state: Option<&str>, pipeline: Option<&str>) -> Place {
        let event = EventView { id: "one".into(), source: "/s".into(), ty: "t".into(), unverified: false };
        Place {
            kind,
            stream: "EVENTS".into(),
            sequence: 7,
            since: Timestamp::from_unix_nanos(0),
            event,
            origin: Origin { stream: "EVENTS".into(), sequence: 7 },
            pipeline: pipeline.map(str::to_owned),
            subscription: None,
            state: state.map(str::to_owned),
            why: None,
            until: None,
            mends: Vec::new(),
            reading: None,
            attempts: None,
            last_error: None,
            status: None,
            delivery_id: None,
            resume: None,
            modules: Vec::new(),
        }
    }

    fn source(state: &str) -> Place {
        place(Kind::Source, Some(state), Some("p"))
    }

    #[test]
    fn what_comes_next_is_said_as_far_as_it_is_known() {
        let unknown = Place { why: Some("nothing is kept".into()), ..source("unknown") };
        let wait = place(Kind::Wait, None, None);
        let at = Place { until: Some(Timestamp::from_unix_nanos(0)), ..wait.clone() };
        let with = |kind, state| place(kind, state, Some("p"));
        for (place, expected) in [
            (source("pending"), "will be taken in its turn"),
            (source("taken"), "taken: being worked on, settled by now, or taken again soon"),
            (source("settled"), "settled"),
            (source("before_start"), "never taken: it was there before the pipeline began"),
            (
                source("not_its_subject"),
                "taken by no pipeline of this stream: its subject is none of theirs, or was none at its turn",
            ),
            (unknown, "not known: nothing is kept"),
            (at, "due at 1970-01-01T00:00:00Z"),
            (with(Kind::Wait, Some("parked")), "when the rename of its pipeline is finished"),
            (wait, "not known: its schedule can't be read"),
            (with(Kind::Due, None), "when an engine has room for it"),
            (with(Kind::Lane, Some("active")), "in its turn, when an engine has room for it"),
            (with(Kind::Lane, Some("paused: by hand")), "lane is paused: by hand"),
            (with(Kind::DeadLetter, Some("schema")), "schema; redrive or discard it"),
            (
                with(Kind::DeadLetter, None),
                "dead for a reason that a newer version has coined; upgrade to see it in the list",
            ),
        ] {
            assert_eq!(next(&place), expected, "{place:?}");
        }
    }

    #[test]
    fn nothing_is_left_only_where_all_is_settled_and_nothing_was_made_of_it() {
        let elsewhere = Place {
            event: EventView { id: "made of one".into(), ..place(Kind::Wait, None, None).event },
            ..place(Kind::Wait, None, Some("p"))
        };
        let of_another =
            Place { origin: Origin { stream: "EVENTS".into(), sequence: 8 }, ..elsewhere.clone() };
        for (places, done) in [
            (vec![source("settled")], true),
            (vec![source("settled"), source("settled")], true),
            (vec![source("settled"), source("before_start")], true),
            (vec![source("before_start")], false),
            (vec![place(Kind::Source, Some("not_its_subject"), None)], false),
            (vec![source("settled"), source("taken")], false),
            (vec![source("settled"), source("pending")], false),
            (vec![source("settled"), source("unknown")], false),
            (vec![source("settled"), place(Kind::DeadLetter, Some("schema"), Some("p"))], false),
            (vec![source("settled"), elsewhere], false),
            (vec![source("settled"), of_another], true),
        ] {
            assert_eq!(text(&places).contains("nothing is left to do"), done, "{places:?}");
        }
    }

    #[test]
    fn what_is_mended_is_said_as_each_pipeline_reads() {
        let of = |kind, reading| {
            let place =
                Place { mends: vec!["name_case"], reading, ..place(kind, Some("settled"), Some("p")) };
            text(&[place])
        };
        for (kind, reading, said) in [
            (Kind::Source, Some(Reading::Tolerant), "p mends it: name_case;"),
            (
                Kind::Source,
                Some(Reading::Strict),
                "p reads strictly now, and refuses what the tolerant reading mends: name_case;",
            ),
            (Kind::Source, None, "it is not known how p reads; the tolerant reading mends name_case,"),
            (Kind::Lane, None, "mended when it was admitted to p: name_case;"),
        ] {
            let text = of(kind, reading);
            assert!(text.contains(said), "{text}");
        }
        assert!(!text(&[source("settled")]).contains("mend"), "nothing is said of a valid event");
    }

    #[test]
    fn what_nobody_has_checked_is_called_so_and_moves_no_cursor() {
        let event = EventView { source: "\u{1b}[2J".into(), unverified: true, ..source("settled").event };
        let said = text(&[Place { event, ..source("settled") }]);
        assert!(
            said.starts_with("one of \\u{1b}[2J (t), says a message that can't be read as an event\n"),
            "{said}"
        );
        assert!(said.contains("nothing is left to do: today it is no event"), "{said}");
    }

    #[test]
    fn where_nothing_is_found_each_possible_reason_is_named() {
        let wanted = Wanted { id: "one".into(), source: None, since: Duration::from_hours(1) };
        let looked = |from, unread| Looked { stream: "EVENTS".into(), first: 5, from, unread };
        let traced = |looked: Vec<Looked>, missing: &[&str]| Traced {
            places: Vec::new(),
            looked,
            missing: missing.iter().map(|stream| (*stream).to_owned()).collect(),
        };
        let usual = "no event with the id \"one\" was found in waits, lanes and dead letters, EVENTS from 5 on\n\
            hint: it may not have been published, or under another id or source, or to a stream that no pipeline takes from\n\
            hint: it may have left its stream: by age, by a limit, by hand, or out of a work queue once it was settled";
        assert_eq!(nowhere(&wanted, &traced(vec![looked(5, 0)], &[])), usual);
        let more =
            nowhere(&Wanted { source: Some("/s".into()), ..wanted }, &traced(vec![looked(9, 2)], &["GONE"]));
        for part in [
            "no event with the id \"one\" and the source \"/s\" was found in waits, lanes and dead letters, EVENTS from 9 on\n",
            "\nhint: it may lie further back than 1h: --since looks there\n",
            "\nhint: 2 of the messages in EVENTS can't be read as CloudEvents and say no id",
            "\nhint: not looked at, because there is no such stream: GONE",
        ] {
            assert!(more.contains(part), "{part:?} in {more}");
        }
    }
}
