//! `hookmill check`: every problem of every file at once.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::config::checked::{Pipeline, Step};
use crate::config::{self, Code, Problem};

/// What is wrong with a step once its module is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepProblem {
    /// The file is no module of the contract.
    Module(String),
    /// The module refuses its settings; the text is its own.
    Settings(String),
}

/// Checks the files and says what is wrong: as text on `err`, or as one JSON object a line on `out`. `probe` loads the
/// module of a step and hands it its settings. The exit code is 0, or 2 if anything is wrong.
pub fn run(
    paths: &[PathBuf],
    json: bool,
    probe: &mut dyn FnMut(&Step) -> Result<(), StepProblem>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let config::Loaded { pipelines, mut problems } = config::load(paths);
    problems.extend(pipelines.iter().flat_map(|pipeline| probed(pipeline, probe)));
    for problem in &problems {
        if json {
            writeln!(out, "{}", serde_json::to_string(problem)?)?;
        } else {
            writeln!(err, "{problem}")?;
        }
    }
    if problems.is_empty() {
        if !json {
            let subscriptions = pipelines.iter().map(|pipeline| pipeline.subscriptions.len()).sum();
            let (pipelines, subscriptions) =
                (counted(pipelines.len(), "pipeline"), counted(subscriptions, "subscription"));
            writeln!(out, "{pipelines}, {subscriptions}: no problems")?;
        }
        return Ok(0);
    }
    if !json {
        let files: BTreeSet<&str> = problems.iter().map(|problem| problem.file.as_str()).collect();
        writeln!(err, "{} in {}", counted(problems.len(), "problem"), counted(files.len(), "file"))?;
    }
    Ok(2)
}

fn probed(pipeline: &Pipeline, probe: &mut dyn FnMut(&Step) -> Result<(), StepProblem>) -> Vec<Problem> {
    let steps = pipeline.subscriptions.iter().flat_map(|subscription| &subscription.steps);
    steps.filter_map(|step| probe(step).err().map(|problem| step_problem(pipeline, step, &problem))).collect()
}

/// A step's problem at its line.
pub fn step_problem(pipeline: &Pipeline, step: &Step, problem: &StepProblem) -> Problem {
    let file = pipeline.file.display().to_string();
    match problem {
        StepProblem::Module(why) => {
            let message = format!("step.transform can't be used: {why}");
            let problem = Problem::new(Code::ModuleInvalid, file, message).key("step.transform");
            problem.at(step.reference_line, 1).hint("build it as docs/writing-a-transform.md says")
        }
        StepProblem::Settings(why) => {
            let message = format!("step.settings is refused by the module: {why}");
            let problem = Problem::new(Code::SettingsRefused, file, message).key("step.settings");
            problem.at(step.settings_line, 1).hint("the module's own page says what it takes")
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, json: bool, answer: &Result<(), StepProblem>) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("orders.toml"), text).unwrap();
        std::fs::write(folder.path().join("module.wasm"), "").unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let paths = [folder.path().to_owned()];
        let code = run(&paths, json, &mut |_| answer.clone(), &mut out, &mut err).unwrap();
        let text =
            |bytes| String::from_utf8(bytes).unwrap().replace(&folder.path().display().to_string(), "DIR");
        (code, text(out), text(err))
    }

    const GOOD: &str = "[[subscription]]\nname = \"a\"\n[subscription.deliver]\nurl = \"https://example.com\"\n\
                        [[subscription.step]]\ntransform = \"./module.wasm\"\n\nsettings = { a = 1 }\n";

    #[test]
    fn good_files_are_counted() {
        let (code, out, err) = check(GOOD, false, &Ok(()));
        assert_eq!((code, out.as_str(), err.as_str()), (0, "1 pipeline, 1 subscription: no problems\n", ""));
        let (code, out, err) = check(GOOD, true, &Ok(()));
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    }

    #[test]
    fn problems_are_shown_and_counted() {
        let (code, out, err) = check("subscription = 1\nnme = 2\n", false, &Ok(()));
        assert_eq!((code, out.as_str()), (2, ""));
        let expected = "error[E012]: DIR/orders.toml:1: subscription: expected a list of tables, found an integer\n\
                        hint: write [[subscription]]\n\
                        error[E010]: DIR/orders.toml:2: nme is unknown\n\
                        hint: did you mean name?\n\
                        2 problems in 1 file\n";
        assert_eq!(err, expected);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let (code, out, err) = check("nme = \"x\"\n", true, &Ok(()));
        assert_eq!((code, err.as_str(), out.lines().count()), (2, "", 2));
        let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        let expected = serde_json::json!({"code": "E010", "file": "DIR/orders.toml", "line": 1, "column": 1,
            "key": "nme", "message": "nme is unknown", "hint": "did you mean name?"});
        assert_eq!(first, expected);
    }

    #[test]
    fn what_a_module_says_about_its_settings_stands_at_their_line() {
        let (code, _, err) = check(GOOD, false, &Err(StepProblem::Settings("no field b".to_owned())));
        let expected = "error[E054]: DIR/orders.toml:8: step.settings is refused by the module: no field b\n\
                        hint: the module's own page says what it takes\n1 problem in 1 file\n";
        assert_eq!((code, err.as_str()), (2, expected));
        let (_, _, err) = check(GOOD, false, &Err(StepProblem::Module("not a component".to_owned())));
        assert!(
            err.starts_with(
                "error[E052]: DIR/orders.toml:6: step.transform can't be used: not a component\n"
            ),
            "{err}"
        );
    }
}
