//! The compiler's own process: `hookmill compile-module`, started by the engine and by nobody else. It has no
//! environment, no files but its three pipes and a folder to work in, and limits that it sets on itself before it looks at the first byte of
//! a module.

use std::any::Any;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::thread;

use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, nice, setrlimit};

use super::super::errors::guest_text;
use super::wire::{self, Answer, Request};
use super::work::{self, Stopped, Workshop};
use crate::telemetry::output;

/// How much less of the processor it gets than the engine, in steps of `nice`: events come first.
const NICENESS: i32 = 10;

/// Files that may be open: three pipes and what the standard library looks at.
const FILES_MAX: u64 = 32;

/// Seconds between the signal that time is up, which ends the process, and the one that nothing withstands.
const CPU_GRACE_SECONDS: u64 = 5;

/// Reads a request from standard input, compiles, answers on standard output.
pub fn compile_module() -> ExitCode {
    match converse() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For a person who tried the command by hand; the engine sees the exit code and shows this.
            output::say(format_args!("hookmill itself starts this command to compile a module: {error}"));
            ExitCode::from(2)
        }
    }
}

fn converse() -> io::Result<()> {
    close_inherited();
    // The streams without their buffers: what isn't read yet stays in the pipe, for the watching thread.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    #[expect(clippy::disallowed_methods, reason = "it is no output for people, but the pipe to the engine")]
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let request: Request = wire::read(&mut input)?;
    if let Err(error) = restrict(&request) {
        return wire::write(&mut output, &Answer::Broken(format!("its limits can't be set: {error}")));
    }
    let mut module = vec![0; usize::try_from(request.module_bytes).unwrap_or(usize::MAX)];
    input.read_exact(&mut module)?;
    die_with_the_engine(input)?;
    // A panic is an answer; nothing of it goes to standard error.
    panic::set_hook(Box::new(|_| {}));
    let (answer, made) = answer(&request, &module);
    wire::write(&mut output, &answer)?;
    output.write_all(&made)
}

/// Closes what this program inherited beside its three pipes. The engine's own files close by themselves when a program
/// is started; those that the engine was started with don't, such as the sockets of a supervisor.
fn close_inherited() {
    // Where the system doesn't list them, there is nothing to go by.
    let Ok(listed) = std::fs::read_dir("/dev/fd") else { return };
    let numbers: Vec<i32> =
        listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2) {
        // One of them was the list itself, which is closed by now.
        let _ = nix::unistd::close(number);
    }
}

/// Takes away what compiling doesn't need.
fn restrict(request: &Request) -> io::Result<()> {
    lower(Resource::Core, 0, 0)?;
    lower(Resource::Nofile, FILES_MAX, FILES_MAX)?;
    // Private memory that can be written to; address space and the program's own code are no matter.
    lower(Resource::Data, request.memory_bytes, request.memory_bytes)?;
    lower(Resource::Cpu, request.cpu_seconds, request.cpu_seconds.saturating_add(CPU_GRACE_SECONDS))?;
    nice(NICENESS)?;
    // Where memory runs out, this process is the one to go. Only Linux has this, and not in every container.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

/// Lowers a limit; one that is lower already stays.
fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let maximum = getrlimit(resource).maximum.map_or(hard, |maximum| maximum.min(hard));
    Ok(setrlimit(resource, Rlimit { current: Some(soft.min(maximum)), maximum: Some(maximum) })?)
}

/// Ends this process as soon as the engine closes its end of the pipe: because it gives up, or because it is dead. A
/// parent-death signal is bound to the thread that started the child, and the threads of a runtime come and go.
fn die_with_the_engine(mut input: File) -> io::Result<()> {
    let watch = move || {
        let _ = input.read(&mut [0]);
        let _ = kill_process(getpid(), Signal::KILL);
    };
    thread::Builder::new().name("watch".to_owned()).spawn(watch).map(drop)
}

fn answer(request: &Request, module: &[u8]) -> (Answer, Vec<u8>) {
    let work = AssertUnwindSafe(|| -> wasmtime::Result<_> {
        let workshop = Workshop::open(&request.folder)?;
        if workshop.key() != request.key {
            return Ok((Answer::OtherKey, Vec::new()));
        }
        Ok(match workshop.compile(&request.name, module) {
            Ok((facts, made, bytes)) => (Answer::Compiled { facts, made }, bytes),
            Err(Stopped::Refused(error)) => (Answer::Refused(error), Vec::new()),
            Err(Stopped::OutOfMemory) => (Answer::OutOfMemory, Vec::new()),
            Err(Stopped::Unwritten(why)) => (Answer::Unwritten(why), Vec::new()),
        })
    });
    match panic::catch_unwind(work) {
        Ok(Ok(done)) => done,
        Ok(Err(error)) if work::is_out_of_memory(&error) => (Answer::OutOfMemory, Vec::new()),
        Ok(Err(error)) => (Answer::Broken(guest_text(format!("{error:#}"))), Vec::new()),
        Err(panic) => (Answer::Broken(guest_text(panic_text(panic.as_ref()))), Vec::new()),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked".to_owned())
}
