//! Loops of the pipelines that are loaded together: those that are sure are problems, those that may be are warnings.

use std::collections::BTreeMap;

use super::Loaded;
use super::checked::{Pipeline, Subscription, Target};
use super::pipeline::takes;
use super::report::{Code, Problem};
use crate::model::loops::{self, Publishing};
use crate::nats::Prefix;

/// The setting that they stand at.
const KEY: &str = "publish.subject";

/// Adds them to what was found, each at the subject of its first subscription.
pub(super) fn look(loaded: &mut Loaded, prefix: &Prefix) {
    let takes: BTreeMap<&str, Vec<String>> = loaded
        .pipelines
        .iter()
        .map(|pipeline| (pipeline.name.as_str(), takes(&pipeline.source, prefix)))
        .collect();
    let (mut places, mut publishing) = (Vec::<(&Pipeline, &Subscription)>::new(), Vec::new());
    for pipeline in &loaded.pipelines {
        for subscription in &pipeline.subscriptions {
            let Target::Publish(settings) = &subscription.target else { continue };
            places.push((pipeline, subscription));
            publishing.push(Publishing {
                pipeline: &pipeline.name,
                subscription: &subscription.name,
                subject: &settings.subject,
                types: &subscription.filter.types,
                has_steps: !subscription.steps.is_empty(),
                takes: takes.get(pipeline.name.as_str()).map(Vec::as_slice).unwrap_or_default(),
            });
        }
    }
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    for found in loops::find(&publishing) {
        let Some(first) = found.members.first() else { continue };
        let ((pipeline, subscription), subject) = (places[*first], publishing[*first].subject);
        let (line, column) = subscription.target_places.of("/subject").unwrap_or_default();
        let way = found.describe(&publishing);
        let file = pipeline.file.display().to_string();
        let (closes, hint, list) = if found.is_sure {
            let hint =
                "publish to a subject that none of these sources takes, or let one of the sources take fewer";
            ("closes a loop", hint, &mut problems)
        } else {
            let hint = "begin the subject with text of its own; what goes round all the same is stopped after 16 times";
            ("may close a loop", hint, &mut warnings)
        };
        let message = format!("{KEY} is \"{subject}\", which {closes}: {way}");
        list.push(Problem::new(Code::Loop, file, message).at(line, column).key(KEY).hint(hint));
    }
    loaded.problems.extend(problems);
    loaded.warnings.extend(warnings.into_iter().map(Problem::warning));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    #[test]
    fn what_belongs_to_the_engine_goes_by_its_prefix() {
        let mill = Prefix::new(&Name::new("my-mill").unwrap());
        let load = |stream: &str, subject: &str| {
            let text = format!(
                "[source]\nstream = \"{stream}\"\n[[subscription]]\nname = \"a\"\n[subscription.publish]\nsubject = \"{subject}\"\n"
            );
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("orders.toml"), text).unwrap();
            let loaded = super::super::load(&[folder.path().to_owned()], &mill);
            let line = |problem: &Problem| {
                format!("{} {}:{} {}", problem.code, problem.line, problem.column, problem.key)
            };
            loaded.problems.iter().map(line).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(load("ORDERS", "out.{type}"), "");
        for own in
            ["MY_MILL_DLQ", "MY_MILL_LANES", "MY_MILL_RETRIES", "KV_MY_MILL_REGISTRY", "OBJ_MY_MILL_MODULES"]
        {
            assert_eq!(load(own, "out.{type}"), "E036 2:10 source.stream", "{own}");
        }
        assert_eq!(load("HOOKMILL_DLQ", "out.{type}"), "", "another installation's");
        for own in ["my-mill.wait.x", "hookmill.wait.x", "my-mill.{type}"] {
            assert_eq!(load("ORDERS", own), "E031 6:11 publish.subject", "{own}");
        }
        assert_eq!(load("MY_MILL_EVENTS", "events.{type}"), "E032 6:11 publish.subject");
    }
}
