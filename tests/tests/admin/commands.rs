//! `hookmill module` against a running engine.

use std::path::Path;

use hookmill_tests::engine::{Said, built_program, run_to_end};
use hookmill_tests::process::bound_command;
use hookmill_tests::{PipelineFolder, behaviour};
use serde_json::{Value, json};

use super::support::{ACME, ADMIN, Problems, Site, TOKENS, guest, redact_variant};
use crate::mill::{Mill, json_lines};

/// `hookmill module …` in a folder, as somebody with a token.
async fn run(site: &Site, folder: &Path, token: &str, arguments: &[&str]) -> Said {
    let mut command = bound_command(built_program());
    command.arg("module").args(arguments).current_dir(folder);
    command.env("HOOKMILL_ADMIN", format!("http://{}", site.engine.address())).env("HOOKMILL_TOKEN", token);
    run_to_end("hookmill module", command).await
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_pushed_listed_shown_pulled_yanked_and_deleted() {
    let site = Site::start(TOKENS).await;
    let folder = PipelineFolder::new();
    let here = folder.path();
    let file = guest("redact");
    let bytes = std::fs::read(&file).expect("it was built");
    let digest = hookmill::model::Digest::of(&bytes).to_string();
    let push = ["push", text(&file), "--name", "redact", "--version", "1.4.2"];
    let empty = run(&site, here, ADMIN, &["list"]).await;
    assert_eq!((empty.code, &*empty.stdout), (0, ""));
    assert_eq!(empty.stderr, "no modules; `hookmill module push` uploads one\n");

    let pushed = run(&site, here, ADMIN, &push).await;
    assert_eq!(
        (pushed.code, &*pushed.stdout, &*pushed.stderr),
        (0, &*format!("redact@1.4.2  {digest}\n"), "")
    );
    let again = run(&site, here, ADMIN, &push).await;
    assert_eq!((again.code, &*again.stdout), (0, &*pushed.stdout));
    assert!(again.stderr.starts_with("nothing changed: "), "{again:?}");
    site.put("redact", "1.5.0", redact_variant(1)).await.good(201);

    let listed = run(&site, here, ADMIN, &["list"]).await;
    let rows: Vec<Vec<&str>> = listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "VERSIONS", "DESCRIPTION"]);
    assert_eq!(rows[1][..3], ["redact", "1.5.0", "1.4.2"]);
    let lines = json_lines(&run(&site, here, ADMIN, &["list", "--json"]).await);
    assert_eq!((lines.len(), &lines[0]["versions"][1]["digest"]), (1, &json!(digest)));

    let shown = run(&site, here, ADMIN, &["show", "redact@1.4.2"]).await;
    let line = |key: &str| {
        let found = shown.stdout.lines().find_map(|line| line.strip_prefix(key));
        found.unwrap_or_else(|| panic!("no {key} in {}", shown.stdout)).trim().to_owned()
    };
    assert_eq!(
        [line("module"), line("digest"), line("bytes")],
        ["redact@1.4.2".to_owned(), digest.clone(), bytes.len().to_string()]
    );
    assert!(
        line("exports").contains("hookmill:transform/handler@0.1.0") && line("compiled in").ends_with(" ms")
    );
    assert!(line("imports").contains("hookmill:transform/"), "{shown:?}");
    let versions = run(&site, here, ADMIN, &["show", "redact"]).await;
    assert_eq!(versions.stdout.lines().count(), 3, "{versions:?}");

    let pulled = run(&site, here, ADMIN, &["pull", "redact@1.4.2"]).await;
    assert_eq!((pulled.code, &*pulled.stdout), (0, &*format!("redact-1.4.2.wasm  {digest}\n")), "{pulled:?}");
    assert_eq!(std::fs::read(here.join("redact-1.4.2.wasm")).expect("it is there"), bytes);
    let twice = run(&site, here, ADMIN, &["pull", "redact@1.4.2"]).await;
    assert_eq!(twice.code, 2, "a file that is there is not written over: {twice:?}");
    let named = run(&site, here, ADMIN, &["pull", "redact@1.5.0", "-o", "redact-1.4.2.wasm"]).await;
    assert_eq!(named.code, 0, "unless it is named: {named:?}");
    assert_eq!(std::fs::read(here.join("redact-1.4.2.wasm")).expect("it is there"), redact_variant(1));

    let yanked = run(&site, here, ADMIN, &["yank", "redact@1.5.0", "--why", "drops lines"]).await;
    assert_eq!((yanked.code, &*yanked.stdout), (0, ""), "{yanked:?}");
    let versions = run(&site, here, ADMIN, &["show", "redact"]).await;
    assert!(versions.stdout.contains("yanked: drops lines"), "{versions:?}");
    let deleted = run(&site, here, ADMIN, &["delete", "redact@1.5.0"]).await;
    assert_eq!((deleted.code, &*deleted.stderr), (0, "redact@1.5.0 is deleted\n"));
    let gone = run(&site, here, ADMIN, &["show", "redact@1.5.0"]).await;
    assert_eq!((gone.code, &*gone.stdout), (1, ""));
    assert!(
        gone.stderr.starts_with("error[E218]: there is no redact@1.5.0 in the registry\nhint: "),
        "{gone:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_refuses_is_shown_with_code_and_hint_and_no_token() {
    let site = Site::start(TOKENS).await;
    let folder = PipelineFolder::new();
    let here = folder.path();
    let bad = folder.write("bad.wasm", "no module");
    let good = guest("redact");
    let (bad, good) = (text(&bad), text(&good));
    for (token, arguments, said) in [
        ("wrong-0123456789", &["list"][..], "error[E201]: the token that was sent is not known\nhint: "),
        ("", &["list"], "error[E201]: no token was sent\nhint: "),
        (
            "dlq-read-0123456789",
            &["list"],
            "error[E202]: token dlq-read lacks the scope modules:read\nhint: ",
        ),
        (
            ACME,
            &["push", good, "--name", "other", "--version", "1.0.0"],
            "error[E203]: token acme is not for module other\nhint: it is for acme-*, shared\n",
        ),
        (
            ADMIN,
            &["push", bad, "--name", "bad", "--version", "1.0.0"],
            "error[E052]: module bad is no WebAssembly",
        ),
        (
            ADMIN,
            &["push", good, "--name", "bad", "--version", "one"],
            "error[E208]: \"one\" is no version such as 1.4.2",
        ),
        (
            ADMIN,
            &["push", good, "--name", "a/../b", "--version", "1.0.0"],
            "error[E208]: \"a/../b\" is not a name",
        ),
        (ADMIN, &["yank", "none@1.0.0", "--why", "x"], "error[E218]: there is no none@1.0.0"),
        (ADMIN, &["pull", "none@1.0.0"], "error[E218]: there is no none@1.0.0"),
    ] {
        let got = run(&site, here, token, arguments).await;
        assert_eq!((got.code, &*got.stdout), (1, ""), "{arguments:?}");
        assert!(got.stderr.starts_with(said), "{}", got.stderr);
        assert!(!got.stderr.contains("0123456789"), "{}", got.stderr);
    }
    for arguments in [
        &["yank", "redact", "--why", "x"][..],
        &["delete", "@1"],
        &["push", "/nowhere.wasm", "--name", "a", "--version", "1.0.0"],
    ] {
        assert_eq!(run(&site, here, ADMIN, arguments).await.code, 2, "{arguments:?}");
    }
    let file = folder.write("token", ACME);
    let with_file = run(&site, here, "wrong-0123456789", &["list", "--token-file", text(&file)]).await;
    assert_eq!(with_file.code, 0, "the file counts more: {with_file:?}");
    let help = run(&site, here, ADMIN, &["list", "--help"]).await;
    assert!(help.code == 0 && !help.stdout.contains(ADMIN), "{help:?}");
    let mut away = bound_command(built_program());
    away.args(["module", "list", "--admin", "http://127.0.0.1:1"]);
    let away = run_to_end("hookmill module", away).await;
    assert_eq!(away.code, 1);
    assert!(away.stderr.contains("is the engine running there?"), "{away:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pulled_to_standard_output_is_the_module_alone() {
    let site = Site::start(TOKENS).await;
    let folder = PipelineFolder::new();
    site.put("redact", "1.0.0", redact_variant(1)).await.good(201);
    let file = folder.path().join("out.wasm");
    let mut command = bound_command("sh");
    let program = built_program();
    command.args(["-c", "\"$0\" module pull redact@1.0.0 -o - > out.wasm", text(&program)]);
    command.current_dir(folder.path()).env("HOOKMILL_TOKEN", ADMIN);
    command.env("HOOKMILL_ADMIN", format!("http://{}", site.engine.address()));
    let said = run_to_end("sh", command).await;
    assert_eq!((said.code, &*said.stderr), (0, ""));
    assert_eq!(std::fs::read(file).expect("it was written"), redact_variant(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_serves_the_api_while_files_change() {
    use hookmill_tests::Engine;
    use hookmill_tests::engine::LogLine;
    let mill = Mill::new(behaviour::always(200), "", "").await;
    let store = PipelineFolder::new();
    let dev = Engine::command(&["dev", "--listen", "127.0.0.1:0", "--folder", text(store.path())])
        .arg(mill.folder.path())
        .spawn();
    let says = |line: &LogLine| line.text.starts_with("health, metrics and admin API at http://127.0.0.1:");
    let line = dev.wait_for_line("its address", crate::mill::LATER, says).await;
    let url = line.text.rsplit(' ').next().expect("a URL").to_owned();
    let lanes = async || {
        super::support::send(&format!("{url}/v1/lanes"), &super::support::Ask::new("GET", "/v1/lanes")).await
    };
    hookmill_tests::eventually(crate::mill::LATER, "the lane is listed", || async {
        let listed: Value = lanes().await.good(200);
        if listed["lanes"][0]["subscription"] == "hook" { Ok(()) } else { Err(listed.to_string()) }
    })
    .await;
    let good = std::fs::read_to_string(mill.folder.path().join("orders.toml")).expect("it can be read");
    mill.folder.write("orders.toml", "nonsense = 1\n");
    hookmill_tests::eventually(crate::mill::LATER, "it says that the file can't be used", || async {
        let ready =
            super::support::send(&format!("{url}/readyz"), &super::support::Ask::new("GET", "/readyz")).await;
        let said = String::from_utf8_lossy(&ready.body).into_owned();
        if ready.status == 200 && said.contains("the files were not loaded again") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    assert_eq!(lanes().await.good(200)["lanes"][0]["subscription"], "hook", "what was loaded before goes on");
    mill.folder.write("orders.toml", good.replace("\"hook\"", "\"other\""));
    hookmill_tests::eventually(crate::mill::LATER, "the new lane is listed", || async {
        let listed: Value = lanes().await.good(200);
        if listed["lanes"][0]["subscription"] == "other" { Ok(()) } else { Err(listed.to_string()) }
    })
    .await;
    assert_eq!(dev.terminate().await, 0);
}
