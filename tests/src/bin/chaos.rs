//! `chaos [--seed N] [--minutes M | --seconds S] [--rate EVENTS_PER_SECOND] [--lanes N] [--keep-secret]`: runs the fault harness and
//! prints its books. Exit code 1 if anything was lost, has not come to its end or stood still, or was delivered though somebody had
//! stopped it. `--lanes`: lanes beside with a rate of their own (1000). `--keep-secret`: the file of the signing secret is never away.

use std::process::ExitCode;
use std::time::Duration;

use hookmill::telemetry::output;
use hookmill_tests::chaos::{Settings, run};

fn settings() -> Result<Settings, String> {
    let mut settings = Settings { lanes: 1_000, ..Settings::new(1, Duration::from_mins(30)) };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--keep-secret" {
            settings.keep_secret = true;
            continue;
        }
        let value = arguments.next().ok_or(format!("{name} needs a value"))?;
        let wrong = |_| format!("{name}: {value:?} is no number");
        match name.as_str() {
            "--seed" => settings.seed = value.parse().map_err(wrong)?,
            "--minutes" => {
                settings.time = Duration::from_secs(60 * value.parse::<u64>().map_err(wrong)?);
            }
            "--seconds" => settings.time = Duration::from_secs(value.parse().map_err(wrong)?),
            "--lanes" => settings.lanes = value.parse().map_err(wrong)?,
            "--rate" => settings.rate = value.parse().map_err(wrong)?,
            _ => {
                let all = "--seed, --minutes, --seconds, --rate, --lanes or --keep-secret";
                return Err(format!("{name}: give {all}"));
            }
        }
    }
    if settings.rate == 0 { Err("--rate: at least 1".to_owned()) } else { Ok(settings) }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let settings = match settings() {
        Ok(settings) => settings,
        Err(problem) => {
            output::say(format_args!("chaos: {problem}"));
            return output::ending(2);
        }
    };
    let report = run(&settings).await;
    output::line(&report);
    let complaints = report.complaints();
    for complaint in &complaints {
        output::say(format_args!("chaos: {complaint}"));
    }
    output::ending(u8::from(!complaints.is_empty()))
}
