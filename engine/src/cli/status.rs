//! `hookmill status`: which engines show a sign of life, which modules they use, where they take from, and how each lane stands.

use serde_json::{Value, json};

use super::args::Global;
use super::output::table;
use super::{Failure, assemble, output};
use crate::nats::lanes::{self, Known, LaneView};
use crate::nats::modules::{Alive, Use};
use crate::nats::owner::{self, SourceView};
use crate::nats::{Modules, Nats, Registry};

/// Hex digits of a digest that are shown to people.
const DIGEST_SHOWN: usize = 12;

pub(crate) async fn status(global: &Global) -> Result<(), Failure> {
    let process = assemble::process(global)?;
    let nats = assemble::connect_led(&process).await?;
    let modules = Modules::look(&nats);
    let engines = modules.engines().await.map_err(|error| Failure::failed(&error))?;
    let uses = modules.uses().await.map_err(|error| Failure::failed(&error))?;
    let (sources, lanes) = look_at_pipelines(&nats).await?;
    if global.json {
        let lines = engines.iter().map(engine_json).chain(uses.iter().map(use_json));
        let lines = lines.chain(sources.iter().map(source_json));
        lines.chain(lanes.iter().map(lane_json)).for_each(output::line);
    } else {
        let (uses, sources) = (text(&engines, &uses), sources_text(&sources));
        output::text(format_args!("{uses}{sources}{}", lanes_text(&lanes)));
    }
    Ok(())
}

/// Every source that was taken from, and every lane that the files in force have or that something is in; none where no engine
/// has ever run.
async fn look_at_pipelines(nats: &Nats) -> Result<(Vec<SourceView>, Vec<LaneView>), Failure> {
    let records = nats.stream_messages(&nats.prefix().registry_stream()).await;
    if records.map_err(|error| Failure::failed(&error))? == 0 {
        return Ok((Vec::new(), Vec::new()));
    }
    let registry = Registry::open(nats).await.map_err(|error| Failure::failed(&error))?;
    let known = Known::in_force(nats, &registry).await.map_err(|error| Failure::failed(&error))?;
    let sources = owner::sources(nats, &registry).await.map_err(|error| Failure::failed(&error))?;
    let lanes = lanes::view(nats, &registry, &known).await.map_err(|error| Failure::failed(&error))?;
    Ok((sources, lanes))
}

fn source_json(source: &SourceView) -> Value {
    let SourceView { pipeline, stream, consumer, state, owner } = source;
    let owner = owner.as_ref().map(|owner| json!({ "prefix": owner.prefix, "pipeline": owner.pipeline }));
    json!({
        "kind": "source", "pipeline": pipeline, "stream": stream, "consumer": consumer, "state": state,
        "owner": owner
    })
}

/// Sources that somebody has to look after, a paragraph each.
fn sources_text(sources: &[SourceView]) -> String {
    let trouble =
        |source: &SourceView| Some(format!("\npipeline {}: {}\n", source.pipeline, source.trouble()?));
    sources.iter().filter_map(trouble).collect::<Vec<_>>().concat()
}

fn lane_json(lane: &LaneView) -> Value {
    let mut line = json!(lane);
    line["kind"] = json!("lane");
    line
}

/// Lanes that people should look at, one a line; those that are active and empty are counted only.
fn lanes_text(lanes: &[LaneView]) -> String {
    let idle = |lane: &&LaneView| lane.state == "active" && lane.backlog + lane.waiting == 0;
    let (idle, busy): (Vec<&LaneView>, Vec<&LaneView>) = lanes.iter().partition(idle);
    let line = |lane: &&LaneView| {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            format!("{}/{}", lane.pipeline, lane.subscription),
            lane.state.to_owned(),
            lane.backlog.to_string(),
            lane.waiting.to_string(),
            text(&lane.oldest),
            text(&lane.next_probe),
            text(&lane.last_error),
            lane.why.clone(),
        ]
    };
    let mut text = match idle.len() {
        0 => String::new(),
        1 => "\n1 lane is empty, and nothing is noted that stops it\n".to_owned(),
        count => format!("\n{count} lanes are empty, and nothing is noted that stops them\n"),
    };
    if !busy.is_empty() {
        let lines: Vec<Vec<String>> = busy.iter().map(line).collect();
        let columns = ["LANE", "STATE", "BACKLOG", "WAITING", "OLDEST", "NEXT PROBE", "LAST ERROR", "WHY"];
        text = format!("\n{}{text}", table(&columns, &lines));
    }
    text
}

fn engine_json(alive: &Alive) -> Value {
    let Alive { pipeline, engine, revision, age } = alive;
    json!({
        "kind": "engine", "pipeline": pipeline, "engine": engine, "revision": revision,
        "renewed_seconds_ago": age.as_secs()
    })
}

fn use_json(one: &Use) -> Value {
    let Use { pipeline, subscription, step, engine, reference, version, digest, last_error } = one;
    json!({
        "kind": "module", "pipeline": pipeline, "subscription": subscription, "step": step, "engine": engine,
        "reference": reference, "version": version, "digest": digest, "last_error": last_error
    })
}

fn text(engines: &[Alive], uses: &[Use]) -> String {
    if engines.is_empty() {
        return "no engine shows a sign of life\n".to_owned();
    }
    let engine = |alive: &Alive| {
        let renewed = format!("{} s ago", alive.age.as_secs());
        let revision = alive.revision.chars().take(DIGEST_SHOWN).collect();
        vec![alive.pipeline.to_string(), alive.engine.clone(), revision, renewed]
    };
    let engines: Vec<Vec<String>> = engines.iter().map(engine).collect();
    let mut text = table(&["PIPELINE", "ENGINE", "REVISION", "RENEWED"], &engines);
    let module = |one: &Use| {
        vec![
            format!("{}/{}", one.pipeline, one.subscription),
            one.step.to_string(),
            one.reference.clone(),
            one.version.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            one.digest.hex().chars().take(DIGEST_SHOWN).collect(),
            one.engine.clone(),
            one.last_error.clone().unwrap_or_default(),
        ]
    };
    let modules: Vec<Vec<String>> = uses.iter().map(module).collect();
    if !modules.is_empty() {
        text.push('\n');
        text.push_str(&table(
            &["LANE", "STEP", "MODULE", "VERSION", "SHA256", "ENGINE", "LAST ERROR"],
            &modules,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Digest, Name, Version};
    use crate::nats::owner::Owner;

    #[test]
    fn lanes_that_need_a_look_are_shown_and_the_others_counted() {
        let lane = |subscription: &str, state, backlog| LaneView {
            pipeline: "orders".to_owned(),
            subscription: subscription.to_owned(),
            state,
            why: String::new(),
            backlog,
            waiting: 0,
            oldest: None,
            last_error: None,
            next_probe: None,
        };
        let open = LaneView {
            why: "the endpoint answered 503".to_owned(),
            oldest: Some("2026-11-24T03:00:00Z".to_owned()),
            last_error: Some("no connection".to_owned()),
            next_probe: Some("2026-11-24T03:01:00Z".to_owned()),
            ..lane("erp", "open", 3)
        };
        let expected = "
LANE        STATE   BACKLOG  WAITING  OLDEST                NEXT PROBE            LAST ERROR     WHY
orders/erp  open    3        0        2026-11-24T03:00:00Z  2026-11-24T03:01:00Z  no connection  the endpoint answered 503
orders/b    paused  0        0        -                     -                     -

1 lane is empty, and nothing is noted that stops it
";
        assert_eq!(lanes_text(&[open.clone(), lane("a", "active", 0), lane("b", "paused", 0)]), expected);
        assert_eq!(
            lanes_text(&[lane("a", "active", 0), lane("b", "active", 0)]),
            "\n2 lanes are empty, and nothing is noted that stops them\n"
        );
        assert_eq!(lanes_text(&[]), "");
        let json = lane_json(&open);
        assert_eq!((&json["kind"], &json["next_probe"]), (&json!("lane"), &json!("2026-11-24T03:01:00Z")));
    }

    #[test]
    fn a_source_is_spoken_of_only_where_its_consumer_is_somebody_elses() {
        let source = |state, owner: Option<(&str, &str)>| SourceView {
            pipeline: "orders".to_owned(),
            stream: "EVENTS".to_owned(),
            consumer: "mill-a-orders".to_owned(),
            state,
            owner: owner
                .map(|(prefix, pipeline)| Owner { prefix: prefix.to_owned(), pipeline: pipeline.to_owned() }),
        };
        let foreign = source("foreign", Some(("mill", "a-orders")));
        let all =
            [source("ours", Some(("mill-a", "orders"))), source("unclaimed", None), source("missing", None)];
        assert_eq!(sources_text(&all), "");
        assert_eq!(
            sources_text(std::slice::from_ref(&foreign)),
            "\npipeline orders: consumer mill-a-orders on EVENTS belongs to pipeline a-orders of prefix mill, and each of \
             the two would get a part of the events only; give this pipeline another name, or this engine another [nats] prefix\n"
        );
        let json = source_json(&foreign);
        assert_eq!((&json["kind"], &json["owner"]["pipeline"]), (&json!("source"), &json!("a-orders")));
    }

    #[test]
    fn engines_and_their_modules_are_shown_as_tables() {
        let name = |text| Name::new(text).unwrap();
        let alive = Alive {
            pipeline: name("orders"),
            engine: "0123456789abcdef".to_owned(),
            revision: "fedcba9876543210".to_owned(),
            age: Duration::from_millis(2300),
        };
        let one = Use {
            pipeline: name("orders"),
            subscription: name("warehouse"),
            step: 0,
            engine: alive.engine.clone(),
            reference: "redact@1".to_owned(),
            version: Some(Version::parse("1.4.2").unwrap()),
            digest: Digest::of(b""),
            last_error: Some("redact@1.4.3 is not used: it traps".to_owned()),
        };
        let file = Use {
            step: 1,
            reference: "./own.wasm".to_owned(),
            version: None,
            last_error: None,
            ..one.clone()
        };
        let expected = "\
PIPELINE  ENGINE            REVISION      RENEWED
orders    0123456789abcdef  fedcba987654  2 s ago

LANE              STEP  MODULE      VERSION  SHA256        ENGINE            LAST ERROR
orders/warehouse  0     redact@1    1.4.2    e3b0c44298fc  0123456789abcdef  redact@1.4.3 is not used: it traps
orders/warehouse  1     ./own.wasm  -        e3b0c44298fc  0123456789abcdef
";
        assert_eq!(text(std::slice::from_ref(&alive), &[one.clone(), file]), expected);
        assert_eq!(text(&[], &[]), "no engine shows a sign of life\n");
        let json = use_json(&one);
        assert_eq!((&json["kind"], &json["version"]), (&json!("module"), &json!("1.4.2")));
        assert_eq!(engine_json(&alive)["renewed_seconds_ago"], 2);
    }
}
