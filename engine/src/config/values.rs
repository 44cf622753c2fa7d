//! Kinds of values that mean something to the engine: references, URLs, headers, subjects, schemas, modules.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use toml::de::DeValue;

use super::checked::{Jitter, Start};
use super::kinds::{Number, Text, quoted};
use super::report::Code;
use super::setting::{Context, Found, Kind};
use crate::model::{SecretRef, SubjectTemplate, Timestamp, subject};
use crate::schema::{Schema, SchemaError};

const REFERENCE: &str = "{ env = \"NAME\" } or { file = \"path\" }, each with an optional prefix";

/// A value that must stand elsewhere.
pub(super) struct Secret;

impl Kind for Secret {
    type Value = SecretRef;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<SecretRef> {
        if found.get_ref().is_str() {
            let hint = format!("name where it stands: {REFERENCE}");
            context.wrong(Code::LiteralSecret, &found.span(), "holds a secret itself", hint);
            return None;
        }
        reference(context, found)
    }

    fn describe(&self) -> String {
        format!("a reference: {REFERENCE}")
    }
}

/// A text, or a reference to one.
pub(super) struct TextOrReference;

impl Kind for TextOrReference {
    type Value = SecretRef;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<SecretRef> {
        match found.get_ref() {
            DeValue::String(_) => Text.read(context, found).map(SecretRef::Plain),
            DeValue::Table(_) => reference(context, found),
            _ => {
                context.wrong_type(found, "a string or a reference", self.describe());
                None
            }
        }
    }

    fn describe(&self) -> String {
        format!("a string, or {REFERENCE}")
    }
}

/// Reads `{ env = …, prefix = … }` and `{ file = …, prefix = … }`.
fn reference(context: &Context<'_>, found: &Found<'_>) -> Option<SecretRef> {
    let Some(table) = found.get_ref().as_table() else {
        context.wrong_type(found, "a reference", REFERENCE);
        return None;
    };
    let mut fine = true;
    for (key, value) in table {
        if !matches!(&**key.get_ref(), "env" | "file" | "prefix") {
            let said = format!("has an unknown key {}", quoted(key.get_ref()));
            context.wrong(Code::BadReference, &key.span(), said, REFERENCE);
            fine = false;
        } else if !value.get_ref().is_str() {
            context.wrong_type(value, "a string", REFERENCE);
            fine = false;
        }
    }
    let text = |key: &str| table.get(key).and_then(|value| value.get_ref().as_str());
    let prefix = text("prefix").unwrap_or_default().to_owned();
    let what = match (text("env"), text("file")) {
        _ if !fine => return None,
        (Some(name), None) if !name.is_empty() && !name.contains(['=', '\0', ' ', '$']) => {
            return Some(SecretRef::Env { name: name.to_owned(), prefix });
        }
        (None, Some(file)) if !file.is_empty() => {
            return Some(SecretRef::File { path: context.file.folder.join(file), prefix });
        }
        (Some(_), Some(_)) => "names both env and file".to_owned(),
        (None, None) => "names neither env nor file".to_owned(),
        (Some(name), None) => format!("names the variable {}, which can't exist", quoted(name)),
        (None, Some(_)) => "names an empty path".to_owned(),
    };
    context.wrong(Code::BadReference, &found.span(), what, REFERENCE);
    None
}

/// An endpoint's URL, or a reference to one.
pub(super) struct Url;

impl Kind for Url {
    type Value = SecretRef;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<SecretRef> {
        let text = match found.get_ref() {
            DeValue::String(text) => text,
            DeValue::Table(_) => return reference(context, found),
            _ => {
                context.wrong_type(found, "a string or a reference", self.describe());
                return None;
            }
        };
        match check_url(text) {
            Ok(()) => Some(SecretRef::Plain(text.to_string())),
            // The URL itself is not shown: its path and query may hold a secret.
            Err(what) => {
                context.wrong(Code::BadUrl, &found.span(), what, self.describe());
                None
            }
        }
    }

    fn describe(&self) -> String {
        format!("a URL such as \"https://example.com/hooks\", or {REFERENCE}")
    }
}

fn check_url(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(format!("has the scheme {}", quoted(url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user or a password in it".to_owned());
    }
    Ok(())
}

/// Headers by name, each a text or a reference.
pub(super) struct Headers;

impl Kind for Headers {
    type Value = Vec<(String, SecretRef)>;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Self::Value> {
        let Some(table) = found.get_ref().as_table() else {
            context.wrong_type(found, "a table", self.describe());
            return None;
        };
        let mut headers: Vec<Option<(String, SecretRef)>> = Vec::new();
        for (name, value) in table {
            let of_one = Context { file: context.file, key: format!("{}.{}", context.key, name.get_ref()) };
            let checked = check_header_name(name.get_ref());
            if let Err(what) = &checked {
                of_one.wrong(Code::BadHeader, &name.span(), what, "leave it out, or choose another name");
            }
            let lower = name.get_ref().to_ascii_lowercase();
            if headers.iter().flatten().any(|(known, _)| *known == lower) {
                of_one.wrong(
                    Code::BadHeader,
                    &name.span(),
                    "is set twice",
                    "case doesn't count in names of headers",
                );
            }
            let value = header_value(&of_one, value);
            headers.push(checked.ok().and(value).map(|value| (lower, value)));
        }
        headers.into_iter().collect()
    }

    fn describe(&self) -> String {
        format!("a table of header names, each with {}", TextOrReference.describe())
    }
}

fn header_value(context: &Context<'_>, found: &Found<'_>) -> Option<SecretRef> {
    let value = TextOrReference.read(context, found)?;
    let usable = |byte: u8| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic();
    let text = match &value {
        SecretRef::Plain(text) => text,
        SecretRef::Env { prefix, .. } | SecretRef::File { prefix, .. } => prefix,
    };
    if text.bytes().all(usable) {
        return Some(value);
    }
    let said = "has a value with characters that HTTP headers can't carry";
    context.wrong(Code::BadHeader, &found.span(), said, "use printable ASCII without line breaks");
    None
}

/// Names that the engine or the connection sets (RFC 9110, section 7.6.1).
const RESERVED: [&str; 13] = [
    "accept-encoding",
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

fn check_header_name(name: &str) -> Result<(), &'static str> {
    let Ok(parsed) = http::HeaderName::from_bytes(name.as_bytes()) else {
        return Err("is not a header name");
    };
    let lower = parsed.as_str();
    let reserved = ["webhook-", "ce-", "content-"].iter().any(|start| lower.starts_with(start));
    if reserved || RESERVED.contains(&lower) { Err("is set by the engine") } else { Ok(()) }
}

/// A subject that a source takes.
pub(super) struct Subject;

impl Kind for Subject {
    type Value = String;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<String> {
        let text = context.text(found, self.describe())?;
        if let Err(error) = subject::check_pattern(text) {
            let said = format!("has {}: {error}", quoted(text));
            context.wrong(Code::BadSubject, &found.span(), said, self.describe());
            return None;
        }
        Some(text.to_owned())
    }

    fn describe(&self) -> String {
        "a subject such as \"events.shop.>\"".to_owned()
    }
}

/// A subject to publish to.
pub(super) struct Template;

impl Kind for Template {
    type Value = SubjectTemplate;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<SubjectTemplate> {
        let text = context.text(found, self.describe())?;
        let template = SubjectTemplate::parse(text);
        if let Err(error) = &template {
            let said = format!("is {}: {error}", quoted(text));
            context.wrong(Code::BadSubject, &found.span(), said, self.describe());
        }
        template.ok()
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = subject::Attribute::ALL.iter().map(|(name, _)| *name).collect();
        format!("a subject, with {{attribute}} filled in from the event: {}", names.join(", "))
    }
}

/// The name of a stream.
pub(super) struct Stream;

impl Kind for Stream {
    type Value = String;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<String> {
        let text = context.text(found, self.describe())?;
        let bad = |letter: char| {
            letter.is_whitespace() || letter.is_control() || matches!(letter, '.' | '*' | '>' | '/' | '\\')
        };
        if text.is_empty() || text.len() > 255 || text.contains(bad) {
            context.wrong(Code::BadStream, &found.span(), format!("is {}", quoted(text)), self.describe());
            return None;
        }
        Some(text.to_owned())
    }

    fn describe(&self) -> String {
        "the name of a stream: no blanks, dots, *, >, slashes or backslashes".to_owned()
    }
}

/// Where a new consumer starts.
pub(super) struct StartKind;

impl Kind for StartKind {
    type Value = Start;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Start> {
        let text = match found.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            _ => {
                context.wrong_type(found, "a string or a time", self.describe());
                return None;
            }
        };
        let start = match text.as_str() {
            "new" => Some(Start::New),
            "all" => Some(Start::All),
            time => Timestamp::parse(time).map(Start::Time),
        };
        if start.is_none() {
            context.wrong(Code::BadTime, &found.span(), format!("is {}", quoted(&text)), self.describe());
        }
        start
    }

    fn describe(&self) -> String {
        "\"new\", \"all\" or a time such as \"2026-11-24T03:00:00Z\"".to_owned()
    }
}

/// How much chance spreads the waits.
pub(super) struct JitterKind;

impl Kind for JitterKind {
    type Value = Jitter;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Jitter> {
        match found.get_ref().as_str() {
            Some("full") => Some(Jitter::Full),
            Some(text) => {
                context.wrong(
                    Code::NotAChoice,
                    &found.span(),
                    format!("is {}", quoted(text)),
                    self.describe(),
                );
                None
            }
            None => Number { min: 0.0, max: 1.0 }.read(context, found).map(Jitter::Around),
        }
    }

    fn describe(&self) -> String {
        "a number from 0 to 1 (each wait is that share longer or shorter), or \"full\" (from nothing to the wait)"
            .to_owned()
    }
}

/// The file of a schema, compiled.
pub(super) struct SchemaFile;

impl Kind for SchemaFile {
    type Value = (String, Schema);

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Self::Value> {
        let label = Text.read(context, found)?;
        let path = context.file.folder.join(&label);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                let said = format!("names {}, which can't be read: {}", quoted(&label), error.kind());
                context.wrong(Code::SchemaMissing, &found.span(), said, looked_for(&path));
                return None;
            }
        };
        match Schema::compile(&text, &path) {
            Ok(schema) => Some((label, schema)),
            Err(error) => {
                let (code, hint) = schema_help(&error);
                context.wrong(code, &found.span(), format!("can't be used: {error}"), hint);
                None
            }
        }
    }

    fn describe(&self) -> String {
        "a path to a JSON Schema, from the folder of this file".to_owned()
    }
}

fn schema_help(error: &SchemaError) -> (Code, &'static str) {
    match error {
        SchemaError::NotJson { .. } => {
            (Code::SchemaNotJson, "mend the schema file; line and column are its own")
        }
        SchemaError::NotSchema { .. } | SchemaError::Draft { .. } => {
            (Code::SchemaInvalid, "mend the schema file there")
        }
        SchemaError::Reference { .. } => (
            Code::SchemaReference,
            "$ref may lead into the schema itself or to files in its folder and below",
        ),
    }
}

fn looked_for(path: &Path) -> String {
    // Without the single dots that joining leaves inside.
    format!("it was looked for at {}", path.components().collect::<PathBuf>().display())
}

/// A schema that stands in the pipeline file itself.
pub(super) struct Match;

impl Kind for Match {
    type Value = Schema;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Schema> {
        let value = JsonTable.read(context, found)?;
        match Schema::from_value(&value, "match") {
            Ok(schema) => Some(schema),
            Err(error) => {
                context.wrong(
                    Code::BadMatch,
                    &found.span(),
                    format!("can't be used: {error}"),
                    self.describe(),
                );
                None
            }
        }
    }

    fn describe(&self) -> String {
        "a JSON Schema, written as TOML".to_owned()
    }
}

/// A table that is handed on as JSON.
pub(super) struct JsonTable;

impl Kind for JsonTable {
    type Value = Json;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Json> {
        if !found.get_ref().is_table() {
            context.wrong_type(found, "a table", self.describe());
            return None;
        }
        json(context, found)
    }

    fn describe(&self) -> String {
        "a table such as { remove = [\"/email\"] }".to_owned()
    }
}

fn json(context: &Context<'_>, found: &Found<'_>) -> Option<Json> {
    let number = match found.get_ref() {
        DeValue::String(text) => return Some(Json::String(text.to_string())),
        DeValue::Boolean(yes) => return Some(Json::Bool(*yes)),
        DeValue::Datetime(time) => return Some(Json::String(time.to_string())),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| json(context, item)).collect();
            return items.into_iter().collect::<Option<_>>().map(Json::Array);
        }
        DeValue::Table(table) => {
            let pairs = table.iter().map(|(key, value)| (key.get_ref().to_string(), json(context, value)));
            let pairs: Vec<_> = pairs.collect();
            let pairs = pairs.into_iter().map(|(key, value)| value.map(|value| (key, value)));
            return pairs.collect::<Option<_>>().map(Json::Object);
        }
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(serde_json::Number::from)
        }
        DeValue::Float(float) => float.as_str().parse().ok().and_then(serde_json::Number::from_f64),
    };
    if number.is_none() {
        context.wrong(
            Code::BadSettings,
            &found.span(),
            "has a number that JSON can't hold",
            "use a finite number",
        );
    }
    number.map(Json::Number)
}

/// The path of a module.
pub(super) struct ModulePath;

impl Kind for ModulePath {
    type Value = PathBuf;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<PathBuf> {
        let text = context.text(found, self.describe())?;
        if !text.starts_with("./") && !text.starts_with("../") {
            let (code, said) = if text.contains('@') {
                (
                    Code::NotAvailable,
                    format!("is {}: names and versions are not available in this version", quoted(text)),
                )
            } else {
                (Code::ModuleReference, format!("is {}", quoted(text)))
            };
            context.wrong(code, &found.span(), said, "use a path that starts with ./ or ../ for now");
            return None;
        }
        let path = context.file.folder.join(text);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Some(path),
            Ok(_) => {
                let said = format!("names {}, which is no file", quoted(text));
                context.wrong(Code::ModuleMissing, &found.span(), said, looked_for(&path));
                None
            }
            Err(error) => {
                let said = format!("names {}, which can't be read: {}", quoted(text), error.kind());
                context.wrong(Code::ModuleMissing, &found.span(), said, looked_for(&path));
                None
            }
        }
    }

    fn describe(&self) -> String {
        "a path to a WebAssembly component that starts with ./ or ../, from the folder of this file"
            .to_owned()
    }
}

/// The servers of NATS: one URL, or several in a list.
pub(super) struct NatsUrls;

impl Kind for NatsUrls {
    type Value = Vec<String>;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Vec<String>> {
        match found.get_ref() {
            DeValue::String(text) => {
                text.split(',').map(|url| nats_url(context, found, url.trim())).collect()
            }
            DeValue::Array(items) if !items.is_empty() => {
                let one =
                    |item| context.text(item, self.describe()).and_then(|url| nats_url(context, item, url));
                let urls: Vec<_> = items.iter().map(one).collect();
                urls.into_iter().collect()
            }
            _ => {
                context.wrong_type(found, "a string or a list", self.describe());
                None
            }
        }
    }

    fn describe(&self) -> String {
        "a URL such as \"nats://127.0.0.1:4222\" or \"tls://nats.example.com\", or a list of them".to_owned()
    }
}

fn nats_url(context: &Context<'_>, found: &Found<'_>, text: &str) -> Option<String> {
    let fine = url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "nats" | "tls" | "ws" | "wss")
            && url.host_str().is_some_and(|host| !host.is_empty())
    });
    if !fine {
        context.wrong(Code::BadUrl, &found.span(), "is no URL of a NATS server", NatsUrls.describe());
    }
    fine.then(|| text.to_owned())
}
