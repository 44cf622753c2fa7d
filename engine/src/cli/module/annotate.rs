//! `hookmill module annotate`: metadata into a module that a language without an own way made.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::super::{Failure, output};
use crate::config;
use crate::model::size;
use crate::transform::{Metadata, MetadataError, metadata};

/// Largest module that is read, in bytes.
pub(super) const MODULE_BYTES_MAX: u64 = 256 << 20;

/// `module annotate`.
#[derive(Args, Debug)]
pub(crate) struct AnnotateArgs {
    /// The module: a component or a core module
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// JSON or TOML file with description, settings (JSON Schema), samples and limits
    #[arg(long, value_name = "FILE")]
    metadata: PathBuf,
    /// Where the annotated module goes; may be the same file
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

pub(super) fn annotate(args: &AnnotateArgs) -> Result<(), Failure> {
    let value = read_value(&args.metadata)?;
    // Without blanks: they would be carried about with the module.
    let json = value.to_string();
    let unfit = |error: MetadataError| Failure::Usage(format!("{}: {error}", args.metadata.display()));
    let metadata = Metadata::parse(json.as_bytes()).map_err(unfit)?;
    let module = read_module(&args.file)?;
    let annotated = metadata::embed(&module, json.as_bytes())
        .map_err(|error| Failure::Usage(format!("{}: {error}", args.file.display())))?;
    write_whole(&args.output, &annotated)?;
    let samples = metadata.samples.len();
    output::say(format_args!(
        "{}: {} with {} of metadata ({samples} samples)",
        args.output.display(),
        size::text(annotated.len() as u64),
        size::text(json.len() as u64)
    ));
    Ok(())
}

/// A JSON file, or a TOML one by its name.
pub(super) fn read_value(path: &Path) -> Result<Value, Failure> {
    if path.extension().is_some_and(|end| end == "toml") {
        return config::toml_as_json(path).map_err(|problems| {
            let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Failure::Usage(texts.join("\n"))
        });
    }
    let wrong = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| wrong(format!("is not JSON: {error}")))
}

pub(super) fn read_module(path: &Path) -> Result<Vec<u8>, Failure> {
    let wrong = |what: String| Failure::Usage(format!("{}: {what}", path.display()));
    let bytes = std::fs::metadata(path).map_err(|error| wrong(format!("can't be read: {error}")))?.len();
    if bytes > MODULE_BYTES_MAX {
        return Err(wrong(format!("is {}, far more than any module", size::text(bytes))));
    }
    std::fs::read(path).map_err(|error| wrong(format!("can't be read: {error}")))
}

/// All of it or nothing: what was there before stays until the new file is whole.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write;
    let wrong =
        |error: std::io::Error| Failure::Failed(format!("{} can't be written: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().permissions(readable()).tempfile_in(folder).map_err(wrong)?;
    file.write_all(bytes).map_err(wrong)?;
    file.persist(path).map_err(|error| wrong(error.error))?;
    Ok(())
}

/// As other tools write files; a temporary one is its owner's alone otherwise.
fn readable() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o644)
}
