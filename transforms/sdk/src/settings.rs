//! Settings, from the JSON that the engine hands over.

use serde::Deserialize;

use crate::Transform;

/// For a transform that has nothing to set: anything in `settings` is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// Makes a transform from its settings as JSON text. No settings (`null`, or nothing) are empty ones.
pub(crate) fn configure<T: Transform>(settings: &str) -> Result<T, String> {
    let settings = match settings.trim() {
        "" | "null" => "{}",
        settings => settings,
    };
    let mut deserializer = serde_json::Deserializer::from_str(settings);
    let read = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| wrong(&error))?;
    deserializer.end().map_err(|error| format!("the settings are not JSON: {error}"))?;
    T::configure(read)
}

fn wrong(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let inner = error.inner();
    if !inner.is_data() {
        return format!("the settings are not JSON: {inner}");
    }
    // Line and column of this text would only mislead: the settings were written elsewhere, in TOML.
    let text = inner.to_string();
    let place = format!(" at line {} column {}", inner.line(), inner.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    match error.path().to_string().as_str() {
        "." => text.to_owned(),
        path => format!("{path}: {text}"),
    }
}
