//! Checks events against the schemas of a pipeline.
//!
//! The first rule whose types match covers an event; where none does, the schema whose `$id` is the event's
//! `dataschema`. What no schema covers is accepted or rejected as the pipeline says.

use crate::model::event::{Document, NoDocument, ParsedData};
use crate::model::{Code, Fault, Reason, Stage, TypePatterns, Whose};
use crate::schema::Schema;

/// What becomes of an event that no schema covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Unknown {
    /// It goes on.
    #[default]
    Accept,
    /// It is dead-lettered as `unknown_type`.
    Reject,
}

/// One schema and the events that it covers.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The types it covers.
    pub types: TypePatterns,
    /// The file, as the pipeline names it.
    pub label: String,
    /// The schema's `$id`; an event whose `dataschema` equals it is covered too.
    pub id: Option<String>,
    /// The schema.
    pub schema: Schema,
}

/// What a pipeline says about validation.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What becomes of an event that no schema covers.
    pub unknown: Unknown,
    /// In the order of the file; the first that matches counts.
    pub rules: Vec<Rule>,
}

/// Checks events. Holds nothing but its settings.
#[derive(Clone, Debug)]
pub struct Validator {
    settings: Settings,
}

impl Validator {
    /// A validator for one pipeline.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Whether the event may go on. The fault is the publisher's and for good; it says which schema, which JSON
    /// pointer and which keyword, never the value.
    pub fn check(&self, data: &ParsedData<'_>) -> Result<(), Fault> {
        let event = data.event();
        let Some(rule) = self.covering(&event.ty, event.dataschema.as_deref()) else {
            return self.uncovered(&event.ty);
        };
        verdict(rule, data.document())
    }

    fn covering(&self, ty: &str, dataschema: Option<&str>) -> Option<&Rule> {
        let rules = &self.settings.rules;
        let by_type = rules.iter().find(|rule| rule.types.matches(ty));
        by_type.or_else(|| rules.iter().find(|rule| dataschema.is_some() && rule.id.as_deref() == dataschema))
    }

    fn uncovered(&self, ty: &str) -> Result<(), Fault> {
        match self.settings.unknown {
            Unknown::Accept => Ok(()),
            Unknown::Reject => {
                let detail = format!("no schema covers type {ty}, and such events are rejected");
                Err(Fault::never(
                    Stage::Validate,
                    Code::UnknownType,
                    Whose::Publisher,
                    Reason::UnknownType,
                    detail,
                ))
            }
        }
    }
}

fn verdict(rule: &Rule, data: Result<&Document<'_>, &NoDocument>) -> Result<(), Fault> {
    let detail = match data {
        Err(no) => format!("schema {} refuses the event: {}", rule.label, no.why()),
        Ok(value) => match rule.schema.check(value) {
            Ok(()) => return Ok(()),
            Err(mut refusal) => {
                refusal.schema.clone_from(&rule.label);
                refusal.to_string()
            }
        },
    };
    Err(Fault::never(Stage::Validate, Code::Schema, Whose::Publisher, Reason::Schema, detail))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::{Again, Event};

    fn rule(types: &[&str], label: &str, schema: &Value) -> Rule {
        let schema = Schema::from_value(schema, "elsewhere").unwrap();
        let id = schema.id().map(str::to_owned);
        Rule { types: TypePatterns::new(types).unwrap(), label: label.to_owned(), id, schema }
    }

    fn validator(unknown: Unknown) -> Validator {
        let order = json!({"$id": "https://example.com/order", "required": ["total"]});
        let any = json!({"properties": {"a": {"maximum": 1}}});
        let rules = vec![rule(&["order.*"], "order.json", &order), rule(&["order.x", "a"], "any.json", &any)];
        Validator::new(Settings { unknown, rules })
    }

    fn event(ty: &str, more: &Value) -> Event {
        let mut event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": ty});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Event::from_structured(&event.to_string().into()).unwrap()
    }

    fn check(validator: &Validator, event: &Event) -> Result<(), Fault> {
        validator.check(&ParsedData::new(event))
    }

    fn refusal(validator: &Validator, ty: &str, more: &Value) -> Option<String> {
        check(validator, &event(ty, more)).err().map(|fault| fault.detail)
    }

    #[test]
    fn the_first_rule_that_matches_covers_an_event() {
        let validator = validator(Unknown::Accept);
        let refused = |ty, more| refusal(&validator, ty, &more);
        assert_eq!(refused("order.x", json!({"data": {"total": 1, "a": 2}})), None);
        let expected = "schema order.json refuses the data: required";
        assert_eq!(refused("order.x", json!({"data": {}})).as_deref(), Some(expected));
        let expected = "schema any.json refuses /a: maximum";
        assert_eq!(refused("a", json!({"data": {"a": 4111}})).as_deref(), Some(expected));
    }

    #[test]
    fn a_dataschema_covers_what_no_type_does() {
        let validator = validator(Unknown::Reject);
        let refused = |ty, more| refusal(&validator, ty, &more);
        let schema = "https://example.com/order";
        assert_eq!(refused("b", json!({"dataschema": schema, "data": {"total": 1}})), None);
        let expected = "schema order.json refuses the data: required";
        assert_eq!(refused("b", json!({"dataschema": schema, "data": {}})).as_deref(), Some(expected));
        let expected = "no schema covers type b, and such events are rejected";
        assert_eq!(refused("b", json!({"dataschema": "urn:x", "data": {}})).as_deref(), Some(expected));
    }

    #[test]
    fn what_is_uncovered_is_accepted_or_rejected_as_the_pipeline_says() {
        assert!(check(&validator(Unknown::Accept), &event("b", &json!({}))).is_ok());
        let fault = check(&validator(Unknown::Reject), &event("b", &json!({}))).unwrap_err();
        assert_eq!((fault.code, fault.again), (Code::UnknownType, Again::Never(Reason::UnknownType)));
    }

    #[test]
    fn an_event_without_json_data_is_refused_by_the_schema_that_covers_it() {
        let validator = validator(Unknown::Accept);
        for more in [json!({}), json!({"data_base64": "AAE=", "datacontenttype": "image/png"})] {
            let fault = check(&validator, &event("order.x", &more)).unwrap_err();
            assert!(fault.detail.starts_with("schema order.json refuses the event: "), "{}", fault.detail);
            assert_eq!(
                (fault.stage, fault.code, fault.whose),
                (Stage::Validate, Code::Schema, Whose::Publisher)
            );
            assert_eq!(fault.again, Again::Never(Reason::Schema));
        }
        let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let text =
            format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"order.x","data":{nested}}}"#);
        let refused = Event::from_structured(&text.into())
            .map(|event| check(&validator, &event).map_err(|fault| fault.code));
        assert!(matches!(refused, Err(_) | Ok(Err(Code::Schema))));
    }
}
