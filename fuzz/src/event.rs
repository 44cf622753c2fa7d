//! A message that somebody publishes: an event, or none for a reason that can be told. What is an event stays the same
//! event through every form in which it leaves or is stored.

use bytes::Bytes;
use hookmill::model::Event;
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
        structured.chain([binary.as_bytes().to_vec(), b"\n\n".to_vec()]).collect()
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
        let event = match Event::parse(&headers, &body) {
            Ok(event) => event,
            Err(error) => {
                let text = error.to_string();
                let clear = !text.is_empty() && text.len() < 1024 && !text.contains(char::is_control);
                return if clear { Ok(text) } else { Err(format!("an unclear refusal: {text:?}")) };
            }
        };
        let structured = Event::from_structured(&event.to_structured());
        let (headers, body) = event.to_nats_binary();
        let binary = Event::parse(&headers, &body);
        let (headers, body) = event.to_stored();
        let stored = Event::from_stored(&headers, &body);
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

fn message(input: &[u8]) -> (Vec<(String, String)>, Bytes) {
    let end = input.windows(2).position(|window| window == b"\n\n").unwrap_or(input.len());
    let body = Bytes::copy_from_slice(input.get(end + 2..).unwrap_or_default());
    let text = String::from_utf8_lossy(&input[..end]);
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.to_owned()));
    (text.lines().filter_map(header).collect(), body)
}
