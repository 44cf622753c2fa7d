//! What is printed: data on standard output, all else on standard error. Nothing else in the program writes there.
//!
//! Whoever reads them may go at any moment, and the disk behind them may be full. Neither ends a process by itself. What
//! can't be said on standard error is not said. That standard output has failed is kept until the command looks, at the latest
//! in [`ending`].

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Code of a command that is done, but whose data could not be written.
const UNWRITTEN: u8 = 1;

static DATA: Outlet = Outlet::new();

/// A stream, and what has become of it. No lock is held while it is written to: a command that ends must not wait for a
/// thread that is stuck in a full pipe.
struct Outlet {
    /// Why something could not be written, the first time.
    failed: OnceLock<io::Error>,
    /// Whether each piece is tried, whatever became of those before.
    lasting: AtomicBool,
}

impl Outlet {
    const fn new() -> Self {
        Self { failed: OnceLock::new(), lasting: AtomicBool::new(false) }
    }

    fn write(&self, stream: &mut impl Write, bytes: &[u8]) {
        // Behind a piece that is missing or torn, another one would only look whole.
        if self.failed.get().is_none() {
            self.note(stream.write_all(bytes).and_then(|()| stream.flush()));
        }
    }

    fn note(&self, written: io::Result<()>) {
        if let Err(error) = written
            && !self.lasting.load(Ordering::Relaxed)
        {
            // The first error stays.
            let _ = self.failed.set(error);
        }
    }
}

/// Prints data, and ends the line.
pub fn line(data: impl Display) {
    bytes(format!("{data}\n").as_bytes());
}

/// Prints data as it is.
pub fn text(data: impl Display) {
    bytes(data.to_string().as_bytes());
}

/// Writes data as it is.
pub fn bytes(data: &[u8]) {
    DATA.write(&mut stdout(), data);
}

/// Takes note of what became of data that somebody else has printed.
pub fn printed(written: io::Result<()>) {
    DATA.note(written);
}

/// Says something on standard error, and ends the line.
pub fn say(text: impl Display) {
    ask(format_args!("{text}\n"));
}

/// Says something on standard error as it is.
pub fn ask(text: impl Display) {
    // In one piece: what other threads and processes say doesn't come between.
    let _ = stderr().write_all(text.to_string().as_bytes());
}

/// Whether standard output is a terminal.
pub fn data_is_on_terminal() -> bool {
    stdout().is_terminal()
}

/// Whether standard error is a terminal.
pub fn talk_is_on_terminal() -> bool {
    stderr().is_terminal()
}

/// Goes on printing whatever becomes of it, and forgets that: for a process that has something better to do.
pub fn go_on() {
    DATA.lasting.store(true, Ordering::Relaxed);
}

/// Whether nobody gets the data any more. A command that only shows something may end then.
pub fn is_lost() -> bool {
    DATA.failed.get().is_some()
}

/// The exit code of a command that would end with `code`. Says why, if it is another one.
pub fn ending(code: u8) -> ExitCode {
    let (code, why) = ending_after(code, DATA.failed.get());
    if let Some(why) = why {
        say(format_args!("error: {why}"));
    }
    ExitCode::from(code)
}

/// A reader that has seen enough is nobody's failure; a disk that is full is.
fn ending_after(code: u8, failed: Option<&io::Error>) -> (u8, Option<String>) {
    match failed {
        None => (code, None),
        Some(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            (code, None)
        }
        Some(error) => {
            let why = format!(
                "not all data could be written to standard output: {error}; lead it to a place that has room, \
                 what the command has done is done"
            );
            (if code == 0 { UNWRITTEN } else { code }, Some(why))
        }
    }
}

/// Standard error for logs: a line that can't be written is lost, and nobody hears of an error.
#[derive(Clone, Copy, Debug)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn stdout() -> io::Stdout {
    io::stdout()
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn stderr() -> io::Stderr {
    io::stderr()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has room for so many bytes, and fails after that.
    struct Disk {
        room: usize,
        held: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room - self.held.len());
            self.held.extend_from_slice(&bytes[..taken]);
            if taken == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_is_printed_behind_a_torn_piece_unless_it_goes_on() {
        let (outlet, mut disk) = (Outlet::new(), Disk { room: 6, held: Vec::new() });
        outlet.write(&mut disk, b"one\n");
        assert!(outlet.failed.get().is_none());
        outlet.write(&mut disk, b"two\n");
        assert_eq!(outlet.failed.get().map(io::Error::kind), Some(ErrorKind::StorageFull));
        disk.room = 100;
        outlet.write(&mut disk, b"six\n");
        assert_eq!(disk.held, b"one\ntw");

        let (outlet, mut disk) = (Outlet::new(), Disk { room: 6, held: Vec::new() });
        outlet.lasting.store(true, Ordering::Relaxed);
        outlet.write(&mut disk, b"one\n");
        outlet.write(&mut disk, b"two\n");
        disk.room = 100;
        outlet.write(&mut disk, b"six\n");
        assert_eq!((&*disk.held, outlet.failed.get().is_none()), (&b"one\ntwsix\n"[..], true));
    }

    #[test]
    fn a_reader_that_is_gone_changes_no_code_and_a_full_disk_makes_0_a_1() {
        for code in [0, 1, 2, 130] {
            assert_eq!(ending_after(code, None), (code, None));
            for gone in [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset] {
                assert_eq!(ending_after(code, Some(&gone.into())), (code, None));
            }
            let (ends, why) = ending_after(code, Some(&ErrorKind::StorageFull.into()));
            assert_eq!(ends, if code == 0 { 1 } else { code });
            assert!(why.is_some_and(|why| why.contains("standard output: no storage space")), "{code}");
        }
    }
}
