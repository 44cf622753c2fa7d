//! `fuzz [upload|metadata|event]… [--seconds N] [--seed N] [--keep] [--input FILE]`: runs the targets that are named, or all, one
//! after the other. `--keep` writes inputs that have found something new into the corpus; `--input` runs one file.

use std::process::ExitCode;
use std::time::Duration;

use hookmill::telemetry::output;
use hookmill_fuzz::event::Message;
use hookmill_fuzz::metadata::Metadata;
use hookmill_fuzz::upload::Upload;
use hookmill_fuzz::{Options, Target, run};

struct Arguments {
    targets: Vec<String>,
    options: Options,
    input: Option<String>,
}

fn read() -> Result<Arguments, String> {
    let options = Options { time: Duration::from_secs(600), seed: rand::random(), keep: false };
    let mut arguments = Arguments { targets: Vec::new(), options, input: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            words.next().and_then(|value| value.parse().ok()).ok_or_else(|| format!("{word} takes a number"))
        };
        match word.as_str() {
            "--seconds" => arguments.options.time = Duration::from_secs(number()?),
            "--seed" => arguments.options.seed = number()?,
            "--keep" => arguments.options.keep = true,
            "--input" => arguments.input = Some(words.next().ok_or("--input takes a file")?),
            "upload" | "metadata" | "event" => arguments.targets.push(word),
            _ => {
                return Err(format!(
                    "{word} is none of upload, metadata, event, --seconds, --seed, --keep, --input"
                ));
            }
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match read() {
        Ok(arguments) => arguments,
        Err(error) => {
            output::say(format_args!("fuzz: {error}"));
            return output::ending(2);
        }
    };
    let wanted = |name: &str| arguments.targets.is_empty() || arguments.targets.iter().any(|it| it == name);
    let targets: [Box<dyn Target>; 3] = [Box::new(Upload::default()), Box::new(Metadata), Box::new(Message)];
    for target in targets.iter().filter(|target| wanted(target.name())) {
        let done = match &arguments.input {
            Some(path) => one(target.as_ref(), path),
            None => run(target.as_ref(), &arguments.options)
                .map(|report| output::line(format_args!("{}: {report:?}", target.name()))),
        };
        if let Err(error) = done {
            output::say(error);
            return output::ending(1);
        }
    }
    output::ending(0)
}

fn one(target: &dyn Target, path: &str) -> Result<(), String> {
    let input = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    output::line(format_args!("{}: {}", target.name(), target.take(&input)?));
    Ok(())
}
