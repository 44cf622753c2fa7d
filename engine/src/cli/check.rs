//! `hookmill check`: every problem of every file at once.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use crate::config::checked::Step;
use crate::config::{Code, Loaded, Problem};

/// Says what is wrong: as text on `err`, or as one JSON object a line on `out`. The exit code is 0, or 2 if anything
/// is wrong.
pub(crate) fn report(
    loaded: &Loaded,
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let Loaded { pipelines, problems } = loaded;
    for problem in problems {
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

/// What is wrong with a step once its module is asked, at its line of the file.
pub(crate) fn step_problem(file: &Path, step: &Step, code: Code, why: &str) -> Problem {
    let (key, line, hint) = if code == Code::SettingsRefused {
        ("step.settings", step.settings_line, "the module's own page says what it takes")
    } else {
        ("step.transform", step.reference_line, "build it as docs/writing-a-transform.md says")
    };
    let message = format!("{key} can't be used: {why}");
    Problem::new(code, file.display().to_string(), message).at(line, 1).key(key).hint(hint)
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn check(text: &str, json: bool, refused: Option<(Code, &str)>) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("orders.toml"), text).unwrap();
        std::fs::write(folder.path().join("module.wasm"), "").unwrap();
        let mut loaded = config::load(&[folder.path().to_owned()]);
        if let Some((code, why)) = refused {
            let pipeline = &loaded.pipelines[0];
            let step = &pipeline.subscriptions[0].steps[0];
            loaded.problems.push(step_problem(&pipeline.file, step, code, why));
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = report(&loaded, json, &mut out, &mut err).unwrap();
        let text =
            |bytes| String::from_utf8(bytes).unwrap().replace(&folder.path().display().to_string(), "DIR");
        (code, text(out), text(err))
    }

    const GOOD: &str = "[[subscription]]\nname = \"a\"\n[subscription.deliver]\nurl = \"https://example.com\"\n\
                        [[subscription.step]]\ntransform = \"./module.wasm\"\n\nsettings = { a = 1 }\n";

    #[test]
    fn good_files_are_counted() {
        let (code, out, err) = check(GOOD, false, None);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "1 pipeline, 1 subscription: no problems\n", ""));
        let (code, out, err) = check(GOOD, true, None);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    }

    #[test]
    fn problems_are_shown_and_counted() {
        let (code, out, err) = check("subscription = 1\nnme = 2\n", false, None);
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
        let (code, out, err) = check("nme = \"x\"\n", true, None);
        assert_eq!((code, err.as_str(), out.lines().count()), (2, "", 2));
        let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        let expected = serde_json::json!({"code": "E010", "file": "DIR/orders.toml", "line": 1, "column": 1,
            "key": "nme", "message": "nme is unknown", "hint": "did you mean name?"});
        assert_eq!(first, expected);
    }

    #[test]
    fn what_a_module_says_about_its_settings_stands_at_their_line() {
        let (code, _, err) = check(GOOD, false, Some((Code::SettingsRefused, "no field b")));
        let expected = "error[E054]: DIR/orders.toml:8: step.settings can't be used: no field b\n\
                        hint: the module's own page says what it takes\n1 problem in 1 file\n";
        assert_eq!((code, err.as_str()), (2, expected));
        let (_, _, err) = check(GOOD, false, Some((Code::ModuleInvalid, "not a component")));
        assert!(
            err.starts_with(
                "error[E052]: DIR/orders.toml:6: step.transform can't be used: not a component\n"
            ),
            "{err}"
        );
    }
}
