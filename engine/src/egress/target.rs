//! What a URL must be like to be sent to.

use http::Uri;
use url::Url;

/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 8 * 1024;

/// Why a text is no URL to deliver to. Never shows the URL: its path and query may hold a token.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    /// The URL parser refuses it.
    #[error("not a URL ({0}); write it as https://host/path")]
    NotUrl(#[from] url::ParseError),
    /// The URL parser would read something into it: no `//`, too many of them, backslashes, spaces, control characters.
    #[error(
        "it has a space, a backslash, a control character or no host right after ://; write it as https://host/path"
    )]
    Unclear,
    /// Neither `https` nor `http`.
    #[error("the scheme is {0:?}; use https, or http to an address that `allow` names")]
    Scheme(String),
    /// The same of a URL that stands elsewhere, and may be no URL at all but a secret.
    #[error("its scheme is neither https nor http; use https, or http to an address that `allow` names")]
    OtherScheme,
    /// `user:password@`.
    #[error("it has a user name or password in it; use a header instead: headers = {{ authorization = … }}")]
    UserInfo,
    /// Port 0.
    #[error("its port is 0; leave the port out or name the one the endpoint listens on")]
    PortZero,
    /// Longer than [`URL_BYTES_MAX`].
    #[error("it is {0} bytes long; at most {URL_BYTES_MAX} are sent")]
    TooLong(usize),
    /// A URL for browsers, but no HTTP request target (RFC 9112, section 3.2).
    #[error("it has characters that HTTP does not allow in a request; percent-encode them")]
    NotUri,
}

/// Reads a URL and checks everything that can be known without resolving its host.
///
/// The parser is that of browsers (WHATWG URL): all spellings of an IPv4 address, octal, hexadecimal, short or in full-width
/// digits, come out as the address they mean.
pub fn check_url(text: &str) -> Result<Url, UrlError> {
    if text.len() > URL_BYTES_MAX {
        return Err(UrlError::TooLong(text.len()));
    }
    let mut url = Url::parse(text)?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(UrlError::Scheme(url.scheme().chars().take(32).collect()));
    }
    let authority = authority(text).ok_or(UrlError::Unclear)?;
    // The parser drops an `@` with nothing before it without a word.
    if !url.username().is_empty() || url.password().is_some() || authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    if url.port() == Some(0) {
        return Err(UrlError::PortZero);
    }
    url.set_fragment(None);
    uri(&url)?;
    Ok(url)
}

/// The URL as an HTTP request target.
pub(crate) fn uri(url: &Url) -> Result<Uri, UrlError> {
    Uri::try_from(url.as_str()).map_err(|_| UrlError::NotUri)
}

/// What stands between `://` and the path, if the text leaves no doubt about it.
fn authority(text: &str) -> Option<&str> {
    let unclear = |char: char| char == '\\' || char.is_ascii_whitespace() || char.is_control();
    let (_, rest) = text.split_once("://").filter(|_| !text.contains(unclear))?;
    rest.split(['/', '?', '#']).next().filter(|authority| !authority.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usable_urls_pass_without_their_fragment() {
        for (text, as_sent) in [
            ("https://example.com", "https://example.com/"),
            ("https://example.com:8443/a/b?c=d#e", "https://example.com:8443/a/b?c=d"),
            ("HTTPS://EXAMPLE.com/x", "https://example.com/x"),
            ("http://10.0.0.1/", "http://10.0.0.1/"),
            ("https://[2606:4700::1111]/", "https://[2606:4700::1111]/"),
            ("https://bücher.example/ä", "https://xn--bcher-kva.example/%C3%A4"),
            ("https://example.com/a@b", "https://example.com/a@b"),
            ("https://example.com?mail=a@b", "https://example.com/?mail=a@b"),
        ] {
            assert_eq!(check_url(text).as_ref().map(Url::as_str), Ok(as_sent), "{text}");
        }
    }

    #[test]
    fn unusable_urls_say_how_to_mend_them() {
        let says = |text: &str| check_url(text).expect_err(text).to_string();
        assert!(says("").starts_with("not a URL"), "{}", says(""));
        assert!(says("example.com/hook").starts_with("not a URL"));
        assert!(says("https://").starts_with("not a URL"));
        assert!(says("https://[fe80::1%25eth0]/").starts_with("not a URL"));
        assert!(says("https://exa mple.com/").starts_with("not a URL"));
        assert!(says("https://example.com:99999/").starts_with("not a URL"));
        for text in [
            "https:///example.com/",
            "https:example.com/",
            "https:/example.com/",
            "https:\\\\example.com\\",
            "https://example.com\\@127.0.0.1/",
            "https://example.com/a b",
            " https://example.com/",
            "https://example.com/\n",
            "ht\ttps://example.com/",
            "https://exam\rple.com/",
        ] {
            assert_eq!(check_url(text), Err(UrlError::Unclear), "{text:?}");
        }
        assert_eq!(check_url("ftp://example.com/"), Err(UrlError::Scheme("ftp".into())));
        assert_eq!(check_url("file:///etc/passwd"), Err(UrlError::Scheme("file".into())));
        assert_eq!(check_url("https://example.com:0/"), Err(UrlError::PortZero));
        for text in [
            "https://user@example.com/",
            "https://user:secret@example.com/",
            "https://:secret@example.com/",
            "https://@example.com/",
            "https://:@example.com/",
            "https://example.com:443@127.0.0.1/",
            "https://example.com%2f@127.0.0.1/",
        ] {
            assert_eq!(check_url(text), Err(UrlError::UserInfo), "{text}");
        }
        let long = format!("https://example.com/{}", "x".repeat(URL_BYTES_MAX));
        assert!(matches!(check_url(&long), Err(UrlError::TooLong(_))));
        assert!(!says("https://user:secret@example.com/").contains("secret"));
    }
}
