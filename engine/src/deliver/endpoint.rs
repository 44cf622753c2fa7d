//! One endpoint: renders an event, sends it signed, and says what the answer means.

use std::fmt;

use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::classify::{Rules, classify};
use super::render::render;
use super::settings::{HeaderError, check_header_value, header_name};
use super::signature::{self, Key, KeyError};
use super::{Settings, check_url};
use crate::egress::{self, Answer, Call, Outlet, UrlError};
use crate::model::{
    Code, DeliveryId, Event, Fault, Finding, Findings, Finished, Live, LiveError, Reason, SecretRef, Stage,
    Timestamp, Whose,
};

/// The `user-agent` unless the settings name another.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("hookmill/", env!("CARGO_PKG_VERSION")));

/// Most bytes of a redirect's host that an error text repeats.
const LOCATION_BYTES_MAX: usize = 100;

/// Sends finished results to one URL. Keeps its connections for itself.
pub struct Endpoint {
    settings: Settings,
    references: References,
    outlet: Box<dyn Outlet>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// An endpoint with its own pool of connections. References are resolved at each attempt, so nothing fails here.
    pub fn new(settings: Settings, client: &egress::Client) -> Self {
        let pool = client.pool(&settings.reach, settings.timeout);
        Self::over(settings, Box::new(pool))
    }

    /// An endpoint that is reached through `outlet`.
    pub fn over(settings: Settings, outlet: Box<dyn Outlet>) -> Self {
        Self { references: References::of(&settings), outlet, settings }
    }

    /// The settings it was made from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How its references stand, and those that its outlet needs.
    pub fn look_at_references(&self, now: Timestamp) -> Findings {
        let mut findings = self.references.look(now);
        self.outlet.look_at_references(now, &mut findings);
        findings
    }

    /// Takes over what an earlier version of it knows of the same references.
    pub fn take_after(&self, other: &Self) {
        self.references.take_after(&other.references);
    }

    /// The body and the headers for `event`, with the headers that steps have set. Holds no secret and no URL.
    pub fn render(&self, event: &Event, http: &[(String, String)]) -> Finished {
        render(self.settings.format, event, http)
    }

    /// Makes one attempt and gives back the status of its success. `now` is what is signed and what a `Retry-After` date
    /// is held against; the deadline is the settings' `timeout` from the call on.
    pub async fn send(
        &self,
        finished: &Finished,
        id: &DeliveryId,
        traceparent: Option<&str>,
        now: Timestamp,
    ) -> Result<u16, Fault> {
        let call = || {
            let url = &self.references.url;
            let uri = url.get(now).map_err(|error| unusable("url", url, &error))?;
            let headers = self.request_headers(finished, id, traceparent, now)?;
            Ok(Call { uri, headers, body: finished.body.clone() })
        };
        let again = || call().ok();
        let answer = self.outlet.post(call()?, &again).await.map_err(|error| fault(&error))?;
        self.judge(&answer, now)?;
        Ok(answer.status)
    }

    fn judge(&self, answer: &Answer, now: Timestamp) -> Result<(), Fault> {
        let text = |name| answer.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let Settings { give_up_on, retry_on, retry_after_max, .. } = &self.settings;
        let rules = Rules { give_up_on, retry_on: retry_on.as_deref(), retry_after_max: *retry_after_max };
        classify(answer.status, text(RETRY_AFTER), now, rules).map_err(|mut fault| {
            if let Some(host) = text(LOCATION).and_then(redirect_host).filter(|_| is_redirect(answer.status))
            {
                fault.detail.push_str(" (to ");
                fault.detail.push_str(&host);
                fault.detail.push(')');
            }
            fault
        })
    }

    /// What steps have set, then what the settings say, then what is ours: the later is the stronger.
    fn request_headers(
        &self,
        finished: &Finished,
        id: &DeliveryId,
        traceparent: Option<&str>,
        now: Timestamp,
    ) -> Result<HeaderMap, Fault> {
        let mut headers =
            HeaderMap::with_capacity(8 + finished.headers.len() + self.references.headers.len());
        headers.insert(USER_AGENT, AGENT);
        for (name, value) in &finished.headers {
            headers.insert(stored_name(name)?, stored_value(name, value)?);
        }
        for (name, value) in &self.references.headers {
            let name = name.as_ref().map_err(|error| misconfigured(error.to_string()))?;
            headers.insert(
                name,
                value.get(now).map_err(|error| unusable(&header_setting(name), value, &error))?,
            );
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(content_type) = &finished.content_type {
            headers.insert(CONTENT_TYPE, stored_value("content-type", content_type)?);
        }
        // A trace context that HTTP can't carry is of no use to the receiver; the delivery is.
        if let Some(traceparent) = traceparent.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert("traceparent", traceparent);
        }
        self.sign(&mut headers, finished, id, now)?;
        Ok(headers)
    }

    fn sign(
        &self,
        headers: &mut HeaderMap,
        finished: &Finished,
        id: &DeliveryId,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let seconds = now.unix_seconds();
        headers.insert(signature::ID, stored_value(signature::ID, id.as_str())?);
        headers.insert(signature::TIMESTAMP, seconds.into());
        if self.references.keys.is_empty() {
            return Ok(());
        }
        let key = |live: &Live<Key, KeyError>| live.get(now).map_err(|error| unusable("sign", live, &error));
        let keys: Vec<Key> = self.references.keys.iter().map(key).collect::<Result<_, _>>()?;
        let value = signature::sign(&keys, id.as_str(), seconds, &finished.body);
        headers.insert(signature::SIGNATURE, stored_value(signature::SIGNATURE, &value)?);
        Ok(())
    }
}

/// What the settings of an endpoint refer to: URL, header values, signing secrets.
pub struct References {
    url: Live<Uri, UrlError>,
    headers: Vec<(Result<HeaderName, HeaderError>, Live<HeaderValue, HeaderError>)>,
    keys: Vec<Live<Key, KeyError>>,
}

impl References {
    /// None of them is looked at yet.
    pub fn of(settings: &Settings) -> Self {
        let header =
            |(name, value): &(String, SecretRef)| (header_name(name), Live::new(value.clone(), header_value));
        let make_url = if matches!(settings.url, SecretRef::Plain(_)) { uri } else { uri_from_elsewhere };
        Self {
            url: Live::new(settings.url.clone(), make_url),
            headers: settings.headers.iter().map(header).collect(),
            keys: settings.sign.iter().map(|secret| Live::new(secret.clone(), Key::parse)).collect(),
        }
    }

    /// How they stand.
    pub fn look(&self, now: Timestamp) -> Findings {
        let mut findings = Findings::default();
        findings.look_at("url", &self.url, now);
        for (name, value) in &self.headers {
            match name {
                Ok(name) => findings.look_at(&header_setting(name), value, now),
                Err(error) => {
                    findings.wrong.push(Finding { setting: "headers".to_owned(), text: error.to_string() });
                }
            }
        }
        for key in &self.keys {
            findings.look_at("sign", key, now);
        }
        findings
    }

    fn take_after(&self, other: &Self) {
        self.url.take_after(&other.url);
        for (name, value) in &self.headers {
            let known = other.headers.iter().filter(|(known, _)| known == name);
            known.for_each(|(_, known)| value.take_after(known));
        }
        for key in &self.keys {
            other.keys.iter().for_each(|known| key.take_after(known));
        }
    }
}

fn uri(text: &str) -> Result<Uri, UrlError> {
    egress::uri(&check_url(text)?)
}

/// What texts call a header's setting.
fn header_setting(name: &HeaderName) -> String {
    format!("headers.{name}")
}

/// A URL that stands elsewhere. What is blank around it is none of it, and nothing of it is shown.
fn uri_from_elsewhere(text: &str) -> Result<Uri, UrlError> {
    uri(text.trim()).map_err(|error| match error {
        UrlError::Scheme(_) => UrlError::OtherScheme,
        other => other,
    })
}

/// What is blank around a value is none of it (RFC 9110, section 5.5).
fn header_value(text: &str) -> Result<HeaderValue, HeaderError> {
    let text = text.trim();
    check_header_value(text)?;
    let mut value = HeaderValue::from_str(text).map_err(|_| HeaderError::NotValue(0))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A header of a finished result. It was checked when it was made; one from storage is not trusted to be the same.
fn stored_name(name: &str) -> Result<HeaderName, Fault> {
    let of_the_event = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("ce-"));
    let parsed = if of_the_event {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderError::NotName(name.to_owned()))
    } else {
        header_name(name)
    };
    parsed.map_err(|error| config(error.to_string()))
}

fn stored_value(name: &str, value: &str) -> Result<HeaderValue, Fault> {
    HeaderValue::from_bytes(value.as_bytes())
        .map_err(|_| config(format!("header {name} has a value that HTTP headers can't carry")))
}

fn config(detail: impl Into<String>) -> Fault {
    Fault::never(Stage::Deliver, Code::Config, Whose::Operator, Reason::Config, detail)
}

/// A fault that the operator mends: no event has a part in it.
fn misconfigured(detail: impl Into<String>) -> Fault {
    Fault::held(Code::Config, Whose::Operator, detail)
}

/// A reference that can't be used: names the setting and the reference, never the value.
fn unusable<T: Clone, E: Clone + fmt::Display>(what: &str, live: &Live<T, E>, error: &LiveError<E>) -> Fault {
    misconfigured(live.says(what, error))
}

/// What a failed exchange means for the task.
fn fault(error: &egress::Error) -> Fault {
    let (code, status) = match error {
        egress::Error::Refused { .. } => {
            let detail = error.to_string();
            return Fault::never(Stage::Deliver, Code::Egress, Whose::Operator, Reason::Egress, detail);
        }
        egress::Error::OutOfFiles { .. } | egress::Error::NoRoom { .. } => {
            return Fault::held(Code::OutOfFiles, Whose::Engine, error.to_string());
        }
        egress::Error::Proxy { failure: egress::ProxyFailure::Credentials(_), .. } => {
            return misconfigured(error.to_string());
        }
        egress::Error::Resolve { .. } => (Code::Resolve, None),
        egress::Error::Connect { .. } | egress::Error::Proxy { .. } => (Code::Connect, None),
        egress::Error::Tls { .. } => (Code::Tls, None),
        egress::Error::Timeout { phase: egress::Phase::Body(status), .. } => (Code::Timeout, Some(*status)),
        egress::Error::Timeout { .. } => (Code::Timeout, None),
        egress::Error::Broken { .. }
        | egress::Error::Http2 { .. }
        | egress::Error::NotHttp
        | egress::Error::Http => (Code::Protocol, None),
    };
    let mut detail = error.to_string();
    if let egress::Error::Tls { failure, .. } = error
        && let Some(setting) = failure.setting()
    {
        detail = format!("{detail}; {setting}");
    }
    let mut fault = Fault::later(Stage::Deliver, code, Whose::Endpoint, Reason::Exhausted, detail);
    fault.status = status;
    fault
}

fn is_redirect(status: u16) -> bool {
    (300..400).contains(&status)
}

/// The host that a redirect leads to, cut; its path may hold a token. `None` for one within the same host.
fn redirect_host(location: &str) -> Option<String> {
    let url = url::Url::parse(location).ok()?;
    let host = url.host_str()?;
    Some(host[..host.floor_char_boundary(LOCATION_BYTES_MAX)].to_owned())
}
