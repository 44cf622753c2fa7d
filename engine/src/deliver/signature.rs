//! Standard Webhooks 1.0: signing and verifying, symmetric scheme (`v1`). Pure.

use std::time::Duration;

use data_encoding::{BASE64, BASE64_NOPAD};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

use crate::model::Timestamp;

/// Header with the delivery's identity, the same for every attempt.
pub const ID: &str = "webhook-id";
/// Header with the time of the attempt, in seconds since the epoch.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// Header with the signatures, separated by spaces.
pub const SIGNATURE: &str = "webhook-signature";

/// Fewest bytes of a key (Standard Webhooks, "Signature scheme"). The specification's upper end, 64 bytes, is not enforced: its
/// libraries take longer keys, and HMAC hashes them down.
pub const KEY_BYTES_MIN: usize = 24;

/// Most bytes of a key.
const KEY_BYTES_MAX: usize = 1024;

/// Most signatures of one request that are tried.
const SIGNATURES_MAX: usize = 16;

/// Why a text is no signing secret. Never shows the secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Nothing after `whsec_`.
    #[error("the signing secret is empty; write it as whsec_ and base64")]
    Empty,
    /// An ed25519 key.
    #[error(
        "the signing secret is an ed25519 key (whsk_ or whpk_), which is not supported; use a whsec_ one"
    )]
    Asymmetric,
    /// Neither the prefix nor base64: something else altogether.
    #[error("the signing secret has no whsec_ prefix and is not base64; write it as whsec_ and base64")]
    NoPrefix,
    /// Not base64.
    #[error("the signing secret is not base64; write it as whsec_ and base64 without line breaks")]
    NotBase64,
    /// RFC 4648, section 5. The libraries of receivers take it for something else, or for nothing.
    #[error("the signing secret is base64 for URLs (- and _); write it in the standard alphabet (+ and /)")]
    UrlSafe,
    /// Too short to be safe.
    #[error("the signing secret holds {0} bytes; use {KEY_BYTES_MIN} to 64 random ones")]
    TooShort(usize),
    /// Longer than any secret.
    #[error("the signing secret holds {0} bytes; use {KEY_BYTES_MIN} to 64 random ones")]
    TooLong(usize),
}

/// A signing secret, with the part of HMAC that does not depend on the message computed ahead.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Reads `whsec_` and base64; the prefix may be missing, and so may the padding. What is blank around it is none of it.
    pub fn parse(secret: &str) -> Result<Self, KeyError> {
        let secret = secret.trim();
        if secret.starts_with("whsk_") || secret.starts_with("whpk_") {
            return Err(KeyError::Asymmetric);
        }
        let behind = secret.strip_prefix("whsec_");
        let text = behind.unwrap_or(secret).as_bytes();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        let bytes = if text.ends_with(b"=") { BASE64.decode(text) } else { BASE64_NOPAD.decode(text) };
        let bytes = bytes.map_err(|_| match behind {
            Some(_) if is_base64_for_urls(text) => KeyError::UrlSafe,
            Some(_) => KeyError::NotBase64,
            None => KeyError::NoPrefix,
        })?;
        match bytes.len() {
            short if short < KEY_BYTES_MIN => Err(KeyError::TooShort(short)),
            long if long > KEY_BYTES_MAX => Err(KeyError::TooLong(long)),
            _ => Ok(Self(Hmac::new_from_slice(&bytes).expect("HMAC takes keys of any length"))),
        }
    }

    /// `v1,` and the base64 of the signature over `id.timestamp.body`; `seconds` since the epoch.
    pub fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let digest = self.mac(id, seconds, body).finalize().into_bytes();
        let mut text = String::with_capacity(3 + 44);
        text.push_str("v1,");
        BASE64.encode_append(&digest, &mut text);
        text
    }

    fn mac(&self, id: &str, seconds: u64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(seconds.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        mac
    }
}

/// Whether a text is what [`BASE64`] refuses for its alphabet alone.
fn is_base64_for_urls(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'-' | b'_'))
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='))
}

/// The value of [`SIGNATURE`]: one signature for each key, separated by spaces.
pub fn sign(keys: &[Key], id: &str, seconds: u64, body: &[u8]) -> String {
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(id, seconds, body)).collect();
    signatures.join(" ")
}

/// Why a request is not accepted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VerifyError {
    /// A header is missing or not ASCII.
    #[error("header {0} is missing")]
    Missing(&'static str),
    /// `webhook-timestamp` is no number of seconds.
    #[error("webhook-timestamp is not a number of seconds")]
    NotTimestamp,
    /// Signed too long ago.
    #[error("webhook-timestamp is {0:?} too old")]
    TooOld(Duration),
    /// Signed in the future.
    #[error("webhook-timestamp is {0:?} too new")]
    TooNew(Duration),
    /// No `v1` signature fits any of the keys.
    #[error("no signature fits")]
    NoMatch,
}

/// Verifies a request. Each signature is compared in constant time; versions other than `v1` are passed over.
pub fn verify(
    headers: &HeaderMap,
    body: &[u8],
    keys: &[Key],
    now: Timestamp,
    tolerance: Duration,
) -> Result<(), VerifyError> {
    let text = |name: &'static str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.filter(|value| !value.is_empty()).ok_or(VerifyError::Missing(name))
    };
    let (id, timestamp, _) = (text(ID)?, text(TIMESTAMP)?, text(SIGNATURE)?);
    if !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VerifyError::NotTimestamp);
    }
    let seconds: u64 = timestamp.parse().map_err(|_| VerifyError::NotTimestamp)?;
    let (now, tolerance) = (now.unix_seconds(), tolerance.as_secs());
    let beyond = |distance: u64| Duration::from_secs(distance - tolerance);
    if now.saturating_sub(seconds) > tolerance {
        return Err(VerifyError::TooOld(beyond(now - seconds)));
    }
    if seconds.saturating_sub(now) > tolerance {
        return Err(VerifyError::TooNew(beyond(seconds - now)));
    }
    let lines = headers.get_all(SIGNATURE).iter().filter_map(|line| line.to_str().ok());
    let signatures = lines.flat_map(|line| line.split(' ')).filter_map(|one| one.strip_prefix("v1,"));
    let given: Vec<_> =
        signatures.take(SIGNATURES_MAX).filter_map(|one| BASE64.decode(one.as_bytes()).ok()).collect();
    for key in keys {
        let mac = key.mac(id, seconds, body);
        if given.iter().any(|given| mac.clone().verify_slice(given).is_ok()) {
            return Ok(());
        }
    }
    Err(VerifyError::NoMatch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64URL;
    use http::{HeaderName, HeaderValue};
    use serde_json::Value;

    fn vectors() -> Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/standard-webhooks/vectors.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn text<'a>(case: &'a Value, key: &str) -> &'a str {
        case[key].as_str().unwrap()
    }

    #[test]
    fn the_published_signatures_come_out_byte_for_byte() {
        let vectors = vectors();
        let cases = vectors["sign"].as_array().unwrap();
        assert_eq!(cases.len(), 18);
        for case in cases {
            let key = Key::parse(text(case, "secret")).unwrap();
            let timestamp = case["timestamp"].as_u64().unwrap();
            let signature = key.sign(text(case, "id"), timestamp, text(case, "payload").as_bytes());
            assert_eq!(signature, text(case, "signature"), "{}", case["name"]);
        }
    }

    #[test]
    fn the_published_requests_are_judged_as_the_libraries_judge_them() {
        let vectors = vectors();
        let cases = vectors["verify"].as_array().unwrap();
        assert_eq!(cases.len(), 24);
        for case in cases {
            let key = Key::parse(text(case, "secret")).unwrap();
            let headers = case["headers"].as_object().unwrap().iter();
            let headers: HeaderMap = headers
                .map(|(name, value)| {
                    let value = HeaderValue::from_str(value.as_str().unwrap()).unwrap();
                    (HeaderName::from_bytes(name.as_bytes()).unwrap(), value)
                })
                .collect();
            let now = Timestamp::from_unix_seconds(case["now"].as_u64().unwrap());
            let payload = text(case, "payload").as_bytes();
            let verdict = verify(&headers, payload, &[key], now, Duration::from_mins(5));
            assert_eq!(verdict.is_ok(), case["valid"].as_bool().unwrap(), "{}: {verdict:?}", case["name"]);
        }
    }

    #[test]
    fn the_published_bad_secrets_are_refused() {
        let vectors = vectors();
        let cases = vectors["bad_secrets"].as_array().unwrap();
        assert_eq!(cases.len(), 2);
        for case in cases {
            assert_eq!(Key::parse(text(case, "secret")).unwrap_err(), KeyError::Empty);
        }
    }

    #[test]
    fn secrets_are_whsec_and_base64_of_24_bytes_or_more() {
        let of = |bytes: usize| Key::parse(&format!("whsec_{}", BASE64.encode(&vec![7; bytes]))).err();
        assert_eq!(of(23), Some(KeyError::TooShort(23)));
        assert_eq!(of(24), None);
        assert_eq!(of(64), None);
        assert_eq!(of(1025), Some(KeyError::TooLong(1025)));
        let padded = BASE64.encode(&[7; 32]);
        assert!(padded.ends_with('='));
        assert!(Key::parse(padded.trim_end_matches('=')).is_ok(), "padding may be missing");
        assert_eq!(Key::parse("whsec_not base64!").unwrap_err(), KeyError::NotBase64);
        assert_eq!(Key::parse("not base64!").unwrap_err(), KeyError::NoPrefix);
        assert_eq!(Key::parse("whsk_AAAA").unwrap_err(), KeyError::Asymmetric);
        let (standard, for_urls) = (BASE64.encode(&[0xfb; 32]), BASE64URL.encode(&[0xfb; 32]));
        assert!(Key::parse(&format!(" whsec_{standard} \r\n")).is_ok(), "blanks around it are none of it");
        assert_eq!(Key::parse(&format!("whsec_{for_urls}")).unwrap_err(), KeyError::UrlSafe);
        let broken = format!("whsec_{}\n{}", &standard[..20], &standard[20..]);
        assert_eq!(Key::parse(&broken).unwrap_err(), KeyError::NotBase64);
        assert_eq!(format!("{:?}", Key::parse(&padded).unwrap()), "Key(…)");
    }

    #[test]
    fn each_key_signs_and_any_of_them_verifies() {
        let keys: Vec<_> =
            [7u8, 8].iter().map(|byte| Key::parse(&BASE64.encode(&[*byte; 32])).unwrap()).collect();
        let value = sign(&keys, "msg_1", 100, b"{}");
        assert_eq!(value.split(' ').count(), 2);
        let mut headers = HeaderMap::new();
        headers.insert(ID, HeaderValue::from_static("msg_1"));
        headers.insert(TIMESTAMP, HeaderValue::from_static("100"));
        headers.insert(SIGNATURE, HeaderValue::from_str(&value).unwrap());
        let verified = |keys: &[Key], now| {
            verify(&headers, b"{}", keys, Timestamp::from_unix_seconds(now), Duration::from_mins(5))
        };
        assert_eq!(verified(&keys[1..], 100), Ok(()));
        assert_eq!(verified(&keys[..1], 400), Ok(()));
        assert_eq!(verified(&keys, 401), Err(VerifyError::TooOld(Duration::from_secs(1))));
        assert_eq!(verified(&[], 100), Err(VerifyError::NoMatch));
    }
}
