//! The compiler's process itself: what it has, and what happens when it or its engine dies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hookmill::transform::ModuleError;
use hookmill_tests::engine::built_program;
use hookmill_tests::process::{Process, bound_command};
use hookmill_tests::{PipelineFolder, eventually, hookmill};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{bombs, built_module, host};
use crate::scene::{SOON, step, webhook};

/// A module that is compiled for minutes.
fn slow() -> Vec<u8> {
    bombs::nested_loops(1_500, 1_500)
}

/// A compiler at work, known by its limit of memory: each test has one of its own.
struct Found {
    pid: i32,
    proc: PathBuf,
}

impl Found {
    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.proc.join(file)).unwrap_or_default()
    }

    /// A line of `/proc/PID/limits`: what is allowed before somebody raises it.
    fn limit(&self, name: &str) -> String {
        let limits = self.read("limits");
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default().to_owned()
    }

    /// The fields of `/proc/PID/stat` from the state on; none when it is gone.
    fn stat(&self) -> Vec<String> {
        let stat = self.read("stat");
        let rest = stat.rsplit_once(") ").map(|(_, rest)| rest).unwrap_or_default();
        rest.split_whitespace().map(str::to_owned).collect()
    }

    fn kill(&self) {
        kill(Pid::from_raw(self.pid), Signal::SIGKILL).expect("it lives");
    }

    async fn gone(&self) {
        eventually(SOON, "the compiler is gone", || async {
            match self.stat().first().map(String::as_str) {
                // Ended, if not yet waited for.
                None | Some("Z" | "X") => Ok(()),
                Some(state) => Err(format!("state {state}")),
            }
        })
        .await;
    }
}

fn compiler(memory_bytes: u64) -> Option<Found> {
    let processes = std::fs::read_dir("/proc").expect("there is /proc");
    let mut found = processes.flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let found = Found { pid, proc: entry.path() };
        let is_compiler = found.read("cmdline").split('\0').nth(1) == Some("compile-module");
        (is_compiler && found.limit("Max data size") == memory_bytes.to_string()).then_some(found)
    });
    found.next()
}

/// Waits for a compiler with this limit.
async fn compiler_at_work(memory_bytes: u64) -> Found {
    let look = || async { compiler(memory_bytes).map(drop).ok_or("none".to_owned()) };
    eventually(SOON, "a compiler is at work", look).await;
    compiler(memory_bytes).expect("it was there just now")
}

const LONG: Duration = Duration::from_mins(10);

/// `hookmill check` with a module that keeps its compiler busy.
fn checking(memory: &str) -> (Process, PipelineFolder) {
    let pipeline = webhook("slow", "https://example.com", "") + &step("slow", "", "");
    let folder = PipelineFolder::with("p", &pipeline);
    folder.write("slow.wasm", slow());
    let text =
        format!("[limits]\ncompile_time = \"10m\"\ncompile_memory = \"{memory}\"\n[cache]\nsize = \"0B\"\n");
    let config = folder.write("settings/hookmill.toml", text);
    let mut command = bound_command(built_program());
    command.arg("check").arg(folder.path()).arg("--config").arg(config).env("HOOKMILL_SECRET", "zzSECRETzz");
    let (process, _) = Process::spawn("hookmill check", command).expect("it can be started");
    (process, folder)
}

#[tokio::test]
async fn a_killed_compiler_is_told_and_the_next_try_works() {
    let memory = 701 << 20;
    let host = host(LONG, memory);
    let killed = {
        let mut loading = std::pin::pin!(host.load_in_background("redact", built_module("redact").into()));
        let found = tokio::select! {
            found = compiler_at_work(memory) => found,
            loaded = &mut loading => panic!("nobody saw the compiler: {loaded:?}"),
        };
        found.kill();
        loading.await
    };
    let error = killed.expect_err("the compiler was killed");
    assert!(matches!(error, ModuleError::CompilerEnded { .. }) && error.may_pass(), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the compiler ended before module redact was done: signal: 9 (SIGKILL); try again, and if it comes again, see \
         whether the machine is short of memory"
    );
    let again = host.load_in_background("redact", built_module("redact").into()).await;
    assert!(again.is_ok(), "{again:?}");
}

#[tokio::test]
async fn a_load_that_is_given_up_ends_its_compiler() {
    let memory = 702 << 20;
    let host = host(LONG, memory);
    let found = tokio::select! {
        found = compiler_at_work(memory) => found,
        loaded = host.load_in_background("slow", slow().into()) => panic!("{loaded:?}"),
    };
    found.gone().await;
}

#[tokio::test]
async fn the_compiler_dies_with_its_engine() {
    let (check, _folder) = checking("703MiB");
    let found = compiler_at_work(703 << 20).await;
    check.kill().await;
    found.gone().await;
}

#[tokio::test]
async fn the_compiler_has_nothing_but_its_pipes_and_its_limits() {
    let (check, _folder) = checking("704MiB");
    let found = compiler_at_work(704 << 20).await;
    // The lowering of its priority is the last of what it does to itself.
    let niceness = |found: &Found| found.stat().get(16).cloned().unwrap_or_default();
    eventually(SOON, "events come first", || async {
        let niceness = niceness(&found);
        if niceness == "10" { Ok(()) } else { Err(niceness) }
    })
    .await;
    let environment = found.read("environ");
    let names =
        environment.split_terminator('\0').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    // For its allocator and its threads.
    assert_eq!(names.collect::<Vec<_>>(), ["MIMALLOC_ARENA_EAGER_COMMIT", "RAYON_NUM_THREADS"]);
    assert_eq!(std::fs::read_link(found.proc.join("cwd")).expect("it lives"), Path::new("/"));
    assert_eq!(found.limit("Max core file size"), "0");
    assert_eq!(found.limit("Max cpu time"), "600");
    assert_eq!(found.limit("Max open files"), "32");
    let files = std::fs::read_dir(found.proc.join("fd")).expect("it lives");
    let files = files.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    for file in files {
        let file = file.display().to_string();
        assert!(file.starts_with("pipe:"), "{file} is open");
    }
    check.kill().await;
    found.gone().await;
}

#[tokio::test]
async fn the_compilers_command_is_not_for_people() {
    let help = hookmill(&["--help"]).await;
    assert!(!help.stdout.contains("compile"), "{}", help.stdout);
    let said = hookmill(&["compile-module"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(
        said.stderr.starts_with("hookmill itself starts this command to compile a module"),
        "{}",
        said.stderr
    );
}
