//! Why a host can't start, a module can't be loaded, a step can't be configured, and what a broken call becomes.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::fault::{Code, Fault, Reason, Stage, Whose};
use crate::model::size;

/// Longest text of a guest that is passed on, in bytes.
pub(super) const GUEST_TEXT_BYTES_MAX: usize = 512;

/// Why the host can't start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A limit that nothing can run under.
    #[error("{0}")]
    Settings(&'static str),
    /// The sandbox refuses to start; most often the address space is limited (`ulimit -v`).
    #[error("the WebAssembly sandbox can't start (limits.instances = {instances})")]
    Sandbox {
        /// How many instances were asked for.
        instances: u32,
        /// What the sandbox says.
        #[source]
        source: wasmtime::Error,
    },
    /// A thread of the sandbox can't start.
    #[error("the threads that interrupt transforms and end unused ones can't start")]
    Thread(#[source] std::io::Error),
    /// There is no place for native code on its way into the sandbox.
    #[error("no folder for native code can be made in {}; name another place in TMPDIR", std::env::temp_dir().display())]
    Folder(#[source] std::io::Error),
    /// The folder for native code that was named isn't safe.
    #[error("[cache] folder {} can't be used: {why}", .folder.display())]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it, and how to mend it.
        why: String,
    },
}

impl HostError {
    /// Whether it is the settings that have to be mended.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Settings(_) | Self::Cache { .. })
    }
}

/// Why bytes are no module that can be used. Each text says what was found and how to mend it.
#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum ModuleError {
    /// More bytes than a module may have.
    #[error("module {name} is {bytes} bytes, the limit is {}; strip debug information or build for size", size::text(*.max as u64))]
    TooLarge {
        /// The module.
        name: String,
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// No WebAssembly at all.
    #[error("module {name} is no WebAssembly: {found}")]
    NotWasm {
        /// The module.
        name: String,
        /// What it is instead.
        found: String,
    },
    /// Native code, however it was made.
    #[error(
        "module {name} is precompiled native code, which is never run; give the .wasm file that it was compiled from"
    )]
    Precompiled {
        /// The module.
        name: String,
    },
    /// A core module without a component type.
    #[error(
        "module {name} is a core WebAssembly module without the hookmill:transform contract; \
         build it with wit-bindgen (Rust: the hookmill guest crate) or make it a component with `wasm-tools component new`"
    )]
    NoContract {
        /// The module.
        name: String,
    },
    /// A core module that can't be made a component.
    #[error("module {name} can't be made a component: {problem}{hint}")]
    Encode {
        /// The module.
        name: String,
        /// What is in the way.
        problem: String,
        /// How to mend it, after `; `.
        hint: String,
    },
    /// The bytes are no valid component.
    #[error("module {name} doesn't compile: {problem}")]
    Compile {
        /// The module.
        name: String,
        /// What the compiler says.
        problem: String,
    },
    /// It wants more than there is behind a guest.
    #[error("module {name} imports {}, which no transform gets; {hint}", .imports.join(", "))]
    Imports {
        /// The module.
        name: String,
        /// What it imports beyond the contract and WASI 0.2.
        imports: Vec<String>,
        /// The build flags that help.
        hint: String,
    },
    /// It exports no handler of this contract.
    #[error(
        "module {name} doesn't export hookmill:transform/handler@0.1.0{found}; build it against the WIT of this version"
    )]
    NoHandler {
        /// The module.
        name: String,
        /// What it exports instead, after `, `.
        found: String,
    },
    /// Names are right, types are not.
    #[error(
        "module {name} breaks the hookmill:transform contract: {problem}; build it against the WIT of this version"
    )]
    Contract {
        /// The module.
        name: String,
        /// Where the types differ.
        problem: String,
    },
    /// What it says about itself is wrong.
    #[error("module {name}: {problem}; `hookmill module annotate` writes it anew")]
    Metadata {
        /// The module.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// It takes too long to compile.
    #[error(
        "module {name} took longer than {} {clock} to compile; build it for size, split it up, or raise \
         limits.compile_time in hookmill.toml",
        humantime::format_duration(*.limit)
    )]
    CompileTime {
        /// The module.
        name: String,
        /// How long it may take.
        limit: Duration,
        /// By which clock.
        clock: String,
    },
    /// It needs too much memory to compile.
    #[error(
        "module {name} needs more memory than limits.compile_memory = {:?} to compile, or a deeper stack than there \
         is; build it for size, split it up, or raise the limit in hookmill.toml",
        size::text(*.limit_bytes)
    )]
    CompileMemory {
        /// The module.
        name: String,
        /// How much it may need, in bytes.
        limit_bytes: u64,
    },
    /// The compiler's process ended, and no limit of ours explains it.
    #[error(
        "the compiler ended before module {name} was done: {how}; try again, and if it comes again, see whether the \
         machine is short of memory"
    )]
    CompilerEnded {
        /// The module.
        name: String,
        /// The signal or the exit code.
        how: String,
    },
    /// The compiler can't be used, whatever the module.
    #[error("module {name} can't be compiled now: {problem}")]
    Compiler {
        /// The module.
        name: String,
        /// What is in the way, and how to mend it.
        problem: String,
    },
}

impl ModuleError {
    /// Whether the same bytes may be fine another time: what is wrong is not in them.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::CompilerEnded { .. } | Self::Compiler { .. } => true,
            Self::TooLarge { .. }
            | Self::NotWasm { .. }
            | Self::Precompiled { .. }
            | Self::NoContract { .. }
            | Self::Encode { .. }
            | Self::Compile { .. }
            | Self::Imports { .. }
            | Self::NoHandler { .. }
            | Self::Contract { .. }
            | Self::Metadata { .. }
            | Self::CompileTime { .. }
            | Self::CompileMemory { .. } => false,
        }
    }
}

/// Why a step can't be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// The module refuses its settings; the text is the module's own.
    #[error("module {module} refuses its settings: {text}")]
    Settings {
        /// The module.
        module: String,
        /// What it says, cut and made one line.
        text: String,
    },
    /// The module broke while it was configured.
    #[error("module {module} can't be configured: {problem}")]
    Broken {
        /// The module.
        module: String,
        /// What happened and what to raise.
        problem: String,
    },
    /// `memory` is more than there can be.
    #[error("memory = {:?} is more than the {:?} that all transforms share (limits.memory in hookmill.toml)", size::text(*.memory_bytes), size::text(*.max))]
    Memory {
        /// What the step asks for, in bytes.
        memory_bytes: u64,
        /// What there is, in bytes.
        max: u64,
    },
}

/// How a call into a guest can break. The instance is dead after any of them.
#[derive(Debug)]
pub(super) enum Broken {
    /// No end within the time.
    Timeout { doing: &'static str, after: Duration },
    /// A trap, an exit, or what the guest handed to an import is unreadable.
    Trap(String),
    /// The step's memory limit.
    Memory { limit_bytes: u64 },
    /// The sandbox's table limit.
    Table { elements_max: usize },
    /// What came back is unreadable or more than `output`.
    Return { problem: String, output_bytes: u64 },
    /// `limits.memory` of the process is used up.
    HostMemory { limit_bytes: u64 },
    /// `limits.instances` of the process are in use, or this subscription's part of them.
    HostInstances { instances: u32, own: u32, after: Duration },
    /// The sandbox could not make an instance.
    Sandbox(String),
    /// The settings that were fine at load are refused now.
    Settings(String),
}

impl Broken {
    /// What happened and what to raise, for a person.
    pub(super) fn problem(&self) -> String {
        match self {
            Self::Timeout { doing, after } => format!("{doing} took longer than {after:?}"),
            Self::Trap(text) => format!("it trapped: {text}"),
            Self::Memory { limit_bytes } => {
                format!(
                    "it needs more than memory = {:?}; raise `memory` of the step",
                    size::text(*limit_bytes)
                )
            }
            Self::Table { elements_max } => format!("it needs a table of more than {elements_max} elements"),
            Self::Return { problem, output_bytes } => format!(
                "what it returned can't be taken: {problem}; the limit is output = {:?}, raise `output` of the step if it is the size",
                size::text(*output_bytes)
            ),
            Self::HostMemory { limit_bytes } => format!(
                "no memory was free for it: all transforms together may use limits.memory = {:?}, and a subscription no \
                 more than it leaves to others; raise it in hookmill.toml",
                size::text(*limit_bytes)
            ),
            Self::HostInstances { instances, own, after } => format!(
                "none of limits.instances = {instances} was free for it within {after:?} (at work for its subscription: \
                 {own}; it may have as many as it leaves to others); raise it in hookmill.toml"
            ),
            Self::Sandbox(text) => format!("no instance could be made: {text}"),
            Self::Settings(text) => format!("a new instance refuses the settings: {text}"),
        }
    }

    /// The fault of an event that met this.
    pub(super) fn fault(&self, module: &str) -> Fault {
        let detail = format!("module {module}: {}", self.problem());
        let never =
            |code| Fault::never(Stage::Transform, code, Whose::Module, Reason::Rejected, detail.clone());
        let later = |code, whose, reason| Fault::later(Stage::Transform, code, whose, reason, detail.clone());
        match self {
            Self::Timeout { .. } => later(Code::StepTimeout, Whose::Module, Reason::StepTimeout),
            Self::Trap(_) | Self::Memory { .. } | Self::Table { .. } | Self::Settings(_) => {
                never(Code::GuestTrap)
            }
            Self::Return { .. } => never(Code::GuestOutput),
            Self::HostMemory { .. } | Self::HostInstances { .. } => {
                later(Code::StepTimeout, Whose::Operator, Reason::StepTimeout)
            }
            Self::Sandbox(_) => later(Code::Internal, Whose::Engine, Reason::StepFailed),
        }
    }
}

/// A guest's text as one line of at most [`GUEST_TEXT_BYTES_MAX`].
pub(super) fn guest_text(mut text: String) -> String {
    if text.len() > GUEST_TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(GUEST_TEXT_BYTES_MAX - '…'.len_utf8()));
        text.push('…');
    }
    if text.contains(char::is_control) { text.replace(char::is_control, " ") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_text_becomes_one_short_line() {
        assert_eq!(guest_text("a\nb\u{7}c".into()), "a b c");
        let cut = guest_text("é".repeat(1000));
        assert!(cut.len() <= GUEST_TEXT_BYTES_MAX && cut.ends_with('…'), "{}", cut.len());
    }
}
