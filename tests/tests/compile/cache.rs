//! Native code that is kept from one start to the next.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hookmill_tests::{Endpoint, Engine, NatsServer, PipelineFolder, behaviour, hookmill};

use super::built_module;
use crate::scene::{SOON, Scene, good, step, webhook};

/// A folder with a pipeline that has a step, and the process file that names a folder for native code.
fn folder(url: &str) -> PipelineFolder {
    let pipeline = webhook("all", url, "") + &step("redact", "remove = [\"/a\"]", "");
    let folder = PipelineFolder::with("p", &pipeline);
    folder.write("redact.wasm", built_module("redact"));
    folder.write("settings/hookmill.toml", "[cache]\nfolder = \"native\"\n");
    folder
}

fn native(folder: &PipelineFolder) -> PathBuf {
    folder.path().join("settings/native")
}

fn config(folder: &PipelineFolder) -> String {
    format!("--config={}", folder.path().join("settings/hookmill.toml").display())
}

/// The one file of native code, and which one it is.
fn kept(folder: &PipelineFolder) -> (PathBuf, u64) {
    let entries = std::fs::read_dir(native(folder)).expect("there is a folder");
    let files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    (files[0].clone(), std::fs::metadata(&files[0]).expect("it is there").ino())
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// How often the engine has compiled something, by its own word.
fn compiled(engine: &Engine) -> usize {
    engine.lines().iter().filter(|line| line.message() == "module compiled").count()
}

async fn start(server: NatsServer, folder: PipelineFolder) -> Scene {
    let options = Engine::run(&server).arg(config(&folder)).env("HOOKMILL_LOG", "info,hookmill=debug");
    Scene::open_with(server, folder, options).await
}

#[tokio::test]
async fn a_second_start_compiles_nothing_and_a_torn_file_is_made_again() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let mut scene = start(NatsServer::start().await, folder(&endpoint.url())).await;
    assert_eq!(compiled(&scene.engine), 1);
    let (file, number) = kept(&scene.folder);
    scene.publish([good("cold")]).await;
    endpoint.wait_for_delivered(1, SOON).await;

    scene.engine.restart().await;
    assert_eq!((compiled(&scene.engine), kept(&scene.folder)), (1, (file.clone(), number)), "warm");
    scene.publish([good("warm")]).await;
    endpoint.wait_for_delivered(2, SOON).await;

    // Torn while the engine is down, as a full disk would have left it.
    scene.engine.kill().await;
    let whole = std::fs::read(&file).expect("it can be read");
    std::fs::write(&file, &whole[..whole.len() - 100]).expect("it can be written");
    scene.engine.restart().await;
    assert_eq!(compiled(&scene.engine), 2, "torn");
    let warned = scene.engine.lines().into_iter().any(|line| {
        let why = line.field("why").and_then(serde_json::Value::as_str);
        line.message() == "native code is not used, the module is compiled again"
            && why == Some("it is torn or has been changed")
    });
    assert!(warned, "{:#?}", scene.engine.lines());
    scene.publish([good("torn")]).await;
    endpoint.wait_for_delivered(3, SOON).await;
    scene.engine.restart().await;
    assert_eq!(compiled(&scene.engine), 2, "whole again");

    // The code of this module for another engine: none for this one.
    scene.engine.kill().await;
    let (file, _) = kept(&scene.folder);
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    let (digest, _) = name.split_once('-').expect("digest and key");
    let other = file.with_file_name(format!("{digest}-{}.native", "0".repeat(32)));
    std::fs::rename(&file, &other).expect("it can be renamed");
    scene.engine.restart().await;
    assert_eq!(compiled(&scene.engine), 3, "another key");
    assert!(other.exists() && file.exists(), "each engine has its own");
}

#[tokio::test]
async fn a_named_folder_that_others_can_write_to_is_an_error_at_the_start() {
    let folder = folder("https://example.com");
    std::fs::create_dir(native(&folder)).expect("it can be made");
    let path = folder.path().display().to_string();
    let place = native(&folder).display().to_string();
    for (folder_mode, parent_mode, text) in [
        (0o777, 0o700, format!("others may write to it (mode 0777); take that away: chmod go-w {place}")),
        (0o770, 0o700, format!("others may write to it (mode 0770); take that away: chmod go-w {place}")),
        (0o700, 0o777, "above it (mode 0777) and could put another folder in its place".to_owned()),
    ] {
        mode(&native(&folder), folder_mode);
        mode(native(&folder).parent().expect("a parent"), parent_mode);
        for command in ["check", "run"] {
            let said = hookmill(&[command, &path, &config(&folder)]).await;
            assert_eq!(said.code, 2, "{}", said.stderr);
            assert!(
                said.stderr.starts_with(&format!("error: [cache] folder {place} can't be used: ")),
                "{}",
                said.stderr
            );
            assert!(said.stderr.contains(&text), "{}", said.stderr);
        }
    }
    let link = native(&folder);
    mode(link.parent().expect("a parent"), 0o700);
    std::fs::remove_dir(&link).expect("it is empty");
    std::os::unix::fs::symlink(folder.path(), &link).expect("a link can be made");
    let said = hookmill(&["check", &path, &config(&folder)]).await;
    assert!(
        said.stderr.contains("it is a symbolic link; name the folder that it leads to"),
        "{}",
        said.stderr
    );
    assert_eq!(said.code, 2);
}

#[tokio::test]
async fn an_unsafe_default_folder_is_left_alone_with_a_warning() {
    let endpoint = Endpoint::start(behaviour::always(200)).await;
    let folder = folder(&endpoint.url());
    let home = folder.path().join("home");
    let native = home.join("hookmill/native");
    std::fs::create_dir_all(&native).expect("it can be made");
    mode(&native, 0o777);
    let server = NatsServer::start().await;
    let options = Engine::run(&server).env("XDG_CACHE_HOME", home.to_str().expect("text"));
    let scene = Scene::open_with(server, folder, options).await;
    scene.publish([good("one")]).await;
    endpoint.wait_for_delivered(1, SOON).await;
    assert_eq!(std::fs::read_dir(&native).expect("it is there").count(), 0);
    let warned = scene.engine.lines().into_iter().any(|line| {
        let why = line.field("why").and_then(serde_json::Value::as_str).unwrap_or_default();
        line.message().starts_with("native code is not kept") && why.starts_with("others may write to it")
    });
    assert!(warned, "{:#?}", scene.engine.lines());
}
