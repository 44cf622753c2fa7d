//! The loops that the engine is held against. They stay plain: no parsing, no signature, no retries, no metrics.

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Messages on their way at the same time, here and in the engine's pipelines.
pub const IN_FLIGHT: usize = 256;
/// Messages asked for at once.
const BATCH: usize = 512;

async fn messages(nats: &str, stream: &str) -> (jetstream::Context, pull::Stream) {
    let client = async_nats::connect(nats).await.expect("nats-server takes connections");
    let context = jetstream::new(client);
    let config = pull::Config { ack_policy: AckPolicy::Explicit, ..pull::Config::default() };
    let stream = context.get_stream(stream).await.expect("the stream exists");
    let consumer = stream.create_consumer(config).await.expect("a consumer can be made");
    let messages = consumer.stream().max_messages_per_batch(BATCH).messages().await;
    (context, messages.expect("the consumer can be pulled from"))
}

/// Pull, `POST`, acknowledge. Ends never.
pub async fn webhook(nats: &str, stream: &str, url: &str) {
    let (_context, messages) = messages(nats, stream).await;
    let url: Uri = url.parse().expect("a URL");
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let send = |message: Result<jetstream::Message, _>| {
        let (http, url) = (http.clone(), url.clone());
        async move {
            let message = message.expect("a message");
            let mut request = Request::new(Full::new(message.payload.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = url;
            let answer = http.request(request).await.expect("the sink answers");
            assert!(answer.status().is_success());
            answer.into_body().collect().await.expect("an empty body");
            message.ack().await.expect("connected");
        }
    };
    messages.for_each_concurrent(IN_FLIGHT, send).await;
}

/// Pull, publish, wait for the publish's ack, acknowledge. Ends never.
pub async fn relay(nats: &str, stream: &str, subject: &str) {
    let (context, messages) = messages(nats, stream).await;
    let send = |message: Result<jetstream::Message, _>| {
        let (context, subject) = (context.clone(), subject.to_owned());
        async move {
            let message = message.expect("a message");
            let ack = context.publish(subject, message.payload.clone()).await.expect("connected");
            ack.await.expect("the target stream takes it");
            message.ack().await.expect("connected");
        }
    };
    messages.for_each_concurrent(IN_FLIGHT, send).await;
}
