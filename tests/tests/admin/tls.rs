//! The admin address with a certificate.

use std::process::Command;

use hookmill_tests::engine::{LogLine, Said, built_program, run_to_end};
use hookmill_tests::process::bound_command;
use hookmill_tests::{Engine, behaviour};
use nix::sys::signal::Signal;
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::support::{ADMIN, guest};
use crate::mill::{Mill, SOON};

/// An authority, and certificates of it for 127.0.0.1.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(
            CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
                .expect("it can be signed"),
        )
    }

    /// Certificate and key as PEM.
    fn certificate(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        (params.signed_by(&key, &self.0).expect("it can be signed").pem(), key.serialize_pem())
    }
}

fn module(engine: &str, arguments: &[&str]) -> Command {
    let mut command = bound_command(built_program());
    command.arg("module").args(arguments).args(["--admin", engine]).env("HOOKMILL_TOKEN", ADMIN);
    command
}

async fn said(command: Command) -> Said {
    run_to_end("hookmill module", command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_the_address_speaks_tls_alone_and_a_new_one_is_taken_on_sighup() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let (old, new) = (Authority::new(), Authority::new());
    let (cert, key) = old.certificate();
    let settings = "[admin]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\
                    [[token]]\nname = \"ops\"\nsecret = { env = \"T\" }\nscopes = [\"admin\"]\n";
    let file = mill.folder.write("settings/hookmill.toml", settings);
    mill.folder.write("settings/cert.pem", &cert);
    mill.folder.write("settings/key.pem", &key);
    let old_ca = mill.folder.write("settings/old.pem", old.0.pem());
    let new_ca = mill.folder.write("settings/new.pem", new.0.pem());
    let (old_ca, new_ca) = (old_ca.to_str().expect("UTF-8"), new_ca.to_str().expect("UTF-8"));
    let engine = mill.engine().arg("--config").arg(file).env("T", ADMIN).spawn();
    let served = |line: &LogLine| line.message() == "health, metrics and admin API are served";
    let line = engine.wait_for_line("its address", SOON, served).await;
    let address = line.field("address").and_then(|text| text.as_str()).expect("text").to_owned();
    let url = format!("https://{address}");

    let good = said(module(&url, &["list", "--admin-ca", old_ca])).await;
    assert_eq!((good.code, &*good.stdout), (0, ""), "{good:?}");
    let redact = guest("redact");
    let file = redact.to_str().expect("UTF-8");
    let push = ["push", file, "--name", "redact", "--version", "1.0.0", "--admin-ca", old_ca];
    let pushed = said(module(&url, &push)).await;
    assert_eq!(pushed.code, 0, "{pushed:?}");
    let unknown = said(module(&url, &["list"])).await;
    assert_eq!(unknown.code, 1);
    assert!(
        unknown.stderr.contains("unknown authority") && unknown.stderr.contains("; --admin-ca names"),
        "{unknown:?}"
    );
    let plain = said(module(&format!("http://{address}"), &["list"])).await;
    assert_eq!(plain.code, 1, "{plain:?}");
    assert!(plain.stderr.starts_with("error: no answer from http://"), "{plain:?}");

    // A certificate that can't be used is not taken; one that can is.
    let refused = |line: &LogLine| line.message().starts_with("the certificate was not read again");
    mill.folder.write("settings/cert.pem", "torn");
    engine.signal(Signal::SIGHUP);
    let line = engine.wait_for_line("that it was not read", SOON, refused).await;
    let error = line.field("error").and_then(|text| text.as_str()).unwrap_or_default();
    assert!(error.ends_with("cert.pem holds no certificate in PEM form"), "{error}");
    assert_eq!(said(module(&url, &["list", "--admin-ca", old_ca])).await.code, 0);
    let (cert, key) = new.certificate();
    mill.folder.write("settings/key.pem", key);
    mill.folder.write("settings/cert.pem", cert);
    engine.signal(Signal::SIGHUP);
    hookmill_tests::eventually(SOON, "the new certificate is shown", || async {
        let listed = said(module(&url, &["list", "--admin-ca", new_ca])).await;
        if listed.code == 0 { Ok(()) } else { Err(listed.stderr) }
    })
    .await;
    assert_eq!(said(module(&url, &["list", "--admin-ca", old_ca])).await.code, 1);
    assert_eq!(engine.terminate().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_can_not_be_used_ends_the_start() {
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let settings =
        mill.folder.write("settings/hookmill.toml", "[admin]\ncert = \"no.pem\"\nkey = \"no.pem\"\n");
    let engine: Engine = mill.engine().arg("--config").arg(settings).spawn();
    let said = |line: &LogLine| {
        line.text.starts_with("error: [admin]: ")
            && line.text.ends_with("no.pem can't be read: entity not found")
    };
    engine.wait_for_line("what is wrong", SOON, said).await;
    assert_eq!(engine.wait().await, 2);
}
