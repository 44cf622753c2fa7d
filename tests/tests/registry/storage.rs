//! What the registry keeps: versions that never change, bytes that are there as long as a version has them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use hookmill::model::Digest;
use hookmill::nats::modules::{ModulesError, ObjectError, Put, Use};
use hookmill::nats::{Modules, Registry};
use hookmill_tests::NatsServer;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::support::{connect, name, open, put, resolved, version};

/// Longest wait for something that must come.
const SOON: Duration = Duration::from_secs(20);

/// Bytes that take several messages.
fn large(seed: u8) -> Bytes {
    (0..251_u8).cycle().map(|byte| byte.wrapping_add(seed)).take(400_000).collect::<Vec<u8>>().into()
}

async fn bytes_of(modules: &Modules, digest: &Digest) -> Option<Bytes> {
    modules.bytes(digest).await.expect("they can be read")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_stored_once_and_never_changes() {
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    let (redact, one) = (name("redact"), version("1.0.0"));
    let about = json!({ "description": "takes fields away" });
    let Ok(Put::Created(stored)) = modules.put(&redact, &one, large(1), about.clone()).await else {
        panic!("it is not stored");
    };
    assert_eq!((stored.digest.clone(), stored.bytes), (Digest::of(&large(1)), 400_000));
    assert_eq!(modules.get(&redact, &one).await.expect("it can be read"), Some(stored.clone()));
    assert_eq!(bytes_of(&modules, &stored.digest).await, Some(large(1)));

    let again = modules.put(&redact, &one, large(1), Value::Null).await.expect("the same bytes are fine");
    assert_eq!(again, Put::Same(stored.clone()), "with what was said about it the first time");
    let error = modules.put(&redact, &one, large(2), Value::Null).await.expect_err("other bytes");
    assert!(
        matches!(&error, ModulesError::Conflict { digest, deleted: false, .. } if *digest == stored.digest)
    );
    let said = format!(
        "redact@1.0.0 is there with other bytes ({}); a version never changes, so give these bytes another one",
        stored.digest
    );
    assert_eq!(error.to_string(), said);
    assert_eq!(bytes_of(&modules, &Digest::of(&large(2))).await, None, "what is refused leaves nothing");

    put(&modules, "redact", "1.10.0", large(1)).await;
    put(&modules, "redact", "1.9.0", large(3)).await;
    put(&modules, "mask", "0.1.0", large(4)).await;
    let all = modules.names().await.expect("they can be listed");
    let all: Vec<String> = all.iter().map(|record| format!("{}@{}", record.name, record.version)).collect();
    assert_eq!(all, ["mask@0.1.0", "redact@1.0.0", "redact@1.9.0", "redact@1.10.0"]);
    assert_eq!(modules.versions(&name("red")).await.expect("they can be listed"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn references_mean_the_newest_version_that_fits_and_is_not_yanked() {
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    let empty = "there is no module redact in the registry, which is empty; `hookmill module push` fills it";
    assert_eq!(resolved(&modules, "redact@1").await, empty);
    for at in ["1.0.0", "1.4.1", "1.4.2", "1.9.0", "1.10.0", "1.11.0-rc.1", "2.0.0"] {
        put(&modules, "redact", at, at.to_owned()).await;
    }
    let digest = Digest::of(b"1.9.0");
    for (text, means) in [
        ("redact@1", "redact@1.10.0"),
        ("redact@1.4", "redact@1.4.2"),
        ("redact@1.4.1", "redact@1.4.1"),
        ("redact@1.11.0-rc.1", "redact@1.11.0-rc.1"),
        (&format!("redact@{digest}"), "redact@1.9.0"),
        ("redcat@1", "there is no module redcat in the registry; did you mean redact?"),
        ("other@1", "there is no module other in the registry; `hookmill module list` shows what there is"),
        (
            "redact@3",
            "no version of module redact fits redact@3; there is 2.0.0, 1.11.0-rc.1, 1.10.0, 1.9.0, 1.4.2 and 2 more",
        ),
        ("./redact.wasm", "./redact.wasm is a file, not a module of the registry"),
    ] {
        assert_eq!(resolved(&modules, text).await, means, "{text}");
    }

    let yanked =
        modules.yank(&name("redact"), &version("1.10.0"), "it loses money").await.expect("it is there");
    assert_eq!(yanked.yanked.as_ref().map(|yanked| yanked.why.as_str()), Some("it loses money"));
    let again = modules.yank(&name("redact"), &version("1.10.0"), "again").await.expect("it is there");
    assert_eq!(again, yanked, "what was yanked stays as it was");
    assert_eq!(resolved(&modules, "redact@1").await, "redact@1.9.0");
    assert_eq!(resolved(&modules, "redact@1.10.0").await, "redact@1.10.0", "a pin still means it");
    modules.yank(&name("redact"), &version("2.0.0"), "too new").await.expect("it is there");
    let said = resolved(&modules, "redact@2").await;
    assert!(said.starts_with("no version of module redact fits redact@2; there is 2.0.0 (yanked: too new), 1.11.0-rc.1, 1.10.0 (yanked: it loses money),"), "{said}");
    let error = modules.yank(&name("redact"), &version("7.0.0"), "").await.expect_err("it is not there");
    assert_eq!(error.to_string(), "there is no redact@7.0.0 in the registry");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_with_the_last_version_that_has_them() {
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    let redact = name("redact");
    let digest = put(&modules, "redact", "1.0.0", large(1)).await.digest;
    put(&modules, "mask", "1.0.0", large(1)).await;
    modules.delete(&redact, &version("1.0.0")).await.expect("nobody uses it");
    assert_eq!(modules.get(&redact, &version("1.0.0")).await.expect("it can be asked"), None);
    assert_eq!(bytes_of(&modules, &digest).await, Some(large(1)), "mask has them still");
    modules.delete(&name("mask"), &version("1.0.0")).await.expect("nobody uses it");
    assert_eq!(bytes_of(&modules, &digest).await, None);
    let error = modules.delete(&redact, &version("1.0.0")).await.expect_err("it is gone");
    assert!(matches!(error, ModulesError::NotFound { .. }), "{error}");

    let error =
        modules.put(&redact, &version("1.0.0"), large(2), Value::Null).await.expect_err("other bytes");
    let said = format!("redact@1.0.0 was deleted and held other bytes ({digest})");
    assert!(error.to_string().starts_with(&said), "{error}");
    put(&modules, "redact", "1.0.0", large(1)).await;
    assert_eq!(bytes_of(&modules, &digest).await, Some(large(1)), "the same bytes may come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_deletion_takes_the_bytes_of_a_version_that_is_stored_at_the_same_time() {
    let server = NatsServer::start().await;
    let (one, other) = (open(&server).await, open(&server).await);
    let module = name("m");
    let bytes = Bytes::from_static(b"the same in every version");
    let digest = Digest::of(&bytes);
    put(&one, "m", "1.0.0", bytes.clone()).await;
    for round in 1..=150_u64 {
        let (old, new) = (version(&format!("1.0.{}", round - 1)), version(&format!("1.0.{round}")));
        // A deletion takes longer: the two meet at another point in every round.
        let later = Duration::from_micros(round * 50 % 6000);
        let store = async {
            tokio::time::sleep(later).await;
            other.put(&module, &new, bytes.clone(), Value::Null).await
        };
        let (deleted, stored) = tokio::join!(one.delete(&module, &old), store);
        deleted.expect("nobody uses it");
        stored.expect("it is stored");
        assert_eq!(bytes_of(&one, &digest).await, Some(bytes.clone()), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_store_the_same_version_agree_or_one_is_refused() {
    let server = NatsServer::start().await;
    let (one, other) = (open(&server).await, open(&server).await);
    let module = name("m");
    for round in 0..20 {
        let (at, differ) = (version(&format!("1.0.{round}")), round % 2 == 0);
        let (mine, theirs) = (large(1), if differ { large(2) } else { large(1) });
        let (first, second) = tokio::join!(
            one.put(&module, &at, mine, Value::Null),
            other.put(&module, &at, theirs, Value::Null)
        );
        let created = [&first, &second].iter().filter(|put| matches!(put, Ok(Put::Created(_)))).count();
        let kept = one.get(&module, &at).await.expect("it can be read").expect("it is there");
        assert_eq!(created, 1, "{first:?} {second:?}");
        assert!(bytes_of(&one, &kept.digest).await.is_some(), "round {round}");
        let refused = [&first, &second].iter().filter(|put| put.is_err()).count();
        assert_eq!(refused, usize::from(differ), "{first:?} {second:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_or_a_damage_leaves_is_mended_by_storing_it_again() {
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    let jetstream = server.jetstream().await;
    let objects = jetstream.get_stream("OBJ_HOOKMILL_MODULES").await.expect("it is there");
    let digest = put(&modules, "m", "1.0.0", large(1)).await.digest;
    // The record is there and the object is not: its writer died between the two and somebody removed the object.
    objects.purge().await.expect("it can be purged");
    assert_eq!(bytes_of(&modules, &digest).await, None);
    let again = modules.put(&name("m"), &version("1.0.0"), large(1), Value::Null).await;
    assert!(matches!(again, Ok(Put::Same(_))), "{again:?}");
    assert_eq!(bytes_of(&modules, &digest).await, Some(large(1)));

    // One of its parts is gone.
    let mut part =
        objects.get_first_raw_message_by_subject("$O.HOOKMILL_MODULES.C.>", 1).await.expect("one is there");
    while part.payload.len() != 128 << 10 {
        part = objects
            .get_first_raw_message_by_subject("$O.HOOKMILL_MODULES.C.>", part.sequence + 1)
            .await
            .expect("another is there");
    }
    objects.delete_message(part.sequence).await.expect("it can be deleted");
    let again = modules.put(&name("m"), &version("1.0.0"), large(1), Value::Null).await;
    assert!(matches!(again, Ok(Put::Same(_))), "{again:?}");
    assert_eq!(bytes_of(&modules, &digest).await, Some(large(1)));
    let parts = objects.info_with_subjects("$O.HOOKMILL_MODULES.C.>").await.expect("it can be asked");
    assert_eq!(parts.collect::<Vec<_>>().await.len(), 1, "the damaged parts are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_are_never_handed_out() {
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    let digest = put(&modules, "m", "1.0.0", "as they were given").await.digest;
    let store = server.jetstream().await.get_object_store("HOOKMILL_MODULES").await.expect("it is there");
    let mut other = &b"something else entirely"[..];
    store.put(digest.hex(), &mut other).await.expect("anybody with access can");
    let error = modules.bytes(&digest).await.expect_err("they are others");
    assert!(matches!(error, ModulesError::Damaged { .. }), "{error}");
    assert!(error.to_string().ends_with("upload it again"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_objects_are_nats_objects() {
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    let digest = put(&modules, "m", "1.0.0", large(1)).await.digest;
    let store = server.jetstream().await.get_object_store("HOOKMILL_MODULES").await.expect("it is there");
    let mut read = Vec::new();
    let mut object = store.get(digest.hex()).await.expect("NATS's own client finds it");
    object.read_to_end(&mut read).await.expect("and reads it, its digest checked");
    assert_eq!(read, large(1));

    let other = Digest::of(&large(2));
    store.put(other.hex(), &mut &large(2)[..]).await.expect("NATS's own client writes one");
    assert_eq!(bytes_of(&modules, &other).await, Some(large(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_living_engine_uses_cannot_be_deleted() {
    let server = NatsServer::start().await;
    let nats = connect(&server).await;
    let modules = Modules::open(&nats).await.expect("it can be opened");
    let registry = Registry::open(&nats).await.expect("it can be opened");
    let (pipeline, engine) = (name("orders"), "0123456789abcdef");
    put(&modules, "redact", "1.0.0", "1.0.0").await;
    put(&modules, "redact", "1.1.0", "1.1.0").await;
    let one = Use {
        pipeline: pipeline.clone(),
        subscription: name("warehouse"),
        step: 0,
        engine: engine.to_owned(),
        reference: "redact@1".to_owned(),
        version: Some(version("1.1.0")),
        digest: Digest::of(b"1.1.0"),
        last_error: None,
    };
    let by_digest = format!("redact@{}", Digest::of(b"1.0.0"));
    let pinned =
        Use { step: 1, reference: by_digest, digest: Digest::of(b"1.0.0"), version: None, ..one.clone() };
    modules.say_uses(&pipeline, engine, &[one.clone(), pinned.clone()]).await.expect("it is stored");
    assert_eq!(
        modules.uses().await.expect("they can be read"),
        [],
        "without a sign of life it counts for nothing"
    );
    registry.renew(&pipeline, engine, "hash").await.expect("it is stored");
    assert_eq!(modules.uses().await.expect("they can be read"), [one, pinned]);
    assert_eq!(modules.engines().await.expect("they can be read")[0].revision, "hash");

    let error = modules.delete(&name("redact"), &version("1.1.0")).await.expect_err("it is used");
    assert_eq!(
        error.to_string(),
        "it is in use by orders/warehouse step 0 (redact@1) in engine 0123456789abcdef; \
         take it out of these pipelines, or yank it so that ranges leave it"
    );
    let error = modules.delete(&name("redact"), &version("1.0.0")).await.expect_err("its bytes are used");
    assert!(matches!(&error, ModulesError::InUse(uses) if uses[0].step == 1), "{error}");
    put(&modules, "redact", "1.0.1", "1.0.0").await;
    modules.delete(&name("redact"), &version("1.0.0")).await.expect("another version has the bytes");

    registry.retire(&pipeline, engine).await.expect("it is removed");
    modules.delete(&name("redact"), &version("1.1.0")).await.expect("nobody uses it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_and_the_first_look_comes_at_once() {
    let server = NatsServer::start().await;
    let modules = open(&server).await;
    put(&modules, "redact", "1.0.0", "1").await;
    let mut changes = modules.watch().await.expect("they can be followed");
    let mut told =
        async || tokio::time::timeout(SOON, changes.next()).await.expect("a change is told in time");
    assert_eq!(told().await, Some(()), "at once");
    put(&modules, "redact", "1.1.0", "2").await;
    assert_eq!(told().await, Some(()));
    modules.yank(&name("redact"), &version("1.1.0"), "wrong").await.expect("it is there");
    assert_eq!(told().await, Some(()));
    modules.delete(&name("redact"), &version("1.1.0")).await.expect("nobody uses it");
    assert_eq!(told().await, Some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_said_so() {
    let mut server = NatsServer::start().await;
    let modules = open(&server).await;
    let digest = put(&modules, "m", "1.0.0", "1").await.digest;
    server.kill().await;
    let error = modules.bytes(&digest).await.expect_err("nobody answers");
    assert!(matches!(error, ModulesError::Object { source: ObjectError::Api(_), .. }), "{error}");
    assert_eq!(error.to_string(), format!("the bytes of module {digest} can't be read"));
}
