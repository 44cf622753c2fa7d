//! A message that somebody publishes: an event, or none for a reason that can be told. What is an event stays the same
//! event through every form in which it leaves or is stored.

use bytes::Bytes;
use hookmill::model::Event;
use hookmill::model::event::{Mend, Reading, STRUCTURED_CONTENT_TYPE};
use hookmill_tests::events;
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::mutate;
use crate::run::{TAKEN, Target};

/// The target. An input is the headers, a line each with a colon, then an empty line, then the body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message;

const STRUCTURED: &str = "Content-Type:application/cloudevents+json\n\n";

impl Target for Message {
    fn name(&self) -> &'static str {
        "event"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let structured = [
            events::order_json(1),
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"AAEC/w=="}"#.to_owned(),
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"2026-01-01T00:00:00Z","n":-5,"b":true,"datacontenttype":"text/plain","dataschema":"urn:x","data":"\ud83d\ude00"}"#.to_owned(),
            r#"{"data":[1e400,-0.0,{"a":null}],"type":"t","source":"/s","id":"\u0031","specversion":"1.0"}"#.to_owned(),
        ];
        let binary = "ce-specversion:1.0\nce-id:1\nce-source:/s\nce-type:t\nce-subject:%C3%BC%20%22x%22\n\
                      Content-Type:application/json\n\n{\"a\":1}";
        let structured = structured.iter().map(|event| format!("{STRUCTURED}{event}").into_bytes());
        let breaches = [
            "ce-specversion:1.0\nce-id:1\nce-source:/a%20b\nce-type:t\nce-subject:\nce-dataschema:urn:x#y\n\n",
            "Content-Type:text/plain\ncontentType:\"application/cloudevents+json\"\n\n\
             {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",\"txId\":1,\"txid\":null,\"dataschema\":\"#\"}",
        ];
        let breaches = breaches.iter().map(|text| text.as_bytes().to_vec());
        structured.chain(breaches).chain([binary.as_bytes().to_vec(), b"\n\n".to_vec()]).collect()
    }

    fn next(&self, random: &mut StdRng, corpus: &[Vec<u8>]) -> Vec<u8> {
        let input = mutate::pick(random, corpus);
        if random.random_range(0..20) == 0 {
            // Deeper than any event has a reason to be.
            let depth = random.random_range(1..5_000);
            let (open, close) = if random.random() { ("[", "]") } else { ("{\"a\":", "}") };
            let data = [open.repeat(depth), "1".to_owned(), close.repeat(depth)].concat();
            let event = format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{data}}}"#);
            return format!("{STRUCTURED}{event}").into_bytes();
        }
        let other = mutate::pick(random, corpus);
        mutate::bytes(random, input, other)
    }

    fn take(&self, input: &[u8]) -> Result<String, String> {
        let (headers, body) = message(input);
        let strict = Event::parse(&headers, &body, Reading::Strict);
        let tolerant = Event::parse(&headers, &body, Reading::Tolerant);
        let (event, mends) = match (strict, tolerant) {
            (Ok(strict), Ok(tolerant)) if strict == tolerant => tolerant,
            (Ok(_), _) => return Err("an event that the tolerant reading reads otherwise".to_owned()),
            (Err(_), Ok(tolerant)) => tolerant,
            (Err(strict), Err(tolerant)) => {
                clear(&strict.to_string())?;
                return clear(&tolerant.to_string());
            }
        };
        // A fragment in dataschema is what the tolerant reading lets through.
        let plain = Event { dataschema: None, structured: None, ..event.clone() };
        let event = if mends.names().contains(&Mend::DataschemaFragment.as_str()) { plain } else { event };
        let strictly = |(headers, body): (Vec<_>, Bytes)| {
            let read = Event::parse(&headers, &body, Reading::Strict);
            read.map(|(event, _)| event).map_err(|error| error.to_string())
        };
        let structured = [("Content-Type".to_owned(), STRUCTURED_CONTENT_TYPE.to_owned())].to_vec();
        let structured = strictly((structured, event.to_structured()));
        let binary = strictly(event.to_nats_binary());
        let (headers, body) = event.to_stored();
        let stored = Event::from_stored(&headers, &body).map_err(|error| error.to_string());
        for (form, again) in [("structured", structured), ("binary", binary), ("stored", stored)] {
            match again {
                Err(error) => return Err(format!("an event that is none any more, {form}: {error}")),
                Ok(again)
                    if (&again.id, &again.source, &again.ty) != (&event.id, &event.source, &event.ty) =>
                {
                    return Err(format!("an event that is another one, {form}"));
                }
                Ok(_) => {}
            }
        }
        Ok(TAKEN.to_owned())
    }
}

/// A refusal that people can read.
fn clear(text: &str) -> Result<String, String> {
    let clear = !text.is_empty() && text.len() < 3_072 && !text.contains(char::is_control);
    if clear { Ok(text.to_owned()) } else { Err(format!("an unclear refusal: {text:?}")) }
}

fn message(input: &[u8]) -> (Vec<(String, String)>, Bytes) {
    let end = input.windows(2).position(|window| window == b"\n\n").unwrap_or(input.len());
    let body = Bytes::copy_from_slice(input.get(end + 2..).unwrap_or_default());
    let text = String::from_utf8_lossy(&input[..end]);
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()));
    (text.lines().filter_map(header).collect(), body)
}
