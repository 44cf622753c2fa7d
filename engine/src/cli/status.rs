//! `hookmill status`: which engines run, and which modules they use.

use serde_json::{Value, json};

use super::args::Global;
use super::output::table;
use super::{Failure, assemble};
use crate::nats::Modules;
use crate::nats::modules::{Alive, Use};

/// Hex digits of a digest that are shown to people.
const DIGEST_SHOWN: usize = 12;

pub(crate) async fn status(global: &Global) -> Result<(), Failure> {
    let process = assemble::process(global)?;
    let nats = assemble::connect(&process).await?;
    let modules = Modules::look(&nats);
    let engines = modules.engines().await.map_err(|error| Failure::failed(&error))?;
    let uses = modules.uses().await.map_err(|error| Failure::failed(&error))?;
    if global.json {
        engines.iter().map(engine_json).chain(uses.iter().map(use_json)).for_each(|line| println!("{line}"));
    } else {
        print!("{}", text(&engines, &uses));
    }
    Ok(())
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
        return "no engine runs\n".to_owned();
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
        assert_eq!(text(&[], &[]), "no engine runs\n");
        let json = use_json(&one);
        assert_eq!((&json["kind"], &json["version"]), (&json!("module"), &json!("1.4.2")));
        assert_eq!(engine_json(&alive)["renewed_seconds_ago"], 2);
    }
}
