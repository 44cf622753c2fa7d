//! What stands in for the network and for JetStream: it takes what would be sent, keeps it for a look, and answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;

use crate::config::checked;
use crate::deliver::{self, Endpoint, publish};
use crate::egress::{self, Again, Answer, Call};
use crate::model::SecretRef;
use crate::nats::{Prefix, StoreError};
use crate::pipeline::Target;

/// Stands for every signing secret: a test neither needs nor sees real ones.
const SECRET: &str = "whsec_aG9va21pbGwtdGVzdC1wbGFjZWhvbGRlci1zZWNyZXQ=";

/// What endpoints answer unless a test says something else.
const OK: u16 = 200;

/// What would have been sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Where to.
    pub(super) to: Address,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    /// The body.
    pub(super) body: Bytes,
}

/// Where something would have been sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Address {
    /// A webhook's URL.
    Url(String),
    /// A NATS subject.
    Subject(String),
}

/// The outlet of one subscription. Clones share what they keep.
#[derive(Clone)]
pub(super) struct Recorder(Arc<Mutex<State>>);

struct State {
    status: u16,
    sent: Option<Sent>,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { status: OK, sent: None })))
    }

    /// Begins a test: nothing is sent so far, and this is what will be answered.
    pub(super) fn begin(&self, status: Option<u16>) {
        *self.state() = State { status: status.unwrap_or(OK), sent: None };
    }

    /// What was sent last.
    pub(super) fn take(&self) -> Option<Sent> {
        self.state().sent.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, sent: Sent) -> u16 {
        let mut state = self.state();
        state.sent = Some(sent);
        state.status
    }
}

impl egress::Outlet for Recorder {
    fn post<'a>(&'a self, call: Call, _: Again<'a>) -> BoxFuture<'a, Result<Answer, egress::Error>> {
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = call.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
        let to = Address::Url(call.uri.to_string());
        let status = self.record(Sent { to, headers: headers.collect(), body: call.body });
        Box::pin(std::future::ready(Ok(Answer { status, headers: HeaderMap::new() })))
    }
}

impl publish::Outlet for Recorder {
    fn publish(&self, message: publish::Message) -> BoxFuture<'_, Result<(), StoreError>> {
        let publish::Message { subject, headers, body } = message;
        let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        self.record(Sent { to: Address::Subject(subject), headers, body });
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A target that sends into `recorder`. What stands behind references is neither read nor needed: placeholders stand for it.
pub(super) fn target(from: checked::Target, prefix: &Prefix, recorder: &Recorder) -> Target {
    match from {
        checked::Target::Deliver(settings) => {
            let settings = without_secrets(settings);
            Target::Webhook(Box::new(Endpoint::over(settings, Box::new(recorder.clone()))))
        }
        checked::Target::Publish(settings) => {
            Target::Publish(publish::Publisher::new(settings, prefix.clone(), recorder.clone()))
        }
    }
}

fn without_secrets(settings: deliver::Settings) -> deliver::Settings {
    let whole = |label: &str, prefix: &str| {
        if prefix.is_empty() { format!("https://{label}.example/") } else { format!("{prefix}{label}") }
    };
    let url = replaced(settings.url, |name, prefix| whole(&host_label(name), prefix));
    let value = |name: &str, prefix: &str| format!("{prefix}<{}>", ascii(name));
    let headers = settings.headers.into_iter().map(|(name, reference)| (name, replaced(reference, value)));
    deliver::Settings {
        url,
        headers: headers.collect(),
        // Whole in itself: a prefix would break it.
        sign: settings.sign.iter().map(|_| SecretRef::Plain(SECRET.to_owned())).collect(),
        ..settings
    }
}

/// The reference with something made of its name and prefix for its value. What stands in the file itself stays.
fn replaced(reference: SecretRef, placeholder: impl Fn(&str, &str) -> String) -> SecretRef {
    let (name, prefix) = match reference {
        SecretRef::Plain(_) => return reference,
        SecretRef::Env { name, prefix } => (name, prefix),
        SecretRef::File { path, prefix } => {
            (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), prefix)
        }
    };
    SecretRef::Plain(placeholder(&name, &prefix))
}

/// A name as HTTP headers can carry it.
fn ascii(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '-' }).collect()
}

/// A name as part of a host: `WAREHOUSE_URL` is `warehouse-url`.
fn host_label(name: &str) -> String {
    let letter =
        |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let label: String = name.chars().map(letter).collect();
    let label = label.trim_matches('-');
    if label.is_empty() { "placeholder".to_owned() } else { label.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_elsewhere_gets_a_placeholder_that_names_it() {
        let env =
            |name: &str, prefix: &str| SecretRef::Env { name: name.to_owned(), prefix: prefix.to_owned() };
        let file = SecretRef::File { path: "secrets/ä.token".into(), prefix: String::new() };
        let settings = |url| deliver::Settings {
            url,
            format: deliver::Format::Structured,
            headers: vec![
                ("authorization".to_owned(), env("SHOP_TOKEN", "Bearer ")),
                ("x-file".to_owned(), file.clone()),
                ("x-plain".to_owned(), SecretRef::Plain("as it is".to_owned())),
            ],
            sign: vec![env("NEW", "whsec_"), file.clone()],
            timeout: std::time::Duration::from_secs(1),
            give_up_on: Vec::new(),
            retry_on: None,
            retry_after_max: std::time::Duration::ZERO,
            reach: egress::Policy::default(),
        };
        let text = |reference: &SecretRef| reference.resolve().unwrap().expose().to_owned();
        for (url, expected) in [
            (env("SHOP_URL", ""), "https://shop-url.example/"),
            (env("SHOP_KEY", "https://example.com/"), "https://example.com/shop-key"),
            (SecretRef::Plain("https://example.com".to_owned()), "https://example.com"),
        ] {
            let done = without_secrets(settings(url));
            assert_eq!(text(&done.url), expected);
            assert!(deliver::check_url(expected).is_ok());
            let headers: Vec<_> = done.headers.iter().map(|(_, value)| text(value)).collect();
            assert_eq!(headers, ["Bearer <SHOP_TOKEN>", "<-.token>", "as it is"]);
            assert_eq!(done.sign, [SecretRef::Plain(SECRET.to_owned()), SecretRef::Plain(SECRET.to_owned())]);
        }
        assert!(deliver::signature::Key::parse(SECRET).is_ok());
    }
}
