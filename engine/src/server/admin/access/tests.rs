//! Tokens that change, and requests that only look local.

use super::*;

fn token(name: &str, secret: SecretRef, modules: Option<&[&str]>) -> Token {
    let patterns = |texts: &[&str]| texts.iter().map(|text| NamePattern::new(text).unwrap()).collect();
    Token {
        name: Name::new(name).unwrap(),
        secret,
        scopes: vec![Scope::ModulesRead],
        modules: modules.map(patterns),
    }
}

fn plain(text: &str) -> SecretRef {
    SecretRef::Plain(text.to_owned())
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn ask(access: &Access, authorization: &str) -> Result<String, (u16, String)> {
    let headers = headers(&[("authorization", authorization)]);
    let caller = access.caller("192.0.2.1".parse().unwrap(), &Uri::from_static("/v1/modules"), &headers);
    caller.map(|caller| caller.label().to_owned()).map_err(|problem| {
        let (status, _, detail) = problem.said();
        (status, detail.to_owned())
    })
}

const ONE: &str = "one-one-one-one-one";
const TWO: &str = "two-two-two-two-two";

#[test]
fn each_token_is_known_by_its_name_and_nothing_else_is() {
    let access = Access::new(vec![token("a", plain(ONE), None), token("b", plain(TWO), None)]).unwrap();
    assert_eq!(ask(&access, &format!("Bearer {ONE}")), Ok("a".to_owned()));
    assert_eq!(ask(&access, &format!("bearer {TWO}")), Ok("b".to_owned()));
    let unknown = Err((401, "the token that was sent is not known".to_owned()));
    for wrong in ["Bearer x", &format!("Bearer {ONE}{ONE}"), &format!("Bearer {}", &ONE[1..]), "Bearer "] {
        let said = ask(&access, wrong);
        assert!(said == unknown || said == Err((401, "no token was sent".to_owned())), "{wrong}: {said:?}");
    }
    for none in ["", "Basic eDp5", ONE, "Bearer"] {
        assert_eq!(ask(&access, none), Err((401, "no token was sent".to_owned())), "{none}");
    }
}

#[test]
fn tokens_that_can_not_be_used_are_named_and_not_shown() {
    let says = |tokens| Access::new(tokens).unwrap_err().to_string();
    assert_eq!(
        says(vec![token("a", plain("fifteen-letters"), None)]),
        "token a is shorter than 16 characters; `openssl rand -hex 32` makes a good one"
    );
    let same = says(vec![token("a", plain(ONE), None), token("b", plain(ONE), None)]);
    assert_eq!(same, "tokens a and b have the same value; give each its own");
    let missing = SecretRef::Env { name: "HOOKMILL_TEST_NOT_SET".into(), prefix: String::new() };
    assert_eq!(says(vec![token("a", missing, None)]), "token a has no value");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_changes_the_token_and_one_that_goes_takes_it_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, ONE).unwrap();
    let file = SecretRef::File { path: path.clone(), prefix: String::new() };
    let access = Access::new(vec![token("a", file, None)]).unwrap();
    let knows = |text: &str| ask(&access, &format!("Bearer {text}")).is_ok();
    std::fs::write(&path, TWO).unwrap();
    assert!(knows(ONE) && !knows(TWO), "it is not read for each request");
    tokio::time::advance(FILE_KEPT).await;
    assert!(!knows(ONE) && knows(TWO));
    std::fs::remove_file(&path).unwrap();
    tokio::time::advance(FILE_KEPT).await;
    assert!(!knows(TWO));
    std::fs::write(&path, ONE).unwrap();
    tokio::time::advance(FILE_KEPT).await;
    assert!(knows(ONE));
}

#[test]
fn a_process_without_descriptors_takes_no_token_away() {
    let name = || Name::new("a").unwrap();
    let missing = |error| Err(AccessError::Missing(name(), error));
    assert!(says_nothing(&missing(SecretError::OutOfFiles("token".into()))));
    assert!(!says_nothing(&missing(SecretError::File("token".into(), std::io::ErrorKind::NotFound))));
    assert!(!says_nothing(&Err(AccessError::Short(name()))) && !says_nothing(&Ok([0; 32])));
}

#[test]
fn a_token_for_some_modules_sees_no_others() {
    let caller = |modules| Caller::Token(Arc::new(token("a", plain(ONE), modules)));
    let name = |text| Name::new(text).unwrap();
    let narrow = caller(Some(&["acme-*", "redact"]));
    assert!(narrow.sees(&name("acme-x")) && narrow.sees(&name("redact")) && !narrow.sees(&name("other")));
    let problem = narrow.may_touch(&name("other")).unwrap_err();
    assert_eq!(problem.said(), (403, Code::ModuleNotAllowed, "token a is not for module other"));
    assert!(caller(None).sees(&name("other")) && !caller(Some(&[])).sees(&name("other")));
    assert!(narrow.may(Scope::ModulesRead).is_ok() && narrow.may(Scope::Admin).is_err());
}

#[test]
fn only_requests_that_were_meant_and_made_here_are_local() {
    let judge = |peer: &str, uri: &str, pairs: &[(&'static str, &str)]| {
        local(peer.parse().unwrap(), &uri.parse().unwrap(), &headers(pairs))
    };
    let host = ("host", "127.0.0.1:8470");
    for (peer, fine) in
        [("127.0.0.1", "127.0.0.1:8470"), ("::1", "[::1]:8470"), ("::ffff:127.0.0.1", "127.1.2.3")]
    {
        assert_eq!(judge(peer, "/v1/modules", &[("host", fine)]), Ok(()), "{fine}");
    }
    for fine in ["localhost", "LOCALHOST:1", "127.0.0.1"] {
        assert_eq!(judge("127.0.0.1", "/", &[("host", fine)]), Ok(()), "{fine}");
    }
    let page = ("origin", "http://127.0.0.1:8470");
    assert_eq!(judge("127.0.0.1", "/", &[host, page, ("sec-fetch-site", "same-origin")]), Ok(()));
    for (peer, uri, pairs) in [
        ("192.0.2.1", "/", &[host][..]),
        ("127.0.0.1", "/", &[]),
        ("127.0.0.1", "/", &[("host", "evil.example:8470")]),
        ("127.0.0.1", "/", &[("host", "localhost.evil.example")]),
        ("127.0.0.1", "/", &[("host", "127.0.0.1.evil.example")]),
        ("127.0.0.1", "/", &[("host", "localhost@evil.example")]),
        ("127.0.0.1", "/", &[("host", "evil@127.0.0.1")]),
        ("127.0.0.1", "/", &[("host", "0.0.0.0:8470")]),
        ("127.0.0.1", "http://evil.example/", &[host]),
        ("127.0.0.1", "/", &[host, ("origin", "https://evil.example")]),
        ("127.0.0.1", "/", &[host, ("origin", "http://127.0.0.1:3000")]),
        ("127.0.0.1", "/", &[host, ("origin", "null")]),
        ("127.0.0.1", "/", &[host, ("sec-fetch-site", "cross-site")]),
        ("127.0.0.1", "/", &[host, ("sec-fetch-site", "same-site")]),
        ("127.0.0.1", "/", &[host, ("x-forwarded-for", "192.0.2.1")]),
        ("127.0.0.1", "/", &[host, ("forwarded", "for=192.0.2.1")]),
        ("127.0.0.1", "/", &[host, ("via", "1.1 proxy")]),
    ] {
        assert!(judge(peer, uri, pairs).is_err(), "{peer} {uri} {pairs:?}");
    }
}

#[test]
fn being_on_this_machine_is_enough_to_look_and_for_no_more() {
    let local = |access: &Access, pairs: &[(&'static str, &str)]| {
        let all = [&[("host", "127.0.0.1:8470")], pairs].concat();
        access.caller("127.0.0.1".parse().unwrap(), &Uri::from_static("/v1/modules"), &headers(&all)).unwrap()
    };
    let said = |caller: &Caller| caller.is_trusted().map_err(|problem| problem.said().0);
    let bare = Access::new(Vec::new()).unwrap();
    assert_eq!(said(&local(&bare, &[])), Err(401), "none could be made");
    let access = bare.with_own(ONE, "/run/hookmill/admin-8470.token".to_owned());
    assert_eq!(said(&local(&access, &[])), Err(401));
    assert_eq!(said(&local(&access, &[("authorization", &format!("Bearer {TWO}"))])), Err(401));
    assert_eq!(said(&local(&access, &[("authorization", &format!("Bearer {ONE}"))])), Ok(()));
    let configured = Access::new(vec![token("a", plain(TWO), None)]).unwrap().with_own(ONE, String::new());
    assert!(
        ask(&configured, &format!("Bearer {ONE}")).is_err(),
        "where tokens are configured only they count"
    );
}
