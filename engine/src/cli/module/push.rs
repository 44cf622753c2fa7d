//! `hookmill module push`: a module into the registry.

use std::path::PathBuf;

use clap::Args;
use http::Method;

use super::remote::{Ask, RemoteArgs};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::output;

/// `module push`.
#[derive(Args, Debug)]
pub(crate) struct PushArgs {
    /// A component, or a core module that was built with wit-bindgen
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The name that pipelines call it by
    #[arg(long)]
    name: String,
    /// Its version, as in 1.4.2; what was uploaded under a version never changes
    #[arg(long)]
    version: String,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) async fn push(global: &Global, args: &PushArgs) -> Result<(), Failure> {
    let bytes = tokio::fs::read(&args.file).await;
    let bytes = bytes.map_err(|error| {
        Failure::Usage(format!("{} can't be read: {}", args.file.display(), error.kind()))
    })?;
    let path = ["v1", "modules", &args.name, &args.version];
    let mut ask = Ask::new(Method::PUT, &path);
    ask.body = Some(("application/wasm", bytes.into()));
    let reply = args.remote.open()?.ask(ask).await?;
    let stored: serde_json::Value = serde_json::from_slice(&reply.body).map_err(|_| {
        Failure::Failed("the engine's answer is no JSON; `hookmill module show` says what it holds".into())
    })?;
    if global.json {
        output::line(stored);
        return Ok(());
    }
    let (name, version) = (&args.name, &args.version);
    output::line(format_args!("{name}@{version}  {}", stored["digest"].as_str().unwrap_or_default()));
    if reply.status == 200 {
        output::say(format_args!(
            "nothing changed: the registry has had these bytes under {name}@{version} before"
        ));
    }
    Ok(())
}
