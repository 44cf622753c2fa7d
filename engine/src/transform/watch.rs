//! Looks over a step's shoulder: what its guest logs and prints, how much memory it takes, how long it needs to start.
//! For `hookmill module test` alone; in a pipeline nothing is kept of what a guest says.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

/// Most log lines that are kept between two looks.
const LINES_MAX: usize = 1000;

/// What is kept of what guests print in all, in bytes. What they print beyond it is lost.
const PRINTED_BYTES_MAX: usize = 64 << 10;

/// What was seen of a step's guests. A clone sees the same.
#[derive(Clone, Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    printed: MemoryOutputPipe,
}

/// What was seen since the last look.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Level and text of each line, in their order.
    pub log: Vec<(&'static str, String)>,
    /// Linear memory of the instance after its last call, in bytes.
    pub memory_bytes: u64,
    /// How long it took to make and configure an instance, if one was made.
    pub setup: Option<Duration>,
    /// What was printed to WASI's stdout and stderr.
    pub printed: String,
    /// Bytes of all that was printed at the last look.
    printed_before: usize,
}

impl Default for Watch {
    fn default() -> Self {
        Self { seen: Arc::default(), printed: MemoryOutputPipe::new(PRINTED_BYTES_MAX) }
    }
}

impl Watch {
    /// What was seen since this was asked last.
    pub fn take(&self) -> Seen {
        let all = self.printed.contents();
        let mut seen = self.seen();
        let printed = String::from_utf8_lossy(&all[seen.printed_before..]).into_owned();
        let (memory_bytes, printed_before) = (seen.memory_bytes, all.len());
        let taken = std::mem::take(&mut *seen);
        *seen = Seen { memory_bytes, printed_before, ..Seen::default() };
        Seen { printed, ..taken }
    }

    pub(super) fn pipe(&self) -> MemoryOutputPipe {
        self.printed.clone()
    }

    pub(super) fn log(&self, level: &'static str, text: String) {
        let mut seen = self.seen();
        if seen.log.len() < LINES_MAX {
            seen.log.push((level, text));
        }
    }

    pub(super) fn note_memory(&self, bytes: u64) {
        self.seen().memory_bytes = bytes;
    }

    pub(super) fn note_setup(&self, took: Duration) {
        self.seen().setup = Some(took);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
