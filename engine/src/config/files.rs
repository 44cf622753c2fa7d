//! Kinds of values that lead to other files or are handed on whole: schemas, modules, settings of modules.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::checked::Places;
use super::kinds::{Text, quoted};
use super::report::Code;
use super::setting::{Context, File, Found, Kind};
use crate::model::Reference;
use crate::model::text::without_byte_order_mark;
use crate::schema::{FILE_BYTES_MAX, Schema, SchemaError};

/// The file of a schema, compiled.
pub(super) struct SchemaFile;

impl Kind for SchemaFile {
    type Value = (String, Schema);

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Self::Value> {
        let label = Text.read(context, found)?;
        let path = context.file.folder.join(&label);
        let text = match read_schema(&path) {
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

    fn schema(&self) -> Json {
        Text.schema()
    }
}

fn read_schema(path: &Path) -> std::io::Result<String> {
    if std::fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    std::fs::read_to_string(path).map(|text| without_byte_order_mark(&text).to_owned())
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

    fn schema(&self) -> Json {
        JsonTable.schema()
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
        as_json(context, found)
    }

    fn describe(&self) -> String {
        "a table such as { remove = [\"/email\"] }".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "object" })
    }
}

/// Any value, as JSON.
pub(super) struct AnyJson;

impl Kind for AnyJson {
    type Value = Json;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Json> {
        as_json(context, found)
    }

    fn describe(&self) -> String {
        "any value; JSON's null only inside of JSON in a string".to_owned()
    }

    fn schema(&self) -> Json {
        json!({})
    }
}

/// The top of a file as JSON.
pub(super) fn json_of(file: &File<'_>, table: Spanned<DeTable<'_>>) -> Option<Json> {
    let at = table.span();
    as_json(&Context { file, key: String::new() }, &Spanned::new(at, DeValue::Table(table.into_inner())))
}

/// The same, with the place of every value in it.
pub(super) struct SettingsTable;

impl Kind for SettingsTable {
    type Value = (Json, Places);

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Self::Value> {
        let json = JsonTable.read(context, found)?;
        let mut places = Places::default();
        note_places(context, found, &found.span(), String::new(), &mut places);
        Some((json, places))
    }

    fn describe(&self) -> String {
        JsonTable.describe()
    }

    fn schema(&self) -> Json {
        JsonTable.schema()
    }
}

/// A member's place is that of its key, which is where a person looks for it.
fn note_places(
    context: &Context<'_>,
    found: &Found<'_>,
    at: &Range<usize>,
    pointer: String,
    places: &mut Places,
) {
    match found.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                let token = key.get_ref().replace('~', "~0").replace('/', "~1");
                note_places(context, value, &key.span(), format!("{pointer}/{token}"), places);
            }
        }
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                note_places(context, item, &item.span(), format!("{pointer}/{index}"), places);
            }
        }
        _ => {}
    }
    places.0.insert(pointer, context.file.place(at));
}

fn as_json(context: &Context<'_>, found: &Found<'_>) -> Option<Json> {
    let number = match found.get_ref() {
        DeValue::String(text) => return Some(Json::String(text.to_string())),
        DeValue::Boolean(yes) => return Some(Json::Bool(*yes)),
        DeValue::Datetime(time) => return Some(Json::String(time.to_string())),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| as_json(context, item)).collect();
            return items.into_iter().collect::<Option<_>>().map(Json::Array);
        }
        DeValue::Table(table) => {
            let pairs = table.iter().map(|(key, value)| (key.get_ref().to_string(), as_json(context, value)));
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

/// Which module a step runs: a file, or one of the registry.
pub(super) struct ModuleReference;

impl Kind for ModuleReference {
    /// With paths from the folder of this file, and as it is written.
    type Value = (Reference, String);

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Self::Value> {
        let text = context.text(found, self.describe())?;
        let reference = match Reference::parse(text) {
            Ok(Reference::File(path)) => Reference::File(module_file(context, found, text, &path)?),
            Ok(reference) => reference,
            Err(error) => {
                let said = format!("is {}: {error}", quoted(text));
                context.wrong(Code::ModuleReference, &found.span(), said, self.describe());
                return None;
            }
        };
        Some((reference, text.to_owned()))
    }

    fn describe(&self) -> String {
        "a module of the registry (\"redact@1\", \"redact@1.4\", \"redact@1.4.2\", \"redact@sha256:…\"), or a path to a \
         WebAssembly component that starts with ./ or ../, from the folder of this file"
            .to_owned()
    }

    fn schema(&self) -> Json {
        let number = "(0|[1-9][0-9]*)";
        let version = format!("{number}([.]{number}([.]{number}(-[0-9A-Za-z.-]+)?)?)?");
        json!({ "type": "string", "pattern": format!("^([.][.]?/.*|[a-z0-9-]+@({version}|sha256:[0-9a-f]{{64}}))$") })
    }
}

/// A module's file, if it is one.
fn module_file(context: &Context<'_>, found: &Found<'_>, text: &str, path: &Path) -> Option<PathBuf> {
    let path = context.file.folder.join(path);
    let said = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => return Some(path),
        Ok(_) => format!("names {}, which is no file", quoted(text)),
        Err(error) => format!("names {}, which can't be read: {}", quoted(text), error.kind()),
    };
    context.wrong(Code::ModuleMissing, &found.span(), said, looked_for(&path));
    None
}
