//! What takes too much of the compiler's time or memory.

use std::time::{Duration, Instant};

use hookmill::model::Verdict;
use hookmill::transform::{ModuleError, Settings, Step};
use hookmill_tests::{PipelineFolder, events, hookmill};

use super::{bombs, built_module, host};
use crate::scene::{step, webhook};

/// Each takes a gigabyte or a minute where nobody stops it.
fn all_bombs() -> [(&'static str, Vec<u8>); 3] {
    [
        ("nested-loops", bombs::nested_loops(4_000, 4_000)),
        ("many-functions", bombs::many_functions(400_000)),
        ("many-branches", bombs::many_branches(60_000, 2_000)),
    ]
}

#[tokio::test]
async fn every_bomb_is_refused_at_its_line_with_the_limit_that_it_broke() {
    let mut pipeline = String::new();
    let folder = PipelineFolder::new();
    for (name, bytes) in all_bombs() {
        assert!(bytes.len() < 8 << 20, "{name} has {} bytes", bytes.len());
        pipeline += &(webhook(name, "https://example.com", "") + &step(name, "", ""));
        folder.write(&format!("{name}.wasm"), bytes);
    }
    pipeline += &(webhook("good", "https://example.com", "") + &step("redact", "remove = [\"/a\"]", ""));
    folder.write("redact.wasm", built_module("redact"));
    folder.write("p.toml", &pipeline);
    let process = "[limits]\ncompile_time = \"2s\"\ncompile_memory = \"192MiB\"\n[cache]\nsize = \"0B\"\n";
    let process = folder.write("settings/hookmill.toml", process);
    let (process, path) = (process.display().to_string(), folder.path().display().to_string());
    let began = Instant::now();
    let said = hookmill(&["check", &path, "--config", &process]).await;
    assert_eq!(said.code, 2, "{}", said.stderr);
    for (name, _) in all_bombs() {
        let reference = format!("\"./{name}.wasm\"");
        let line = 1 + pipeline.lines().position(|line| line.contains(&reference)).expect("it is there");
        let start =
            format!("error[E052]: {path}/p.toml:{line}: step.transform can't be used: module {name} ");
        let about = said.stderr.lines().find_map(|said| said.strip_prefix(&start));
        let about = about.unwrap_or_else(|| panic!("nothing begins with {start:?} in\n{}", said.stderr));
        let time = about.starts_with("took longer than ")
            && about.ends_with("raise limits.compile_time in hookmill.toml");
        let memory = about
            .starts_with("needs more memory than limits.compile_memory = \"192MiB\" to compile, ")
            && about.ends_with("raise the limit in hookmill.toml");
        assert!(time || memory, "{about}");
    }
    assert!(said.stderr.contains("3 problems in 1 file"), "{}", said.stderr);
    // Eight seconds each by the clock, and what else a busy machine takes.
    assert!(began.elapsed() < Duration::from_secs(50), "it took {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transforms_go_on_while_a_bomb_is_compiled() {
    let host = host(Duration::from_secs(3), 1 << 30);
    let redact = host.load_in_background("redact", built_module("redact").into()).await.expect("it loads");
    let settings = Settings { settings: serde_json::json!({"remove": ["/card"]}), ..Settings::default() };
    let step = Step::new(host.clone(), redact, settings).await.expect("the settings are fine");
    let order = bytes::Bytes::from(events::order_json(1));
    let event = hookmill::model::Event::from_structured(&order).expect("an event");
    let bomb = bombs::many_functions(400_000).into();
    let mut calls = 0_u32;
    let refused = {
        let mut loading = std::pin::pin!(host.load_in_background("bomb", bomb));
        loop {
            tokio::select! {
                biased;
                refused = &mut loading => break refused,
                verdict = step.apply(&event) => {
                    assert!(matches!(verdict, Ok(Verdict::Replace(_))), "{verdict:?}");
                    calls += 1;
                }
            }
        }
    };
    let error = refused.expect_err("a bomb is no module");
    assert!(matches!(error, ModuleError::CompileTime { .. } | ModuleError::CompileMemory { .. }), "{error}");
    assert!(!error.may_pass());
    println!("{calls} calls beside the compiler");
    assert!(calls > 300, "only {calls} calls");
    // And who comes next is compiled as ever.
    let next = host.load_in_background("route", built_module("route").into()).await;
    assert!(next.is_ok(), "{next:?}");
}
