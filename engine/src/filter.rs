//! Which events a subscription wants.

use crate::model::event::{NoDocument, ParsedData};
use crate::model::{Code, Fault, Reason, Stage, TypePatterns, Whose};
use crate::schema::Schema;

/// What a subscription says about the events it wants.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The types it wants.
    pub types: TypePatterns,
    /// `match`: what the data has to fulfil. An event without JSON data doesn't match.
    pub matches: Option<Schema>,
}

/// Decides for one subscription. Holds nothing but its settings.
#[derive(Clone, Debug)]
pub struct Filter {
    settings: Settings,
}

impl Filter {
    /// A filter for one subscription.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// The types that it wants.
    pub fn types(&self) -> &TypePatterns {
        &self.settings.types
    }

    /// Whether the subscription wants events of this type at all; an event that it doesn't want is *unmatched*.
    pub fn wants_type(&self, ty: &str) -> bool {
        self.settings.types.matches(ty)
    }

    /// Whether an event of a wanted type fulfils `match`; one that doesn't is *filtered*. What can't be judged is no "no".
    pub fn matches(&self, data: &ParsedData<'_>) -> Result<bool, Fault> {
        let Some(schema) = &self.settings.matches else { return Ok(true) };
        match data.document() {
            Ok(data) => Ok(schema.accepts(data)),
            Err(NoDocument::NotJson(_)) => Ok(false),
            Err(NoDocument::Unreadable(why)) => {
                let detail = format!("match can't judge the event: {why}");
                Err(Fault::never(Stage::Validate, Code::Unjudged, Whose::Publisher, Reason::Schema, detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Again, Event};

    fn filter(schema: Option<&serde_json::Value>) -> Filter {
        let matches = schema.map(|schema| Schema::from_value(schema, "match").unwrap());
        Filter::new(Settings { types: TypePatterns::new(&["order.*"]).unwrap(), matches })
    }

    fn event(data: &str) -> Event {
        let text = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"order.a"{data}}}"#);
        Event::from_structured(&text.into()).unwrap()
    }

    fn matches(filter: &Filter, event: &Event) -> bool {
        filter.matches(&ParsedData::new(event)).unwrap()
    }

    #[test]
    fn types_decide_before_any_data_is_read() {
        assert!(filter(None).wants_type("order.created"));
        assert!(!filter(None).wants_type("payment.created"));
        assert!(matches(&filter(None), &event("")));
    }

    #[test]
    fn match_looks_at_the_data_and_no_json_is_no_match() {
        let filter = filter(Some(&json!({"required": ["total"], "properties": {"total": {"minimum": 10}}})));
        assert!(matches(&filter, &event(r#","data":{"total":10}"#)));
        assert!(!matches(&filter, &event(r#","data":{"total":9}"#)));
        assert!(!matches(&filter, &event(r#","data":{}"#)));
        assert!(!matches(&filter, &event("")));
        assert!(!matches(&filter, &event(r#","datacontenttype":"text/plain","data":"x""#)));
    }

    #[test]
    fn what_match_cant_judge_is_no_no() {
        let filter = filter(Some(&json!({"type": "object"})));
        let deep = format!(",\"data\":{}1{}", "[".repeat(200), "]".repeat(200));
        for data in [r#","data":"\ud800""#, r#","data":{"a":1e400}"#, &deep] {
            let fault = filter.matches(&ParsedData::new(&event(data))).unwrap_err();
            assert_eq!((fault.code, fault.again), (Code::Unjudged, Again::Never(Reason::Schema)), "{data}");
            assert!(!fault.detail.contains("1e400"), "{}", fault.detail);
        }
        assert!(matches(&self::filter(None), &event(&deep)), "without `match` nothing has to be judged");
    }
}
