//! Logging in to NATS: certificates of one's own, and credentials files.

use std::fmt::Write as _;
use std::path::PathBuf;

use data_encoding::BASE64URL_NOPAD;
use hookmill_tests::nats_server::{ClientOptions, NatsOptions};
use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, events, hookmill};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa};
use serde_json::{Value, json};

use crate::mill::{SOON, orders};

/// A server that asks for something, an endpoint, and a folder with a pipeline and files to log in with.
struct Gate {
    server: NatsServer,
    folder: PipelineFolder,
    endpoint: Endpoint,
}

impl Gate {
    async fn open(folder: PipelineFolder, options: NatsOptions) -> Self {
        let server = options.start().await;
        events::make_source_stream(&server.jetstream().await).await;
        let endpoint = Endpoint::start(behaviour::always(200)).await;
        folder.write("pipelines/orders.toml", orders(&endpoint, "", ""));
        Self { server, folder, endpoint }
    }

    /// `hookmill.toml` with these lines of `[nats]`.
    fn settings(&self, lines: &str) -> PathBuf {
        let text = format!("[nats]\nurl = \"{}\"\nconnect_timeout = \"2s\"\n{lines}\n", self.server.url());
        self.folder.write("hookmill.toml", text)
    }

    /// An engine with these settings delivers an order.
    async fn delivers(&self, lines: &str) {
        let settings = self.settings(lines);
        let options = Engine::command(&["run", "--listen", "127.0.0.1:0"]);
        let options = options.arg("--config").arg(settings).arg("--egress-allow=127.0.0.0/8");
        let engine = options.arg(self.folder.path().join("pipelines")).start().await;
        let before = self.endpoint.received();
        events::publish_all(&self.server.jetstream().await, [events::structured(before + 1)]).await;
        self.endpoint.wait_for("the order is delivered", SOON, |log| log.delivered_ids() > before).await;
        assert_eq!(engine.terminate().await, 0);
    }

    /// `hookmill init` with these settings ends with this code; its last line.
    async fn fails(&self, code: i32, lines: &str) -> String {
        let settings = self.settings(lines);
        let settings = settings.to_str().expect("a path of text");
        let said = hookmill(&["init", "--config", settings]).await;
        assert_eq!((said.code, &*said.stdout), (code, ""), "{said:?}");
        said.stderr.lines().last().unwrap_or_default().to_owned()
    }
}

type Issuer = CertifiedIssuer<'static, rcgen::KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority signs itself")
}

/// Writes `<name>.pem` and `<name>.key` for 127.0.0.1.
fn certificate(folder: &PipelineFolder, name: &str, issuer: &Issuer) -> (PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    let signed = params.signed_by(&key, issuer).expect("the authority signs");
    let certificate = folder.write(&format!("{name}.pem"), signed.pem());
    (certificate, folder.write(&format!("{name}.key"), key.serialize_pem()))
}

#[tokio::test]
async fn a_server_with_a_certificate_of_ones_own_authority_is_trusted_by_naming_it() {
    let folder = PipelineFolder::new();
    let (ours, other) = (authority("ours"), authority("another"));
    let ca = folder.write("ca.pem", ours.pem());
    folder.write("other.pem", other.pem());
    let (certificate, key) = certificate(&folder, "server", &ours);
    let tls = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
    let client = ClientOptions { ca: Some(ca), ..ClientOptions::default() };
    let gate = Gate::open(folder, NatsServer::options().extra(&tls).client(client)).await;
    gate.delivers("ca = \"ca.pem\"").await;
    for lines in ["", "ca = \"other.pem\""] {
        let said = gate.fails(1, lines).await;
        let expected = format!(
            "error: TLS with the NATS server at {} fails; see [nats] ca, cert and key",
            gate.server.url()
        );
        assert!(said.starts_with(&expected), "{lines}: {said}");
    }
    let said = gate.fails(2, "ca = \"missing.pem\"").await;
    assert!(said.starts_with("error: [nats] ca file ") && said.contains("missing.pem"), "{said}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_that_of_the_settings() {
    let folder = PipelineFolder::new();
    let (ours, other) = (authority("ours"), authority("another"));
    let ca = folder.write("ca.pem", ours.pem());
    let (server, server_key) = certificate(&folder, "server", &ours);
    let mine = certificate(&folder, "client", &ours);
    certificate(&folder, "stranger", &other);
    let tls =
        format!("tls {{ cert_file: {server:?}, key_file: {server_key:?}, ca_file: {ca:?}, verify: true }}");
    let client = ClientOptions { ca: Some(ca), certificate: Some(mine), ..ClientOptions::default() };
    let gate = Gate::open(folder, NatsServer::options().extra(&tls).client(client)).await;
    gate.delivers("ca = \"ca.pem\"\ncert = \"client.pem\"\nkey = \"client.key\"").await;
    for lines in ["ca = \"ca.pem\"", "ca = \"ca.pem\"\ncert = \"stranger.pem\"\nkey = \"stranger.key\""] {
        let said = gate.fails(1, lines).await;
        assert!(said.contains("[nats] ca, cert and key"), "{lines}: {said}");
    }
}

/// A token of the decentralised kind: claims, signed by an nkey.
fn token(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: &Value) -> String {
    let claims = json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name,
        "sub": subject.public_key(), "nats": nats
    });
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = issuer.sign(signed.as_bytes()).expect("it has a seed");
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

fn account(operator: &KeyPair, account: &KeyPair, name: &str, storage: i64) -> String {
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
        "leaf": -1, "mem_storage": storage, "disk_storage": storage, "streams": storage, "consumer": storage
    });
    let permissions = json!({ "pub": {}, "sub": {} });
    let nats =
        json!({ "limits": limits, "default_permissions": permissions, "type": "account", "version": 2 });
    token(operator, account, name, &nats)
}

/// The text of a credentials file for a new user of the account.
fn credentials(account: &KeyPair) -> String {
    let user = KeyPair::new_user();
    let nats =
        json!({ "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2 });
    let token = token(account, &user, "engine", &nats);
    let seed = user.seed().expect("it has one");
    let mut text = String::new();
    for (what, value) in [("NATS USER JWT", token), ("USER NKEY SEED", seed)] {
        let _ = write!(text, "-----BEGIN {what}-----\n{value}\n------END {what}------\n\n");
    }
    text
}

#[tokio::test]
async fn a_credentials_file_logs_in_where_accounts_are_tokens() {
    let folder = PipelineFolder::new();
    let (operator, mine, system) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let ours = credentials(&mine);
    folder.write("engine.creds", &ours);
    // Of an account that the server has never heard of, and no credentials at all.
    folder.write("stranger.creds", credentials(&KeyPair::new_account()));
    folder.write("broken.creds", "sesame");
    let accounts = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{ {}: {}, {}: {} }}",
        token(&operator, &operator, "operator", &json!({ "type": "operator", "version": 2 })),
        system.public_key(),
        system.public_key(),
        account(&operator, &system, "system", 0),
        mine.public_key(),
        account(&operator, &mine, "mill", -1),
    );
    let client = ClientOptions { credentials: Some(ours.clone()), ..ClientOptions::default() };
    let gate = Gate::open(folder, NatsServer::options().extra(&accounts).client(client)).await;
    gate.delivers("credentials = \"engine.creds\"").await;
    let url = gate.server.url();
    let refused = format!("error: the NATS server at {url} refuses the credentials; see [nats] credentials");
    for lines in ["", "credentials = \"stranger.creds\""] {
        let said = gate.fails(1, lines).await;
        assert!(said.starts_with(&refused), "{lines}: {said}");
    }
    let said = gate.fails(2, "credentials = \"broken.creds\"").await;
    assert!(said.contains("broken.creds") && !said.contains("sesame"), "{said}");
}
