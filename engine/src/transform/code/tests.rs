//! What is kept, what is used again, and what is not.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::super::testing::{Guest, event, host_of, patient};
use super::super::{Compiler, Host, HostSettings, Step};
use super::*;
use crate::model::Verdict;

/// A host that keeps its native code in `folder`.
fn host(folder: &Path, bytes_max: u64) -> Arc<Host> {
    let cache = Cache { folder: CacheFolder::Named(folder.to_owned()), bytes_max };
    host_of(HostSettings { instances: 4, cache, ..HostSettings::default() })
}

/// One that has no compiler: what it loads was kept.
fn without_compiler(folder: &Path) -> Arc<Host> {
    let cache = Cache { folder: CacheFolder::Usual(folder.to_owned()), bytes_max: 1 << 30 };
    let mut settings = HostSettings { instances: 4, cache, ..HostSettings::default() };
    settings.compile.by = Compiler::Program("/nonexistent/hookmill".into());
    host_of(settings)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn only_file(folder: &Path) -> PathBuf {
    let files = files(folder);
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

async fn drops(host: &Arc<Host>, guest: &Guest) -> String {
    let module = host.load("guest", &guest.core()).unwrap();
    let step = Step::new(Arc::clone(host), module, patient()).await.unwrap();
    match step.apply(&event()).await {
        Ok(Verdict::Drop(why)) => why,
        other => panic!("no drop: {other:?}"),
    }
}

#[tokio::test]
async fn what_was_compiled_once_is_run_without_a_compiler() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::drop("from the cache");
    let first = host(folder.path(), 1 << 30).load("guest", &guest.core()).unwrap();
    let file = only_file(folder.path());
    let about = std::fs::metadata(&file).unwrap();
    assert_eq!(about.mode() & 0o777, 0o600);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with(first.digest().trim_start_matches("sha256:")), "{name}");

    let host = without_compiler(folder.path());
    assert_eq!(drops(&host, &guest).await, "from the cache");
    let again = host.load("guest", &guest.core()).unwrap();
    assert_eq!(again.facts(), first.facts());
    assert!(again.facts().imports.contains(&"hookmill:transform/log@0.1.0".to_owned()));
    assert_eq!(again.facts().exports, ["hookmill:transform/handler@0.1.0"]);
    assert!(!again.facts().compile_time.is_zero());
}

#[tokio::test]
async fn a_file_that_is_not_as_it_was_written_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::drop("whole");
    host(folder.path(), 1 << 30).load("guest", &guest.core()).unwrap();
    let file = only_file(folder.path());
    let whole = std::fs::read(&file).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 0xff;
    for wrong in [&whole[..whole.len() / 2], &changed, b"", b"\x7fELF"] {
        std::fs::write(&file, wrong).unwrap();
        let error = without_compiler(folder.path()).load("guest", &guest.core()).unwrap_err();
        assert!(error.may_pass() && error.to_string().contains("can't be started"), "{error}");
        assert_eq!(files(folder.path()).len(), 0, "it is removed");
        std::fs::write(&file, wrong).unwrap();
        assert_eq!(drops(&host(folder.path(), 1 << 30), &guest).await, "whole");
        assert_eq!(without_compiler(folder.path()).load("g", &guest.core()).unwrap().name(), "g");
    }
}

#[tokio::test]
async fn a_file_that_others_can_write_to_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::drop("x");
    host(folder.path(), 1 << 30).load("guest", &guest.core()).unwrap();
    let file = only_file(folder.path());
    std::fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    assert!(without_compiler(folder.path()).load("guest", &guest.core()).is_err());
    assert_eq!(drops(&host(folder.path(), 1 << 30), &guest).await, "x");
    assert_eq!(std::fs::metadata(only_file(folder.path())).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn code_of_another_kind_has_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::keep();
    let host = host(folder.path(), 1 << 30);
    let digest = host.load("guest", &guest.core()).unwrap().digest().into();
    let cache = Cache { folder: CacheFolder::Named(folder.path().to_owned()), bytes_max: 1 << 30 };
    let codes = |mut config: wasmtime::Config| {
        let shelf = Shelf::new().unwrap();
        config.cache(Some(shelf.cache()));
        let engine = Engine::new(&config).unwrap();
        (Codes::open(&cache, &super::super::compile::key(&engine), shelf).unwrap(), engine)
    };
    let (own, engine) = codes(super::super::compile::config());
    let module = guest.core();
    assert!(own.find(&engine, &digest, &module).is_some(), "the pool of instances is no part of the key");
    let mut other = super::super::compile::config();
    other.cranelift_opt_level(wasmtime::OptLevel::None);
    let (codes, other) = codes(other);
    assert!(codes.find(&other, &digest, &module).is_none(), "settings are");
    // Even under a name that it hasn't earned, it isn't taken.
    let name = folder.path().join(codes.file_name(&digest));
    std::fs::rename(only_file(folder.path()), &name).unwrap();
    assert!(codes.find(&other, &digest, &module).is_none());
    assert!(!name.exists(), "and is removed");
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let guests = ["a", "b", "c"].map(|why| Guest::drop(why).core());
    let big = host(folder.path(), 1 << 30);
    let mut names = Vec::new();
    for (age, guest) in guests.iter().enumerate() {
        big.load("guest", guest).unwrap();
        let new = files(folder.path()).into_iter().find(|file| !names.contains(file)).unwrap();
        let time = now() - Duration::from_secs(300 - 100 * age as u64);
        File::open(&new).unwrap().set_modified(time).unwrap();
        names.push(new);
    }
    let bytes: u64 = names.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    // Used again: now the second one is the oldest.
    without_compiler(folder.path()).load("guest", &guests[0]).unwrap();
    let draft = folder.path().join(".draft-left-behind");
    std::fs::create_dir(&draft).unwrap();
    File::open(&draft).unwrap().set_modified(now() - 2 * DRAFT_AGE_MAX).unwrap();
    // The label says how long it took, in more or fewer digits.
    let small = host(folder.path(), bytes + 1024);
    small.load("guest", &Guest::drop("d").core()).unwrap();
    let left = files(folder.path());
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.contains(&names[0]) && !left.contains(&names[1]) && left.contains(&names[2]));

    // One alone may be too large, and stays all the same: it was needed just now.
    host(folder.path(), 1).load("guest", &Guest::drop("e").core()).unwrap();
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn a_folder_that_is_not_safe_is_an_error_if_it_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let named = Cache { folder: CacheFolder::Named(open.clone()), bytes_max: 1 << 30 };
    let error = Host::new(HostSettings { cache: named, ..HostSettings::default() }).unwrap_err();
    assert!(error.is_usage());
    let expected = format!(
        "[cache] folder {0} can't be used: others may write to it (mode 0777); take that away: chmod go-w {0}",
        open.display()
    );
    assert_eq!(error.to_string(), expected);
    // The usual one is left alone.
    let usual = Cache { folder: CacheFolder::Usual(open.clone()), bytes_max: 1 << 30 };
    let host = host_of(HostSettings { cache: usual, ..HostSettings::default() });
    host.load("guest", &Guest::keep().core()).unwrap();
    assert_eq!(files(&open).len(), 0);
}

#[tokio::test]
async fn a_folder_that_becomes_unsafe_is_left_alone_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let guest = Guest::drop("x");
    let host = host(folder.path(), 1 << 30);
    host.load("guest", &guest.core()).unwrap();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o770)).unwrap();
    assert!(without_compiler(folder.path()).load("guest", &guest.core()).is_err());
    assert_eq!(drops(&host, &Guest::drop("y")).await, "y");
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn without_a_cache_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    for cache in [
        Cache { folder: CacheFolder::None, bytes_max: 1 << 30 },
        Cache { folder: CacheFolder::Named(folder.path().join("never")), bytes_max: 0 },
    ] {
        let host = host_of(HostSettings { cache, ..HostSettings::default() });
        host.load("guest", &Guest::keep().core()).unwrap();
    }
    assert_eq!(files(folder.path()).len(), 0);
}
