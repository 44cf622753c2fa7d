//! Outputs that are closed, full, or that nobody reads any more: no command panics, each ends as `docs/running.md` says, and
//! engines go on.

mod readers;
mod services;
mod walk;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hookmill_tests::engine::Said;
use hookmill_tests::process::{Pipes, Process, exit_code};

/// Longest time of a command.
const COMMAND_MAX: Duration = Duration::from_mins(1);

/// What has become of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stream {
    /// Somebody reads it.
    Read,
    /// The descriptor is closed.
    Closed,
    /// A pipe whose reader is gone.
    Unread,
    /// A disk without room.
    Full,
}

/// Standard output, and standard error with standard input: nothing can be read where nothing can be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Outputs {
    stdout: Stream,
    stderr: Stream,
}

impl Stream {
    fn broken() -> Vec<Self> {
        // Only Linux has such a disk.
        let full = Path::new("/dev/full").exists().then_some(Self::Full);
        [Self::Closed, Self::Unread].into_iter().chain(full).collect()
    }

    fn open(self) -> Stdio {
        match self {
            Self::Read => Stdio::piped(),
            // A shell closes it.
            Self::Closed => Stdio::null(),
            Self::Unread => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                drop(reader);
                Stdio::from(writer)
            }
            Self::Full => {
                let disk = std::fs::OpenOptions::new().write(true).open("/dev/full");
                Stdio::from(disk.expect("it was there"))
            }
        }
    }
}

impl Outputs {
    const READ: Self = Self { stdout: Stream::Read, stderr: Stream::Read };

    /// Each way in which one of them or both are broken.
    fn broken() -> Vec<Self> {
        let of = |stream| {
            [(stream, Stream::Read), (Stream::Read, stream), (stream, stream)]
                .map(|(stdout, stderr)| Self { stdout, stderr })
        };
        Stream::broken().into_iter().flat_map(of).collect()
    }

    /// Starts a command that has these.
    fn start(self, command: Command) -> (Process, Pipes) {
        let closing = match (self.stdout, self.stderr) {
            (Stream::Closed, Stream::Closed) => "<&- >&- 2>&-",
            (Stream::Closed, _) => ">&-",
            (_, Stream::Closed) => "<&- 2>&-",
            _ => "",
        };
        let mut command = if closing.is_empty() { command } else { in_shell(&command, closing) };
        command.stdin(Stdio::null()).stdout(self.stdout.open()).stderr(self.stderr.open());
        Process::spawn("hookmill", command).expect("the command can be started")
    }

    /// Runs a command to its end; a stream that nobody reads has said nothing.
    async fn run(self, command: Command) -> Said {
        let (process, pipes) = self.start(command);
        let (stdout, stderr) = (all_of(pipes.stdout), all_of(pipes.stderr));
        let code = exit_code(process.wait(COMMAND_MAX).await);
        let said = Said { code, stdout: stdout.await, stderr: stderr.await };
        assert!(said.code != 101 && !said.stderr.contains("panicked"), "{self:?}: {said:?}");
        said
    }
}

/// The same command with descriptors that a shell has closed.
fn in_shell(command: &Command, closing: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$@\" {closing}"), "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

fn all_of(stream: Option<impl Read + Send + 'static>) -> impl Future<Output = String> {
    // Started now, so that a full pipe stops nobody.
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        if let Some(mut stream) = stream {
            stream.read_to_string(&mut text).expect("a pipe of text");
        }
        text
    });
    async { reading.await.expect("the reader doesn't panic") }
}
