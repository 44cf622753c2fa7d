//! The loops that the engine is held against. They stay plain: no parsing, no signature, no retries, no metrics.

use std::sync::Arc;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

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

/// Runs `send` for each message on a task of its own, as whoever wants more than one core has to.
async fn each<F>(mut messages: pull::Stream, send: impl Fn(jetstream::Message) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut sends = JoinSet::new();
    while let Some(message) = messages.next().await {
        let permit = Arc::clone(&room).acquire_owned().await.expect("nothing closes it");
        let send = send(message.expect("a message"));
        sends.spawn(async move {
            send.await;
            drop(permit);
        });
        while let Some(sent) = sends.try_join_next() {
            sent.expect("sending doesn't fail");
        }
    }
}

/// Pull, `POST`, acknowledge. Ends never.
pub async fn webhook(nats: &str, stream: &str, url: &str) {
    let (_context, messages) = messages(nats, stream).await;
    let url: Uri = url.parse().expect("a URL");
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let send = |message: jetstream::Message| {
        let (http, url) = (http.clone(), url.clone());
        async move {
            let mut request = Request::new(Full::new(message.payload.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = url;
            let answer = http.request(request).await.expect("the sink answers");
            assert!(answer.status().is_success());
            answer.into_body().collect().await.expect("an empty body");
            message.ack().await.expect("connected");
        }
    };
    each(messages, send).await;
}

/// Pull, publish, wait for the publish's ack, acknowledge. Ends never.
pub async fn relay(nats: &str, stream: &str, subject: &str) {
    let (context, messages) = messages(nats, stream).await;
    let send = |message: jetstream::Message| {
        let (context, subject) = (context.clone(), subject.to_owned());
        async move {
            let ack = context.publish(subject, message.payload.clone()).await.expect("connected");
            ack.await.expect("the target stream takes it");
            message.ack().await.expect("connected");
        }
    };
    each(messages, send).await;
}
