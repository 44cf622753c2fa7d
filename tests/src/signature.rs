//! Standard Webhooks signatures, checked by code that shares nothing with the engine's.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use sha2::Sha256;

use hookmill::model::Timestamp;

/// How far a `webhook-timestamp` may lie from now, in seconds (Standard Webhooks, "Verifying webhook authenticity").
pub const TOLERANCE_SECONDS: u64 = 300;

/// Checks the three headers and the body against `secret` (`whsec_` and base64) at `now`.
/// The error says in words what is wrong.
pub fn verify(secret: &str, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), String> {
    let id = header(headers, "webhook-id")?;
    let timestamp = header(headers, "webhook-timestamp")?;
    let signatures = header(headers, "webhook-signature")?;
    let seconds: u64 = timestamp.parse().map_err(|_| format!("webhook-timestamp is {timestamp:?}"))?;
    if seconds.abs_diff(now.unix_seconds()) > TOLERANCE_SECONDS {
        return Err(format!("webhook-timestamp {seconds} is too far from {}", now.unix_seconds()));
    }
    let expected = sign(secret, id, seconds, body)?;
    if signatures.split(' ').any(|signature| signature == expected) {
        return Ok(());
    }
    Err(format!("none of {} signatures fits", signatures.split(' ').count()))
}

/// `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
pub fn sign(secret: &str, id: &str, unix_seconds: u64, body: &[u8]) -> Result<String, String> {
    let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
    let key =
        BASE64.decode(encoded.as_bytes()).map_err(|error| format!("the secret is no base64: {error}"))?;
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&key).map_err(|error| format!("the secret is no key: {error}"))?;
    mac.update(format!("{id}.{unix_seconds}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes())))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, String> {
    let value = headers.get(name).ok_or_else(|| format!("{name} is missing"))?;
    value.to_str().map_err(|_| format!("{name} is no text"))
}
