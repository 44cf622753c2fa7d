//! `hookmill module list`, `show`, `pull`, `yank`, `delete`: what the registry holds.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::VersionArg;
use super::remote::{Ask, RemoteArgs};
use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::output::{self, table};

/// Largest module that is taken, in bytes; the engine's own limit is lower.
const MODULE_BYTES_MAX: usize = 1 << 30;

/// `module pull`.
#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    #[command(flatten)]
    version: VersionArg,
    /// Where to; - is standard output [default: NAME-VERSION.wasm, if there is no such file]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    remote: RemoteArgs,
}

pub(super) async fn list(global: &Global, remote: &RemoteArgs) -> Result<(), Failure> {
    let remote = remote.open()?;
    let (mut modules, mut after) = (Vec::new(), None);
    loop {
        let mut ask = Ask::new(Method::GET, &["v1", "modules"]);
        ask.query = after.iter().map(|after: &String| ("after", after.clone())).collect();
        let mut answer = remote.json(ask).await?;
        let page = answer["modules"].take();
        modules.extend(page.as_array().into_iter().flatten().cloned());
        after = answer["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    if global.json {
        for module in &modules {
            output::line(module);
        }
        return Ok(());
    }
    let rows: Vec<_> = modules
        .iter()
        .map(|module| {
            let versions = module["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let versions: Vec<String> = versions.iter().map(version_label).collect();
            vec![text(&module["name"]), versions.join(" "), text(&module["description"])]
        })
        .collect();
    if rows.is_empty() {
        output::say("no modules; `hookmill module push` uploads one");
    } else {
        output::text(table(&["NAME", "VERSIONS", "DESCRIPTION"], &rows));
    }
    Ok(())
}

/// `1.4.2`, with what is to be known about it.
fn version_label(version: &Value) -> String {
    let yanked = if version["yanked"].is_object() { " (yanked)" } else { "" };
    format!("{}{yanked}", text(&version["version"]))
}

pub(super) async fn show(global: &Global, module: &str, remote: &RemoteArgs) -> Result<(), Failure> {
    let remote = remote.open()?;
    let (name, version) =
        module.split_once('@').map_or((module, None), |(name, version)| (name, Some(version)));
    let mut path = vec!["v1", "modules", name];
    path.extend(version);
    let answer = remote.json(Ask::new(Method::GET, &path)).await?;
    if global.json {
        output::line(answer);
    } else if version.is_some() {
        show_version(&answer);
    } else {
        let versions = answer["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows: Vec<_> = versions
            .iter()
            .map(|version| {
                let why = text(&version["yanked"]["why"]);
                let yanked =
                    if version["yanked"].is_object() { format!("yanked: {why}") } else { String::new() };
                vec![
                    text(&version["version"]),
                    text(&version["stored"]),
                    text(&version["bytes"]),
                    text(&version["digest"]),
                    yanked,
                ]
            })
            .collect();
        output::text(table(&["VERSION", "STORED", "BYTES", "DIGEST", ""], &rows));
    }
    Ok(())
}

fn show_version(version: &Value) {
    let line = |key: &str, value: String| {
        if !value.is_empty() {
            output::line(format_args!("{key:<12} {value}"));
        }
    };
    line("module", format!("{}@{}", text(&version["name"]), text(&version["version"])));
    line("description", text(&version["description"]));
    line("digest", text(&version["digest"]));
    line("bytes", text(&version["bytes"]));
    line("stored", text(&version["stored"]));
    if version["yanked"].is_object() {
        let yanked = &version["yanked"];
        line("yanked", format!("{}: {}", text(&yanked["at"]), text(&yanked["why"])));
    }
    line("compiled in", version["compile_ms"].as_u64().map(|ms| format!("{ms} ms")).unwrap_or_default());
    line("exports", joined(&version["exports"]));
    line("imports", joined(&version["imports"]));
    for usage in version["uses"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let error = text(&usage["last_error"]);
        let error = if error.is_empty() { error } else { format!(", but: {error}") };
        let place =
            format!("{}/{} step {}", text(&usage["pipeline"]), text(&usage["subscription"]), usage["step"]);
        line(
            "used by",
            format!("{place} as {} (engine {}){error}", text(&usage["reference"]), text(&usage["engine"])),
        );
    }
    if version["settings_schema"].is_object() {
        let schema = serde_json::to_string_pretty(&version["settings_schema"]).unwrap_or_default();
        output::line(format_args!("settings\n{schema}"));
    }
}

fn joined(list: &Value) -> String {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A value as a cell of a table; nothing for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) async fn pull(global: &Global, args: &PullArgs) -> Result<(), Failure> {
    let (name, version) = args.version.parts()?;
    let fallback = PathBuf::from(format!("{name}-{version}.wasm"));
    if args.output.is_none() && fallback.exists() {
        let text =
            format!("{} is there already; -o {} writes over it", fallback.display(), fallback.display());
        return Err(Failure::Usage(text));
    }
    let path = ["v1", "modules", name, version, "wasm"];
    let mut ask = Ask::new(Method::GET, &path);
    (ask.accept, ask.answer_bytes_max) = ("application/wasm, application/problem+json", MODULE_BYTES_MAX);
    let reply = args.remote.open()?.ask(ask).await?;
    let digest = format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(&reply.body)));
    let promised = reply.headers.get("etag").and_then(|tag| tag.to_str().ok()).unwrap_or_default();
    if promised.trim_matches('"') != digest {
        return Err(Failure::Failed(format!(
            "what came is not what was promised ({digest} instead of {promised}); nothing is written, try again"
        )));
    }
    let output = args.output.as_deref().unwrap_or(&fallback);
    if output.as_os_str() == "-" {
        output::bytes(&reply.body);
        return Ok(());
    }
    write(output, &reply.body).map_err(|error| {
        Failure::Failed(format!("{} can't be written: {}", output.display(), error.kind()))
    })?;
    if global.json {
        output::line(
            json!({ "file": output.display().to_string(), "digest": digest, "bytes": reply.body.len() }),
        );
    } else {
        output::line(format_args!("{}  {digest}", output.display()));
    }
    Ok(())
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As any new file: what the umask leaves of it.
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path).map(|_| ()).map_err(|error| error.error)
}

pub(super) async fn yank(
    global: &Global,
    version: &VersionArg,
    why: &str,
    remote: &RemoteArgs,
) -> Result<(), Failure> {
    let (name, version) = version.parts()?;
    let path = ["v1", "modules", name, version, "yank"];
    let mut ask = Ask::new(Method::POST, &path);
    ask.body = Some(("application/json", json!({ "why": why }).to_string().into()));
    let yanked = remote.open()?.json(ask).await?;
    if global.json {
        output::line(yanked);
    } else {
        output::say(format_args!(
            "{name}@{version} is yanked: ranges choose it no more, exact references still load it"
        ));
    }
    Ok(())
}

pub(super) async fn delete(
    global: &Global,
    version: &VersionArg,
    remote: &RemoteArgs,
) -> Result<(), Failure> {
    let (name, version) = version.parts()?;
    remote.open()?.ask(Ask::new(Method::DELETE, &["v1", "modules", name, version])).await?;
    if global.json {
        output::line(json!({ "name": name, "version": version, "deleted": true }));
    } else {
        output::say(format_args!("{name}@{version} is deleted"));
    }
    Ok(())
}
