//! Deliveries held against what a client was told to say, and against the message that it has published for it.

use std::collections::BTreeMap;

use async_nats::jetstream::message::StreamMessage;
use data_encoding::BASE64;
use hookmill_tests::Request;
use serde_json::Value;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Form of an event on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// The event as JSON, with a `Content-Type`.
    Structured,
    /// The event as JSON, without headers.
    Bare,
    /// Attributes as headers.
    Binary,
}

/// One kind of data, as `tests/data/foreign-events.json` has it: `json`, `text`, `base64` or none of them.
pub struct Kind<'a>(pub &'a Value);

impl Kind<'_> {
    pub fn name(&self) -> &str {
        self.0["kind"].as_str().expect("it has a name")
    }

    pub fn content_type(&self) -> Option<&str> {
        self.0["datacontenttype"].as_str()
    }

    pub fn json(&self) -> Option<&Value> {
        self.0.get("json")
    }

    pub fn text(&self) -> Option<&str> {
        self.0["text"].as_str()
    }

    pub fn bytes(&self) -> Option<Vec<u8>> {
        self.0["base64"].as_str().map(|text| BASE64.decode(text.as_bytes()).expect("it is base64"))
    }

    /// Whether these bytes say what the kind does.
    fn is_said_by(&self, data: Option<&[u8]>) -> bool {
        match (self.json(), self.text(), self.bytes()) {
            (Some(json), _, _) => {
                data.and_then(|data| serde_json::from_slice(data).ok()).as_ref() == Some(json)
            }
            (_, Some(text), _) => data == Some(text.as_bytes()),
            (_, _, bytes) => data == bytes.as_deref(),
        }
    }
}

/// Attributes that every client gives every event, beside its id and its content type.
const ATTRIBUTES: [(&str, &str); 12] = [
    ("specversion", "1.0"),
    ("source", "/shop/foreign"),
    ("type", "com.shop.order.created"),
    ("subject", "Straße 1, 100 %"),
    ("time", "2026-11-24T03:00:00.25Z"),
    ("dataschema", "https://example.com/schema"),
    ("region", "eu"),
    ("count", "5"),
    ("urgent", "true"),
    ("link", "https://example.com/a?b=c"),
    ("seen", "2026-11-24T03:00:00.25Z"),
    ("blob", "AAEC"),
];

/// Names and values of an event's attributes, each value as text.
type Attributes = BTreeMap<String, String>;

/// A message as the source stream holds it.
pub struct Sent {
    pub id: String,
    pub wire: Wire,
    /// Names in lower case.
    headers: Attributes,
    payload: Vec<u8>,
}

impl Sent {
    pub fn new(message: &StreamMessage) -> Self {
        let header = |(name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>)| {
            (name.to_string().to_ascii_lowercase(), values[0].to_string())
        };
        let headers: Attributes = message.headers.iter().map(header).collect();
        let wire = match (headers.get("ce-specversion"), headers.get("content-type")) {
            (Some(_), _) => Wire::Binary,
            (None, Some(_)) => Wire::Structured,
            (None, None) => Wire::Bare,
        };
        let payload = message.payload.to_vec();
        let id = match headers.get("ce-id") {
            Some(id) => decoded(id),
            None => Members::of(&payload).attributes()["id"].clone(),
        };
        Self { id, wire, headers, payload }
    }

    /// The attribute as the client has written it; in binary mode perhaps percent-encoded.
    fn attribute(&self, name: &str) -> Option<String> {
        match (self.wire, name) {
            (Wire::Binary, "datacontenttype") => {
                self.headers.get("ce-datacontenttype").or_else(|| self.headers.get("content-type")).cloned()
            }
            (Wire::Binary, name) => self.headers.get(&format!("ce-{name}")).cloned(),
            (Wire::Structured | Wire::Bare, name) => Members::of(&self.payload).attributes().remove(name),
        }
    }

    fn data(&self) -> Option<Vec<u8>> {
        match self.wire {
            Wire::Binary => (!self.payload.is_empty()).then(|| self.payload.clone()),
            Wire::Structured | Wire::Bare => Members::of(&self.payload).data(),
        }
    }
}

/// Holds what came in both modes against what the client was told, and what it has sent.
pub fn is_faithful(kind: &Kind, sent: &Sent, structured: &Request, binary: &Request) {
    let id = &sent.id;
    let members = Members::of(&structured.body);
    let came = [members.attributes(), attributes_of_headers(binary)];

    for attributes in &came {
        let canonical: Attributes =
            attributes.iter().map(|(name, value)| (name.clone(), canonical(name, value))).collect();
        assert_eq!(canonical, told(kind, sent), "{id}: attributes");
        for (name, value) in attributes {
            let written = sent.attribute(name).unwrap_or_else(|| panic!("{id}: nobody sent {name}"));
            assert!(
                [&written, &decoded(&written)].contains(&value),
                "{id}: {name} is {value}, not {written}"
            );
        }
    }

    let data = sent.data();
    assert!(kind.is_said_by(data.as_deref()), "{id}: the client has sent {data:?}");
    assert_eq!(members.data(), data, "{id}: the data of the structured delivery, byte for byte");
    assert_eq!(
        Some(binary.body.to_vec()).filter(|body| !body.is_empty()),
        data,
        "{id}: the same in binary mode"
    );

    if sent.wire != Wire::Binary {
        assert_eq!(structured.body, sent.payload, "{id}: the event, byte for byte");
        assert_eq!((members.raw("count"), members.raw("urgent")), ("5", "true"), "{id}: keep their types");
    }
}

/// The attributes that the event must have. Some clients name a content type where they were told none.
fn told(kind: &Kind, sent: &Sent) -> Attributes {
    let content_type = kind.content_type().map(str::to_owned).or_else(|| sent.attribute("datacontenttype"));
    let own = [("id", Some(sent.id.clone())), ("datacontenttype", content_type)];
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let common = ATTRIBUTES.iter().map(|(name, value)| ((*name).to_owned(), canonical(name, value)));
    common.chain(own).collect()
}

/// The value in one form of those that clients write: a moment has several, and Python's `True` is its own.
fn canonical(name: &str, value: &str) -> String {
    match name {
        "time" | "seen" => {
            let moment = OffsetDateTime::parse(value, &Rfc3339);
            let moment = moment.unwrap_or_else(|error| panic!("{name} is {value}: {error}"));
            moment.unix_timestamp_nanos().to_string()
        }
        "urgent" => value.to_ascii_lowercase(),
        _ => value.to_owned(),
    }
}

/// The attributes of a delivery in binary mode.
fn attributes_of_headers(request: &Request) -> Attributes {
    let text = |value: &http::HeaderValue| decoded(value.to_str().expect("it is text"));
    let prefixed = request.headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix("ce-")?;
        Some((name.to_owned(), text(value)))
    });
    let content_type = request.headers.get("content-type");
    prefixed.chain(content_type.map(|value| ("datacontenttype".to_owned(), text(value)))).collect()
}

/// The id of the event that a request carries.
pub fn id_of_request(request: &Request) -> String {
    match request.header("ce-id") {
        "" => Members::of(&request.body).attributes()["id"].clone(),
        id => decoded(id),
    }
}

fn decoded(value: &str) -> String {
    percent_encoding::percent_decode_str(value).decode_utf8().expect("it is UTF-8").into_owned()
}

/// Members of an event in the JSON event format, as they are written.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    fn of(event: &'a [u8]) -> Self {
        Self(serde_json::from_slice(event).expect("a structured event is a JSON object"))
    }

    fn raw(&self, name: &str) -> &'a str {
        self.0[name].get()
    }

    fn attributes(&self) -> Attributes {
        let attributes = self.0.iter().filter(|(name, _)| !["data", "data_base64"].contains(&name.as_str()));
        attributes.map(|(name, value)| (name.clone(), text_of(value))).collect()
    }

    /// The bytes that the data is (JSON event format, 3.1.2).
    fn data(&self) -> Option<Vec<u8>> {
        if let Some(base64) = self.0.get("data_base64") {
            return Some(BASE64.decode(text_of(base64).as_bytes()).expect("it is base64"));
        }
        let data = self.0.get("data")?;
        let is_json = self.0.get("datacontenttype").is_none_or(|named| text_of(named).contains("json"));
        Some(if is_json { data.get().to_owned() } else { text_of(data) }.into_bytes())
    }
}

/// What a string says, or any other JSON as it is written.
fn text_of(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}
