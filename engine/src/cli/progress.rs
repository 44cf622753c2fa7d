//! How far a long command has got: a bar on standard error where that is a terminal, and how fast it was when it has ended.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output;

/// Fewer than this are not worth a word on how fast they were.
const WORTH_A_WORD: u64 = 1_000;
/// Draws a second; the clock of the bar is not read more often.
const DRAWS: u8 = 10;

/// How far a command has got.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    done: u64,
}

/// Whether a bar would be seen. Where it would not, its length need not be found out.
pub(crate) fn is_shown(json: bool) -> bool {
    !json && output::talk_is_on_terminal()
}

impl Progress {
    /// Of `total` at most; `what` is done to them, as in "redriving". None: without a bar.
    pub(crate) fn new(what: &'static str, total: Option<u64>) -> Self {
        let target =
            total.map_or_else(ProgressDrawTarget::hidden, |_| ProgressDrawTarget::stderr_with_hz(DRAWS));
        let style =
            ProgressStyle::with_template("{msg} [{bar:30}] {human_pos}/{human_len} {per_sec} {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(total, target).with_style(style).with_message(what);
        Self { bar, began: Instant::now(), done: 0 }
    }

    /// One more is done.
    pub(crate) fn step(&mut self) {
        self.done += 1;
        self.bar.inc(1);
    }

    /// Says something on standard error, above the bar.
    pub(crate) fn say(&self, text: &str) {
        self.bar.suspend(|| output::say(text));
    }

    /// Prints a line of data, above the bar.
    pub(crate) fn print(&self, line: &str) {
        self.bar.suspend(|| output::line(line));
    }

    /// Takes the bar away. What is said of the speed, to be put behind a summary; nothing, if they were few.
    pub(crate) fn end(self) -> String {
        self.bar.finish_and_clear();
        speed(self.done, self.began.elapsed())
    }
}

fn speed(done: u64, took: Duration) -> String {
    if done < WORTH_A_WORD {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "it is rounded to whole ones a second")]
    let a_second = done as f64 / took.as_secs_f64();
    format!(" ({:.1} s, {a_second:.0}/s)", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_it_is_said_how_fast_they_were() {
        assert_eq!(speed(999, Duration::from_secs(90)), "");
        assert_eq!(speed(100_000, Duration::from_millis(12_500)), " (12.5 s, 8000/s)");
    }
}
