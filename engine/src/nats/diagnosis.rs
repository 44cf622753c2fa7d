//! Why a stream does not take what it should, found by a look at it: a sentence for people, with what mends it.

use async_nats::jetstream::stream::Info;

use super::Nats;
use super::streams::StreamsError;
use crate::model::subject;

impl Nats {
    /// What is wrong with a stream that did not take a message on `subject`, or (without one) could not be read. `None`:
    /// nothing that shows from outside.
    pub async fn diagnose(&self, stream: &str, subject: Option<&str>) -> Option<String> {
        match self.stream_info(stream).await {
            Ok(Some(info)) => found(stream, subject, &info),
            Ok(None) => Some(format!("stream {stream} is gone: `hookmill init` makes it anew")),
            Err(StreamsError::Api { source, .. }) => {
                Some(format!("asked about stream {stream}, nothing is learnt: {source}"))
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

fn found(stream: &str, subject: Option<&str>, info: &Info) -> Option<String> {
    let config = &info.config;
    if info.cluster.as_ref().is_some_and(|cluster| cluster.leader.as_deref().unwrap_or_default().is_empty()) {
        let majority = config.num_replicas / 2 + 1;
        return Some(format!(
            "stream {stream} has no leader: {majority} of the {} servers that keep it have to run, start those that are down",
            config.num_replicas
        ));
    }
    if config.sealed {
        return Some(format!(
            "stream {stream} is sealed, and a seal can't be broken: save what is in it (`nats stream backup`), delete it, and let `hookmill init` make it anew"
        ));
    }
    if let Some(on) = subject
        && !config.subjects.iter().any(|pattern| subject::takes(pattern, on))
    {
        return Some(format!(
            "stream {stream} does not take {on}, only {}: give it its subjects back with `nats stream edit {stream} --subjects …`",
            config.subjects.join(", ")
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn look(cluster: &serde_json::Value, config: &serde_json::Value) -> Option<String> {
        let mut whole = json!({
            "name": "S", "subjects": ["a.>"], "retention": "limits", "max_consumers": -1, "max_msgs": -1,
            "max_bytes": -1, "discard": "new", "max_age": 0, "max_msgs_per_subject": -1, "storage": "file",
            "num_replicas": 3,
        });
        for (key, value) in config.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let state = json!({
            "messages": 0, "bytes": 0, "first_seq": 0, "first_ts": "2026-01-01T00:00:00Z", "last_seq": 0,
            "last_ts": "2026-01-01T00:00:00Z", "consumer_count": 0,
        });
        let info = json!({
            "config": whole, "created": "2026-01-01T00:00:00Z", "state": state, "cluster": cluster,
        });
        found("S", Some("a.b"), &serde_json::from_value(info).unwrap())
    }

    #[test]
    fn what_is_wrong_with_a_stream_is_said_with_what_mends_it() {
        let led = json!({ "name": "c", "leader": "n1" });
        for (cluster, config, expected) in [
            (json!({ "name": "c" }), json!({}), Some("2 of the 3 servers that keep it have to run")),
            (json!({ "name": "c", "leader": "" }), json!({}), Some("has no leader")),
            (led.clone(), json!({ "sealed": true }), Some("`nats stream backup`")),
            (led.clone(), json!({ "subjects": ["b.>"] }), Some("does not take a.b, only b.>: ")),
            (led, json!({}), None),
            (serde_json::Value::Null, json!({}), None),
        ] {
            let said = look(&cluster, &config);
            match expected {
                Some(expected) => assert!(said.as_deref().unwrap().contains(expected), "{said:?}"),
                None => assert_eq!(said, None),
            }
        }
    }
}
