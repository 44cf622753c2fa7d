use hookmill_transform::serde_json::{Value, json};
use hookmill_transform::testing::configure;

use super::*;

fn event(data: &str) -> Event {
    let mut event = Event::new("1", "/shop", "order");
    event.subject = Some("ord_1".to_owned());
    event.dataschema = Some("https://example.com/old".to_owned());
    event.set_extension("priority", 3);
    event.set_extension("test", true);
    event.data = Some(data.as_bytes().to_vec());
    event
}

fn reshaped(settings: Value, data: &str) -> Result<String, Failure> {
    let mut reshape: Reshape = configure(settings).expect("the settings are right");
    match reshape.apply(event(data))? {
        Verdict::Replace(output) => Ok(String::from_utf8(output.event.data.unwrap()).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_payload_is_built_from_pointers_attributes_and_constants() {
    let settings = json!({"data": {
        "/order/id": {"from": "/id"},
        "/order/total": {"from": "/sum/0"},
        "/kind": {"value": "order"},
        "/list": {"value": [1, null]},
        "/nothing": {"value": null},
        "/about": {"attribute": "subject"},
        "/priority": {"attribute": "priority"},
        "/test": {"attribute": "test"},
        "/note": {"from": "/note", "default": ""},
    }});
    let data = r#"{"id":"a","sum":[12345678901234567890.10],"note":null,"secret":1}"#;
    let expected = json!({
        "order": {"id": "a", "total": 0}, "kind": "order", "list": [1, null], "nothing": null, "about": "ord_1",
        "priority": 3, "test": true, "note": null
    });
    let mut new: Value = reshaped(settings, data).unwrap().parse().unwrap();
    assert_eq!(new["order"]["total"].to_string(), "12345678901234567890.10");
    new["order"]["total"] = json!(0);
    assert_eq!(new, expected);
}

#[test]
fn what_is_missing_is_rejected_null_or_left_out_as_the_settings_say() {
    let settings =
        |missing: &str| json!({"missing": missing, "data": {"/a": {"from": "/x"}, "/b": {"value": 1}}});
    assert_eq!(
        reshaped(settings("reject"), "{}"),
        Err(Failure::rejected("the payload has nothing at /x, which /a needs"))
    );
    assert_eq!(reshaped(settings("null"), "{}").as_deref(), Ok(r#"{"a":null,"b":1}"#));
    assert_eq!(reshaped(settings("omit"), "{}").as_deref(), Ok(r#"{"b":1}"#));
    let own = json!({"missing": "null", "data": {
        "/a": {"from": "/x", "missing": "omit"}, "/b": {"from": "/x", "default": [7]}, "/c": {"attribute": "none"}
    }});
    assert_eq!(reshaped(own, "{}").as_deref(), Ok(r#"{"b":[7],"c":null}"#));
    let attribute = json!({"data": {"/a": {"attribute": "none"}}});
    let expected = Failure::rejected("the event has no attribute none, which /a needs");
    assert_eq!(reshaped(attribute, "{}"), Err(expected));
}

#[test]
fn the_payload_as_it_came_can_be_the_start() {
    let settings = json!({"start": "payload", "data": {"/z/copy": {"from": "/a"}, "/list/-": {"value": 2}}});
    let expected = r#"{"a":1.0,"list":[1,2],"z":{"copy":1.0}}"#;
    assert_eq!(reshaped(settings.clone(), r#"{"a":1.0,"list":[1]}"#).as_deref(), Ok(expected));
    let expected = Failure::rejected("the payload has no room for /z/copy: something else is on the way");
    assert_eq!(reshaped(settings, r#"{"a":1,"z":"text","list":[]}"#), Err(expected));
}

#[test]
fn a_part_of_the_payload_can_become_the_whole() {
    let settings = json!({"data": {"": {"from": "/order"}}});
    assert_eq!(reshaped(settings, r#"{"order":[1]}"#).as_deref(), Ok("[1]"));
}

#[test]
fn the_old_schema_goes_and_a_new_one_can_be_given() {
    let dataschema = |settings: Value| {
        let mut reshape: Reshape = configure(settings).unwrap();
        let Ok(Verdict::Replace(output)) = reshape.apply(event("{}")) else { panic!("a new event") };
        output.event.dataschema
    };
    let data = json!({"/a": {"value": 1}});
    assert_eq!(dataschema(json!({"data": data})), None);
    let new = "https://example.com/new";
    assert_eq!(dataschema(json!({"data": data, "dataschema": new})).as_deref(), Some(new));
}

#[test]
fn data_that_is_no_json_is_rejected_only_if_it_is_read() {
    let mut text = event("text");
    text.datacontenttype = Some("text/plain".to_owned());
    let mut reads: Reshape = configure(json!({"data": {"/a": {"from": "/a"}}})).unwrap();
    assert_eq!(reads.apply(text.clone()), Err(Failure::rejected("the data is text/plain, not JSON")));
    let mut constant: Reshape = configure(json!({"data": {"/id": {"attribute": "id"}}})).unwrap();
    let Ok(Verdict::Replace(output)) = constant.apply(text) else { panic!("a new event") };
    assert_eq!(output.event.datacontenttype.as_deref(), Some("application/json"));
    assert_eq!(output.event.data.as_deref(), Some(&br#"{"id":"1"}"#[..]));
}

#[test]
fn wrong_settings_are_explained() {
    for (settings, message) in [
        (json!({}), "missing field `data`"),
        (
            json!({"data": {}}),
            "data is empty; name at least one place, as in data = { \"/id\" = { from = \"/id\" } }",
        ),
        (
            json!({"data": {"a": {"value": 1}}}),
            "data: \"a\" is no JSON pointer: it must start with /, as in \"/a\"",
        ),
        (
            json!({"data": {"/a": "/b"}}),
            "data.\"/a\": is no table; write { from = \"/pointer\" }, { attribute = \"name\" } or { value = … }",
        ),
        (
            json!({"data": {"/a": {"from": "b"}}}),
            "data.\"/a\".from: \"b\" is no JSON pointer: it must start with /, as in \"/b\"",
        ),
        (
            json!({"data": {"/a": {"form": "/b"}}}),
            "data.\"/a\".form: unknown field `form`, expected one of `from`, `attribute`, `value`, `default`, `missing`",
        ),
        (
            json!({"data": {"/a": {"from": "/b", "value": 1}}}),
            "data.\"/a\": has not exactly one of from, attribute and value",
        ),
        (json!({"data": {"/a": {}}}), "data.\"/a\": has not exactly one of from, attribute and value"),
        (
            json!({"data": {"/a": {"from": "/b", "default": 1, "missing": "null"}}}),
            "data.\"/a\": has both default and missing; one of them is enough",
        ),
        (
            json!({"data": {"/a": {"value": 1, "default": 2}}}),
            "data.\"/a\": has a value, which is never missing; take default and missing away",
        ),
        (
            json!({"data": {"/a": {"attribute": "dataSchema"}}}),
            "data.\"/a\": attribute \"dataSchema\" is no attribute's name (lower-case letters and digits)",
        ),
        (
            json!({"data": {"/a": {"value": 1}, "/a/b": {"value": 1}}}),
            "data: \"/a/b\" lies inside \"/a\"; give only one of them",
        ),
        (
            json!({"data": {"/a": {"from": "/b", "missing": "drop"}}}),
            "data.\"/a\".missing: unknown variant `drop`, expected one of `reject`, `null`, `omit`",
        ),
        (
            json!({"data": {"/a": {"value": 1}}, "start": "all"}),
            "start: unknown variant `all`, expected `empty` or `payload`",
        ),
    ] {
        assert_eq!(configure::<Reshape>(settings).unwrap_err(), message);
    }
}
