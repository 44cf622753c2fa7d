//! `hookmill check`: every problem of every file at once.

use std::collections::BTreeSet;
use std::path::Path;

use crate::config::checked::Step;
use crate::config::{Code, Loaded, Problem};
use crate::schema::Objection;

/// Says what is wrong, line by line: as text to `say`, or as JSON objects to `print`. The exit code is 0, or 2 if
/// anything is wrong; a warning is nothing wrong.
pub(crate) fn report(
    loaded: &Loaded,
    json: bool,
    print: &mut dyn FnMut(String),
    say: &mut dyn FnMut(String),
) -> u8 {
    let Loaded { pipelines, problems, warnings } = loaded;
    for problem in problems.iter().chain(warnings) {
        if json {
            print(serde_json::to_string(problem).unwrap_or_default());
        } else {
            say(problem.to_string());
        }
    }
    if problems.is_empty() {
        if !json {
            let subscriptions = pipelines.iter().map(|pipeline| pipeline.subscriptions.len()).sum();
            let (pipelines, subscriptions) =
                (counted(pipelines.len(), "pipeline"), counted(subscriptions, "subscription"));
            let warnings = match warnings.len() {
                0 => String::new(),
                count => format!(", {}", counted(count, "warning")),
            };
            print(format!("{pipelines}, {subscriptions}: no problems{warnings}"));
        }
        return 0;
    }
    if !json {
        let files: BTreeSet<&str> = problems.iter().map(|problem| problem.file.as_str()).collect();
        say(format!("{} in {}", counted(problems.len(), "problem"), counted(files.len(), "file")));
    }
    2
}

/// Why a step that the file describes well can't be used.
pub(crate) enum Refused {
    /// Its module, or what that says.
    Because(Code, String),
    /// The schema in the module's metadata refuses its settings.
    Schema(Vec<Objection>),
}

/// What is wrong with a step once its module is asked, each at its line of the file.
pub(crate) fn step_problems(file: &Path, step: &Step, refused: &Refused) -> Vec<Problem> {
    match refused {
        Refused::Because(code, why) => vec![step_problem(file, step, *code, why)],
        Refused::Schema(objections) => {
            objections.iter().map(|objection| settings_problem(file, step, objection)).collect()
        }
    }
}

fn settings_problem(file: &Path, step: &Step, objection: &Objection) -> Problem {
    let (line, column) = step.settings_places.of(&objection.pointer).unwrap_or((step.settings_line, 1));
    let key = format!("step.settings{}", objection.pointer.replace('/', "."));
    let message = format!("{key}: {}", objection.what);
    let hint = "the module's schema says what it takes: `hookmill module show`, or its own page";
    let file = file.display().to_string();
    Problem::new(Code::SettingsSchema, file, message).at(line, column).key(key).hint(hint)
}

/// The same for a single reason.
fn step_problem(file: &Path, step: &Step, code: Code, why: &str) -> Problem {
    let build = "build it as docs/writing-a-transform.md says";
    let (key, line, hint) = match code {
        Code::SettingsRefused => {
            ("step.settings", step.settings_line, "the module's own page says what it takes")
        }
        Code::RegistryUnreachable => (
            "step.transform",
            step.reference_line,
            "say where the server is with --nats or NATS_URL, or name a file that starts with ./ or ../",
        ),
        Code::ModuleUnknown => (
            "step.transform",
            step.reference_line,
            "`hookmill module list` shows what there is, `hookmill module push` adds to it",
        ),
        _ => ("step.transform", step.reference_line, build),
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
    use crate::cli::references;
    use crate::config;
    use crate::nats::Prefix;

    fn check(text: &str, json: bool, refused: Option<Refused>) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("orders.toml"), text).unwrap();
        std::fs::write(folder.path().join("module.wasm"), "").unwrap();
        let mut loaded = config::load(&[folder.path().to_owned()], &Prefix::default());
        if let Some(refused) = refused {
            let pipeline = &loaded.pipelines[0];
            let step = &pipeline.subscriptions[0].steps[0];
            loaded.problems.extend(step_problems(&pipeline.file, step, &refused));
        }
        let found = references::of_pipelines(&loaded.pipelines);
        loaded.warnings.extend(found.into_iter().map(Problem::warning));
        let (mut out, mut err) = (String::new(), String::new());
        let mut print = |line: String| out += &(line + "\n");
        let code = report(&loaded, json, &mut print, &mut |line| err += &(line + "\n"));
        let text = |text: String| text.replace(&folder.path().display().to_string(), "DIR");
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
    fn warnings_are_shown_and_change_nothing() {
        let text = "[source]\nsubjects = [\"a.>\"]\n[[subscription]]\nname = \"x\"\n[subscription.publish]\nsubject = \"{type}\"\n";
        let (code, out, err) = check(text, false, None);
        assert_eq!((code, out.as_str()), (0, "1 pipeline, 1 subscription: no problems, 1 warning\n"));
        let expected = "warning[E032]: DIR/orders.toml:6: publish.subject is \"{type}\", which may close a loop: orders/x publishes \
                        to \"{type}\", which the source of orders may take by \"a.>\"\n\
                        hint: begin the subject with text of its own; what goes round all the same is stopped after 16 times\n";
        assert_eq!(err, expected);
        let (code, out, err) = check(text, true, None);
        let line: serde_json::Value = serde_json::from_str(out.trim()).unwrap();
        assert_eq!((code, err.as_str(), &line["severity"]), (0, "", &"warning".into()));
    }

    #[test]
    fn what_is_not_there_for_a_reference_is_a_warning_at_its_line() {
        let text = GOOD.replace(
            "url = \"https://example.com\"\n",
            "url = \"https://example.com\"\nsign = [\n  { file = \"none.secret\" },\n]\n",
        );
        let (code, out, err) = check(&text, false, None);
        assert_eq!((code, out.as_str()), (0, "1 pipeline, 1 subscription: no problems, 1 warning\n"));
        let expected = "warning[E060]: DIR/orders.toml:5: deliver.sign: file DIR/none.secret can't be read: entity not found; \
                        once the file is mended it goes on by itself\n\
                        hint: the engine needs it where it runs; --references makes this an error\n";
        assert_eq!(err, expected);
        let (code, out, err) = check(&text, true, None);
        assert_eq!((code, err.as_str()), (0, ""));
        let warning: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&warning["severity"], &warning["key"]), (&"warning".into(), &"deliver.sign".into()));
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
        let because = |code, why: &str| Some(Refused::Because(code, why.to_owned()));
        let (code, _, err) = check(GOOD, false, because(Code::SettingsRefused, "no field b"));
        let expected = "error[E054]: DIR/orders.toml:8: step.settings can't be used: no field b\n\
                        hint: the module's own page says what it takes\n1 problem in 1 file\n";
        assert_eq!((code, err.as_str()), (2, expected));
        let (_, _, err) = check(GOOD, false, because(Code::ModuleInvalid, "not a component"));
        assert!(
            err.starts_with(
                "error[E052]: DIR/orders.toml:6: step.transform can't be used: not a component\n"
            ),
            "{err}"
        );
    }

    #[test]
    fn what_the_modules_schema_refuses_stands_at_the_line_of_each_setting() {
        let text = "[[subscription]]\nname = \"a\"\n[subscription.deliver]\nurl = \"https://example.com\"\n\
                    [[subscription.step]]\ntransform = \"./module.wasm\"\n\
                    [subscription.step.settings]\nlist = [\n  1,\n  2,\n]\nnested.\"a/b\" = 1\n";
        let objection =
            |pointer: &str| Objection { pointer: pointer.to_owned(), what: "is wrong".to_owned() };
        let pointers = ["/list/1", "/nested/a~1b", "/nested/missing", ""];
        let (_, out, _) = check(text, true, Some(Refused::Schema(pointers.map(objection).into())));
        let places: Vec<_> = out
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|problem| (problem["code"].clone(), problem["line"].clone(), problem["column"].clone()))
            .collect();
        let at = |line: u32, column: u32| ("E059".into(), line.into(), column.into());
        assert_eq!(places, [at(10, 3), at(12, 8), at(12, 1), at(7, 1)], "{out}");
    }
}
