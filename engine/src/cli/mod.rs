//! The command line.

mod args;
mod assemble;
mod check;
mod dev;
mod dlq;
mod init;
mod lane;
mod listen;
mod local_token;
mod module;
mod open_files;
mod output;
mod patience;
mod pipeline;
mod progress;
mod publish;
mod references;
mod reload;
mod run;
mod serving;
mod status;
mod steps;
mod test;
mod trace;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::args::{Cli, Colour, Command};
use crate::transform;

/// What a command ends with, besides success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something failed while it ran: exit code 1.
    Failed(String),
    /// Wrong usage or configuration: exit code 2.
    Usage(String),
    /// Everything was said already; only the code is left.
    Said(u8),
}

impl Failure {
    fn failed(error: &dyn std::error::Error) -> Self {
        Self::Failed(output::chain(error))
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    // Not for people, and before anything else: the compiler's process starts no runtime and reads no environment.
    if std::env::args_os().nth(1).is_some_and(|word| word == transform::COMMAND) {
        return transform::compile_module();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::ending(explain(&error)),
    };
    if lasts(&cli.command) {
        output::go_on();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::say(format_args!("error: can't start: {error}"));
            return output::ending(1);
        }
    };
    let result = runtime.block_on(dispatch(cli));
    runtime.shutdown_background();
    let code = match result {
        Ok(()) => 0,
        Err(Failure::Said(code)) => code,
        Err(Failure::Failed(text)) => {
            output::say(format_args!("error: {text}"));
            1
        }
        Err(Failure::Usage(text)) => {
            output::say(format_args!("error: {text}"));
            2
        }
    };
    output::ending(code)
}

/// Shows help, the version, or what is wrong with what was typed.
fn explain(error: &clap::Error) -> u8 {
    let written = error.print();
    if error.use_stderr() {
        return 2;
    }
    output::printed(written);
    0
}

/// Whether a command has something better to do than to print.
fn lasts(command: &Command) -> bool {
    match command {
        Command::Run(_) => true,
        Command::Dev(args) => !args.demo,
        _ => false,
    }
}

/// Every command as it is typed (`["dlq", "list"]`), for those who must not forget one.
pub fn commands() -> Vec<Vec<String>> {
    fn walk(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
        for below in command.get_subcommands() {
            let path = [path, &[below.get_name().to_owned()]].concat();
            if below.has_subcommands() {
                walk(below, &path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Cli::command(), &[], &mut found);
    found
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let level = match command {
        Command::Run(_) => "info",
        Command::Dev(_) => "error",
        _ => "warn",
    };
    let colour = match global.color {
        Colour::Auto => None,
        Colour::Always => Some(true),
        Colour::Never => Some(false),
    };
    crate::telemetry::logs::install(level, colour);
    match command {
        Command::Run(args) => run::run(&global, args).await,
        Command::Check(args) => assemble::check(&global, &args).await,
        Command::Test(args) => test::test(&global, args).await,
        Command::Init => init::init(&global).await,
        Command::Publish(args) => publish::publish(&global, args).await,
        Command::Listen(args) => listen::listen(&global, args).await,
        Command::Dev(args) => dev::dev(&global, args).await,
        Command::Dlq(command) => dlq::dlq(&global, command).await,
        Command::Trace(args) => trace::trace(&global, args).await,
        Command::Status => status::status(&global).await,
        Command::Lane(command) => lane::lane(&global, command).await,
        Command::Pipeline(command) => pipeline::pipeline(&global, command).await,
        Command::Module(command) => module::module(&global, command).await,
    }
}
