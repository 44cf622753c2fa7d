use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures_util::StreamExt as _;
use hookmill_tests::{NatsServer, PipelineFolder, events};

#[test]
fn an_order_is_1024_bytes_whatever_its_number() {
    for number in [0, 7, 999_999_999] {
        let text = events::order_json(number);
        assert_eq!(text.len(), events::ORDER_BYTES);
        let event: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (&event["id"], &event["type"]),
            (&events::order_id(number).into(), &events::ORDER_TYPE.into())
        );
        assert!(event["data"].is_object());
        let binary = events::binary(number);
        assert_eq!(binary.payload, events::order_data(number));
        assert_eq!(binary.headers.get("ce-id").map(ToString::to_string), Some(events::order_id(number)));
    }
}

#[tokio::test]
async fn publishing_in_bulk_keeps_order_headers_and_bytes() {
    let server = NatsServer::start().await;
    let jetstream = server.jetstream().await;
    let stream = events::make_source_stream(&jetstream).await;
    let messages = (0..3000)
        .map(|number| if number % 2 == 0 { events::structured(number) } else { events::binary(number) });
    let sequences = events::publish_all(&jetstream, messages).await;
    assert_eq!(sequences.len(), 3000);

    let config = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
    let consumer = stream.create_consumer(config).await.expect("a consumer");
    let stored: Vec<_> = consumer.stream().messages().await.expect("messages").take(3000).collect().await;
    for (position, message) in stored.into_iter().enumerate() {
        let message = message.expect("a message");
        let expected =
            if position % 2 == 0 { events::structured(position) } else { events::binary(position) };
        assert_eq!(
            (&message.payload, message.headers.as_ref()),
            (&expected.payload, Some(&expected.headers))
        );
    }
}

#[test]
fn a_pipeline_folder_holds_its_files_and_goes_with_its_owner() {
    let folder = PipelineFolder::with("orders", "a = 1");
    folder.write("schemas/order.json", "{}");
    folder.write("orders.toml", "a = 2");
    let path = folder.path().to_owned();
    assert_eq!(std::fs::read_to_string(path.join("orders.toml")).expect("is there"), "a = 2");
    assert!(path.join("schemas/order.json").is_file());
    drop(folder);
    assert!(!path.exists());
}
