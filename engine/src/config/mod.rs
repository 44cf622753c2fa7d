//! The files a user writes: raw form, checked form, report.
//!
//! A setting is defined once (`pipeline`, `process`), with key, kind, default and meaning; from that it is read, and
//! the page `docs/pipeline-reference.md` is made. Every problem of every file is reported in one run.

pub mod checked;
mod egress;
mod files;
mod keys;
mod kinds;
mod loops;
mod pipeline;
mod process;
mod reference;
pub mod report;
mod schemas;
mod setting;
mod shares;
pub mod suite;
#[cfg(test)]
mod tests;
mod values;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use checked::{Pipeline, Process};
pub use kinds::speed;
pub use reference::reference_page;
pub use report::{Code, Problem, errors_page};
pub use schemas::{pipeline_schema, process_schema, test_schema};

use crate::model::Name;
use crate::nats::Prefix;
use setting::{File, Table};

/// Longest file that is read, in bytes: some 100,000 subscriptions.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What became of the files.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Pipelines without a problem, in the order of the files.
    pub pipelines: Vec<Pipeline>,
    /// Everything that is wrong, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// What may be meant, and may be a mistake.
    pub warnings: Vec<Problem>,
}

/// Reads pipeline files, and folders of them: a folder means its `*.toml`, not those below it, and not `*.test.toml`. `prefix`
/// is that of the engine that is to run them.
pub fn load(paths: &[PathBuf], prefix: &Prefix) -> Loaded {
    let mut loaded = Loaded::default();
    let mut names: HashMap<Name, String> = HashMap::new();
    for path in files(paths, &mut loaded.problems) {
        let Some(text) = read_text(&path, &mut loaded.problems) else { continue };
        let label = path.display().to_string();
        let file = File::new(&label, &path, &text);
        let read = read_pipeline(&file, &path, &text, prefix);
        if let Some((pipeline, at)) = read
            && is_new(&mut names, &pipeline.name, &file, &at)
            && file.is_fine()
        {
            loaded.pipelines.push(pipeline);
        }
        loaded.problems.extend(file.into_problems());
    }
    loops::look(&mut loaded, prefix);
    shares::look(&mut loaded);
    loaded
}

/// Reads test files, the test files of pipeline files, and those of folders (`*.test.toml`, not those below).
pub fn load_suites(paths: &[PathBuf]) -> (Vec<suite::Suite>, Vec<Problem>) {
    let (mut suites, mut problems) = (Vec::new(), Vec::new());
    for path in suite::files(paths, &mut problems) {
        let Some(text) = read_text(&path, &mut problems) else { continue };
        let label = path.display().to_string();
        let file = File::new(&label, &path, &text);
        let read = file
            .parse()
            .and_then(|table| suite::read(&file, &Table::root(&file, &suite::SUITE, &table), &path));
        if let Some(suite) = read
            && file.is_fine()
        {
            suites.push(suite);
        }
        problems.extend(file.into_problems());
    }
    (suites, problems)
}

/// Reads `hookmill.toml`; `None` means that there is no file and the defaults count.
pub fn load_process(path: Option<&Path>) -> Result<Process, Vec<Problem>> {
    let mut problems = Vec::new();
    let text = match path {
        Some(path) => read_text(path, &mut problems).ok_or(problems)?,
        None => String::new(),
    };
    let path = path.unwrap_or(Path::new("hookmill.toml"));
    let label = path.display().to_string();
    let file = File::new(&label, path, &text);
    let process =
        file.parse().and_then(|table| process::read(&Table::root(&file, &process::PROCESS, &table)));
    let problems = file.into_problems();
    process.filter(|_| problems.is_empty()).ok_or(problems)
}

/// A TOML file as JSON, for files that have no settings of ours in them.
pub fn toml_as_json(path: &Path) -> Result<serde_json::Value, Vec<Problem>> {
    let mut problems = Vec::new();
    let text = read_text(path, &mut problems).ok_or(problems)?;
    let label = path.display().to_string();
    let file = File::new(&label, path, &text);
    let table = file.parse();
    let value = table.and_then(|table| files::json_of(&file, table));
    let problems = file.into_problems();
    value.filter(|_| problems.is_empty()).ok_or(problems)
}

impl Default for Process {
    fn default() -> Self {
        load_process(None).expect("every default is read by a test")
    }
}

/// The pipeline and where its name stands, if nothing in the file is wrong.
fn read_pipeline(
    file: &File<'_>,
    path: &Path,
    text: &str,
    prefix: &Prefix,
) -> Option<(Pipeline, Range<usize>)> {
    let table = file.parse()?;
    let top = Table::root(file, &keys::PIPELINE, &table);
    let revision = data_encoding::HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
    pipeline::read(file, &top, path, revision, prefix)
}

fn is_new(names: &mut HashMap<Name, String>, name: &Name, file: &File<'_>, at: &Range<usize>) -> bool {
    match names.entry(name.clone()) {
        Entry::Vacant(free) => {
            free.insert(file.label.to_owned());
            true
        }
        Entry::Occupied(first) => {
            let message = format!("name is \"{name}\", as in {}", first.get());
            let hint = "give one of them another name; without name the file's own counts".to_owned();
            file.report(Code::Duplicate, at, "name", message, hint);
            false
        }
    }
}

/// The files that the paths mean, each once.
fn files(paths: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let is_pipeline = |name: &str| {
        Path::new(name).extension().is_some_and(|end| end == "toml") && !name.ends_with(suite::ENDING)
    };
    let none = (
        "no pipeline file is in this folder",
        "put a pipeline there, such as orders.toml, or name another path",
    );
    let found = |path: &PathBuf, problems: &mut Vec<Problem>| {
        if path.is_dir() { folder(path, is_pipeline, none, problems) } else { vec![path.clone()] }
    };
    each_once(paths.iter().flat_map(|path| found(path, problems)).collect())
}

fn each_once(found: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = Vec::new();
    for file in found {
        let same = |known: &PathBuf| {
            known == &file
                || known.canonicalize().ok().is_some_and(|known| Some(known) == file.canonicalize().ok())
        };
        if !files.iter().any(same) {
            files.push(file);
        }
    }
    files
}

/// The files of a folder whose names are right, in order; none is a problem, with this message and hint.
fn folder(
    path: &Path,
    is_right: impl Fn(&str) -> bool,
    (none, hint): (&str, &str),
    problems: &mut Vec<Problem>,
) -> Vec<PathBuf> {
    let label = path.display().to_string();
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("the folder can't be read: {}", error.kind());
            problems.push(Problem::new(Code::Unreadable, label, message).hint("check its permissions"));
            return Vec::new();
        }
    };
    let is_meant = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        is_right(&name) && !name.starts_with('.') && path.is_file()
    };
    let mut files: Vec<PathBuf> =
        entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(is_meant).collect();
    files.sort();
    if files.is_empty() {
        problems.push(Problem::new(Code::NoFiles, label, none).hint(hint));
    }
    files
}

const READABLE: &str = "check the path and its permissions; TOML is UTF-8";

/// Why a file is not read, to be put behind its name.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("is longer than {} MiB", FILE_BYTES_MAX >> 20)]
    TooLong,
    #[error("can't be read: {0}")]
    Io(std::io::ErrorKind),
}

/// The bytes of a file. Never more than the longest file has, whatever it is.
fn read_bytes(path: &Path) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path);
    match file.and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)) {
        Ok(length) if length as u64 > FILE_BYTES_MAX => Err(Unread::TooLong),
        Ok(_) => Ok(bytes),
        Err(error) => Err(Unread::Io(error.kind())),
    }
}

fn read_text(path: &Path, problems: &mut Vec<Problem>) -> Option<String> {
    let (what, hint) = match read_bytes(path).map(String::from_utf8) {
        Ok(Ok(text)) => return Some(text),
        Ok(Err(_)) => ("the file is not UTF-8".to_owned(), READABLE),
        Err(error @ Unread::TooLong) => (format!("the file {error}"), "split it into several pipelines"),
        Err(error) => (format!("the file {error}"), READABLE),
    };
    problems.push(Problem::new(Code::Unreadable, path.display().to_string(), what).hint(hint));
    None
}
