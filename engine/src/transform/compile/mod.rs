//! Compiles modules in a process of their own, one after the other: what reads a stranger's bytes must not be able to
//! take time, memory or the life of the engine.
//!
//! The engine starts its own program again, with nothing but three pipes and an empty folder. It hands over the module, gets native code
//! and a few facts back, and gives up when that takes too long; the child sets the other limits on itself.

mod child;
mod wire;
mod work;

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Semaphore;

pub use child::compile_module;
pub use work::Facts;
pub(super) use work::{Made, check, config, key};

use self::wire::{Answer, Request};
use super::errors::{ModuleError, guest_text};
use super::settings::{Compile, Compiler as By};

/// The word that makes the program a compiler.
pub const COMMAND: &str = "compile-module";

/// By the clock on the wall compiling may take this many times longer: the compiler gets what the engine leaves it.
const WALL_FACTOR: u32 = 4;

/// Threads that compile one module, at most: each has memory of its own, and the limit must not depend on the machine. They
/// also leave half of the cores alone: however nice a process is, whoever wakes up beside it waits for a slice of its.
const THREADS_MAX: usize = 4;

/// Bytes of native code that are taken from the pipe at once.
const PIECE_BYTES: usize = 1 << 20;

/// Longest text on the compiler's standard error that is looked at, in bytes.
const STDERR_BYTES_MAX: u64 = 8 << 10;

/// Compiles one module at a time: each may take half a gigabyte.
#[derive(Debug)]
pub(super) struct Compiler {
    settings: Compile,
    key: String,
    turn: Semaphore,
}

/// Why a conversation with the child has no answer.
enum Cut {
    /// It ended, or closed a pipe, which it does only by ending.
    Ended,
    /// What it says is no answer, or too much.
    Nonsense,
    /// The native code can't be written.
    Write(io::Error),
}

impl Compiler {
    pub(super) fn new(settings: Compile, key: String) -> Self {
        Self { settings, key, turn: Semaphore::new(1) }
    }

    /// Waits for its turn. To be held while compiling.
    pub(super) async fn turn(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.turn.acquire().await.expect("nothing closes this semaphore")
    }

    /// Compiles `module` and writes what is [`Made`] to `out`; `folder` is empty, for the work. Dropping the future
    /// ends the child.
    pub(super) async fn compile(
        &self,
        name: &str,
        module: &Bytes,
        folder: &Path,
        out: std::fs::File,
    ) -> Result<(Facts, Made), ModuleError> {
        let mut out = tokio::fs::File::from_std(out);
        let done = match &self.settings.by {
            By::OwnProgram => match own_program() {
                Ok(program) => self.in_child(&program, name, module, folder, &mut out).await,
                Err(error) => Err(unusable(name, &format!("this program can't find its own file: {error}"))),
            },
            By::Program(program) => self.in_child(program, name, module, folder, &mut out).await,
            By::ThisProcess => self.here(name, module, folder, &mut out).await,
        };
        if done.is_ok() {
            out.flush().await.map_err(|error| unwritable(name, &error))?;
        }
        done
    }

    async fn here(
        &self,
        name: &str,
        module: &Bytes,
        folder: &Path,
        out: &mut tokio::fs::File,
    ) -> Result<(Facts, Made), ModuleError> {
        let workshop = work::Workshop::open(folder).map_err(|error| unusable(name, &format!("{error:#}")))?;
        match workshop.compile(name, module) {
            Ok((facts, made, bytes)) => match out.write_all(&bytes).await {
                Ok(()) => Ok((facts, made)),
                Err(error) => Err(unwritable(name, &error)),
            },
            Err(work::Stopped::Refused(error)) => Err(error),
            Err(work::Stopped::OutOfMemory) => Err(self.too_much_memory(name)),
            Err(work::Stopped::Unwritten(why)) => Err(unwritable(name, &why)),
        }
    }

    async fn in_child(
        &self,
        program: &Path,
        name: &str,
        module: &Bytes,
        folder: &Path,
        out: &mut tokio::fs::File,
    ) -> Result<(Facts, Made), ModuleError> {
        let mut child = start(program)
            .map_err(|error| unusable(name, &format!("{} can't be started: {error}", program.display())))?;
        let mut input = child.stdin.take().expect("asked for");
        let mut output = BufReader::with_capacity(PIECE_BYTES, child.stdout.take().expect("asked for"));
        let errors = child.stderr.take().expect("asked for");
        let talk = async {
            self.ask(&mut input, name, module, folder).await?;
            let answer = hear(&mut output).await?;
            if let Answer::Compiled { made, .. } = &answer {
                if made.bytes() > self.settings.memory_bytes {
                    return Err(Cut::Nonsense);
                }
                copy(&mut output, out, made.bytes()).await?;
            }
            Ok(answer)
        };
        let wall = self.settings.time.saturating_mul(WALL_FACTOR);
        match tokio::time::timeout(wall, talk).await {
            Ok(Ok(answer)) => self.answered(name, answer),
            Ok(Err(Cut::Write(error))) => Err(unwritable(name, &error)),
            Ok(Err(Cut::Nonsense)) => Err(unusable(name, "the compiler's answer can't be read")),
            Ok(Err(Cut::Ended)) => {
                let said = said(errors).await;
                tracing::debug!(module = name, said, "the compiler ended without an answer");
                match child.wait().await {
                    Ok(status) => Err(self.ended(name, status)),
                    Err(error) => Err(unusable(name, &format!("its process can't be waited for: {error}"))),
                }
            }
            Err(_) => {
                let clock = "by the clock on the wall".to_owned();
                Err(ModuleError::CompileTime { name: name.to_owned(), limit: wall, clock })
            }
        }
    }

    async fn ask(
        &self,
        input: &mut ChildStdin,
        name: &str,
        module: &Bytes,
        folder: &Path,
    ) -> Result<(), Cut> {
        let request = Request {
            name: name.to_owned(),
            module_bytes: module.len() as u64,
            cpu_seconds: self.settings.time.as_secs().max(1),
            memory_bytes: self.settings.memory_bytes,
            key: self.key.clone(),
            folder: folder.to_owned(),
        };
        let frame = wire::frame(&request).map_err(|_| Cut::Nonsense)?;
        input.write_all(&frame).await.map_err(|_| Cut::Ended)?;
        input.write_all(module).await.map_err(|_| Cut::Ended)?;
        input.flush().await.map_err(|_| Cut::Ended)
    }

    fn answered(&self, name: &str, answer: Answer) -> Result<(Facts, Made), ModuleError> {
        match answer {
            Answer::Compiled { facts, made } => Ok((facts, made)),
            Answer::Refused(error) => Err(error),
            Answer::OutOfMemory => Err(self.too_much_memory(name)),
            Answer::Unwritten(why) => Err(unwritable(name, &why)),
            Answer::OtherKey => Err(unusable(
                name,
                "the program's file has been replaced by another version; start the engine again",
            )),
            Answer::Broken(text) => {
                let problem = format!("the compiler broke down: {text}");
                Err(ModuleError::Compile { name: name.to_owned(), problem })
            }
        }
    }

    /// What an end without an answer means. Only signals tell: `SIGXCPU` comes when the processor's time is up, and Rust
    /// aborts where an allocation fails or a stack overflows.
    fn ended(&self, name: &str, status: ExitStatus) -> ModuleError {
        match status.signal() {
            Some(signal) if signal == Signal::XCPU.as_raw() => {
                let (limit, clock) = (self.settings.time, "of the processor's time".to_owned());
                ModuleError::CompileTime { name: name.to_owned(), limit, clock }
            }
            Some(signal) if signal == Signal::ABORT.as_raw() => self.too_much_memory(name),
            _ => ModuleError::CompilerEnded { name: name.to_owned(), how: status.to_string() },
        }
    }

    fn too_much_memory(&self, name: &str) -> ModuleError {
        ModuleError::CompileMemory { name: name.to_owned(), limit_bytes: self.settings.memory_bytes }
    }
}

fn unusable(name: &str, problem: &str) -> ModuleError {
    ModuleError::Compiler { name: name.to_owned(), problem: problem.to_owned() }
}

fn unwritable(name: &str, error: &dyn fmt::Display) -> ModuleError {
    unusable(name, &format!("its native code can't be written: {error}; is the disk of the cache full?"))
}

/// This program's file. On Linux as the kernel holds it, so that a newer version that was put in its place doesn't
/// take part.
fn own_program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

/// Starts a compiler with three pipes and nothing else.
fn start(program: &Path) -> io::Result<Child> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.div_ceil(2).min(THREADS_MAX);
    Command::new(program)
        .arg0("hookmill")
        .arg(COMMAND)
        .env_clear()
        // The allocator would take a gigabyte before there is a limit, and never ask for more.
        .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
        .env("RAYON_NUM_THREADS", threads.to_string())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

async fn hear(output: &mut (impl AsyncRead + Unpin)) -> Result<Answer, Cut> {
    let mut prefix = [0; 4];
    output.read_exact(&mut prefix).await.map_err(|_| Cut::Ended)?;
    let mut json = vec![0; wire::length(prefix).map_err(|_| Cut::Nonsense)?];
    output.read_exact(&mut json).await.map_err(|_| Cut::Ended)?;
    serde_json::from_slice(&json).map_err(|_| Cut::Nonsense)
}

/// Copies exactly so many bytes.
async fn copy<R: AsyncRead + Unpin>(
    from: &mut BufReader<R>,
    to: &mut tokio::fs::File,
    bytes: u64,
) -> Result<(), Cut> {
    let mut left = bytes;
    while left > 0 {
        let piece = from.fill_buf().await.map_err(|_| Cut::Ended)?;
        if piece.is_empty() {
            return Err(Cut::Ended);
        }
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        to.write_all(&piece[..length]).await.map_err(Cut::Write)?;
        from.consume(length);
        left -= length as u64;
    }
    Ok(())
}

/// What a process said before it ended.
async fn said(errors: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    // What can't be read is missing in the log, no more.
    let _ = errors.take(STDERR_BYTES_MAX).read_to_end(&mut bytes).await;
    guest_text(String::from_utf8_lossy(&bytes).into_owned())
}
