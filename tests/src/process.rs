//! Child processes that can be signalled, waited for with a deadline, and that never outlive the test.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

use crate::eventually::eventually;

/// A running child. Dropping it kills it (SIGKILL) and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: Pid,
    exit: watch::Receiver<Option<ExitStatus>>,
    reaper: Option<JoinHandle<()>>,
}

/// The streams of a child, where the command asked for pipes.
#[derive(Debug)]
pub struct Pipes {
    /// What it reads.
    pub stdin: Option<ChildStdin>,
    /// What it prints as its result.
    pub stdout: Option<ChildStdout>,
    /// What it says besides.
    pub stderr: Option<ChildStderr>,
}

/// A command for `program` whose process the kernel kills when this one dies, where `setpriv` (util-linux) is there.
/// Elsewhere a test run that is itself killed by SIGKILL leaves its children behind.
pub fn bound_command(program: impl AsRef<OsStr>) -> Command {
    match setpriv() {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

fn setpriv() -> Option<&'static PathBuf> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| on_path("setpriv")).as_ref()
}

/// The first program of that name on `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Starts `command` on a thread that lives as long as this process: the kernel ties a child with a parent-death signal
/// to the *thread* that started it, and a runtime's threads come and go.
fn spawn_on_lasting_thread(command: Command) -> io::Result<Child> {
    type Job = (Command, SyncSender<io::Result<Child>>);
    static SPAWNER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = sync_channel::<Job>(16);
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                // Nobody is there to hear it when the caller is gone; then the child is dropped and left to exit.
                let _ = answer.send(command.spawn());
            }
        });
        jobs
    });
    let (answer, child) = sync_channel(1);
    spawner.send((command, answer)).expect("the spawner thread never ends");
    child.recv().expect("the spawner thread answers each job")
}

impl Process {
    /// Starts `command`, called `name` in messages.
    pub fn spawn(name: &str, command: Command) -> io::Result<(Self, Pipes)> {
        let mut child = spawn_on_lasting_thread(command)?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let pipes = Pipes { stdin, stdout, stderr };
        let pid = Pid::from_raw(child.id().try_into().expect("a process id fits into an i32"));
        let (exited, exit) = watch::channel(None);
        let reaper = std::thread::spawn(move || {
            let status = child.wait().expect("a child can be waited for");
            exited.send_replace(Some(status));
        });
        Ok((Self { name: name.to_owned(), pid, exit, reaper: Some(reaper) }, pipes))
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Sends `signal`; nothing happens if the process has ended.
    pub fn signal(&self, signal: Signal) {
        if self.exited().is_none() {
            // ESRCH: it ended between the look and the call.
            let _ = kill(self.pid, signal);
        }
    }

    /// SIGSTOP, then waits until every thread stands still: on a busy machine that takes a while. Where there is no
    /// `/proc` to tell (macOS), it only sends the signal.
    pub async fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        let what = format!("{} (pid {}) is stopped", self.name, self.pid);
        eventually(Duration::from_secs(10), &what, || async { self.stopped() }).await;
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn stopped(&self) -> Result<(), String> {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.pid)) else { return Ok(()) };
        for thread in threads.flatten() {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // "pid (name) state …", and the name may hold anything.
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
            if !matches!(state, Some(Some('T')) | None) {
                return Err(format!("a thread in state {state:?}"));
            }
        }
        Ok(())
    }

    /// Waits for the end. Panics when it has not come after `deadline`.
    pub async fn wait(&self, deadline: Duration) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some);
        let Ok(status) = tokio::time::timeout(deadline, ended).await else {
            panic!("{} (pid {}) has not ended within {deadline:?}", self.name, self.pid);
        };
        status.expect("the reaper tells the end").expect("waited for")
    }

    /// SIGKILL, then waits until it is gone.
    pub async fn kill(&self) {
        self.signal(Signal::SIGKILL);
        self.wait(Duration::from_secs(10)).await;
    }
}

/// The exit code, or 128 + the signal's number as shells say it.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(reaper) = self.reaper.take() {
            // The reaper panics only where the kernel denies us our own child.
            let _ = reaper.join();
        }
    }
}
