//! What `hookmill check` finds of what stands elsewhere: secrets, URLs, header values, tokens.

use std::path::Path;

use super::output::chain;
use crate::config::checked::{self, Target};
use crate::config::{Code, Problem, Process};
use crate::deliver;
use crate::model::Timestamp;
use crate::server::Access;

const HINT: &str = "the engine needs it where it runs; --references makes this an error";

/// References of pipelines without a usable value, each at its setting.
pub(crate) fn of_pipelines(pipelines: &[checked::Pipeline]) -> Vec<Problem> {
    let of = |pipeline: &checked::Pipeline| {
        let file = pipeline.file.display().to_string();
        let subscriptions = pipeline.subscriptions.iter();
        subscriptions.flat_map(|subscription| of_subscription(&file, subscription)).collect::<Vec<_>>()
    };
    pipelines.iter().flat_map(of).collect()
}

fn of_subscription(file: &str, subscription: &checked::Subscription) -> Vec<Problem> {
    let Target::Deliver(settings) = &subscription.target else { return Vec::new() };
    let findings = deliver::References::of(settings).look(Timestamp::now());
    let problem = |finding: crate::model::Finding| {
        let setting = finding.setting.split('.').next().unwrap_or_default();
        let (line, column) = subscription.target_places.of(&format!("/{setting}")).unwrap_or_default();
        let problem = Problem::new(Code::ReferenceUnusable, file, format!("deliver.{}", finding.text));
        problem.at(line, column).key(format!("deliver.{}", finding.setting)).hint(HINT)
    };
    findings.wrong.into_iter().map(problem).collect()
}

/// The same of `hookmill.toml`, whose references an engine needs to start.
pub(crate) fn of_process(process: &Process, file: &Path) -> Vec<Problem> {
    let proxy = process.egress.proxy.as_ref().and_then(|proxy| proxy.check_credentials().err());
    let proxy = proxy.map(|error| ("egress.proxy_password", chain(&error)));
    let tokens = Access::new(process.tokens.clone()).err();
    let tokens = tokens.map(|error| ("token.secret", chain(&error)));
    let problem = |(key, why): (&str, String)| {
        let message = format!("{key}: {why}");
        let problem = Problem::new(Code::ReferenceUnusable, file.display().to_string(), message);
        problem.key(key).hint(HINT)
    };
    proxy.into_iter().chain(tokens).map(problem).collect()
}
