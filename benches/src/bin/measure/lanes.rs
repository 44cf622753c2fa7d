//! Prints what thousands of lanes cost, and how long they take to flow again; fails when the start takes too long or an
//! empty lane has a consumer.
//!
//! `measure lanes [--idle N] [--busy N] [--events N]`

use std::process::ExitCode;
use std::time::Duration;

use hookmill::telemetry::output;
use hookmill_benches::lanes::{Cost, busy, idle};

/// Longest start with as many lanes as there are backlogs.
const START_MAX: Duration = Duration::from_secs(10);

struct Options {
    idle: usize,
    busy: usize,
    events: usize,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { idle: 10_000, busy: 1_000, events: 90 };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} has no value", pair[0])) };
            let number = match value.parse() {
                Ok(number) if number > 0 => number,
                _ => return Err(format!("{name} takes a number above 0, not {value:?}")),
            };
            match name.as_str() {
                "--idle" => options.idle = number,
                "--busy" => options.busy = number,
                "--events" => options.events = number,
                _ => return Err(format!("{name} is none of --idle, --busy, --events")),
            }
        }
        Ok(options)
    }
}

pub(super) async fn measure(arguments: &[String]) -> Result<ExitCode, String> {
    let options = Options::read(arguments)?;
    let idle = idle(options.idle).await;
    let busy = busy(options.busy, options.events).await;
    output::line(format_args!(
        "| | {} lanes, empty | {} lanes with a backlog |\n| --- | ---: | ---: |",
        options.idle, options.busy
    ));
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    output::line(format_args!("| start until ready | {} | {} |", seconds(idle.start), seconds(busy.start)));
    let row = |name: &str, tell: &dyn Fn(&Cost) -> String| {
        output::line(format_args!("| {name} | {} | {} |", tell(&idle.cost), tell(&busy.cost)));
    };
    row("deliveries a second", &|cost| format!("{:.0}", cost.deliveries));
    row("engine: cores", &|cost| format!("{:.2}", cost.engine_cores));
    row("engine: memory", &|cost| format!("{:.0} MiB", cost.engine_mebibytes));
    row("nats-server: cores", &|cost| format!("{:.2}", cost.server_cores));
    row("nats-server: memory", &|cost| format!("{:.0} MiB", cost.server_mebibytes));
    row("requests to JetStream a second", &|cost| format!("{:.1}", cost.requests));
    output::line(format_args!("| consumers of lanes while empty | {} | |", idle.consumers));
    output::line(format_args!("| first event until all lanes flow | | {} |", seconds(busy.all_flow)));
    output::line(format_args!(
        "| nats-server killed and started until all flow again | | {} |",
        seconds(busy.all_flow_again)
    ));
    if busy.start > START_MAX || idle.consumers > 0 {
        output::say(format_args!("a start of more than {START_MAX:?}, or a consumer for an empty lane"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
