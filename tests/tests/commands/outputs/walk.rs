//! Every command of the command line, as the program itself lists them, with every output broken in every way.

use std::process::Command;

use hookmill_tests::engine::{Said, built_program, engine_command};
use hookmill_tests::{Engine, PipelineFolder, behaviour, events, hookmill};

use super::{Outputs, Stream};
use crate::commands::module::built;
use crate::commands::text;
use crate::dlq::stock::{put_letters, put_tasks, put_waits};
use crate::mill::{Mill, orders};

/// Commands that end when they are told to: [`super::services`] is about them.
const SERVICES: [&[&str]; 3] = [&["run"], &["listen"], &["dev"]];

/// An engine that runs `orders`, with dead letters, modules, and an orphaned lane of `old`.
struct Site {
    mill: Mill,
    engine: Engine,
    /// What commands read and write.
    desk: PipelineFolder,
    runs: usize,
}

impl Site {
    async fn new() -> Self {
        let mill = Mill::new(behaviour::always(200), "", "").await;
        let old = PipelineFolder::with("old", &orders(&mill.endpoint, "subjects = [\"events.none\"]", ""));
        let engine = Engine::run(&mill.server).arg(old.path()).start().await;
        assert_eq!(engine.terminate().await, 0);
        put_tasks(&mill, "hookmill.lane.old.hook", 1..=4).await;
        put_waits(&mill, 5..=6).await;
        put_letters(&mill, 1..=3).await;
        let engine = mill.engine().start().await;
        let desk = PipelineFolder::new();
        desk.write("one.json", events::order_json(9));
        desk.write("metadata.json", "{\"description\": \"a module\"}");
        desk.write("p.toml", orders(&mill.endpoint, "", ""));
        let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"total":12}}"#;
        let test = format!(
            "[[test]]\nname = \"a\"\nevent = '{event}'\nexpect = {{ hook = {{ filtered = true }} }}\n"
        );
        desk.write("p.test.toml", test);
        let site = Self { mill, engine, desk, runs: 0 };
        site.push("redact", "1.0.0").await;
        site
    }

    fn admin(&self) -> String {
        format!("http://{}", self.engine.address())
    }

    async fn push(&self, name: &str, version: &str) {
        let file = built("redact");
        let admin = self.admin();
        let arguments =
            ["module", "push", text(&file), "--name", name, "--version", version, "--admin", &admin];
        let said = hookmill(&arguments).await;
        assert_eq!(said.code, 0, "{said:?}");
    }

    /// A file or folder of the desk.
    fn at(&self, name: &str) -> String {
        text(&self.desk.path().join(name)).to_owned()
    }

    /// What is typed after a command's name, so that it does something.
    async fn typed(&self, command: &[&str]) -> Vec<String> {
        let version = format!("1.0.{}", self.runs);
        match command {
            ["init" | "status"] | ["dlq" | "module", "list"] => vec![],
            ["check"] => vec![self.at("p.toml")],
            ["test"] => vec![self.at("p.test.toml")],
            ["publish"] => vec![self.at("one.json")],
            ["trace"] => vec![events::order_id(1)],
            ["dlq", "show"] => vec!["1".to_owned(), "2".to_owned()],
            ["dlq", "redrive" | "discard"] => words("--all --dry-run"),
            ["lane", "list"] => vec![text(self.mill.folder.path()).to_owned()],
            ["lane", "pause" | "resume"] => words("orders/other"),
            ["lane", "adopt"] => words("old/hook --into orders/hook --dry-run"),
            ["lane", "dead-letter"] => words("old/hook --dry-run"),
            ["pipeline", "rename"] => words("old new --dry-run"),
            ["module", "new"] => {
                let folder = self.at(&format!("new-{}", self.runs));
                [words("shorten --lang wat --folder"), vec![folder]].concat()
            }
            ["module", "test"] => vec![text(&built("redact")).to_owned()],
            ["module", "annotate"] => {
                let files =
                    [text(&built("hostile")), "--metadata", &self.at("metadata.json")].map(str::to_owned);
                [&files[..], &["--output".to_owned(), self.at("annotated.wasm")]].concat()
            }
            ["module", "push"] => {
                [vec![text(&built("redact")).to_owned()], words("--name redact --version 1.0.0")].concat()
            }
            ["module", "show"] => words("redact@1.0.0"),
            ["module", "pull"] => [words("redact@1.0.0 -o"), vec![self.at("pulled.wasm")]].concat(),
            ["module", "yank"] => {
                self.push("yanked", &version).await;
                words(&format!("yanked@{version} --why because"))
            }
            ["module", "delete"] => {
                self.push("deleted", &version).await;
                words(&format!("deleted@{version}"))
            }
            new => panic!("the command {new:?} is new: say here how it is called"),
        }
    }

    /// The command, with and without JSON.
    async fn command(&mut self, path: &[&str], json: bool) -> Command {
        self.runs += 1;
        let mut command = engine_command(built_program());
        command.args(path).args(self.typed(path).await).args(json.then_some("--json"));
        command.env("NATS_URL", self.mill.server.url()).env("HOOKMILL_ADMIN", self.admin());
        command
    }
}

fn words(typed: &str) -> Vec<String> {
    typed.split(' ').map(str::to_owned).collect()
}

/// What `docs/running.md` says that a command ends with, which ends with `code` and prints `data` where it is read.
fn documented(outputs: Outputs, code: i32, data: &str) -> i32 {
    if code == 0 && outputs.stdout == Stream::Full && !data.is_empty() { 1 } else { code }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_as_documented_whatever_becomes_of_its_outputs() {
    let mut site = Site::new().await;
    let commands = hookmill::cli::commands();
    for service in SERVICES {
        assert!(commands.iter().any(|command| command == service), "{service:?} is no command any more");
    }
    for path in &commands {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        if SERVICES.contains(&&*path) {
            continue;
        }
        // One test, which fails.
        let code = i32::from(path == ["test"]);
        for json in [false, true] {
            let read = Outputs::READ.run(site.command(&path, json).await).await;
            assert_eq!(read.code, code, "{path:?}: {read:?}");
            for outputs in Outputs::broken() {
                let said = outputs.run(site.command(&path, json).await).await;
                let wanted = documented(outputs, code, &read.stdout);
                assert_eq!(said.code, wanted, "{path:?} with {outputs:?}: {said:?}");
                let (data, talk) = (outputs.stdout == Stream::Read, outputs.stderr == Stream::Read);
                // What can be said is said.
                assert!(!data || said.stdout.is_empty() == read.stdout.is_empty(), "{path:?}: {said:?}");
                let full = talk && outputs.stdout == Stream::Full && !read.stdout.is_empty();
                assert_eq!(said.stderr.contains("could be written to standard output"), full, "{said:?}");
            }
        }
    }
    assert!(site.engine.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn help_the_version_and_what_is_said_of_wrong_words_are_no_different() {
    let calls: [(&[&str], i32); 8] = [
        (&["--help"], 0),
        (&["help"], 0),
        (&["dlq", "list", "--help"], 0),
        (&["--version"], 0),
        (&["fly"], 2),
        (&[], 2),
        (&["publish", "/nowhere.json"], 2),
        // Not for people, but somebody may type it.
        (&["compile-module"], 2),
    ];
    for (arguments, code) in calls {
        let command = || {
            let mut command = engine_command(built_program());
            command.args(arguments);
            command
        };
        let read: Said = Outputs::READ.run(command()).await;
        assert_eq!(read.code, code, "{arguments:?}: {read:?}");
        for outputs in Outputs::broken() {
            let said = outputs.run(command()).await;
            let wanted = documented(outputs, code, &read.stdout);
            assert_eq!(said.code, wanted, "{arguments:?} with {outputs:?}: {said:?}");
        }
    }
}
