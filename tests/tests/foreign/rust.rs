//! The blocks of `docs/your-publisher.md` for Rust, compiled: between its comments stands what the page shows.

use std::error::Error;

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use cloudevents::{EventBuilder, EventBuilderV10};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::json;

/// Publishes the event of the page in both modes.
#[expect(clippy::items_after_statements, reason = "a block of the page has its constant with it")]
pub async fn publish(jetstream: &Context) -> Result<(), Box<dyn Error>> {
    // The first block.
    let event = EventBuilderV10::new()
        .id("1")
        .source("/shop")
        .ty("com.shop.order.created")
        .data("application/json", json!({ "total": 19.9 }))
        .build()?;
    let structured = serde_json::to_vec(&event)?;
    jetstream.publish("events.com.shop.order.created", structured.into()).await?.await?;
    // The second block.
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
    let mut headers = HeaderMap::new();
    for (name, value) in event.iter() {
        let value = utf8_percent_encode(&value.to_string(), ENCODED).to_string();
        headers.insert(format!("ce-{name}"), value);
    }
    let data = event.data().cloned().map_or(Ok(Vec::new()), Vec::try_from)?;
    jetstream.publish_with_headers("events.com.shop.order.created", headers, data.into()).await?.await?;
    // The end.
    Ok(())
}
