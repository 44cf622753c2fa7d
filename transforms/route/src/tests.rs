use hookmill_transform::serde_json::{Value, json};
use hookmill_transform::testing::configure;

use super::*;

fn event() -> Event {
    let mut event = Event::new("1", "/shop", "com.shop.order");
    event.subject = Some("ord_1".to_owned());
    event.set_extension("region", "eu");
    event.set_extension("priority", 3);
    event.set_json(&json!({"total": 9.50, "kind": "gift", "lines": [{"sku": "a"}], "note": null})).unwrap();
    event
}

#[expect(clippy::needless_pass_by_value, reason = "json!(…) is a value, and reads best without an ampersand")]
fn route(rules: Value) -> Route {
    configure(json!({ "rules": rules })).expect("the settings are right")
}

fn holds(when: &Value) -> bool {
    route(json!([{"when": when, "drop": "yes"}])).apply(event()) == Ok(Verdict::Drop("yes".to_owned()))
}

fn error(settings: Value) -> String {
    configure::<Route>(settings).unwrap_err()
}

#[test]
fn each_test_holds_when_it_should_and_only_then() {
    for (when, expected) in [
        (json!({"pointer": "/total", "less_than": 10}), true),
        (json!({"pointer": "/total", "less_than": 9.5}), false),
        (json!({"pointer": "/total", "at_most": 9.5}), true),
        (json!({"pointer": "/total", "greater_than": 9.4999}), true),
        (json!({"pointer": "/total", "at_least": 10}), false),
        (json!({"pointer": "/total", "at_least": 9, "less_than": 9.2}), false),
        (json!({"pointer": "/kind", "less_than": 10}), false),
        (json!({"pointer": "/kind", "equals": "gift"}), true),
        (json!({"pointer": "/kind", "not_equals": "gift"}), false),
        (json!({"pointer": "/kind", "one_of": ["sale", "gift"]}), true),
        (json!({"pointer": "/kind", "prefix": "gi"}), true),
        (json!({"pointer": "/total", "prefix": "9"}), false),
        (json!({"pointer": "/total", "equals": 9.5}), true),
        (json!({"pointer": "/lines", "equals": [{"sku": "a"}]}), true),
        (json!({"pointer": "/lines/0/sku", "exists": true}), true),
        (json!({"pointer": "/lines/1", "exists": true}), false),
        (json!({"pointer": "/lines/1", "exists": false}), true),
        (json!({"pointer": "/note", "exists": true}), true),
        (json!({"pointer": "/note", "equals": null}), true),
        (json!({"pointer": "/none", "equals": null}), false),
        (json!({"pointer": "/none", "not_equals": 1}), true),
        (json!({"pointer": "/none", "less_than": 1}), false),
        (json!({"attribute": "region", "equals": "eu"}), true),
        (json!({"attribute": "type", "prefix": "com.shop."}), true),
        (json!({"attribute": "priority", "greater_than": 2}), true),
        (json!({"attribute": "time", "exists": true}), false),
        (
            json!({"all": [{"attribute": "region", "equals": "eu"}, {"pointer": "/kind", "equals": "sale"}]}),
            false,
        ),
        (
            json!({"any": [{"attribute": "region", "equals": "us"}, {"pointer": "/kind", "equals": "gift"}]}),
            true,
        ),
        (json!({"not": {"attribute": "region", "equals": "us"}}), true),
    ] {
        assert_eq!(holds(&when), expected, "{when}");
    }
}

#[test]
fn the_first_rule_that_holds_wins() {
    let mut route = route(json!([
        {"when": {"attribute": "region", "equals": "us"}, "subject": "us"},
        {"when": {"attribute": "region", "equals": "eu"}, "subject": "eu", "type": "com.shop.eu"},
        {"subject": "elsewhere"},
    ]));
    let expected = Event { subject: Some("eu".into()), ty: "com.shop.eu".into(), ..event() };
    assert_eq!(route.apply(event()), Ok(expected.into()));
}

#[test]
fn rules_that_continue_add_up_and_the_later_one_wins() {
    let mut route = route(json!([
        {"headers": {"X-A": "1", "x-b": "1"}, "subject": "first", "continue": true},
        {"when": {"attribute": "subject", "equals": "ord_1"}, "headers": {"x-a": "2"}, "type": "t", "continue": true},
        {"when": {"attribute": "type", "equals": "t"}, "drop": "the rules see the event as it came"},
    ]));
    let expected = Event { subject: Some("first".into()), ty: "t".into(), ..event() };
    assert_eq!(route.apply(event()), Ok(Output::from(expected).header("x-b", "1").header("x-a", "2").into()));
}

#[test]
fn a_drop_after_rules_that_continue_drops() {
    let mut route = route(json!([{"subject": "x", "continue": true}, {"drop": "all of them"}]));
    assert_eq!(route.apply(event()), Ok(Verdict::Drop("all of them".to_owned())));
}

#[test]
fn an_event_that_no_rule_changes_is_kept() {
    let rules = json!([{"when": {"pointer": "/total", "greater_than": 10}, "drop": "large"}]);
    assert_eq!(route(rules).apply(event()), Ok(Verdict::Keep));
    assert_eq!(
        route(json!([{"subject": "ord_1", "type": "com.shop.order"}])).apply(event()),
        Ok(Verdict::Keep)
    );
}

#[test]
fn data_that_is_no_json_is_rejected_only_if_a_rule_looks_into_it() {
    let rules = json!([
        {"when": {"attribute": "region", "equals": "us"}, "drop": "us"},
        {"when": {"pointer": "/a", "exists": true}, "drop": "a"},
    ]);
    let mut text = event();
    text.datacontenttype = Some("text/plain".to_owned());
    let refused = Err(Failure::rejected("the data is text/plain, not JSON"));
    assert_eq!(route(rules.clone()).apply(text.clone()), refused);
    text.set_extension("region", "us");
    assert_eq!(route(rules.clone()).apply(text), Ok(Verdict::Drop("us".to_owned())));
    assert_eq!(route(rules).apply(Event::new("1", "/s", "t")), Ok(Verdict::Keep));
    let whole = json!([{"when": {"pointer": "", "exists": true}, "drop": "data"}]);
    assert_eq!(route(whole).apply(Event::new("1", "/s", "t")), Ok(Verdict::Keep));
}

#[test]
fn wrong_rules_are_explained_at_their_place() {
    let x = json!({"attribute": "x", "exists": true});
    for (rule, message) in [
        (json!({"when": x}), "rules[0]: does nothing; give drop, headers, subject or type"),
        (
            json!({"drop": "x", "subject": "y"}),
            "rules[0]: has drop, which goes with no headers, subject, type or continue",
        ),
        (json!({"drop": ""}), "rules[0].drop: is empty"),
        (json!({"subject": ""}), "rules[0].subject: is empty"),
        (
            json!({"headers": {"webhook-id": "x"}}),
            "rules[0].headers.\"webhook-id\": can't be set by a transform (nor can webhook-*, ce-*, host, \
             connection, content-*, transfer-encoding)",
        ),
        (json!({"headers": {"x-a": 1}}), "rules[0].headers.\"x-a\": is no text; put the value in quotes"),
        (
            json!({"headers": {"x-a": "a\nb"}}),
            "rules[0].headers.\"x-a\": has a value with a control character, such as a line break",
        ),
        (
            json!({"when": {"pointer": "/a", "attribute": "x", "exists": true}, "drop": "x"}),
            "rules[0].when: needs exactly one of pointer, attribute, all, any and not; the tests go with the first two",
        ),
        (
            json!({"when": {"pointer": "/a"}, "drop": "x"}),
            "rules[0].when: tests nothing; give one of exists, equals, not_equals, one_of, less_than, at_most, \
             greater_than, at_least and prefix",
        ),
        (
            json!({"when": {"all": [{"any": []}]}, "drop": "x"}),
            "rules[0].when.all[0].any: is empty; give at least one condition",
        ),
        (
            json!({"when": {"attribute": "X", "exists": true}, "drop": "x"}),
            "rules[0].when.attribute: \"X\" is no attribute's name (lower-case letters and digits)",
        ),
        (
            json!({"when": {"not": {"pointer": "a", "exists": true}}, "drop": "x"}),
            "rules[0].when.not.pointer: \"a\" is no JSON pointer: it must start with /, as in \"/a\"",
        ),
        (
            json!({"when": {"pointer": "/a", "less_than": "10"}, "drop": "x"}),
            "rules[0].when.less_than: invalid type: string \"10\", expected a JSON number",
        ),
        (
            json!({"drops": "x"}),
            "rules[0].drops: unknown field `drops`, expected one of `when`, `drop`, `headers`, `subject`, `type`, \
             `continue`",
        ),
    ] {
        assert_eq!(error(json!({ "rules": [rule] })), message);
    }
    assert_eq!(error(json!({"rules": []})), "rules is empty; give at least one");
    let misspelt = error(json!({"rules": [{"when": {"pointer": "/a", "lessthan": 10}, "drop": "x"}]}));
    assert!(
        misspelt.starts_with("rules[0].when.lessthan: unknown field `lessthan`, expected one of"),
        "{misspelt}"
    );
}
