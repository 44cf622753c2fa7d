//! All measurements in one program: `measure WHAT [--name value]…`; each file beside this one is one of them. They are one
//! program because linking it takes minutes in a release build. Its other commands are the bare loops that it starts itself.

mod hostile;
mod lanes;
mod many;
mod ratios;
mod swaps;
mod trouble;

use std::process::ExitCode;

use hookmill::telemetry::output;
use hookmill_benches::bare;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (what, rest) = arguments.split_first().map_or(("", &[][..]), |(what, rest)| (what.as_str(), rest));
    let measured = match (what, rest) {
        ("ratios", _) => ratios::measure(rest).await,
        ("swaps", _) => swaps::measure(rest).await,
        ("trouble", _) => trouble::measure(rest).await,
        ("lanes", _) => lanes::measure(rest).await,
        ("many", _) => many::measure(rest).await,
        ("hostile", _) => hostile::measure(rest).await,
        ("bare-webhook", [nats, stream, url]) => {
            bare::webhook(nats, stream, url).await;
            Ok(ExitCode::SUCCESS)
        }
        ("bare-relay", [nats, stream, subject]) => {
            bare::relay(nats, stream, subject).await;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("say one of ratios, swaps, trouble, lanes, many, hostile".to_owned()),
    };
    match measured {
        Ok(ExitCode::SUCCESS) => output::ending(0),
        Ok(code) => code,
        Err(error) => {
            output::say(format_args!("measure {what}: {error}"));
            output::ending(2)
        }
    }
}
