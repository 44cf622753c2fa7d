//! Kinds of values that only test files have.

use bytes::Bytes;
use serde_json::{Value as Json, json};
use toml::de::DeValue;

use super::{At, HeaderCheck};
use crate::config::files::JsonTable;
use crate::config::kinds::{Text, quoted};
use crate::config::report::Code;
use crate::config::setting::{Context, Found, Kind};
use crate::deliver::check_header_name;
use crate::model::{self, Timestamp};

/// An event: a table, or the text of a message.
pub(super) struct EventText;

impl Kind for EventText {
    type Value = Bytes;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Bytes> {
        match found.get_ref() {
            DeValue::String(text) => Some(Bytes::from(text.to_string())),
            DeValue::Table(_) => JsonTable.read(context, found).map(|json| json.to_string().into()),
            _ => {
                context.wrong_type(found, "a table or a string", self.describe());
                None
            }
        }
    }

    fn describe(&self) -> String {
        "a table such as { specversion = \"1.0\", id = \"1\", source = \"/shop\", type = \"t\", data = {} }, or the same as JSON in a string"
            .to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": ["object", "string"] })
    }
}

/// Some members of a JSON object.
pub(super) struct Members;

impl Kind for Members {
    type Value = Json;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Json> {
        if !found.get_ref().is_table() {
            context.wrong_type(found, "a table", self.describe());
            return None;
        }
        JsonTable.read(context, found)
    }

    fn describe(&self) -> String {
        "a table of members such as { total = 19.9, card = { brand = \"visa\" } }".to_owned()
    }

    fn schema(&self) -> Json {
        JsonTable.schema()
    }
}

/// A point in time.
pub(super) struct Moment;

impl Kind for Moment {
    type Value = Timestamp;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Timestamp> {
        let text = match found.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            _ => {
                context.wrong_type(found, "a time", self.describe());
                return None;
            }
        };
        let time = Timestamp::parse(&text);
        if time.is_none() {
            context.wrong(Code::BadTime, &found.span(), format!("is {}", quoted(&text)), self.describe());
        }
        time
    }

    fn describe(&self) -> String {
        "a time with its offset, such as 2026-11-24T03:00:00Z".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string" })
    }
}

/// Statuses by subscription.
pub(super) struct Answers;

impl Kind for Answers {
    type Value = Vec<(At<String>, u16)>;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Self::Value> {
        let Some(table) = found.get_ref().as_table() else {
            context.wrong_type(found, "a table", self.describe());
            return None;
        };
        let mut answers = Vec::new();
        for (name, value) in table {
            let of_one = context.below(name.get_ref());
            let Some(integer) = value.get_ref().as_integer() else {
                of_one.wrong_type(value, "an integer", "a status from 200 to 599");
                answers.push(None);
                continue;
            };
            let status = u16::from_str_radix(integer.as_str(), integer.radix()).ok();
            let status = status.filter(|status| (200..=599).contains(status));
            if status.is_none() {
                let said = format!("is {integer}");
                of_one.wrong(Code::OutOfRange, &value.span(), said, "a status from 200 to 599");
            }
            let name = At { value: name.get_ref().to_string(), line: context.file.line(&name.span()) };
            answers.push(status.map(|status| (name, status)));
        }
        answers.into_iter().collect()
    }

    fn describe(&self) -> String {
        "a table of statuses from 200 to 599 by subscription, such as { warehouse = 503 }".to_owned()
    }

    fn schema(&self) -> Json {
        let status = json!({ "type": "integer", "minimum": 200, "maximum": 599 });
        json!({ "type": "object", "additionalProperties": status })
    }
}

/// A reason of a dead letter.
pub(super) struct Reason;

impl Kind for Reason {
    type Value = model::Reason;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<model::Reason> {
        let text = context.text(found, self.describe())?;
        let reason = model::Reason::parse(text);
        if reason.is_none() {
            context.wrong(Code::NotAChoice, &found.span(), format!("is {}", quoted(text)), self.describe());
        }
        reason
    }

    fn describe(&self) -> String {
        let all: Vec<&str> = model::Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("a reason: {}", all.join(", "))
    }

    fn schema(&self) -> Json {
        let all: Vec<&str> = model::Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        json!({ "enum": all })
    }
}

/// A reason in words, or `true` for any.
pub(super) struct WhyOrAny;

impl Kind for WhyOrAny {
    type Value = Option<String>;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Option<String>> {
        match found.get_ref() {
            DeValue::Boolean(true) => Some(None),
            DeValue::String(_) => Text.read(context, found).map(Some),
            _ => {
                context.wrong_type(found, "a string or true", self.describe());
                None
            }
        }
    }

    fn describe(&self) -> String {
        "the reason, or true for any".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "anyOf": [{ "type": "string", "minLength": 1 }, { "const": true }] })
    }
}

/// `true`: what is left out can't be expected by saying `false`.
pub(super) struct Yes;

impl Kind for Yes {
    type Value = ();

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<()> {
        let yes = found.get_ref().as_bool() == Some(true);
        if !yes {
            context.wrong(Code::NotAChoice, &found.span(), "is not true", self.describe());
        }
        yes.then_some(())
    }

    fn describe(&self) -> String {
        "true".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "const": true })
    }
}

/// Attributes by name, each a value or `false` for none.
pub(super) struct Attributes;

impl Kind for Attributes {
    type Value = Vec<(String, Option<String>)>;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Self::Value> {
        let Some(table) = found.get_ref().as_table() else {
            context.wrong_type(found, "a table", self.describe());
            return None;
        };
        let one = |(name, value): (&toml::Spanned<_>, &Found<'_>)| {
            let name: &std::borrow::Cow<'_, str> = name.get_ref();
            let expected = match value.get_ref() {
                DeValue::String(text) => Some(text.to_string()),
                DeValue::Integer(integer) => Some(integer.to_string()),
                DeValue::Boolean(false) => None,
                DeValue::Boolean(true) => Some("true".to_owned()),
                DeValue::Datetime(time) => Some(time.to_string()),
                _ => {
                    context.below(name).wrong_type(
                        value,
                        "a string, an integer or a boolean",
                        self.describe(),
                    );
                    return None;
                }
            };
            Some((name.to_string(), expected))
        };
        let all: Vec<_> = table.iter().map(one).collect();
        all.into_iter().collect()
    }

    fn describe(&self) -> String {
        "a table of attributes such as { type = \"t\", region = \"eu\" }; false: it isn't there".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "object", "additionalProperties": { "type": ["string", "integer", "boolean"] } })
    }
}

/// Headers by name, each a value, `true` for any or `false` for none.
pub(super) struct HeaderChecks;

impl Kind for HeaderChecks {
    type Value = Vec<(String, HeaderCheck)>;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Self::Value> {
        let Some(table) = found.get_ref().as_table() else {
            context.wrong_type(found, "a table", self.describe());
            return None;
        };
        let mut checks = Vec::new();
        for (name, value) in table {
            let of_one = context.below(name.get_ref());
            // The engine's own names are fine here: they are looked at, not set.
            if let Err(error @ crate::deliver::HeaderError::NotName(_)) = check_header_name(name.get_ref()) {
                let said = format!("can't be looked for: {error}");
                of_one.wrong(Code::BadHeader, &name.span(), said, "write it as it is sent, such as x-shop");
                checks.push(None);
                continue;
            }
            let check = match value.get_ref() {
                DeValue::String(text) => Some(HeaderCheck::Is(text.to_string())),
                DeValue::Boolean(true) => Some(HeaderCheck::There),
                DeValue::Boolean(false) => Some(HeaderCheck::Absent),
                _ => {
                    of_one.wrong_type(value, "a string or a boolean", self.describe());
                    None
                }
            };
            checks.push(check.map(|check| (name.get_ref().to_ascii_lowercase(), check)));
        }
        checks.into_iter().collect()
    }

    fn describe(&self) -> String {
        "a table of headers such as { x-shop = \"eu\", webhook-signature = true, authorization = false }"
            .to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "object", "additionalProperties": { "type": ["string", "boolean"] } })
    }
}
