//! Takes values out of JSON payloads, or covers them, by JSON pointer. See `docs/transforms/redact.md`.

mod rules;

use hookmill_transform::{Event, Failure, Pointer, Transform, Verdict, export_transform};
use serde::Deserialize;

use crate::rules::{Action, Mask, Rules};

/// What the pipeline file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is taken out.
    #[serde(default)]
    remove: Vec<Pointer>,
    /// What is covered.
    #[serde(default)]
    mask: Vec<Pointer>,
    /// What covers it.
    #[serde(default = "stars")]
    mask_text: String,
    /// How many characters at the end of a covered text stay readable, if the text is more than twice as long.
    #[serde(default)]
    keep_last: usize,
}

fn stars() -> String {
    "***".to_owned()
}

/// The transform.
#[derive(Debug)]
pub struct Redact {
    rules: Rules,
    mask: Mask,
}

impl Transform for Redact {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, String> {
        if settings.remove.is_empty() && settings.mask.is_empty() {
            return Err(
                "there is nothing to do: give remove, mask, or both, a list of JSON pointers".to_owned()
            );
        }
        let mut rules = Rules::default();
        for (name, pointers, action) in
            [("remove", &settings.remove, Action::Remove), ("mask", &settings.mask, Action::Mask)]
        {
            for (index, pointer) in pointers.iter().enumerate() {
                if pointer.tokens().is_empty() {
                    return Err(format!(
                        "{name}[{index}]: \"\" is the whole payload; point at something in it"
                    ));
                }
                rules.add(pointer.tokens(), action);
            }
        }
        Ok(Self { rules, mask: Mask { text: settings.mask_text, keep_last: settings.keep_last } })
    }

    fn apply(&mut self, mut event: Event) -> Result<Verdict, Failure> {
        if event.data.is_none() {
            return Ok(Verdict::Keep);
        }
        let redacted = self.rules.apply(event.json_text()?, &self.mask);
        match redacted.map_err(|error| Failure::Rejected(format!("the data is not valid JSON: {error}")))? {
            Some(redacted) => {
                event.data = Some(redacted.into_bytes());
                Ok(event.into())
            }
            None => Ok(Verdict::Keep),
        }
    }
}

export_transform!(Redact, metadata = "../metadata.json");

#[cfg(test)]
mod tests {
    use hookmill_transform::serde_json::{Value, json};
    use hookmill_transform::testing::configure;

    use super::*;

    fn event(data: &str) -> Event {
        let mut event = Event::new("1", "/shop", "order");
        event.data = Some(data.as_bytes().to_vec());
        event
    }

    /// The payload after the transform; none if it was kept.
    fn redacted(settings: Value, data: &str) -> Option<String> {
        let mut redact: Redact = configure(settings).expect("the settings are right");
        match redact.apply(event(data)).expect("a verdict") {
            Verdict::Replace(output) => Some(String::from_utf8(output.event.data.unwrap()).unwrap()),
            Verdict::Keep => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_are_removed_and_masked_and_all_else_stays_as_it_was() {
        let data = r#"{"z":1.50,"email":"a@b.c","card":{"number":"4111111111111111","exp":"12/30"},"big":123456789012345678901234567890,"e":1e+400,"a":"ü"}"#;
        let settings = json!({"remove": ["/email"], "mask": ["/card/number"], "keep_last": 4});
        let expected = r#"{"z":1.50,"card":{"number":"***1111","exp":"12/30"},"big":123456789012345678901234567890,"e":1e+400,"a":"ü"}"#;
        assert_eq!(redacted(settings, data).as_deref(), Some(expected));
    }

    #[test]
    fn what_no_rule_touches_keeps_its_bytes() {
        let data = "{ \"a\" : [ 1E4, \"\\u00fc\" ], \"b\\n\":1,\"c\":{\"d\":1, \"e\":{ \"f\" : 1.0 }} }";
        let expected = "{\"a\":[ 1E4, \"\\u00fc\" ],\"b\\n\":1,\"c\":{\"e\":{ \"f\" : 1.0 }}}";
        assert_eq!(redacted(json!({"remove": ["/c/d"]}), data).as_deref(), Some(expected));
        let deep = format!("{{\"a\":1,\"deep\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let expected = deep.replacen('1', "\"***\"", 1);
        assert_eq!(redacted(json!({"mask": ["/a"]}), &deep), Some(expected));
    }

    #[test]
    fn half_a_surrogate_pair_is_covered_too() {
        let settings = json!({"mask": ["/a"], "keep_last": 1});
        assert_eq!(redacted(settings, r#"{"a":"12345\ud800"}"#).as_deref(), Some(r#"{"a":"***"}"#));
    }

    #[test]
    fn whatever_is_masked_is_covered_be_it_text_or_not_and_null_stays_null() {
        let data = r#"{"a":{"text":"secret","number":42,"yes":true,"list":[1],"object":{"k":"v"},"none":null,"short":"12345678"}}"#;
        let expected = r#"{"a":{"text":"[x]","number":"[x]","yes":"[x]","list":"[x]","object":"[x]","none":null,"short":"[x]"}}"#;
        let settings = json!({"mask": ["/a/*"], "mask_text": "[x]", "keep_last": 4});
        assert_eq!(redacted(settings, data).as_deref(), Some(expected));
    }

    #[test]
    fn a_star_stands_for_every_element_and_every_member() {
        let data = r#"{"lines":[{"sku":"a","price":1},{"sku":"b","price":2}],"people":{"x":{"tel":1},"y":{"tel":2}}}"#;
        let settings = json!({"remove": ["/lines/*/price", "/people/*/tel"]});
        let expected = r#"{"lines":[{"sku":"a"},{"sku":"b"}],"people":{"x":{},"y":{}}}"#;
        assert_eq!(redacted(settings, data).as_deref(), Some(expected));
    }

    #[test]
    fn pointers_mean_the_payload_as_it_came_whatever_their_order() {
        let settings = json!({"remove": ["/list/0", "/list/2"], "mask": ["/list/1", "/list/3"]});
        assert_eq!(
            redacted(settings, r#"{"list":[10,11,12,13]}"#).as_deref(),
            Some(r#"{"list":["***","***"]}"#)
        );
        let settings = json!({"mask": ["/a/b"], "remove": ["/a"]});
        assert_eq!(redacted(settings, r#"{"a":{"b":1},"c":2}"#).as_deref(), Some(r#"{"c":2}"#));
    }

    #[test]
    fn an_event_that_has_nothing_to_hide_is_kept() {
        let settings = || json!({"remove": ["/email", "/list/7", "/text/deep"], "mask": ["/none"]});
        assert_eq!(redacted(settings(), r#"{"list":[1],"text":"t","none":null,"colon":":"}"#), None);
        let mut redact: Redact = configure(settings()).unwrap();
        assert_eq!(redact.apply(Event::new("1", "/s", "t")), Ok(Verdict::Keep));
    }

    #[test]
    fn a_member_that_came_twice_cannot_hide_from_the_rules() {
        let data =
            r#"{"card":{"number":"4111"},"c\u0061rd":{"exp":"12/30","number":1},"card":[{"number":2}]}"#;
        let expected =
            r#"{"card":{"number":"***"},"card":{"exp":"12/30","number":"***"},"card":[{"number":2}]}"#;
        let settings = json!({"mask": ["/card/number"]});
        assert_eq!(redacted(settings, data).as_deref(), Some(expected));
    }

    #[test]
    fn what_cannot_be_read_is_rejected_and_never_passed_on() {
        let mut redact: Redact = configure(json!({"remove": ["/a"]})).unwrap();
        let mut text = event("a");
        text.datacontenttype = Some("text/plain".to_owned());
        assert_eq!(redact.apply(text), Err(Failure::rejected("the data is text/plain, not JSON")));
        let broken = redact.apply(event("{")).unwrap_err();
        let expected = "the data is not valid JSON: EOF while parsing an object at line 1 column 1";
        assert_eq!(broken, Failure::rejected(expected));
    }

    #[test]
    fn wrong_settings_are_explained() {
        for (settings, message) in [
            (json!({}), "there is nothing to do: give remove, mask, or both, a list of JSON pointers"),
            (
                json!({"remove": ["email"]}),
                "remove[0]: \"email\" is no JSON pointer: it must start with /, as in \"/email\"",
            ),
            (json!({"mask": ["/a", ""]}), "mask[1]: \"\" is the whole payload; point at something in it"),
            (
                json!({"removes": ["/a"]}),
                "removes: unknown field `removes`, expected one of `remove`, `mask`, `mask_text`, `keep_last`",
            ),
            (json!({"remove": "/a"}), "remove: invalid type: string \"/a\", expected a sequence"),
            (
                json!({"mask": ["/a"], "keep_last": -1}),
                "keep_last: invalid value: integer `-1`, expected usize",
            ),
        ] {
            assert_eq!(configure::<Redact>(settings).unwrap_err(), message);
        }
    }
}
