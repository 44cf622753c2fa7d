//! Many subscriptions with modules of their own: prints how long the engine takes to start, cold and warm, and what it
//! holds in memory.
//!
//! `measure many [--subscriptions N] [--modules N] [--module FILE] [--settings TOML] [--idle SECONDS]`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use hookmill::telemetry::output;
use hookmill_benches::cost::Held;
use hookmill_benches::many::{Crowd, Place, Run};

/// A thousand subscriptions have to fit into this, in MiB.
const HELD_MAX: f64 = 2048.0;

fn read(arguments: &[String]) -> Result<Crowd, String> {
    let checkout = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut module = checkout.join("transforms/dist/redact.wasm");
    let settings = r#"remove = ["/customer/email"], mask = ["/card/number"]"#.to_owned();
    let idle = Duration::from_secs(5);
    let mut crowd = Crowd { subscriptions: 1000, modules: 50, wasm: Vec::new(), settings, idle };
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return Err(format!("{} has no value", pair[0])) };
        let number = || match value.parse::<u32>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("{name} takes a number above 0, not {value:?}")),
        };
        match name.as_str() {
            "--subscriptions" => crowd.subscriptions = number()? as usize,
            "--modules" => crowd.modules = number()? as usize,
            "--module" => module = value.into(),
            "--settings" => crowd.settings.clone_from(value),
            "--idle" => crowd.idle = Duration::from_secs(number()?.into()),
            _ => {
                let all = "--subscriptions, --modules, --module, --settings, --idle";
                return Err(format!("{name} is none of {all}"));
            }
        }
    }
    crowd.wasm = std::fs::read(&module).map_err(|error| format!("{}: {error}", module.display()))?;
    Ok(crowd)
}

pub(super) async fn measure(arguments: &[String]) -> Result<ExitCode, String> {
    let crowd = read(arguments)?;
    let (subscriptions, modules, bytes) = (crowd.subscriptions, crowd.modules, crowd.wasm.len());
    let place = Place::new(crowd).await;
    place.forget();
    let cold = place.run().await;
    let warm = place.run().await;
    output::line(format_args!("{subscriptions} subscriptions, {modules} modules of {bytes} bytes\n"));
    output::line("| | cold cache | warm cache |\n| --- | --- | --- |");
    let row = |name: &str, tell: &dyn Fn(&Run) -> String| {
        output::line(format_args!("| {name} | {} | {} |", tell(&cold), tell(&warm)));
    };
    row("start until ready", &|run| format!("{:.2} s", run.start.as_secs_f64()));
    row("memory when ready", &|run| memory(run.ready));
    row("one event to each subscription", &|run| format!("{:.2} s", run.spread.as_secs_f64()));
    row("memory after it", &|run| memory(run.used));
    row("memory when instances have ended", &|run| memory(run.rested));
    let most = [cold.used, warm.used].map(|held| held.anonymous + held.files).into_iter().fold(0.0, f64::max);
    if most > HELD_MAX {
        output::say(format_args!("{most:.0} MiB are more than {HELD_MAX:.0} MiB"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn memory(held: Held) -> String {
    format!("{:.0} MiB, {:.0} MiB of files", held.anonymous, held.files)
}
