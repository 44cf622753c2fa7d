//! The event as a transform sees it.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::Failure;

/// A `CloudEvents` 1.0 event. What a transform returns is checked by the engine before it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Never empty.
    pub id: String,
    /// A URI-reference, never empty.
    pub source: String,
    /// `type`. Never empty.
    pub ty: String,
    /// Never empty if there.
    pub subject: Option<String>,
    /// RFC 3339.
    pub time: Option<String>,
    /// The media type of `data`. None means JSON.
    pub datacontenttype: Option<String>,
    /// An absolute URI.
    pub dataschema: Option<String>,
    /// Names are lower-case letters and digits; no name twice.
    pub extensions: Vec<(String, Attribute)>,
    /// The payload, as the bytes that came.
    pub data: Option<Vec<u8>>,
}

/// The value of an attribute. Timestamps, URIs and binary (as base64) are text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Text, not empty.
    Text(String),
    /// Integer.
    Integer(i32),
    /// Boolean.
    Boolean(bool),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i32> for Attribute {
    fn from(integer: i32) -> Self {
        Self::Integer(integer)
    }
}

impl From<bool> for Attribute {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl Event {
    /// An event with the three attributes that every event has, and no data.
    pub fn new(id: impl Into<String>, source: impl Into<String>, ty: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            source: source.into(),
            ty: ty.into(),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: Vec::new(),
            data: None,
        }
    }

    /// The extension attribute of that name.
    pub fn extension(&self, name: &str) -> Option<&Attribute> {
        self.extensions.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Sets an extension attribute, in place of one of the same name. Names are lower-case letters and digits.
    pub fn set_extension(&mut self, name: impl Into<String>, value: impl Into<Attribute>) {
        let (name, value) = (name.into(), value.into());
        match self.extensions.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.extensions.push((name, value)),
        }
    }

    /// Takes an extension attribute away.
    pub fn remove_extension(&mut self, name: &str) -> Option<Attribute> {
        let index = self.extensions.iter().position(|(known, _)| known == name)?;
        Some(self.extensions.remove(index).1)
    }

    /// Any attribute by its `CloudEvents` name, such as `type`, `time` or an extension's name.
    pub fn attribute(&self, name: &str) -> Option<Attribute> {
        let optional = |value: &Option<String>| value.as_deref().map(Attribute::from);
        match name {
            "specversion" => Some("1.0".into()),
            "id" => Some(self.id.as_str().into()),
            "source" => Some(self.source.as_str().into()),
            "type" => Some(self.ty.as_str().into()),
            "subject" => optional(&self.subject),
            "time" => optional(&self.time),
            "datacontenttype" => optional(&self.datacontenttype),
            "dataschema" => optional(&self.dataschema),
            _ => self.extension(name).cloned(),
        }
    }

    /// Whether `datacontenttype` says JSON: none, a subtype of `json`, or one that ends in `+json` (`CloudEvents` JSON
    /// format, section 3.1).
    pub fn is_json(&self) -> bool {
        let Some(media_type) = &self.datacontenttype else { return true };
        let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        essence.split_once('/').is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"))
    }

    /// The data as JSON: a [`serde_json::Value`] or a type of your own. Where there is no data, where it is not JSON, or
    /// where it doesn't fit the type, the failure says so (*rejected*) without quoting any of it.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let mut deserializer = serde_json::Deserializer::from_slice(self.json_bytes()?);
        let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| misfit(&error))?;
        deserializer.end().map_err(|error| not_json(&error))?;
        Ok(value)
    }

    /// The data as the JSON text that came: checked, but not taken apart, however deeply it is nested. Failures are those
    /// of [`Event::json`].
    pub fn json_text(&self) -> Result<&RawValue, Failure> {
        serde_json::from_slice(self.json_bytes()?).map_err(|error| not_json(&error))
    }

    fn json_bytes(&self) -> Result<&[u8], Failure> {
        let data = self.data.as_deref().ok_or_else(|| Failure::rejected("the event has no data"))?;
        if !self.is_json() {
            let found = self.datacontenttype.as_deref().unwrap_or_default();
            return Err(Failure::Rejected(format!("the data is {found}, not JSON")));
        }
        Ok(data)
    }

    /// Sets the data to this value as JSON. A `datacontenttype` that says something else becomes `application/json`.
    pub fn set_json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        let data = serde_json::to_vec(value)
            .map_err(|error| Failure::Rejected(format!("the new data can't be written as JSON: {error}")))?;
        if !self.is_json() {
            self.datacontenttype = Some("application/json".to_owned());
        }
        self.data = Some(data);
        Ok(())
    }
}

/// serde's own text for data of the wrong type quotes the data; failures end in logs, so only the place is named.
fn misfit(error: &serde_path_to_error::Error<serde_json::Error>) -> Failure {
    if error.inner().is_data() {
        let (line, column) = (error.inner().line(), error.inner().column());
        let path = error.path();
        return Failure::Rejected(format!(
            "the data is not as expected at {path} (line {line} column {column})"
        ));
    }
    not_json(error.inner())
}

fn not_json(error: &serde_json::Error) -> Failure {
    Failure::Rejected(format!("the data is not valid JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    fn with_data(datacontenttype: Option<&str>, data: &str) -> Event {
        let mut event = Event::new("1", "/s", "t");
        event.datacontenttype = datacontenttype.map(str::to_owned);
        event.data = Some(data.as_bytes().to_vec());
        event
    }

    fn text(failure: Failure) -> String {
        match failure {
            Failure::Rejected(text) => text,
            Failure::Retry(text) => panic!("retry: {text}"),
        }
    }

    #[test]
    fn json_media_types_are_known_and_others_are_refused_by_name() {
        for media_type in
            [None, Some("application/json"), Some("text/JSON; charset=utf-8"), Some("application/x+json")]
        {
            assert_eq!(with_data(media_type, "[1]").json::<Value>(), Ok(json!([1])), "{media_type:?}");
        }
        for media_type in ["text/plain", "application/jsonl", "json"] {
            let failure = with_data(Some(media_type), "[1]").json::<Value>().unwrap_err();
            assert_eq!(text(failure), format!("the data is {media_type}, not JSON"));
        }
    }

    #[test]
    fn a_failure_to_read_the_data_names_the_place_and_never_quotes_it() {
        #[derive(Debug, Deserialize)]
        struct Order {
            #[expect(dead_code, reason = "only its type matters")]
            total: u32,
        }
        let misfit = with_data(None, r#"{"total":"secret"}"#).json::<Vec<Order>>().unwrap_err();
        assert_eq!(text(misfit), "the data is not as expected at . (line 1 column 0)");
        let misfit = with_data(None, r#"[{"total":"secret"}]"#).json::<Vec<Order>>().unwrap_err();
        assert_eq!(text(misfit), "the data is not as expected at [0].total (line 1 column 18)");
        let broken = with_data(None, r#"{"secret"#).json::<Value>().unwrap_err();
        assert_eq!(text(broken), "the data is not valid JSON: EOF while parsing a string at line 1 column 8");
        let trailing = with_data(None, "{} {}").json::<Value>().unwrap_err();
        assert_eq!(text(trailing), "the data is not valid JSON: trailing characters at line 1 column 4");
        assert_eq!(text(Event::new("1", "/s", "t").json::<Value>().unwrap_err()), "the event has no data");
    }

    #[test]
    fn the_json_text_is_the_one_that_came() {
        let text_of = |data: &str| with_data(None, data).json_text().map(|raw| raw.get().to_owned());
        assert_eq!(text_of(" {\"a\": 1e2} ").as_deref(), Ok("{\"a\": 1e2}"));
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(text_of(&deep), Ok(deep.clone()));
        assert_eq!(
            text(text_of("{} {}").unwrap_err()),
            "the data is not valid JSON: trailing characters at line 1 column 4"
        );
        assert_eq!(
            text(with_data(Some("text/plain"), "1").json_text().unwrap_err()),
            "the data is text/plain, not JSON"
        );
    }

    #[test]
    fn nesting_of_ten_thousand_levels_is_rejected() {
        let failure = with_data(None, &"[".repeat(10_000)).json::<Value>().unwrap_err();
        assert!(text(failure).contains("recursion limit"));
    }

    #[test]
    fn setting_json_corrects_a_content_type_that_says_otherwise() {
        let mut event = with_data(Some("text/plain"), "x");
        event.set_json(&json!({"a": 1})).unwrap();
        assert_eq!(event.datacontenttype.as_deref(), Some("application/json"));
        assert_eq!(event.data.as_deref(), Some(&br#"{"a":1}"#[..]));
        let mut event = with_data(Some("application/vnd.x+json"), "{}");
        event.set_json(&json!([])).unwrap();
        assert_eq!(event.datacontenttype.as_deref(), Some("application/vnd.x+json"));
    }

    #[test]
    fn extensions_are_set_once_each_and_attributes_are_found_by_name() {
        let mut event = Event::new("1", "/s", "t");
        event.set_extension("region", "eu");
        event.set_extension("region", 7);
        assert_eq!(event.extensions, [("region".to_owned(), Attribute::Integer(7))]);
        assert_eq!(event.attribute("region"), Some(7.into()));
        assert_eq!(event.attribute("type"), Some("t".into()));
        assert_eq!(event.attribute("subject"), None);
        assert_eq!(event.remove_extension("region"), Some(7.into()));
        assert_eq!(event.extension("region"), None);
    }
}
