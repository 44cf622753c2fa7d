//! JSON Schemas: compiled once, then asked. The only place that names the `jsonschema` crate.
//!
//! Drafts 2020-12 (the default), 2019-09 and 7. References stay local: into the schema itself, or to files in its
//! own folder or below. Nothing is ever fetched.

mod instance;
mod untrusted;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{
    Draft, PatternOptions, ReferencingError, Retrieve, Uri, ValidationError, ValidationOptions,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::instance::Documents;
use crate::model::event::Document;
use crate::model::text::without_byte_order_mark;

/// Most files that one schema may refer to, directly or through others.
pub const FILES_MAX: usize = 64;

/// Most objections that are listed.
const OBJECTIONS_MAX: usize = 20;

/// Longest text of one objection, in characters.
const OBJECTION_CHARS_MAX: usize = 200;

/// Longest schema file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

type Options<'i> = ValidationOptions<'i, Arc<dyn Retrieve>, Documents>;

/// A compiled JSON Schema. Cheap to share; checking takes no lock.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    label: String,
    id: Option<String>,
    digest: [u8; 32],
    validator: jsonschema::Validator<Documents>,
}

/// What a schema objects to first. Never holds the value itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// JSON pointer into the value; empty means the value as a whole.
    pub pointer: String,
    /// The keyword that refused, such as `minimum`.
    pub keyword: String,
    /// The schema's label.
    pub schema: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "the data" } else { &self.pointer };
        write!(f, "schema {} refuses {place}: {}", self.schema, self.keyword)
    }
}

/// One thing that a schema has against a value, for whoever wrote the value: the text may quote it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Objection {
    /// JSON pointer into the value; empty means the value as a whole.
    pub pointer: String,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.what)
        } else {
            write!(f, "{}: {}", self.pointer, self.what)
        }
    }
}

/// Why a text is no usable schema.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SchemaError {
    /// The text is no JSON.
    #[error("{file} is not JSON: line {line}, column {column}: {what}")]
    NotJson {
        /// The file's label.
        file: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What the parser says.
        what: String,
    },
    /// JSON, but no schema.
    #[error("{file} is not a JSON Schema: at {}: {what}", at(pointer))]
    NotSchema {
        /// The file's label.
        file: String,
        /// JSON pointer into the schema.
        pointer: String,
        /// What is wrong there.
        what: String,
    },
    /// A `$schema` that is none of the drafts known here.
    #[error("{file} has a $schema that is not known: {found}; known are drafts 2020-12, 2019-09 and 7")]
    Draft {
        /// The file's label.
        file: String,
        /// The `$schema` as written, or the draft it stands for.
        found: String,
    },
    /// A `$ref` that leads nowhere, or out of the folder.
    #[error("{file} has a reference that can't be followed: at {}: {what}", at(pointer))]
    Reference {
        /// The file's label.
        file: String,
        /// JSON pointer to the reference.
        pointer: String,
        /// What is wrong with it.
        what: String,
    },
}

fn at(pointer: &str) -> &str {
    if pointer.is_empty() { "the root" } else { pointer }
}

impl Schema {
    /// Compiles the text of the file at `path`. Relative references are read from the file's folder.
    pub fn compile(text: &str, path: &Path) -> Result<Self, SchemaError> {
        let label = path.display().to_string();
        let value = parse(text, &label)?;
        let base = path.parent().zip(path.file_name());
        Self::build(&value, label, base.map(|(folder, name)| (folder, Path::new(name))), |options| options)
    }

    /// Compiles a schema that stands in no file of its own; it may only refer to itself.
    pub fn from_value(value: &Value, label: &str) -> Result<Self, SchemaError> {
        Self::build(value, label.to_owned(), None, |options| options)
    }

    /// Compiles a schema that a stranger wrote. Neither this nor asking it takes long or much memory, which is paid with
    /// a smaller language: references lead into the schema itself and in no circle, regular expressions are few.
    pub fn untrusted(value: &Value, label: &str) -> Result<Self, SchemaError> {
        untrusted::check(value).map_err(|(pointer, what)| SchemaError::NotSchema {
            file: label.to_owned(),
            pointer,
            what,
        })?;
        let patterns = PatternOptions::regex()
            .size_limit(untrusted::PATTERN_BYTES_MAX)
            .dfa_size_limit(untrusted::PATTERN_BYTES_MAX);
        Self::build(value, label.to_owned(), None, |options| options.with_pattern_options(patterns))
    }

    fn build(
        value: &Value,
        label: String,
        base: Option<(&Path, &Path)>,
        adjust: impl for<'i> FnOnce(Options<'i>) -> Options<'i>,
    ) -> Result<Self, SchemaError> {
        let id = value.get("$id").and_then(Value::as_str).map(str::to_owned);
        let files = Files::new(base, id.as_deref());
        let mut options = jsonschema::options_for::<Documents>()
            // This engine takes linear time whatever the pattern, the default one can be sent backtracking.
            .with_pattern_options(PatternOptions::regex())
            .with_retriever(files.clone());
        if let Some(uri) = files.base_uri(base) {
            options = options.with_base_uri(uri);
        }
        let built = adjust(options).build(value);
        let validator = built.map_err(|error| compile_error(&error, value, &label, &files))?;
        // Everything else is one of the three, or has a meta-schema of its own in a file beside it.
        if let old @ (Draft::Draft4 | Draft::Draft6) = validator.draft() {
            let written = value.get("$schema").and_then(Value::as_str).map(str::to_owned);
            return Err(SchemaError::Draft {
                file: label,
                found: written.unwrap_or_else(|| format!("{old:?}")),
            });
        }
        let digest = files.digest(value);
        Ok(Self(Arc::new(Inner { label, id, digest, validator })))
    }

    /// What the schema is called in messages.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// The schema's `$id`, as written.
    pub fn id(&self) -> Option<&str> {
        self.0.id.as_deref()
    }

    /// SHA-256 of the schema and of all files that it refers to, by their names beside it: the same wherever its folder lies.
    pub fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }

    /// Whether `document` fulfils the schema; else where it fails first, and by which keyword.
    pub fn check(&self, document: &Document<'_>) -> Result<(), Refusal> {
        self.0.validator.validate(document).map_err(|error| Refusal {
            pointer: error.instance_path().to_string(),
            keyword: error.kind().keyword().to_owned(),
            schema: self.0.label.clone(),
        })
    }

    /// Everything that the schema has against `value`, up to a bound, in the order of the value. Only for values that
    /// may be quoted.
    pub fn objections(&self, value: &Value) -> Vec<Objection> {
        let document = Document::from(value);
        let errors = self.0.validator.iter_errors(&document).take(OBJECTIONS_MAX);
        errors.flat_map(|error| objections(&error)).take(OBJECTIONS_MAX).collect()
    }

    /// Whether `document` fulfils the schema. Quicker than [`Schema::check`] where the reason doesn't matter.
    pub fn accepts(&self, document: &Document<'_>) -> bool {
        self.0.validator.is_valid(document)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.0.label)
    }
}

fn parse(text: &str, label: &str) -> Result<Value, SchemaError> {
    serde_json::from_str(text).map_err(|error| {
        let whole = error.to_string();
        let what = whole.split(" at line ").next().unwrap_or(&whole).to_owned();
        SchemaError::NotJson { file: label.to_owned(), line: error.line(), column: error.column(), what }
    })
}

/// Turns the crate's error into ours, with the pointer at the place in the schema.
fn compile_error(error: &ValidationError<'_>, value: &Value, label: &str, files: &Files) -> SchemaError {
    if let Some(found) = files.failed() {
        return found;
    }
    let file = label.to_owned();
    match error.kind() {
        ValidationErrorKind::Referencing(ReferencingError::UnknownSpecification { specification }) => {
            SchemaError::Draft { file, found: specification.clone() }
        }
        ValidationErrorKind::Referencing(inner) => {
            let (target, what) = reference_text(inner);
            let pointer = find_reference(value, &target).unwrap_or_default();
            SchemaError::Reference { file, pointer, what }
        }
        _ => SchemaError::NotSchema {
            file,
            pointer: error.instance_path().to_string(),
            what: objection(error),
        },
    }
}

/// An error of the crate for a person. Members that must not be there are named one by one, each at its own place.
fn objections(error: &ValidationError<'_>) -> Vec<Objection> {
    let pointer = error.instance_path().to_string();
    let (ValidationErrorKind::AdditionalProperties { unexpected }
    | ValidationErrorKind::UnevaluatedProperties { unexpected }) = error.kind()
    else {
        return vec![Objection { pointer, what: cut(&objection(error)) }];
    };
    let unknown = |name: &String| {
        let token = name.replace('~', "~0").replace('/', "~1");
        Objection { pointer: format!("{pointer}/{token}"), what: "is unknown".to_owned() }
    };
    unexpected.iter().map(unknown).collect()
}

fn cut(text: &str) -> String {
    let short: String = text.chars().take(OBJECTION_CHARS_MAX).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// What the meta-schema objects to. Where several of its branches do, naming them would help nobody.
fn objection(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. } => {
            let found: String = error.instance().to_string().chars().take(80).collect();
            format!("{found} can't stand there")
        }
        _ => error.to_string(),
    }
}

/// The text by which the reference is found again, and what to say about it.
fn reference_text(error: &ReferencingError) -> (String, String) {
    match error {
        ReferencingError::Unretrievable { uri, source } => (uri.clone(), source.to_string()),
        ReferencingError::PointerToNowhere { pointer } => {
            (pointer.clone(), format!("nothing is found at #{pointer}"))
        }
        ReferencingError::NoSuchAnchor { anchor } | ReferencingError::InvalidAnchor { anchor } => {
            (anchor.clone(), format!("there is no anchor {anchor:?}"))
        }
        other => (String::new(), other.to_string()),
    }
}

/// The pointer of the first `$ref` that can have led to `target`.
fn find_reference(schema: &Value, target: &str) -> Option<String> {
    fn leads(text: &str, target: &str) -> bool {
        let (file, fragment) = text.split_once('#').unwrap_or((text, ""));
        let trimmed = file.trim_start_matches("./").trim_start_matches("../");
        text == target
            || (!trimmed.is_empty() && target.ends_with(trimmed))
            || (!fragment.is_empty() && fragment == target)
    }
    fn walk(value: &Value, target: &str, pointer: &str) -> Option<String> {
        match value {
            Value::Object(map) => map.iter().find_map(|(key, inner)| {
                let here = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                let text =
                    inner.as_str().filter(|_| matches!(key.as_str(), "$ref" | "$dynamicRef" | "$schema"));
                match text {
                    Some(text) if leads(text, target) => Some(here),
                    _ => walk(inner, target, &here),
                }
            }),
            Value::Array(items) => {
                let mut places = items.iter().enumerate();
                places.find_map(|(place, inner)| walk(inner, target, &format!("{pointer}/{place}")))
            }
            _ => None,
        }
    }
    walk(schema, target, "")
}

/// Reads the files that a schema refers to: only those in its folder or below, and not without end.
#[derive(Clone)]
struct Files(Arc<Mutex<State>>);

struct State {
    /// No file outside of it is read. `None`: no file at all.
    folder: Option<PathBuf>,
    /// Which folder the base of a URI stands for. A schema with `$id` has its neighbours beside that `$id`.
    bases: Vec<(String, PathBuf)>,
    read: usize,
    /// What was read, by its name beside the schema.
    contents: BTreeMap<PathBuf, String>,
    failed: Option<SchemaError>,
}

/// Why a reference isn't followed.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(
        "{0} is not in the schema's folder, and nothing is fetched: put the file there and refer to it by its name"
    )]
    Elsewhere(String),
    #[error("{0} can't be read: {1}")]
    Unreadable(String, std::io::ErrorKind),
    #[error("{0} is larger than {FILE_BYTES_MAX} bytes")]
    TooLarge(String),
    #[error("the schema refers to more than {FILES_MAX} files")]
    TooMany,
    #[error(transparent)]
    Content(SchemaError),
}

impl Files {
    fn new(base: Option<(&Path, &Path)>, id: Option<&str>) -> Self {
        let folder = base.and_then(|(folder, _)| absolute(folder));
        let mut bases = Vec::new();
        if let Some(folder) = &folder {
            bases.extend(url::Url::from_directory_path(folder).ok().map(|url| (url.into(), folder.clone())));
            bases.extend(id.and_then(parent_of).map(|parent| (parent, folder.clone())));
        }
        Self(Arc::new(Mutex::new(State { folder, bases, read: 0, contents: BTreeMap::new(), failed: None })))
    }

    /// The URI by which the schema's own file is known.
    fn base_uri(&self, base: Option<(&Path, &Path)>) -> Option<String> {
        let folder = self.state().folder.clone()?;
        url::Url::from_file_path(folder.join(base?.1)).ok().map(Into::into)
    }

    /// Of the schema itself and of all that was read for it.
    fn digest(&self, schema: &Value) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut take = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        };
        take(&schema.to_string());
        for (name, text) in &self.state().contents {
            take(&name.to_string_lossy());
            take(text);
        }
        hash.finalize().into()
    }

    /// What was wrong inside a file that was referred to.
    fn failed(&self) -> Option<SchemaError> {
        self.state().failed.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Retrieve for Files {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let mut state = self.state();
        state.load(uri.as_str()).map_err(|refused| {
            if let Refused::Content(error) = &refused {
                state.failed = Some(error.clone());
            }
            refused.into()
        })
    }
}

impl State {
    fn load(&mut self, uri: &str) -> Result<Value, Refused> {
        let path = self.path_of(uri).ok_or_else(|| Refused::Elsewhere(uri.to_owned()))?;
        let label = path.display().to_string();
        self.read += 1;
        if self.read > FILES_MAX {
            return Err(Refused::TooMany);
        }
        let unreadable = |error: std::io::Error| Refused::Unreadable(label.clone(), error.kind());
        // A link could lead out of the folder: what counts is where the file really lies.
        let real = path.canonicalize().map_err(unreadable)?;
        if !self.folder.as_ref().is_some_and(|folder| real.starts_with(folder)) {
            return Err(Refused::Elsewhere(uri.to_owned()));
        }
        if std::fs::metadata(&real).map_err(unreadable)?.len() > FILE_BYTES_MAX {
            return Err(Refused::TooLarge(label));
        }
        let text = std::fs::read_to_string(&real).map_err(unreadable)?;
        let value = parse(without_byte_order_mark(&text), &label).map_err(Refused::Content)?;
        // The crate checks the first schema against its meta-schema, but not those it refers to.
        jsonschema::meta::validate(&value).map_err(|error| {
            let pointer = error.instance_path().to_string();
            Refused::Content(SchemaError::NotSchema { file: label, pointer, what: objection(&error) })
        })?;
        let id = value.get("$id").and_then(Value::as_str).and_then(parent_of);
        self.bases.extend(id.zip(real.parent().map(Path::to_owned)));
        let name = self.folder.as_ref().and_then(|folder| real.strip_prefix(folder).ok());
        self.contents.insert(name.unwrap_or(&real).to_owned(), text);
        Ok(value)
    }

    /// The file that a URI means, by the bases that are known.
    fn path_of(&self, uri: &str) -> Option<PathBuf> {
        self.bases.iter().find_map(|(base, folder)| {
            let rest = uri.strip_prefix(base.as_str())?;
            let name = percent_encoding::percent_decode_str(rest).decode_utf8().ok()?;
            Some(folder.join(&*name))
        })
    }
}

fn absolute(folder: &Path) -> Option<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    folder.canonicalize().ok()
}

/// The part of an absolute `$id` up to its last slash.
fn parent_of(id: &str) -> Option<String> {
    let url = url::Url::parse(id).ok()?;
    if url.cannot_be_a_base() { None } else { url.join(".").ok().map(Into::into) }
}

#[cfg(test)]
mod tests;
