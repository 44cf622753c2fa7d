//! Kinds of values that mean something to the engine: references, URLs, headers, subjects.

use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::kinds::{Number, Text, quoted};
use super::report::Code;
use super::setting::{Context, Found, Kind};
use crate::deliver::{check_header_name, check_header_value, check_url};
use crate::lane::retry::Jitter;
use crate::model::{NamePattern, SecretRef, SubjectTemplate, Timestamp, subject};
use crate::source::Start;

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

    fn schema(&self) -> Json {
        reference_schema()
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

    fn schema(&self) -> Json {
        json!({ "anyOf": [Text.schema(), reference_schema()] })
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
        (None, Some(path)) if !path.is_empty() => {
            return Some(SecretRef::File { path: context.file.folder.join(path), prefix });
        }
        (Some(_), Some(_)) => "names both env and file",
        (None, None) => "names neither env nor file",
        // Not shown: what can't be a name may well be the secret itself.
        (Some(_), None) => "names a variable that can't exist",
        (None, Some(_)) => "names an empty path",
    };
    context.wrong(Code::BadReference, &found.span(), what, REFERENCE);
    None
}

fn reference_schema() -> Json {
    let text = json!({ "type": "string", "minLength": 1 });
    let name = json!({ "type": "string", "pattern": r"^[^= $]+$" });
    json!({
        "type": "object", "additionalProperties": false,
        "properties": { "env": name, "file": text, "prefix": { "type": "string" } },
        "oneOf": [{ "required": ["env"] }, { "required": ["file"] }]
    })
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
            Ok(_) => Some(SecretRef::Plain(text.to_string())),
            // The URL itself is not shown: its path and query may hold a secret.
            Err(error) => {
                context.wrong(
                    Code::BadUrl,
                    &found.span(),
                    format!("can't be used: {error}"),
                    self.describe(),
                );
                None
            }
        }
    }

    fn describe(&self) -> String {
        format!("a URL such as \"https://example.com/hooks\", or {REFERENCE}")
    }

    fn schema(&self) -> Json {
        let url =
            json!({ "type": "string", "pattern": r"^[hH][tT][tT][pP][sS]?://[^/?#@\s\\]+([/?#][^\s\\]*)?$" });
        json!({ "anyOf": [url, reference_schema()] })
    }
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
            if let Err(error) = &checked {
                let said = format!("can't be used: {error}");
                of_one.wrong(Code::BadHeader, &name.span(), said, "leave it out, or choose another name");
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

    fn schema(&self) -> Json {
        let text = json!({ "type": "string", "pattern": r"^[\t -~]+$" });
        json!({
            "type": "object", "propertyNames": { "pattern": r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$" },
            "additionalProperties": { "anyOf": [text, reference_schema()] }
        })
    }
}

fn header_value(context: &Context<'_>, found: &Found<'_>) -> Option<SecretRef> {
    let value = TextOrReference.read(context, found)?;
    let text = match &value {
        SecretRef::Plain(text) => text,
        SecretRef::Env { prefix, .. } | SecretRef::File { prefix, .. } => prefix,
    };
    let Err(error) = check_header_value(text) else { return Some(value) };
    let hint = "use printable ASCII without line breaks";
    context.wrong(Code::BadHeader, &found.span(), format!("can't be used: {error}"), hint);
    None
}

/// Names of modules.
pub(super) struct ModuleNames;

impl Kind for ModuleNames {
    type Value = NamePattern;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<NamePattern> {
        let text = context.text(found, self.describe())?;
        let pattern = NamePattern::new(text).ok();
        if pattern.is_none() {
            context.wrong(Code::BadName, &found.span(), format!("has {}", quoted(text)), self.describe());
        }
        pattern
    }

    fn describe(&self) -> String {
        "the name of a module, or the beginning of names with a * behind it, such as \"acme-*\"".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^[a-z0-9-]*[*]?$", "minLength": 1 })
    }
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

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": r"^(([^\s.*>]+|[*])\.)*([^\s.*>]+|[*]|>)$" })
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

    fn schema(&self) -> Json {
        let names: Vec<&str> = subject::Attribute::ALL.iter().map(|(name, _)| *name).collect();
        let token = format!(r"([^\s.*>{{}}]|\{{({})\}})+", names.join("|"));
        let own = json!({ "pattern": r"^(\$|hookmill\.)" });
        json!({ "type": "string", "pattern": format!(r"^{token}(\.{token})*$"), "not": own })
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

    fn schema(&self) -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[^\s.*>/\\]+$" })
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

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": "^(new|all|[0-9]{4}-.*)$" })
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
            None => Number { min: 0.0, max: 1.0 }.read(context, found).map(Jitter::Share),
        }
    }

    fn describe(&self) -> String {
        "a number from 0 to 1 (each wait is that share longer or shorter), or \"full\" (from nothing to the wait)"
            .to_owned()
    }

    fn schema(&self) -> Json {
        let share = Number { min: 0.0, max: 1.0 }.schema();
        json!({ "anyOf": [share, { "const": "full" }] })
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

    fn schema(&self) -> Json {
        let url = json!({ "type": "string", "minLength": 1 });
        json!({ "anyOf": [url, { "type": "array", "minItems": 1, "items": url }] })
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
