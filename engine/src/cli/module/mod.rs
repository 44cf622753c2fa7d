//! `hookmill module`: transforms, on their author's desk and in the registry of a running engine.
//!
//! `new` starts a project, `annotate` puts metadata into a module, `test` runs it in the engine's own sandbox. What goes
//! to the registry goes through the engine's admin API (`remote`): it checks a module before anybody can use it.

mod annotate;
mod diff;
mod new;
mod push;
mod remote;
mod stored;
mod templates;
mod trial;

use clap::{Args, Subcommand};

use super::Failure;
use super::args::Global;
use remote::RemoteArgs;

/// Transforms.
#[derive(Subcommand, Debug)]
pub(crate) enum ModuleCommand {
    /// Start a project in a language: it builds with one command and has a test
    New(new::NewArgs),
    /// Run a module in the engine's own sandbox, on events of yours or on its own samples
    Test(trial::TestArgs),
    /// Put description, settings schema, samples and limits into a module
    Annotate(annotate::AnnotateArgs),
    /// Upload a module under a name and a version
    // The flag of that name is the module's.
    #[command(disable_version_flag = true)]
    Push(push::PushArgs),
    /// Every module with its versions
    List {
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Everything about a module, or about one version of it
    Show {
        /// NAME or NAME@VERSION
        module: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Download a version
    Pull(stored::PullArgs),
    /// Take a version out of use: ranges such as NAME@1 choose it no more
    Yank {
        #[command(flatten)]
        version: VersionArg,
        /// Why, for those who meet it
        #[arg(long, value_name = "TEXT")]
        why: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Remove a version that nobody uses
    Delete {
        #[command(flatten)]
        version: VersionArg,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

/// One version of a module.
#[derive(Args, Debug)]
pub(crate) struct VersionArg {
    /// NAME@VERSION
    #[arg(value_name = "NAME@VERSION")]
    module: String,
}

impl VersionArg {
    fn parts(&self) -> Result<(&str, &str), Failure> {
        self.module
            .split_once('@')
            .filter(|(name, version)| !name.is_empty() && !version.is_empty())
            .ok_or_else(|| {
                Failure::Usage(format!(
                    "{:?} is no version of a module; write NAME@VERSION, as in redact@1.4.2",
                    self.module
                ))
            })
    }
}

pub(crate) async fn module(global: &Global, command: ModuleCommand) -> Result<(), Failure> {
    match command {
        ModuleCommand::New(args) => new::new(&args),
        ModuleCommand::Test(args) => trial::test(global, &args).await,
        ModuleCommand::Annotate(args) => annotate::annotate(&args),
        ModuleCommand::Push(args) => push::push(global, &args).await,
        ModuleCommand::List { remote } => stored::list(global, &remote).await,
        ModuleCommand::Show { module, remote } => stored::show(global, &module, &remote).await,
        ModuleCommand::Pull(args) => stored::pull(global, &args).await,
        ModuleCommand::Yank { version, why, remote } => stored::yank(global, &version, &why, &remote).await,
        ModuleCommand::Delete { version, remote } => stored::delete(global, &version, &remote).await,
    }
}
